//! Claims in Redis: a key each, set by the first and gone when its stretch of time is over.

use ::redis::Value;
use async_trait::async_trait;
use jiff::Timestamp;

use super::Claims;
use crate::error::Result;
use crate::redis::{Call, Fault, Redis};

/// The claims.
pub struct RedisClaims {
    redis: Redis,
}

impl RedisClaims {
    /// Claims in `redis`, under its prefix.
    #[must_use]
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }
}

#[async_trait]
impl Claims for RedisClaims {
    async fn claim(&self, key: &str, from: Timestamp, to: Timestamp) -> Result<bool> {
        // As long as the stretch, counted from the claim: late enough for a clock that is behind.
        let life = to.duration_since(from).as_millis().max(1);
        let life = u64::try_from(life).unwrap_or(u64::MAX);
        let (prefix, second) = (self.redis.prefix(), from.as_second());
        let call = Call::on("SET", &format!("{prefix}:alarm:{key}:{second}"));
        let call = call.arg(1).arg("NX").arg("PX").arg(life);
        let unclaimed = |fault: Fault| fault.error("alert", "claim an alarm");
        match self.redis.call(&call).await.map_err(unclaimed)? {
            Value::Nil => Ok(false),
            Value::Okay => Ok(true),
            _ => Err(unclaimed(Fault::answer("to a claim"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::error::Kind;
    use crate::redis::RedisOptions;
    use crate::redis::server::Server;
    use crate::secret::Secret;

    #[tokio::test]
    async fn the_first_claims_an_alarm_and_its_key_goes_away() {
        let mut server = Server::start(&[]);
        let options = RedisOptions::single(Secret::new(server.url()));
        let redis = Redis::open(&options).await.unwrap();
        let claims = [RedisClaims::new(redis.clone()), RedisClaims::new(redis)];
        let from = Timestamp::from_second(1_800_000_000).unwrap();
        let to = from + SignedDuration::from_mins(15);
        assert!(claims[0].claim("buried#main", from, to).await.unwrap());
        assert!(!claims[1].claim("buried#main", from, to).await.unwrap());
        assert!(claims[1].claim("buried#kakao", from, to).await.unwrap());
        let later = to + SignedDuration::from_mins(15);
        assert!(claims[1].claim("buried#main", to, later).await.unwrap());
        let left = server.ask(&["PTTL", "ng:alarm:buried#main:1800000000"]);
        let left: i64 = left.trim_start_matches(':').trim().parse().unwrap();
        assert!(left > 0 && left <= 15 * 60 * 1000, "{left}");
        server.kill();
        let away = claims[0].claim("x#y", from, to).await.unwrap_err();
        assert_eq!(away.kind, Kind::Unavailable);
    }
}

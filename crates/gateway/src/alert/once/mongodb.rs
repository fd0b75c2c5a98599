//! Claims in MongoDB: a document each, its key the alarm and the beginning of the stretch. The
//! server takes it away once the stretch is over.

use ::mongodb::bson::{DateTime, doc};
use async_trait::async_trait;
use jiff::Timestamp;

use super::Claims;
use crate::error::Result;
use crate::mongodb::{Index, Mongo, Op};

/// The claims.
const ALARMS: &str = "alarms";
const OP: Op<'static> = Op {
    part: "alert",
    what: "claim an alarm",
};

/// The claims.
#[derive(Clone, Debug)]
pub struct MongoClaims {
    mongo: Mongo,
}

impl MongoClaims {
    /// Claims in the database of `mongo`.
    ///
    /// # Errors
    /// `Unavailable` when the server does not answer.
    pub async fn open(mongo: Mongo) -> Result<Self> {
        let over = Index {
            keys: doc! { "ends": 1 },
            expires: true,
            ..Index::default()
        };
        mongo.index(OP, ALARMS, &[over]).await?;
        Ok(Self { mongo })
    }
}

#[async_trait]
impl Claims for MongoClaims {
    async fn claim(&self, key: &str, from: Timestamp, to: Timestamp) -> Result<bool> {
        let claim = doc! {
            "_id": format!("{key}#{from}"),
            "ends": DateTime::from_millis(to.as_millisecond()),
        };
        let alarms = self.mongo.collection(ALARMS);
        let taken = self.mongo.insert_new(OP, &alarms, &[claim]).await?;
        Ok(taken.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mongodb::tests::{BOTH, anew};

    #[tokio::test]
    async fn of_all_who_claim_an_alarm_one_has_it_and_each_stretch_is_another() {
        for kind in BOTH {
            let mongo = anew(kind).await;
            let (one, other) = (
                MongoClaims::open(mongo.clone()).await.unwrap(),
                MongoClaims::open(mongo).await.unwrap(),
            );
            // Far ahead, so that the server does not take them away meanwhile.
            let at = |hour: i64| Timestamp::from_second(4_000_000_000 + 3_600 * hour).unwrap();
            assert!(one.claim("buried#main", at(0), at(1)).await.unwrap());
            assert!(!other.claim("buried#main", at(0), at(1)).await.unwrap());
            assert!(!one.claim("buried#main", at(0), at(1)).await.unwrap());
            assert!(other.claim("buried#kakao", at(0), at(1)).await.unwrap());
            assert!(other.claim("buried#main", at(1), at(2)).await.unwrap());
        }
    }
}

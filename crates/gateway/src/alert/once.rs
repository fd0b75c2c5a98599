//! An alarm that many processes raise at once, told by one of them. A desk knows the repeats of its
//! own process; functions have as many processes as there is work, and no disk in common.
//!
//! Time is cut into stretches as long as a desk leaves repeats out. Of each alarm (kind and
//! subject) and stretch, whoever claims it first delivers it.

#[cfg(feature = "dynamodb")]
pub mod dynamodb;
#[cfg(feature = "mongodb")]
pub mod mongodb;
#[cfg(feature = "redis")]
pub mod redis;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::{Alert, AlertPort};
use crate::error::Result;

/// Alarms whose claims are remembered. A house has tens of lanes and a dozen kinds of alarm.
const REMEMBERED_MAX: usize = 1024;

/// Where alarms are claimed.
#[async_trait]
pub trait Claims: Send + Sync {
    /// Claims the alarm `key` for the stretch of time that begins at `from` and is over at `to`.
    /// Says whether nobody had.
    async fn claim(&self, key: &str, from: Timestamp, to: Timestamp) -> Result<bool>;
}

/// A port that is told only what nobody else has told.
pub struct OncePort {
    port: Arc<dyn AlertPort>,
    claims: Arc<dyn Claims>,
    stretch: SignedDuration,
    /// What this process claimed last, by alarm: a delivery that failed is tried again.
    own: Mutex<HashMap<String, Timestamp>>,
}

impl OncePort {
    /// `port`, told once for each alarm and stretch of time.
    #[must_use]
    pub fn new(port: Arc<dyn AlertPort>, claims: Arc<dyn Claims>, stretch: SignedDuration) -> Self {
        Self {
            port,
            claims,
            stretch: stretch.max(SignedDuration::from_secs(1)),
            own: Mutex::default(),
        }
    }

    /// The beginning of the stretch that `at` falls into.
    fn begin(&self, at: Timestamp) -> Timestamp {
        let into = at.as_second().rem_euclid(self.stretch.as_secs());
        Timestamp::from_second(at.as_second() - into).unwrap_or(at)
    }

    fn is_own(&self, key: &str, from: Timestamp) -> bool {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.get(key) == Some(&from)
    }

    fn remember(&self, key: String, from: Timestamp) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if own.len() >= REMEMBERED_MAX {
            own.retain(|_, known| *known >= from);
        }
        own.insert(key, from);
    }
}

#[async_trait]
impl AlertPort for OncePort {
    fn name(&self) -> &'static str {
        self.port.name()
    }

    /// An alarm that cannot be claimed is delivered: rather twice than never.
    async fn deliver(&self, alert: &Alert) -> Result<()> {
        let key = format!("{}#{}", alert.kind.as_str(), alert.subject);
        let from = self.begin(alert.at);
        if !self.is_own(&key, from) {
            let to = from.checked_add(self.stretch).unwrap_or(Timestamp::MAX);
            match self.claims.claim(&key, from, to).await {
                Ok(true) => self.remember(key, from),
                Ok(false) => return Ok(()),
                Err(error) => tracing::warn!(%error, "an alarm may be told more than once"),
            }
        }
        self.port.deliver(alert).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::alert::text;
    use crate::error::{Error, Kind};

    /// A place for claims that all processes share, and that may be away.
    #[derive(Default)]
    struct Shared {
        claimed: Mutex<HashSet<(String, Timestamp)>>,
        away: Mutex<bool>,
    }

    #[async_trait]
    impl Claims for Shared {
        async fn claim(&self, key: &str, from: Timestamp, to: Timestamp) -> Result<bool> {
            assert!(from < to);
            if *self.away.lock().unwrap() {
                return Err(Error::new(Kind::Unavailable, "alert", "claim an alarm"));
            }
            Ok(self.claimed.lock().unwrap().insert((key.to_owned(), from)))
        }
    }

    /// A channel that counts, and fails as often as it is told.
    #[derive(Default)]
    struct Channel {
        told: Mutex<Vec<String>>,
        fails: Mutex<u32>,
    }

    #[async_trait]
    impl AlertPort for Channel {
        fn name(&self) -> &'static str {
            "channel"
        }

        async fn deliver(&self, alert: &Alert) -> Result<()> {
            let mut fails = self.fails.lock().unwrap();
            if *fails > 0 {
                *fails -= 1;
                return Err(Error::new(Kind::Unavailable, "alert", "post"));
            }
            self.told.lock().unwrap().push(alert.subject.clone());
            Ok(())
        }
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap()
    }

    fn ports(many: usize) -> (Arc<Shared>, Arc<Channel>, Vec<OncePort>) {
        let (shared, channel) = (Arc::new(Shared::default()), Arc::new(Channel::default()));
        let stretch = SignedDuration::from_mins(15);
        let port = |_| {
            let (channel, shared) = (Arc::clone(&channel), Arc::clone(&shared));
            OncePort::new(channel as _, shared as _, stretch)
        };
        let ports = (0..many).map(port).collect();
        (shared, channel, ports)
    }

    #[tokio::test]
    async fn of_many_processes_one_tells_an_alarm_in_each_stretch_of_time() {
        let (_, channel, ports) = ports(20);
        for port in &ports {
            port.deliver(&text::buried("main", 3, at(0))).await.unwrap();
            port.deliver(&text::buried("kakao", 3, at(1)))
                .await
                .unwrap();
        }
        assert_eq!(*channel.told.lock().unwrap(), ["main", "kakao"]);
        for port in &ports {
            port.deliver(&text::buried("main", 9, at(15)))
                .await
                .unwrap();
        }
        assert_eq!(*channel.told.lock().unwrap(), ["main", "kakao", "main"]);
    }

    #[tokio::test]
    async fn a_delivery_that_failed_is_tried_again_by_who_claimed_it() {
        let (_, channel, ports) = ports(2);
        *channel.fails.lock().unwrap() = 1;
        let alarm = text::buried("main", 3, at(0));
        ports[0].deliver(&alarm).await.unwrap_err();
        ports[1].deliver(&alarm).await.unwrap();
        assert!(channel.told.lock().unwrap().is_empty(), "it is the other's");
        ports[0].deliver(&alarm).await.unwrap();
        assert_eq!(channel.told.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn an_alarm_that_cannot_be_claimed_is_told_all_the_same() {
        let (shared, channel, ports) = ports(2);
        *shared.away.lock().unwrap() = true;
        for port in &ports {
            port.deliver(&text::buried("main", 3, at(0))).await.unwrap();
        }
        assert_eq!(channel.told.lock().unwrap().len(), 2);
    }
}

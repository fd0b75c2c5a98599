//! What makes several gateways on one hold one: rates that they keep together, and clocks that are
//! compared.

use std::sync::Arc;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Failure;
use super::beyond::Beyond;
use crate::alert::desk::Alerts;
use crate::clock::Clock;
use crate::config::{Config, HoldKind};
use crate::release::budget::{Budget, Own};
use crate::release::skew::{SharedClock, Skew, watch_skew};

/// What this gateway shares with the others on its hold.
pub(crate) struct Together {
    /// Who gives lanes leave.
    pub(crate) budget: Arc<dyn Budget>,
    clocks: Option<(Arc<Skew>, Arc<dyn SharedClock>)>,
}

impl Together {
    /// As the hold of `config` allows it: on Redis and MongoDB rates are shared and clocks
    /// compared, elsewhere each gateway keeps to its own.
    ///
    /// # Errors
    /// When what is shared cannot be reached.
    pub(super) async fn new(
        config: &Config,
        beyond: &Beyond,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let Some((shared, max)) = shared_clock(config, beyond).await? else {
            return Ok(Self {
                budget: Arc::new(Own),
                clocks: None,
            });
        };
        let skew = Arc::new(Skew::new(max));
        // The first look, so that the first step need not wait for it.
        skew.look(&*shared, &**clock).await?;
        let budget = match config.hold.store {
            HoldKind::MongoDb => beyond.mongodb.budget().await?,
            _ => beyond.redis.budget().await?,
        };
        Ok(Self {
            budget,
            clocks: Some((skew, shared)),
        })
    }

    /// How the clocks stand, where they are compared.
    pub(super) fn skew(&self) -> Option<Arc<Skew>> {
        self.clocks.as_ref().map(|(skew, _)| Arc::clone(skew))
    }

    /// Compares the clocks for as long as the answer lives.
    pub(super) fn watch(&self, clock: &Arc<dyn Clock>, alerts: &Alerts) -> Watching {
        let clocks = self.clocks.clone();
        let watching = clocks.map(|(skew, shared)| {
            let (stop, stopped) = watch::channel(false);
            let (clock, alerts) = (Arc::clone(clock), alerts.clone());
            let task = tokio::spawn(watch_skew(skew, shared, clock, alerts, stopped));
            (task, stop)
        });
        Watching(watching)
    }
}

/// The clock that the gateways on the hold of `config` share, and how far theirs may be apart from
/// it; `None` where there is one gateway.
///
/// # Errors
/// When the server of the hold cannot be reached.
pub(super) async fn shared_clock(
    config: &Config,
    beyond: &Beyond,
) -> Result<Option<(Arc<dyn SharedClock>, SignedDuration)>, Failure> {
    Ok(match config.hold.store {
        HoldKind::Redis => Some((beyond.redis.clock().await?, config.redis.skew_max)),
        HoldKind::MongoDb => Some((beyond.mongodb.clock().await?, config.mongodb.skew_max)),
        HoldKind::Shelf | HoldKind::Sqlite | HoldKind::Sqs | HoldKind::Memory => None,
    })
}

/// Clocks that are compared until this is dropped.
#[must_use = "clocks that nobody compares stop the release"]
pub(crate) struct Watching(Option<(JoinHandle<()>, watch::Sender<bool>)>);

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some((task, _)) = &self.0 {
            task.abort();
        }
    }
}

//! All lanes together: the one thing that lets messages go.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;

use super::attempts::Attempts;
use super::attempts::receipts::ReceiptAttempts;
use super::budget::{Budget, Own};
use super::freeze::Freeze;
use super::lane::{LaneOptions, LaneReleaser, LaneStatus};
use super::tally::Tick;
use crate::alert::desk::Alerts;
use crate::clock::Clock;
use crate::decider::Decider;
use crate::error::Result;
use crate::hold::{HoldStore, Lane};
use crate::metrics::Metrics;
use crate::receipt::ReceiptLog;
use crate::sink::Sink;

/// What every lane's releaser shares.
pub struct ReleaserParts {
    /// Rules, house and consent, asked a second time.
    pub decider: Arc<Decider>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where messages are held.
    pub hold: Arc<dyn HoldStore>,
    /// Where receipts are filed.
    pub receipts: Arc<dyn ReceiptLog>,
    /// Where alarms are raised.
    pub alerts: Alerts,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The stop after a clock jump.
    pub freeze: Freeze,
    /// Jitter.
    pub random: Mutex<fastrand::Rng>,
}

impl ReleaserParts {
    pub(super) fn chance(&self) -> u64 {
        self.random
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .u64(..)
    }
}

/// What a releaser may share with others.
#[derive(Clone)]
pub struct Shared {
    /// Who gives lanes leave.
    pub budget: Arc<dyn Budget>,
    /// Who tells what may have gone.
    pub attempts: Arc<dyn Attempts>,
}

impl Shared {
    /// Nothing is shared: lanes keep to their pace by themselves, and `receipts` tell what may have
    /// gone.
    #[must_use]
    pub fn own(receipts: &Arc<dyn ReceiptLog>) -> Self {
        Self {
            budget: Arc::new(Own),
            attempts: Arc::new(ReceiptAttempts::new(Arc::clone(receipts))),
        }
    }
}

/// Every lane's releaser.
pub struct Releaser {
    lanes: Vec<Arc<LaneReleaser>>,
    parts: Arc<ReleaserParts>,
}

impl Releaser {
    /// A releaser for these lanes, each with its sink. The wall clock is trusted as it stands now;
    /// any later step of it is noticed.
    /// Lanes keep to their pace by themselves, and what may have gone is told by the receipts.
    #[must_use]
    pub fn new(lanes: Vec<(LaneOptions, Arc<dyn Sink>)>, parts: ReleaserParts) -> Self {
        let shared = Shared::own(&parts.receipts);
        Self::sharing(lanes, parts, &shared)
    }

    /// The same, for several gateways on one hold.
    #[must_use]
    pub fn sharing(
        lanes: Vec<(LaneOptions, Arc<dyn Sink>)>,
        parts: ReleaserParts,
        shared: &Shared,
    ) -> Self {
        // The first look, while nothing has failed or stalled yet: a step after it is noticed.
        parts.freeze.look(&*parts.clock);
        let parts = Arc::new(parts);
        let lane = |(options, sink)| {
            let parts = Arc::clone(&parts);
            Arc::new(LaneReleaser::new(options, sink, parts, shared))
        };
        let lanes = lanes.into_iter().map(lane).collect();
        Self { lanes, parts }
    }

    /// One bounded step of every lane, side by side.
    ///
    /// # Errors
    /// The first lane's failure; the others have done their work all the same.
    pub async fn tick(&self) -> Result<Tick> {
        let mut total = Tick::default();
        let mut fault = None;
        for ticked in join_all(self.lanes.iter().map(|lane| lane.tick())).await {
            match ticked {
                Ok(tick) => total.add(&tick),
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        fault.map_or(Ok(total), Err)
    }

    /// The lanes' releasers.
    #[must_use]
    pub fn lanes(&self) -> &[Arc<LaneReleaser>] {
        &self.lanes
    }

    /// The names of the lanes.
    pub fn names(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().map(|lane| lane.lane())
    }

    /// One look at every lane.
    #[must_use]
    pub fn status(&self) -> Vec<LaneStatus> {
        self.lanes.iter().map(|lane| lane.status()).collect()
    }

    /// A person has checked the clock after a jump: release goes on.
    pub fn thaw(&self) {
        self.parts.freeze.thaw();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::{SignedDuration, Timestamp, tz::TimeZone};
    use nightgate_core::{House, Jurisdiction, Ruleset};

    use super::*;
    use crate::clock::ManualClock;
    use crate::consent::memory::MemoryBook;
    use crate::hold::memory::MemoryHold;
    use crate::receipt::memory::MemoryLog;
    use crate::release::freeze::Frost;

    #[test]
    fn a_step_before_the_first_tick_is_noticed() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let jurisdiction = Jurisdiction::new("KR").unwrap();
        let house = House {
            jurisdiction,
            zone: TimeZone::UTC,
        };
        let rules = Arc::new(Ruleset::load(&[]).unwrap());
        let decider = Decider::new(rules, house, Arc::new(MemoryBook::default()));
        let releaser = Releaser::new(
            Vec::new(),
            ReleaserParts {
                decider: Arc::new(decider),
                clock: Arc::clone(&clock) as _,
                hold: Arc::new(MemoryHold::new(SignedDuration::from_hours(72))),
                receipts: Arc::new(MemoryLog::default()),
                alerts: Alerts::silent(),
                metrics: Arc::default(),
                freeze: Freeze::new(SignedDuration::from_secs(60), Duration::from_secs(300)),
                random: Mutex::new(fastrand::Rng::with_seed(1)),
            },
        );
        clock.step_to(clock.now() + SignedDuration::from_hours(6));
        assert!(matches!(
            releaser.parts.freeze.look(&*clock),
            Frost::Jumped(_)
        ));
    }
}

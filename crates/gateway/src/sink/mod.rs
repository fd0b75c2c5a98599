//! The port through which messages leave. No permit, no send: a sink takes only [`Outbound`].

pub mod log;
#[cfg(feature = "sqs")]
pub mod sqs;
#[cfg(test)]
pub(crate) mod testing;
pub mod webhook;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Message, Permit};

use crate::clock::Clock;

/// A message with leave to go. It cannot be built without a permit that names the message.
#[derive(Debug)]
pub struct Outbound {
    permit: Permit,
    message: Message,
    attempt: u32,
    leave_by: Timestamp,
    steady: Option<Steady>,
}

/// The same end by a clock that nobody can set.
struct Steady {
    clock: Arc<dyn Clock>,
    leave_by: Duration,
}

impl fmt::Debug for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steady")
            .field("leave_by", &self.leave_by)
            .finish_non_exhaustive()
    }
}

impl Outbound {
    /// Joins a permit and its message. `lease_until` is the end of the loan: after it the message
    /// may be somebody else's. `None` if the permit names another message.
    #[must_use]
    pub fn new(
        permit: Permit,
        message: Message,
        attempt: u32,
        lease_until: Timestamp,
    ) -> Option<Self> {
        let leave_by = permit.not_after().min(lease_until);
        (permit.message() == &message.id).then_some(Self {
            permit,
            message,
            attempt,
            leave_by,
            steady: None,
        })
    }

    /// The same, and it also ends when as much monotonic time has passed as it had left when it was
    /// decided, at `now` and `monotonic` of `clock`: a wall clock that is set back while a sink
    /// holds the message must not give it more time.
    #[must_use]
    pub fn timed(mut self, clock: Arc<dyn Clock>, now: Timestamp, monotonic: Duration) -> Self {
        let left = Duration::try_from(self.leave_by.duration_since(now)).unwrap_or_default();
        let leave_by = monotonic.saturating_add(left);
        self.steady = Some(Steady { clock, leave_by });
        self
    }

    /// The leave to go.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// What goes.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Which hand-over this is: 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Which of `places` in `batch` may not leave any more at `now`: for each what
    /// [`Outbound::may_leave_at`] says, but the clock is read once for all.
    pub(crate) fn late(batch: &[Self], places: &[usize], now: Timestamp) -> Vec<usize> {
        let mut read: Option<(&Arc<dyn Clock>, Duration)> = None;
        let late = |place: &usize| {
            let one = &batch[*place];
            let Some(Steady { clock, leave_by }) = &one.steady else {
                return now >= one.leave_by;
            };
            let monotonic = match read {
                Some((known, at)) if is_same(known, clock) => at,
                _ => clock.monotonic(),
            };
            read = Some((clock, monotonic));
            now >= one.leave_by || monotonic >= *leave_by
        };
        places.iter().copied().filter(late).collect()
    }

    /// Whether it may still be handed over at `now`: the permit holds and the loan runs. A sink
    /// asks this as its last act before the first byte leaves.
    #[must_use]
    pub fn may_leave_at(&self, now: Timestamp) -> bool {
        let in_time = |steady: &Steady| steady.clock.monotonic() < steady.leave_by;
        now < self.leave_by && self.steady.as_ref().is_none_or(in_time)
    }
}

fn is_same(one: &Arc<dyn Clock>, other: &Arc<dyn Clock>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}

/// What became of one hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sink took it.
    Delivered {
        /// The provider's reference, if it gave one.
        reference: Option<String>,
    },
    /// Certainly not taken; may be tried again.
    Retry {
        /// Not before so long from now, if the sink said so.
        after: Option<SignedDuration>,
        /// The sink refuses *everything* for now (429, 503): the whole lane backs off.
        whole_lane: bool,
        /// What it said.
        why: String,
    },
    /// Certainly not taken, and never will be.
    Rejected {
        /// What it said.
        why: String,
    },
    /// It may have gone: time-out or reset after the request was on its way.
    Unknown {
        /// What was seen.
        why: String,
    },
    /// Not handed over, because permit or loan ended first.
    TooLate,
}

impl Outcome {
    /// Its one name, in metrics and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Retry { .. } => "retry",
            Self::Rejected { .. } => "rejected",
            Self::Unknown { .. } => "unknown",
            Self::TooLate => "too_late",
        }
    }
}

/// A way out.
#[async_trait]
pub trait Sink: Send + Sync {
    /// The sink's kind in config and logs.
    fn name(&self) -> &'static str;

    /// The most messages it takes in one call.
    fn batch_max(&self) -> usize;

    /// Hands messages over. Exactly one outcome per message, in order; partial failure is a value.
    async fn deliver(&self, batch: Vec<Outbound>) -> Vec<Outcome>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_clock_set_back_gives_a_message_no_more_time() {
        let now: Timestamp = "2026-11-22T11:59:00Z".parse().unwrap();
        let until = now + SignedDuration::from_secs(30);
        let clock = Arc::new(ManualClock::new(now));
        let outbound = testing::batch("m", 1, now, until).remove(0);
        let outbound = outbound.timed(Arc::clone(&clock) as _, now, clock.monotonic());
        clock.step_to(now - SignedDuration::from_hours(3));
        assert!(outbound.may_leave_at(clock.now()));
        clock.advance(Duration::from_secs(30));
        assert!(
            !outbound.may_leave_at(clock.now()),
            "30 seconds have passed, whatever it shows"
        );
    }

    #[test]
    fn a_batch_is_judged_as_each_of_its_messages_is() {
        let now: Timestamp = "2026-11-22T11:59:00Z".parse().unwrap();
        let clocks = [0, 1].map(|_| Arc::new(ManualClock::new(now)));
        let after = |secs| now + SignedDuration::from_secs(secs);
        let made = |(place, secs): (usize, i64)| {
            let one = testing::batch("m", 1, now, after(secs)).remove(0);
            let clock = &clocks[place % 2];
            match place % 3 {
                0 => one,
                _ => one.timed(Arc::clone(clock) as _, now, clock.monotonic()),
            }
        };
        let batch: Vec<Outbound> = (10..40).step_by(2).enumerate().map(made).collect();
        let places: Vec<usize> = (0..batch.len()).rev().collect();
        clocks[0].advance(Duration::from_secs(30));
        clocks[1].advance(Duration::from_secs(15));
        for at in [now, after(9), after(20), after(60)] {
            let one_by_one = places.iter().copied();
            let one_by_one = one_by_one.filter(|place| !batch[*place].may_leave_at(at));
            let late = Outbound::late(&batch, &places, at);
            assert_eq!(late, one_by_one.collect::<Vec<_>>(), "at {at}");
        }
    }
}

//! Stops all release while nobody knows which time is true: for a while after the wall clock was
//! set, and as long as it differs from the clock that several gateways share ([`Skew`]).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;

use super::skew::{Skew, Standing};
use crate::clock::{Clock, ClockWatch};

/// What a look at the clock showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frost {
    /// Nothing: release goes on.
    None,
    /// The clock has just jumped by so much; frozen from now on.
    Jumped(SignedDuration),
    /// Still frozen, for so long.
    Frozen(Duration),
    /// The clock differs by so much from the one that the gateways share.
    Apart(SignedDuration),
    /// Nobody has compared the clocks lately.
    Unlooked,
}

/// Shared by all lanes of a process.
pub struct Freeze {
    length: Duration,
    state: Mutex<State>,
    skew: Option<Arc<Skew>>,
}

struct State {
    watch: ClockWatch,
    until: Option<Duration>,
}

impl Freeze {
    /// Freezes for `length` of monotonic time after a jump of more than `tolerance`.
    #[must_use]
    pub fn new(tolerance: SignedDuration, length: Duration) -> Self {
        let watch = ClockWatch::new(tolerance);
        Self {
            length,
            state: Mutex::new(State { watch, until: None }),
            skew: None,
        }
    }

    /// The same, and frozen as well unless `skew` finds the clock right.
    #[must_use]
    pub fn beside(self, skew: Arc<Skew>) -> Self {
        Self {
            skew: Some(skew),
            ..self
        }
    }

    /// How long a freeze lasts.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Looks at the clock. A further jump while frozen freezes anew: most clocks that were set
    /// wrong are set right again.
    pub fn look(&self, clock: &dyn Clock) -> Frost {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let monotonic = clock.monotonic();
        if let Some(step) = state.watch.observe(clock) {
            state.until = Some(monotonic + self.length);
            return Frost::Jumped(step);
        }
        match state.until {
            Some(until) if monotonic < until => Frost::Frozen(until - monotonic),
            _ => {
                state.until = None;
                let standing = self.skew.as_ref().map(|skew| skew.standing(monotonic));
                match standing {
                    None | Some(Standing::Together) => Frost::None,
                    Some(Standing::Apart(by)) => Frost::Apart(by),
                    Some(Standing::Unknown) => Frost::Unlooked,
                }
            }
        }
    }

    /// A person has checked the clock: release goes on at once, unless it differs from the clock
    /// that the gateways share.
    pub fn thaw(&self) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_jump_freezes_release_for_a_while_and_a_second_jump_anew() {
        let clock = ManualClock::new("2026-11-22T20:00:00Z".parse().unwrap());
        let freeze = Freeze::new(SignedDuration::from_secs(60), Duration::from_secs(300));
        assert_eq!(freeze.look(&clock), Frost::None);
        clock.step_to("2026-11-22T23:30:00Z".parse().unwrap());
        assert!(matches!(freeze.look(&clock), Frost::Jumped(_)));
        clock.advance(Duration::from_secs(200));
        assert_eq!(freeze.look(&clock), Frost::Frozen(Duration::from_secs(100)));
        clock.step_to("2026-11-22T20:03:20Z".parse().unwrap());
        assert!(matches!(freeze.look(&clock), Frost::Jumped(_)));
        clock.advance(Duration::from_secs(299));
        assert!(matches!(freeze.look(&clock), Frost::Frozen(_)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(freeze.look(&clock), Frost::None);
    }

    #[test]
    fn a_person_can_end_the_freeze() {
        let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let freeze = Freeze::new(SignedDuration::from_secs(60), Duration::from_secs(300));
        freeze.look(&clock);
        clock.step_to("2026-11-22T23:30:00Z".parse().unwrap());
        freeze.look(&clock);
        freeze.thaw();
        assert_eq!(freeze.look(&clock), Frost::None);
    }
}

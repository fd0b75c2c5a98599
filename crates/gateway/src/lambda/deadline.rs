//! How long a call may work.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Clock;

/// How long a call works whose deadline nobody told: some emulators give one in the past.
pub const UNKNOWN_TIME: Duration = Duration::from_secs(30);

/// When a call must end. Measured by monotonic time from its beginning on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// Monotonic time at which work ends.
    work: Duration,
    /// Monotonic time at which the process may be killed.
    end: Duration,
}

impl Deadline {
    /// The deadline of a call that begins now. `at_ms`: milliseconds since 1970, as Lambda tells
    /// them. Work ends so long before it as `margin` says, but at the earliest after half the time.
    #[must_use]
    pub fn new(clock: &dyn Clock, at_ms: u64, margin: Duration) -> Self {
        let (now, monotonic) = (clock.now(), clock.monotonic());
        let at = i64::try_from(at_ms).ok().map(Timestamp::from_millisecond);
        let at = at.and_then(Result::ok);
        let left = at.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        let left = left.filter(|left| !left.is_zero()).unwrap_or(UNKNOWN_TIME);
        Self {
            work: monotonic.saturating_add(left - margin.min(left / 2)),
            end: monotonic.saturating_add(left),
        }
    }

    /// How long work may go on.
    #[must_use]
    pub fn left(&self, clock: &dyn Clock) -> Duration {
        self.work.saturating_sub(clock.monotonic())
    }

    /// How long until the process may be killed.
    #[must_use]
    pub fn until_end(&self, clock: &dyn Clock) -> Duration {
        self.end.saturating_sub(clock.monotonic())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const MARGIN: Duration = Duration::from_secs(10);

    fn left(seconds: i64) -> (u64, u64) {
        let clock = ManualClock::new("2026-11-22T23:00:00Z".parse().unwrap());
        let at = clock.now().as_millisecond() + seconds * 1000;
        let deadline = Deadline::new(&clock, u64::try_from(at).unwrap(), MARGIN);
        let (work, end) = (deadline.left(&clock), deadline.until_end(&clock));
        (work.as_secs(), end.as_secs())
    }

    #[test]
    fn work_ends_a_margin_before_the_deadline_and_at_the_earliest_after_half_the_time() {
        assert_eq!(left(900), (890, 900));
        assert_eq!(left(12), (6, 12));
        assert_eq!(left(2), (1, 2));
    }

    #[test]
    fn a_deadline_in_the_past_is_unknown() {
        let unknown = (UNKNOWN_TIME.as_secs() - 10, UNKNOWN_TIME.as_secs());
        assert_eq!(left(0), unknown);
        assert_eq!(left(-900), unknown);
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        for at_ms in [0, u64::MAX] {
            let deadline = Deadline::new(&clock, at_ms, MARGIN);
            assert_eq!(deadline.until_end(&clock), UNKNOWN_TIME);
        }
    }

    #[test]
    fn time_that_passed_is_no_longer_left() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let deadline = Deadline::new(&clock, 60_000, MARGIN);
        clock.advance(Duration::from_secs(45));
        assert_eq!(deadline.left(&clock), Duration::from_secs(5));
        clock.advance(Duration::from_secs(45));
        assert_eq!(deadline.left(&clock), Duration::ZERO);
    }
}

//! Time in a process that is stopped between calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::clock::Clock;

/// A clock whose monotonic time goes on while the process is stopped, as its wall clock does.
/// Otherwise each call after a pause would look like a jump of the wall clock, which stops release.
/// That the wall clock was set back meanwhile still shows.
pub struct StoppedClock {
    inner: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    /// Both clocks when the process was last seen running.
    seen: (Timestamp, Duration),
    /// How long it was stopped, by the wall clock.
    stopped: Duration,
}

impl StoppedClock {
    /// The same time as `inner`, of a process that runs now.
    #[must_use]
    pub fn new(inner: Arc<dyn Clock>) -> Self {
        let seen = (inner.now(), inner.monotonic());
        let state = Mutex::new(State {
            seen,
            stopped: Duration::ZERO,
        });
        Self { inner, state }
    }

    /// The process may be stopped from now on.
    pub fn stops(&self) {
        self.state().seen = (self.inner.now(), self.inner.monotonic());
    }

    /// The process runs again.
    pub fn goes_on(&self) {
        let (now, monotonic) = (self.inner.now(), self.inner.monotonic());
        let mut state = self.state();
        let (then, then_monotonic) = state.seen;
        let passed = Duration::try_from(now.duration_since(then)).unwrap_or(Duration::ZERO);
        let known = monotonic.saturating_sub(then_monotonic);
        state.stopped += passed.saturating_sub(known);
        state.seen = (now, monotonic);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn monotonic(&self) -> Duration {
        self.inner.monotonic() + self.state().stopped
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.inner.sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::clock::{ClockWatch, ManualClock};

    fn world() -> (Arc<ManualClock>, StoppedClock, ClockWatch) {
        let inner = Arc::new(ManualClock::new("2026-11-22T11:00:00Z".parse().unwrap()));
        let clock = StoppedClock::new(inner.clone());
        let mut watch = ClockWatch::new(SignedDuration::from_secs(20));
        assert_eq!(watch.observe(&clock), None);
        (inner, clock, watch)
    }

    #[test]
    fn a_process_that_was_stopped_sees_time_pass_and_no_jump() {
        let (inner, clock, mut watch) = world();
        clock.stops();
        inner.step_to("2026-11-22T23:00:00Z".parse().unwrap());
        clock.goes_on();
        assert_eq!(watch.observe(&clock), None);
        assert_eq!(clock.monotonic(), Duration::from_secs(12 * 3600));
        clock.stops();
        inner.advance(Duration::from_secs(90));
        clock.goes_on();
        assert_eq!(
            watch.observe(&clock),
            None,
            "monotonic time went on by itself"
        );
    }

    #[test]
    fn a_jump_while_it_runs_and_a_clock_set_back_still_show() {
        let (inner, clock, mut watch) = world();
        inner.step_to("2026-11-22T12:00:00Z".parse().unwrap());
        assert!(watch.observe(&clock).is_some());
        clock.stops();
        inner.step_to("2026-11-22T09:00:00Z".parse().unwrap());
        clock.goes_on();
        assert_eq!(watch.observe(&clock), Some(SignedDuration::from_hours(-3)));
    }
}

//! The only file that may read a clock. Everything else is told the time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

/// Longest single sleep. A suspended host or a stepped clock must not make anyone wake late, so
/// every sleeper looks at the wall clock again at least this often.
pub const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Wall time, monotonic time and sleep.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Time since some fixed instant, never stepped.
    fn monotonic(&self) -> Duration;

    /// Returns once the wall clock shows `at`, or after [`SLEEP_MAX`], whichever is first: the
    /// caller loops and looks again.
    async fn sleep_until(&self, at: Timestamp);
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one file that reads clocks"
    )]
    fn default() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one file that reads clocks"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one file that sleeps"
    )]
    async fn sleep_until(&self, at: Timestamp) {
        let ahead = at.duration_since(self.now());
        let ahead = Duration::try_from(ahead).unwrap_or(Duration::ZERO);
        tokio::time::sleep(ahead.min(SLEEP_MAX)).await;
    }
}

/// A clock that moves only when told: for the simulator, the demo and tests.
#[derive(Debug)]
pub struct ManualClock {
    hands: Mutex<Hands>,
    moved: Notify,
}

#[derive(Debug)]
struct Hands {
    now: Timestamp,
    monotonic: Duration,
}

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            hands: Mutex::new(Hands {
                now,
                monotonic: Duration::ZERO,
            }),
            moved: Notify::new(),
        }
    }

    /// Time passes: wall and monotonic time move together.
    pub fn advance(&self, by: Duration) {
        self.turn(|hands| {
            let by_signed = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
            hands.now = hands
                .now
                .saturating_add(by_signed)
                .unwrap_or(Timestamp::MAX);
            hands.monotonic += by;
        });
    }

    /// Time passes until the wall clock shows `at`; nothing happens if it is past that already.
    pub fn advance_to(&self, at: Timestamp) {
        let by = at.duration_since(self.now());
        self.advance(Duration::try_from(by).unwrap_or(Duration::ZERO));
    }

    /// Somebody sets the wall clock: monotonic time stays.
    pub fn step_to(&self, at: Timestamp) {
        self.turn(|hands| hands.now = at);
    }

    fn turn(&self, turn: impl FnOnce(&mut Hands)) {
        turn(&mut self.hands.lock().unwrap_or_else(PoisonError::into_inner));
        self.moved.notify_waiters();
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.hands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .now
    }

    fn monotonic(&self) -> Duration {
        self.hands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .monotonic
    }

    async fn sleep_until(&self, at: Timestamp) {
        let moved = self.moved.notified();
        if self.now() < at {
            moved.await;
        }
    }
}

/// Sleeps for `pause` by the monotonic clock, so that a stepped wall clock cannot stretch it.
pub async fn pass(clock: &dyn Clock, pause: Duration) {
    let started = clock.monotonic();
    loop {
        let left = pause.saturating_sub(clock.monotonic().saturating_sub(started));
        if left.is_zero() {
            return;
        }
        let left = SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX);
        let at = clock.now().saturating_add(left).unwrap_or(Timestamp::MAX);
        clock.sleep_until(at).await;
    }
}

/// Notices steps of the wall clock by comparing it with monotonic time.
#[derive(Debug)]
pub struct ClockWatch {
    tolerance: SignedDuration,
    last: Option<(Timestamp, Duration)>,
}

impl ClockWatch {
    /// A watch that lets steps up to `tolerance` pass.
    #[must_use]
    pub fn new(tolerance: SignedDuration) -> Self {
        Self {
            tolerance,
            last: None,
        }
    }

    /// Reads `clock`; `Some(step)` if the wall clock was set forward (or back, negative) by more
    /// than the tolerance since the last call.
    pub fn observe(&mut self, clock: &dyn Clock) -> Option<SignedDuration> {
        let (now, monotonic) = (clock.now(), clock.monotonic());
        let (then, then_monotonic) = self.last.replace((now, monotonic))?;
        let passed = SignedDuration::try_from(monotonic.saturating_sub(then_monotonic))
            .unwrap_or(SignedDuration::MAX);
        let step = now.duration_since(then).saturating_sub(passed);
        (step.abs() > self.tolerance).then_some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn passing_time_is_no_jump_and_a_step_either_way_is() {
        let clock = ManualClock::new(at("2026-11-22T11:00:00Z"));
        let mut watch = ClockWatch::new(SignedDuration::from_secs(60));
        assert_eq!(watch.observe(&clock), None);
        clock.advance(Duration::from_secs(8 * 3600));
        assert_eq!(
            watch.observe(&clock),
            None,
            "a stopped process sees time pass, not a jump"
        );
        clock.step_to(at("2026-11-22T22:00:00Z"));
        assert_eq!(watch.observe(&clock), Some(SignedDuration::from_hours(3)));
        clock.step_to(at("2026-11-22T19:00:00Z"));
        assert_eq!(watch.observe(&clock), Some(SignedDuration::from_hours(-3)));
        clock.step_to(at("2026-11-22T19:00:59Z"));
        assert_eq!(watch.observe(&clock), None, "within tolerance");
    }
}

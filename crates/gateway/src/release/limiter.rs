//! Paces one lane: messages per second, a burst, and a slow start after a rest.
//!
//! The bucket itself is `governor`'s (GCRA); this file only tells it the time and turns the rate up
//! in steps.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// The rate climbs to full in so many equal steps.
pub(super) const SLOW_START_STEPS: u32 = 10;

/// How fast a lane may go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Messages per second; `None` for no limit.
    pub rate: Option<NonZeroU32>,
    /// Most messages at one instant after a pause.
    pub burst: NonZeroU32,
    /// How long the rate takes to climb to full after a rest; zero for at once.
    pub slow_start: Duration,
    /// The share of the rate it starts from, over 0 to 1.
    pub slow_start_from: f64,
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Duration>>;

/// A limiter that is told the time, so that simulated nights pace as real ones do.
pub struct Limiter {
    pace: Pace,
    told: Told,
    bucket: Option<Bucket>,
    started: Option<Duration>,
    step: u32,
}

/// Monotonic time as it was last told, in nanoseconds.
#[derive(Clone, Debug, Default)]
struct Told(Arc<AtomicU64>);

impl GovernorClock for Told {
    type Instant = Duration;
    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

impl Limiter {
    /// A limiter of this pace with a full bucket.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        let told = Told::default();
        let bucket = bucket(pace, SLOW_START_STEPS, &told);
        Self {
            pace,
            told,
            bucket,
            started: None,
            step: SLOW_START_STEPS,
        }
    }

    /// Begins a slow start at `monotonic`: the lane had a rest and a backlog is waiting.
    pub fn start_slowly(&mut self, monotonic: Duration) {
        if !self.pace.slow_start.is_zero() && self.bucket.is_some() {
            self.started = Some(monotonic);
        }
    }

    /// Takes leave for up to `wanted` messages at `monotonic`: how many may go now and, when that
    /// is fewer than wanted, the monotonic instant at which it is worth asking again.
    pub fn take(&mut self, wanted: usize, monotonic: Duration) -> (usize, Option<Duration>) {
        let nanos = u64::try_from(monotonic.as_nanos()).unwrap_or(u64::MAX);
        self.told.0.fetch_max(nanos, Ordering::Relaxed);
        self.climb(monotonic);
        let Some(bucket) = &self.bucket else {
            return (wanted, None);
        };
        for taken in 0..wanted {
            if let Err(not_until) = bucket.check() {
                let wait = not_until.wait_time_from(self.told.now());
                return (taken, Some(self.told.now() + wait));
            }
        }
        (wanted, None)
    }

    /// Turns the rate up (or down, at the start) to the step that `monotonic` calls for.
    fn climb(&mut self, monotonic: Duration) {
        let Some(started) = self.started else { return };
        let passed = monotonic.saturating_sub(started).as_secs_f64();
        let share = (passed / self.pace.slow_start.as_secs_f64()).min(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 10"
        )]
        let step = (share * f64::from(SLOW_START_STEPS)) as u32;
        if step >= SLOW_START_STEPS {
            self.started = None;
        }
        if step == self.step {
            return;
        }
        self.step = step;
        self.bucket = bucket(self.pace, step, &self.told);
        // A new bucket is full. Had it stayed so, every step would let one more burst through.
        if let Some(bucket) = &self.bucket {
            while bucket.check().is_ok() {}
        }
    }
}

/// The bucket for one step of the climb; `None` when the lane has no limit.
fn bucket(pace: Pace, step: u32, told: &Told) -> Option<Bucket> {
    let full = pace.rate?;
    let share = f64::from(step) / f64::from(SLOW_START_STEPS);
    let share = pace.slow_start_from + (1.0 - pace.slow_start_from) * share;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most u32"
    )]
    let rate = (f64::from(full.get()) * share.clamp(0.0, 1.0)) as u32;
    let rate = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::per_second(rate).allow_burst(pace.burst);
    Some(RateLimiter::direct_with_clock(quota, told.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate: u32, burst: u32, slow_start: u64) -> Pace {
        Pace {
            rate: NonZeroU32::new(rate),
            burst: NonZeroU32::new(burst).unwrap(),
            slow_start: Duration::from_secs(slow_start),
            slow_start_from: 0.1,
        }
    }

    /// Asks greedily every 10 ms for `seconds` and returns what was let through in each second.
    fn drain(limiter: &mut Limiter, seconds: u64) -> Vec<usize> {
        (0..seconds)
            .map(|second| {
                (0..100)
                    .map(|tick| {
                        let at = Duration::from_millis(second * 1000 + tick * 10);
                        limiter.take(10_000, at).0
                    })
                    .sum()
            })
            .collect()
    }

    #[test]
    fn no_window_ever_sees_more_than_rate_and_burst() {
        let seen = drain(&mut Limiter::new(pace(1000, 50, 0)), 10);
        assert!(seen[0] <= 1050, "{seen:?}");
        assert!(
            seen[1..].iter().all(|n| (990..=1010).contains(n)),
            "{seen:?}"
        );
    }

    #[test]
    fn slow_start_climbs_from_a_tenth_to_full() {
        let mut limiter = Limiter::new(pace(1000, 50, 10));
        limiter.start_slowly(Duration::ZERO);
        let seen = drain(&mut limiter, 15);
        assert!(seen[0] <= 150, "{seen:?}");
        assert!(
            seen[..11].windows(2).all(|pair| pair[0] <= pair[1] + 10),
            "climbs: {seen:?}"
        );
        assert!(
            seen[12] >= 990 && seen.iter().all(|n| *n <= 1050),
            "{seen:?}"
        );
    }

    #[test]
    fn a_lane_without_a_rate_is_never_held_up() {
        let mut free = pace(1, 1, 0);
        free.rate = None;
        assert_eq!(
            Limiter::new(free).take(12_345, Duration::ZERO),
            (12_345, None)
        );
    }

    #[test]
    fn an_empty_bucket_says_when_to_come_back() {
        let mut limiter = Limiter::new(pace(10, 1, 0));
        let (taken, again) = limiter.take(5, Duration::from_secs(3));
        assert_eq!(taken, 1);
        let again = again.unwrap();
        assert!(again > Duration::from_secs(3) && again <= Duration::from_millis(3_100));
        assert_eq!(limiter.take(1, again).0, 1);
    }
}

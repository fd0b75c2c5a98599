//! When will the backlog be out? Measured rate, what is left, and when the window closes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Over how long the rate is averaged. Long enough to smooth batches, short enough to notice a
/// sink that slows down.
const MEMORY: Duration = Duration::from_secs(30);

/// An exponentially weighted rate, messages per second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    per_second: f64,
    last: Option<Duration>,
    pending: f64,
}

impl Rate {
    /// Notes that `count` messages left at `monotonic`.
    pub fn note(&mut self, count: usize, monotonic: Duration) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a tick is far below 2^52 messages"
        )]
        let count = count as f64;
        self.pending += count;
        let Some(last) = self.last else {
            // What left before the first look took nobody knows how long.
            (self.last, self.pending) = (Some(monotonic), 0.0);
            return;
        };
        let passed = monotonic.saturating_sub(last).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        let weight = 1.0 - (-passed / MEMORY.as_secs_f64()).exp();
        let seen = self.pending / passed;
        // The first reading stands alone; there is nothing older to weigh it against.
        self.per_second = if self.per_second == 0.0 {
            seen
        } else {
            self.per_second + weight * (seen - self.per_second)
        };
        self.pending = 0.0;
        self.last = Some(monotonic);
    }

    /// A rest: the next reading starts anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Messages per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.per_second
    }
}

/// When `remaining` messages will be out at `per_second`; `None` when nothing moves.
#[must_use]
pub fn drained_at(remaining: u64, per_second: f64, now: Timestamp) -> Option<Timestamp> {
    if remaining == 0 {
        return Some(now);
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = remaining as f64 / per_second;
    let ahead = SignedDuration::try_from_secs_f64(seconds).ok()?;
    now.checked_add(ahead).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_lane_is_forecast_exactly_and_a_still_one_not_at_all() {
        let mut rate = Rate::default();
        for tick in 0..100_u64 {
            rate.note(50, Duration::from_millis(tick * 100));
        }
        assert!((495.0..=510.0).contains(&rate.per_second()), "{rate:?}");
        let now = Timestamp::UNIX_EPOCH;
        let out = drained_at(50_000, 500.0, now).unwrap();
        assert_eq!(out.duration_since(now), SignedDuration::from_secs(100));
        assert_eq!(drained_at(1, 0.0, now), None);
        assert_eq!(drained_at(0, 0.0, now), Some(now));
    }

    #[test]
    fn a_sink_that_slows_down_is_noticed_within_a_minute() {
        let mut rate = Rate::default();
        for tick in 0..600_u64 {
            rate.note(100, Duration::from_millis(tick * 100));
        }
        for tick in 600..1200_u64 {
            rate.note(10, Duration::from_millis(tick * 100));
        }
        assert!(rate.per_second() < 250.0, "{rate:?}");
    }
}

//! How long to wait after something failed.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// Growth from one failure to the next.
const FACTOR: f32 = 2.0;
/// Past so many doublings every curve is at its maximum.
const STEPS_MAX: u32 = 32;

/// The shortest and the longest wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    pub(super) min: Duration,
    pub(super) max: Duration,
}

impl Patience {
    /// The wait after so many failures (1 for the first): doubled each time, and jittered by up to
    /// as much again, so that pollers which failed together do not come back together.
    pub(super) fn wait(self, failures: u32) -> Duration {
        let curve = ExponentialBuilder::new()
            .with_factor(FACTOR)
            .with_min_delay(self.min)
            .with_max_delay(self.max)
            .without_max_times()
            .with_jitter()
            .with_jitter_seed(fastrand::u64(..))
            .build();
        let place = failures.saturating_sub(1).min(STEPS_MAX);
        let place = usize::try_from(place).unwrap_or_default();
        curve.into_iter().nth(place).unwrap_or(self.max)
    }
}

/// Whole seconds, as SQS counts them, rounded up.
pub(super) fn whole(duration: Duration) -> Duration {
    let more = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(more))
}

//! How long to wait after something failed. The curve and its jitter are `backon`'s.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::SignedDuration;

/// Growth from one attempt to the next.
const FACTOR: f32 = 2.0;

/// The shortest and the longest wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub min: Duration,
    /// However many failures there were.
    pub max: Duration,
}

impl Backoff {
    /// The wait after `failures` failures (1 for the first): doubled each time, jittered by up to
    /// as much again so that what failed together does not come back together, at most twice
    /// `max`. `seed` decides the jitter.
    #[must_use]
    pub fn pause(&self, failures: u32, seed: u64) -> Duration {
        let curve = ExponentialBuilder::new()
            .with_factor(FACTOR)
            .with_min_delay(self.min)
            .with_max_delay(self.max)
            .without_max_times()
            .with_jitter()
            .with_jitter_seed(seed)
            .build();
        // Past this many doublings every curve is at its maximum; it also bounds the walk.
        let place = usize::try_from(failures.saturating_sub(1).min(64)).unwrap_or(64);
        curve.into_iter().nth(place).unwrap_or(self.max)
    }

    /// The pause, but never shorter than what the sink asked for.
    #[must_use]
    pub fn wait(
        &self,
        failures: u32,
        asked_for: Option<SignedDuration>,
        seed: u64,
    ) -> SignedDuration {
        let pause = SignedDuration::try_from(self.pause(failures, seed));
        let pause = pause.unwrap_or(SignedDuration::MAX);
        pause.max(asked_for.unwrap_or(SignedDuration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        min: Duration::from_secs(2),
        max: Duration::from_secs(600),
    };

    #[test]
    fn the_wait_doubles_up_to_its_maximum_and_is_jittered() {
        for failures in 1..20 {
            let base = (2_u64 << (failures - 1).min(9)).min(600);
            for seed in 0..20 {
                let wait = BACKOFF.wait(failures, None, seed).as_secs_f64();
                #[expect(clippy::cast_precision_loss, reason = "at most 600")]
                let base = base as f64;
                assert!(
                    (base..=base * 2.0 + 1.0).contains(&wait),
                    "{failures}: {wait} of {base}"
                );
            }
        }
        let waits: std::collections::BTreeSet<_> =
            (0..20).map(|seed| BACKOFF.wait(3, None, seed)).collect();
        assert!(waits.len() > 10, "jitter spreads what failed together");
    }

    #[test]
    fn what_the_sink_asks_for_is_never_cut_short() {
        let asked = SignedDuration::from_secs(3600);
        assert_eq!(BACKOFF.wait(1, Some(asked), 1), asked);
    }
}

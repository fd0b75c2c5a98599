//! Clocks of several gateways: each compares its own with one that all of them can read.
//!
//! A gateway whose clock is wrong opens and closes windows at the wrong time, and judges loans of
//! others as lapsed. It cannot know that alone: a clock that was wrong from the start never jumps.
//! So it looks at the shared clock every [`LOOK_EVERY`]; how long the answer took is the error of
//! the look. Beyond the bound it stops releasing and says so, until it is within again. Who has not
//! looked yet, or not for [`LOOK_GOOD`], does not release either: a process that was stopped for an
//! hour must look first.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::alert::desk::Alerts;
use crate::alert::text;
use crate::clock::{Clock, pass};
use crate::error::Result;

/// How far clocks may differ unless configured: windows have a guard of 30 s before they close, and
/// half of a loan is kept for the answer.
pub const SKEW_MAX_DEFAULT: SignedDuration = SignedDuration::from_secs(2);
/// How often the clocks are compared.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long a look is good for: some may fail.
pub const LOOK_GOOD: Duration = Duration::from_secs(35);
/// How soon to look again after one that failed or told nothing.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The clock that all gateways can read.
#[async_trait]
pub trait SharedClock: Send + Sync {
    /// What it shows.
    async fn read(&self) -> Result<Timestamp>;
}

#[cfg(feature = "redis")]
#[async_trait]
impl SharedClock for crate::redis::Redis {
    async fn read(&self) -> Result<Timestamp> {
        self.time().await
    }
}

/// Cut to the millisecond, which is as nothing to any bound.
#[cfg(feature = "mongodb")]
#[async_trait]
impl SharedClock for crate::mongodb::Mongo {
    async fn read(&self) -> Result<Timestamp> {
        self.time().await
    }
}

/// How the own clock stands to the shared one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Within the bound.
    Together,
    /// The own clock is ahead by so much (negative: behind), which is too much.
    Apart(SignedDuration),
    /// Nobody has looked, or not lately.
    Unknown,
}

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The own clock is ahead by so much; negative: behind.
    pub ahead: SignedDuration,
    /// Give or take so much: half of the time that the answer took.
    pub error: SignedDuration,
}

/// The last comparison that told something.
#[derive(Debug)]
pub struct Skew {
    max: SignedDuration,
    last: Mutex<Option<Last>>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    standing: Standing,
    good_until: Duration,
}

impl Skew {
    /// Clocks may differ by up to `max`. Nothing leaves until the first [`Skew::look`].
    #[must_use]
    pub fn new(max: SignedDuration) -> Self {
        let last = Mutex::default();
        Self { max, last }
    }

    /// How far clocks may differ.
    #[must_use]
    pub fn max(&self) -> SignedDuration {
        self.max
    }

    /// How the clocks stood when last compared, asked at `monotonic`.
    #[must_use]
    pub fn standing(&self, monotonic: Duration) -> Standing {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some(last) if monotonic < last.good_until => last.standing,
            _ => Standing::Unknown,
        }
    }

    /// Compares the clocks once. A look whose error is so large that it proves neither changes
    /// nothing.
    ///
    /// # Errors
    /// When the shared clock cannot be read.
    pub async fn look(&self, shared: &dyn SharedClock, clock: &dyn Clock) -> Result<Look> {
        let (wall, began) = (clock.now(), clock.monotonic());
        let read = shared.read().await?;
        let ended = clock.monotonic();
        // By the monotonic clock, so that a step of the wall clock meanwhile is no part of it.
        let half = ended.saturating_sub(began) / 2;
        let error = SignedDuration::try_from(half).unwrap_or(SignedDuration::MAX);
        let ahead = wall.duration_since(read).saturating_add(error);
        self.note(Look { ahead, error }, ended);
        Ok(Look { ahead, error })
    }

    fn note(&self, look: Look, monotonic: Duration) {
        let off = look.ahead.abs();
        let standing = if off.saturating_add(look.error) <= self.max {
            Standing::Together
        } else if off.saturating_sub(look.error) > self.max {
            Standing::Apart(look.ahead)
        } else {
            return;
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Last {
            standing,
            good_until: monotonic.saturating_add(LOOK_GOOD),
        });
    }
}

/// Compares the clocks again and again until `stop` turns true; raises the alarm while they are
/// apart.
pub async fn watch_skew(
    skew: Arc<Skew>,
    shared: Arc<dyn SharedClock>,
    clock: Arc<dyn Clock>,
    alerts: Alerts,
    mut stop: watch::Receiver<bool>,
) {
    while !*stop.borrow() {
        let looked = skew.look(&*shared, &*clock).await;
        let standing = skew.standing(clock.monotonic());
        if let Standing::Apart(ahead) = standing {
            alerts.raise(text::clock_apart(ahead, skew.max(), clock.now()));
        }
        let next = match looked {
            Ok(_) if standing != Standing::Unknown => LOOK_EVERY,
            Ok(look) => {
                let error = look.error;
                tracing::warn!(
                    ?error,
                    "the shared clock answers too slowly to compare with"
                );
                AGAIN_AFTER
            }
            Err(fault) => {
                tracing::warn!(%fault, "failed to compare clocks");
                AGAIN_AFTER
            }
        };
        tokio::select! {
            () = pass(&*clock, next) => {}
            _ = stop.changed() => {}
        }
    }
}

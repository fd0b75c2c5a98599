//! Leave in slices from one bucket that several gateways share, wherever that is kept: what a
//! bucket measures, and how a gateway takes, keeps and gives back.
//!
//! A gateway takes a slice of some tens of milliseconds' worth, keeps what a tick did not use for
//! the next, and gives back what is left when it rests. A slice ends: the sink's last act before
//! the first byte is to look whether the message may still leave, so what a gateway took and then
//! slept over is lost and not sent on top of what others took since.
//!
//! # Why the receiver never gets more than rate x t + burst
//! Number the messages for which leave is given, and let R(t) be how many the rate allows up to t.
//! The bucket holds `level` of at most `cap`, so the numbers of a slice of n lie between
//! R + burst - level + 1 and R + burst: nothing leaves more than `burst` ahead. A slice is good for
//! (burst - level) / rate from the moment it is given: nothing leaves later than its number's time.
//! So whatever leaves between x and y has one of the R(y) - R(x) + burst numbers between R(x) + 1
//! and R(y) + burst, however long anybody slept in between. What is given back is given on with the
//! end it had.
//!
//! A slice must be good for some time at least, or nobody could lease, decide and file in it: each
//! kind of server says how long. The bucket holds half of the burst, and a burst of less than twice
//! that time's worth counts as so much.

#[cfg(test)]
pub(super) mod world;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Allowance, Leave};
use crate::clock::Clock;
use crate::error::Result;
use crate::release::limiter::Pace;

/// What is taken at once, in time at full rate: one round trip for so much.
const SLICE: Duration = Duration::from_millis(200);
/// A lane that no gateway asked leave for so long had a rest, and starts slowly.
pub(super) const RESTED: Duration = Duration::from_secs(2);

/// Measures of one lane's bucket, in messages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bucket {
    pub(super) rate: f64,
    pub(super) burst: f64,
    pub(super) cap: f64,
    pub(super) slice: usize,
    pub(super) slow_start: Duration,
    pub(super) slow_start_from: f64,
}

impl Bucket {
    /// `None` for a lane without a rate. A slice is good for `good_min` at least.
    pub(super) fn of(pace: Pace, good_min: Duration) -> Option<Self> {
        let rate = f64::from(pace.rate?.get());
        let good = rate * good_min.as_secs_f64();
        let burst = f64::from(pace.burst.get()).max(2.0 * good).max(1.0 + good);
        let cap = (burst / 2.0).max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a fifth of u32"
        )]
        let slice = (rate * SLICE.as_secs_f64()) as usize;
        Some(Self {
            rate,
            burst,
            cap,
            slice: slice.max(1),
            slow_start: pace.slow_start,
            slow_start_from: pace.slow_start_from,
        })
    }
}

/// Leave in hand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slice {
    pub(super) messages: usize,
    /// By the own monotonic clock.
    pub(super) until: Duration,
    /// By the server's, in whatever it counts.
    pub(super) ends: u64,
}

impl Slice {
    fn join(&mut self, other: Self) {
        if other.messages == 0 {
            return;
        }
        if self.messages == 0 {
            *self = other;
            return;
        }
        self.messages += other.messages;
        self.until = self.until.min(other.until);
        self.ends = self.ends.min(other.ends);
    }
}

/// A question for leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) want: usize,
    /// The lane had a rest and a backlog is waiting.
    pub(super) slowly: bool,
    /// From before it was asked: whatever the way took is lost, and never added.
    pub(super) monotonic: Duration,
}

/// The way of one lane to its bucket.
#[async_trait]
pub(super) trait Way: Send + Sync {
    /// Asks for leave; says what was given and how long to wait for more.
    async fn ask(&self, ask: Ask) -> Result<(Slice, Duration)>;

    /// Gives back what is still good.
    async fn give_back(&self, slice: Slice) -> Result<()>;
}

/// One lane's leave from a bucket that is shared.
pub(super) struct Shared<W> {
    way: W,
    bucket: Bucket,
    clock: Arc<dyn Clock>,
    carried: Slice,
    again: Option<Duration>,
    slowly: bool,
}

impl<W: Way> Shared<W> {
    pub(super) fn new(way: W, bucket: Bucket, clock: &Arc<dyn Clock>) -> Self {
        Self {
            way,
            bucket,
            clock: Arc::clone(clock),
            carried: Slice::default(),
            again: None,
            slowly: false,
        }
    }
}

#[async_trait]
impl<W: Way> Allowance for Shared<W> {
    fn is_brief(&self) -> bool {
        true
    }

    fn start_slowly(&mut self, _: Duration) {
        self.slowly = !self.bucket.slow_start.is_zero();
    }

    async fn take(&mut self, wanted: usize, backlog: usize, monotonic: Duration) -> Result<Leave> {
        if self.carried.until <= monotonic {
            self.carried = Slice::default();
        }
        let waits = self.again.filter(|again| *again > monotonic);
        if self.carried.messages < wanted && waits.is_none() {
            let slice = backlog.min(self.bucket.slice).max(wanted);
            let ask = Ask {
                want: slice.saturating_sub(self.carried.messages),
                slowly: self.slowly,
                monotonic,
            };
            let (given, wait) = self.way.ask(ask).await?;
            self.slowly = false;
            self.carried.join(given);
            self.again = (!wait.is_zero()).then(|| self.clock.monotonic() + wait);
        }
        let messages = self.carried.messages.min(wanted);
        self.carried.messages -= messages;
        Ok(Leave {
            messages,
            until: Some(self.carried.until),
            again: self.again.filter(|_| messages < wanted),
        })
    }

    fn unused(&mut self, messages: usize) {
        // Its end is that of what is carried: both were taken together.
        self.carried.messages += messages;
    }

    async fn rest(&mut self, monotonic: Duration) {
        let carried = std::mem::take(&mut self.carried);
        self.again = None;
        if carried.messages == 0 || carried.until <= monotonic {
            return;
        }
        if let Err(fault) = self.way.give_back(carried).await {
            tracing::debug!(%fault, "leave that was not used ends by itself");
        }
    }
}

//! Leave to send: how many messages of a lane may go now, until when that leave is good, and when
//! it is worth asking again.
//!
//! One gateway keeps to a lane's pace by itself ([`Own`]). Several that share a hold must keep to
//! it together: then leave comes from where all of them ask (Redis, MongoDB), in slices, and it
//! ends: what was not handed over by then may not be, because others have the time that came after
//! it.

#[cfg(feature = "mongodb")]
pub mod mongodb;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "mongodb", feature = "redis"))]
mod slices;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::limiter::{Limiter, Pace};
use crate::clock::Clock;
use crate::error::Result;
use crate::lane::Lane;

/// Leave that was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leave {
    /// For so many messages.
    pub messages: usize,
    /// The monotonic instant from which on nothing may be handed over by it; `None`: it has no end.
    pub until: Option<Duration>,
    /// The monotonic instant at which it is worth asking again; `None` when all was given.
    pub again: Option<Duration>,
}

/// What one lane asks for leave. Asked by one tick at a time.
#[async_trait]
pub trait Allowance: Send {
    /// Whether leave ends soon, so that nothing should wait for its turn at the sink.
    fn is_brief(&self) -> bool;

    /// Begins a slow start at `monotonic`: the lane had a rest and a backlog is waiting.
    fn start_slowly(&mut self, monotonic: Duration);

    /// Takes leave for up to `wanted` messages at `monotonic`; `backlog` are due in all, so that
    /// somebody who has far to ask may ask for more than one tick.
    ///
    /// # Errors
    /// When whoever gives leave cannot be asked: then there is none.
    async fn take(&mut self, wanted: usize, backlog: usize, monotonic: Duration) -> Result<Leave>;

    /// Of the leave taken last, `messages` were not used.
    fn unused(&mut self, messages: usize);

    /// The lane rests: leave that is not used goes to whoever can use it. What cannot be given back
    /// ends by itself.
    async fn rest(&mut self, monotonic: Duration);
}

/// Who gives lanes leave.
pub trait Budget: Send + Sync {
    /// The allowance of `lane`, which goes at `pace`.
    fn allowance(&self, lane: &Lane, pace: Pace, clock: &Arc<dyn Clock>) -> Box<dyn Allowance>;
}

/// Every gateway keeps to the pace by itself: right where there is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own;

impl Budget for Own {
    fn allowance(&self, _: &Lane, pace: Pace, _: &Arc<dyn Clock>) -> Box<dyn Allowance> {
        Box::new(Limiter::new(pace))
    }
}

#[async_trait]
impl Allowance for Limiter {
    fn is_brief(&self) -> bool {
        false
    }

    fn start_slowly(&mut self, monotonic: Duration) {
        Limiter::start_slowly(self, monotonic);
    }

    async fn take(&mut self, wanted: usize, _: usize, monotonic: Duration) -> Result<Leave> {
        let (messages, again) = Limiter::take(self, wanted, monotonic);
        Ok(Leave {
            messages,
            until: None,
            again,
        })
    }

    fn unused(&mut self, _: usize) {}

    async fn rest(&mut self, _: Duration) {}
}

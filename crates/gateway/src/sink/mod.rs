//! The port through which messages leave. No permit, no send: a sink takes only [`Outbound`].

pub mod log;
#[cfg(test)]
pub(crate) mod testing;
pub mod webhook;
mod wire;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Message, Permit};

/// A message with leave to go. It cannot be built without a permit that names the message.
#[derive(Debug)]
pub struct Outbound {
    permit: Permit,
    message: Message,
    attempt: u32,
    leave_by: Timestamp,
}

impl Outbound {
    /// Joins a permit and its message. `lease_until` is the end of the loan: after it the message
    /// may be somebody else's. `None` if the permit names another message.
    #[must_use]
    pub fn new(
        permit: Permit,
        message: Message,
        attempt: u32,
        lease_until: Timestamp,
    ) -> Option<Self> {
        let leave_by = permit.not_after().min(lease_until);
        (permit.message() == &message.id).then_some(Self {
            permit,
            message,
            attempt,
            leave_by,
        })
    }

    /// The leave to go.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// What goes.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Which hand-over this is: 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether it may still be handed over at `now`: the permit holds and the loan runs. A sink asks
    /// this as its last act before the first byte leaves.
    #[must_use]
    pub fn may_leave_at(&self, now: Timestamp) -> bool {
        now < self.leave_by
    }
}

/// What became of one hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sink took it.
    Delivered {
        /// The provider's reference, if it gave one.
        reference: Option<String>,
    },
    /// Certainly not taken; may be tried again.
    Retry {
        /// Not before so long from now, if the sink said so.
        after: Option<SignedDuration>,
        /// The sink refuses *everything* for now (429, 503): the whole lane backs off.
        whole_lane: bool,
        /// What it said.
        why: String,
    },
    /// Certainly not taken, and never will be.
    Rejected {
        /// What it said.
        why: String,
    },
    /// It may have gone: time-out or reset after the request was on its way.
    Unknown {
        /// What was seen.
        why: String,
    },
    /// Not handed over, because permit or loan ended first.
    TooLate,
}

impl Outcome {
    /// Its one name, in metrics and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Retry { .. } => "retry",
            Self::Rejected { .. } => "rejected",
            Self::Unknown { .. } => "unknown",
            Self::TooLate => "too_late",
        }
    }
}

/// A way out.
#[async_trait]
pub trait Sink: Send + Sync {
    /// The sink's kind in config and logs.
    fn name(&self) -> &'static str;

    /// The most messages it takes in one call.
    fn batch_max(&self) -> usize;

    /// Hands messages over. Exactly one outcome per message, in order; partial failure is a value.
    async fn deliver(&self, batch: Vec<Outbound>) -> Vec<Outcome>;
}

//! Messages that come by way of an SQS queue.
//!
//! [`Source`] has a few pollers. Each receives up to ten messages, reads them by the [`Mapping`],
//! hands them to the gate together with those of the other pollers, and deletes from the queue what
//! the gate has durably. What the gate does not have stays in the queue: nothing is lost, and what
//! comes twice is known by its id.

mod dead;
mod intake;
mod join;
mod mapping;
mod order;
mod settle;
mod source;

pub use dead::{DeadLetter, REASON_ATTRIBUTE};
pub use intake::{Answered, Fate, Intake, Read};
pub use mapping::{ID_DEFAULT, MAPPED, Mapping};
pub use order::Behind;
pub use source::{
    BATCH_MAX_DEFAULT, BATCH_WAIT_DEFAULT, HIDE_DEFAULT, POLLERS_DEFAULT, Source, SourceOptions,
    SourceParts,
};

#[cfg(test)]
pub(crate) mod tests;

//! What only the hold on SQS has: delays, probes, lapses told from receive counts, faults of SQS.

mod care;
mod faults;
mod lend;
mod probe;
mod recalls;
pub(crate) mod world;

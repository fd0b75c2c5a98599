//! Every promise of `HoldStore`, run on every backend that makes it. `backends.rs` has one row a
//! backend; which tests run on it is asked of its `Capability`, never of its name.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(
    clippy::print_stdout,
    reason = "the child reports so, and failures name their backend"
)]

mod backends;
mod lease;
mod model;
mod open;
mod pause;
mod put;
mod query;
mod recall;
#[cfg(feature = "redis")]
mod redis;
mod reopen;
mod settle;
mod shelves;
mod sqlite;
#[cfg(feature = "sqs")]
mod sqs;
mod twins;
mod world;

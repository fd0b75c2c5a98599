//! The shelf store taken at its word: power cuts, damage, full disks, long lives.
//!
//! What every backend promises is in `tests/behaviour`; here are the things that only a store with
//! files of its own can get wrong. `NIGHTGATE_SHELF_SEED` runs one seed, `NIGHTGATE_SHELF_SEEDS` so
//! many of them; with `NIGHTGATE_SHELF_SYNC` too, the power goes at that sync and every call is
//! told.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(clippy::print_stdout, reason = "failures name their seed")]

mod beside;
mod care;
mod company;
mod crashes;
mod damage;
mod disks;
mod golden;
mod mutations;
mod opening;
mod oracle;
mod room;
mod script;
mod space;
mod support;
#[path = "../behaviour/twins.rs"]
mod twins;
#[expect(
    dead_code,
    reason = "shared with the behaviour suite, which uses all of it"
)]
#[path = "../behaviour/world.rs"]
mod world;

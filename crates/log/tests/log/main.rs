//! The crate from outside: disks that crash, files that rot, callers that do not wait.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

mod backpressure;
mod crashes;
mod disks;
mod frames;
mod garbage;
mod golden;
mod heads;
mod journals;
mod real;
mod runs;
mod support;

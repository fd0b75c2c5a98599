//! Lets held messages go: level-triggered, paced, asked again at the last moment, and recorded.
//!
//! [`Releaser::tick`] does a bounded amount of work and says when to wake it. The daemon loops it
//! ([`run`]), `drain` runs it until the hold is empty, the simulator runs thousands of nights.
//!
//! Within a tick several rounds are under way at once ([`line`]): while one is handed over, the
//! next is lent, decided and put on file, and what came of the one before is filed and settled.
//! When a tick returns, nothing of it is under way any more; ticks of one lane never overlap.

pub mod attempts;
mod books;
pub mod budget;
pub mod forecast;
pub mod freeze;
pub mod lane;
pub mod limiter;
mod line;
mod outcome;
pub mod plan;
mod prepare;
pub mod releaser;
pub mod run;
pub mod skew;
mod tally;
#[cfg(test)]
mod tests;

pub use lane::{LaneOptions, LaneReleaser, LaneStatus, OnUnknown};
pub use releaser::{Releaser, ReleaserParts, Shared};
pub use tally::Tick;

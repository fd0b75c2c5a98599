//! Lets held messages go: level-triggered, paced, asked again at the last moment, and recorded.
//!
//! [`Releaser::tick`] does a bounded amount of work and says when to wake it. The daemon loops it
//! ([`run`]), `drain` runs it until the hold is empty, the simulator runs thousands of nights.

pub mod backoff;
pub mod forecast;
pub mod freeze;
mod handover;
pub mod lane;
pub mod limiter;
pub mod plan;
pub mod releaser;
pub mod run;
mod tally;
mod trail;

pub use lane::{LaneOptions, LaneReleaser, LaneStatus, OnUnknown};
pub use releaser::{Releaser, ReleaserParts};
pub use tally::Tick;

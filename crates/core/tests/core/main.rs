//! The core as its users see it: every promise of the public API, by topic.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod consents;
mod decisions;
mod holds;
mod hours;
mod packs;
mod places;
mod properties;
mod rounds;
mod sentences;
mod support;

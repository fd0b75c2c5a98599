//! What a tick did, as numbers that add up.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What one tick did, and when the next is worth it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tick {
    /// Taken by the sink.
    pub delivered: u64,
    /// Held again: windows closed, consent book silent, permit or loan ended first.
    pub held: u64,
    /// Refused by our rules.
    pub refused: u64,
    /// Refused because their life had ended.
    pub expired: u64,
    /// Not taken, to be tried again.
    pub retried: u64,
    /// Rejected by the provider.
    pub rejected: u64,
    /// May have gone: nobody can tell.
    pub unknown: u64,
    /// Put aside until a person looks.
    pub buried: u64,
    /// Settled too late: the loan was somebody else's by then.
    pub lapsed: u64,
    /// Still due when the tick ended.
    pub remaining: u64,
    /// On loan to others when the tick began: they may come back.
    pub on_loan: u64,
    /// When the next tick is worth it; `None` when nothing is held.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub wake: Option<Timestamp>,
}

impl Tick {
    /// Whether anything left the hold for good or changed place.
    #[must_use]
    pub fn moved(&self) -> bool {
        let gone = self.delivered + self.refused + self.expired + self.rejected;
        gone + self.buried + self.held > 0
    }

    /// Adds the work of another lane; wakes at the earlier instant.
    pub fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.held += other.held;
        self.refused += other.refused;
        self.expired += other.expired;
        self.retried += other.retried;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.buried += other.buried;
        self.lapsed += other.lapsed;
        self.remaining += other.remaining;
        self.on_loan += other.on_loan;
        self.wake = match (self.wake, other.wake) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
    }
}

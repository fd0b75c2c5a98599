//! Who handed a message over, and what came of it: what a hold cannot know.
//!
//! A hold may lend a message whose earlier loan lapsed, and one that does not know ids (`dedupe`)
//! may have the same message twice: a producer's retry, a queue that delivers again. The releaser
//! asks here before it hands anything over, and tells here what came of it. How much is known
//! depends on where it is kept: [`receipts`] know only what the hold says has lapsed; a table of
//! claims (`record`) tells copies of one message apart as well.

#[cfg(feature = "dynamodb")]
pub mod dynamodb;
pub mod memory;
pub mod receipts;
mod record;

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate_core::MessageId;

use crate::error::Result;
use crate::hold::{Leased, Token};

/// How far a message came, as far as anyone can prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trail {
    /// Never handed over, or certainly not taken: it may leave.
    Clear,
    /// Handed over, and no outcome was recorded: it may have gone.
    Open,
    /// Somebody else has it in hand, whose loan runs until then.
    Running {
        /// The first instant at which that loan is over.
        until: Timestamp,
    },
    /// Put aside, but the hold was not told.
    Buried,
    /// The provider said never, but the hold was not told.
    Rejected,
    /// The sink took it, but the hold was not told.
    Delivered,
    /// Another copy of the same message was handed over, with a known end.
    Elsewhere,
}

/// One copy of a message on one loan: whose turn it is to hand it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The caller's id, the same for all copies.
    pub id: MessageId,
    /// When this copy was accepted, which stays as it is however often it is put back: it tells the
    /// copies of one message apart.
    pub copy: Timestamp,
    /// The loan.
    pub token: Token,
    /// The first instant at which the loan is over. Nothing is handed over any more by then.
    pub until: Timestamp,
    /// The hold says that an earlier loan of this copy lapsed.
    pub lapsed: bool,
}

impl Claim {
    /// The claim that goes with a loan.
    #[must_use]
    pub fn of(leased: &Leased) -> Self {
        Self {
            id: leased.held.message.id.clone(),
            copy: leased.held.accepted_at,
            token: leased.token,
            until: leased.until,
            lapsed: leased.lapsed,
        }
    }
}

/// A claim that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// Whose.
    pub claim: Claim,
    /// Whether it may be handed over although it may have gone before: the lane's policy.
    pub again: bool,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The sink took it.
    Delivered,
    /// The provider says never.
    Rejected,
    /// Not handed over, or certainly not taken: whoever comes next may.
    Free,
    /// It may have gone, and a person is to look. That person may bring it back.
    PutAside,
}

/// Where hand-overs are claimed and their ends are kept.
#[async_trait]
pub trait Attempts: Send + Sync {
    /// Whether hand-overs are claimed, so that copies of one message are told apart. Without it
    /// `claim` and `conclude` are not asked.
    fn claims(&self) -> bool;

    /// What is known of messages whose loans lapsed; one answer each, in order.
    async fn trails(&self, lapsed: &[Claim], now: Timestamp) -> Result<Vec<Trail>>;

    /// Claims hand-overs; one answer each, in order. [`Trail::Clear`]: it is ours, durably, until
    /// it is concluded or its loan is over. Claiming twice with one loan is claiming once. A
    /// message whose claim failed must not leave.
    async fn claim(&self, tries: &[Try], now: Timestamp) -> Vec<Result<Trail>>;

    /// Keeps what became of claims. A claim that is not concluded counts as one that may have gone
    /// once its loan is over. [`Fate::PutAside`] may be told of a copy that never had the claim.
    async fn conclude(&self, ended: Vec<(Claim, Fate)>, now: Timestamp) -> Result<()>;
}

//! The port behind which consents live. History is kept for proof; the current state for decisions.

#[cfg(feature = "dynamodb")]
pub mod dynamodb;
pub mod http;
pub mod import;
pub mod memory;
#[cfg(feature = "mongodb")]
pub mod mongodb;
#[cfg(feature = "redis")]
pub mod redis;
pub mod sqlite;

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate_core::consent::Grant;
use nightgate_core::{Basis, Consent, RecipientKey, Scope};
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// What a recipient did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "act")]
pub enum Act {
    /// Agreed, or confirmed an agreement.
    Grant(Basis),
    /// Took it back.
    Withdraw,
}

/// One event in a recipient's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentEvent {
    /// Who.
    pub key: RecipientKey,
    /// Which agreement.
    pub scope: Scope,
    /// What.
    pub act: Act,
    /// When it happened (not when it was recorded).
    pub at: Timestamp,
    /// Where it was recorded from, for proof: `import users.csv`, `http`, `cli`.
    pub source: String,
}

impl ConsentEvent {
    /// Adds this event to what is known of its recipient. The one place where history becomes
    /// state; the order of events means nothing.
    pub fn fold_into(&self, consent: &mut Consent) {
        match self.act {
            Act::Grant(basis) => consent.grant(self.scope, Grant { at: self.at, basis }),
            Act::Withdraw => consent.withdraw(self.scope, self.at),
        }
    }

    /// Order in a history: oldest first. Equal for the same event, wherever it was recorded from.
    pub(crate) fn order(&self) -> (Timestamp, Scope, u8, Option<Timestamp>) {
        let (act, ends) = match self.act {
            Act::Grant(Basis::Explicit) => (0, None),
            Act::Grant(Basis::TransactionException { ends }) => (1, Some(ends)),
            Act::Withdraw => (2, None),
        };
        (self.at, self.scope, act, ends)
    }
}

/// Where consents live.
#[async_trait]
pub trait ConsentBook: Send + Sync {
    /// The consents of each recipient, in order; a recipient never heard of has the empty consent.
    async fn look_up(&self, keys: &[RecipientKey]) -> Result<Vec<Consent>>;

    /// Records events; durable when it returns. The same event twice is recorded once.
    /// Says how many were new.
    async fn record(&self, events: Vec<ConsentEvent>) -> Result<u64>;

    /// A recipient's events, oldest first.
    async fn history(&self, key: &RecipientKey) -> Result<Vec<ConsentEvent>>;

    /// How many recipients the book knows.
    async fn count(&self) -> Result<u64>;
}

#[cfg(test)]
mod tests;

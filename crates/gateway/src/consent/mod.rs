//! The port behind which consents live. History is kept for proof; the current state for decisions.

pub mod import;
pub mod memory;
pub mod sqlite;

use async_trait::async_trait;
use jiff::Timestamp;
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

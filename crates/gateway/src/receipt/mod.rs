//! The port behind which receipts live: the durable record of every decision and every outcome.

mod columns;
pub mod export;
pub mod lines;
pub mod memory;
#[cfg(feature = "mongodb")]
pub mod mongodb;
#[cfg(feature = "redis")]
pub mod redis;
pub mod sqlite;
#[cfg(feature = "sqs")]
pub mod sqs;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate_core::{Channel, Message, MessageId, Purpose, Reason, RecipientKey};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::lane::Lane;

/// Most receipts that one query answers with: some 10 MB. Page on with [`ReceiptAsk::after`].
pub const PAGE_MAX: usize = 10_000;

/// What a receipt records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Decision at ingest: may leave now.
    Accepted,
    /// Decision, at ingest or hand-over: not now.
    Held,
    /// Decision, at ingest or hand-over: never.
    Refused,
    /// Decision at hand-over: its life has ended.
    Expired,
    /// Decision at hand-over: may leave now, and is about to be handed over. Durable before it is.
    Attempted,
    /// Outcome: the sink took it.
    Delivered,
    /// Outcome: not taken, may be tried again.
    Retry,
    /// Outcome: the provider says never.
    Rejected,
    /// Outcome: it may have gone; nobody can tell.
    Unknown,
    /// Put aside until a person looks.
    Buried,
    /// Taken back by a person or a producer. Stands for `count` messages.
    Recalled,
    /// Brought back from the buried by a person. Stands for `count` messages.
    Kicked,
}

impl Event {
    /// Every event, in declaration order.
    pub const ALL: [Self; 12] = [
        Self::Accepted,
        Self::Held,
        Self::Refused,
        Self::Expired,
        Self::Attempted,
        Self::Delivered,
        Self::Retry,
        Self::Rejected,
        Self::Unknown,
        Self::Buried,
        Self::Recalled,
        Self::Kicked,
    ];

    /// The one name used in JSON and storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Held => "held",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Attempted => "attempted",
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
            Self::Buried => "buried",
            Self::Recalled => "recalled",
            Self::Kicked => "kicked",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whom and what a receipt is about. A recall of a campaign names only the campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The message.
    pub message: Option<MessageId>,
    /// Its recipient, canonical. Personal data.
    pub recipient: Option<RecipientKey>,
    /// Its campaign.
    pub campaign: Option<Arc<str>>,
    /// Its lane.
    pub lane: Option<Lane>,
    /// Its purpose.
    pub purpose: Option<Purpose>,
    /// Its channel.
    pub channel: Option<Channel>,
}

impl Subject {
    /// All there is to say about one message.
    #[must_use]
    pub fn of(message: &Message, key: &RecipientKey, lane: &Lane) -> Self {
        Self {
            message: Some(message.id.clone()),
            recipient: Some(key.clone()),
            campaign: message.campaign.clone(),
            lane: Some(lane.clone()),
            purpose: Some(message.purpose),
            channel: Some(message.channel),
        }
    }
}

/// One receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The gateway's wall clock when it was written.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
    /// To whom and what.
    pub subject: Subject,
    /// Which hand-over this belongs to: 0 at ingest, then 1, 2, ...
    pub attempt: u32,
    /// How many messages it stands for; 1 but for recalls and kicks.
    pub count: u64,
    /// Until when it was held, or when the permit ends.
    pub until: Option<Timestamp>,
    /// Why: rule, ruleset version, zone and its source, consent snapshot. `None` for outcomes.
    pub reason: Option<Reason>,
    /// What the sink or the person said. No personal data.
    pub detail: Option<String>,
}

impl Receipt {
    /// A receipt that says only what happened, to whom and when; fill in the rest with `..`.
    #[must_use]
    pub fn of(event: Event, subject: Subject, at: Timestamp) -> Self {
        let (attempt, count) = (0, 1);
        Self {
            at,
            event,
            subject,
            attempt,
            count,
            until: None,
            reason: None,
            detail: None,
        }
    }
}

/// A receipt with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filed {
    /// Place in the log; grows, never reused.
    pub seq: u64,
    /// The receipt.
    #[serde(flatten)]
    pub receipt: Receipt,
}

/// Which receipts. All conditions hold together; the default asks for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiptAsk {
    /// Of this message.
    pub message: Option<MessageId>,
    /// Of this recipient.
    pub recipient: Option<RecipientKey>,
    /// Of this campaign.
    pub campaign: Option<Arc<str>>,
    /// At or after this instant.
    pub from: Option<Timestamp>,
    /// Before this instant.
    pub to: Option<Timestamp>,
    /// Filed after this place: for paging.
    pub after: Option<u64>,
    /// At most so many, and never more than [`PAGE_MAX`]; 0 asks for as many as that.
    pub max: usize,
}

/// Where receipts live.
#[async_trait]
pub trait ReceiptLog: Send + Sync {
    /// Files receipts; durable when it returns. Their places follow one another in this order.
    async fn append(&self, receipts: Vec<Receipt>) -> Result<()>;

    /// The receipts asked for, in the order they were filed.
    async fn query(&self, ask: &ReceiptAsk) -> Result<Vec<Filed>>;

    /// For each message: has any receipt been filed?
    async fn known(&self, ids: &[MessageId]) -> Result<Vec<bool>>;

    /// For each message: the events of its receipts, in the order they were filed. Asked of many at
    /// once, because those that left together stand together.
    async fn events(&self, ids: &[MessageId]) -> Result<Vec<Vec<Event>>> {
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            let mut ask = ReceiptAsk {
                message: Some(id.clone()),
                ..ReceiptAsk::default()
            };
            let mut events = Vec::new();
            loop {
                let page = self.query(&ask).await?;
                events.extend(page.iter().map(|filed| filed.receipt.event));
                match page.last() {
                    Some(last) if page.len() == ask.page() => ask.after = Some(last.seq),
                    _ => break,
                }
            }
            all.push(events);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests;

//! Taking back what is held. SQS cannot pick a message, so what is taken back is marked elsewhere
//! and never lent: it is deleted when it comes.

#[cfg(feature = "dynamodb")]
pub mod dynamodb;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::{MessageId, RecipientKey};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;

use super::worth::after;
use crate::error::Result;
use crate::hold::{Held, Lane, Scope};

/// Marks of the last while are read again: another process may have written late.
const OVERLAP: SignedDuration = SignedDuration::from_mins(5);
/// Marks are read again after so long, of monotonic time.
const READ_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// What was taken back, and when: messages accepted at or before `at`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Which messages.
    pub scope: Scope,
    /// Accepted up to then.
    pub at: Timestamp,
}

/// Where marks are kept. They must outlive the messages: 14 days.
#[async_trait]
pub trait Marks: Send + Sync {
    /// Keeps a mark; durable when it returns `Ok`.
    async fn add(&self, mark: Mark) -> Result<()>;

    /// All marks made at or after an instant, in any order; a mark may come twice.
    async fn since(&self, from: Timestamp) -> Result<Vec<Mark>>;
}

/// Marks in memory: for tests and for trying out. Nothing survives it.
#[derive(Debug, Default)]
pub struct MemoryMarks(Mutex<Vec<Mark>>);

#[async_trait]
impl Marks for MemoryMarks {
    async fn add(&self, mark: Mark) -> Result<()> {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.push(mark);
        Ok(())
    }

    async fn since(&self, from: Timestamp) -> Result<Vec<Mark>> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let late = marks.iter().filter(|mark| mark.at >= from);
        Ok(late.cloned().collect())
    }
}

/// Marks by what they name: the latest instant of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    ids: HashMap<MessageId, Timestamp>,
    campaigns: HashMap<Arc<str>, Timestamp>,
    recipients: HashMap<RecipientKey, Timestamp>,
    lanes: HashMap<Lane, Timestamp>,
}

impl Index {
    fn add(&mut self, mark: Mark) {
        let at = mark.at;
        let kept = match mark.scope {
            Scope::Id(id) => self.ids.entry(id).or_insert(at),
            Scope::Campaign(name) => self.campaigns.entry(name).or_insert(at),
            Scope::Recipient(key) => self.recipients.entry(key).or_insert(at),
            Scope::Lane(lane) => self.lanes.entry(lane).or_insert(at),
        };
        *kept = at.max(*kept);
    }

    /// Whether a message was taken back.
    pub(super) fn bites(&self, held: &Held) -> bool {
        let campaign = held.message.campaign.as_ref();
        let marks = [
            self.ids.get(&held.message.id),
            campaign.and_then(|name| self.campaigns.get(name)),
            self.recipients.get(&held.key),
            self.lanes.get(&held.lane),
        ];
        marks
            .into_iter()
            .flatten()
            .any(|at| held.accepted_at <= *at)
    }
}

/// Marks as they were read lately.
pub(super) struct Reader {
    pub(super) marks: Arc<dyn Marks>,
    read: AsyncMutex<Read>,
}

#[derive(Default)]
struct Read {
    index: Arc<Index>,
    /// When they were read, in monotonic and in wall time.
    at: Option<(std::time::Duration, Timestamp)>,
}

impl Reader {
    pub(super) fn new(marks: Arc<dyn Marks>) -> Self {
        Self {
            marks,
            read: AsyncMutex::default(),
        }
    }

    /// Keeps a mark, and has it read again by the next lease.
    pub(super) async fn add(&self, mark: Mark) -> Result<()> {
        let mut read = self.read.lock().await;
        self.marks.add(mark.clone()).await?;
        Arc::make_mut(&mut read.index).add(mark);
        Ok(())
    }

    /// The marks as they were at most a second ago; of the last `back` at least.
    pub(super) async fn index(
        &self,
        now: Timestamp,
        monotonic: std::time::Duration,
        back: SignedDuration,
    ) -> Result<Arc<Index>> {
        let mut read = self.read.lock().await;
        let fresh = |at: std::time::Duration| monotonic.saturating_sub(at) < READ_EVERY;
        if read.at.is_some_and(|(at, _)| fresh(at)) {
            return Ok(Arc::clone(&read.index));
        }
        let from = read
            .at
            .map_or(after(now, -back), |(_, at)| after(at, -OVERLAP));
        let marks = self.marks.since(from).await?;
        if !marks.is_empty() {
            let index = Arc::make_mut(&mut read.index);
            marks.into_iter().for_each(|mark| index.add(mark));
        }
        read.at = Some((monotonic, now));
        Ok(Arc::clone(&read.index))
    }
}

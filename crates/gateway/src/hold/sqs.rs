//! The hold on SQS. A lane is a ready queue (due, or due within 15 minutes, which SQS's own delay
//! covers), wait queues by opening, and a queue of what is buried.
//!
//! SQS is a weak hold and says so ([`Capability`]): it knows no ids and no order, it cannot pick a
//! message, its counts are approximate, it may deliver twice, and it keeps a message for 14 days.
//! What it does well: it takes in as much as anybody sends, and nobody has to keep it running.
//!
//! A message whose due is far is received now and then (a probe) and hidden until its due; `lapse`
//! tells such receives from loans that lapsed.
//!
//! Whatever is put back or aside is sent anew first and deleted then. A process killed in between
//! leaves both: the old one comes back as lapsed, so that advertising is buried and not sent twice.

mod body;
mod kick;
mod lane;
mod lapse;
mod lease;
mod loans;
pub mod marks;
mod open;
mod put;
mod send;
mod settle;
mod shelves;
mod stops;
mod worth;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Class, MessageId};

use self::lane::LaneQueues;
use self::loans::Loans;
use self::marks::{Index, Mark, Marks, Reader};
use self::stops::Stops;
use super::{
    Capability, Damage, Found, Held, HoldStore, Lane, LeaseAsk, Leased, Pause, Put, Recalled, Room,
    Scope, Settle, Settled, Shelf, State, unsupported,
};
use crate::aws::queues::{Fault, Queues, RETENTION_MAX};
use crate::clock::Clock;
use crate::config::Opening;
use crate::error::{Error, Kind, Result};

/// How long a queue is left alone at most, unless configured.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// Receives of one lease that are under way at once, unless configured.
const POLLERS: usize = 8;

/// How the hold is laid out.
#[derive(Clone)]
pub struct SqsHoldOptions {
    /// What the names of its queues begin with.
    pub prefix: String,
    /// Its lanes.
    pub lanes: Vec<Lane>,
    /// Times of day that have wait queues of their own.
    pub openings: Vec<Opening>,
    /// A queue is left alone for so long at most.
    pub probe_every: Duration,
    /// Receives of one lease that are under way at once.
    pub pollers: usize,
    /// Where recalls are kept; without it nothing can be recalled.
    pub marks: Option<Arc<dyn Marks>>,
}

impl SqsHoldOptions {
    /// The defaults for these lanes under names that begin with `prefix`.
    #[must_use]
    pub fn new(prefix: &str, lanes: Vec<Lane>) -> Self {
        Self {
            prefix: prefix.to_owned(),
            lanes,
            openings: Vec::new(),
            probe_every: PROBE_EVERY,
            pollers: POLLERS,
            marks: None,
        }
    }
}

/// The hold on SQS. See the module's text.
pub struct SqsHold {
    queues: Arc<dyn Queues>,
    clock: Arc<dyn Clock>,
    pollers: usize,
    lanes: BTreeMap<Lane, LaneQueues>,
    loans: Mutex<Loans>,
    marks: Option<Reader>,
    stops: Stops,
    chance: Mutex<fastrand::Rng>,
    /// Messages moved aside because they do not read.
    poison: AtomicU64,
    /// Messages seen lately that their queue will soon drop.
    aged: AtomicU64,
}

impl SqsHold {
    fn lane(&self, lane: &Lane) -> Result<&LaneQueues> {
        self.lanes.get(lane).ok_or_else(|| {
            let op = format!("find the queues of the lane `{lane}`: it was not configured");
            Error::new(Kind::Invalid, "hold", op)
        })
    }

    fn loans(&self) -> MutexGuard<'_, Loans> {
        self.loans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets loans that are over; their messages are there again.
    fn purge(&self, now: Timestamp) {
        let over = self.loans().purge(now);
        for (lane, place, until) in over {
            if let Some(lane) = self.lanes.get(&lane) {
                lane.places[place].state().worth.note(until);
            }
        }
    }

    /// A seed for jitter.
    fn chance(&self) -> u64 {
        let mut dice = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        dice.u64(..)
    }

    async fn index(&self, now: Timestamp) -> Result<Option<Arc<Index>>> {
        let Some(reader) = &self.marks else {
            return Ok(None);
        };
        let back = SignedDuration::try_from(RETENTION_MAX).unwrap_or(SignedDuration::MAX);
        let index = reader.index(now, self.clock.monotonic(), back).await?;
        Ok(Some(index))
    }
}

/// A fault of SQS as the hold tells it.
fn failed(op: impl Into<String>, fault: Fault) -> Error {
    Error::new(Kind::Unavailable, "hold", op).with(fault)
}

#[async_trait]
impl HoldStore for SqsHold {
    fn name(&self) -> &'static str {
        "sqs"
    }

    fn capability(&self) -> Capability {
        Capability {
            durable: true,
            dedupe: false,
            order: false,
            pick: false,
            exact_depth: false,
            find: false,
            ended: false,
            files: false,
            prompt: false,
            recall: self.marks.is_some(),
            redate: false,
        }
    }

    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        self.put_all(messages, now).await
    }

    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        self.lend(ask).await
    }

    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        Ok(self.end_all(settlements, now).await)
    }

    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        Ok(Some(self.next_worth(self.lane(lane)?, now)))
    }

    async fn shelves(&self, lane: Option<&Lane>, due_by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        self.depth(lane, due_by).await
    }

    /// Nothing is known of any id: SQS cannot be asked for one.
    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        Ok(ids.iter().map(|_| None).collect())
    }

    /// Buried messages alone; they are hidden meanwhile. In any order.
    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        match state {
            State::Buried => self.list_buried(lane, max).await,
            _ => Err(unsupported(self.name(), "list any but buried messages")),
        }
    }

    /// Marks what is taken back: it is deleted when it comes, and counted as nothing.
    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        let Some(reader) = &self.marks else {
            return Err(unsupported(self.name(), "recall without recall marks"));
        };
        let scope = scope.clone();
        reader.add(Mark { scope, at: now }).await?;
        Ok(Recalled::default())
    }

    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        self.bring_back(scope, now).await
    }

    async fn redate(&self, _: &Lane, _: &Class, _: Timestamp, _: Timestamp) -> Result<u64> {
        Err(unsupported(
            self.name(),
            "move whole shelves to another due",
        ))
    }

    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        self.stop(lane, paused, now).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>> {
        self.all_stops().await
    }

    /// Nothing to forget. Warns of messages that their queue will soon drop.
    async fn sweep(&self, _: Timestamp) -> Result<u64> {
        let aged = self.aged.swap(0, Ordering::Relaxed);
        if aged > 0 {
            tracing::warn!(
                messages = aged,
                "messages have been held for more than 80 % of what their SQS queue keeps them; \
                 it will drop them"
            );
        }
        Ok(0)
    }

    async fn check(&self) -> Result<()> {
        for lane in self.lanes.values() {
            let queue = &lane.places[lane::READY].queue;
            let looked = self.queues.look(queue).await;
            looked.map_err(|fault| failed(format!("look at the queue {queue}"), fault))?;
        }
        Ok(())
    }

    async fn room(&self) -> Result<Room> {
        let smallest = self.lanes.values().map(|lane| lane.bytes_max as u64).min();
        Ok(Room {
            message_max: smallest,
            ..Room::default()
        })
    }

    async fn damage(&self) -> Result<Damage> {
        Ok(Damage {
            messages: self.poison.load(Ordering::Relaxed),
            copied_aside: Vec::new(),
        })
    }
}

//! The hold in MongoDB, for any number of processes at once.
//!
//! A message is a document, its head, which carries its id (unique), where it is, and who has it on
//! loan; what ended stays there without its body until the horizon. Its body is a document of its
//! own in a collection by lane and opening, which is dropped whole once nothing in it is held: the
//! disk gets its space back, and lending rewrites no bodies.
//!
//! There are no transactions. Every step is one conditional write to one document, so what happens
//! in between at worst leaves a body without a head, which is dropped along with its collection.
//! A loan is proved by the message's number and the count of its loans: an older one matches
//! nothing.

mod document;
mod lease;
mod place;
mod put;
mod query;
mod recall;
mod schema;
mod settle;
mod shelf;
mod sweep;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::mongodb::Collection;
use ::mongodb::bson::{Bson, Document};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Class, MessageId};

pub use self::schema::VERSION;
use self::schema::{ARRIVALS, CHECKS, COUNTERS, MESSAGES};
use super::instant::nanos;
use super::{
    Capability, Damage, Export, Found, HORIZON_DEFAULT, Held, HoldStore, Lane, LeaseAsk, Leased,
    Pause, Put, Recalled, Scope, Settle, Settled, Shelf, State,
};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::mongodb::{Mongo, Op};

/// Most values of one `$in`: some tens of kilobytes.
const IN_MAX: usize = 1_000;

/// How the hold is kept.
#[derive(Clone, Debug)]
pub struct MongoHoldOptions {
    /// How long an id is remembered after its message ended.
    pub horizon: SignedDuration,
}

impl Default for MongoHoldOptions {
    fn default() -> Self {
        Self {
            horizon: HORIZON_DEFAULT,
        }
    }
}

/// The hold in MongoDB. See the module's text.
pub struct MongoHold {
    mongo: Mongo,
    clock: Arc<dyn Clock>,
    horizon: SignedDuration,
    /// Messages put aside because they do not read.
    damaged: AtomicU64,
}

impl fmt::Debug for MongoHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoHold").finish_non_exhaustive()
    }
}

impl MongoHold {
    /// Opens the hold in the database of `mongo`, and makes what is missing.
    ///
    /// # Errors
    /// `Invalid` when a newer program wrote it, `Unavailable` when the server does not answer.
    pub async fn open(
        mongo: Mongo,
        options: MongoHoldOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        schema::prepare(&mongo).await?;
        Ok(Self {
            mongo,
            clock,
            horizon: options.horizon,
            damaged: AtomicU64::new(0),
        })
    }

    fn messages(&self) -> Collection<Document> {
        self.mongo.collection(MESSAGES)
    }

    /// Numbers for `many` arrivals, behind all that were given before.
    async fn arrivals(&self, op: Op<'_>, many: usize) -> Result<RangeInclusive<i64>> {
        let many = i64::try_from(many).unwrap_or(i64::MAX);
        let last = self.mongo.count_up(op, COUNTERS, ARRIVALS, many).await?;
        Ok(last - many + 1..=last)
    }

    /// Updates all that match; says how many did.
    async fn update(&self, op: Op<'_>, which: Document, how: Document) -> Result<u64> {
        let messages = self.messages();
        let update = async { messages.update_many(which, how).await };
        Ok(self.mongo.call(op, update).await?.matched_count)
    }

    /// The last instant at which something may have ended to be forgotten at `now`.
    fn forgotten_by(&self, now: Timestamp) -> i64 {
        let horizon = i64::try_from(self.horizon.as_nanos()).unwrap_or(i64::MAX);
        nanos(now).saturating_sub(horizon).saturating_sub(1)
    }
}

/// What a call of the hold wants, for its error.
fn op(what: &str) -> Op<'_> {
    Op { part: "hold", what }
}

/// Numbers for a `$in`.
fn numbers(of: impl IntoIterator<Item = i64>) -> Vec<Bson> {
    of.into_iter().map(Bson::Int64).collect()
}

/// A number as others know it.
fn natural(number: i64) -> u64 {
    number.cast_unsigned()
}

fn corrupt(what: impl fmt::Display) -> Error {
    let op = format!("read the hold in MongoDB: {what}");
    Error::new(Kind::Corrupt, "hold", op)
}

#[async_trait]
impl HoldStore for MongoHold {
    fn name(&self) -> &'static str {
        "mongodb"
    }

    fn capability(&self) -> Capability {
        Capability {
            durable: true,
            dedupe: true,
            order: true,
            pick: true,
            exact_depth: true,
            find: true,
            ended: true,
            files: false,
            prompt: true,
            recall: true,
            redate: true,
        }
    }

    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        self.put_all(messages, now).await
    }

    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        self.lend(ask).await
    }

    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        self.end_all(settlements, now).await
    }

    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        self.earliest(lane, now).await
    }

    async fn shelves(&self, lane: Option<&Lane>, due_by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        self.count_shelves(lane, due_by).await
    }

    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        self.look_up(ids).await
    }

    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        self.list_some(state, lane, max).await
    }

    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        self.take_back(scope, now).await
    }

    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        self.bring_back(scope, now).await
    }

    async fn redate(
        &self,
        lane: &Lane,
        class: &Class,
        now: Timestamp,
        to: Timestamp,
    ) -> Result<u64> {
        self.move_shelves(lane, class, now, to).await
    }

    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        self.stop(lane, paused, now).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>> {
        self.stops().await
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        let forgotten = self.forget(now).await?;
        self.drop_places(now).await?;
        Ok(forgotten)
    }

    async fn check(&self) -> Result<()> {
        // Only a write shows that writing works.
        let op = op("check that it can be written");
        self.mongo.count_up(op, COUNTERS, CHECKS, 1).await?;
        Ok(())
    }

    async fn damage(&self) -> Result<Damage> {
        Ok(Damage {
            messages: self.damaged.load(Ordering::Relaxed),
            copied_aside: Vec::new(),
        })
    }

    async fn export(&self, from: u64, max_bytes: usize) -> Result<Export> {
        self.export_some(from, max_bytes).await
    }
}

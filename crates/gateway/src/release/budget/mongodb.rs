//! One lane's pace, kept together by all gateways that share a MongoDB.
//!
//! A bucket for each lane: one document, filled and emptied by the server's clock. How it is taken
//! from, and why the receiver never gets more than rate x t + burst, stands in `slices.rs`. The
//! server runs nothing for us (no updates by pipeline), so each taker reads its clock and the
//! document, reckons, and writes on condition that the document is still of the version it read:
//! otherwise somebody was quicker, and it reads both anew.
//!
//! # Why an old time is safe
//! The time is read before the write, and a taker may be stopped in between. It is never later than
//! the instant of the write, so it fills the bucket with less, never more, and the document's own
//! time never goes back for it. What was taken is good from the instant before the server was asked
//! for the time: somebody who was stopped meanwhile finds that its leave has ended. The server cuts
//! its time to the millisecond: so leave ends a millisecond earlier.
//!
//! A clock that was set back, by hand or because a member whose clock is behind became primary,
//! shows less than the document by more than the answers took on their way. Then the bucket goes
//! on from the new time with what is in it, and without what was given back; set back by less than
//! a second, what was given back ends so much later. A clock that is set forward fills the bucket
//! once, up to half of the burst.
//!
//! Writes are of a majority: one that a failover takes back would give its slice a second time.

mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use ::mongodb::Collection;
use ::mongodb::bson::{Document, doc};
use async_trait::async_trait;

use self::state::{Given, State};
use super::slices::{Ask, Bucket, Shared, Slice, Way};
use super::{Allowance, Budget, Own};
use crate::clock::Clock;
use crate::error::Result;
use crate::lane::Lane;
use crate::mongodb::{Mongo, Op, Read};
use crate::release::limiter::Pace;

/// The buckets, a document a lane.
const PACES: &str = "paces";
/// How often the document was written.
const VERSION: &str = "version";
/// A slice is good for so long at least: leasing, deciding and filing attempts happen in it, each
/// of them some writes that a majority has in its journal.
pub const GOOD_MIN: Duration = Duration::from_millis(250);
/// How often what others changed meanwhile is read anew.
const TRIES: usize = 5;
/// When to ask again where others were quicker every time.
const BUSY: Duration = Duration::from_millis(20);
/// The server's clock is cut to so much.
const CUT: Duration = Duration::from_millis(1);

const OP: Op<'static> = Op {
    part: "release",
    what: "take leave of the shared rate",
};

/// The shared budget.
#[derive(Clone)]
pub struct MongoBudget {
    mongo: Mongo,
    /// Tests tell the time; otherwise the server does.
    told: Option<Arc<dyn Clock>>,
}

impl MongoBudget {
    /// Leave for every lane from the database of `mongo`. All gateways on it must have the same
    /// pace for a lane.
    #[must_use]
    pub fn new(mongo: Mongo) -> Self {
        Self { mongo, told: None }
    }

    /// The server's clock, in milliseconds.
    async fn time(&self) -> Result<i64> {
        let time = match &self.told {
            Some(clock) => clock.now(),
            None => self.mongo.time().await?,
        };
        Ok(time.as_millisecond())
    }
}

impl Budget for MongoBudget {
    fn allowance(&self, lane: &Lane, pace: Pace, clock: &Arc<dyn Clock>) -> Box<dyn Allowance> {
        let Some(bucket) = Bucket::of(pace, GOOD_MIN) else {
            return Own.allowance(lane, pace, clock);
        };
        let sheet = Sheet {
            lane: lane.clone(),
            budget: self.clone(),
            bucket,
            clock: Arc::clone(clock),
        };
        Box::new(Shared::new(sheet, bucket, clock))
    }
}

/// The document of one lane's bucket.
struct Sheet {
    lane: Lane,
    budget: MongoBudget,
    bucket: Bucket,
    clock: Arc<dyn Clock>,
}

/// A bucket as it was read.
struct Seen {
    version: i64,
    state: State,
    /// The server's clock just before, in milliseconds.
    now: i64,
    /// How long both answers took together.
    took: Duration,
}

impl Sheet {
    fn all(&self) -> Collection<Document> {
        self.budget.mongo.collection(PACES)
    }

    /// Reads clock and bucket; makes one that is full where there is none.
    async fn read(&self) -> Result<Seen> {
        let (all, mongo) = (self.all(), &self.budget.mongo);
        let this = doc! { "_id": self.lane.as_str() };
        let began = self.clock.monotonic();
        let find = || async { all.find_one(this.clone()).await };
        let read = async { tokio::try_join!(self.budget.time(), mongo.call(OP, find())) };
        let (now, found) = read.await?;
        let (version, state) = match &found {
            Some(found) => (version(found)?, State::read(found, OP.part)?),
            None => {
                let mut fresh = State::full().document();
                fresh.insert(VERSION, 0_i64);
                mongo.note(OP, &all, this.clone(), fresh).await?;
                (0, State::full())
            }
        };
        Ok(Seen {
            version,
            state,
            now,
            took: self.clock.monotonic().saturating_sub(began),
        })
    }

    /// Writes `state` unless somebody was quicker; says whether it did.
    async fn write(&self, seen: &Seen, state: &State) -> Result<bool> {
        let this = doc! { "_id": self.lane.as_str(), VERSION: seen.version };
        let mut set = state.document();
        set.insert(VERSION, seen.version + 1);
        let all = self.all();
        let write = async {
            let write = all.find_one_and_update(this, doc! { "$set": set });
            write.projection(doc! { "_id": 1 }).await
        };
        let was = self.budget.mongo.call(OP, write).await?;
        Ok(was.is_some())
    }
}

#[async_trait]
impl Way for Sheet {
    async fn ask(&self, ask: Ask) -> Result<(Slice, Duration)> {
        let mut monotonic = ask.monotonic;
        for _ in 0..TRIES {
            let seen = self.read().await?;
            let mut state = seen.state.at(seen.now, seen.took);
            let Given {
                messages,
                good,
                wait,
            } = state.take(&self.bucket, ask.want, ask.slowly, seen.now);
            if self.write(&seen, &state).await? {
                let until = monotonic.saturating_add(good).saturating_sub(CUT);
                let ends = seen.now.saturating_add_unsigned(state::millis(good));
                let given = Slice {
                    messages,
                    until,
                    ends: ends.unsigned_abs(),
                };
                return Ok((given, wait));
            }
            monotonic = self.clock.monotonic();
        }
        Ok((Slice::default(), BUSY))
    }

    async fn give_back(&self, slice: Slice) -> Result<()> {
        for _ in 0..TRIES {
            let seen = self.read().await?;
            let mut state = seen.state.at(seen.now, seen.took);
            let ends = i64::try_from(slice.ends).unwrap_or(i64::MAX);
            let gives = state.give_back(slice.messages, ends, seen.now);
            if !gives || self.write(&seen, &state).await? {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn version(document: &Document) -> Result<i64> {
    let part = OP.part;
    Read { part, document }.int(VERSION)
}

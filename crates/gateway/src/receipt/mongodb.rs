//! Receipts in MongoDB: for gateways without a disk.
//!
//! An append is one document, a block: its key is the place of its first receipt, so that whoever
//! comes second to a place is told by the server and takes the next. Places have no gaps, an append
//! is there whole or not at all, and nobody who pages can pass over one that is still being
//! written. Appends of one process that wait for each other share a block.
//!
//! In a block the receipts are packed; beside them stand the messages, recipients and campaigns
//! they are about, which are what is looked for.

mod block;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use ::mongodb::Collection;
use ::mongodb::bson::oid::ObjectId;
use ::mongodb::bson::{Bson, Document, doc};
use ::mongodb::options::{CollectionOptions, ReadConcern};
use async_trait::async_trait;
use futures_util::TryStreamExt;
use nightgate_core::MessageId;
use std::collections::{HashMap, HashSet};
use tokio::sync::oneshot;

use self::block::{Block, nanos};
use super::{Event, Filed, Receipt, ReceiptAsk, ReceiptLog};
use crate::error::{Error, Kind, Result};
use crate::mongodb::{Ask, Index, Mongo, Op, int, text};

/// The version of what stands in the collection. A newer one is refused.
pub const VERSION: i64 = 1;
/// The blocks.
const RECEIPTS: &str = "receipts";
const PART: &str = "receipt";
/// Receipts of others that share a block, at most: a page's worth is read for each of them.
const SHARED_MAX: usize = 2_000;
/// Most receipts of one append, which is one document: far below its 16 MB.
const APPEND_MAX: usize = 50_000;
/// How often the next place is tried when others take it. One of those who try gets it each time.
const PLACE_TRIES: usize = 100;
/// Most messages looked for in one query.
const IN_MAX: usize = 1_000;

/// The log.
pub struct MongoLog {
    mongo: Mongo,
    waiting: Mutex<Vec<Waiting>>,
    /// The place that was free last. Held while one block is written.
    next: tokio::sync::Mutex<i64>,
}

/// An append that waits.
struct Waiting {
    receipts: Vec<Receipt>,
    tell: oneshot::Sender<std::result::Result<(), (Kind, String)>>,
}

/// A list that has this in it; the same as equal to it, but for nx-27017, which the tests run on.
fn one_of(text: &str) -> Document {
    doc! { "$in": [text] }
}

/// Any place; it bounds nothing, but without a bound nx-27017 sorts places as texts.
fn any_place() -> Document {
    doc! { "$gte": 1_i64 }
}

/// The events of some messages.
fn of_these<'i>(filed: Vec<Filed>, these: &HashSet<&'i str>) -> Vec<(&'i str, Event)> {
    let of = |filed: Filed| {
        let id = filed.receipt.subject.message?;
        Some((*these.get(id.as_str())?, filed.receipt.event))
    };
    filed.into_iter().filter_map(of).collect()
}

fn op(what: &str) -> Op<'_> {
    Op { part: PART, what }
}

impl MongoLog {
    /// Opens the log in the database of `mongo`, and makes what is missing.
    ///
    /// # Errors
    /// `Invalid` when a newer program wrote it, `Unavailable` when the server does not answer.
    pub async fn open(mongo: Mongo) -> Result<Self> {
        mongo.claim_format(PART, VERSION).await?;
        let by = |keys: Document| Index {
            keys,
            ..Index::default()
        };
        let indexes = [
            by(doc! { "messages": 1 }),
            by(doc! { "recipients": 1 }),
            by(doc! { "campaigns": 1 }),
            by(doc! { "last_at": 1 }),
        ];
        let op = op("make its indexes");
        mongo.index(op, RECEIPTS, &indexes).await?;
        Ok(Self {
            mongo,
            waiting: Mutex::default(),
            next: tokio::sync::Mutex::new(1),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits, as much as shares a block.
    fn group(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        let mut sum = 0;
        let fits = waiting.iter().take_while(|one| {
            sum += one.receipts.len();
            sum <= SHARED_MAX
        });
        let many = fits.count().max(1).min(waiting.len());
        waiting.drain(..many).collect()
    }

    /// Writes one block behind all others.
    async fn write(&self, next: &mut i64, receipts: &[Receipt], mark: &str) -> Result<()> {
        let op = op("file receipts");
        let block = Block::of(receipts)?;
        let blocks = self.mongo.collection(RECEIPTS);
        for _ in 0..PLACE_TRIES {
            let document = [block.write(*next, mark)];
            if self
                .mongo
                .insert_new(op, &blocks, &document)
                .await?
                .is_empty()
            {
                *next += block.many();
                return Ok(());
            }
            // Somebody's; or ours, if the driver sent it twice.
            if self.mark_at(op, *next).await?.as_deref() == Some(mark) {
                *next += block.many();
                return Ok(());
            }
            *next = self.end(op).await?.max(*next);
        }
        Err(Error::new(Kind::Unavailable, PART, op.what).with("others file without a pause"))
    }

    /// The blocks as they stand on the primary, also before a majority has them: what is there
    /// takes its place, whatever becomes of it.
    fn newest(&self) -> Collection<Document> {
        let options = CollectionOptions::builder()
            .read_concern(ReadConcern::local())
            .build();
        let blocks = self.mongo.collection(RECEIPTS);
        match blocks.read_concern() {
            Some(_) => self.mongo.collection_with(RECEIPTS, options),
            None => blocks,
        }
    }

    async fn mark_at(&self, op: Op<'_>, place: i64) -> Result<Option<String>> {
        let ask = Ask {
            max: Some(1),
            only: Some(doc! { "mark": 1 }),
            ..Ask::of(doc! { "_id": place })
        };
        let found = self.mongo.find(op, &self.newest(), ask).await?;
        let mark = found.first().and_then(|block| text(block, "mark"));
        Ok(mark.map(str::to_owned))
    }

    /// The place behind all blocks.
    async fn end(&self, op: Op<'_>) -> Result<i64> {
        let ask = Ask {
            filter: doc! { "_id": any_place() },
            sort: doc! { "_id": -1 },
            max: Some(1),
            only: Some(doc! { "many": 1 }),
        };
        let found = self.mongo.find(op, &self.newest(), ask).await?;
        let end = found.first().map(|last| {
            let (at, many) = (int(last, "_id"), int(last, "many"));
            at.zip(many).map(|(at, many)| at + many)
        });
        match end {
            None => Ok(1),
            Some(Some(end)) => Ok(end),
            Some(None) => Err(Error::new(Kind::Corrupt, PART, op.what)),
        }
    }

    /// The place of the block in which `place` is.
    async fn block_of(&self, op: Op<'_>, place: i64) -> Result<i64> {
        let ask = Ask {
            filter: doc! { "_id": { "$lte": place } },
            sort: doc! { "_id": -1 },
            max: Some(1),
            only: Some(doc! { "_id": 1 }),
        };
        let blocks = self.mongo.collection(RECEIPTS);
        let found = self.mongo.find(op, &blocks, ask).await?;
        Ok(found
            .first()
            .and_then(|block| int(block, "_id"))
            .unwrap_or(1))
    }

    /// Blocks in which something may be that was asked for.
    async fn filter(&self, op: Op<'_>, ask: &ReceiptAsk) -> Result<Option<Document>> {
        let mut filter = doc! { "_id": any_place() };
        if let Some(after) = ask.after {
            let Some(first) = i64::try_from(after)
                .ok()
                .and_then(|after| after.checked_add(1))
            else {
                return Ok(None);
            };
            let block = self.block_of(op, first).await?;
            filter.insert("_id", doc! { "$gte": block });
        }
        if let Some(id) = &ask.message {
            filter.insert("messages", one_of(id.as_str()));
        }
        if let Some(key) = &ask.recipient {
            filter.insert("recipients", one_of(key.expose()));
        }
        if let Some(name) = &ask.campaign {
            filter.insert("campaigns", one_of(name));
        }
        if let Some(from) = ask.from {
            filter.insert("last_at", doc! { "$gte": nanos(from) });
        }
        if let Some(to) = ask.to {
            filter.insert("first_at", doc! { "$lte": nanos(to) });
        }
        Ok(Some(filter))
    }
}

#[async_trait]
impl ReceiptLog for MongoLog {
    async fn append(&self, receipts: Vec<Receipt>) -> Result<()> {
        if receipts.is_empty() {
            return Ok(());
        }
        if receipts.len() > APPEND_MAX {
            let op = format!("file more than {APPEND_MAX} receipts at once; file fewer");
            return Err(Error::new(Kind::Invalid, PART, op));
        }
        let (tell, mut told) = oneshot::channel();
        self.waiting().push(Waiting { receipts, tell });
        let mut next = self.next.lock().await;
        loop {
            // Whoever had the turn before may have written this along.
            match told.try_recv() {
                Ok(Ok(())) => return Ok(()),
                Ok(Err((kind, why))) => {
                    return Err(Error::new(kind, PART, "file receipts").with(why));
                }
                Err(oneshot::error::TryRecvError::Closed) => {
                    let why = "whoever wrote them along was stopped; they may be filed";
                    return Err(Error::new(Kind::Unavailable, PART, "file receipts").with(why));
                }
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let mut group = self.group();
            let mut all = Vec::new();
            for one in &mut group {
                all.append(&mut one.receipts);
            }
            let mark = ObjectId::new().to_hex();
            let done = self.write(&mut next, &all, &mark).await;
            let done = done.map_err(|error| (error.kind, error.to_string()));
            for one in group {
                // One that waits no longer needs no answer.
                let _ = one.tell.send(done.clone());
            }
        }
    }

    async fn query(&self, ask: &ReceiptAsk) -> Result<Vec<Filed>> {
        let op = op("query receipts");
        let Some(filter) = self.filter(op, ask).await? else {
            return Ok(Vec::new());
        };
        let blocks = self.mongo.collection(RECEIPTS);
        let find = async {
            let mut found = Vec::new();
            let mut blocks = blocks.find(filter).sort(doc! { "_id": 1 }).await?;
            while let Some(block) = blocks.try_next().await? {
                let filed = block::read(&block);
                found.push(filed.map(|mut filed| {
                    filed.retain(|filed| ask.covers(filed));
                    filed
                }));
                let many: usize = found.iter().flatten().map(Vec::len).sum();
                if many >= ask.page() {
                    break;
                }
            }
            Ok(found)
        };
        let found = self.mongo.call(op, find).await?;
        let found: Vec<Vec<Filed>> = found.into_iter().collect::<Result<_>>()?;
        Ok(found.into_iter().flatten().take(ask.page()).collect())
    }

    async fn known(&self, ids: &[MessageId]) -> Result<Vec<bool>> {
        let op = op("look for known messages");
        let blocks = self.mongo.collection(RECEIPTS);
        let mut known: HashSet<String> = HashSet::new();
        for part in ids.chunks(IN_MAX) {
            let these: Vec<Bson> = part.iter().map(|id| id.as_str().into()).collect();
            let ask = Ask {
                only: Some(doc! { "messages": 1 }),
                ..Ask::of(doc! { "messages": { "$in": these } })
            };
            for block in self.mongo.find(op, &blocks, ask).await? {
                let messages = block.get_array("messages").into_iter().flatten();
                known.extend(messages.filter_map(Bson::as_str).map(str::to_owned));
            }
        }
        Ok(ids.iter().map(|id| known.contains(id.as_str())).collect())
    }

    async fn events(&self, ids: &[MessageId]) -> Result<Vec<Vec<Event>>> {
        let op = op("look for events of messages");
        let blocks = self.mongo.collection(RECEIPTS);
        let mut events: HashMap<&str, Vec<Event>> = HashMap::new();
        for part in ids.chunks(IN_MAX) {
            let these: HashSet<&str> = part.iter().map(MessageId::as_str).collect();
            let asked: Vec<Bson> = these.iter().map(|id| (*id).into()).collect();
            let filter = doc! { "_id": any_place(), "messages": { "$in": asked } };
            let find = async {
                let mut found = Vec::new();
                let mut blocks = blocks.find(filter).sort(doc! { "_id": 1 }).await?;
                while let Some(block) = blocks.try_next().await? {
                    found.push(block::read(&block).map(|filed| of_these(filed, &these)));
                }
                Ok(found)
            };
            for some in self.mongo.call(op, find).await? {
                for (id, event) in some? {
                    events.entry(id).or_default().push(event);
                }
            }
        }
        let of = |id: &MessageId| events.get(id.as_str()).cloned().unwrap_or_default();
        Ok(ids.iter().map(of).collect())
    }
}

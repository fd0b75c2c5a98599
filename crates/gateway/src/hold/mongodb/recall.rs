//! Taking back, bringing back, moving and stopping.

use ::mongodb::bson::{Document, doc};
use jiff::Timestamp;
use nightgate_core::Class;

use super::schema::{ARRIVALS, COUNTERS, MESSAGES, STOPS, code, live};
use super::{MongoHold, document::reader, op, shelf};
use crate::error::{Error, Kind, Result};
use crate::hold::instant::{instant, nanos};
use crate::hold::{Lane, Pause, Recalled, Scope, State};
use crate::mongodb::{Ask, Op, int, text};

/// Buried messages brought back at a time.
const KICK_BATCH: usize = 1_000;
/// How often a recall looks again for what moved between loan and shelf meanwhile. Each round is
/// quick next to a loan, so the second finds nothing, unless a hundred releasers work against it.
const RECALL_ROUNDS: usize = 20;

impl MongoHold {
    /// Takes back what is held or buried; see [`crate::hold::HoldStore::recall`].
    ///
    /// Loans are marked first and shelves emptied then, until a round finds nothing: a message that
    /// changes hands in between is found at its other place.
    pub(super) async fn take_back(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        let op = op("recall messages");
        self.reclaim(op, None, now).await?;
        let arrived = self.arrived(op).await?;
        let within = |state: State| {
            let mut within = filter(scope);
            within.insert("state", code(state));
            // The number again: nx-27017 compares `_id` with something else in updates.
            within.insert("first", doc! { "$lte": arrived });
            within
        };
        let gone = doc! { "$set": { "state": code(State::Recalled), "ended_at": nanos(now) } };
        let mut answer = Recalled::default();
        for _ in 0..RECALL_ROUNDS {
            let mut on_loan = within(State::Leased);
            on_loan.insert("recall", 0);
            let mark = doc! { "$set": { "recall": 1 } };
            let marked = self.update(op, on_loan, mark).await?;
            let mut taken = 0;
            for state in [State::Held, State::Buried] {
                taken += self.update(op, within(state), gone.clone()).await?;
            }
            answer.in_flight += marked;
            answer.recalled += taken;
            if marked + taken == 0 {
                return Ok(answer);
            }
        }
        let op = "recall messages: they change hands faster than they are taken back; stop the \
                  lane and try again";
        Err(Error::new(Kind::Unavailable, "hold", op))
    }

    /// The last number given so far.
    async fn arrived(&self, op: Op<'_>) -> Result<i64> {
        let counters = self.mongo.collection(COUNTERS);
        let read = async { counters.find_one(doc! { "_id": ARRIVALS }).await };
        let counter = self.mongo.call(op, read).await?;
        let value = counter.and_then(|counter| int(&counter, "value"));
        Ok(value.unwrap_or_default())
    }

    /// Brings buried messages back; see [`crate::hold::HoldStore::kick`].
    pub(super) async fn bring_back(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        let op = op("kick messages");
        let arrived = self.arrived(op).await?;
        let mut kicked = 0;
        loop {
            let mut buried = filter(scope);
            buried.insert("state", code(State::Buried));
            buried.insert("seq", doc! { "$lte": arrived });
            let ask = Ask {
                filter: buried,
                sort: doc! { "seq": 1 },
                max: Some(KICK_BATCH),
                only: Some(doc! { "seq": 1, "shelf": 1 }),
            };
            let heads = self.mongo.find(op, &self.messages(), ask).await?;
            if heads.is_empty() {
                return Ok(kicked);
            }
            let arrivals = self.arrivals(op, heads.len()).await?;
            let statements = heads.iter().zip(arrivals);
            let statements = statements.map(|(head, seq)| kick(head, seq, now));
            let statements = statements.collect::<Result<Vec<_>>>()?;
            kicked += self.mongo.update_each(op, MESSAGES, statements).await?;
        }
    }

    /// Moves shelves to another due; see [`crate::hold::HoldStore::redate`].
    pub(super) async fn move_shelves(
        &self,
        lane: &Lane,
        class: &Class,
        now: Timestamp,
        to: Timestamp,
    ) -> Result<u64> {
        let op = op("redate shelves");
        let which = doc! {
            "lane": lane.as_str(),
            "class": class.as_str(),
            "due": { "$lte": nanos(now) },
            "state": live(),
        };
        let shelves = vec![
            doc! { "$match": which },
            doc! { "$group": { "_id": "$shelf", "count": { "$sum": 1 } } },
        ];
        let mut shelves = self.mongo.aggregate(op, MESSAGES, shelves).await?;
        // Shelves that are due then already come first, or what is moved onto them counts twice.
        let stands = |found: &Document| {
            let key = text(found, "_id").map(shelf::read);
            key.is_some_and(|key| key.is_ok_and(|key| key.due == Some(nanos(to))))
        };
        shelves.sort_by_key(|found| !stands(found));
        let mut moved = 0;
        for found in shelves {
            let old = reader(&found).text("_id")?;
            let key = shelf::read(old)?;
            let new = doc! { "$set": {
                "due": nanos(to),
                "shelf": shelf::write(&key.at(Some(nanos(to))))?,
            } };
            let on = |state: State| {
                doc! {
                    "lane": lane.as_str(),
                    "due": key.due.unwrap_or_default(),
                    "shelf": old,
                    "state": code(state),
                }
            };
            moved += self.update(op, on(State::Held), new.clone()).await?;
            if key.due == Some(nanos(to)) {
                continue; // moved onto itself: counted once
            }
            for state in [State::Leased, State::Buried] {
                self.update(op, on(state), new.clone()).await?;
            }
            // What came back from a loan between the two.
            moved += self.update(op, on(State::Held), new).await?;
        }
        Ok(moved)
    }

    /// Sets or lifts a stop. Setting one that stands keeps its first instant.
    pub(super) async fn stop(
        &self,
        lane: Option<&Lane>,
        paused: bool,
        now: Timestamp,
    ) -> Result<()> {
        let op = op("set a pause");
        let stops = self.mongo.collection(STOPS);
        let name = lane.map_or_else(|| "all".to_owned(), |lane| format!("lane {lane}"));
        let this = doc! { "_id": name };
        if !paused {
            let lift = async { stops.delete_one(this).await };
            return self.mongo.call(op, lift).await.map(drop);
        }
        let mut stop = doc! { "since": nanos(now) };
        stop.extend(lane.map(|lane| ("lane".to_owned(), lane.as_str().into())));
        self.mongo.note(op, &stops, this, stop).await
    }

    /// The stops in force: the global one first, then by lane.
    pub(super) async fn stops(&self) -> Result<Vec<Pause>> {
        let op = op("read the pauses");
        let stops = self.mongo.collection(STOPS);
        let found = self.mongo.find(op, &stops, Ask::default()).await?;
        let pause = |stop: &Document| {
            let since = instant(reader(stop).int("since")?);
            let lane = text(stop, "lane").map(Lane::new);
            Ok(Pause { lane, since })
        };
        let mut pauses: Vec<Pause> = found.iter().map(pause).collect::<Result<_>>()?;
        pauses.sort_by(|one, other| one.lane.cmp(&other.lane));
        Ok(pauses)
    }
}

fn filter(scope: &Scope) -> Document {
    match scope {
        Scope::Id(id) => doc! { "name": id.as_str() },
        Scope::Campaign(name) => doc! { "campaign": &**name },
        Scope::Recipient(key) => doc! { "key": key.expose() },
        Scope::Lane(lane) => doc! { "lane": lane.as_str() },
    }
}

/// Brings one back, if nobody did meanwhile.
fn kick(head: &Document, seq: i64, now: Timestamp) -> Result<Document> {
    let read = reader(head);
    let key = shelf::read(read.text("shelf")?)?.at(Some(nanos(now)));
    let buried = doc! {
        "_id": read.int("_id")?,
        "state": code(State::Buried),
        "seq": read.int("seq")?,
    };
    let back = doc! {
        "$set": {
            "state": code(State::Held),
            "seq": seq,
            "due": nanos(now),
            "shelf": shelf::write(&key)?,
            "attempts": 0_i64,
            "lapsed": 0,
        },
        "$unset": { "why": "" },
    };
    Ok(doc! { "q": buried, "u": back })
}

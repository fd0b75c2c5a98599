//! Lending: find, claim on condition, read what was claimed. And taking back what lapsed.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;

use ::mongodb::bson::oid::ObjectId;
use ::mongodb::bson::{Document, doc};
use jiff::Timestamp;

use super::document::{Body, reader};
use super::schema::code;
use super::{IN_MAX, MongoHold, document, natural, numbers, op};
use crate::error::Result;
use crate::hold::instant::{instant, nanos};
use crate::hold::{Lane, LeaseAsk, Leased, Pick, State, Token};
use crate::mongodb::{Ask, Op, int, text};

/// How often what others took meanwhile is looked for again within one lease.
const CLAIM_TRIES: usize = 4;
/// Why a message is put aside that cannot be read.
const UNREADABLE: &str = "its document or its body in MongoDB does not read";

/// How bodies are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Attributes,
}

impl MongoHold {
    /// Lends messages; see [`crate::hold::HoldStore::lease`].
    pub(super) async fn lend(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        let what = format!("lease from lane {}", ask.lane);
        let op = op(&what);
        self.reclaim(op, Some(ask.lane), ask.now).await?;
        let until = ask.now.saturating_add(ask.ttl).unwrap_or(Timestamp::MAX);
        let until = nanos(until);
        let mut claimed: Vec<Document> = Vec::new();
        for _ in 0..CLAIM_TRIES {
            let wanted = (ask.max - claimed.len()).min(IN_MAX * CLAIM_TRIES);
            if wanted == 0 {
                break;
            }
            let candidates = self.candidates(op, ask, wanted).await?;
            if candidates.is_empty() {
                break;
            }
            for part in candidates.chunks(IN_MAX) {
                claimed.extend(self.claim(op, part, ask.now, until).await?);
            }
        }
        claimed.sort_by_key(|head| {
            let field = |name| int(head, name).unwrap_or_default();
            (field("priority"), field("due"), field("seq"))
        });
        let mut bodies = self.bodies(op, &claimed, Part::Whole).await?;
        let mut leased = Vec::with_capacity(claimed.len());
        for head in &claimed {
            let body = int(head, "_id").and_then(|number| bodies.remove(&number));
            match body.and_then(|body| loan(head, body, until).ok()) {
                Some(loan) => leased.push(loan),
                None => self.put_aside(op, head).await?,
            }
        }
        Ok(leased)
    }

    /// Numbers of messages that may be lent, in their order.
    async fn candidates(&self, op: Op<'_>, ask: &LeaseAsk<'_>, max: usize) -> Result<Vec<i64>> {
        let mut filter = doc! {
            "state": code(State::Held),
            "lane": ask.lane.as_str(),
            "due": { "$lte": nanos(ask.now) },
        };
        if let Pick::Campaign(purpose, campaign) = ask.pick {
            filter.insert("purpose", purpose.as_str());
            match campaign {
                Some(campaign) => filter.insert("campaign", campaign),
                None => filter.insert("campaign", doc! { "$exists": false }),
            };
        }
        let ask = Ask {
            filter,
            sort: doc! { "priority": 1, "due": 1, "seq": 1 },
            max: Some(max),
            only: Some(doc! { "_id": 1 }),
        };
        let found = self.mongo.find(op, &self.messages(), ask).await?;
        Ok(found.iter().filter_map(|head| int(head, "_id")).collect())
    }

    /// Claims those that are still there; the heads of those that were won.
    async fn claim(
        &self,
        op: Op<'_>,
        candidates: &[i64],
        now: Timestamp,
        until: i64,
    ) -> Result<Vec<Document>> {
        let claim = ObjectId::new().to_hex();
        let these = doc! { "$in": numbers(candidates.iter().copied()) };
        let free = doc! {
            "_id": these.clone(),
            "state": code(State::Held),
            "due": { "$lte": nanos(now) },
        };
        let lend = doc! {
            "$set": { "state": code(State::Leased), "until": until, "claim": &*claim },
            "$inc": { "lease": 1_i64 },
        };
        if self.update(op, free, lend).await? == 0 {
            return Ok(Vec::new());
        }
        let won = Ask::of(doc! { "_id": these, "claim": claim });
        self.mongo.find(op, &self.messages(), won).await
    }

    /// Bodies by number, of the heads given.
    pub(super) async fn bodies(
        &self,
        op: Op<'_>,
        heads: &[Document],
        part: Part,
    ) -> Result<HashMap<i64, Body>> {
        let mut places: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for head in heads {
            if let (Some(place), Some(number)) = (text(head, "place"), int(head, "_id")) {
                places.entry(place).or_default().push(number);
            }
        }
        let mut bodies = HashMap::with_capacity(heads.len());
        for (place, these) in places {
            let place = self.mongo.collection(place);
            for these in these.chunks(IN_MAX) {
                let these = numbers(these.iter().copied());
                let ask = Ask {
                    only: (part == Part::Attributes).then(|| doc! { "attributes": 1 }),
                    ..Ask::of(doc! { "_id": { "$in": these } })
                };
                for body in self.mongo.find(op, &place, ask).await? {
                    // One that does not read is missing: whoever needs it says so.
                    if let (Some(number), Ok(body)) = (int(&body, "_id"), Body::read(&body)) {
                        bodies.insert(number, body);
                    }
                }
            }
        }
        Ok(bodies)
    }

    /// Buries a message that was claimed and does not read.
    async fn put_aside(&self, op: Op<'_>, head: &Document) -> Result<()> {
        let claimed = doc! {
            "_id": reader(head).int("_id")?,
            "claim": reader(head).text("claim")?,
            "state": code(State::Leased),
        };
        let bury = doc! {
            "$set": { "state": code(State::Buried), "why": UNREADABLE },
            "$unset": { "until": "", "claim": "" },
        };
        if self.update(op, claimed, bury).await? > 0 {
            self.damaged.fetch_add(1, Ordering::Relaxed);
            tracing::error!("a held message in MongoDB does not read; it is buried");
        }
        Ok(())
    }

    /// Takes back loans that are over at `now`: they are held again, or recalled if that was asked.
    pub(super) async fn reclaim(
        &self,
        op: Op<'_>,
        lane: Option<&Lane>,
        now: Timestamp,
    ) -> Result<()> {
        let mut over = doc! {
            "state": code(State::Leased),
            "until": { "$lte": nanos(now) },
        };
        if let Some(lane) = lane {
            over.insert("lane", lane.as_str());
        }
        let messages = self.messages();
        let any = async {
            let any = messages.find_one(over.clone());
            any.projection(doc! { "_id": 1 }).await
        };
        if self.mongo.call(op, any).await?.is_none() {
            return Ok(());
        }
        let which = |recall: i32| {
            let mut which = over.clone();
            which.insert("recall", recall);
            which
        };
        let back = |state: State, ended: Option<i64>| {
            let mut set = doc! { "state": code(state), "lapsed": 1 };
            set.extend(ended.map(|at| ("ended_at".to_owned(), at.into())));
            doc! { "$set": set, "$unset": { "until": "", "claim": "" } }
        };
        let recalled = back(State::Recalled, Some(nanos(now)));
        self.update(op, which(1), recalled).await?;
        self.update(op, which(0), back(State::Held, None)).await?;
        Ok(())
    }
}

fn loan(head: &Document, body: Body, until: i64) -> Result<Leased> {
    let read = reader(head);
    let mut held = document::held(head)?;
    body.into(&mut held);
    Ok(Leased {
        token: Token {
            seq: natural(read.int("_id")?),
            lease: natural(read.int("lease")?),
        },
        held,
        until: instant(until),
        attempts: read.number("attempts")?,
        lapsed: read.int("lapsed")? != 0,
    })
}

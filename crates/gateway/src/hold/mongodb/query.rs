//! Reading: nothing here changes anything.

use std::collections::{BTreeMap, HashMap};

use ::mongodb::bson::{Bson, Document, doc};
use jiff::Timestamp;
use nightgate_core::{MessageId, Priority};

use super::document::{self, is_live, reader};
use super::lease::Part;
use super::schema::{MESSAGES, code, live};
use super::{IN_MAX, MongoHold, natural, op, shelf};
use crate::error::Result;
use crate::hold::instant::{instant, nanos};
use crate::hold::key::ShelfKey;
use crate::hold::{Export, Found, Lane, Shelf, State};
use crate::mongodb::{Ask, Op, int};

/// Messages read at a time for an export.
const EXPORT_BATCH: usize = 500;
/// What every message takes beside its body, in bytes, as far as a page is concerned.
const MESSAGE_BYTES: usize = 1024;

impl MongoHold {
    /// The earliest due or lapse on `lane`, at least `now`.
    pub(super) async fn earliest(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        let op = op("ask what is due next");
        let first = async |state: State, field: &str| {
            let ask = Ask {
                filter: doc! { "lane": lane.as_str(), "state": code(state) },
                sort: doc! { field: 1 },
                max: Some(1),
                only: Some(doc! { field: 1 }),
            };
            let found = self.mongo.find(op, &self.messages(), ask).await?;
            Result::Ok(found.first().and_then(|head| int(head, field)))
        };
        let due = first(State::Held, "due").await?;
        let lapse = first(State::Leased, "until").await?;
        let at = due.into_iter().chain(lapse).min();
        Ok(at.map(|at| instant(at).max(now)))
    }

    /// Shelves that are not empty, counted by the server from an index alone.
    pub(super) async fn count_shelves(
        &self,
        lane: Option<&Lane>,
        due_by: Option<Timestamp>,
    ) -> Result<Vec<Shelf>> {
        let mut which = doc! { "state": live() };
        if let Some(lane) = lane {
            which.insert("lane", lane.as_str());
        }
        if let Some(by) = due_by {
            which.insert("due", doc! { "$lte": nanos(by) });
        }
        let count = |state: State| {
            let is = doc! { "$eq": ["$state", code(state)] };
            doc! { "$sum": { "$cond": [is, 1, 0] } }
        };
        let group = doc! {
            "_id": "$shelf",
            "held": count(State::Held),
            "leased": count(State::Leased),
            "buried": count(State::Buried),
        };
        let pipeline = vec![doc! { "$match": which }, doc! { "$group": group }];
        let op = op("count the shelves");
        let counted = self.mongo.aggregate(op, MESSAGES, pipeline).await?;
        let mut shelves = BTreeMap::new();
        for one in &counted {
            let key = shelf::read(reader(one).text("_id")?)?;
            let shelf = shelf_of(&key, one)?;
            shelves.insert(order(&key), shelf);
        }
        Ok(shelves.into_values().collect())
    }

    /// What is known of each id.
    pub(super) async fn look_up(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        let op = op("find messages");
        let mut heads = Vec::with_capacity(ids.len());
        for part in ids.chunks(IN_MAX) {
            let names = part.iter().map(|id| Bson::from(id.as_str()));
            let names: Vec<Bson> = names.collect();
            let ask = Ask::of(doc! { "name": { "$in": names } });
            heads.extend(self.mongo.find(op, &self.messages(), ask).await?);
        }
        let found = self.whole(op, &heads, Part::Whole).await?;
        let found = found
            .into_iter()
            .map(|one| (one.held.message.id.clone(), one));
        let mut found: HashMap<MessageId, Found> = found.collect();
        // An id asked for twice is answered twice.
        let mut last: HashMap<&MessageId, usize> = HashMap::new();
        for (at, id) in ids.iter().enumerate() {
            last.insert(id, at);
        }
        let answer = |(at, id): (usize, &MessageId)| match last.get(id) {
            Some(&last) if last == at => found.remove(id),
            _ => found.get(id).cloned(),
        };
        Ok(ids.iter().enumerate().map(answer).collect())
    }

    /// Up to `max` messages in `state`, by arrival, without their bodies.
    pub(super) async fn list_some(
        &self,
        state: State,
        lane: Option<&Lane>,
        max: usize,
    ) -> Result<Vec<Found>> {
        let op = op("list messages");
        if max == 0 {
            return Ok(Vec::new());
        }
        let mut filter = doc! { "state": code(state) };
        if let Some(lane) = lane {
            filter.insert("lane", lane.as_str());
        }
        let ask = Ask {
            filter,
            sort: doc! { "seq": 1 },
            max: Some(max),
            only: None,
        };
        let heads = self.mongo.find(op, &self.messages(), ask).await?;
        self.whole(op, &heads, Part::Attributes).await
    }

    /// Live messages from the number `from` on, whole, and where to go on.
    pub(super) async fn export_some(&self, from: u64, max_bytes: usize) -> Result<Export> {
        let op = op("export its messages");
        let Ok(mut from) = i64::try_from(from) else {
            return Ok(Export::default());
        };
        let (mut page, mut bytes) = (Export::default(), 0);
        loop {
            let ask = Ask {
                filter: doc! { "_id": { "$gte": from }, "state": live() },
                sort: doc! { "_id": 1 },
                max: Some(EXPORT_BATCH),
                only: None,
            };
            let heads = self.mongo.find(op, &self.messages(), ask).await?;
            let Some(last) = heads.last() else {
                return Ok(page);
            };
            from = reader(last).int("_id")? + 1;
            for found in self.whole(op, &heads, Part::Whole).await? {
                bytes += MESSAGE_BYTES + found.held.message.body.len();
                page.found.push(found);
            }
            if bytes >= max_bytes {
                page.next = Some(natural(from));
                return Ok(page);
            }
        }
    }

    /// Reads heads, and adds what of their bodies is asked for to those that live.
    async fn whole(&self, op: Op<'_>, heads: &[Document], part: Part) -> Result<Vec<Found>> {
        let live = heads.iter().filter(|head| {
            let state = document::state(head);
            state.is_ok_and(is_live)
        });
        let live: Vec<Document> = live.cloned().collect();
        let mut bodies = self.bodies(op, &live, part).await?;
        let found = |head: &Document| {
            let mut found = document::found(head)?;
            let number = reader(head).int("_id")?;
            if let Some(body) = bodies.remove(&number) {
                body.into(&mut found.held);
            }
            Ok(found)
        };
        heads.iter().map(found).collect()
    }
}

type Order = (
    Lane,
    Priority,
    Timestamp,
    &'static str,
    String,
    Option<std::sync::Arc<str>>,
);

fn order(key: &ShelfKey) -> Order {
    (
        key.lane.clone(),
        key.priority,
        shelf::due(key),
        key.purpose.as_str(),
        key.class.as_str().to_owned(),
        key.campaign.clone(),
    )
}

fn shelf_of(key: &ShelfKey, counted: &Document) -> Result<Shelf> {
    let count = |field: &str| reader(counted).number::<u64>(field);
    Ok(Shelf {
        lane: key.lane.clone(),
        purpose: key.purpose,
        class: key.class.clone(),
        campaign: key.campaign.clone(),
        priority: key.priority.get(),
        due: shelf::due(key),
        held: count("held")?,
        leased: count("leased")?,
        buried: count("buried")?,
    })
}

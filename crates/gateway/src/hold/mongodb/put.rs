//! Storing messages: bodies first, heads then. A head whose insert is answered has its body.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use ::mongodb::bson::{Bson, Document, doc};
use jiff::Timestamp;

use super::schema::code;
use super::{IN_MAX, MongoHold, document, numbers, op, place};
use crate::error::{Error, Kind, Result};
use crate::hold::{Held, Put, State};
use crate::mongodb::{Ask, Op, int, text};

/// How long a put may have taken from its first write to its last. A process that was stopped for
/// longer in between takes back what it put, since the collection of its bodies may be gone:
/// [`place::GRACE`] is twice that.
const PUT_MAX: Duration = Duration::from_secs(3600);

/// A message on its way in.
struct Arrival {
    /// Its place in the call.
    asked: usize,
    number: i64,
    place: String,
    held: Held,
}

impl MongoHold {
    /// Stores messages; see [`crate::hold::HoldStore::put`].
    pub(super) async fn put_all(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        let what = format!("put {} messages", messages.len());
        let op = op(&what);
        let began = self.clock.monotonic();
        let mut answers = vec![Put::Duplicate; messages.len()];
        let mut new = self.not_known(op, messages, now).await?;
        if new.is_empty() {
            return Ok(answers);
        }
        let arrivals = self.arrivals(op, new.len()).await?;
        for (arrival, number) in new.iter_mut().zip(arrivals) {
            arrival.number = number;
            arrival.place = place::of(&arrival.held.lane, arrival.held.due, now);
        }
        self.put_bodies(op, &new).await?;
        let heads = new
            .iter()
            .map(|one| document::head(&one.held, one.number, &one.place));
        let heads: Vec<Document> = heads.collect::<Result<_>>()?;
        let taken = self.mongo.insert_new(op, &self.messages(), &heads).await?;
        if self.clock.monotonic().saturating_sub(began) > PUT_MAX {
            return Err(self.undo(op, &new).await);
        }
        let taken: HashSet<usize> = taken.into_iter().collect();
        let (lost, stored): (Vec<_>, Vec<_>) = new
            .into_iter()
            .enumerate()
            .partition(|(at, _)| taken.contains(at));
        for (_, one) in stored {
            answers[one.asked] = Put::New;
        }
        self.drop_bodies(lost.into_iter().map(|(_, one)| one)).await;
        Ok(answers)
    }

    /// Those of `messages` whose ids are not known; ids that are forgotten are dropped.
    async fn not_known(
        &self,
        op: Op<'_>,
        messages: Vec<Held>,
        now: Timestamp,
    ) -> Result<Vec<Arrival>> {
        let mut seen = HashSet::new();
        let arrival = |(asked, held): (usize, Held)| {
            seen.insert(held.message.id.clone()).then(|| Arrival {
                asked,
                number: 0,
                place: String::new(),
                held,
            })
        };
        let mut new: Vec<Arrival> = messages
            .into_iter()
            .enumerate()
            .filter_map(arrival)
            .collect();
        let forgotten = self.forgotten_by(now);
        let (mut known, mut old) = (HashSet::new(), Vec::new());
        for part in new.chunks(IN_MAX) {
            let names = part.iter().map(|one| one.held.message.id.as_str());
            let names: Vec<Bson> = names.map(Bson::from).collect();
            let ask = Ask {
                only: Some(doc! { "name": 1, "ended_at": 1 }),
                ..Ask::of(doc! { "name": { "$in": names } })
            };
            for head in self.mongo.find(op, &self.messages(), ask).await? {
                match int(&head, "ended_at") {
                    Some(ended) if ended <= forgotten => old.extend(int(&head, "_id")),
                    _ => known.extend(text(&head, "name").map(str::to_owned)),
                }
            }
        }
        for part in old.chunks(IN_MAX) {
            let these = doc! {
                "_id": { "$in": numbers(part.iter().copied()) },
                "ended_at": { "$lte": forgotten },
            };
            let messages = self.messages();
            let delete = async { messages.delete_many(these).await };
            self.mongo.call(op, delete).await?;
        }
        new.retain(|one| !known.contains(one.held.message.id.as_str()));
        Ok(new)
    }

    async fn put_bodies(&self, op: Op<'_>, new: &[Arrival]) -> Result<()> {
        let mut places: BTreeMap<&str, Vec<Document>> = BTreeMap::new();
        for one in new {
            let body = document::body(&one.held, one.number);
            places.entry(&one.place).or_default().push(body);
        }
        for (place, bodies) in places {
            let place = self.mongo.collection(place);
            if !self.mongo.insert_new(op, &place, &bodies).await?.is_empty() {
                // Numbers are given once.
                return Err(super::corrupt("a number was given twice"));
            }
        }
        Ok(())
    }

    /// Takes back what was just put.
    async fn undo(&self, op: Op<'_>, put: &[Arrival]) -> Error {
        for part in put.chunks(IN_MAX) {
            let these = doc! {
                "_id": { "$in": numbers(part.iter().map(|one| one.number)) },
                "state": code(State::Held),
            };
            let messages = self.messages();
            let undo = async { messages.delete_many(these).await };
            if let Err(error) = self.mongo.call(op, undo).await {
                return error;
            }
        }
        Error::new(Kind::Unavailable, op.part, op.what).with("it took longer than an hour")
    }

    /// Removes bodies whose heads were not stored. One that stays is dropped with its collection.
    async fn drop_bodies(&self, of: impl Iterator<Item = Arrival>) {
        let mut places: HashMap<String, Vec<i64>> = HashMap::new();
        for one in of {
            places.entry(one.place).or_default().push(one.number);
        }
        for (place, these) in places {
            let bodies = self.mongo.collection(&place);
            let remove = place::remove(&bodies, numbers(these));
            if let Err(error) = self.mongo.call(op("remove bodies"), remove).await {
                tracing::debug!(%error, "bodies without heads stay until their collection goes");
            }
        }
    }
}

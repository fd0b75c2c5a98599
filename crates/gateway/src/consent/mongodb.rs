//! Consents in MongoDB: for gateways without a disk.
//!
//! A document an event, its key all that makes it this event, so that it is there once. What a
//! recipient's consent is now is folded from these whenever it is asked for: there is no second
//! document that a stop in between could leave behind. A recipient has a handful of events.
//!
//! A look-up that fails or takes too long is an error, and whoever asked holds.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use ::mongodb::bson::{Bson, Document, doc};
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use nightgate_core::{Basis, Consent, RecipientKey, Scope};

use super::{Act, ConsentBook, ConsentEvent};
use crate::error::Result;
use crate::mongodb::{Ask, Index, Mongo, Op, Read, int};

/// The version of what stands in the collection. A newer one is refused.
pub const VERSION: i64 = 1;
/// The events.
const CONSENTS: &str = "consents";
const PART: &str = "consent";
/// Most recipients asked for in one query.
const IN_MAX: usize = 1_000;
/// Queries under way at once, for each call.
const QUERIES_MAX: usize = 8;

/// The book.
#[derive(Clone, Debug)]
pub struct MongoBook {
    mongo: Mongo,
}

fn op(what: &str) -> Op<'_> {
    Op { part: PART, what }
}

impl MongoBook {
    /// Opens the book in the database of `mongo`, and makes what is missing.
    ///
    /// # Errors
    /// `Invalid` when a newer program wrote it, `Unavailable` when the server does not answer.
    pub async fn open(mongo: Mongo) -> Result<Self> {
        mongo.claim_format(PART, VERSION).await?;
        let by_recipient = Index {
            keys: doc! { "key": 1 },
            ..Index::default()
        };
        let op = op("make its indexes");
        mongo.index(op, CONSENTS, &[by_recipient]).await?;
        Ok(Self { mongo })
    }

    async fn events(&self, op: Op<'_>, of: Vec<Bson>) -> Result<Vec<ConsentEvent>> {
        let consents = self.mongo.collection(CONSENTS);
        let ask = Ask::of(doc! { "key": { "$in": of } });
        let found = self.mongo.find(op, &consents, ask).await?;
        found.iter().map(read).collect()
    }
}

#[async_trait]
impl ConsentBook for MongoBook {
    async fn look_up(&self, keys: &[RecipientKey]) -> Result<Vec<Consent>> {
        let mut seen = HashSet::new();
        let different = keys.iter().filter(|key| seen.insert(*key));
        let different: Vec<Bson> = different.map(|key| key.expose().into()).collect();
        let mut asked = Vec::new();
        for part in different.chunks(IN_MAX) {
            asked.push(self.events(op("ask for consents"), part.to_vec()));
        }
        let mut told: HashMap<RecipientKey, Consent> = HashMap::new();
        let mut answers = stream::iter(asked).buffer_unordered(QUERIES_MAX);
        while let Some(events) = answers.try_next().await? {
            for event in events {
                let consent = told.entry(event.key.clone()).or_default();
                event.fold_into(consent);
            }
        }
        let consent = |key| told.get(key).copied().unwrap_or_default();
        Ok(keys.iter().map(consent).collect())
    }

    async fn record(&self, events: Vec<ConsentEvent>) -> Result<u64> {
        let mut seen = HashSet::new();
        let first = events.iter().map(write);
        let first = first.filter(|event| seen.insert(event.get("_id").map(Bson::to_string)));
        let first: Vec<Document> = first.collect();
        let consents = self.mongo.collection(CONSENTS);
        let op = op("record consents");
        let known = self.mongo.insert_new(op, &consents, &first).await?;
        Ok((first.len() - known.len()) as u64)
    }

    async fn history(&self, key: &RecipientKey) -> Result<Vec<ConsentEvent>> {
        let op = op("read a history");
        let mut events = self.events(op, vec![key.expose().into()]).await?;
        events.sort_by_key(ConsentEvent::order);
        Ok(events)
    }

    async fn count(&self) -> Result<u64> {
        let pipeline = vec![
            doc! { "$group": { "_id": "$key" } },
            doc! { "$group": { "_id": Bson::Null, "count": { "$sum": 1 } } },
        ];
        let op = op("count recipients");
        let counted = self.mongo.aggregate(op, CONSENTS, pipeline).await?;
        let count = counted.first().and_then(|one| int(one, "count"));
        Ok(count.unwrap_or_default().unsigned_abs())
    }
}

fn write(event: &ConsentEvent) -> Document {
    let (act, ends) = match event.act {
        Act::Grant(Basis::Explicit) => ("grant", None),
        Act::Grant(Basis::TransactionException { ends }) => ("grant", Some(ends.to_string())),
        Act::Withdraw => ("withdraw", None),
    };
    let (key, scope, at) = (
        event.key.expose(),
        event.scope.to_string(),
        event.at.to_string(),
    );
    let until = ends.as_deref().unwrap_or_default();
    let mut document = doc! {
        // The key comes last: it alone may contain the sign that parts the others.
        "_id": format!("{at}#{scope}#{act}#{until}#{key}"),
        "key": key,
        "scope": scope,
        "act": act,
        "at": at,
        "source": &*event.source,
    };
    if let Some(ends) = ends {
        document.insert("ends", ends);
    }
    document
}

fn read(document: &Document) -> Result<ConsentEvent> {
    let read = Read {
        part: PART,
        document,
    };
    let instant = |field: &str, text: &str| {
        let at = text.parse::<Timestamp>().map_err(|_| "is no instant");
        read.checked(field, at)
    };
    let act = match (read.text("act")?, read.maybe("ends")) {
        ("withdraw", None) => Act::Withdraw,
        ("grant", None) => Act::Grant(Basis::Explicit),
        ("grant", Some(ends)) => Act::Grant(Basis::TransactionException {
            ends: instant("ends", ends)?,
        }),
        _ => return Err(read.broken("act", "is unknown")),
    };
    let scope = read.text("scope")?.parse::<Scope>();
    Ok(ConsentEvent {
        key: RecipientKey::from_stored(read.text("key")?),
        scope: read.checked("scope", scope.map_err(|_| "is unknown"))?,
        act,
        at: instant("at", read.text("at")?)?,
        source: read.text("source")?.to_owned(),
    })
}

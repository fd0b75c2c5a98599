//! Consents in a DynamoDB table: for functions and for gateways without a disk.
//!
//! A recipient has one item that decides (`pk = consent#KEY`, `sk = state`) and one for each event,
//! for proof (`sk = event#…`). The deciding item holds four texts, each of which only ever grows in
//! the order of texts: the latest grant and the latest withdrawal of each scope. So events may come
//! in any order, twice, and from many at once, and the item means the same in the end.
//!
//! Look-ups are strongly consistent: a withdrawal bites from when it was recorded.

mod item;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use nightgate_core::{Consent, RecipientKey};

use super::{ConsentBook, ConsentEvent};
use crate::aws::tables::{REQUESTS_MAX, Table, Words, key};
use crate::error::{Error, Kind, Result};
use item::{STATE, partition};

/// The book.
pub struct DynamoBook(Table);

impl DynamoBook {
    /// The book in `table`.
    #[must_use]
    pub fn new(table: &Table) -> Self {
        Self(table.of("consent"))
    }

    /// Makes `attribute` of a recipient's deciding item `value`, unless it is that or greater.
    async fn raise(&self, pk: &str, attribute: &str, value: &str) -> Result<()> {
        let words = Words::default().name("#a", attribute).text(":v", value);
        let greater = Some("attribute_not_exists(#a) OR #a < :v");
        let (op, keys) = ("record a consent", key(pk, STATE));
        self.0
            .update(op, keys, "SET #a = :v", greater, &words)
            .await?;
        Ok(())
    }

    /// Records one event: what decides first, so that a stop in between leaves a consent without
    /// its proof and not a withdrawal without its effect; then the event. Says whether it was new.
    async fn record_one(&self, event: ConsentEvent) -> Result<bool> {
        let pk = partition(&event.key);
        for (attribute, value) in item::raises(&event)? {
            self.raise(&pk, attribute, &value).await?;
        }
        let item = item::of_event(&pk, &event)?;
        self.0.put_new("record a consent", item).await
    }
}

#[async_trait]
impl ConsentBook for DynamoBook {
    async fn look_up(&self, keys: &[RecipientKey]) -> Result<Vec<Consent>> {
        let mut seen = HashSet::new();
        let different: Vec<&RecipientKey> = keys.iter().filter(|key| seen.insert(*key)).collect();
        let wanted = different.iter().map(|one| key(&partition(one), STATE));
        let items = self.0.get("ask for consents", wanted.collect()).await?;
        let mut told = HashMap::with_capacity(different.len());
        for one in &items {
            let (pk, consent) = item::consent(one)?;
            told.insert(pk, consent);
        }
        let consent = |key| told.get(&*partition(key)).copied().unwrap_or_default();
        Ok(keys.iter().map(consent).collect())
    }

    async fn record(&self, events: Vec<ConsentEvent>) -> Result<u64> {
        let recorded = events.into_iter().map(|event| self.record_one(event));
        let recorded = stream::iter(recorded).buffer_unordered(REQUESTS_MAX);
        let new: Vec<bool> = recorded.try_collect().await?;
        Ok(new.into_iter().filter(|new| *new).count() as u64)
    }

    async fn history(&self, key: &RecipientKey) -> Result<Vec<ConsentEvent>> {
        let words = Words::default().text(":pk", &partition(key));
        let words = words.text(":event", item::EVENT);
        let events = "pk = :pk AND begins_with(sk, :event)";
        let items = self.0.query("read a history", events, &words).await?;
        let mut events: Vec<ConsentEvent> = items
            .iter()
            .map(|one| item::event(key, one))
            .collect::<Result<_>>()?;
        events.sort_by_key(ConsentEvent::order);
        Ok(events)
    }

    async fn count(&self) -> Result<u64> {
        let op = "count recipients: DynamoDB would have to read the whole table";
        Err(Error::new(Kind::Unsupported, "consent", op))
    }
}

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
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use nightgate_core::{Consent, RecipientKey};

use super::{ConsentBook, ConsentEvent};
use crate::aws::tables::why;
use crate::clock::{Clock, pass};
use crate::error::{Error, Kind, Result};
use item::{STATE, partition};

/// Most keys in one BatchGetItem.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>
const GET_MAX: usize = 100;
/// Requests under way at once, for each call.
const REQUESTS_MAX: usize = 32;
/// How often keys that a busy table left out are asked for again.
const AGAIN_MAX: u32 = 6;
/// Pause before the first of these; it doubles.
const AGAIN_AFTER: Duration = Duration::from_millis(25);

/// The book.
pub struct DynamoBook {
    client: Client,
    table: String,
    clock: Arc<dyn Clock>,
}

/// One item.
type Item = HashMap<String, AttributeValue>;

impl DynamoBook {
    /// The book in `table`, which has the partition key `pk` and the sort key `sk`, both texts.
    #[must_use]
    pub fn new(client: Client, table: &str, clock: Arc<dyn Clock>) -> Self {
        let table = table.to_owned();
        Self {
            client,
            table,
            clock,
        }
    }

    /// The deciding items of up to [`GET_MAX`] different recipients.
    async fn get(&self, keys: &[&RecipientKey]) -> Result<Vec<Item>> {
        let key = |key: &&RecipientKey| item::key(&partition(key), STATE);
        let mut wanted: Vec<Item> = keys.iter().map(key).collect();
        let mut items = Vec::with_capacity(keys.len());
        for again in 0..=AGAIN_MAX {
            if again > 0 {
                pass(&*self.clock, AGAIN_AFTER * 2_u32.pow(again - 1)).await;
            }
            let keys = KeysAndAttributes::builder()
                .set_keys(Some(std::mem::take(&mut wanted)))
                .consistent_read(true)
                .build()
                .map_err(|error| failed("ask for consents", error))?;
            let request = self.client.batch_get_item();
            let answer = request.request_items(&self.table, keys).send().await;
            let answer = answer.map_err(|error| unavailable("ask for consents", &error))?;
            let found = answer.responses.and_then(|mut all| all.remove(&self.table));
            items.extend(found.unwrap_or_default());
            let left = answer
                .unprocessed_keys
                .and_then(|mut all| all.remove(&self.table));
            match left {
                Some(left) if !left.keys.is_empty() => wanted = left.keys,
                _ => return Ok(items),
            }
        }
        let op = format!(
            "ask for consents: the table left {} of them out",
            wanted.len()
        );
        Err(Error::new(Kind::Unavailable, "consent", op))
    }

    /// Makes `attribute` of a recipient's deciding item `value`, unless it is that or greater.
    async fn raise(&self, pk: &str, attribute: &str, value: &str) -> Result<()> {
        let raised = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(item::key(pk, STATE)))
            .update_expression("SET #a = :v")
            .condition_expression("attribute_not_exists(#a) OR #a < :v")
            .expression_attribute_names("#a", attribute)
            .expression_attribute_values(":v", AttributeValue::S(value.to_owned()))
            .send()
            .await;
        match raised {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(fault) if fault.is_conditional_check_failed_exception() => Ok(()),
                _ => Err(unavailable("record a consent", &error)),
            },
        }
    }

    /// Records one event: what decides first, so that a stop in between leaves a consent without
    /// its proof and not a withdrawal without its effect; then the event. Says whether it was new.
    async fn record_one(&self, event: ConsentEvent) -> Result<bool> {
        let pk = partition(&event.key);
        for (attribute, value) in item::raises(&event)? {
            self.raise(&pk, attribute, &value).await?;
        }
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item::of_event(&pk, &event)?))
            .condition_expression("attribute_not_exists(pk)")
            .send()
            .await;
        match put {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(fault) if fault.is_conditional_check_failed_exception() => Ok(false),
                _ => Err(unavailable("record a consent", &error)),
            },
        }
    }
}

fn unavailable<E, R>(op: &str, error: &SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    Error::new(Kind::Unavailable, "consent", op).with(why(error))
}

fn failed(op: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Invalid, "consent", op).with(error)
}

#[async_trait]
impl ConsentBook for DynamoBook {
    async fn look_up(&self, keys: &[RecipientKey]) -> Result<Vec<Consent>> {
        let mut seen = HashSet::new();
        let different: Vec<&RecipientKey> = keys.iter().filter(|key| seen.insert(*key)).collect();
        let mut asked = Vec::new();
        for keys in different.chunks(GET_MAX) {
            asked.push(self.get(keys).boxed());
        }
        let asked = stream::iter(asked).buffer_unordered(REQUESTS_MAX);
        let items: Vec<Vec<Item>> = asked.try_collect().await?;
        let mut told = HashMap::with_capacity(different.len());
        for one in items.iter().flatten() {
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
        let pages = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND begins_with(sk, :event)")
            .expression_attribute_values(":pk", AttributeValue::S(partition(key)))
            .expression_attribute_values(":event", AttributeValue::S(item::EVENT.to_owned()))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let items: Vec<Item> = pages
            .try_collect()
            .await
            .map_err(|error| unavailable("read a history", &error))?;
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

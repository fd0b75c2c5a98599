//! One table of DynamoDB, as every part that keeps something in it uses it: partition key `pk`,
//! sort key `sk`, both texts, and `ttl` for what is to vanish by itself.
//!
//! Items hold recipients, so neither request nor answer gets into the text of a fault.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, KeysAndAttributes, PutRequest, ReturnValuesOnConditionCheckFailure,
    WriteRequest,
};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::clock::{Clock, pass};
use crate::error::{Error, Kind, Result};

/// Most keys in one BatchGetItem.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>
const GET_MAX: usize = 100;
/// Most items in one BatchWriteItem.
const WRITE_MAX: usize = 25;
/// What DynamoDB says when it is asked for more than it gives.
const BUSY: [&str; 3] = [
    "ThrottlingException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
];
/// Requests under way at once, for each call.
pub const REQUESTS_MAX: usize = 32;
/// How often what a busy table left out is asked for again.
const AGAIN_MAX: u32 = 6;
/// Pause before the first of these; it doubles.
const AGAIN_AFTER: Duration = Duration::from_millis(25);

/// One item.
pub type Item = HashMap<String, AttributeValue>;

/// What the placeholders of an expression stand for: names (`#a`) and values (`:v`).
#[derive(Clone, Debug, Default)]
pub struct Words {
    names: HashMap<String, String>,
    values: Item,
}

impl Words {
    /// With the attribute that `#…` stands for.
    #[must_use]
    pub fn name(mut self, placeholder: &str, name: &str) -> Self {
        self.names.insert(placeholder.to_owned(), name.to_owned());
        self
    }

    /// With the text that `:…` stands for.
    #[must_use]
    pub fn text(mut self, placeholder: &str, value: &str) -> Self {
        self.values.insert(placeholder.to_owned(), text(value));
        self
    }

    /// With the value that `:…` stands for.
    #[must_use]
    pub fn value(mut self, placeholder: &str, value: AttributeValue) -> Self {
        self.values.insert(placeholder.to_owned(), value);
        self
    }

    fn names(&self) -> Option<HashMap<String, String>> {
        (!self.names.is_empty()).then(|| self.names.clone())
    }

    fn values(&self) -> Option<Item> {
        (!self.values.is_empty()).then(|| self.values.clone())
    }
}

/// A table, as one part of the gateway knows it.
#[derive(Clone)]
pub struct Table {
    client: Client,
    name: Arc<str>,
    clock: Arc<dyn Clock>,
    part: &'static str,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({})", self.name)
    }
}

impl Table {
    /// The table `name`. `clock` times the pauses before a busy table is asked again.
    #[must_use]
    pub fn new(client: Client, name: &str, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            name: name.into(),
            clock,
            part: "table",
        }
    }

    /// The same table for `part`, which its faults name.
    #[must_use]
    pub fn of(&self, part: &'static str) -> Self {
        Self {
            part,
            ..self.clone()
        }
    }

    /// Puts an item, whatever was there.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn put(&self, op: &str, item: Item) -> Result<()> {
        let put = self.client.put_item().table_name(&*self.name);
        let put = put.set_item(Some(item)).send().await;
        put.map_err(|error| self.fault(op, &error))?;
        Ok(())
    }

    /// Puts an item if there is none under its keys; says whether there was none.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn put_new(&self, op: &str, item: Item) -> Result<bool> {
        let put = self
            .client
            .put_item()
            .table_name(&*self.name)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)")
            .send()
            .await;
        match put {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(fault) if fault.is_conditional_check_failed_exception() => Ok(false),
                _ => Err(self.fault(op, &error)),
            },
        }
    }

    /// Puts an item if `condition` holds for what is there; gives what is there if it does not. It
    /// may be carried out twice, so the condition must hold for the item itself. A busy table is
    /// asked again a few times.
    ///
    /// # Errors
    /// `Unavailable`; then it may have been put.
    pub async fn put_if(
        &self,
        op: &str,
        item: Item,
        condition: &str,
        words: &Words,
    ) -> Result<Option<Item>> {
        let keys = ["pk", "sk"].map(|name| (name.to_owned(), item.get(name).cloned()));
        let put = self
            .client
            .put_item()
            .table_name(&*self.name)
            .set_item(Some(item))
            .condition_expression(condition)
            .set_expression_attribute_names(words.names())
            .set_expression_attribute_values(words.values())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let error = match self.patiently(|| put.clone().send()).await {
            Ok(_) => return Ok(None),
            Err(error) => error,
        };
        let failed = match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failed)) => failed,
            _ => return Err(self.fault(op, &error)),
        };
        if let Some(item) = failed.item() {
            return Ok(Some(item.clone()));
        }
        // Not every server of this protocol tells what is there.
        let keys = keys
            .into_iter()
            .filter_map(|(name, key)| Some((name, key?)));
        Ok(self.get(op, vec![keys.collect()]).await?.pop())
    }

    /// Puts items whose keys differ from one another, whatever was there. A busy table is asked
    /// again a few times.
    ///
    /// # Errors
    /// `Unavailable`; then some may have been put.
    pub async fn write(&self, op: &str, items: Vec<Item>) -> Result<()> {
        let mut writes = Vec::new();
        for items in items.chunks(WRITE_MAX) {
            writes.push(self.write_some(op, items).boxed());
        }
        let writes = stream::iter(writes).buffer_unordered(REQUESTS_MAX);
        writes.try_collect().await
    }

    async fn write_some(&self, op: &str, items: &[Item]) -> Result<()> {
        let write = |item: &Item| {
            let put = PutRequest::builder().set_item(Some(item.clone())).build();
            let put = put.map_err(|error| Error::new(Kind::Invalid, self.part, op).with(error))?;
            Ok(WriteRequest::builder().put_request(put).build())
        };
        let mut left = items.iter().map(write).collect::<Result<Vec<_>>>()?;
        for again in 0..=AGAIN_MAX {
            self.rest(again).await;
            let write = self.client.batch_write_item();
            let write = write.request_items(&*self.name, std::mem::take(&mut left));
            let written = self.patiently(|| write.clone().send()).await;
            let written = written.map_err(|error| self.fault(op, &error))?;
            let unprocessed = written.unprocessed_items;
            match unprocessed.and_then(|mut all| all.remove(&*self.name)) {
                Some(unprocessed) if !unprocessed.is_empty() => left = unprocessed,
                _ => return Ok(()),
            }
        }
        let op = format!("{op}: the table left {} of them out", left.len());
        Err(Error::new(Kind::Unavailable, self.part, op))
    }

    /// Carries `change` out on the item under `key` if `condition` holds; says whether it did.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn update(
        &self,
        op: &str,
        key: Item,
        change: &str,
        condition: Option<&str>,
        words: &Words,
    ) -> Result<bool> {
        let updated = self
            .client
            .update_item()
            .table_name(&*self.name)
            .set_key(Some(key))
            .update_expression(change)
            .set_condition_expression(condition.map(str::to_owned))
            .set_expression_attribute_names(words.names())
            .set_expression_attribute_values(words.values())
            .send()
            .await;
        match updated {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(fault) if fault.is_conditional_check_failed_exception() => Ok(false),
                _ => Err(self.fault(op, &error)),
            },
        }
    }

    /// The items under these keys, which differ from one another: as they are now, in any order,
    /// without those that are not there.
    ///
    /// # Errors
    /// `Unavailable`, also when the table leaves some out for too long.
    pub async fn get(&self, op: &str, keys: Vec<Item>) -> Result<Vec<Item>> {
        let mut asked = Vec::new();
        for keys in keys.chunks(GET_MAX) {
            asked.push(self.get_some(op, keys.to_vec()).boxed());
        }
        let asked = stream::iter(asked).buffer_unordered(REQUESTS_MAX);
        let items: Vec<Vec<Item>> = asked.try_collect().await?;
        Ok(items.into_iter().flatten().collect())
    }

    /// The items under up to [`GET_MAX`] keys.
    async fn get_some(&self, op: &str, mut wanted: Vec<Item>) -> Result<Vec<Item>> {
        let mut items = Vec::with_capacity(wanted.len());
        for again in 0..=AGAIN_MAX {
            self.rest(again).await;
            let keys = KeysAndAttributes::builder()
                .set_keys(Some(std::mem::take(&mut wanted)))
                .consistent_read(true)
                .build()
                .map_err(|error| Error::new(Kind::Invalid, self.part, op).with(error))?;
            let request = self.client.batch_get_item();
            let answer = request.request_items(&*self.name, keys).send().await;
            let answer = answer.map_err(|error| self.fault(op, &error))?;
            let found = answer.responses.and_then(|mut all| all.remove(&*self.name));
            items.extend(found.unwrap_or_default());
            let left = answer
                .unprocessed_keys
                .and_then(|mut all| all.remove(&*self.name));
            match left {
                Some(left) if !left.keys.is_empty() => wanted = left.keys,
                _ => return Ok(items),
            }
        }
        let op = format!("{op}: the table left {} of them out", wanted.len());
        Err(Error::new(Kind::Unavailable, self.part, op))
    }

    /// All items of a partition for which `condition` on the keys holds, as they are now.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn query(&self, op: &str, condition: &str, words: &Words) -> Result<Vec<Item>> {
        let pages = self
            .client
            .query()
            .table_name(&*self.name)
            .key_condition_expression(condition)
            .set_expression_attribute_names(words.names())
            .set_expression_attribute_values(words.values())
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let items = pages.try_collect().await;
        items.map_err(|error| self.fault(op, &error))
    }

    /// The pause before a request is made for the `again`-th time; none before the first.
    async fn rest(&self, again: u32) {
        if again > 0 {
            pass(&*self.clock, AGAIN_AFTER * 2_u32.pow(again - 1)).await;
        }
    }

    /// Makes a request again while the table is busy, a few times.
    async fn patiently<T, E, R, F>(
        &self,
        request: impl Fn() -> F,
    ) -> std::result::Result<T, SdkError<E, R>>
    where
        E: ProvideErrorMetadata,
        F: Future<Output = std::result::Result<T, SdkError<E, R>>>,
    {
        let mut again = 0;
        loop {
            match request().await {
                Err(error) if again < AGAIN_MAX && is_busy(&error) => again += 1,
                answer => return answer,
            }
            self.rest(again).await;
        }
    }

    fn fault<E, R>(&self, op: &str, error: &SdkError<E, R>) -> Error
    where
        E: ProvideErrorMetadata + StdError + 'static,
        R: fmt::Debug,
    {
        Error::new(Kind::Unavailable, self.part, op).with(why(error))
    }
}

/// Whether the table is asked for more than it gives.
fn is_busy<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    let code = error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code);
    code.is_some_and(|code| BUSY.contains(&code))
}

/// A text as an attribute.
#[must_use]
pub fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

/// An instant as DynamoDB's time-to-live has it: whole seconds.
#[must_use]
pub fn ttl(at: Timestamp) -> AttributeValue {
    AttributeValue::N(at.as_second().to_string())
}

/// An item's keys, or an item that has nothing but them.
#[must_use]
pub fn key(pk: &str, sk: &str) -> Item {
    Item::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
}

/// The text of an attribute, if it is one.
#[must_use]
pub fn text_of<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// Why a request to DynamoDB failed: its code, or what lay underneath where there was no answer.
fn why<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + StdError + 'static,
    R: fmt::Debug,
{
    match error {
        // AWS's own text may quote a key.
        SdkError::ServiceError(context) => {
            let code = context.err().code().unwrap_or("an error without a code");
            match code {
                "ResourceNotFoundException" => format!("{code}: see `dynamodb.table`"),
                "UnrecognizedClientException" | "AccessDeniedException" => {
                    format!("{code}: look at the credentials and their rights")
                }
                _ => code.to_owned(),
            }
        }
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(error) => format!("not connected: {}", root(error)),
            None => "not connected".to_owned(),
        },
        SdkError::TimeoutError(_) => "no answer in time".to_owned(),
        SdkError::ConstructionFailure(_) => "the request could not be made".to_owned(),
        _ => "the answer could not be read".to_owned(),
    }
}

/// The innermost cause.
fn root(error: &dyn StdError) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

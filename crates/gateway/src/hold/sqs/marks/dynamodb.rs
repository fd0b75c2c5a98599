//! Marks in the DynamoDB table that also keeps consents: one item each (`pk = recall`, `sk` the
//! instant and something that tells two of one instant apart), which the table's time-to-live
//! (`ttl`) takes away once no queue can hold what it names.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};

use super::{Mark, Marks};
use crate::aws::tables::why;
use crate::error::{Error, Kind, Result};
use crate::hold::Scope;

/// The partition of all marks: they are few, and read together.
const PARTITION: &str = "recall";
/// How long a mark is kept: a queue keeps a message for 14 days, and clocks differ.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(15 * 24);

/// The marks.
pub struct DynamoMarks {
    client: Client,
    table: String,
}

impl DynamoMarks {
    /// Marks in `table`, which has the partition key `pk` and the sort key `sk`, both texts.
    #[must_use]
    pub fn new(client: Client, table: &str) -> Self {
        let table = table.to_owned();
        Self { client, table }
    }
}

/// The sort key of everything at or after an instant begins at this text: texts of instants sort as
/// instants do.
fn place(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// The item of a mark. `salt` tells marks of one instant apart.
fn item(mark: &Mark, salt: u64) -> Result<HashMap<String, AttributeValue>> {
    let scope = serde_json::to_string(&mark.scope);
    let scope = scope.map_err(|error| failed("write a recall", error))?;
    let ends = mark.at.checked_add(KEPT_FOR).unwrap_or(Timestamp::MAX);
    Ok(HashMap::from([
        ("pk".to_owned(), AttributeValue::S(PARTITION.to_owned())),
        (
            "sk".to_owned(),
            AttributeValue::S(format!("{}#{salt:016x}", place(mark.at))),
        ),
        ("scope".to_owned(), AttributeValue::S(scope)),
        (
            "ttl".to_owned(),
            AttributeValue::N(ends.as_second().to_string()),
        ),
    ]))
}

/// The mark of an item.
fn mark(item: &HashMap<String, AttributeValue>) -> Result<Mark> {
    let corrupt = || {
        Error::new(
            Kind::Corrupt,
            "hold",
            "read a recall: its item is of another shape",
        )
    };
    let text = |name: &str| {
        let value = item.get(name).and_then(|value| value.as_s().ok());
        value.map(String::as_str).ok_or_else(corrupt)
    };
    let at = text("sk")?.split('#').next().unwrap_or_default();
    let scope: Scope = serde_json::from_str(text("scope")?).map_err(|_| corrupt())?;
    let at = at.parse().map_err(|_| corrupt())?;
    Ok(Mark { scope, at })
}

#[async_trait]
impl Marks for DynamoMarks {
    async fn add(&self, mark: Mark) -> Result<()> {
        let item = item(&mark, fastrand::u64(..))?;
        let put = self.client.put_item().table_name(&self.table);
        let put = put.set_item(Some(item)).send().await;
        put.map_err(|error| unavailable("note a recall", &error))?;
        Ok(())
    }

    async fn since(&self, from: Timestamp) -> Result<Vec<Mark>> {
        let items = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND sk >= :from")
            .expression_attribute_values(":pk", AttributeValue::S(PARTITION.to_owned()))
            .expression_attribute_values(":from", AttributeValue::S(place(from)))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let items: Vec<_> = items
            .try_collect()
            .await
            .map_err(|error| unavailable("read recalls", &error))?;
        items.iter().map(mark).collect()
    }
}

fn unavailable<E, R>(op: &str, error: &SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    Error::new(Kind::Unavailable, "hold", op).with(why(error))
}

fn failed(op: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Invalid, "hold", op).with(error)
}

#[cfg(test)]
mod tests {
    use nightgate_core::{MessageId, RecipientKey};

    use super::*;
    use crate::hold::Lane;

    #[test]
    fn a_mark_reads_back_and_sorts_by_its_instant() {
        let scopes = [
            Scope::Id(MessageId::new("m-1").unwrap()),
            Scope::Campaign("가을 세일".into()),
            Scope::Recipient(RecipientKey::from_stored("+821012345678")),
            Scope::Lane(Lane::new("kakao")),
        ];
        let mut last = String::new();
        for (seconds, scope) in (0..).zip(scopes) {
            let at = Timestamp::new(1_790_000_000 + seconds, 900_000_000).unwrap();
            let written = Mark { scope, at };
            let item = item(&written, 7).unwrap();
            assert_eq!(mark(&item).unwrap(), written);
            let place_of_it = item["sk"].as_s().unwrap().clone();
            assert!(last < place_of_it && place(at) <= place_of_it);
            last = place_of_it;
        }
    }

    #[test]
    fn an_item_of_another_shape_is_corrupt_and_not_passed_over() {
        let written = Mark {
            scope: Scope::Lane(Lane::new("kakao")),
            at: Timestamp::UNIX_EPOCH,
        };
        for name in ["sk", "scope"] {
            let mut item = item(&written, 1).unwrap();
            item.insert(name.to_owned(), AttributeValue::S("what".to_owned()));
            assert_eq!(mark(&item).unwrap_err().kind, Kind::Corrupt);
        }
    }
}

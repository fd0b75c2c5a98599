//! Claims in the DynamoDB table that also keeps consents: an item each (`pk = alarm#KIND#SUBJECT`,
//! `sk` the beginning of the stretch), which the table's time-to-live (`ttl`) takes away.

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use super::Claims;
use crate::aws::tables::why;
use crate::error::{Error, Kind, Result};

/// The claims.
pub struct DynamoClaims {
    client: Client,
    table: String,
}

impl DynamoClaims {
    /// Claims in `table`, which has the partition key `pk` and the sort key `sk`, both texts.
    #[must_use]
    pub fn new(client: Client, table: &str) -> Self {
        let table = table.to_owned();
        Self { client, table }
    }
}

#[async_trait]
impl Claims for DynamoClaims {
    async fn claim(&self, key: &str, from: Timestamp, to: Timestamp) -> Result<bool> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("pk", AttributeValue::S(format!("alarm#{key}")))
            .item("sk", AttributeValue::S(from.to_string()))
            .item("ttl", AttributeValue::N(to.as_second().to_string()))
            .condition_expression("attribute_not_exists(pk)")
            .send()
            .await;
        match put {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(fault) if fault.is_conditional_check_failed_exception() => Ok(false),
                _ => {
                    let fault = Error::new(Kind::Unavailable, "alert", "claim an alarm");
                    Err(fault.with(why(&error)))
                }
            },
        }
    }
}

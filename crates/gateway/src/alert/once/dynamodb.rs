//! Claims in the DynamoDB table that also keeps consents: an item each (`pk = alarm#KIND#SUBJECT`,
//! `sk` the beginning of the stretch), which the table's time-to-live (`ttl`) takes away.

use async_trait::async_trait;
use jiff::Timestamp;

use super::Claims;
use crate::aws::tables::{Table, key, ttl};
use crate::error::Result;

/// The claims.
pub struct DynamoClaims(Table);

impl DynamoClaims {
    /// Claims in `table`.
    #[must_use]
    pub fn new(table: &Table) -> Self {
        Self(table.of("alert"))
    }
}

#[async_trait]
impl Claims for DynamoClaims {
    async fn claim(&self, alarm: &str, from: Timestamp, to: Timestamp) -> Result<bool> {
        let mut item = key(&format!("alarm#{alarm}"), &from.to_string());
        item.insert("ttl".to_owned(), ttl(to));
        self.0.put_new("claim an alarm", item).await
    }
}

//! What lives in the table of `[dynamodb]`.

use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use jiff::SignedDuration;

use crate::alert::once::Claims;
use crate::alert::once::dynamodb::DynamoClaims;
use crate::aws::client::Aws;
use crate::aws::tables::Table;
use crate::cli::Failure;
use crate::clock::Clock;
use crate::consent::ConsentBook;
use crate::consent::dynamodb::DynamoBook;
use crate::hold::sqs::marks::Marks;
use crate::hold::sqs::marks::dynamodb::DynamoMarks;
use crate::release::attempts::Attempts;
use crate::release::attempts::dynamodb::DynamoAttempts;

/// The table.
pub(super) struct Tables(Table);

impl Tables {
    pub(super) fn new(aws: &Aws, table: &str, clock: &Arc<dyn Clock>) -> Result<Self, Failure> {
        let client = Client::new(aws.config());
        Ok(Self(Table::new(client, table, Arc::clone(clock))))
    }

    pub(super) fn consent(&self) -> Arc<dyn ConsentBook> {
        Arc::new(DynamoBook::new(&self.0))
    }

    pub(super) fn claims(&self) -> Arc<dyn Claims> {
        Arc::new(DynamoClaims::new(&self.0))
    }

    pub(super) fn attempts(&self, horizon: SignedDuration) -> Arc<dyn Attempts> {
        Arc::new(DynamoAttempts::new(&self.0, horizon))
    }

    pub(super) fn marks(&self) -> Arc<dyn Marks> {
        Arc::new(DynamoMarks::new(&self.0))
    }
}

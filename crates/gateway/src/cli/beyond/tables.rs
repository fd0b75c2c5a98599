//! What lives in the table of `[dynamodb]`.

use std::sync::Arc;

use aws_sdk_dynamodb::Client;

use crate::alert::once::Claims;
use crate::alert::once::dynamodb::DynamoClaims;
use crate::aws::client::Aws;
use crate::cli::Failure;
use crate::clock::Clock;
use crate::consent::ConsentBook;
use crate::consent::dynamodb::DynamoBook;
use crate::hold::sqs::marks::Marks;
use crate::hold::sqs::marks::dynamodb::DynamoMarks;

/// The table.
pub(super) struct Tables {
    client: Client,
    table: String,
}

impl Tables {
    pub(super) fn new(aws: &Aws, table: &str) -> Result<Self, Failure> {
        let client = Client::new(aws.config());
        let table = table.to_owned();
        Ok(Self { client, table })
    }

    pub(super) fn consent(&self, clock: Arc<dyn Clock>) -> Arc<dyn ConsentBook> {
        Arc::new(DynamoBook::new(self.client.clone(), &self.table, clock))
    }

    pub(super) fn claims(&self) -> Arc<dyn Claims> {
        Arc::new(DynamoClaims::new(self.client.clone(), &self.table))
    }

    pub(super) fn marks(&self) -> Arc<dyn Marks> {
        Arc::new(DynamoMarks::new(self.client.clone(), &self.table))
    }
}

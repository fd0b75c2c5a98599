//! A build without DynamoDB: each question is answered with what to build.

use std::sync::Arc;

use jiff::SignedDuration;

use crate::alert::once::Claims;
use crate::aws::client::Aws;
use crate::cli::Failure;
use crate::clock::Clock;
use crate::consent::ConsentBook;
use crate::hold::sqs::marks::Marks;
use crate::release::attempts::Attempts;

/// No table: there is none to make.
pub(super) enum Tables {}

impl Tables {
    pub(super) fn new(_: &Aws, table: &str, _: &Arc<dyn Clock>) -> Result<Self, Failure> {
        Err(Failure::usage(format!(
            "the table {table} needs a build with DynamoDB in it: cargo build --release --features \
             full"
        )))
    }

    pub(super) fn consent(&self) -> Arc<dyn ConsentBook> {
        match *self {}
    }

    pub(super) fn claims(&self) -> Arc<dyn Claims> {
        match *self {}
    }

    pub(super) fn attempts(&self, _: SignedDuration) -> Arc<dyn Attempts> {
        match *self {}
    }

    pub(super) fn marks(&self) -> Arc<dyn Marks> {
        match *self {}
    }
}

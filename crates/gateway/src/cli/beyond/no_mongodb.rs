//! A build without MongoDB in it: each question is answered with what to build.

use std::sync::Arc;

use crate::alert::once::Claims;
use crate::cli::Failure;
use crate::clock::Clock;
use crate::config::Config;
use crate::consent::ConsentBook;
use crate::hold::HoldStore;
use crate::receipt::ReceiptLog;
use crate::release::budget::Budget;
use crate::release::skew::SharedClock;

/// Nothing.
#[derive(Debug)]
pub(crate) struct MongoWay;

impl MongoWay {
    #[must_use]
    pub(super) fn new(_: &Config) -> Self {
        Self
    }

    pub(crate) async fn hold(
        &self,
        _: &Config,
        _: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn HoldStore>, Failure> {
        Err(missing("`hold.store` = \"mongodb\""))
    }

    pub(crate) async fn consent(&self) -> Result<Arc<dyn ConsentBook>, Failure> {
        Err(missing("`consent.store` = \"mongodb\""))
    }

    pub(crate) async fn receipts(&self) -> Result<Arc<dyn ReceiptLog>, Failure> {
        Err(missing("`receipts.store` = \"mongodb\""))
    }

    pub(crate) async fn claims(&self) -> Result<Arc<dyn Claims>, Failure> {
        Err(missing("`alerts.shared` = \"mongodb\""))
    }

    pub(crate) async fn budget(&self) -> Result<Arc<dyn Budget>, Failure> {
        Err(missing("`hold.store` = \"mongodb\""))
    }

    pub(crate) async fn clock(&self) -> Result<Arc<dyn SharedClock>, Failure> {
        Err(missing("`hold.store` = \"mongodb\""))
    }
}

fn missing(what: &str) -> Failure {
    super::not_built(what, "MongoDB")
}

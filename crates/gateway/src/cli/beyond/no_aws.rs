//! A build without AWS in it: each question is answered with what to build.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::alert::once::Claims;
use crate::cli::Failure;
use crate::cli::road::Road;
use crate::clock::Clock;
use crate::config::{Config, SqsSinkConfig};
use crate::consent::ConsentBook;
use crate::hold::HoldStore;
use crate::receipt::ReceiptLog;
use crate::release::attempts::Attempts;
use crate::sink::Sink;

/// Nothing.
#[derive(Debug)]
pub(crate) struct AwsWay;

impl AwsWay {
    /// Nothing, whatever is configured.
    #[must_use]
    pub(crate) fn new(_: &Config) -> Self {
        Self
    }

    pub(crate) async fn hold(
        &self,
        _: &Config,
        _: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn HoldStore>, Failure> {
        Err(missing("`hold.store` = \"sqs\""))
    }

    /// No source can be started; none is configured in most builds of this kind.
    ///
    /// # Errors
    /// When one is.
    pub(crate) async fn start_sources(
        &self,
        config: &Config,
        _: &Road,
        _: &watch::Receiver<bool>,
    ) -> Result<Vec<JoinHandle<()>>, Failure> {
        match config.sources.is_empty() {
            true => Ok(Vec::new()),
            false => Err(missing("a source")),
        }
    }

    pub(crate) async fn sink(
        &self,
        _: &SqsSinkConfig,
        _: Arc<dyn Clock>,
    ) -> Result<Arc<dyn Sink>, Failure> {
        Err(missing("a lane with `sink` = \"sqs\""))
    }

    pub(crate) async fn receipts(
        &self,
        _: &str,
        _: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn ReceiptLog>, Failure> {
        Err(missing("`receipts.store` = \"sqs\""))
    }

    pub(crate) async fn claims(
        &self,
        _: &Config,
        _: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn Claims>, Failure> {
        Err(missing("`alerts.shared` = \"dynamodb\""))
    }

    pub(crate) async fn attempts(
        &self,
        _: &Config,
        _: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn Attempts>, Failure> {
        Err(missing("`hold.sqs.attempts` = \"dynamodb\""))
    }

    pub(crate) async fn consent(
        &self,
        _: &Config,
        _: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn ConsentBook>, Failure> {
        Err(missing("`consent.store` = \"dynamodb\""))
    }
}

fn missing(what: &str) -> Failure {
    super::not_built(what, "AWS")
}

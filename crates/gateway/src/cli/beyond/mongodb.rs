//! One way to MongoDB for a whole command.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::alert::once::Claims;
use crate::alert::once::mongodb::MongoClaims;
use crate::cli::Failure;
use crate::clock::Clock;
use crate::config::Config;
use crate::consent::ConsentBook;
use crate::consent::mongodb::MongoBook;
use crate::hold::HoldStore;
use crate::hold::mongodb::{MongoHold, MongoHoldOptions};
use crate::mongodb::{Mongo, MongoOptions};
use crate::receipt::ReceiptLog;
use crate::receipt::mongodb::MongoLog;
use crate::release::budget::Budget;
use crate::release::budget::mongodb::MongoBudget;
use crate::release::skew::SharedClock;

/// MongoDB as the configuration has it.
pub(crate) struct MongoWay {
    options: MongoOptions,
    mongo: OnceCell<Mongo>,
}

impl MongoWay {
    #[must_use]
    pub(super) fn new(config: &Config) -> Self {
        let own = &config.mongodb;
        let options = MongoOptions {
            database: own.database.clone(),
            timeout: own.timeout,
            ..MongoOptions::new(own.url.clone())
        };
        Self {
            options,
            mongo: OnceCell::new(),
        }
    }

    async fn mongo(&self) -> Result<Mongo, Failure> {
        let make = || Mongo::open(&self.options);
        Ok(self.mongo.get_or_try_init(make).await?.clone())
    }

    pub(crate) async fn hold(
        &self,
        config: &Config,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn HoldStore>, Failure> {
        let options = MongoHoldOptions {
            horizon: config.hold.keep_ids,
        };
        Ok(Arc::new(
            MongoHold::open(self.mongo().await?, options, Arc::clone(clock)).await?,
        ))
    }

    pub(crate) async fn consent(&self) -> Result<Arc<dyn ConsentBook>, Failure> {
        Ok(Arc::new(MongoBook::open(self.mongo().await?).await?))
    }

    pub(crate) async fn receipts(&self) -> Result<Arc<dyn ReceiptLog>, Failure> {
        Ok(Arc::new(MongoLog::open(self.mongo().await?).await?))
    }

    pub(crate) async fn claims(&self) -> Result<Arc<dyn Claims>, Failure> {
        Ok(Arc::new(MongoClaims::open(self.mongo().await?).await?))
    }

    /// The rates that all gateways on this database keep together.
    pub(crate) async fn budget(&self) -> Result<Arc<dyn Budget>, Failure> {
        Ok(Arc::new(MongoBudget::new(self.mongo().await?)))
    }

    /// The clock that all gateways on this database share.
    pub(crate) async fn clock(&self) -> Result<Arc<dyn SharedClock>, Failure> {
        Ok(Arc::new(self.mongo().await?))
    }
}

//! One way to Redis for a whole command.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::alert::once::Claims;
use crate::alert::once::redis::RedisClaims;
use crate::cli::Failure;
use crate::config::{Config, RedisConfig, RedisMode};
use crate::consent::ConsentBook;
use crate::consent::redis::RedisBook;
use crate::hold::HoldStore;
use crate::hold::redis::{Options, RedisHold};
use crate::receipt::ReceiptLog;
use crate::receipt::redis::RedisLog;
use crate::redis::{Durability, Mode, Redis, RedisOptions, Replicas, SentinelLogin};
use crate::release::budget::Budget;
use crate::release::budget::redis::RedisBudget;
use crate::release::skew::SharedClock;

/// Redis as the configuration has it.
pub(crate) struct RedisWay {
    config: RedisConfig,
    redis: OnceCell<Redis>,
}

impl RedisWay {
    #[must_use]
    pub(super) fn new(config: &Config) -> Self {
        Self {
            config: config.redis.clone(),
            redis: OnceCell::new(),
        }
    }

    async fn redis(&self) -> Result<Redis, Failure> {
        let make = async || Redis::open(&self.options()).await;
        Ok(self.redis.get_or_try_init(make).await?.clone())
    }

    fn options(&self) -> RedisOptions {
        let config = &self.config;
        let mode = match &config.mode {
            RedisMode::Single => Mode::Single,
            RedisMode::Sentinel(master) => Mode::Sentinel {
                master: master.clone(),
            },
            RedisMode::Cluster => Mode::Cluster,
        };
        let replicas = Replicas {
            count: config.replicas,
            on_disk: config.replicas_on_disk,
        };
        let sentinel = SentinelLogin {
            user: config.sentinel_user.clone(),
            password: config.sentinel_password.clone(),
        };
        RedisOptions {
            mode,
            sentinel,
            prefix: config.prefix.clone(),
            timeout: config.timeout,
            replicas,
            ..RedisOptions::single(config.url.clone())
        }
    }

    pub(crate) async fn hold(&self, config: &Config) -> Result<Arc<dyn HoldStore>, Failure> {
        let durability = match self.config.strict {
            true => Durability::Strict,
            false => Durability::Relaxed,
        };
        let options = Options {
            partitions: self.config.partitions,
            horizon: config.hold.keep_ids,
            durability,
            ..Options::default()
        };
        let hold = RedisHold::open(self.redis().await?, options).await?;
        for warning in &hold.checked().warnings {
            tracing::warn!(warning, "the server of the hold");
        }
        Ok(Arc::new(hold))
    }

    pub(crate) async fn consent(&self) -> Result<Arc<dyn ConsentBook>, Failure> {
        Ok(Arc::new(RedisBook::new(self.redis().await?)))
    }

    pub(crate) async fn receipts(&self) -> Result<Arc<dyn ReceiptLog>, Failure> {
        let keep = self.config.keep_receipts;
        Ok(Arc::new(RedisLog::open(self.redis().await?, keep).await?))
    }

    pub(crate) async fn claims(&self) -> Result<Arc<dyn Claims>, Failure> {
        Ok(Arc::new(RedisClaims::new(self.redis().await?)))
    }

    /// The rates that all gateways on this server keep together.
    pub(crate) async fn budget(&self) -> Result<Arc<dyn Budget>, Failure> {
        Ok(Arc::new(RedisBudget::new(self.redis().await?)))
    }

    /// The clock that all gateways on this server share.
    pub(crate) async fn clock(&self) -> Result<Arc<dyn SharedClock>, Failure> {
        Ok(Arc::new(self.redis().await?))
    }
}

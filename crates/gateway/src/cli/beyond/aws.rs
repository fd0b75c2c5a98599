//! One way to AWS for a whole command, taken when something first needs it.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::aws::client::{Aws, AwsOptions};
use crate::aws::queues::{Queue, Queues};
use crate::cli::Failure;
use crate::clock::Clock;
use crate::config::{AwsConfig, Config, SqsSinkConfig};
use crate::consent::ConsentBook;
use crate::hold::HoldStore;
use crate::receipt::ReceiptLog;
use crate::receipt::sqs::SqsLog;
use crate::sink::Sink;
use crate::sink::sqs::{SqsSink, SqsSinkOptions};

/// AWS as the configuration has it.
pub(crate) struct Beyond {
    options: AwsOptions,
    aws: OnceCell<Aws>,
}

impl Beyond {
    /// As `config` has it. Nothing is connected yet.
    #[must_use]
    pub(crate) fn new(config: &Config) -> Self {
        let AwsConfig { region, endpoint } = config.aws.clone();
        let options = AwsOptions { region, endpoint };
        Self {
            options,
            aws: OnceCell::new(),
        }
    }

    async fn aws(&self) -> Result<&Aws, Failure> {
        let make = || Aws::new(&self.options);
        Ok(self.aws.get_or_try_init(make).await?)
    }

    /// Its queues.
    ///
    /// # Errors
    /// When no region is known.
    pub(crate) async fn queues(&self) -> Result<Arc<dyn Queues>, Failure> {
        Ok(self.aws().await?.queues())
    }

    /// The queue with this name, or at this address.
    ///
    /// # Errors
    /// When it cannot be found; the text says what to look at.
    pub(crate) async fn queue(&self, name: &str) -> Result<Queue, Failure> {
        if name.starts_with("http://") || name.starts_with("https://") {
            return Ok(Queue::new(name));
        }
        match self.queues().await?.find(name).await {
            Ok(Some(queue)) => Ok(queue),
            Ok(None) => Err(Failure::failed(format!(
                "there is no queue called {name}; create it (deploy/aws/template.yaml does), or \
                 correct its name or `aws.region`"
            ))),
            Err(fault) => Err(Failure::failed(format!(
                "cannot find the queue {name}: {fault}; look at `aws.endpoint`, `aws.region` and \
                 the credentials"
            ))),
        }
    }

    pub(crate) async fn hold(
        &self,
        config: &Config,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn HoldStore>, Failure> {
        let _ = (config, clock);
        Err(Failure::failed("the hold on SQS is on its way".to_owned()))
    }

    pub(crate) async fn sink(
        &self,
        sink: &SqsSinkConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn Sink>, Failure> {
        let queue = self.queue(&sink.queue).await?;
        let options = SqsSinkOptions {
            requests: sink.requests,
            ..SqsSinkOptions::new(queue)
        };
        Ok(Arc::new(SqsSink::new(self.queues().await?, options, clock)))
    }

    pub(crate) async fn receipts(
        &self,
        queue: &str,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn ReceiptLog>, Failure> {
        let queue = self.queue(queue).await?;
        let queues = self.queues().await?;
        Ok(Arc::new(SqsLog::new(queues, queue, Arc::clone(clock))))
    }

    #[cfg(feature = "dynamodb")]
    pub(crate) async fn consent(
        &self,
        config: &Config,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn ConsentBook>, Failure> {
        use crate::consent::dynamodb::DynamoBook;

        let client = aws_sdk_dynamodb::Client::new(self.aws().await?.config());
        let clock = Arc::clone(clock);
        Ok(Arc::new(DynamoBook::new(
            client,
            &config.dynamodb.table,
            clock,
        )))
    }

    #[cfg(not(feature = "dynamodb"))]
    pub(crate) async fn consent(
        &self,
        _: &Config,
        _: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn ConsentBook>, Failure> {
        Err(Failure::usage(
            "`consent.store` = \"dynamodb\" needs a build with it: cargo build --release \
             --features full"
                .to_owned(),
        ))
    }
}

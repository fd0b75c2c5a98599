//! One way to AWS for a whole command, taken when something first needs it.

use std::sync::Arc;

use nightgate_core::FieldFault;
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;

use super::tables::Tables;
use crate::alert::once::Claims;
use crate::aws::client::{Aws, AwsOptions};
use crate::aws::queues::{Queue, Queues};
use crate::cli::Failure;
use crate::cli::road::Road;
use crate::clock::Clock;
use crate::config::{AwsConfig, Config, Recalls, SourceConfig, SqsSinkConfig};
use crate::consent::ConsentBook;
use crate::hold::sqs::marks::Marks;
use crate::hold::sqs::{SqsHold, SqsHoldOptions};
use crate::hold::{HoldStore, Lane};
use crate::ingest::sqs::{Mapping, Source, SourceOptions, SourceParts};
use crate::receipt::ReceiptLog;
use crate::receipt::sqs::SqsLog;
use crate::release::attempts::Attempts;
use crate::sink::Sink;
use crate::sink::sqs::{SqsSink, SqsSinkOptions};

/// AWS as the configuration has it.
pub(crate) struct AwsWay {
    options: AwsOptions,
    aws: OnceCell<Aws>,
}

impl AwsWay {
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
        let lanes = config.lanes.iter().map(|lane| Lane::new(&lane.name));
        let own = &config.hold.sqs;
        let options = SqsHoldOptions {
            openings: own.openings.clone(),
            probe_every: own.probe_every,
            pollers: own.pollers,
            marks: self.marks(config, clock).await?,
            ..SqsHoldOptions::new(&own.prefix, lanes.collect())
        };
        let queues = self.queues().await?;
        let hold = SqsHold::open(queues, options, Arc::clone(clock)).await?;
        Ok(Arc::new(hold))
    }

    async fn marks(
        &self,
        config: &Config,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Arc<dyn Marks>>, Failure> {
        Ok(match config.hold.sqs.recalls {
            Recalls::None => None,
            Recalls::DynamoDb => Some(self.tables(config, clock).await?.marks()),
        })
    }

    /// The sources that are configured, into the gate of `road`.
    ///
    /// # Errors
    /// When a queue cannot be found, or a source does not say where its fields come from.
    pub(crate) async fn sources(
        &self,
        config: &Config,
        road: &Road,
    ) -> Result<Vec<Arc<Source>>, Failure> {
        let mut sources = Vec::with_capacity(config.sources.len());
        for source in &config.sources {
            sources.push(Arc::new(self.source(source, road).await?));
        }
        Ok(sources)
    }

    /// Starts them until `stopped`.
    ///
    /// # Errors
    /// As [`AwsWay::sources`].
    pub(crate) async fn start_sources(
        &self,
        config: &Config,
        road: &Road,
        stopped: &watch::Receiver<bool>,
    ) -> Result<Vec<JoinHandle<()>>, Failure> {
        let sources = self.sources(config, road).await?;
        let start = |source: Arc<Source>| tokio::spawn(source.run(stopped.clone()));
        Ok(sources.into_iter().map(start).collect())
    }

    async fn source(&self, source: &SourceConfig, road: &Road) -> Result<Source, Failure> {
        let parts = SourceParts {
            queues: self.queues().await?,
            gate: Arc::clone(&road.gate),
            clock: Arc::clone(&road.clock),
            alerts: road.alerts.clone(),
            metrics: Arc::clone(&road.metrics),
        };
        let dead_letter = match &source.dead_letter {
            Some(name) => Some(self.queue(name).await?),
            None => None,
        };
        let options = SourceOptions {
            dead_letter,
            pollers: source.pollers,
            hide: source.hide,
            ..SourceOptions::new(self.queue(&source.queue).await?, mapping(source)?)
        };
        Ok(Source::new(parts, options))
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
        Ok(Arc::new(SqsSink::new(
            self.queues().await?,
            options,
            clock,
        )?))
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

    pub(crate) async fn consent(
        &self,
        config: &Config,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn ConsentBook>, Failure> {
        Ok(self.tables(config, clock).await?.consent())
    }

    pub(crate) async fn claims(
        &self,
        config: &Config,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn Claims>, Failure> {
        Ok(self.tables(config, clock).await?.claims())
    }

    pub(crate) async fn attempts(
        &self,
        config: &Config,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn Attempts>, Failure> {
        let horizon = config.hold.keep_ids;
        Ok(self.tables(config, clock).await?.attempts(horizon))
    }

    async fn tables(&self, config: &Config, clock: &Arc<dyn Clock>) -> Result<Tables, Failure> {
        Tables::new(self.aws().await?, &config.dynamodb.table, clock)
    }
}

/// How `source` reads its messages.
///
/// # Errors
/// Every fault of `[source.NAME.map]`, one a line.
fn mapping(source: &SourceConfig) -> Result<Mapping, Failure> {
    Mapping::parse(&source.map).map_err(|faults| {
        let name = &source.name;
        let line =
            |fault: &FieldFault| format!("`source.{name}.map.{}` {}", fault.field, fault.rule);
        let lines: Vec<String> = faults.iter().map(line).collect();
        Failure::usage(lines.join("\n"))
    })
}

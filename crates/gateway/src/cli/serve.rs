//! `nightgate serve`: the gateway as a daemon.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::process::{interrupted, start_log, with_few_arenas};
use super::road::Road;
use super::{Common, Done, EXIT_OK, Failure};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::http::{self, Api, Auth, Limits};
use crate::release::run;

/// Run the gateway until Ctrl-C or SIGTERM.
#[derive(Debug, Args)]
pub struct Serve {
    /// Address and port to listen on; beyond loopback a token must be configured
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

impl Serve {
    pub(super) async fn run(self, common: &Common) -> Done {
        let mut common = common.clone();
        common
            .set
            .extend(self.listen.map(|listen| format!("http.listen={listen}")));
        let config = common.load()?.config;
        with_few_arenas();
        start_log(&config);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let road = Road::open(&config, Arc::clone(&clock), fastrand::Rng::new()).await?;
        let (stop, stopped) = watch::channel(false);
        let aws = &road.beyond.aws;
        let sources = aws.start_sources(&config, &road, &stopped).await?;
        let listen = config.http.listen;
        let listener = tokio::net::TcpListener::bind(listen)
            .await
            .map_err(|error| {
                Failure::failed(format!(
                    "cannot listen on {listen}: {error}; see `http.listen`"
                ))
            })?;
        tracing::info!(address = %listener.local_addr()?, data = %config.data.dir.display(),
            hold = road.hold.name(), rules = %road.decider.rules().version(),
            sources = sources.len(), "nightgate serves");
        serve(&config, &road, listener, sources, stop).await;
        tracing::info!("nightgate has stopped");
        Ok(EXIT_OK)
    }
}

/// Serves until the process is interrupted; then lets requests and hand-overs under way end.
async fn serve(
    config: &Config,
    road: &Road,
    listener: tokio::net::TcpListener,
    sources: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
) {
    let stopped = stop.subscribe();
    let (router, _) = http::router(api(config, road));
    let clock = Arc::clone(&road.clock);
    let releasing = tokio::spawn(run::run(
        Arc::clone(&road.releaser),
        Arc::clone(&clock),
        road.gate.woken(),
        stopped.clone(),
    ));
    let every = config.release.sweep_every;
    let hold = Arc::clone(&road.hold);
    let watching = run::watch_damage(hold, clock.clone(), road.alerts.clone(), stopped.clone());
    let watching = tokio::spawn(watching);
    let sweeping = run::sweep(Arc::clone(&road.hold), clock, every, stopped.clone());
    let sweeping = tokio::spawn(sweeping);
    let (last, no_more) = tokio::sync::oneshot::channel::<()>();
    let alarming = tokio::spawn(road.alerts.clone().run(async move {
        let _ = no_more.await;
    }));
    let serving = http::serve(listener, router, limits(config), stopped);
    let serving = tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the HTTP server failed");
        }
    });
    interrupted().await;
    tracing::info!("stopping: requests and hand-overs under way come to their end");
    let _ = stop.send(true);
    for task in [serving, releasing, sweeping, watching]
        .into_iter()
        .chain(sources)
    {
        if let Err(error) = task.await {
            tracing::error!(%error, "a part of the gateway did not stop cleanly");
        }
    }
    drop(last);
    let _ = alarming.await;
}

fn api(config: &Config, road: &Road) -> Api {
    Api {
        gate: Arc::clone(&road.gate),
        releaser: Arc::clone(&road.releaser),
        hold: Arc::clone(&road.hold),
        consent: Arc::clone(&road.consent),
        receipts: Arc::clone(&road.receipts),
        clock: Arc::clone(&road.clock),
        metrics: Arc::clone(&road.metrics),
        auth: Auth {
            producer: config.http.producer_token.clone(),
            operator: config.http.operator_token.clone(),
            reader: config.http.reader_token.clone(),
        },
        limits: limits(config),
    }
}

fn limits(config: &Config) -> Limits {
    let http = &config.http;
    Limits {
        body_max_bytes: http.body_max_bytes,
        bulk_line_max_bytes: http.bulk_line_max_bytes,
        header_max_bytes: http.header_max_bytes,
        batch_max: http.batch_max,
        connections_max: http.connections_max,
        request_timeout: http.request_timeout,
        bulk_idle_timeout: http.bulk_idle_timeout,
        shutdown_grace: http.shutdown_grace,
    }
}

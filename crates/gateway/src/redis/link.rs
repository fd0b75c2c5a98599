//! The connection: one, multiplexed, made anew when it breaks. The driver's own retries are off: it
//! would send a script again whose answer was lost, and a lease sent twice is lent twice.

use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::{ClusterClient, ClusterClientBuilder};
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{
    MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr,
};
use ::redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisError, RedisResult, ServerErrorKind, TlsMode, Value,
};
use tokio::sync::Mutex;

use super::Mode;
use super::fault::{Fault, Ran};

/// How often a call is sent again after an answer that says who has the slot now: the first answer
/// after a failover may itself be old.
const REDIRECTS_MAX: usize = 4;

/// The answers of a pipeline, one a call.
pub(super) type Answers = Vec<Result<Value, Fault>>;

/// One server, the master of some Sentinels, or a cluster.
pub(super) enum Link {
    One(Box<One>),
    Many(ClusterConnection),
}

/// One connection at a time and how to make the next.
pub(super) struct One {
    source: Mutex<Source>,
    live: Mutex<Live>,
    config: AsyncConnectionConfig,
    timeout: Duration,
}

enum Source {
    Server(Client),
    Sentinel(SentinelClient),
}

/// The connection in use. The number tells whether somebody else has made a new one meanwhile.
#[derive(Default)]
struct Live {
    number: u64,
    connection: Option<MultiplexedConnection>,
}

impl Link {
    pub(super) async fn open(
        addresses: &[String],
        mode: &Mode,
        timeout: Duration,
    ) -> Result<Self, Fault> {
        if *mode == Mode::Cluster {
            let client = cluster(addresses, timeout).map_err(|error| Fault::from(&error))?;
            let connection = tokio::time::timeout(timeout * 2, client.get_async_connection());
            let connection = connection.await.map_err(|_| Fault::timed_out())?;
            return Ok(Self::Many(connection.map_err(|error| Fault::from(&error))?));
        }
        let source = source(addresses, mode).map_err(|error| Fault::from(&error))?;
        let one = One {
            source: Mutex::new(source),
            live: Mutex::default(),
            config: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(timeout))
                .set_response_timeout(Some(timeout)),
            timeout,
        };
        one.connection().await?;
        Ok(Self::One(Box::new(one)))
    }

    pub(super) fn clustered(&self) -> bool {
        matches!(self, Self::Many(_))
    }

    /// Sends calls whose keys are all in `slot`.
    pub(super) async fn send(&self, pipeline: &Pipeline, slot: Slot) -> Result<Answers, Fault> {
        match self {
            Self::One(one) => one.send(pipeline).await,
            Self::Many(connection) => {
                let route = Route::with_slot(slot, SlotAddr::Master);
                let mut tries = 0;
                loop {
                    let to = SingleNodeRoutingInfo::SpecificNode(route);
                    let mut connection = connection.clone();
                    let sent = connection.route_pipeline(pipeline.clone(), 0, pipeline.len(), to);
                    match sent.await {
                        Ok(values) => return Ok(answers(values)),
                        Err(error) if tries < REDIRECTS_MAX && moved(&error) => tries += 1,
                        Err(error) => return Err(Fault::from(&error)),
                    }
                }
            }
        }
    }

    pub(super) async fn ask_masters(&self, cmd: &Cmd) -> Result<Vec<(String, Value)>, Fault> {
        match self {
            Self::One(one) => {
                let mut pipeline = Pipeline::new();
                pipeline.add_command(cmd.clone());
                let answer = one.send(&pipeline).await?.pop();
                let value = answer.unwrap_or_else(|| Err(Fault::answer("none")))?;
                Ok(vec![(String::new(), value)])
            }
            Self::Many(connection) => {
                let masters = MultipleNodeRoutingInfo::AllMasters;
                let to = RoutingInfo::MultiNode((masters, None));
                let mut connection = connection.clone();
                let value = connection.route_command(cmd.clone(), to).await;
                match value.map_err(|error| Fault::from(&error))? {
                    Value::Map(pairs) => pairs.into_iter().map(named).collect(),
                    _ => Err(Fault::answer("not one of each node")),
                }
            }
        }
    }
}

impl One {
    async fn send(&self, pipeline: &Pipeline) -> Result<Answers, Fault> {
        let (number, mut connection) = self.connection().await?;
        let sent = connection.req_packed_commands(pipeline, 0, pipeline.len());
        let sent = match tokio::time::timeout(self.timeout * 2, sent).await {
            Ok(Ok(values)) => Ok(answers(values)),
            Ok(Err(error)) => Err(Fault::from(&error)),
            Err(_) => Err(Fault::timed_out()),
        };
        // After a failover the old master may be a replica, or nobody: ask again who it is.
        let left = |fault: &Fault| {
            fault.ran == Ran::Maybe || ["READONLY", "MASTERDOWN"].contains(&fault.code())
        };
        let broken = match &sent {
            Ok(answers) => answers
                .iter()
                .filter_map(|answer| answer.as_ref().err())
                .any(left),
            Err(_) => true,
        };
        if broken {
            let mut live = self.live.lock().await;
            if live.number == number {
                live.connection = None;
            }
        }
        sent
    }

    /// The connection in use, or a new one.
    async fn connection(&self) -> Result<(u64, MultiplexedConnection), Fault> {
        // Held while connecting, so that a hundred callers make one connection.
        let mut live = self.live.lock().await;
        if let Some(connection) = &live.connection {
            return Ok((live.number, connection.clone()));
        }
        let made = async {
            match &mut *self.source.lock().await {
                Source::Server(client) => {
                    let made = client.get_multiplexed_async_connection_with_config(&self.config);
                    made.await
                }
                Source::Sentinel(client) => {
                    client.get_async_connection_with_config(&self.config).await
                }
            }
        };
        let nobody = |mut fault: Fault| {
            fault.ran = Ran::No;
            fault
        };
        let made = tokio::time::timeout(self.timeout * 2, made).await;
        let made = made.map_err(|_| nobody(Fault::timed_out()))?;
        let made = made.map_err(|error| nobody(Fault::from(&error)))?;
        live.number += 1;
        live.connection = Some(made.clone());
        Ok((live.number, made))
    }
}

/// Whether the slot is elsewhere: the call was not carried out, and the driver knows better now.
fn moved(error: &RedisError) -> bool {
    let kind = error.kind();
    kind == ErrorKind::Server(ServerErrorKind::Moved)
        || kind == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || kind == ErrorKind::ClusterConnectionNotFound
}

fn answers(values: Vec<Value>) -> Answers {
    values
        .into_iter()
        .map(|value| match value {
            Value::ServerError(error) => Err(Fault::from(&RedisError::from(error))),
            value => Ok(value),
        })
        .collect()
}

fn named((name, value): (Value, Value)) -> Result<(String, Value), Fault> {
    let name = match name {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::SimpleString(text) => text,
        _ => String::new(),
    };
    Ok((name, value))
}

fn cluster(addresses: &[String], timeout: Duration) -> RedisResult<ClusterClient> {
    ClusterClientBuilder::new(addresses.iter().map(String::as_str))
        .retries(0)
        .connection_timeout(timeout)
        .response_timeout(timeout)
        .overall_response_timeout(Some(timeout * 2))
        .build()
}

fn source(addresses: &[String], mode: &Mode) -> RedisResult<Source> {
    let first = addresses.first().map_or("", String::as_str);
    let Mode::Sentinel { master } = mode else {
        return Client::open(first).map(Source::Server);
    };
    // The URL's user and password are those of the servers; Sentinels are asked without.
    let info = first.into_connection_info()?;
    let mut node = SentinelNodeConnectionInfo::default()
        .set_redis_connection_info(info.redis_settings().clone());
    if let ConnectionAddr::TcpTls { .. } = info.addr() {
        node = node.set_tls_mode(TlsMode::Secure);
    }
    let mut sentinels = Vec::new();
    for address in addresses {
        let info = address.as_str().into_connection_info()?;
        sentinels.push(info.addr().clone().into_connection_info()?);
    }
    let master = master.clone();
    SentinelClient::build(sentinels, master, Some(node), SentinelServerType::Master)
        .map(Source::Sentinel)
}

//! The connection: one, multiplexed, made anew when it breaks. The driver's own retries are off: it
//! would send a script again whose answer was lost, and a lease sent twice is lent twice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex as Lock, PoisonError};
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
    RedisConnectionInfo, RedisError, RedisResult, ServerErrorKind, TlsMode, Value,
};
use futures_util::FutureExt as _;
use tokio::sync::Mutex;

use super::fault::{Fault, Ran};
use super::{Mode, SentinelLogin};

/// How often a call is sent again after an answer that says who has the slot now: the first answer
/// after a failover may itself be old.
const REDIRECTS_MAX: usize = 4;

/// Words of a server that is no master, or a master without its replicas: another may be the one.
const LEFT: [&str; 4] = ["READONLY", "MASTERDOWN", "NOREPLICAS", "LOADING"];
/// A node of a cluster that answers nobody must not hold up the way to the others for longer.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// The answers of a pipeline, one a call.
pub(super) type Answers = Vec<Result<Value, Fault>>;

/// One server, the master of some Sentinels, or a cluster.
pub(super) enum Link {
    One(Box<One>),
    Many(Box<Many>),
}

/// One connection at a time and how to make the next.
pub(super) struct One {
    way: Arc<Way>,
    live: Mutex<Live>,
    config: AsyncConnectionConfig,
    timeout: Duration,
}

/// How a connection is made; all links to the same servers share it.
enum Way {
    Server(Client),
    Sentinels {
        /// With the address of the master that they named last. Asked by one at a time.
        client: Mutex<(SentinelClient, String)>,
        /// How many masters they have named. A connection of before leads to a master that was
        /// left: it may not know, and answer as if nothing had happened.
        era: AtomicU64,
    },
}

/// The connection in use. The number tells whether somebody else has made a new one meanwhile.
#[derive(Default)]
struct Live {
    number: u64,
    era: u64,
    connection: Option<MultiplexedConnection>,
}

/// A cluster as it was last seen.
pub(super) struct Many {
    client: ClusterClient,
    live: Arc<Lock<ClusterConnection>>,
    renewing: Arc<AtomicBool>,
    timeout: Duration,
}

impl Link {
    pub(super) async fn open(
        addresses: &[String],
        mode: &Mode,
        sentinel: &SentinelLogin,
        timeout: Duration,
    ) -> Result<Self, Fault> {
        if *mode == Mode::Cluster {
            let client = cluster(addresses, timeout).map_err(|error| Fault::from(&error))?;
            return Many::open(client, timeout).await.map(Self::many);
        }
        let way = way(addresses, mode, sentinel).map_err(|error| Fault::from(&error))?;
        let one = One {
            way: Arc::new(way),
            live: Mutex::default(),
            config: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(timeout))
                .set_response_timeout(Some(timeout)),
            timeout,
        };
        one.connection().await?;
        Ok(Self::One(Box::new(one)))
    }

    fn many(many: Many) -> Self {
        Self::Many(Box::new(many))
    }

    /// Another link to the same servers, with connections of its own.
    pub(super) async fn another(&self) -> Result<Self, Fault> {
        match self {
            Self::One(one) => Ok(Self::One(Box::new(One {
                way: Arc::clone(&one.way),
                live: Mutex::default(),
                config: one.config.clone(),
                timeout: one.timeout,
            }))),
            Self::Many(many) => {
                let made = Many::open(many.client.clone(), many.timeout);
                made.boxed().await.map(Self::many)
            }
        }
    }

    pub(super) fn clustered(&self) -> bool {
        matches!(self, Self::Many(_))
    }

    /// Whether the master is found by asking Sentinels.
    pub(super) fn sentinels(&self) -> bool {
        matches!(self, Self::One(one) if matches!(*one.way, Way::Sentinels { .. }))
    }

    /// Sends calls whose keys are all in `slot`.
    pub(super) async fn send(&self, pipeline: &Pipeline, slot: Slot) -> Result<Answers, Fault> {
        match self {
            // Boxed: the driver's futures are deep, and those of all callers would hold them.
            Self::One(one) => one.send(pipeline).boxed().await,
            Self::Many(many) => many.send(pipeline, slot).boxed().await,
        }
    }

    /// What answers may be no master any more: look for it before the next call.
    pub(super) async fn doubt(&self) {
        if let Self::One(one) = self
            && self.sentinels()
        {
            one.live.lock().await.connection = None;
        }
    }

    pub(super) async fn ask_masters(&self, cmd: &Cmd) -> Result<Vec<(String, Value)>, Fault> {
        match self {
            Self::One(one) => {
                let mut pipeline = Pipeline::new();
                pipeline.add_command(cmd.clone());
                let answer = one.send(&pipeline).boxed().await?.pop();
                let value = answer.unwrap_or_else(|| Err(Fault::answer("none")))?;
                Ok(vec![(String::new(), value)])
            }
            Self::Many(many) => many.ask_masters(cmd).await,
        }
    }
}

impl Many {
    async fn open(client: ClusterClient, timeout: Duration) -> Result<Self, Fault> {
        let made = tokio::time::timeout(timeout * 2, client.get_async_connection());
        let made = made.await.map_err(|_| nobody(Fault::timed_out()))?;
        let made = made.map_err(|error| nobody(Fault::from(&error)))?;
        Ok(Self {
            client,
            live: Arc::new(Lock::new(made)),
            renewing: Arc::default(),
            timeout,
        })
    }

    fn connection(&self) -> ClusterConnection {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.clone()
    }

    async fn send(&self, pipeline: &Pipeline, slot: Slot) -> Result<Answers, Fault> {
        let route = Route::with_slot(slot, SlotAddr::Master);
        let tries = async {
            let mut tries = 0;
            loop {
                let to = SingleNodeRoutingInfo::SpecificNode(route);
                let mut connection = self.connection();
                let sent = connection.route_pipeline(pipeline.clone(), 0, pipeline.len(), to);
                match sent.await {
                    Ok(values) => return Ok(answers(values)),
                    Err(error) if tries < REDIRECTS_MAX && moved(&error) => tries += 1,
                    Err(error) => return Err(Fault::from(&error)),
                }
            }
        };
        let sent = tokio::time::timeout(self.timeout, tries).await;
        let sent = sent.unwrap_or_else(|_| Err(Fault::timed_out()));
        if sent.as_ref().is_err_and(|fault| fault.ran == Ran::Maybe) {
            self.renew();
        }
        sent
    }

    async fn ask_masters(&self, cmd: &Cmd) -> Result<Vec<(String, Value)>, Fault> {
        let to = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let mut connection = self.connection();
        let value = connection.route_command(cmd.clone(), to).await;
        match value.map_err(|error| Fault::from(&error))? {
            Value::Map(pairs) => pairs.into_iter().map(named).collect(),
            _ => Err(Fault::answer("not one of each node")),
        }
    }

    /// Looks at the cluster anew, beside the calls. The driver does so where a node says that a
    /// slot has moved or a connection breaks; a master that was stopped does neither, and would be
    /// asked for ever though another has its slots.
    fn renew(&self) {
        if self.renewing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (client, timeout) = (self.client.clone(), self.timeout);
        let (live, renewing) = (Arc::clone(&self.live), Arc::clone(&self.renewing));
        tokio::spawn(async move {
            // Each node that does not answer costs the driver its patience twice.
            let made = tokio::time::timeout(timeout * 4, client.get_async_connection());
            match made.await {
                Ok(Ok(made)) => *live.lock().unwrap_or_else(PoisonError::into_inner) = made,
                Ok(Err(error)) => {
                    let error = Fault::from(&error).error("redis", "look at the cluster anew");
                    tracing::warn!(%error, "the nodes are asked as they were known");
                }
                Err(_) => tracing::warn!("no node of the cluster says how it stands now"),
            }
            renewing.store(false, Ordering::Release);
        });
    }
}

impl One {
    /// Connecting and answer together end by the time-out, however many wait for the connection.
    async fn send(&self, pipeline: &Pipeline) -> Result<Answers, Fault> {
        let mut used = None;
        let sent = tokio::time::timeout(self.timeout, async {
            let (number, mut connection) = self.connection().await?;
            used = Some(number);
            let sent = connection.req_packed_commands(pipeline, 0, pipeline.len());
            sent.await.map(answers).map_err(|error| Fault::from(&error))
        });
        let sent = sent.await.unwrap_or_else(|_| Err(Fault::timed_out()));
        let Some(number) = used else {
            return sent.map_err(nobody);
        };
        // After a failover the old master may be a replica, or nobody: ask again who it is.
        let left = |fault: &Fault| fault.ran == Ran::Maybe || LEFT.contains(&fault.code());
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
        if let Some(connection) = &live.connection
            && live.era == self.way.era()
        {
            return Ok((live.number, connection.clone()));
        }
        let made = tokio::time::timeout(self.timeout, self.way.connect(&self.config).boxed());
        let made = made.await;
        let made = made.map_err(|_| nobody(Fault::timed_out()))?;
        let (made, era) = made.map_err(|error| nobody(Fault::from(&error)))?;
        live.number += 1;
        live.era = era;
        live.connection = Some(made.clone());
        Ok((live.number, made))
    }
}

impl Way {
    fn era(&self) -> u64 {
        match self {
            Self::Server(_) => 0,
            Self::Sentinels { era, .. } => era.load(Ordering::Acquire),
        }
    }

    /// A connection, and the era it is of.
    async fn connect(
        &self,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<(MultiplexedConnection, u64)> {
        let (found, now) = match self {
            Self::Server(client) => (client.clone(), 0),
            Self::Sentinels { client, era } => {
                let (client, last) = &mut *client.lock().await;
                let found = client.async_get_client().await?;
                let address = found.get_connection_info().addr().to_string();
                if *last != address {
                    *last = address;
                    era.fetch_add(1, Ordering::AcqRel);
                }
                (found, era.load(Ordering::Acquire))
            }
        };
        let made = found.get_multiplexed_async_connection_with_config(config);
        Ok((made.await?, now))
    }
}

/// Nobody was reached, so nothing was carried out.
fn nobody(mut fault: Fault) -> Fault {
    fault.ran = Ran::No;
    fault
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
        .connection_timeout(timeout.min(CONNECT_MAX))
        .response_timeout(timeout)
        .overall_response_timeout(Some(timeout))
        .build()
}

fn way(addresses: &[String], mode: &Mode, login: &SentinelLogin) -> RedisResult<Way> {
    let first = addresses.first().map_or("", String::as_str);
    let Mode::Sentinel { master } = mode else {
        return Client::open(first).map(Way::Server);
    };
    // The URL's user and password are those of the servers; Sentinels have their own, or none.
    let info = first.into_connection_info()?;
    let mut node = SentinelNodeConnectionInfo::default()
        .set_redis_connection_info(info.redis_settings().clone());
    if let ConnectionAddr::TcpTls { .. } = info.addr() {
        node = node.set_tls_mode(TlsMode::Secure);
    }
    let mut settings = RedisConnectionInfo::default();
    if let Some(user) = &login.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &login.password {
        settings = settings.set_password(password.expose());
    }
    let mut sentinels = Vec::new();
    for address in addresses {
        let info = address.as_str().into_connection_info()?;
        let sentinel = info.addr().clone().into_connection_info()?;
        sentinels.push(sentinel.set_redis_settings(settings.clone()));
    }
    let master = master.clone();
    let kind = SentinelServerType::Master;
    let client = SentinelClient::build(sentinels, master, Some(node), kind)?;
    Ok(Way::Sentinels {
        client: Mutex::new((client, String::new())),
        era: AtomicU64::new(0),
    })
}

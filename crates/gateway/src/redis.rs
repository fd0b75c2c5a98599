//! What the hold, the consent book and the receipts on Redis or Valkey have in common: one
//! multiplexed connection that mends itself, scripts that load themselves, and the check of a
//! server's settings.

pub mod address;
pub mod check;
pub mod fault;
mod link;
pub mod script;
#[cfg(test)]
#[expect(
    dead_code,
    reason = "shared with the behaviour suite, which uses the rest"
)]
#[path = "../tests/behaviour/redis/server.rs"]
pub(crate) mod server;
#[cfg(test)]
mod tests;
mod waiters;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Cmd, Pipeline, Value};

pub use self::check::{Checked, Durability};
pub use self::fault::{Fault, Ran};
use self::link::{Answers, Link};
pub use self::script::{Call, Script};
use self::waiters::Waiters;
use crate::error::Result;
use crate::secret::Secret;

/// Keys begin with this unless told otherwise.
pub const PREFIX_DEFAULT: &str = "ng";
/// A call is given up after this long unless told otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Longest prefix of keys: it stands in every key, so it costs memory.
pub const PREFIX_MAX: usize = 32;

/// How the servers stand together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One server, or one address that always leads to the master.
    #[default]
    Single,
    /// The addresses are Sentinels; they are asked for this master on every new connection.
    Sentinel {
        /// The master's name there.
        master: String,
    },
    /// The addresses are some nodes of a cluster; it is asked for the others.
    Cluster,
}

/// Who asks the Sentinels, where they want a password of their own.
#[derive(Clone, Debug, Default)]
pub struct SentinelLogin {
    /// The user; `None` is theirs by default.
    pub user: Option<String>,
    /// The password; `None` asks without.
    pub password: Option<Secret>,
}

/// How many replicas must have a write before it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// So many; 0 asks none.
    pub count: u32,
    /// On the disks of the master and of `count` replicas (`WAITAOF`, Redis 7.2 or Valkey) and not
    /// only in their memory.
    pub on_disk: bool,
}

impl Replicas {
    /// Whether there is anything to wait for.
    #[must_use]
    pub const fn any(self) -> bool {
        self.count > 0 || self.on_disk
    }
}

/// Where the server is and how to speak to it. `Debug` hides the address, since it may hold the
/// password.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// `redis://user:password@host:6379/0`, or `rediss://` for TLS. Several hosts with commas
    /// between them for Sentinel and Cluster. With Sentinel the user, password and number are
    /// those of the Redis servers.
    pub url: Secret,
    /// How the servers stand together.
    pub mode: Mode,
    /// Who asks the Sentinels; the URL's user and password are not theirs.
    pub sentinel: SentinelLogin,
    /// Every key begins with it.
    pub prefix: String,
    /// Longest a call may take.
    pub timeout: Duration,
    /// Who must have a write before [`Redis::written`] answers.
    pub replicas: Replicas,
}

impl RedisOptions {
    /// A single server at `url`, the rest as by default.
    #[must_use]
    pub fn single(url: Secret) -> Self {
        Self {
            url,
            mode: Mode::Single,
            sentinel: SentinelLogin::default(),
            prefix: PREFIX_DEFAULT.to_owned(),
            timeout: TIMEOUT_DEFAULT,
            replicas: Replicas::default(),
        }
    }
}

/// One or several servers. Cheap to clone; all clones share the connection.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    waiters: Waiters,
    prefix: String,
    timeout: Duration,
    replicas: Replicas,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("prefix", &self.inner.prefix)
            .finish_non_exhaustive()
    }
}

impl Redis {
    /// Connects.
    ///
    /// # Errors
    /// `Invalid` when the address or the prefix cannot be right, `Unavailable` when nobody answers.
    pub async fn open(options: &RedisOptions) -> Result<Self> {
        address::prefix(&options.prefix)?;
        let addresses = address::addresses(&options.url, &options.mode)?;
        let (mode, login) = (&options.mode, &options.sentinel);
        let link = Link::open(&addresses, mode, login, options.timeout);
        let link = link
            .await
            .map_err(|fault| fault.error("redis", "connect"))?;
        let inner = Inner {
            waiters: Waiters::new(&link),
            link,
            prefix: options.prefix.clone(),
            timeout: options.timeout,
            replicas: options.replicas,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What every key begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.inner.prefix
    }

    /// Whether keys live on several masters by their slot: only keys with one hash tag can stand
    /// in one call.
    #[must_use]
    pub fn clustered(&self) -> bool {
        self.inner.link.clustered()
    }

    /// Who must have a write before [`Redis::written`] answers.
    #[must_use]
    pub fn replicas(&self) -> Replicas {
        self.inner.replicas
    }

    /// One call: a plain command or a script. Loads the script where the server lacks it.
    ///
    /// # Errors
    /// A [`Fault`], which says whether it may have been carried out all the same.
    pub async fn call(&self, call: &Call) -> std::result::Result<Value, Fault> {
        let mut answers = self.pipeline(std::slice::from_ref(call)).await?;
        answers.pop().unwrap_or_else(|| Err(Fault::answer("none")))
    }

    /// Calls in one go, one answer each, in order; no transaction. A script that the server does
    /// not know yet runs behind the calls after it. In a cluster all keys of all calls must share
    /// one hash tag.
    ///
    /// # Errors
    /// The outer one when the whole could not be sent or answered, the inner ones by call.
    pub async fn pipeline(
        &self,
        calls: &[Call],
    ) -> std::result::Result<Vec<std::result::Result<Value, Fault>>, Fault> {
        let mut answers = send(&self.inner.link, calls, None).await?;
        answers.truncate(calls.len());
        Ok(answers)
    }

    /// The same for writes: when it returns, as many replicas have them as the options ask.
    ///
    /// # Errors
    /// As above; `Unavailable` and [`Ran::Maybe`] when too few replicas answered in time: the
    /// master has carried it out.
    pub async fn written(
        &self,
        calls: &[Call],
    ) -> std::result::Result<Vec<std::result::Result<Value, Fault>>, Fault> {
        let replicas = self.inner.replicas;
        if !replicas.any() || calls.is_empty() {
            return self.pipeline(calls).await;
        }
        let link = self.inner.waiters.take(&self.inner).await?;
        let waited = written_on(&link, calls, replicas, self.inner.timeout).await;
        self.inner.waiters.give_back(link);
        waited
    }

    /// A question to every master: one answer each, with the node's address where there are
    /// several.
    ///
    /// # Errors
    /// A [`Fault`] of the first that does not answer.
    pub async fn ask_masters(&self, cmd: &Cmd) -> std::result::Result<Vec<(String, Value)>, Fault> {
        self.inner.link.ask_masters(cmd).await
    }
}

/// Calls on a link of their own, and the replicas that have them.
async fn written_on(
    link: &Link,
    calls: &[Call],
    replicas: Replicas,
    timeout: Duration,
) -> std::result::Result<Answers, Fault> {
    // Not all of the call's own time-out, so that the answer "too few" still arrives.
    let patience = u64::try_from(timeout.as_millis() / 4 * 3).unwrap_or(u64::MAX);
    let mut wait = Cmd::new();
    if replicas.on_disk {
        wait.arg("WAITAOF").arg(1);
    } else {
        wait.arg("WAIT");
    }
    wait.arg(replicas.count).arg(patience.max(1));
    let mut answers = send(link, calls, Some(&wait)).await?;
    let waited = answers.pop().unwrap_or_else(|| Err(Fault::answer("none")));
    // What none of the calls did need not be waited for: their own words say more.
    if answers.iter().all(std::result::Result::is_err) {
        return Ok(answers);
    }
    let reached = match &waited {
        Ok(Value::Int(reached)) => u32::try_from(*reached).unwrap_or(0) >= replicas.count,
        Ok(Value::Array(both)) => {
            let least = [1, i64::from(replicas.count)];
            both.len() == 2
                && both
                    .iter()
                    .zip(least)
                    .all(|(has, least)| matches!(has, Value::Int(has) if *has >= least))
        }
        _ => false,
    };
    if reached {
        return Ok(answers);
    }
    // A master without its replicas may have been left for another.
    link.doubt().await;
    Err(Fault::too_few_replicas(waited.err()))
}

/// Sends calls and, behind them on the same connection, `last`.
async fn send(
    link: &Link,
    calls: &[Call],
    last: Option<&Cmd>,
) -> std::result::Result<Answers, Fault> {
    let mut pipeline = Pipeline::with_capacity(calls.len() + 1);
    for call in calls {
        pipeline.add_command(call.cmd().clone());
    }
    if let Some(last) = last {
        pipeline.add_command(last.clone());
    }
    let Some(route) = calls.first().map(Call::route) else {
        return Ok(Vec::new());
    };
    let mut answers = link.send(&pipeline, route).await?;
    // A script that the server does not know was not carried out: load it and send it again.
    let unknown = |answer: &std::result::Result<Value, Fault>| {
        answer
            .as_ref()
            .is_err_and(|fault| fault.code() == "NOSCRIPT")
    };
    let again: Vec<usize> = (0..calls.len())
        .filter(|at| answers.get(*at).is_some_and(unknown))
        .collect();
    if again.is_empty() {
        return Ok(answers);
    }
    let mut pipeline = Pipeline::new();
    for at in &again {
        if let Some(load) = calls[*at].load() {
            pipeline.add_command(load);
        }
        pipeline.add_command(calls[*at].cmd().clone());
    }
    if let Some(last) = last {
        pipeline.add_command(last.clone());
    }
    let second = link.send(&pipeline, route).await;
    let mut second = second.map_err(|mut fault| {
        if again.len() < calls.len() {
            fault.ran = Ran::Maybe;
        }
        fault
    })?;
    if last.is_some()
        && let (Some(waited), Some(slot)) = (second.pop(), answers.last_mut())
    {
        *slot = waited;
    }
    for (at, pair) in again.iter().zip(second.chunks_exact_mut(2)) {
        std::mem::swap(&mut answers[*at], &mut pair[1]);
    }
    Ok(answers)
}

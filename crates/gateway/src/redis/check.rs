//! Whether a server may be trusted with messages: its version, persistence, eviction and role.

use std::time::Duration;

use ::redis::{Cmd, Value};
use jiff::Timestamp;

use super::{Call, Fault, Redis};
use crate::error::{Error, Kind, Result};

/// The oldest Redis that runs the scripts as they are meant: flags on scripts came with it.
const VERSION_MIN: u64 = 7;
/// The oldest Redis that can wait for disks (`WAITAOF`); every Valkey can.
const WAITAOF_MIN: (u64, u64) = (7, 2);

/// What is asked of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A server that can lose acknowledged messages is refused.
    #[default]
    Strict,
    /// Such a server is warned of and used.
    Relaxed,
}

/// What a server (of a cluster: the weakest of its masters) is found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// `redis 7.0.15` or `valkey 8.1.1`.
    pub version: String,
    /// `appendfsync always` on every master: what is answered is on its disk.
    pub fsync_always: bool,
    /// Masters that were asked.
    pub masters: usize,
    /// Sentences for `doctor` and the log: what is not as it should be, or cannot be known.
    pub warnings: Vec<String>,
}

/// What one master says of itself.
#[derive(Default)]
struct Facts {
    version: Option<String>,
    valkey: bool,
    role: Option<String>,
    eviction: Option<String>,
    aof: Option<bool>,
    fsync: Option<String>,
    /// Replicas that are connected.
    replicas: u32,
    /// Whether the master stops taking writes without them.
    stops_alone: bool,
}

impl Redis {
    /// Asks every master for its settings.
    ///
    /// # Errors
    /// `Invalid`, with a sentence that says what to change, when a server can lose acknowledged
    /// messages and `durability` is strict, or cannot be used at all; `Unavailable` when one does
    /// not answer.
    pub async fn check(&self, durability: Durability) -> Result<Checked> {
        let doing = |fault: Fault| fault.error("redis", "ask the server for its settings");
        let mut info = Cmd::new();
        info.arg("INFO");
        let nodes = self.ask_masters(&info).await.map_err(doing)?;
        let mut config = Cmd::new();
        config
            .arg("CONFIG")
            .arg("GET")
            .arg("append*")
            .arg("min-replicas-*")
            .arg("maxmemory-policy");
        // A managed service forbids CONFIG: what INFO says must do.
        let configs = self.ask_masters(&config).await.unwrap_or_default();
        let mut checked = Checked {
            version: String::new(),
            fsync_always: !nodes.is_empty(),
            masters: nodes.len(),
            warnings: Vec::new(),
        };
        for (name, value) in &nodes {
            let mut facts = Facts::default();
            facts.read_info(&text(value));
            if let Some((_, value)) = configs.iter().find(|(node, _)| node == name) {
                facts.read_config(value);
            }
            facts.judge(name, durability, &mut checked)?;
            self.judge_replicas(name, &facts, &mut checked)?;
        }
        Ok(checked)
    }

    /// Whether replicas can be waited for as the options ask, and what a failover may lose.
    fn judge_replicas(&self, name: &str, facts: &Facts, checked: &mut Checked) -> Result<()> {
        let (place, wanted) = (place(name), self.inner.replicas);
        if wanted.on_disk {
            if !facts.valkey
                && facts
                    .version_parts()
                    .is_some_and(|parts| parts < WAITAOF_MIN)
            {
                let (major, minor) = WAITAOF_MIN;
                return Err(refused(format!(
                    "the server{place} cannot wait for disks, as `replicas_on_disk` asks: install \
                     Redis {major}.{minor} or later, or any Valkey, or say `replicas_on_disk = \
                     false`"
                )));
            }
            if facts.aof == Some(false) {
                return Err(refused(format!(
                    "`appendonly`{place} is `no`, so there is no disk to wait for, as \
                     `replicas_on_disk` asks: set it to `yes`"
                )));
            }
        }
        let may_move = self.inner.link.sentinels() || facts.replicas > 0;
        if may_move && wanted.count == 0 && !facts.stops_alone {
            checked.warnings.push(format!(
                "no answer waits for a replica, and a master{place} that is cut off goes on taking \
                 messages, which a failover loses: say `replicas = 1`, or at least set \
                 `min-replicas-to-write` to 1"
            ));
        }
        Ok(())
    }

    /// The server's own clock; of a cluster, that of one master, the same for all who ask.
    ///
    /// # Errors
    /// `Unavailable` when it does not answer.
    pub async fn time(&self) -> Result<Timestamp> {
        let doing = |fault: Fault| fault.error("redis", "ask the server for the time");
        let call = Call::about(self.prefix(), "TIME");
        let value = self.call(&call).await.map_err(doing)?;
        let parts: Option<(i64, i64)> = ::redis::from_redis_value(value).ok();
        parts
            .and_then(|(seconds, micros)| {
                let nanos = i32::try_from(micros.checked_mul(1000)?).ok()?;
                Timestamp::new(seconds, nanos).ok()
            })
            .ok_or_else(|| doing(Fault::answer("no time")))
    }

    /// Whether the server answers within the time-out.
    ///
    /// # Errors
    /// `Unavailable` when it does not.
    pub async fn ping(&self) -> Result<()> {
        let mut cmd = Cmd::new();
        cmd.arg("PING");
        let asked = self.ask_masters(&cmd).await;
        asked
            .map(drop)
            .map_err(|fault| fault.error("redis", "reach the server"))
    }

    /// The longest a call may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.inner.timeout
    }
}

impl Facts {
    fn read_info(&mut self, info: &str) {
        for line in info.lines() {
            let Some((key, value)) = line.trim_end().split_once(':') else {
                continue;
            };
            match key {
                "valkey_version" => {
                    self.version = Some(value.to_owned());
                    self.valkey = true;
                }
                "redis_version" if !self.valkey => self.version = Some(value.to_owned()),
                "role" => self.role = Some(value.to_owned()),
                "maxmemory_policy" => self.eviction = Some(value.to_owned()),
                "aof_enabled" => self.aof = Some(value == "1"),
                "connected_slaves" => self.replicas = value.parse().unwrap_or(0),
                // Told only where the master counts them.
                "min_slaves_good_slaves" => self.stops_alone = true,
                _ => {}
            }
        }
    }

    fn read_config(&mut self, value: &Value) {
        let pairs: Vec<(String, String)> =
            ::redis::from_redis_value(value.clone()).unwrap_or_default();
        let zero = |name: &str| pairs.iter().any(|(key, value)| key == name && value == "0");
        self.stops_alone |= pairs.iter().any(|(key, _)| key == "min-replicas-to-write")
            && !zero("min-replicas-to-write")
            && !zero("min-replicas-max-lag");
        for (key, value) in pairs {
            match key.as_str() {
                "maxmemory-policy" => self.eviction = Some(value),
                "appendonly" => self.aof = Some(value == "yes"),
                "appendfsync" => self.fsync = Some(value),
                _ => {}
            }
        }
    }

    /// Its major and minor number.
    fn version_parts(&self) -> Option<(u64, u64)> {
        let mut parts = self.version.as_deref()?.split('.').map(str::parse);
        let major = parts.next()?.ok()?;
        Some((
            major,
            parts.next().and_then(|minor| minor.ok()).unwrap_or(0),
        ))
    }

    fn judge(&self, name: &str, durability: Durability, checked: &mut Checked) -> Result<()> {
        let place = place(name);
        let kind = if self.valkey { "valkey" } else { "redis" };
        let version = self.version.as_deref().unwrap_or("unknown");
        checked.version = format!("{kind} {version}");
        match self.version_parts() {
            Some((major, _)) if !self.valkey && major < VERSION_MIN => {
                return Err(refused(format!(
                    "the server{place} is Redis {version}: install Redis {VERSION_MIN} or later, \
                     or any Valkey"
                )));
            }
            Some(_) => {}
            None => checked
                .warnings
                .push(format!("the version of the server{place} is unknown")),
        }
        if self.role.as_deref().is_some_and(|role| role != "master") {
            return Err(refused(format!(
                "the server{place} is a replica: give the address of the master"
            )));
        }
        let mut faults = self.faults(&place, checked);
        if durability == Durability::Strict
            && let Some(fault) = faults.first()
        {
            let hint = "or say `durability = \"relaxed\"` to use it all the same";
            return Err(refused(format!("{fault}, {hint}")));
        }
        checked.fsync_always &= self.aof == Some(true);
        checked.warnings.append(&mut faults);
        Ok(())
    }

    /// What makes the server lose messages; what cannot be known is added to the warnings.
    fn faults(&self, place: &str, checked: &mut Checked) -> Vec<String> {
        let mut faults = Vec::new();
        match self.eviction.as_deref() {
            Some("noeviction") => {}
            Some(policy) => faults.push(format!(
                "`maxmemory-policy`{place} is `{policy}`, which throws messages away when memory \
                 is full: set it to `noeviction`"
            )),
            None => checked
                .warnings
                .push(format!("`maxmemory-policy`{place} is unknown")),
        }
        match self.aof {
            Some(true) => {}
            Some(false) => faults.push(format!(
                "`appendonly`{place} is `no`, so a restart loses messages: set it to `yes`"
            )),
            None => checked
                .warnings
                .push(format!("`appendonly`{place} is unknown")),
        }
        match self.fsync.as_deref() {
            Some("always") => {}
            Some("everysec") => checked.fsync_always = false,
            Some(other) => {
                checked.fsync_always = false;
                faults.push(format!(
                    "`appendfsync`{place} is `{other}`: set it to `always`, or to `everysec` to \
                     risk the last second"
                ));
            }
            None => {
                checked.fsync_always = false;
                checked
                    .warnings
                    .push(format!("`appendfsync`{place} is unknown"));
            }
        }
        faults
    }
}

/// Which node of several a sentence is about.
fn place(name: &str) -> String {
    match name.is_empty() {
        true => String::new(),
        false => format!(" of {name}"),
    }
}

fn refused(why: String) -> Error {
    Error::new(
        Kind::Invalid,
        "redis",
        format!("trust this server with messages: {why}"),
    )
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    }
}

//! A master, its replicas, and three Sentinels that find the next master.

use super::server::{Kind, Server, wait};

/// The master's name for the Sentinels.
pub(crate) const MASTER: &str = "nights";
/// The password of servers that have one.
pub(crate) const PASSWORD: &str = "only-for-servers";
/// The password of Sentinels that have one.
pub(crate) const SENTINEL_PASSWORD: &str = "only-for-sentinels";

/// Servers under three Sentinels, of whom two must agree.
pub(crate) struct Sentinels {
    /// The servers; the first is the master at the start.
    pub(crate) servers: Vec<Server>,
    sentinels: Vec<Server>,
}

impl Sentinels {
    /// A master with two replicas of this kind, with `options`. A master that does not answer for
    /// a second is left. `passwords`: servers and Sentinels want one each.
    pub(crate) fn start(kind: Kind, options: &[&str], passwords: bool) -> Self {
        let mut all: Vec<&str> = options.to_vec();
        if passwords {
            all.extend(["--requirepass", PASSWORD, "--masterauth", PASSWORD]);
        }
        let servers: Vec<Server> = (0..3).map(|_| Server::of(kind, &all)).collect();
        for replica in &servers[1..] {
            replica.replica_of(&servers[0]);
        }
        let mut lines = vec![
            format!(
                "sentinel monitor {MASTER} 127.0.0.1 {} 2",
                servers[0].port()
            ),
            format!("sentinel down-after-milliseconds {MASTER} 1000"),
            format!("sentinel failover-timeout {MASTER} 3000"),
        ];
        if passwords {
            lines.push(format!("sentinel auth-pass {MASTER} {PASSWORD}"));
            lines.push(format!("requirepass {SENTINEL_PASSWORD}"));
            lines.push(format!("sentinel sentinel-pass {SENTINEL_PASSWORD}"));
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let sentinels: Vec<Server> = (0..3).map(|_| Server::of(Kind::Sentinel, &lines)).collect();
        // They speak to each other every two seconds, and ask the servers every ten.
        let pace = |period: &str| {
            for sentinel in &sentinels {
                sentinel.ask(&["SENTINEL", "DEBUG", "PUBLISH-PERIOD", period]);
                sentinel.ask(&["SENTINEL", "DEBUG", "INFO-PERIOD", "500"]);
            }
        };
        pace("200");
        let whole = |sentinel: &Server| {
            let info = sentinel.ask(&["INFO", "sentinel"]);
            info.contains("status=ok") && info.contains("slaves=2,sentinels=3")
        };
        wait("Sentinels know each other", || sentinels.iter().all(whole));
        // A master that comes back after it was left is told so four times as late.
        pace("2000");
        Self { servers, sentinels }
    }

    /// The addresses of the Sentinels, in one URL; `who` is the name and password of the servers,
    /// with an @ behind.
    pub(crate) fn url(&self, who: &str) -> String {
        let hosts = self
            .sentinels
            .iter()
            .map(|one| format!("127.0.0.1:{}", one.port()));
        format!("redis://{who}{}", hosts.collect::<Vec<_>>().join(","))
    }

    /// Which server two Sentinels at least take for the master.
    pub(crate) fn master(&self) -> Option<usize> {
        let named = |at: &usize| {
            let address = format!("address=127.0.0.1:{},", self.servers[*at].port());
            let says = |one: &&Server| {
                let info = one.try_ask(&["INFO", "sentinel"]);
                info.is_some_and(|info| info.contains(&address))
            };
            self.sentinels.iter().filter(says).count() >= 2
        };
        (0..self.servers.len()).find(named)
    }

    /// Waits until another than `old` is the master, and takes writes.
    pub(crate) fn followed(&self, old: usize) -> usize {
        wait("another master", || {
            let master = self.master().filter(|master| *master != old);
            let role = |at: usize| self.servers[at].try_ask(&["ROLE"]).unwrap_or_default();
            master.is_some_and(|master| role(master).contains("master"))
        });
        self.master().unwrap()
    }

    /// Waits until the master has so many replicas.
    pub(crate) fn whole(&self, replicas: usize) {
        wait("the master has its replicas", || {
            let master = self.master();
            master.is_some_and(|at| self.servers[at].replicas() >= replicas)
        });
    }
}

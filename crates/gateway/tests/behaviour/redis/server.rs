//! Real servers for tests: `redis-server` or `valkey-server` on free loopback ports, each in a
//! folder of its own, killed when dropped. A missing binary fails the test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Which program a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `redis-server` of the system.
    Redis,
    /// `valkey-server`, or what `NIGHTGATE_TEST_VALKEY` names.
    Valkey,
    /// A Sentinel: `redis-server --sentinel`. Its options are lines of its file.
    Sentinel,
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Names the Valkey that scripts/test.sh has fetched.
const VALKEY: &str = "NIGHTGATE_TEST_VALKEY";

impl Kind {
    fn binary(self) -> String {
        match self {
            Self::Redis | Self::Sentinel => "redis-server".to_owned(),
            Self::Valkey => std::env::var(VALKEY).unwrap_or_else(|_| "valkey-server".to_owned()),
        }
    }
}

/// One server.
pub(crate) struct Server {
    kind: Kind,
    child: Child,
    pid: String,
    port: u16,
    dir: tempfile::TempDir,
    options: Vec<String>,
}

impl Server {
    /// Starts one with `appendonly yes`, `appendfsync always`, no eviction and then `options`, as
    /// in `["--maxmemory", "32mb"]`.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::of(Kind::Redis, options)
    }

    /// The same of another kind.
    pub(crate) fn of(kind: Kind, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        // Somebody else may take a free port before the server does: then take another.
        for _ in 0..20 {
            let port = free_port(&options);
            let mut child = spawn(kind, dir.path(), port, &options);
            if ready(dir.path(), port, &options) {
                let pid = pid(port, &options);
                return Self {
                    kind,
                    child,
                    pid,
                    port,
                    dir,
                    options,
                };
            }
            drop(child.stdin.take());
            let _ = child.wait();
            let _ = std::fs::remove_file(dir.path().join("log"));
        }
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        panic!("{} does not start:\n{log}", kind.binary());
    }

    /// The address of it.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `kill -STOP` or `kill -CONT`: it is there and does nothing, until it goes on.
    pub(crate) fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let done = kill.args([&format!("-{name}"), &self.pid]).status();
        assert!(done.unwrap().success(), "kill -{name}");
    }

    /// Makes it a replica of `master`, and waits until it has all of it.
    pub(crate) fn replica_of(&self, master: &Self) {
        self.ask(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
        let linked = || {
            // Its log is written anew from what it was sent: until then nothing is on its disk.
            let info = self.ask(&["INFO"]);
            info.contains("master_link_status:up")
                && info.contains("aof_rewrite_in_progress:0")
                && info.contains("aof_rewrite_scheduled:0")
        };
        wait("the replica is linked", || linked() && master.reaches());
    }

    /// Whether all replicas have what is written here now. One that has just come is sent what is
    /// written only once it has spoken, a second later.
    fn reaches(&self) -> bool {
        let all = self.replicas().max(1).to_string();
        let tried = || -> std::io::Result<String> {
            let mut stream = connect(self.port, &self.options, PATIENCE)?;
            say(&mut stream, &["SET", "reached", "1"])?;
            say(&mut stream, &["DEL", "reached"])?;
            say(&mut stream, &["WAIT", &all, "5000"])
        };
        tried().is_ok_and(|reached| reached == format!(":{all}\r\n"))
    }

    /// Replicas that it has and that keep up.
    pub(crate) fn replicas(&self) -> usize {
        let info = self.ask(&["INFO", "replication"]);
        info.lines()
            .filter(|line| line.starts_with("slave") && line.contains("state=online"))
            .count()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        // The shell sees its input end, and kills.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }

    /// Starts it again on the same port and files, after `kill`.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(self.dir.path().join("log"));
        self.child = spawn(self.kind, self.dir.path(), self.port, &self.options);
        assert!(
            ready(self.dir.path(), self.port, &self.options),
            "{} does not come back",
            self.kind.binary()
        );
        self.pid = pid(self.port, &self.options);
    }

    /// One command in plain words, for settings and figures; the raw answer.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        ask(self.port, &self.options, words, PATIENCE).unwrap()
    }

    /// The same of one that may be gone, or stopped.
    pub(crate) fn try_ask(&self, words: &[&str]) -> Option<String> {
        ask(self.port, &self.options, words, PATIENCE / 20).ok()
    }

    /// The processor time it has used, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let after = stat.rsplit_once(") ").unwrap().1;
        let ticks = |at: usize| after.split(' ').nth(at).unwrap().parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / 100.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Masters of one cluster.
pub(crate) struct Cluster {
    /// Its nodes.
    pub(crate) nodes: Vec<Server>,
}

impl Cluster {
    /// Starts three masters and joins them.
    pub(crate) fn start() -> Self {
        Self::of(Kind::Redis, 3, 0)
    }

    /// Starts three masters with a replica each. A master that does not answer for a second is
    /// followed by its replica.
    pub(crate) fn with_replicas(kind: Kind) -> Self {
        let cluster = Self::of(kind, 6, 1);
        let linked = |node: &Server| {
            let info = node.ask(&["INFO", "replication"]);
            info.contains("role:master") || info.contains("master_link_status:up")
        };
        wait("replicas are linked", || {
            cluster.nodes.iter().all(linked) && cluster.masters().len() == 3
        });
        cluster
    }

    fn of(kind: Kind, nodes: usize, replicas: usize) -> Self {
        let timeout = if replicas > 0 { "1000" } else { "2000" };
        let settings = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            timeout,
        ];
        let nodes: Vec<Server> = (0..nodes).map(|_| Server::of(kind, &settings)).collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]);
        for node in &nodes {
            create.arg(format!("127.0.0.1:{}", node.port));
        }
        create.args(["--cluster-replicas", &replicas.to_string()]);
        let created = create
            .arg("--cluster-yes")
            .output()
            .unwrap_or_else(|error| panic!("run redis-cli: {error}"));
        assert!(
            created.status.success(),
            "{}",
            String::from_utf8_lossy(&created.stdout)
        );
        let cluster = Self { nodes };
        let known = |node: &Server| node.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
        wait("the cluster is whole", || cluster.nodes.iter().all(known));
        cluster
    }

    /// Which nodes answer as masters that have a slot.
    pub(crate) fn masters(&self) -> Vec<usize> {
        let masters = |node: &Server| {
            let said = node.try_ask(&["CLUSTER", "NODES"]).unwrap_or_default();
            let mine = said.lines().find(|line| line.contains("myself"));
            // Eight words, and then its slots.
            mine.is_some_and(|it| it.contains("master") && it.split(' ').count() > 8)
        };
        let all = self.nodes.iter().enumerate();
        all.filter(|(_, node)| masters(node))
            .map(|(at, _)| at)
            .collect()
    }

    /// The addresses, in one URL.
    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        format!("redis://{}", hosts.join(","))
    }
}

/// Started by a shell that kills it when its own input ends: also when this process does, whose
/// statics nobody drops.
const GUARD: &str = "\"$0\" \"$@\" & server=$!; \
                     read -r never; kill -9 $server; wait $server 2>/dev/null";

fn spawn(kind: Kind, dir: &Path, port: u16, options: &[String]) -> Child {
    let binary = kind.binary();
    let version = Command::new(&binary).arg("--version").output();
    version.unwrap_or_else(|error| {
        panic!("run {binary}: scripts/test.sh installs it, or name it in {VALKEY}: {error}")
    });
    let port = port.to_string();
    let mut command = Command::new("sh");
    command.args(["-c", GUARD, &binary]);
    if kind == Kind::Sentinel {
        let lines = options.join("\n");
        let file = format!("port {port}\nbind 127.0.0.1\nlogfile log\n{lines}\n");
        // A Sentinel writes what it learns into its file; one that comes back reads it there.
        if !dir.join("conf").exists() {
            std::fs::write(dir.join("conf"), file).unwrap();
        }
        command.args(["conf", "--sentinel"]);
    } else {
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            .args([
                "--appendfsync",
                "always",
                "--maxmemory-policy",
                "noeviction",
            ])
            .args(["--repl-diskless-sync-delay", "0"])
            .args(["--port", &port, "--logfile", "log"])
            .args(options);
    }
    command
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

fn pid(port: u16, options: &[String]) -> String {
    let info = ask(port, options, &["INFO", "server"], PATIENCE).unwrap();
    let pid = info
        .lines()
        .find_map(|line| line.strip_prefix("process_id:"));
    pid.unwrap().trim().to_owned()
}

/// A port that nobody has; of a cluster's node also the one 10,000 above it.
fn free_port(options: &[String]) -> u16 {
    let cluster = options.iter().any(|option| option == "--cluster-enabled");
    loop {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        if !cluster {
            return port;
        }
        // Ports of the system's own choice lie high: the bus must fit below 65,536.
        let low = 20_000 + port % 12_000;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(low) && free(low + 10_000) {
            return low;
        }
    }
}

/// Whether the server of this folder answers at this port, and not somebody else's.
fn ready(dir: &Path, port: u16, options: &[String]) -> bool {
    for _ in 0..2000 {
        let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        if log.contains("Failed listening on port") {
            return false;
        }
        let begun = log.rsplit("Server initialized").next().unwrap_or_default();
        let begun = begun.contains("Ready to accept connections") || log.contains("Sentinel ID is");
        let ping = || ask(port, options, &["PING"], PATIENCE);
        if begun && ping().is_ok_and(|answer| answer.starts_with("+PONG")) {
            return true;
        }
        pause();
    }
    false
}

/// Waits until it is so, 20 seconds at most.
pub(crate) fn wait(what: &str, done: impl Fn() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        pause();
    }
    panic!("after 20 seconds still not: {what}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "a real process starts in real time"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Speaks the protocol by hand, so that no test depends on what it tests.
fn ask(
    port: u16,
    options: &[String],
    words: &[&str],
    patience: Duration,
) -> std::io::Result<String> {
    say(&mut connect(port, options, patience)?, words)
}

fn connect(port: u16, options: &[String], patience: Duration) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(patience))?;
    // As options of a server, and as a line of a Sentinel's file.
    let given = options.iter().position(|option| option == "--requirepass");
    let given = given.and_then(|at| options.get(at + 1)).map(String::as_str);
    let line = options
        .iter()
        .find_map(|it| it.strip_prefix("requirepass "));
    if let Some(password) = given.or(line) {
        say(&mut stream, &["AUTH", password])?;
    }
    Ok(stream)
}

fn say(stream: &mut TcpStream, words: &[&str]) -> std::io::Result<String> {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 65_536];
    loop {
        let read = stream.read(&mut piece)?;
        answer.extend_from_slice(&piece[..read]);
        if read == 0 || whole(&answer) {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}

/// Whether an answer has arrived whole: a line, or a text of known length.
fn whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, rest)) = text.split_once("\r\n") else {
        return false;
    };
    match head.strip_prefix('$') {
        Some(length) => length
            .parse::<usize>()
            .map_or(true, |length| rest.len() >= length),
        None => true,
    }
}

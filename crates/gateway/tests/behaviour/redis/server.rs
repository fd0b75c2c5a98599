//! Real servers for tests: `redis-server` of the system on free loopback ports, each in a folder of
//! its own, killed when dropped. A missing binary fails the test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// One server.
pub(crate) struct Server {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
    options: Vec<String>,
}

impl Server {
    /// Starts one with `appendonly yes`, `appendfsync always`, no eviction and then `options`, as
    /// in `["--maxmemory", "32mb"]`.
    pub(crate) fn start(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        // Somebody else may take a free port before the server does: then take another.
        for _ in 0..20 {
            let port = free_port(&options);
            let mut child = spawn(dir.path(), port, &options);
            if ready(dir.path(), port) {
                return Self {
                    child,
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
        panic!("redis-server does not start:\n{log}");
    }

    /// The address of it.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
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
        self.child = spawn(self.dir.path(), self.port, &self.options);
        assert!(
            ready(self.dir.path(), self.port),
            "redis-server does not come back"
        );
    }

    /// One command in plain words, for settings and figures; the raw answer.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        ask(self.port, words).unwrap()
    }

    /// The processor time it has used, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let info = self.ask(&["INFO", "server"]);
        let pid = info
            .lines()
            .find_map(|line| line.strip_prefix("process_id:"))
            .unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
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
        let nodes: Vec<Server> = (0..3)
            .map(|_| Server::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]))
            .collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]);
        for node in &nodes {
            create.arg(format!("127.0.0.1:{}", node.port));
        }
        let created = create.arg("--cluster-yes").output().expect("run redis-cli");
        assert!(
            created.status.success(),
            "{}",
            String::from_utf8_lossy(&created.stdout)
        );
        let cluster = Self { nodes };
        let known = |node: &Server| node.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
        wait(|| cluster.nodes.iter().all(known));
        cluster
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
const GUARD: &str = "redis-server \"$@\" & server=$!; \
                     read -r never; kill -9 $server; wait $server 2>/dev/null";

fn spawn(dir: &Path, port: u16, options: &[String]) -> Child {
    let mut command = Command::new("sh");
    command
        .args(["-c", GUARD, "redis-server"])
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
        .args([
            "--appendfsync",
            "always",
            "--maxmemory-policy",
            "noeviction",
        ])
        .args(["--port", &port.to_string(), "--logfile", "log"])
        .args(options)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let version = Command::new("redis-server").arg("--version").output();
    version.expect("run redis-server: install the package `redis-server`");
    command.spawn().unwrap()
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
fn ready(dir: &Path, port: u16) -> bool {
    for _ in 0..2000 {
        let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
        if log.contains("Failed listening on port") {
            return false;
        }
        let begun = log.rsplit("Server initialized").next().unwrap_or_default();
        if begun.contains("Ready to accept connections")
            && ask(port, &["PING"]).is_ok_and(|answer| answer.starts_with("+PONG"))
        {
            return true;
        }
        pause();
    }
    false
}

fn wait(done: impl Fn() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        pause();
    }
    panic!("the servers do not come together");
}

#[expect(
    clippy::disallowed_methods,
    reason = "a real process starts in real time"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Speaks the protocol by hand, so that no test depends on what it tests.
fn ask(port: u16, words: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
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

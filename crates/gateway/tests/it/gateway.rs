//! The built binary as its users have it: a process, its files, its HTTP and its signals.

pub(crate) mod clock;
pub(crate) mod receiver;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use clock::Fake;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_nightgate");
/// Longest wait for something that must come. Generous: it bounds only tests that fail.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A folder with a configuration and everything a gateway keeps; several processes may live in it,
/// one after the other.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    fake: Option<Fake>,
    /// The distance of the clock is read from this file instead, again and again.
    clock_file: Option<PathBuf>,
    pub(crate) token: Option<&'static str>,
}

impl Home {
    /// A home with `config` (TOML) beside `data.dir`.
    pub(crate) fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("nightgate.toml"), config).unwrap();
        Self {
            dir,
            fake: None,
            clock_file: None,
            token: None,
        }
    }

    pub(crate) fn with_clock(self, fake: Fake) -> Self {
        let fake = Some(fake);
        Self { fake, ..self }
    }

    pub(crate) fn with_clock_file(self, file: &Path) -> Self {
        let clock_file = Some(file.to_owned());
        Self { clock_file, ..self }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command of the binary in this home, under its clock and no settings of ours.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).current_dir(self.dir.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("NIGHTGATE_") {
                command.env_remove(name);
            }
        }
        if let Some(fake) = &self.fake {
            fake.dress(&mut command);
        }
        if let Some(file) = &self.clock_file {
            command.env_remove("FAKETIME");
            command.env("FAKETIME_TIMESTAMP_FILE", file);
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What all processes of this home have logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// Starts `serve` on a free port and waits until it is ready.
    pub(crate) async fn serve(&self) -> Gateway {
        let from = self.log().len();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("stderr"))
            .unwrap();
        let child = self
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut gateway = Gateway {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            client: client(),
            token: self.token,
        };
        let address = eventually("the gateway listens", || {
            let log = self.log();
            let died = gateway.child.try_wait().unwrap();
            assert!(died.is_none(), "the gateway ended at once: {log}");
            address_in(log.get(from..).unwrap_or_default())
        });
        gateway.address = address.await;
        while gateway.get("/readyz").await.status != 200 {
            clock::pause(LOOK_EVERY).await;
        }
        gateway
    }

    /// The lines that the log sink wrote to `name`; a line cut by a crash is left out.
    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        lines_of(&self.path(name))
    }
}

fn lines_of(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn address_in(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("nightgate serves"))?;
    let (_, rest) = line.split_once("127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Looks until `what` is there; panics with `name` when it does not come.
pub(crate) async fn eventually<T>(name: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let began = clock::monotonic();
    loop {
        if let Some(found) = what() {
            return found;
        }
        let waited = clock::monotonic().saturating_sub(began);
        assert!(waited < PATIENCE, "never came true: {name}");
        clock::pause(LOOK_EVERY).await;
    }
}

fn signal(pid: u32, name: &str) {
    let pid = pid.to_string();
    let done = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(done.unwrap().success(), "kill -s {name} {pid}");
}

/// `kill -9`.
pub(crate) fn kill(pid: u32) {
    signal(pid, "KILL");
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Got {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }

    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text);
        let lines = self.text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// A running process. Dropped, it is killed.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: SocketAddr,
    client: reqwest::Client,
    token: Option<&'static str>,
}

impl Gateway {
    fn ask(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        let request = self.client.request(method, url);
        match self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn got(request: reqwest::RequestBuilder) -> Result<Got, reqwest::Error> {
        let answer = request.send().await?;
        Ok(Got {
            status: answer.status().as_u16(),
            text: answer.text().await?,
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        Self::got(self.ask(reqwest::Method::GET, path))
            .await
            .unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Got {
        Self::got(self.ask(reqwest::Method::POST, path).json(body))
            .await
            .unwrap()
    }

    fn lines(&self, path: &str, lines: String) -> reqwest::RequestBuilder {
        let request = self.ask(reqwest::Method::POST, path);
        let request = request.header("content-type", "application/x-ndjson");
        request.body(lines)
    }

    pub(crate) async fn stream(&self, path: &str, lines: String) -> Got {
        Self::got(self.lines(path, lines)).await.unwrap()
    }

    /// Posts lines to a process that may die meanwhile; tells each answer that has come whole.
    pub(crate) async fn stream_while_it_lives(
        &self,
        path: &str,
        lines: String,
        mut tell: impl FnMut(Value),
    ) -> Result<(), reqwest::Error> {
        let mut answer = self.lines(path, lines).send().await?;
        let mut text = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            text.extend_from_slice(&piece);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                tell(serde_json::from_slice(&line).unwrap());
            }
        }
        Ok(())
    }

    /// Asks until `path` answers something that `holds`.
    pub(crate) async fn until(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let began = clock::monotonic();
        loop {
            let answer = self.get(path).await.json();
            if holds(&answer) {
                return answer;
            }
            let waited = clock::monotonic().saturating_sub(began);
            assert!(waited < PATIENCE, "{path} still answers {answer}");
            clock::pause(LOOK_EVERY * 5).await;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// Asks it to stop, and waits for its orderly end.
    pub(crate) async fn stop(mut self) {
        self.signal("TERM");
        let ended = eventually("the gateway ends after SIGTERM", || {
            self.child.try_wait().unwrap()
        });
        assert!(ended.await.success());
    }

    /// Whether the process still runs.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A killed process leaves the shared memory of libfaketime behind.
        let pid = self.child.id();
        for name in [
            format!("/dev/shm/faketime_shm_{pid}"),
            format!("/dev/shm/sem.faketime_sem_{pid}"),
        ] {
            let _ = fs::remove_file(name);
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.end();
    }
}

//! Emulators of SQS on loopback, each in a process that ends with the test that started it.

use std::env::temp_dir;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use nightgate::clock::{Clock, SystemClock};

/// How long one may take to start on a busy machine.
const START: Duration = Duration::from_secs(60);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// What can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ministack,
    Fauxqs,
    LocalAwsSqs,
}

/// An emulator that runs.
pub(crate) struct Emulator {
    pub(crate) url: String,
    process: Child,
    /// Ends the process when it is closed, however this one ends.
    _alive: Option<ChildStdin>,
    /// What it and its functions leave behind.
    _dir: tempfile::TempDir,
}

/// Where `scripts/test.sh` installs what the tests of this binary need.
fn folder() -> PathBuf {
    temp_dir().join("nightgate-aws")
}

/// A program or package that `scripts/test.sh` installs.
pub(crate) fn installed(path: &str) -> PathBuf {
    let path = folder().join(path);
    let there = path.exists();
    assert!(
        there,
        "{} is missing: run scripts/test.sh once, it installs it",
        path.display()
    );
    path
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/aws/run")
        .join(name)
}

fn command(kind: Kind, port: u16) -> Command {
    let node = |package: &str, name: &str| {
        installed(&format!("node_modules/{package}"));
        let mut command = Command::new("node");
        command.arg(script(name)).arg(folder());
        command
    };
    let mut command = match kind {
        Kind::Ministack => {
            installed("venv/bin/ministack");
            let mut command = Command::new(installed("venv/bin/python3"));
            command.arg(script("run_ministack.py"));
            command
        }
        Kind::Fauxqs => node("fauxqs", "fauxqs.mjs"),
        Kind::LocalAwsSqs => node("local-aws-sqs", "local_aws_sqs.mjs"),
    };
    command.arg(port.to_string());
    command
}

impl Emulator {
    pub(crate) async fn start(kind: Kind) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let dir = tempfile::tempdir().unwrap();
        let mut command = command(kind, port);
        command
            .env("TMPDIR", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let alive = process.stdin.take();
        let clock = SystemClock::default();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "{kind:?} did not start: {ended:?}");
            assert!(clock.monotonic() < START, "{kind:?} does not answer");
            clock.sleep_until(clock.now() + LOOK).await;
        }
        Self {
            url: format!("http://127.0.0.1:{port}"),
            process,
            _alive: alive,
            _dir: dir,
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs `boto.py` with `input`; what it printed.
pub(crate) fn boto(url: &str, arguments: &[&str], input: &str) -> String {
    python("boto", "boto.py", &[&[url], arguments].concat(), input)
}

/// Runs a script of `run` with `input` and the packages of one folder; what it printed.
pub(crate) fn python(packages: &str, name: &str, arguments: &[&str], input: &str) -> String {
    use std::io::Write as _;
    let mut process = Command::new(installed(&format!("{packages}/bin/python3")))
        .arg(script(name))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let done = process.wait_with_output().unwrap();
    assert!(done.status.success(), "{name} {arguments:?} failed");
    String::from_utf8(done.stdout).unwrap()
}

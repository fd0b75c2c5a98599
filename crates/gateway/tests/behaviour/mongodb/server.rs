//! Servers that speak as MongoDB does: one of each kind a test process, ended with it. Used by the
//! tests in `src` too.
//!
//! No real server can be installed where CI runs. `NIGHTGATE_TEST_MONGODB_URL` names one that takes
//! the place of nx-27017; databases `nightgate_test_…` are left behind on it.

use std::env::temp_dir;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Names a real server.
const REAL: &str = "NIGHTGATE_TEST_MONGODB_URL";
/// Emulators are slow where many tests run at once.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

/// What can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// The one most tests run on: nx-27017, unless a real one is named.
    Usual,
    /// The second opinion.
    Secantus,
}

/// A server that runs. It is killed when its standard input closes, however this process ends.
struct Running {
    url: String,
    _process: Option<Child>,
}

/// The address of a server of this kind, started if there is none yet.
pub(crate) fn url(kind: Server) -> &'static str {
    static USUAL: OnceLock<Running> = OnceLock::new();
    static SECANTUS: OnceLock<Running> = OnceLock::new();
    let running = match kind {
        Server::Usual => USUAL.get_or_init(|| match std::env::var(REAL) {
            Ok(url) => Running {
                url,
                _process: None,
            },
            Err(_) => started(NX, NX_WORDS),
        }),
        Server::Secantus => SECANTUS.get_or_init(|| started(SECANTUS_DB, SECANTUS_WORDS)),
    };
    &running.url
}

pub(crate) const NX: &str = "venv/bin/nx-27017";
/// Without a file of its own for its process id it would look for another's.
pub(crate) const NX_WORDS: &str =
    "--host 127.0.0.1 -p PORT --data-dir FOLDER --log-file FOLDER/log --pid-file FOLDER/pid";
const SECANTUS_DB: &str = "venv/bin/secantusd-py";
const SECANTUS_WORDS: &str =
    "--host 127.0.0.1 --port PORT --storage-path FOLDER/data --log-level ERROR";

fn started(program: &str, words: &str) -> Running {
    let (process, port) = start(0, "-", program, words);
    Running {
        url: address(port),
        _process: Some(process),
    }
}

pub(crate) fn address(port: u16) -> String {
    format!("mongodb://127.0.0.1:{port}/?directConnection=true")
}

/// The name of a database that nobody uses yet.
pub(crate) fn database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (process, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    format!("nightgate_test_{process}_{next}_{}", fastrand::u32(..))
}

/// A program that `scripts/test.sh` installs.
fn installed(path: &str) -> PathBuf {
    let path = temp_dir().join("nightgate-mongo").join(path);
    assert!(
        path.exists(),
        "{} is missing: run scripts/test.sh once, it installs it",
        path.display()
    );
    path
}

/// Starts a program and waits until it answers; its process and port.
pub(crate) fn start(port: u16, folder: &str, program: &str, words: &str) -> (Child, u16) {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/behaviour/mongodb/serve.py"
    );
    let mut process = Command::new("python3")
        .args([script, &port.to_string(), folder])
        .arg(installed(program))
        .args(words.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    let mut said = BufReader::new(process.stdout.take().unwrap());
    said.read_line(&mut told).unwrap();
    let port = told.trim().parse();
    assert!(port.is_ok(), "{program} did not start");
    (process, port.unwrap())
}

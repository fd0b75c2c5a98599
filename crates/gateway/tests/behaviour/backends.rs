//! One row a backend, and how a test runs on each.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate::error::Result;
use nightgate::hold::memory::MemoryHold;
use nightgate::hold::remote::{Owned, RemoteHold, serve};
use nightgate::hold::shelf::{self, ShelfHold};
use nightgate::hold::sqlite::{Options, SqliteHold};
use nightgate::hold::{
    Capability, Found, Held, HoldStore, Lane, LeaseAsk, Leased, Pause, Put, Recalled, Scope,
    Settle, Settled, Shelf, State,
};
use nightgate_core::{Class, MessageId};
use tempfile::TempDir;

#[cfg(feature = "mongodb")]
use crate::mongodb::Server;
#[cfg(feature = "redis")]
use crate::redis::server::Kind;
use crate::world::HORIZON;

type Opening = Pin<Box<dyn Future<Output = Arc<dyn HoldStore>>>>;

/// A backend under test.
pub(crate) struct Backend {
    /// For failure messages and for the child process.
    pub(crate) name: &'static str,
    /// Opens it in a directory, or opens what is there already, with [`HORIZON`].
    pub(crate) open: fn(PathBuf) -> Opening,
}

/// Every backend. Adding one is adding a row.
pub(crate) const ALL: &[Backend] = &[
    Backend {
        name: "memory",
        open: |_| Box::pin(async { memory() }),
    },
    Backend {
        name: "shelf",
        open: |dir| Box::pin(async move { shelf(&dir).await }),
    },
    Backend {
        name: "sqlite",
        open: |dir| Box::pin(async move { sqlite(&dir).await }),
    },
    // The same file opened twice and used by turns, as a daemon and a command use it.
    Backend {
        name: "sqlite by two",
        open: |dir| Box::pin(async move { two(&dir).await }),
    },
    // Queues in this process, in a time that follows each call's `now`.
    #[cfg(feature = "sqs")]
    Backend {
        name: "sqs",
        open: |dir| Box::pin(async move { crate::sqs::world::in_step(&dir).await }),
    },
    #[cfg(feature = "redis")]
    Backend {
        name: "redis",
        open: |dir| {
            Box::pin(async move { crate::redis::world::shared(Kind::Redis, &dir, 1).await })
        },
    },
    #[cfg(feature = "redis")]
    Backend {
        name: "valkey",
        open: |dir| {
            Box::pin(async move { crate::redis::world::shared(Kind::Valkey, &dir, 1).await })
        },
    },
    #[cfg(feature = "redis")]
    Backend {
        name: "redis in four partitions",
        open: |dir| {
            Box::pin(async move { crate::redis::world::shared(Kind::Redis, &dir, 4).await })
        },
    },
    // Two handles with nothing in common but the server.
    #[cfg(feature = "redis")]
    Backend {
        name: "redis by two",
        open: |dir| Box::pin(async move { by_turns(crate::redis::world::both(&dir).await) }),
    },
    // nx-27017, or the real server that NIGHTGATE_TEST_MONGODB_URL names.
    #[cfg(feature = "mongodb")]
    Backend {
        name: "mongodb",
        open: |dir| Box::pin(async move { crate::mongodb::hold(Server::Usual, &dir).await }),
    },
    Backend {
        name: "memory behind a socket",
        open: |dir| Box::pin(async move { served(memory(), &dir).await }),
    },
    Backend {
        name: "sqlite behind a socket",
        open: |dir| Box::pin(async move { served(sqlite(&dir).await, &dir).await }),
    },
];

/// The yardstick.
pub(crate) fn memory() -> Arc<dyn HoldStore> {
    Arc::new(MemoryHold::new(HORIZON))
}

async fn shelf(dir: &Path) -> Arc<dyn HoldStore> {
    let options = shelf::Options {
        horizon: HORIZON,
        ..shelf::Options::default()
    };
    Arc::new(ShelfHold::open(dir, options).await.unwrap())
}

async fn sqlite(dir: &Path) -> Arc<dyn HoldStore> {
    let options = Options {
        horizon: HORIZON,
        ..Options::default()
    };
    Arc::new(SqliteHold::open(dir, options).await.unwrap())
}

async fn two(dir: &Path) -> Arc<dyn HoldStore> {
    by_turns([sqlite(dir).await, sqlite(dir).await])
}

fn by_turns(both: [Arc<dyn HoldStore>; 2]) -> Arc<dyn HoldStore> {
    Arc::new(ByTurns {
        both,
        turn: AtomicUsize::new(0),
    })
}

/// `hold`, asked through a socket as another process asks it. Each process has a socket of its own
/// here, since the tests open one directory in two.
async fn served(hold: Arc<dyn HoldStore>, dir: &Path) -> Arc<dyn HoldStore> {
    std::fs::create_dir_all(dir).unwrap();
    let socket = dir.join(format!("{}.socket", std::process::id()));
    let server = serve(hold, &socket).unwrap();
    let remote = RemoteHold::connect(&socket).await.unwrap();
    Arc::new(Owned::new(Arc::new(remote), server))
}

/// One backend, opened in a directory of its own.
pub(crate) struct Bench {
    /// The hold under test.
    pub(crate) hold: Arc<dyn HoldStore>,
    /// Which it is.
    pub(crate) backend: &'static Backend,
    /// Where it keeps things.
    pub(crate) dir: TempDir,
}

impl Bench {
    async fn open(backend: &'static Backend) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hold = (backend.open)(dir.path().join("data")).await;
        Self { hold, backend, dir }
    }

    /// The backend's own directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Lets go of the hold, so that another process can have it.
    pub(crate) fn close(&mut self) {
        self.hold = memory();
    }

    /// Lets go of the hold and opens it again.
    pub(crate) async fn reopen(&mut self) {
        self.close();
        self.hold = (self.backend.open)(self.data()).await;
    }
}

/// Runs `test` on every backend that promises what `needs` asks for.
pub(crate) async fn on_each(needs: fn(&Capability) -> bool, test: impl AsyncFn(&mut Bench)) {
    let mut ran = 0;
    for backend in ALL {
        let mut bench = Bench::open(backend).await;
        if needs(&bench.hold.capability()) {
            println!("on {}", backend.name);
            test(&mut bench).await;
            ran += 1;
        }
    }
    assert!(ran > 0, "no backend promises this, so nothing was tested");
}

/// What every backend promises.
pub(crate) fn always(_: &Capability) -> bool {
    true
}

/// Two handles on one store, used by turns.
struct ByTurns {
    both: [Arc<dyn HoldStore>; 2],
    turn: AtomicUsize,
}

impl ByTurns {
    fn next(&self) -> &dyn HoldStore {
        &*self.both[self.turn.fetch_add(1, Ordering::Relaxed) % 2]
    }
}

#[async_trait]
impl HoldStore for ByTurns {
    fn name(&self) -> &'static str {
        self.next().name()
    }

    fn capability(&self) -> Capability {
        self.next().capability()
    }

    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        self.next().put(messages, now).await
    }

    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        self.next().lease(ask).await
    }

    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        self.next().settle(settlements, now).await
    }

    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        self.next().next_due(lane, now).await
    }

    async fn shelves(&self, lane: Option<&Lane>, by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        self.next().shelves(lane, by).await
    }

    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        self.next().find(ids).await
    }

    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        self.next().list(state, lane, max).await
    }

    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        self.next().recall(scope, now).await
    }

    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        self.next().kick(scope, now).await
    }

    async fn redate(&self, of: &Lane, class: &Class, by: Timestamp, to: Timestamp) -> Result<u64> {
        self.next().redate(of, class, by, to).await
    }

    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        self.next().pause(lane, paused, now).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>> {
        self.next().pauses().await
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        self.next().sweep(now).await
    }

    async fn check(&self) -> Result<()> {
        self.next().check().await
    }
}

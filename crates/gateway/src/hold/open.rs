//! The hold by its configured name: the only place that knows the backends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use super::memory::MemoryHold;
use super::remote::{Owned, RemoteHold, serve};
use super::shelf::{self, ShelfHold};
use super::sqlite::{Options, SqliteHold};
use super::{HORIZON_DEFAULT, HoldStore};
use crate::error::{Error, Kind, Result};

/// The names that [`open`] knows.
pub const STORES: &[&str] = &["shelf", "sqlite", "memory"];
/// The shelf store's own directory, within that of the data.
pub const SHELF_DIR: &str = "shelf";
/// Bytes of disk kept free unless configured: enough to go on releasing, and to settle.
pub const KEEP_FREE_DEFAULT: u64 = 512 * 1024 * 1024;
/// The socket of a hold that one process owns, in the hold's own directory.
pub const SOCKET: &str = "socket";
/// How long a process that owns the hold and serves nobody yet is waited for: it is opening the
/// hold, or giving it up.
const OWNER_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two tries to own or reach a hold.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// How a hold is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// The directory of everything that must outlive a restart; a hold that needs more than a file
    /// makes a directory of its own in it.
    pub dir: PathBuf,
    /// How long an id is remembered after its message ended.
    pub horizon: SignedDuration,
    /// Most bytes held; `None`: as many as the disk takes.
    pub max_bytes: Option<u64>,
    /// Most messages on one shelf; `None`: any number.
    pub shelf_max: Option<u64>,
    /// Bytes of the disk that stay free.
    pub keep_free: u64,
}

impl OpenOptions {
    /// A hold in `dir`, else as it is when nothing is configured.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            horizon: HORIZON_DEFAULT,
            max_bytes: None,
            shelf_max: None,
            keep_free: KEEP_FREE_DEFAULT,
        }
    }
}

/// Opens the hold called `store`, and forgets ids that outlived the horizon while nobody was
/// running.
///
/// # Errors
/// `Invalid` for a name not in [`STORES`]; else what the backend says.
pub async fn open(
    store: &str,
    options: &OpenOptions,
    now: Timestamp,
) -> Result<Arc<dyn HoldStore>> {
    let hold: Arc<dyn HoldStore> = match store {
        "sqlite" => Arc::new(sqlite(options).await?),
        "memory" => Arc::new(MemoryHold::new(options.horizon)),
        "shelf" => shelf(options).await?,
        _ => {
            let op = format!(
                "open the hold `{store}`; choose one of {}",
                STORES.join(", ")
            );
            return Err(Error::new(Kind::Invalid, "hold", op));
        }
    };
    hold.sweep(now).await?;
    Ok(hold)
}

async fn shelf(options: &OpenOptions) -> Result<Arc<dyn HoldStore>> {
    let own = shelf::Options {
        horizon: options.horizon,
        max_bytes: options.max_bytes,
        shelf_max: options.shelf_max,
        keep_free: options.keep_free,
        ..shelf::Options::default()
    };
    let socket = options.dir.join(SHELF_DIR).join(SOCKET);
    let open = async || {
        let opened = ShelfHold::try_open(&options.dir, own.clone()).await?;
        Ok(opened.map(|hold| Arc::new(hold) as Arc<dyn HoldStore>))
    };
    own_or_reach(&socket, open).await
}

async fn sqlite(options: &OpenOptions) -> Result<SqliteHold> {
    let own = Options {
        horizon: options.horizon,
        ..Options::default()
    };
    SqliteHold::open(&options.dir, own).await
}

/// A hold that one process at a time can own: opened here and served at `socket` to the others, or,
/// if another process owns it, reached through that one. `own` opens it, and says `None` while
/// another owns it.
///
/// # Behaviour
/// - an owner that is still opening the hold, or giving it up, is waited for
/// - a hold that cannot be served is used all the same, and the log says so
///
/// # Errors
/// What `own` says; `Unavailable` when another owns it and serves nobody, `Unsupported` when that
/// is another version of the program.
pub async fn own_or_reach(
    socket: &Path,
    mut own: impl AsyncFnMut() -> Result<Option<Arc<dyn HoldStore>>>,
) -> Result<Arc<dyn HoldStore>> {
    let mut waited = Duration::ZERO;
    loop {
        if let Some(hold) = own().await? {
            return Ok(served(hold, socket));
        }
        match RemoteHold::connect(socket).await {
            Ok(remote) => return Ok(Arc::new(remote)),
            Err(error) if error.kind != Kind::Unavailable => return Err(error),
            Err(error) if waited >= OWNER_PATIENCE => {
                let op = "open the hold: another process owns it and lets nobody in";
                return Err(Error::new(Kind::Unavailable, "hold", op).with(error));
            }
            Err(_) => {
                let _ = timeout(TRY_AGAIN, std::future::pending::<()>()).await;
                waited += TRY_AGAIN;
            }
        }
    }
}

/// Commands beside this process must do without, but messages must not wait for that.
fn served(hold: Arc<dyn HoldStore>, socket: &Path) -> Arc<dyn HoldStore> {
    match serve(Arc::clone(&hold), socket) {
        Ok(server) => Arc::new(Owned::new(hold, server)),
        Err(error) => {
            tracing::warn!(%error, "commands cannot reach the hold of this process");
            hold
        }
    }
}

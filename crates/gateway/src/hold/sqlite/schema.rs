//! The tables, and how a file becomes a connection.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

use super::Options;
use super::health::judge;
use crate::error::{Error, Kind, Result};
use crate::sqlite::PAGE_BYTES;

/// The file's name in the data directory.
pub const FILE: &str = "hold.db";
/// The version of the tables below. A file with a newer one is refused.
pub const SCHEMA_VERSION: i64 = 1;
/// Page cache of the writing connection, KiB: the id index of some two million messages.
const WRITER_CACHE_KIB: i64 = 64 * 1024;
/// Pages in the log after which they are copied into the file: 64 MiB. Ids arrive scattered, so the
/// same index pages change again and again; copying them seldom copies each once for many changes.
const CHECKPOINT_PAGES: i64 = 4 * 16 * 1024;

/// Shelves carry what their messages share, so that a whole shelf is re-dated in one row. `due` is
/// null on the shelf of those that ended. Counters are kept in the transaction that moves messages.
///
/// A message's changing part is short and its body stands apart, so lending rewrites no bodies.
/// `due` is null until it ends (the shelf has it); `recipient` is null where it equals `key`.
const TABLES: &str = "
CREATE TABLE shelf (
    id INTEGER PRIMARY KEY,
    lane TEXT NOT NULL,
    purpose TEXT NOT NULL,
    class TEXT NOT NULL,
    campaign TEXT,
    priority INTEGER NOT NULL,
    due INTEGER,
    held INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    leased INTEGER NOT NULL DEFAULT 0 CHECK (leased >= 0),
    buried INTEGER NOT NULL DEFAULT 0 CHECK (buried >= 0),
    ended INTEGER NOT NULL DEFAULT 0 CHECK (ended >= 0)
) STRICT;
CREATE INDEX shelf_key ON shelf (lane, class, due, priority, purpose, campaign);
CREATE INDEX shelf_held ON shelf (lane, priority, due) WHERE held > 0;
CREATE INDEX shelf_leased ON shelf (lane) WHERE leased > 0;
CREATE INDEX shelf_campaign ON shelf (campaign) WHERE campaign IS NOT NULL;

CREATE TABLE message (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    shelf INTEGER NOT NULL,
    state INTEGER NOT NULL,
    lease INTEGER NOT NULL DEFAULT 0,
    until INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    lapsed INTEGER NOT NULL DEFAULT 0,
    recall INTEGER NOT NULL DEFAULT 0,
    due INTEGER,
    ended_at INTEGER,
    why TEXT,
    key TEXT NOT NULL,
    recipient TEXT,
    channel TEXT NOT NULL,
    jurisdiction TEXT,
    zone TEXT,
    send_at ANY,
    expires_at ANY,
    collapse_key TEXT,
    content_type TEXT NOT NULL,
    accepted_at ANY NOT NULL
) STRICT;
CREATE INDEX message_held ON message (shelf) WHERE state = 0;
CREATE INDEX message_leased ON message (shelf, until) WHERE state = 1;
CREATE INDEX message_buried ON message (shelf) WHERE state = 2;
CREATE INDEX message_ended ON message (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX message_key ON message (key);

CREATE TABLE body (seq INTEGER PRIMARY KEY, attributes TEXT, body BLOB NOT NULL) STRICT;

CREATE TABLE pause (lane TEXT, since INTEGER NOT NULL) STRICT;

CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counter VALUES ('next_seq', 1), ('checks', 0);
";

/// Makes the data directory (0700) and the file (0600) where they are missing: they hold personal
/// data. A directory that exists keeps its mode, which is its owner's business; the file does not.
///
/// # Errors
/// `Unavailable` with the path when either cannot be made.
pub(super) fn prepare(dir: &Path) -> Result<PathBuf> {
    let path = dir.join(FILE);
    let failed = |error: std::io::Error| {
        let op = format!(
            "prepare {}; check that its owner may write there",
            path.display()
        );
        Error::new(Kind::Unavailable, "hold", op).with(error)
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed)?;
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path);
    let file = file.map_err(failed)?;
    file.set_permissions(Permissions::from_mode(0o600))
        .map_err(failed)?;
    // A file whose name is not on the disk is lost with everything in it.
    file.sync_all()
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(failed)?;
    Ok(path)
}

/// Opens the connection that writes, and makes the tables in a new file.
pub(super) fn open_writer(path: &Path, options: &Options) -> Result<Connection> {
    let failed = |error| opening(path, &error);
    let mut connection = Connection::open(path).map_err(failed)?;
    let set = || -> rusqlite::Result<()> {
        connection.busy_timeout(options.busy_timeout)?;
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        // What is deleted is overwritten where the page is written anyway.
        connection.pragma_update(None, "secure_delete", "FAST")?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(())
    };
    set().map_err(failed)?;
    migrate(&mut connection)
        .map_err(failed)?
        .map_err(|found| newer(path, found))?;
    if let Some(pages) = options.pages_max {
        connection
            .pragma_update(None, "max_page_count", pages)
            .map_err(failed)?;
    }
    Ok(connection)
}

/// Opens the connection that reads, so that reading does not wait for writes.
pub(super) fn open_reader(path: &Path, options: &Options) -> Result<Connection> {
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(options.busy_timeout)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(connection)
    };
    open().map_err(|error| opening(path, &error))
}

/// Makes the tables in an empty file; `Err(version)` when they are newer than this program.
fn migrate(connection: &mut Connection) -> rusqlite::Result<std::result::Result<(), i64>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        SCHEMA_VERSION => {}
        0 => {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        newer => return Ok(Err(newer)),
    }
    transaction.commit().map(Ok)
}

fn newer(path: &Path, found: i64) -> Error {
    let op = format!(
        "open {}: its tables have version {found} and this program knows {SCHEMA_VERSION}; \
         use the newer nightgate that wrote it",
        path.display()
    );
    Error::new(Kind::Invalid, "hold", op)
}

/// A file that cannot be opened poisons nothing: there is no store yet.
fn opening(path: &Path, error: &rusqlite::Error) -> Error {
    let cause = judge(error);
    let kind = if cause.kind == Kind::Poisoned {
        Kind::Corrupt
    } else {
        cause.kind
    };
    Error::new(kind, "hold", format!("open {}", path.display())).with(cause.text)
}

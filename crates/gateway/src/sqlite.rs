//! What the books on disk share: how a SQLite file is opened, written in groups, and read without
//! holding up the runtime.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, TransactionBehavior};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::error::{Error, Kind, Result};

/// How long one process waits for another's transaction before it answers `Unavailable`.
const BUSY_WAIT: Duration = Duration::from_secs(10);
/// Page cache of one connection, in KiB: the upper levels of the trees of some million rows.
const CACHE_KIB: i64 = 32 * 1024;
/// Page size where random keys decide: ids and recipients come in no order, so most rows dirty
/// index pages of their own, and the smaller the page, the less is written for each.
pub(crate) const PAGE_BYTES: i64 = 1024;
/// Bytes of WAL between checkpoints. Random keys dirty many pages, and each is copied back once per
/// checkpoint, so a longer log writes less.
const CHECKPOINT_BYTES: i64 = 32 * 1024 * 1024;
/// The WAL shrinks back to this many bytes after a burst.
const WAL_KEEP_BYTES: i64 = 64 * 1024 * 1024;
/// Connections that read one file at the same time.
const READERS_MAX: usize = 4;
/// Writes that may wait for the writer thread; further ones wait in their callers.
const QUEUE_MAX: usize = 256;
/// The writer takes no more writes into a transaction once it holds this many rows, so that the
/// first caller does not wait for all the others.
const GROUP_ROWS: usize = 16 * 1024;
/// Prepared statements kept per connection; the books use about a dozen each.
const STATEMENTS_MAX: usize = 32;

/// What a file is and how it begins.
pub(crate) struct Schema {
    /// The part that owns it, for errors: `consent`.
    pub(crate) part: &'static str,
    /// SQLite `application_id`: keeps one book from being opened as another.
    pub(crate) application: i32,
    /// SQLite `user_version` that this program reads and writes.
    pub(crate) version: i32,
    /// Page size of a new file.
    pub(crate) page_bytes: i64,
    /// Creates everything, in an empty file.
    pub(crate) create: &'static str,
    /// What turns the version before into this one; `None` when such a file must be left alone.
    pub(crate) upgrade: Option<&'static str>,
}

/// Opens `path` for writing and creates what is missing: directory 0700, file 0600, tables.
///
/// # Errors
/// `Invalid` when the file is no book of this kind or was written by a newer version;
/// `Unavailable` when it cannot be opened.
pub(crate) fn open(path: &Path, schema: &Schema) -> Result<Connection> {
    let op = || format!("open {}", path.display());
    let io = |error: std::io::Error| Error::new(Kind::Unavailable, schema.part, op()).with(error);
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(io)?;
    }
    // SQLite gives the WAL and its index the mode of the file itself.
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    let _turn = take_turn(path).map_err(io)?;
    let sql = |error| fault(schema.part, &op(), error, false);
    let mut conn = connect(path).map_err(sql)?;
    conn.pragma_update(None, "page_size", schema.page_bytes)
        .map_err(sql)?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
        .map_err(sql)?;
    conn.pragma_update(None, "synchronous", "FULL")
        .map_err(sql)?;
    let checkpoint = CHECKPOINT_BYTES / schema.page_bytes;
    conn.pragma_update(None, "wal_autocheckpoint", checkpoint)
        .map_err(sql)?;
    conn.pragma_update(None, "journal_size_limit", WAL_KEEP_BYTES)
        .map_err(sql)?;
    let tx = conn
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sql)?;
    settle_version(&tx, schema, &op())?;
    tx.commit().map_err(sql)?;
    Ok(conn)
}

/// Creates what an empty file lacks, brings an older one up to date, and refuses any other.
fn settle_version(conn: &Connection, schema: &Schema, op: &str) -> Result<()> {
    let sql = |error| fault(schema.part, op, error, false);
    let pragma = |name| conn.pragma_query_one::<i32>(None, name).map_err(sql);
    let wrong = |why: String| Err(Error::new(Kind::Invalid, schema.part, op).with(why));
    let known = schema.version;
    let script = match (pragma("application_id")?, pragma("user_version")?) {
        (0, 0) => schema.create,
        (application, _) if application != schema.application => {
            return wrong(format!("it is not a {} file of nightgate", schema.part));
        }
        (_, version) if version == known => return Ok(()),
        (_, version) if version > known => {
            return wrong(format!(
                "it has version {version}, this program knows {known}: update"
            ));
        }
        (_, version) => match schema.upgrade.filter(|_| version == known - 1) {
            Some(upgrade) => upgrade,
            None => {
                return wrong(format!(
                    "it has version {version}, this program writes {known} and cannot read it: \
                     export it with the program that wrote it, then move the file away"
                ));
            }
        },
    };
    conn.execute_batch(script).map_err(sql)?;
    conn.pragma_update(None, "application_id", schema.application)
        .map_err(sql)?;
    conn.pragma_update(None, "user_version", known).map_err(sql)
}

/// Waits until nobody else is opening the database at `path`; the turn ends when the file is
/// dropped. SQLite answers "busy" at once, without its usual patience, to one of two that switch a
/// new file to its write-ahead log.
pub(crate) fn take_turn(path: &Path) -> std::io::Result<File> {
    let turn = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path.with_extension("lock"))?;
    turn.lock()?;
    Ok(turn)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_WAIT)?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(conn)
}

/// A connection that only reads `path`, which [`open`] has opened before.
pub(crate) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let conn = connect(path)?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(conn)
}

/// An SQLite error as one of ours. Texts of SQLite name tables and files, never values.
pub(crate) fn fault(part: &'static str, op: &str, error: rusqlite::Error, write: bool) -> Error {
    Error::new(kind(&error, write), part, op).with(error)
}

fn kind(error: &rusqlite::Error, write: bool) -> Kind {
    match error {
        rusqlite::Error::SqliteFailure(error, _) => match error.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Kind::Corrupt,
            // Rolled back whole, and the log was not touched: worth another try.
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull => {
                Kind::Unavailable
            }
            _ if write => Kind::Poisoned,
            _ => Kind::Unavailable,
        },
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..) => Kind::Corrupt,
        _ if write => Kind::Poisoned,
        _ => Kind::Unavailable,
    }
}

/// A stored value that does not read back. `what` names the column, never the value.
pub(crate) fn corrupt(what: impl fmt::Display) -> rusqlite::Error {
    let kind = rusqlite::types::Type::Null;
    rusqlite::Error::FromSqlConversionFailure(0, kind, format!("{what} does not read back").into())
}

/// A column that counts.
pub(crate) fn natural(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| corrupt("a number below zero"))
}

/// An instant in a column: integer nanoseconds since 1970, or, outside 1677 to 2262 where those do
/// not fit, RFC 3339 text. Whole range, no loss; integers compare, texts do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instant(pub(crate) Timestamp);

impl ToSql for Instant {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match nanoseconds(self.0) {
            Some(nanos) => ToSqlOutput::Owned(Value::Integer(nanos)),
            None => ToSqlOutput::Owned(Value::Text(self.0.to_string())),
        })
    }
}

impl FromSql for Instant {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let at = match value {
            ValueRef::Integer(nanos) => Timestamp::from_nanosecond(nanos.into()).ok(),
            ValueRef::Text(text) => std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()),
            _ => None,
        };
        at.map(Self).ok_or(FromSqlError::InvalidType)
    }
}

/// Nanoseconds since 1970, if they fit a column.
pub(crate) fn nanoseconds(at: Timestamp) -> Option<i64> {
    i64::try_from(at.as_nanosecond()).ok()
}

/// Connections that read one file, each on a thread made for blocking.
pub(crate) struct Readers {
    part: &'static str,
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    seats: Arc<Semaphore>,
}

impl Readers {
    /// Readers of `path`, which [`open`] has opened before.
    pub(crate) fn new(part: &'static str, path: &Path) -> Self {
        let (idle, seats) = (Arc::default(), Arc::new(Semaphore::new(READERS_MAX)));
        Self {
            part,
            path: path.to_owned(),
            idle,
            seats,
        }
    }

    /// Runs `read` in one read transaction, off the runtime.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        op: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let gone = |error: String| Error::new(Kind::Unavailable, self.part, op).with(error);
        let seat = Arc::clone(&self.seats).acquire_owned().await;
        let seat = seat.map_err(|error| gone(error.to_string()))?;
        let (idle, path) = (Arc::clone(&self.idle), self.path.clone());
        let work = move || {
            // The seat stays taken until the work is done, also when the caller has gone.
            let _seat = seat;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let conn = match kept {
                Some(conn) => conn,
                None => reader(&path)?,
            };
            let tx = conn.unchecked_transaction()?;
            let answer = read(&tx)?;
            tx.commit()?;
            idle.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(conn);
            Ok(answer)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| gone(error.to_string()))?
            .map_err(|error| fault(self.part, op, error, false))
    }
}

/// What a writer thread does with the rows it is given.
pub(crate) trait Work: Send + 'static {
    /// One row.
    type Row: Send + 'static;

    /// Writes the rows of each caller inside the transaction that `conn` is in; says for each how
    /// many were new.
    fn apply(
        &mut self,
        conn: &Connection,
        callers: Vec<Vec<Self::Row>>,
    ) -> rusqlite::Result<Vec<u64>>;

    /// The transaction was rolled back: whatever was remembered from it is not so.
    fn forget(&mut self);

    /// How many rows `row` counts for when a group is gathered.
    fn weight(_row: &Self::Row) -> usize {
        1
    }

    /// Whether there is something to put in order behind the callers' backs.
    fn untidy(&self) -> bool {
        false
    }

    /// Puts a bounded part of it in order, in a transaction of its own that is not synced: it may
    /// be lost with the power, and is then done again.
    fn tidy(&mut self, _conn: &Connection) -> rusqlite::Result<()> {
        Ok(())
    }
}

struct Job<R> {
    rows: Vec<R>,
    done: oneshot::Sender<Result<u64>>,
}

/// A thread that commits all writes that wait for it in one transaction: one fsync for many
/// callers.
pub(crate) struct Writer<R> {
    part: &'static str,
    op: &'static str,
    poisoned: Arc<AtomicBool>,
    queue: Option<mpsc::Sender<Job<R>>>,
    thread: Option<JoinHandle<()>>,
}

impl<R: Send + 'static> Writer<R> {
    /// Starts the thread. `op` names the write in errors, as a fragment: `file receipts`.
    pub(crate) fn start<W: Work<Row = R>>(
        part: &'static str,
        op: &'static str,
        conn: Connection,
        work: W,
    ) -> Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let poisoned = Arc::new(AtomicBool::new(false));
        let desk = Desk {
            part,
            op,
            conn,
            work,
            poisoned: Arc::clone(&poisoned),
        };
        let thread = std::thread::Builder::new()
            .name(format!("{part}-writer"))
            .spawn(move || desk.run(jobs))
            .map_err(|error| Error::new(Kind::Unavailable, part, "start a writer").with(error))?;
        Ok(Self {
            part,
            op,
            poisoned,
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Writes `rows`; durable when it returns. Says how many were new.
    pub(crate) async fn write(&self, rows: Vec<R>) -> Result<u64> {
        self.check()?;
        if rows.is_empty() {
            return Ok(0);
        }
        let (done, answer) = oneshot::channel();
        let gone = || Error::new(Kind::Poisoned, self.part, self.op).with("the writer has stopped");
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(Job { rows, done }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// `Poisoned` when a write was lost before.
    pub(crate) fn check(&self) -> Result<()> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::new(Kind::Poisoned, self.part, self.op).with(LOST));
        }
        Ok(())
    }
}

const LOST: &str = "an earlier write was lost: check the disk, then restart";

impl<R> Drop for Writer<R> {
    /// Waits for the writes already queued, so that closing a book is tidy.
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Desk<W: Work> {
    part: &'static str,
    op: &'static str,
    conn: Connection,
    work: W,
    poisoned: Arc<AtomicBool>,
}

impl<W: Work> Desk<W> {
    fn run(mut self, mut jobs: mpsc::Receiver<Job<W::Row>>) {
        while let Some(first) = jobs.blocking_recv() {
            let weight = |job: &Job<W::Row>| job.rows.iter().map(W::weight).sum::<usize>();
            let mut size = weight(&first);
            let mut group = vec![first];
            while size < GROUP_ROWS
                && let Ok(job) = jobs.try_recv()
            {
                size += weight(&job);
                group.push(job);
            }
            self.settle(group);
            if self.work.untidy() && !self.poisoned.load(Ordering::Acquire) {
                self.tidy();
            }
        }
    }

    /// After the callers have their answers, so that nobody waits for it but the next group.
    fn tidy(&mut self) {
        let done = self.put_in_order();
        // Whatever came of it, the next commit must be synced.
        let safe = self.conn.pragma_update(None, "synchronous", "FULL");
        let poisoned = match &done {
            Err(error) => kind(error, true) == Kind::Poisoned,
            Ok(()) => false,
        };
        if poisoned || safe.is_err() || !self.conn.is_autocommit() {
            self.poisoned.store(true, Ordering::Release);
        }
        if let Err(error) = done {
            self.work.forget();
            if kind(&error, true) != Kind::Unavailable {
                let part = self.part;
                tracing::error!(part, %error, "a file cannot be put in order: check the disk");
            }
        }
    }

    fn put_in_order(&mut self) -> rusqlite::Result<()> {
        self.conn.pragma_update(None, "synchronous", "NORMAL")?;
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.work.tidy(&tx)?;
        tx.commit()
    }

    fn settle(&mut self, group: Vec<Job<W::Row>>) {
        let (rows, waiting): (Vec<_>, Vec<_>) =
            group.into_iter().map(|job| (job.rows, job.done)).unzip();
        let outcome = if self.poisoned.load(Ordering::Acquire) {
            Err((Kind::Poisoned, LOST.to_owned()))
        } else {
            self.commit(rows).map_err(|error| {
                self.work.forget();
                let kind = match kind(&error, true) {
                    // What could not be rolled back may yet be written.
                    _ if !self.conn.is_autocommit() => Kind::Poisoned,
                    kind => kind,
                };
                if matches!(kind, Kind::Poisoned | Kind::Corrupt) {
                    self.poisoned.store(true, Ordering::Release);
                }
                (kind, error.to_string())
            })
        };
        // A caller that has gone away does not change what was written.
        match outcome {
            Ok(counts) => {
                for (done, count) in waiting.into_iter().zip(counts) {
                    let _ = done.send(Ok(count));
                }
            }
            Err((kind, why)) => {
                for done in waiting {
                    let error = Error::new(kind, self.part, self.op).with(why.clone());
                    let _ = done.send(Err(error));
                }
            }
        }
    }

    fn commit(&mut self, jobs: Vec<Vec<W::Row>>) -> rusqlite::Result<Vec<u64>> {
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let counts = self.work.apply(&tx, jobs)?;
        tx.commit()?;
        Ok(counts)
    }
}

#[cfg(test)]
mod tests;

//! The receipt log on disk: `receipts.db`, for one machine and any number of processes on it.
//!
//! Receipts are filed in blocks of columns, compressed and checksummed: one row for some thousands
//! of them, made in the caller's task while the writer syncs what came before. A block tells its
//! receipts without anything outside it, so that damage costs what it hits and no more. Blocks are
//! only ever added; triggers refuse the rest. How long receipts are kept is for a later command
//! that drops the oldest; it will have to lift the triggers, which is the point.
//!
//! They are found by a keyed hash of message, recipient or campaign (`runs`), by time through the
//! span of each block, and by place because blocks ascend.

mod find;
mod merge;
mod runs;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use nightgate_core::MessageId;
use rusqlite::{Connection, OptionalExtension, params};

use super::columns::hasher::Hasher;
use super::columns::press::{self, Press, Sealed};
use super::{Event, Filed, Receipt, ReceiptAsk, ReceiptLog};
use crate::error::{Error, Kind, Result};
use crate::sqlite::{Readers, Schema, Work, Writer, corrupt, fault, natural, open};

const PART: &str = "receipt";
const FILE: &str = "file receipts";

/// Receipts of one call that are not worth a block of their own: the writer gathers them from all
/// callers that wait.
const LOOSE_RECEIPTS: usize = 256;
/// Presses kept for the next callers: as many as press at the same time on a small machine.
const PRESSES_KEPT: usize = 4;
/// Page size of a new file: a leaf of the index fills one.
const PAGE_BYTES: i64 = 4096;
/// Entries merged for each one filed, so that a merge ends long before the next begins.
const MERGE_PACE: u64 = 2;

/// `block` is what a query by time or place passes over, `body` the columns. `receipts` count from
/// `first_seq`; `min_at` and `max_at` are nanoseconds since 1970. `run` and the leaves are the
/// index and can be made again from the blocks.
const CREATE: &str = "
CREATE TABLE secret (id INTEGER PRIMARY KEY CHECK (id = 1), key BLOB NOT NULL) STRICT;
INSERT INTO secret VALUES (1, randomblob(16));
CREATE TABLE block (
    no INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, receipts INTEGER NOT NULL,
    min_at INTEGER NOT NULL, max_at INTEGER NOT NULL
) STRICT;
CREATE TABLE body (no INTEGER PRIMARY KEY, columns BLOB NOT NULL) STRICT;
CREATE TRIGGER block_stays BEFORE DELETE ON block
BEGIN SELECT raise(ABORT, 'receipts are append-only'); END;
CREATE TRIGGER block_stands BEFORE UPDATE ON block
BEGIN SELECT raise(ABORT, 'receipts are append-only'); END;
CREATE TRIGGER body_stays BEFORE DELETE ON body
BEGIN SELECT raise(ABORT, 'receipts are append-only'); END;
CREATE TRIGGER body_stands BEFORE UPDATE ON body
BEGIN SELECT raise(ABORT, 'receipts are append-only'); END;
CREATE TABLE run (
    level INTEGER NOT NULL, no INTEGER NOT NULL, entries INTEGER NOT NULL, upto INTEGER NOT NULL,
    PRIMARY KEY (level, no)
) STRICT, WITHOUT ROWID;
CREATE TABLE leaf_0 (place INTEGER PRIMARY KEY, page BLOB NOT NULL) STRICT;
CREATE TABLE leaf_1 (place INTEGER PRIMARY KEY, page BLOB NOT NULL) STRICT;
CREATE TABLE leaf_2 (place INTEGER PRIMARY KEY, page BLOB NOT NULL) STRICT;
CREATE TABLE leaf_3 (place INTEGER PRIMARY KEY, page BLOB NOT NULL) STRICT;
CREATE TABLE leaf_4 (place INTEGER PRIMARY KEY, page BLOB NOT NULL) STRICT;
CREATE TABLE leaf_5 (place INTEGER PRIMARY KEY, page BLOB NOT NULL) STRICT;
CREATE TABLE leaf_6 (place INTEGER PRIMARY KEY, page BLOB NOT NULL) STRICT;
";

/// Version 1 kept a row a receipt; nothing reads it any more.
const SCHEMA: Schema = Schema {
    part: PART,
    application: 0x4e47_5231,
    version: 2,
    page_bytes: PAGE_BYTES,
    create: CREATE,
    upgrade: None,
};

/// The log.
pub struct SqliteLog {
    readers: Readers,
    writer: Writer<Row>,
    hasher: Hasher,
    presses: Mutex<Vec<Press>>,
}

impl SqliteLog {
    /// Opens the log at `path` (`…/receipts.db`), creating it (0600) and its directory (0700) if
    /// they are missing. Blocks; call it before the runtime is busy.
    ///
    /// # Errors
    /// `Invalid` when the file is not a receipt log or was written by another version,
    /// `Unavailable` when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let conn = open(path, &SCHEMA)?;
        let key = conn.query_row("SELECT key FROM secret", [], |row| row.get(0));
        let op = || format!("open {}", path.display());
        let key: [u8; 16] = key.map_err(|error| fault(PART, &op(), error, false))?;
        let hasher = Hasher::new(&key);
        let clerk = Clerk {
            press: Press::new(hasher.clone()),
            to_merge: 0,
            blocks: 0,
        };
        Ok(Self {
            readers: Readers::new(PART, path),
            writer: Writer::start(PART, FILE, conn, clerk)?,
            hasher,
            presses: Mutex::default(),
        })
    }

    /// Whether the log can still be written.
    ///
    /// # Errors
    /// `Poisoned` once a write was lost underneath.
    pub fn check(&self) -> Result<()> {
        self.writer.check()
    }

    /// Makes blocks of `receipts`. Whatever cannot be kept is refused here, before the queue: it
    /// must not take others' writes down.
    fn press(&self, receipts: &[Receipt]) -> Result<Vec<Row>> {
        let presses = || self.presses.lock().unwrap_or_else(PoisonError::into_inner);
        let press = presses().pop();
        let mut press = press.unwrap_or_else(|| Press::new(self.hasher.clone()));
        let mut rows = Vec::new();
        for receipt in receipts {
            if press.is_full() {
                rows.push(sealed(&mut press)?);
            }
            if let Err(rule) = press.push(receipt) {
                return Err(refused(rule));
            }
        }
        rows.push(sealed(&mut press)?);
        let mut presses = presses();
        if presses.len() < PRESSES_KEPT {
            presses.push(press);
        }
        Ok(rows)
    }
}

fn sealed(press: &mut Press) -> Result<Row> {
    let wrong = |error| Error::new(Kind::Unavailable, PART, FILE).with(error);
    press.seal().map(Row::Sealed).map_err(wrong)
}

fn refused(rule: String) -> Error {
    Error::new(Kind::Invalid, PART, FILE).with(rule)
}

#[async_trait]
impl ReceiptLog for SqliteLog {
    async fn append(&self, receipts: Vec<Receipt>) -> Result<()> {
        let rows = if receipts.is_empty() {
            return self.writer.check();
        } else if receipts.len() < LOOSE_RECEIPTS {
            receipts
                .iter()
                .try_for_each(press::check)
                .map_err(refused)?;
            vec![Row::Loose(receipts)]
        } else {
            self.press(&receipts)?
        };
        self.writer.write(rows).await.map(|_| ())
    }

    async fn query(&self, ask: &ReceiptAsk) -> Result<Vec<Filed>> {
        let (ask, hasher) = (ask.clone(), self.hasher.clone());
        let read = move |conn: &Connection| find::query(conn, &hasher, &ask);
        self.readers.read("query receipts", read).await
    }

    async fn known(&self, ids: &[MessageId]) -> Result<Vec<bool>> {
        let (ids, hasher) = (ids.to_vec(), self.hasher.clone());
        let read = move |conn: &Connection| find::known(conn, &hasher, &ids);
        self.readers.read("look for known messages", read).await
    }

    async fn events(&self, ids: &[MessageId]) -> Result<Vec<Vec<Event>>> {
        let (ids, hasher) = (ids.to_vec(), self.hasher.clone());
        let read = move |conn: &Connection| find::events(conn, &hasher, &ids);
        self.readers.read("look for events of messages", read).await
    }
}

/// What a caller hands to the writer.
enum Row {
    /// A block, ready.
    Sealed(Sealed),
    /// Few receipts, checked.
    Loose(Vec<Receipt>),
}

/// Files blocks, and merges their runs afterwards.
struct Clerk {
    /// For loose receipts.
    press: Press,
    /// Entries that a step of a merge owes.
    to_merge: u64,
    /// Blocks filed since the last step.
    blocks: i64,
}

/// Where the next block goes.
struct End {
    no: i64,
    seq: u64,
}

impl End {
    fn of(conn: &Connection) -> rusqlite::Result<Self> {
        let mut last = conn
            .prepare_cached("SELECT no, first_seq, receipts FROM block ORDER BY no DESC LIMIT 1")?;
        let end = |row: &rusqlite::Row<'_>| {
            let (no, seq): (i64, _) = (row.get(0)?, natural(row, 1)?);
            let seq = seq.checked_add(natural(row, 2)?);
            let seq = seq.ok_or_else(|| corrupt("block.first_seq"))?;
            Ok(Self { no: no + 1, seq })
        };
        let end = last.query_row([], end).optional()?;
        Ok(end.unwrap_or(Self { no: 0, seq: 1 }))
    }
}

impl Work for Clerk {
    type Row = Row;

    fn apply(&mut self, conn: &Connection, callers: Vec<Vec<Row>>) -> rusqlite::Result<Vec<u64>> {
        let mut end = End::of(conn)?;
        let mut counts = Vec::with_capacity(callers.len());
        for rows in callers {
            counts.push(rows.iter().map(|row| Self::weight(row) as u64).sum());
            for row in rows {
                match row {
                    Row::Sealed(sealed) => {
                        self.file_loose(conn, &mut end)?;
                        self.file(conn, &mut end, &sealed)?;
                    }
                    Row::Loose(receipts) => {
                        for receipt in &receipts {
                            if self.press.is_full() {
                                self.file_loose(conn, &mut end)?;
                            }
                            self.press.push(receipt).map_err(unpressed)?;
                        }
                    }
                }
            }
        }
        self.file_loose(conn, &mut end)?;
        Ok(counts)
    }

    fn forget(&mut self) {
        self.press.clear();
    }

    fn weight(row: &Row) -> usize {
        match row {
            Row::Sealed(sealed) => usize::try_from(sealed.receipts).unwrap_or(usize::MAX),
            Row::Loose(receipts) => receipts.len(),
        }
    }

    fn untidy(&self) -> bool {
        self.blocks >= runs::FAN || self.to_merge >= merge::STEP_ENTRIES
    }

    fn tidy(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let entries = std::mem::take(&mut self.to_merge);
        self.blocks = 0;
        merge::step(conn, entries.max(merge::STEP_ENTRIES))
    }
}

impl Clerk {
    fn file(&mut self, conn: &Connection, end: &mut End, sealed: &Sealed) -> rusqlite::Result<()> {
        conn.prepare_cached("INSERT INTO block VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                end.no,
                end.seq.cast_signed(),
                sealed.receipts.cast_signed(),
                sealed.min_at,
                sealed.max_at
            ])?;
        conn.prepare_cached("INSERT INTO body VALUES (?1, ?2)")?
            .execute(params![end.no, sealed.body])?;
        runs::add(conn, end.no, sealed)?;
        *end = End {
            no: end.no + 1,
            seq: end.seq + sealed.receipts,
        };
        self.to_merge += sealed.entries * MERGE_PACE;
        self.blocks += 1;
        Ok(())
    }

    fn file_loose(&mut self, conn: &Connection, end: &mut End) -> rusqlite::Result<()> {
        if self.press.is_empty() {
            return Ok(());
        }
        let sealed = self.press.seal().map_err(unpressed)?;
        self.file(conn, end, &sealed)
    }
}

fn unpressed(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(why.into())
}

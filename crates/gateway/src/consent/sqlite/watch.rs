//! The table of consents and the file behind it: an answer from memory is never older than the
//! look-up that it answers.
//!
//! Each transaction that changes consents, in whichever process, leaves a row in `change` that
//! names the recipients by hash. Before a look-up, one cheap question (`PRAGMA data_version`) tells
//! whether anybody has written to the file since; if so the rows are read and whoever stands in
//! them is forgotten. When the question cannot be asked, the look-up fails: held, never stale.

use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nightgate_core::{Consent, RecipientKey};
use rusqlite::Connection;
use siphasher::sip128::SipHasher13;

use super::table::{Hash, Table};
use crate::sqlite::reader;

/// Memory for consents: those of a million and a half of recipients.
pub(super) const TABLE_BYTES: usize = 96 * 1024 * 1024;
/// Changes kept in the file: a process that has missed more forgets everybody.
pub(super) const CHANGES_KEPT: i64 = 1024;
/// Changes about many recipients are kept for less long.
pub(super) const LONG_CHANGES_KEPT: i64 = 64;
/// Bytes of a change about many recipients.
const LONG_BYTES: i64 = 4 * 1024;
/// Most recipients that one change names; of a larger one it is only said that it was.
pub(super) const NAMED_MAX: usize = 64 * 1024;
/// What a change of everybody looks like.
const EVERYBODY: &[u8] = b"*";

/// A table that is kept in step with its file.
pub(super) struct Watch {
    file: Mutex<Seen>,
    table: RwLock<Table>,
    key: [u8; 16],
}

/// The connection that watches, and what it saw last.
struct Seen {
    conn: Connection,
    version: i64,
}

impl Watch {
    /// Watches the book at `path`, which is there.
    pub(super) fn open(path: &Path, bytes: usize) -> rusqlite::Result<Self> {
        let conn = reader(path)?;
        let key = conn.query_row("SELECT key FROM secret", [], |row| row.get(0))?;
        // Asked before the last change is: what comes between is then told twice, never missed.
        let version = version(&conn)?;
        let told = last_change(&conn)?;
        Ok(Self {
            file: Mutex::new(Seen { conn, version }),
            table: RwLock::new(Table::new(bytes, told)),
            key,
        })
    }

    /// The secret under which recipients are hashed in this file.
    pub(super) fn key(&self) -> [u8; 16] {
        self.key
    }

    /// Recipients that the table can hold all at once.
    pub(super) fn room(&self) -> u64 {
        self.table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .room()
    }

    /// The hash of a recipient.
    pub(super) fn hash(&self, key: &RecipientKey) -> Hash {
        hash(&self.key, key)
    }

    /// The consents in memory, after whatever was recorded before this call. Blocks for some
    /// microseconds; while the table is locked nobody else can be told of a change.
    pub(super) fn current(&self) -> rusqlite::Result<RwLockReadGuard<'_, Table>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let version = version(&file.conn)?;
        if version != file.version {
            self.catch_up(&file.conn)?;
            file.version = version;
        }
        Ok(self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn catch_up(&self, conn: &Connection) -> rusqlite::Result<()> {
        let mut table = self.writable();
        let mut changes =
            conn.prepare_cached("SELECT no, recipients FROM change WHERE no > ?1 ORDER BY no")?;
        let mut changes = changes.query([table.told()])?;
        while let Some(change) = changes.next()? {
            let (no, recipients) = (change.get(0)?, change.get_ref(1)?.as_blob()?);
            let (firsts, rest) = recipients.as_chunks::<8>();
            if no == table.told() + 1 && rest.is_empty() {
                table.forget(firsts.iter().map(|first| u64::from_le_bytes(*first)), no);
            } else {
                // Some changes in between are gone, or this one is about everybody.
                table.clear(no);
            }
        }
        Ok(())
    }

    /// Remembers what was read of `hashes` when the last change of the file was `read`.
    pub(super) fn remember(&self, hashes: &[Hash], consents: &[Consent], read: i64) {
        let mut table = self.writable();
        for (hash, consent) in hashes.iter().zip(consents) {
            table.put(*hash, consent, read);
        }
    }

    /// Empties the table, as a file that others write to would.
    #[cfg(test)]
    pub(super) fn forget_everybody(&self) {
        let mut table = self.writable();
        let told = table.told();
        table.clear(told);
    }

    fn writable(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("PRAGMA data_version")?
        .query_row([], |row| row.get(0))
}

/// The number of the last change that `conn` sees.
pub(super) fn last_change(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("SELECT coalesce(max(no), 0) FROM change")?
        .query_row([], |row| row.get(0))
}

/// Notes, inside the transaction that changed them, which recipients were changed.
pub(super) fn note<'k>(
    conn: &Connection,
    secret: &[u8; 16],
    changed: impl ExactSizeIterator<Item = &'k RecipientKey>,
) -> rusqlite::Result<()> {
    let mut recipients = Vec::new();
    if changed.len() > NAMED_MAX {
        recipients.extend_from_slice(EVERYBODY);
    } else {
        changed.for_each(|key| recipients.extend(hash(secret, key).first.to_le_bytes()));
    }
    let no = conn
        .prepare_cached("INSERT INTO change (recipients) VALUES (?1)")?
        .insert([recipients])?;
    conn.prepare_cached("DELETE FROM change WHERE no <= ?1")?
        .execute([no - CHANGES_KEPT])?;
    conn.prepare_cached("DELETE FROM change WHERE no = ?1 AND length(recipients) > ?2")?
        .execute([no - LONG_CHANGES_KEPT, LONG_BYTES])?;
    Ok(())
}

fn hash(secret: &[u8; 16], key: &RecipientKey) -> Hash {
    let hash = SipHasher13::new_with_key(secret).hash(key.expose().as_bytes());
    Hash {
        first: hash.h1,
        second: hash.h2,
    }
}

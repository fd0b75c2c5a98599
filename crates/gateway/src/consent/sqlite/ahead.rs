//! Reading ahead: a process that has just begun and looks up many recipients reads the whole book
//! into memory, in order, which costs a tenth of asking for each of them.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nightgate_core::{Consent, RecipientKey};
use rusqlite::Connection;
use tokio::task::JoinHandle;

use super::watch::{Watch, last_change};
use super::{consent, count};
use crate::error::Result;
use crate::sqlite::Readers;

/// Recipients that the file had to be asked for before the book is read: a command that asks for
/// some does not pay for all.
pub(super) const BEGIN_AFTER: i64 = 4096;
/// Of the recipients in the book, one part in so many must have been asked for before it is read
/// once more.
const AGAIN_PART: i64 = 4;
/// Recipients read in one go; nobody can remember any others meanwhile.
const GO: usize = 8192;

const NEXT: &str = "SELECT general_at, general_ends, general_withdrawn_at, \
    night_at, night_ends, night_withdrawn_at, key FROM consent WHERE key > ?1 ORDER BY key \
    LIMIT ?2";

/// When to read ahead, and the reading.
pub(super) struct Ahead {
    /// Recipients that may still be asked for before it begins.
    left: Arc<AtomicI64>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Ahead {
    pub(super) fn new() -> Self {
        Self {
            left: Arc::new(AtomicI64::new(BEGIN_AFTER)),
            task: Mutex::default(),
        }
    }

    /// The file was asked for `many` recipients that it knows.
    pub(super) fn asked(&self, many: usize, readers: &Arc<Readers>, watch: &Arc<Watch>) {
        let many = i64::try_from(many).unwrap_or(i64::MAX);
        let before = self.left.fetch_sub(many, Ordering::Relaxed);
        if before <= 0 || before > many {
            return;
        }
        let (readers, watch) = (Arc::clone(readers), Arc::clone(watch));
        let left = Arc::clone(&self.left);
        let task = tokio::spawn(async move {
            // What cannot be read now is asked for one by one, and whoever asks is told why.
            let recipients = read(&readers, &watch).await.unwrap_or(0);
            let again = i64::try_from(recipients).unwrap_or(i64::MAX) / AGAIN_PART;
            left.store(again.max(BEGIN_AFTER), Ordering::Relaxed);
        });
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Waits until the reading that was begun is done.
    #[cfg(test)]
    pub(super) async fn done(&self) {
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        task.unwrap().await.unwrap();
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

/// Reads the book into the table of `watch`, if all of it fits; says how many recipients it has.
async fn read(readers: &Readers, watch: &Watch) -> Result<u64> {
    const OP: &str = "read consents ahead";
    let recipients = readers.read(OP, count).await?;
    if recipients > watch.room() {
        return Ok(recipients);
    }
    let mut last = String::new();
    loop {
        let go = readers.read(OP, move |conn| next(conn, &last)).await?;
        let hashes: Vec<_> = go.keys.iter().map(|key| watch.hash(key)).collect();
        watch.remember(&hashes, &go.consents, go.read);
        match go.keys.last() {
            Some(key) if go.keys.len() == GO => last = key.expose().to_owned(),
            _ => return Ok(recipients),
        }
    }
}

/// Some recipients and what the file says of them, and after which change.
struct Go {
    read: i64,
    keys: Vec<RecipientKey>,
    consents: Vec<Consent>,
}

fn next(conn: &Connection, last: &str) -> rusqlite::Result<Go> {
    let read = last_change(conn)?;
    let (mut keys, mut consents) = (Vec::with_capacity(GO), Vec::with_capacity(GO));
    let mut statement = conn.prepare_cached(NEXT)?;
    let mut rows = statement.query((last, GO as i64))?;
    while let Some(row) = rows.next()? {
        keys.push(RecipientKey::from_stored(row.get_ref(6)?.as_str()?));
        consents.push(consent(row)?);
    }
    Ok(Go {
        read,
        keys,
        consents,
    })
}

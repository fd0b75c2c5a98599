//! The consent book on disk: `consent.db`, for one machine and any number of processes on it.
//!
//! Two trees, both clustered on the recipient: `consent_event`, the history, to which lines are
//! only ever added, and `consent`, one row a recipient with what the history folds to. Both change
//! in the same transaction, so the state can always be proved from the history. In front of them
//! stands a table in memory (`watch`) that answers for the recipients asked for before.

mod ahead;
mod table;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use nightgate_core::consent::Grant;
use nightgate_core::{Basis, Consent, Fact, RecipientKey, Scope};
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};

use self::ahead::Ahead;
use self::table::Hash;
use self::watch::{TABLE_BYTES, Watch, last_change};
use super::{Act, ConsentBook, ConsentEvent};
use crate::error::Result;
use crate::sqlite::{Instant, Readers, Schema, Work, Writer, corrupt, fault, natural, open};

const PART: &str = "consent";
/// Page size of a new file: look-ups go through fewer of them, and imports come in order.
const PAGE_BYTES: i64 = 4096;

/// Instants are `ANY`: see [`Instant`]. `act`: 0 explicit grant, 1 transaction exception, 2
/// withdrawal; `ends` is 0 unless `act` is 1, because a key column holds no NULL. A fact of
/// `consent` that has neither grant nor withdrawal is unknown; a grant without `ends` is explicit.
const CREATE: &str = "
CREATE TABLE source (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE consent_event (
    key TEXT NOT NULL, scope INTEGER NOT NULL, at ANY NOT NULL, act INTEGER NOT NULL,
    ends ANY NOT NULL, source INTEGER NOT NULL,
    PRIMARY KEY (key, scope, at, act, ends)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER consent_event_stays BEFORE DELETE ON consent_event
BEGIN SELECT raise(ABORT, 'the history of consents is append-only'); END;
CREATE TRIGGER consent_event_stands BEFORE UPDATE ON consent_event
BEGIN SELECT raise(ABORT, 'the history of consents is append-only'); END;
CREATE TABLE consent (
    key TEXT PRIMARY KEY NOT NULL,
    general_at ANY, general_ends ANY, general_withdrawn_at ANY,
    night_at ANY, night_ends ANY, night_withdrawn_at ANY
) STRICT, WITHOUT ROWID;
CREATE TABLE tally (id INTEGER PRIMARY KEY CHECK (id = 1), recipients INTEGER NOT NULL) STRICT;
INSERT INTO tally VALUES (1, 0);
CREATE TABLE secret (id INTEGER PRIMARY KEY CHECK (id = 1), key BLOB NOT NULL) STRICT;
INSERT INTO secret VALUES (1, randomblob(16));
CREATE TABLE change (no INTEGER PRIMARY KEY, recipients BLOB NOT NULL) STRICT;
";

/// Version 1 had no table in memory in front of it.
const UPGRADE: &str = "
CREATE TABLE secret (id INTEGER PRIMARY KEY CHECK (id = 1), key BLOB NOT NULL) STRICT;
INSERT INTO secret VALUES (1, randomblob(16));
CREATE TABLE change (no INTEGER PRIMARY KEY, recipients BLOB NOT NULL) STRICT;
";

const SCHEMA: Schema = Schema {
    part: PART,
    application: 0x4e47_4331,
    version: 2,
    page_bytes: PAGE_BYTES,
    create: CREATE,
    upgrade: Some(UPGRADE),
};

/// The operation in errors.
const LOOK: &str = "look up consents";
const LOOK_UP: &str = "SELECT general_at, general_ends, general_withdrawn_at, \
    night_at, night_ends, night_withdrawn_at FROM consent WHERE key = ?1";
const KEEP: &str = "INSERT INTO consent VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
    ON CONFLICT (key) DO UPDATE SET general_at = ?2, general_ends = ?3, \
    general_withdrawn_at = ?4, night_at = ?5, night_ends = ?6, night_withdrawn_at = ?7";
const ADD: &str = "INSERT OR IGNORE INTO consent_event VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const HISTORY: &str = "SELECT e.scope, e.at, e.act, e.ends, s.name \
    FROM consent_event e JOIN source s ON s.id = e.source WHERE e.key = ?1";

/// The book.
pub struct SqliteBook {
    readers: Arc<Readers>,
    writer: Writer<ConsentEvent>,
    watch: Arc<Watch>,
    ahead: Ahead,
}

impl SqliteBook {
    /// Opens the book at `path` (`…/consent.db`), creating it (0600) and its directory (0700) if
    /// they are missing. Blocks; call it before the runtime is busy.
    ///
    /// # Errors
    /// `Invalid` when the file is not a consent book or was written by a newer version,
    /// `Unavailable` when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let conn = open(path, &SCHEMA)?;
        let op = || format!("open {}", path.display());
        let watch = Watch::open(path, TABLE_BYTES);
        let watch = watch.map_err(|error| fault(PART, &op(), error, false))?;
        let clerk = Clerk {
            sources: HashMap::new(),
            secret: watch.key(),
        };
        Ok(Self {
            readers: Arc::new(Readers::new(PART, path)),
            writer: Writer::start(PART, "record consents", conn, clerk)?,
            watch: Arc::new(watch),
            ahead: Ahead::new(),
        })
    }

    /// Whether the book can still be written.
    ///
    /// # Errors
    /// `Poisoned` once a write was lost underneath.
    pub fn check(&self) -> Result<()> {
        self.writer.check()
    }
}

impl SqliteBook {
    /// Fills in what the table knows; says which places it does not know.
    fn remembered(&self, hashes: &[Hash], consents: &mut [Consent]) -> Result<Vec<usize>> {
        let table = self.watch.current();
        let table = table.map_err(|error| fault(PART, LOOK, error, false))?;
        let mut missing = Vec::new();
        for (place, (hash, consent)) in hashes.iter().zip(consents).enumerate() {
            match table.get(*hash) {
                Some(known) => *consent = known,
                None => missing.push(place),
            }
        }
        Ok(missing)
    }
}

/// What the file says of `keys`, `None` of those it does not know, and after which change.
fn from_file(
    conn: &Connection,
    keys: &[RecipientKey],
) -> rusqlite::Result<(i64, Vec<Option<Consent>>)> {
    let read = last_change(conn)?;
    // In the order of the tree, so that each of its pages is looked at once.
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_unstable_by(|one, other| keys[*one].cmp(&keys[*other]));
    let mut consents = vec![None; keys.len()];
    let mut statement = conn.prepare_cached(LOOK_UP)?;
    for place in order {
        let known = statement.query_row([keys[place].expose()], consent);
        consents[place] = known.optional()?;
    }
    Ok((read, consents))
}

fn count(conn: &Connection) -> rusqlite::Result<u64> {
    conn.prepare_cached("SELECT recipients FROM tally")?
        .query_row([], |row| natural(row, 0))
}

#[async_trait]
impl ConsentBook for SqliteBook {
    async fn look_up(&self, keys: &[RecipientKey]) -> Result<Vec<Consent>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let hashes: Vec<Hash> = keys.iter().map(|key| self.watch.hash(key)).collect();
        let mut consents = vec![Consent::default(); keys.len()];
        let missing = self.remembered(&hashes, &mut consents)?;
        if missing.is_empty() {
            return Ok(consents);
        }
        let asked: Vec<_> = missing.iter().map(|place| keys[*place].clone()).collect();
        let read = self.readers.read(LOOK, move |conn| from_file(conn, &asked));
        let (read, found) = read.await?;
        let known = found.iter().flatten().count();
        let found: Vec<_> = found.into_iter().map(Option::unwrap_or_default).collect();
        let hashes: Vec<Hash> = missing.iter().map(|place| hashes[*place]).collect();
        self.watch.remember(&hashes, &found, read);
        self.ahead.asked(known, &self.readers, &self.watch);
        for (place, consent) in missing.into_iter().zip(found) {
            consents[place] = consent;
        }
        Ok(consents)
    }

    async fn record(&self, events: Vec<ConsentEvent>) -> Result<u64> {
        self.writer.write(events).await
    }

    async fn history(&self, key: &RecipientKey) -> Result<Vec<ConsentEvent>> {
        let key = key.clone();
        let read = move |conn: &Connection| {
            let mut statement = conn.prepare_cached(HISTORY)?;
            let events = statement.query_and_then([key.expose()], |row| event(&key, row))?;
            let mut events: Vec<_> = events.collect::<rusqlite::Result<_>>()?;
            // Here and not in SQL: instants outside the integer range do not compare there.
            events.sort_by_key(ConsentEvent::order);
            Ok(events)
        };
        self.readers.read("read a consent history", read).await
    }

    async fn count(&self) -> Result<u64> {
        self.readers.read("count recipients", count).await
    }
}

/// Writes events and keeps the state in step.
struct Clerk {
    /// Under which recipients are hashed.
    secret: [u8; 16],
    /// Ids of sources; few, since a source is a file name or a door.
    sources: HashMap<String, i64>,
}

/// Sources remembered; beyond this the memory is emptied, so that a caller who invents one a record
/// costs time and not memory.
const SOURCES_MAX: usize = 1024;

impl Work for Clerk {
    type Row = ConsentEvent;

    fn apply(
        &mut self,
        conn: &Connection,
        callers: Vec<Vec<ConsentEvent>>,
    ) -> rusqlite::Result<Vec<u64>> {
        let mut changed = Vec::new();
        let record = |events| self.record(conn, events, &mut changed);
        let counts = callers.into_iter().map(record);
        let counts = counts.collect::<rusqlite::Result<_>>()?;
        if !changed.is_empty() {
            watch::note(conn, &self.secret, changed.iter())?;
        }
        Ok(counts)
    }

    fn forget(&mut self) {
        self.sources.clear();
    }
}

impl Clerk {
    /// Records the events of one caller and notes whom they changed; says how many were new.
    fn record(
        &mut self,
        conn: &Connection,
        mut events: Vec<ConsentEvent>,
        changed: &mut Vec<RecipientKey>,
    ) -> rusqlite::Result<u64> {
        // In the order of the trees: neighbours share pages, a recipient's events stand together.
        events.sort_by(|one, other| one.key.cmp(&other.key));
        let (mut new, mut unheard) = (0, 0_i64);
        let mut look_up = conn.prepare_cached(LOOK_UP)?;
        let (mut add, mut keep_one) = (conn.prepare_cached(ADD)?, conn.prepare_cached(KEEP)?);
        for of_one in events.chunk_by(|one, other| one.key == other.key) {
            let mut added = Vec::with_capacity(of_one.len());
            for event in of_one {
                let source = self.source(conn, &event.source)?;
                if add_event(&mut add, event, source)? {
                    added.push(event);
                }
            }
            let Some(first) = added.first() else { continue };
            new += added.len() as u64;
            let known = look_up
                .query_row([first.key.expose()], consent)
                .optional()?;
            unheard += i64::from(known.is_none());
            let mut consent = known.unwrap_or_default();
            for event in &added {
                event.fold_into(&mut consent);
            }
            keep(&mut keep_one, &first.key, &consent)?;
            changed.push(first.key.clone());
        }
        if unheard > 0 {
            conn.prepare_cached("UPDATE tally SET recipients = recipients + ?1")?
                .execute([unheard])?;
        }
        Ok(new)
    }

    fn source(&mut self, conn: &Connection, name: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.sources.get(name) {
            return Ok(*id);
        }
        conn.prepare_cached("INSERT OR IGNORE INTO source (name) VALUES (?1)")?
            .execute([name])?;
        let id = conn
            .prepare_cached("SELECT id FROM source WHERE name = ?1")?
            .query_row([name], |row| row.get(0))?;
        if self.sources.len() >= SOURCES_MAX {
            self.sources.clear();
        }
        self.sources.insert(name.to_owned(), id);
        Ok(id)
    }
}

/// Adds `event` to the history; says whether it was new.
fn add_event(add: &mut Statement<'_>, event: &ConsentEvent, source: i64) -> rusqlite::Result<bool> {
    let (at, scope, act, ends) = event.order();
    let (key, scope, at) = (event.key.expose(), scope_code(scope), Instant(at));
    let added = match ends.map(Instant) {
        Some(ends) => add.execute(params![key, scope, at, act, ends, source])?,
        None => add.execute(params![key, scope, at, act, 0, source])?,
    };
    Ok(added == 1)
}

/// Writes what the history of `key` folds to.
fn keep(keep: &mut Statement<'_>, key: &RecipientKey, consent: &Consent) -> rusqlite::Result<()> {
    let (general_at, general_ends, general_withdrawn) = columns(consent.general);
    let (night_at, night_ends, night_withdrawn) = columns(consent.night);
    keep.execute(params![
        key.expose(),
        general_at,
        general_ends,
        general_withdrawn,
        night_at,
        night_ends,
        night_withdrawn
    ])?;
    Ok(())
}

type Columns = (Option<Instant>, Option<Instant>, Option<Instant>);

fn columns(fact: Option<Fact>) -> Columns {
    let Some(Fact {
        granted,
        withdrawn_at,
    }) = fact
    else {
        return (None, None, None);
    };
    let ends = match granted.map(|grant| grant.basis) {
        Some(Basis::TransactionException { ends }) => Some(Instant(ends)),
        Some(Basis::Explicit) | None => None,
    };
    (
        granted.map(|grant| Instant(grant.at)),
        ends,
        withdrawn_at.map(Instant),
    )
}

fn consent(row: &Row<'_>) -> rusqlite::Result<Consent> {
    let fact = |first: usize| -> rusqlite::Result<Option<Fact>> {
        let at: Option<Instant> = row.get(first)?;
        let ends: Option<Instant> = row.get(first + 1)?;
        let withdrawn_at: Option<Instant> = row.get(first + 2)?;
        let withdrawn_at = withdrawn_at.map(|at| at.0);
        let basis = ends.map_or(Basis::Explicit, |ends| Basis::TransactionException {
            ends: ends.0,
        });
        let granted = at.map(|at| Grant { at: at.0, basis });
        let known = granted.is_some() || withdrawn_at.is_some();
        Ok(known.then_some(Fact {
            granted,
            withdrawn_at,
        }))
    };
    Ok(Consent {
        general: fact(0)?,
        night: fact(3)?,
    })
}

fn event(key: &RecipientKey, row: &Row<'_>) -> rusqlite::Result<ConsentEvent> {
    let scope = match row.get::<_, u8>(0)? {
        0 => Scope::General,
        1 => Scope::Night,
        _ => return Err(corrupt("consent_event.scope")),
    };
    let at: Instant = row.get(1)?;
    let act = match row.get::<_, u8>(2)? {
        0 => Act::Grant(Basis::Explicit),
        1 => Act::Grant(Basis::TransactionException {
            ends: row.get::<_, Instant>(3)?.0,
        }),
        2 => Act::Withdraw,
        _ => return Err(corrupt("consent_event.act")),
    };
    Ok(ConsentEvent {
        key: key.clone(),
        scope,
        act,
        at: at.0,
        source: row.get(4)?,
    })
}

const fn scope_code(scope: Scope) -> u8 {
    match scope {
        Scope::General => 0,
        Scope::Night => 1,
    }
}

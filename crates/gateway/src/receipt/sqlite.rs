//! The receipt log on disk: `receipts.db`, for one machine and any number of processes on it.
//!
//! Lines are only ever added; triggers refuse the rest. How long receipts are kept is for a later
//! command that drops the oldest by `seq`; it will have to lift the triggers, which is the point.
//!
//! What many receipts share is written once: `about` (campaign, lane, purpose, channel), `reason`
//! (rule, ruleset, zone) and `subject` (message, recipient). A message has three receipts or more;
//! through `subject` its id and its recipient, both random keys, cost one page each and not three.
//! Both indexes of `receipt` grow at their ends. Time needs none: `block` holds the span of each
//! 1,024 receipts, so that a query by time passes over whole blocks.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use nightgate_core::{
    Channel, Code, ConsentSnapshot, MessageId, Purpose, Reason, RecipientKey, ZoneSource,
};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::{Event, Filed, Receipt, ReceiptAsk, ReceiptLog, find, snapshot};
use crate::error::{Error, Kind, Result};
use crate::lane::Lane;
use crate::sqlite::{Instant, Readers, Schema, Work, Writer, nanoseconds, open};

pub(super) const PART: &str = "receipt";

/// Receipts in one block, as a shift: 1,024.
pub(super) const BLOCK_BITS: i64 = 10;
/// Shared rows remembered by the writer; beyond this the memory is emptied.
const SHARED_MAX: usize = 4096;

/// `receipt.at` is integer nanoseconds since 1970; the other instants are `ANY`: see [`Instant`].
/// `count` is NULL for 1; `consent` is NULL exactly when `reason` is.
const CREATE: &str = "
CREATE TABLE about (id INTEGER PRIMARY KEY, json TEXT NOT NULL UNIQUE, campaign TEXT) STRICT;
CREATE INDEX about_campaign ON about (campaign) WHERE campaign IS NOT NULL;
CREATE TABLE reason (id INTEGER PRIMARY KEY, json TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE subject (id INTEGER PRIMARY KEY, message TEXT, recipient TEXT) STRICT;
CREATE INDEX subject_message ON subject (message) WHERE message IS NOT NULL;
CREATE INDEX subject_recipient ON subject (recipient) WHERE recipient IS NOT NULL;
CREATE TABLE receipt (
    seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, event INTEGER NOT NULL, subject INTEGER,
    about INTEGER NOT NULL, attempt INTEGER NOT NULL, count INTEGER, until ANY, reason INTEGER,
    opens ANY, closes ANY, consent BLOB, detail TEXT
) STRICT;
CREATE INDEX receipt_subject ON receipt (subject) WHERE subject IS NOT NULL;
CREATE INDEX receipt_about ON receipt (about);
CREATE TABLE block (
    no INTEGER PRIMARY KEY, min_at INTEGER NOT NULL, max_at INTEGER NOT NULL
) STRICT;
CREATE TRIGGER receipt_stays BEFORE DELETE ON receipt
BEGIN SELECT raise(ABORT, 'receipts are append-only'); END;
CREATE TRIGGER receipt_stands BEFORE UPDATE ON receipt
BEGIN SELECT raise(ABORT, 'receipts are append-only'); END;
CREATE TRIGGER subject_stays BEFORE DELETE ON subject
BEGIN SELECT raise(ABORT, 'receipts are append-only'); END;
CREATE TRIGGER subject_stands BEFORE UPDATE ON subject
BEGIN SELECT raise(ABORT, 'receipts are append-only'); END;
CREATE TRIGGER about_stays BEFORE DELETE ON about
BEGIN SELECT raise(ABORT, 'receipts are append-only'); END;
CREATE TRIGGER about_stands BEFORE UPDATE ON about
BEGIN SELECT raise(ABORT, 'receipts are append-only'); END;
CREATE TRIGGER reason_stays BEFORE DELETE ON reason
BEGIN SELECT raise(ABORT, 'receipts are append-only'); END;
CREATE TRIGGER reason_stands BEFORE UPDATE ON reason
BEGIN SELECT raise(ABORT, 'receipts are append-only'); END;
";

const SCHEMA: Schema = Schema {
    part: PART,
    application: 0x4e47_5231,
    version: 1,
    create: CREATE,
};

const FILE: &str = "INSERT INTO receipt (at, event, subject, about, attempt, count, until, reason, \
    opens, closes, consent, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

/// The log.
pub struct SqliteLog {
    readers: Readers,
    writer: Writer<Receipt>,
}

impl SqliteLog {
    /// Opens the log at `path` (`…/receipts.db`), creating it (0600) and its directory (0700) if
    /// they are missing. Blocks; call it before the runtime is busy.
    ///
    /// # Errors
    /// `Invalid` when the file is not a receipt log or was written by a newer version,
    /// `Unavailable` when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let conn = open(path, &SCHEMA)?;
        let writer = Writer::start(PART, "file receipts", conn, Clerk::default())?;
        Ok(Self {
            readers: Readers::new(PART, path),
            writer,
        })
    }

    /// Whether the log can still be written.
    ///
    /// # Errors
    /// `Poisoned` once a write was lost underneath.
    pub fn check(&self) -> Result<()> {
        self.writer.check()
    }
}

#[async_trait]
impl ReceiptLog for SqliteLog {
    async fn append(&self, receipts: Vec<Receipt>) -> Result<()> {
        // Before the queue: a receipt that cannot be kept must not take others' writes down.
        let fits = |receipt: &Receipt| {
            nanoseconds(receipt.at).is_some() && i64::try_from(receipt.count).is_ok()
        };
        if !receipts.iter().all(fits) {
            let rule = "a receipt must be dated 1678 to 2261: set this machine's clock";
            return Err(Error::new(Kind::Invalid, PART, "file receipts").with(rule));
        }
        self.writer.write(receipts).await.map(|_| ())
    }

    async fn query(&self, ask: &ReceiptAsk) -> Result<Vec<Filed>> {
        let ask = ask.clone();
        self.readers
            .read("query receipts", move |conn| find::query(conn, &ask))
            .await
    }

    async fn known(&self, ids: &[MessageId]) -> Result<Vec<bool>> {
        let ids = ids.to_vec();
        let read = move |conn: &Connection| find::known(conn, &ids);
        self.readers.read("look for known messages", read).await
    }
}

/// What the receipts of one campaign on one lane share.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct About {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) campaign: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lane: Option<Lane>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) purpose: Option<Purpose>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) channel: Option<Channel>,
}

/// What the reasons of one class at one time share: all but instants and consent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Why {
    pub(super) code: Code,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<Arc<str>>,
    pub(super) ruleset: Arc<str>,
    pub(super) zone: Arc<str>,
    pub(super) zone_source: ZoneSource,
}

/// A reason taken apart as it is stored. No `..` here: a new field must find its column.
fn take_apart(reason: Reason) -> (Why, Option<Instant>, Option<Instant>, ConsentSnapshot) {
    let Reason {
        code,
        rule,
        ruleset,
        zone,
        zone_source,
        opens,
        closes,
        consent,
    } = reason;
    let why = Why {
        code,
        rule,
        ruleset,
        zone,
        zone_source,
    };
    (why, opens.map(Instant), closes.map(Instant), consent)
}

/// The number under which an event is stored: never renumber, only add.
pub(super) const fn event_code(event: Event) -> u8 {
    match event {
        Event::Accepted => 0,
        Event::Held => 1,
        Event::Refused => 2,
        Event::Expired => 3,
        Event::Attempted => 4,
        Event::Delivered => 5,
        Event::Retry => 6,
        Event::Rejected => 7,
        Event::Unknown => 8,
        Event::Buried => 9,
        Event::Recalled => 10,
        Event::Kicked => 11,
    }
}

/// The event stored under `code`.
pub(super) fn event_from(code: u8) -> Option<Event> {
    Event::ALL
        .into_iter()
        .find(|event| event_code(*event) == code)
}

/// Writes receipts, and remembers the ids of what they share.
#[derive(Default)]
struct Clerk {
    abouts: HashMap<About, i64>,
    whys: HashMap<Why, i64>,
}

impl Work for Clerk {
    type Row = Receipt;

    fn apply(&mut self, conn: &Connection, receipts: Vec<Receipt>) -> rusqlite::Result<u64> {
        let mut file = conn.prepare_cached(FILE)?;
        let filed = receipts.len() as u64;
        for receipt in receipts {
            // No `..` here either.
            let Receipt {
                at,
                event,
                subject,
                attempt,
                count,
                until,
                reason,
                detail,
            } = receipt;
            let super::Subject {
                message,
                recipient,
                campaign,
                lane,
                purpose,
                channel,
            } = subject;
            let subject = subject_id(conn, message.as_ref(), recipient.as_ref())?;
            let about = self.about(
                conn,
                About {
                    campaign,
                    lane,
                    purpose,
                    channel,
                },
            )?;
            let (mut why, mut opens, mut closes, mut consent) = (None, None, None, None);
            if let Some(reason) = reason {
                let parts = take_apart(reason);
                why = Some(self.why(conn, parts.0)?);
                (opens, closes, consent) = (parts.1, parts.2, Some(snapshot::write(&parts.3)));
            }
            file.execute(params![
                nanoseconds(at),
                event_code(event),
                subject,
                about,
                attempt,
                (count != 1).then(|| i64::try_from(count).unwrap_or(i64::MAX)),
                until.map(Instant),
                why,
                opens,
                closes,
                consent,
                detail
            ])?;
        }
        close_blocks(conn)?;
        Ok(filed)
    }

    fn forget(&mut self) {
        self.abouts.clear();
        self.whys.clear();
    }
}

impl Clerk {
    fn about(&mut self, conn: &Connection, about: About) -> rusqlite::Result<i64> {
        if let Some(id) = self.abouts.get(&about) {
            return Ok(*id);
        }
        let json = json(&about)?;
        conn.prepare_cached("INSERT OR IGNORE INTO about (json, campaign) VALUES (?1, ?2)")?
            .execute(params![json, about.campaign.as_deref()])?;
        let id = conn
            .prepare_cached("SELECT id FROM about WHERE json = ?1")?
            .query_row([json], |row| row.get(0))?;
        remember(&mut self.abouts, about, id);
        Ok(id)
    }

    fn why(&mut self, conn: &Connection, why: Why) -> rusqlite::Result<i64> {
        if let Some(id) = self.whys.get(&why) {
            return Ok(*id);
        }
        let json = json(&why)?;
        conn.prepare_cached("INSERT OR IGNORE INTO reason (json) VALUES (?1)")?
            .execute([&json])?;
        let id = conn
            .prepare_cached("SELECT id FROM reason WHERE json = ?1")?
            .query_row([json], |row| row.get(0))?;
        remember(&mut self.whys, why, id);
        Ok(id)
    }
}

fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn remember<K: Eq + std::hash::Hash>(memory: &mut HashMap<K, i64>, key: K, id: i64) {
    if memory.len() >= SHARED_MAX {
        memory.clear();
    }
    memory.insert(key, id);
}

/// The row of this message and recipient, made if there is none.
fn subject_id(
    conn: &Connection,
    message: Option<&MessageId>,
    recipient: Option<&RecipientKey>,
) -> rusqlite::Result<Option<i64>> {
    let (message, recipient) = (
        message.map(MessageId::as_str),
        recipient.map(RecipientKey::expose),
    );
    let known = match (message, recipient) {
        (None, None) => return Ok(None),
        (Some(message), _) => conn
            .prepare_cached("SELECT id FROM subject WHERE message = ?1 AND recipient IS ?2")?
            .query_row(params![message, recipient], |row| row.get(0))
            .optional()?,
        (None, Some(recipient)) => conn
            .prepare_cached("SELECT id FROM subject WHERE recipient = ?1 AND message IS NULL")?
            .query_row([recipient], |row| row.get(0))
            .optional()?,
    };
    match known {
        Some(id) => Ok(Some(id)),
        None => conn
            .prepare_cached("INSERT INTO subject (message, recipient) VALUES (?1, ?2)")?
            .insert(params![message, recipient])
            .map(Some),
    }
}

/// Notes the span of every block that is full and has no row yet.
fn close_blocks(conn: &Connection) -> rusqlite::Result<()> {
    let mut last = conn.prepare_cached("SELECT coalesce(max(seq), 0) FROM receipt")?;
    let mut closed = conn.prepare_cached("SELECT coalesce(max(no) + 1, 0) FROM block")?;
    let last: i64 = last.query_row([], |row| row.get(0))?;
    let closed: i64 = closed.query_row([], |row| row.get(0))?;
    let mut close = conn.prepare_cached(
        "INSERT INTO block SELECT ?1, min(at), max(at) FROM receipt WHERE seq >= ?2 AND seq < ?3",
    )?;
    for no in closed..(last + 1) >> BLOCK_BITS {
        close.execute([no, no << BLOCK_BITS, (no + 1) << BLOCK_BITS])?;
    }
    Ok(())
}

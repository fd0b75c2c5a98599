//! The hold in one SQLite file: simple, durable, right with several processes at once.
//!
//! One thread writes and groups waiting calls into one commit; reads have their own connection. A
//! failed write poisons the store: every later call says so until it is opened again.

mod health;
mod lease;
mod put;
mod query;
mod recall;
mod schema;
mod settle;
mod shelving;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Class, MessageId};
use rusqlite::Connection;

use self::health::Health;
pub use self::schema::{FILE, SCHEMA_VERSION};
use self::writer::Writer;
use super::care::{Finding, Ill};
use super::{
    Capability, Export, Found, HORIZON_DEFAULT, Held, HoldStore, Lane, LeaseAsk, Leased, Pause,
    Put, Recalled, Report, Scope, Settle, Settled, Shelf, State,
};
use crate::error::{Error, Kind, Result};
use crate::sqlite::take_turn;

/// Messages forgotten in one transaction, so that upkeep keeps nobody waiting.
const SWEEP_BATCH: usize = 5_000;
/// How long a call waits for another process, unless told: commands write for moments only.
const BUSY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long an id is remembered after its message ended.
    pub horizon: SignedDuration,
    /// The most pages of 4 KiB the file may have. What does not fit is `Unavailable`, as on a
    /// full disk.
    pub pages_max: Option<u32>,
    /// How long a call waits for another process that is writing.
    pub busy_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            horizon: HORIZON_DEFAULT,
            pages_max: None,
            busy_timeout: BUSY_TIMEOUT_DEFAULT,
        }
    }
}

/// The hold in one SQLite file.
pub struct SqliteHold {
    writer: Writer,
    reader: Arc<Mutex<Connection>>,
    health: Arc<Health>,
    horizon: SignedDuration,
}

impl SqliteHold {
    /// Opens the hold in `dir`, and makes both if they are missing.
    ///
    /// # Errors
    /// `Unavailable` when the file cannot be made or is locked, `Invalid` when a newer program
    /// wrote it, `Corrupt` when it is no hold.
    pub async fn open(dir: &Path, options: Options) -> Result<Self> {
        let dir = dir.to_owned();
        let opened = tokio::task::spawn_blocking(move || Self::open_now(&dir, options)).await;
        opened.map_err(|error| Error::new(Kind::Unavailable, "hold", "open it").with(error))?
    }

    fn open_now(dir: &Path, options: Options) -> Result<Self> {
        let path = schema::prepare(dir)?;
        let health = Arc::new(Health::default());
        let _turn = take_turn(&path).map_err(|error| {
            let op = format!("wait for a turn to open {}", path.display());
            Error::new(Kind::Unavailable, "hold", op).with(error)
        })?;
        let connection = schema::open_writer(&path, &options)?;
        let reader = Arc::new(Mutex::new(schema::open_reader(&path, &options)?));
        let writer = Writer::start(connection, Arc::clone(&health))?;
        Ok(Self {
            writer,
            reader,
            health,
            horizon: options.horizon,
        })
    }

    /// Runs `work` on the reading connection, within one view of the data.
    async fn read<T, F>(&self, op: &str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        if let Some(cause) = self.health.poison() {
            return Err(cause.error(op));
        }
        let reader = Arc::clone(&self.reader);
        let read = tokio::task::spawn_blocking(move || {
            let connection = reader.lock().unwrap_or_else(PoisonError::into_inner);
            let view = connection.unchecked_transaction()?;
            work(&view)
        });
        let read = read.await;
        let read = read.map_err(|error| Error::new(Kind::Unavailable, "hold", op).with(error))?;
        read.map_err(|error| self.health.note(&error).error(op))
    }
}

#[async_trait]
impl HoldStore for SqliteHold {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn capability(&self) -> Capability {
        Capability {
            durable: true,
            dedupe: true,
            order: true,
            pick: true,
            exact_depth: true,
            find: true,
            ended: true,
            files: true,
            prompt: true,
            recall: true,
            redate: true,
        }
    }

    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        let op = format!("put {} messages", messages.len());
        let forgotten = put::forgotten_by(now, self.horizon);
        self.writer
            .call(op, move |connection| {
                put::put(connection, &messages, forgotten)
            })
            .await
    }

    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        let ask = lease::Ask::from(ask);
        let op = format!("lease from lane {}", ask.lane);
        self.writer
            .call(op, move |connection| lease::lease(connection, &ask))
            .await
    }

    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        let op = format!("settle {} loans", settlements.len());
        self.writer
            .call(op, move |db| settle::settle(db, &settlements, now))
            .await
    }

    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        let lane = lane.clone();
        self.read("ask what is due next", move |db| {
            query::next_due(db, &lane, now)
        })
        .await
    }

    async fn shelves(&self, lane: Option<&Lane>, due_by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        let lane = lane.cloned();
        self.read("count the shelves", move |db| {
            query::shelves(db, lane.as_ref(), due_by)
        })
        .await
    }

    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        let ids = ids.to_vec();
        self.read("find messages", move |db| query::find(db, &ids))
            .await
    }

    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        let lane = lane.cloned();
        self.read("list messages", move |db| {
            query::list(db, state, lane.as_ref(), max)
        })
        .await
    }

    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        let scope = scope.clone();
        self.writer
            .call("recall messages", move |db| recall::recall(db, &scope, now))
            .await
    }

    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        let scope = scope.clone();
        self.writer
            .call("kick messages", move |db| recall::kick(db, &scope, now))
            .await
    }

    async fn redate(
        &self,
        lane: &Lane,
        class: &Class,
        now: Timestamp,
        to: Timestamp,
    ) -> Result<u64> {
        let (lane, class) = (lane.clone(), class.clone());
        let work = move |db: &Connection| recall::redate(db, &lane, &class, now, to);
        self.writer.call("redate shelves", work).await
    }

    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        let lane = lane.cloned();
        let work = move |db: &Connection| recall::pause(db, lane.as_ref(), paused, now);
        self.writer.call("set a pause", work).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>> {
        self.read("read the pauses", query::pauses).await
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        let forgotten = put::forgotten_by(now, self.horizon);
        let mut swept = 0;
        loop {
            let work = move |db: &Connection| recall::sweep(db, forgotten, SWEEP_BATCH);
            let batch = self.writer.call("sweep", work).await?;
            swept += batch as u64;
            if batch < SWEEP_BATCH {
                return Ok(swept);
            }
        }
    }

    async fn check(&self) -> Result<()> {
        // Only a write shows that writing works.
        let work = |db: &Connection| {
            db.execute(
                "UPDATE counter SET value = value + 1 WHERE name = 'checks'",
                [],
            )
            .map(drop)
        };
        self.writer.call("check that it can be written", work).await
    }
    async fn verify(&self) -> Result<Report> {
        let read = |db: &Connection| Ok((query::integrity(db)?, query::shelves(db, None, None)?));
        let (lines, shelves) = self.read("check its file", read).await?;
        let mut report = Report {
            files: 1,
            held: shelves.iter().map(|shelf| shelf.held).sum(),
            leased: shelves.iter().map(|shelf| shelf.leased).sum(),
            buried: shelves.iter().map(|shelf| shelf.buried).sum(),
            ..Report::default()
        };
        for line in lines.into_iter().filter(|line| line != "ok") {
            report.note(Finding {
                ill: Ill::Database,
                file: FILE.to_owned(),
                bytes: None,
                messages: 0,
                detail: Some(line),
            });
        }
        Ok(report)
    }

    async fn export(&self, from: u64, max_bytes: usize) -> Result<Export> {
        let read = move |db: &Connection| query::export(db, from, max_bytes);
        self.read("export its messages", read).await
    }
}

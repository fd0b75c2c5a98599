//! The hold in files of its own: a log that is its own store, made for this one job.
//!
//! Holding and releasing are sequential here: a put is one frame of compressed blocks in shelf
//! order, a lease moves a cursor, an end is an entry in a list of stretches. ADR 25 tells why.
//!
//! Data flows one way: calls change the `store` under one short lock, each by one frame; the
//! journal writes and syncs frames by the group; the keeper seals, merges and gives space back.
//! `recover` does the same from the files.

mod admit;
mod copy;
mod export;
mod fault;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod ids;
mod keeper;
mod lease;
mod loans;
mod look;
mod marks;
mod mend;
mod op;
mod put;
mod query;
mod reader;
mod recall;
mod recover;
mod restore;
mod restored;
mod segment;
mod settle;
mod shelves;
mod spans;
mod spot;
mod state;
mod store;
mod verify;
mod walk;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate_core::{Class, MessageId};
use nightgate_log::disk::Disk;
use nightgate_log::disk::real::RealDisk;
use nightgate_log::journal::Ticket;

use self::fault::{disk, error, stopped};
pub use self::files::FORMAT_VERSION;
pub use self::restore::{BackupNote, Restoring};
use self::store::Inner;
pub use self::store::{Options, SEGMENT_BYTES_DEFAULT};
pub use self::verify::{verify_folder, verify_on};
use super::open::SHELF_DIR;
use super::{
    Backup, Capability, Damage, Export, Found, Held, HoldStore, Lane, LeaseAsk, Leased, Pause, Put,
    Recalled, Report, Room, Scope, Settle, Settled, Shelf, State,
};
use crate::error::{Kind, Result};

/// The hold in files of its own.
pub struct ShelfHold {
    inner: Arc<Inner>,
    keeper: Option<JoinHandle<()>>,
}

impl ShelfHold {
    /// Opens the hold in the folder `shelf` of `dir`, and makes both if they are missing.
    ///
    /// # Errors
    /// `Unavailable` when another process holds it or the disk does not answer, `Invalid` when a
    /// newer program wrote it, `Corrupt` when a file without which nothing can be told is damaged.
    pub async fn open(dir: &Path, options: Options) -> Result<Self> {
        let opened = Self::try_open(dir, options).await?;
        opened.ok_or_else(|| {
            let op = format!("open {}: another process holds it", dir.display());
            error(Kind::Unavailable, op)
        })
    }

    /// The same; `None` while another process holds it.
    ///
    /// # Errors
    /// As [`ShelfHold::open`].
    pub async fn try_open(dir: &Path, options: Options) -> Result<Option<Self>> {
        let folder = dir.join(SHELF_DIR);
        let opened = tokio::task::spawn_blocking(move || {
            let op = format!("open {}", folder.display());
            match RealDisk::open(&folder) {
                Ok(on) => Self::open_on(Arc::new(on), options).map(Some),
                Err(cause) if cause.kind() == std::io::ErrorKind::ResourceBusy => Ok(None),
                Err(cause) => Err(disk(&op)(cause)),
            }
        });
        opened
            .await
            .map_err(|cause| error(Kind::Unavailable, "open it").with(cause))?
    }

    /// Opens the hold on any disk. Blocks.
    ///
    /// # Errors
    /// As [`ShelfHold::open`].
    pub fn open_on(on: Arc<dyn Disk>, options: Options) -> Result<Self> {
        let inner = Arc::new(recover::open(on, options)?);
        let keeping = Arc::clone(&inner);
        let keeper = std::thread::Builder::new()
            .name("hold-keeper".to_owned())
            .spawn(move || keeper::keep(&keeping))
            .map_err(disk("start the hold's keeper"))?;
        let keeper = Some(keeper);
        Ok(Self { inner, keeper })
    }

    /// Runs `work` off the async threads, and answers once what it saw and did is durable.
    async fn run<T: Send + 'static>(
        &self,
        op: &'static str,
        work: impl FnOnce(&Arc<Inner>) -> Result<(T, Ticket)> + Send + 'static,
    ) -> Result<T> {
        self.inner.sound(op)?;
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        let (answer, ticket) = done.map_err(|cause| error(Kind::Unavailable, op).with(cause))??;
        self.inner
            .journal
            .durable(ticket)
            .await
            .map_err(stopped(op))?;
        Ok(answer)
    }
}

impl Drop for ShelfHold {
    fn drop(&mut self) {
        self.inner.core().stopping = true;
        self.inner.wake.notify_all();
        if let Some(keeper) = self.keeper.take() {
            // It has nothing to say: whatever went wrong was logged where it did.
            let _ = keeper.join();
        }
    }
}

#[async_trait]
impl HoldStore for ShelfHold {
    fn name(&self) -> &'static str {
        "shelf"
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
        self.run("put messages", move |inner| inner.put(messages, now))
            .await
    }

    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        let LeaseAsk {
            lane,
            pick,
            now,
            max,
            ttl,
        } = *ask;
        let lane = lane.clone();
        let campaign = match pick {
            super::Pick::Any => None,
            super::Pick::Campaign(purpose, name) => Some((purpose, name.map(str::to_owned))),
        };
        let lease = move |inner: &Arc<Inner>| {
            let pick = match &campaign {
                None => super::Pick::Any,
                Some((purpose, name)) => super::Pick::Campaign(*purpose, name.as_deref()),
            };
            let lane = &lane;
            inner.lease(&LeaseAsk {
                lane,
                pick,
                now,
                max,
                ttl,
            })
        };
        self.run("lease messages", lease).await
    }

    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        self.run("settle loans", move |inner| inner.settle(settlements, now))
            .await
    }

    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        let lane = lane.clone();
        self.run("look what is due", move |inner| inner.next_due(&lane, now))
            .await
    }

    async fn shelves(&self, lane: Option<&Lane>, due_by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        let lane = lane.cloned();
        self.run("count shelves", move |inner| {
            inner.rows(lane.as_ref(), due_by)
        })
        .await
    }

    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        let ids = ids.to_vec();
        self.run("find messages", move |inner| inner.find(&ids))
            .await
    }

    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        let lane = lane.cloned();
        self.run("list messages", move |inner| {
            inner.list(state, lane.as_ref(), max)
        })
        .await
    }

    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        let scope = scope.clone();
        self.run("recall messages", move |inner| inner.recall(&scope, now))
            .await
    }

    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        let scope = scope.clone();
        self.run("kick messages", move |inner| inner.kick(&scope, now))
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
        self.run("redate shelves", move |inner| {
            inner.redate(&lane, &class, now, to)
        })
        .await
    }

    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        let lane = lane.cloned();
        self.run("set a stop", move |inner| {
            inner.pause(lane.as_ref(), paused, now)
        })
        .await
    }

    async fn pauses(&self) -> Result<Vec<Pause>> {
        self.run("read the stops", |inner| inner.pauses()).await
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        self.run("forget old ids", move |inner| inner.sweep(now))
            .await
    }

    async fn check(&self) -> Result<()> {
        self.inner.sound("check the hold")
    }

    async fn room(&self) -> Result<Room> {
        let look = |inner: &Arc<Inner>| {
            let room = inner.room(&mut inner.core());
            Ok((room, inner.journal.last_ticket()))
        };
        self.run("look how much room there is", look).await
    }

    async fn damage(&self) -> Result<Damage> {
        let look = |inner: &Arc<Inner>| Ok((inner.damage()?, inner.journal.last_ticket()));
        self.run("look what is damaged", look).await
    }

    async fn verify(&self) -> Result<Report> {
        self.run("check its files", |inner| inner.verify()).await
    }

    async fn backup(&self, to: &Path, now: Timestamp) -> Result<Backup> {
        let to = to.to_owned();
        self.run("back it up", move |inner| inner.backup(&to, now))
            .await
    }

    async fn export(&self, from: u64, max_bytes: usize) -> Result<Export> {
        let export = move |inner: &Arc<Inner>| inner.export(from, max_bytes);
        self.run("export its messages", export).await
    }
}

//! Bringing a backup back: copied beside the hold's own folder, told what has left since, and only
//! then given its name. A process that ends midway leaves no hold that would send twice.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use nightgate_core::MessageId;
use nightgate_log::disk::real::LOCK;
use nightgate_log::disk::{Disk, RealDisk};
use serde::Deserialize;

use super::copy::copy_store;
use super::fault::{Outcome, disk, error};
use super::look::Look;
use super::store::Inner;
use super::verify::{NOTE, OURS};
use super::{Options, ShelfHold};
use crate::error::{Kind, Result};
use crate::hold::care::Backup;
use crate::hold::open::{SHELF_DIR, SOCKET};
use crate::hold::{End, HoldStore};

/// The folder in which a backup gets ready, in the data directory.
const READY: &str = "hold-restoring";

/// What a backup says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct BackupNote {
    /// When it was begun: everything answered before is in it.
    pub taken_at: Timestamp,
}

impl BackupNote {
    /// Reads the note in the folder of a backup; `None` without one.
    ///
    /// # Errors
    /// `Invalid` when it is no note of ours.
    pub fn of(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(NOTE);
        let op = format!("read {}", path.display());
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|cause| error(Kind::Invalid, op).with(cause)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(disk(&op)(cause)),
        }
    }
}

/// A backup that was copied into a data directory and is not used yet.
pub struct Restoring {
    data: PathBuf,
    hold: ShelfHold,
    copied: Backup,
    /// The folder it will replace, locked against a gateway that starts meanwhile.
    target: Option<RealDisk>,
    holds_store: bool,
}

impl Restoring {
    /// Copies the backup in `from` into the data directory `data`. `replaces`: a hold that is there
    /// may be moved aside.
    ///
    /// # Errors
    /// `Unavailable` while a process owns the hold that is there, `Invalid` when there is one and
    /// it may not be moved, or when `from` is no backup.
    pub async fn begin(from: &Path, data: &Path, options: Options, replaces: bool) -> Result<Self> {
        let (from, data) = (from.to_owned(), data.to_owned());
        let begun = tokio::task::spawn_blocking(move || begin(&from, data, options, replaces));
        let failed = |cause| error(Kind::Unavailable, "copy a backup").with(cause);
        begun.await.map_err(failed)?
    }

    /// What was copied.
    #[must_use]
    pub const fn copied(&self) -> Backup {
        self.copied
    }

    /// The hold, as of the backup and of what it was told since.
    #[must_use]
    pub fn hold(&self) -> &dyn HoldStore {
        &self.hold
    }

    /// Ends messages that are known to have ended since the backup; says how many were still held
    /// or buried in it.
    ///
    /// # Errors
    /// When the copy cannot be read or written.
    pub async fn end_known(&self, ends: Vec<(MessageId, End)>, now: Timestamp) -> Result<u64> {
        let work = move |inner: &Arc<Inner>| inner.end_known(&ends, now);
        self.hold.run("end what has left", work).await
    }

    /// Marks everything held as lapsed, so that its receipts are asked before it goes; says how
    /// many that are.
    ///
    /// # Errors
    /// When the copy cannot be read or written.
    pub async fn doubt(&self, now: Timestamp) -> Result<u64> {
        let work = move |inner: &Arc<Inner>| inner.doubt(now);
        self.hold.run("mark what may have left", work).await
    }

    /// Buries everything held, because of `why`; says how many.
    ///
    /// # Errors
    /// When the copy cannot be read or written.
    pub async fn bury_all(&self, why: &str, now: Timestamp) -> Result<u64> {
        let why = why.to_owned();
        let work = move |inner: &Arc<Inner>| inner.bury_all(&why, now);
        self.hold.run("bury what may have left", work).await
    }

    /// Puts it in the hold's place. Answers where the hold that was there went.
    ///
    /// # Errors
    /// `Unavailable` when a folder cannot be renamed.
    pub async fn finish(self, now: Timestamp) -> Result<Option<PathBuf>> {
        let finished = tokio::task::spawn_blocking(move || self.replace(now));
        let failed = |cause| error(Kind::Unavailable, "put the hold in its place").with(cause);
        finished.await.map_err(failed)?
    }

    fn replace(self, now: Timestamp) -> Result<Option<PathBuf>> {
        let Self {
            data,
            hold,
            target,
            holds_store,
            ..
        } = self;
        // Waits until all of it is on disk.
        drop(hold);
        let folder = data.join(SHELF_DIR);
        let aside = free(&data, now);
        let ready = data.join(READY);
        let place = || -> io::Result<()> {
            match (&target, holds_store) {
                (Some(_), true) => fs::rename(&folder, &aside)?,
                (Some(_), false) => {
                    fs::remove_file(folder.join(LOCK))?;
                    remove_if_there(&folder.join(SOCKET))?;
                    fs::remove_dir(&folder)?;
                }
                (None, _) => {}
            }
            if let Err(cause) = fs::rename(ready.join(SHELF_DIR), &folder) {
                if holds_store {
                    fs::rename(&aside, &folder)?;
                }
                return Err(cause);
            }
            File::open(&data)?.sync_all()?;
            fs::remove_dir(&ready)
        };
        place().map_err(disk("put the hold in its place"))?;
        Ok(holds_store.then_some(aside))
    }
}

/// A name for the hold that was there, which nothing has yet.
fn free(data: &Path, now: Timestamp) -> PathBuf {
    let name = format!("{SHELF_DIR}-before-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let later = (2..).map(|number: u32| data.join(format!("{name}-{number}")));
    let mut names = std::iter::once(data.join(&name)).chain(later);
    let is_free = |path: &PathBuf| path.symlink_metadata().is_err();
    names.find(is_free).unwrap_or_else(|| data.join(&name))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn is_store(names: &[String]) -> bool {
    let is_ours = |name: &String| OURS.iter().any(|prefix| name.starts_with(prefix));
    names.iter().any(is_ours)
}

fn begin(from: &Path, data: PathBuf, options: Options, replaces: bool) -> Outcome<Restoring> {
    let folder = data.join(SHELF_DIR);
    let target = match folder.exists() {
        false => None,
        true => Some(RealDisk::open(&folder).map_err(|cause| {
            let op = format!(
                "restore into {}: it is in use, stop the gateway first",
                folder.display()
            );
            disk(&op)(cause)
        })?),
    };
    let op = format!("look into {}", folder.display());
    let holds_store = match &target {
        Some(on) => is_store(&on.names().map_err(disk(&op))?),
        None => false,
    };
    if holds_store && !replaces {
        let op = format!(
            "restore into {}: a hold is there already, which must be moved aside",
            folder.display()
        );
        return Err(error(Kind::Invalid, op));
    }
    let op = format!("look into {}", from.display());
    let Some(look) = Look::at(from).map_err(disk(&op))? else {
        let op = format!(
            "restore {}: a process uses it, so it is no backup",
            from.display()
        );
        return Err(error(Kind::Invalid, op));
    };
    let ready = data.join(READY);
    let op = format!("make {}", ready.display());
    let copied = {
        let on = RealDisk::open(ready.join(SHELF_DIR)).map_err(disk(&op))?;
        for name in on.names().map_err(disk(&op))? {
            on.remove(&name).map_err(disk(&op))?;
        }
        copy_store(&look, None, &on, &|| true)?
    };
    let on = RealDisk::open(ready.join(SHELF_DIR)).map_err(disk(&op))?;
    let hold = ShelfHold::open_on(Arc::new(on), options)?;
    Ok(Restoring {
        data,
        hold,
        copied,
        target,
        holds_store,
    })
}

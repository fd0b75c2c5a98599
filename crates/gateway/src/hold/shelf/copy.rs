//! Copying a store while it is used: what is settled whole, the log up to one frame, and the
//! manifest last.
//!
//! Files are copied, never linked: space is given back by holes, and a hole in a linked file is one
//! in both. Holes themselves are not copied.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use jiff::Timestamp;
use nightgate_log::disk::real::LOCK;
use nightgate_log::disk::{Disk, DiskFile, RealDisk, read_exact_at, write_all_at};
use nightgate_log::journal::Ticket;
use serde::de::DeserializeOwned;

use super::fault::{Outcome, disk, error, stopped};
use super::files::{
    self, Checkpoint, KIND_MANIFEST, KIND_STATE, Manifest, index_name, log_name, run_name,
};
use super::store::Inner;
use super::verify::{Cut, NOTE, OURS, verify};
use crate::error::Kind;
use crate::hold::care::{Backup, Report};

/// Bytes read at once.
const PIECE: usize = 1024 * 1024;
/// What of a piece is left out where it is nothing but zeros: a block of every file system.
const BLOCK: usize = 4096;
/// What is added to a folder's name until all is in it.
const PARTIAL: &str = "partial";

impl Inner {
    /// The keeper's turn, or that of whoever needs the files to stay as they are.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.upkeep
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Works while nothing is sealed, removed or given back. Everything appended before is on disk
    /// in front of the cut.
    fn frozen<T>(&self, work: impl FnOnce(Cut) -> Outcome<T>) -> Outcome<(T, Ticket)> {
        let _turn = self.turn();
        let (cut, ticket) = {
            let core = self.core();
            let (log, at) = (core.log, core.log_at);
            (Cut { log, at }, self.journal.last_ticket())
        };
        self.journal
            .durable_blocking(ticket)
            .map_err(stopped("wait for the log"))?;
        Ok((work(cut)?, ticket))
    }

    pub(super) fn verify(&self) -> Outcome<(Report, Ticket)> {
        self.frozen(|cut| verify(&*self.disk, Some(cut), &mut |_, _| {}))
    }

    pub(super) fn backup(&self, to: &Path, now: Timestamp) -> Outcome<(Backup, Ticket)> {
        // Asked first: nobody should wait for a copy that has no place to go.
        let partial = Partial::make(to)?;
        let go_on = || !self.core().stopping;
        let copied = self.frozen(|cut| copy_store(&*self.disk, Some(cut), &partial.disk, &go_on));
        let done = copied.and_then(|(backup, ticket)| {
            partial.note(now)?;
            partial.finish(to)?;
            Ok((backup, ticket))
        });
        done.inspect_err(|_| Partial::clear(to))
    }
}

/// A folder that is being filled, and has not got its name yet.
struct Partial {
    folder: PathBuf,
    disk: RealDisk,
}

fn partial_of(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".");
    name.push(PARTIAL);
    name.into()
}

impl Partial {
    /// Makes the folder. What an earlier try left there goes.
    fn make(to: &Path) -> Outcome<Self> {
        let invalid = |why: &str| {
            let op = format!("back up to {}: {why}", to.display());
            Err(error(Kind::Invalid, op))
        };
        if !to.is_absolute() || to.as_os_str().as_bytes().ends_with(b"/") {
            return invalid("the path must be absolute, without a slash at its end");
        }
        if to.symlink_metadata().is_ok() {
            return invalid("something of that name is there already; name another");
        }
        let folder = partial_of(to);
        let op = format!("make {}", folder.display());
        let disk_of = RealDisk::open(&folder).map_err(disk(&op))?;
        let names = disk_of.names().map_err(disk(&op))?;
        if !names.iter().all(|name| is_ours(name)) {
            return invalid("the folder of that name with `.partial` has files that are not ours");
        }
        for name in names {
            disk_of.remove(&name).map_err(disk(&op))?;
        }
        let disk = disk_of;
        Ok(Self { folder, disk })
    }

    /// Says when the backup was begun, for whoever restores it.
    fn note(&self, now: Timestamp) -> Outcome<()> {
        let text = format!(
            "{{\"store\":\"shelf\",\"taken_at\":\"{now}\",\"program\":\"{}\"}}\n",
            env!("CARGO_PKG_VERSION")
        );
        let write = || -> io::Result<()> {
            let file = self.disk.open(NOTE, true)?;
            write_all_at(&*file, text.as_bytes(), 0)?;
            file.sync()
        };
        write().map_err(disk("write what the backup says of itself"))
    }

    /// Gives the folder its name, once everything in it is on disk.
    fn finish(self, to: &Path) -> Outcome<()> {
        let Self { folder, disk: on } = self;
        let finish = || -> io::Result<()> {
            on.remove(LOCK)?;
            on.sync_names()?;
            std::fs::rename(&folder, to)?;
            let parent = to.parent().unwrap_or_else(|| Path::new("/"));
            std::fs::File::open(parent)?.sync_all()
        };
        finish().map_err(disk("give the backup its name"))
    }

    /// Removes what a backup that failed has left.
    fn clear(to: &Path) {
        let folder = partial_of(to);
        let Ok(names) = folder.read_dir() else { return };
        let ours = |name: &Path| {
            name.to_str()
                .is_some_and(|name| is_ours(name) || name == LOCK)
        };
        for entry in names.flatten() {
            if ours(Path::new(&entry.file_name())) {
                // Whatever stays is in the way of nobody: the next try removes it.
                let _ = std::fs::remove_file(entry.path());
            }
        }
        let _ = std::fs::remove_dir(folder);
    }
}

fn is_ours(name: &str) -> bool {
    name == NOTE || OURS.iter().any(|prefix| name.starts_with(prefix))
}

/// Copies the store on `from` to an empty disk, the manifest last. What is made anew from other
/// files may be missing; `go_on` is asked now and then.
pub(super) fn copy_store(
    from: &dyn Disk,
    cut: Option<Cut>,
    to: &dyn Disk,
    go_on: &dyn Fn() -> bool,
) -> Outcome<Backup> {
    let manifest: Manifest = either(from, files::manifest_names(), KIND_MANIFEST)?;
    let mut copy = Copying {
        from,
        to,
        go_on,
        backup: Backup::default(),
    };
    if let Some(no) = manifest.state {
        let state: Checkpoint = either(from, files::state_names(no), KIND_STATE)?;
        files::write_state(to, no, &state)?;
        copy.backup.files += 2;
    }
    for sealed in &manifest.sealed {
        copy.spare(&log_name(sealed.no))?;
        copy.spare(&index_name(sealed.no))?;
    }
    for run in &manifest.runs {
        copy.spare(&run_name(run.no))?;
    }
    let names = from.names().map_err(disk("list the store's files"))?;
    let mut no = manifest.open_from;
    while names.contains(&log_name(no)) && cut.is_none_or(|cut| no <= cut.log) {
        let at = cut.filter(|cut| cut.log == no).map(|cut| cut.at);
        copy.file(&log_name(no), at)?;
        no += 1;
    }
    if let Some(cut) = cut.filter(|cut| no <= cut.log) {
        let op = format!("copy {}, which is missing", log_name(no.min(cut.log)));
        return Err(error(Kind::Corrupt, op));
    }
    files::write_manifest(to, &manifest)?;
    copy.backup.files += 2;
    to.sync_names().map_err(disk("name the copied files"))?;
    Ok(copy.backup)
}

/// What the first of two copies holds that can be read.
fn either<T: DeserializeOwned>(on: &dyn Disk, names: [String; 2], kind: u8) -> Outcome<T> {
    let op = format!("read {}, and its copy", names[0]);
    let read = files::read_whole(on, &names[0], kind);
    read.or_else(|cause| match files::read_whole(on, &names[1], kind) {
        Ok(good) => Ok(good),
        Err(_) => Err(disk(&op)(cause)),
    })
}

struct Copying<'a> {
    from: &'a dyn Disk,
    to: &'a dyn Disk,
    go_on: &'a dyn Fn() -> bool,
    backup: Backup,
}

impl Copying<'_> {
    /// Copies a file without which the others can be read as well: a copy of a damaged store is
    /// better than none.
    fn spare(&mut self, name: &str) -> Outcome<()> {
        match self.from.open(name, false) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                tracing::warn!(name, "a file is missing, and from the copy too");
                Ok(())
            }
            _ => self.file(name, None),
        }
    }

    /// Copies a file, or its first `len` bytes, and puts it on disk.
    fn file(&mut self, name: &str, len: Option<u64>) -> Outcome<()> {
        let op = format!("copy {name}");
        let source = self.from.open(name, false).map_err(disk(&op))?;
        let target = self.to.open(name, true).map_err(disk(&op))?;
        let len = match len {
            Some(len) => len,
            None => source.len().map_err(disk(&op))?,
        };
        let mut at = 0;
        let mut piece = vec![0; PIECE];
        while at < len {
            if !(self.go_on)() {
                let op = format!("{op}: the hold is being closed");
                return Err(error(Kind::Unavailable, op));
            }
            let room = usize::try_from(len - at).unwrap_or(PIECE).min(PIECE);
            let piece = &mut piece[..room];
            self.fill(&*source, piece, at);
            self.write(&*target, piece, at).map_err(disk(&op))?;
            at += room as u64;
        }
        let end = || -> io::Result<()> {
            target.set_len(len)?;
            target.sync()
        };
        end().map_err(disk(&op))?;
        self.backup.files += 1;
        Ok(())
    }

    /// Reads a piece; what cannot be read becomes zeros, and is counted.
    fn fill(&mut self, source: &dyn DiskFile, piece: &mut [u8], at: u64) {
        if read_exact_at(source, piece, at).is_ok() {
            return;
        }
        for (index, part) in piece.chunks_mut(BLOCK).enumerate() {
            if let Err(cause) = read_exact_at(source, part, at + (index * BLOCK) as u64) {
                part.fill(0);
                self.backup.unread += part.len() as u64;
                tracing::error!(name = source.name(), %cause, "bytes are missing from the copy");
            }
        }
    }

    /// Writes what is not zeros.
    fn write(&mut self, target: &dyn DiskFile, piece: &[u8], at: u64) -> io::Result<()> {
        let is_blank = |block: &[u8]| block.iter().fold(0, |all, byte| all | byte) == 0;
        let mut from = 0;
        while from < piece.len() {
            let step = |at: usize| (at + BLOCK).min(piece.len());
            if is_blank(&piece[from..step(from)]) {
                from = step(from);
                continue;
            }
            let mut to = step(from);
            while to < piece.len() && !is_blank(&piece[to..step(to)]) {
                to = step(to);
            }
            write_all_at(target, &piece[from..to], at + from as u64)?;
            self.backup.bytes += (to - from) as u64;
            from = to;
        }
        Ok(())
    }
}

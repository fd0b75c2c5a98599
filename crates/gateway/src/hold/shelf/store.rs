//! The parts of an open store, and the one way in which a change becomes durable.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use nightgate_log::disk::Disk;
use nightgate_log::head::HEAD_LEN;
use nightgate_log::journal::{Journal, Ticket};

use super::fault::{Outcome, error, stopped};
use super::files::{self, Manifest};
use super::ids::Ids;
use super::op::{Label, Meta, NewShelf, Op, Stretch};
use super::reader::Reader;
use super::segment::Segment;
use super::shelves::Shelf;
use super::state::State;
use crate::error::Kind;
use crate::hold::HORIZON_DEFAULT;
use crate::hold::block::Packer;
use crate::hold::instant::nanos;
use crate::hold::open::KEEP_FREE_DEFAULT;

/// Bytes of log after which a segment is sealed.
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// Frames after which one is sealed: what opening has to replay stays bounded.
const FRAMES_MAX: u64 = 100_000;
/// Where the first frame of a log file begins.
pub(super) const LOG_BEGIN: u64 = HEAD_LEN;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long an id is remembered after its message ended.
    pub horizon: SignedDuration,
    /// Most bytes of held messages; `None` for as many as the disk takes.
    pub max_bytes: Option<u64>,
    /// Most messages on one shelf.
    pub shelf_max: Option<u64>,
    /// Bytes of disk that stay free.
    pub keep_free: u64,
    /// Bytes of log after which a segment is sealed.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            horizon: HORIZON_DEFAULT,
            max_bytes: None,
            shelf_max: None,
            keep_free: KEEP_FREE_DEFAULT,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
        }
    }
}

/// What one lock guards.
pub(super) struct Core {
    pub(super) state: State,
    pub(super) ids: Ids,
    pub(super) manifest: Manifest,
    /// The log that is written, and where its next frame begins.
    pub(super) log: u32,
    pub(super) log_at: u64,
    pub(super) log_frames: u64,
    /// The sequence number of the last frame applied.
    pub(super) lsn: u64,
    /// Grows whenever ids are noted: what was looked up before may be out of date.
    pub(super) version: u64,
    /// Grows whenever ids move from an open segment to a run, or from run to run.
    pub(super) seals: u64,
    /// Segments waiting to be sealed, and whether there is tidying to do.
    pub(super) to_seal: Vec<u32>,
    pub(super) untidy: bool,
    /// The first segment that the manifest on disk does not call sealed.
    pub(super) named: u32,
    pub(super) stopping: bool,
    pub(super) room: super::admit::Meter,
}

/// An open store.
pub(super) struct Inner {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) journal: Arc<Journal>,
    pub(super) reader: Reader,
    pub(super) options: Options,
    pub(super) core: Mutex<Core>,
    /// Wakes the keeper: see [`super::keeper`].
    pub(super) wake: Condvar,
    pub(super) packers: Mutex<Vec<Packer>>,
    /// Held by the keeper while it works, and by whoever needs the files to stay as they are.
    pub(super) upkeep: Mutex<()>,
}

/// A change on its way into the log.
#[derive(Default)]
pub(super) struct Change {
    pub(super) meta: Meta,
    /// The bytes of its blocks, in order.
    pub(super) heads: Vec<Vec<u8>>,
    pub(super) bodies: Vec<Vec<u8>>,
}

impl Inner {
    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is answered any more once a write was lost.
    pub(super) fn sound(&self, op: &str) -> Outcome<()> {
        match self.journal.fault() {
            Some(fault) => Err(stopped(op)(fault)),
            None => Ok(()),
        }
    }

    pub(super) fn packer(&self) -> Packer {
        let mut pool = self.packers.lock().unwrap_or_else(PoisonError::into_inner);
        pool.pop().unwrap_or_default()
    }

    pub(super) fn put_back(&self, packer: Packer) {
        self.packers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(packer);
    }

    /// Appends a change to the log and makes it. It is durable once the ticket is. Says how many
    /// messages it made the store forget, too.
    pub(super) fn commit(&self, core: &mut Core, change: &Change) -> Outcome<(Ticket, u64)> {
        let meta = change.meta.encode();
        let meta = meta.map_err(|cause| error(Kind::Invalid, "write a change").with(cause))?;
        let data: Vec<&[u8]> = change
            .heads
            .iter()
            .chain(&change.bodies)
            .map(Vec::as_slice)
            .collect();
        let bytes: usize = data.iter().map(|part| part.len()).sum();
        let after = core.log_at + (meta.len() + bytes) as u64;
        let full = after > self.options.segment_bytes || core.log_frames >= FRAMES_MAX;
        if full && core.log_at > LOG_BEGIN {
            self.roll(core)?;
        }
        let appended = self
            .journal
            .append(&meta, &data)
            .map_err(stopped("write a change"))?;
        core.log_at = appended.end_at;
        core.log_frames += 1;
        core.lsn = appended.lsn;
        let forgotten = core
            .state
            .apply(&change.meta, appended.no, appended.data_at);
        core.room.wrote(bytes as u64);
        Ok((appended.ticket, forgotten))
    }

    /// The same for ops without blocks.
    pub(super) fn commit_ops(&self, core: &mut Core, ops: Vec<Op>) -> Outcome<(Ticket, u64)> {
        if ops.is_empty() {
            return Ok((self.journal.last_ticket(), 0));
        }
        let mut change = Change::default();
        change.meta.base = core.state.next_place;
        change.meta.ops = ops;
        self.commit(core, &change)
    }

    /// Begins a new log file and leaves the old one to be sealed.
    pub(super) fn roll(&self, core: &mut Core) -> Outcome<()> {
        let no = core.log + 1;
        // Its name may not be on disk though a later sync says so: a failed one is never tried
        // again.
        let made = files::make_log(&*self.disk, no, self.options.segment_bytes);
        let made =
            made.inspect_err(|fault| self.journal.poison(&io::Error::other(fault.to_string())))?;
        self.journal
            .roll(no, made.file, made.salt)
            .map_err(stopped("begin a log file"))?;
        core.to_seal.push(core.log);
        core.log = no;
        core.log_at = LOG_BEGIN;
        core.log_frames = 0;
        let base = core.state.next_place;
        core.state
            .segments
            .push(Segment::new(no, base, core.lsn + 1));
        self.wake.notify_all();
        Ok(())
    }

    /// The shelf with this label; a new one is noted in `change`.
    pub(super) fn shelf_no(core: &Core, change: &mut Change, label: &Label) -> u32 {
        if let Some(no) = core.state.shelves.find(label) {
            return no;
        }
        let noted = change.meta.shelves.iter().find(|new| new.label == *label);
        if let Some(new) = noted {
            return new.no;
        }
        let last = change.meta.shelves.last().map(|new| new.no);
        let no = last.unwrap_or(core.state.shelves.last()) + 1;
        let label = label.clone();
        change.meta.shelves.push(NewShelf { no, label });
        no
    }

    /// The instant before which ends are beyond the horizon at `now`, in nanoseconds.
    pub(super) fn forgotten_before(&self, now: Timestamp) -> i64 {
        let horizon = i64::try_from(self.options.horizon.as_nanos()).unwrap_or(i64::MAX);
        nanos(now).saturating_sub(horizon)
    }
}

impl Core {
    /// Notes about `count` ids of messages just written, as (place, hash).
    pub(super) fn note(&mut self, count: usize, entries: impl Iterator<Item = (u64, u64)>) {
        self.version += 1;
        self.ids.insert_all(self.log, count, entries);
    }

    pub(super) fn shelf(&self, no: u32) -> Outcome<&Shelf> {
        let missing = || error(Kind::Corrupt, format!("find shelf {no}"));
        self.state.shelves.get(no).ok_or_else(missing)
    }

    pub(super) fn segment_of(&self, place: u64) -> Outcome<&Segment> {
        let missing = || error(Kind::Corrupt, format!("find the segment of place {place}"));
        self.state.segment_of(place).ok_or_else(missing)
    }
}

/// Joins places that follow one another on one shelf.
pub(super) fn joined(mut places: Vec<(u64, u32)>) -> Vec<Stretch> {
    if !places.is_sorted() {
        places.sort_unstable();
    }
    let mut stretches: Vec<Stretch> = Vec::new();
    for (place, shelf) in places {
        match stretches.last_mut() {
            Some(last) if last.to == place && last.shelf == shelf => last.to += 1,
            _ => stretches.push(Stretch {
                shelf,
                from: place,
                to: place + 1,
            }),
        }
    }
    stretches
}

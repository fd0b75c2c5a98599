//! Replaying the logs that are not sealed, whatever a power cut or a bad sector left of them.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use nightgate_log::disk::{Disk, DiskFile, read_exact_at, read_full_at, write_all_at};
use nightgate_log::frame::{self, Found, ScanEnd, scan};
use nightgate_log::head::{Head, HeadFault, Salt};

use super::super::fault::{Outcome, disk, error};
use super::super::files::{self, Manifest, log_name};
use super::super::op::Meta;
use super::super::segment::Segment;
use super::super::state::{State, blocks_of};
use super::super::store::{LOG_BEGIN, Options};
use crate::error::Kind;

/// Bytes read at once when a file is looked through.
const PIECE: usize = 64 * 1024;

/// What the logs told.
pub(super) struct Replayed {
    pub(super) no: u32,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) salt: Salt,
    pub(super) at: u64,
    pub(super) next_lsn: u64,
    pub(super) frames: u64,
    /// Something that was acknowledged is missing.
    pub(super) damaged: bool,
}

/// A log file that can be read.
struct Log {
    no: u32,
    file: Arc<dyn DiskFile>,
    salt: Salt,
}

/// Replays the logs that are not sealed. Makes the first one of a new store.
pub(super) fn replay(
    on: &dyn Disk,
    manifest: &Manifest,
    options: &Options,
    known_lsn: u64,
    state: &mut State,
) -> Outcome<Replayed> {
    let logs = open_logs(on, manifest)?;
    let (mut lsn, mut damaged, mut last) = (manifest.open_lsn, false, None);
    for (at, log) in logs.iter().enumerate() {
        match state.segment_mut(log.no) {
            Some(segment) => segment.first_lsn = lsn,
            None => {
                let segment = Segment::new(log.no, state.next_place, lsn);
                state.segments.push(segment);
            }
        }
        let mut replaying = Replaying {
            log,
            state,
            known_lsn,
            next: (LOG_BEGIN, lsn),
            frames: 0,
            lost: 0,
        };
        let end = replaying.run(lsn)?;
        // The next log is begun before the last frames of this one are synced: a power cut tears
        // this one while the next is there, and empty.
        let is_last = !hold_frames(&logs[at + 1..])?;
        // A checkpoint is written when its changes are on disk: what it knows was answered.
        let is_short = is_last && end.next_lsn <= known_lsn;
        let is_last = is_last && !is_short;
        if let Some(torn) = end.torn.clone().filter(|_| !is_last) {
            replaying.salvage(torn.end)?;
        }
        let (frames, lost) = (replaying.frames, replaying.lost);
        damaged |= note_damage(on, log, &end, is_last, lost) || is_short;
        if is_last {
            frame::cut(&*log.file, &end).map_err(disk("cut a torn end off"))?;
        }
        lsn = match is_short {
            true => known_lsn + 1,
            false => end.next_lsn,
        };
        last = Some((log, end.valid_to, frames));
    }
    if let Some((log, at, frames)) = last {
        files::reserve_room(&*log.file, options.segment_bytes);
        return Ok(Replayed {
            no: log.no,
            file: Arc::clone(&log.file),
            salt: log.salt,
            at,
            next_lsn: lsn,
            frames,
            damaged,
        });
    }
    let no = manifest.open_from;
    let begun = files::make_log(on, no, options.segment_bytes)?;
    state.segments.push(Segment::new(no, state.next_place, lsn));
    Ok(Replayed {
        no,
        file: begun.file,
        salt: begun.salt,
        at: LOG_BEGIN,
        next_lsn: lsn,
        frames: 0,
        damaged,
    })
}

/// The logs that are not sealed, in order.
fn open_logs(on: &dyn Disk, manifest: &Manifest) -> Outcome<Vec<Log>> {
    let names = on.names().map_err(disk("list the store's files"))?;
    let number = |name: &String| name.strip_prefix("log-")?.parse::<u32>().ok();
    let numbers: BTreeSet<u32> = names.iter().filter_map(number).collect();
    let mut logs = Vec::new();
    let mut no = manifest.open_from;
    while numbers.contains(&no)
        && let Some(log) = open_log(on, no)?
    {
        logs.push(log);
        no += 1;
    }
    // A new log is named on disk before anything names it, so all but the very first are there.
    let is_missing = logs.is_empty() && manifest.state.is_some();
    if is_missing || numbers.last().is_some_and(|last| *last > no) {
        let op = format!(
            "open {}, which is missing: bring it back, or restore a backup (see OPERATIONS.md, \
             Damage)",
            log_name(no)
        );
        return Err(error(Kind::Corrupt, op));
    }
    Ok(logs)
}

/// A log file; `None` when it was never begun properly, so that nothing can be in it.
fn open_log(on: &dyn Disk, no: u32) -> Outcome<Option<Log>> {
    let file = on
        .open(&log_name(no), false)
        .map_err(disk("open a log file"))?;
    match Head::read(&*file, files::KIND_LOG, files::FORMAT_VERSION) {
        Ok(Head { salt, .. }) => Ok(Some(Log { no, file, salt })),
        Err(HeadFault::Unfinished { .. }) if is_blank(&*file)? => Ok(None),
        Err(fault) => {
            let (kind, op) = match fault {
                HeadFault::Version { .. } => (Kind::Invalid, "open a log file"),
                HeadFault::Io(_) => (Kind::Unavailable, "open a log file"),
                _ => (
                    Kind::Corrupt,
                    "open a log file: restore a backup (see OPERATIONS.md, Damage)",
                ),
            };
            Err(error(kind, op).with(fault))
        }
    }
}

/// Whether there is nothing but zeros in a file.
fn is_blank(file: &dyn DiskFile) -> Outcome<bool> {
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        let count = read_full_at(file, &mut piece, at).map_err(disk("read a log file"))?;
        if piece[..count].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        if count < PIECE {
            return Ok(true);
        }
        at += count as u64;
    }
}

/// Whether there is a frame in any of these.
fn hold_frames(logs: &[Log]) -> Outcome<bool> {
    for log in logs {
        let mut any = false;
        let mut stop = |_: Found<'_>| {
            any = true;
            Err(io::Error::other("one is enough"))
        };
        let end = scan(&*log.file, &log.salt, LOG_BEGIN, 0, false, &mut stop);
        match end {
            _ if any => return Ok(true),
            Ok(_) => {}
            Err(cause) => return Err(disk("read a log file")(cause)),
        }
    }
    Ok(false)
}

/// One log on its way into the state.
struct Replaying<'a> {
    log: &'a Log,
    state: &'a mut State,
    known_lsn: u64,
    /// Where the next frame should begin, and its number.
    next: (u64, u64),
    frames: u64,
    /// Frames of which nothing could be told.
    lost: u64,
}

impl Replaying<'_> {
    /// Blocks of every frame, ops of those the checkpoint does not know.
    fn run(&mut self, first_lsn: u64) -> Outcome<ScanEnd> {
        let Log { file, salt, .. } = self.log;
        let mut visit = |found: Found<'_>| {
            if found.offset > self.next.0 || found.lsn > self.next.1 {
                self.salvage(found.offset).map_err(io::Error::other)?;
                self.lost += found.lsn.saturating_sub(self.next.1);
            }
            self.take(&found)
        };
        let end = scan(&**file, salt, LOG_BEGIN, first_lsn, true, &mut visit);
        end.map_err(disk("replay a log file"))
    }

    fn take(&mut self, found: &Found<'_>) -> io::Result<()> {
        let no = self.log.no;
        let meta = Meta::decode(found.meta).map_err(|_| {
            let text = format!(
                "{}: the frame at byte {} is whole and holds no change that this release knows: \
                 use the release that wrote it",
                log_name(no),
                found.offset
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        self.frames += 1;
        self.next = (found.data_at + found.data_len, found.lsn + 1);
        self.next.0 = self.next.0.next_multiple_of(frame::ALIGN);
        if found.lsn > self.known_lsn {
            self.state.apply(&meta, no, found.data_at);
        } else if let Some(segment) = self.state.segment_mut(no)
            && let Some(index) = &mut segment.open_index
        {
            for block in blocks_of(&meta, found.data_at) {
                index.push(block);
            }
        }
        Ok(())
    }

    /// Takes frames before `end` whose metas are whole and whose blocks are not: which blocks those
    /// are shows when they are read, and only they are lost.
    fn salvage(&mut self, end: u64) -> Outcome<()> {
        let Log { file, salt, .. } = self.log;
        let (from, lsn) = self.next;
        let mut is_over = false;
        let mut visit = |found: Found<'_>| {
            if found.offset >= end {
                is_over = true;
                return Err(io::Error::other("what follows is whole"));
            }
            self.lost += found.lsn.saturating_sub(self.next.1);
            self.take(&found)
        };
        let scanned = scan(&**file, salt, from, lsn, false, &mut visit);
        match scanned {
            _ if is_over => Ok(()),
            Ok(_) => Ok(()),
            Err(cause) => Err(disk("replay a damaged log file")(cause)),
        }
    }
}

/// Names and copies what is damaged. A torn end is no damage where no frame follows it.
fn note_damage(on: &dyn Disk, log: &Log, end: &ScanEnd, is_last: bool, lost: u64) -> bool {
    let name = log_name(log.no);
    let mut ranges: Vec<Range<u64>> = end
        .damage
        .iter()
        .map(|damage| damage.range.clone())
        .collect();
    match &end.torn {
        Some(torn) if is_last => {
            let bytes = torn.end - torn.start;
            tracing::warn!(
                log = name,
                bytes,
                "cut a torn end off: it was never answered"
            );
        }
        Some(torn) => ranges.push(torn.clone()),
        None => {}
    }
    for range in &ranges {
        tracing::error!(
            log = name,
            from = range.start,
            to = range.end,
            "the log is damaged: the rest goes on; see `nightgate hold verify`"
        );
        // A copy for people: without it the store works as well.
        if let Err(cause) = copy_aside(on, log, range) {
            tracing::warn!(log = name, %cause, "could not copy damaged bytes aside");
        }
    }
    if lost > 0 {
        tracing::error!(
            log = name,
            changes = lost,
            "changes are lost: messages in them are gone, and what ended or was recalled in them \
             may be held again"
        );
    }
    !ranges.is_empty()
}

fn copy_aside(on: &dyn Disk, log: &Log, range: &Range<u64>) -> io::Result<()> {
    let length = usize::try_from(range.end - range.start).unwrap_or_default();
    let mut bytes = vec![0; length.min(files::QUARANTINE_MAX)];
    read_exact_at(&*log.file, &mut bytes, range.start)?;
    let name = format!("{}-{}-{}", files::QUARANTINE, log_name(log.no), range.start);
    let copy = on.open(&name, true)?;
    write_all_at(&*copy, &bytes, 0)?;
    copy.sync()?;
    on.sync_names()
}

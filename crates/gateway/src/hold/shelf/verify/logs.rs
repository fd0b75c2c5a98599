//! The logs: every frame of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use nightgate_log::disk::{DiskFile, read_full_at};
use nightgate_log::frame::{Found, ScanEnd, scan};
use nightgate_log::head::{Head, Salt};

use super::{Check, bad, say, told};
use crate::hold::care::Ill;
use crate::hold::shelf::fault::{Outcome, disk};
use crate::hold::shelf::files::{
    self, FORMAT_VERSION, KIND_INDEX, KIND_LOG, Manifest, Sealed, index_name, log_name,
};
use crate::hold::shelf::look::Begin;
use crate::hold::shelf::op::Meta;
use crate::hold::shelf::segment::{Block, Segment};
use crate::hold::shelf::state::{State, blocks_of};
use crate::hold::shelf::store::LOG_BEGIN;

/// Bytes read at once where a file is looked through.
const PIECE: usize = 64 * 1024;

/// What is known of one log, and the file itself if it can be read.
pub(super) struct Told {
    pub(super) file: Option<Arc<dyn DiskFile>>,
    pub(super) blocks: Vec<Block>,
}

/// A log file that can be read.
struct Log {
    file: Arc<dyn DiskFile>,
    salt: Salt,
}

/// A whole frame.
struct Frame {
    offset: u64,
    lsn: u64,
    meta: Meta,
    data_at: u64,
}

/// The number of a log, if it is one.
pub(super) fn number(name: &str) -> Option<u32> {
    name.strip_prefix("log-")?.parse().ok()
}

impl Check<'_> {
    /// A log's file and salt; `None`, and said, when it cannot be read.
    fn log(&mut self, no: u32) -> Option<Log> {
        let name = log_name(no);
        let open = || -> io::Result<Log> {
            let mut file = self.on.open(&name, false)?;
            if let Some(cut) = self.cut.filter(|cut| cut.log == no) {
                let len = cut.at;
                file = Arc::new(Begin { file, len });
            }
            let Head { salt, .. } = Head::read(&*file, KIND_LOG, FORMAT_VERSION)?;
            Ok(Log { file, salt })
        };
        match open() {
            Ok(log) => Some(log),
            Err(cause) => {
                let ill = match cause.kind() {
                    io::ErrorKind::NotFound => Ill::LogMissing,
                    _ => told(&cause, Ill::LogHead),
                };
                self.say(ill, &name, None, 0, say(&cause));
                None
            }
        }
    }

    fn scan(
        &mut self,
        log: &Log,
        (from, lsn): (u64, u64),
        is_whole: bool,
        frames: &mut Vec<Frame>,
    ) -> io::Result<ScanEnd> {
        let mut visit = |found: Found<'_>| {
            let meta = Meta::decode(found.meta).map_err(|_| {
                bad(
                    "a frame is whole and holds no change that this release knows: use the \
                     release that wrote it",
                )
            })?;
            frames.push(Frame {
                offset: found.offset,
                lsn: found.lsn,
                meta,
                data_at: found.data_at,
            });
            Ok(())
        };
        scan(&*log.file, &log.salt, from, lsn, is_whole, &mut visit)
    }

    /// A sealed log and its index. Bodies of what has ended may be gone, so only heads and metas of
    /// frames are looked at here; blocks have checksums of their own.
    pub(super) fn sealed(&mut self, sealed: &Sealed) -> Outcome<Told> {
        let (name, index_name) = (log_name(sealed.no), index_name(sealed.no));
        let (mut frames, mut is_whole) = (Vec::new(), false);
        let log = self.log(sealed.no);
        if let Some(log) = &log {
            match self.scan(log, (LOG_BEGIN, 0), false, &mut frames) {
                Ok(end) => is_whole = self.sealed_damage(&name, &end),
                Err(cause) => self.say(Ill::SealedFrames, &name, None, 0, say(&cause)),
            }
        }
        self.report.frames += frames.len() as u64;
        let from_log: Vec<Block> = frames
            .iter()
            .flat_map(|frame| blocks_of(&frame.meta, frame.data_at))
            .collect();
        let read = files::read_whole::<Vec<Block>>(self.on, &index_name, KIND_INDEX);
        self.read_file(&index_name);
        let blocks = match read {
            Ok(blocks) => {
                // Stand-ins for what was lost are in the index alone.
                let real = blocks.iter().filter(|block| !block.is_unknown());
                if is_whole && !real.eq(&from_log) {
                    self.note(Ill::IndexDiffers, &index_name, None, 0);
                }
                blocks
            }
            Err(cause) => {
                self.say(told(&cause, Ill::Index), &index_name, None, 0, say(&cause));
                from_log
            }
        };
        let file = log.map(|log| log.file);
        Ok(Told { file, blocks })
    }

    /// Says what of a sealed log cannot be read; `true` when nothing.
    fn sealed_damage(&mut self, name: &str, end: &ScanEnd) -> bool {
        // Nobody says which frame comes first, so the scan takes those before it for missing.
        let real = end.damage.iter().enumerate();
        let real = real.filter(|(at, one)| *at > 0 || !one.range.is_empty());
        let mut ranges: Vec<_> = real.map(|(_, one)| one.range.clone()).collect();
        ranges.extend(end.torn.clone());
        for range in &ranges {
            let bytes = Some((range.start, range.end));
            self.note(Ill::SealedFrames, name, bytes, 0);
        }
        ranges.is_empty()
    }

    /// The logs that are not sealed: they are read as opening would, and told to `state`.
    pub(super) fn open_logs(
        &mut self,
        names: &[String],
        manifest: &Manifest,
        known_lsn: u64,
        state: &mut State,
    ) -> Outcome<BTreeMap<u32, Told>> {
        let numbers: BTreeSet<u32> = names.iter().filter_map(|name| number(name)).collect();
        let last = numbers.last().copied().unwrap_or_default();
        let last = self.cut.map_or(last, |cut| cut.log);
        let is_empty = last < manifest.open_from && manifest.state.is_some();
        if is_empty {
            self.note(Ill::LogMissing, &log_name(manifest.open_from), None, 0);
        }
        let (mut all, mut lsn) = (BTreeMap::new(), manifest.open_lsn);
        for no in manifest.open_from..=last {
            if no == last && self.is_unbegun(no)? {
                continue;
            }
            if state.segment(no).is_none() {
                let segment = Segment::new(no, state.next_place, lsn);
                state.segments.push(segment);
            }
            let Some(log) = self.log(no) else { continue };
            let mut frames = Vec::new();
            let end = match self.scan(&log, (LOG_BEGIN, lsn), true, &mut frames) {
                Ok(end) => end,
                Err(cause) => {
                    self.say(Ill::LogHead, &log_name(no), None, 0, say(&cause));
                    continue;
                }
            };
            let is_last = self.cut.is_none() && !self.hold_frames(no + 1, last);
            lsn = self.damage(no, &log, &end, (is_last, lsn), &mut frames);
            self.report.frames += frames.len() as u64;
            let mut blocks = Vec::new();
            for frame in frames {
                blocks.extend(blocks_of(&frame.meta, frame.data_at));
                if frame.lsn > known_lsn {
                    state.apply(&frame.meta, no, frame.data_at);
                }
            }
            let file = Some(log.file);
            all.insert(no, Told { file, blocks });
        }
        Ok(all)
    }

    /// Says what is wrong in the middle of an open log, and takes what frames there are whole but
    /// for their blocks. Answers which frame should come next.
    fn damage(
        &mut self,
        no: u32,
        log: &Log,
        end: &ScanEnd,
        (is_last, first_lsn): (bool, u64),
        frames: &mut Vec<Frame>,
    ) -> u64 {
        let name = log_name(no);
        let mut ranges: Vec<_> = end.damage.iter().map(|one| one.range.clone()).collect();
        match &end.torn {
            Some(torn) if is_last => {
                self.note(Ill::TornEnd, &name, Some((torn.start, torn.end)), 0);
            }
            Some(torn) => ranges.push(torn.clone()),
            None => {}
        }
        for range in ranges {
            let mut hollow = Vec::new();
            // It may end in an error where what it meets is no frame at all.
            let _ = self.scan(log, (range.start, 0), false, &mut hollow);
            hollow.retain(|frame| frame.offset < range.end);
            frames.extend(hollow);
            self.note(Ill::Frames, &name, Some((range.start, range.end)), 0);
        }
        frames.sort_unstable_by_key(|frame| frame.lsn);
        frames.dedup_by_key(|frame| frame.lsn);
        let (mut next, mut lost) = (first_lsn, 0);
        for frame in frames.iter() {
            lost += frame.lsn.saturating_sub(next);
            next = frame.lsn + 1;
        }
        if lost > 0 {
            let detail = Some(format!("{lost} changes"));
            self.say(Ill::ChangesLost, &name, None, 0, detail);
        }
        next.max(end.next_lsn)
    }

    /// Whether there is a frame in any of these logs.
    fn hold_frames(&mut self, first: u32, last: u32) -> bool {
        (first..=last).any(|no| {
            let mut any = false;
            let file = self.on.open(&log_name(no), false);
            let head = file.and_then(|file| {
                let head = Head::read(&*file, KIND_LOG, FORMAT_VERSION)?;
                let mut stop = |_: Found<'_>| {
                    any = true;
                    Err(io::Error::other("one is enough"))
                };
                scan(&*file, &head.salt, LOG_BEGIN, 0, false, &mut stop)
            });
            // Of one that cannot be read nobody knows: what comes before is not the end.
            any || head.is_err()
        })
    }

    /// Whether a log was never begun properly, so that nothing can be in it.
    fn is_unbegun(&self, no: u32) -> Outcome<bool> {
        let Ok(file) = self.on.open(&log_name(no), false) else {
            return Ok(false);
        };
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        loop {
            let count = read_full_at(&*file, &mut piece, at).map_err(disk("read a log file"))?;
            if piece[..count].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            if count < PIECE {
                return Ok(true);
            }
            at += count as u64;
        }
    }

    /// The logs of a store of which nothing else can be told.
    pub(super) fn logs_alone(&mut self, names: &[String]) -> Outcome<()> {
        for no in names.iter().filter_map(|name| number(name)) {
            let Some(log) = self.log(no) else { continue };
            let mut frames = Vec::new();
            let name = log_name(no);
            match self.scan(&log, (LOG_BEGIN, 0), false, &mut frames) {
                Ok(end) => drop(self.sealed_damage(&name, &end)),
                Err(cause) => self.say(Ill::SealedFrames, &name, None, 0, say(&cause)),
            }
            self.report.frames += frames.len() as u64;
            self.read_file(&name);
        }
        Ok(())
    }
}

//! Opening: the checkpoint, then the log from there on.
//!
//! What it costs follows from the logs that are not sealed, a few at most, and not from how much
//! is held.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

use nightgate_log::disk::{Disk, read_exact_at};
use nightgate_log::frame::{self, Found, ScanEnd, scan};
use nightgate_log::hash::HashKey;
use nightgate_log::head::{Head, HeadFault, Salt};
use nightgate_log::journal::{self, Journal, Tail};
use nightgate_log::run::{Entry, FilterBudget, FilterHome, Run};

use super::block;
use super::fault::{Outcome, disk, error};
use super::files::{
    self, Checkpoint, Manifest, RunLine, index_name, log_name, run_name, state_name,
};
use super::ids::Ids;
use super::op::Meta;
use super::reader::Reader;
use super::segment::{Block, Segment};
use super::shelves::Shelves;
use super::state::State;
use super::store::{Core, Inner, LOG_BEGIN, Options};
use crate::error::Kind;

/// Bytes of filters kept in memory: some 90 million ids. What is beyond is asked on disk.
pub(super) const FILTERS_MAX: usize = 112 * 1024 * 1024;
/// Where damaged stretches of the log are copied to.
const QUARANTINE: &str = "quarantine";

/// What the logs told.
struct Replayed {
    no: u32,
    file: Arc<dyn nightgate_log::disk::DiskFile>,
    salt: Salt,
    at: u64,
    next_lsn: u64,
    frames: u64,
    damaged: bool,
}

/// Opens the store on `on`, making it if there is none.
pub(super) fn open(on: Arc<dyn Disk>, options: Options) -> Outcome<Inner> {
    let manifest = match files::read_manifest(&*on)? {
        Some(manifest) => manifest,
        None => first_manifest(&*on)?,
    };
    let checkpoint = match manifest.state {
        Some(no) => files::read_state(&*on, no)?,
        None => Checkpoint::default(),
    };
    let known_lsn = checkpoint.lsn;
    let mut state = restore(checkpoint, &manifest);
    let replayed = replay(&*on, &manifest, &options, known_lsn, &mut state)?;
    if replayed.damaged {
        state.recount();
    }
    remove_strays(&*on, &manifest, replayed.no)?;
    let runs = open_runs(&*on, &manifest)?;
    let mut ids = Ids::new(HashKey(manifest.key), runs);
    note_ids(&*on, &state, &mut ids)?;

    let last = state.segments.last().map_or(0, |segment| segment.no);
    let open = state
        .segments
        .iter()
        .filter(|segment| !segment.is_sealed() && segment.no != last);
    let to_seal: Vec<u32> = open.map(|segment| segment.no).collect();
    let tail = Tail {
        no: replayed.no,
        file: replayed.file,
        salt: replayed.salt,
        at: replayed.at,
        next_lsn: replayed.next_lsn,
    };
    let journal_options = journal::Options {
        thread: "hold-journal".to_owned(),
        ..journal::Options::default()
    };
    let journal = Arc::new(Journal::start(journal_options, tail));
    let named = manifest.open_from;
    let core = Core {
        state,
        ids,
        manifest,
        log: replayed.no,
        log_at: replayed.at,
        log_frames: replayed.frames,
        lsn: replayed.next_lsn.saturating_sub(1),
        version: 0,
        seals: 0,
        to_seal,
        untidy: true,
        named,
        stopping: false,
        room: super::admit::Meter::default(),
    };
    Ok(Inner {
        reader: Reader::new(Arc::clone(&on), Arc::clone(&journal)),
        disk: on,
        journal,
        options,
        core: Mutex::new(core),
        wake: Condvar::new(),
        packers: Mutex::default(),
    })
}

fn first_manifest(on: &dyn Disk) -> Outcome<Manifest> {
    let mut key = [0; 16];
    fastrand::Rng::new().fill(&mut key);
    let manifest = Manifest {
        key,
        sealed: Vec::new(),
        runs: Vec::new(),
        state: None,
        open_from: 1,
        open_lsn: 1,
        next_no: 1,
    };
    files::write_manifest(on, &manifest)?;
    Ok(manifest)
}

/// The state as of the checkpoint, with the segments that the manifest names.
fn restore(checkpoint: Checkpoint, manifest: &Manifest) -> State {
    let mut state = State {
        shelves: Shelves::restore(checkpoint.shelves, checkpoint.last_shelf),
        loans: checkpoint.loans,
        pauses: checkpoint.pauses.into_iter().collect(),
        damaged: checkpoint.damaged,
        // Nought is no place: a token of a message that never was must not fit one that is.
        next_place: checkpoint.next_place.max(1),
        ..State::default()
    };
    let sealed: BTreeSet<u32> = manifest.sealed.iter().map(|sealed| sealed.no).collect();
    let mut dropped = Vec::new();
    for (no, base, end, ledger) in checkpoint.ledgers {
        let is_sealed = sealed.contains(&no);
        if !is_sealed && no < manifest.open_from {
            dropped.push(no);
            continue;
        }
        state.touched.insert(no);
        let mut segment = Segment::new(no, base, 0);
        (segment.end, segment.ledger) = (end, ledger);
        if is_sealed {
            segment.open_index = None;
        }
        state.segments.push(segment);
    }
    for no in dropped {
        state.drop_segment(no);
    }
    state
}

/// Replays the logs that are not sealed. Makes the first one of a new store.
fn replay(
    on: &dyn Disk,
    manifest: &Manifest,
    options: &Options,
    known_lsn: u64,
    state: &mut State,
) -> Outcome<Replayed> {
    let names: BTreeSet<String> = on
        .names()
        .map_err(disk("list the store's files"))?
        .into_iter()
        .collect();
    let (mut no, mut lsn) = (manifest.open_from, manifest.open_lsn);
    let mut last = None;
    let mut damaged = false;
    let open = |no| match names.contains(&log_name(no)) {
        true => open_log(on, no),
        false => Ok(None),
    };
    let mut opened = open(no)?;
    while let Some((file, salt)) = opened {
        opened = open(no + 1)?;
        match state.segment_mut(no) {
            Some(segment) => segment.first_lsn = lsn,
            None => state.segments.push(Segment::new(no, state.next_place, lsn)),
        }
        let mut frames = 0;
        let end = replay_one(&*file, salt, no, (lsn, known_lsn), state, &mut frames)?;
        let is_last = opened.is_none();
        damaged |= note_damage(on, &*file, no, &end, is_last)?;
        if is_last {
            frame::cut(&*file, &end).map_err(disk("cut a torn end off"))?;
            files::reserve_room(&*file, options.segment_bytes);
        }
        lsn = end.next_lsn;
        let (at, next_lsn) = (end.valid_to, end.next_lsn);
        last = Some(Replayed {
            no,
            file,
            salt,
            at,
            next_lsn,
            frames,
            damaged,
        });
        no += 1;
    }
    if let Some(mut last) = last {
        last.damaged = damaged;
        return Ok(last);
    }
    let begun = files::make_log(on, no, options.segment_bytes)?;
    state.segments.push(Segment::new(no, state.next_place, lsn));
    let (file, salt, at) = (begun.file, begun.salt, LOG_BEGIN);
    let (next_lsn, frames) = (lsn, 0);
    Ok(Replayed {
        no,
        file,
        salt,
        at,
        next_lsn,
        frames,
        damaged,
    })
}

type Opened = (Arc<dyn nightgate_log::disk::DiskFile>, Salt);

/// A log file; `None` when it was never begun properly, so that nothing can be in it.
fn open_log(on: &dyn Disk, no: u32) -> Outcome<Option<Opened>> {
    let name = log_name(no);
    let file = on.open(&name, false).map_err(disk("open a log file"))?;
    match Head::read(&*file, files::KIND_LOG, files::FORMAT_VERSION) {
        Ok(head) => Ok(Some((file, head.salt))),
        Err(HeadFault::Unfinished { .. }) => Ok(None),
        Err(fault) => {
            let kind = match fault {
                HeadFault::Version { .. } => Kind::Invalid,
                HeadFault::Io(_) => Kind::Unavailable,
                _ => Kind::Corrupt,
            };
            Err(error(kind, "open a log file").with(fault))
        }
    }
}

/// Replays one log: blocks of every frame, ops of those the checkpoint does not know.
fn replay_one(
    file: &dyn nightgate_log::disk::DiskFile,
    salt: Salt,
    no: u32,
    (first_lsn, known_lsn): (u64, u64),
    state: &mut State,
    frames: &mut u64,
) -> Outcome<ScanEnd> {
    let mut visit = |found: Found<'_>| {
        let meta = Meta::decode(found.meta).map_err(|_| {
            let text = format!("{} holds a frame that is no change", log_name(no));
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        *frames += 1;
        if found.lsn > known_lsn {
            state.apply(&meta, no, found.data_at);
        } else if let Some(segment) = state.segment_mut(no)
            && let Some(index) = &mut segment.open_index
        {
            for block in super::state::blocks_of(&meta, found.data_at) {
                index.push(block);
            }
        }
        Ok(())
    };
    let end = scan(file, &salt, LOG_BEGIN, first_lsn, true, &mut visit);
    end.map_err(disk("replay a log file"))
}

/// Names and copies what is damaged. A torn end is no damage where nothing follows it.
fn note_damage(
    on: &dyn Disk,
    file: &dyn nightgate_log::disk::DiskFile,
    no: u32,
    end: &ScanEnd,
    is_last: bool,
) -> Outcome<bool> {
    let mut ranges: Vec<_> = end
        .damage
        .iter()
        .map(|damage| damage.range.clone())
        .collect();
    for damage in &end.damage {
        let frames = damage.lsns.end - damage.lsns.start;
        tracing::error!(
            log = log_name(no),
            from = damage.range.start,
            to = damage.range.end,
            frames,
            "the log is damaged: the rest goes on; see `nightgate hold verify`"
        );
    }
    if let Some(torn) = &end.torn {
        if is_last {
            let bytes = torn.end - torn.start;
            tracing::warn!(
                log = log_name(no),
                bytes,
                "cut a torn end off: it was never answered"
            );
        } else {
            tracing::error!(
                log = log_name(no),
                from = torn.start,
                "the end of a log is damaged"
            );
            ranges.push(torn.clone());
        }
    }
    for range in &ranges {
        let name = format!("{QUARANTINE}-{}-{}", log_name(no), range.start);
        let copy = || -> io::Result<()> {
            let length = usize::try_from(range.end - range.start).unwrap_or_default();
            let mut bytes = vec![0; length.min(files::QUARANTINE_MAX)];
            read_exact_at(file, &mut bytes, range.start)?;
            let copy = on.open(&name, true)?;
            nightgate_log::disk::write_all_at(&*copy, &bytes, 0)?;
            copy.sync()
        };
        // A copy for people: without it the store works as well.
        if let Err(cause) = copy() {
            tracing::warn!(%cause, name, "could not copy damaged bytes aside");
        }
    }
    Ok(!ranges.is_empty())
}

/// Removes what a crash left of files that were never named.
fn remove_strays(on: &dyn Disk, manifest: &Manifest, last_log: u32) -> Outcome<()> {
    let mut wanted: BTreeSet<String> = [files::MANIFEST.to_owned()].into();
    for sealed in &manifest.sealed {
        wanted.extend([log_name(sealed.no), index_name(sealed.no)]);
    }
    wanted.extend((manifest.open_from..=last_log).map(log_name));
    wanted.extend(manifest.runs.iter().map(|run| run_name(run.no)));
    wanted.extend(manifest.state.map(state_name));
    let ours = ["log-", "idx-", "ids-", "state-", files::MANIFEST];
    for name in on.names().map_err(disk("list the store's files"))? {
        let is_ours = ours.iter().any(|prefix| name.starts_with(prefix));
        if is_ours && !wanted.contains(&name) {
            on.remove(&name).map_err(disk("remove what a crash left"))?;
        }
    }
    Ok(())
}

/// Opens the runs, the newest with their filters in memory. A damaged one is made anew.
fn open_runs(on: &dyn Disk, manifest: &Manifest) -> Outcome<Vec<Arc<Run>>> {
    let mut runs = Vec::with_capacity(manifest.runs.len());
    for line in &manifest.runs {
        let name = run_name(line.no);
        let run = match Run::open(on, &name, FilterHome::OnDisk) {
            Ok(run) => run,
            Err(cause) => {
                tracing::error!(name, %cause, "a run of ids is damaged: made anew from the log");
                remake_run(on, manifest, line)?;
                Run::open(on, &name, FilterHome::OnDisk).map_err(disk("open a run of ids"))?
            }
        };
        runs.push(run);
    }
    let newest_first: Vec<u64> = runs.iter().rev().map(Run::filter_bytes).collect();
    let homes = FilterBudget {
        bytes: FILTERS_MAX as u64,
    }
    .homes(&newest_first);
    for (run, home) in runs.iter_mut().rev().zip(homes) {
        run.set_filter_home(home).map_err(disk("load a filter"))?;
    }
    Ok(runs.into_iter().map(Arc::new).collect())
}

/// Writes a run anew from the heads of its segments' blocks.
pub(super) fn remake_run(on: &dyn Disk, manifest: &Manifest, line: &RunLine) -> Outcome<()> {
    let key = HashKey(manifest.key);
    let mut entries = Vec::new();
    let mut base = u64::MAX;
    let covered = line.first_segment..=line.last_segment;
    for sealed in manifest
        .sealed
        .iter()
        .filter(|sealed| covered.contains(&sealed.no))
    {
        base = base.min(sealed.base);
        let index = files::read_index(on, sealed.no)?;
        for block in index.blocks() {
            for (hash, place) in hashes(on, sealed.no, block, &key)? {
                entries.push(Entry { hash, place });
            }
        }
    }
    entries.sort_unstable();
    let count = entries.len() as u64;
    let base = if base == u64::MAX { 0 } else { base };
    let written = Run::write(on, &run_name(line.no), base, entries.into_iter(), count);
    written.map_err(disk("write a run of ids"))?;
    Ok(())
}

/// Notes the ids of segments that are not sealed.
fn note_ids(on: &dyn Disk, state: &State, ids: &mut Ids) -> Outcome<()> {
    let key = *ids.key();
    for segment in &state.segments {
        let Some(index) = &segment.open_index else {
            continue;
        };
        for block in index.blocks() {
            let hashes = hashes(on, segment.no, block, &key)?;
            let entries = hashes.iter().map(|&(hash, place)| (place, hash));
            ids.insert_all(segment.no, hashes.len(), entries);
        }
    }
    Ok(())
}

/// The hashes of a block's ids, with their places; none if its head is damaged.
fn hashes(on: &dyn Disk, no: u32, block: &Block, key: &HashKey) -> Outcome<Vec<(u64, u64)>> {
    let read = || -> io::Result<Vec<u8>> {
        let file = on.open(&log_name(no), false)?;
        let mut bytes = vec![0; block.line.head_len as usize];
        read_exact_at(&*file, &mut bytes, block.at)?;
        Ok(bytes)
    };
    let bytes = read().map_err(disk("read a block's head"))?;
    let whole = crc32c::crc32c(&bytes) == block.line.head_crc;
    let head = whole
        .then(|| block::open_head(&bytes, block.line.count).ok())
        .flatten();
    let Some(head) = head else {
        tracing::error!(
            log = log_name(no),
            at = block.at,
            "a block's head is damaged"
        );
        return Ok(Vec::new());
    };
    let slots = 0..head.len();
    Ok(slots
        .map(|slot| {
            (
                key.hash(head.id(slot).as_bytes()),
                block.first + slot as u64,
            )
        })
        .collect())
}

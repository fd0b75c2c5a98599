//! Opening: the checkpoint, then the log from there on.
//!
//! What it costs follows from the logs that are not sealed, a few at most, and not from how much
//! is held.

mod replay;
mod runs;

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};

use nightgate_log::disk::Disk;
use nightgate_log::hash::HashKey;
use nightgate_log::journal::{self, Journal, Tail};

use self::replay::replay;
pub(super) use self::runs::remake_run;
use self::runs::{note_ids, open_runs};
use super::fault::{Outcome, disk};
use super::files::{self, Checkpoint, Manifest, index_name, log_name, run_name};
use super::ids::Ids;
use super::mend::mend;
use super::reader::Reader;
use super::segment::Segment;
use super::shelves::Shelves;
use super::state::State;
use super::store::{Core, Inner, Options};

/// Bytes of filters kept in memory: some 90 million ids. What is beyond is asked on disk.
pub(super) const FILTERS_MAX: usize = 112 * 1024 * 1024;

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
        mend(&*on, &mut state)?;
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
    let inner = Inner {
        reader: Reader::new(Arc::clone(&on), Arc::clone(&journal)),
        disk: on,
        journal,
        options,
        core: Mutex::new(core),
        wake: Condvar::new(),
        packers: Mutex::default(),
        upkeep: Mutex::default(),
    };
    if replayed.damaged {
        // Nothing is appended to a damaged log, so that it is sealed as it is told now.
        inner.roll(&mut inner.core())?;
    }
    Ok(inner)
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
pub(super) fn restore(checkpoint: Checkpoint, manifest: &Manifest) -> State {
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

/// Removes what a crash left of files that were never named.
fn remove_strays(on: &dyn Disk, manifest: &Manifest, last_log: u32) -> Outcome<()> {
    let mut wanted: BTreeSet<String> = files::manifest_names().into();
    for sealed in &manifest.sealed {
        wanted.extend([log_name(sealed.no), index_name(sealed.no)]);
    }
    wanted.extend((manifest.open_from..=last_log).map(log_name));
    wanted.extend(manifest.runs.iter().map(|run| run_name(run.no)));
    wanted.extend(manifest.state.into_iter().flat_map(files::state_names));
    let ours = ["log-", "idx-", "ids-", "state-", files::MANIFEST];
    for name in on.names().map_err(disk("list the store's files"))? {
        let is_ours = ours.iter().any(|prefix| name.starts_with(prefix));
        if is_ours && !wanted.contains(&name) {
            on.remove(&name).map_err(disk("remove what a crash left"))?;
        }
    }
    Ok(())
}

//! The runs of ids: opened, and made anew from the log where they are damaged.

use std::io;
use std::sync::Arc;

use nightgate_log::disk::{Disk, DiskFile, read_exact_at};
use nightgate_log::hash::HashKey;
use nightgate_log::run::{Entry, FilterBudget, FilterHome, Run};

use super::super::fault::{Outcome, disk};
use super::super::files::{self, Manifest, RunLine, log_name, run_name};
use super::super::ids::Ids;
use super::super::segment::Block;
use super::super::state::State;
use super::FILTERS_MAX;
use crate::hold::block;

/// Opens the runs, the newest with their filters in memory. A damaged one is made anew.
pub(super) fn open_runs(on: &dyn Disk, manifest: &Manifest) -> Outcome<Vec<Arc<Run>>> {
    let mut runs = Vec::with_capacity(manifest.runs.len());
    for line in &manifest.runs {
        runs.push(open_run(on, manifest, line, FilterHome::OnDisk)?);
    }
    let newest_first: Vec<u64> = runs.iter().rev().map(Run::filter_bytes).collect();
    let budget = FilterBudget {
        bytes: FILTERS_MAX as u64,
    };
    let homes = budget.homes(&newest_first);
    for ((run, line), home) in runs
        .iter_mut()
        .rev()
        .zip(manifest.runs.iter().rev())
        .zip(homes)
    {
        if run.set_filter_home(home).is_err() {
            *run = open_run(on, manifest, line, home)?;
        }
    }
    Ok(runs.into_iter().map(Arc::new).collect())
}

fn open_run(on: &dyn Disk, manifest: &Manifest, line: &RunLine, home: FilterHome) -> Outcome<Run> {
    let name = run_name(line.no);
    match Run::open(on, &name, home) {
        Ok(run) => Ok(run),
        Err(cause) if cause.kind() == io::ErrorKind::Unsupported => {
            Err(disk("open a run of ids")(cause))
        }
        Err(cause) => {
            tracing::error!(name, %cause, "a run of ids is damaged: made anew from the log");
            remake_run(on, manifest, line, &name)?;
            Run::open(on, &name, home).map_err(disk("open a run of ids"))
        }
    }
}

/// Writes a run anew, under `name`, from the heads of its segments' blocks.
pub(in crate::hold::shelf) fn remake_run(
    on: &dyn Disk,
    manifest: &Manifest,
    line: &RunLine,
    name: &str,
) -> Outcome<u64> {
    let key = HashKey(manifest.key);
    let mut entries = Vec::new();
    let mut base = u64::MAX;
    let covered = line.first_segment..=line.last_segment;
    let sealed = manifest.sealed.iter();
    for sealed in sealed.filter(|sealed| covered.contains(&sealed.no)) {
        base = base.min(sealed.base);
        let index = files::read_index(on, sealed.no)?.index;
        let (index, _) = index.covering(sealed.base, sealed.end);
        entries.extend(hashes(on, sealed.no, index.blocks(), &key)?);
    }
    entries.sort_unstable();
    let count = entries.len() as u64;
    let base = if base == u64::MAX { 0 } else { base };
    let written = Run::write(on, name, base, entries.into_iter(), count);
    written.map_err(disk("write a run of ids"))?;
    on.sync_names().map_err(disk("write a run of ids"))?;
    Ok(count)
}

/// Notes the ids of segments that are not sealed.
pub(super) fn note_ids(on: &dyn Disk, state: &State, ids: &mut Ids) -> Outcome<()> {
    let key = *ids.key();
    for segment in &state.segments {
        let Some(index) = &segment.open_index else {
            continue;
        };
        let hashes = hashes(on, segment.no, index.blocks(), &key)?;
        let entries = hashes.iter().map(|entry| (entry.place, entry.hash));
        ids.insert_all(segment.no, hashes.len(), entries);
    }
    Ok(())
}

/// The hashes of the ids in a log's blocks, with their places; none of a block whose head is
/// damaged.
fn hashes(on: &dyn Disk, no: u32, blocks: &[Block], key: &HashKey) -> Outcome<Vec<Entry>> {
    let mut entries = Vec::new();
    let file = match on.open(&log_name(no), false) {
        Ok(file) => file,
        Err(_) if blocks.is_empty() => return Ok(entries),
        Err(cause) => return Err(disk("open a log file")(cause)),
    };
    for block in blocks {
        match head_of(&*file, block) {
            Ok(head) => {
                let places = block.first..;
                let slots = places.zip(0..head.len());
                entries.extend(slots.map(|(place, slot)| Entry {
                    hash: key.hash(head.id(slot).as_bytes()),
                    place,
                }));
            }
            Err(cause) => {
                let log = log_name(no);
                tracing::error!(log, at = block.at, %cause, "the ids of a block are unknown");
            }
        }
    }
    Ok(entries)
}

/// The head of a block, read past every cache.
pub(in crate::hold::shelf) fn head_of(
    file: &dyn DiskFile,
    block: &Block,
) -> io::Result<block::Head> {
    let mut bytes = vec![0; block.line.head_len as usize];
    read_exact_at(file, &mut bytes, block.at)?;
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if crc32c::crc32c(&bytes) != block.line.head_crc {
        return Err(bad("its head has a wrong checksum".to_owned()));
    }
    block::open_head(&bytes, block.line.count).map_err(|damaged| bad(damaged.to_string()))
}

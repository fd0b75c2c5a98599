//! The blocks: whatever is held must read back.

use std::collections::{BTreeMap, HashMap};
use std::io;

use bytes::Bytes;
use nightgate_log::disk::{DiskFile, read_exact_at};

use super::logs::Told;
use super::{Check, bad, say};
use crate::hold::block::{open_body_of, open_head};
use crate::hold::care::Ill;
use crate::hold::shelf::files::{self, MANIFEST, Manifest, log_name};
use crate::hold::shelf::segment::{Block, Segment};
use crate::hold::shelf::state::State;

impl Check<'_> {
    /// Every block of every log, and whether the counts fit.
    pub(super) fn blocks(&mut self, manifest: &Manifest, state: &State, all: &BTreeMap<u32, Told>) {
        let mut by_shelf: HashMap<u32, u64> = HashMap::new();
        for segment in &state.segments {
            let none = Told {
                file: None,
                blocks: Vec::new(),
            };
            let told = all.get(&segment.no).unwrap_or(&none);
            self.covered(state, segment, told);
            for block in &told.blocks {
                let held = held_in(state, segment, block);
                *by_shelf.entry(block.line.shelf).or_default() += held;
                self.block(told.file.as_deref(), segment.no, block, held);
            }
        }
        let fits = state.shelves.all().iter().all(|(no, shelf)| {
            let counted = by_shelf.get(no).copied().unwrap_or_default();
            counted == shelf.held + shelf.leased
        });
        // After other faults the counts cannot fit, and opening makes them anew.
        if !fits && self.report.is_sound() {
            let name = manifest
                .state
                .map_or(MANIFEST.to_owned(), files::state_name);
            let wrong = state.shelves.all().iter().find_map(|(no, shelf)| {
                let counted = by_shelf.get(no).copied().unwrap_or_default();
                let (known, leased) = (shelf.held, shelf.leased);
                (counted != known + leased)
                    .then(|| format!("shelf {no}: {known} held, {leased} leased, {counted} there"))
            });
            self.say(Ill::Counts, &name, None, 0, wrong);
        }
    }

    /// Says which places of a segment have no block, and are held all the same.
    fn covered(&mut self, state: &State, segment: &Segment, told: &Told) {
        let mut next = segment.base;
        let ends = told.blocks.iter().map(|block| (block.first, block.end()));
        let mut missing = 0;
        for (first, end) in ends.chain([(segment.end, segment.end)]) {
            if next < first {
                let open = segment.ledger.marks.open(next, first).into_iter();
                missing += open.map(|(from, to)| to - from).sum::<u64>();
            }
            next = next.max(end);
        }
        if missing > 0 && state.segment(segment.no).is_some() {
            self.note(Ill::Unknown, &log_name(segment.no), None, missing);
        }
    }

    /// Reads one block. Its head must be whole for as long as its ids are known, its bodies while
    /// one of its messages is held.
    fn block(&mut self, file: Option<&dyn DiskFile>, no: u32, block: &Block, held: u64) {
        let name = log_name(no);
        self.report.blocks += 1;
        let line = &block.line;
        if block.is_unknown() {
            if held > 0 {
                self.note(Ill::Unknown, &name, None, held);
            }
            return;
        }
        let head_end = block.at + u64::from(line.head_len);
        let body_end = block.body_at + u64::from(line.body_len);
        self.read(u64::from(line.head_len) + u64::from(line.body_len));
        let Some(file) = file else {
            if held > 0 {
                self.note(Ill::BlockBody, &name, Some((block.at, body_end)), held);
            }
            return;
        };
        let head = section(file, block.at, line.head_len, line.head_crc);
        let head = head.and_then(|bytes| {
            open_head(&bytes, line.count).map_err(|damaged| bad(&damaged.to_string()))
        });
        if let Err(cause) = &head {
            let bytes = Some((block.at, head_end));
            self.say(Ill::BlockHead, &name, bytes, held, say(cause));
        }
        if held == 0 {
            return;
        }
        let body = section(file, block.body_at, line.body_len, line.body_crc);
        let body = body.and_then(|bytes| {
            let opened = open_body_of(&Bytes::from(bytes), line.count);
            opened.map_err(|damaged| bad(&damaged.to_string()))
        });
        if let Err(cause) = &body {
            let touched = if head.is_ok() { held } else { 0 };
            let bytes = Some((block.body_at, body_end));
            self.say(Ill::BlockBody, &name, bytes, touched, say(cause));
        }
    }
}

/// How many messages of a block have not ended.
fn held_in(state: &State, segment: &Segment, block: &Block) -> u64 {
    let shelf = state.shelves.get(block.line.shelf);
    let upto = shelf
        .and_then(|shelf| shelf.gone.last())
        .map_or(0, |gone| gone.upto);
    let mut held = 0;
    for (from, to) in segment.ledger.marks.open(block.first, block.end()) {
        let gone = upto.clamp(from, to);
        held += to - gone;
        if gone > from {
            // What was on loan when all else was taken back has not ended.
            let loans = state
                .loans
                .iter()
                .flat_map(|(_, loan)| loan.within(from, gone));
            held += loans.map(|stretch| stretch.count()).sum::<u64>();
        }
    }
    held
}

/// A section of a block, as it was written.
fn section(file: &dyn DiskFile, at: u64, len: u32, crc: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    read_exact_at(file, &mut bytes, at)?;
    match crc32c::crc32c(&bytes) == crc {
        true => Ok(bytes),
        false => Err(bad("a wrong checksum")),
    }
}

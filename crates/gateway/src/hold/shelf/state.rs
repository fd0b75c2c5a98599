//! Everything the store knows but the messages themselves, and how each change alters it.
//!
//! Live changes and replayed ones go through the same [`State::apply`], so what is true after a
//! crash is what was true before it.

use std::collections::{BTreeMap, BTreeSet};

use super::loans::Loans;
use super::marks::{Fate, Mark};
use super::op::{Meta, Op, Stretch};
use super::segment::{Block, Segment};
use super::shelves::{Gone, Shelf, Shelves};
use super::spans::Spans;
use crate::hold::{Lane, State as Known};

/// The blocks of a frame whose data begins at `data_at`.
pub(super) fn blocks_of(meta: &Meta, data_at: u64) -> Vec<Block> {
    let heads: u64 = meta
        .blocks
        .iter()
        .map(|line| u64::from(line.head_len))
        .sum();
    let (mut first, mut at, mut body_at) = (meta.base, data_at, data_at + heads);
    let mut blocks = Vec::with_capacity(meta.blocks.len());
    for &line in &meta.blocks {
        let base = meta.base;
        blocks.push(Block {
            line,
            first,
            base,
            at,
            body_at,
        });
        first += u64::from(line.count);
        at += u64::from(line.head_len);
        body_at += u64::from(line.body_len);
    }
    blocks
}

/// Where a place stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// `None`: says nothing about its id.
    pub(super) known: Option<Known>,
    /// When it ended, in nanoseconds since 1970.
    pub(super) ended: Option<i64>,
    /// How often its shelf had been re-dated when it ended.
    pub(super) epoch: Option<u16>,
    pub(super) damaged: bool,
    /// It is held and came back from a loan that lapsed.
    pub(super) returned: bool,
}

/// The state.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) shelves: Shelves,
    pub(super) loans: Loans,
    /// By number; their places ascend.
    pub(super) segments: Vec<Segment>,
    pub(super) pauses: BTreeMap<Option<Lane>, i64>,
    /// What could not be read back, and since when.
    pub(super) damaged: Vec<(Stretch, i64)>,
    pub(super) next_place: u64,
    /// Segments in which something ended since they were last tidied.
    pub(super) touched: BTreeSet<u32>,
}

impl State {
    pub(super) fn segment_of(&self, place: u64) -> Option<&Segment> {
        let behind = self
            .segments
            .partition_point(|segment| segment.base <= place);
        let segment = self.segments.get(behind.checked_sub(1)?)?;
        (place < segment.end).then_some(segment)
    }

    pub(super) fn segment(&self, no: u32) -> Option<&Segment> {
        let at = self
            .segments
            .binary_search_by_key(&no, |segment| segment.no);
        at.ok().map(|at| &self.segments[at])
    }

    pub(super) fn segment_mut(&mut self, no: u32) -> Option<&mut Segment> {
        let at = self
            .segments
            .binary_search_by_key(&no, |segment| segment.no);
        at.ok().map(|at| &mut self.segments[at])
    }

    /// Where `place`, which is on `shelf`, stands.
    pub(super) fn standing(&self, place: u64, shelf: &Shelf) -> Standing {
        let ended = |fate: Fate, at, epoch| Standing {
            known: fate.state(),
            ended: Some(at),
            epoch: Some(epoch),
            damaged: fate == Fate::Damaged,
            returned: false,
        };
        let marked = self
            .segment_of(place)
            .and_then(|segment| segment.ledger.marks.get(place));
        if let Some(mark) = marked {
            return ended(mark.fate, mark.at, mark.epoch);
        }
        let open = |known| Standing {
            known: Some(known),
            ended: None,
            epoch: None,
            damaged: false,
            returned: known == Known::Held && shelf.returned.contains(place),
        };
        if shelf.leased > 0 && self.loans.of(place).is_some() {
            return open(Known::Leased);
        }
        match shelf.gone(place) {
            Some(gone) if gone.forgotten => ended(Fate::Forgotten, gone.at, gone.epoch),
            Some(gone) => ended(Fate::Recalled, gone.at, gone.epoch),
            None if shelf.label.buried => open(Known::Buried),
            None => open(Known::Held),
        }
    }

    /// Makes a change that is in the log, in segment `no` with its blocks from `data_at` on. Says
    /// how many ended messages were forgotten.
    pub(super) fn apply(&mut self, meta: &Meta, no: u32, data_at: u64) -> u64 {
        for new in &meta.shelves {
            self.shelves.make(new.no, new.label.clone());
        }
        self.place(meta, no, data_at);
        meta.ops.iter().map(|op| self.change(op)).sum()
    }

    /// Counts the blocks of a frame in.
    fn place(&mut self, meta: &Meta, no: u32, data_at: u64) {
        let mut first = meta.base;
        for block in blocks_of(meta, data_at) {
            let line = block.line;
            first = block.end();
            if let Some(segment) = self.segment_mut(no) {
                segment.end = first;
                segment.ledger.open += u64::from(line.count);
                segment.ledger.bytes += block.bytes();
                if let Some(index) = &mut segment.open_index {
                    index.push(block);
                }
            }
            self.shelves
                .change(line.shelf, |shelf| shelf.add(no, block.first, block.end()));
        }
        self.next_place = self.next_place.max(first);
    }

    fn change(&mut self, op: &Op) -> u64 {
        match op {
            Op::Lend {
                lease,
                until,
                stretches,
            } => self.lend(*lease, *until, stretches),
            Op::Lapse { lease, at } => self.lapse(*lease, *at),
            Op::Settle {
                lease,
                fate,
                at,
                stretches,
            } => {
                for &stretch in stretches {
                    self.loans.take(*lease, stretch);
                    self.end(stretch, *fate, *at, true);
                }
            }
            Op::End {
                fate,
                at,
                stretches,
            } => {
                for &stretch in stretches {
                    self.end(stretch, *fate, *at, false);
                }
            }
            Op::Clear { shelves, at } => {
                for &shelf in shelves {
                    self.clear(shelf, *at);
                }
            }
            Op::WantBack { lease, stretches } => {
                for &stretch in stretches {
                    self.loans.want_back(*lease, stretch);
                }
            }
            Op::Forget { stretches } => {
                for &stretch in stretches {
                    self.forget(stretch);
                }
            }
            Op::Redate { shelves, to } => {
                for &shelf in shelves {
                    self.shelves.redate(shelf, *to);
                }
            }
            Op::Pause { lane, since } => match since {
                Some(since) => drop(self.pauses.entry(lane.clone()).or_insert(*since)),
                None => drop(self.pauses.remove(lane)),
            },
            Op::Sweep { before } => return self.sweep(*before),
        }
        0
    }

    fn lend(&mut self, lease: u64, until: i64, stretches: &[Stretch]) {
        let lane = stretches
            .first()
            .and_then(|one| self.shelves.get(one.shelf));
        let Some(lane) = lane.map(|shelf| shelf.label.lane.clone()) else {
            return;
        };
        let mut lapsed = Spans::default();
        for &Stretch { shelf, from, to } in stretches {
            let next = self.shelves.get(shelf).map_or(0, |shelf| shelf.next);
            lapsed.insert(from, to.min(next));
        }
        self.loans.lend(lease, lane, until, stretches, lapsed);
        for &Stretch { shelf, from, to } in stretches {
            self.shelves.change(shelf, |shelf| {
                shelf.held = shelf.held.saturating_sub(to - from);
                shelf.leased += to - from;
                // What came back and what was never lent may follow one another in one stretch.
                shelf.returned.remove(from, to);
                shelf.next = shelf.next.max(to);
            });
        }
    }

    fn lapse(&mut self, lease: u64, at: i64) {
        let Some(loan) = self.loans.end(lease) else {
            return;
        };
        for out in loan.out() {
            let wanted: Vec<_> = loan.wanted.within(out.from, out.to).collect();
            for (from, to) in wanted {
                self.end(Stretch { from, to, ..out }, Fate::Recalled, at, true);
            }
            for (from, to) in loan.wanted.gaps(out.from, out.to) {
                self.shelves.change(out.shelf, |shelf| {
                    shelf.leased = shelf.leased.saturating_sub(to - from);
                    shelf.held += to - from;
                    shelf.returned.insert(from, to);
                });
            }
        }
    }

    /// The first part of a stretch that lies within one segment. A loan may reach over several.
    pub(super) fn first_part(&self, stretch: Stretch) -> Option<(u32, Stretch)> {
        let behind = self
            .segments
            .partition_point(|segment| segment.end <= stretch.from);
        let segment = self.segments.get(behind)?;
        let from = stretch.from.max(segment.base);
        let to = stretch.to.min(segment.end);
        (from < to).then_some((
            segment.no,
            Stretch {
                from,
                to,
                ..stretch
            },
        ))
    }

    /// Ends a stretch that was on loan, or was held.
    fn end(&mut self, stretch: Stretch, fate: Fate, at: i64, on_loan: bool) {
        let mut rest = stretch;
        while let Some((segment, part)) = self.first_part(rest) {
            self.end_in(segment, part, Mark { fate, at, epoch: 0 }, on_loan);
            rest.from = part.to;
        }
    }

    fn end_in(&mut self, segment: u32, stretch: Stretch, mark: Mark, on_loan: bool) {
        let Stretch { shelf, from, to } = stretch;
        let epoch = self.shelves.change(shelf, |shelf| {
            if on_loan {
                shelf.leased = shelf.leased.saturating_sub(to - from);
            } else {
                shelf.held = shelf.held.saturating_sub(to - from);
                shelf.returned.remove(from, to);
            }
            if mark.fate == Fate::Damaged {
                shelf.damaged += to - from;
            }
            if let Some(part) = shelf.part_mut(segment) {
                part.open = part.open.saturating_sub(to - from);
            }
            shelf.epoch()
        });
        if mark.fate == Fate::Damaged {
            self.damaged.push((stretch, mark.at));
        }
        let epoch = epoch.unwrap_or_default();
        if let Some(segment) = self.segment_mut(segment) {
            segment.end_stretch(from, to, Mark { epoch, ..mark });
        }
        self.touched.insert(segment);
    }

    /// Ends everything held on a shelf. What is on loan stays so.
    fn clear(&mut self, no: u32, at: i64) {
        let upto = self.next_place;
        let mut leased: BTreeMap<u32, u64> = BTreeMap::new();
        let out = self.loans.iter().flat_map(|(_, loan)| loan.out());
        for mut rest in out.filter(|stretch| stretch.shelf == no) {
            while let Some((segment, part)) = self.first_part(rest) {
                *leased.entry(segment).or_default() += part.count();
                rest.from = part.to;
            }
        }
        let per_segment = self.shelves.change(no, |shelf| {
            let mut per_segment = Vec::new();
            for part in &mut shelf.parts {
                let out = leased.get(&part.segment).copied().unwrap_or_default();
                let count = part.open.saturating_sub(out);
                part.open = out;
                if count > 0 {
                    per_segment.push((part.segment, count));
                }
            }
            shelf.held = 0;
            shelf.returned.clear();
            shelf.next = shelf.next.max(upto);
            if !per_segment.is_empty() {
                let (epoch, forgotten) = (shelf.epoch(), false);
                shelf.gone.push(Gone {
                    upto,
                    at,
                    epoch,
                    forgotten,
                    per_segment: per_segment.clone(),
                });
            }
            per_segment
        });
        for (segment, count) in per_segment.unwrap_or_default() {
            if let Some(segment) = self.segment_mut(segment) {
                segment.ledger.open = segment.ledger.open.saturating_sub(count);
                segment.ledger.kept += count;
            }
            self.touched.insert(segment);
        }
    }

    /// Makes single ended places say nothing about their ids any more.
    fn forget(&mut self, stretch: Stretch) {
        let mut rest = stretch;
        while let Some((segment, part)) = self.first_part(rest) {
            self.forget_in(segment, part);
            rest.from = part.to;
        }
    }

    fn forget_in(&mut self, no: u32, stretch: Stretch) {
        let Stretch { shelf, from, to } = stretch;
        let Some(shelf) = self.shelves.get(shelf) else {
            return;
        };
        let remembered = (from..to).filter(|&place| self.standing(place, shelf).known.is_some());
        let remembered = remembered.count() as u64;
        let unmarked = self.segment(no).map_or(0, |segment| {
            let open = segment.ledger.marks.open(from, to);
            open.iter().map(|(a, b)| b - a).sum()
        });
        self.shelves.change(stretch.shelf, |shelf| {
            let at = shelf.gone.partition_point(|gone| gone.upto <= from);
            let gone = shelf.gone.get_mut(at);
            let lines = gone.into_iter().flat_map(|gone| &mut gone.per_segment);
            for (_, count) in lines.filter(|(segment, _)| *segment == no) {
                *count = count.saturating_sub(unmarked);
            }
        });
        if let Some(segment) = self.segment_mut(no) {
            let (fate, at, epoch) = (Fate::Elsewhere, 0, 0);
            segment.ledger.marks.set(from, to, Mark { fate, at, epoch });
            segment.ledger.kept = segment.ledger.kept.saturating_sub(remembered);
        }
    }

    fn sweep(&mut self, before: i64) -> u64 {
        let mut forgotten = 0;
        for segment in &mut self.segments {
            let count = segment.ledger.marks.sweep(before);
            segment.ledger.kept = segment.ledger.kept.saturating_sub(count);
            forgotten += count;
        }
        for (segment, count) in self.shelves.sweep(before) {
            forgotten += count;
            if let Some(segment) = self.segment_mut(segment) {
                segment.ledger.kept = segment.ledger.kept.saturating_sub(count);
            }
        }
        let old: Vec<Stretch> = self
            .damaged
            .iter()
            .filter(|(_, at)| *at < before)
            .map(|(stretch, _)| *stretch)
            .collect();
        self.damaged.retain(|(_, at)| *at >= before);
        for stretch in old {
            self.shelves.change(stretch.shelf, |shelf| {
                shelf.damaged = shelf.damaged.saturating_sub(stretch.count());
            });
        }
        forgotten
    }

    /// Bytes of blocks that were not given back.
    pub(super) fn bytes(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| segment.ledger.bytes)
            .sum()
    }

    /// Lets go of a segment in which nothing matters any more.
    pub(super) fn drop_segment(&mut self, no: u32) {
        self.segments.retain(|segment| segment.no != no);
        self.shelves.drop_segment(no);
    }
}

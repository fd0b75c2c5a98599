//! Making sense of what damage left: which messages are lost, and where the others stand.
//!
//! When changes are missing from the log, those behind them were applied to a state that nobody
//! ever saw: counts are wrong, loans overlap, places stand nowhere. What can be trusted is which
//! blocks there are and which places have an end. All else is told anew from these, and always in
//! favour of not sending twice: what may have been lent comes back as lapsed.

use std::collections::BTreeMap;

use nightgate_core::{Class, Priority, Purpose};
use nightgate_log::disk::Disk;

use super::fault::Outcome;
use super::files;
use super::marks::{Fate, Mark};
use super::op::{Label, Stretch};
use super::segment::Block;
use super::shelves::Part;
use super::spans::Spans;
use super::state::State;
use crate::hold::Lane;

/// The shelf of messages of which nothing is known any more. Real ones count from one.
pub(super) const LOST: u32 = 0;
/// The lane under which people find them. No sink has it, so nothing there ever leaves.
const LOST_NAME: &str = "lost";

/// What is told anew about one shelf.
#[derive(Default)]
struct Retold {
    parts: Vec<Part>,
    returned: Spans,
    held: u64,
    leased: u64,
    /// By moment of a recall: how many places of each segment.
    gone: BTreeMap<usize, BTreeMap<u32, u64>>,
}

impl Retold {
    fn part(&mut self, segment: u32, block: &Block) -> &mut Part {
        let is_new = self.parts.last().is_none_or(|part| part.segment != segment);
        if is_new {
            let (first, end, open) = (block.first, block.end(), 0);
            self.parts.push(Part {
                segment,
                first,
                end,
                open,
            });
        }
        let last = self.parts.len() - 1;
        let part = &mut self.parts[last];
        part.end = block.end();
        part
    }
}

fn lost_label() -> Label {
    Label {
        lane: Lane::new(LOST_NAME),
        purpose: Purpose::Advertising,
        class: Class::from_name(LOST_NAME),
        campaign: None,
        priority: Priority::default(),
        due: 0,
        buried: true,
    }
}

/// Tells the state anew from blocks and ends. Says how many messages are lost for good.
pub(super) fn mend(on: &dyn Disk, state: &mut State) -> Outcome<u64> {
    let blocks = blocks(on, state)?;
    let lost = lost_places(state, &blocks);
    let on_loan = trim_loans(state, &lost);
    let count = bury(state, &lost);
    let mut retold: BTreeMap<u32, Retold> = BTreeMap::new();
    for &no in state.shelves.all().keys() {
        retold.insert(no, Retold::default());
    }
    for (segment, blocks) in &blocks {
        for block in blocks {
            if let Some(retold) = retold.get_mut(&block.line.shelf) {
                tell(state, *segment, block, &on_loan, retold);
            }
        }
    }
    let all: Vec<u32> = state.segments.iter().map(|segment| segment.no).collect();
    for (no, retold) in retold {
        adopt(state, no, retold);
    }
    for no in all {
        count_segment(state, no);
    }
    if count > 0 {
        tracing::error!(
            messages = count,
            "messages are lost: they count as buried on the lane `{LOST_NAME}`"
        );
    }
    Ok(count)
}

/// The blocks of every segment; where some are missing, a stand-in that cannot be read.
fn blocks(on: &dyn Disk, state: &mut State) -> Outcome<Vec<(u32, Vec<Block>)>> {
    let mut all = Vec::with_capacity(state.segments.len());
    for segment in &mut state.segments {
        let (base, end) = (segment.base, segment.end);
        match segment.open_index.take() {
            Some(index) => {
                let (index, _) = index.covering(base, end);
                all.push((segment.no, index.blocks().to_vec()));
                segment.ledger.bytes = index.blocks().iter().map(Block::bytes).sum();
                segment.open_index = Some(index);
            }
            None => {
                let (index, _) = files::read_index(on, segment.no)?.index.covering(base, end);
                all.push((segment.no, index.blocks().to_vec()));
            }
        }
    }
    Ok(all)
}

/// Places on shelves of which nothing is known; makes these shelves, so that they can be counted.
fn lost_places(state: &mut State, blocks: &[(u32, Vec<Block>)]) -> Spans {
    let mut lost = Spans::default();
    for block in blocks.iter().flat_map(|(_, blocks)| blocks) {
        let no = block.line.shelf;
        if state.shelves.get(no).is_none() {
            state.shelves.make(no, lost_label());
        }
        let known = state.shelves.get(no);
        if known.is_some_and(|shelf| shelf.label == lost_label()) {
            lost.insert(block.first, block.end());
        }
    }
    lost
}

/// Takes off loans what has ended, what is lost, and what a later loan has too. Says what is left.
fn trim_loans(state: &mut State, lost: &Spans) -> Spans {
    let mut claimed = Spans::default();
    let leases: Vec<u64> = state.loans.iter().map(|(lease, _)| lease).collect();
    for lease in leases.into_iter().rev() {
        let Some(loan) = state.loans.get(lease) else {
            continue;
        };
        let out: Vec<Stretch> = loan.out().collect();
        let mut kept = Spans::default();
        for stretch in &out {
            for (a, b) in open_of(state, *stretch) {
                for (a, b) in lost.gaps(a, b) {
                    for (a, b) in claimed.gaps(a, b) {
                        kept.insert(a, b);
                    }
                }
            }
        }
        for stretch in out {
            for (from, to) in kept.gaps(stretch.from, stretch.to) {
                state.loans.take(
                    lease,
                    Stretch {
                        from,
                        to,
                        ..stretch
                    },
                );
            }
            for (from, to) in kept.within(stretch.from, stretch.to) {
                claimed.insert(from, to);
            }
        }
    }
    claimed
}

/// What of a stretch has not ended.
fn open_of(state: &State, stretch: Stretch) -> Vec<(u64, u64)> {
    let (mut open, mut rest) = (Vec::new(), stretch);
    while let Some((no, part)) = state.first_part(rest) {
        let segment = state.segment(no);
        open.extend(
            segment
                .iter()
                .flat_map(|segment| segment.ledger.marks.open(part.from, part.to)),
        );
        rest.from = part.to;
    }
    open
}

/// Ends what is lost and has not ended.
fn bury(state: &mut State, lost: &Spans) -> u64 {
    let ends = |state: &State| -> Option<i64> {
        let all = state.segments.iter();
        let marks = all.flat_map(|one| one.ledger.marks.within(one.base, one.end));
        marks.map(|(_, _, mark)| mark.at).max()
    };
    // Nobody says what time it is. The last instant known is near enough to forget them by; where
    // none is, they are remembered until a person looks.
    let at = ends(state).filter(|at| *at > 0).unwrap_or(i64::MAX);
    let mut count = 0;
    for at_segment in 0..state.segments.len() {
        let segment = &mut state.segments[at_segment];
        let open: Vec<(u64, u64)> = lost
            .within(segment.base, segment.end)
            .flat_map(|(a, b)| segment.ledger.marks.open(a, b))
            .collect();
        for (from, to) in open {
            let (fate, epoch, shelf) = (Fate::Damaged, 0, LOST);
            segment.ledger.marks.set(from, to, Mark { fate, at, epoch });
            state.damaged.push((Stretch { shelf, from, to }, at));
            count += to - from;
        }
    }
    if count > 0 && state.shelves.get(LOST).is_none() {
        state.shelves.make(LOST, lost_label());
    }
    count
}

/// Tells how the places of one block stand.
fn tell(state: &State, segment: u32, block: &Block, on_loan: &Spans, retold: &mut Retold) {
    let (Some(shelf), Some(marks)) = (
        state.shelves.get(block.line.shelf),
        state.segment(segment).map(|segment| &segment.ledger.marks),
    ) else {
        return;
    };
    let mut open = 0;
    for (a, b) in marks.open(block.first, block.end()) {
        let out: u64 = on_loan.within(a, b).map(|(a, b)| b - a).sum();
        (retold.leased, open) = (retold.leased + out, open + out);
        for (a, b) in on_loan.gaps(a, b) {
            let mut from = a;
            for (moment, gone) in shelf.gone.iter().enumerate() {
                let to = gone.upto.clamp(from, b);
                if to > from {
                    let taken = retold.gone.entry(moment).or_default();
                    *taken.entry(segment).or_default() += to - from;
                }
                from = to;
            }
            (retold.held, open) = (retold.held + (b - from), open + (b - from));
            // Lent by a change that is lost, or back from a loan: it may have been handed over.
            retold.returned.insert(from, b.min(shelf.next).max(from));
        }
    }
    retold.part(segment, block).open += open;
}

fn adopt(state: &mut State, no: u32, retold: Retold) {
    let damaged = state
        .damaged
        .iter()
        .filter(|(stretch, _)| stretch.shelf == no);
    let damaged = damaged.map(|(stretch, _)| stretch.count()).sum();
    state.shelves.change(no, |shelf| {
        shelf.parts = retold.parts;
        shelf.returned = retold.returned;
        (shelf.held, shelf.leased, shelf.damaged) = (retold.held, retold.leased, damaged);
        for (moment, gone) in shelf.gone.iter_mut().enumerate() {
            let taken = retold.gone.get(&moment);
            let taken = taken.filter(|_| !gone.forgotten);
            gone.per_segment = taken
                .into_iter()
                .flatten()
                .map(|(no, of)| (*no, *of))
                .collect();
        }
    });
}

/// Counts what of a segment is open, and what is remembered.
fn count_segment(state: &mut State, no: u32) {
    let all = state.shelves.all().values();
    let parts = all.clone().flat_map(|shelf| &shelf.parts);
    let open = parts
        .filter(|part| part.segment == no)
        .map(|part| part.open)
        .sum();
    let gone = all
        .flat_map(|shelf| &shelf.gone)
        .flat_map(|gone| &gone.per_segment);
    let gone: u64 = gone
        .filter(|(segment, _)| *segment == no)
        .map(|(_, count)| count)
        .sum();
    state.touched.insert(no);
    if let Some(segment) = state.segment_mut(no) {
        let ends = segment.ledger.marks.within(segment.base, segment.end);
        let kept = ends.filter(|(_, _, mark)| mark.fate.is_remembered());
        let kept: u64 = kept.map(|(a, b, _)| b - a).sum();
        (segment.ledger.open, segment.ledger.kept) = (open, kept + gone);
    }
}

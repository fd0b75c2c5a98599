//! The shelves: what stands where, how much of it, and what comes next.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::op::Label;
use super::spans::Spans;
use crate::hold::Lane;

/// The places of one shelf in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) segment: u32,
    pub(super) first: u64,
    /// Behind its last place.
    pub(super) end: u64,
    /// Places that have not ended.
    pub(super) open: u64,
}

/// A moment at which everything held on a shelf was taken back at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gone {
    /// Places before this one.
    pub(super) upto: u64,
    pub(super) at: i64,
    pub(super) epoch: u16,
    pub(super) forgotten: bool,
    /// How many places of each segment.
    pub(super) per_segment: Vec<(u32, u64)>,
}

/// One shelf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shelf {
    pub(super) label: Label,
    /// Earlier dues, before it was re-dated: the due of what ended in epoch n is the n-th.
    pub(super) dues: Vec<i64>,
    pub(super) parts: Vec<Part>,
    /// The first place that was never lent.
    pub(super) next: u64,
    /// Places before it that are held again: loans that lapsed.
    pub(super) returned: Spans,
    pub(super) gone: Vec<Gone>,
    /// Places held; on the shelf of those put aside, buried.
    pub(super) held: u64,
    pub(super) leased: u64,
    /// Places that could not be read back.
    pub(super) damaged: u64,
}

impl Shelf {
    fn new(label: Label) -> Self {
        Self {
            label,
            dues: Vec::new(),
            parts: Vec::new(),
            next: 0,
            returned: Spans::default(),
            gone: Vec::new(),
            held: 0,
            leased: 0,
            damaged: 0,
        }
    }

    pub(super) fn epoch(&self) -> u16 {
        u16::try_from(self.dues.len()).unwrap_or(u16::MAX)
    }

    /// The due that held in `epoch`.
    pub(super) fn due_in(&self, epoch: u16) -> i64 {
        let old = self.dues.get(usize::from(epoch)).copied();
        old.unwrap_or(self.label.due)
    }

    /// The recall of the whole shelf that took `place`, if one did.
    pub(super) fn gone(&self, place: u64) -> Option<&Gone> {
        let at = self.gone.partition_point(|gone| gone.upto <= place);
        self.gone.get(at)
    }

    pub(super) fn part_mut(&mut self, segment: u32) -> Option<&mut Part> {
        let at = self
            .parts
            .binary_search_by_key(&segment, |part| part.segment);
        at.ok().map(|at| &mut self.parts[at])
    }

    /// Counts a block in.
    pub(super) fn add(&mut self, segment: u32, first: u64, end: u64) {
        self.held += end - first;
        if let Some(part) = self.parts.last_mut()
            && part.segment == segment
        {
            part.end = end;
            part.open += end - first;
            return;
        }
        let open = end - first;
        self.parts.push(Part {
            segment,
            first,
            end,
            open,
        });
    }

    /// Nothing on it matters any more.
    fn is_spent(&self) -> bool {
        self.parts.is_empty() && self.held == 0 && self.leased == 0 && self.damaged == 0
    }
}

/// Order in which shelves of one lane are lent.
type Turn = (u8, i64, u32);

/// Every shelf.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelves {
    all: BTreeMap<u32, Shelf>,
    by_label: HashMap<Label, u32>,
    /// Shelves with something to lend, by lane.
    ready: HashMap<Lane, BTreeSet<Turn>>,
    last: u32,
}

impl Shelves {
    /// From a checkpoint.
    pub(super) fn restore(all: BTreeMap<u32, Shelf>, last: u32) -> Self {
        let mut shelves = Self {
            last,
            ..Self::default()
        };
        for (no, shelf) in all {
            // Of shelves that were re-dated onto one due, any may take what is put next.
            shelves.by_label.entry(shelf.label.clone()).or_insert(no);
            shelves.all.insert(no, shelf);
            shelves.turn(no);
        }
        shelves
    }

    pub(super) fn all(&self) -> &BTreeMap<u32, Shelf> {
        &self.all
    }

    pub(super) const fn last(&self) -> u32 {
        self.last
    }

    pub(super) fn get(&self, no: u32) -> Option<&Shelf> {
        self.all.get(&no)
    }

    pub(super) fn find(&self, label: &Label) -> Option<u32> {
        self.by_label.get(label).copied()
    }

    pub(super) fn make(&mut self, no: u32, label: Label) {
        self.last = self.last.max(no);
        self.by_label.insert(label.clone(), no);
        self.all.insert(no, Shelf::new(label));
    }

    /// Changes a shelf and puts it in its turn again.
    pub(super) fn change<T>(&mut self, no: u32, change: impl FnOnce(&mut Shelf) -> T) -> Option<T> {
        let shelf = self.all.get_mut(&no)?;
        let was = (shelf.label.due, shelf.held > 0);
        let answer = change(shelf);
        if was != (shelf.label.due, shelf.held > 0) {
            let (lane, turn) = (&shelf.label.lane, (shelf.label.priority.get(), was.0, no));
            if let Some(ready) = self.ready.get_mut(lane) {
                ready.remove(&turn);
            }
            self.turn(no);
        }
        Some(answer)
    }

    fn turn(&mut self, no: u32) {
        let Some(shelf) = self.all.get(&no) else {
            return;
        };
        if shelf.held > 0 && !shelf.label.buried {
            let turn = (shelf.label.priority.get(), shelf.label.due, no);
            let ready = self.ready.entry(shelf.label.lane.clone()).or_default();
            ready.insert(turn);
        }
    }

    /// Shelves of `lane` with something to lend, in order of priority and due.
    pub(super) fn ready(&self, lane: &Lane) -> impl Iterator<Item = &Turn> {
        self.ready.get(lane).into_iter().flatten()
    }

    /// Gives a shelf another due. What is put under the old label opens a new shelf.
    pub(super) fn redate(&mut self, no: u32, to: i64) {
        let Some(shelf) = self.all.get(&no) else {
            return;
        };
        let old = shelf.label.clone();
        if self.by_label.get(&old) == Some(&no) {
            self.by_label.remove(&old);
        }
        self.change(no, |shelf| {
            shelf.dues.push(shelf.label.due);
            shelf.label.due = to;
        });
        let label = Label { due: to, ..old };
        self.by_label.entry(label).or_insert(no);
    }

    /// Lets go of a segment's parts, and of shelves on which nothing is left.
    pub(super) fn drop_segment(&mut self, segment: u32) {
        let touched: Vec<u32> = self
            .all
            .iter()
            .filter(|(_, shelf)| shelf.parts.iter().any(|part| part.segment == segment))
            .map(|(&no, _)| no)
            .collect();
        for no in touched {
            let Some(shelf) = self.all.get_mut(&no) else {
                continue;
            };
            shelf.parts.retain(|part| part.segment != segment);
            let first = shelf.parts.first().map(|part| part.first);
            shelf
                .gone
                .retain(|gone| first.is_some_and(|first| gone.upto > first));
            if shelf.is_spent() {
                self.remove(no);
            }
        }
    }

    fn remove(&mut self, no: u32) {
        let Some(shelf) = self.all.remove(&no) else {
            return;
        };
        if self.by_label.get(&shelf.label) == Some(&no) {
            self.by_label.remove(&shelf.label);
        }
        if let Some(ready) = self.ready.get_mut(&shelf.label.lane) {
            ready.remove(&(shelf.label.priority.get(), shelf.label.due, no));
        }
    }

    /// Forgets recalls of whole shelves before `before`; what of which segment that frees.
    pub(super) fn sweep(&mut self, before: i64) -> Vec<(u32, u64)> {
        let mut freed = Vec::new();
        for gone in self.all.values_mut().flat_map(|shelf| &mut shelf.gone) {
            if !gone.forgotten && gone.at < before {
                gone.forgotten = true;
                freed.append(&mut gone.per_segment);
            }
        }
        freed
    }
}

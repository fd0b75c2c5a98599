//! One log file as the store sees it: where its blocks stand, and how its messages ended.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::marks::{Mark, Marks};
use super::mend::LOST;
use super::op::BlockLine;
use super::spans::Spans;

/// Where one block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Block {
    pub(super) line: BlockLine,
    /// Place of its first message.
    pub(super) first: u64,
    /// Place of the first message of its frame, to which arrivals are relative.
    pub(super) base: u64,
    /// Offsets of its head and its body in the file. A frame has all heads first: bodies go
    /// together, so they can be given back to the disk in large pieces.
    pub(super) at: u64,
    pub(super) body_at: u64,
}

impl Block {
    /// The place behind its last message.
    pub(super) const fn end(&self) -> u64 {
        self.first + self.line.count as u64
    }

    /// A stand-in for places of which nothing is known: no bytes, and no checksum that fits them.
    const fn unknown(first: u64, count: u32) -> Self {
        let line = BlockLine {
            shelf: LOST,
            count,
            head_len: 0,
            body_len: 0,
            head_crc: 1,
            body_crc: 1,
        };
        let (base, at, body_at) = (first, 0, 0);
        Self {
            line,
            first,
            base,
            at,
            body_at,
        }
    }

    /// Whether it is such a stand-in.
    pub(super) const fn is_unknown(&self) -> bool {
        self.line.shelf == LOST && self.line.head_len == 0
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.line.head_len as u64 + self.line.body_len as u64
    }
}

/// The blocks of one segment, in order of place and by shelf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    blocks: Vec<Block>,
    by_shelf: HashMap<u32, Vec<u32>>,
}

impl Index {
    pub(super) fn from_blocks(blocks: Vec<Block>) -> Self {
        let mut index = Self::default();
        for block in blocks {
            index.push(block);
        }
        index
    }

    /// Whether its blocks lie between `base` and `end`, in order: one that does not is another
    /// segment's, and what ended by it would not end where it is looked up.
    pub(super) fn is_within(&self, base: u64, end: u64) -> bool {
        let behind = self.blocks.iter().try_fold(base, |next, block| {
            (block.first >= next).then_some(block.end())
        });
        behind.is_some_and(|behind| behind <= end)
    }

    /// The same with stand-ins for blocks that are missing between `base` and `end`, and without
    /// blocks that do not lie there; says whether there are any such.
    pub(super) fn covering(self, base: u64, end: u64) -> (Self, bool) {
        let mut blocks = Vec::with_capacity(self.blocks.len());
        let (mut next, mut has_gaps) = (base, false);
        let bounds = self.blocks.iter().map(|block| block.first).chain([end]);
        for (at, first) in bounds.enumerate() {
            let block = self.blocks.get(at);
            if block.is_some_and(|block| first < next || block.end() > end) {
                has_gaps = true;
                continue;
            }
            while next < first {
                let count = u32::try_from(first - next).unwrap_or(u32::MAX);
                blocks.push(Block::unknown(next, count));
                (next, has_gaps) = (next + u64::from(count), true);
            }
            if let Some(block) = block {
                blocks.push(*block);
                next = block.end();
            }
        }
        match has_gaps {
            true => (Self::from_blocks(blocks), true),
            false => (self, false),
        }
    }

    pub(super) fn push(&mut self, block: Block) {
        let number = u32::try_from(self.blocks.len()).unwrap_or(u32::MAX);
        self.by_shelf
            .entry(block.line.shelf)
            .or_default()
            .push(number);
        self.blocks.push(block);
    }

    /// Every block, by place.
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The block that holds `place`.
    pub(super) fn at(&self, place: u64) -> Option<&Block> {
        let behind = self.blocks.partition_point(|block| block.first <= place);
        let block = self.blocks.get(behind.checked_sub(1)?)?;
        (place < block.end()).then_some(block)
    }

    /// The blocks of `shelf` that reach beyond `from`, by place.
    pub(super) fn of_shelf(&self, shelf: u32, from: u64) -> impl Iterator<Item = &Block> {
        let all = self.by_shelf.get(&shelf).map_or(&[][..], Vec::as_slice);
        let begin = all.partition_point(|&number| self.blocks[number as usize].end() <= from);
        all[begin..]
            .iter()
            .map(|&number| &self.blocks[number as usize])
    }
}

/// What changes about a segment. Part of every checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    pub(super) marks: Marks,
    /// Places that have not ended.
    pub(super) open: u64,
    /// Places that ended and are still remembered.
    pub(super) kept: u64,
    /// Blocks, by number, whose bodies were given back.
    pub(super) punched: Spans,
    /// Bytes of blocks that were not given back.
    pub(super) bytes: u64,
}

/// One log file.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) no: u32,
    /// Its places, from (inclusive) to (exclusive).
    pub(super) base: u64,
    pub(super) end: u64,
    /// The number of its first frame.
    pub(super) first_lsn: u64,
    pub(super) ledger: Ledger,
    /// Its blocks while it is not sealed; then they are read from its side file.
    pub(super) open_index: Option<Index>,
}

impl Segment {
    pub(super) fn new(no: u32, base: u64, first_lsn: u64) -> Self {
        Self {
            no,
            base,
            end: base,
            first_lsn,
            ledger: Ledger::default(),
            open_index: Some(Index::default()),
        }
    }

    pub(super) const fn is_sealed(&self) -> bool {
        self.open_index.is_none()
    }

    /// Whether nothing in it matters any more.
    pub(super) const fn is_spent(&self) -> bool {
        self.ledger.open == 0 && self.ledger.kept == 0
    }

    pub(super) fn end_stretch(&mut self, from: u64, to: u64, mark: Mark) {
        self.ledger.marks.set(from, to, mark);
        self.ledger.open = self.ledger.open.saturating_sub(to - from);
        if mark.fate.is_remembered() {
            self.ledger.kept += to - from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(firsts: &[u64]) -> Index {
        let five = |&first: &u64| Block::unknown(first, 5);
        Index::from_blocks(firsts.iter().map(five).collect())
    }

    #[test]
    fn an_index_covers_its_own_places_and_no_others() {
        let own = index(&[10, 15, 20]);
        assert!(own.is_within(10, 25) && !own.is_within(11, 25) && !own.is_within(10, 24));
        assert!(!index(&[15, 10]).is_within(10, 25), "out of order");
        assert_eq!(own.clone().covering(10, 25), (own.clone(), false));
        for strange in [
            &[10, 20][..],
            &[15, 10],
            &[40, 45],
            &[0, 5],
            &[8, 12, 23],
            &[u64::MAX - 5],
        ] {
            let (covering, has_gaps) = index(strange).covering(10, 25);
            assert!(has_gaps && covering.is_within(10, 25), "{strange:?}");
            let count: u32 = covering.blocks().iter().map(|block| block.line.count).sum();
            assert_eq!(count, 15, "{strange:?}");
        }
    }
}

//! Blocks on their way in: cut by shelf, packed, and handed to a script as arguments.

use std::collections::HashMap;

use ::redis::Value;

use super::keys::{HASH_BYTES, Place, SLOTS, purpose_and_campaign, sortable_nanos};
use super::table::{Stamp, Told};
use super::wire::{array, bytes, count, cut, seal};
use crate::hold::Held;
use crate::hold::block::{Packer, Record, weight};
use crate::hold::key::ShelfKey;
use crate::redis::Call;

/// Most messages that one script stores: the server does nothing else meanwhile, and spends about
/// half a millisecond on them (docs/adr/0036).
pub(super) const CHUNK: usize = 1_000;
/// Most blocks of them: each that begins a shelf takes some 80 us (docs/adr/0036).
pub(super) const CHUNK_BLOCKS: usize = 60;
/// Where to cut a shelf's messages into blocks, in bytes before compression.
const BLOCK_BYTES: usize = 384 * 1024;

/// A message to be written.
pub(super) struct Row<'a> {
    pub(super) held: &'a Held,
    pub(super) hash: [u8; HASH_BYTES],
    pub(super) attempts: u32,
    pub(super) why: Option<&'a str>,
    /// Where it was, on which loan (0 for a buried one), and its block's checksum.
    pub(super) source: Option<(Place, u64, u32)>,
    /// It stays on this shelf, whose due may have moved since.
    pub(super) stays: Option<u64>,
    /// Buried, not held.
    pub(super) buried: bool,
}

/// A block as the scripts take it.
pub(super) struct Block {
    /// Its messages, by their place among the rows it was made of.
    pub(super) members: Vec<usize>,
    /// The hashes of their ids.
    pub(super) hashes: Vec<u8>,
    value: Vec<u8>,
    lane: Box<str>,
    priority: u8,
    due: Vec<u8>,
    purpose_and_campaign: String,
    class: Box<str>,
    arrivals: Vec<u8>,
    state: u8,
    sources: Vec<u8>,
}

/// Cuts the first of `rows`, which arrive in this order, into at most so many blocks; says how many
/// rows these are.
pub(super) fn blocks(packer: &mut Packer, rows: &[Row<'_>], most: usize) -> (Vec<Block>, usize) {
    let mut used = rows.len();
    let mut groups: Vec<(ShelfKey, Vec<usize>)> = Vec::new();
    let mut of: HashMap<(ShelfKey, Option<u64>, bool), (usize, usize)> = HashMap::new();
    for (index, row) in rows.iter().enumerate() {
        let key = ShelfKey::of(row.held);
        let bytes = weight(row.held);
        let group = of.entry((key.clone(), row.stays, row.buried));
        let group = group.or_insert((usize::MAX, 0));
        let full = |at: usize| groups[at].1.len() as u64 >= SLOTS;
        if group.0 == usize::MAX || full(group.0) || group.1 + bytes > BLOCK_BYTES {
            if groups.len() == most {
                used = index;
                break;
            }
            groups.push((key, Vec::new()));
            *group = (groups.len() - 1, 0);
        }
        group.1 += bytes;
        groups[group.0].1.push(index);
    }
    let block = |(key, members)| Block::new(packer, &key, rows, members);
    (groups.into_iter().map(block).collect(), used)
}

impl Block {
    fn new(packer: &mut Packer, key: &ShelfKey, rows: &[Row<'_>], members: Vec<usize>) -> Self {
        let first = members[0];
        let after = |index: usize| u32::try_from(index - first).unwrap_or(u32::MAX);
        let records: Vec<Record<'_>> = members
            .iter()
            .map(|&index| Record {
                held: rows[index].held,
                arrival: after(index),
                attempts: rows[index].attempts,
                lapsed: false,
                why: rows[index].why,
            })
            .collect();
        let value = seal(&packer.pack(&records), members.len());
        let mut hashes = Vec::with_capacity(members.len() * HASH_BYTES);
        let (mut arrivals, mut sources) = (Vec::new(), Vec::new());
        // A run of arrivals says itself.
        let run = members[members.len() - 1] - first + 1 == members.len();
        for &index in &members {
            let row = &rows[index];
            hashes.extend_from_slice(&row.hash);
            if !run {
                let after = u16::try_from(index - first).unwrap_or(u16::MAX);
                arrivals.extend_from_slice(&after.to_le_bytes());
            }
            if let Some((place, loan, sum)) = row.source {
                sources.extend_from_slice(&place.block.to_le_bytes()[..6]);
                let slot = u16::try_from(place.slot).unwrap_or(u16::MAX);
                sources.extend_from_slice(&slot.to_le_bytes());
                sources.extend_from_slice(&loan.to_le_bytes());
                sources.extend_from_slice(&sum.to_le_bytes());
            }
        }
        let due = match rows[first].stays {
            Some(shelf) => format!("@{shelf}").into_bytes(),
            None => sortable_nanos(key.due.unwrap_or_default()).to_vec(),
        };
        Self {
            members,
            hashes,
            value,
            lane: key.lane.as_str().into(),
            priority: key.priority.get(),
            due,
            purpose_and_campaign: purpose_and_campaign(key.purpose, key.campaign.as_deref()),
            class: key.class.as_str().into(),
            arrivals,
            state: u8::from(rows[first].buried) * 2,
            sources,
        }
    }

    /// Adds it to a call.
    pub(super) fn push_to(&self, call: &mut Call) {
        let (one, two) = self.value.split_at(cut(self.value.len()));
        call.push(one);
        call.push(two);
        call.push(&*self.lane);
        call.push(self.priority);
        call.push(&self.due[..]);
        call.push(&*self.purpose_and_campaign);
        call.push(&*self.class);
        call.push(self.members.len());
        call.push(&self.hashes[..]);
        call.push(&self.arrivals[..]);
        call.push(self.members[0]);
        call.push(self.state);
        call.push(&self.sources[..]);
    }

    /// The ids of those that were written, by the marks of an answer.
    fn written(&self, marks: &[u8]) -> Vec<u8> {
        let mut ids = self.hashes.clone();
        for (hash, mark) in ids.chunks_exact_mut(HASH_BYTES).zip(marks) {
            if *mark != b'1' {
                hash.fill(0);
            }
        }
        ids
    }
}

/// What a script said of the blocks that it was to write.
pub(super) struct Wrote {
    /// A mark for each message of each block.
    pub(super) marks: Vec<Vec<u8>>,
    /// The numbers of blocks that were written, and their ids.
    ids: Vec<(u64, Vec<u8>)>,
}

impl Wrote {
    /// Reads the marks and numbers of an answer.
    pub(super) fn read(blocks: &[Block], marks: Vec<Value>, numbers: Value) -> Option<Self> {
        let numbers = array(numbers)?;
        if marks.len() != blocks.len() || numbers.len() != blocks.len() {
            return None;
        }
        let mut wrote = Self {
            marks: Vec::with_capacity(blocks.len()),
            ids: Vec::with_capacity(blocks.len()),
        };
        for ((block, marks), number) in blocks.iter().zip(&marks).zip(&numbers) {
            let marks = bytes(marks).filter(|marks| marks.len() == block.members.len())?;
            let number = count(number)?;
            if number > 0 {
                wrote.ids.push((number, block.written(marks)));
            }
            wrote.marks.push(marks.to_vec());
        }
        Some(wrote)
    }

    /// The blocks as this process may note them.
    pub(super) fn told(&self, stamp: Stamp) -> impl Iterator<Item = (u64, Told<'_>)> {
        let ids = self.ids.iter();
        ids.map(move |(number, ids)| (*number, Told::Ids(stamp, ids)))
    }
}

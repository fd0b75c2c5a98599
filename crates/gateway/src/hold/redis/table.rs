//! Where ids may stand in one partition, as far as this process knows: a cache of what the server
//! says, ten bytes an id. A place found here is a suspicion, which a script checks; that an id is
//! found nowhere is certain for all blocks up to the last one known.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use hashbrown::HashTable;

use super::keys::{HASH_BYTES, SLOTS};

/// What a call signs its blocks with: as good as never given twice.
pub(super) type Stamp = [u8; STAMP_BYTES];
/// Bytes of a stamp.
pub(super) const STAMP_BYTES: usize = 8;
/// Ids of a chapter: a table of so many takes its memory at once and is never doubled.
const CHAPTER_IDS: usize = (1 << 20) / 8 * 7;
/// Ids of the largest, of a hold of a hundred million: each chapter is asked for each id.
const CHAPTER_IDS_MAX: usize = CHAPTER_IDS << 4;
/// A new chapter is the largest that is not more than this part of what is known.
const CHAPTER_PART: usize = 4;
/// Blocks of a chapter: the number of one takes 22 bits beside its slot's 10.
const CHAPTER_BLOCKS: u64 = (1 << 32) / SLOTS;
/// Blocks that arrive out of turn may be so far before the first of their chapter.
const CHAPTER_BEFORE: u64 = 4_096;
/// A block that a settlement wrote is noted if it is no farther than this from the last known;
/// farther ones are learnt when the server tells them.
const AHEAD_MAX: u64 = 4_096;

/// An id: the first bytes of its hash, and its place from the chapter's base on.
#[derive(Clone, Copy)]
struct Entry {
    print: u32,
    place: u32,
}

/// An id of a call that is not answered yet.
struct Flight {
    print: u32,
    call: u32,
}

fn print_of(hash: &[u8]) -> u32 {
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// The place in a table: its low bits find the bucket, its highest are compared first.
fn spread(print: u32) -> u64 {
    u64::from(print).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Ids of blocks that were written one after the other.
struct Chapter {
    number: u64,
    base: u64,
    room: usize,
    entries: HashTable<Entry>,
}

impl Chapter {
    fn takes(&self, block: u64) -> bool {
        self.entries.len() < self.room && block >= self.base && block - self.base < CHAPTER_BLOCKS
    }

    fn block_of(&self, entry: Entry) -> u64 {
        self.base + u64::from(entry.place) / SLOTS
    }
}

/// What a server says of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told<'a> {
    /// Of a call of this process that is not answered yet.
    Own(Stamp),
    /// Its ids' hashes, zeros where a slot is empty.
    Ids(Stamp, &'a [u8]),
    /// It is gone, with whatever was in it.
    Gone(Option<Stamp>),
}

impl<'a> Told<'a> {
    /// The text of a script.
    pub(super) fn read(text: &'a [u8]) -> Option<Self> {
        let (kind, rest) = text.split_first()?;
        match kind {
            b'g' if rest.is_empty() => Some(Self::Gone(None)),
            b'g' => rest.try_into().ok().map(|stamp| Self::Gone(Some(stamp))),
            b'o' => rest.try_into().ok().map(Self::Own),
            b'p' => Self::ids(rest),
            _ => None,
        }
    }

    /// The ids of a block behind their stamp.
    pub(super) fn ids(text: &'a [u8]) -> Option<Self> {
        let (stamp, hashes) = text.split_first_chunk()?;
        (hashes.len() % HASH_BYTES == 0).then_some(Self::Ids(*stamp, hashes))
    }

    fn stamp(&self) -> Option<Stamp> {
        match *self {
            Self::Own(stamp) | Self::Ids(stamp, _) => Some(stamp),
            Self::Gone(stamp) => stamp,
        }
    }
}

/// What was known is not so on the server, since a failover took it back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stale;

/// What a call says of this process's knowledge.
#[derive(Clone, Debug, Default)]
pub(super) struct Ask {
    /// Of which table it speaks.
    pub(super) epoch: u64,
    /// The last block known, and all before it.
    pub(super) upto: u64,
    /// That block's stamp.
    pub(super) stamp: Stamp,
    /// Stamps of calls under way that have none of these ids.
    pub(super) own: Vec<u8>,
    /// Where some of the ids may stand, as `lua/ids.lua` has it.
    pub(super) suspects: Vec<u8>,
}

/// See the module's words.
#[derive(Default)]
pub(super) struct Table {
    /// Grows whenever all is forgotten.
    epoch: u64,
    loaded: bool,
    upto: u64,
    stamp: Stamp,
    /// What was taken away here was so when this block was the last: if a failover takes that one
    /// back, it may be there again.
    need: u64,
    /// Blocks known beyond one that is not, and their stamps (none: gone).
    ahead: BTreeMap<u64, Option<Stamp>>,
    /// Oldest first.
    chapters: Vec<Chapter>,
    chapters_made: u64,
    count: usize,
    /// Ids of the smallest chapter, where tests want fewer.
    chapter_ids: Option<usize>,
    flights: HashTable<Flight>,
    calls: HashMap<u32, Stamp>,
    calls_made: u32,
}

impl Table {
    pub(super) fn new(chapter_ids: Option<usize>) -> Self {
        Self {
            chapter_ids,
            ..Self::default()
        }
    }

    /// Whether the hold was read at all.
    pub(super) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Whether a call may ask by what is known.
    pub(super) fn is_ready(&self) -> bool {
        self.loaded && self.upto >= self.need
    }

    /// Whether the server, whose last block this is, has lost what was known of it.
    pub(super) fn is_past(&self, last: u64) -> bool {
        last < self.need
    }

    /// The number of this knowledge: another after [`Table::reset`].
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The last block known with all before it, and its stamp.
    pub(super) fn upto(&self) -> (u64, Stamp) {
        (self.upto, self.stamp)
    }

    /// Ids known; one that moved counts at each place until it is tidied away.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Forgets all but the calls under way, if it is still this knowledge.
    pub(super) fn reset(&mut self, epoch: u64) {
        if self.epoch == epoch {
            self.epoch += 1;
            self.loaded = false;
            (self.upto, self.stamp) = (0, Stamp::default());
            (self.need, self.count) = (0, 0);
            self.ahead.clear();
            self.chapters.clear();
        }
    }

    /// Takes what `other` has read of the server, up to a block; when that was done, the last was
    /// `need`.
    pub(super) fn replace(&mut self, other: Self, (upto, stamp): (u64, Stamp), need: u64) {
        self.epoch += 1;
        self.loaded = true;
        (self.upto, self.stamp) = (upto, stamp);
        (self.need, self.count) = (need, other.count);
        self.ahead.clear();
        self.chapters = other.chapters;
        self.chapters_made = other.chapters_made;
    }

    /// Adds the ids of a block.
    pub(super) fn insert(&mut self, block: u64, hashes: &[u8]) {
        for (hash, slot) in hashes.chunks_exact(HASH_BYTES).zip(0_u32..) {
            if hash == [0; HASH_BYTES] {
                continue;
            }
            let at = match self.chapters.last() {
                Some(last) if last.takes(block) => self.chapters.len() - 1,
                _ => self.begin_chapter(block),
            };
            let chapter = &mut self.chapters[at];
            let print = print_of(hash);
            let offset = u32::try_from(block - chapter.base).unwrap_or(u32::MAX);
            let place = offset << SLOTS.trailing_zeros() | slot;
            let entry = Entry { print, place };
            let hasher = |entry: &Entry| spread(entry.print);
            chapter.entries.insert_unique(spread(print), entry, hasher);
            self.count += 1;
        }
    }

    fn begin_chapter(&mut self, block: u64) -> usize {
        let least = self.chapter_ids.unwrap_or(CHAPTER_IDS);
        let mut room = least;
        while room < CHAPTER_IDS_MAX && room * 2 * CHAPTER_PART <= self.count {
            room *= 2;
        }
        // The first grows as it needs: most holds on a small server never fill it.
        let entries = match self.chapters.is_empty() {
            true => HashTable::new(),
            false => HashTable::with_capacity(room),
        };
        self.chapters_made += 1;
        self.chapters.push(Chapter {
            number: self.chapters_made,
            base: block.saturating_sub(CHAPTER_BEFORE),
            room,
            entries,
        });
        self.chapters.len() - 1
    }

    /// Whether a block that a settlement wrote may be noted before those between are known.
    pub(super) fn is_near(&self, block: u64) -> bool {
        block <= self.upto + AHEAD_MAX
    }

    /// Takes a place away: the message has moved to block `to`.
    pub(super) fn forget(&mut self, block: u64, slot: u32, hash: &[u8], to: u64) {
        let print = print_of(hash);
        self.need = self.need.max(to);
        for chapter in self.chapters.iter_mut().rev() {
            let Some(offset) = block.checked_sub(chapter.base) else {
                continue;
            };
            let Ok(offset) = u32::try_from(offset * SLOTS) else {
                continue;
            };
            let place = offset | slot;
            let is_it = |entry: &Entry| entry.print == print && entry.place == place;
            if let Ok(found) = chapter.entries.find_entry(spread(print), is_it) {
                found.remove();
                self.count -= 1;
                return;
            }
        }
    }

    /// Notes what a server says of a block; its last was `last`.
    ///
    /// # Errors
    /// When this process knows it otherwise.
    pub(super) fn learn(&mut self, block: u64, told: Told<'_>, last: u64) -> Result<(), Stale> {
        let stamp = told.stamp();
        let of = |same: bool| if same { Ok(()) } else { Err(Stale) };
        if block <= self.upto {
            return of(block < self.upto || stamp == Some(self.stamp));
        }
        if let Some(known) = self.ahead.get(&block) {
            return of(stamp.is_none() || *known == stamp);
        }
        match told {
            // Its own answer says more.
            Told::Own(_) => return Ok(()),
            Told::Ids(_, hashes) => self.insert(block, hashes),
            Told::Gone(_) => self.need = self.need.max(last),
        }
        self.ahead.insert(block, stamp);
        Ok(())
    }

    /// Moves the last block known as far as there is no gap.
    pub(super) fn advance(&mut self) {
        let run = (self.upto + 1..).zip(&self.ahead);
        let run = run.take_while(|(next, (block, _))| next == *block);
        // The stamp of one that is gone is not known, so the last must be another.
        let last = run.filter_map(|(block, (_, stamp))| Some((block, (*stamp)?)));
        if let Some((block, stamp)) = last.last() {
            self.ahead = self.ahead.split_off(&(block + 1));
            (self.upto, self.stamp) = (block, stamp);
        }
    }

    /// What is known of these ids, 10 bytes each.
    pub(super) fn ask(&self, hashes: &[u8]) -> Ask {
        let mut suspects = Vec::new();
        for chapter in &self.chapters {
            for (hash, id) in hashes.chunks_exact(HASH_BYTES).zip(0_u16..) {
                let print = print_of(hash);
                for entry in chapter.entries.iter_hash(spread(print)) {
                    if entry.print == print {
                        let block = chapter.block_of(*entry);
                        let slot = u64::from(entry.place) % SLOTS;
                        suspects.extend_from_slice(&id.to_le_bytes());
                        suspects.extend_from_slice(&block.to_le_bytes()[..6]);
                        suspects.extend_from_slice(&slot.to_le_bytes()[..2]);
                        suspects.extend_from_slice(hash);
                    }
                }
            }
        }
        let mut shared = HashSet::new();
        if !self.flights.is_empty() {
            for hash in hashes.chunks_exact(HASH_BYTES) {
                let print = print_of(hash);
                let same = self.flights.iter_hash(spread(print));
                shared.extend(same.filter(|it| it.print == print).map(|it| it.call));
            }
        }
        let own = self.calls.iter().filter(|(call, _)| !shared.contains(call));
        Ask {
            epoch: self.epoch,
            upto: self.upto,
            stamp: self.stamp,
            own: own.flat_map(|(_, stamp)| *stamp).collect(),
            suspects,
        }
    }

    /// Notes a call under way that puts these ids; says its number.
    pub(super) fn depart(&mut self, stamp: Stamp, hashes: &[u8]) -> u32 {
        self.calls_made = self.calls_made.wrapping_add(1);
        let call = self.calls_made;
        self.calls.insert(call, stamp);
        for hash in hashes.chunks_exact(HASH_BYTES) {
            let print = print_of(hash);
            let flight = Flight { print, call };
            let hasher = |flight: &Flight| spread(flight.print);
            self.flights.insert_unique(spread(print), flight, hasher);
        }
        call
    }

    /// The call is over, however it ended.
    pub(super) fn arrive(&mut self, call: u32, hashes: &[u8]) {
        self.calls.remove(&call);
        for hash in hashes.chunks_exact(HASH_BYTES) {
            let print = print_of(hash);
            let is_it = |flight: &Flight| flight.print == print && flight.call == call;
            if let Ok(found) = self.flights.find_entry(spread(print), is_it) {
                found.remove();
            }
        }
    }

    /// Up to `max` blocks of the chapter whose turn it is, from the `round`th on, in order, and
    /// the chapter's number.
    pub(super) fn some_blocks(&self, round: usize, max: usize) -> Option<(u64, Vec<u64>)> {
        let chapter = self.chapters.get(round % self.chapters.len().max(1))?;
        let blocks: BTreeSet<u64> = chapter
            .entries
            .iter()
            .map(|entry| chapter.block_of(*entry))
            .collect();
        let parts = blocks.len().div_ceil(max).max(1);
        let part = round / self.chapters.len() % parts;
        let some = blocks.into_iter().skip(part * max).take(max).collect();
        Some((chapter.number, some))
    }

    /// Forgets the ids of blocks of a chapter that are gone, and gives their memory back. The last
    /// block was `last` when they were.
    pub(super) fn drop_blocks(&mut self, number: u64, gone: &HashSet<u64>, last: u64) {
        if gone.is_empty() {
            return;
        }
        self.need = self.need.max(last);
        for chapter in &mut self.chapters {
            if chapter.number != number {
                continue;
            }
            let (before, base) = (chapter.entries.len(), chapter.base);
            let block_of = |entry: &Entry| base + u64::from(entry.place) / SLOTS;
            let stays = |entry: &mut Entry| !gone.contains(&block_of(entry));
            chapter.entries.retain(stays);
            self.count -= before - chapter.entries.len();
            if chapter.entries.len() < chapter.entries.capacity() / 2 {
                let hasher = |entry: &Entry| spread(entry.print);
                chapter.entries.shrink_to_fit(hasher);
            }
        }
        self.chapters.retain(|chapter| !chapter.entries.is_empty());
    }
}

#[cfg(test)]
mod tests;

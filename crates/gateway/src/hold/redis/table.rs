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
mod tests {
    use super::*;

    /// A hash that is as good as any, of a number.
    fn hash(number: u32) -> [u8; HASH_BYTES] {
        let mut hash = [7; HASH_BYTES];
        hash[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_le_bytes());
        hash[4..8].copy_from_slice(&number.to_le_bytes());
        hash
    }

    fn pack(numbers: std::ops::Range<u32>) -> Vec<u8> {
        numbers.flat_map(hash).collect()
    }

    fn stamp(number: u64) -> Stamp {
        number.to_le_bytes()
    }

    /// Places suspected of one id, by block and slot.
    fn suspects(table: &Table, number: u32) -> Vec<(u64, u64)> {
        let ask = table.ask(&hash(number));
        let read = |one: &[u8]| {
            assert_eq!((&one[..2], &one[10..]), (&[0, 0][..], &hash(number)[..]));
            let mut block = [0; 8];
            block[..6].copy_from_slice(&one[2..8]);
            let slot = u64::from(u16::from_le_bytes([one[8], one[9]]));
            (u64::from_le_bytes(block), slot)
        };
        ask.suspects.chunks_exact(20).map(read).collect()
    }

    fn loaded(chapter_ids: usize) -> Table {
        let mut table = Table::new(Some(chapter_ids));
        table.replace(Table::new(None), (0, Stamp::default()), 0);
        table
    }

    fn learn(table: &mut Table, block: u64, told: Told<'_>) {
        assert_eq!(table.learn(block, told, block), Ok(()));
        table.advance();
    }

    #[test]
    fn an_id_is_suspected_wherever_it_was_put_in_all_chapters_and_nowhere_else() {
        let mut table = loaded(10);
        for block in 1..=20_u32 {
            let ids = pack(block * 30..block * 30 + 30);
            learn(
                &mut table,
                block.into(),
                Told::Ids(stamp(block.into()), &ids),
            );
        }
        learn(&mut table, 21, Told::Ids(stamp(21), &pack(95..96)));
        assert_eq!(table.upto(), (21, stamp(21)));
        assert_eq!(table.len(), 601);
        assert!(table.chapters.len() > 4, "{}", table.chapters.len());
        assert_eq!(suspects(&table, 95), [(3, 5), (21, 0)]);
        assert_eq!(suspects(&table, 629), [(20, 29)]);
        assert_eq!(suspects(&table, 5_000), []);
    }

    #[test]
    fn a_chapter_never_outgrows_the_memory_it_took() {
        let mut table = loaded(CHAPTER_IDS);
        table.chapter_ids = None;
        table.insert(1, &pack(0..1));
        for block in 2..=1_900 {
            let ids = pack(block * 1_000..block * 1_000 + 1_000);
            table.insert(block.into(), &ids);
        }
        let last = table.chapters.last().unwrap();
        assert_eq!(last.room, CHAPTER_IDS);
        assert_eq!(last.entries.capacity(), CHAPTER_IDS, "as it was made");
        assert!(table.chapters.iter().all(|it| it.entries.len() <= it.room));
        assert_eq!(size_of::<Entry>(), 8);
    }

    #[test]
    fn blocks_far_apart_and_out_of_turn_stand_in_chapters_that_can_name_them() {
        let mut table = loaded(1_000);
        let far = [
            5_000,
            4_000,
            100,
            CHAPTER_BLOCKS * 3,
            CHAPTER_BLOCKS * 3 - 9,
        ];
        for (block, id) in far.into_iter().zip(0_u32..) {
            table.insert(block, &pack(id..id + 1));
            assert_eq!(suspects(&table, id), [(block, 0)]);
        }
    }

    #[test]
    fn empty_slots_are_no_ids() {
        let mut table = loaded(10);
        table.insert(1, &[0; 3 * HASH_BYTES]);
        assert_eq!((table.len(), table.chapters.len()), (0, 0));
    }

    #[test]
    fn what_is_known_ends_before_the_first_gap_and_at_a_block_with_a_stamp() {
        let mut table = loaded(10);
        learn(&mut table, 2, Told::Ids(stamp(2), &pack(2..3)));
        assert_eq!(table.upto().0, 0);
        learn(&mut table, 1, Told::Ids(stamp(1), &pack(1..2)));
        assert_eq!(table.upto(), (2, stamp(2)));
        learn(&mut table, 3, Told::Gone(None));
        assert_eq!(table.upto().0, 2, "its stamp is not known");
        learn(&mut table, 4, Told::Own(stamp(4)));
        assert_eq!(table.upto().0, 2, "its answer is still to come");
        learn(&mut table, 4, Told::Ids(stamp(4), &pack(4..5)));
        assert_eq!(table.upto(), (4, stamp(4)));
        learn(&mut table, 4, Told::Ids(stamp(4), &pack(4..5)));
        assert_eq!(table.len(), 3, "told twice, known once");
        learn(&mut table, 5, Told::Gone(Some(stamp(5))));
        assert_eq!(table.upto(), (5, stamp(5)));
    }

    #[test]
    fn a_block_that_is_another_than_the_one_known_makes_all_stale() {
        let mut table = loaded(10);
        learn(&mut table, 1, Told::Ids(stamp(1), &[]));
        learn(&mut table, 3, Told::Ids(stamp(3), &[]));
        for (block, other) in [(1, 9), (3, 9)] {
            for told in [Told::Ids(stamp(other), &[]), Told::Own(stamp(other))] {
                assert_eq!(table.learn(block, told, 9), Err(Stale));
            }
        }
        assert_eq!(table.learn(1, Told::Gone(None), 9), Err(Stale));
        let epoch = table.epoch();
        table.reset(epoch);
        assert_eq!((table.epoch(), table.is_loaded()), (epoch + 1, false));
        table.replace(Table::new(None), (7, stamp(7)), 9);
        assert!(
            !table.is_ready(),
            "what was written since may have moved some"
        );
        table.reset(epoch);
        assert!(table.is_loaded(), "an old answer resets nothing new");
    }

    #[test]
    fn calls_under_way_are_told_unless_they_share_an_id() {
        let mut table = loaded(10);
        let (one, two) = (pack(0..5), pack(5..9));
        let first = table.depart(stamp(1), &one);
        let second = table.depart(stamp(2), &two);
        assert_eq!(table.ask(&pack(8..12)).own, stamp(1));
        assert!(table.ask(&pack(3..7)).own.is_empty());
        table.arrive(first, &one);
        assert_eq!(table.ask(&pack(3..5)).own, stamp(2));
        table.arrive(second, &two);
        assert!(table.flights.is_empty() && table.calls.is_empty());
    }

    #[test]
    fn ids_of_blocks_that_are_gone_and_places_left_give_their_memory_back() {
        let mut table = loaded(100);
        for block in 1..=4_u32 {
            let ids = pack(block * 50..block * 50 + 50);
            learn(
                &mut table,
                block.into(),
                Told::Ids(stamp(block.into()), &ids),
            );
        }
        table.forget(2, 5, &hash(105), 4);
        assert!(table.is_ready());
        assert_eq!(suspects(&table, 105), []);
        assert_eq!(table.len(), 199);
        let rounds: Vec<_> = (0..4).filter_map(|it| table.some_blocks(it, 1)).collect();
        let blocks: Vec<u64> = rounds.iter().flat_map(|it| it.1.clone()).collect();
        assert_eq!(blocks, [1, 3, 2, 4], "by turns");
        table.drop_blocks(rounds[0].0, &HashSet::from([1, 2]), 4);
        assert_eq!((table.len(), table.chapters.len()), (100, 1));
        assert_eq!(suspects(&table, 60), []);
        assert_eq!(suspects(&table, 160), [(3, 10)]);
        table.drop_blocks(rounds[1].0, &HashSet::from([3, 4]), 6);
        assert_eq!((table.len(), table.chapters.len()), (0, 0));
        assert!(
            !table.is_ready(),
            "a failover may bring back what moved to block 5 or 6"
        );
        assert!(table.is_past(5) && !table.is_past(6));
        assert!(table.some_blocks(0, 10).is_none());
    }
}

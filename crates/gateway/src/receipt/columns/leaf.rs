//! Leaves of the index: hashes in order, each with the block it stands in, packed into few bits.
//!
//! An entry is one number: 40 bits of a keyed hash over 24 bits that say which block of its run.
//! Every find is verified in the block itself, so a hash need only be rare, not unique: among a
//! thousand million receipts one look-up in five hundred opens a block for nothing.

use crate::sqlite::corrupt;

/// Bits of a hash that the index keeps.
pub(in crate::receipt) const HASH_BITS: u32 = 40;
/// One more than the largest hash.
pub(in crate::receipt) const HASH_END: u64 = 1 << HASH_BITS;
/// Bits for the place of a block in its run: the largest run spans as many blocks.
pub(in crate::receipt) const BLOCK_BITS: u32 = 24;
/// A leaf fills one page of the file: 4,096 bytes less what SQLite writes around it.
pub(in crate::receipt) const LEAF_BYTES: usize = 4_000;
/// Checksum, bits of a block.
const HEAD_BYTES: usize = 4 + 1;
/// Most entries of a group. Whoever looks for one hash reads one or two groups of a leaf.
const GROUP: usize = 64;
/// How many entries, bits of a step, the first hash.
const GROUP_HEAD_BYTES: usize = 1 + 1 + HASH_BYTES;
const HASH_BYTES: usize = HASH_BITS as usize / 8;

/// An entry of `hash` in the `block`th block of its run.
pub(in crate::receipt) const fn entry(hash: u64, block: u64) -> u64 {
    hash << BLOCK_BITS | block
}

/// The hash of an entry.
pub(in crate::receipt) const fn hash_of(entry: u64) -> u64 {
    entry >> BLOCK_BITS
}

/// The block of an entry.
pub(in crate::receipt) const fn block_of(entry: u64) -> u64 {
    entry & ((1 << BLOCK_BITS) - 1)
}

const fn width(number: u64) -> u32 {
    u64::BITS - number.leading_zeros()
}

/// Packs `entries`, which ascend, into leaves; `blocks` is how many blocks the run spans. Each leaf
/// is given with its first hash. The entries of one hash are never torn apart, so a hash stands in
/// the last leaf that begins with it or before it, and nowhere else.
pub(in crate::receipt) fn pack<E>(
    entries: &[u64],
    blocks: u64,
    mut leaf: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let block_bits = width(blocks.saturating_sub(1));
    let (mut rest, mut groups) = (entries, Vec::new());
    let mut page = Vec::with_capacity(LEAF_BYTES);
    while let [first, ..] = rest {
        plan(rest, block_bits, &mut groups);
        page.clear();
        page.extend_from_slice(&[0, 0, 0, 0, block_bits as u8]);
        for many in &groups {
            let (group, left) = rest.split_at(*many);
            write(group, block_bits, &mut page);
            rest = left;
        }
        let sum = checksum(hash_of(*first), &page[4..]);
        page[..4].copy_from_slice(&sum.to_le_bytes());
        leaf(hash_of(*first), &page)?;
    }
    Ok(())
}

/// How many of `entries` each group of the next leaf takes.
fn plan(entries: &[u64], block_bits: u32, groups: &mut Vec<usize>) {
    groups.clear();
    let (mut bytes, mut end, mut size) = (HEAD_BYTES, 0, GROUP);
    while size > 0 && end < entries.len() {
        let group = &entries[end..entries.len().min(end + size)];
        let more = GROUP_HEAD_BYTES + packed_bytes(group.len(), steps(group) + block_bits);
        if bytes + more > LEAF_BYTES {
            size /= 2;
            continue;
        }
        bytes += more;
        end += group.len();
        groups.push(group.len());
    }
    let torn =
        |end: usize| end < entries.len() && hash_of(entries[end]) == hash_of(entries[end - 1]);
    if !torn(end) {
        return;
    }
    let hash = hash_of(entries[end]);
    let first = entries[..end].partition_point(|entry| hash_of(*entry) < hash);
    if first > 0 {
        // It goes to the next leaf whole.
        let mut left = first;
        groups.retain_mut(|group| {
            *group = left.min(*group);
            left -= *group;
            *group > 0
        });
        return;
    }
    // Nothing else stands here: this leaf is as long as it must be.
    let all = entries.partition_point(|entry| hash_of(*entry) <= hash);
    while end < all {
        groups.push((all - end).min(GROUP));
        end += (all - end).min(GROUP);
    }
}

/// Bits of the widest step between neighbours.
fn steps(entries: &[u64]) -> u32 {
    let steps = entries
        .windows(2)
        .map(|pair| hash_of(pair[1]) - hash_of(pair[0]));
    // As many bits as all of them together need is as many as the widest needs.
    width(steps.fold(0, |all, step| all | step))
}

fn packed_bytes(entries: usize, bits: u32) -> usize {
    (entries * bits as usize).div_ceil(8)
}

fn write(entries: &[u64], block_bits: u32, page: &mut Vec<u8>) {
    let step_bits = steps(entries);
    let mut before = entries.first().map_or(0, |entry| hash_of(*entry));
    page.extend_from_slice(&[entries.len() as u8, step_bits as u8]);
    page.extend_from_slice(&before.to_le_bytes()[..HASH_BYTES]);
    let (mut bits, mut held) = (0_u128, 0);
    for entry in entries {
        let hash = hash_of(*entry);
        let packed = (hash - before) | block_of(*entry) << step_bits;
        before = hash;
        bits |= u128::from(packed) << held;
        held += step_bits + block_bits;
        if held >= 64 {
            page.extend_from_slice(&(bits as u64).to_le_bytes());
            bits >>= 64;
            held -= 64;
        }
    }
    page.extend_from_slice(&(bits as u64).to_le_bytes()[..held.div_ceil(8) as usize]);
}

fn checksum(first: u64, page: &[u8]) -> u32 {
    crc32c::crc32c_append(first as u32 ^ (first >> 32) as u32, page)
}

/// A leaf, read a group at a time.
pub(in crate::receipt) struct Leaf<'a> {
    rest: &'a [u8],
    block_bits: u32,
}

/// Some entries of a leaf that follow one another, still packed.
pub(in crate::receipt) struct Group<'a> {
    /// Its first hash.
    pub(in crate::receipt) first: u64,
    many: usize,
    step_bits: u32,
    block_bits: u32,
    /// Its entries, and whatever of the leaf comes after them.
    packed: &'a [u8],
}

impl<'a> Leaf<'a> {
    /// The leaf whose first hash is `first`.
    ///
    /// # Errors
    /// Corrupt when it is not as it was written.
    pub(in crate::receipt) fn of(first: u64, page: &'a [u8]) -> rusqlite::Result<Self> {
        let (sum, body) = page.split_first_chunk().ok_or_else(wrong)?;
        if u32::from_le_bytes(*sum) != checksum(first, body) {
            return Err(wrong());
        }
        let (block_bits, rest) = body.split_first().ok_or_else(wrong)?;
        let block_bits = u32::from(*block_bits);
        let leaf = Self { rest, block_bits };
        (block_bits <= BLOCK_BITS).then_some(leaf).ok_or_else(wrong)
    }

    /// The first hash of the group to come; `None` at the end.
    pub(in crate::receipt) fn peek(&self) -> Option<u64> {
        let hash = self.rest.get(2..GROUP_HEAD_BYTES)?;
        let mut first = [0; 8];
        first[..HASH_BYTES].copy_from_slice(hash);
        Some(u64::from_le_bytes(first))
    }

    /// The next group.
    ///
    /// # Errors
    /// Corrupt when there is something, but no group.
    pub(in crate::receipt) fn next(&mut self) -> rusqlite::Result<Option<Group<'a>>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let first = self.peek().ok_or_else(wrong)?;
        let (many, step_bits) = (usize::from(self.rest[0]), u32::from(self.rest[1]));
        let packed = &self.rest[GROUP_HEAD_BYTES..];
        let bytes = packed_bytes(many, step_bits + self.block_bits);
        let fits = (1..=GROUP).contains(&many) && step_bits <= HASH_BITS;
        self.rest = packed.get(bytes..).filter(|_| fits).ok_or_else(wrong)?;
        Ok(Some(Group {
            first,
            many,
            step_bits,
            block_bits: self.block_bits,
            packed,
        }))
    }
}

fn wrong() -> rusqlite::Error {
    corrupt("a leaf of the index of receipts")
}

impl Group<'_> {
    /// The entries, in order; `room` is where they are put.
    pub(in crate::receipt) fn entries<'r>(&self, room: &'r mut [u64; GROUP]) -> &'r [u64] {
        let bits = (self.step_bits + self.block_bits) as usize;
        let (steps, blocks) = ((1 << self.step_bits) - 1, (1 << self.block_bits) - 1);
        let (mut hash, mut at) = (self.first, 0);
        for place in &mut room[..self.many] {
            let packed = self.bits(at, bits);
            at += bits;
            hash = (hash + (packed & steps)) & (HASH_END - 1);
            *place = entry(hash, packed >> self.step_bits & blocks);
        }
        &room[..self.many]
    }

    /// The `bits` bits at `at`, and others above them.
    fn bits(&self, at: usize, bits: usize) -> u64 {
        let rest = self.packed.get(at / 8..).unwrap_or_default();
        let shift = at % 8;
        if let Some(word) = rest.first_chunk()
            && shift + bits <= 64
        {
            return u64::from_le_bytes(*word) >> shift;
        }
        let mut word = [0; 16];
        let many = rest.len().min(word.len());
        word[..many].copy_from_slice(&rest[..many]);
        (u128::from_le_bytes(word) >> shift) as u64
    }
}

/// Room for the entries of one group.
pub(in crate::receipt) const ROOM: [u64; GROUP] = [0; GROUP];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(entries: &[u64], blocks: u64) -> Vec<(u64, Vec<u8>)> {
        let mut leaves = Vec::new();
        let keep = |first, page: &[u8]| {
            leaves.push((first, page.to_vec()));
            Ok::<_, ()>(())
        };
        pack(entries, blocks, keep).unwrap();
        leaves
    }

    fn read(first: u64, page: &[u8]) -> rusqlite::Result<Vec<u64>> {
        let (mut leaf, mut room) = (Leaf::of(first, page)?, ROOM);
        let mut entries = Vec::new();
        while let Some(group) = leaf.next()? {
            entries.extend_from_slice(group.entries(&mut room));
        }
        Ok(entries)
    }

    fn read_all(leaves: &[(u64, Vec<u8>)]) -> Vec<u64> {
        let entries = |(first, page): &(u64, Vec<u8>)| read(*first, page).unwrap();
        leaves.iter().flat_map::<Vec<u64>, _>(entries).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn entries_read_back_and_one_hash_stays_in_one_leaf(
            hashes in prop::collection::vec(
                prop_oneof![0..HASH_END, 0..40_u64, Just(HASH_END - 1)], 0..3_000),
            blocks in prop_oneof![Just(1_u64), Just(16), Just(1 << BLOCK_BITS)],
            seed in any::<u64>(),
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut entries: Vec<_> =
                hashes.iter().map(|hash| entry(*hash, random.u64(0..blocks))).collect();
            entries.sort_unstable();
            entries.dedup();
            let leaves = leaves(&entries, blocks);
            prop_assert_eq!(read_all(&leaves), entries);
            prop_assert!(leaves.is_sorted_by(|one, next| one.0 < next.0), "no hash begins two");
        }

        #[test]
        fn a_leaf_of_any_bytes_is_refused_or_read_without_panic(
            mut page in prop::collection::vec(any::<u8>(), 0..64),
            first in 0..HASH_END,
        ) {
            prop_assert!(page.len() < 4 || read(first, &page).is_err());
            if page.len() >= 4 {
                let sum = checksum(first, &page[4..]);
                page[..4].copy_from_slice(&sum.to_le_bytes());
                if let Ok(entries) = read(first, &page) {
                    prop_assert!(entries.len() <= page.len() * GROUP);
                }
            }
        }
    }

    #[test]
    fn leaves_fill_their_pages_and_never_overflow_them() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut entries: Vec<_> = (0..50_000)
            .map(|_| entry(random.u64(0..HASH_END), random.u64(0..256)))
            .collect();
        entries.sort_unstable();
        let leaves = leaves(&entries, 256);
        assert!(leaves.iter().all(|(_, page)| page.len() <= LEAF_BYTES));
        let bytes: usize = leaves.iter().map(|(_, page)| page.len()).sum();
        assert!(bytes > (leaves.len() - 1) * LEAF_BYTES * 97 / 100);
        assert!(bytes < entries.len() * 5, "24 + 2 bits of step, 8 of block");
    }

    #[test]
    fn the_entries_of_one_hash_stand_in_one_leaf_however_many_they_are() {
        let blocks = 1 << BLOCK_BITS;
        for hot in [1, 63, 64, 65, 700, 1_300, 5_000] {
            for before in [0, 1, 500, 1_200] {
                // Hashes of some entries each, one of very many, and some more.
                let each = |hash: u64, many: u64| (0..many).map(move |n| entry(hash, n * 7));
                let few = |from: u64| (from..from + before).flat_map(move |hash| each(hash, 3));
                let entries: Vec<_> = few(0).chain(each(10_000, hot)).chain(few(20_000)).collect();
                let leaves = leaves(&entries, blocks);
                assert_eq!(read_all(&leaves), entries);
                let ends = leaves.iter().map(|(first, page)| {
                    let last = read(*first, page).unwrap().last().copied().unwrap();
                    (*first, hash_of(last))
                });
                let ends: Vec<_> = ends.collect();
                assert!(
                    ends.is_sorted_by(|one, next| one.1 < next.0),
                    "{hot} {before} {ends:?}"
                );
                let long = |page: &&(u64, Vec<u8>)| page.1.len() > LEAF_BYTES;
                assert!(
                    leaves
                        .iter()
                        .filter(long)
                        .all(|(first, _)| *first == 10_000)
                );
            }
        }
    }

    #[test]
    fn a_changed_bit_is_seen() {
        let leaves = leaves(&[entry(5, 0), entry(900, 0)], 1);
        let (first, page) = &leaves[0];
        for bit in 0..page.len() * 8 {
            let mut page = page.clone();
            page[bit / 8] ^= 1 << (bit % 8);
            assert!(read(*first, &page).is_err(), "bit {bit}");
        }
        assert!(read(first + 1, page).is_err());
    }
}

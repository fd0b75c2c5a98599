//! The split-block Bloom filter: one block, so one cache line, for each question.
//!
//! The high bits of a hash choose the block, its lowest 40 bits one bit in each of the block's
//! eight words. Entries come sorted by hash, so a filter is written front to back.

use std::io;

use super::page::{Layout, PAGE, PAGES_AT_ONCE, Pages};

/// Filter blocks in a page.
pub(super) const BLOCKS_IN_PAGE: u64 = ((PAGE - BLOCKS_AT) / BLOCK) as u64;

/// Where blocks begin in their page.
pub(super) const BLOCKS_AT: usize = 32;

/// Bytes of a block.
pub(super) const BLOCK: usize = 32;

const WORDS: usize = 8;

/// Hashes whose blocks are fetched together: loads that do not wait for each other.
const STRIDE: usize = 32;

/// 256 bits, never across two cache lines.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(32))]
pub(super) struct Block([u32; WORDS]);

impl Block {
    pub(super) fn add(&mut self, hash: u64) {
        for (word, lane) in self.0.iter_mut().enumerate() {
            *lane |= 1_u32.wrapping_shl(bit(hash, word));
        }
    }

    #[inline(always)]
    fn has(&self, hash: u64) -> bool {
        let mut all = 1;
        for (word, lane) in self.0.iter().enumerate() {
            all &= lane.wrapping_shr(bit(hash, word));
        }
        all == 1
    }

    pub(super) fn encode(&self) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        for (slot, lane) in bytes.chunks_exact_mut(4).zip(self.0) {
            slot.copy_from_slice(&lane.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let mut block = Self::default();
        for (lane, slot) in block.0.iter_mut().zip(bytes.chunks_exact(4)) {
            *lane = u32::from_le_bytes([slot[0], slot[1], slot[2], slot[3]]);
        }
        block
    }
}

/// The bit of a word, in the lowest five bits; shifts look at no others.
#[inline(always)]
fn bit(hash: u64, word: usize) -> u32 {
    (hash >> (5 * word)) as u32
}

/// The block of a hash: grows with the hash.
#[inline(always)]
pub(super) fn block_of(hash: u64, blocks: u64) -> u64 {
    ((u128::from(hash) * u128::from(blocks)) >> 64) as u64
}

/// A run's filter.
pub(super) enum Filter {
    InMemory(Box<[Block]>),
    OnDisk,
}

impl Filter {
    /// Reads the whole filter.
    pub(super) fn load(pages: &Pages, layout: &Layout) -> io::Result<Self> {
        let mut blocks = Vec::with_capacity(layout.blocks as usize);
        let mut buffer = Vec::with_capacity(PAGES_AT_ONCE * PAGE);
        let mut number = layout.filter_at;
        while number < layout.fences_at {
            pages.read_many(number, layout.fences_at, &mut buffer)?;
            for page in buffer.as_chunks::<PAGE>().0 {
                pages.check(number, page)?;
                let left = layout.blocks as usize - blocks.len();
                let whole = page[BLOCKS_AT..].chunks_exact(BLOCK);
                blocks.extend(whole.take(left).map(Block::decode));
                number += 1;
            }
        }
        Ok(Self::InMemory(blocks.into_boxed_slice()))
    }

    pub(super) fn maybe(&self, pages: &Pages, layout: &Layout, hash: u64) -> io::Result<bool> {
        match self {
            Self::InMemory(blocks) => {
                let block = blocks.get(block_of(hash, blocks.len() as u64) as usize);
                Ok(block.is_some_and(|block| block.has(hash)))
            }
            Self::OnDisk => {
                let mut page = OnePage::default();
                page.has(pages, layout, hash)
            }
        }
    }

    pub(super) fn maybe_all(
        &self,
        pages: &Pages,
        layout: &Layout,
        hashes: &[u64],
        hits: &mut Vec<usize>,
    ) -> io::Result<()> {
        match self {
            Self::InMemory(blocks) => all_in_memory(blocks, hashes, hits),
            Self::OnDisk => {
                // In the order of hashes each page is read once.
                let mut order: Vec<(u64, usize)> = hashes.iter().copied().zip(0..).collect();
                order.sort_unstable();
                let (mut page, first) = (OnePage::default(), hits.len());
                for (hash, index) in order {
                    if page.has(pages, layout, hash)? {
                        hits.push(index);
                    }
                }
                hits[first..].sort_unstable();
            }
        }
        Ok(())
    }
}

fn all_in_memory(blocks: &[Block], hashes: &[u64], hits: &mut Vec<usize>) {
    let count = blocks.len() as u64;
    for (stride, hashes) in hashes.chunks(STRIDE).enumerate() {
        // One word of each block first, and nothing that depends on it: all misses at once.
        let mut touched = 0;
        for hash in hashes {
            touched |= blocks[block_of(*hash, count) as usize].0[0];
        }
        std::hint::black_box(touched);
        for (index, hash) in hashes.iter().enumerate() {
            if blocks[block_of(*hash, count) as usize].has(*hash) {
                hits.push(stride * STRIDE + index);
            }
        }
    }
}

/// The page of the filter that was read last.
struct OnePage {
    number: Option<u64>,
    bytes: [u8; PAGE],
}

impl Default for OnePage {
    fn default() -> Self {
        Self {
            number: None,
            bytes: [0; PAGE],
        }
    }
}

impl OnePage {
    fn has(&mut self, pages: &Pages, layout: &Layout, hash: u64) -> io::Result<bool> {
        let block = block_of(hash, layout.blocks);
        let number = layout.filter_at + block / BLOCKS_IN_PAGE;
        if self.number != Some(number) {
            self.number = None;
            pages.read(number, &mut self.bytes)?;
            self.number = Some(number);
        }
        let at = BLOCKS_AT + (block % BLOCKS_IN_PAGE) as usize * BLOCK;
        Ok(Block::decode(&self.bytes[at..at + BLOCK]).has(hash))
    }
}

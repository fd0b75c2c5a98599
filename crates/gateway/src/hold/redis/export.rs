//! Everything that is held, page by page: partition after partition, block after block.

use super::RedisHold;
use super::query::{Spot, Stands, found_of};
use crate::error::{Kind, Result};
use crate::hold::State;
use crate::hold::block::weight;
use crate::hold::care::{Export, Lost};

/// Bits of a place in an export that number the block.
const BLOCK_BITS: u32 = 48;
/// What every message takes beside its body, in bytes, as far as a page is concerned.
const MESSAGE_BYTES: usize = 512;

impl RedisHold {
    /// Whole blocks from `from` on. What moves meanwhile gets a higher number in its partition, so
    /// it is met again and never missed.
    pub(super) async fn export_page(&self, from: u64, max_bytes: usize) -> Result<Export> {
        let mut page = Export::default();
        let mut bytes = 0;
        let begin = u32::try_from(from >> BLOCK_BITS).unwrap_or(u32::MAX);
        for partition in self.all().filter(|partition| *partition >= begin) {
            let mut least = match partition == begin {
                true => from & ((1 << BLOCK_BITS) - 1),
                false => 0,
            };
            // Again until nothing is new: what moved while blocks were read is in newer ones.
            loop {
                let shelves = self.standing(partition).await?;
                let blocks = self.blocks_of(partition, shelves.keys().copied()).await?;
                let at = blocks.partition_point(|block| *block < least);
                if at == blocks.len() {
                    break;
                }
                for block in blocks.into_iter().skip(at) {
                    if bytes >= max_bytes {
                        page.next = Some(u64::from(partition) << BLOCK_BITS | block);
                        return Ok(page);
                    }
                    bytes += self.export_block(partition, block, &mut page).await?;
                    least = block + 1;
                }
            }
        }
        Ok(page)
    }

    async fn export_block(&self, partition: u32, block: u64, page: &mut Export) -> Result<usize> {
        let records = self.records(partition, &[block]).await?;
        // Read now: the shelf may have moved since the page began.
        let shelves = self.standing(partition).await?;
        let live = [State::Held, State::Leased, State::Buried];
        let mut bytes = 0;
        for record in records {
            let spots = record.spots(partition, &live);
            let (Some(wanted), Some(standing)) =
                (record.wanted(&shelves), shelves.get(&record.shelf))
            else {
                continue;
            };
            let opens = match self.fetch(partition, [wanted]).await {
                Err(error) if error.kind == Kind::Corrupt => {
                    page.lost.push(Lost {
                        file: format!("{}b{block}", self.key(partition)),
                        at: 0,
                        messages: spots.len() as u64,
                        ids: Vec::new(),
                    });
                    continue;
                }
                opens => opens?,
            };
            let Some(open) = opens.get(&block) else {
                continue;
            };
            let found =
                |(spot, stands): (Spot, Stands)| found_of(open, spot.slot, &standing.key, stands);
            for found in spots.into_iter().filter_map(found) {
                bytes += weight(&found.held) + MESSAGE_BYTES;
                page.found.push(found);
            }
        }
        Ok(bytes)
    }
}

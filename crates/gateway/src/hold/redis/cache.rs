//! Blocks that were read. A block never changes once it is written, so a copy is as good as it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use ::redis::Value;
use lru::LruCache;

use super::wire::{bytes, unseal};
use super::{RedisHold, odd};
use crate::error::{Error, Kind, Result};
use crate::hold::block::{Body, Head};
use crate::hold::key::ShelfKey;
use crate::redis::Call;

/// Most bytes of blocks kept, compressed: a few leases of large batches.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Most blocks asked for in one go.
const FETCH_MAX: usize = 64;

/// A block that was read.
pub(super) struct Open {
    pub(super) head: Head,
    pub(super) body: Body,
    /// Its shelf's number in its partition.
    pub(super) shelf: u64,
    /// What the shelf says, but for the due, which may move.
    pub(super) key: ShelfKey,
    bytes: usize,
}

/// A block to be read, and what is known of it.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) block: u64,
    pub(super) shelf: u64,
    pub(super) key: ShelfKey,
}

/// Blocks by partition and number.
pub(super) struct Cache {
    blocks: LruCache<(u32, u64), Arc<Open>>,
    bytes: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            blocks: LruCache::unbounded(),
            bytes: 0,
        }
    }
}

impl Cache {
    fn insert(&mut self, partition: u32, block: u64, open: Arc<Open>) {
        self.bytes += open.bytes;
        if let Some(old) = self.blocks.put((partition, block), open) {
            self.bytes -= old.bytes;
        }
        while self.bytes > CACHE_BYTES {
            match self.blocks.pop_lru() {
                Some((_, old)) => self.bytes -= old.bytes,
                None => return,
            }
        }
    }
}

impl RedisHold {
    /// A block that this process has read before.
    pub(super) fn remembered(&self, partition: u32, block: u64) -> Option<Arc<Open>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.blocks.get(&(partition, block)).map(Arc::clone)
    }

    /// Reads blocks; those that are gone meanwhile are missing from the answer.
    pub(super) async fn fetch(
        &self,
        partition: u32,
        wanted: impl IntoIterator<Item = Wanted>,
    ) -> Result<HashMap<u64, Arc<Open>>> {
        const OP: &str = "read blocks of messages";
        let mut found = HashMap::new();
        let mut missing = HashMap::new();
        for want in wanted {
            match self.remembered(partition, want.block) {
                Some(open) => drop(found.insert(want.block, open)),
                None => drop(missing.insert(want.block, want)),
            }
        }
        let missing: Vec<Wanted> = missing.into_values().collect();
        for some in missing.chunks(FETCH_MAX) {
            let key = self.key(partition);
            let get = |want: &Wanted| {
                let one = format!("{key}b{}", want.block);
                let two = format!("{one}+");
                Call::on("MGET", &one).arg(two)
            };
            let calls: Vec<Call> = some.iter().map(get).collect();
            let said = self.redis.pipeline(&calls).await;
            let said = said.map_err(|fault| super::failed(OP, fault))?;
            for (want, value) in some.iter().zip(said) {
                let value = value.map_err(|fault| super::failed(OP, fault))?;
                let Some(value) = joined(value).ok_or_else(|| odd(OP))? else {
                    continue;
                };
                let open = Arc::new(open(want, value)?);
                let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                cache.insert(partition, want.block, Arc::clone(&open));
                found.insert(want.block, open);
            }
        }
        Ok(found)
    }
}

/// The two pieces of a value as one; nothing when there is none.
fn joined(value: Value) -> Option<Option<Vec<u8>>> {
    let mut pieces = super::wire::array(value)?.into_iter();
    let (one, two) = (pieces.next()?, pieces.next()?);
    let Value::BulkString(mut one) = one else {
        return Some(None);
    };
    if let Some(two) = bytes(&two) {
        one.extend_from_slice(two);
    }
    Some(Some(one))
}

fn open(want: &Wanted, value: Vec<u8>) -> Result<Open> {
    let bytes = value.len();
    let (head, body) = unseal(value).map_err(|damaged| {
        Error::new(Kind::Corrupt, "hold", format!("read block {}", want.block)).with(damaged)
    })?;
    Ok(Open {
        head,
        body,
        shelf: want.shelf,
        key: want.key.clone(),
        bytes,
    })
}

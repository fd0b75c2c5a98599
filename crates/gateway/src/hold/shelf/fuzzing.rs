//! The readers of the store's files, for those who feed them what nobody wrote: the tests below,
//! and `fuzz/`, for which the feature `fuzzing` opens this module.
//!
//! Each function takes any bytes, says whether they were read, and panics when a reader broke a
//! promise: whatever was read means the same once it is written and read again.

use bytes::Bytes;
use jiff::Timestamp;
use nightgate_core::{Class, Priority, Purpose};
use nightgate_log::disk::{Disk, SimDisk, write_all_at};

use super::files;
use super::op::Meta;
use super::state::blocks_of;
use crate::hold::Lane;
use crate::hold::block;
use crate::hold::key::ShelfKey;

/// Where data may begin: beyond any file.
const DATA_AT: u64 = 1 << 62;

/// A frame's meta.
pub fn op(bytes: &[u8]) -> bool {
    let Ok(meta) = Meta::decode(bytes) else {
        return false;
    };
    let again = meta.encode().and_then(|bytes| Meta::decode(&bytes));
    assert_eq!(again.as_ref(), Ok(&meta));
    let blocks = blocks_of(&meta, DATA_AT);
    assert!(blocks.is_sorted_by_key(|block| (block.first, block.at, block.body_at)));
    true
}

/// A block's two sections. Reads every message of it.
pub fn block(count: u32, head: &[u8], body: &[u8]) -> bool {
    let head = block::open_head(head, count);
    let body = block::open_body_of(&Bytes::copy_from_slice(body), count);
    let shelf = ShelfKey {
        lane: Lane::new("fuzz"),
        purpose: Purpose::Advertising,
        class: Class::from_name("fuzz"),
        campaign: None,
        priority: Priority::default(),
        due: None,
    };
    let due = Timestamp::UNIX_EPOCH;
    if let Ok(head) = &head {
        for slot in 0..head.len() {
            let held = head.held(slot, &shelf, due);
            assert_eq!(held.message.id.as_str(), head.id(slot));
            assert!(slot == 0 || head.arrival(slot - 1) < head.arrival(slot));
        }
    }
    let (Ok(head), Ok(body)) = (head, body) else {
        return false;
    };
    let all = block::helds(&head, &body, 0..head.len(), &shelf, due);
    assert_eq!(all.len(), all.map(drop).count());
    true
}

/// A whole file: a manifest, a checkpoint or an index, whichever it says it is.
pub fn whole(bytes: &[u8]) -> bool {
    let on = SimDisk::new();
    let names = [
        files::MANIFEST,
        &files::state_name(1),
        &files::index_name(1),
    ];
    for name in names {
        let file = on.open(name, true);
        if file.is_ok_and(|file| write_all_at(&*file, bytes, 0).is_err()) {
            return false;
        }
    }
    let manifest = files::read_manifest(&on).ok().flatten();
    if let Some(manifest) = &manifest {
        assert!(files::write_manifest(&on, manifest).is_ok());
        assert_eq!(
            files::read_manifest(&on).ok().flatten().as_ref(),
            Some(manifest)
        );
    }
    let state = files::read_state(&on, 1).ok();
    if let Some(state) = &state {
        assert!(files::write_state(&on, 1, state).is_ok());
        assert_eq!(files::read_state(&on, 1).ok().as_ref(), Some(state));
    }
    let index = files::read_index(&on, 1)
        .ok()
        .filter(|told| !told.is_rebuilt);
    if let Some(told) = &index {
        assert!(files::write_index(&on, 1, &told.index).is_ok());
        let again = files::read_index(&on, 1)
            .ok()
            .filter(|told| !told.is_rebuilt);
        assert!(again.is_some_and(|again| again.index == told.index));
    }
    let read = [manifest.is_some(), state.is_some(), index.is_some()];
    assert!(
        read.iter().filter(|read| **read).count() < 2,
        "a file is of one kind"
    );
    read.contains(&true)
}

#[cfg(test)]
mod tests;

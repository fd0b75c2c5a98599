//! Blocks on their way in: cut by shelf, packed, and handed to a script as arguments.

use std::collections::HashMap;

use super::keys::{HASH_BYTES, Place, SLOTS, purpose_and_campaign, sortable_nanos};
use super::wire::{cut, seal};
use crate::hold::Held;
use crate::hold::block::{Packer, Record, weight};
use crate::hold::key::ShelfKey;
use crate::redis::Call;

/// Most messages that one script stores: the server does nothing else meanwhile, and spends 5 to
/// 7 us on each, all counted (docs/PERFORMANCE.md).
pub(super) const CHUNK: usize = 1_000;
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

/// Adds the blocks of `rows`, which arrive in this order, to a call. Says which rows each block
/// holds, by their index.
pub(super) fn add_blocks(
    call: &mut Call,
    packer: &mut Packer,
    rows: &[Row<'_>],
) -> Vec<Vec<usize>> {
    let mut groups: Vec<(ShelfKey, Vec<usize>)> = Vec::new();
    let mut of: HashMap<(ShelfKey, Option<u64>, bool), (usize, usize)> = HashMap::new();
    for (index, row) in rows.iter().enumerate() {
        let key = ShelfKey::of(row.held);
        let bytes = weight(row.held);
        let group = of.entry((key.clone(), row.stays, row.buried));
        let group = group.or_insert((usize::MAX, 0));
        let full = |at: usize| groups[at].1.len() as u64 >= SLOTS;
        if group.0 == usize::MAX || full(group.0) || group.1 + bytes > BLOCK_BYTES {
            groups.push((key, Vec::new()));
            *group = (groups.len() - 1, 0);
        }
        group.1 += bytes;
        groups[group.0].1.push(index);
    }
    for (key, members) in &groups {
        add_block(call, packer, key, rows, members);
    }
    groups.into_iter().map(|(_, members)| members).collect()
}

fn add_block(
    call: &mut Call,
    packer: &mut Packer,
    key: &ShelfKey,
    rows: &[Row<'_>],
    members: &[usize],
) {
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
    let (one, two) = value.split_at(cut(value.len()));
    let mut hashes = Vec::with_capacity(members.len() * HASH_BYTES);
    let (mut arrivals, mut sources) = (Vec::new(), Vec::new());
    // A run of arrivals says itself.
    let run = members[members.len() - 1] - first + 1 == members.len();
    for &index in members {
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
    let state = u8::from(rows[first].buried) * 2;
    call.push(one);
    call.push(two);
    call.push(key.lane.as_str());
    call.push(key.priority.get());
    call.push(due);
    call.push(purpose_and_campaign(key.purpose, key.campaign.as_deref()));
    call.push(key.class.as_str());
    call.push(members.len());
    call.push(hashes);
    call.push(arrivals);
    call.push(first);
    call.push(state);
    call.push(sources);
}

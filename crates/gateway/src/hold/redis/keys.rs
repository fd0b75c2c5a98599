//! Names and numbers as the scripts know them.

use std::hash::Hasher as _;
use std::sync::Arc;

use jiff::Timestamp;
use nightgate_core::{Class, Priority, Purpose};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::hold::instant::{instant, nanos};
use crate::hold::key::ShelfKey;
use crate::hold::{Lane, Token};

/// Slots of a block, as `lua/lib.lua` has it.
pub(super) const SLOTS: u64 = 1024;
/// Bits of a token that name the partition.
const PARTITION_BITS: u32 = 8;
/// Most partitions: their numbers stand in tokens.
pub(super) const PARTITIONS_MAX: u32 = 1 << PARTITION_BITS;
/// Bytes of an id's hash that the index keeps: a hundred million ids meet once in 10^8 nights.
pub(super) const HASH_BYTES: usize = 10;

/// What the keys of a partition begin with: one hash tag, so that they share a slot.
pub(super) fn partition_key(prefix: &str, partition: u32) -> String {
    format!("{{{prefix}:{partition}}}")
}

/// An instant as eight bytes that sort as it does.
pub(super) fn sortable(at: Timestamp) -> [u8; 8] {
    sortable_nanos(nanos(at))
}

/// The same of nanoseconds.
pub(super) fn sortable_nanos(nanos: i64) -> [u8; 8] {
    (nanos.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// An instant as scripts count it: `milliseconds:nanoseconds`, since their numbers have 53 bits.
pub(super) fn counted(at: Timestamp) -> String {
    let (ms, ns) = (
        nanos(at).div_euclid(1_000_000),
        nanos(at).rem_euclid(1_000_000),
    );
    format!("{ms}:{ns}")
}

/// The reverse of [`sortable_nanos`].
pub(super) fn from_sortable(bytes: &[u8]) -> Option<i64> {
    let bytes: [u8; 8] = bytes.try_into().ok()?;
    Some((u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed())
}

/// The same as an instant.
pub(super) fn instant_of(bytes: &[u8]) -> Option<Timestamp> {
    from_sortable(bytes).map(instant)
}

/// Purpose and campaign as one text: `advertising+spring`, `informational-`.
pub(super) fn purpose_and_campaign(purpose: Purpose, campaign: Option<&str>) -> String {
    match campaign {
        Some(campaign) => format!("{}+{campaign}", purpose.as_str()),
        None => format!("{}-", purpose.as_str()),
    }
}

/// The shelf of these names.
pub(super) fn shelf_key(
    lane: &[u8],
    priority: i64,
    due: &[u8],
    pc: &[u8],
    class: &[u8],
) -> Option<ShelfKey> {
    let pc = std::str::from_utf8(pc).ok()?;
    let at = pc.find(['+', '-'])?;
    let campaign = pc[at..].strip_prefix('+').map(Arc::from);
    Some(ShelfKey {
        lane: Lane::new(std::str::from_utf8(lane).ok()?),
        purpose: pc[..at].parse().ok()?,
        class: Class::from_name(std::str::from_utf8(class).ok()?),
        campaign,
        priority: Priority::new(u8::try_from(priority).ok()?).ok()?,
        due: Some(from_sortable(due)?),
    })
}

/// Where a message is: its partition, block and slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) partition: u32,
    pub(super) block: u64,
    pub(super) slot: u32,
}

impl Place {
    /// The token of a loan of it.
    pub(super) fn token(self, lease: u64) -> Token {
        let place = self.block * SLOTS + u64::from(self.slot);
        let seq = place << PARTITION_BITS | u64::from(self.partition);
        Token { seq, lease }
    }

    /// The place in a token.
    pub(super) fn of(token: Token) -> Self {
        let place = token.seq >> PARTITION_BITS;
        Self {
            partition: u32::try_from(token.seq % u64::from(PARTITIONS_MAX)).unwrap_or(0),
            block: place / SLOTS,
            slot: u32::try_from(place % SLOTS).unwrap_or(0),
        }
    }
}

/// Hashes ids with a key that lives in the store, so that nobody can make ids that meet.
#[derive(Clone)]
pub(super) struct Hash {
    pub(super) key: [u8; 16],
    pub(super) partitions: u32,
}

impl Hash {
    /// An id's partition and what the index keeps of it.
    pub(super) fn of(&self, id: &str) -> (u32, [u8; HASH_BYTES]) {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(id.as_bytes());
        let bytes = hasher.finish128().as_bytes();
        let mut kept = [0; HASH_BYTES];
        kept.copy_from_slice(&bytes[..HASH_BYTES]);
        let rest = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        (rest % self.partitions, kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_sort_as_their_bytes_and_tokens_keep_their_place() {
        let all = [i64::MIN, -1, 0, 1, 1_795_000_000_123_456_789, i64::MAX];
        assert!(all.map(sortable_nanos).is_sorted());
        assert_eq!(
            all.map(|at| from_sortable(&sortable_nanos(at)).unwrap()),
            all
        );
        let place = Place {
            partition: 255,
            block: 1 << 40,
            slot: 1023,
        };
        assert_eq!(Place::of(place.token(7)), place);
    }

    #[test]
    fn a_shelf_reads_back_from_its_names() {
        for campaign in [None, Some(""), Some("a+b-c")] {
            let pc = purpose_and_campaign(Purpose::Advertising, campaign);
            let due = sortable_nanos(5);
            let key = shelf_key(b"sms", 3, &due, pc.as_bytes(), b"class").unwrap();
            assert_eq!(key.campaign.as_deref(), campaign);
            assert_eq!((key.purpose, key.due), (Purpose::Advertising, Some(5)));
        }
    }
}

//! What can happen to the store, as it is written into the log and replayed from it.

use std::sync::Arc;

use nightgate_core::{Class, Priority, Purpose};
use serde::{Deserialize, Serialize};

use super::marks::Fate;
use crate::hold::Lane;

/// Places of one shelf, from (inclusive) to (exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stretch {
    pub(super) shelf: u32,
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Stretch {
    pub(super) const fn count(&self) -> u64 {
        self.to - self.from
    }
}

/// What all messages of one shelf share.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Label {
    pub(super) lane: Lane,
    pub(super) purpose: Purpose,
    pub(super) class: Class,
    pub(super) campaign: Option<Arc<str>>,
    pub(super) priority: Priority,
    /// Nanoseconds since 1970.
    pub(super) due: i64,
    /// The shelf of those put aside.
    pub(super) buried: bool,
}

/// A shelf met for the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NewShelf {
    pub(super) no: u32,
    pub(super) label: Label,
}

/// One block of a frame, as its meta tells of it. Place and offset follow from its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlockLine {
    pub(super) shelf: u32,
    pub(super) count: u32,
    pub(super) head_len: u32,
    pub(super) body_len: u32,
    pub(super) head_crc: u32,
    pub(super) body_crc: u32,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Op {
    /// Held places go on loan.
    Lend {
        lease: u64,
        until: i64,
        stretches: Vec<Stretch>,
    },
    /// A loan is over: what is left of it is held again, or recalled if that was wanted.
    Lapse { lease: u64, at: i64 },
    /// Places on loan end.
    Settle {
        lease: u64,
        fate: Fate,
        at: i64,
        stretches: Vec<Stretch>,
    },
    /// Held or buried places end.
    End {
        fate: Fate,
        at: i64,
        stretches: Vec<Stretch>,
    },
    /// Everything held on these shelves ends as recalled.
    Clear { shelves: Vec<u32>, at: i64 },
    /// Places on loan are to be recalled when they return.
    WantBack { lease: u64, stretches: Vec<Stretch> },
    /// Places that ended are known no longer: their id was put again after the horizon.
    Forget { stretches: Vec<Stretch> },
    /// Whole shelves get another due.
    Redate { shelves: Vec<u32>, to: i64 },
    /// A stop begins (since) or is lifted (none).
    Pause {
        lane: Option<Lane>,
        since: Option<i64>,
    },
    /// What ended before this instant is forgotten.
    Sweep { before: i64 },
}

impl Op {
    /// The places it is about, where it names any.
    fn stretches(&self) -> &[Stretch] {
        match self {
            Self::Lend { stretches, .. }
            | Self::Settle { stretches, .. }
            | Self::End { stretches, .. }
            | Self::WantBack { stretches, .. }
            | Self::Forget { stretches } => stretches,
            Self::Lapse { .. }
            | Self::Clear { .. }
            | Self::Redate { .. }
            | Self::Pause { .. }
            | Self::Sweep { .. } => &[],
        }
    }
}

/// What a frame tells beside its blocks' bytes. Applied in this order: shelves, blocks, ops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// Place of its first message.
    pub(super) base: u64,
    pub(super) shelves: Vec<NewShelf>,
    pub(super) blocks: Vec<BlockLine>,
    pub(super) ops: Vec<Op>,
}

impl Meta {
    pub(super) fn encode(&self) -> postcard::Result<Vec<u8>> {
        postcard::to_stdvec(self)
    }

    /// The change that these bytes are. Whatever a store cannot have written is none, so that those
    /// who apply changes may count on what they count with.
    pub(super) fn decode(bytes: &[u8]) -> postcard::Result<Self> {
        let meta: Self = postcard::from_bytes(bytes)?;
        match meta.is_sane() {
            true => Ok(meta),
            false => Err(postcard::Error::DeserializeBadEncoding),
        }
    }

    /// Whether its places are numbers and its stretches go forwards.
    fn is_sane(&self) -> bool {
        let count: u64 = self.blocks.iter().map(|line| u64::from(line.count)).sum();
        let mut stretches = self.ops.iter().flat_map(Op::stretches);
        self.base.checked_add(count).is_some() && stretches.all(|one| one.from <= one.to)
    }
}

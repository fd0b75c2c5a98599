//! Where the newest writing of an id stands.

use std::sync::Arc;

use nightgate_core::MessageId;

use super::fault::Outcome;
use super::op::Stretch;
use super::reader::Unread;
use super::segment::Block;
use super::store::{Core, Inner};
use super::walk::Piece;
use crate::hold::block::Head;

/// One message.
pub(super) struct Spot {
    pub(super) place: u64,
    pub(super) segment: u32,
    pub(super) block: Block,
    /// Its head; `None` when that cannot be read.
    pub(super) head: Option<Arc<Head>>,
}

impl Spot {
    pub(super) fn slot(&self) -> usize {
        usize::try_from(self.place - self.block.first).unwrap_or(usize::MAX)
    }

    pub(super) const fn stretch(&self) -> Stretch {
        let (shelf, from) = (self.block.line.shelf, self.place);
        Stretch {
            shelf,
            from,
            to: from + 1,
        }
    }

    pub(super) const fn piece(&self) -> Piece {
        let (segment, block, from) = (self.segment, self.block, self.place);
        let (to, lapsed) = (from + 1, false);
        Piece {
            segment,
            block,
            from,
            to,
            lapsed,
        }
    }
}

impl Inner {
    /// The newest place at which `id` was written.
    ///
    /// Where a head cannot be read, whatever hashes alike is taken for the same: what ended there
    /// must not leave twice.
    pub(super) fn newest(&self, core: &Core, hash: u64, id: &MessageId) -> Outcome<Option<Spot>> {
        for place in core.ids.places(hash)? {
            let Some(segment) = core.state.segment_of(place) else {
                continue;
            };
            let block = self.reader.block(segment, place)?;
            let segment = segment.no;
            let head = match self.reader.head(segment, &block) {
                Ok(head) => Some(head),
                Err(Unread::Damaged(_)) => None,
                Err(Unread::Failed(error)) => return Err(error),
            };
            let spot = Spot {
                place,
                segment,
                block,
                head,
            };
            if spot
                .head
                .as_ref()
                .is_none_or(|head| head.id(spot.slot()) == id.as_str())
            {
                return Ok(Some(spot));
            }
        }
        Ok(None)
    }
}

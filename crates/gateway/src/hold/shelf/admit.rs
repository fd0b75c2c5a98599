//! Room: how much is held, how much may be, and what is turned away before the disk is full.

use super::op::Label;
use super::store::{Core, Inner};
use crate::hold::Room;

/// Bytes written between two looks at the disk.
const LOOK_EVERY: u64 = 8 * 1024 * 1024;

/// Keeps an eye on the disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    since_look: u64,
    /// Bytes free at the last look.
    free: Option<u64>,
}

impl Meter {
    pub(super) fn wrote(&mut self, bytes: u64) {
        self.since_look += bytes;
        if self.since_look >= LOOK_EVERY {
            (self.since_look, self.free) = (0, None);
        }
    }

    /// Looks again next time.
    pub(super) fn look_again(&mut self) {
        self.free = None;
    }
}

impl Inner {
    /// How much room there is now. A disk that does not say how full it is counts as full.
    pub(super) fn room(&self, core: &mut Core) -> Room {
        let free = match core.room.free {
            Some(free) => free,
            None => {
                let free = self.disk.space().map_or(0, |space| space.free);
                core.room.free = Some(free);
                free
            }
        };
        let (max, keep_free) = (self.options.max_bytes, self.options.keep_free);
        Room::of(core.state.bytes(), max, free, keep_free)
    }

    /// How many more messages the shelf of `label` takes.
    pub(super) fn shelf_room(&self, core: &Core, label: &Label) -> u64 {
        let Some(max) = self.options.shelf_max else {
            return u64::MAX;
        };
        let no = core.state.shelves.find(label);
        let shelf = no.and_then(|no| core.state.shelves.get(no));
        max.saturating_sub(shelf.map_or(0, |shelf| shelf.held + shelf.leased))
    }
}

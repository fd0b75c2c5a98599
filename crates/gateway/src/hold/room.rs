//! How much room a hold has left, and whom it still takes in: advertising is turned away first, so
//! that what people wait for keeps coming in.

use nightgate_core::Purpose;
use serde::{Deserialize, Serialize};

/// Share of `max` beyond which advertising is turned away, in percent.
pub const NEARLY_FULL_PERCENT: u64 = 90;
/// How many times the space kept free must be free for advertising to be taken in.
const KEEP_FREE_TIMES: u64 = 2;

/// Who is turned away; the later in this list, the more.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Refusing {
    /// Nobody.
    #[default]
    None,
    /// Advertising: the hold is nearly full.
    Advertising,
    /// Everybody: the hold is full.
    All,
}

/// What ran out. Its name is the key in the configuration that sets it, if one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Bytes held.
    MaxBytes,
    /// Space on the disk that must stay free.
    KeepFree,
    /// Messages on one shelf.
    ShelfMax,
    /// Bytes of one message: this store can never hold it.
    MessageMax,
}

impl Limit {
    /// The key that sets it; words for what no key sets.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxBytes => "hold.max_bytes",
            Self::KeepFree => "hold.keep_free",
            Self::ShelfMax => "hold.shelf_max",
            Self::MessageMax => "the largest message of this store",
        }
    }
}

/// How much room there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Bytes held.
    pub used: u64,
    /// Most bytes that may be held; `None`: no bound.
    pub max: Option<u64>,
    /// Who is turned away at present.
    pub refusing: Refusing,
    /// Most bytes of one message as this store writes it; `None`: whatever the gate lets in.
    pub message_max: Option<u64>,
}

impl Room {
    /// The room of a hold that uses `used` of at most `max` bytes, on a disk with `free` bytes left
    /// of which `keep_free` must stay free (0: none).
    ///
    /// # Behaviour
    /// - above 90 % of `max`, or below twice `keep_free`, advertising is turned away
    /// - from `max` on, or below `keep_free`, everything is
    #[must_use]
    pub fn of(used: u64, max: Option<u64>, free: u64, keep_free: u64) -> Self {
        let refusing = by_bytes(used, max).max(by_disk(free, keep_free));
        Self {
            used,
            max,
            refusing,
            message_max: None,
        }
    }

    /// Whether a message of this purpose is turned away.
    #[must_use]
    pub fn refuses(&self, purpose: Purpose) -> bool {
        match self.refusing {
            Refusing::None => false,
            Refusing::Advertising => purpose == Purpose::Advertising,
            Refusing::All => true,
        }
    }

    /// What a message of this purpose ran into when the hold answered that it is full.
    #[must_use]
    pub fn limit(&self, purpose: Purpose) -> Limit {
        if !self.refuses(purpose) && self.message_max.is_some() {
            // Such a store has no shelves that fill.
            return Limit::MessageMax;
        }
        if !self.refuses(purpose) {
            // Others of this purpose are taken in, so it is this one's shelf.
            return Limit::ShelfMax;
        }
        match by_bytes(self.used, self.max) == self.refusing {
            true => Limit::MaxBytes,
            false => Limit::KeepFree,
        }
    }
}

fn by_bytes(used: u64, max: Option<u64>) -> Refusing {
    let share = |max: u64| u128::from(max) * u128::from(NEARLY_FULL_PERCENT) / 100;
    match max {
        Some(max) if used >= max => Refusing::All,
        Some(max) if u128::from(used) > share(max) => Refusing::Advertising,
        _ => Refusing::None,
    }
}

fn by_disk(free: u64, keep_free: u64) -> Refusing {
    if free < keep_free {
        Refusing::All
    } else if free < keep_free.saturating_mul(KEEP_FREE_TIMES) {
        Refusing::Advertising
    } else {
        Refusing::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Option<u64> = Some(1_000);

    fn refusing(used: u64, free: u64) -> Refusing {
        Room::of(used, MAX, free, 50).refusing
    }

    #[test]
    fn above_nine_tenths_advertising_is_turned_away_and_from_the_maximum_on_everything() {
        let used = [0, 900, 901, 999, 1_000, 2_000];
        let graded = used.map(|used| refusing(used, u64::MAX));
        use Refusing::{Advertising, All, None};
        assert_eq!(graded, [None, None, Advertising, Advertising, All, All]);
    }

    #[test]
    fn below_twice_the_space_kept_free_advertising_is_turned_away_and_below_it_everything() {
        let graded = [100, 99, 50, 49, 0].map(|free| refusing(0, free));
        use Refusing::{Advertising, All, None};
        assert_eq!(graded, [None, Advertising, Advertising, All, All]);
        assert_eq!(
            Room::of(u64::MAX, Option::None, 0, 0),
            Room {
                used: u64::MAX,
                ..Room::default()
            }
        );
    }

    #[test]
    fn the_stricter_limit_is_the_one_that_is_told() {
        let limits =
            |room: Room| [Purpose::Advertising, Purpose::Informational].map(|it| room.limit(it));
        use Limit::{KeepFree, MaxBytes, ShelfMax};
        assert_eq!(limits(Room::default()), [ShelfMax, ShelfMax]);
        assert_eq!(limits(Room::of(950, MAX, 500, 50)), [MaxBytes, ShelfMax]);
        assert_eq!(limits(Room::of(0, MAX, 70, 50)), [KeepFree, ShelfMax]);
        assert_eq!(limits(Room::of(950, MAX, 0, 50)), [KeepFree, KeepFree]);
        assert_eq!(limits(Room::of(1_000, MAX, 70, 50)), [MaxBytes, MaxBytes]);
    }

    #[test]
    fn a_store_with_a_largest_message_tells_that_a_message_was_too_large_for_it() {
        let room = Room {
            message_max: Some(1_000),
            ..Room::default()
        };
        assert_eq!(room.limit(Purpose::Advertising), Limit::MessageMax);
    }

    #[test]
    fn informational_messages_are_taken_in_while_only_advertising_is_turned_away() {
        let nearly = Room::of(950, MAX, 500, 50);
        assert!(nearly.refuses(Purpose::Advertising) && !nearly.refuses(Purpose::Informational));
        let full = Room::of(1_000, MAX, 500, 50);
        assert!(full.refuses(Purpose::Advertising) && full.refuses(Purpose::Informational));
    }
}

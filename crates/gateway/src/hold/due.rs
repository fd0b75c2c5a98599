//! Which shelf a message goes on: dues are rounded, so that there are few shelves.

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

/// The due of messages that may leave at once: the running minute, so that they share a shelf
/// instead of opening one for every instant.
#[must_use]
pub fn shelf_of_now(now: Timestamp) -> Timestamp {
    let minute = TimestampRound::new()
        .smallest(Unit::Minute)
        .mode(RoundMode::Floor);
    now.round(minute).unwrap_or(now)
}

/// The due of a held message, on the next whole second: never early, and few shelves.
#[must_use]
pub fn shelf_of(due: Timestamp) -> Timestamp {
    let second = TimestampRound::new()
        .smallest(Unit::Second)
        .mode(RoundMode::Ceil);
    due.round(second).unwrap_or(due)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shelf_is_never_early_for_the_held_and_never_late_for_the_rest() {
        let at: Timestamp = "2026-11-22T20:58:31.000000001+09:00".parse().unwrap();
        assert_eq!(shelf_of(at), "2026-11-22T20:58:32+09:00".parse().unwrap());
        assert_eq!(
            shelf_of_now(at),
            "2026-11-22T20:58:00+09:00".parse().unwrap()
        );
        let opening: Timestamp = "2026-11-23T08:00:00+09:00".parse().unwrap();
        assert_eq!(shelf_of(opening), opening);
        assert_eq!(shelf_of(Timestamp::MAX), Timestamp::MAX);
    }
}

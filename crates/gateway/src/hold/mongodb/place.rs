//! Where bodies are kept: a collection for each lane and opening.

use ::mongodb::bson::Document;
use ::mongodb::{Collection, bson::doc};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::hold::Lane;
use crate::hold::instant::storable;

/// What the names of collections of bodies begin with.
pub(super) const PREFIX: &str = "hold_bodies_";
/// Longest lane that is spelt out in a name; a longer one, or one with other letters, is hashed.
const LANE_MAX: usize = 40;
/// Letters of such a hash.
const HASH_LETTERS: usize = 16;
/// What is due within so long has a collection an hour, what is due later one a month: few
/// collections however far dues are.
const BY_HOUR: SignedDuration = SignedDuration::from_hours(8 * 24);
/// How long after its hour a collection stays, though nothing is held in it: a put that began in
/// that hour is over by then, see [`super::put`]. Clocks of several gateways may differ by less.
pub(super) const GRACE: SignedDuration = SignedDuration::from_hours(2);

/// The collection for what is put at `now` and due at `due`. Dues that have passed go to the
/// running hour, so that a collection whose hour is over gets nothing new.
pub(super) fn of(lane: &Lane, due: Timestamp, now: Timestamp) -> String {
    let at = storable(due).max(storable(now));
    let far = at.duration_since(now) > BY_HOUR;
    let at = at.to_zoned(TimeZone::UTC);
    let (year, month, day, hour) = (at.year(), at.month(), at.day(), at.hour());
    let lane = spelt(lane);
    match far {
        true => format!("{PREFIX}{lane}_{year:04}{month:02}"),
        false => format!("{PREFIX}{lane}_{year:04}{month:02}{day:02}{hour:02}"),
    }
}

fn spelt(lane: &Lane) -> String {
    let plain = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let name = lane.as_str();
    if !name.is_empty() && name.len() <= LANE_MAX && name.bytes().all(plain) {
        return name.to_owned();
    }
    let hash = blake3::hash(name.as_bytes()).to_hex();
    hash.get(..HASH_LETTERS).unwrap_or_default().to_owned()
}

/// When the hour or month of a collection is over; `None` if it is none of these.
pub(super) fn over(name: &str) -> Option<Timestamp> {
    let (_, stamp) = name.strip_prefix(PREFIX)?.rsplit_once('_')?;
    if !stamp.is_ascii() {
        return None;
    }
    let part = |from: usize, to: usize| stamp.get(from..to)?.parse::<i16>().ok();
    let small = |from, to| i8::try_from(part(from, to)?).ok();
    let date = |day| Date::new(part(0, 4)?, small(4, 6)?, day).ok();
    let end = match stamp.len() {
        6 => date(1)?.checked_add(1.month()).ok()?.at(0, 0, 0, 0),
        10 => {
            let hour = date(small(6, 8)?)?
                .to_datetime(jiff::civil::Time::new(small(8, 10)?, 0, 0, 0).ok()?);
            hour.checked_add(1.hour()).ok()?
        }
        _ => return None,
    };
    TimeZone::UTC.to_timestamp(end).ok()
}

/// Removes bodies that no head refers to.
pub(super) async fn remove(
    from: &Collection<Document>,
    numbers: Vec<::mongodb::bson::Bson>,
) -> ::mongodb::error::Result<()> {
    let these = doc! { "_id": { "$in": numbers } };
    from.delete_many(these).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_collection_is_named_by_lane_and_opening_and_its_name_says_when_it_is_over() {
        let (lane, now) = (Lane::new("sms"), at("2026-11-22T12:10:00Z"));
        let name = of(&lane, at("2026-11-22T23:00:00Z"), now);
        assert_eq!(name, "hold_bodies_sms_2026112223");
        assert_eq!(over(&name), Some(at("2026-11-23T00:00:00Z")));
        let late = of(&lane, at("2026-01-01T00:00:00Z"), now);
        assert_eq!(
            late, "hold_bodies_sms_2026112212",
            "what is late is put now"
        );
        let far = of(&lane, at("2027-12-22T23:00:00Z"), now);
        assert_eq!(far, "hold_bodies_sms_202712");
        assert_eq!(over(&far), Some(at("2028-01-01T00:00:00Z")));
        let end = of(&lane, Timestamp::MAX, now);
        assert_eq!(over(&end), Some(at("2262-05-01T00:00:00Z")));
        for other in [
            "hold_messages",
            "hold_bodies_sms_1",
            "hold_bodies_sms_2026119923",
        ] {
            assert_eq!(over(other), None, "{other}");
        }
    }

    #[test]
    fn a_lane_of_any_name_has_a_collection() {
        for odd in ["", "SMS", "x'); DROP", "세종", "a_b", &"x".repeat(99)] {
            let name = of(
                &Lane::new(odd),
                at("2026-11-22T23:00:00Z"),
                Timestamp::UNIX_EPOCH,
            );
            let plain = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'_';
            assert!(name.bytes().all(plain) && name.len() < 60, "{name}");
            assert!(over(&name).is_some(), "{name}");
        }
    }
}

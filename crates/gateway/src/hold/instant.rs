//! Instants as the stores compare them: 64 bits of nanoseconds.

use jiff::Timestamp;

/// Nanoseconds since 1970, which is what instants that stores compare are kept as. 64 bits
/// reach from 1677 to 2262; what lies beyond is stored as the nearer end: nobody waits for it.
pub(crate) fn nanos(at: Timestamp) -> i64 {
    let nanos = at.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

/// The instant behind [`nanos`].
pub(crate) fn instant(nanos: i64) -> Timestamp {
    // Every i64 lies within jiff's range, so there is nothing to report.
    Timestamp::from_nanosecond(nanos.into()).unwrap_or(Timestamp::MAX)
}

/// `at` as it reads back once stored.
pub(crate) fn storable(at: Timestamp) -> Timestamp {
    instant(nanos(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_keep_their_nanoseconds_and_far_ones_the_nearest_that_fits() {
        let near: Timestamp = "2026-11-22T23:00:00.123456789Z".parse().unwrap();
        assert_eq!(storable(near), near);
        assert_eq!(
            storable(Timestamp::MAX).to_string(),
            "2262-04-11T23:47:16.854775807Z"
        );
        assert_eq!(
            storable(Timestamp::MIN).to_string(),
            "1677-09-21T00:12:43.145224192Z"
        );
    }
}

//! Whether somebody had a message before us. SQS keeps no such mark: only how often a message was
//! received, and when first.
//!
//! A message is received for one of two reasons: it was lent, or it was a probe, which found it
//! undue and hid it. A held message is sent anew whenever it is put back, so its count begins at
//! one again; every receive beyond the probes was a loan, and a loan that did not end lapsed.
//!
//! How many probes there were follows from the message alone. One whose first receive was at its
//! due or later was never probed. One that was first received earlier was hidden until its due, in
//! as many steps as SQS's longest hiding makes necessary: `ceil((due - first) / step)`.
//!
//! Both instants of that first comparison must come from one clock, so the first receive of a
//! message is judged by SQS's clock as well as by ours ([`reading`]). Where a step was missed (no
//! process ran for hours, and the due is more than twelve hours after the first receive), one lapse
//! too many can go unseen; where an unplanned receive came in between, one is seen that was none.

use jiff::{SignedDuration, Timestamp};

use super::worth::after;

/// The longest step: SQS hides for twelve hours from the receive, of which a minute is left for
/// the way there.
const STEP: SignedDuration = SignedDuration::from_mins(12 * 60 - 1);
/// A message so close to its due by our clock, and due by SQS's, is kept until it is due.
const EARLY: SignedDuration = SignedDuration::from_secs(5);

/// What to do with a message that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It is due.
    Lend,
    /// It is not: hide it for so many seconds from now.
    Hide(u32),
    /// It is due in a moment: keep it until then.
    Keep,
}

/// Reads a message due at `due`, first received at `first` by SQS's clock and `receives` times in
/// all, received at `now` by ours.
pub(super) fn reading(due: Timestamp, first: Timestamp, receives: u32, now: Timestamp) -> Reading {
    let probed = is_before(first, due);
    if now >= due {
        return match receives <= 1 && probed {
            // SQS's clock is behind ours. What is lent now would look probed later.
            true => Reading::Hide(seconds(due.duration_since(first))),
            false => Reading::Lend,
        };
    }
    let ahead = due.duration_since(now);
    if receives <= 1 && !probed && ahead <= EARLY {
        return Reading::Keep;
    }
    // Even steps, so that each message is probed as often as it must be and no more.
    let steps = probes(due, first).max(1);
    let whole = due.duration_since(first);
    let target = (1..=steps)
        .map(|step| after(first, whole * step / steps))
        .find(|at| *at > now);
    let until = target.unwrap_or(due).min(due).duration_since(now);
    Reading::Hide(seconds(until.min(STEP)))
}

/// How often a message is probed before its due.
pub(super) fn probes(due: Timestamp, first: Timestamp) -> i32 {
    if !is_before(first, due) {
        return 0;
    }
    let whole = due.duration_since(first).as_millis().max(1);
    let step = STEP.as_millis();
    i32::try_from((whole + step - 1) / step).unwrap_or(i32::MAX)
}

/// Whether an earlier loan of a message that is lent now lapsed.
pub(super) fn lapsed(due: Timestamp, first: Timestamp, receives: u32) -> bool {
    i64::from(receives) - 1 > i64::from(probes(due, first))
}

/// SQS tells milliseconds, so no more is compared.
fn is_before(first: Timestamp, due: Timestamp) -> bool {
    first.as_millisecond() < due.as_millisecond()
}

/// Whole seconds, rounded up, at least one.
fn seconds(span: SignedDuration) -> u32 {
    let up = span.as_secs() + i64::from(span.subsec_nanos() > 0);
    u32::try_from(up.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    const HOUR: i64 = 3600;

    #[test]
    fn receives_beyond_the_probes_are_lapses() {
        // Due, first received, probes.
        let cases = [
            (0, 0, 0),
            (0, HOUR, 0),
            (HOUR, 0, 1),
            (1, 0, 1),
            (STEP.as_secs(), 0, 1),
            (STEP.as_secs() + 1, 0, 2),
            (30 * HOUR, 0, 3),
        ];
        for (due, first, expected) in cases {
            let (due, first) = (at(due), at(first));
            assert_eq!(probes(due, first), expected, "{due} {first}");
            let receives = expected as u32 + 1;
            assert!(!lapsed(due, first, receives));
            assert!(lapsed(due, first, receives + 1));
        }
    }

    #[test]
    fn a_message_is_probed_as_often_as_the_count_expects() {
        for ahead in [1, 60, HOUR, 12 * HOUR, 24 * HOUR, 60 * HOUR, 300 * HOUR] {
            let (due, first) = (at(ahead), at(0));
            let (mut now, mut receives) = (first, 1);
            // Each step begins a little late, as it does on a network.
            while let Reading::Hide(seconds) = reading(due, first, receives, now) {
                assert!(i64::from(seconds) <= STEP.as_secs());
                now = after(now, SignedDuration::new(seconds.into(), 40_000_000));
                receives += 1;
            }
            assert!(now >= due && now < after(due, SignedDuration::from_secs(2)));
            assert!(!lapsed(due, first, receives), "{ahead}");
            assert!(lapsed(due, first, receives + 1), "{ahead}");
        }
    }

    #[test]
    fn clocks_that_differ_a_little_make_no_lapse_and_hide_none() {
        let (due, half) = (at(0), SignedDuration::from_millis(500));
        // SQS's clock is behind: it says that the message is not due yet.
        let behind = after(due, -half);
        assert_eq!(reading(due, behind, 1, due), Reading::Hide(1));
        let later = after(due, SignedDuration::from_secs(1));
        assert_eq!(reading(due, behind, 2, later), Reading::Lend);
        assert!(!lapsed(due, behind, 2) && lapsed(due, behind, 3));
        // It is ahead: due there and not here.
        let ahead = after(due, half);
        assert_eq!(reading(due, ahead, 1, behind), Reading::Keep);
        assert!(!lapsed(due, ahead, 1) && lapsed(due, ahead, 2));
        // Far ahead: not kept for so long; the next receive looks like a lapse, which is safe.
        let far = at(-600);
        assert_eq!(reading(due, ahead, 1, far), Reading::Hide(600));
        assert!(lapsed(due, ahead, 2));
    }

    #[test]
    fn a_loan_that_lapsed_is_lent_again_at_once() {
        assert_eq!(reading(at(0), at(1), 2, at(600)), Reading::Lend);
        assert!(lapsed(at(0), at(1), 2));
    }
}

//! When a queue is worth asking. SQS tells no dues, and each question costs money and, where what
//! comes is not due, a receive.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

/// Instants kept in mind of one queue. Dues are whole seconds and most are openings: few.
const KNOWN_MAX: usize = 4096;
/// For so long after an instant that is known the queue is asked again and again: SQS's clock, and
/// the way there, may be later than ours.
const GRACE: SignedDuration = SignedDuration::from_secs(5);
/// SQS's counts are right after a minute, it says; twice that is believed.
const COUNTS_LAG: SignedDuration = SignedDuration::from_secs(120);
/// How soon the queue is asked again then, and the first time that it was found empty.
const SOON: SignedDuration = SignedDuration::from_secs(1);

/// So many empty answers in a row that the queue is left alone for the longest pause.
const PATIENT: u32 = 16;

/// What is known of one queue.
#[derive(Debug)]
pub(super) struct Worth {
    /// From then on it is worth asking.
    from: Timestamp,
    /// From these instants on there is something to receive.
    known: BTreeSet<Timestamp>,
    /// The last answer held something due, so there may be more.
    flows: bool,
    /// Empty answers in a row.
    empties: u32,
    /// The longest that the queue is left alone.
    every: SignedDuration,
}

impl Worth {
    /// Of a queue nobody asked yet, which is to be asked at least every so long.
    pub(super) fn new(every: SignedDuration) -> Self {
        Self {
            from: Timestamp::MIN,
            known: BTreeSet::new(),
            flows: false,
            empties: 0,
            every: every.max(SOON),
        }
    }

    /// The same of a queue in which nothing becomes due but at instants that are known: found
    /// empty, it is left alone for `every` from the first time on, until something was found in it.
    pub(super) fn patient(every: SignedDuration) -> Self {
        Self {
            empties: PATIENT,
            ..Self::new(every)
        }
    }

    /// From `at` on there is something to receive.
    pub(super) fn note(&mut self, at: Timestamp) {
        self.known.insert(at);
        if self.known.len() > KNOWN_MAX {
            // The queue is asked often enough to come upon what is forgotten here.
            self.known.pop_last();
        }
        self.from = self.from.min(at);
    }

    /// Whether it is worth asking.
    pub(super) fn asks(&self, now: Timestamp) -> bool {
        self.from <= now
    }

    /// Whether something is due there, as far as is known: not only a look to be sure.
    pub(super) fn is_sure(&self, now: Timestamp) -> bool {
        self.asks(now) && (self.flows || self.known.first().is_some_and(|first| *first <= now))
    }

    /// Whether the last answers held something due.
    pub(super) fn flows(&self) -> bool {
        self.flows
    }

    /// Whether something became due so lately that SQS's counts may not tell it yet.
    pub(super) fn is_news(&self, now: Timestamp) -> bool {
        let mut lately = self.known.range(after(now, -COUNTS_LAG)..=now);
        lately.next().is_some()
    }

    /// When it is next worth asking.
    pub(super) fn next(&self) -> Timestamp {
        self.from
    }

    /// The first instant after `now` at which something is due, if one is known.
    pub(super) fn next_known(&self, now: Timestamp) -> Option<Timestamp> {
        self.known.range(now..).find(|at| **at > now).copied()
    }

    /// Something due was found.
    pub(super) fn found(&mut self) {
        self.flows = true;
        self.empties = 0;
    }

    /// Nothing can be received. Asked again soon at first, then ever more seldom.
    pub(super) fn empty(&mut self, now: Timestamp) {
        self.empties = self.empties.saturating_add(1);
        let doubled = SOON.as_secs() << self.empties.saturating_sub(1).min(PATIENT);
        self.rest(now, SignedDuration::from_secs(doubled).min(self.every));
    }

    /// There is something, and nothing of it is due.
    pub(super) fn undue(&mut self, now: Timestamp) {
        self.rest(now, self.every);
    }

    fn rest(&mut self, now: Timestamp, pause: SignedDuration) {
        self.flows = false;
        let forgotten = after(now, -GRACE);
        self.known.retain(|at| *at > forgotten);
        let pending = self.known.first().is_some_and(|first| *first <= now);
        let pause = after(now, if pending { SOON } else { pause });
        self.from = self.next_known(now).map_or(pause, |at| at.min(pause));
    }
}

/// `at` and `by`, as far as instants go.
pub(super) fn after(at: Timestamp, by: SignedDuration) -> Timestamp {
    let end = if by.is_negative() {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    at.saturating_add(by).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: SignedDuration = SignedDuration::from_secs(60);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn an_empty_queue_is_asked_ever_more_seldom_and_at_what_is_known() {
        let mut worth = Worth::new(EVERY);
        assert!(worth.asks(at(0)) && !worth.is_sure(at(0)));
        let mut now = at(0);
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            worth.empty(now);
            assert_eq!(worth.next(), after(now, SignedDuration::from_secs(pause)));
            now = worth.next();
        }
        worth.note(after(now, SignedDuration::from_secs(7)));
        worth.empty(now);
        assert_eq!(worth.next(), after(now, SignedDuration::from_secs(7)));
        assert!(!worth.asks(now) && worth.is_sure(worth.next()));
        worth.found();
        worth.empty(now);
        assert_eq!(worth.next(), after(now, SOON), "it began anew");
    }

    #[test]
    fn a_queue_that_fills_for_one_opening_is_left_alone_until_something_flows() {
        let mut worth = Worth::patient(EVERY);
        assert!(worth.asks(at(0)), "what is there may be due already");
        worth.empty(at(0));
        assert_eq!(worth.next(), at(60));
        worth.found();
        worth.empty(at(60));
        assert_eq!(
            worth.next(),
            at(61),
            "a drain is not over at the first empty answer"
        );
    }

    #[test]
    fn what_is_known_is_looked_for_a_while_longer_since_clocks_differ() {
        let mut worth = Worth::new(EVERY);
        worth.note(at(10));
        for second in 10..15 {
            worth.undue(at(second));
            assert_eq!(worth.next(), at(second + 1));
        }
        worth.undue(at(15));
        assert_eq!(worth.next(), at(75));
        worth.note(at(20));
        assert_eq!(worth.next(), at(20), "something earlier came in");
    }

    #[test]
    fn instants_kept_in_mind_are_bounded_and_the_nearest_stay() {
        let mut worth = Worth::new(EVERY);
        for second in (1..=KNOWN_MAX as i64 + 10).rev() {
            worth.note(at(second));
        }
        assert_eq!(worth.known.len(), KNOWN_MAX);
        assert_eq!(worth.next_known(at(0)), Some(at(1)));
    }
}

//! How messages ended, by place: stretches that share an end cost one entry together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hold::State;

/// Above so many entries, neighbours that ended alike at different instants become one entry that
/// keeps the later instant: their ids are remembered a little longer, in bounded memory.
const ENTRIES_MAX: usize = 16_384;

/// How a place ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Fate {
    Recalled,
    Delivered,
    Refused,
    Expired,
    Rejected,
    /// Written anew at a later place, or never valid: says nothing about its id.
    Elsewhere,
    /// Ended longer ago than the horizon.
    Forgotten,
    /// Could not be read back.
    Damaged,
}

impl Fate {
    /// The state under which the message is known, if it is.
    pub(super) const fn state(self) -> Option<State> {
        match self {
            Self::Recalled => Some(State::Recalled),
            Self::Delivered => Some(State::Delivered),
            Self::Refused => Some(State::Refused),
            Self::Expired => Some(State::Expired),
            Self::Rejected => Some(State::Rejected),
            Self::Damaged => Some(State::Buried),
            Self::Elsewhere | Self::Forgotten => None,
        }
    }

    pub(super) const fn is_remembered(self) -> bool {
        !matches!(self, Self::Elsewhere | Self::Forgotten)
    }
}

/// How and when a stretch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) fate: Fate,
    /// Nanoseconds since 1970.
    pub(super) at: i64,
    /// How often its shelf had been re-dated by then.
    pub(super) epoch: u16,
}

/// The ends of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marks(BTreeMap<u64, (u64, Mark)>);

impl Marks {
    pub(super) fn get(&self, place: u64) -> Option<Mark> {
        let (_, &(to, mark)) = self.0.range(..=place).next_back()?;
        (place < to).then_some(mark)
    }

    /// The entries that overlap `from..to`, cut to it, in order.
    pub(super) fn within(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64, Mark)> {
        let first = self
            .0
            .range(..=from)
            .next_back()
            .map_or(from, |(&at, _)| at);
        let all = self.0.range(first..to.max(first));
        all.map(move |(&a, &(b, mark))| (a.max(from), b.min(to), mark))
            .filter(|(a, b, _)| a < b)
    }

    /// Whether every place of `from..to` has ended.
    pub(super) fn cover(&self, from: u64, to: u64) -> bool {
        let mut at = from;
        for (a, b, _) in self.within(from, to) {
            if a > at {
                return false;
            }
            at = b;
        }
        at >= to
    }

    /// What of `from..to` has not ended, in order.
    pub(super) fn open(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut open = Vec::new();
        let mut at = from;
        for (a, b, _) in self.within(from, to) {
            if at < a {
                open.push((at, a));
            }
            at = b;
        }
        if at < to {
            open.push((at, to));
        }
        open
    }

    /// Gives `from..to` this end, whatever it had.
    pub(super) fn set(&mut self, from: u64, to: u64, mark: Mark) {
        if from >= to {
            return;
        }
        self.cut(from);
        self.cut(to);
        let old: Vec<u64> = self.0.range(from..to).map(|(&at, _)| at).collect();
        for at in old {
            self.0.remove(&at);
        }
        let (mut from, mut to) = (from, to);
        if let Some((&before, &(end, same))) = self.0.range(..from).next_back()
            && end == from
            && same == mark
        {
            from = before;
        }
        if let Some(&(end, same)) = self.0.get(&to)
            && same == mark
        {
            self.0.remove(&to);
            to = end;
        }
        self.0.insert(from, (to, mark));
        if self.0.len() > ENTRIES_MAX {
            self.coarsen();
        }
    }

    /// Splits the entry that spans `at`.
    fn cut(&mut self, at: u64) {
        let Some((&from, &(to, mark))) = self.0.range(..at).next_back() else {
            return;
        };
        if to > at {
            self.0.insert(from, (at, mark));
            self.0.insert(at, (to, mark));
        }
    }

    fn coarsen(&mut self) {
        let mut coarse: BTreeMap<u64, (u64, Mark)> = BTreeMap::new();
        for (from, (to, mark)) in std::mem::take(&mut self.0) {
            if let Some(mut last) = coarse.last_entry() {
                let (end, same) = last.get_mut();
                if *end == from && same.fate == mark.fate && same.epoch == mark.epoch {
                    *end = to;
                    same.at = same.at.max(mark.at);
                    continue;
                }
            }
            coarse.insert(from, (to, mark));
        }
        self.0 = coarse;
    }

    /// Forgets what ended before `before`; says how many places that were.
    pub(super) fn sweep(&mut self, before: i64) -> u64 {
        let old = |mark: &Mark| mark.fate.is_remembered() && mark.at < before;
        let gone: Vec<(u64, u64)> = self
            .0
            .iter()
            .filter(|(_, (_, mark))| old(mark))
            .map(|(&from, &(to, _))| (from, to))
            .collect();
        let forgotten = Mark {
            fate: Fate::Forgotten,
            at: 0,
            epoch: 0,
        };
        let mut count = 0;
        for (from, to) in gone {
            self.set(from, to, forgotten);
            count += to - from;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn mark(dice: &mut fastrand::Rng) -> Mark {
        let fates = [Fate::Delivered, Fate::Recalled, Fate::Elsewhere];
        Mark {
            fate: fates[dice.usize(..3)],
            at: dice.i64(..3),
            epoch: 0,
        }
    }

    #[test]
    fn stretches_of_ends_behave_as_one_end_a_place() {
        let mut dice = fastrand::Rng::with_seed(11);
        let (mut marks, mut plain) = (Marks::default(), BTreeMap::new());
        for _ in 0..4_000 {
            let from = dice.u64(..200);
            let to = from + dice.u64(..12);
            let mark = mark(&mut dice);
            marks.set(from, to, mark);
            plain.extend((from..to).map(|place| (place, mark)));
            let flat: BTreeMap<u64, Mark> = marks
                .within(0, 1_000)
                .flat_map(|(a, b, mark)| (a..b).map(move |place| (place, mark)))
                .collect();
            assert_eq!(flat, plain);
            let open: Vec<u64> = marks
                .open(30, 90)
                .into_iter()
                .flat_map(|(a, b)| a..b)
                .collect();
            let missing: Vec<u64> = (30..90)
                .filter(|place| !plain.contains_key(place))
                .collect();
            assert_eq!(marks.cover(30, 90), missing.is_empty());
            assert_eq!(open, missing);
        }
        let old = plain
            .values()
            .filter(|mark| mark.fate.is_remembered() && mark.at < 2)
            .count();
        assert_eq!(marks.sweep(2), old as u64);
        assert_eq!(marks.sweep(2), 0, "nothing is forgotten twice");
    }

    #[test]
    fn many_single_ends_in_a_row_stay_within_their_bound() {
        let mut marks = Marks::default();
        for place in 0..100_000_u64 {
            let at = i64::try_from(place).unwrap();
            let (fate, epoch) = (Fate::Delivered, 0);
            marks.set(place, place + 1, Mark { fate, at, epoch });
        }
        assert!(marks.0.len() <= ENTRIES_MAX);
        assert!(marks.cover(0, 100_000));
        let last = marks.get(99_999).unwrap();
        assert_eq!(last.at, 99_999, "never remembered shorter");
    }
}

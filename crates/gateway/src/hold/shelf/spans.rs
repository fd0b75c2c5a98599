//! A set of places, kept as stretches: a million places in a row cost one entry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Disjoint, non-empty stretches of places, from (inclusive) to (exclusive).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spans(BTreeMap<u64, u64>);

impl Spans {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn contains(&self, place: u64) -> bool {
        let before = self.0.range(..=place).next_back();
        before.is_some_and(|(_, &to)| place < to)
    }

    /// What `from..to` and the set have in common, in order.
    pub(super) fn within(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
        let first = self
            .0
            .range(..=from)
            .next_back()
            .map_or(from, |(&at, _)| at);
        let all = self.0.range(first..to.max(first));
        all.map(move |(&a, &b)| (a.max(from), b.min(to)))
            .filter(|(a, b)| a < b)
    }

    /// What of `from..to` is not in the set, in order.
    pub(super) fn gaps(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = from;
        for (a, b) in self.within(from, to) {
            if at < a {
                gaps.push((at, a));
            }
            at = b;
        }
        if at < to {
            gaps.push((at, to));
        }
        gaps
    }

    pub(super) fn insert(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (mut from, mut to) = (from, to);
        // Everything that touches the new stretch becomes part of it.
        while let Some((&a, &b)) = self.0.range(..=to).next_back() {
            if b < from {
                break;
            }
            self.0.remove(&a);
            from = from.min(a);
            to = to.max(b);
        }
        self.0.insert(from, to);
    }

    pub(super) fn remove(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let hit: Vec<(u64, u64)> = self.within(from, to).collect();
        for (a, _) in hit {
            let Some((&start, &end)) = self.0.range(..=a).next_back() else {
                continue;
            };
            self.0.remove(&start);
            if start < from {
                self.0.insert(start, from);
            }
            if to < end {
                self.0.insert(to, end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_set_of_stretches_behaves_as_a_set_of_places() {
        let mut dice = fastrand::Rng::with_seed(7);
        let (mut spans, mut plain) = (Spans::default(), BTreeSet::new());
        for _ in 0..4_000 {
            let from = dice.u64(..200);
            let to = from + dice.u64(..12);
            if dice.bool() {
                spans.insert(from, to);
                plain.extend(from..to);
            } else {
                spans.remove(from, to);
                plain.retain(|place| !(from..to).contains(place));
            }
            let flat: BTreeSet<u64> = spans.within(0, 1_000).flat_map(|(a, b)| a..b).collect();
            assert_eq!(flat, plain);
            let place = dice.u64(..220);
            assert_eq!(spans.contains(place), plain.contains(&place));
            let gaps: Vec<u64> = spans
                .gaps(40, 160)
                .into_iter()
                .flat_map(|(a, b)| a..b)
                .collect();
            let missing: Vec<u64> = (40..160).filter(|place| !plain.contains(place)).collect();
            assert_eq!(gaps, missing);
            let stretches: Vec<_> = spans.within(0, 1_000).collect();
            assert!(
                stretches.windows(2).all(|two| two[0].1 < two[1].0),
                "touching: {stretches:?}"
            );
        }
    }
}

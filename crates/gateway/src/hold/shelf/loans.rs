//! What is on loan: one entry a lease, not one a message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::op::Stretch;
use super::spans::Spans;
use crate::hold::Lane;

/// What one lease lent and has not had back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Loan {
    pub(super) lane: Lane,
    /// Nanoseconds since 1970: over from then on.
    pub(super) until: i64,
    /// From place to (end, shelf).
    out: BTreeMap<u64, (u64, u32)>,
    /// Those to be recalled when they return.
    pub(super) wanted: Spans,
    /// Those that had come back from a loan before.
    pub(super) lapsed: Spans,
}

impl Loan {
    /// The stretches that are still out, in order.
    pub(super) fn out(&self) -> impl Iterator<Item = Stretch> {
        self.out
            .iter()
            .map(|(&from, &(to, shelf))| Stretch { shelf, from, to })
    }

    /// The stretch that holds `place`.
    pub(super) fn at(&self, place: u64) -> Option<Stretch> {
        let (&from, &(to, shelf)) = self.out.range(..=place).next_back()?;
        (place < to).then_some(Stretch { shelf, from, to })
    }

    /// What of `from..to` is still out.
    pub(super) fn within(&self, from: u64, to: u64) -> Vec<Stretch> {
        let first = self
            .out
            .range(..=from)
            .next_back()
            .map_or(from, |(&at, _)| at);
        let all = self.out.range(first..to.max(first));
        all.map(|(&a, &(b, shelf))| Stretch {
            shelf,
            from: a.max(from),
            to: b.min(to),
        })
        .filter(|stretch| stretch.from < stretch.to)
        .collect()
    }

    fn take(&mut self, stretch: Stretch) {
        for hit in self.within(stretch.from, stretch.to) {
            let Some((&from, &(to, shelf))) = self.out.range(..=hit.from).next_back() else {
                continue;
            };
            self.out.remove(&from);
            if from < hit.from {
                self.out.insert(from, (hit.from, shelf));
            }
            if hit.to < to {
                self.out.insert(hit.to, (to, shelf));
            }
        }
    }
}

/// Every loan, by the number of its lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Loans {
    all: BTreeMap<u64, Loan>,
    last: u64,
}

impl Loans {
    /// The number the next lease gets.
    pub(super) const fn next(&self) -> u64 {
        self.last + 1
    }

    pub(super) fn get(&self, lease: u64) -> Option<&Loan> {
        self.all.get(&lease)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Loan)> {
        self.all.iter().map(|(&lease, loan)| (lease, loan))
    }

    /// The loan on which `place` is out.
    pub(super) fn of(&self, place: u64) -> Option<(u64, &Loan)> {
        self.iter().find(|(_, loan)| loan.at(place).is_some())
    }

    pub(super) fn lend(
        &mut self,
        lease: u64,
        lane: Lane,
        until: i64,
        stretches: &[Stretch],
        lapsed: Spans,
    ) {
        self.last = self.last.max(lease);
        let out = stretches.iter().map(|one| (one.from, (one.to, one.shelf)));
        let loan = Loan {
            lane,
            until,
            out: out.collect(),
            wanted: Spans::default(),
            lapsed,
        };
        self.all.insert(lease, loan);
    }

    /// Takes a stretch off its loan; an empty loan is over.
    pub(super) fn take(&mut self, lease: u64, stretch: Stretch) {
        let Some(loan) = self.all.get_mut(&lease) else {
            return;
        };
        loan.take(stretch);
        loan.wanted.remove(stretch.from, stretch.to);
        if loan.out.is_empty() {
            self.all.remove(&lease);
        }
    }

    pub(super) fn want_back(&mut self, lease: u64, stretch: Stretch) {
        if let Some(loan) = self.all.get_mut(&lease) {
            loan.wanted.insert(stretch.from, stretch.to);
        }
    }

    pub(super) fn end(&mut self, lease: u64) -> Option<Loan> {
        self.all.remove(&lease)
    }

    /// Leases that are over at `now`, of one lane or of all, oldest first.
    pub(super) fn over(&self, lane: Option<&Lane>, now: i64) -> Vec<u64> {
        let over = |loan: &Loan| loan.until <= now && lane.is_none_or(|lane| loan.lane == *lane);
        self.iter()
            .filter(|(_, loan)| over(loan))
            .map(|(lease, _)| lease)
            .collect()
    }
}

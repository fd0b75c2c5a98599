//! The oracle's own book of consents: what each recipient did, in order.

use std::collections::HashMap;

use jiff::Timestamp;
use nightgate_core::{Basis, Scope};

use crate::history::{Entry, What};

struct Grant {
    place: usize,
    at: Timestamp,
    lapses: Option<Timestamp>,
}

/// What one recipient did about one scope.
#[derive(Default)]
struct Page {
    grants: Vec<Grant>,
    /// Place in the history, and when.
    withdrawals: Vec<(usize, Timestamp)>,
}

/// Every recipient's acts.
pub(super) struct Book {
    pages: HashMap<(usize, Scope), Page>,
    /// When the night began.
    start: Timestamp,
}

impl Book {
    pub(super) fn of(history: &[Entry]) -> Self {
        let start = history.first().map_or(Timestamp::MAX, |entry| entry.at);
        let mut book = Self {
            pages: HashMap::new(),
            start,
        };
        for (place, entry) in history.iter().enumerate() {
            match entry.what {
                What::Granted {
                    key,
                    scope,
                    basis,
                    at,
                    lapses,
                } if scope == Scope::General || basis == Basis::Explicit => {
                    let page = book.pages.entry((key, scope)).or_default();
                    page.grants.push(Grant { place, at, lapses });
                }
                What::Withdrew { key, scope, at } => {
                    book.pages
                        .entry((key, Scope::Night))
                        .or_default()
                        .withdrawals
                        .push((place, at));
                    if scope == Scope::General {
                        let page = book.pages.entry((key, scope)).or_default();
                        page.withdrawals.push((place, at));
                    }
                }
                _ => {}
            }
        }
        book
    }

    /// Whether `scope` stood at `at`, knowing the grants up to `place` and the withdrawals up to
    /// `heard`.
    pub(super) fn stood(
        &self,
        key: usize,
        scope: Scope,
        at: Timestamp,
        place: usize,
        heard: usize,
    ) -> bool {
        let Some(page) = self.pages.get(&(key, scope)) else {
            return false;
        };
        let known = page
            .grants
            .iter()
            .filter(|grant| grant.place <= place && grant.at <= at);
        let Some(grant) = known.max_by_key(|grant| grant.at) else {
            return false;
        };
        let taken_back = |(place, when): &(usize, Timestamp)| *place <= heard && *when >= grant.at;
        grant.lapses.is_none_or(|end| at < end) && !page.withdrawals.iter().any(taken_back)
    }

    /// Whether general consent stood all the while up to `at`.
    pub(super) fn never_in_doubt(&self, key: usize, at: Timestamp, place: usize) -> bool {
        self.pages.get(&(key, Scope::General)).is_some_and(|page| {
            page.withdrawals.iter().all(|(heard, _)| *heard > place)
                && page
                    .grants
                    .first()
                    .is_some_and(|grant| grant.at < self.start)
                && page
                    .grants
                    .iter()
                    .all(|grant| grant.lapses.is_none_or(|end| at < end))
        })
    }
}

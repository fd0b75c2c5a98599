//! What a recipient agreed to. General and night consent are separate facts (Network Act
//! Art. 50(1), (3)).

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::hours::closing;
use crate::message::named;

named! {
    /// Which of the two agreements.
    Scope {
        /// To receive advertising at all (Art. 50(1)).
        General = "general",
        /// To receive it between 21:00 and 08:00 too (Art. 50(3)).
        Night = "night",
    }
}

/// On what ground a scope stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "basis")]
pub enum Basis {
    /// The recipient said yes.
    Explicit,
    /// Contact got through a transaction for the same kind of goods: six months after it ended
    /// (Art. 50(1) no. 1, Decree Art. 61(1)). Never a ground for night consent.
    TransactionException {
        /// The first instant at which the exception no longer holds.
        ends: Timestamp,
    },
}

/// The history of one scope, reduced to what decides: the latest grant and the latest withdrawal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fact {
    /// When the latest grant (or its two-yearly confirmation) was given, if ever.
    pub granted: Option<Grant>,
    /// When it was last withdrawn, if ever. At the same instant as a grant, withdrawal wins.
    pub withdrawn_at: Option<Timestamp>,
}

/// One grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// When it was given or last confirmed.
    pub at: Timestamp,
    /// Its ground.
    #[serde(flatten)]
    pub basis: Basis,
}

/// Everything known about one recipient. Default: never asked, so no consent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Consent {
    /// To advertising.
    pub general: Option<Fact>,
    /// To advertising at night.
    pub night: Option<Fact>,
}

/// A consent book's answer about one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsentAnswer {
    /// The book answered. A recipient it never heard of has the default, empty consent.
    Known(Consent),
    /// The book could not be asked. Advertising is held, never sent.
    Unknown,
}

/// How one scope stands at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "standing")]
pub enum Standing {
    /// Given and in force.
    Valid {
        /// Since when.
        since: Timestamp,
        /// The first instant at which it no longer holds, if it runs out.
        until: Option<Timestamp>,
        /// Its ground.
        #[serde(flatten)]
        basis: Basis,
    },
    /// Never given.
    None,
    /// Taken back.
    Withdrawn {
        /// When.
        at: Timestamp,
    },
    /// Given once, no longer in force: not confirmed in time, or the exception ended.
    Lapsed {
        /// The instant it ended.
        at: Timestamp,
    },
    /// The book could not be asked.
    Unknown,
}

/// Both scopes as they stood when a decision was made; part of every receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConsentSnapshot {
    /// To advertising.
    pub general: Standing,
    /// To advertising at night.
    pub night: Standing,
}

/// How long a consent stands without being confirmed: `years` calendar years, on the clock of
/// `zone`. Network Act Art. 50(8), Decree Art. 62-3: every two years, before the same calendar day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Calendar years, not multiples of 365 days.
    pub years: i16,
    /// Whose calendar days count.
    pub zone: TimeZone,
}

impl Validity {
    /// The first instant at which a consent given at `granted` no longer stands: the start of the
    /// same calendar day `years` later (28 February for one of 29 February).
    #[must_use]
    pub fn end(&self, granted: Timestamp) -> Timestamp {
        let given = self.zone.to_datetime(granted).date();
        years_later(given, self.years)
            .and_then(|day| closing(&self.zone, day.at(0, 0, 0, 0)))
            .unwrap_or(Timestamp::MAX)
    }
}

impl Consent {
    /// Records a withdrawal. Withdrawing general consent withdraws night consent too. One that
    /// arrives late moves nothing back: the latest withdrawal counts.
    ///
    /// ```
    /// use nightgate_core::{Consent, Scope, Standing};
    ///
    /// let mut consent = Consent::default();
    /// let at = "2026-11-22T02:00:00+09:00".parse()?;
    /// consent.withdraw(Scope::General, at);
    /// assert_eq!(consent.standing(Scope::Night, at, &[]), Standing::Withdrawn { at });
    /// # Ok::<(), jiff::Error>(())
    /// ```
    pub fn withdraw(&mut self, scope: Scope, at: Timestamp) {
        let note = |fact: &mut Option<Fact>| {
            let fact = fact.get_or_insert(Fact {
                granted: None,
                withdrawn_at: None,
            });
            fact.withdrawn_at = fact.withdrawn_at.max(Some(at));
        };
        if scope == Scope::General {
            note(&mut self.general);
        }
        note(&mut self.night);
    }

    /// Records a grant; older facts that arrive late never undo newer ones.
    ///
    /// Of two grants the later counts; of two at one instant the weaker, so that the order of
    /// arrival means nothing. A transaction exception is no night consent and is not recorded as
    /// one (Art. 50(3) holds "notwithstanding paragraph 1").
    pub fn grant(&mut self, scope: Scope, grant: Grant) {
        let slot = match scope {
            Scope::General => &mut self.general,
            Scope::Night if grant.basis != Basis::Explicit => return,
            Scope::Night => &mut self.night,
        };
        let fact = slot.get_or_insert(Fact {
            granted: None,
            withdrawn_at: None,
        });
        if fact.granted.is_none_or(|known| rank(&grant) > rank(&known)) {
            fact.granted = Some(grant);
        }
    }

    /// How `scope` stands at `at`. Every one of `validity` must hold; an empty slice switches the
    /// duty to confirm off.
    ///
    /// A withdrawal counts as soon as it is known, whatever instant it bears; a grant counts from
    /// its instant on.
    #[must_use]
    pub fn standing(&self, scope: Scope, at: Timestamp, validity: &[Validity]) -> Standing {
        let fact = match scope {
            Scope::General => self.general,
            Scope::Night => self.night,
        };
        let granted = fact
            .and_then(|fact| fact.granted)
            .filter(|grant| grant.at <= at);
        let mut withdrawn = fact.and_then(|fact| fact.withdrawn_at);
        if scope == Scope::Night {
            // A store may hold a general withdrawal that never went through `withdraw`.
            withdrawn = withdrawn.max(self.general.and_then(|fact| fact.withdrawn_at));
        }
        if let Some(withdrawn) = withdrawn
            && granted.is_none_or(|grant| grant.at <= withdrawn)
        {
            return Standing::Withdrawn { at: withdrawn };
        }
        let Some(grant) = granted else {
            return Standing::None;
        };
        let until = match grant.basis {
            Basis::TransactionException { .. } if scope == Scope::Night => return Standing::None,
            Basis::TransactionException { ends } => Some(ends),
            Basis::Explicit => validity.iter().map(|validity| validity.end(grant.at)).min(),
        };
        match until {
            Some(ended) if ended <= at => Standing::Lapsed { at: ended },
            _ => Standing::Valid {
                since: grant.at,
                until,
                basis: grant.basis,
            },
        }
    }
}

/// The same day `years` later, or the last of its month; `None` beyond the calendar. Spans do the
/// same, at three times the price, and this is asked for every message.
fn years_later(day: Date, years: i16) -> Option<Date> {
    let year = day.year().checked_add(years)?;
    Date::new(year, day.month(), day.day())
        .or_else(|_| Date::new(year, day.month(), 1).map(Date::last_of_month))
        .ok()
}

/// Order of grants: later first, then weaker.
fn rank(grant: &Grant) -> (Timestamp, bool, Reverse<Option<Timestamp>>) {
    match grant.basis {
        Basis::Explicit => (grant.at, false, Reverse(None)),
        Basis::TransactionException { ends } => (grant.at, true, Reverse(Some(ends))),
    }
}

impl ConsentAnswer {
    /// Both scopes at `at`; see [`Consent::standing`].
    #[must_use]
    pub fn snapshot(&self, at: Timestamp, validity: &[Validity]) -> ConsentSnapshot {
        match self {
            Self::Unknown => ConsentSnapshot {
                general: Standing::Unknown,
                night: Standing::Unknown,
            },
            Self::Known(consent) => ConsentSnapshot {
                general: consent.standing(Scope::General, at, validity),
                night: consent.standing(Scope::Night, at, validity),
            },
        }
    }
}

impl ConsentSnapshot {
    /// How one of the two stands.
    #[must_use]
    pub fn of(&self, scope: Scope) -> Standing {
        match scope {
            Scope::General => self.general,
            Scope::Night => self.night,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Span;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn years_later_is_what_spans_say(days in -719_000..2_932_000_i32, years in 0..200_i16) {
            let day = Date::constant(1970, 1, 1).saturating_add(Span::new().days(days));
            let by_span = day.checked_add(Span::new().years(years)).ok();
            prop_assert_eq!(years_later(day, years), by_span);
        }
    }

    #[test]
    fn a_leap_day_ends_on_the_last_of_february() {
        let day = Date::constant(2024, 2, 29);
        assert_eq!(years_later(day, 2), Some(Date::constant(2026, 2, 28)));
        assert_eq!(years_later(day, 4), Some(Date::constant(2028, 2, 29)));
        assert_eq!(years_later(Date::MAX, 1), None);
    }
}

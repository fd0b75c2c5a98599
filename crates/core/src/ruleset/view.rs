//! Read-only views of packs and rules, for people who ask what is loaded.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::pack::Pack;
use super::rule::{Spell, Term};
use super::{Confidence, Demand, Outside, Rule};
use crate::consent::Scope;
use crate::hours::Window;
use crate::message::{Channel, Purpose};
use crate::zone::Jurisdiction;

/// One loaded pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackView<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its title.
    pub title: &'a str,
    /// Whose law it is; `None` for house rules that hold everywhere.
    pub jurisdiction: Option<Jurisdiction>,
    /// How many rules it holds.
    pub rules: usize,
    /// Calendar years for which a consent stands unconfirmed, if it runs out.
    pub consent_validity_years: Option<i16>,
}

impl<'a> PackView<'a> {
    pub(super) fn new(pack: &'a Pack) -> Self {
        Self {
            id: &pack.id,
            title: &pack.title,
            jurisdiction: pack.jurisdiction,
            rules: pack.rules.len(),
            consent_validity_years: pack.validity.as_ref().map(|validity| validity.years),
        }
    }
}

/// One loaded rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleView<'a> {
    /// Its id (`kr.night`).
    pub id: &'a str,
    /// The pack it comes from.
    pub pack: &'a str,
    /// Whose law it is; `None` when it holds everywhere.
    pub jurisdiction: Option<Jurisdiction>,
    /// The purposes it speaks about.
    pub purposes: &'a [Purpose],
    /// The channels it speaks about.
    pub channels: &'a [Channel],
    /// Open hours as text; `None` for a rule that asks for a consent.
    pub hours: Option<String>,
    /// The consent it asks for; `None` for a rule with open hours.
    pub needs: Option<Scope>,
    /// `recipient` or an IANA zone.
    pub clock: &'a str,
    /// The consent that lifts it, if one does.
    pub lifted_by: Option<Scope>,
    /// What becomes of a message outside.
    pub outside: Outside,
    /// Seconds kept before each closing.
    pub guard_s: i64,
    /// First day on which it holds.
    pub effective_from: Option<Date>,
    /// Last day on which it holds.
    pub effective_to: Option<Date>,
    /// The text it stands on.
    pub citation: &'a str,
    /// How well that text is known.
    pub confidence: Confidence,
}

impl<'a> RuleView<'a> {
    pub(super) fn new(rule: &'a Rule) -> Self {
        let (hours, needs, guard_s) = match &rule.demand {
            Demand::Hours { hours, guard } => (Some(hours.to_string()), None, guard.as_secs()),
            Demand::Consent(scope) => (None, Some(*scope), 0),
        };
        Self {
            id: &rule.id,
            pack: &rule.pack,
            jurisdiction: rule.jurisdiction,
            purposes: &rule.purposes,
            channels: &rule.channels,
            hours,
            needs,
            clock: rule.clock.name(),
            lifted_by: rule.lifted_by,
            outside: rule.outside,
            guard_s,
            effective_from: rule.effective_from,
            effective_to: rule.effective_to,
            citation: &rule.citation,
            confidence: rule.confidence,
        }
    }
}

/// One rule that speaks about a message, on one clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Applicable<'a> {
    /// The rule.
    pub rule: RuleView<'a>,
    /// The clock: an IANA zone.
    pub zone: String,
    /// What its hours say, guard not yet taken off; `None` for a rule that asks for a consent.
    pub window: Option<Window>,
}

impl<'a> Applicable<'a> {
    pub(super) fn new(rule: &'a Rule, zone: &TimeZone, term: Term, at: Timestamp) -> Self {
        let hours = matches!(rule.demand, Demand::Hours { .. });
        let window = hours.then(|| {
            let Spell {
                open, from, until, ..
            } = rule.spell(zone, term, at);
            Window { open, from, until }
        });
        let zone = zone.iana_name().unwrap_or("unnamed").to_owned();
        Self {
            rule: RuleView::new(rule),
            zone,
            window,
        }
    }
}

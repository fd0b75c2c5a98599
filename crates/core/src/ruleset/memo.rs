//! What the rules say about one class, kept ready: the rules that concern it, and the spells that
//! were computed last. Asking again costs a look-up; a memo never changes an answer.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::rule::{Demand, Rule, Spell, Term};
use crate::consent::{Scope, Validity};
use crate::message::{Channel, Class, Message, Purpose};
use crate::zone::{Jurisdiction, Place};

/// Most classes kept; past it the memo starts afresh. A class is a few hundred bytes.
const CLASSES_MAX: usize = 4096;
/// Spells kept for one window: the present one, the next opening, and two for messages with a
/// `send_at` or for releasers whose clocks lie on both sides of a change.
const SPELLS: usize = 4;

/// The rules' say about one class.
#[derive(Debug)]
pub(crate) struct Brief {
    pub(crate) class: Class,
    /// The clocks it was made for; a place whose name is the same but whose clocks are not gets its
    /// own.
    zones: Arc<[TimeZone]>,
    /// Whether a pack of this jurisdiction is loaded.
    pub(crate) covered: bool,
    pub(crate) needs: Vec<Need>,
    pub(crate) windows: Vec<RuleWindow>,
    pub(crate) validity: Vec<Validity>,
}

/// A consent that a rule needs.
#[derive(Debug)]
pub(crate) struct Need {
    pub(crate) rule: Arc<Rule>,
    pub(crate) scope: Scope,
    /// Effective on any candidate clock.
    pub(crate) term: Term,
}

/// The open hours of one rule on one clock.
#[derive(Debug)]
pub(crate) struct RuleWindow {
    pub(crate) rule: Arc<Rule>,
    pub(crate) guard: SignedDuration,
    zone: TimeZone,
    term: Term,
    spells: RwLock<Spells>,
}

#[derive(Debug, Default)]
struct Spells {
    kept: [Option<Spell>; SPELLS],
    next: usize,
}

impl RuleWindow {
    /// What the rule says at `at`.
    pub(crate) fn spell(&self, at: Timestamp) -> Spell {
        let known = {
            let spells = self.spells.read().unwrap_or_else(PoisonError::into_inner);
            spells
                .kept
                .iter()
                .flatten()
                .find(|spell| spell.covers(at))
                .copied()
        };
        known.unwrap_or_else(|| {
            let spell = self.rule.spell(&self.zone, self.term, at);
            let mut spells = self.spells.write().unwrap_or_else(PoisonError::into_inner);
            let slot = spells.next % SPELLS;
            spells.kept[slot] = Some(spell);
            spells.next = slot + 1;
            spell
        })
    }
}

type Key = (Arc<str>, Purpose, Channel, Jurisdiction);

/// Briefs by class.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    briefs: RwLock<HashMap<Key, Arc<Brief>>>,
}

impl Memo {
    /// The brief of `message` at `place`, made by `make` when it is not at hand.
    pub(crate) fn brief(
        &self,
        message: &Message,
        place: &Place,
        make: impl FnOnce() -> Brief,
    ) -> Arc<Brief> {
        let name = Arc::clone(&place.zones.name);
        let key = (name, message.purpose, message.channel, place.jurisdiction);
        let found = {
            let briefs = self.briefs.read().unwrap_or_else(PoisonError::into_inner);
            briefs.get(&key).map(Arc::clone)
        };
        if let Some(brief) = found
            && brief.is_for(place)
        {
            return brief;
        }
        let brief = Arc::new(make());
        let mut briefs = self.briefs.write().unwrap_or_else(PoisonError::into_inner);
        if briefs.len() >= CLASSES_MAX {
            briefs.clear();
        }
        briefs.insert(key, Arc::clone(&brief));
        brief
    }
}

impl Brief {
    /// Reads `rules` (in any order) and `validity` for one class.
    pub(crate) fn new<'a>(
        rules: impl Iterator<Item = &'a Arc<Rule>>,
        covered: bool,
        validity: Vec<Validity>,
        message: &Message,
        place: &Place,
    ) -> Self {
        let class = format!(
            "{}/{}/{}/{}",
            message.purpose, message.channel, place.jurisdiction, place.zones.name
        );
        let mut brief = Self {
            class: Class::from_name(&class),
            zones: Arc::clone(&place.zones.all),
            covered,
            needs: Vec::new(),
            windows: Vec::new(),
            validity,
        };
        for rule in rules.filter(|rule| rule.concerns(message, place.jurisdiction)) {
            brief.add(rule, rule.clock.zones(place));
        }
        brief
    }

    fn add(&mut self, rule: &Arc<Rule>, zones: &[TimeZone]) {
        match &rule.demand {
            Demand::Consent(scope) => {
                let terms = || zones.iter().map(|zone| rule.term(zone));
                // No end in one zone is no end in all; `None` must not count as the smallest.
                let endless = terms().any(|term| term.to.is_none());
                let term = Term {
                    from: terms()
                        .map(|term| term.from)
                        .min()
                        .unwrap_or(Timestamp::MIN),
                    to: terms()
                        .filter_map(|term| term.to)
                        .max()
                        .filter(|_| !endless),
                };
                self.needs.push(Need {
                    rule: Arc::clone(rule),
                    scope: *scope,
                    term,
                });
            }
            Demand::Hours { guard, .. } => {
                self.windows.extend(zones.iter().map(|zone| RuleWindow {
                    rule: Arc::clone(rule),
                    guard: *guard,
                    zone: zone.clone(),
                    term: rule.term(zone),
                    spells: RwLock::default(),
                }));
            }
        }
    }

    fn is_for(&self, place: &Place) -> bool {
        Arc::ptr_eq(&self.zones, &place.zones.all) || self.zones == place.zones.all
    }
}

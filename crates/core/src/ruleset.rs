//! Rules as data: TOML packs of law and house policy, compiled and ready to be asked.
//!
//! `rules/house.toml` explains every key. The order of packs and of the rules in them means
//! nothing: the strictest of all that concern a message wins.

mod fields;
mod memo;
mod pack;
mod rule;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

pub(crate) use memo::{Brief, RuleWindow};
pub use rule::{Confidence, Outside};
pub use view::{Applicable, PackView, RuleView};

use crate::consent::Validity;
use crate::message::{Class, Message};
use crate::zone::{Jurisdiction, Place};
use memo::Memo;
use pack::Pack;
use rule::{Demand, Rule};

/// Hexadecimal digits of a ruleset's version: 64 bits, enough to tell the versions of one house
/// apart and short enough to read aloud.
const VERSION_DIGITS: usize = 16;

/// Every loaded rule, compiled.
#[derive(Debug)]
pub struct Ruleset {
    version: Arc<str>,
    packs: Vec<Pack>,
    /// Sorted by id.
    rules: Vec<Arc<Rule>>,
    covered: BTreeSet<Jurisdiction>,
    memo: Memo,
}

/// One rule pack as it was read.
#[derive(Clone, Debug)]
pub struct PackSource {
    /// File name, for faults.
    pub name: String,
    /// TOML text.
    pub text: String,
}

/// One fault in a pack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackFault {
    /// File name.
    pub file: String,
    /// 1-based line.
    pub line: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

impl std::fmt::Display for PackFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

impl Ruleset {
    /// Compiles packs.
    ///
    /// # Errors
    /// Every fault of every pack at once, by file (in the order given) and line.
    ///
    /// ```
    /// use nightgate_core::Ruleset;
    /// use nightgate_core::ruleset::PackSource;
    ///
    /// let text = "[pack]\nid = \"house\"\ntitle = \"House\"\njurisdiction = \"*\"\n".to_owned();
    /// let rules = Ruleset::load(&[PackSource { name: "house.toml".to_owned(), text }]);
    /// assert_eq!(rules.map(|rules| rules.version().len()), Ok(16));
    ///
    /// let text = "[pack]\nid = \"house\"\ntitel = \"House\"\njurisdiction = \"*\"\n".to_owned();
    /// let rules = Ruleset::load(&[PackSource { name: "house.toml".to_owned(), text }]);
    /// let faults = rules.err().unwrap_or_default();
    /// assert_eq!((faults[0].line, faults.len()), (1, 2)); // `titel`, no `title`
    /// ```
    pub fn load(sources: &[PackSource]) -> Result<Self, Vec<PackFault>> {
        let mut faults = Vec::new();
        let mut packs = Vec::with_capacity(sources.len());
        let mut ids = BTreeMap::new();
        let mut names = BTreeMap::new();
        for source in sources {
            let (pack, mut found) = pack::read(source);
            let place = |line: usize| (source.name.clone(), line);
            if !pack.id.is_empty() {
                twice(&mut names, "pack", &pack.id, place(pack.line), &mut found);
            }
            for (id, line) in &pack.lines {
                twice(&mut ids, "rule", id, place(*line), &mut found);
            }
            found.sort_by_key(|fault| fault.line);
            faults.append(&mut found);
            packs.push(pack);
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        packs.sort_by(|a, b| a.id.cmp(&b.id));
        let mut rules: Vec<_> = packs
            .iter()
            .flat_map(|pack| pack.rules.iter().cloned())
            .collect();
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        let covered = packs.iter().filter_map(|pack| pack.jurisdiction).collect();
        let version = version(sources.iter().map(|source| source.text.as_bytes()));
        Ok(Self {
            version,
            packs,
            rules,
            covered,
            memo: Memo::default(),
        })
    }

    /// These rules with another validity of consents in every pack that has one: `Some(years)`, or
    /// `None` to switch the duty to confirm off. Whether silence after the confirmation ends a
    /// consent is not settled by the text (see the notes in `rules/kr.toml`).
    #[must_use]
    pub fn with_consent_validity(mut self, years: Option<i16>) -> Self {
        for pack in &mut self.packs {
            pack.validity = years.and_then(|years| {
                pack.validity.take().map(|validity| Validity {
                    years: years.max(0),
                    ..validity
                })
            });
        }
        let switch = years.map_or_else(|| "off".to_owned(), |years| years.to_string());
        self.version = version([self.version.as_bytes(), switch.as_bytes()].into_iter());
        self.memo = Memo::default();
        self
    }

    /// Short content hash of the packs, the same in whatever order they were given.
    #[must_use]
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// Whether a pack of this jurisdiction is loaded. House packs (`"*"`) are law nowhere.
    #[must_use]
    pub fn covers(&self, jurisdiction: Jurisdiction) -> bool {
        self.covered.contains(&jurisdiction)
    }

    /// The class of a message: `purpose/channel/jurisdiction/zone+zone`.
    #[must_use]
    pub fn class(&self, message: &Message, place: &Place) -> Class {
        self.brief(message, place).class.clone()
    }

    /// The loaded packs, by id.
    pub fn packs(&self) -> impl Iterator<Item = PackView<'_>> {
        self.packs.iter().map(PackView::new)
    }

    /// The loaded rules, by id.
    pub fn rules(&self) -> impl Iterator<Item = RuleView<'_>> {
        self.rules.iter().map(|rule| RuleView::new(rule))
    }

    /// The rules that speak about `message` at `place`, with what each says at `at` on each of its
    /// clocks. Consent and guard are not looked at: that is for [`decide`](crate::decide).
    #[must_use]
    pub fn applicable(
        &self,
        message: &Message,
        place: &Place,
        at: Timestamp,
    ) -> Vec<Applicable<'_>> {
        let mut found = Vec::new();
        for rule in self
            .rules
            .iter()
            .filter(|rule| rule.concerns(message, place.jurisdiction))
        {
            for zone in rule.clock.zones(place) {
                let term = rule.term(zone);
                if term.holds(at) {
                    found.push(Applicable::new(rule, zone, term, at));
                }
            }
        }
        found
    }

    /// The say of the rules about the message's class.
    pub(crate) fn brief(&self, message: &Message, place: &Place) -> Arc<Brief> {
        self.memo.brief(message, place, || {
            let concerned = |pack: &&Pack| {
                pack.jurisdiction
                    .is_none_or(|jurisdiction| jurisdiction == place.jurisdiction)
            };
            let validity = self
                .packs
                .iter()
                .filter(concerned)
                .filter_map(|pack| pack.validity.clone());
            let covered = self.covers(place.jurisdiction);
            Brief::new(
                self.rules.iter(),
                covered,
                validity.collect(),
                message,
                place,
            )
        })
    }
}

/// Notes a fault when `id` was seen before.
fn twice(
    seen: &mut BTreeMap<Arc<str>, (String, usize)>,
    what: &str,
    id: &Arc<str>,
    (file, line): (String, usize),
    faults: &mut Vec<PackFault>,
) {
    if let Some((other, first)) = seen.get(id) {
        let message = format!("{what} `{id}` is already defined in {other}, line {first}");
        faults.push(PackFault {
            file,
            line,
            message,
        });
    } else {
        seen.insert(Arc::clone(id), (file, line));
    }
}

fn version<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Arc<str> {
    let mut hashes: Vec<_> = parts.map(|part| *blake3::hash(part).as_bytes()).collect();
    hashes.sort_unstable();
    let hex = blake3::hash(&hashes.concat()).to_hex();
    hex.as_str()
        .get(..VERSION_DIGITS)
        .unwrap_or_default()
        .into()
}

//! One compiled rule and what it says around one instant on one clock.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::consent::Scope;
use crate::hours::{OpenHours, closing, opening};
use crate::message::{Channel, Message, Purpose};
use crate::zone::{Jurisdiction, Place};

/// What becomes of a message outside a rule's open hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outside {
    /// It is held until they open.
    Hold,
    /// It may never leave.
    Refuse,
}

/// How well a rule's citation is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// The text of the law was read.
    Law,
    /// A vendor's own documentation of its own product.
    Vendor,
    /// Somebody's account of a rule that is not theirs.
    SecondHand,
    /// No stored source.
    GeneralKnowledge,
    /// The house's own wish.
    House,
}

impl Confidence {
    /// Every value with its name in packs.
    const NAMES: [(Self, &'static str); 5] = [
        (Self::Law, "law"),
        (Self::Vendor, "vendor"),
        (Self::SecondHand, "second-hand"),
        (Self::GeneralKnowledge, "general-knowledge"),
        (Self::House, "house"),
    ];
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::NAMES.iter().find(|(value, _)| value == self);
        f.write_str(found.map_or("", |(_, name)| name))
    }
}

impl FromStr for Confidence {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(_, name)| *name == text);
        found.map(|(value, _)| *value).ok_or_else(|| {
            format!(
                "must be one of {}",
                Self::NAMES.map(|(_, name)| name).join(", ")
            )
        })
    }
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hold => "hold",
            Self::Refuse => "refuse",
        })
    }
}

impl FromStr for Outside {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "hold" => Ok(Self::Hold),
            "refuse" => Ok(Self::Refuse),
            _ => Err("must be one of hold, refuse".to_owned()),
        }
    }
}

/// Whose clock a rule is read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The recipient's: every candidate zone.
    Recipient,
    /// The legislator's or the house's.
    Zone(TimeZone),
}

impl Clock {
    /// The zones in which the rule must be met.
    pub(crate) fn zones<'a>(&'a self, place: &'a Place) -> &'a [TimeZone] {
        match self {
            Self::Recipient => &place.zones.all,
            Self::Zone(zone) => std::slice::from_ref(zone),
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Recipient => "recipient",
            Self::Zone(zone) => zone.iana_name().unwrap_or("unnamed"),
        }
    }
}

/// What a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// A consent without which nothing may leave.
    Consent(Scope),
    /// Open hours, with the margin kept before each closing.
    Hours {
        /// On the heap: rules of the other kind are a word long.
        hours: Box<OpenHours>,
        guard: SignedDuration,
    },
}

/// One rule as data.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) id: Arc<str>,
    pub(crate) pack: Arc<str>,
    /// `None`: holds everywhere (`"*"`).
    pub(crate) jurisdiction: Option<Jurisdiction>,
    pub(crate) purposes: Vec<Purpose>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) clock: Clock,
    pub(crate) demand: Demand,
    pub(crate) lifted_by: Option<Scope>,
    pub(crate) outside: Outside,
    /// First day on which it holds.
    pub(crate) effective_from: Option<Date>,
    /// Last day on which it holds.
    pub(crate) effective_to: Option<Date>,
    pub(crate) citation: String,
    pub(crate) confidence: Confidence,
}

/// What a rule says on one clock, effective dates included: the same from `from` to `until`, or,
/// without an end, to `checked`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spell {
    pub(crate) open: bool,
    pub(crate) from: Timestamp,
    pub(crate) until: Option<Timestamp>,
    pub(crate) checked: Timestamp,
}

impl Spell {
    /// Whether it says anything about `at`.
    pub(crate) fn covers(&self, at: Timestamp) -> bool {
        let endless = self.until.is_none() && self.checked == Timestamp::MAX;
        self.from <= at && (endless || at < self.until.unwrap_or(self.checked))
    }

    const fn open(from: Timestamp, until: Option<Timestamp>) -> Self {
        Self {
            open: true,
            from,
            until,
            checked: Timestamp::MAX,
        }
    }
}

/// The instants between which a rule is effective on one clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) from: Timestamp,
    /// The first instant at which it is no longer effective, if that ever comes.
    pub(crate) to: Option<Timestamp>,
}

impl Term {
    pub(crate) fn holds(&self, at: Timestamp) -> bool {
        self.from <= at && self.to.is_none_or(|to| at < to)
    }
}

impl Rule {
    /// Whether it speaks about `message` sent to `jurisdiction` at all.
    pub(crate) fn concerns(&self, message: &Message, jurisdiction: Jurisdiction) -> bool {
        self.jurisdiction.is_none_or(|own| own == jurisdiction)
            && self.purposes.contains(&message.purpose)
            && self.channels.contains(&message.channel)
    }

    /// When it is effective on the clock of `zone`: from the first instant of its first day (the
    /// earlier one where midnight comes twice) to the end of its last (the later one).
    pub(crate) fn term(&self, zone: &TimeZone) -> Term {
        let midnight = |date: Date| date.at(0, 0, 0, 0);
        let from = self
            .effective_from
            .and_then(|date| closing(zone, midnight(date)));
        let after = self.effective_to.and_then(|date| date.tomorrow().ok());
        Term {
            from: from.unwrap_or(Timestamp::MIN),
            to: after.and_then(|date| opening(zone, midnight(date))),
        }
    }

    /// What the rule's hours say at `at`; open where it is not effective.
    pub(crate) fn spell(&self, zone: &TimeZone, term: Term, at: Timestamp) -> Spell {
        let Demand::Hours { hours, .. } = &self.demand else {
            return Spell::open(Timestamp::MIN, None);
        };
        if term.to.is_some_and(|to| to <= at) {
            return Spell::open(term.to.unwrap_or(at), None);
        }
        let asked = at.max(term.from);
        let look = hours.look(zone, asked);
        let window = look.window;
        if at < term.from && !window.open {
            return Spell::open(Timestamp::MIN, Some(term.from));
        }
        let from = if at < term.from {
            Timestamp::MIN
        } else {
            window.from.max(term.from)
        };
        match (window.until, term.to) {
            // The rule ends before its hours next change: what it closed, it closes no longer.
            (until, Some(to)) if until.is_none_or(|until| to <= until) && to <= look.checked => {
                if window.open {
                    Spell::open(from, None)
                } else {
                    Spell {
                        open: false,
                        from,
                        until: Some(to),
                        checked: to,
                    }
                }
            }
            (until, _) => Spell {
                open: window.open,
                from,
                until,
                checked: look.checked,
            },
        }
    }
}

//! Weighs every rule that concerns a message. Refuse outweighs hold, hold outweighs send; of two
//! holds the later, of two permits the shorter. No step depends on the order of rules.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Code;
use crate::consent::{Basis, ConsentSnapshot, Standing};
use crate::hours::HORIZON_DAYS;
use crate::message::{Message, Purpose};
use crate::ruleset::{Brief, Outside, RuleWindow};

/// Longest life of a permit. A sink that sat on one for a day must ask again.
pub const PERMIT_MAX_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// When to ask a consent book again that could not be asked.
pub const CONSENT_RECHECK: SignedDuration = SignedDuration::from_mins(1);
/// When to look again for rules that are not loaded: somebody has to write or fetch them first.
pub const RULES_RECHECK: SignedDuration = SignedDuration::from_hours(1);

/// Most spells stepped over in search of one that outlasts its guard.
const STEPS_MAX: usize = 1000;
/// How far ahead a common opening of all windows is looked for.
const HORIZON: SignedDuration = SignedDuration::from_hours(24 * HORIZON_DAYS);

/// A decision without the facts that every reason bears.
#[derive(Clone)]
pub(super) struct Verdict {
    pub(super) answer: Answer,
    pub(super) code: Code,
    pub(super) rule: Option<Arc<str>>,
    pub(super) opens: Option<Timestamp>,
    pub(super) closes: Option<Timestamp>,
}

#[derive(Clone, Copy)]
pub(super) enum Answer {
    Send { not_after: Timestamp },
    Hold { until: Timestamp },
    Refuse,
}

fn refuse(code: Code, rule: Option<&Arc<str>>, opens: Option<Timestamp>) -> Verdict {
    Verdict {
        answer: Answer::Refuse,
        code,
        rule: rule.cloned(),
        opens,
        closes: None,
    }
}

/// The earliest instant that is still possible, and what put it there.
struct Floor<'a> {
    at: Timestamp,
    code: Code,
    rule: Option<&'a Arc<str>>,
    /// Whether a window put it there, so that `at` is its opening.
    window: bool,
}

impl<'a> Floor<'a> {
    fn raise(&mut self, at: Timestamp, code: Code, rule: Option<&'a Arc<str>>) {
        if at > self.at {
            *self = Self {
                at,
                code,
                rule,
                window: false,
            };
        }
    }
}

/// Everything that is weighed at one instant.
struct Scales<'a> {
    brief: &'a Brief,
    consent: ConsentSnapshot,
    now: Timestamp,
    floor: Floor<'a>,
    /// The end of the permit, should there be one.
    not_after: Timestamp,
    /// The next closing among windows that no consent lifts.
    closes: Option<Timestamp>,
    /// The first rule by id that is closed but lifted.
    lifted: Option<&'a Arc<str>>,
    refusal: Option<Verdict>,
    closed: bool,
}

pub(super) fn weigh(
    brief: &Brief,
    message: &Message,
    consent: ConsentSnapshot,
    now: Timestamp,
) -> Verdict {
    if message.expires_at.is_some_and(|end| end <= now) {
        return refuse(Code::Expired, None, None);
    }
    let longest = later(now, PERMIT_MAX_LIFE);
    let mut scales = Scales {
        brief,
        consent,
        now,
        floor: Floor {
            at: now,
            code: Code::Open,
            rule: None,
            window: false,
        },
        not_after: message.expires_at.map_or(longest, |end| end.min(longest)),
        closes: None,
        lifted: None,
        refusal: None,
        closed: false,
    };
    scales.weigh_needs();
    scales.weigh_windows();
    if let Some(refusal) = scales.refusal {
        return refusal;
    }
    if message.purpose == Purpose::Advertising && !brief.covered {
        scales
            .floor
            .raise(later(now, RULES_RECHECK), Code::NoRules, None);
    }
    if let Some(send_at) = message.send_at {
        scales.floor.raise(send_at, Code::SendAt, None);
    }
    if scales.floor.at > now || scales.closed {
        return scales.hold(message.expires_at);
    }
    Verdict {
        answer: Answer::Send {
            not_after: scales.not_after,
        },
        code: if scales.lifted.is_some() {
            Code::LiftedByConsent
        } else {
            Code::Open
        },
        rule: scales.lifted.cloned(),
        opens: None,
        closes: scales.closes,
    }
}

impl<'a> Scales<'a> {
    fn weigh_needs(&mut self) {
        for need in &self.brief.needs {
            let stands_until = match self.consent.of(need.scope) {
                Standing::Valid { until, .. } => Some(until.unwrap_or(Timestamp::MAX)),
                _ => None,
            };
            if !need.term.holds(self.now) {
                if self.now < need.term.from {
                    let end = stands_until.unwrap_or(need.term.from).max(need.term.from);
                    self.not_after = self.not_after.min(end);
                }
                continue;
            }
            let code = match self.consent.of(need.scope) {
                Standing::Valid { .. } => {
                    self.not_after = self.not_after.min(stands_until.unwrap_or(Timestamp::MAX));
                    continue;
                }
                Standing::Unknown => {
                    let at = later(self.now, CONSENT_RECHECK);
                    self.floor
                        .raise(at, Code::ConsentUnknown, Some(&need.rule.id));
                    continue;
                }
                Standing::None => Code::NoConsent,
                Standing::Withdrawn { .. } => Code::Withdrawn,
                Standing::Lapsed { .. } => Code::ConsentLapsed,
            };
            // Rules come sorted by id: of two refusals with one code, the first names it.
            if self.refusal.as_ref().is_none_or(|known| code > known.code) {
                self.refusal = Some(refuse(code, Some(&need.rule.id), None));
            }
        }
    }

    fn weigh_windows(&mut self) {
        for window in &self.brief.windows {
            let spell = window.spell(self.now);
            let end = spell.until.map(|until| earlier(until, window.guard));
            let ready = spell.open && end.is_none_or(|end| self.now < end);
            if let Some(lift) = self.lift(window) {
                self.not_after = self.not_after.min(lift);
                if !ready {
                    self.lifted = self.lifted.or(Some(&window.rule.id));
                }
            } else if ready {
                self.not_after = self.not_after.min(end.unwrap_or(Timestamp::MAX));
                self.closes = match (self.closes, spell.until) {
                    (Some(known), Some(until)) => Some(known.min(until)),
                    (known, until) => known.or(until),
                };
            } else if window.rule.outside == Outside::Refuse {
                if self.refusal.is_none() {
                    let opens = next_ready(window, self.now);
                    self.refusal = Some(refuse(Code::Forbidden, Some(&window.rule.id), opens));
                }
            } else {
                self.closed = true;
            }
        }
    }

    /// Until when a consent lifts the rule, if it does now. Only an explicit one can: the law asks
    /// for a separate consent at night (Art. 50(3)), which no transaction replaces.
    fn lift(&self, window: &RuleWindow) -> Option<Timestamp> {
        match self.consent.of(window.rule.lifted_by?) {
            Standing::Valid {
                until,
                basis: Basis::Explicit,
                ..
            } => Some(until.unwrap_or(Timestamp::MAX)),
            _ => None,
        }
    }

    /// The earliest instant, from the floor on, at which every window is open together.
    fn hold(mut self, expires_at: Option<Timestamp>) -> Verdict {
        let horizon = later(self.floor.at, HORIZON);
        loop {
            match self.next_floor() {
                Err(rule) => return refuse(Code::Forbidden, Some(rule), None),
                Ok(None) => break,
                Ok(Some(next)) if next.at > horizon => {
                    return refuse(Code::Forbidden, next.rule, None);
                }
                Ok(Some(next)) => self.floor = next,
            }
        }
        let Floor {
            at,
            code,
            rule,
            window,
        } = self.floor;
        let opens = window.then_some(at);
        if expires_at.is_some_and(|end| end <= at) {
            return refuse(Code::Expired, rule, opens);
        }
        let rule = rule.cloned();
        Verdict {
            answer: Answer::Hold { until: at },
            code,
            rule,
            opens,
            closes: None,
        }
    }

    /// The latest opening that the windows ask for at the floor; `None` when all are open there,
    /// and the rule's id when one never opens.
    fn next_floor(&self) -> Result<Option<Floor<'a>>, &'a Arc<str>> {
        let at = self.floor.at;
        let mut next: Option<Floor<'a>> = None;
        for window in &self.brief.windows {
            if self.lift(window).is_some_and(|lift| at < lift) {
                continue;
            }
            let rule = &window.rule.id;
            let opens = next_ready(window, at).ok_or(rule)?;
            if opens <= at {
                continue;
            }
            let code = if window.spell(at).open {
                Code::Guard
            } else {
                Code::QuietHours
            };
            // At one opening, quiet hours tell more than the guard of another rule.
            let outweighs = |known: &Floor<'_>| {
                opens > known.at
                    || opens == known.at && known.code == Code::Guard && code == Code::QuietHours
            };
            if next.as_ref().is_none_or(outweighs) {
                next = Some(Floor {
                    at: opens,
                    code,
                    rule: Some(rule),
                    window: true,
                });
            }
        }
        Ok(next)
    }
}

/// The first instant from `at` on at which the window is open and will be for longer than its
/// guard.
fn next_ready(window: &RuleWindow, at: Timestamp) -> Option<Timestamp> {
    let mut at = at;
    for _ in 0..STEPS_MAX {
        let spell = window.spell(at);
        let end = spell.until.map(|until| earlier(until, window.guard));
        if spell.open && end.is_none_or(|end| at < end) {
            return Some(at);
        }
        at = spell.until?;
    }
    None
}

pub(super) fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn earlier(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

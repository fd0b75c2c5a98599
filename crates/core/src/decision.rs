//! The one question Nightgate asks, twice: may this message leave now?

mod round;
mod weigh;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::consent::{ConsentAnswer, ConsentSnapshot};
use crate::message::{Message, MessageId};
use crate::ruleset::Ruleset;
use crate::zone::{Place, ZoneSource};
pub use round::{Round, Ruled};
use weigh::{Answer, Verdict};
pub use weigh::{CONSENT_RECHECK, PERMIT_MAX_LIFE, RULES_RECHECK};

/// What a decision needs to know beside rules, message and time.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The consent book's answer about the recipient.
    pub consent: &'a ConsentAnswer,
    /// Whose law and which clocks.
    pub place: &'a Place,
}

/// The three answers.
#[derive(Debug)]
pub enum Decision {
    /// It may leave now.
    Send(Permit),
    /// Not now; worth asking again at `until`.
    Hold {
        /// When to ask again.
        until: Timestamp,
        /// Why.
        reason: Reason,
    },
    /// It may never leave.
    Refuse {
        /// Why.
        reason: Reason,
    },
}

/// Leave to send one message until `not_after`. Only [`decide`] makes one, and it cannot be copied:
/// a sink that takes a permit cannot be handed an undecided message.
#[derive(Debug)]
pub struct Permit {
    message: MessageId,
    not_after: Timestamp,
    reason: Reason,
}

/// Why a decision came out as it did: everything a receipt needs to prove it later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What decided.
    pub code: Code,
    /// Id of the rule that decided, if one did (`kr.night`).
    pub rule: Option<Arc<str>>,
    /// Content-hash version of the ruleset that was asked.
    pub ruleset: Arc<str>,
    /// The candidate zones, IANA names joined by `+`.
    pub zone: Arc<str>,
    /// How the zones came to be known.
    pub zone_source: ZoneSource,
    /// The next instant at which the deciding window opens (hold), if it ever does.
    pub opens: Option<Timestamp>,
    /// The instant at which the present window closes, guard not yet taken off (send), if it does.
    pub closes: Option<Timestamp>,
    /// Both consents as they stood.
    pub consent: ConsentSnapshot,
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Every window is open and every needed consent stands.
    Open,
    /// Quiet hours, lifted by the recipient's consent.
    LiftedByConsent,
    /// Quiet hours of law, channel or house.
    QuietHours,
    /// Still open, but inside the margin kept before closing.
    Guard,
    /// The producer's own `send_at` is still ahead.
    SendAt,
    /// The message's `expires_at` has passed, or passes before it may leave.
    Expired,
    /// A consent that a rule needs was never given.
    NoConsent,
    /// A consent that a rule needs was withdrawn.
    Withdrawn,
    /// A consent that a rule needs ran out unconfirmed.
    ConsentLapsed,
    /// The consent book could not be asked.
    ConsentUnknown,
    /// No rules are loaded for this jurisdiction.
    NoRules,
    /// A rule that refuses outside its window, or a window that never opens.
    Forbidden,
}

impl Code {
    /// Its one name, in JSON, receipts and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::LiftedByConsent => "lifted_by_consent",
            Self::QuietHours => "quiet_hours",
            Self::Guard => "guard",
            Self::SendAt => "send_at",
            Self::Expired => "expired",
            Self::NoConsent => "no_consent",
            Self::Withdrawn => "withdrawn",
            Self::ConsentLapsed => "consent_lapsed",
            Self::ConsentUnknown => "consent_unknown",
            Self::NoRules => "no_rules",
            Self::Forbidden => "forbidden",
        }
    }
}

impl Permit {
    /// The one message this permit is for.
    #[must_use]
    pub fn message(&self) -> &MessageId {
        &self.message
    }

    /// The first instant at which the message may no longer be handed over.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Why it may leave.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Why it might have left. The permit is given up.
    #[must_use]
    pub fn into_reason(self) -> Reason {
        self.reason
    }

    /// Whether it still holds at `now`.
    #[must_use]
    pub fn holds_at(&self, now: Timestamp) -> bool {
        now < self.not_after
    }
}

/// May `message` leave at `now`? Total and pure: the same arguments give the same answer.
///
/// Looked at in this order, strictest answer first: the message's life; the consents that rules
/// need; open hours of every rule on every candidate clock; whether the country's rules are loaded;
/// the producer's `send_at`. A hold ends at the earliest instant at which all of them are open
/// together, so it may be shown as the time of sending.
///
/// ```
/// use jiff::{Timestamp, tz::TimeZone};
/// use nightgate_core::ruleset::PackSource;
/// use nightgate_core::{ConsentAnswer, Decision, Facts, House, Jurisdiction, Message};
/// use nightgate_core::{Ruleset, decide, locate};
///
/// let pack = r#"
///     [pack]
///     id = "house"
///     title = "Nobody is woken"
///     jurisdiction = "*"
///     clock = "recipient"
///     [[rule]]
///     id = "house.quiet"
///     purpose = ["informational"]
///     except_channels = []
///     open.every_day = ["08:00-21:00"]
///     outside = "hold"
///     citation = "our own wish"
///     confidence = "house"
/// "#;
/// let source = PackSource { name: "house.toml".to_owned(), text: pack.to_owned() };
/// let rules = Ruleset::load(&[source]).expect("the pack has no faults");
/// let message: Message = serde_json::from_value(serde_json::json!({
///     "id": "m-1", "recipient": "010-1234-5678", "channel": "sms", "purpose": "informational",
///     "priority": 5, "content_type": "text/plain", "attributes": {}, "body": [],
/// }))?;
/// let (jurisdiction, zone) = (Jurisdiction::new("KR")?, TimeZone::get("Asia/Seoul")?);
/// let house = House { jurisdiction, zone };
/// let place = locate(&message, &house);
/// let facts = Facts { consent: &ConsentAnswer::Unknown, place: &place };
/// let now: Timestamp = "2026-11-22T23:00:00+09:00".parse()?;
/// let Decision::Hold { until, .. } = decide(&rules, &message, &facts, now) else { panic!() };
/// assert_eq!(until, "2026-11-23T08:00:00+09:00".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn decide(rules: &Ruleset, message: &Message, facts: &Facts<'_>, now: Timestamp) -> Decision {
    let brief = rules.brief(message, facts.place);
    let consent = facts.consent.snapshot(now, &brief.validity);
    let verdict = weigh::weigh(&brief, message, consent, now);
    let zones = &facts.place.zones;
    let zone = (zones.source, Arc::clone(&zones.name));
    of_verdict(verdict, Arc::clone(rules.version()), zone, message, consent)
}

fn of_verdict(
    verdict: Verdict,
    ruleset: Arc<str>,
    (zone_source, zone): (ZoneSource, Arc<str>),
    message: &Message,
    consent: ConsentSnapshot,
) -> Decision {
    let reason = Reason {
        code: verdict.code,
        rule: verdict.rule,
        ruleset,
        zone,
        zone_source,
        opens: verdict.opens,
        closes: verdict.closes,
        consent,
    };
    match verdict.answer {
        Answer::Send { not_after } => Decision::Send(Permit {
            message: message.id.clone(),
            not_after,
            reason,
        }),
        Answer::Hold { until } => Decision::Hold { until, reason },
        Answer::Refuse => Decision::Refuse { reason },
    }
}

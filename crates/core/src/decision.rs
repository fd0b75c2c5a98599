//! The one question Nightgate asks, twice: may this message leave now?

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::consent::{ConsentAnswer, ConsentSnapshot};
use crate::message::{Message, MessageId};
use crate::ruleset::Ruleset;
use crate::zone::{Place, ZoneSource};

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

    /// Whether it still holds at `now`.
    #[must_use]
    pub fn holds_at(&self, now: Timestamp) -> bool {
        now < self.not_after
    }
}

/// May `message` leave at `now`? Total and pure: the same arguments give the same answer.
#[must_use]
pub fn decide(rules: &Ruleset, message: &Message, facts: &Facts<'_>, now: Timestamp) -> Decision {
    let _ = (rules, message, facts, now);
    unimplemented!()
}

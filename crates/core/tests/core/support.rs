//! Messages, places and rules for tests.

use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nightgate_core::consent::{Basis, Grant};
use nightgate_core::ruleset::PackSource;
use nightgate_core::{
    Channel, Code, Consent, ConsentAnswer, Decision, Facts, House, Jurisdiction, Message, Place,
    Priority, Purpose, Reason, Recipient, Ruleset, Scope, decide, locate,
};

pub(crate) const KR: &str = include_str!("../../../../rules/kr.toml");
pub(crate) const HOUSE: &str = include_str!("../../../../rules/house.toml");

/// Head of a house pack; rules follow.
pub(crate) const HEAD: &str =
    "[pack]\nid = 'test'\ntitle = 'Test'\njurisdiction = '*'\nclock = 'Asia/Seoul'\n";

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A time on 22 November 2026 (a Sunday), Korean time.
pub(crate) fn kst(time: &str) -> Timestamp {
    at(&format!("2026-11-22T{time}+09:00"))
}

pub(crate) fn source(name: &str, text: &str) -> PackSource {
    PackSource {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

pub(crate) fn load(texts: &[&str]) -> Ruleset {
    let name = |index: usize| format!("pack-{index}.toml");
    let sources: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| source(&name(index), text))
        .collect();
    Ruleset::load(&sources).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// The Korean pack and one of the given rules.
pub(crate) fn load_with(rules: &str) -> Ruleset {
    load(&[KR, &format!("{HEAD}{rules}")])
}

pub(crate) fn message(channel: Channel, purpose: Purpose) -> Message {
    Message {
        id: nightgate_core::MessageId::new("m-1").unwrap(),
        recipient: Recipient::new("010-1234-5678").unwrap(),
        channel,
        purpose,
        campaign: None,
        priority: Priority::default(),
        jurisdiction: None,
        zone: None,
        send_at: None,
        expires_at: None,
        collapse_key: None,
        content_type: "text/plain".into(),
        attributes: std::collections::BTreeMap::new(),
        body: Bytes::from_static(b"body"),
    }
}

pub(crate) fn advertising() -> Message {
    message(Channel::Sms, Purpose::Advertising)
}

pub(crate) fn to(recipient: &str) -> Message {
    Message {
        recipient: Recipient::new(recipient).unwrap(),
        ..advertising()
    }
}

pub(crate) fn house() -> House {
    House {
        jurisdiction: Jurisdiction::new("KR").unwrap(),
        zone: TimeZone::get("Asia/Seoul").unwrap(),
    }
}

pub(crate) fn place(message: &Message) -> Place {
    locate(message, &house())
}

pub(crate) fn explicit(at: Timestamp) -> Grant {
    Grant {
        at,
        basis: Basis::Explicit,
    }
}

/// Explicit consents given on 1 November 2026.
pub(crate) fn consent(scopes: &[Scope]) -> ConsentAnswer {
    let mut consent = Consent::default();
    for scope in scopes {
        consent.grant(*scope, explicit(at("2026-11-01T12:00:00+09:00")));
    }
    ConsentAnswer::Known(consent)
}

pub(crate) const GENERAL: &[Scope] = &[Scope::General];
pub(crate) const BOTH: &[Scope] = &[Scope::General, Scope::Night];

/// A decision as a value that can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Send(Timestamp, Reason),
    Hold(Timestamp, Reason),
    Refuse(Reason),
}

impl Answer {
    pub(crate) fn reason(&self) -> &Reason {
        match self {
            Self::Send(_, reason) | Self::Hold(_, reason) | Self::Refuse(reason) => reason,
        }
    }

    /// `send until …`, `hold until …` or `refuse`, with code and rule.
    pub(crate) fn brief(&self) -> (Option<Timestamp>, Code, Option<&str>) {
        let until = match self {
            Self::Send(until, _) | Self::Hold(until, _) => Some(*until),
            Self::Refuse(_) => None,
        };
        (until, self.reason().code, self.reason().rule.as_deref())
    }

    pub(crate) fn is_send(&self) -> bool {
        matches!(self, Self::Send(..))
    }
}

pub(crate) fn ask(
    rules: &Ruleset,
    message: &Message,
    consent: &ConsentAnswer,
    now: Timestamp,
) -> Answer {
    let facts = Facts {
        consent,
        place: &place(message),
    };
    match decide(rules, message, &facts, now) {
        Decision::Send(permit) => {
            assert_eq!(permit.message(), &message.id);
            Answer::Send(permit.not_after(), permit.reason().clone())
        }
        Decision::Hold { until, reason } => {
            assert!(
                until > now || now == Timestamp::MAX,
                "a hold ends in the future"
            );
            Answer::Hold(until, reason)
        }
        Decision::Refuse { reason } => Answer::Refuse(reason),
    }
}

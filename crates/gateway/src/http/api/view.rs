//! The gate's answers as clients see them.

use jiff::tz::TimeZone;
use nightgate_core::{Answer, Code, FieldFault, Language, Reason};
use serde::Serialize;
use utoipa::ToSchema;

use super::local;
use crate::gate::{Accepted, Status};
use crate::ingest::wire::Faulty;

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum AnswerStatus {
    /// Stored, and may leave now.
    Accepted,
    /// Stored, and held until `due`.
    Held,
    /// Not stored: the rules say never.
    Refused,
    /// The id is known already; nothing was changed.
    Duplicate,
    /// Not stored: a field breaks a rule.
    Invalid,
    /// Not stored: a part of the gateway could not be reached, or the hold is full. Send it again.
    Failed,
}

impl From<Status> for AnswerStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Accepted => Self::Accepted,
            Status::Held => Self::Held,
            Status::Refused => Self::Refused,
            Status::Duplicate => Self::Duplicate,
            Status::Invalid => Self::Invalid,
            Status::NoRoom => Self::Failed,
        }
    }
}

/// A field and the rule it breaks.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::http) struct Fault {
    /// The field, as it is named in JSON.
    field: String,
    /// The rule, as a fragment that follows the field's name.
    rule: String,
}

impl From<FieldFault> for Fault {
    fn from(FieldFault { field, rule }: FieldFault) -> Self {
        Self { field, rule }
    }
}

/// One sentence for people, in each language.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::http) struct Explanation {
    /// In English.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) en: Option<String>,
    /// In Korean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ko: Option<String>,
}

impl Explanation {
    /// In one language, or (`None`) in both.
    pub(super) fn new(answer: Answer, reason: &Reason, only: Option<Language>) -> Self {
        let sentence = |language| {
            let wanted = only.is_none_or(|only| only == language);
            wanted.then(|| nightgate_core::explain(answer, reason, language))
        };
        Self {
            en: sentence(Language::English),
            ko: sentence(Language::Korean),
        }
    }
}

/// The answer to one message.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(in crate::http) struct MessageAnswer {
    /// In an array: its place, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<usize>,
    /// In a stream: its line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<u64>,
    /// The id, if one could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    /// What became of it.
    pub(super) status: AnswerStatus,
    /// When it is asked again (held) or was due (accepted), on the recipient's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, example = "2026-11-23T08:00:00+09:00")]
    pub(super) due: Option<String>,
    /// The recipient's candidate zones, joined by `+`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Asia/Seoul")]
    pub(super) zone: Option<String>,
    /// The rule that decided, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "kr.night")]
    pub(super) rule: Option<String>,
    /// What decided: `quiet_hours`, `no_consent`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "quiet_hours")]
    pub(super) reason: Option<Code>,
    /// The same for people; not in streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) explanation: Option<Explanation>,
    /// The rules its fields break, if it is invalid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) faults: Vec<Fault>,
    /// Sending it again will do no harm and may help.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) retry: bool,
}

impl MessageAnswer {
    pub(super) fn empty(id: Option<String>, status: AnswerStatus) -> Self {
        Self {
            index: None,
            line: None,
            id,
            status,
            due: None,
            zone: None,
            rule: None,
            reason: None,
            explanation: None,
            faults: Vec::new(),
            retry: false,
        }
    }

    /// The gate's answer. `house`: the clock on which a due is shown when no other is known.
    pub(super) fn of(accepted: Accepted, house: &TimeZone) -> Self {
        let mut all = Self::ruled(&accepted, house);
        all.id = Some(accepted.id.to_string());
        all.explanation = accepted
            .why
            .map(|why| Explanation::new(why.answer, &why.reason, None));
        all.faults = accepted.faults.into_iter().map(Fault::from).collect();
        all
    }

    /// What is the same for all that were told the same, due at one instant.
    pub(super) fn ruled(accepted: &Accepted, house: &TimeZone) -> Self {
        let ruling = accepted.ruling.as_deref();
        let clock = ruling.and_then(|ruling| ruling.clock.as_ref());
        let due = accepted.due.map(|due| local(due, clock.unwrap_or(house)));
        let ruling = ruling.filter(|_| accepted.status != Status::Duplicate);
        let empty = Self::empty(None, accepted.status.into());
        Self {
            due,
            retry: empty.status == AnswerStatus::Failed,
            zone: ruling.map(|ruling| ruling.zone.to_string()),
            rule: ruling.and_then(|ruling| ruling.rule.as_deref().map(str::to_owned)),
            reason: ruling.map(|ruling| ruling.code),
            ..empty
        }
    }

    /// The answer to text that is no message.
    pub(super) fn faulty(faulty: Faulty) -> Self {
        let id = faulty.id.map(|id| id.to_string());
        Self {
            faults: faulty.faults.into_iter().map(Fault::from).collect(),
            ..Self::empty(id, AnswerStatus::Invalid)
        }
    }

    /// The answer to a message whose batch could not be stored.
    pub(super) fn failed() -> Self {
        Self {
            retry: true,
            ..Self::empty(None, AnswerStatus::Failed)
        }
    }
}

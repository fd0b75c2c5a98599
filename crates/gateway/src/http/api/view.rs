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
    /// Not stored: a part of the gateway could not be reached. Send it again.
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
    fn empty(id: Option<String>, status: AnswerStatus) -> Self {
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

    /// The gate's answer. `house`: the clock on which a duplicate's due is shown.
    pub(super) fn of(accepted: Accepted, house: &TimeZone, explained: bool) -> Self {
        let empty = Self::empty(Some(accepted.id.to_string()), accepted.status.into());
        let clock = accepted.zone.as_ref().unwrap_or(house);
        let due = accepted.due.map(|due| local(due, clock));
        let faults = accepted.faults.into_iter().map(Fault::from).collect();
        let empty = Self {
            due,
            faults,
            ..empty
        };
        let Some(reason) = accepted.reason else {
            return empty;
        };
        let told = accepted.answer.filter(|_| explained);
        Self {
            zone: Some(reason.zone.to_string()),
            explanation: told.map(|answer| Explanation::new(answer, &reason, None)),
            rule: reason.rule.map(|rule| rule.to_string()),
            reason: Some(reason.code),
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
    pub(super) fn failed(id: String) -> Self {
        Self {
            retry: true,
            ..Self::empty(Some(id), AnswerStatus::Failed)
        }
    }
}

//! The dry run: what would become of a message, and why. Nothing is stored.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use nightgate_core::{
    Answer as Told, Code, Consent, ConsentAnswer, Decision, FieldFault, Language, Message, Reason,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::view::Explanation;
use super::{Api, local};
use crate::decider::Decided;
use crate::http::input::{Fields, JsonBody};
use crate::http::problem::{Answer, Problem, Sort};
use crate::ingest::wire::read_envelope;
use crate::receipt::export::ConsentLine;

const CONSENT_RULE: &str = "must be an object with `general` and `night`, each null or an object \
                            of `granted` {at, basis, ends} and `withdrawn_at`";

/// The question.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(in crate::http) struct ExplainAsk {
    /// A message, with or without its body.
    #[schema(value_type = super::messages::MessageIn)]
    message: (),
    /// When it would be asked; now if not given. RFC 3339 with an offset.
    #[schema(format = DateTime)]
    at: Option<String>,
    /// Consents to suppose; those of the book if not given.
    #[schema(value_type = Option<Object>)]
    consent: (),
    /// en or ko; both if not given.
    language: Option<String>,
}

/// The answer, with everything it stands on.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ExplainAnswer {
    /// send, hold or refuse.
    decision: &'static str,
    /// The instant that was asked about, on the recipient's clock.
    #[schema(format = DateTime)]
    at: String,
    /// Hold: when it is asked again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    until: Option<String>,
    /// Send: the first instant at which it may no longer leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    not_after: Option<String>,
    /// What decided.
    #[schema(value_type = String, example = "quiet_hours")]
    reason: Code,
    /// The rule that decided, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// The text that rule stands on.
    #[serde(skip_serializing_if = "Option::is_none")]
    citation: Option<String>,
    /// Whose law was asked.
    jurisdiction: String,
    /// The candidate zones, joined by `+`.
    zone: String,
    /// How they came to be known: message, number or house.
    #[schema(value_type = String)]
    zone_source: nightgate_core::ZoneSource,
    /// The version of the rules.
    ruleset: String,
    /// When the deciding window opens next.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    opens: Option<String>,
    /// When the present window closes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    closes: Option<String>,
    /// Both consents as they stood then.
    consent: ConsentLine,
    /// The sentence for people.
    explanation: Explanation,
    /// Every rule that speaks about this message then, whatever it says.
    #[schema(value_type = Vec<Object>)]
    applicable: Vec<Value>,
}

/// Says what would become of a message, and why
#[utoipa::path(
    post, path = "/v1/explain", tag = "messages",
    operation_id = "explain",
    request_body(
        content = ExplainAsk,
        example = json!({
            "message": {
                "id": "m-1", "recipient": "010-1234-5678", "channel": "sms",
                "purpose": "advertising"
            },
            "at": "2026-11-22T23:00:00+09:00",
            "consent": {
                "general": {
                    "granted": {"at": "2026-11-01T12:00:00+09:00", "basis": "explicit"}
                }
            }
        }),
    ),
    responses((status = 200, description = "The decision", body = ExplainAnswer)),
)]
pub(super) async fn explain(
    State(api): State<Arc<Api>>,
    JsonBody(body): JsonBody,
) -> Answer<Json<ExplainAnswer>> {
    let mut fields = Fields::read(&body, &["message", "at", "consent", "language"])?;
    let at = fields.instant("at").unwrap_or_else(|| api.clock.now());
    let only = fields.text("language", language);
    let supposed = consent(&mut fields);
    let message = message(&mut fields);
    let Some(message) = message else {
        return Err(Problem::faults(Sort::Invalid, fields.faults));
    };
    fields.done()?;
    let decider = api.gate.decider();
    let decided = match supposed {
        Some(consent) => Some(decider.decide_one(&message, &ConsentAnswer::Known(consent), at)),
        None => {
            let key = decider.key(&message);
            decider.decide(&[&message], &[&key], at).await.all.pop()
        }
    };
    let Some(decided) = decided else {
        return Err(Problem::new(Sort::Internal, "the rules gave no answer"));
    };
    Ok(Json(answer(&api, &message, &decided, at, only)))
}

fn language(text: &str) -> Result<Language, String> {
    match text {
        "en" => Ok(Language::English),
        "ko" => Ok(Language::Korean),
        _ => Err("must be en or ko".to_owned()),
    }
}

fn consent(fields: &mut Fields) -> Option<Consent> {
    let value: Value = fields.shaped("consent", CONSENT_RULE)?;
    let known = |value: &Value, names: &[&str]| match value {
        Value::Object(map) => map.keys().all(|name| names.contains(&name.as_str())),
        Value::Null => true,
        _ => false,
    };
    // A misspelt name would read as consent never given.
    let fact = |scope: &str| {
        let fact = &value[scope];
        let granted = fact.get("granted").unwrap_or(&Value::Null);
        known(fact, &["granted", "withdrawn_at"]) && known(granted, &["at", "basis", "ends"])
    };
    if !known(&value, &["general", "night"]) || !fact("general") || !fact("night") {
        fields.fault("consent", CONSENT_RULE);
        return None;
    }
    let consent = serde_json::from_value(value);
    consent
        .map_err(|_| fields.fault("consent", CONSENT_RULE))
        .ok()
}

fn message(fields: &mut Fields) -> Option<Message> {
    let Some(raw) = fields.raw("message") else {
        fields.fault("message", "is missing");
        return None;
    };
    let within = |fault: FieldFault| match fault.field.as_str() {
        "message" => fault,
        field => FieldFault::new(&format!("message.{field}"), fault.rule),
    };
    let faults = match read_envelope(raw.as_bytes()) {
        Ok(message) => {
            let faults = message.faults();
            if faults.is_empty() {
                return Some(message);
            }
            faults
        }
        Err(faulty) => faulty.faults,
    };
    fields.faults.extend(faults.into_iter().map(within));
    None
}

fn answer(
    api: &Api,
    message: &Message,
    decided: &Decided,
    at: Timestamp,
    only: Option<Language>,
) -> ExplainAnswer {
    let Decided {
        decision, place, ..
    } = decided;
    let (name, until, not_after, reason) = match decision {
        Decision::Send(permit) => ("send", None, Some(permit.not_after()), permit.reason()),
        Decision::Hold { until, reason } => ("hold", Some(*until), None, reason),
        Decision::Refuse { reason } => ("refuse", None, None, reason),
    };
    let zone = place.zones.all.first().unwrap_or(&api.house().zone);
    let there = |at: Option<Timestamp>| at.map(|at| local(at, zone));
    let rules = api.gate.decider().rules();
    let Reason {
        code,
        rule,
        ruleset,
        zone: zone_name,
        zone_source,
        opens,
        closes,
        consent,
    } = reason;
    let cited = rules.rules().find(|view| Some(view.id) == rule.as_deref());
    let applicable = rules.applicable(message, place, at);
    let applicable = applicable
        .iter()
        .filter_map(|rule| serde_json::to_value(rule).ok());
    ExplainAnswer {
        decision: name,
        at: local(at, zone),
        until: there(until),
        not_after: there(not_after),
        reason: *code,
        rule: rule.as_deref().map(str::to_owned),
        citation: cited.map(|view| view.citation.to_owned()),
        jurisdiction: place.jurisdiction.to_string(),
        zone: zone_name.to_string(),
        zone_source: *zone_source,
        ruleset: ruleset.to_string(),
        opens: there(*opens),
        closes: there(*closes),
        consent: (*consent).into(),
        explanation: Explanation::new(Told::from(decision), reason, only),
        applicable: applicable.collect(),
    }
}

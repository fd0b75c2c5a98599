//! Handing messages in, one or an array, and looking one up.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use nightgate_core::{Message, MessageId};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::view::MessageAnswer;
use super::{Api, local, to_the_end};
use crate::gate::{Accepted, Status};
use crate::hold::{Found, State as HeldState};
use crate::http::input::{JsonBody, Part, bad_json};
use crate::http::problem::{Answer, Problem, Sort};
use crate::ingest::wire::{self, Faulty};
use crate::receipt::export::ReceiptLine;
use crate::receipt::{Event, Filed, ReceiptAsk};

/// Receipts shown with one message: every attempt of the longest road, several times over.
const RECEIPTS_SHOWN: usize = 200;

/// A message as its producer writes it.
#[derive(ToSchema)]
#[schema(as = Message)]
#[expect(
    dead_code,
    reason = "only its schema is used; `ingest::wire` reads messages"
)]
pub(in crate::http) struct MessageIn {
    /// Idempotency key: 1 to 128 bytes of visible ASCII.
    #[schema(example = "order-1001")]
    id: String,
    /// Phone number, e-mail address, push token or user id.
    #[schema(example = "010-1234-5678")]
    recipient: String,
    /// sms, lms, mms, rcs, alimtalk, friendtalk, brandmessage, push, email, voice or fax.
    #[schema(example = "sms")]
    channel: String,
    /// informational or advertising. Information plus any benefit is advertising.
    #[schema(example = "advertising")]
    purpose: String,
    /// The unit of recall and of fairness.
    campaign: Option<String>,
    /// 0 leaves first, 9 last.
    #[schema(minimum = 0, maximum = 9, default = 5)]
    priority: Option<u8>,
    /// ISO 3166-1 code of the country whose law applies.
    jurisdiction: Option<String>,
    /// IANA zone of the recipient.
    zone: Option<String>,
    /// Not before this instant: RFC 3339 with an offset.
    #[schema(format = DateTime)]
    send_at: Option<String>,
    /// Worthless from this instant on: RFC 3339 with an offset.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Stored for later use.
    collapse_key: Option<String>,
    /// A string (its UTF-8 bytes), or an object or array (its text, byte for byte). Either this or
    /// `body_base64`.
    #[schema(value_type = Option<Object>)]
    body: Option<String>,
    /// Binary body in base64.
    body_base64: Option<String>,
    /// Media type of the body.
    content_type: Option<String>,
    /// Strings carried to the sink beside the body: at most 32.
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    attributes: Option<()>,
}

/// One message or several.
#[derive(ToSchema)]
#[schema(as = Messages)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(in crate::http) enum MessagesIn {
    /// One.
    One(Box<MessageIn>),
    /// Several, each answered by itself.
    Several(Vec<MessageIn>),
}

/// One answer or several.
#[derive(ToSchema)]
#[schema(as = MessageAnswers)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(in crate::http) enum AnswersOut {
    /// To one message.
    One(Box<MessageAnswer>),
    /// To an array, in its order.
    Several(Vec<MessageAnswer>),
}

/// Hands in one message, or an array of them
///
/// When it answers, accepted and held messages are on disk. Of an array, each message is answered
/// by itself: one that is wrong costs only itself. Sending the same ids again is safe.
#[utoipa::path(
    post, path = "/v1/messages", tag = "messages",
    operation_id = "accept",
    request_body(
        content = MessagesIn,
        example = json!({
            "id": "order-1001", "recipient": "010-1234-5678", "channel": "sms",
            "purpose": "advertising", "campaign": "weekend-sale", "body": "(광고) ..."
        }),
    ),
    responses((status = 200, description = "What became of it, or of each", body = AnswersOut)),
)]
pub(super) async fn accept(
    State(api): State<Arc<Api>>,
    JsonBody(body): JsonBody,
) -> Answer<Response> {
    let raw: &RawValue = serde_json::from_slice(&body).map_err(|error| bad_json(&error))?;
    if raw.get().starts_with('[') {
        let answers = accept_all(&api, raw.get()).await?;
        return Ok(Json(answers).into_response());
    }
    let read = wire::read(raw.get().as_bytes());
    let message = read.map_err(|Faulty { faults, .. }| {
        api.metrics.malformed(1);
        Problem::faults(Sort::Invalid, faults)
    })?;
    let mut accepted = to_gate(&api, vec![message]).await?;
    let Some(accepted) = accepted.pop() else {
        return Err(Problem::new(Sort::Internal, "the gate gave no answer"));
    };
    if accepted.status == Status::Invalid {
        return Err(Problem::faults(Sort::Invalid, accepted.faults));
    }
    if let Some(limit) = accepted.limit {
        let detail = format!(
            "`{}` is reached; nothing was stored, send it again later",
            limit.as_str()
        );
        return Err(Problem::new(Sort::NoRoom, detail));
    }
    let answer = MessageAnswer::of(accepted, &api.house().zone);
    Ok(Json(answer).into_response())
}

async fn accept_all(api: &Arc<Api>, array: &str) -> Answer<Vec<MessageAnswer>> {
    let all: Vec<&RawValue> = serde_json::from_str(array).map_err(|error| bad_json(&error))?;
    let max = api.limits.batch_max;
    if all.len() > max {
        let rule = format!("must hold at most {max} messages; use /v1/messages/bulk for more");
        return Err(Problem::field(Sort::Invalid, "body", rule));
    }
    let mut messages = Vec::with_capacity(all.len());
    let mut faulty = Vec::new();
    for (index, raw) in all.iter().enumerate() {
        match wire::read(raw.get().as_bytes()) {
            Ok(message) => messages.push(message),
            Err(fault) => faulty.push((index, fault)),
        }
    }
    api.metrics.malformed(faulty.len() as u64);
    let house = &api.house().zone;
    let accepted = to_gate(api, messages).await?;
    let mut accepted = accepted
        .into_iter()
        .map(|one| MessageAnswer::of(one, house));
    let mut faulty = faulty.into_iter().peekable();
    let mut answers = Vec::with_capacity(all.len());
    for index in 0..all.len() {
        let answer = match faulty.next_if(|(place, _)| *place == index) {
            Some((_, fault)) => Some(MessageAnswer::faulty(fault)),
            None => accepted.next(),
        };
        answers.extend(answer.map(|answer| MessageAnswer {
            index: Some(index),
            ..answer
        }));
    }
    Ok(answers)
}

async fn to_gate(api: &Arc<Api>, messages: Vec<Message>) -> Answer<Vec<Accepted>> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let gate = Arc::clone(&api.gate);
    to_the_end(async move { Ok(gate.accept(messages).await?) }).await
}

/// What is known of one message.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct MessageView {
    /// The id.
    id: String,
    /// Where it is: held, leased, buried, recalled, delivered, refused, expired or rejected.
    state: HeldState,
    /// When it is asked again, on the house's clock; only while it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    due: Option<String>,
    /// Hand-overs tried and deferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    /// The recipient in canonical form, masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    /// The lane it leaves by.
    #[serde(skip_serializing_if = "Option::is_none")]
    lane: Option<String>,
    /// The campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    campaign: Option<String>,
    /// advertising or informational.
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    /// The channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    /// Why it was buried, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Its first receipts, oldest first.
    receipts: Vec<ReceiptLine>,
}

/// Looks one message up
///
/// A message that was refused is in no hold; what its receipts tell is answered.
#[utoipa::path(
    get, path = "/v1/messages/{id}", tag = "messages",
    operation_id = "lookUpMessage",
    params(("id" = String, Path, description = "The message's id")),
    responses((status = 200, description = "What is known of it", body = MessageView)),
)]
pub(super) async fn look_up(
    State(api): State<Arc<Api>>,
    Part(id): Part,
) -> Answer<Json<MessageView>> {
    let unknown = || {
        let detail = "it was never accepted here, or its id has been forgotten since";
        Problem::new(Sort::NoMessage, detail)
    };
    let id = MessageId::new(&id).map_err(|_| unknown())?;
    let ask = ReceiptAsk {
        message: Some(id.clone()),
        max: RECEIPTS_SHOWN,
        ..ReceiptAsk::default()
    };
    let found = api
        .hold
        .find(std::slice::from_ref(&id))
        .await?
        .pop()
        .flatten();
    let filed = api.receipts.query(&ask).await?;
    let view = match found {
        Some(found) => of_hold(&api, found),
        None => of_receipts(&id, &filed).ok_or_else(|| match api.hold.capability().find {
            true => unknown(),
            false => Problem::new(
                Sort::Unsupported,
                "the hold cannot be asked for one message",
            ),
        })?,
    };
    let receipts = filed
        .into_iter()
        .map(|filed| ReceiptLine::new(filed, false));
    Ok(Json(MessageView {
        receipts: receipts.collect(),
        ..view
    }))
}

fn of_hold(api: &Api, found: Found) -> MessageView {
    let Found {
        held,
        state,
        attempts,
        // Its receipts, which stand beside, say more.
        lapsed: _,
        why,
    } = found;
    let waits = matches!(state, HeldState::Held | HeldState::Leased);
    MessageView {
        id: held.message.id.to_string(),
        state,
        due: waits.then(|| local(held.due, &api.house().zone)),
        attempts: Some(attempts),
        recipient: Some(held.key.to_string()),
        lane: Some(held.lane.to_string()),
        campaign: held.message.campaign.as_deref().map(str::to_owned),
        purpose: Some(held.message.purpose.to_string()),
        channel: Some(held.message.channel.to_string()),
        why,
        receipts: Vec::new(),
    }
}

/// Where the road of a message ended that the hold does not know, or no longer.
fn of_receipts(id: &MessageId, filed: &[Filed]) -> Option<MessageView> {
    let ends = |filed: &Filed| match filed.receipt.event {
        Event::Refused => Some(HeldState::Refused),
        Event::Expired => Some(HeldState::Expired),
        Event::Delivered => Some(HeldState::Delivered),
        Event::Rejected => Some(HeldState::Rejected),
        Event::Recalled => Some(HeldState::Recalled),
        _ => None,
    };
    let state = filed.iter().rev().find_map(ends)?;
    let subject = &filed.last()?.receipt.subject;
    Some(MessageView {
        id: id.to_string(),
        state,
        due: None,
        attempts: None,
        recipient: subject.recipient.as_ref().map(ToString::to_string),
        lane: subject.lane.as_ref().map(ToString::to_string),
        campaign: subject.campaign.as_deref().map(str::to_owned),
        purpose: subject.purpose.map(|purpose| purpose.to_string()),
        channel: subject.channel.map(|channel| channel.to_string()),
        why: None,
        receipts: Vec::new(),
    })
}

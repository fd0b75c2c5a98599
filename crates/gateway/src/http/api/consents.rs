//! Consents: what a recipient agreed to, and recording what they did.

use bytes::Bytes;
use std::io::Cursor;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use jiff::Timestamp;
use nightgate_core::message::CONTENT_TYPE_DEFAULT;
use nightgate_core::{
    Basis, Channel, Consent, ConsentAnswer, Decision, FieldFault, Message, MessageId, Priority,
    Purpose, Recipient, Scope,
};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Api, local, to_the_end};
use crate::consent::import::{
    FAULTS_KEPT, Format, ImportFault, LINE_MAX_BYTES, SOURCE_MAX_BYTES, rows,
};
use crate::consent::{Act, ConsentEvent};
use crate::http::input::{JSON, JsonBody, NDJSON, Part, bad_json, media_type, wrong_type};
use crate::http::ndjson::{Lines, Next};
use crate::http::problem::{Answer, Problem, Sort};
use crate::receipt::export::ConsentLine;

/// Where consents come from whose sender names no source.
const SOURCE: &str = "http";
/// Most consents recorded in one go; each is a transaction of the book.
const BATCH_MAX: usize = 1_000;

/// A recipient's consents.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ConsentView {
    /// The recipient in canonical form, masked.
    recipient: String,
    /// How both consents stand now, under the law of the recipient's place.
    standing: ConsentLine,
    /// What decides: the latest grant and withdrawal of each.
    #[schema(value_type = Object)]
    state: Consent,
    /// Everything that was recorded, oldest first, on the house's clock.
    history: Vec<EventView>,
}

/// One thing a recipient did.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct EventView {
    /// general or night.
    #[schema(value_type = String)]
    scope: Scope,
    /// grant or withdraw.
    act: &'static str,
    /// When it happened.
    #[schema(format = DateTime)]
    at: String,
    /// Of a grant: explicit or transaction_exception.
    #[serde(skip_serializing_if = "Option::is_none")]
    basis: Option<&'static str>,
    /// When the transaction exception ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    ends: Option<String>,
    /// Where it was recorded from.
    source: String,
}

/// Looks up the consents of a recipient
#[utoipa::path(
    get, path = "/v1/consents/{recipient}", tag = "consents",
    operation_id = "lookUpConsents",
    params(("recipient" = String, Path, description = "In any form, percent-encoded")),
    responses((
        status = 200, description = "Consents; of a stranger, empty ones", body = ConsentView,
    )),
)]
pub(super) async fn look_up(
    State(api): State<Arc<Api>>,
    Part(recipient): Part,
) -> Answer<Json<ConsentView>> {
    let recipient = Recipient::new(&recipient)
        .map_err(|rule| Problem::field(Sort::Invalid, "recipient", rule))?;
    let key = recipient.key(api.house().jurisdiction.as_str());
    let state = api.consent.look_up(std::slice::from_ref(&key)).await?;
    let state = state.into_iter().next().unwrap_or_default();
    let history = api.consent.history(&key).await?;
    let zone = &api.house().zone;
    let history = history.into_iter().map(|event| {
        let (act, basis, ends) = match event.act {
            Act::Grant(Basis::Explicit) => ("grant", Some("explicit"), None),
            Act::Grant(Basis::TransactionException { ends }) => {
                ("grant", Some("transaction_exception"), Some(ends))
            }
            Act::Withdraw => ("withdraw", None, None),
        };
        EventView {
            scope: event.scope,
            act,
            at: local(event.at, zone),
            basis,
            ends: ends.map(|ends| local(ends, zone)),
            source: event.source,
        }
    });
    Ok(Json(ConsentView {
        recipient: key.to_string(),
        standing: standing(&api, recipient, state)?,
        state,
        history: history.collect(),
    }))
}

/// How both consents stand now. How long a consent stands unconfirmed is for the rules of the
/// recipient's place to say, so they are asked about a message to this recipient.
fn standing(api: &Api, recipient: Recipient, state: Consent) -> Answer<ConsentLine> {
    let broken = |_| Problem::new(Sort::Internal, "the standing cannot be told");
    let message = Message {
        id: MessageId::new("-").map_err(broken)?,
        recipient,
        channel: Channel::Sms,
        purpose: Purpose::Advertising,
        campaign: None,
        priority: Priority::default(),
        jurisdiction: None,
        zone: None,
        send_at: None,
        expires_at: None,
        collapse_key: None,
        content_type: CONTENT_TYPE_DEFAULT.into(),
        attributes: std::collections::BTreeMap::new(),
        body: Bytes::new(),
    };
    let answer = ConsentAnswer::Known(state);
    let decided = api
        .gate
        .decider()
        .decide_one(&message, &answer, api.clock.now());
    let snapshot = match &decided.decision {
        Decision::Send(permit) => permit.reason().consent,
        Decision::Hold { reason, .. } | Decision::Refuse { reason } => reason.consent,
    };
    Ok(snapshot.into())
}

/// One thing a recipient did, as it is recorded.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "only its schema is used; `consent::import` reads events"
)]
pub(in crate::http) struct ConsentIn {
    /// Who, in any form.
    recipient: String,
    /// general or night.
    scope: String,
    /// grant (if not given) or withdraw.
    act: Option<String>,
    /// When it happened; now if not given.
    #[schema(format = DateTime)]
    at: Option<String>,
    /// Of a grant: explicit (if not given) or transaction_exception.
    basis: Option<String>,
    /// When the transaction exception ends.
    #[schema(format = DateTime)]
    ends: Option<String>,
    /// Where it comes from, for proof.
    #[schema(max_length = 256)]
    source: Option<String>,
}

/// One event or several.
#[derive(ToSchema)]
#[schema(as = Consents)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(in crate::http) enum ConsentsIn {
    /// One.
    One(Box<ConsentIn>),
    /// Several, each taken by itself.
    Several(Vec<ConsentIn>),
}

/// What was recorded.
#[derive(Default, Serialize, ToSchema)]
pub(in crate::http) struct ConsentsAnswer {
    /// Events that were new.
    new: u64,
    /// Events that were known already.
    known: u64,
    /// Events that were not taken.
    faulty: u64,
    /// The first hundred faults; `line` counts from 1, also in an array.
    faults: Vec<ImportFault>,
}

/// Records what recipients did
///
/// One object, an array, or an NDJSON stream of them. Durable when it answers; a withdrawal counts
/// from then on. The same event twice is recorded once, so sending everything again is safe. In an
/// array or a stream, an event that is wrong costs only itself.
#[utoipa::path(
    post, path = "/v1/consents", tag = "consents",
    operation_id = "recordConsents",
    request_body(
        content(
            (ConsentsIn = "application/json", example = json!({
                "recipient": "010-1234-5678", "scope": "general", "act": "withdraw"
            })),
            (String = "application/x-ndjson"),
        ),
    ),
    responses((status = 200, description = "What was recorded", body = ConsentsAnswer)),
)]
pub(super) async fn record(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Answer<Json<ConsentsAnswer>> {
    let media = media_type(request.headers()).unwrap_or_default();
    if NDJSON.contains(&media.as_str()) {
        return stream(api, request).await;
    }
    if media != JSON {
        return Err(wrong_type(&[JSON, NDJSON[0]]));
    }
    let JsonBody(body) = JsonBody::from_request(request, &()).await?;
    let raw: &RawValue = serde_json::from_slice(&body).map_err(|error| bad_json(&error))?;
    let now = api.clock.now();
    let single = !raw.get().starts_with('[');
    let mut batch = Batch::default();
    if single {
        batch.add(1, raw.get().as_bytes(), now);
    } else {
        let all: Vec<&RawValue> =
            serde_json::from_slice(&body).map_err(|error| bad_json(&error))?;
        let max = api.limits.batch_max;
        if all.len() > max {
            let rule = format!("must hold at most {max} consents; send NDJSON for more");
            return Err(Problem::field(Sort::Invalid, "body", rule));
        }
        for (number, raw) in (1..).zip(all) {
            batch.add(number, raw.get().as_bytes(), now);
        }
    }
    let (events, faults) = batch.read(&api);
    if single && !faults.is_empty() {
        let fault = |fault: ImportFault| FieldFault::new(&fault.field, fault.rule);
        let faults = faults.into_iter().map(fault).collect();
        return Err(Problem::faults(Sort::Invalid, faults));
    }
    let mut answer = ConsentsAnswer::default();
    answer.note(faults);
    for events in events.chunks(BATCH_MAX) {
        answer.record(&api, events.to_vec()).await?;
    }
    Ok(Json(answer))
}

async fn stream(api: Arc<Api>, request: Request) -> Answer<Json<ConsentsAnswer>> {
    let idle = api.limits.bulk_idle_timeout;
    let mut lines = Lines::new(request.into_body(), LINE_MAX_BYTES, idle);
    lines.begin(idle).await;
    let mut answer = ConsentsAnswer::default();
    let mut over = false;
    while !over {
        let mut batch = Batch::default();
        let now = api.clock.now();
        while batch.numbers.len() < BATCH_MAX && !over {
            match lines.next(None).await {
                Next::Line(number, line) => batch.add(number, &line, now),
                Next::TooLong(line) => answer.note(vec![ImportFault {
                    line,
                    field: "line".to_owned(),
                    rule: format!("must be at most {LINE_MAX_BYTES} bytes"),
                }]),
                Next::End | Next::Lull => over = true,
                Next::Broken(why) => {
                    let detail = format!("{why}; send everything again, that is safe");
                    return Err(Problem::new(Sort::CutOff, detail));
                }
            }
        }
        let (events, faults) = batch.read(&api);
        answer.note(faults);
        answer.record(&api, events).await?;
    }
    Ok(Json(answer))
}

/// Consents as lines of NDJSON, with the numbers they have in what the client sent.
#[derive(Default)]
struct Batch {
    text: String,
    numbers: Vec<u64>,
}

impl Batch {
    /// Adds one; whoever names no time did it now.
    fn add(&mut self, number: u64, json: &[u8], now: Timestamp) {
        let line = serde_json::from_slice::<Map<String, Value>>(json)
            .ok()
            .and_then(|mut map| {
                map.entry("at").or_insert_with(|| now.to_string().into());
                serde_json::to_string(&map).ok()
            });
        // What is no object is told so by the reader of lines.
        self.text.push_str(line.as_deref().unwrap_or("0"));
        self.text.push('\n');
        self.numbers.push(number);
    }

    fn read(self, api: &Api) -> (Vec<ConsentEvent>, Vec<ImportFault>) {
        let home = api.house().jurisdiction;
        let rows = rows(
            Cursor::new(self.text),
            Format::Ndjson,
            home.as_str(),
            SOURCE,
        );
        let (mut events, mut faults) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                Ok(event) => events.push(event),
                Err(fault) => {
                    let place = usize::try_from(fault.line).unwrap_or(0).saturating_sub(1);
                    let line = self.numbers.get(place).copied().unwrap_or(fault.line);
                    faults.push(ImportFault { line, ..fault });
                }
            }
        }
        (events, faults)
    }
}

impl ConsentsAnswer {
    fn note(&mut self, faults: Vec<ImportFault>) {
        self.faulty += faults.len() as u64;
        let room = FAULTS_KEPT.saturating_sub(self.faults.len());
        self.faults.extend(faults.into_iter().take(room));
    }

    async fn record(&mut self, api: &Arc<Api>, events: Vec<ConsentEvent>) -> Answer<()> {
        if events.is_empty() {
            return Ok(());
        }
        let given = events.len() as u64;
        let book = Arc::clone(&api.consent);
        let new = to_the_end(async move { Ok(book.record(events).await?) }).await?;
        self.new += new;
        self.known += given.saturating_sub(new);
        Ok(())
    }
}

const _: () = assert!(SOURCE.len() <= SOURCE_MAX_BYTES && SOURCE_MAX_BYTES == 256);

//! What an answer, or the lack of one, means for each message. The table is in `webhook.rs`.

use std::borrow::Cow;
use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use super::look::Passage;
use crate::sink::Outcome;

/// Longest answer that is read: room for a full batch of outcomes, each with its reference.
pub(super) const ANSWER_MAX_BYTES: usize = 1024 * 1024;
/// Longest pause a receiver can ask for. A mistaken `Retry-After: 31536000` must not cost a night.
pub(super) const RETRY_AFTER_MAX: SignedDuration = SignedDuration::from_hours(1);
/// Longest reference that is kept in a receipt.
const REFERENCE_MAX_BYTES: usize = 128;
/// Longest reason code that is kept in a receipt.
const CODE_MAX_BYTES: usize = 64;
/// Most digits in a reason code: one with more could be a phone number.
const CODE_MAX_DIGITS: usize = 6;

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The same for every message.
    All(Outcome),
    /// One outcome a message, in order.
    Each(Vec<Outcome>),
    /// The request as a whole was turned down for what is in it. Of one message that is a
    /// rejection; of several it says nothing about each.
    Rejected(String),
}

fn retry(whole_lane: bool, why: String) -> Meaning {
    Meaning::All(Outcome::Retry {
        after: None,
        whole_lane,
        why,
    })
}

fn unknown(why: String) -> Meaning {
    Meaning::All(Outcome::Unknown { why })
}

/// What `response` means for the messages `ids`.
pub(super) async fn read(response: Response, ids: &[&str], now: Timestamp) -> Meaning {
    let status = response.status();
    if !status.is_success() {
        return of_status(status, retry_after(response.headers(), now));
    }
    let json = claims_json(response.headers());
    match body_of(response).await {
        Ok(body) if json => of_outcomes(&body, ids, status),
        Err(fault) if json => unknown(format!("HTTP {}, then {fault}", status.as_u16())),
        _ => Meaning::All(Outcome::Delivered { reference: None }),
    }
}

fn of_status(status: StatusCode, after: Option<SignedDuration>) -> Meaning {
    let code = status.as_u16();
    let why = format!("HTTP {code}");
    let wait = |whole_lane, why| {
        Meaning::All(Outcome::Retry {
            after,
            whole_lane,
            why,
        })
    };
    match code {
        300..=399 => wait(
            true,
            format!("{why}: redirects are not followed, set the final `url`"),
        ),
        401..=403 | 407 => wait(
            true,
            format!("{why}: check the credentials and the account"),
        ),
        404 | 405 | 410 | 421 | 501 | 505 => wait(true, format!("{why}: check the `url`")),
        408 | 409 | 425 => wait(false, why),
        429 | 503 => wait(true, why),
        400..=499 => Meaning::Rejected(why),
        _ => unknown(why),
    }
}

/// What it means that no answer came. `passage` tells whether the request was on its way.
pub(super) fn of_fault(fault: &reqwest::Error, passage: &Passage) -> Meaning {
    if *passage == Passage::Open {
        let what = if fault.is_timeout() {
            "timed out"
        } else {
            "was cut"
        };
        return unknown(format!("the request {what} after it was on its way"));
    }
    let why = if fault.is_dns() {
        "the host's name was not found"
    } else if fault.is_timeout() {
        "connecting timed out"
    } else if fault.is_connect() {
        "could not connect"
    } else {
        "the connection closed before the request left"
    };
    let detail = io_kind(fault)
        .map(|kind| format!(" ({kind})"))
        .unwrap_or_default();
    retry(true, format!("{why}{detail}"))
}

/// The kind of the deepest I/O error below `fault`. Kinds are fixed words and hold no address.
fn io_kind(fault: &reqwest::Error) -> Option<std::io::ErrorKind> {
    let mut found = None;
    let mut source = std::error::Error::source(fault);
    while let Some(error) = source {
        found = error
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind)
            .or(found);
        source = error.source();
    }
    found.filter(|kind| *kind != std::io::ErrorKind::Other)
}

/// `Retry-After` as seconds or as an HTTP date (RFC 9110 section 10.2.3), capped.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<SignedDuration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let after = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        SignedDuration::from_secs(text.parse().unwrap_or(i64::MAX))
    } else {
        let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        at.duration_since(now)
    };
    Some(after.clamp(SignedDuration::ZERO, RETRY_AFTER_MAX))
}

fn claims_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return false;
    };
    // A type that cannot even be read is not taken for "other content, so all is well".
    let Ok(text) = value.to_str() else {
        return true;
    };
    let essence = text
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// The whole body, or why it could not be read whole.
async fn body_of(mut response: Response) -> Result<Vec<u8>, &'static str> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > ANSWER_MAX_BYTES => {
                return Err("an answer longer than 1 MiB");
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(fault) if fault.is_timeout() => return Err("an answer that timed out"),
            Err(_) => return Err("an answer that was cut"),
        }
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    outcomes: Option<Vec<Entry<'a>>>,
}

#[derive(PartialEq, Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    #[serde(borrow)]
    reference: Option<Cow<'a, str>>,
    retry_after_seconds: Option<f64>,
    #[serde(borrow)]
    why: Option<Cow<'a, str>>,
}

/// Reads an answer that is an object; `None` of anything else that is JSON.
fn answer(body: &[u8]) -> serde_json::Result<Option<Answer<'_>>> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'{') {
        return serde_json::from_slice(body).map(Some);
    }
    // `[]`, `"ok"`, `true`: JSON that claims nothing about outcomes.
    serde_json::from_slice::<serde_json::Value>(body).map(|_| None)
}

fn of_outcomes(body: &[u8], ids: &[&str], status: StatusCode) -> Meaning {
    let delivered = Meaning::All(Outcome::Delivered { reference: None });
    if body.iter().all(u8::is_ascii_whitespace) {
        return delivered;
    }
    let entries = match answer(body) {
        Ok(Some(Answer {
            outcomes: Some(entries),
        })) => entries,
        Ok(_) => return delivered,
        Err(_) => {
            let code = status.as_u16();
            return unknown(format!(
                "HTTP {code}, then a JSON answer that could not be read"
            ));
        }
    };
    let in_order = || entries.iter().zip(ids).all(|(entry, id)| entry.id == *id);
    if entries.len() == ids.len() && in_order() {
        return Meaning::Each(entries.iter().map(of_entry).collect());
    }
    let mut by_id: HashMap<&str, Option<&Entry<'_>>> = HashMap::with_capacity(entries.len());
    for entry in &entries {
        let place = by_id.entry(&entry.id).or_insert(Some(entry));
        if *place != Some(entry) {
            *place = None;
        }
    }
    let outcome = |id: &&str| match by_id.get(id) {
        Some(Some(entry)) => of_entry(entry),
        Some(None) => Outcome::Unknown {
            why: "the answer contradicts itself".to_owned(),
        },
        None => Outcome::Unknown {
            why: "the answer leaves this message out".to_owned(),
        },
    };
    Meaning::Each(ids.iter().map(outcome).collect())
}

fn of_entry(entry: &Entry<'_>) -> Outcome {
    match &*entry.outcome {
        "delivered" => Outcome::Delivered {
            reference: reference(entry),
        },
        "retry" => Outcome::Retry {
            after: after(entry),
            whole_lane: false,
            why: why(entry),
        },
        "rejected" => Outcome::Rejected { why: why(entry) },
        "unknown" => Outcome::Unknown { why: why(entry) },
        _ => Outcome::Unknown {
            why: "the answer gives an outcome that is not known".to_owned(),
        },
    }
}

fn after(entry: &Entry<'_>) -> Option<SignedDuration> {
    let seconds = entry.retry_after_seconds?;
    let after = SignedDuration::try_from_secs_f64(seconds).unwrap_or(RETRY_AFTER_MAX);
    Some(after.clamp(SignedDuration::ZERO, RETRY_AFTER_MAX))
}

fn reference(entry: &Entry<'_>) -> Option<String> {
    let fits = |text: &&str| {
        (1..=REFERENCE_MAX_BYTES).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'@')
    };
    let reference = entry.reference.as_deref();
    reference.filter(fits).map(str::to_owned)
}

/// The receiver's reason if it is a plain code (`invalid_number`, `E.3008`), else that there was
/// one: free text may quote the recipient or the body, and receipts outlive both.
fn why(entry: &Entry<'_>) -> String {
    let said = format!(
        "the receiver said {}",
        match &*entry.outcome {
            "retry" => "retry",
            "rejected" => "rejected",
            _ => "unknown",
        }
    );
    match &entry.why {
        None => said,
        Some(code) if is_code(code) => format!("{said}: {code}"),
        Some(_) => format!("{said}; its reason is no plain code and is not kept"),
    }
}

fn is_code(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (1..=CODE_MAX_BYTES).contains(&text.len())
        && digits <= CODE_MAX_DIGITS
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte))
}

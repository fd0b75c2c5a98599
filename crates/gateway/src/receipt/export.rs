//! Receipts as they leave the house: one public line each, streamed a page at a time.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream, TryStreamExt};
use jiff::Timestamp;
use nightgate_core::{Basis, Code, ConsentSnapshot, Reason, RecipientKey, Standing, ZoneSource};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Event, Filed, PAGE_MAX, Receipt, ReceiptAsk, ReceiptLog, Subject};
use crate::error::{Error, Kind, Result};

/// Receipts read at a time, unless the caller says otherwise: about 1 MB of lines.
pub const PAGE_DEFAULT: usize = 1_000;

/// One receipt in JSON, the same in the HTTP API, in exports and in `--json`. A field that has
/// nothing to say is left out. Instants are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptLine {
    /// Place in the log; grows, never reused.
    pub seq: u64,
    /// When it was written, by the gateway's clock.
    pub at: String,
    /// What happened.
    pub event: Event,
    /// The message's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The recipient in canonical form; masked unless it was asked for in clear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The campaign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
    /// The lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// `informational` or `advertising`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// The channel: `sms`, `push`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Which hand-over it belongs to: 0 at ingest.
    pub attempt: u32,
    /// How many messages it stands for.
    pub count: u64,
    /// Until when it was held, or when its permit ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The rule that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The version of the ruleset that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ruleset: Option<String>,
    /// The candidate zones, joined by `+`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// How the zones came to be known: `message`, `number` or `house`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub zone_source: Option<ZoneSource>,
    /// What decided: `open`, `quiet_hours`, `withdrawn`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub code: Option<Code>,
    /// When the deciding window opens next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens: Option<String>,
    /// When the present window closes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes: Option<String>,
    /// Both consents as they stood when it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<ConsentLine>,
    /// What the sink or a person said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Both consents as they stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsentLine {
    /// To advertising.
    pub general: StandingLine,
    /// To advertising at night.
    pub night: StandingLine,
}

/// How one consent stood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StandingLine {
    /// `valid`, `none`, `withdrawn`, `lapsed` or `unknown`.
    pub standing: String,
    /// `explicit` or `transaction_exception`, if valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
    /// When it was given or last confirmed, if valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When it runs out, if valid and it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// When the transaction exception ends, if that is its basis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<String>,
    /// When it was withdrawn or lapsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

impl ReceiptLine {
    /// The public line of `filed`. `reveal`: the recipient in clear, for those who may see it.
    #[must_use]
    pub fn new(filed: Filed, reveal: bool) -> Self {
        // No `..`: a new field must find its place in the line.
        let Filed { seq, receipt } = filed;
        let Receipt {
            at,
            event,
            subject,
            attempt,
            count,
            until,
            reason,
            detail,
        } = receipt;
        let Subject {
            message,
            recipient,
            campaign,
            lane,
            purpose,
            channel,
        } = subject;
        let shown = |key: RecipientKey| {
            if reveal {
                key.expose().to_owned()
            } else {
                key.to_string()
            }
        };
        let line = Self {
            seq,
            at: at.to_string(),
            event,
            message: message.map(|id| id.to_string()),
            recipient: recipient.map(shown),
            campaign: campaign.as_deref().map(str::to_owned),
            lane: lane.map(|lane| lane.to_string()),
            purpose: purpose.map(|purpose| purpose.to_string()),
            channel: channel.map(|channel| channel.to_string()),
            attempt,
            count,
            until: text(until),
            rule: None,
            ruleset: None,
            zone: None,
            zone_source: None,
            code: None,
            opens: None,
            closes: None,
            consent: None,
            detail,
        };
        match reason {
            Some(reason) => line.with(reason),
            None => line,
        }
    }

    fn with(self, reason: Reason) -> Self {
        let Reason {
            code,
            rule,
            ruleset,
            zone,
            zone_source,
            opens,
            closes,
            consent,
        } = reason;
        Self {
            rule: rule.as_deref().map(str::to_owned),
            ruleset: Some(ruleset.to_string()),
            zone: Some(zone.to_string()),
            zone_source: Some(zone_source),
            code: Some(code),
            opens: text(opens),
            closes: text(closes),
            consent: Some(consent.into()),
            ..self
        }
    }
}

impl From<ConsentSnapshot> for ConsentLine {
    fn from(snapshot: ConsentSnapshot) -> Self {
        Self {
            general: snapshot.general.into(),
            night: snapshot.night.into(),
        }
    }
}

impl From<Standing> for StandingLine {
    fn from(standing: Standing) -> Self {
        let called = |name: &str| Self {
            standing: name.to_owned(),
            ..Self::default()
        };
        match standing {
            Standing::None => called("none"),
            Standing::Unknown => called("unknown"),
            Standing::Withdrawn { at } => Self {
                at: text(Some(at)),
                ..called("withdrawn")
            },
            Standing::Lapsed { at } => Self {
                at: text(Some(at)),
                ..called("lapsed")
            },
            Standing::Valid {
                since,
                until,
                basis,
            } => {
                let (basis, ends) = match basis {
                    Basis::Explicit => ("explicit", None),
                    Basis::TransactionException { ends } => ("transaction_exception", Some(ends)),
                };
                Self {
                    basis: Some(basis.to_owned()),
                    since: text(Some(since)),
                    until: text(until),
                    ends: text(ends),
                    ..called("valid")
                }
            }
        }
    }
}

fn text(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}

/// The receipts asked for, `page` at a time: what lies between two items is one page in memory,
/// however long the log is. Here `ask.max` bounds the whole, and 0 means all. It ends when a query
/// finds nothing more; receipts filed meanwhile are part of it.
pub fn pages(
    log: Arc<dyn ReceiptLog>,
    ask: ReceiptAsk,
    page: usize,
) -> impl Stream<Item = Result<Vec<Filed>>> + Send {
    let left = if ask.max == 0 { usize::MAX } else { ask.max };
    let page = page.clamp(1, PAGE_MAX);
    stream::try_unfold((log, ask, left), move |(log, mut ask, left)| async move {
        ask.max = page.min(left);
        if ask.max == 0 {
            return Ok(None);
        }
        let filed = log.query(&ask).await?;
        let Some(last) = filed.last() else {
            return Ok(None);
        };
        ask.after = Some(last.seq);
        let left = left - filed.len().min(left);
        Ok(Some((filed, (log, ask, left))))
    })
}

/// The same as NDJSON, a page of lines an item: ready to be an HTTP body.
pub fn ndjson(
    log: Arc<dyn ReceiptLog>,
    ask: ReceiptAsk,
    reveal: bool,
    page: usize,
) -> impl Stream<Item = Result<Bytes>> + Send {
    pages(log, ask, page).and_then(move |filed| std::future::ready(lines(filed, reveal)))
}

fn lines(filed: Vec<Filed>, reveal: bool) -> Result<Bytes> {
    let mut lines = Vec::with_capacity(filed.len() * 512);
    for filed in filed {
        serde_json::to_writer(&mut lines, &ReceiptLine::new(filed, reveal)).map_err(|error| {
            Error::new(Kind::Corrupt, "receipt", "write a receipt as JSON").with(error)
        })?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}

/// Writes the receipts asked for to `out` as NDJSON, a page at a time; says how many. For the CLI:
/// `out` blocks.
///
/// # Errors
/// Those of the log, and `Unavailable` when `out` takes no more.
pub async fn export(
    log: Arc<dyn ReceiptLog>,
    ask: ReceiptAsk,
    reveal: bool,
    page: usize,
    out: &mut (dyn Write + Send),
) -> Result<u64> {
    let full = |error| Error::new(Kind::Unavailable, "receipt", "write an export").with(error);
    let mut pages = std::pin::pin!(pages(log, ask, page));
    let mut count = 0;
    while let Some(filed) = pages.try_next().await? {
        count += filed.len() as u64;
        out.write_all(&lines(filed, reveal)?).map_err(full)?;
    }
    out.flush().map_err(full)?;
    Ok(count)
}

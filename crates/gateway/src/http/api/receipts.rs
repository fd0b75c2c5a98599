//! Receipts as an NDJSON stream.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use nightgate_core::{MessageId, Recipient};

use super::Api;
use crate::http::auth::{Caller, Need};
use crate::http::input::{Asked, NDJSON};
use crate::http::problem::{Answer, Problem, Sort};
use crate::receipt::ReceiptAsk;
use crate::receipt::export::{PAGE_DEFAULT, ReceiptLine, ndjson};

/// The filters, as they are named in a query.
const FILTERS: [&str; 8] = [
    "message",
    "recipient",
    "campaign",
    "from",
    "to",
    "after",
    "max",
    "reveal",
];

/// Streams receipts, in the order they were filed
///
/// All filters hold together. Recipients are masked; `reveal=true` shows them, to operators. A
/// stream that breaks off is continued with `after` = the last `seq` that was read.
#[utoipa::path(
    get, path = "/v1/receipts", tag = "receipts",
    operation_id = "queryReceipts",
    params(
        ("message" = Option<String>, Query, description = "Of this message"),
        ("recipient" = Option<String>, Query, description = "Of this recipient, in any form"),
        ("campaign" = Option<String>, Query, description = "Of this campaign"),
        ("from" = Option<String>, Query, description = "At or after this instant (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Before this instant (RFC 3339)"),
        ("after" = Option<u64>, Query, description = "Filed after this place in the log"),
        ("max" = Option<u64>, Query, description = "At most so many; else all"),
        ("reveal" = Option<bool>, Query, description = "Recipients in clear"),
    ),
    responses((
        status = 200, description = "One receipt a line",
        body = ReceiptLine, content_type = "application/x-ndjson",
    )),
)]
pub(super) async fn query(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Answer<Response> {
    let mut asked = Asked::read(&uri, &FILTERS)?;
    let home = api.house().jurisdiction;
    let recipient = |text: &str| Ok(Recipient::new(text)?.key(home.as_str()));
    let most = asked.number("max", 1, u64::MAX);
    let ask = ReceiptAsk {
        message: asked.read_as("message", MessageId::new),
        recipient: asked.read_as("recipient", recipient),
        campaign: asked.text("campaign").map(Into::into),
        from: asked.instant("from"),
        to: asked.instant("to"),
        // Places are signed 64-bit numbers in the stores.
        after: asked.number("after", 0, i64::MAX.unsigned_abs()),
        max: most.map_or(0, |most| usize::try_from(most).unwrap_or(usize::MAX)),
    };
    let reveal = asked.flag("reveal");
    asked.done()?;
    if reveal && !caller.may(Need::Operate) {
        let detail = "`reveal` needs the operator's token";
        return Err(Problem::new(Sort::NotAllowed, detail));
    }
    let pages = ndjson(Arc::clone(&api.receipts), ask, reveal, PAGE_DEFAULT);
    // The first page is read before the head goes out: a log that cannot be read is a 503.
    let mut pages = Box::pin(pages);
    let first = pages.next().await.transpose()?;
    let first = futures_util::stream::iter(first.map(Ok));
    let body = Body::from_stream(first.chain(pages));
    Ok(([(CONTENT_TYPE, NDJSON[0])], body).into_response())
}

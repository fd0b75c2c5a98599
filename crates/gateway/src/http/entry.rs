//! What every request passes on its way in and out: bounds, token, body, time, figures, headers.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, HeaderName, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use super::api::Api;
use super::auth::{Need, need};
use super::input::{NDJSON, media_type};
use super::problem::{Answer, Problem, Sort};

/// Longest path and query, in bytes: the longest id and filters, percent-encoded three times over.
pub(super) const URI_MAX_BYTES: usize = 8 * 1024;
/// The route of requests that match none, in figures.
const NO_ROUTE: &str = "none";

const HEADERS: [(HeaderName, &str); 2] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CACHE_CONTROL, "no-store"),
];

/// The way in and out, around every route.
pub(super) async fn pass(
    State(api): State<Arc<Api>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let route = path.as_ref().map(MatchedPath::as_str);
    // A fault of ours costs one answer, not the connection and whatever else is on it.
    let answered = AssertUnwindSafe(inside(&api, route, request, next)).catch_unwind();
    let mut response = match answered.await {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => {
            tracing::error!(route, "a request panicked");
            Problem::new(Sort::Internal, "see the gateway's log").into_response()
        }
    };
    let status = response.status().as_u16();
    api.metrics.http_request(route.unwrap_or(NO_ROUTE), status);
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn inside(
    api: &Arc<Api>,
    route: Option<&str>,
    mut request: Request,
    next: Next,
) -> Answer<Response> {
    check_head(api, &request)?;
    // What matches no route needs no token to be told so.
    let need = route.map_or(Need::Nothing, |route| need(request.method(), route));
    let caller = api.auth.admit(need, request.headers(), request.uri())?;
    request.extensions_mut().insert(caller);
    let headers = request.headers();
    if is_stream(route, request.method(), headers) {
        return Ok(next.run(request).await);
    }
    let request = with_body(api, request).await?;
    let answered = timeout(api.limits.request_timeout, next.run(request)).await;
    let response = answered.map_err(|_| {
        let detail = "it may still be done: ask for its effect, or send it again";
        Problem::new(Sort::Busy, detail)
    })?;
    Ok(match response.status() {
        StatusCode::METHOD_NOT_ALLOWED => wrong_method(&response),
        _ => response,
    })
}

fn check_head(api: &Api, request: &Request) -> Answer<()> {
    let uri = request.uri();
    let uri_bytes = uri.path_and_query().map_or(0, |uri| uri.as_str().len());
    if uri_bytes > URI_MAX_BYTES {
        let detail = format!("at most {URI_MAX_BYTES} bytes of path and query, not {uri_bytes}");
        return Err(Problem::new(Sort::LongUri, detail));
    }
    // As they stood on the wire: `name: value` and a line end.
    let sizes = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    let max = api.limits.header_max_bytes;
    if sizes.sum::<usize>() > max {
        return Err(Problem::new(
            Sort::LargeHead,
            format!("at most {max} bytes of headers"),
        ));
    }
    Ok(())
}

/// Whether the body is read as it comes, line by line.
fn is_stream(route: Option<&str>, method: &Method, headers: &HeaderMap) -> bool {
    let lines = || media_type(headers).is_some_and(|media| NDJSON.contains(&media.as_str()));
    method == Method::POST
        && match route {
            Some("/v1/messages/bulk") => true,
            Some("/v1/consents") => lines(),
            _ => false,
        }
}

/// Reads the whole body, within its bounds.
async fn with_body(api: &Api, request: Request) -> Answer<Request> {
    let max = api.limits.body_max_bytes;
    let too_large = || Problem::new(Sort::TooLarge, format!("at most {max} bytes"));
    let (parts, body) = request.into_parts();
    let told = parts
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    if told
        .and_then(|told| told.parse().ok())
        .is_some_and(|told: u64| told > max as u64)
    {
        return Err(too_large());
    }
    let collected = timeout(
        api.limits.request_timeout,
        Limited::new(body, max).collect(),
    )
    .await;
    let Ok(collected) = collected else {
        let within = api.limits.request_timeout;
        return Err(Problem::new(
            Sort::TooSlow,
            format!("send it within {within:?}"),
        ));
    };
    let body: Bytes = match collected {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
        Err(_) => return Err(Problem::new(Sort::CutOff, "send the whole body")),
    };
    Ok(Request::from_parts(parts, Body::from(body)))
}

fn wrong_method(response: &Response) -> Response {
    let allow = response.headers().get(ALLOW).cloned();
    let methods = allow
        .as_ref()
        .and_then(|allow| allow.to_str().ok())
        .unwrap_or("others");
    let detail = format!("this path takes {methods}");
    let mut problem = Problem::new(Sort::WrongMethod, detail).into_response();
    if let Some(allow) = allow {
        problem.headers_mut().insert(ALLOW, allow);
    }
    problem
}

/// The answer where no route is.
pub(super) async fn no_route() -> Problem {
    Problem::new(Sort::NoRoute, "the routes are listed in /openapi.json")
}

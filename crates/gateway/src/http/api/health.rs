//! Probes and figures.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use crate::http::problem::Answer;
use crate::metrics;
use crate::receipt::ReceiptAsk;

/// A part that answers.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Health {
    /// Always ok; what is not ok is a problem.
    #[schema(example = "ok")]
    status: &'static str,
}

const OK: Health = Health { status: "ok" };

/// Says that the process runs
#[utoipa::path(
    get, path = "/healthz", tag = "health",
    operation_id = "isAlive",
    responses((status = 200, description = "It runs", body = Health)),
)]
pub(super) async fn alive() -> Json<Health> {
    Json(OK)
}

/// Says that messages can be taken in
///
/// 503 names the part that cannot be reached or has lost a write. The consent book is not asked: a
/// gateway without it still takes messages in, and holds advertising.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    operation_id = "isReady",
    responses((status = 200, description = "It takes messages in", body = Health)),
)]
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Answer<Json<Health>> {
    api.hold.check().await?;
    let any = ReceiptAsk {
        max: 1,
        ..ReceiptAsk::default()
    };
    api.receipts.query(&any).await?;
    Ok(Json(OK))
}

/// Figures in the OpenMetrics text format
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    operation_id = "showMetrics",
    responses((
        status = 200, description = "For Prometheus",
        body = String, content_type = "application/openmetrics-text",
    )),
)]
pub(super) async fn figures(State(api): State<Arc<Api>>) -> Answer<impl IntoResponse> {
    let shelves = api.hold.shelves(None, None).await?;
    for lane in api.releaser.names() {
        let of_lane = shelves.iter().filter(|shelf| shelf.lane == *lane);
        let (held, buried) = of_lane.fold((0, 0), |(held, buried), shelf| {
            (held + shelf.held + shelf.leased, buried + shelf.buried)
        });
        api.metrics.lane_depth(lane, held, buried);
    }
    let figures = api.metrics.encode();
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], figures))
}

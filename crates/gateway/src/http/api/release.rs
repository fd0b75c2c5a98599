//! One step of release, now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::{Api, to_the_end};
use crate::http::problem::Answer;
use crate::release::Tick;

/// Lets go what is due, now
///
/// One bounded step of every lane, within rules, pauses and pace: it cannot make a message leave
/// that would not have left anyway.
#[utoipa::path(
    post, path = "/v1/release", tag = "lanes",
    operation_id = "release",
    responses((status = 200, description = "What the step did", body = Tick)),
)]
pub(super) async fn release(State(api): State<Arc<Api>>) -> Answer<Json<Tick>> {
    let ticking = async move { Ok(Json(api.releaser.tick().await?)) };
    to_the_end(ticking).await
}

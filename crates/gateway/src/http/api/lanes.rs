//! The lanes: how they do, and a person's stops.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::hold::no_lane;
use super::{Api, local};
use crate::hold::Lane;
use crate::http::input::Part;
use crate::http::problem::Answer;
use crate::release::LaneStatus;

/// The name that stands for all lanes, present and future: the global stop.
const ALL: &str = "all";

/// One lane.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct LaneView {
    /// How it did at its latest tick.
    #[serde(flatten)]
    status: LaneStatus,
    /// Since when a person has stopped it, on the house's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    paused_since: Option<String>,
}

impl LaneView {
    pub(super) fn is(&self, lane: &Lane) -> bool {
        self.status.lane == *lane
    }
}

/// All lanes.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct LanesView {
    /// Whether a person stopped everything.
    stopped: bool,
    /// Each lane.
    lanes: Vec<LaneView>,
}

/// Every lane, with the stops that are in force now: a tick may be a while ago.
pub(super) async fn lane_views(api: &Api) -> Answer<Vec<LaneView>> {
    let pauses = api.hold.pauses().await?;
    let views = api.releaser.status().into_iter().map(|mut status| {
        let stops = pauses.iter().filter(|pause| {
            let lane = pause.lane.as_ref();
            lane.is_none_or(|lane| *lane == status.lane)
        });
        let since = stops.map(|pause| pause.since).min();
        status.paused = since.is_some();
        LaneView {
            status,
            paused_since: since.map(|since| local(since, &api.house().zone)),
        }
    });
    Ok(views.collect())
}

async fn view(api: &Api) -> Answer<Json<LanesView>> {
    let stopped = api
        .hold
        .pauses()
        .await?
        .iter()
        .any(|pause| pause.lane.is_none());
    let lanes = lane_views(api).await?;
    Ok(Json(LanesView { stopped, lanes }))
}

/// Lists the lanes
#[utoipa::path(
    get, path = "/v1/lanes", tag = "lanes",
    operation_id = "listLanes",
    responses((status = 200, description = "How each lane does", body = LanesView)),
)]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Answer<Json<LanesView>> {
    view(&api).await
}

async fn set(api: &Api, name: &str, paused: bool) -> Answer<Json<LanesView>> {
    let lane = api.releaser.names().find(|lane| lane.as_str() == name);
    if lane.is_none() && name != ALL {
        return Err(no_lane(api));
    }
    let now = api.clock.now();
    // A lane that is called `all` cannot hide the global stop.
    let lane = lane.filter(|_| name != ALL);
    api.hold.pause(lane, paused, now).await?;
    tracing::info!(lane = name, paused, "a person set or lifted a stop");
    view(api).await
}

/// Stops a lane, or everything
///
/// Durable: it outlives a restart. What is on loan already may still be handed over.
#[utoipa::path(
    post, path = "/v1/lanes/{lane}/pause", tag = "lanes",
    operation_id = "pauseLane",
    params(("lane" = String, Path, description = "A lane, or `all` for the global stop")),
    responses((status = 200, description = "How each lane does now", body = LanesView)),
)]
pub(super) async fn pause(
    State(api): State<Arc<Api>>,
    Part(lane): Part,
) -> Answer<Json<LanesView>> {
    set(&api, &lane, true).await
}

/// Lifts the stop of a lane, or the global one
///
/// Each stop is lifted by itself: a lane that was stopped alone stays stopped when `all` resumes.
#[utoipa::path(
    post, path = "/v1/lanes/{lane}/resume", tag = "lanes",
    operation_id = "resumeLane",
    params(("lane" = String, Path, description = "A lane, or `all` for the global stop")),
    responses((status = 200, description = "How each lane does now", body = LanesView)),
)]
pub(super) async fn resume(
    State(api): State<Arc<Api>>,
    Part(lane): Part,
) -> Answer<Json<LanesView>> {
    set(&api, &lane, false).await
}

/// Ends the freeze after a jump of the clock
///
/// For a person who has checked that the machine's clock is right.
#[utoipa::path(
    post, path = "/v1/clock/confirm", tag = "lanes",
    operation_id = "confirmClock",
    responses((status = 204, description = "Release goes on")),
)]
pub(super) async fn confirm_clock(State(api): State<Arc<Api>>) -> StatusCode {
    api.releaser.thaw();
    StatusCode::NO_CONTENT
}

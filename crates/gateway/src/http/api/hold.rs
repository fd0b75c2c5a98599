//! Looking into the hold, and bringing back what was buried.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::Uri;
use jiff::Timestamp;
use nightgate_core::Purpose;
use serde::Serialize;
use utoipa::ToSchema;

use super::lanes::{LaneView, lane_views};
use super::recalls::scope;
use super::{Api, local, to_the_end};
use crate::hold::{Lane, State as HeldState};
use crate::http::input::{Asked, Fields, JsonBody};
use crate::http::problem::{Answer, Problem, Sort};

/// Most rows of an overview: openings by campaign. Beyond, the totals still count everything.
const ROWS_MAX: usize = 5_000;
/// Most buried messages in one list.
const BURIED_MAX: u64 = 1_000;
/// Buried messages listed when nobody says how many.
const BURIED_DEFAULT: u64 = 100;

/// What is held, buried and on loan.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct HoldView {
    /// Of everything asked for.
    total: Depth,
    /// By lane, opening, campaign and purpose.
    shelves: Vec<ShelfView>,
    /// Whether rows were left out, because there are too many.
    more: bool,
    /// How the lanes do, and when what is due will be out.
    lanes: Vec<LaneView>,
}

/// Counts.
#[derive(Clone, Copy, Default, Serialize, ToSchema)]
pub(in crate::http) struct Depth {
    /// Kept until they are due.
    held: u64,
    /// On loan to a releaser.
    leased: u64,
    /// Put aside until a person looks.
    buried: u64,
}

impl Depth {
    fn add(&mut self, other: Self) {
        self.held += other.held;
        self.leased += other.leased;
        self.buried += other.buried;
    }
}

/// What tells rows of the overview apart, in their order.
type Row = (Lane, Timestamp, Option<Arc<str>>, Purpose);

/// What is due at one opening.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ShelfView {
    /// The lane.
    lane: String,
    /// The opening, on the house's clock.
    #[schema(format = DateTime)]
    due: String,
    /// The campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    campaign: Option<String>,
    /// advertising or informational.
    purpose: String,
    /// Counts.
    #[serde(flatten)]
    depth: Depth,
}

/// The lane that a query names, if it names one.
fn lane_of(api: &Api, asked: &Asked) -> Answer<Option<Lane>> {
    let Some(name) = asked.text("lane") else {
        return Ok(None);
    };
    let known = api.releaser.names().find(|lane| lane.as_str() == name);
    match known {
        Some(lane) => Ok(Some(lane.clone())),
        None => Err(no_lane(api)),
    }
}

pub(super) fn no_lane(api: &Api) -> Problem {
    let names: Vec<&str> = api.releaser.names().map(Lane::as_str).collect();
    Problem::new(Sort::NoLane, format!("the lanes are {}", names.join(", ")))
}

/// Shows what is held, and when it will be out
#[utoipa::path(
    get, path = "/v1/hold", tag = "hold",
    operation_id = "showHold",
    params(("lane" = Option<String>, Query, description = "Only this lane")),
    responses((status = 200, description = "Totals, shelves and lanes", body = HoldView)),
)]
pub(super) async fn overview(
    State(api): State<Arc<Api>>,
    request: Request,
) -> Answer<Json<HoldView>> {
    let asked = Asked::read(request.uri(), &["lane"])?;
    let lane = lane_of(&api, &asked)?;
    asked.done()?;
    let mut total = Depth::default();
    let mut rows: BTreeMap<Row, Depth> = BTreeMap::new();
    for shelf in api.hold.shelves(lane.as_ref(), None).await? {
        let depth = Depth {
            held: shelf.held,
            leased: shelf.leased,
            buried: shelf.buried,
        };
        total.add(depth);
        let row = (shelf.lane, shelf.due, shelf.campaign, shelf.purpose);
        rows.entry(row).or_default().add(depth);
    }
    let zone = &api.house().zone;
    let more = rows.len() > ROWS_MAX;
    let shelves = rows.into_iter().take(ROWS_MAX);
    let shelves = shelves.map(|((lane, due, campaign, purpose), depth)| ShelfView {
        lane: lane.to_string(),
        due: local(due, zone),
        campaign: campaign.as_deref().map(str::to_owned),
        purpose: purpose.to_string(),
        depth,
    });
    let mut lanes = lane_views(&api).await?;
    if let Some(lane) = &lane {
        lanes.retain(|view| view.is(lane));
    }
    Ok(Json(HoldView {
        total,
        shelves: shelves.collect(),
        more,
        lanes,
    }))
}

/// One buried message.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct BuriedView {
    /// The message's id.
    id: String,
    /// The lane.
    lane: String,
    /// The campaign.
    #[serde(skip_serializing_if = "Option::is_none")]
    campaign: Option<String>,
    /// advertising or informational.
    purpose: String,
    /// The recipient, masked.
    recipient: String,
    /// Hand-overs tried.
    attempts: u32,
    /// Why it was buried.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Lists buried messages, oldest first
#[utoipa::path(
    get, path = "/v1/hold/buried", tag = "hold",
    operation_id = "listBuried",
    params(
        ("lane" = Option<String>, Query, description = "Only this lane"),
        ("max" = Option<u64>, Query, description = "At most so many, 1 to 1000; else 100"),
    ),
    responses((status = 200, description = "Buried messages", body = Vec<BuriedView>)),
)]
pub(super) async fn buried(State(api): State<Arc<Api>>, uri: Uri) -> Answer<Json<Vec<BuriedView>>> {
    let mut asked = Asked::read(&uri, &["lane", "max"])?;
    let lane = lane_of(&api, &asked)?;
    let max = asked.number("max", 1, BURIED_MAX).unwrap_or(BURIED_DEFAULT);
    asked.done()?;
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let found = api.hold.list(HeldState::Buried, lane.as_ref(), max).await?;
    let views = found.into_iter().map(|found| BuriedView {
        id: found.held.message.id.to_string(),
        lane: found.held.lane.to_string(),
        campaign: found.held.message.campaign.as_deref().map(str::to_owned),
        purpose: found.held.message.purpose.to_string(),
        recipient: found.held.key.to_string(),
        attempts: found.attempts,
        why: found.why,
    });
    Ok(Json(views.collect()))
}

/// What to bring back: exactly one of the four.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(in crate::http) struct KickAsk {
    /// One message.
    id: Option<String>,
    /// A whole campaign.
    campaign: Option<String>,
    /// Everything for one recipient, in any form of the number.
    recipient: Option<String>,
    /// Everything on one lane.
    lane: Option<String>,
}

/// What was brought back.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct KickAnswer {
    /// Messages held again, due now.
    kicked: u64,
}

/// Brings buried messages back
///
/// They are due now, with a clean count of attempts; the rules are asked again before they leave.
#[utoipa::path(
    post, path = "/v1/hold/kick", tag = "hold",
    operation_id = "kick",
    request_body(content = KickAsk, example = json!({"campaign": "weekend-sale"})),
    responses((status = 200, description = "How many were brought back", body = KickAnswer)),
)]
pub(super) async fn kick(
    State(api): State<Arc<Api>>,
    JsonBody(body): JsonBody,
) -> Answer<Json<KickAnswer>> {
    const NAMES: [&str; 4] = ["id", "campaign", "recipient", "lane"];
    let mut fields = Fields::read(&body, &NAMES)?;
    let name = fields.exactly_one(&NAMES);
    let scope = name.and_then(|name| scope(&api, &mut fields, name));
    let Some(scope) = scope else {
        return Err(Problem::faults(Sort::Invalid, fields.faults));
    };
    fields.done()?;
    let kicking = async move {
        let acted = api.recaller().bring_back(&scope, api.clock.now()).await?;
        api.count(&acted);
        let kicked = acted.count;
        Ok(Json(KickAnswer { kicked }))
    };
    to_the_end(kicking).await
}

//! Taking back what is still held.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use nightgate_core::MessageId;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, to_the_end};
use crate::hold::Scope;
use crate::http::input::{Fields, JsonBody};
use crate::http::problem::Answer;

/// What to take back: exactly one of the four.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(in crate::http) struct RecallAsk {
    /// One message.
    id: Option<String>,
    /// Several messages.
    ids: Option<Vec<String>>,
    /// A whole campaign.
    campaign: Option<String>,
    /// Everything for one recipient, in any form of the number.
    recipient: Option<String>,
}

/// What was taken back.
#[derive(Default, Serialize, ToSchema)]
pub(in crate::http) struct RecallAnswer {
    /// Messages taken back.
    recalled: u64,
    /// Messages on loan at that moment: taken back if they return, gone if they were handed over.
    in_flight: u64,
    /// The hold cannot count them: they are taken back as they are met.
    noted: bool,
}

/// Takes back messages that have not left yet
///
/// Done when it answers, and filed as a receipt for each scope that held something. Messages handed
/// in later are not touched.
#[utoipa::path(
    post, path = "/v1/recalls", tag = "messages",
    operation_id = "recall",
    request_body(content = RecallAsk, example = json!({"campaign": "weekend-sale"})),
    responses((status = 200, description = "How many were taken back", body = RecallAnswer)),
)]
pub(super) async fn recall(
    State(api): State<Arc<Api>>,
    JsonBody(body): JsonBody,
) -> Answer<Json<RecallAnswer>> {
    let scopes = scopes(&api, &body)?;
    let recalling = async move {
        let mut total = RecallAnswer::default();
        for scope in scopes {
            let acted = api.recaller().take_back(&scope, api.clock.now()).await?;
            api.count(&acted);
            total.recalled += acted.count;
            total.in_flight += acted.in_flight;
            total.noted |= acted.noted;
        }
        Ok(Json(total))
    };
    to_the_end(recalling).await
}

fn scopes(api: &Api, body: &[u8]) -> Answer<Vec<Scope>> {
    let mut fields = Fields::read(body, &["id", "ids", "campaign", "recipient"])?;
    let mut scopes = Vec::new();
    match fields.exactly_one(&["id", "ids", "campaign", "recipient"]) {
        Some("ids") => {
            let ids: Option<Vec<String>> = fields.shaped("ids", "must be an array of strings");
            let ids = ids.unwrap_or_default();
            let max = api.limits.batch_max;
            if ids.len() > max {
                fields.fault("ids", format!("must be at most {max}"));
            }
            for id in ids.iter().take(max) {
                match MessageId::new(id) {
                    Ok(id) => scopes.push(Scope::Id(id)),
                    Err(rule) => {
                        fields.fault("ids", format!("each {rule}"));
                        break;
                    }
                }
            }
        }
        Some(name) => scopes.extend(scope(api, &mut fields, name)),
        None => {}
    }
    fields.done()?;
    Ok(scopes)
}

/// The scope that the field `name` names.
pub(super) fn scope(api: &Api, fields: &mut Fields, name: &str) -> Option<Scope> {
    fields.text(name, |text| match name {
        "id" => Ok(Scope::Id(MessageId::new(text)?)),
        "campaign" => Ok(Scope::Campaign(text.into())),
        "lane" => match api.releaser.names().find(|lane| lane.as_str() == text) {
            Some(lane) => Ok(Scope::Lane(lane.clone())),
            None => Err("must be a configured lane; see GET /v1/lanes".to_owned()),
        },
        _ => api.recipient_scope(text),
    })
}

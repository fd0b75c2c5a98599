//! The description of the interface. Routes describe what is their own; what holds for many (who
//! may ask, and what can go wrong) is added here, from the tables that the server itself works by.

use std::sync::Arc;

use axum::http::Method;
use axum::{Extension, Json};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

use super::auth::{Need, need};
use super::problem::{CONTENT, Sort, Written};

/// What the interface is for.
const DESCRIPTION: &str = "A quiet-hours gateway for bulk notifications: hand messages in at any \
    time; each leaves when law, channel, house rules and the recipient's consent let it. What goes \
    wrong is answered as RFC 9457 problem+json with a stable `type`.";

/// The topics, in the order they are shown.
const TAGS: [(&str, &str); 6] = [
    (
        "messages",
        "Handing messages in, asking about them, taking them back",
    ),
    ("hold", "What is held and what was buried"),
    ("lanes", "The ways out: stops and releases"),
    ("consents", "What recipients agreed to"),
    (
        "receipts",
        "The durable record of every decision and outcome",
    ),
    ("health", "Probes and figures"),
];

/// Completes the description that the routes gave of themselves.
#[must_use]
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    document.info.title = "Nightgate".to_owned();
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document.info.description = Some(DESCRIPTION.to_owned());
    document.info.contact = None;
    let tag =
        |(name, text): (&str, &str)| TagBuilder::new().name(name).description(Some(text)).build();
    document.tags = Some(TAGS.into_iter().map(tag).collect());
    let components = document.components.get_or_insert_default();
    components
        .schemas
        .insert(Written::name().into_owned(), Written::schema());
    for role in ["producer", "operator", "reader"] {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(format!("The token in `http.{role}_token`")))
            .build();
        components
            .security_schemes
            .insert(role.to_owned(), SecurityScheme::Http(scheme).into());
    }
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let need = need(&method, path);
            operation.security = Some(requirements(need));
            for sort in problems(path, need, operation) {
                add(operation, sort);
            }
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let get = item.get.as_mut().map(|operation| (Method::GET, operation));
    let post = item
        .post
        .as_mut()
        .map(|operation| (Method::POST, operation));
    get.into_iter().chain(post)
}

/// Any one of these opens a route.
fn requirements(need: Need) -> Vec<SecurityRequirement> {
    let roles: &[&str] = match need {
        Need::Nothing => return vec![SecurityRequirement::default()],
        Need::Produce => &["producer", "operator"],
        Need::Read => &["reader", "operator"],
        Need::ProduceOrRead => &["producer", "reader", "operator"],
        Need::Operate => &["operator"],
    };
    let scope: [&str; 0] = [];
    roles
        .iter()
        .map(|role| SecurityRequirement::new(*role, scope))
        .collect()
}

/// What can go wrong on a route, beside what it says itself.
fn problems(path: &str, need: Need, operation: &Operation) -> Vec<Sort> {
    use Sort::{
        BadJson, BadPath, BadQuery, Busy, Corrupt, CutOff, Internal, Invalid, LargeHead, LongUri,
        NoLane, NoMessage, NoToken, NotAllowed, Poisoned, TooLarge, TooSlow, Unavailable,
        Unsupported, WrongHost, WrongToken, WrongType,
    };
    let mut sorts = vec![
        WrongHost, LongUri, LargeHead, TooLarge, TooSlow, CutOff, Internal,
    ];
    if need != Need::Nothing {
        sorts.extend([NoToken, WrongToken, NotAllowed]);
    }
    if path.starts_with("/v1/") || path == "/readyz" {
        sorts.extend([Corrupt, Unsupported, Unavailable, Poisoned, Busy]);
    }
    if operation.request_body.is_some() {
        sorts.extend([BadJson, WrongType, Invalid]);
    }
    let named = |name: &str| {
        let all = operation.parameters.iter().flatten();
        all.into_iter().any(|parameter| match parameter {
            RefOr::T(parameter) => parameter.name == name,
            RefOr::Ref(_) => false,
        })
    };
    if path.contains('{') {
        sorts.push(BadPath);
    } else if operation.parameters.is_some() {
        sorts.push(BadQuery);
    }
    if path == "/v1/messages/{id}" {
        sorts.push(NoMessage);
    }
    if named("lane") {
        sorts.push(NoLane);
    }
    if path == "/v1/consents/{recipient}" {
        sorts.push(Invalid);
    }
    sorts
}

/// Adds a sort of problem to what an operation can answer; sorts of one status share a response.
fn add(operation: &mut Operation, sort: Sort) {
    let told = format!("`{}`: {}", sort.slug(), sort.title());
    let responses = &mut operation.responses.responses;
    let entry = responses.entry(sort.status().to_string());
    let response = entry.or_insert_with(|| {
        let schema = Ref::from_schema_name(Written::name());
        let content = ContentBuilder::new().schema(Some(schema)).build();
        RefOr::T(ResponseBuilder::new().content(CONTENT, content).build())
    });
    if let RefOr::T(response) = response {
        if !response.description.is_empty() {
            response.description.push_str("; ");
        }
        response.description.push_str(&told);
    }
}

/// Describes the interface, as OpenAPI
#[utoipa::path(
    get, path = "/openapi.json", tag = "health",
    operation_id = "describe",
    responses((status = 200, description = "This document", body = Object)),
)]
pub(super) async fn document(Extension(document): Extension<Arc<OpenApi>>) -> Json<OpenApi> {
    Json(OpenApi::clone(&document))
}

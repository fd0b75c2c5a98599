//! The routes, one file a topic.

mod bulk;
mod consents;
mod explain;
mod health;
mod hold;
mod lanes;
pub mod lines;
mod messages;
mod recalls;
mod receipts;
mod release;
mod view;

use std::sync::Arc;

use axum::middleware::from_fn_with_state;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nightgate_core::{House, Recipient};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Auth;
use super::limits::Limits;
use super::problem::{Answer, Problem, Sort};
use super::{entry, openapi};
use crate::clock::Clock;
use crate::consent::ConsentBook;
use crate::gate::Gate;
use crate::hold::{HoldStore, Scope};
use crate::metrics::Metrics;
use crate::recall::{Acted, Recaller};
use crate::receipt::ReceiptLog;
use crate::release::Releaser;

/// What the routes work with.
pub struct Api {
    /// The way in; it also brings rules and house for dry runs.
    pub gate: Arc<Gate>,
    /// The lanes.
    pub releaser: Arc<Releaser>,
    /// To look into, recall, kick and pause.
    pub hold: Arc<dyn HoldStore>,
    /// To look up and record consents.
    pub consent: Arc<dyn ConsentBook>,
    /// To read, and to file what people do.
    pub receipts: Arc<dyn ReceiptLog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who may ask what.
    pub auth: Auth,
    /// What bounds a request.
    pub limits: Limits,
}

/// The routes, and their description as `/openapi.json` serves it.
pub fn router(api: Api) -> (axum::Router, OpenApi) {
    let api = Arc::new(api);
    let routes = OpenApiRouter::<Arc<Api>>::new()
        .routes(routes!(messages::accept))
        .routes(routes!(bulk::bulk))
        .routes(routes!(messages::look_up))
        .routes(routes!(explain::explain))
        .routes(routes!(recalls::recall))
        .routes(routes!(hold::overview))
        .routes(routes!(hold::buried))
        .routes(routes!(hold::kick))
        .routes(routes!(lanes::list))
        .routes(routes!(lanes::pause))
        .routes(routes!(lanes::resume))
        .routes(routes!(lanes::confirm_clock))
        .routes(routes!(release::release))
        .routes(routes!(consents::look_up))
        .routes(routes!(consents::record))
        .routes(routes!(receipts::query))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::figures))
        .routes(routes!(openapi::document));
    let (router, document) = routes.split_for_parts();
    let document = openapi::complete(document);
    let router = router
        .fallback(entry::no_route)
        .layer(axum::Extension(Arc::new(document.clone())))
        .layer(from_fn_with_state(Arc::clone(&api), entry::pass))
        // The entry has bounded the body already.
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(api);
    (router, document)
}

impl Api {
    fn house(&self) -> &House {
        self.gate.decider().house()
    }

    fn recaller(&self) -> Recaller<'_> {
        Recaller {
            hold: &*self.hold,
            receipts: &*self.receipts,
            from: None,
        }
    }

    /// Counts the receipt of what was done.
    fn count(&self, acted: &Acted) {
        self.metrics.receipts(u64::from(acted.receipt.is_some()));
    }

    /// The scope of everything for one recipient, under whatever form of the number.
    fn recipient_scope(&self, text: &str) -> Result<Scope, String> {
        let home = self.house().jurisdiction;
        Ok(Scope::Recipient(Recipient::new(text)?.key(home.as_str())))
    }
}

/// Runs a change to its end even when the client goes away or the time is up: half a hand-over
/// would leave messages of which nobody can tell whether they went.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Answer<T>> + Send + 'static,
) -> Answer<T> {
    tokio::spawn(work).await.unwrap_or_else(|_| {
        let detail = "it may be half done: ask for its effect, see the gateway's log";
        Err(Problem::new(Sort::Internal, detail))
    })
}

/// RFC 3339 with the offset that holds in `zone` then.
fn local(at: Timestamp, zone: &TimeZone) -> String {
    let there = at.to_zoned(zone.clone());
    there.strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_shown_with_the_offset_of_its_zone_and_without_its_name() {
        let seoul = TimeZone::get("Asia/Seoul").unwrap();
        let at = "2026-11-22T23:00:00Z".parse().unwrap();
        assert_eq!(local(at, &seoul), "2026-11-23T08:00:00+09:00");
        let at = "2026-11-22T23:00:00.25Z".parse().unwrap();
        assert_eq!(local(at, &TimeZone::UTC), "2026-11-22T23:00:00.25+00:00");
        for edge in [Timestamp::MIN, Timestamp::MAX] {
            assert!(!local(edge, &seoul).is_empty());
        }
    }
}

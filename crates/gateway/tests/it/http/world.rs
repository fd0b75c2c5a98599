//! A whole gateway in memory, and ways to ask it.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use nightgate::alert::AlertPort;
use nightgate::alert::count::CountPort;
use nightgate::alert::desk::{Alerts, DeskOptions};
use nightgate::backoff::Backoff;
use nightgate::clock::{Clock, ManualClock};
use nightgate::consent::ConsentBook;
use nightgate::consent::memory::MemoryBook;
use nightgate::decider::Decider;
use nightgate::gate::{Gate, GateParts, Routes};
use nightgate::hold::memory::MemoryHold;
use nightgate::hold::{HORIZON_DEFAULT, HoldStore, Lane};
use nightgate::http::{Api, Auth, Limits, router};
use nightgate::metrics::Metrics;
use nightgate::receipt::ReceiptLog;
use nightgate::receipt::memory::MemoryLog;
use nightgate::release::freeze::Freeze;
use nightgate::release::limiter::Pace;
use nightgate::release::{LaneOptions, OnUnknown, Releaser, ReleaserParts};
use nightgate::secret::Secret;
use nightgate::sink::{Outbound, Outcome, Sink};
use nightgate_core::ruleset::PackSource;
use nightgate_core::{Channel, House, Jurisdiction, Purpose, Ruleset};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::flaky::{Flaky, Waiting};

/// A November night in Seoul.
pub(super) const NIGHT: &str = "2026-11-22T23:00:00+09:00";
/// The next morning, when advertising may leave.
pub(super) const MORNING: &str = "2026-11-23T08:00:00+09:00";

/// A sink that takes whatever comes, or, told so, says that it may or may not have gone.
#[derive(Default)]
pub(super) struct Taker {
    pub(super) taken: Mutex<Vec<String>>,
    pub(super) unsure: AtomicBool,
}

#[async_trait]
impl Sink for Taker {
    fn name(&self) -> &'static str {
        "taker"
    }
    fn batch_max(&self) -> usize {
        100
    }
    async fn deliver(&self, batch: Vec<Outbound>) -> Vec<Outcome> {
        let unsure = self.unsure.load(Ordering::Relaxed);
        let mut taken = self.taken.lock().unwrap();
        let outcome = |outbound: Outbound| {
            if unsure {
                let why = "time-out".to_owned();
                return Outcome::Unknown { why };
            }
            taken.push(outbound.message().id.to_string());
            Outcome::Delivered { reference: None }
        };
        batch.into_iter().map(outcome).collect()
    }
}

pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) hold: Arc<Flaky>,
    pub(super) log: Arc<Waiting>,
    pub(super) sink: Arc<Taker>,
    pub(super) alerts: Alerts,
    pub(super) app: axum::Router,
    pub(super) document: Value,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Got {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(super) fn lines(&self) -> Vec<Value> {
        let lines = self.text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The end of the type of the problem that came back; checks that it is a whole one.
    pub(super) fn problem(&self) -> String {
        assert_eq!(
            self.headers["content-type"], "application/problem+json",
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert!(!problem["title"].as_str().unwrap().is_empty());
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        let uri = problem["type"].as_str().unwrap();
        let slug = uri.strip_prefix("urn:nightgate:problem:").unwrap();
        format!("{} {slug}", self.status)
    }
}

fn rules() -> Ruleset {
    let source = |name: &str, text: &str| PackSource {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let kr = source("kr.toml", include_str!("../../../../../rules/kr.toml"));
    Ruleset::load(&[kr]).unwrap()
}

fn options(name: &str) -> LaneOptions {
    LaneOptions {
        lane: Lane::new(name),
        pace: Pace {
            rate: None,
            burst: NonZeroU32::new(100).unwrap(),
            slow_start: Duration::ZERO,
            slow_start_from: 1.0,
        },
        in_flight: 2,
        batch_max: 0,
        tick_max: 1000,
        lease_ttl: SignedDuration::from_secs(60),
        attempts_max: 3,
        backoff: Backoff {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
        },
        unknown_advertising: OnUnknown::Bury,
        unknown_informational: OnUnknown::Bury,
        nothing_moved_after: Duration::from_secs(120),
        failing_after: 5,
    }
}

pub(super) fn limits() -> Limits {
    Limits {
        body_max_bytes: 64 * 1024,
        bulk_line_max_bytes: 2048,
        header_max_bytes: 4096,
        batch_max: 20,
        ..Limits::default()
    }
}

pub(super) fn tokens() -> Auth {
    Auth {
        producer: Some(Secret::new("p-token")),
        operator: Some(Secret::new("o-token")),
        reader: Some(Secret::new("r-token")),
    }
}

pub(super) fn world() -> World {
    world_with(Auth::default(), limits())
}

pub(super) fn world_with(auth: Auth, limits: Limits) -> World {
    let clock = Arc::new(ManualClock::new(NIGHT.parse().unwrap()));
    let hold = Arc::new(Flaky::new(MemoryHold::new(HORIZON_DEFAULT)));
    let sink = Arc::new(Taker::default());
    let consent: Arc<dyn ConsentBook> = Arc::new(MemoryBook::default());
    let log = Arc::new(Waiting {
        log: MemoryLog::default(),
        hold: Arc::clone(&hold),
        puts: AtomicU64::new(0),
    });
    let receipts: Arc<dyn ReceiptLog> = log.clone();
    let metrics = Arc::new(Metrics::default());
    let ports: Vec<Arc<dyn AlertPort>> = vec![Arc::new(CountPort(Arc::clone(&metrics)))];
    let alerts = Alerts::new(ports, clock.clone(), DeskOptions::default());
    let house = House {
        jurisdiction: Jurisdiction::new("KR").unwrap(),
        zone: TimeZone::get("Asia/Seoul").unwrap(),
    };
    let decider = Arc::new(Decider::new(Arc::new(rules()), house, Arc::clone(&consent)));
    let routes = [(Channel::Sms, "main"), (Channel::Push, "push")]
        .into_iter()
        .flat_map(|(channel, lane)| {
            let lane = move |purpose: &Purpose| ((*purpose, channel), Lane::new(lane));
            Purpose::ALL.iter().map(lane)
        });
    let shared_clock: Arc<dyn Clock> = clock.clone();
    let shared_hold: Arc<dyn HoldStore> = hold.clone();
    let gate = Gate::new(GateParts {
        keep_ids: HORIZON_DEFAULT,
        decider: Arc::clone(&decider),
        routes: Routes::new(routes),
        clock: Arc::clone(&shared_clock),
        hold: Arc::clone(&shared_hold),
        receipts: Arc::clone(&receipts),
        alerts: alerts.clone(),
        metrics: Arc::clone(&metrics),
    });
    let parts = ReleaserParts {
        decider,
        clock: Arc::clone(&shared_clock),
        hold: Arc::clone(&shared_hold),
        receipts: Arc::clone(&receipts),
        alerts: alerts.clone(),
        metrics: Arc::clone(&metrics),
        freeze: Freeze::new(SignedDuration::from_secs(60), Duration::from_secs(300)),
        random: Mutex::new(fastrand::Rng::with_seed(1)),
    };
    let lane = |name: &str| -> (LaneOptions, Arc<dyn Sink>) { (options(name), sink.clone()) };
    let releaser = Releaser::new(vec![lane("main"), lane("push")], parts);
    let (app, document) = router(Api {
        gate: Arc::new(gate),
        releaser: Arc::new(releaser),
        hold: shared_hold,
        consent,
        receipts,
        clock: shared_clock,
        metrics,
        auth,
        limits,
    });
    let document = serde_json::to_value(document).unwrap();
    World {
        clock,
        hold,
        log,
        sink,
        alerts,
        app,
        document,
    }
}

impl World {
    pub(super) async fn send(&self, request: Request<Body>) -> Got {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Got {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text,
        }
    }

    pub(super) async fn get(&self, uri: &str) -> Got {
        self.send(request("GET", uri).body(Body::empty()).unwrap())
            .await
    }

    pub(super) async fn post(&self, uri: &str, body: &Value) -> Got {
        self.post_as(uri, "application/json", body.to_string())
            .await
    }

    pub(super) async fn post_as(&self, uri: &str, media: &str, body: impl Into<Body>) -> Got {
        let request = request("POST", uri).header("content-type", media);
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(super) async fn post_nothing(&self, uri: &str) -> Got {
        self.send(request("POST", uri).body(Body::empty()).unwrap())
            .await
    }

    /// A consent to advertising by day.
    pub(super) async fn consent_by_day(&self, recipient: &str) {
        let consent = json!({"recipient": recipient, "scope": "general",
            "at": "2026-11-01T12:00:00+09:00"});
        assert_eq!(self.post("/v1/consents", &consent).await.json()["new"], 1);
    }
}

pub(super) fn request(method: &str, uri: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "localhost")
}

pub(super) const RECIPIENT: &str = "010-1234-5678";

pub(super) fn message(id: &str, purpose: &str) -> Value {
    json!({"id": id, "recipient": RECIPIENT, "channel": "sms", "purpose": purpose,
        "campaign": "autumn", "body": "hello"})
}

pub(super) fn is_ok(status: u16) -> bool {
    StatusCode::from_u16(status).unwrap().is_success()
}

//! Counters, gauges and histograms, in the OpenMetrics text format.
//!
//! Callers never build label sets. Every label comes from the source text (`&'static str`, a core
//! enum), from the configuration (a lane) or is bounded here (a route): no input can add a series
//! without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use nightgate_core::Purpose;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::lane::Lane;

/// What every name starts with.
const PREFIX: &str = "nightgate";
/// Most pairs of route and status; further ones count under [`ROUTE_OTHER`]. The API has some
/// thirty routes with a handful of answers each.
pub const ROUTE_SERIES_MAX: usize = 512;
/// The route of requests that no series is left for.
pub const ROUTE_OTHER: &str = "other";
/// Bounds of accepting and handing over, in seconds: a fast disk to a slow provider.
const FAST_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
/// Bounds of lateness, in seconds: a tick to a whole night's backlog.
const LATE_SECONDS: [f64; 11] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    status: &'static str,
    purpose: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    decision: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    lane: Lane,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Arc<str>,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    queue: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabel {
    lane: Lane,
}

impl EncodeLabelValue for Lane {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

type LaneGauge = Family<LaneLabel, Gauge>;
type LaneSeconds = Family<LaneLabel, Gauge<f64, AtomicU64>>;
type LaneHistogram = Family<LaneLabel, Histogram, fn() -> Histogram>;

/// Every metric of the process. Updating one takes at most a short lock on its family.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    messages: Family<MessageLabels, Counter>,
    decisions: Family<DecisionLabels, Counter>,
    outcomes: Family<OutcomeLabels, Counter>,
    receipts: Counter,
    alerts: Family<KindLabel, Counter>,
    sources: Family<SourceLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    /// Pairs of route and status that have a series of their own, or are about to.
    routes: AtomicUsize,
    held: LaneGauge,
    buried: LaneGauge,
    paused: LaneGauge,
    rate: LaneSeconds,
    drain: LaneSeconds,
    accept: Histogram,
    deliver: LaneHistogram,
    late: LaneHistogram,
}

fn fast() -> Histogram {
    Histogram::new(FAST_SECONDS)
}

fn late() -> Histogram {
    Histogram::new(LATE_SECONDS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            messages: Family::default(),
            decisions: Family::default(),
            outcomes: Family::default(),
            receipts: Counter::default(),
            alerts: Family::default(),
            sources: Family::default(),
            requests: Family::default(),
            routes: AtomicUsize::new(0),
            held: Family::default(),
            buried: Family::default(),
            paused: Family::default(),
            rate: Family::default(),
            drain: Family::default(),
            accept: fast(),
            deliver: Family::new_with_constructor(fast),
            late: Family::new_with_constructor(late),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// The names are a promise to dashboards; the encoder adds `_total` to counters.
    fn register(&mut self) {
        let on = &mut self.registry;
        on.register(
            "messages",
            "Messages answered at the gate",
            self.messages.clone(),
        );
        on.register(
            "decisions",
            "Answers of the rules, at gate and hand-over",
            self.decisions.clone(),
        );
        on.register(
            "outcomes",
            "What became of hand-overs",
            self.outcomes.clone(),
        );
        on.register("receipts", "Receipts filed", self.receipts.clone());
        on.register("alerts", "Alarms raised", self.alerts.clone());
        on.register(
            "source_messages",
            "What became of messages received from queues",
            self.sources.clone(),
        );
        on.register("http_requests", "Requests answered", self.requests.clone());
        on.register("held", "Messages held", self.held.clone());
        on.register("buried", "Messages buried", self.buried.clone());
        on.register(
            "lane_paused",
            "Whether a person stopped the lane",
            self.paused.clone(),
        );
        on.register(
            "lane_rate",
            "Messages per second that left, measured",
            self.rate.clone(),
        );
        on.register(
            "drain_seconds",
            "Forecast until the due backlog is gone",
            self.drain.clone(),
        );
        on.register(
            "accept_seconds",
            "Time to accept one call's messages",
            self.accept.clone(),
        );
        on.register(
            "deliver_seconds",
            "Time of one batch's hand-over",
            self.deliver.clone(),
        );
        on.register(
            "late_seconds",
            "Hand-over minus due, or minus arrival if that came later",
            self.late.clone(),
        );
    }

    /// `count` messages were answered at the gate: `status` as in the API (`accepted`, `held`).
    pub fn messages(&self, status: &'static str, purpose: Purpose, count: u64) {
        let labels = MessageLabels {
            status,
            purpose: purpose.as_str(),
        };
        self.messages.get_or_create(&labels).inc_by(count);
    }

    /// `count` messages were turned away before they were understood, so that nobody knows their
    /// purpose.
    pub fn malformed(&self, count: u64) {
        let labels = MessageLabels {
            status: "invalid",
            purpose: "unknown",
        };
        self.messages.get_or_create(&labels).inc_by(count);
    }

    /// The rules answered once: `decision` is `send`, `hold` or `refuse`, `code` the reason's.
    pub fn decision(&self, decision: &'static str, code: &'static str) {
        self.decisions(decision, code, 1);
    }

    /// The rules answered `count` times in this way; see [`Metrics::decision`].
    pub fn decisions(&self, decision: &'static str, code: &'static str, count: u64) {
        self.decisions
            .get_or_create(&DecisionLabels { decision, code })
            .inc_by(count);
    }

    /// `count` hand-overs of `lane` ended so: `delivered`, `retry`, `rejected`, `unknown`, ...
    pub fn outcomes(&self, lane: &Lane, outcome: &'static str, count: u64) {
        let labels = OutcomeLabels {
            lane: lane.clone(),
            outcome,
        };
        self.outcomes.get_or_create(&labels).inc_by(count);
    }

    /// `count` receipts were filed.
    pub fn receipts(&self, count: u64) {
        self.receipts.inc_by(count);
    }

    /// An alarm of this kind was raised.
    pub fn alert(&self, kind: &'static str) {
        self.alerts.get_or_create(&KindLabel { kind }).inc();
    }

    /// `count` messages received from a configured queue ended so: `taken`, `dead_letter`,
    /// `unreadable`, `left`.
    pub fn source(&self, queue: &Arc<str>, outcome: &'static str, count: u64) {
        let labels = SourceLabels {
            queue: Arc::clone(queue),
            outcome,
        };
        self.sources.get_or_create(&labels).inc_by(count);
    }

    /// A request was answered. `route` is the pattern it matched (`/v1/messages/{id}`), never its
    /// path.
    pub fn http_request(&self, route: &str, status: u16) {
        let labels = RequestLabels {
            route: route.into(),
            status,
        };
        if let Some(known) = self.requests.get(&labels) {
            known.inc();
            return;
        }
        let taken = self.routes.fetch_add(1, Ordering::Relaxed);
        if taken < ROUTE_SERIES_MAX {
            self.requests.get_or_create(&labels).inc();
        } else {
            self.routes.fetch_sub(1, Ordering::Relaxed);
            let other = RequestLabels {
                route: ROUTE_OTHER.into(),
                status,
            };
            self.requests.get_or_create(&other).inc();
        }
    }

    /// `lane` holds and has buried so many messages.
    pub fn lane_depth(&self, lane: &Lane, held: u64, buried: u64) {
        let labels = LaneLabel { lane: lane.clone() };
        self.held
            .get_or_create(&labels)
            .set(i64::try_from(held).unwrap_or(i64::MAX));
        self.buried
            .get_or_create(&labels)
            .set(i64::try_from(buried).unwrap_or(i64::MAX));
    }

    /// A person stopped `lane` (or everything), or let it go on.
    pub fn lane_paused(&self, lane: &Lane, paused: bool) {
        self.paused
            .get_or_create(&LaneLabel { lane: lane.clone() })
            .set(i64::from(paused));
    }

    /// `lane` may send so many messages per second now; 0 = unlimited.
    pub fn lane_rate(&self, lane: &Lane, per_second: f64) {
        self.rate
            .get_or_create(&LaneLabel { lane: lane.clone() })
            .set(per_second);
    }

    /// The due backlog of `lane` will be gone in `left`; `None` takes the forecast away.
    pub fn lane_drain(&self, lane: &Lane, left: Option<SignedDuration>) {
        let labels = LaneLabel { lane: lane.clone() };
        match left {
            Some(left) => _ = self.drain.get_or_create(&labels).set(left.as_secs_f64()),
            None => _ = self.drain.remove(&labels),
        }
    }

    /// The gate took so long for one call's messages.
    pub fn accept_took(&self, took: Duration) {
        self.accept.observe(took.as_secs_f64());
    }

    /// A sink took so long for one batch of `lane`.
    pub fn deliver_took(&self, lane: &Lane, took: Duration) {
        self.deliver
            .get_or_create(&LaneLabel { lane: lane.clone() })
            .observe(took.as_secs_f64());
    }

    /// Messages of `lane` were handed over so long after they were due; never less than zero.
    pub fn late(&self, lane: &Lane, late: impl IntoIterator<Item = SignedDuration>) {
        let histogram = self.late.get_or_create(&LaneLabel { lane: lane.clone() });
        for late in late {
            histogram.observe(late.as_secs_f64().max(0.0));
        }
    }

    /// Everything in the OpenMetrics text format, `# EOF` included. Serve it as
    /// [`CONTENT_TYPE`].
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing into a String cannot fail, and a half page would read as a whole one.
        match text::encode(&mut out, &self.registry) {
            Ok(()) => out,
            Err(std::fmt::Error) => "# EOF\n".to_owned(),
        }
    }
}

/// Media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    /// Dashboards and alarms stand on these names: changing one is a breaking change.
    #[test]
    fn every_metric_has_the_name_it_promises() {
        let (metrics, lane) = (Metrics::default(), Lane::new("kakao"));
        metrics.messages("held", Purpose::Advertising, 3);
        metrics.decision("hold", "quiet_hours");
        metrics.outcomes(&lane, "delivered", 2);
        metrics.receipts(5);
        metrics.alert("nothing_moved");
        metrics.source(&"orders".into(), "taken", 4);
        metrics.http_request("/v1/messages/{id}", 200);
        metrics.lane_depth(&lane, 7, 1);
        metrics.lane_paused(&lane, true);
        metrics.lane_rate(&lane, 12.5);
        metrics.lane_drain(&lane, Some(SignedDuration::from_secs(90)));
        metrics.accept_took(Duration::from_millis(2));
        metrics.deliver_took(&lane, Duration::from_millis(30));
        metrics.late(&lane, [SignedDuration::from_secs(-1)]);
        let page = metrics.encode();
        for line in [
            r#"nightgate_messages_total{status="held",purpose="advertising"} 3"#,
            r#"nightgate_decisions_total{decision="hold",code="quiet_hours"} 1"#,
            r#"nightgate_outcomes_total{lane="kakao",outcome="delivered"} 2"#,
            "nightgate_receipts_total 5",
            r#"nightgate_alerts_total{kind="nothing_moved"} 1"#,
            r#"nightgate_source_messages_total{queue="orders",outcome="taken"} 4"#,
            r#"nightgate_http_requests_total{route="/v1/messages/{id}",status="200"} 1"#,
            r#"nightgate_held{lane="kakao"} 7"#,
            r#"nightgate_buried{lane="kakao"} 1"#,
            r#"nightgate_lane_paused{lane="kakao"} 1"#,
            r#"nightgate_lane_rate{lane="kakao"} 12.5"#,
            r#"nightgate_drain_seconds{lane="kakao"} 90.0"#,
            "nightgate_accept_seconds_count 1",
            r#"nightgate_deliver_seconds_count{lane="kakao"} 1"#,
            r#"nightgate_late_seconds_sum{lane="kakao"} 0.0"#,
        ] {
            assert!(
                page.lines().any(|it| it == line),
                "{line} is missing from\n{page}"
            );
        }
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn a_forecast_taken_away_is_no_longer_shown() {
        let (metrics, lane) = (Metrics::default(), Lane::new("main"));
        metrics.lane_drain(&lane, Some(SignedDuration::from_secs(90)));
        metrics.lane_drain(&lane, None);
        assert!(!metrics.encode().contains("nightgate_drain_seconds{"));
    }

    #[test]
    fn routes_cannot_add_series_without_end() {
        let metrics = Metrics::default();
        for n in 0..2 * ROUTE_SERIES_MAX {
            metrics.http_request(&format!("/{n}"), 404);
        }
        metrics.http_request("/0", 404);
        let page = metrics.encode();
        let series = page
            .lines()
            .filter(|line| line.starts_with("nightgate_http_requests_total"));
        assert_eq!(series.count(), ROUTE_SERIES_MAX + 1);
        let other = format!(
            "nightgate_http_requests_total{{route=\"{ROUTE_OTHER}\",status=\"404\"}} \
             {ROUTE_SERIES_MAX}"
        );
        assert!(page.contains(&other), "{other} is missing");
        assert!(
            page.contains("{route=\"/0\",status=\"404\"} 2"),
            "a known route keeps its series"
        );
    }

    #[test]
    fn metrics_can_be_shared_between_threads() {
        fn shared<T: Default + Send + Sync>() {}
        shared::<Metrics>();
    }
}

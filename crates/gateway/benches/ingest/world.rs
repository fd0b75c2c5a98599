//! A gateway whose stores keep nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hashbrown::HashMap;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use nightgate::alert::desk::Alerts;
use nightgate::clock::{Clock, ManualClock};
use nightgate::consent::{ConsentBook, ConsentEvent};
use nightgate::decider::Decider;
use nightgate::error::Result;
use nightgate::gate::{Gate, GateParts, Routes};
use nightgate::hold::memory::MemoryHold;
use nightgate::hold::{
    Capability, Found, Held, HoldStore, Lane, LeaseAsk, Leased, Pause, Put, Recalled, Scope,
    Settle, Settled, Shelf, State,
};
use nightgate::http::{Api, Auth, Limits, router};
use nightgate::metrics::Metrics;
use nightgate::receipt::{Filed, Receipt, ReceiptAsk, ReceiptLog};
use nightgate::release::freeze::Freeze;
use nightgate::release::{Releaser, ReleaserParts};
use nightgate_core::consent::Grant;
use nightgate_core::ruleset::PackSource;
use nightgate_core::{
    Basis, Channel, Class, Consent, House, Jurisdiction, MessageId, Purpose, Recipient,
    RecipientKey, Ruleset,
};

/// A November night in Seoul.
const NIGHT: &str = "2026-11-22T23:00:00+09:00";

/// A hold that keeps nothing and finds everything new.
struct NullHold(MemoryHold);

#[async_trait]
impl HoldStore for NullHold {
    fn name(&self) -> &'static str {
        "null"
    }
    fn capability(&self) -> Capability {
        self.0.capability()
    }
    async fn put(&self, messages: Vec<Held>, _: Timestamp) -> Result<Vec<Put>> {
        Ok(vec![Put::New; messages.len()])
    }
    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        self.0.lease(ask).await
    }
    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        self.0.settle(settlements, now).await
    }
    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        self.0.next_due(lane, now).await
    }
    async fn shelves(&self, lane: Option<&Lane>, by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        self.0.shelves(lane, by).await
    }
    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        self.0.find(ids).await
    }
    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        self.0.list(state, lane, max).await
    }
    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        self.0.recall(scope, now).await
    }
    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        self.0.kick(scope, now).await
    }
    async fn redate(
        &self,
        lane: &Lane,
        class: &Class,
        now: Timestamp,
        to: Timestamp,
    ) -> Result<u64> {
        self.0.redate(lane, class, now, to).await
    }
    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        self.0.pause(lane, paused, now).await
    }
    async fn pauses(&self) -> Result<Vec<Pause>> {
        self.0.pauses().await
    }
    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        self.0.sweep(now).await
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// A log that keeps nothing.
struct NullLog;

#[async_trait]
impl ReceiptLog for NullLog {
    async fn append(&self, receipts: Vec<Receipt>) -> Result<()> {
        drop(receipts);
        Ok(())
    }
    async fn query(&self, _: &ReceiptAsk) -> Result<Vec<Filed>> {
        Ok(Vec::new())
    }
    async fn known(&self, ids: &[MessageId]) -> Result<Vec<bool>> {
        Ok(vec![false; ids.len()])
    }
}

/// A book that is read only.
struct Book(HashMap<RecipientKey, Consent>);

#[async_trait]
impl ConsentBook for Book {
    async fn look_up(&self, keys: &[RecipientKey]) -> Result<Vec<Consent>> {
        let consent = |key| self.0.get(key).copied().unwrap_or_default();
        Ok(keys.iter().map(consent).collect())
    }
    async fn record(&self, _: Vec<ConsentEvent>) -> Result<u64> {
        Ok(0)
    }
    async fn history(&self, _: &RecipientKey) -> Result<Vec<ConsentEvent>> {
        Ok(Vec::new())
    }
    async fn count(&self) -> Result<u64> {
        Ok(self.0.len() as u64)
    }
}

/// The last eight digits of a number, scattered over `recipients` of them.
pub(crate) fn subscriber(number: usize, recipients: usize) -> usize {
    number * 7919 % recipients * 89
}

/// The parts that are timed.
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) consent: Arc<dyn ConsentBook>,
    pub(crate) routes: Routes,
    pub(crate) gate: Arc<Gate>,
    pub(crate) app: axum::Router,
}

fn rules() -> Ruleset {
    let source = |name: &str, text: &str| PackSource {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let sources = [
        source("kr.toml", include_str!("../../../../rules/kr.toml")),
        source("house.toml", include_str!("../../../../rules/house.toml")),
    ];
    Ruleset::load(&sources).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// Everybody agreed by day, on some day of the last two years.
fn book(recipients: usize, now: Timestamp) -> Book {
    let page = |number: usize| {
        let digits = subscriber(number, recipients);
        let key = Recipient::new(&format!("+8210{digits:08}")).map(|who| who.key("KR"));
        let days = i64::try_from(number % 700).unwrap_or(0);
        let at = now - SignedDuration::from_hours(24 * days + 1);
        let basis = Basis::Explicit;
        let mut consent = Consent::default();
        consent.grant(nightgate_core::Scope::General, Grant { at, basis });
        (key.unwrap_or_else(|rule| panic!("{rule}")), consent)
    };
    Book((0..recipients).map(page).collect())
}

impl World {
    pub(crate) fn new(recipients: usize) -> Self {
        let now: Timestamp = NIGHT.parse().unwrap_or(Timestamp::UNIX_EPOCH);
        let clock = Arc::new(ManualClock::new(now));
        let hold: Arc<dyn HoldStore> =
            Arc::new(NullHold(MemoryHold::new(SignedDuration::from_hours(72))));
        let consent: Arc<dyn ConsentBook> = Arc::new(book(recipients, now));
        let receipts: Arc<dyn ReceiptLog> = Arc::new(NullLog);
        let (alerts, metrics) = (Alerts::silent(), Arc::new(Metrics::default()));
        let jurisdiction = Jurisdiction::new("KR").unwrap_or_else(|rule| panic!("{rule}"));
        let zone = TimeZone::get("Asia/Seoul").unwrap_or(TimeZone::UTC);
        let house = House { jurisdiction, zone };
        let decider = Decider::new(Arc::new(rules()), house, Arc::clone(&consent));
        let decider = Arc::new(decider);
        let pairs = Channel::ALL.iter().flat_map(|channel| {
            let lane = move |purpose: &Purpose| ((*purpose, *channel), Lane::new("main"));
            Purpose::ALL.iter().map(lane)
        });
        let routes = Routes::new(pairs);
        let shared_clock: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let gate = Arc::new(Gate::new(GateParts {
            keep_ids: nightgate::hold::HORIZON_DEFAULT,
            decider: Arc::clone(&decider),
            routes: routes.clone(),
            clock: Arc::clone(&shared_clock),
            hold: Arc::clone(&hold),
            receipts: Arc::clone(&receipts),
            alerts: alerts.clone(),
            metrics: Arc::clone(&metrics),
        }));
        let releaser = Releaser::new(
            Vec::new(),
            ReleaserParts {
                decider,
                clock: Arc::clone(&shared_clock),
                hold: Arc::clone(&hold),
                receipts: Arc::clone(&receipts),
                alerts,
                metrics: Arc::clone(&metrics),
                freeze: Freeze::new(SignedDuration::from_secs(60), Duration::from_secs(300)),
                random: Mutex::new(fastrand::Rng::with_seed(1)),
            },
        );
        let (app, _) = router(Api {
            gate: Arc::clone(&gate),
            releaser: Arc::new(releaser),
            hold,
            consent: Arc::clone(&consent),
            receipts,
            clock: shared_clock,
            metrics,
            auth: Auth::default(),
            limits: Limits::default(),
        });
        Self {
            clock,
            consent,
            routes,
            gate,
            app,
        }
    }
}

//! Several gateways over one hold: what one does while another stops, starts or sleeps.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::poll;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::ruleset::PackSource;
use nightgate_core::{Basis, House, Jurisdiction, Message, Purpose, Ruleset, locate};
use tokio::sync::Semaphore;

use super::Shared;
use super::budget::{Allowance, Budget, Leave, Own};
use super::freeze::Freeze;
use super::lane::{LaneOptions, LaneReleaser, OnUnknown};
use super::limiter::Pace;
use super::releaser::ReleaserParts;
use super::skew::Skew;
use crate::alert::desk::Alerts;
use crate::backoff::Backoff;
use crate::clock::{Clock, ManualClock};
use crate::consent::memory::MemoryBook;
use crate::consent::{Act, ConsentBook, ConsentEvent};
use crate::decider::Decider;
use crate::error::Result;
use crate::hold::memory::MemoryHold;
use crate::hold::{Held, HoldStore, Lane, Scope, State};
use crate::receipt::memory::MemoryLog;
use crate::sink::testing::message;
use crate::sink::{Outbound, Outcome, Sink};

const BATCH: usize = 4;
const IN_FLIGHT: usize = 2;
const LEASE: SignedDuration = SignedDuration::from_secs(60);
const ALL: usize = Semaphore::MAX_PERMITS;

/// What the receiver got, from whomever: instant, gateway, id.
type Received = Arc<Mutex<Vec<(Timestamp, usize, String)>>>;

/// One gateway's way to the receiver. It may sleep just before its last act.
struct Way {
    gateway: usize,
    clock: Arc<ManualClock>,
    gate: Semaphore,
    received: Received,
}

#[async_trait]
impl Sink for Way {
    fn name(&self) -> &'static str {
        "way"
    }

    fn batch_max(&self) -> usize {
        BATCH
    }

    async fn deliver(&self, batch: Vec<Outbound>) -> Vec<Outcome> {
        self.gate.acquire().await.unwrap().forget();
        let now = self.clock.now();
        let hand = |one: &Outbound| {
            if !one.may_leave_at(now) {
                return Outcome::TooLate;
            }
            let id = one.message().id.as_str().to_owned();
            self.received.lock().unwrap().push((now, self.gateway, id));
            Outcome::Delivered { reference: None }
        };
        batch.iter().map(hand).collect()
    }
}

struct World {
    clock: Arc<ManualClock>,
    hold: Arc<MemoryHold>,
    book: Arc<MemoryBook>,
    received: Received,
    ways: Vec<Arc<Way>>,
    lanes: Vec<LaneReleaser>,
    rules: Arc<Ruleset>,
}

fn house() -> House {
    House {
        jurisdiction: Jurisdiction::new("KR").unwrap(),
        zone: TimeZone::get("Asia/Seoul").unwrap(),
    }
}

fn options() -> LaneOptions {
    LaneOptions {
        lane: Lane::new("main"),
        pace: Pace {
            rate: None,
            burst: NonZeroU32::new(8).unwrap(),
            slow_start: Duration::ZERO,
            slow_start_from: 1.0,
        },
        in_flight: IN_FLIGHT,
        batch_max: 0,
        tick_max: 1_000,
        lease_ttl: LEASE,
        attempts_max: 5,
        backoff: Backoff {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
        },
        unknown_advertising: OnUnknown::Bury,
        unknown_informational: OnUnknown::Retry,
        nothing_moved_after: Duration::from_secs(600),
        failing_after: 5,
    }
}

impl World {
    /// Two gateways, which may hand over as many batches as there are permits for each.
    fn new(now: &str, permits: [usize; 2]) -> Self {
        Self::with(now, permits, &own(), None, options())
    }

    fn with(
        now: &str,
        permits: [usize; 2],
        budget: &Arc<dyn Budget>,
        skew: Option<&Arc<Skew>>,
        options: LaneOptions,
    ) -> Self {
        let clock = Arc::new(ManualClock::new(now.parse().unwrap()));
        let (text, name) = (include_str!("../../../../rules/kr.toml"), "kr.toml");
        let (text, name) = (text.to_owned(), name.to_owned());
        let rules = Arc::new(Ruleset::load(&[PackSource { name, text }]).unwrap());
        let hold = Arc::new(MemoryHold::new(SignedDuration::from_hours(72)));
        let (book, log) = (
            Arc::new(MemoryBook::default()),
            Arc::new(MemoryLog::default()),
        );
        let received = Received::default();
        let (mut ways, mut lanes) = (Vec::new(), Vec::new());
        for (gateway, permits) in permits.into_iter().enumerate() {
            let freeze = Freeze::new(SignedDuration::from_secs(60), Duration::from_secs(300));
            let parts = ReleaserParts {
                decider: Arc::new(Decider::new(
                    Arc::clone(&rules),
                    house(),
                    Arc::clone(&book) as _,
                )),
                clock: Arc::clone(&clock) as _,
                hold: Arc::clone(&hold) as _,
                receipts: Arc::clone(&log) as _,
                alerts: Alerts::silent(),
                metrics: Arc::default(),
                freeze: match skew {
                    Some(skew) => freeze.beside(Arc::clone(skew)),
                    None => freeze,
                },
                random: Mutex::new(fastrand::Rng::with_seed(1)),
            };
            let way = Arc::new(Way {
                gateway,
                clock: Arc::clone(&clock),
                gate: Semaphore::new(permits),
                received: Arc::clone(&received),
            });
            let sink = Arc::clone(&way) as _;
            let shared = Shared {
                budget: Arc::clone(budget),
                ..Shared::own(&parts.receipts)
            };
            let parts = Arc::new(parts);
            lanes.push(LaneReleaser::new(options.clone(), sink, parts, &shared));
            ways.push(way);
        }
        Self {
            clock,
            hold,
            book,
            received,
            ways,
            lanes,
            rules,
        }
    }

    /// Puts `many` messages due now, `{prefix}-0`, `{prefix}-1`, ...
    async fn put(&self, prefix: &str, many: usize, purpose: Purpose) {
        let decider = Decider::new(
            Arc::clone(&self.rules),
            house(),
            Arc::clone(&self.book) as _,
        );
        let now = self.clock.now();
        let held = |number: usize| {
            let message = Message {
                purpose,
                ..message(&format!("{prefix}-{number}"), b"hello")
            };
            Held {
                key: decider.key(&message),
                class: self.rules.class(&message, &locate(&message, &house())),
                message,
                lane: Lane::new("main"),
                due: now,
                accepted_at: now,
            }
        };
        let all: Vec<Held> = (0..many).map(held).collect();
        let yes = ConsentEvent {
            key: all[0].key.clone(),
            scope: nightgate_core::Scope::General,
            act: Act::Grant(Basis::Explicit),
            at: now - SignedDuration::from_hours(24),
            source: "test".to_owned(),
        };
        self.book.record(vec![yes]).await.unwrap();
        self.hold.put(all, now).await.unwrap();
    }

    fn received(&self) -> Vec<(Timestamp, usize, String)> {
        self.received.lock().unwrap().clone()
    }

    async fn count(&self, state: State) -> usize {
        self.hold.list(state, None, 1_000).await.unwrap().len()
    }

    fn pass(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }
}

const NOON: &str = "2026-11-22T12:00:00+09:00";
const EVENING: &str = "2026-11-22T20:59:00+09:00";

fn own() -> Arc<dyn Budget> {
    Arc::new(Own)
}

#[tokio::test]
async fn a_stop_acts_on_every_gateway_within_a_second_however_slow_the_sink_is() {
    let world = World::new(NOON, [0, 0]);
    world.put("m", 100, Purpose::Informational).await;
    let (mut one, mut other) = (pin!(world.lanes[0].tick()), pin!(world.lanes[1].tick()));
    assert!(poll!(&mut one).is_pending() && poll!(&mut other).is_pending());
    // Both are in the middle of their first hand-overs, and more is on loan ahead of its turn.
    world.pass(200);
    let stopped_at = world.clock.now();
    world.hold.pause(None, true, stopped_at).await.unwrap();
    world.pass(800);
    world.ways.iter().for_each(|way| way.gate.add_permits(ALL));
    let (one, other) = tokio::join!(one, other);
    let sent = one.unwrap().delivered + other.unwrap().delivered;
    assert_eq!(
        sent as usize,
        2 * IN_FLIGHT * BATCH,
        "only what was under way"
    );
    assert_eq!(world.count(State::Leased).await, 0, "the rest went back");
    assert_eq!(world.count(State::Held).await, 100 - world.received().len());
    for lane in &world.lanes {
        let tick = lane.tick().await.unwrap();
        assert_eq!(tick.delivered, 0);
        let wake = tick.wake.unwrap().duration_since(world.clock.now());
        assert!(
            wake <= SignedDuration::from_secs(1),
            "looks again within a second"
        );
    }
    world
        .hold
        .pause(None, false, world.clock.now())
        .await
        .unwrap();
    world.pass(1_000);
    for lane in &world.lanes {
        lane.tick().await.unwrap();
    }
    assert_eq!(world.received().len(), 100, "each once");
}

#[tokio::test]
async fn what_is_recalled_through_one_gateway_no_other_lends_any_more() {
    let world = World::new(NOON, [0, ALL]);
    world.put("m", 100, Purpose::Informational).await;
    let mut one = pin!(world.lanes[0].tick());
    assert!(poll!(&mut one).is_pending());
    let on_loan = world.count(State::Leased).await;
    let campaign = Scope::Campaign("autumn".into());
    let recalled = world
        .hold
        .recall(&campaign, world.clock.now())
        .await
        .unwrap();
    assert_eq!(recalled.recalled as usize, 100 - on_loan);
    assert_eq!(world.lanes[1].tick().await.unwrap().delivered, 0);
    world.ways[0].gate.add_permits(ALL);
    assert_eq!(
        one.await.unwrap().delivered as usize,
        on_loan,
        "on loan at that moment"
    );
    assert_eq!(world.count(State::Recalled).await, 100 - on_loan);
}

#[tokio::test]
async fn a_gateway_that_slept_past_its_loans_neither_sends_nor_settles_what_another_has() {
    let world = World::new(NOON, [0, ALL]);
    world.put("m", 4, Purpose::Informational).await;
    let mut slept = pin!(world.lanes[0].tick());
    assert!(poll!(&mut slept).is_pending());
    assert_eq!(world.count(State::Leased).await, 4);
    // SIGSTOP, and everything that was under way stands still; its loans lapse.
    world.pass(61_000);
    // What lapsed is found by asking for one more than waits; then all of it waits.
    for sent in [1, 3] {
        let tick = world.lanes[1].tick().await.unwrap();
        assert_eq!((tick.unknown, tick.delivered), (sent, sent));
    }
    // SIGCONT: it is in the middle of its hand-over.
    world.ways[0].gate.add_permits(ALL);
    let tick = slept.await.unwrap();
    assert_eq!((tick.delivered, tick.lapsed), (0, 4));
    let received = world.received();
    assert!(
        received.iter().all(|(_, gateway, _)| *gateway == 1),
        "{received:?}"
    );
    assert_eq!(received.len(), 4, "each once");
    assert_eq!(
        world.count(State::Delivered).await,
        4,
        "as the other settled"
    );
}

#[tokio::test]
async fn a_gateway_that_slept_into_the_night_sends_nothing() {
    let world = World::new(EVENING, [0, 0]);
    world.put("ad", 4, Purpose::Advertising).await;
    let mut slept = pin!(world.lanes[0].tick());
    assert!(poll!(&mut slept).is_pending());
    assert_eq!(world.count(State::Leased).await, 4);
    // Not past its loans, but past the guard before 21:00.
    world.pass(31_000);
    world.ways[0].gate.add_permits(ALL);
    slept.await.unwrap();
    assert!(world.received().is_empty(), "{:?}", world.received());
    assert_eq!(world.count(State::Held).await, 4);
    world.pass(120_000);
    world.ways[1].gate.add_permits(ALL);
    for lane in &world.lanes {
        assert_eq!(lane.tick().await.unwrap().delivered, 0);
    }
    assert!(world.received().is_empty());
}

#[tokio::test]
async fn loans_that_lapse_on_a_shelf_that_moved_to_the_morning_are_taken_back_and_nobody_spins() {
    let world = World::new(EVENING, [0, ALL]);
    world.put("ad", 8, Purpose::Advertising).await;
    {
        let mut killed = pin!(world.lanes[0].tick());
        assert!(poll!(&mut killed).is_pending());
    }
    assert_eq!(world.count(State::Leased).await, 8);
    world.pass(31_000);
    world.put("late", 1, Purpose::Advertising).await;
    world.lanes[1].tick().await.unwrap();
    assert_eq!(
        world.count(State::Leased).await,
        8,
        "on a shelf of tomorrow"
    );
    world.pass(60_000);
    let mut wake = None;
    for _ in 0..3 {
        wake = world.lanes[1].tick().await.unwrap().wake;
    }
    let morning: Timestamp = "2026-11-23T08:00:00+09:00".parse().unwrap();
    assert_eq!(wake, Some(morning));
    assert_eq!(
        (
            world.count(State::Held).await,
            world.count(State::Leased).await
        ),
        (9, 0)
    );
    assert!(world.received().is_empty());
}

#[tokio::test]
async fn information_leaves_before_advertising_whichever_gateway_sends_it() {
    let mut options = options();
    options.tick_max = BATCH;
    let world = World::with(NOON, [ALL, ALL], &own(), None, options);
    world.put("ad", 40, Purpose::Advertising).await;
    for lane in &world.lanes {
        lane.tick().await.unwrap();
    }
    let before = world.received().len();
    assert_eq!(before, 2 * BATCH, "one batch each");
    world.put("order", 40, Purpose::Informational).await;
    while world.received().len() < 80 {
        for lane in &world.lanes {
            lane.tick().await.unwrap();
        }
    }
    let received = world.received();
    let since = &received[before..];
    let orders = |part: &[(Timestamp, usize, String)]| {
        let is_order = |one: &&(Timestamp, usize, String)| one.2.starts_with("order");
        part.iter().filter(is_order).count()
    };
    assert_eq!(orders(&since[..40]), 40, "{since:?}");
    for gateway in [0, 1] {
        assert!(
            since[..40].iter().any(|one| one.1 == gateway),
            "both took part"
        );
    }
}

/// Leave for eight messages at a time that is good for 100 ms.
struct Brief;

struct BriefLeave {
    given: Arc<Mutex<usize>>,
}

impl Budget for Brief {
    fn allowance(&self, _: &Lane, _: Pace, _: &Arc<dyn Clock>) -> Box<dyn Allowance> {
        Box::new(BriefLeave {
            given: Arc::default(),
        })
    }
}

#[async_trait]
impl Allowance for BriefLeave {
    fn is_brief(&self) -> bool {
        true
    }

    fn start_slowly(&mut self, _: Duration) {}

    async fn take(&mut self, wanted: usize, _: usize, monotonic: Duration) -> Result<Leave> {
        let messages = wanted.min(8);
        *self.given.lock().unwrap() += messages;
        Ok(Leave {
            messages,
            until: Some(monotonic + Duration::from_millis(100)),
            again: None,
        })
    }

    fn unused(&mut self, messages: usize) {
        *self.given.lock().unwrap() -= messages;
    }

    async fn rest(&mut self, _: Duration) {}
}

#[tokio::test]
async fn what_did_not_leave_before_its_leave_ended_goes_back() {
    let mut options = options();
    options.pace.rate = NonZeroU32::new(1_000);
    let world = World::with(NOON, [0, ALL], &(Arc::new(Brief) as _), None, options);
    world.put("m", 12, Purpose::Informational).await;
    let mut slept = pin!(world.lanes[0].tick());
    assert!(poll!(&mut slept).is_pending());
    assert_eq!(world.count(State::Leased).await, 8);
    world.pass(100);
    world.ways[0].gate.add_permits(ALL);
    assert_eq!(slept.await.unwrap().delivered, 0);
    assert!(world.received().is_empty());
    let held = world.hold.list(State::Held, None, 100).await.unwrap();
    assert_eq!(held.len(), 12);
    assert!(
        held.iter().all(|one| one.attempts == 0),
        "it costs no attempt"
    );
    world.pass(1_000);
    for _ in 0..2 {
        world.lanes[1].tick().await.unwrap();
    }
    assert_eq!(world.received().len(), 12);
}

#[tokio::test]
async fn a_gateway_whose_clock_nobody_compared_lends_nothing() {
    let skew = Arc::new(Skew::new(SignedDuration::from_secs(2)));
    let own = own();
    let world = World::with(NOON, [ALL, ALL], &own, Some(&skew), options());
    world.put("m", 4, Purpose::Informational).await;
    assert_eq!(world.lanes[0].tick().await.unwrap().delivered, 0);
    assert!(world.lanes[0].status().frozen);
    struct Same(Arc<ManualClock>);
    #[async_trait]
    impl super::skew::SharedClock for Same {
        async fn read(&self) -> Result<Timestamp> {
            Ok(self.0.now())
        }
    }
    let same = Same(Arc::clone(&world.clock));
    skew.look(&same, &*world.clock).await.unwrap();
    assert_eq!(world.lanes[0].tick().await.unwrap().delivered, 4);
}

/// A receiver's view of a lane of 100 a second with a burst of 40, over which one gateway sleeps
/// for seconds with leave and loans in hand while the other goes on.
#[cfg(feature = "redis")]
#[tokio::test]
async fn the_receiver_never_gets_more_than_the_pace_from_both_together() {
    use super::budget::redis::RedisBudget;
    use crate::redis::{Redis, RedisOptions, server::Server};
    let server = Server::start(&["--appendonly", "no"]);
    let url = crate::secret::Secret::new(server.url());
    let redis = Redis::open(&RedisOptions::single(url)).await.unwrap();
    let time = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let budget = RedisBudget::told(redis, Arc::clone(&time) as _);
    let mut options = options();
    options.pace.rate = NonZeroU32::new(100);
    options.pace.burst = NonZeroU32::new(40).unwrap();
    let world = World::with(
        NOON,
        [ALL / 2, ALL / 2],
        &(Arc::new(budget) as _),
        None,
        options,
    );
    world.put("m", 1_000, Purpose::Informational).await;
    let pass = |millis| {
        world.pass(millis);
        time.advance(Duration::from_millis(millis));
    };
    for round in 0..120 {
        if round % 40 != 10 {
            for lane in &world.lanes {
                lane.tick().await.unwrap();
            }
            pass(37);
            continue;
        }
        // One is stopped with a slice in hand; the other takes what came since, and goes on.
        let closed = world.ways[0].gate.forget_permits(ALL);
        let stopped = async {
            while world.count(State::Leased).await == 0 {
                tokio::task::yield_now().await;
            }
            for _ in 0..30 {
                pass(40);
                world.lanes[1].tick().await.unwrap();
            }
            world.ways[0].gate.add_permits(closed);
        };
        pass(100);
        let (slept, ()) = tokio::join!(world.lanes[0].tick(), stopped);
        assert_eq!(slept.unwrap().delivered, 0, "its leave had ended");
    }
    let received = world.received();
    let took = world.clock.now().duration_since(NOON.parse().unwrap());
    let share = received.len() as f64 / took.as_secs_f64();
    assert!(share > 60.0, "{} in {took:?}", received.len());
    for (first, (from, ..)) in received.iter().enumerate() {
        for (last, (to, ..)) in received.iter().enumerate().skip(first) {
            let allowed = 100.0 * to.duration_since(*from).as_secs_f64() + 40.0;
            assert!(
                (last - first + 1) as f64 <= allowed + 0.01,
                "{from} to {to}"
            );
        }
    }
}

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use nightgate_core::ruleset::PackSource;
use nightgate_core::{House, Jurisdiction, MessageId, Ruleset};
use tokio::sync::Semaphore;

use super::*;
use crate::alert::desk::Alerts;
use crate::backoff::Backoff;
use crate::clock::{Clock, ManualClock};
use crate::consent::memory::MemoryBook;
use crate::decider::Decider;
use crate::error::Kind;
use crate::hold::memory::MemoryHold;
use crate::hold::shelf::{Options, ShelfHold};
use crate::hold::{Held, HoldStore, Lane, Shelf};
use crate::receipt::memory::MemoryLog;
use crate::receipt::{Event, Filed as FiledReceipt, Receipt, ReceiptAsk, ReceiptLog};
use crate::release::freeze::Freeze;
use crate::release::limiter::Pace;
use crate::release::{LaneOptions, OnUnknown, ReleaserParts, Shared};
use crate::sink::testing::message;
use crate::sink::{Outbound, Outcome, Sink};

const NOW: &str = "2026-11-22T12:00:00+09:00";
const BATCH: usize = 4;
const IN_FLIGHT: usize = 2;
/// Messages in the batches that go abreast.
const ABREAST: usize = BATCH * IN_FLIGHT;

/// A log that counts its calls, waits where it is told to, and fails on outcomes if it is told to.
struct Log {
    inner: MemoryLog,
    outcomes: AtomicUsize,
    gate: Arc<Semaphore>,
    fails: AtomicBool,
}

impl Log {
    async fn of(&self, event: Event) -> Vec<Receipt> {
        let all = self.inner.query(&ReceiptAsk::default()).await.unwrap();
        let all = all.into_iter().map(|filed| filed.receipt);
        all.filter(|receipt| receipt.event == event).collect()
    }
}

#[async_trait]
impl ReceiptLog for Log {
    async fn append(&self, receipts: Vec<Receipt>) -> Result<()> {
        if receipts.iter().any(|one| one.event != Event::Attempted) {
            self.outcomes.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            if self.fails.load(Ordering::SeqCst) {
                return Err(Error::new(Kind::Unavailable, "receipt", "file receipts"));
            }
        }
        self.inner.append(receipts).await
    }

    async fn query(&self, ask: &ReceiptAsk) -> Result<Vec<FiledReceipt>> {
        self.inner.query(ask).await
    }

    async fn known(&self, ids: &[MessageId]) -> Result<Vec<bool>> {
        self.inner.known(ids).await
    }
}

type Act = Box<dyn Fn(usize) -> Outcome + Send + Sync>;

/// A sink that does as it is told at each call, and waits where it is told to.
struct Provider {
    calls: AtomicUsize,
    gate: Arc<Semaphore>,
    act: Act,
}

#[async_trait]
impl Sink for Provider {
    fn name(&self) -> &'static str {
        "provider"
    }

    fn batch_max(&self) -> usize {
        BATCH
    }

    async fn deliver(&self, batch: Vec<Outbound>) -> Vec<Outcome> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        let outcome = (self.act)(call);
        vec![outcome; batch.len()]
    }
}

struct World {
    clock: Arc<ManualClock>,
    hold: Arc<dyn HoldStore>,
    log: Arc<Log>,
    provider: Arc<Provider>,
    lane: LaneReleaser,
}

fn options() -> LaneOptions {
    LaneOptions {
        lane: Lane::new("main"),
        pace: Pace {
            rate: None,
            burst: NonZeroU32::MIN,
            slow_start: Duration::ZERO,
            slow_start_from: 1.0,
        },
        in_flight: IN_FLIGHT,
        batch_max: 0,
        tick_max: 1_000,
        lease_ttl: SignedDuration::from_secs(60),
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
    /// A lane with `many` due messages and a provider that acts so; as many calls of it and of the
    /// log pass as there are permits.
    async fn new(many: usize, act: Act, passes: [usize; 2]) -> Self {
        let hold = Arc::new(MemoryHold::new(SignedDuration::from_hours(72)));
        Self::over(hold, many, act, passes).await
    }

    /// The same over this hold.
    async fn over(hold: Arc<dyn HoldStore>, many: usize, act: Act, passes: [usize; 2]) -> Self {
        let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
        let (text, name) = (include_str!("../../../../../rules/kr.toml"), "kr.toml");
        let (text, name) = (text.to_owned(), name.to_owned());
        let rules = Ruleset::load(&[PackSource { name, text }]).unwrap();
        let zone = TimeZone::get("Asia/Seoul").unwrap();
        let jurisdiction = Jurisdiction::new("KR").unwrap();
        let house = House { jurisdiction, zone };
        let decider = Decider::new(Arc::new(rules), house, Arc::new(MemoryBook::default()));
        let held = |number: usize| {
            let message = message(&format!("m-{number}"), b"hello");
            Held {
                key: decider.key(&message),
                message,
                lane: Lane::new("main"),
                class: Class::from_name("informational/sms/KR/Asia/Seoul"),
                due: clock.now(),
                accepted_at: clock.now(),
            }
        };
        let all = (0..many).map(held).collect();
        hold.put(all, clock.now()).await.unwrap();
        let [provider, log] = passes.map(|passes| Arc::new(Semaphore::new(passes)));
        let provider = Arc::new(Provider {
            calls: AtomicUsize::new(0),
            gate: provider,
            act,
        });
        let log = Arc::new(Log {
            inner: MemoryLog::default(),
            outcomes: AtomicUsize::new(0),
            gate: log,
            fails: AtomicBool::new(false),
        });
        let parts = ReleaserParts {
            decider: Arc::new(decider),
            clock: Arc::clone(&clock) as _,
            hold: Arc::clone(&hold),
            receipts: Arc::clone(&log) as _,
            alerts: Alerts::silent(),
            metrics: Arc::default(),
            freeze: Freeze::new(SignedDuration::from_secs(60), Duration::from_secs(300)),
            random: Mutex::new(fastrand::Rng::with_seed(1)),
        };
        let sink = Arc::clone(&provider) as _;
        let shared = Shared::own(&parts.receipts);
        let lane = LaneReleaser::new(options(), sink, Arc::new(parts), &shared);
        Self {
            clock,
            hold,
            log,
            provider,
            lane,
        }
    }

    async fn count(&self, count: fn(&Shelf) -> u64) -> u64 {
        let shelves = self.hold.shelves(None, None).await.unwrap();
        shelves.iter().map(count).sum()
    }
}

const ALL: usize = Semaphore::MAX_PERMITS;

fn delivered() -> Outcome {
    Outcome::Delivered { reference: None }
}

#[tokio::test]
async fn while_one_round_leaves_the_next_is_decided_and_on_file() {
    let world = World::new(100, Box::new(|_| delivered()), [0, ALL]).await;
    let mut tick = pin!(world.lane.tick());
    assert!(futures_util::poll!(&mut tick).is_pending());
    assert_eq!(world.provider.calls.load(Ordering::SeqCst), IN_FLIGHT);
    let on_loan = world.count(|shelf| shelf.leased).await;
    assert_eq!(on_loan, 2 * ABREAST as u64, "and no more than that");
    let attempted = world.log.of(Event::Attempted).await.len();
    assert_eq!(attempted, 2 * ABREAST);
    world.provider.gate.add_permits(ALL);
    let tick = tick.await.unwrap();
    assert_eq!((tick.delivered, tick.remaining), (100, 0));
    assert!(world.hold.shelves(None, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_ends_while_books_are_written_goes_on_file_together() {
    let world = World::new(100, Box::new(|_| delivered()), [ALL, 0]).await;
    let mut tick = pin!(world.lane.tick());
    assert!(futures_util::poll!(&mut tick).is_pending());
    let batches = 100 / BATCH;
    assert_eq!(world.provider.calls.load(Ordering::SeqCst), batches);
    assert_eq!(world.log.outcomes.load(Ordering::SeqCst), FILING_MAX);
    world.log.gate.add_permits(ALL);
    assert_eq!(tick.await.unwrap().delivered, 100);
    assert_eq!(world.log.outcomes.load(Ordering::SeqCst), FILING_MAX + 1);
    assert_eq!(world.log.of(Event::Delivered).await.len(), 100);
}

#[tokio::test]
async fn a_pause_stops_the_next_round_of_the_same_tick() {
    let world = World::new(100, Box::new(|_| delivered()), [1, ALL]).await;
    let mut tick = pin!(world.lane.tick());
    assert!(futures_util::poll!(&mut tick).is_pending());
    let pause = world.hold.pause(None, true, world.clock.now());
    pause.await.unwrap();
    let held = world.count(|shelf| shelf.held).await;
    assert!(held > ABREAST as u64, "{held}");
    world.provider.gate.add_permits(ALL);
    let tick = tick.await.unwrap();
    assert_eq!(tick.remaining, held, "nothing more was lent");
    assert_eq!(tick.delivered + tick.remaining, 100);
    assert_eq!(world.count(|shelf| shelf.leased).await, 0);
    let tick = world.lane.tick().await.unwrap();
    assert_eq!(tick.delivered, 0);
}

#[tokio::test]
async fn what_was_lent_while_a_pause_was_looked_up_goes_back_unsent() {
    let dir = tempfile::tempdir().unwrap();
    let hold = Arc::new(
        ShelfHold::open(dir.path(), Options::default())
            .await
            .unwrap(),
    );
    let pausing: Arc<ShelfHold> = Arc::clone(&hold);
    let pause = move |call| {
        if call == 0 {
            let (hold, at) = (Arc::clone(&pausing), NOW.parse().unwrap());
            let pause = async move { hold.pause(None, true, at).await.unwrap() };
            let pause = |handle: tokio::runtime::Handle| handle.block_on(pause);
            let handle = tokio::runtime::Handle::current();
            std::thread::spawn(move || pause(handle)).join().unwrap();
        }
        delivered()
    };
    let world = World::over(hold, 100, Box::new(pause), [ALL, ALL]).await;
    let tick = world.lane.tick().await.unwrap();
    assert!(tick.delivered < 100, "{tick:?}");
    assert_eq!(world.count(|shelf| shelf.leased).await, 0);
    assert_eq!(world.count(|shelf| shelf.held).await, 100 - tick.delivered);
    let attempted = world.log.of(Event::Attempted).await.len() as u64;
    assert_eq!(
        attempted, tick.delivered,
        "what went back was not attempted"
    );
}

#[tokio::test]
async fn what_waits_is_held_back_when_the_sink_refuses_the_whole_lane() {
    let refuse = |call| match call {
        0 => Outcome::Retry {
            after: None,
            whole_lane: true,
            why: "HTTP 429".to_owned(),
        },
        _ => delivered(),
    };
    let world = World::new(100, Box::new(refuse), [0, ALL]).await;
    let mut tick = pin!(world.lane.tick());
    assert!(futures_util::poll!(&mut tick).is_pending());
    world.provider.gate.add_permits(ALL);
    let tick = tick.await.unwrap();
    assert_eq!(tick.retried, BATCH as u64);
    let calls = world.provider.calls.load(Ordering::SeqCst);
    assert_eq!(calls, IN_FLIGHT, "those that were under way already");
    assert_eq!(tick.delivered, ABREAST as u64 - tick.retried);
    assert_eq!(tick.held, tick_waiting(&world).await);
    assert_eq!(world.count(|shelf| shelf.leased).await, 0);
    assert_eq!(
        world.count(|shelf| shelf.held).await,
        100 - tick.delivered,
        "nothing is lost"
    );
    let resting = world.lane.tick().await.unwrap();
    assert_eq!(resting.delivered, 0, "the lane backs off");
}

/// Messages with an attempt on file that was not made, as their receipts say.
async fn tick_waiting(world: &World) -> u64 {
    let retries = world.log.of(Event::Retry).await;
    let stopped = |one: &&Receipt| {
        let detail = one.detail.as_deref();
        detail.is_some_and(|detail| detail.contains("the lane stopped"))
    };
    retries.iter().filter(stopped).count() as u64
}

#[tokio::test]
async fn a_clock_that_jumps_holds_back_what_waits() {
    let world = World::new(100, Box::new(|_| delivered()), [1, ALL]).await;
    let mut tick = pin!(world.lane.tick());
    assert!(futures_util::poll!(&mut tick).is_pending());
    let calls = world.provider.calls.load(Ordering::SeqCst);
    // Back, so that the loans still run.
    let wrong = world.clock.now() - SignedDuration::from_mins(10);
    world.clock.step_to(wrong);
    world.provider.gate.add_permits(ALL);
    let tick = tick.await.unwrap();
    assert_eq!(world.provider.calls.load(Ordering::SeqCst), calls);
    assert_eq!(tick.held, tick_waiting(&world).await);
    assert_eq!(tick.delivered, (calls * BATCH) as u64);
    assert_eq!(world.count(|shelf| shelf.leased).await, 0);
}

#[tokio::test]
async fn when_outcomes_cannot_be_filed_nothing_more_leaves_and_all_is_settled() {
    let world = World::new(100, Box::new(|_| delivered()), [0, ALL]).await;
    world.log.fails.store(true, Ordering::SeqCst);
    let mut tick = pin!(world.lane.tick());
    assert!(futures_util::poll!(&mut tick).is_pending());
    world.provider.gate.add_permits(1);
    assert!(futures_util::poll!(&mut tick).is_pending());
    world.provider.gate.add_permits(ALL);
    assert!(tick.await.is_err());
    let calls = world.provider.calls.load(Ordering::SeqCst);
    assert!(calls <= 2 * IN_FLIGHT, "{calls} batches left");
    assert_eq!(world.count(|shelf| shelf.leased).await, 0);
    let held = world.count(|shelf| shelf.held).await;
    assert_eq!(held, 100 - (calls * BATCH) as u64, "what left is not held");
}

#[tokio::test]
async fn a_tick_lends_nothing_more_after_a_while_however_much_is_due() {
    let clock: Arc<Mutex<Option<Arc<ManualClock>>>> = Arc::default();
    let told = Arc::clone(&clock);
    let slow = move |_| {
        let clock = told.lock().unwrap();
        clock.as_ref().unwrap().advance(Duration::from_millis(200));
        delivered()
    };
    let world = World::new(100, Box::new(slow), [ALL, ALL]).await;
    *clock.lock().unwrap() = Some(Arc::clone(&world.clock));
    let tick = world.lane.tick().await.unwrap();
    assert!(tick.delivered >= ABREAST as u64, "{tick:?}");
    assert!(tick.delivered <= 4 * ABREAST as u64, "{tick:?}");
    assert_eq!(tick.delivered + tick.remaining, 100);
    assert_eq!(tick.wake, Some(world.clock.now()), "and goes on at once");
}

#[test]
fn turns_are_taken_in_order_and_the_last_is_divided() {
    let turn = |max| Turn { of: None, max };
    let mut turns = VecDeque::from([turn(3), turn(5), turn(2)]);
    let sizes = |turns: Vec<Turn>| -> Vec<usize> { turns.iter().map(|turn| turn.max).collect() };
    assert_eq!(sizes(take(&mut turns, 6)), [3, 3]);
    assert_eq!(sizes(take(&mut turns, 6)), [2, 2]);
    assert_eq!(sizes(take(&mut turns, 6)), [0; 0]);
}

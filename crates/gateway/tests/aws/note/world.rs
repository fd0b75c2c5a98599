//! A hold and a sink on queues in this process, with a releaser between them, in time turned by
//! hand.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use nightgate::alert::desk::Alerts;
use nightgate::aws::queues::{Queue, Queues};
use nightgate::aws::sim::{Op, SimMessage, SimOptions, SimQueues};
use nightgate::aws::travel;
use nightgate::backoff::Backoff;
use nightgate::clock::{Clock, ManualClock};
use nightgate::config::Opening;
use nightgate::consent::memory::MemoryBook;
use nightgate::consent::{Act, ConsentBook, ConsentEvent};
use nightgate::decider::Decider;
use nightgate::error::{Error, Kind, Result};
use nightgate::hold::sqs::{SqsHold, SqsHoldOptions};
use nightgate::hold::{Held, HoldStore, Lane, Put};
use nightgate::receipt::lines::LinesLog;
use nightgate::release::attempts::memory::MemoryAttempts;
use nightgate::release::attempts::{Attempts, Claim, Fate, Trail, Try};
use nightgate::release::freeze::Freeze;
use nightgate::release::limiter::Pace;
use nightgate::release::{LaneOptions, OnUnknown, Releaser, ReleaserParts, Shared, Tick};
use nightgate::sink::Sink;
use nightgate::sink::sqs::{SqsSink, SqsSinkOptions};
use nightgate_core::{
    Basis, Class, House, Jurisdiction, Message, PackSource, Purpose, Ruleset, Scope,
};
use serde_json::json;

/// When these nights begin, and when their messages are due.
pub(super) const EVENING: &str = "2026-11-22T22:30:00+09:00";
pub(super) const EIGHT: &str = "2026-11-23T08:00:00+09:00";
/// How long a loan runs.
pub(super) const TTL: SignedDuration = SignedDuration::from_secs(60);
/// Every request that SQS is asked.
const ALL: [Op; 8] = [
    Op::Find,
    Op::Send,
    Op::Receive,
    Op::Delete,
    Op::Hide,
    Op::Look,
    Op::Tags,
    Op::Tag,
];

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The queues, and their time.
pub(super) struct Night {
    pub(super) clock: Arc<ManualClock>,
    pub(super) sim: Arc<SimQueues>,
    pub(super) target: Queue,
    /// Claims, where the night has them.
    pub(super) attempts: Option<Arc<Flaky>>,
    /// What becomes of advertising that may have gone.
    pub(super) unknown: OnUnknown,
    book: Arc<MemoryBook>,
    decider: Arc<Decider>,
}

/// One process on these queues.
pub(super) struct Process {
    pub(super) releaser: Releaser,
}

impl Night {
    /// An evening; messages leave for `target`.
    pub(super) fn new(target: &str) -> Self {
        let clock = Arc::new(ManualClock::new(at(EVENING)));
        let sim = Arc::new(SimQueues::new(Arc::clone(&clock)));
        for kind in ["ready", "wait", "wait-1", "buried"] {
            sim.create(&format!("night-main-{kind}"), SimOptions::default());
        }
        let fifo = target.ends_with(".fifo");
        let options = SimOptions {
            fifo,
            ..SimOptions::default()
        };
        let target = sim.create(target, options);
        let book = Arc::new(MemoryBook::default());
        let decider = Arc::new(decider(&book));
        Self {
            clock,
            sim,
            target,
            attempts: None,
            unknown: OnUnknown::Bury,
            book,
            decider,
        }
    }

    /// A night in which `count` advertisements wait for eight o'clock, all with consent.
    pub(super) async fn waiting(count: usize) -> Self {
        let night = Self::new("target");
        let messages = (0..count).map(|n| advertisement(&format!("m-{n:05}")));
        night.put(messages.collect()).await;
        night
    }

    /// Holds them until eight; their recipients have agreed.
    pub(super) async fn put(&self, messages: Vec<Message>) {
        for message in &messages {
            let act = Act::Grant(Basis::Explicit);
            self.consent(message, act, "2026-06-01T10:00:00+09:00")
                .await;
        }
        self.put_unasked(messages).await;
    }

    /// Holds them until eight, whatever their recipients say.
    pub(super) async fn put_unasked(&self, messages: Vec<Message>) {
        let now = self.clock.now();
        let held = |message: Message| Held {
            key: self.decider.key(&message),
            message,
            lane: Lane::new("main"),
            class: Class::from_name("advertising/sms/KR/Asia/Seoul"),
            due: at(EIGHT),
            accepted_at: now,
        };
        let count = messages.len();
        let held = messages.into_iter().map(held).collect();
        let put = self.hold().await.put(held, now).await.unwrap();
        assert_eq!(put, vec![Put::New; count]);
    }

    pub(super) async fn consent(&self, message: &Message, act: Act, when: &str) {
        let event = ConsentEvent {
            key: self.decider.key(message),
            scope: Scope::General,
            act,
            at: at(when),
            source: "test".to_owned(),
        };
        self.book.record(vec![event]).await.unwrap();
    }

    pub(super) async fn hold(&self) -> Arc<SqsHold> {
        let options = SqsHoldOptions {
            openings: vec![Opening::parse("08:00[Asia/Seoul]").unwrap()],
            ..SqsHoldOptions::new("night", vec![Lane::new("main")])
        };
        let hold = SqsHold::open(self.sim.clone(), options, self.clock.clone());
        Arc::new(hold.await.unwrap())
    }

    /// A night in which hand-overs are claimed.
    pub(super) async fn claimed(count: usize) -> Self {
        let horizon = SignedDuration::from_hours(72);
        Self {
            attempts: Some(Arc::new(Flaky {
                inner: MemoryAttempts::new(horizon),
                away: AtomicBool::new(false),
                busy: AtomicUsize::new(0),
                stuck: AtomicBool::new(false),
            })),
            ..Self::waiting(count).await
        }
    }

    /// The sink to the target over `queues`, which sends one request after the other.
    pub(super) fn sink(&self, queues: Arc<dyn Queues>) -> Arc<SqsSink> {
        let options = SqsSinkOptions {
            requests: 1,
            ..SqsSinkOptions::new(self.target.clone())
        };
        Arc::new(SqsSink::new(queues, options, self.clock.clone()).unwrap())
    }

    /// A process without a pace.
    pub(super) async fn process(&self) -> Process {
        self.over(self.sink(self.sim.clone()), None).await
    }

    /// A process with this sink and so many messages a second.
    pub(super) async fn over(&self, sink: Arc<dyn Sink>, rate: Option<u32>) -> Process {
        let parts = ReleaserParts {
            decider: Arc::clone(&self.decider),
            clock: self.clock.clone(),
            hold: self.hold().await,
            // As a function has it: what went there cannot be asked.
            receipts: Arc::new(LinesLog::new(std::io::sink())),
            alerts: Alerts::silent(),
            metrics: Arc::default(),
            freeze: Freeze::new(SignedDuration::from_secs(60), Duration::from_secs(300)),
            random: Mutex::new(fastrand::Rng::with_seed(1)),
        };
        let options = LaneOptions {
            unknown_advertising: self.unknown,
            ..lane(rate)
        };
        let lanes = vec![(options, sink)];
        let own = Shared::own(&parts.receipts);
        let shared = match self.attempts.clone() {
            Some(attempts) => Shared { attempts, ..own },
            None => own,
        };
        let releaser = Releaser::sharing(lanes, parts, &shared);
        Process { releaser }
    }

    /// The ids of what is in the target, in order.
    pub(super) fn left(&self) -> Vec<String> {
        let messages = self.sim.messages(self.target.name());
        messages.iter().map(id).collect()
    }

    /// Asserts that nothing left twice; how many left.
    pub(super) fn left_once(&self) -> usize {
        let left = self.left();
        let once: BTreeSet<&String> = left.iter().collect();
        assert_eq!(once.len(), left.len(), "something was sent twice: {left:?}");
        left.len()
    }

    pub(super) fn buried(&self) -> usize {
        self.sim.messages("night-main-buried").len()
    }

    /// How many messages the queues of the hold have, the buried ones not counted.
    pub(super) fn kept(&self) -> usize {
        let queues = ["ready", "wait", "wait-1"];
        let count = |kind| self.sim.messages(&format!("night-main-{kind}")).len();
        queues.map(count).into_iter().sum()
    }

    pub(super) fn requests(&self) -> u64 {
        ALL.iter().map(|op| self.sim.faults.requests(*op)).sum()
    }

    /// How often each request was made.
    pub(super) fn counts(&self) -> Vec<(Op, u64)> {
        let count = |op: &Op| (*op, self.sim.faults.requests(*op));
        ALL.iter().map(count).collect()
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

impl Process {
    /// Ticks until nothing is due any more, as `nightgate drain` does; a tick takes 0.2 s.
    pub(super) async fn drain(&self, night: &Night) -> Tick {
        let mut total = Tick::default();
        loop {
            let tick = self.releaser.tick().await.unwrap();
            total.add(&tick);
            (total.remaining, total.on_loan) = (tick.remaining, tick.on_loan);
            total.wake = tick.wake;
            let due = self.releaser.status().iter().any(|lane| lane.due > 0);
            let wakes = tick.wake.is_some_and(|wake| wake <= night.clock.now());
            if !due && !wakes {
                return total;
            }
            night.clock.advance(Duration::from_millis(200));
        }
    }
}

fn decider(book: &Arc<MemoryBook>) -> Decider {
    let pack = PackSource {
        name: "kr.toml".to_owned(),
        text: include_str!("../../../../../rules/kr.toml").to_owned(),
    };
    let house = House {
        jurisdiction: Jurisdiction::new("KR").unwrap(),
        zone: TimeZone::get("Asia/Seoul").unwrap(),
    };
    let rules = Ruleset::load(&[pack]).unwrap();
    Decider::new(Arc::new(rules), house, book.clone())
}

fn lane(rate: Option<u32>) -> LaneOptions {
    LaneOptions {
        lane: Lane::new("main"),
        pace: Pace {
            rate: rate.and_then(NonZeroU32::new),
            burst: NonZeroU32::MIN,
            slow_start: Duration::ZERO,
            slow_start_from: 1.0,
        },
        in_flight: 2,
        batch_max: 0,
        tick_max: 1000,
        lease_ttl: TTL,
        attempts_max: 3,
        backoff: Backoff {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
        },
        unknown_advertising: OnUnknown::Bury,
        unknown_informational: OnUnknown::Bury,
        nothing_moved_after: Duration::from_secs(3600),
        failing_after: 5,
    }
}

/// An advertisement to a recipient of its own.
pub(super) fn advertisement(id: &str) -> Message {
    let number: u32 = id.rsplit('-').next().unwrap().parse().unwrap();
    let recipient = format!("010-{:04}-{:04}", 1000 + number / 10_000, number % 10_000);
    serde_json::from_value(json!({
        "id": id, "recipient": recipient, "channel": "sms", "purpose": Purpose::Advertising,
        "campaign": "autumn", "priority": 5, "content_type": "text/plain; charset=utf-8",
        "attributes": {"template": "N-17"}, "body": "밤 특가 8시".as_bytes(),
    }))
    .unwrap()
}

fn id(message: &SimMessage) -> String {
    let mut attributes = message.sent.attributes.iter();
    let id = attributes.find(|attribute| attribute.name == travel::ID);
    match &id.unwrap().value {
        nightgate::aws::queues::Value::Text(text) => text.clone(),
        nightgate::aws::queues::Value::Bytes(_) => panic!("an id is a text"),
    }
}

/// Claims in memory that may be away, or turn the next so many down.
pub(super) struct Flaky {
    inner: MemoryAttempts,
    pub(super) away: AtomicBool,
    pub(super) busy: AtomicUsize,
    /// It never answers a claim, and makes none.
    pub(super) stuck: AtomicBool,
}

impl Flaky {
    fn check(&self) -> Result<()> {
        let fault = Error::new(Kind::Unavailable, "release", "claim a hand-over");
        match self.away.load(Ordering::Relaxed) {
            true => Err(fault),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Attempts for Flaky {
    fn claims(&self) -> bool {
        true
    }

    async fn trails(&self, lapsed: &[Claim], now: Timestamp) -> Result<Vec<Trail>> {
        self.check()?;
        self.inner.trails(lapsed, now).await
    }

    async fn claim(&self, tries: &[Try], now: Timestamp) -> Vec<Result<Trail>> {
        if self.stuck.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let mut answers = Vec::new();
        for one in tries {
            let busy = self.busy.load(Ordering::Relaxed);
            self.busy.store(busy.saturating_sub(1), Ordering::Relaxed);
            if busy > 0 || self.check().is_err() {
                let what = "claim a hand-over: ThrottlingException";
                answers.push(Err(Error::new(Kind::Unavailable, "release", what)));
            } else {
                answers.extend(self.inner.claim(std::slice::from_ref(one), now).await);
            }
        }
        answers
    }

    async fn conclude(&self, ended: Vec<(Claim, Fate)>, now: Timestamp) -> Result<()> {
        self.check()?;
        self.inner.conclude(ended, now).await
    }
}

/// Queues on which every send takes so long.
pub(super) struct Slow {
    pub(super) sim: Arc<SimQueues>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) takes: SignedDuration,
}

mod slow {
    use std::collections::BTreeMap;

    use nightgate::aws::queues::{Answer, Ask, Incoming, Look, Outgoing};

    use super::*;

    #[async_trait]
    impl Queues for Slow {
        async fn find(&self, name: &str) -> Answer<Option<Queue>> {
            self.sim.find(name).await
        }

        async fn send(&self, queue: &Queue, messages: Vec<Outgoing>) -> Vec<Answer<String>> {
            let until = self.clock.now() + self.takes;
            while self.clock.now() < until {
                self.clock.sleep_until(until).await;
            }
            self.sim.send(queue, messages).await
        }

        async fn receive(&self, queue: &Queue, ask: &Ask) -> Answer<Vec<Incoming>> {
            self.sim.receive(queue, ask).await
        }

        async fn delete(&self, queue: &Queue, handles: &[String]) -> Vec<Answer<()>> {
            self.sim.delete(queue, handles).await
        }

        async fn hide(&self, queue: &Queue, handles: &[(String, Duration)]) -> Vec<Answer<()>> {
            self.sim.hide(queue, handles).await
        }

        async fn look(&self, queue: &Queue) -> Answer<Look> {
            self.sim.look(queue).await
        }

        async fn tags(&self, queue: &Queue) -> Answer<BTreeMap<String, String>> {
            self.sim.tags(queue).await
        }

        async fn tag(&self, queue: &Queue, key: &str, value: Option<&str>) -> Answer<()> {
            self.sim.tag(queue, key, value).await
        }
    }
}

//! A gate in memory behind simulated queues, with a hold that fails, fills and stalls when told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nightgate_core::ruleset::PackSource;
use nightgate_core::{Channel, Class, House, Jurisdiction, MessageId, Purpose, Ruleset};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::alert::desk::{Alerts, DeskOptions, MemoryPort};
use crate::aws::queues::{Attribute, Outgoing, Queue, Queues};
use crate::aws::sim::{SimMessage, SimOptions, SimQueues};
use crate::clock::{Clock, ManualClock};
use crate::consent::memory::MemoryBook;
use crate::decider::Decider;
use crate::error::{Error, Kind, Result};
use crate::gate::{Gate, GateParts, Routes};
use crate::hold::memory::MemoryHold;
use crate::hold::{
    Capability, Found, HORIZON_DEFAULT, Held, HoldStore, Lane, LeaseAsk, Leased, Pause, Put,
    Recalled, Scope, Settle, Settled, Shelf, State,
};
use crate::ingest::sqs::{Mapping, Source, SourceOptions, SourceParts};
use crate::metrics::Metrics;
use crate::receipt::memory::MemoryLog;

/// Turns of other tasks after which a test gives up.
const TURNS_MAX: usize = 20_000;

pub(crate) struct TestHold {
    pub(crate) inner: MemoryHold,
    /// No call is answered.
    pub(crate) fails: AtomicBool,
    /// Ids for which there is no room.
    pub(crate) full: Mutex<BTreeSet<String>>,
    /// Ids with which a whole call is wrong.
    pub(crate) wrong: Mutex<BTreeSet<String>>,
    /// A put takes one permit; there are plenty unless a test closes the door.
    pub(crate) door: Semaphore,
    /// Messages of each put that was tried.
    pub(crate) puts: Mutex<Vec<Vec<String>>>,
    /// Calls that were answered with an error.
    pub(crate) failed: AtomicU64,
    /// Nothing is lent on this lane.
    pub(crate) stuck: Mutex<Option<Lane>>,
}

impl Default for TestHold {
    fn default() -> Self {
        Self {
            inner: MemoryHold::new(HORIZON_DEFAULT),
            fails: AtomicBool::default(),
            full: Mutex::default(),
            wrong: Mutex::default(),
            door: Semaphore::new(Semaphore::MAX_PERMITS),
            puts: Mutex::default(),
            failed: AtomicU64::default(),
            stuck: Mutex::default(),
        }
    }
}

impl TestHold {
    fn fault(&self, kind: Kind, op: &str) -> Error {
        self.failed.fetch_add(1, Ordering::Relaxed);
        Error::new(kind, "hold", op)
    }

    /// From now on puts stand still, until so many permits are added.
    pub(crate) fn close_door(&self) {
        self.door.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn tried(&self) -> Vec<Vec<String>> {
        self.puts.lock().unwrap().clone()
    }
}

#[async_trait]
impl HoldStore for TestHold {
    fn name(&self) -> &'static str {
        "test"
    }
    fn capability(&self) -> Capability {
        self.inner.capability()
    }
    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        let ids = messages.iter().map(|held| held.message.id.to_string());
        let ids: Vec<String> = ids.collect();
        self.puts.lock().unwrap().push(ids.clone());
        self.door.acquire().await.unwrap().forget();
        if self.fails.load(Ordering::Relaxed) {
            return Err(self.fault(Kind::Unavailable, "reach the disk"));
        }
        let is_wrong = |id: &String| self.wrong.lock().unwrap().contains(id);
        if ids.iter().any(is_wrong) {
            return Err(self.fault(Kind::Invalid, "put a message that is too large"));
        }
        let mut answers = Vec::new();
        for (held, id) in messages.into_iter().zip(ids) {
            let full = self.full.lock().unwrap().contains(&id);
            match full {
                true => answers.push(Put::Full),
                false => answers.extend(self.inner.put(vec![held], now).await?),
            }
        }
        Ok(answers)
    }
    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        if self.stuck.lock().unwrap().as_ref() == Some(ask.lane) {
            return Err(self.fault(Kind::Unavailable, "reach the disk"));
        }
        self.inner.lease(ask).await
    }
    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        self.inner.settle(settlements, now).await
    }
    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        self.inner.next_due(lane, now).await
    }
    async fn shelves(&self, lane: Option<&Lane>, due_by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        self.inner.shelves(lane, due_by).await
    }
    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        self.inner.find(ids).await
    }
    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        self.inner.list(state, lane, max).await
    }
    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        self.inner.recall(scope, now).await
    }
    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        self.inner.kick(scope, now).await
    }
    async fn redate(&self, lane: &Lane, of: &Class, now: Timestamp, to: Timestamp) -> Result<u64> {
        self.inner.redate(lane, of, now, to).await
    }
    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        self.inner.pause(lane, paused, now).await
    }
    async fn pauses(&self) -> Result<Vec<Pause>> {
        self.inner.pauses().await
    }
    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        self.inner.sweep(now).await
    }
    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }
}

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) queues: Arc<SimQueues>,
    pub(crate) hold: Arc<TestHold>,
    pub(crate) receipts: Arc<MemoryLog>,
    pub(crate) port: Arc<MemoryPort>,
    pub(crate) alerts: Alerts,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) decider: Arc<Decider>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) queue: Queue,
    pub(crate) dead: Queue,
}

/// A source that runs.
pub(crate) struct Running {
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn end(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }
}

fn decider() -> Decider {
    let text = include_str!("../../../../../../rules/kr.toml").to_owned();
    let name = "kr.toml".to_owned();
    let rules = Ruleset::load(&[PackSource { name, text }]).unwrap();
    let house = House {
        jurisdiction: Jurisdiction::new("KR").unwrap(),
        zone: TimeZone::get("Asia/Seoul").unwrap(),
    };
    Decider::new(Arc::new(rules), house, Arc::new(MemoryBook::default()))
}

/// A queue and its dead-letter queue, at night.
pub(crate) fn world(queue: &str, options: SimOptions) -> World {
    let clock = Arc::new(ManualClock::new(
        "2026-11-22T23:00:00+09:00".parse().unwrap(),
    ));
    let queues = Arc::new(SimQueues::new(Arc::clone(&clock)));
    let (dead, fifo) = match options.fifo {
        true => ("dead.fifo", true),
        false => ("dead", false),
    };
    let dead_options = SimOptions {
        fifo,
        ..SimOptions::default()
    };
    let (queue, dead) = (
        queues.create(queue, options),
        queues.create(dead, dead_options),
    );
    let port = Arc::new(MemoryPort::default());
    let alerts = Alerts::new(vec![port.clone()], clock.clone(), DeskOptions::default());
    let lanes = [(Channel::Sms, "main"), (Channel::Lms, "long")];
    let routes = lanes.iter().flat_map(|(channel, lane)| {
        let pair = |purpose: &Purpose| ((*purpose, *channel), Lane::new(lane));
        Purpose::ALL.iter().map(pair)
    });
    let (hold, receipts) = (
        Arc::new(TestHold::default()),
        Arc::new(MemoryLog::default()),
    );
    let (metrics, decider) = (Arc::new(Metrics::default()), Arc::new(decider()));
    let gate = Gate::new(GateParts {
        keep_ids: HORIZON_DEFAULT,
        decider: Arc::clone(&decider),
        routes: Routes::new(routes),
        clock: clock.clone(),
        hold: hold.clone(),
        receipts: receipts.clone(),
        alerts: alerts.clone(),
        metrics: Arc::clone(&metrics),
    });
    World {
        clock,
        queues,
        hold,
        receipts,
        port,
        alerts,
        metrics,
        decider,
        gate: Arc::new(gate),
        queue,
        dead,
    }
}

/// The mapping of these tests: the recipient and the channel in attributes.
pub(crate) fn table() -> BTreeMap<String, String> {
    [
        ("recipient", "@to | /to"),
        ("channel", "@channel | =sms"),
        ("purpose", "=informational"),
    ]
    .map(|(key, text)| (key.to_owned(), text.to_owned()))
    .into()
}

/// A message to a recipient, with an id that its producer gave.
pub(crate) fn outgoing(id: &str, body: &str) -> Outgoing {
    Outgoing {
        body: body.to_owned(),
        attributes: vec![
            Attribute::text("nightgate-id", id),
            Attribute::text("to", "010-1234-5678"),
        ],
        ..Outgoing::default()
    }
}

/// The same on a FIFO queue.
pub(crate) fn grouped(id: &str, group: &str) -> Outgoing {
    Outgoing {
        group: Some(group.to_owned()),
        deduplication: Some(id.to_owned()),
        ..outgoing(id, "hello")
    }
}

/// The same, to nobody.
pub(crate) fn poison(mut outgoing: Outgoing) -> Outgoing {
    outgoing
        .attributes
        .retain(|attribute| attribute.name != "to");
    outgoing
}

impl World {
    pub(crate) fn options(&self) -> SourceOptions {
        SourceOptions {
            dead_letter: Some(self.dead.clone()),
            pollers: 1,
            batch_wait: Duration::ZERO,
            ..SourceOptions::new(self.queue.clone(), Mapping::parse(&table()).unwrap())
        }
    }

    pub(crate) fn start(&self, options: SourceOptions) -> Running {
        self.start_over(self.queues.clone(), options)
    }

    pub(crate) fn start_over(&self, queues: Arc<dyn Queues>, options: SourceOptions) -> Running {
        let parts = SourceParts {
            queues,
            gate: Arc::clone(&self.gate),
            clock: self.clock.clone(),
            alerts: self.alerts.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(Arc::new(Source::new(parts, options)).run(stopped));
        Running { stop, task }
    }

    pub(crate) async fn send(&self, messages: Vec<Outgoing>) {
        for message in messages {
            let sent = self.queues.send(&self.queue, vec![message]).await;
            sent.into_iter().for_each(|sent| drop(sent.unwrap()));
        }
    }

    /// Messages in the queue.
    pub(crate) fn left(&self) -> Vec<SimMessage> {
        self.queues.messages(self.queue.name())
    }

    /// Messages in the dead-letter queue.
    pub(crate) fn dead(&self) -> Vec<SimMessage> {
        self.queues.messages(self.dead.name())
    }

    /// What the hold has under these ids.
    pub(crate) async fn held(&self, ids: &[&str]) -> Vec<Option<Found>> {
        let ids = ids.iter().map(|id| MessageId::new(id).unwrap());
        let ids: Vec<MessageId> = ids.collect();
        self.hold.inner.find(&ids).await.unwrap()
    }

    /// Lets others run until `done`, while time stands still.
    pub(crate) async fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        for _ in 0..TURNS_MAX {
            if done() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("never: {what}");
    }

    /// Lets others do all that they can while time stands still.
    pub(crate) async fn quiet(&self) {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }

    /// The same, while so much time passes.
    pub(crate) async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            self.quiet().await;
        }
    }

    /// Lets time pass until `done`, at most an hour.
    pub(crate) async fn in_time(&self, what: &str, mut done: impl FnMut() -> bool) {
        let end = self.clock.monotonic() + Duration::from_secs(3600);
        while !done() {
            assert!(self.clock.monotonic() < end, "not within an hour: {what}");
            self.pass(1).await;
        }
    }

    /// The alarms so far.
    pub(crate) async fn alarms(&self) -> Vec<crate::alert::Alert> {
        assert!(self.alerts.flush(Duration::from_secs(5)).await);
        self.port.alerts()
    }

    /// What is left is in nobody's hands and has been received so often.
    pub(crate) fn receives(&self) -> Vec<u32> {
        self.left().iter().map(|message| message.receives).collect()
    }
}

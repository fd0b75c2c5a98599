//! Queues in this process, and a hold on them that lives in the time of its callers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate::aws::queues::{Outgoing, Queue, Queues};
use nightgate::aws::sim::{SimMessage, SimOptions, SimQueues};
use nightgate::clock::{Clock, ManualClock};
use nightgate::config::Opening;
use nightgate::error::Result;
use nightgate::hold::sqs::marks::MemoryMarks;
use nightgate::hold::sqs::{SqsHold, SqsHoldOptions};
use nightgate::hold::{
    Capability, Damage, Found, Held, HoldStore, Lane, LeaseAsk, Leased, Pause, Put, Recalled, Room,
    Scope, Settle, Settled, Shelf, State,
};
use nightgate_core::{Class, MessageId};

use crate::world::at;

/// The queues of the lane `sms`.
pub(crate) const READY: &str = "night-sms-ready";
pub(crate) const WAIT: &str = "night-sms-wait";
/// Of eight in the morning in Seoul.
pub(crate) const EIGHT: &str = "night-sms-wait-1";
pub(crate) const BURIED: &str = "night-sms-buried";
/// Eight in the morning in Seoul after the evening of these tests, in minutes after it.
pub(crate) const EIGHT_MINUTES: i64 = 11 * 60;

/// Simulated queues of two lanes, and their time.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) sim: Arc<SimQueues>,
    pub(crate) clock: Arc<ManualClock>,
    marks: Arc<MemoryMarks>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(&SimOptions::default())
    }

    /// All queues set up so.
    pub(crate) fn with(options: &SimOptions) -> Self {
        let clock = Arc::new(ManualClock::new(at(0)));
        let sim = Arc::new(SimQueues::new(Arc::clone(&clock)));
        for lane in ["sms", "push"] {
            for kind in ["ready", "wait", "wait-1", "buried"] {
                sim.create(&format!("night-{lane}-{kind}"), options.clone());
            }
        }
        let marks = Arc::default();
        Self { sim, clock, marks }
    }

    pub(crate) fn options(&self) -> SqsHoldOptions {
        let lanes = vec![Lane::new("push"), Lane::new("sms")];
        SqsHoldOptions {
            openings: vec![Opening::parse("08:00[Asia/Seoul]").unwrap()],
            marks: Some(Arc::clone(&self.marks) as Arc<_>),
            ..SqsHoldOptions::new("night", lanes)
        }
    }

    /// A hold on these queues: a process of its own.
    pub(crate) async fn hold(&self) -> Arc<dyn HoldStore> {
        let clock = Arc::clone(&self.clock);
        let hold = self.open(self.options()).await.unwrap();
        Arc::new(InStep { hold, clock })
    }

    pub(crate) async fn open(&self, options: SqsHoldOptions) -> Result<SqsHold> {
        let clock = Leaping(Arc::clone(&self.clock));
        SqsHold::open(Arc::clone(&self.sim) as Arc<_>, options, Arc::new(clock)).await
    }

    pub(crate) async fn queue(&self, name: &str) -> Queue {
        self.sim.find(name).await.unwrap().unwrap()
    }

    /// Somebody else sends a text.
    pub(crate) async fn send(&self, name: &str, body: &str) {
        let message = Outgoing {
            body: body.to_owned(),
            ..Outgoing::default()
        };
        let queue = self.queue(name).await;
        let sent = self.sim.send(&queue, vec![message]).await;
        assert!(sent[0].is_ok());
    }

    pub(crate) fn messages(&self, name: &str) -> Vec<SimMessage> {
        self.sim.messages(name)
    }

    /// How many messages each queue of the lane `sms` holds: ready, at eight, else, buried.
    pub(crate) fn counts(&self) -> [usize; 4] {
        [READY, EIGHT, WAIT, BURIED].map(|name| self.messages(name).len())
    }

    /// Time is set to that of a call.
    pub(crate) fn turn(&self, now: Timestamp) {
        turn(&self.clock, now);
    }
}

fn turn(clock: &ManualClock, now: Timestamp) {
    if now >= clock.now() {
        clock.advance_to(now);
    } else {
        clock.step_to(now);
    }
}

/// Worlds by the directory in which a test opened them: what outlives a hold here.
static WORLDS: LazyLock<Mutex<HashMap<PathBuf, World>>> = LazyLock::new(Mutex::default);

/// The hold of a directory, on queues that outlive it.
pub(crate) async fn in_step(dir: &Path) -> Arc<dyn HoldStore> {
    let world = {
        let mut worlds = WORLDS.lock().unwrap();
        worlds
            .entry(dir.to_owned())
            .or_insert_with(World::new)
            .clone()
    };
    world.hold().await
}

/// A clock on which whoever waits is there at once.
struct Leaping(Arc<ManualClock>);

#[async_trait]
impl Clock for Leaping {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.0.advance_to(at);
    }
}

/// A hold whose queues live in the time of each call.
struct InStep {
    hold: SqsHold,
    clock: Arc<ManualClock>,
}

impl InStep {
    fn at(&self, now: Timestamp) -> &SqsHold {
        turn(&self.clock, now);
        &self.hold
    }
}

#[async_trait]
impl HoldStore for InStep {
    fn name(&self) -> &'static str {
        self.hold.name()
    }

    fn capability(&self) -> Capability {
        self.hold.capability()
    }

    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        self.at(now).put(messages, now).await
    }

    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        self.at(ask.now).lease(ask).await
    }

    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        self.at(now).settle(settlements, now).await
    }

    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        self.at(now).next_due(lane, now).await
    }

    async fn shelves(&self, lane: Option<&Lane>, by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        by.map(|by| self.at(by));
        self.hold.shelves(lane, by).await
    }

    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        self.hold.find(ids).await
    }

    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        self.hold.list(state, lane, max).await
    }

    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        self.at(now).recall(scope, now).await
    }

    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        self.at(now).kick(scope, now).await
    }

    async fn redate(&self, of: &Lane, class: &Class, by: Timestamp, to: Timestamp) -> Result<u64> {
        self.at(by).redate(of, class, by, to).await
    }

    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        self.at(now).pause(lane, paused, now).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>> {
        self.hold.pauses().await
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        self.at(now).sweep(now).await
    }

    async fn check(&self) -> Result<()> {
        self.hold.check().await
    }

    async fn room(&self) -> Result<Room> {
        self.hold.room().await
    }

    async fn damage(&self) -> Result<Damage> {
        self.hold.damage().await
    }
}

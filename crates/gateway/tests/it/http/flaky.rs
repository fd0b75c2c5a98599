//! A hold that can be told to fail or to be full, and a receipt log that can be told to wait.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate::error::{Error, Kind, Result};
use nightgate::hold::memory::MemoryHold;
use nightgate::hold::{
    Capability, Found, Held, HoldStore, Lane, LeaseAsk, Leased, Pause, Put, Recalled, Room, Scope,
    Settle, Settled, Shelf, State,
};
use nightgate::receipt::memory::MemoryLog;
use nightgate::receipt::{Filed, Receipt, ReceiptAsk, ReceiptLog};
use nightgate_core::{Class, MessageId};

pub(super) struct Flaky {
    pub(super) hold: MemoryHold,
    pub(super) fails: AtomicBool,
    pub(super) room: Mutex<Room>,
    /// The shelves of messages by push take nothing more.
    pub(super) push_is_full: AtomicBool,
    pub(super) puts: AtomicU64,
}

impl Flaky {
    pub(super) fn new(hold: MemoryHold) -> Self {
        Self {
            hold,
            fails: AtomicBool::new(false),
            room: Mutex::default(),
            push_is_full: AtomicBool::new(false),
            puts: AtomicU64::new(0),
        }
    }

    fn is_full_for(&self, held: &Held) -> bool {
        let push = self.push_is_full.load(Ordering::Relaxed) && held.lane.as_str() == "push";
        push || self.room.lock().unwrap().refuses(held.message.purpose)
    }

    fn on(&self) -> Result<&MemoryHold> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Unavailable, "hold", "reach the disk"));
        }
        Ok(&self.hold)
    }
}

#[async_trait]
impl HoldStore for Flaky {
    fn name(&self) -> &'static str {
        "flaky"
    }
    fn capability(&self) -> Capability {
        self.hold.capability()
    }
    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        let hold = self.on()?;
        let mut answers = Vec::new();
        for held in messages {
            match self.is_full_for(&held) {
                true => answers.push(Put::Full),
                false => answers.extend(hold.put(vec![held], now).await?),
            }
        }
        self.puts.fetch_add(1, Ordering::Relaxed);
        Ok(answers)
    }
    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        self.on()?.lease(ask).await
    }
    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        self.on()?.settle(settlements, now).await
    }
    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        self.on()?.next_due(lane, now).await
    }
    async fn shelves(&self, lane: Option<&Lane>, due_by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        self.on()?.shelves(lane, due_by).await
    }
    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        self.on()?.find(ids).await
    }
    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        self.on()?.list(state, lane, max).await
    }
    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        self.on()?.recall(scope, now).await
    }
    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        self.on()?.kick(scope, now).await
    }
    async fn redate(
        &self,
        lane: &Lane,
        class: &Class,
        now: Timestamp,
        to: Timestamp,
    ) -> Result<u64> {
        self.on()?.redate(lane, class, now, to).await
    }
    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        self.on()?.pause(lane, paused, now).await
    }
    async fn pauses(&self) -> Result<Vec<Pause>> {
        self.on()?.pauses().await
    }
    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        self.on()?.sweep(now).await
    }
    async fn check(&self) -> Result<()> {
        self.on()?.check().await
    }
    async fn room(&self) -> Result<Room> {
        Ok(*self.room.lock().unwrap())
    }
}

/// Files nothing before the hold has been put to so often.
pub(super) struct Waiting {
    pub(super) log: MemoryLog,
    pub(super) hold: Arc<Flaky>,
    pub(super) puts: AtomicU64,
}

#[async_trait]
impl ReceiptLog for Waiting {
    async fn append(&self, receipts: Vec<Receipt>) -> Result<()> {
        while self.hold.puts.load(Ordering::Relaxed) < self.puts.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        self.log.append(receipts).await
    }
    async fn query(&self, ask: &ReceiptAsk) -> Result<Vec<Filed>> {
        self.log.query(ask).await
    }
    async fn known(&self, ids: &[MessageId]) -> Result<Vec<bool>> {
        self.log.known(ids).await
    }
}

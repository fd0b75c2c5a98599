//! A hold that can be told to fail.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate::error::{Error, Kind, Result};
use nightgate::hold::memory::MemoryHold;
use nightgate::hold::{
    Capability, Found, Held, HoldStore, Lane, LeaseAsk, Leased, Pause, Put, Recalled, Scope,
    Settle, Settled, Shelf, State,
};
use nightgate_core::{Class, MessageId};

pub(super) struct Flaky {
    pub(super) hold: MemoryHold,
    pub(super) fails: AtomicBool,
}

impl Flaky {
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
        self.on()?.put(messages, now).await
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
}

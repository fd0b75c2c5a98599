//! A hold together with its server: both live and end as one.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate_core::{Class, MessageId};

use super::Server;
use crate::error::Result;
use crate::hold::{
    Backup, Capability, Damage, Export, Found, Held, HoldStore, Lane, LeaseAsk, Leased, Pause, Put,
    Recalled, Report, Room, Scope, Settle, Settled, Shelf, State,
};

/// A hold that serves others for as long as it is used here.
pub struct Owned {
    // First, so that nobody is let in any more when the hold is given up.
    _server: Server,
    hold: Arc<dyn HoldStore>,
}

impl Owned {
    /// `hold`, and `server` kept alive with it.
    #[must_use]
    pub fn new(hold: Arc<dyn HoldStore>, server: Server) -> Self {
        Self {
            _server: server,
            hold,
        }
    }
}

#[async_trait]
impl HoldStore for Owned {
    fn name(&self) -> &'static str {
        self.hold.name()
    }

    fn capability(&self) -> Capability {
        self.hold.capability()
    }

    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        self.hold.put(messages, now).await
    }

    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        self.hold.lease(ask).await
    }

    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        self.hold.settle(settlements, now).await
    }

    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        self.hold.next_due(lane, now).await
    }

    async fn shelves(&self, lane: Option<&Lane>, due_by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        self.hold.shelves(lane, due_by).await
    }

    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        self.hold.find(ids).await
    }

    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        self.hold.list(state, lane, max).await
    }

    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        self.hold.recall(scope, now).await
    }

    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        self.hold.kick(scope, now).await
    }

    async fn redate(&self, of: &Lane, class: &Class, now: Timestamp, to: Timestamp) -> Result<u64> {
        self.hold.redate(of, class, now, to).await
    }

    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        self.hold.pause(lane, paused, now).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>> {
        self.hold.pauses().await
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        self.hold.sweep(now).await
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

    async fn verify(&self) -> Result<Report> {
        self.hold.verify().await
    }

    async fn backup(&self, to: &Path, now: Timestamp) -> Result<Backup> {
        self.hold.backup(to, now).await
    }

    async fn export(&self, from: u64, max_bytes: usize) -> Result<Export> {
        self.hold.export(from, max_bytes).await
    }
}

//! The hold through one process's eyes: it fails, stalls and dies; some mutants live here.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use nightgate::error::Result;
use nightgate::hold::{
    Capability, Found, Held, HoldStore, Lane, LeaseAsk, Leased, Pause, Put, Recalled, Scope,
    Settle, Settled, Shelf, State, Verdict,
};
use nightgate_core::{Class, MessageId};

use crate::faults::Faults;
use crate::history::What;
use crate::knobs::Mutant;
use crate::world::{World, at_once, number};

/// Where a mutant sends what it loses: nobody asks again before the simulation ends.
const NEVER: SignedDuration = SignedDuration::from_hours(24 * 365);

pub(crate) struct FaultyHold {
    pub(crate) faults: Faults,
    pub(crate) inner: Arc<dyn HoldStore>,
}

impl FaultyHold {
    fn world(&self) -> &World {
        &self.faults.world
    }

    fn put_now(&self, mut messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        if self.world().is(Mutant::HoldLosesPuts) && self.world().chance(|rng| rng.u32(0..20)) == 0
        {
            return Ok(vec![Put::New; messages.len()]);
        }
        if !self.world().is(Mutant::HoldDedupesNothing) {
            return at_once(self.inner.put(messages, now));
        }
        let mut puts = at_once(self.inner.put(messages.clone(), now))?;
        for (held, put) in messages.iter_mut().zip(&mut puts) {
            if *put == Put::Duplicate {
                held.message.id = MessageId::new(&format!("{}~2", held.message.id)).unwrap();
                at_once(self.inner.put(vec![held.clone()], now))?;
                *put = Put::New;
            }
        }
        Ok(puts)
    }

    fn lease_now(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        let mut leased = at_once(self.inner.lease(ask))?;
        for one in &mut leased {
            let id = number(one.held.message.id.as_str());
            self.world().lend(one.token, id);
            if self.world().is(Mutant::HoldForgetsLapses) {
                one.lapsed = false;
            }
            let (by, lapsed) = (self.faults.who, one.lapsed);
            self.world().note(What::Leased { id, by, lapsed });
        }
        Ok(leased)
    }

    fn settle_now(&self, mut settle: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        for one in &mut settle {
            self.twist(&mut one.verdict, now);
        }
        let mut answers = at_once(self.inner.settle(settle.clone(), now))?;
        for (one, answer) in settle.iter().zip(&mut answers) {
            if self.world().is(Mutant::HoldObeysNobodyAndSaysYes) {
                *answer = Settled::Yes;
            }
            self.world().note(What::Settled {
                id: self.world().lent(one.token),
                by: self.faults.who,
                ending: (&one.verdict).into(),
                answer: *answer,
            });
        }
        Ok(answers)
    }

    fn twist(&self, verdict: &mut Verdict, now: Timestamp) {
        let world = self.world();
        match verdict {
            Verdict::Defer { due, .. }
                if world.is(Mutant::HoldLosesDeferred)
                    && world.chance(|rng| rng.u32(0..5)) == 0 =>
            {
                *due = now + NEVER;
            }
            Verdict::Bury { .. } if world.is(Mutant::HoldKeepsBuriedMoving) => {
                *verdict = Verdict::Defer {
                    due: now,
                    attempted: false,
                };
            }
            _ => {}
        }
    }
}

#[async_trait]
impl HoldStore for FaultyHold {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capability(&self) -> Capability {
        self.inner.capability()
    }

    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        self.faults
            .around("put messages", || self.put_now(messages, now))
            .await
    }

    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        self.faults
            .around("lease messages", || self.lease_now(ask))
            .await
    }

    async fn settle(&self, settle: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        self.faults
            .around("settle loans", || self.settle_now(settle, now))
            .await
    }

    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        self.faults
            .around("ask for the next due", || {
                at_once(self.inner.next_due(lane, now))
            })
            .await
    }

    async fn shelves(&self, lane: Option<&Lane>, by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        self.faults
            .around("count shelves", || at_once(self.inner.shelves(lane, by)))
            .await
    }

    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        self.faults
            .around("find messages", || at_once(self.inner.find(ids)))
            .await
    }

    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        at_once(self.inner.list(state, lane, max))
    }

    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        if self.world().is(Mutant::HoldRecallsNothing) {
            return Ok(Recalled {
                recalled: 1,
                in_flight: 0,
            });
        }
        at_once(self.inner.recall(scope, now))
    }

    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        at_once(self.inner.kick(scope, now))
    }

    async fn redate(
        &self,
        lane: &Lane,
        class: &Class,
        now: Timestamp,
        to: Timestamp,
    ) -> Result<u64> {
        let never = self.world().is(Mutant::HoldRedatesToNever);
        let to = if never { to + NEVER } else { to };
        let call = || at_once(self.inner.redate(lane, class, now, to));
        self.faults.around("redate shelves", call).await
    }

    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        at_once(self.inner.pause(lane, paused, now))
    }

    async fn pauses(&self) -> Result<Vec<Pause>> {
        if self.world().is(Mutant::HoldForgetsPauses) {
            return Ok(Vec::new());
        }
        self.faults
            .around("read pauses", || at_once(self.inner.pauses()))
            .await
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        at_once(self.inner.sweep(now))
    }

    async fn check(&self) -> Result<()> {
        at_once(self.inner.check())
    }
}

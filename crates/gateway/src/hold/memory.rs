//! The hold in memory: for tests, the simulator and the demo. Deterministic, and plain enough to be
//! the yardstick of the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Class, MessageId, Priority, Purpose};

use super::instant::storable;
use super::{
    Capability, Found, Held, HoldStore, Lane, LeaseAsk, Leased, Pause, Pick, Put, Recalled, Scope,
    Settle, Settled, Shelf, State, Token, Verdict,
};
use crate::error::Result;

/// The hold in memory. Nothing survives it.
#[derive(Debug)]
pub struct MemoryHold {
    horizon: SignedDuration,
    rows: Mutex<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    last_seq: u64,
    by_seq: BTreeMap<u64, Row>,
    by_id: HashMap<MessageId, u64>,
    /// Held messages in the order in which they are lent.
    queue: BTreeSet<(Lane, Priority, Timestamp, u64)>,
    loans: BTreeSet<u64>,
    /// The global stop is the one without a lane.
    pauses: BTreeMap<Option<Lane>, Timestamp>,
}

#[derive(Clone, Debug)]
struct Row {
    held: Held,
    state: State,
    lease: u64,
    until: Timestamp,
    attempts: u32,
    lapsed: bool,
    recall: bool,
    ended_at: Option<Timestamp>,
    why: Option<String>,
}

impl Row {
    fn new(held: Held) -> Self {
        Self {
            held,
            state: State::Held,
            lease: 0,
            until: Timestamp::MIN,
            attempts: 0,
            lapsed: false,
            recall: false,
            ended_at: None,
            why: None,
        }
    }

    fn place(&self, seq: u64) -> (Lane, Priority, Timestamp, u64) {
        (
            self.held.lane.clone(),
            self.held.message.priority,
            self.held.due,
            seq,
        )
    }

    fn is_live(&self) -> bool {
        matches!(self.state, State::Held | State::Leased | State::Buried)
    }

    fn is_within(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Id(id) => self.held.message.id == *id,
            Scope::Campaign(name) => self.held.message.campaign.as_ref() == Some(name),
            Scope::Recipient(key) => self.held.key == *key,
            Scope::Lane(lane) => self.held.lane == *lane,
        }
    }

    fn is_picked(&self, pick: Pick<'_>) -> bool {
        let message = &self.held.message;
        match pick {
            Pick::Any => true,
            Pick::Campaign(purpose, campaign) => {
                message.purpose == purpose && message.campaign.as_deref() == campaign
            }
        }
    }

    fn found(&self) -> Found {
        Found {
            held: self.held.clone(),
            state: self.state,
            attempts: self.attempts,
            lapsed: self.state == State::Held && self.lapsed,
            why: self.why.clone(),
        }
    }
}

impl Rows {
    /// Gives a message its new state; the one place that keeps `queue` and `loans` in step.
    fn turn(&mut self, seq: u64, state: State, change: impl FnOnce(&mut Row)) {
        let Some(row) = self.by_seq.get_mut(&seq) else {
            return;
        };
        self.queue.remove(&row.place(seq));
        self.loans.remove(&seq);
        change(row);
        row.state = state;
        match state {
            State::Held => drop(self.queue.insert(row.place(seq))),
            State::Leased => drop(self.loans.insert(seq)),
            _ => {}
        }
    }

    /// Lets a message arrive anew, behind all others; says its new number.
    fn anew(&mut self, seq: u64) -> u64 {
        let Some(row) = self.by_seq.remove(&seq) else {
            return seq;
        };
        self.queue.remove(&row.place(seq));
        self.loans.remove(&seq);
        self.last_seq += 1;
        let seq = self.last_seq;
        self.by_id.insert(row.held.message.id.clone(), seq);
        self.by_seq.insert(seq, row);
        seq
    }

    fn end(&mut self, seq: u64, state: State, now: Timestamp) {
        self.turn(seq, state, |row| {
            row.held.message.body = Bytes::new();
            row.held.message.attributes.clear();
            row.ended_at = Some(now);
        });
    }

    fn forget(&mut self, seq: u64) {
        if let Some(row) = self.by_seq.remove(&seq) {
            self.by_id.remove(&row.held.message.id);
        }
    }

    /// Takes back loans that are over at `now`.
    fn reclaim(&mut self, lane: Option<&Lane>, now: Timestamp) {
        let over = |seq: &u64| {
            let row = &self.by_seq[seq];
            row.until <= now && lane.is_none_or(|lane| row.held.lane == *lane)
        };
        let over: Vec<u64> = self.loans.iter().copied().filter(over).collect();
        for seq in over {
            if self.by_seq[&seq].recall {
                self.turn(seq, State::Held, |row| row.lapsed = true);
                self.end(seq, State::Recalled, now);
            } else {
                self.turn(seq, State::Held, |row| row.lapsed = true);
            }
        }
    }

    fn pick(&self, ask: &LeaseAsk<'_>) -> Vec<u64> {
        let mut picked = Vec::new();
        for priority in (0..=Priority::LAST).filter_map(|value| Priority::new(value).ok()) {
            let from = (ask.lane.clone(), priority, Timestamp::MIN, 0);
            let to = (ask.lane.clone(), priority, ask.now, u64::MAX);
            let due = self.queue.range(from..=to).map(|&(_, _, _, seq)| seq);
            let wanted = due.filter(|seq| self.by_seq[seq].is_picked(ask.pick));
            picked.extend(wanted.take(ask.max - picked.len()));
        }
        picked
    }

    fn lend(&mut self, seq: u64, until: Timestamp) -> Leased {
        self.turn(seq, State::Leased, |row| {
            row.lease += 1;
            row.until = until;
        });
        let row = &self.by_seq[&seq];
        Leased {
            token: Token {
                seq,
                lease: row.lease,
            },
            held: row.held.clone(),
            until,
            attempts: row.attempts,
            lapsed: row.lapsed,
        }
    }

    fn settle(&mut self, token: Token, verdict: Verdict, now: Timestamp) -> Settled {
        let running =
            |row: &&Row| row.state == State::Leased && row.lease == token.lease && row.until > now;
        let Some(row) = self.by_seq.get(&token.seq).filter(running) else {
            return Settled::Lapsed;
        };
        let (mut seq, recall) = (token.seq, row.recall);
        match verdict {
            Verdict::Done(how) => self.end(seq, State::ended(how), now),
            Verdict::Defer { due, attempted } => {
                let attempts = row.attempts + u32::from(attempted);
                let due = if recall { row.held.due } else { storable(due) };
                seq = self.anew(seq);
                self.turn(seq, State::Held, |row| {
                    row.held.due = due;
                    row.attempts = attempts;
                });
            }
            Verdict::Bury { why } => {
                seq = self.anew(seq);
                self.turn(seq, State::Buried, |row| row.why = Some(why));
            }
        }
        if recall && self.by_seq[&seq].is_live() {
            self.end(seq, State::Recalled, now);
        }
        Settled::Yes
    }

    fn within(&self, scope: &Scope, state: State) -> Vec<u64> {
        let wanted = |row: &Row| row.state == state && row.is_within(scope);
        self.by_seq
            .iter()
            .filter(|(_, row)| wanted(row))
            .map(|(seq, _)| *seq)
            .collect()
    }
}

impl MemoryHold {
    /// An empty hold that remembers ended ids for `horizon`.
    #[must_use]
    pub fn new(horizon: SignedDuration) -> Self {
        Self {
            horizon,
            rows: Mutex::default(),
        }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_forgotten(&self, row: &Row, now: Timestamp) -> bool {
        row.ended_at
            .is_some_and(|at| now.duration_since(at) > self.horizon)
    }
}

#[async_trait]
impl HoldStore for MemoryHold {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capability(&self) -> Capability {
        Capability {
            durable: false,
            dedupe: true,
            order: true,
            pick: true,
            exact_depth: true,
            find: true,
            ended: true,
            files: false,
            prompt: true,
            recall: true,
            redate: true,
        }
    }

    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        let mut rows = self.rows();
        let mut answers = Vec::with_capacity(messages.len());
        for mut held in messages {
            if let Some(&seq) = rows.by_id.get(&held.message.id) {
                if !self.is_forgotten(&rows.by_seq[&seq], now) {
                    answers.push(Put::Duplicate);
                    continue;
                }
                rows.forget(seq);
            }
            held.due = storable(held.due);
            rows.last_seq += 1;
            let seq = rows.last_seq;
            rows.by_id.insert(held.message.id.clone(), seq);
            rows.by_seq.insert(seq, Row::new(held));
            rows.turn(seq, State::Held, |_| {});
            answers.push(Put::New);
        }
        Ok(answers)
    }

    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        let mut rows = self.rows();
        rows.reclaim(Some(ask.lane), ask.now);
        let until = ask.now.saturating_add(ask.ttl).unwrap_or(Timestamp::MAX);
        let until = storable(until);
        Ok(rows
            .pick(ask)
            .into_iter()
            .map(|seq| rows.lend(seq, until))
            .collect())
    }

    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        let mut rows = self.rows();
        let settle = |one: Settle| rows.settle(one.token, one.verdict, now);
        Ok(settlements.into_iter().map(settle).collect())
    }

    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        let rows = self.rows();
        let held = rows
            .queue
            .iter()
            .filter(|place| place.0 == *lane)
            .map(|place| place.2);
        let loans = rows.loans.iter().map(|seq| &rows.by_seq[seq]);
        let loans = loans
            .filter(|row| row.held.lane == *lane)
            .map(|row| row.until);
        Ok(held.chain(loans).min().map(|at| at.max(now)))
    }

    async fn shelves(&self, lane: Option<&Lane>, due_by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        type Key = (
            Lane,
            Priority,
            Timestamp,
            &'static str,
            Class,
            Option<Arc<str>>,
        );
        let rows = self.rows();
        let mut shelves: BTreeMap<Key, Shelf> = BTreeMap::new();
        for row in rows.by_seq.values() {
            let Held {
                message,
                lane: of,
                class,
                due,
                ..
            } = &row.held;
            let shown = lane.is_none_or(|lane| lane == of) && due_by.is_none_or(|by| *due <= by);
            if !row.is_live() || !shown {
                continue;
            }
            let (purpose, campaign): (Purpose, _) = (message.purpose, message.campaign.clone());
            let (of, class, priority) = (of.clone(), class.clone(), message.priority);
            let name = purpose.as_str();
            let key = (
                of.clone(),
                priority,
                *due,
                name,
                class.clone(),
                campaign.clone(),
            );
            let shelf = shelves.entry(key).or_insert_with(|| Shelf {
                lane: of,
                purpose,
                class,
                campaign,
                priority: priority.get(),
                due: *due,
                held: 0,
                leased: 0,
                buried: 0,
            });
            match row.state {
                State::Held => shelf.held += 1,
                State::Leased => shelf.leased += 1,
                _ => shelf.buried += 1,
            }
        }
        Ok(shelves.into_values().collect())
    }

    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        let rows = self.rows();
        let find = |id| rows.by_id.get(id).map(|seq| rows.by_seq[seq].found());
        Ok(ids.iter().map(find).collect())
    }

    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        let rows = self.rows();
        let wanted =
            |row: &&Row| row.state == state && lane.is_none_or(|lane| row.held.lane == *lane);
        let bodiless = |row: &Row| {
            let mut found = row.found();
            found.held.message.body = Bytes::new();
            found
        };
        Ok(rows
            .by_seq
            .values()
            .filter(wanted)
            .take(max)
            .map(bodiless)
            .collect())
    }

    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        let mut rows = self.rows();
        rows.reclaim(None, now);
        let mut answer = Recalled::default();
        for state in [State::Held, State::Buried] {
            for seq in rows.within(scope, state) {
                rows.end(seq, State::Recalled, now);
                answer.recalled += 1;
            }
        }
        for seq in rows.within(scope, State::Leased) {
            let row = rows.by_seq.get_mut(&seq).filter(|row| !row.recall);
            if let Some(row) = row {
                row.recall = true;
                answer.in_flight += 1;
            }
        }
        Ok(answer)
    }

    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        let mut rows = self.rows();
        let buried = rows.within(scope, State::Buried);
        for &seq in &buried {
            let seq = rows.anew(seq);
            rows.turn(seq, State::Held, |row| {
                row.held.due = storable(now);
                row.attempts = 0;
                row.lapsed = false;
                row.why = None;
            });
        }
        Ok(buried.len() as u64)
    }

    async fn redate(
        &self,
        lane: &Lane,
        class: &Class,
        now: Timestamp,
        to: Timestamp,
    ) -> Result<u64> {
        let mut rows = self.rows();
        let moves = |row: &Row| {
            let held = &row.held;
            row.is_live() && held.lane == *lane && held.class == *class && held.due <= now
        };
        let moved: Vec<(u64, State)> = rows
            .by_seq
            .iter()
            .filter(|(_, row)| moves(row))
            .map(|(seq, row)| (*seq, row.state))
            .collect();
        for &(seq, state) in &moved {
            rows.turn(seq, state, |row| row.held.due = storable(to));
        }
        Ok(moved
            .iter()
            .filter(|(_, state)| *state == State::Held)
            .count() as u64)
    }

    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        let mut rows = self.rows();
        if paused {
            rows.pauses.entry(lane.cloned()).or_insert(now);
        } else {
            rows.pauses.remove(&lane.cloned());
        }
        Ok(())
    }

    async fn pauses(&self) -> Result<Vec<Pause>> {
        let rows = self.rows();
        let pause = |(lane, since): (&Option<Lane>, &Timestamp)| Pause {
            lane: lane.clone(),
            since: *since,
        };
        Ok(rows.pauses.iter().map(pause).collect())
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        let mut rows = self.rows();
        let old = rows
            .by_seq
            .iter()
            .filter(|(_, row)| self.is_forgotten(row, now));
        let old: Vec<u64> = old.map(|(seq, _)| *seq).collect();
        for &seq in &old {
            rows.forget(seq);
        }
        Ok(old.len() as u64)
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

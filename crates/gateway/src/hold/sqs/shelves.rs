//! Counts. SQS knows neither purpose nor due, and its counts are approximate, so a lane shows two
//! shelves a queue: what is worth asking for now, and the rest, by when it is worth asking.
//!
//! Every shelf says `advertising`, which is what is held for long, and the class `sqs`.

use std::time::Duration;

use jiff::Timestamp;
use nightgate_core::{Class, Priority, Purpose};

use super::lane::{LaneQueues, Place, READY};
use super::{SqsHold, failed};
use crate::aws::queues::{BATCH_MAX, Look};
use crate::error::Result;
use crate::hold::due::shelf_of_now;
use crate::hold::{Lane, Shelf};

/// The class of every shelf.
const CLASS: &str = "sqs";
/// Counts are asked for again after so long, of monotonic time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same of a ready queue in which there was nothing for [`IDLE_AFTER`]: what this process puts
/// it knows of by itself, so this is how late it notices what another one put.
const LOOK_EVERY_IDLE: Duration = Duration::from_secs(5);
const IDLE_AFTER: Duration = Duration::from_secs(60);
/// The same of wait queues in which nothing is due, and of what is buried.
const LOOK_SELDOM: Duration = Duration::from_secs(10);

impl SqsHold {
    /// When something of a lane is next worth asking for.
    pub(super) fn next_worth(&self, lane: &LaneQueues, now: Timestamp) -> Timestamp {
        self.purge(now);
        let places = lane.places.iter().map(|place| place.state().worth.next());
        let early = lane.early().iter().map(|one| one.letter.held.due).min();
        let end = self.loans().first_end(&lane.lane);
        places.chain(early).chain(end).min().unwrap_or(now).max(now)
    }

    pub(super) async fn depth(
        &self,
        lane: Option<&Lane>,
        due_by: Option<Timestamp>,
    ) -> Result<Vec<Shelf>> {
        let now = due_by.unwrap_or_else(|| self.clock.now());
        self.purge(now);
        let mut shelves = Vec::new();
        for of in self.lanes.values() {
            if lane.is_none_or(|lane| *lane == of.lane) {
                shelves.extend(self.lane_depth(of, now).await?);
            }
        }
        shelves.retain(|shelf| due_by.is_none_or(|by| shelf.due <= by));
        shelves.sort_by(|a, b| (&a.lane, a.due).cmp(&(&b.lane, b.due)));
        Ok(shelves)
    }

    async fn lane_depth(&self, lane: &LaneQueues, now: Timestamp) -> Result<Vec<Shelf>> {
        let shelf = |due| Shelf {
            lane: lane.lane.clone(),
            purpose: Purpose::Advertising,
            class: Class::from_name(CLASS),
            campaign: None,
            priority: Priority::default().get(),
            due,
            held: 0,
            leased: 0,
            buried: 0,
        };
        let mut due = shelf(shelf_of_now(now));
        let mut later = Vec::new();
        for (at, place) in lane.places.iter().enumerate() {
            let look = self.look(at, place, now).await?;
            let loans = match at {
                READY => look.in_flight,
                _ if place.is_open(now) => {
                    let hidden = place.state().hidden(now);
                    look.in_flight.saturating_sub(hidden)
                }
                _ => self.loans().of(&lane.lane, at).min(look.in_flight),
            };
            let all = look.visible + look.delayed + look.in_flight - loans;
            let now_due = due_part(place, &look, now);
            due.held += now_due;
            due.leased += loans;
            let rest = all.saturating_sub(now_due);
            if rest > 0 {
                let state = place.state();
                let next = state.worth.next_known(now);
                let next = next.unwrap_or_else(|| state.worth.next());
                let mut shelf = shelf(next.max(now + jiff::SignedDuration::from_nanos(1)));
                shelf.held = rest;
                later.push(shelf);
            }
        }
        due.buried = self.buried(lane).await?;
        if due.held + due.leased + due.buried > 0 {
            later.push(due);
        }
        Ok(later)
    }

    /// How many messages of a lane are buried, as of some seconds ago.
    async fn buried(&self, lane: &LaneQueues) -> Result<u64> {
        let monotonic = self.clock.monotonic();
        let kept = *lane.buried_count();
        if let Some((at, count)) = kept
            && monotonic.saturating_sub(at) < LOOK_SELDOM
        {
            return Ok(count);
        }
        let look = self.queues.look(&lane.buried).await;
        let look = look.map_err(|fault| failed(format!("look at {}", lane.buried), fault))?;
        let count = look.visible + look.in_flight + look.delayed;
        *lane.buried_count() = Some((monotonic, count));
        Ok(count)
    }

    /// Whether no lane has anything to lend, as far as was known lately. Then a stop has nothing to
    /// bite on.
    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        let idle = |(at, place): (usize, &Place)| {
            let state = place.state();
            let nothing = match at == READY || state.worth.asks(now) {
                true => state.is_empty(),
                false => true,
            };
            nothing && state.fresh == 0 && !state.worth.is_sure(now)
        };
        let mut lanes = self.lanes.values();
        lanes.all(|lane| lane.places.iter().enumerate().all(idle))
    }

    /// The counts of a queue: a second old at most, some seconds where nothing is due in it.
    async fn look(&self, at: usize, place: &Place, now: Timestamp) -> Result<Look> {
        let monotonic = self.clock.monotonic();
        let kept = place.state().look.clone();
        let every = look_every(at, place, now, monotonic);
        let fresh = |at: Duration| monotonic.saturating_sub(at) < every;
        if let Some((_, look)) = kept.filter(|(at, _)| fresh(*at)) {
            return Ok(look);
        }
        let looked = self.queues.look(&place.queue).await;
        let op = || format!("look at the queue {}", place.queue);
        let look = looked.map_err(|fault| failed(op(), fault))?;
        let mut state = place.state();
        let before = state.look.replace((monotonic, look.clone()));
        if !state.is_empty() {
            state.busy_at = Some(monotonic);
        }
        let more = before.is_some_and(|(_, before)| before.visible < look.visible);
        let now = self.clock.now();
        if more && (place.opening.is_none() || place.is_open(now)) {
            // Somebody sent something, or something came back. What is sent to the queue of an
            // opening is due then; only what comes back is due before.
            state.worth.note(now);
        }
        Ok(look)
    }
}

/// How old the counts of a queue may be.
fn look_every(at: usize, place: &Place, now: Timestamp, monotonic: Duration) -> Duration {
    let state = place.state();
    if state.worth.asks(now) && (at != READY || state.fresh > 0) || state.worth.is_sure(now) {
        return LOOK_EVERY;
    }
    let busy = state
        .busy_at
        .is_some_and(|at| monotonic.saturating_sub(at) < IDLE_AFTER);
    match at {
        READY if busy => LOOK_EVERY,
        READY => LOOK_EVERY_IDLE,
        _ if place.is_open(now) && busy => LOOK_EVERY,
        _ => LOOK_SELDOM,
    }
}

/// How many messages of a queue are taken to be due.
fn due_part(place: &Place, look: &Look, now: Timestamp) -> u64 {
    let mut state = place.state();
    if !state.worth.asks(now) {
        return 0;
    }
    let news = state.worth.is_news(now);
    let there = look.visible.max(if news { state.fresh } else { 0 });
    if state.worth.is_sure(now) && (there > 0 || news) {
        return there.max(1);
    }
    if there == 0 {
        // As good as asking, for less.
        state.worth.empty(now);
        drop(state);
        place.note_opening(now);
    }
    // Not known to be due: one request's worth is looked at.
    there.min(BATCH_MAX as u64)
}

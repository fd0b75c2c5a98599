//! Counts. SQS knows neither purpose nor due, and its counts are approximate, so a lane shows two
//! shelves a queue: what is worth asking for now, and the rest, by when it is worth asking.
//!
//! Every shelf says `advertising`, which is what is held for long, and the class `sqs`.

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
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

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
            let look = self.look(place).await?;
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
        let buried = self.queues.look(&lane.buried).await;
        let buried = buried.map_err(|fault| failed(format!("look at {}", lane.buried), fault))?;
        due.buried = buried.visible + buried.in_flight + buried.delayed;
        if due.held + due.leased + due.buried > 0 {
            later.push(due);
        }
        Ok(later)
    }

    /// The counts of a queue, at most a second old.
    async fn look(&self, place: &Place) -> Result<Look> {
        let monotonic = self.clock.monotonic();
        let kept = place.state().look.clone();
        let fresh = |at: std::time::Duration| monotonic.saturating_sub(at) < LOOK_EVERY;
        if let Some((_, look)) = kept.filter(|(at, _)| fresh(*at)) {
            return Ok(look);
        }
        let looked = self.queues.look(&place.queue).await;
        let op = || format!("look at the queue {}", place.queue);
        let look = looked.map_err(|fault| failed(op(), fault))?;
        let mut state = place.state();
        let before = state.look.replace((monotonic, look.clone()));
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

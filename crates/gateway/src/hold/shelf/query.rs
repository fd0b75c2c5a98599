//! Answers that change nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use nightgate_core::{Class, MessageId};
use nightgate_log::journal::Ticket;

use super::fault::Outcome;
use super::lease::key_of;
use super::op::{Label, Stretch};
use super::reader::Unread;
use super::segment::Block;
use super::state::Standing;
use super::store::{Core, Inner};
use super::walk::Walk;
use crate::hold::instant::{instant, nanos};
use crate::hold::{Found, Lane, Pause, Shelf as Row, State as Known};

/// What a person reads about a message that is lost to damage.
const DAMAGED: &str = "damaged on disk: see `nightgate hold verify`";

/// A message to be shown.
struct Shown {
    segment: u32,
    block: Block,
    slot: usize,
    label: Label,
    due: i64,
    standing: Standing,
}

/// Order of rows: lane, priority, due, then whatever else tells shelves apart.
type RowKey = (Lane, u8, i64, &'static str, Class, Option<Arc<str>>);

impl Inner {
    pub(super) fn find(&self, ids: &[MessageId]) -> Outcome<(Vec<Option<Found>>, Ticket)> {
        let core = self.core();
        let ticket = self.journal.last_ticket();
        let mut shown = Vec::with_capacity(ids.len());
        for id in ids {
            let hash = core.ids.key().hash(id.as_str().as_bytes());
            let spot = self.newest(&core, hash, id)?;
            shown.push(match spot {
                Some(spot) => self.shown(&core, spot.segment, spot.block, spot.place)?,
                None => None,
            });
        }
        drop(core);
        let found = shown.into_iter().map(|shown| match shown {
            Some(shown) => self.found(&shown, true),
            None => Ok(None),
        });
        Ok((found.collect::<Outcome<_>>()?, ticket))
    }

    /// What is known of the message at `place`, unless it was forgotten.
    fn shown(&self, core: &Core, segment: u32, block: Block, place: u64) -> Outcome<Option<Shown>> {
        let shelf = core.shelf(block.line.shelf)?;
        let standing = core.state.standing(place, shelf);
        if standing.known.is_none() {
            return Ok(None);
        }
        let due = standing
            .epoch
            .map_or(shelf.label.due, |epoch| shelf.due_in(epoch));
        Ok(Some(Shown {
            segment,
            slot: usize::try_from(place - block.first).unwrap_or(usize::MAX),
            block,
            label: shelf.label.clone(),
            due,
            standing,
        }))
    }

    fn found(&self, shown: &Shown, whole: bool) -> Outcome<Option<Found>> {
        let Some(state) = shown.standing.known else {
            return Ok(None);
        };
        let unread = |why| match why {
            Unread::Failed(error) => Err(error),
            // Its head is gone: nobody can say whose it was.
            Unread::Damaged(_) => Ok(None),
        };
        let (segment, block, slot) = (shown.segment, &shown.block, shown.slot);
        let head = match self.reader.head(segment, block) {
            Ok(head) => head,
            Err(why) => return unread(why),
        };
        let mut held = head.held(slot, &key_of(&shown.label), instant(shown.due));
        let mut why = head.why(slot).map(str::to_owned);
        if shown.standing.damaged {
            why = Some(DAMAGED.to_owned());
        } else if whole && shown.standing.ended.is_none() {
            match self.reader.body(segment, block) {
                Ok(body) => {
                    held.message.body = body.bytes(slot);
                    held.message.attributes = body.attributes(slot);
                }
                Err(Unread::Failed(error)) => return Err(error),
                Err(Unread::Damaged(_)) => why = Some(DAMAGED.to_owned()),
            }
        } else if shown.standing.ended.is_none() {
            // Lists show attributes and leave bodies out.
            if let Ok(body) = self.reader.body(segment, block) {
                held.message.attributes = body.attributes(slot);
            }
        }
        let attempts = head.attempts(slot);
        let lapsed = shown.standing.returned || state == Known::Held && head.lapsed(slot);
        Ok(Some(Found {
            held,
            state,
            attempts,
            lapsed,
            why,
        }))
    }

    pub(super) fn list(
        &self,
        state: Known,
        lane: Option<&Lane>,
        max: usize,
    ) -> Outcome<(Vec<Found>, Ticket)> {
        let core = self.core();
        let ticket = self.journal.last_ticket();
        let mut places = match state {
            Known::Held | Known::Buried => self.standing_on(&core, state, lane, max)?,
            Known::Leased => self.on_loan(&core, lane)?,
            _ => self.ended(&core, state, lane, max)?,
        };
        places.sort_by_key(|(arrival, ..)| *arrival);
        places.truncate(max);
        let mut shown = Vec::with_capacity(places.len());
        for (_, segment, block, place) in places {
            shown.extend(self.shown(&core, segment, block, place)?);
        }
        drop(core);
        let found = shown
            .iter()
            .filter_map(|shown| self.found(shown, false).transpose());
        Ok((found.collect::<Outcome<_>>()?, ticket))
    }

    /// The first `max` held or buried places of each shelf.
    fn standing_on(
        &self,
        core: &Core,
        state: Known,
        lane: Option<&Lane>,
        max: usize,
    ) -> Outcome<Vec<Listed>> {
        let mut listed = Vec::new();
        if state == Known::Buried {
            self.damaged(core, lane, &mut listed)?;
        }
        for (&no, shelf) in core.state.shelves.all() {
            let is_meant = shelf.label.buried == (state == Known::Buried)
                && lane.is_none_or(|lane| *lane == shelf.label.lane);
            if !is_meant {
                continue;
            }
            let mut walk = Walk::along(&core.state, no);
            let mut left = max;
            while left > 0
                && let Some(piece) = walk.next(&core.state, &self.reader)?
            {
                for place in (piece.from..piece.to).take(left) {
                    left -= 1;
                    self.list_place(piece.segment, piece.block, place, &mut listed)?;
                }
            }
        }
        Ok(listed)
    }

    /// Damaged places, which are shown among the buried.
    fn damaged(&self, core: &Core, lane: Option<&Lane>, listed: &mut Vec<Listed>) -> Outcome<()> {
        for (stretch, _) in &core.state.damaged {
            let shelf = core.shelf(stretch.shelf)?;
            if lane.is_some_and(|lane| *lane != shelf.label.lane) {
                continue;
            }
            for place in stretch.from..stretch.to {
                let segment = core.segment_of(place)?;
                let block = self.reader.block(segment, place)?;
                self.list_place(segment.no, block, place, listed)?;
            }
        }
        Ok(())
    }

    fn list_place(
        &self,
        segment: u32,
        block: Block,
        place: u64,
        listed: &mut Vec<Listed>,
    ) -> Outcome<()> {
        let slot = usize::try_from(place - block.first).unwrap_or(usize::MAX);
        match self.reader.head(segment, &block) {
            Ok(head) => {
                let arrival = block.base + u64::from(head.arrival(slot));
                listed.push((arrival, segment, block, place));
                Ok(())
            }
            Err(Unread::Damaged(_)) => Ok(()),
            Err(Unread::Failed(error)) => Err(error),
        }
    }

    fn on_loan(&self, core: &Core, lane: Option<&Lane>) -> Outcome<Vec<Listed>> {
        let mut listed = Vec::new();
        for (_, loan) in core.state.loans.iter() {
            if lane.is_some_and(|lane| *lane != loan.lane) {
                continue;
            }
            for Stretch { from, to, .. } in loan.out() {
                for place in from..to {
                    let segment = core.segment_of(place)?;
                    let block = self.reader.block(segment, place)?;
                    self.list_place(segment.no, block, place, &mut listed)?;
                }
            }
        }
        Ok(listed)
    }

    /// At least the first `max` places that ended so: whole frames, since arrivals only differ
    /// from places within one.
    fn ended(
        &self,
        core: &Core,
        state: Known,
        lane: Option<&Lane>,
        max: usize,
    ) -> Outcome<Vec<Listed>> {
        let mut listed = Vec::new();
        let mut frame = None;
        for segment in core
            .state
            .segments
            .iter()
            .filter(|segment| segment.ledger.kept > 0)
        {
            let blocks: Vec<Block> = self.reader.ask(segment, |index| index.blocks().to_vec())?;
            for block in blocks {
                if listed.len() >= max && frame != Some(block.base) {
                    return Ok(listed);
                }
                frame = Some(block.base);
                let shelf = core.shelf(block.line.shelf)?;
                if lane.is_some_and(|lane| *lane != shelf.label.lane) {
                    continue;
                }
                for place in block.first..block.end() {
                    let standing = core.state.standing(place, shelf);
                    if standing.known == Some(state) && !standing.damaged {
                        self.list_place(segment.no, block, place, &mut listed)?;
                    }
                }
            }
        }
        Ok(listed)
    }

    pub(super) fn rows(
        &self,
        lane: Option<&Lane>,
        due_by: Option<Timestamp>,
    ) -> Outcome<(Vec<Row>, Ticket)> {
        let core = self.core();
        let ticket = self.journal.last_ticket();
        let mut rows: BTreeMap<RowKey, Row> = BTreeMap::new();
        for shelf in core.state.shelves.all().values() {
            let label = &shelf.label;
            let is_meant = lane.is_none_or(|lane| *lane == label.lane)
                && due_by.is_none_or(|by| label.due <= nanos(by))
                && shelf.held + shelf.leased + shelf.damaged > 0;
            if !is_meant {
                continue;
            }
            let key = (
                label.lane.clone(),
                label.priority.get(),
                label.due,
                label.purpose.as_str(),
                label.class.clone(),
                label.campaign.clone(),
            );
            let row = rows.entry(key).or_insert_with(|| Row {
                lane: label.lane.clone(),
                purpose: label.purpose,
                class: label.class.clone(),
                campaign: label.campaign.clone(),
                priority: label.priority.get(),
                due: instant(label.due),
                held: 0,
                leased: 0,
                buried: 0,
            });
            match label.buried {
                true => row.buried += shelf.held,
                false => row.held += shelf.held,
            }
            row.leased += shelf.leased;
            row.buried += shelf.damaged;
        }
        Ok((rows.into_values().collect(), ticket))
    }

    pub(super) fn next_due(
        &self,
        lane: &Lane,
        now: Timestamp,
    ) -> Outcome<(Option<Timestamp>, Ticket)> {
        let core = self.core();
        let dues = core.state.shelves.ready(lane).map(|turn| turn.1);
        let loans = core
            .state
            .loans
            .iter()
            .filter(|(_, loan)| loan.lane == *lane);
        let next = dues.chain(loans.map(|(_, loan)| loan.until)).min();
        let next = next.map(|at| instant(at).max(now));
        Ok((next, self.journal.last_ticket()))
    }

    pub(super) fn pauses(&self) -> Outcome<(Vec<Pause>, Ticket)> {
        let core = self.core();
        let pauses = core.state.pauses.iter().map(|(lane, &since)| Pause {
            lane: lane.clone(),
            since: instant(since),
        });
        Ok((pauses.collect(), self.journal.last_ticket()))
    }
}

/// A place in a list: arrival, segment, block, place.
type Listed = (u64, u32, Block, u64);

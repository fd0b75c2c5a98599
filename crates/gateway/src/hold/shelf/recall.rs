//! Taking back, bringing back, moving, stopping and forgetting.

use std::sync::Arc;

use jiff::Timestamp;
use nightgate_core::{Class, RecipientKey};
use nightgate_log::journal::Ticket;

use super::fault::Outcome;
use super::lease::labels;
use super::marks::Fate;
use super::op::{Label, Op, Stretch};
use super::reader::Unread;
use super::segment::{Block, Segment};
use super::settle::Again;
use super::store::{Core, Inner, joined};
use super::walk::{Piece, Walk};
use crate::hold::instant::{nanos, storable};
use crate::hold::{Lane, Recalled, Scope, State as Known};

/// Messages brought back by one frame.
const KICK_CHUNK: usize = 1_024;

/// Places, each with its shelf.
type Places = Vec<(u64, u32)>;

/// Whether everything on a shelf is within `scope`.
fn takes_all(label: &Label, scope: &Scope) -> bool {
    match scope {
        Scope::Campaign(name) => label.campaign.as_ref() == Some(name),
        Scope::Lane(lane) => label.lane == *lane,
        Scope::Id(_) | Scope::Recipient(_) => false,
    }
}

impl Inner {
    pub(super) fn recall(&self, scope: &Scope, now: Timestamp) -> Outcome<(Recalled, Ticket)> {
        let (found, searched) = match scope {
            Scope::Recipient(key) => self.sealed_places_of(key)?,
            _ => Default::default(),
        };
        let mut core = self.core();
        self.reclaim(&mut core, None, now)?;
        let (mut ops, mut answer) = (Vec::new(), Recalled::default());
        match scope {
            Scope::Id(id) => {
                let hash = core.ids.key().hash(id.as_str().as_bytes());
                let spot = self.newest(&core, hash, id)?;
                let places = spot.map(|spot| (spot.place, spot.block.line.shelf));
                self.take_back(
                    &core,
                    places.into_iter().collect(),
                    now,
                    &mut ops,
                    &mut answer,
                )?;
            }
            Scope::Recipient(key) => {
                let mut places = found;
                places.extend(self.other_places_of(&core, key, &searched)?);
                self.take_back(&core, places, now, &mut ops, &mut answer)?;
            }
            Scope::Campaign(_) | Scope::Lane(_) => clear(&core, scope, now, &mut ops, &mut answer),
        }
        let (ticket, _) = self.commit_ops(&mut core, ops)?;
        Ok((answer, ticket))
    }

    /// Takes single places back: at once where they are held, on return where they are on loan.
    fn take_back(
        &self,
        core: &Core,
        places: Vec<(u64, u32)>,
        now: Timestamp,
        ops: &mut Vec<Op>,
        answer: &mut Recalled,
    ) -> Outcome<()> {
        let mut ends = Vec::new();
        for (place, no) in places {
            let standing = core.state.standing(place, core.shelf(no)?);
            match standing.known {
                Some(Known::Held | Known::Buried) if !standing.damaged => ends.push((place, no)),
                Some(Known::Leased) => {
                    let Some((lease, loan)) = core.state.loans.of(place) else {
                        continue;
                    };
                    if !loan.wanted.contains(place) {
                        answer.in_flight += 1;
                        let stretches = joined(vec![(place, no)]);
                        ops.push(Op::WantBack { lease, stretches });
                    }
                }
                _ => {}
            }
        }
        answer.recalled += ends.len() as u64;
        if !ends.is_empty() {
            let (fate, at, stretches) = (Fate::Recalled, nanos(now), joined(ends));
            ops.push(Op::End {
                fate,
                at,
                stretches,
            });
        }
        Ok(())
    }

    /// Places in sealed segments that were written for one recipient and may be held: read without
    /// the lock, since these segments change no more.
    /// Also says which segments those were.
    fn sealed_places_of(&self, key: &RecipientKey) -> Outcome<(Places, Vec<u32>)> {
        let sealed: Vec<Segment> = {
            let core = self.core();
            let all = core.state.segments.iter();
            all.filter(|one| one.is_sealed() && one.ledger.open > 0)
                .cloned()
                .collect()
        };
        let mut places = Vec::new();
        let searched = sealed.iter().map(|segment| segment.no).collect();
        for segment in sealed {
            let blocks: Vec<Block> = self.reader.ask(&segment, |index| index.blocks().to_vec())?;
            let marks = &segment.ledger.marks;
            let blocks = blocks
                .into_iter()
                .filter(|block| !marks.cover(block.first, block.end()));
            for block in blocks {
                self.places_in(segment.no, &block, key, &mut places)?;
            }
        }
        Ok((places, searched))
    }

    /// The same in all segments but those `searched` already.
    fn other_places_of(
        &self,
        core: &Core,
        key: &RecipientKey,
        searched: &[u32],
    ) -> Outcome<Vec<(u64, u32)>> {
        let mut places = Vec::new();
        let all = core.state.segments.iter();
        for segment in all.filter(|one| one.ledger.open > 0 && !searched.contains(&one.no)) {
            let blocks: Vec<Block> = self.reader.ask(segment, |index| index.blocks().to_vec())?;
            for block in blocks {
                self.places_in(segment.no, &block, key, &mut places)?;
            }
        }
        Ok(places)
    }

    fn places_in(
        &self,
        segment: u32,
        block: &Block,
        key: &RecipientKey,
        places: &mut Vec<(u64, u32)>,
    ) -> Outcome<()> {
        let head = match self.reader.head(segment, block) {
            Ok(head) => head,
            Err(Unread::Damaged(_)) => return Ok(()),
            Err(Unread::Failed(error)) => return Err(error),
        };
        let slots = (0..head.len()).filter(|&slot| head.recipient_key(slot) == key.expose());
        places.extend(slots.map(|slot| (block.first + slot as u64, block.line.shelf)));
        Ok(())
    }

    pub(super) fn kick(&self, scope: &Scope, now: Timestamp) -> Outcome<(u64, Ticket)> {
        let mut core = self.core();
        let pieces = self.buried(&core, scope)?;
        let due = nanos(storable(now));
        let mut kicked = 0;
        let mut ticket = self.journal.last_ticket();
        for pieces in pieces.chunks(KICK_CHUNK) {
            let labels = labels(&core, pieces)?;
            let (mut again, mut ends) = (Vec::new(), Vec::new());
            for piece in pieces {
                let Some(label) = labels.get(&piece.block.line.shelf) else {
                    continue;
                };
                let reads = match self.read_piece(piece, label) {
                    Ok(reads) => reads,
                    Err(Unread::Failed(error)) => return Err(error),
                    Err(Unread::Damaged(_)) => continue,
                };
                for mut read in reads {
                    (read.attempts, read.lapsed, read.why) = (0, false, None);
                    let label = label.clone();
                    let (buried, recalled) = (false, false);
                    let label = Label {
                        due,
                        buried,
                        ..label
                    };
                    again.push(Again {
                        read,
                        label,
                        recalled,
                    });
                }
                ends.push(piece.stretch());
            }
            kicked += again.len() as u64;
            let end = Op::End {
                fate: Fate::Elsewhere,
                at: nanos(now),
                stretches: ends,
            };
            ticket = self.write_again(&mut core, vec![end], again, now)?;
        }
        Ok((kicked, ticket))
    }

    /// What is buried within `scope`, by arrival, one message a piece.
    fn buried(&self, core: &Core, scope: &Scope) -> Outcome<Vec<Piece>> {
        if let Scope::Id(id) = scope {
            let hash = core.ids.key().hash(id.as_str().as_bytes());
            let Some(spot) = self.newest(core, hash, id)? else {
                return Ok(Vec::new());
            };
            let standing = core
                .state
                .standing(spot.place, core.shelf(spot.block.line.shelf)?);
            let is_buried = standing.known == Some(Known::Buried) && !standing.damaged;
            return Ok(is_buried.then(|| spot.piece()).into_iter().collect());
        }
        let mut pieces = Vec::new();
        let all = core.state.shelves.all().iter();
        for (&no, shelf) in all.filter(|(_, shelf)| shelf.label.buried && shelf.held > 0) {
            if !takes_all(&shelf.label, scope) && !matches!(scope, Scope::Recipient(_)) {
                continue;
            }
            let mut walk = Walk::along(&core.state, no);
            while let Some(piece) = walk.next(&core.state, &self.reader)? {
                let head = match self.reader.head(piece.segment, &piece.block) {
                    Ok(head) => head,
                    Err(Unread::Damaged(_)) => continue,
                    Err(Unread::Failed(error)) => return Err(error),
                };
                for (place, slot) in (piece.from..piece.to).zip(piece.slots()) {
                    let is_meant = match scope {
                        Scope::Recipient(key) => head.recipient_key(slot) == key.expose(),
                        _ => true,
                    };
                    if is_meant {
                        let (from, to) = (place, place + 1);
                        let arrival = piece.block.base + u64::from(head.arrival(slot));
                        pieces.push((arrival, Piece { from, to, ..piece }));
                    }
                }
            }
        }
        pieces.sort_by_key(|(arrival, _)| *arrival);
        Ok(pieces.into_iter().map(|(_, piece)| piece).collect())
    }

    pub(super) fn redate(
        &self,
        lane: &Lane,
        class: &Class,
        now: Timestamp,
        to: Timestamp,
    ) -> Outcome<(u64, Ticket)> {
        let mut core = self.core();
        let (mut shelves, mut moved) = (Vec::new(), 0);
        for (&no, shelf) in core.state.shelves.all() {
            let label = &shelf.label;
            let is_meant = label.lane == *lane && label.class == *class && label.due <= nanos(now);
            if is_meant && shelf.held + shelf.leased > 0 {
                shelves.push(no);
                moved += if label.buried { 0 } else { shelf.held };
            }
        }
        let to = nanos(storable(to));
        let ops = match shelves.is_empty() {
            true => Vec::new(),
            false => vec![Op::Redate { shelves, to }],
        };
        let (ticket, _) = self.commit_ops(&mut core, ops)?;
        Ok((moved, ticket))
    }

    pub(super) fn pause(
        &self,
        lane: Option<&Lane>,
        paused: bool,
        now: Timestamp,
    ) -> Outcome<((), Ticket)> {
        let (lane, since) = (lane.cloned(), paused.then(|| nanos(now)));
        let mut core = self.core();
        let (ticket, _) = self.commit_ops(&mut core, vec![Op::Pause { lane, since }])?;
        Ok(((), ticket))
    }

    pub(super) fn sweep(self: &Arc<Self>, now: Timestamp) -> Outcome<(u64, Ticket)> {
        let before = self.forgotten_before(now);
        let mut core = self.core();
        let (ticket, forgotten) = self.commit_ops(&mut core, vec![Op::Sweep { before }])?;
        core.untidy = true;
        self.wake.notify_all();
        Ok((forgotten, ticket))
    }
}

/// Takes whole shelves back.
fn clear(core: &Core, scope: &Scope, now: Timestamp, ops: &mut Vec<Op>, answer: &mut Recalled) {
    let all = core.state.shelves.all().iter();
    let meant = all.filter(|(_, shelf)| takes_all(&shelf.label, scope));
    let mut shelves = Vec::new();
    for (&no, shelf) in meant.filter(|(_, shelf)| shelf.held > 0) {
        shelves.push(no);
        answer.recalled += shelf.held;
    }
    for (lease, loan) in core.state.loans.iter() {
        let is_meant = |out: &Stretch| {
            let shelf = core.state.shelves.get(out.shelf);
            shelf.is_some_and(|shelf| takes_all(&shelf.label, scope))
        };
        let mut stretches = Vec::new();
        for out in loan.out().filter(is_meant) {
            for (from, to) in loan.wanted.gaps(out.from, out.to) {
                answer.in_flight += to - from;
                stretches.push(Stretch { from, to, ..out });
            }
        }
        if !stretches.is_empty() {
            ops.push(Op::WantBack { lease, stretches });
        }
    }
    if !shelves.is_empty() {
        ops.push(Op::Clear {
            shelves,
            at: nanos(now),
        });
    }
}

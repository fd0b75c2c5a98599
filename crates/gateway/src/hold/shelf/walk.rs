//! Goes along a shelf, and along several in order of arrival.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::fault::Outcome;
use super::op::Stretch;
use super::reader::{Reader, Unread};
use super::segment::Block;
use super::state::State;
use crate::hold::block::Head;

/// Held places of one block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) segment: u32,
    pub(super) block: Block,
    pub(super) from: u64,
    pub(super) to: u64,
    /// It came back from a loan that lapsed.
    pub(super) lapsed: bool,
}

impl Piece {
    pub(super) const fn count(&self) -> u64 {
        self.to - self.from
    }

    pub(super) const fn stretch(&self) -> Stretch {
        let (shelf, from, to) = (self.block.line.shelf, self.from, self.to);
        Stretch { shelf, from, to }
    }

    /// Its slots in the block.
    pub(super) fn slots(&self) -> std::ops::Range<usize> {
        let slot = |place: u64| usize::try_from(place - self.block.first).unwrap_or(usize::MAX);
        slot(self.from)..slot(self.to)
    }
}

/// A block that cannot be read, or a disk that does not answer.
pub(super) struct Stuck {
    pub(super) segment: u32,
    pub(super) block: Block,
    pub(super) why: Unread,
}

/// What a walk can meet.
pub(super) enum Halt {
    Stuck(Box<Stuck>),
    Failed(crate::error::Error),
}

impl From<crate::error::Error> for Halt {
    fn from(error: crate::error::Error) -> Self {
        Self::Failed(error)
    }
}

/// A walk along the held places of one shelf, in order of arrival.
pub(super) struct Walk {
    shelf: u32,
    /// Where it goes on among what came back, and then among what was never lent.
    returned_from: u64,
    next: u64,
}

impl Walk {
    pub(super) fn along(state: &State, shelf: u32) -> Self {
        let next = state.shelves.get(shelf).map_or(0, |shelf| shelf.next);
        Self {
            shelf,
            returned_from: 0,
            next,
        }
    }

    /// The next held places of one block.
    pub(super) fn next(&mut self, state: &State, reader: &Reader) -> Outcome<Option<Piece>> {
        let Some(shelf) = state.shelves.get(self.shelf) else {
            return Ok(None);
        };
        let came_back = shelf.returned.within(self.returned_from, u64::MAX).next();
        if let Some((from, to)) = came_back
            && let Some(segment) = state.segment_of(from)
        {
            let block = reader.block_of(segment, self.shelf, from)?;
            let to = to.min(block.end());
            self.returned_from = to;
            let (segment, lapsed) = (segment.no, true);
            return Ok(Some(Piece {
                segment,
                block,
                from,
                to,
                lapsed,
            }));
        }
        let begin = shelf.parts.partition_point(|part| part.end <= self.next);
        for part in &shelf.parts[begin..] {
            let Some(segment) = state.segment(part.segment).filter(|_| part.open > 0) else {
                continue;
            };
            let marks = &segment.ledger.marks;
            let next = self.next;
            let found = reader.ask(segment, |index| {
                index.of_shelf(self.shelf, next).find_map(|block| {
                    let open = marks.open(next.max(block.first), block.end());
                    open.first().map(|&(from, to)| (*block, from, to))
                })
            })?;
            if let Some((block, from, to)) = found {
                self.next = to;
                let (segment, lapsed) = (segment.no, false);
                return Ok(Some(Piece {
                    segment,
                    block,
                    from,
                    to,
                    lapsed,
                }));
            }
            self.next = self.next.max(part.end);
        }
        Ok(None)
    }
}

/// One of several walks, and how far it is.
struct Lane {
    walk: Walk,
    piece: Piece,
    head: Arc<Head>,
}

impl Lane {
    fn arrival(&self) -> u64 {
        let slot = self.piece.slots().start;
        self.piece.block.base + u64::from(self.head.arrival(slot))
    }
}

/// Up to `max` held places of `shelves`, in order of arrival.
pub(super) fn merged(
    state: &State,
    reader: &Reader,
    shelves: &[u32],
    max: u64,
) -> Result<Vec<Piece>, Halt> {
    let mut taken = Vec::new();
    let mut left = max;
    if let [shelf] = shelves {
        let mut walk = Walk::along(state, *shelf);
        while left > 0
            && let Some(mut piece) = walk.next(state, reader)?
        {
            piece.to = piece.to.min(piece.from + left);
            left -= piece.count();
            taken.push(piece);
        }
        return Ok(taken);
    }
    let mut lanes = Vec::with_capacity(shelves.len());
    for &shelf in shelves {
        lanes.extend(step(state, reader, Walk::along(state, shelf))?);
    }
    let places = lanes.iter().enumerate();
    let mut order: BinaryHeap<_> = places
        .map(|(at, lane)| Reverse((lane.arrival(), at)))
        .collect();
    let mut lanes: Vec<Option<Lane>> = lanes.into_iter().map(Some).collect();
    while left > 0
        && let Some(Reverse((_, at))) = order.pop()
        && let Some(mut lane) = lanes[at].take()
    {
        let others = order
            .peek()
            .map_or(u64::MAX, |Reverse((arrival, _))| *arrival);
        let mut run = lane.piece;
        run.to = run.from;
        while run.count() < left && lane.piece.count() > 0 && lane.arrival() < others {
            lane.piece.from += 1;
            run.to += 1;
            if lane.piece.count() == 0 {
                break;
            }
        }
        left -= run.count();
        taken.push(run);
        let again = match lane.piece.count() {
            0 => step(state, reader, lane.walk)?,
            _ => Some(lane),
        };
        if let Some(lane) = again {
            order.push(Reverse((lane.arrival(), at)));
            lanes[at] = Some(lane);
        }
    }
    Ok(taken)
}

fn step(state: &State, reader: &Reader, mut walk: Walk) -> Result<Option<Lane>, Halt> {
    let Some(piece) = walk.next(state, reader)? else {
        return Ok(None);
    };
    let (segment, block) = (piece.segment, piece.block);
    let head = reader.head(segment, &block).map_err(|why| {
        let stuck = Stuck {
            segment,
            block,
            why,
        };
        Halt::Stuck(Box::new(stuck))
    })?;
    Ok(Some(Lane { walk, piece, head }))
}

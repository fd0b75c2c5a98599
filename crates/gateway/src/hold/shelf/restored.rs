//! What a store that came back from a backup is told before it is used: what has left since must
//! not leave again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nightgate_core::MessageId;
use nightgate_log::journal::Ticket;

use super::fault::Outcome;
use super::lease::labels;
use super::marks::Fate;
use super::op::{Op, Stretch};
use super::reader::Unread;
use super::settle::{Again, fate_of};
use super::store::{Core, Inner, joined};
use super::walk::{Piece, Stuck, Walk};
use crate::hold::instant::nanos;
use crate::hold::{End, Lane, State as Known};

/// Stretches lent and taken back by one frame.
const STRETCHES: usize = 4_096;
/// Blocks written anew by one frame.
const BLOCKS: usize = 64;
/// How far the numbers of leases jump: whoever still has a loan of the store that was lost must not
/// hit one of this.
const LEAP: u64 = 1 << 32;

impl Inner {
    /// Ends every loan: nobody has it any more.
    fn lapse_all(&self, core: &mut Core, now: Timestamp) -> Outcome<Ticket> {
        let at = nanos(now);
        let all = core.state.loans.iter();
        let lapses = all.map(|(lease, _)| Op::Lapse { lease, at }).collect();
        Ok(self.commit_ops(core, lapses)?.0)
    }

    /// Ends messages that are held or buried here and ended elsewhere; says how many.
    pub(super) fn end_known(
        &self,
        ends: &[(MessageId, End)],
        now: Timestamp,
    ) -> Outcome<(u64, Ticket)> {
        let mut core = self.core();
        self.lapse_all(&mut core, now)?;
        let mut by_fate: BTreeMap<u8, (Fate, BTreeMap<u64, u32>)> = BTreeMap::new();
        let mut taken = 0;
        for (id, end) in ends {
            let hash = core.ids.key().hash(id.as_str().as_bytes());
            let Some(spot) = self.newest(&core, hash, id)? else {
                continue;
            };
            let no = spot.block.line.shelf;
            let standing = core.state.standing(spot.place, core.shelf(no)?);
            let is_live = matches!(standing.known, Some(Known::Held | Known::Buried));
            let is_taken = by_fate
                .values()
                .any(|(_, all)| all.contains_key(&spot.place));
            if is_live && !standing.damaged && !is_taken {
                let fate = fate_of(*end);
                let (_, places) = by_fate.entry(fate as u8).or_insert((fate, BTreeMap::new()));
                places.insert(spot.place, no);
                taken += 1;
            }
        }
        let at = nanos(now);
        let ops = by_fate.into_values().map(|(fate, places)| Op::End {
            fate,
            at,
            stretches: joined(places.into_iter().collect()),
        });
        let (ticket, _) = self.commit_ops(&mut core, ops.collect())?;
        Ok((taken, ticket))
    }

    /// Marks everything held as lapsed: before one of them goes, its receipts are asked how far it
    /// came. Loans of the store that was lost are over. Says how many are held.
    pub(super) fn doubt(&self, now: Timestamp) -> Outcome<(u64, Ticket)> {
        let mut core = self.core();
        let mut ticket = self.lapse_all(&mut core, now)?;
        let mut by_lane: BTreeMap<Lane, Vec<Stretch>> = BTreeMap::new();
        let mut held = 0;
        for (&no, shelf) in core.state.shelves.all() {
            if shelf.label.buried || shelf.held == 0 {
                continue;
            }
            let all = by_lane.entry(shelf.label.lane.clone()).or_default();
            let mut walk = Walk::along(&core.state, no);
            while let Some(piece) = walk.next(&core.state, &self.reader)? {
                held += piece.count();
                let stretch = piece.stretch();
                match all.last_mut() {
                    Some(last) if last.to == stretch.from && last.shelf == no => {
                        last.to = stretch.to;
                    }
                    _ => all.push(stretch),
                }
            }
        }
        let at = nanos(now);
        let first = core.state.loans.next().saturating_add(LEAP);
        let pieces = by_lane.values().flat_map(|all| all.chunks(STRETCHES));
        for (lease, stretches) in (first..).zip(pieces) {
            let (stretches, until) = (stretches.to_vec(), at);
            let lend = Op::Lend {
                lease,
                until,
                stretches,
            };
            (ticket, _) = self.commit_ops(&mut core, vec![lend, Op::Lapse { lease, at }])?;
        }
        Ok((held, ticket))
    }

    /// Buries everything held, for a person to look at; says how many.
    pub(super) fn bury_all(&self, why: &str, now: Timestamp) -> Outcome<(u64, Ticket)> {
        let mut core = self.core();
        let mut ticket = self.lapse_all(&mut core, now)?;
        let mut pieces: Vec<Piece> = Vec::new();
        for (&no, shelf) in core.state.shelves.all() {
            if shelf.label.buried || shelf.held == 0 {
                continue;
            }
            let mut walk = Walk::along(&core.state, no);
            while let Some(piece) = walk.next(&core.state, &self.reader)? {
                pieces.push(piece);
            }
        }
        let mut buried = 0;
        for pieces in pieces.chunks(BLOCKS) {
            let labels = labels(&core, pieces)?;
            let (mut again, mut ends) = (Vec::new(), Vec::new());
            for piece in pieces {
                let (no, segment, block) = (piece.block.line.shelf, piece.segment, piece.block);
                let Some(label) = labels.get(&no) else {
                    continue;
                };
                let reads = match self.read_piece(piece, label) {
                    Ok(reads) => reads,
                    Err(Unread::Failed(error)) => return Err(error),
                    Err(why @ Unread::Damaged(_)) => {
                        let stuck = Stuck {
                            segment,
                            block,
                            why,
                        };
                        self.put_aside(&mut core, stuck, now)?;
                        continue;
                    }
                };
                for mut read in reads {
                    read.why = Some(why.to_owned());
                    let (mut label, recalled) = (label.clone(), false);
                    label.buried = true;
                    again.push(Again {
                        read,
                        label,
                        recalled,
                    });
                }
                ends.extend((piece.from..piece.to).map(|place| (place, no)));
            }
            buried += again.len() as u64;
            let (fate, at, stretches) = (Fate::Elsewhere, nanos(now), joined(ends));
            let end = Op::End {
                fate,
                at,
                stretches,
            };
            ticket = self.write_again(&mut core, vec![end], again, now)?;
        }
        Ok((buried, ticket))
    }
}

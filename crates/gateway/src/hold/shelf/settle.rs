//! Ending loans.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use nightgate_log::journal::Ticket;

use super::fault::Outcome;
use super::lease::{Read, labels};
use super::marks::Fate;
use super::op::{Label, Op, Stretch};
use super::put::Ready;
use super::reader::Unread;
use super::spans::Spans;
use super::store::{Change, Core, Inner, joined};
use super::walk::Piece;
use crate::hold::block::Record;
use crate::hold::instant::{nanos, storable};
use crate::hold::{End, Settle, Settled, Token, Verdict};

/// A message that is written anew.
pub(super) struct Again {
    pub(super) read: Read,
    pub(super) label: Label,
    /// It ends as recalled at once.
    pub(super) recalled: bool,
}

pub(super) const fn fate_of(end: End) -> Fate {
    match end {
        End::Delivered => Fate::Delivered,
        End::Refused => Fate::Refused,
        End::Expired => Fate::Expired,
        End::Rejected => Fate::Rejected,
    }
}

/// Places that end, by lease and fate; a call has few of these.
#[derive(Default)]
struct Ends(Vec<(u64, Fate, Places)>);

/// Places, each with its shelf.
type Places = Vec<(u64, u32)>;

impl Ends {
    fn of(&mut self, lease: u64, fate: Fate) -> &mut Places {
        let known = self
            .0
            .iter()
            .rposition(|(one, same, _)| (*one, *same) == (lease, fate));
        let at = known.unwrap_or_else(|| {
            self.0.push((lease, fate, Vec::new()));
            self.0.len() - 1
        });
        &mut self.0[at].2
    }
}

/// Places settled by this call. They come in order, so most only lengthen the last stretch.
#[derive(Default)]
struct Taken {
    last: (u64, u64),
    before: Spans,
}

impl Taken {
    /// Takes a place; false when it was taken already.
    fn take(&mut self, place: u64) -> bool {
        let (from, to) = self.last;
        if (from..to).contains(&place) || self.before.contains(place) {
            return false;
        }
        if place == to {
            self.last.1 += 1;
        } else {
            self.before.insert(from, to);
            self.last = (place, place + 1);
        }
        true
    }
}

impl Inner {
    pub(super) fn settle(
        &self,
        settlements: Vec<Settle>,
        now: Timestamp,
    ) -> Outcome<(Vec<Settled>, Ticket)> {
        let mut reads = self.read_again(&settlements, now)?;
        let mut core = self.core();
        let mut answers = Vec::with_capacity(settlements.len());
        let (mut running, mut taken) = (Running::new(now), Taken::default());
        let (mut ends, mut again) = (Ends::default(), Vec::new());
        for Settle { token, verdict } in settlements {
            let place = token.seq;
            let found = running.of(&core, token).filter(|_| taken.take(place));
            let Some((shelf, wanted, lapsed)) = found else {
                answers.push(Settled::Lapsed);
                continue;
            };
            answers.push(Settled::Yes);
            let fate = match verdict {
                Verdict::Done(end) => fate_of(end),
                Verdict::Defer { .. } | Verdict::Bury { .. } => match reads.remove(&place) {
                    Some(mut read) => {
                        read.lapsed |= lapsed;
                        let label = core.shelf(shelf)?.label.clone();
                        again.push(anew(read, label, verdict, wanted));
                        Fate::Elsewhere
                    }
                    // It was lent, so it could be read then; it cannot any more.
                    None => Fate::Damaged,
                },
            };
            ends.of(token.lease, fate).push((place, shelf));
        }
        let at = nanos(now);
        let ends = ends.0.into_iter().map(|(lease, fate, places)| Op::Settle {
            lease,
            fate,
            at,
            stretches: joined(places),
        });
        let ticket = self.write_again(&mut core, ends.collect(), again, now)?;
        Ok((answers, ticket))
    }

    /// Reads what is to be written anew. What cannot be read is missing from the answer.
    fn read_again(&self, settlements: &[Settle], now: Timestamp) -> Outcome<HashMap<u64, Read>> {
        let moves = settlements
            .iter()
            .filter(|one| !matches!(one.verdict, Verdict::Done(_)));
        let tokens: Vec<Token> = moves.map(|one| one.token).collect();
        if tokens.is_empty() {
            return Ok(HashMap::new());
        }
        let core = self.core();
        let mut pieces = Vec::with_capacity(tokens.len());
        let mut running = Running::new(now);
        for token in tokens {
            let place = token.seq;
            if running.of(&core, token).is_none() {
                continue;
            }
            let segment = core.segment_of(place)?;
            let block = self.reader.block(segment, place)?;
            let (segment, from, to, lapsed) = (segment.no, place, place + 1, false);
            pieces.push(Piece {
                segment,
                block,
                from,
                to,
                lapsed,
            });
        }
        let labels = labels(&core, &pieces)?;
        drop(core);
        let mut reads = HashMap::with_capacity(pieces.len());
        for piece in pieces {
            let Some(label) = labels.get(&piece.block.line.shelf) else {
                continue;
            };
            match self.read_piece(&piece, label) {
                Ok(read) => reads.extend(read.into_iter().map(|read| (piece.from, read))),
                Err(Unread::Failed(error)) => return Err(error),
                Err(Unread::Damaged(why)) => {
                    tracing::error!(
                        segment = piece.segment,
                        place = piece.from,
                        why,
                        "a message on loan cannot be read again: it is put aside"
                    );
                }
            }
        }
        Ok(reads)
    }

    /// Commits `ops`, and messages written anew behind everything that is there.
    pub(super) fn write_again(
        &self,
        core: &mut Core,
        ops: Vec<Op>,
        again: Vec<Again>,
        now: Timestamp,
    ) -> Outcome<Ticket> {
        if again.is_empty() {
            return Ok(self.commit_ops(core, ops)?.0);
        }
        let mut change = Change::default();
        let base = core.state.next_place;
        (change.meta.base, change.meta.ops) = (base, ops);
        let mut by_label: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (at, one) in (0_u32..).zip(&again) {
            let no = Self::shelf_no(core, &mut change, &one.label);
            by_label.entry(no).or_default().push(at);
        }
        let mut packer = self.packer();
        let (mut place, mut recalled, mut noted) = (base, Vec::new(), Vec::new());
        for (no, members) in by_label {
            for members in members.chunks(BLOCK_MESSAGES) {
                let record = |&at: &u32| {
                    let read = &again[at as usize].read;
                    Record {
                        held: &read.held,
                        arrival: at,
                        attempts: read.attempts,
                        lapsed: read.lapsed,
                        why: read.why.as_deref(),
                    }
                };
                let records: Vec<Record<'_>> = members.iter().map(record).collect();
                Ready::of(&mut packer, &records).add_to(&mut change, no);
                for &at in members {
                    let one = &again[at as usize];
                    let id = one.read.held.message.id.as_str();
                    noted.push((place, core.ids.key().hash(id.as_bytes())));
                    if one.recalled {
                        recalled.push((place, no));
                    }
                    place += 1;
                }
            }
        }
        self.put_back(packer);
        if !recalled.is_empty() {
            let (fate, at, stretches) = (Fate::Recalled, nanos(now), joined(recalled));
            change.meta.ops.push(Op::End {
                fate,
                at,
                stretches,
            });
        }
        let (ticket, _) = self.commit(core, &change)?;
        core.note(noted.len(), noted.into_iter());
        Ok(ticket)
    }
}

/// Most messages in one block that is written anew: their bodies may be large.
const BLOCK_MESSAGES: usize = 64;

/// Looks up the loans behind tokens. Those of one stretch mostly follow one another, so the last
/// stretch is kept.
struct Running {
    now: i64,
    lease: u64,
    stretch: Stretch,
}

impl Running {
    fn new(now: Timestamp) -> Self {
        let (shelf, from, to) = (0, 0, 0);
        Self {
            now: nanos(now),
            lease: 0,
            stretch: Stretch { shelf, from, to },
        }
    }

    /// What a token lent, unless that lapsed, was settled or was never made: the shelf, whether it
    /// is to be recalled, and whether it had come back before.
    fn of(&mut self, core: &Core, token: Token) -> Option<(u32, bool, bool)> {
        let loan = core.state.loans.get(token.lease)?;
        let Stretch { from, to, .. } = self.stretch;
        if self.lease != token.lease || !(from..to).contains(&token.seq) {
            if loan.until <= self.now {
                return None;
            }
            (self.lease, self.stretch) = (token.lease, loan.at(token.seq)?);
        }
        let (wanted, lapsed) = (
            loan.wanted.contains(token.seq),
            loan.lapsed.contains(token.seq),
        );
        Some((self.stretch.shelf, wanted, lapsed))
    }
}

/// How a message goes on that was deferred or buried. One that is to be recalled keeps its due.
fn anew(mut read: Read, mut label: Label, verdict: Verdict, recalled: bool) -> Again {
    match verdict {
        Verdict::Defer { due, attempted } => {
            read.attempts += u32::from(attempted);
            if !recalled {
                label.due = nanos(storable(due));
            }
        }
        Verdict::Bury { why } => {
            read.why = Some(why);
            label.buried = !recalled;
        }
        Verdict::Done(_) => {}
    }
    Again {
        read,
        label,
        recalled,
    }
}

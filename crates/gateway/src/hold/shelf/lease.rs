//! Lending: what comes next, one frame that says so, and the messages themselves.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use jiff::Timestamp;
use nightgate_log::journal::Ticket;

use super::fault::{Outcome, error};
use super::files::log_name;
use super::marks::Fate;
use super::mend::LOST;
use super::op::{Label, Op, Stretch};
use super::reader::Unread;
use super::store::{Core, Inner};
use super::walk::{Halt, Piece, Stuck, merged};
use crate::error::Kind;
use crate::hold::block::helds;
use crate::hold::instant::{instant, nanos, storable};
use crate::hold::key::ShelfKey;
use crate::hold::{Held, LeaseAsk, Leased, Pick, Token};

/// The name of a shelf as messages carry it.
pub(super) fn key_of(label: &Label) -> ShelfKey {
    ShelfKey {
        lane: label.lane.clone(),
        purpose: label.purpose,
        class: label.class.clone(),
        campaign: label.campaign.clone(),
        priority: label.priority,
        due: Some(label.due),
    }
}

fn is_picked(label: &Label, pick: Pick<'_>) -> bool {
    match pick {
        Pick::Any => true,
        Pick::Campaign(purpose, campaign) => {
            label.purpose == purpose && label.campaign.as_deref() == campaign
        }
    }
}

impl Inner {
    pub(super) fn lease(&self, ask: &LeaseAsk<'_>) -> Outcome<(Vec<Leased>, Ticket)> {
        let until = ask.now.saturating_add(ask.ttl).unwrap_or(Timestamp::MAX);
        let until = storable(until);
        let mut core = self.core();
        let mut ticket = self.reclaim(&mut core, Some(ask.lane), ask.now)?;
        let pieces = self.pick(&mut core, ask)?;
        if pieces.is_empty() {
            return Ok((Vec::new(), ticket));
        }
        let lease = core.state.loans.next();
        let stretches = joined_pieces(&pieces);
        let until_nanos = nanos(until);
        let lend = Op::Lend {
            lease,
            until: until_nanos,
            stretches,
        };
        (ticket, _) = self.commit_ops(&mut core, vec![lend])?;
        let labels = labels(&core, &pieces)?;
        drop(core);
        let (leased, late) = self.fetch(&pieces, &labels, lease, until, ask.now)?;
        Ok((leased, late.unwrap_or(ticket)))
    }

    /// Takes back loans that are over at `now`.
    pub(super) fn reclaim(
        &self,
        core: &mut Core,
        lane: Option<&crate::hold::Lane>,
        now: Timestamp,
    ) -> Outcome<Ticket> {
        let at = nanos(now);
        let over = core.state.loans.over(lane, at);
        let lapses = over.into_iter().map(|lease| Op::Lapse { lease, at });
        let (ticket, _) = self.commit_ops(core, lapses.collect())?;
        Ok(ticket)
    }

    /// What is lent next. A block that cannot be read is put aside, and the rest goes on. Where
    /// places stand in no block any more, nothing is lent until upkeep has told the shelves anew.
    fn pick(&self, core: &mut Core, ask: &LeaseAsk<'_>) -> Outcome<Vec<Piece>> {
        loop {
            match self.next_pieces(core, ask) {
                Ok(pieces) => return Ok(pieces),
                Err(Halt::Failed(cause)) if self.reader.has_gaps() => {
                    tracing::error!(%cause, "messages are lost: their shelves are told anew");
                    core.untidy = true;
                    self.wake.notify_all();
                    let op = "lend: messages are lost and upkeep is telling their shelves anew, \
                              try again";
                    return Err(error(Kind::Unavailable, op).with(cause));
                }
                Err(Halt::Failed(error)) => return Err(error),
                Err(Halt::Stuck(stuck)) => self.put_aside(core, *stuck, ask.now)?,
            }
        }
    }

    fn next_pieces(&self, core: &Core, ask: &LeaseAsk<'_>) -> Result<Vec<Piece>, Halt> {
        let (now, mut left) = (nanos(ask.now), ask.max as u64);
        let mut pieces = Vec::new();
        let mut alike: Vec<u32> = Vec::new();
        let mut turn = None;
        let due = core
            .state
            .shelves
            .ready(ask.lane)
            .filter(|turn| turn.1 <= now);
        for &(priority, due, no) in due {
            let picked = core.state.shelves.get(no);
            if !picked.is_some_and(|shelf| is_picked(&shelf.label, ask.pick)) {
                continue;
            }
            if turn != Some((priority, due)) {
                pieces.extend(merged(&core.state, &self.reader, &alike, left)?);
                left = (ask.max as u64).saturating_sub(pieces.iter().map(Piece::count).sum());
                alike.clear();
                turn = Some((priority, due));
                if left == 0 {
                    break;
                }
            }
            alike.push(no);
        }
        if left > 0 {
            pieces.extend(merged(&core.state, &self.reader, &alike, left)?);
        }
        Ok(pieces)
    }

    /// Ends what is held of a block that cannot be read, so that the rest goes on.
    pub(super) fn put_aside(&self, core: &mut Core, stuck: Stuck, now: Timestamp) -> Outcome<()> {
        let Stuck {
            segment,
            block,
            why,
        } = stuck;
        let why = match why {
            Unread::Failed(error) => return Err(error),
            Unread::Damaged(why) => why,
        };
        let shelf = block.line.shelf;
        let Some(marks) = core
            .state
            .segment(segment)
            .map(|segment| &segment.ledger.marks)
        else {
            return Ok(());
        };
        let open = marks.open(block.first, block.end()).into_iter();
        let held = open.map(|(from, to)| Stretch { shelf, from, to });
        let held: Vec<Stretch> = held
            .flat_map(|stretch| not_on_loan(core, stretch))
            .collect();
        if shelf == LOST || held.is_empty() {
            // Ending these would move nothing on: the same block would be met again for ever.
            let log = log_name(segment);
            let op = format!("lend from {log}, whose blocks upkeep is telling anew: try again");
            return Err(error(Kind::Unavailable, op));
        }
        tracing::error!(
            segment,
            place = block.first,
            messages = block.line.count,
            why,
            "a block cannot be read: its messages are put aside, see `nightgate hold verify`"
        );
        let (fate, at) = (Fate::Damaged, nanos(now));
        let stretches = held;
        self.commit_ops(
            core,
            vec![Op::End {
                fate,
                at,
                stretches,
            }],
        )?;
        Ok(())
    }

    /// The messages of `pieces`. What cannot be read ends as damaged, and is left out.
    fn fetch(
        &self,
        pieces: &[Piece],
        labels: &HashMap<u32, Label>,
        lease: u64,
        until: Timestamp,
        now: Timestamp,
    ) -> Outcome<(Vec<Leased>, Option<Ticket>)> {
        let total: u64 = pieces.iter().map(Piece::count).sum();
        let mut leased = Vec::with_capacity(usize::try_from(total).unwrap_or_default());
        let mut late = None;
        for piece in pieces {
            let Some(label) = labels.get(&piece.block.line.shelf) else {
                continue;
            };
            match self.lend_piece(piece, label, (lease, until), &mut leased) {
                Ok(()) => {}
                Err(Unread::Failed(error)) => return Err(error),
                Err(Unread::Damaged(why)) => {
                    let mut core = self.core();
                    let loan = core.state.loans.get(lease);
                    let out = loan.map(|loan| loan.within(piece.from, piece.to));
                    let Some(stretches) = out.filter(|out| !out.is_empty()) else {
                        // The loan is over already, and its blocks may have been given back.
                        continue;
                    };
                    tracing::error!(
                        segment = piece.segment,
                        place = piece.from,
                        messages = piece.count(),
                        why,
                        "a block cannot be read: its messages are put aside, \
                         see `nightgate hold verify`"
                    );
                    let settle = Op::Settle {
                        lease,
                        fate: Fate::Damaged,
                        at: nanos(now),
                        stretches,
                    };
                    let (ticket, _) = self.commit_ops(&mut core, vec![settle])?;
                    late = Some(ticket);
                }
            }
        }
        Ok((leased, late))
    }

    /// Adds the messages of one piece, on loan until `until`. Made where they stay: they are large.
    fn lend_piece(
        &self,
        piece: &Piece,
        label: &Label,
        (lease, until): (u64, Timestamp),
        leased: &mut Vec<Leased>,
    ) -> Result<(), Unread> {
        let head = self.reader.head(piece.segment, &piece.block)?;
        let body = self.reader.body(piece.segment, &piece.block)?;
        let key = key_of(label);
        let made = helds(&head, &body, piece.slots(), &key, instant(label.due));
        let places = (piece.from..).zip(piece.slots());
        leased.extend(made.zip(places).map(|(held, (seq, slot))| Leased {
            token: Token { seq, lease },
            held,
            until,
            attempts: head.attempts(slot),
            lapsed: piece.lapsed || head.lapsed(slot),
        }));
        Ok(())
    }

    /// The messages of one piece, whole.
    pub(super) fn read_piece(&self, piece: &Piece, label: &Label) -> Result<Vec<Read>, Unread> {
        let head = self.reader.head(piece.segment, &piece.block)?;
        let body = self.reader.body(piece.segment, &piece.block)?;
        let key = key_of(label);
        let made = helds(&head, &body, piece.slots(), &key, instant(label.due));
        Ok(made
            .zip(piece.slots())
            .map(|(held, slot)| Read {
                held,
                attempts: head.attempts(slot),
                lapsed: head.lapsed(slot),
                why: head.why(slot).map(str::to_owned),
            })
            .collect())
    }
}

/// A message as it was read back.
pub(super) struct Read {
    pub(super) held: Held,
    pub(super) attempts: u32,
    pub(super) lapsed: bool,
    pub(super) why: Option<String>,
}

/// The labels of the shelves of `pieces`.
pub(super) fn labels(core: &Core, pieces: &[Piece]) -> Outcome<HashMap<u32, Label>> {
    let mut labels = HashMap::new();
    for piece in pieces {
        let no = piece.block.line.shelf;
        if let Entry::Vacant(free) = labels.entry(no) {
            free.insert(core.shelf(no)?.label.clone());
        }
    }
    Ok(labels)
}

/// Pieces as stretches, those that follow one another on one shelf joined.
///
/// What came back and what was never lent stay apart: of a stretch that begins before the first
/// place never lent, everything is taken for come back.
fn joined_pieces(pieces: &[Piece]) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::with_capacity(pieces.len());
    let mut lapsed = false;
    for piece in pieces {
        let stretch = piece.stretch();
        match stretches.last_mut() {
            Some(last)
                if last.to == stretch.from
                    && last.shelf == stretch.shelf
                    && lapsed == piece.lapsed =>
            {
                last.to = stretch.to;
            }
            _ => stretches.push(stretch),
        }
        lapsed = piece.lapsed;
    }
    stretches
}

/// What of `stretch` is not on loan.
pub(super) fn not_on_loan(core: &Core, stretch: Stretch) -> Vec<Stretch> {
    let mut out = super::spans::Spans::default();
    for (_, loan) in core.state.loans.iter() {
        for lent in loan.within(stretch.from, stretch.to) {
            out.insert(lent.from, lent.to);
        }
    }
    let gaps = out.gaps(stretch.from, stretch.to).into_iter();
    gaps.map(|(from, to)| Stretch {
        from,
        to,
        ..stretch
    })
    .collect()
}

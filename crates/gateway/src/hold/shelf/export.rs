//! Everything that is held, message by message, for people and other programs.

use std::sync::Arc;

use nightgate_log::journal::Ticket;

use super::fault::Outcome;
use super::files::log_name;
use super::lease::key_of;
use super::reader::Unread;
use super::segment::Block;
use super::state::Standing;
use super::store::{Core, Inner};
use crate::hold::block::{Body, Head, weight};
use crate::hold::care::{Export, Lost};
use crate::hold::instant::instant;
use crate::hold::{Found, State as Known};

/// What a person reads about a message that was put aside as damaged and can be read.
const ASIDE: &str = "put aside after damage on disk; this copy reads back whole";
/// What every message takes beside its body, in bytes, as far as a page is concerned.
const MESSAGE_BYTES: usize = 512;

/// Most unreadable blocks told in one page: with all their ids they fit a frame of the socket.
const LOST_MAX: usize = 16;

/// The sections of a block that can be read.
type Sections = (Option<Arc<Head>>, Option<Arc<Body>>);

impl Inner {
    /// Live messages from `place` on, whole blocks of them. The lock is taken block by block.
    pub(super) fn export(&self, place: u64, max_bytes: usize) -> Outcome<(Export, Ticket)> {
        let mut page = Export::default();
        let (mut place, mut bytes, mut seen) = (place, 0, 0);
        loop {
            let core = self.core();
            let ticket = self.journal.last_ticket();
            let Some((segment, block)) = self.next_block(&core, place)? else {
                return Ok((page, ticket));
            };
            place = block.end();
            self.export_block(&core, segment, &block, &mut page)?;
            drop(core);
            let new = &page.found[seen..];
            let weights = new.iter().map(|found| weight(&found.held) + MESSAGE_BYTES);
            bytes += weights.sum::<usize>();
            seen = page.found.len();
            if bytes >= max_bytes || page.lost.len() >= LOST_MAX {
                page.next = Some(place);
                return Ok((page, ticket));
            }
        }
    }

    /// The first block that reaches beyond `place`, in a segment where something is held.
    fn next_block(&self, core: &Core, place: u64) -> Outcome<Option<(u32, Block)>> {
        let all = core.state.segments.iter();
        for segment in all.filter(|segment| segment.end > place) {
            let mut aside = core.state.damaged.iter();
            let is_aside = aside.any(|(one, _)| one.from < segment.end && one.to > segment.base);
            if segment.ledger.open == 0 && !is_aside {
                continue;
            }
            let found = self.reader.ask(segment, |index| {
                let blocks = index.blocks();
                let at = blocks.partition_point(|block| block.end() <= place);
                blocks.get(at).copied()
            })?;
            if let Some(block) = found {
                return Ok(Some((segment.no, block)));
            }
        }
        Ok(None)
    }

    fn export_block(
        &self,
        core: &Core,
        segment: u32,
        block: &Block,
        page: &mut Export,
    ) -> Outcome<()> {
        let Some(shelf) = core.state.shelves.get(block.line.shelf) else {
            return Ok(());
        };
        let standings = (block.first..block.end()).map(|place| {
            let slot = usize::try_from(place - block.first).unwrap_or(usize::MAX);
            (slot, core.state.standing(place, shelf))
        });
        let live = |(_, standing): &(usize, Standing)| {
            matches!(
                standing.known,
                Some(Known::Held | Known::Leased | Known::Buried)
            )
        };
        let live: Vec<(usize, Standing)> = standings.filter(live).collect();
        if live.is_empty() {
            return Ok(());
        }
        let lost = |ids| Lost {
            file: log_name(segment),
            at: block.at,
            messages: live.len() as u64,
            ids,
        };
        let (head, body) = match self.both(segment, block)? {
            (Some(head), Some(body)) => (head, body),
            (Some(head), None) => {
                let ids = live.iter().map(|(slot, _)| head.id(*slot).to_owned());
                page.lost.push(lost(ids.collect()));
                return Ok(());
            }
            (None, _) => {
                page.lost.push(lost(Vec::new()));
                return Ok(());
            }
        };
        let key = key_of(&shelf.label);
        for (slot, standing) in live {
            let Some(state) = standing.known else {
                continue;
            };
            let mut held = head.held(slot, &key, instant(shelf.label.due));
            held.message.body = body.bytes(slot);
            held.message.attributes = body.attributes(slot);
            let why = match standing.damaged {
                true => Some(ASIDE.to_owned()),
                false => head.why(slot).map(str::to_owned),
            };
            page.found.push(Found {
                held,
                state,
                attempts: head.attempts(slot),
                lapsed: standing.returned || state == Known::Held && head.lapsed(slot),
                why,
            });
        }
        Ok(())
    }

    /// The sections of a block that can be read.
    fn both(&self, segment: u32, block: &Block) -> Outcome<Sections> {
        let head = readable(self.reader.head(segment, block))?;
        let body = readable(self.reader.body(segment, block))?;
        Ok((head, body))
    }
}

fn readable<T>(read: Result<T, Unread>) -> Outcome<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(Unread::Damaged(_)) => Ok(None),
        Err(Unread::Failed(error)) => Err(error),
    }
}

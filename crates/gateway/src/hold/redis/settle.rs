//! Ends of loans. A message that is done is one mark in its block's record; one that is deferred or
//! buried is written anew, in the same script.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ::redis::Value;
use futures_util::future::try_join_all;
use jiff::Timestamp;

use super::cache::Open;
use super::ids::new_stamp;
use super::keys::{HASH_BYTES, Place, counted, sortable};
use super::table::Stamp;
use super::wire::{array, bytes};
use super::write::{Block, Row, Wrote, blocks};
use super::{RedisHold, odd};
use crate::error::Result;
use crate::hold::block::helds;
use crate::hold::instant::{instant, storable};
use crate::hold::{Held, Settle, Settled, State, Verdict};
use crate::redis::Call;

const OP: &str = "settle loans";
/// Most loans that one script ends: to write a thousand anew takes 7 ms.
const SETTLE_MAX: usize = 500;

/// One settlement of a partition.
struct One<'a> {
    index: usize,
    place: Place,
    loan: u64,
    verdict: &'a Verdict,
}

/// Ends of one loan in a run of slots.
struct Range {
    from: Place,
    to: u32,
    loan: u64,
    state: u8,
    indices: Vec<usize>,
}

/// A message that arrives anew.
pub(super) struct Anew<'a> {
    pub(super) held: Held,
    pub(super) place: Place,
    pub(super) loan: u64,
    /// The checksum of the block it was in.
    pub(super) sum: u32,
    pub(super) attempts: u32,
    pub(super) why: Option<&'a str>,
    pub(super) stays: Option<u64>,
    pub(super) buried: bool,
}

/// Blocks of messages that arrive anew, in one script.
pub(super) struct Moving {
    epoch: u64,
    stamp: Stamp,
    blocks: Vec<Block>,
    /// Where each message was.
    from: Vec<Place>,
}

impl Moving {
    /// An answer of the script: marks of its ends, and what became of the blocks.
    pub(super) fn read(&self, said: Value, ends: usize) -> Option<(Vec<Vec<u8>>, Wrote)> {
        let [marks, numbers] = <[Value; 2]>::try_from(array(said)?).ok()?;
        let mut marks = array(marks)?;
        let moved = (marks.len() >= ends).then(|| marks.split_off(ends))?;
        let ends: Option<_> = marks.iter().map(|it| Some(bytes(it)?.to_vec())).collect();
        Some((ends?, Wrote::read(&self.blocks, moved, numbers)?))
    }
}

impl RedisHold {
    pub(super) async fn settle_all(
        &self,
        settlements: &[Settle],
        now: Timestamp,
    ) -> Result<Vec<Settled>> {
        let mut of: Vec<Vec<One<'_>>> = Vec::new();
        of.resize_with(self.keys.len(), Vec::new);
        let mut seen = HashSet::with_capacity(settlements.len());
        for (index, settle) in settlements.iter().enumerate() {
            let place = Place::of(settle.token);
            // The second of one token in a call finds the loan ended.
            if seen.insert(settle.token)
                && let Some(ones) = of.get_mut(place.partition as usize)
            {
                let (loan, verdict) = (settle.token.lease, &settle.verdict);
                ones.push(One {
                    index,
                    place,
                    loan,
                    verdict,
                });
            }
        }
        let mut answers = vec![Settled::Lapsed; settlements.len()];
        let used = self.all().zip(of).filter(|(_, ones)| !ones.is_empty());
        let all = used.map(|(partition, ones)| self.settle_in(partition, ones, now));
        for index in try_join_all(all).await?.into_iter().flatten() {
            answers[index] = Settled::Yes;
        }
        Ok(answers)
    }

    /// Settles in one partition; says which were obeyed.
    async fn settle_in(
        &self,
        partition: u32,
        ones: Vec<One<'_>>,
        now: Timestamp,
    ) -> Result<Vec<usize>> {
        let moves = |one: &&One<'_>| !matches!(one.verdict, Verdict::Done(_));
        let blocks: BTreeSet<u64> = ones
            .iter()
            .filter(moves)
            .map(|one| one.place.block)
            .collect();
        let opens = self.known_blocks(partition, &blocks).await?;
        let mut calls = Vec::new();
        // Which settlements each script speaks of: its ends, and what arrives anew.
        let mut spoken: Vec<(Vec<Range>, Moving, Vec<usize>)> = Vec::new();
        for some in ones.chunks(SETTLE_MAX) {
            let ranges = ranges(some);
            let (anew, indices): (Vec<Anew<'_>>, Vec<usize>) =
                some.iter().filter_map(|one| anew(one, &opens)).unzip();
            let mut call = self.settling(partition, now).arg(ranges.len());
            for range in &ranges {
                call.push(range.from.block);
                call.push(range.from.slot);
                call.push(range.to);
                call.push(range.loan);
                call.push(range.state);
            }
            let moving = self.add_anew(&mut call, partition, &anew)?;
            spoken.push((ranges, moving, indices));
            calls.push(call);
        }
        let mut obeyed = Vec::with_capacity(ones.len());
        let said = self.write(&calls, OP).await?;
        for ((ranges, moving, indices), said) in spoken.iter().zip(said) {
            let (ends, wrote) = moving.read(said, ranges.len()).ok_or_else(|| odd(OP))?;
            let ends = ends.iter().map(Vec::as_slice);
            let ends = ranges.iter().map(|range| &range.indices[..]).zip(ends);
            let rows: Vec<Vec<usize>> = moving
                .blocks
                .iter()
                .map(|block| block.members.iter().map(|at| indices[*at]).collect())
                .collect();
            let moved = wrote.marks.iter().map(Vec::as_slice);
            let moved = rows.iter().map(Vec::as_slice).zip(moved);
            for (indices, marks) in ends.chain(moved) {
                if indices.len() != marks.len() {
                    return Err(odd(OP));
                }
                let both = indices.iter().zip(marks);
                obeyed.extend(both.filter(|(_, mark)| **mark != b'0').map(|(it, _)| *it));
            }
            self.moved(partition, moving, &wrote);
        }
        Ok(obeyed)
    }

    /// The beginning of a call that settles.
    pub(super) fn settling(&self, partition: u32, now: Timestamp) -> Call {
        let call = self.scripts.settle.call(self.key(partition));
        call.arg(&sortable(now)[..]).arg(counted(now))
    }

    /// Adds what arrives anew to such a call.
    pub(super) fn add_anew(
        &self,
        call: &mut Call,
        partition: u32,
        anew: &[Anew<'_>],
    ) -> Result<Moving> {
        let rows = anew.iter().map(|one| Row {
            held: &one.held,
            hash: self.hash.of(one.held.message.id.as_str()).1,
            attempts: one.attempts,
            why: one.why,
            source: Some((one.place, one.loan, one.sum)),
            stays: one.stays,
            buried: one.buried,
        });
        let rows: Vec<Row<'_>> = rows.collect();
        let moving = Moving {
            epoch: self.epoch(partition),
            stamp: if rows.is_empty() {
                Stamp::default()
            } else {
                new_stamp()?
            },
            blocks: self.pack(|packer| blocks(packer, &rows, usize::MAX)).0,
            from: anew.iter().map(|one| one.place).collect(),
        };
        call.push(anew.len());
        call.push(&moving.stamp[..]);
        moving.blocks.iter().for_each(|block| block.push_to(call));
        Ok(moving)
    }

    /// Notes where the messages of a call stand now.
    pub(super) fn moved(&self, partition: u32, moving: &Moving, wrote: &Wrote) {
        if moving.blocks.is_empty() {
            return;
        }
        let blocks = moving.blocks.iter().zip(&wrote.marks);
        let left = blocks.flat_map(|(block, marks)| {
            let hashes = block.hashes.chunks_exact(HASH_BYTES);
            let all = block.members.iter().zip(hashes).zip(marks);
            all.filter(|(_, mark)| **mark == b'1')
                .map(|((at, hash), _)| (moving.from[*at], hash))
        });
        let left = left.map(|(place, hash)| (place.block, place.slot, hash));
        self.note_moved(partition, moving.epoch, wrote.told(moving.stamp), left);
    }

    /// Blocks by their numbers alone, as another process may have leased them.
    async fn known_blocks(
        &self,
        partition: u32,
        blocks: &BTreeSet<u64>,
    ) -> Result<HashMap<u64, Arc<Open>>> {
        let mut opens = HashMap::new();
        let mut unknown = Vec::new();
        for &block in blocks {
            match self.remembered(partition, block) {
                Some(open) => drop(opens.insert(block, open)),
                None => unknown.push(block),
            }
        }
        if unknown.is_empty() {
            return Ok(opens);
        }
        let shelves = self.standing(partition).await?;
        let records = self.records(partition, &unknown).await?;
        let wanted = records.iter().filter_map(|record| record.wanted(&shelves));
        opens.extend(self.fetch(partition, wanted).await?);
        Ok(opens)
    }
}

/// Messages that are done, by runs of slots.
fn ranges(ones: &[One<'_>]) -> Vec<Range> {
    let mut done: Vec<(&One<'_>, u8)> = ones
        .iter()
        .filter_map(|one| match one.verdict {
            Verdict::Done(how) => Some((one, State::ended(*how).code())),
            _ => None,
        })
        .collect();
    done.sort_by_key(|(one, _)| (one.place, one.loan));
    let mut ranges: Vec<Range> = Vec::new();
    for (one, state) in done {
        match ranges.last_mut() {
            Some(last)
                if last.from.block == one.place.block
                    && last.to + 1 == one.place.slot
                    && (last.loan, last.state) == (one.loan, state) =>
            {
                last.to = one.place.slot;
                last.indices.push(one.index);
            }
            _ => ranges.push(Range {
                from: one.place,
                to: one.place.slot,
                loan: one.loan,
                state,
                indices: vec![one.index],
            }),
        }
    }
    ranges
}

/// A message that is deferred or buried, if it is there.
fn anew<'a>(one: &One<'a>, opens: &HashMap<u64, Arc<Open>>) -> Option<(Anew<'a>, usize)> {
    let open = opens.get(&one.place.block)?;
    let slot = one.place.slot as usize;
    // A loan's number is never 0, which stands for a kick.
    if slot >= open.head.len() || one.loan == 0 {
        return None;
    }
    let (due, attempted, why) = match one.verdict {
        Verdict::Done(_) => return None,
        Verdict::Defer { due, attempted } => (storable(*due), *attempted, None),
        Verdict::Bury { why } => (
            instant(open.key.due.unwrap_or_default()),
            false,
            Some(why.as_str()),
        ),
    };
    let held = helds(&open.head, &open.body, slot..slot + 1, &open.key, due).next()?;
    let anew = Anew {
        held,
        place: one.place,
        loan: one.loan,
        sum: open.sum,
        attempts: open.head.attempts(slot).saturating_add(attempted.into()),
        why,
        stays: why.map(|_| open.shelf),
        buried: why.is_some(),
    };
    Some((anew, one.index))
}

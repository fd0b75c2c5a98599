//! Messages out.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use nightgate_core::Priority;

use super::cache::Wanted;
use super::keys::{Place, counted, purpose_and_campaign, shelf_key, sortable};
use super::wire::{array, bytes, count, int};
use super::{RedisHold, odd};
use crate::error::Result;
use crate::hold::block::helds;
use crate::hold::instant::{instant, storable};
use crate::hold::key::ShelfKey;
use crate::hold::{LeaseAsk, Leased, Pick};

const OP: &str = "lease messages";
/// Most messages that one script lends.
const LEND_MAX: usize = 4_000;

/// A run of slots that a script lent.
struct Run {
    shelf: u64,
    block: u64,
    /// The arrival of the block's first slot.
    first: u64,
    from: usize,
    to: usize,
    lapsed: bool,
    sum: u32,
}

/// What a script lent.
struct Loan {
    lease: u64,
    runs: Vec<Run>,
    shelves: HashMap<u64, ShelfKey>,
    count: usize,
}

impl RedisHold {
    pub(super) async fn lend(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        let until = ask.now.saturating_add(ask.ttl).unwrap_or(Timestamp::MAX);
        let until = storable(until);
        let mut lent = Vec::new();
        if self.keys.len() == 1 {
            self.lend_in(0, ask, until, (0, Priority::LAST), &mut lent)
                .await?;
            return Ok(lent);
        }
        // Who has something of which priority, so that none overtakes in another partition.
        let mut of = Vec::new();
        for partition in self.all() {
            for priority in self.peek(partition, ask).await? {
                of.push((priority, partition));
            }
        }
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % self.keys.len();
        let priorities: BTreeSet<u8> = of.iter().map(|(priority, _)| *priority).collect();
        for priority in priorities {
            let mut some: Vec<u32> = of
                .iter()
                .filter(|(one, _)| *one == priority)
                .map(|(_, it)| *it)
                .collect();
            some.sort_by_key(|partition| {
                (*partition as usize + self.keys.len() - first) % self.keys.len()
            });
            for partition in some {
                if lent.len() < ask.max {
                    self.lend_in(partition, ask, until, (priority, priority), &mut lent)
                        .await?;
                }
            }
        }
        Ok(lent)
    }

    /// Puts back what is over in a partition, and says of which priorities something is due.
    async fn peek(&self, partition: u32, ask: &LeaseAsk<'_>) -> Result<Vec<u8>> {
        let call = self.scripts.peek.call(self.key(partition));
        let call = call.arg(ask.lane.as_str()).arg(&sortable(ask.now)[..]);
        let call = call.arg(counted(ask.now)).arg(Priority::LAST);
        let said = self.ask(&call, OP).await?;
        bytes(&said).map(<[u8]>::to_vec).ok_or_else(|| odd(OP))
    }

    /// Lends from one partition until `lent` has as many as asked for.
    async fn lend_in(
        &self,
        partition: u32,
        ask: &LeaseAsk<'_>,
        until: Timestamp,
        (first, last): (u8, u8),
        lent: &mut Vec<Leased>,
    ) -> Result<()> {
        let pick = match ask.pick {
            Pick::Any => String::new(),
            Pick::Campaign(purpose, campaign) => {
                format!("={}", purpose_and_campaign(purpose, campaign))
            }
        };
        loop {
            let want = (ask.max - lent.len()).min(LEND_MAX);
            let call = self.scripts.lease.call(self.key(partition));
            let call = call.arg(ask.lane.as_str()).arg(&sortable(ask.now)[..]);
            let call = call.arg(counted(ask.now)).arg(&sortable(until)[..]);
            let call = call.arg(want).arg(first).arg(last).arg(&pick);
            // Waits as a put does: a loan that a failover loses is lent twice at once, and a master
            // that was left would lend what its successor lends.
            let said = self.write_one(call, OP).await?;
            let loan = read_loan(said, ask).ok_or_else(|| odd(OP))?;
            let count = loan.count;
            self.open_loan(partition, loan, until, lent).await?;
            if count < want || lent.len() >= ask.max || count == 0 {
                return Ok(());
            }
        }
    }

    async fn open_loan(
        &self,
        partition: u32,
        loan: Loan,
        until: Timestamp,
        lent: &mut Vec<Leased>,
    ) -> Result<()> {
        let wanted = loan.runs.iter().filter_map(|run| {
            let key = loan.shelves.get(&run.shelf)?.clone();
            Some(Wanted {
                block: run.block,
                shelf: run.shelf,
                key,
                sum: run.sum,
            })
        });
        let blocks = self.fetch(partition, wanted).await?;
        let begin = lent.len();
        let mut order = Vec::with_capacity(loan.count);
        for run in &loan.runs {
            // Gone meanwhile: the loan has lapsed, and somebody else has settled it.
            let Some(open) = blocks.get(&run.block) else {
                continue;
            };
            let key = loan.shelves.get(&run.shelf).unwrap_or(&open.key);
            let due = instant(key.due.unwrap_or_default());
            if run.to >= open.head.len() {
                return Err(odd(OP));
            }
            let all = helds(&open.head, &open.body, run.from..run.to + 1, key, due);
            for (slot, held) in (run.from..).zip(all) {
                let place = Place {
                    partition,
                    block: run.block,
                    slot: u32::try_from(slot).unwrap_or(u32::MAX),
                };
                let arrival = run.first + u64::from(open.head.arrival(slot));
                order.push((key.priority, key.due, arrival));
                lent.push(Leased {
                    token: place.token(loan.lease),
                    held,
                    until,
                    attempts: open.head.attempts(slot),
                    lapsed: run.lapsed,
                });
            }
        }
        // Runs come block by block; blocks of one due may interleave.
        if !order.is_sorted() {
            let mut both: Vec<_> = order.into_iter().zip(lent.drain(begin..)).collect();
            both.sort_by_key(|one| one.0);
            lent.extend(both.into_iter().map(|(_, leased)| leased));
        }
        Ok(())
    }
}

fn read_loan(said: ::redis::Value, ask: &LeaseAsk<'_>) -> Option<Loan> {
    let mut parts = array(said)?.into_iter();
    let lease = count(&parts.next()?)?;
    let flat = array(parts.next()?)?;
    let names = array(parts.next()?)?;
    let (mut runs, mut total) = (Vec::with_capacity(flat.len() / 8), 0);
    for run in flat.chunks_exact(8) {
        let place = |at: usize| count(&run[at]).and_then(|it| usize::try_from(it).ok());
        let (from, to) = (place(4)?, place(5)?);
        total += to.checked_sub(from)? + 1;
        runs.push(Run {
            block: count(&run[0])?,
            shelf: count(&run[1])?,
            first: count(&run[2])?,
            from,
            to,
            lapsed: int(&run[6])? == 1,
            sum: count(&run[7]).and_then(|sum| u32::try_from(sum).ok())?,
        });
    }
    let mut shelves = HashMap::new();
    for name in names.chunks_exact(5) {
        let (due, pc, class) = (bytes(&name[2])?, bytes(&name[3])?, bytes(&name[4])?);
        let lane = ask.lane.as_str().as_bytes();
        shelves.insert(
            count(&name[0])?,
            shelf_key(lane, int(&name[1])?, due, pc, class)?,
        );
    }
    Some(Loan {
        lease,
        runs,
        shelves,
        count: total,
    })
}

//! What is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use jiff::Timestamp;
use nightgate_core::{MessageId, Priority};

use super::cache::{Open, Wanted};
use super::keys::{instant_of, shelf_key};
use super::wire::{array, bytes, count, int};
use super::{RedisHold, odd};
use crate::error::Result;
use crate::hold::block::helds;
use crate::hold::instant::{instant, nanos};
use crate::hold::key::ShelfKey;
use crate::hold::{Found, Held, Lane, Pause, Shelf, State};
use crate::redis::Call;

const OP: &str = "read what is held";
/// Most blocks whose records are asked for in one script.
const RECORDS_MAX: usize = 500;
/// Most ids looked up in one script.
const IDS_MAX: usize = 1_000;
/// Most blocks in which one script forgets ids.
const SWEEP_BLOCKS: u64 = 150;
/// The name of the global stop; lanes stand behind a letter.
const ALL_LANES: &str = "*";

/// A shelf of a partition as it stands.
pub(super) struct Standing {
    pub(super) key: ShelfKey,
    /// Held, leased, buried.
    pub(super) counts: [u64; 3],
}

/// What the hold knows of a block.
pub(super) struct Record {
    pub(super) block: u64,
    pub(super) shelf: u64,
    first: u64,
    arrivals: Vec<u8>,
    runs: Vec<Run>,
    sum: u32,
}

/// Slots that share their state.
pub(super) struct Run {
    from: u32,
    to: u32,
    stands: Stands,
}

/// Where a message is.
#[derive(Clone, Copy)]
pub(super) struct Stands {
    pub(super) state: State,
    /// It is held, and came back from a loan that lapsed.
    pub(super) lapsed: bool,
}

/// A message by its place, and when it arrived.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) arrival: u64,
    pub(super) partition: u32,
    pub(super) block: u64,
    pub(super) slot: u32,
    pub(super) shelf: u64,
    pub(super) sum: u32,
}

impl Record {
    /// The block, to be read.
    pub(super) fn wanted(&self, shelves: &HashMap<u64, Standing>) -> Option<Wanted> {
        let key = shelves.get(&self.shelf)?.key.clone();
        Some(Wanted {
            block: self.block,
            shelf: self.shelf,
            key,
            sum: self.sum,
        })
    }

    /// Its messages in one of these states.
    pub(super) fn spots(&self, partition: u32, states: &[State]) -> Vec<(Spot, Stands)> {
        let is_one = |run: &&Run| states.contains(&run.stands.state);
        let runs = self.runs.iter().filter(is_one);
        let spot = |slot: u32| {
            let at = slot as usize * 2;
            let after = match self.arrivals.get(at..at + 2) {
                Some(after) => u64::from(u16::from_le_bytes([after[0], after[1]])),
                None => u64::from(slot),
            };
            Spot {
                arrival: self.first + after,
                partition,
                block: self.block,
                slot,
                shelf: self.shelf,
                sum: self.sum,
            }
        };
        runs.flat_map(|run| (run.from..=run.to).map(move |slot| (spot(slot), run.stands)))
            .collect()
    }

    fn read(block: u64, value: ::redis::Value) -> Option<Option<Self>> {
        let fields = array(value)?;
        let [shelf, first, _, arrivals, runs, sum] = &fields[..] else {
            return fields.is_empty().then_some(None);
        };
        let runs: Option<Vec<Run>> = array(runs.clone())?
            .chunks_exact(6)
            // Slots that are not there have a number that is no state.
            .filter_map(|run| {
                let state = State::from_code(u8::try_from(int(&run[2])?).ok()?)?;
                let lapsed = state == State::Held && count(&run[3]) == Some(1);
                let stands = Stands { state, lapsed };
                let slot = |at: usize| count(&run[at]).and_then(|it| u32::try_from(it).ok());
                Some(
                    slot(0)
                        .zip(slot(1))
                        .map(|(from, to)| Run { from, to, stands }),
                )
            })
            .collect();
        Some(Some(Self {
            block,
            shelf: count(shelf)?,
            first: count(first)?,
            arrivals: bytes(arrivals)?.to_vec(),
            runs: runs?,
            sum: count(sum).and_then(|sum| u32::try_from(sum).ok())?,
        }))
    }
}

/// A message of an open block.
pub(super) fn held_of(open: &Open, slot: u32, key: &ShelfKey) -> Option<Held> {
    let slot = slot as usize;
    let due = instant(key.due.unwrap_or_default());
    (slot < open.head.len())
        .then(|| helds(&open.head, &open.body, slot..slot + 1, key, due).next())?
}

pub(super) fn found_of(open: &Open, slot: u32, key: &ShelfKey, stands: Stands) -> Option<Found> {
    let held = held_of(open, slot, key)?;
    let at = slot as usize;
    Some(Found {
        held,
        state: stands.state,
        attempts: open.head.attempts(at),
        lapsed: stands.lapsed,
        why: open.head.why(at).map(str::to_owned),
    })
}

impl RedisHold {
    /// The shelves of a partition by their numbers.
    pub(super) async fn standing(&self, partition: u32) -> Result<HashMap<u64, Standing>> {
        let said = self
            .ask(&self.scripts.shelves.call(self.key(partition)), OP)
            .await?;
        let flat = array(said).ok_or_else(|| odd(OP))?;
        let read = |of: &[::redis::Value]| {
            let (lane, due, pc) = (bytes(&of[1])?, bytes(&of[3])?, bytes(&of[4])?);
            let key = shelf_key(lane, int(&of[2])?, due, pc, bytes(&of[5])?)?;
            let counts = [count(&of[6])?, count(&of[7])?, count(&of[8])?];
            Some((count(&of[0])?, Standing { key, counts }))
        };
        let all: Option<_> = flat.chunks_exact(9).map(read).collect();
        all.ok_or_else(|| odd(OP))
    }

    /// The blocks of some shelves, oldest first.
    pub(super) async fn blocks_of(
        &self,
        partition: u32,
        shelves: impl Iterator<Item = u64>,
    ) -> Result<Vec<u64>> {
        let key = self.key(partition);
        let calls: Vec<Call> = shelves
            .map(|shelf| Call::on("SMEMBERS", &format!("{key}x{shelf}")))
            .collect();
        let said = self.redis.pipeline(&calls).await;
        let mut blocks = BTreeSet::new();
        for value in said.map_err(|fault| super::failed(OP, fault))? {
            let value = value.map_err(|fault| super::failed(OP, fault))?;
            let members = array(value).ok_or_else(|| odd(OP))?;
            blocks.extend(members.iter().filter_map(count));
        }
        Ok(blocks.into_iter().collect())
    }

    /// What is known of blocks; those that are gone are left out.
    pub(super) async fn records(&self, partition: u32, blocks: &[u64]) -> Result<Vec<Record>> {
        let mut records = Vec::with_capacity(blocks.len());
        for some in blocks.chunks(RECORDS_MAX) {
            let mut call = self.scripts.records.call(self.key(partition));
            some.iter().for_each(|block| call.push(*block));
            let said = array(self.ask(&call, OP).await?).ok_or_else(|| odd(OP))?;
            for (block, value) in some.iter().zip(said) {
                records.extend(Record::read(*block, value).ok_or_else(|| odd(OP))?);
            }
        }
        Ok(records)
    }

    pub(super) async fn count_shelves(
        &self,
        lane: Option<&Lane>,
        due_by: Option<Timestamp>,
    ) -> Result<Vec<Shelf>> {
        // A shelf stands in many partitions, and after a re-dating perhaps twice in one.
        let mut merged = BTreeMap::new();
        let by = due_by.map(nanos);
        for partition in self.all() {
            for Standing { key, counts } in self.standing(partition).await?.into_values() {
                let due = key.due.unwrap_or_default();
                let shown = lane.is_none_or(|lane| *lane == key.lane)
                    && by.is_none_or(|by| due <= by)
                    && counts != [0; 3];
                if !shown {
                    continue;
                }
                let ShelfKey {
                    lane,
                    purpose,
                    class,
                    campaign,
                    priority,
                    ..
                } = key;
                let name = (
                    lane.clone(),
                    priority,
                    due,
                    purpose.as_str(),
                    class.clone(),
                    campaign,
                );
                let shelf = merged.entry(name.clone()).or_insert_with(|| Shelf {
                    lane,
                    purpose,
                    class,
                    campaign: name.5,
                    priority: priority.get(),
                    due: instant(due),
                    held: 0,
                    leased: 0,
                    buried: 0,
                });
                shelf.held += counts[0];
                shelf.leased += counts[1];
                shelf.buried += counts[2];
            }
        }
        Ok(merged.into_values().collect())
    }

    pub(super) async fn first_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        let mut first: Option<Timestamp> = None;
        for partition in self.all() {
            let call = self.scripts.next.call(self.key(partition));
            let said = self
                .ask(&call.arg(lane.as_str()).arg(Priority::LAST), OP)
                .await?;
            let both = array(said).ok_or_else(|| odd(OP))?;
            let instants = both.iter().filter_map(bytes).filter_map(instant_of);
            first = first.into_iter().chain(instants).min();
        }
        Ok(first.map(|at| at.max(now)))
    }

    pub(super) async fn look_up(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        let mut found = vec![None; ids.len()];
        let mut of: Vec<Vec<(usize, [u8; 10])>> = vec![Vec::new(); self.keys.len()];
        for (index, id) in ids.iter().enumerate() {
            let (partition, hash) = self.hash.of(id.as_str());
            of[partition as usize].push((index, hash));
        }
        for (partition, asked) in self.all().zip(of) {
            for some in asked.chunks(IDS_MAX) {
                let hashes: Vec<u8> = some.iter().flat_map(|(_, hash)| *hash).collect();
                let begin = || self.scripts.look.call(self.key(partition));
                let said = self.by_ids(partition, begin, &hashes, (OP, false)).await?;
                let said = said.into_iter().next().and_then(array);
                let said = said.ok_or_else(|| odd(OP))?;
                let mut known = Vec::new();
                for ((index, _), value) in some.iter().zip(said) {
                    let spot = read_spot(value).ok_or_else(|| odd(OP))?;
                    known.extend(spot.map(|(wanted, slot, stands)| (*index, wanted, slot, stands)));
                }
                let wanted = known.iter().map(|(_, wanted, ..)| wanted.clone());
                let blocks = self.fetch(partition, wanted).await?;
                for (index, wanted, slot, stands) in known {
                    let open = blocks.get(&wanted.block);
                    let of = open.and_then(|open| found_of(open, slot, &wanted.key, stands));
                    // Two ids may share a hash: then this one is not known.
                    found[index] = of.filter(|it| it.held.message.id == ids[index]);
                }
            }
        }
        Ok(found)
    }

    /// Lists by arrival. Reads the records of all blocks of the lane: one for some hundreds of
    /// messages.
    pub(super) async fn list_some(
        &self,
        state: State,
        lane: Option<&Lane>,
        max: usize,
    ) -> Result<Vec<Found>> {
        if ![State::Held, State::Leased, State::Buried].contains(&state) {
            return Ok(Vec::new());
        }
        let mut spots = Vec::new();
        let mut shelves = HashMap::new();
        for partition in self.all() {
            let standing = self.standing(partition).await?;
            let wanted = |it: &Standing| lane.is_none_or(|lane| it.key.lane == *lane);
            let some = standing
                .iter()
                .filter(|(_, it)| wanted(it))
                .map(|(shelf, _)| *shelf);
            let blocks = self.blocks_of(partition, some).await?;
            for record in self.records(partition, &blocks).await? {
                spots.extend(record.spots(partition, &[state]));
            }
            shelves.extend(
                standing
                    .into_iter()
                    .map(|(shelf, it)| ((partition, shelf), it)),
            );
        }
        spots.sort_unstable_by_key(|(spot, _)| *spot);
        spots.truncate(max);
        let mut listed = Vec::with_capacity(spots.len());
        for (spot, stands) in spots {
            let Some(standing) = shelves.get(&(spot.partition, spot.shelf)) else {
                continue;
            };
            let key = &standing.key;
            let wanted = Wanted {
                block: spot.block,
                shelf: spot.shelf,
                key: key.clone(),
                sum: spot.sum,
            };
            let blocks = self.fetch(spot.partition, [wanted]).await?;
            let open = blocks.get(&spot.block);
            let found = open.and_then(|open| found_of(open, spot.slot, key, stands));
            listed.extend(found.map(|mut found| {
                found.held.message.body = Bytes::new();
                found
            }));
        }
        Ok(listed)
    }

    /// Forgets what ended longer ago than the horizon; then tidies a bounded part of what this
    /// process knows.
    pub(super) async fn forget(&self, now: Timestamp) -> Result<u64> {
        const OP: &str = "forget ids that ended long ago";
        let limit = self.forgotten_before(now);
        let round = self.sweeps.fetch_add(1, Ordering::Relaxed);
        let mut forgotten = 0;
        for partition in self.all() {
            let key = self.key(partition);
            loop {
                let call = self.scripts.sweep.call(key).arg(&limit).arg(SWEEP_BLOCKS);
                let said = array(self.ask(&call, OP).await?).ok_or_else(|| odd(OP))?;
                let counts: Vec<u64> = said.iter().filter_map(count).collect();
                let [messages, blocks] = counts[..] else {
                    return Err(odd(OP));
                };
                forgotten += messages;
                if blocks < SWEEP_BLOCKS || messages == 0 {
                    break;
                }
            }
            self.tidy(partition, round).await?;
        }
        Ok(forgotten)
    }

    fn stops(&self) -> String {
        format!("{}p", self.key(0))
    }

    pub(super) async fn set_pause(
        &self,
        lane: Option<&Lane>,
        paused: bool,
        now: Timestamp,
    ) -> Result<()> {
        let field = match lane {
            Some(lane) => format!("l{}", lane.as_str()),
            None => ALL_LANES.to_owned(),
        };
        let call = match paused {
            true => {
                let call = self.scripts.set_new.call(&self.stops());
                call.arg(field).arg(now.to_string())
            }
            false => Call::on("HDEL", &self.stops()).arg(field),
        };
        self.write_one(call, "set or lift a stop").await.map(drop)
    }

    pub(super) async fn list_pauses(&self) -> Result<Vec<Pause>> {
        const OP: &str = "read the stops";
        let said = self.ask(&Call::on("HGETALL", &self.stops()), OP).await?;
        let pairs: Vec<(String, String)> = ::redis::from_redis_value(said).map_err(|_| odd(OP))?;
        let read = |(field, since): &(String, String)| {
            let lane = match field.as_str() {
                ALL_LANES => None,
                lane => Some(Lane::new(lane.strip_prefix('l')?)),
            };
            Some(Pause {
                lane,
                since: since.parse().ok()?,
            })
        };
        let pauses: Option<Vec<Pause>> = pairs.iter().map(read).collect();
        let mut pauses = pauses.ok_or_else(|| odd(OP))?;
        pauses.sort_by(|one, two| one.lane.cmp(&two.lane));
        Ok(pauses)
    }
}

/// An answer about one id: its block, slot and state, or nothing.
fn read_spot(value: ::redis::Value) -> Option<Option<(Wanted, u32, Stands)>> {
    let of = array(value)?;
    if of.is_empty() {
        return Some(None);
    }
    let (Some(block), Some(slot)) = (of.first().and_then(count), of.get(1).and_then(count)) else {
        return None;
    };
    let state = State::from_code(u8::try_from(int(of.get(3)?)?).ok()?)?;
    let (due, pc, class) = (bytes(of.get(5)?)?, bytes(of.get(6)?)?, bytes(of.get(7)?)?);
    let key = shelf_key(bytes(of.get(8)?)?, int(of.get(4)?)?, due, pc, class)?;
    let shelf = of.get(9).and_then(count)?;
    let sum = of
        .get(10)
        .and_then(count)
        .and_then(|sum| u32::try_from(sum).ok())?;
    Some(Some((
        Wanted {
            block,
            shelf,
            key,
            sum,
        },
        u32::try_from(slot).ok()?,
        Stands {
            state,
            lapsed: state == State::Held && of.get(11).and_then(count) == Some(1),
        },
    )))
}

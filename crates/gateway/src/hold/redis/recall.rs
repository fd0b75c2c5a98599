//! Taking back, bringing back, moving to another due.

use std::collections::HashMap;

use jiff::Timestamp;
use nightgate_core::{Class, RecipientKey};

use super::keys::{Place, counted, sortable};
use super::query::{Record, Spot, Standing, held_of};
use super::settle::Anew;
use super::wire::{array, count};
use super::{RedisHold, odd};
use crate::error::Result;
use crate::hold::instant::{nanos, storable};
use crate::hold::key::ShelfKey;
use crate::hold::{Held, Lane, Recalled, Scope, State};
use crate::redis::Call;

/// Blocks that one script takes back: the server does nothing else meanwhile, 40 us each.
const RECALL_BLOCKS: usize = 100;
/// Blocks read in one go to find a recipient.
const READ_BLOCKS: usize = 64;
/// How often a recall looks again, since a message may be put back while it looks.
const PASSES_MAX: usize = 8;
/// Buried messages brought back by one script.
const KICK_MAX: usize = 500;
const RECALL: &str = "recall messages";
const KICK: &str = "kick buried messages";
const REDATE: &str = "move shelves to another due";

impl RedisHold {
    pub(super) async fn take_back(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        for partition in self.all() {
            // What is over on any lane comes back first, and is held then.
            let call = self.scripts.peek.call(self.key(partition)).arg("");
            let call = call.arg(&sortable(now)[..]).arg(counted(now));
            self.write_one(call, RECALL).await?;
        }
        let mut total = Recalled::default();
        if let Scope::Id(id) = scope {
            let (partition, hash) = self.hash.of(id.as_str());
            let begin = || {
                let call = self.scripts.recall_id.call(self.key(partition));
                call.arg(counted(now))
            };
            let counts = self.by_ids(partition, begin, &hash, (RECALL, true)).await?;
            return read_recalled(&counts).ok_or_else(|| odd(RECALL));
        }
        for partition in self.all() {
            for _ in 0..PASSES_MAX {
                let before = total;
                self.take_back_in(partition, scope, now, &mut total).await?;
                if total == before {
                    break;
                }
            }
        }
        Ok(total)
    }

    async fn take_back_in(
        &self,
        partition: u32,
        scope: &Scope,
        now: Timestamp,
        total: &mut Recalled,
    ) -> Result<()> {
        let shelves = self.standing(partition).await?;
        let some = shelves.iter().filter(|(_, it)| is_within(&it.key, scope));
        let blocks = self
            .blocks_of(partition, some.map(|(shelf, _)| *shelf))
            .await?;
        if let Scope::Recipient(key) = scope {
            for some in blocks.chunks(READ_BLOCKS) {
                let records = self.records(partition, some).await?;
                let spots = self
                    .of_recipient(partition, &records, &shelves, key)
                    .await?;
                if spots.is_empty() {
                    continue;
                }
                let mut call = self.recalling(partition, now);
                for spot in spots {
                    call = call.arg(spot.block).arg(spot.slot).arg(spot.slot);
                }
                self.add_recall(call, total).await?;
            }
            return Ok(());
        }
        for some in blocks.chunks(RECALL_BLOCKS) {
            let mut call = self.recalling(partition, now);
            for block in some {
                call = call.arg(*block).arg(0).arg(super::keys::SLOTS);
            }
            self.add_recall(call, total).await?;
        }
        Ok(())
    }

    fn recalling(&self, partition: u32, now: Timestamp) -> Call {
        self.scripts
            .recall
            .call(self.key(partition))
            .arg(counted(now))
    }

    async fn add_recall(&self, call: Call, total: &mut Recalled) -> Result<()> {
        let said = array(self.write_one(call, RECALL).await?).ok_or_else(|| odd(RECALL))?;
        let some = read_recalled(&said).ok_or_else(|| odd(RECALL))?;
        total.recalled += some.recalled;
        total.in_flight += some.in_flight;
        Ok(())
    }

    /// The live messages of one recipient in some blocks, which are read.
    async fn of_recipient(
        &self,
        partition: u32,
        records: &[Record],
        shelves: &HashMap<u64, Standing>,
        key: &RecipientKey,
    ) -> Result<Vec<Spot>> {
        let wanted = records.iter().filter_map(|record| record.wanted(shelves));
        let opens = self.fetch(partition, wanted).await?;
        let live = [State::Held, State::Leased, State::Buried];
        let mut spots = Vec::new();
        for record in records {
            let Some(open) = opens.get(&record.block) else {
                continue;
            };
            let is_theirs = |spot: &Spot| {
                let slot = spot.slot as usize;
                slot < open.head.len() && open.head.recipient_key(slot) == key.expose()
            };
            let all = record
                .spots(partition, &live)
                .into_iter()
                .map(|(spot, _)| spot);
            spots.extend(all.filter(is_theirs));
        }
        Ok(spots)
    }

    pub(super) async fn bring_back(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        let mut kicked = 0;
        for partition in self.all() {
            if let Scope::Id(id) = scope
                && self.hash.of(id.as_str()).0 != partition
            {
                continue;
            }
            let shelves = self.standing(partition).await?;
            let call = Call::on("ZRANGE", &format!("{}u", self.key(partition)))
                .arg(0)
                .arg(-1);
            let said = array(self.ask(&call, KICK).await?).ok_or_else(|| odd(KICK))?;
            let blocks: Vec<u64> = said.iter().filter_map(count).collect();
            let records = self.records(partition, &blocks).await?;
            let mut spots: Vec<Spot> = records
                .iter()
                .filter(|record| {
                    shelves
                        .get(&record.shelf)
                        .is_some_and(|it| is_within(&it.key, scope))
                })
                .flat_map(|record| record.spots(partition, &[State::Buried]))
                .map(|(spot, _)| spot)
                .collect();
            // In the order in which they were buried.
            spots.sort_unstable();
            for some in spots.chunks(KICK_MAX) {
                kicked += self
                    .bring_back_some(partition, some, &shelves, scope, now)
                    .await?;
            }
        }
        Ok(kicked)
    }

    async fn bring_back_some(
        &self,
        partition: u32,
        spots: &[Spot],
        shelves: &HashMap<u64, Standing>,
        scope: &Scope,
        now: Timestamp,
    ) -> Result<u64> {
        let wanted = spots.iter().filter_map(|spot| {
            let key = shelves.get(&spot.shelf)?.key.clone();
            Some(super::cache::Wanted {
                block: spot.block,
                shelf: spot.shelf,
                key,
                sum: spot.sum,
            })
        });
        let opens = self.fetch(partition, wanted).await?;
        let anew = spots.iter().filter_map(|spot| {
            let key = shelves.get(&spot.shelf)?.key.at(Some(nanos(storable(now))));
            let held = held_of(opens.get(&spot.block)?, spot.slot, &key)?;
            let is_meant = match scope {
                Scope::Id(id) => held.message.id == *id,
                Scope::Recipient(key) => held.key == *key,
                Scope::Campaign(_) | Scope::Lane(_) => true,
            };
            is_meant.then(|| kicked(spot, held))
        });
        let anew: Vec<Anew<'_>> = anew.collect();
        if anew.is_empty() {
            return Ok(0);
        }
        let mut call = self.settling(partition, now).arg(0);
        let moving = self.add_anew(&mut call, partition, &anew)?;
        let said = self.write_one(call, KICK).await?;
        let (_, wrote) = moving.read(said, 0).ok_or_else(|| odd(KICK))?;
        self.moved(partition, &moving, &wrote);
        let marks = wrote.marks.iter().flatten();
        Ok(marks.filter(|mark| **mark == b'1').count() as u64)
    }

    pub(super) async fn move_shelves(
        &self,
        lane: &Lane,
        class: &Class,
        now: Timestamp,
        to: Timestamp,
    ) -> Result<u64> {
        let mut moved = 0;
        for partition in self.all() {
            for (shelf, Standing { key, .. }) in self.standing(partition).await? {
                let due = key.due.is_some_and(|due| due <= nanos(now));
                if key.lane != *lane || key.class != *class || !due {
                    continue;
                }
                let call = self.scripts.redate.call(self.key(partition)).arg(shelf);
                let call = call.arg(&sortable(now)[..]).arg(&sortable(to)[..]);
                let said = self.write_one(call, REDATE).await?;
                moved += count(&said).ok_or_else(|| odd(REDATE))?;
            }
        }
        Ok(moved)
    }
}

/// Whether messages of this shelf may be meant; which of them, only they say.
fn is_within(key: &ShelfKey, scope: &Scope) -> bool {
    match scope {
        Scope::Campaign(name) => key.campaign.as_ref() == Some(name),
        Scope::Lane(lane) => key.lane == *lane,
        Scope::Id(_) | Scope::Recipient(_) => true,
    }
}

fn read_recalled(said: &[::redis::Value]) -> Option<Recalled> {
    let [recalled, in_flight] = said else {
        return None;
    };
    Some(Recalled {
        recalled: count(recalled)?,
        in_flight: count(in_flight)?,
    })
}

fn kicked(spot: &Spot, held: Held) -> Anew<'static> {
    let place = Place {
        partition: spot.partition,
        block: spot.block,
        slot: spot.slot,
    };
    Anew {
        held,
        place,
        loan: 0,
        sum: spot.sum,
        attempts: 0,
        why: None,
        stays: None,
        buried: false,
    }
}

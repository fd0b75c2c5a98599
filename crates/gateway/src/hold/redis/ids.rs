//! Keeping up with the ids that are on the server. Nothing is decided here: a script checks every
//! suspicion, and answers "behind" or "reload" where this process knows too little or what is no
//! longer so. Then it reads, and asks again.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ::redis::Value;

use super::keys::HASH_BYTES;
use super::table::{Ask, Stale, Stamp, Table, Told};
use super::wire::{array, bytes, count};
use super::{RedisHold, odd};
use crate::error::{Error, Kind, Result};
use crate::redis::Call;

/// How often a call asks again, each time having read what it lacked.
pub(super) const TRIES_MAX: usize = 8;
/// Blocks and ids of one page: the server does nothing else meanwhile.
const PAGE_BLOCKS: usize = 1_000;
const PAGE_IDS: usize = 20_000;
/// Records in one page of a walk over all of them; the server may give some more.
const SCAN_COUNT: usize = 500;
/// Blocks that one script is asked about, whether they are there, and scripts a partition in one
/// sweep.
const ALIVE_BLOCKS: usize = 2_000;
const ALIVE_CALLS: usize = 16;
const READ: &str = "read which ids are known";

/// What a script answers instead, as `lua/ids.lua` has it.
const BEHIND: u64 = 1;
const RELOAD: u64 = 2;

/// What this process knows of one partition.
pub(super) struct Known {
    table: Mutex<Table>,
    /// Held by the one who reads for all.
    reading: tokio::sync::Mutex<()>,
}

/// What a process must do before it asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    Behind,
    Reload,
}

impl Known {
    pub(super) fn new(chapter_ids: Option<usize>) -> Self {
        Self {
            table: Mutex::new(Table::new(chapter_ids)),
            reading: tokio::sync::Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A put under way: others of this process need not look at its blocks.
pub(super) struct Flight<'a> {
    known: &'a Known,
    hashes: &'a [u8],
    call: u32,
    pub(super) stamp: Stamp,
    pub(super) ask: Ask,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.known.table().arrive(self.call, self.hashes);
    }
}

/// A stamp that no other call has.
pub(super) fn new_stamp() -> Result<Stamp> {
    let mut stamp = Stamp::default();
    aws_lc_rs::rand::fill(&mut stamp)
        .map_err(|_| Error::new(Kind::Unavailable, "hold", "sign a call"))?;
    Ok(stamp)
}

/// Adds what a script needs to know of this process.
pub(super) fn push_ask(call: &mut Call, ask: &Ask) {
    call.push(ask.upto);
    call.push(&ask.stamp[..]);
    call.push(&ask.own[..]);
    call.push(&ask.suspects[..]);
}

/// The parts of an answer, or what is lacking.
pub(super) fn read_answer(said: Value) -> Option<std::result::Result<Vec<Value>, Lack>> {
    match count(&said) {
        Some(BEHIND) => Some(Err(Lack::Behind)),
        Some(RELOAD) => Some(Err(Lack::Reload)),
        _ => array(said).map(Ok),
    }
}

impl RedisHold {
    /// Begins a put of these ids, which stays noted until the flight is dropped.
    pub(super) fn depart<'a>(&'a self, partition: u32, hashes: &'a [u8]) -> Result<Flight<'a>> {
        let stamp = new_stamp()?;
        let known = self.known(partition);
        let mut table = known.table();
        let ask = table.ask(hashes);
        let call = table.depart(stamp, hashes);
        Ok(Flight {
            known,
            hashes,
            call,
            stamp,
            ask,
        })
    }

    /// Notes the blocks behind `ask.upto` that an answer told, and those that the call wrote: their
    /// numbers and ids.
    pub(super) fn learn<'t>(
        &self,
        partition: u32,
        ask: &Ask,
        told: Value,
        wrote: impl Iterator<Item = (u64, Told<'t>)>,
    ) -> Option<()> {
        let told = array(told)?;
        let told: Option<Vec<Told<'_>>> =
            told.iter().map(|text| Told::read(bytes(text)?)).collect();
        let all = (ask.upto + 1..).zip(told?);
        // Their texts live shorter than what was written.
        let wrote = wrote.map(|(block, told)| -> (u64, Told<'_>) { (block, told) });
        let all = all.chain(wrote);
        self.note(partition, ask.epoch, all);
        Some(())
    }

    /// Notes blocks, unless all was forgotten since.
    pub(super) fn note<'t>(
        &self,
        partition: u32,
        epoch: u64,
        mut all: impl Iterator<Item = (u64, Told<'t>)>,
    ) {
        let mut table = self.known(partition).table();
        if table.epoch() != epoch || !table.is_loaded() {
            return;
        }
        match all.try_for_each(|(block, told)| table.learn(block, told)) {
            Ok(()) => table.advance(),
            Err(Stale) => table.reset(epoch),
        }
    }

    /// The number of what is known now, for [`RedisHold::note`].
    pub(super) fn epoch(&self, partition: u32) -> u64 {
        self.known(partition).table().epoch()
    }

    /// Forgets places whose messages have moved.
    pub(super) fn forget_places<'h>(
        &self,
        partition: u32,
        places: impl Iterator<Item = (u64, u32, &'h [u8; HASH_BYTES])>,
    ) {
        let mut table = self.known(partition).table();
        for (block, slot, hash) in places {
            table.forget(block, slot, hash);
        }
    }

    /// Asks a script that looks for ids until this process knows enough. `begin`: the call, but for
    /// what it knows and the hashes. Says the answer behind the blocks that it told.
    pub(super) async fn by_ids(
        &self,
        partition: u32,
        begin: impl Fn() -> Call,
        hashes: &[u8],
        (op, writes): (&'static str, bool),
    ) -> Result<Vec<Value>> {
        for _ in 0..TRIES_MAX {
            self.load(partition).await?;
            let ask = self.known(partition).table().ask(hashes);
            let mut call = begin();
            push_ask(&mut call, &ask);
            let call = call.arg(hashes);
            let said = match writes {
                true => self.write_one(call, op).await?,
                false => self.ask(&call, op).await?,
            };
            match read_answer(said).ok_or_else(|| odd(op))? {
                Err(lack) => self.read_on(partition, &ask, lack).await?,
                Ok(parts) => {
                    let mut parts = parts.into_iter();
                    let told = parts.next().ok_or_else(|| odd(op))?;
                    self.learn(partition, &ask, told, std::iter::empty())
                        .ok_or_else(|| odd(op))?;
                    return Ok(parts.collect());
                }
            }
        }
        Err(outrun(op))
    }

    /// Reads what a call lacked.
    pub(super) async fn read_on(&self, partition: u32, ask: &Ask, lack: Lack) -> Result<()> {
        match lack {
            Lack::Behind => self.catch_up(partition, ask).await,
            // The next try loads it.
            Lack::Reload => {
                self.known(partition).table().reset(ask.epoch);
                Ok(())
            }
        }
    }

    /// Reads all ids of a partition, unless that was done. Those who ask meanwhile wait for it.
    pub(super) async fn load(&self, partition: u32) -> Result<()> {
        let known = self.known(partition);
        if known.table().is_loaded() {
            return Ok(());
        }
        let _one = known.reading.lock().await;
        if known.table().is_loaded() {
            return Ok(());
        }
        let meta = Call::on("HMGET", &format!("{}m", self.key(partition)));
        let meta = meta.arg("block").arg("stamp");
        let said = array(self.ask(&meta, READ).await?).ok_or_else(|| odd(READ))?;
        let last = said.first().and_then(count).unwrap_or(0);
        let stamp = said
            .get(1)
            .and_then(bytes)
            .and_then(|it| it.try_into().ok());
        let mut table = Table::new(self.chapter_ids);
        // What is written from here on lies behind `last`: nobody need stop for this.
        let blocks = match last {
            0 => Vec::new(),
            _ => self.all_blocks(partition, last).await?,
        };
        let mut rest = &blocks[..];
        while !rest.is_empty() {
            let some = &rest[..rest.len().min(PAGE_BLOCKS)];
            let mut call = self.scripts.packs.call(self.key(partition)).arg(PAGE_IDS);
            some.iter().for_each(|block| call.push(*block));
            let said = array(self.ask(&call, READ).await?).ok_or_else(|| odd(READ))?;
            if said.is_empty() || said.len() > some.len() {
                return Err(odd(READ));
            }
            for (block, text) in some.iter().zip(&said) {
                let text = bytes(text).ok_or_else(|| odd(READ))?;
                match Told::ids(text) {
                    Some(Told::Ids(_, hashes)) => table.insert(*block, hashes),
                    // Gone meanwhile.
                    _ if text.is_empty() => {}
                    _ => return Err(odd(READ)),
                }
            }
            rest = &rest[said.len()..];
        }
        let stamp = stamp.unwrap_or_default();
        known.table().replace(table, (last, stamp));
        Ok(())
    }

    /// The numbers of all blocks up to `last` that have a record, in order.
    async fn all_blocks(&self, partition: u32, last: u64) -> Result<Vec<u64>> {
        let mut blocks = Vec::new();
        let mut cursor = b"0".to_vec();
        loop {
            let call = self.scripts.scan.call(self.key(partition));
            let call = call.arg(&cursor[..]).arg(SCAN_COUNT);
            let said = array(self.ask(&call, READ).await?).ok_or_else(|| odd(READ))?;
            let (Some(next), Some(numbers)) =
                (said.first().and_then(bytes), said.get(1).and_then(bytes))
            else {
                return Err(odd(READ));
            };
            blocks.extend(numbers.chunks_exact(6).map(number));
            if next == b"0" {
                break;
            }
            cursor = next.to_vec();
        }
        blocks.retain(|block| *block <= last);
        blocks.sort_unstable();
        blocks.dedup();
        Ok(blocks)
    }

    /// Reads the blocks behind those known when `ask` was made.
    async fn catch_up(&self, partition: u32, ask: &Ask) -> Result<()> {
        let known = self.known(partition);
        let _one = known.reading.lock().await;
        let mut from = {
            let table = known.table();
            // Somebody else has read on meanwhile.
            if table.epoch() != ask.epoch || table.upto().0 > ask.upto {
                return Ok(());
            }
            table.upto().0
        };
        loop {
            let (upto, stamp) = known.table().upto();
            let call = self.scripts.since.call(self.key(partition)).arg(upto);
            let call = call.arg(&stamp[..]).arg(from.max(upto));
            let said = self.ask(&call.arg(PAGE_BLOCKS).arg(PAGE_IDS), READ).await?;
            let parts = match read_answer(said).ok_or_else(|| odd(READ))? {
                Ok(parts) => parts,
                Err(_) => {
                    known.table().reset(ask.epoch);
                    return Ok(());
                }
            };
            let [last, told] = <[Value; 2]>::try_from(parts).map_err(|_| odd(READ))?;
            let last = count(&last).ok_or_else(|| odd(READ))?;
            let begun = from.max(upto);
            let told = array(told).ok_or_else(|| odd(READ))?;
            let read: Option<Vec<Told<'_>>> =
                told.iter().map(|text| Told::read(bytes(text)?)).collect();
            let read = read.ok_or_else(|| odd(READ))?;
            self.note(partition, ask.epoch, (begun + 1..).zip(read));
            from = begun + told.len() as u64;
            if from >= last || told.is_empty() {
                return Ok(());
            }
        }
    }

    /// Gives back the memory of ids whose blocks are gone from the server: of some blocks a sweep.
    pub(super) async fn tidy(&self, partition: u32, round: usize) -> Result<()> {
        let known = self.known(partition);
        let (epoch, some) = {
            let table = known.table();
            let some = table.some_blocks(round, ALIVE_BLOCKS * ALIVE_CALLS);
            (table.epoch(), some)
        };
        let Some((chapter, blocks)) = some else {
            return Ok(());
        };
        let mut gone = HashSet::new();
        for some in blocks.chunks(ALIVE_BLOCKS) {
            let numbers: Vec<u8> = some
                .iter()
                .flat_map(|block| block.to_le_bytes()[..6].to_vec())
                .collect();
            let call = self.scripts.alive.call(self.key(partition)).arg(numbers);
            let said = self.ask(&call, READ).await?;
            let marks = bytes(&said).filter(|marks| marks.len() == some.len());
            let marks = marks.ok_or_else(|| odd(READ))?;
            let pairs = some.iter().zip(marks);
            gone.extend(pairs.filter(|(_, mark)| **mark == b'0').map(|(it, _)| *it));
        }
        known.table().drop_blocks(epoch, chapter, &gone);
        Ok(())
    }
}

/// Six bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    let mut eight = [0; 8];
    eight[..6].copy_from_slice(bytes);
    u64::from_le_bytes(eight)
}

/// Every try met more blocks than it had read.
pub(super) fn outrun(op: &'static str) -> Error {
    let op = format!("{op}: other gateways write faster than this one reads what they wrote");
    Error::new(Kind::Unavailable, "hold", op)
}

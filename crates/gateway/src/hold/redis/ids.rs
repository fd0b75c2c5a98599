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
const PAGE_BLOCKS: usize = 500;
const PAGE_IDS: usize = 20_000;
/// Who asks about so few ids, and has no table, has the server look: a command that shows a message
/// need not read all ids first.
const FEW_IDS: usize = 16;
/// Blocks that one script looks through.
const SEARCH_BLOCKS: usize = 500;
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
    /// Held by a put that was behind: this process's own others must not outrun it for ever.
    turn: tokio::sync::Mutex<()>,
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
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// A turn alone among the puts that were behind.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
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
    /// Begins puts, each of some ids, which stay noted until the flights are dropped.
    pub(super) async fn depart<'a>(
        &'a self,
        partition: u32,
        lots: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<Flight<'a>>> {
        let known = self.known(partition);
        let lots: Result<Vec<(&[u8], Stamp)>> =
            lots.map(|hashes| Ok((hashes, new_stamp()?))).collect();
        let lots = lots?;
        let begin = |table: &mut Table| {
            let flights = lots.iter().map(|&(hashes, stamp)| {
                let ask = table.ask(hashes);
                let call = table.depart(stamp, hashes);
                Flight {
                    known,
                    hashes,
                    call,
                    stamp,
                    ask,
                }
            });
            flights.collect()
        };
        self.when_ready(partition, begin).await
    }

    /// Works with what is known, once that may be asked by.
    async fn when_ready<T>(
        &self,
        partition: u32,
        mut work: impl FnMut(&mut Table) -> T,
    ) -> Result<T> {
        let known = self.known(partition);
        for _ in 0..TRIES_MAX {
            let (epoch, upto) = {
                let mut table = known.table();
                if table.is_ready() {
                    return Ok(work(&mut table));
                }
                (table.is_loaded().then(|| table.epoch()), table.upto().0)
            };
            match epoch {
                Some(epoch) => self.catch_up(partition, epoch, upto).await?,
                None => self.load(partition).await?,
            }
        }
        Err(outrun(READ))
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
        let told = told?;
        let last = ask.upto + told.len() as u64;
        self.note(partition, ask.epoch, (ask.upto + 1..).zip(told), last);
        self.note(partition, ask.epoch, wrote, last);
        Some(())
    }

    /// Notes blocks, unless all was forgotten since. `last`: the last there was then.
    fn note<'t>(
        &self,
        partition: u32,
        epoch: u64,
        mut all: impl Iterator<Item = (u64, Told<'t>)>,
        last: u64,
    ) {
        let mut table = self.known(partition).table();
        if table.epoch() != epoch || !table.is_loaded() {
            return;
        }
        match all.try_for_each(|(block, told)| table.learn(block, told, last)) {
            Ok(()) => table.advance(),
            Err(Stale) => table.reset(epoch),
        }
    }

    /// The number of what is known now, for [`RedisHold::note`].
    pub(super) fn epoch(&self, partition: u32) -> u64 {
        self.known(partition).table().epoch()
    }

    /// Notes blocks that a settlement wrote, and forgets the places that their messages left.
    pub(super) fn note_moved<'t>(
        &self,
        partition: u32,
        epoch: u64,
        wrote: impl Iterator<Item = (u64, Told<'t>)>,
        left: impl Iterator<Item = (u64, u32, &'t [u8])>,
    ) {
        let mut table = self.known(partition).table();
        if table.epoch() != epoch || !table.is_loaded() {
            return;
        }
        let mut to = 0;
        for (block, told) in wrote {
            to = to.max(block);
            if !table.is_near(block) {
                return;
            }
            if table.learn(block, told, block) == Err(Stale) {
                table.reset(epoch);
                return;
            }
        }
        table.advance();
        for (block, slot, hash) in left {
            table.forget(block, slot, hash, to);
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
            let few = hashes.len() <= FEW_IDS * HASH_BYTES;
            let ask = if few && !self.known(partition).table().is_loaded() {
                self.search(partition, hashes).await?
            } else {
                self.when_ready(partition, |table| table.ask(hashes))
                    .await?
            };
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
            Lack::Behind => self.catch_up(partition, ask.epoch, ask.upto).await,
            // The next try loads it.
            Lack::Reload => {
                self.known(partition).table().reset(ask.epoch);
                Ok(())
            }
        }
    }

    /// Reads all ids of a partition, unless that was done. Those who ask meanwhile wait for it.
    async fn load(&self, partition: u32) -> Result<()> {
        let known = self.known(partition);
        if known.table().is_loaded() {
            return Ok(());
        }
        let _one = known.reading.lock().await;
        if known.table().is_loaded() {
            return Ok(());
        }
        let (last, stamp) = self.last_block(partition).await?;
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
        // Blocks that were gone when they were to be read may have moved to those written since.
        let (need, _) = match last {
            0 => (0, stamp),
            _ => self.last_block(partition).await?,
        };
        known.table().replace(table, (last, stamp), need);
        Ok(())
    }

    /// Has the server look where a few ids may stand.
    async fn search(&self, partition: u32, hashes: &[u8]) -> Result<Ask> {
        let (upto, stamp) = self.last_block(partition).await?;
        let mut ask = Ask {
            epoch: self.epoch(partition),
            upto,
            stamp,
            ..Ask::default()
        };
        let blocks = match upto {
            0 => Vec::new(),
            _ => self.all_blocks(partition, upto).await?,
        };
        for some in blocks.chunks(SEARCH_BLOCKS) {
            let mut call = self.scripts.search.call(self.key(partition)).arg(hashes);
            some.iter().for_each(|block| call.push(*block));
            let said = self.ask(&call, READ).await?;
            let places = bytes(&said).ok_or_else(|| odd(READ))?;
            ask.suspects.extend_from_slice(places);
        }
        Ok(ask)
    }

    /// The last block that was written, and its stamp.
    async fn last_block(&self, partition: u32) -> Result<(u64, Stamp)> {
        let meta = Call::on("HMGET", &format!("{}m", self.key(partition)));
        let meta = meta.arg("block").arg("stamp");
        let said = array(self.ask(&meta, READ).await?).ok_or_else(|| odd(READ))?;
        let stamp = said
            .get(1)
            .and_then(bytes)
            .and_then(|it| it.try_into().ok());
        let last = said.first().and_then(count).unwrap_or(0);
        Ok((last, stamp.unwrap_or_default()))
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

    /// Reads the blocks behind `upto`, the last known of that epoch.
    async fn catch_up(&self, partition: u32, epoch: u64, upto: u64) -> Result<()> {
        let known = self.known(partition);
        let _one = known.reading.lock().await;
        {
            let table = known.table();
            // Somebody else has read on meanwhile, or there is nothing to add to.
            if table.epoch() != epoch || table.upto().0 > upto || !table.is_loaded() {
                return Ok(());
            }
        }
        let mut from = 0;
        loop {
            let (upto, stamp) = known.table().upto();
            from = from.max(upto);
            let call = self.scripts.since.call(self.key(partition)).arg(upto);
            let call = call.arg(&stamp[..]).arg(from);
            let said = self.ask(&call.arg(PAGE_BLOCKS).arg(PAGE_IDS), READ).await?;
            let Ok(parts) = read_answer(said).ok_or_else(|| odd(READ))? else {
                known.table().reset(epoch);
                return Ok(());
            };
            let [last, told] = <[Value; 2]>::try_from(parts).map_err(|_| odd(READ))?;
            let last = count(&last).ok_or_else(|| odd(READ))?;
            let told = array(told).ok_or_else(|| odd(READ))?;
            let read: Option<Vec<Told<'_>>> =
                told.iter().map(|text| Told::read(bytes(text)?)).collect();
            let read = read.ok_or_else(|| odd(READ))?;
            self.note(partition, epoch, (from + 1..).zip(read), last);
            from += told.len() as u64;
            if from >= last || told.is_empty() {
                let mut table = known.table();
                if table.is_past(last) {
                    table.reset(epoch);
                }
                return Ok(());
            }
        }
    }

    /// Gives back the memory of ids whose blocks are gone from the server: of some blocks a sweep.
    pub(super) async fn tidy(&self, partition: u32, round: usize) -> Result<()> {
        let known = self.known(partition);
        let (loaded, epoch, (upto, _)) = {
            let table = known.table();
            (table.is_loaded(), table.epoch(), table.upto())
        };
        // Who asks for nothing for long would know of no block that is still there.
        if loaded {
            self.catch_up(partition, epoch, upto).await?;
        }
        let (epoch, some) = {
            let table = known.table();
            let some = table.some_blocks(round, ALIVE_BLOCKS * ALIVE_CALLS);
            (table.epoch(), some)
        };
        let Some((chapter, blocks)) = some else {
            return Ok(());
        };
        let (mut gone, mut last) = (HashSet::new(), 0);
        for some in blocks.chunks(ALIVE_BLOCKS) {
            let numbers: Vec<u8> = some
                .iter()
                .flat_map(|block| block.to_le_bytes()[..6].to_vec())
                .collect();
            let call = self.scripts.alive.call(self.key(partition)).arg(numbers);
            let said = array(self.ask(&call, READ).await?).ok_or_else(|| odd(READ))?;
            last = said.first().and_then(count).ok_or_else(|| odd(READ))?;
            let marks = said.get(1).and_then(bytes);
            let marks = marks.filter(|marks| marks.len() == some.len());
            let marks = marks.ok_or_else(|| odd(READ))?;
            let pairs = some.iter().zip(marks);
            gone.extend(pairs.filter(|(_, mark)| **mark == b'0').map(|(it, _)| *it));
        }
        let mut table = known.table();
        if table.epoch() == epoch {
            table.drop_blocks(chapter, &gone, last);
        }
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

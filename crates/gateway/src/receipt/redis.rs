//! Receipts in Redis or Valkey: for gateways without a disk, and one log for several of them.
//!
//! Receipts are filed in blocks of columns, compressed and checksummed, of up to [`BLOCK`]: memory
//! is what they cost. One script takes places from one counter and files the blocks of one append,
//! so places have no gaps and an append stays together, whoever else files. Small appends make
//! small blocks; whoever files the last of some dozens joins them to one, which changes no receipt
//! and no place.
//!
//! # How they are found
//! - By place and time through a card for each block: first place, receipts, earliest, latest.
//! - By message, recipient and campaign through hashes under a key that only this log knows. A
//!   segment of 131,072 places has 128 fields (while it is filled, texts) of entries of four bytes:
//!   three of the hash, and in which 512 of the segment the block began. A look-up reads one field
//!   of each segment, 8 kB at most, and opens the blocks that it names; what is found is compared
//!   there.
//!
//! # What it promises
//! - The log stands on one slot: in a cluster, one master's memory holds all of it.
//! - With `keep`, the oldest blocks go once the last receipt of each is older, by the clock of the
//!   server and as others are filed; their index goes by segments. A message is `known` for so
//!   long. Without it, receipts stay.
//! - An append whose answer was lost may have been filed; whoever files it again has it twice.

#[cfg(test)]
mod figures;
mod find;
mod script;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::redis::{FromRedisValue, Value, from_redis_value};
use async_trait::async_trait;
use nightgate_core::MessageId;

use self::script::Scripts;
use super::columns::hasher::Hasher;
use super::columns::leaf::hash_of;
use super::columns::press::{Flat, Press};
use super::{Event, Filed, Receipt, ReceiptAsk, ReceiptLog};
use crate::error::{Error, Kind, Result};
use crate::redis::{Call, Fault, Redis, Script};

const PART: &str = "receipt";
const FILE: &str = "file receipts";
/// Most receipts of one block: whoever looks for one message reads two or three of them whole.
pub const BLOCK: usize = 512;
/// How the log is written. Stored: a change of keys, cards or blocks is another form.
const FORM: u64 = 2;
/// Fields of a segment's index. Stored.
const BUCKETS: u64 = 128;
/// Presses kept for the next callers.
const PRESSES_KEPT: usize = 4;
/// Nanoseconds in a second: cards tell whole ones.
const SECOND: i64 = 1_000_000_000;

/// The log.
pub struct RedisLog {
    redis: Redis,
    /// The key of the log's head; all others begin with it.
    key: String,
    scripts: Scripts,
    hasher: Hasher,
    keep: Option<Duration>,
    presses: Mutex<Vec<Press>>,
}

impl RedisLog {
    /// Opens the log in `redis`, under its prefix. `keep`: receipts are dropped once they are
    /// older; `None` keeps them for ever.
    ///
    /// # Errors
    /// `Invalid` when a later version wrote it, `Unavailable` when the server cannot be reached.
    pub async fn open(redis: Redis, keep: Option<Duration>) -> Result<Self> {
        const OP: &str = "open the receipts";
        let key = format!("{{{}:r}}:receipts", redis.prefix());
        let scripts = Scripts::new();
        let mut secret = [0; 16];
        aws_lc_rs::rand::fill(&mut secret)
            .map_err(|_| Error::new(Kind::Unavailable, PART, OP).with("no random bytes"))?;
        let call = scripts.open.call(&key).arg(FORM).arg(&secret[..]);
        let opened = redis.written(std::slice::from_ref(&call)).await;
        let (form, secret): (u64, Vec<u8>) = first(opened, OP)?;
        if form != FORM {
            let op = format!("{OP}: another version of nightgate wrote them (form {form})");
            return Err(Error::new(Kind::Invalid, PART, op));
        }
        let secret: [u8; 16] = secret.try_into().map_err(|_| corrupt("its head"))?;
        Ok(Self {
            redis,
            key,
            scripts,
            hasher: Hasher::new(&secret),
            keep,
            presses: Mutex::default(),
        })
    }

    /// Blocks of `receipts`, in order. Whatever cannot be kept is refused here, before anything is
    /// filed.
    fn press(&self, receipts: &[Receipt]) -> Result<Vec<Flat>> {
        let presses = || self.presses.lock().unwrap_or_else(PoisonError::into_inner);
        let press = presses().pop();
        let mut press = press.unwrap_or_else(|| Press::new(self.hasher.clone()));
        let mut blocks = Vec::new();
        let mut sealed = |press: &mut Press| -> Result<()> {
            let wrong = |error| Error::new(Kind::Unavailable, PART, FILE).with(error);
            blocks.push(press.seal_flat().map_err(wrong)?);
            Ok(())
        };
        for receipts in receipts.chunks(BLOCK) {
            for receipt in receipts {
                if press.is_full() {
                    sealed(&mut press)?;
                }
                let refused = |rule: String| Error::new(Kind::Invalid, PART, FILE).with(rule);
                press.push(receipt).map_err(refused)?;
            }
            sealed(&mut press)?;
        }
        let mut presses = presses();
        if presses.len() < PRESSES_KEPT {
            presses.push(press);
        }
        Ok(blocks)
    }

    /// Files the blocks of one append. Says which places somebody should join to one block: from
    /// the first one and before the second; equal when none.
    async fn file(&self, blocks: &[Flat], script: &Script) -> Result<(u64, u64)> {
        let keep = self.keep.map(|keep| keep.as_secs().to_string());
        let call = script.call(&self.key);
        let mut call = call.arg(keep.unwrap_or_default()).arg(blocks.len());
        for block in blocks {
            call = card(call, block).arg(&block.body[..]);
            let groups = groups(&block.entries);
            call = call.arg(groups.len());
            for (bucket, prints) in groups {
                call = call.arg(bucket).arg(prints);
            }
        }
        let filed = self.redis.written(std::slice::from_ref(&call)).await;
        first(filed, FILE)
    }

    /// Joins the small blocks of the places `from` to before `to`. Nothing is lost where that
    /// fails, and nobody needs to know.
    async fn join(&self, from: u64, to: u64) -> Result<()> {
        let mut receipts = Vec::new();
        self.each_block(from, to, |_, block| {
            let all: Vec<u32> = (0..block.receipts() as u32).collect();
            receipts.extend(block.receipts_at(&all)?);
            Some(true)
        })
        .await?;
        let call = self.scripts.join.call(&self.key).arg(from).arg(to);
        let mut call = call;
        for block in self.press(&receipts)? {
            call = card(call, &block).arg(&block.body[..]);
        }
        let joined = self.redis.written(std::slice::from_ref(&call)).await;
        first(joined, "join blocks of receipts").map(|_: u64| ())
    }
}

/// The same call with what a card says of a block but its place.
fn card(call: Call, block: &Flat) -> Call {
    call.arg(block.receipts)
        .arg(block.min_at.div_euclid(SECOND))
        .arg(block.max_at.div_euclid(SECOND))
}

/// Where a hash is noted: field and print.
fn noted(hash: u64) -> (u64, [u8; 3]) {
    let [.., first, second, third] = (hash / BUCKETS).to_be_bytes();
    (hash % BUCKETS, [first, second, third])
}

/// What a block adds to each field of the index.
fn groups(entries: &[u64]) -> Vec<(u64, Vec<u8>)> {
    let mut all: Vec<_> = entries.iter().map(|entry| noted(hash_of(*entry))).collect();
    all.sort_unstable();
    let of_bucket = all.chunk_by(|one, next| one.0 == next.0);
    let prints = |of: &[(u64, [u8; 3])]| of.iter().flat_map(|(_, print)| *print).collect();
    of_bucket.map(|of| (of[0].0, prints(of))).collect()
}

/// Whether an event brings a message nearer to its end, which gives back its memory. Such must be
/// filed where memory is full, or nothing could leave any more. What is decided at ingest comes
/// with messages that must wait outside.
const fn makes_room(event: Event) -> bool {
    !matches!(event, Event::Accepted | Event::Held | Event::Refused)
}

fn corrupt(what: impl std::fmt::Display) -> Error {
    let op = format!("read receipts: {what} does not read back as it was written");
    Error::new(Kind::Corrupt, PART, op)
}

fn read<T: FromRedisValue>(value: Value, op: &str) -> Result<T> {
    from_redis_value(value).map_err(|_| Fault::answer("of another type").error(PART, op))
}

/// The answer to the one call that was made.
fn first<T: FromRedisValue>(
    answers: std::result::Result<Vec<std::result::Result<Value, Fault>>, Fault>,
    op: &str,
) -> Result<T> {
    let answer = answers.and_then(|answers| {
        let none = || Err(Fault::answer("none"));
        answers.into_iter().next().unwrap_or_else(none)
    });
    read(answer.map_err(|fault| fault.error(PART, op))?, op)
}

#[async_trait]
impl ReceiptLog for RedisLog {
    async fn append(&self, receipts: Vec<Receipt>) -> Result<()> {
        if receipts.is_empty() {
            return Ok(());
        }
        let blocks = self.press(&receipts)?;
        let script = match receipts.iter().any(|receipt| makes_room(receipt.event)) {
            true => &self.scripts.append_on,
            false => &self.scripts.append,
        };
        let (from, to) = self.file(&blocks, script).await?;
        if from < to
            && let Err(fault) = self.join(from, to).await
        {
            tracing::debug!(%fault, "small blocks of receipts stay as they are");
        }
        Ok(())
    }

    async fn query(&self, ask: &ReceiptAsk) -> Result<Vec<Filed>> {
        self.find(ask).await
    }

    async fn known(&self, ids: &[MessageId]) -> Result<Vec<bool>> {
        self.find_known(ids).await
    }

    async fn events(&self, ids: &[MessageId]) -> Result<Vec<Vec<Event>>> {
        self.find_events(ids).await
    }
}

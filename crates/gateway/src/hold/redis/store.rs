//! Messages in.

use std::collections::HashSet;

use ::redis::Value;
use futures_util::future::try_join_all;
use jiff::Timestamp;

use super::ids::{Flight, Lack, TRIES_MAX, outrun, push_ask, read_answer};
use super::table::Ask;
use super::wire::array;
use super::write::{Block, CHUNK, CHUNK_BLOCKS, Row, Wrote, blocks};
use super::{RedisHold, odd};
use crate::error::Result;
use crate::hold::{Held, Put};

const OP: &str = "put messages";
/// Most chunks sent at once: the blocks of all are within what a script tells of a process's own.
const IN_ONE_GO: usize = 16;

impl RedisHold {
    /// Stores messages. Where a call of several scripts fails in the middle, all of it is an error,
    /// and what was stored answers `Duplicate` to the next try.
    pub(super) async fn store(&self, messages: &[Held], now: Timestamp) -> Result<Vec<Put>> {
        let mut seen = HashSet::with_capacity(messages.len());
        let mut of: Vec<Vec<(usize, Row<'_>)>> = Vec::new();
        of.resize_with(self.keys.len(), Vec::new);
        for (index, held) in messages.iter().enumerate() {
            let id = held.message.id.as_str();
            // The first of an id twice in one call is either new or known: so the second is known.
            if !seen.insert(id) {
                continue;
            }
            let (partition, hash) = self.hash.of(id);
            let row = Row {
                held,
                hash,
                attempts: 0,
                why: None,
                source: None,
                stays: None,
                buried: false,
            };
            of[partition as usize].push((index, row));
        }
        let mut answers = vec![Put::Duplicate; messages.len()];
        let used = self.all().zip(of).filter(|(_, rows)| !rows.is_empty());
        let all = used.map(|(partition, rows)| self.store_in(partition, rows, now));
        for index in try_join_all(all).await?.into_iter().flatten() {
            answers[index] = Put::New;
        }
        Ok(answers)
    }

    /// Stores messages of one partition; says which were new.
    async fn store_in(
        &self,
        partition: u32,
        rows: Vec<(usize, Row<'_>)>,
        now: Timestamp,
    ) -> Result<Vec<usize>> {
        let (indices, rows): (Vec<usize>, Vec<Row<'_>>) = rows.into_iter().unzip();
        let (mut chunks, mut at) = (Vec::new(), 0);
        while at < rows.len() {
            let some = &rows[at..rows.len().min(at + CHUNK)];
            let (blocks, used) = self.pack(|packer| blocks(packer, some, CHUNK_BLOCKS));
            chunks.push(Chunk::new(blocks, &indices[at..at + used]));
            at += used;
        }
        let mut new = Vec::with_capacity(rows.len());
        for some in chunks.chunks(IN_ONE_GO) {
            self.store_some(partition, some, now, &mut new).await?;
        }
        Ok(new)
    }

    /// Stores chunks, reading what this process lacks as often as it takes.
    async fn store_some(
        &self,
        partition: u32,
        chunks: &[Chunk<'_>],
        now: Timestamp,
        new: &mut Vec<usize>,
    ) -> Result<()> {
        let mut open: Vec<&Chunk<'_>> = chunks.iter().collect();
        let mut turn = None;
        for _ in 0..TRIES_MAX {
            let lacking = self.store_chunks(partition, &open, now, new).await?;
            let Some((_, ask, lack)) = lacking.last() else {
                return Ok(());
            };
            if turn.is_none() {
                turn = Some(self.known(partition).turn().await);
            }
            self.read_on(partition, ask, *lack).await?;
            open = lacking.iter().map(|(at, ..)| open[*at]).collect();
        }
        Err(outrun(OP))
    }

    /// Sends chunks; says which were not stored, since this process lacked what it must know.
    async fn store_chunks(
        &self,
        partition: u32,
        chunks: &[&Chunk<'_>],
        now: Timestamp,
        new: &mut Vec<usize>,
    ) -> Result<Vec<(usize, Ask, Lack)>> {
        let lots = chunks.iter().map(|chunk| &chunk.hashes[..]);
        let flights = self.depart(partition, lots).await?;
        let mut calls = Vec::with_capacity(chunks.len());
        for (chunk, flight) in chunks.iter().zip(&flights) {
            let call = self.scripts.put.call(self.key(partition));
            let call = call.arg(self.forgotten_before(now));
            let mut call = call.arg(chunk.indices.len()).arg(&flight.stamp[..]);
            push_ask(&mut call, &flight.ask);
            chunk.blocks.iter().for_each(|it| it.push_to(&mut call));
            calls.push(call);
        }
        let said = self.write(&calls, OP).await?;
        let mut lacking = Vec::new();
        for ((at, chunk), (flight, said)) in chunks.iter().enumerate().zip(flights.iter().zip(said))
        {
            let parts = match read_answer(said).ok_or_else(|| odd(OP))? {
                Ok(parts) => parts,
                Err(lack) => {
                    lacking.push((at, flight.ask.clone(), lack));
                    continue;
                }
            };
            self.stored(partition, chunk, flight, parts, new)
                .ok_or_else(|| odd(OP))?;
        }
        Ok(lacking)
    }

    /// Notes what one script stored.
    fn stored(
        &self,
        partition: u32,
        chunk: &Chunk<'_>,
        flight: &Flight<'_>,
        parts: Vec<Value>,
        new: &mut Vec<usize>,
    ) -> Option<()> {
        let [told, marks, numbers] = <[Value; 3]>::try_from(parts).ok()?;
        let wrote = Wrote::read(&chunk.blocks, array(marks)?, numbers)?;
        for (block, marks) in chunk.blocks.iter().zip(&wrote.marks) {
            let both = block.members.iter().zip(marks);
            let are_new = both.filter(|(_, mark)| **mark == b'1');
            new.extend(are_new.map(|(place, _)| chunk.indices[*place]));
        }
        self.learn(partition, &flight.ask, told, wrote.told(flight.stamp))
    }
}

/// Messages of one script.
struct Chunk<'a> {
    blocks: Vec<Block>,
    /// The ids of all blocks, in order.
    hashes: Vec<u8>,
    /// Of each message, where it stands in the put.
    indices: &'a [usize],
}

impl<'a> Chunk<'a> {
    fn new(blocks: Vec<Block>, indices: &'a [usize]) -> Self {
        let hashes = blocks.iter().flat_map(|it| it.hashes.iter().copied());
        Self {
            hashes: hashes.collect(),
            blocks,
            indices,
        }
    }
}

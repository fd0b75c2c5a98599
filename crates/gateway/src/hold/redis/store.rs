//! Messages in.

use std::collections::HashSet;

use futures_util::future::try_join_all;
use jiff::Timestamp;

use super::RedisHold;
use super::write::{CHUNK, Row, add_blocks};
use crate::error::Result;
use crate::hold::{Held, Put};
use crate::redis::Call;

const OP: &str = "put messages";

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
        let mut calls: Vec<Call> = Vec::new();
        let mut blocks: Vec<Vec<usize>> = Vec::new();
        for (chunk, indices) in rows.chunks(CHUNK).zip(indices.chunks(CHUNK)) {
            let call = self.scripts.put.call(self.key(partition));
            let call = call.arg(self.forgotten_before(now));
            let mut call = call.arg(chunk.len());
            let cut = self.pack(|packer| add_blocks(&mut call, packer, chunk));
            blocks.extend(cut.into_iter().map(|block| {
                block
                    .into_iter()
                    .map(|place| indices[place])
                    .collect::<Vec<_>>()
            }));
            calls.push(call);
        }
        self.write_marked(&calls, &blocks, |mark| mark == b'1', OP)
            .await
    }
}

//! How receipts in Redis are found and read.

use std::collections::{BTreeMap, BTreeSet};

use nightgate_core::MessageId;

use super::{BLOCK, PART, RedisLog, SECOND, corrupt, noted, read};
use crate::error::Result;
use crate::receipt::columns::ask::{Span, add_events, look_for, wanted};
use crate::receipt::columns::block::{Block, Desk};
use crate::receipt::{Event, Filed, ReceiptAsk};
use crate::redis::{Call, Fault};

const OP: &str = "query receipts";
/// Blocks read in one go: some 100 kB.
const BLOCKS_MAX: usize = 8;
/// Segments asked in one go.
const SEGMENTS_MAX: usize = 64;
/// Bytes of an entry of the index: print and mark.
const ENTRY_BYTES: usize = 4;
/// What a mark counts by. The marks of a segment are one byte.
const CHUNK: u64 = 512;
const CHUNKS: u64 = 256;

/// What is known of a block without opening it.
struct Card {
    first: u64,
    receipts: u64,
}

impl Card {
    fn of(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut numbers = text.split(' ');
        let mut number = || numbers.next()?.parse().ok();
        let (first, receipts) = (number()?, number()?);
        Some(Self { first, receipts })
    }

    /// Says which receipts are lost with a block that does not read back.
    fn broken(&self) -> String {
        let last = self.first + self.receipts.saturating_sub(1);
        format!("the block of receipts {} to {last}", self.first)
    }
}

impl RedisLog {
    /// Shows each block with places from `from` on and before `to`, and its first place, until
    /// `show` answers `Some(false)`; `None` is a block that does not read back.
    pub(super) async fn each_block(
        &self,
        from: u64,
        to: u64,
        show: impl FnMut(u64, &mut Block<'_>) -> Option<bool> + Send,
    ) -> Result<bool> {
        let all = (i64::MIN / SECOND, i64::MAX / SECOND);
        let mut desk = Desk::default();
        self.each_dated(from, to, all, &mut desk, show).await
    }

    /// The same of blocks that may have receipts between two seconds. Says whether there may be
    /// more to show.
    async fn each_dated(
        &self,
        mut from: u64,
        to: u64,
        (least, most): (i64, i64),
        desk: &mut Desk,
        mut show: impl FnMut(u64, &mut Block<'_>) -> Option<bool> + Send,
    ) -> Result<bool> {
        let to = to.min(1 << 53);
        while from > 0 && from < to {
            let call = self.scripts.read.call(&self.key).arg(from).arg(to);
            let call = call.arg(least).arg(most).arg(BLOCKS_MAX);
            let answer = self.redis.call(&call).await;
            let answer = answer.map_err(|fault| fault.error(PART, OP))?;
            let (next, found): (u64, Vec<Vec<u8>>) = read(answer, OP)?;
            for pair in found.chunks_exact(2) {
                let card = Card::of(&pair[0]).ok_or_else(|| corrupt("a card"))?;
                let broken = || corrupt(card.broken());
                let mut block = Block::of(&pair[1], desk).ok_or_else(broken)?;
                if block.receipts() as u64 != card.receipts {
                    return Err(broken());
                }
                if !show(card.first, &mut block).ok_or_else(broken)? {
                    return Ok(false);
                }
            }
            from = next;
        }
        Ok(true)
    }

    /// The receipts asked for, in the order they were filed.
    pub(super) async fn find(&self, ask: &ReceiptAsk) -> Result<Vec<Filed>> {
        let Some(span) = Span::of(ask) else {
            return Ok(Vec::new());
        };
        let seconds = (span.least.div_euclid(SECOND), span.most.div_euclid(SECOND));
        let from = ask.after.map_or(1, |after| after.saturating_add(1));
        let ranges = match self.candidates(ask, from).await? {
            Some(chunks) => ranges(&chunks),
            None => vec![(from, u64::MAX)],
        };
        let (page, mut found, mut read_to) = (ask.page(), Vec::new(), from);
        let mut desk = Desk::default();
        for (first, end) in ranges {
            let first = first.max(read_to);
            let take = |place: u64, block: &mut Block<'_>| {
                let skipped = read_to.saturating_sub(place);
                read_to = place + block.receipts() as u64;
                let mut wanted = wanted(block, ask)?;
                wanted.retain(|number| u64::from(*number) >= skipped);
                wanted.truncate(page - found.len());
                if !wanted.is_empty() {
                    let receipts = block.receipts_at(&wanted)?;
                    let seq = |number: &u32| place + u64::from(*number);
                    let filed = wanted.iter().map(seq).zip(receipts);
                    found.extend(filed.map(|(seq, receipt)| Filed { seq, receipt }));
                }
                Some(found.len() < page)
            };
            let more = self.each_dated(first, end, seconds, &mut desk, take);
            if !more.await? {
                break;
            }
        }
        Ok(found)
    }

    /// The chunks in which what is asked for can begin; `None` for all.
    async fn candidates(&self, ask: &ReceiptAsk, from: u64) -> Result<Option<BTreeSet<u64>>> {
        let hashes: Vec<u64> = [
            ask.message
                .as_ref()
                .map(|id| self.hasher.message(id.as_str())),
            ask.recipient
                .as_ref()
                .map(|key| self.hasher.recipient(key.expose())),
            ask.campaign.as_ref().map(|name| self.hasher.campaign(name)),
        ]
        .into_iter()
        .flatten()
        .collect();
        if hashes.is_empty() {
            return Ok(None);
        }
        let mut chunks = vec![BTreeSet::new(); hashes.len()];
        self.each_candidate(&hashes, from, |place, chunk| {
            chunks[place].insert(chunk);
        })
        .await?;
        Ok(chunks.into_iter().reduce(|one, other| &one & &other))
    }

    /// Shows for each hash, by its place, each chunk in which a block with it began, of the blocks
    /// that may hold places from `from` on.
    async fn each_candidate(
        &self,
        hashes: &[u64],
        from: u64,
        mut show: impl FnMut(usize, u64) + Send,
    ) -> Result<()> {
        let noted: Vec<(u64, [u8; 3])> = hashes.iter().map(|hash| noted(*hash)).collect();
        let fields: BTreeSet<u64> = noted.iter().map(|(field, _)| *field).collect();
        let head = Call::on("HMGET", &self.key).arg("next").arg("low");
        let head = head.arg("open");
        let head = self.redis.call(&head).await;
        let head = head.map_err(|fault| fault.error(PART, OP))?;
        let (next, low, open): (Option<u64>, Option<u64>, Option<u64>) = read(head, OP)?;
        let segment = |place: u64| place.saturating_sub(1) / (CHUNK * CHUNKS);
        let first = segment(from.saturating_sub(BLOCK as u64)).max(low.unwrap_or(0));
        let last = next.map_or(0, |next| segment(next.saturating_sub(1)) + 1);
        // The one that is being filled is in texts, and is asked for them first: it may be folded
        // into a hash meanwhile.
        let filling = open.unwrap_or(0);
        let filling = (first..last).contains(&filling).then_some((filling, true));
        let full = (first..last).map(|segment| (segment, false));
        let segments: Vec<(u64, bool)> = filling.into_iter().chain(full).collect();
        for some in segments.chunks(SEGMENTS_MAX) {
            let call = |&(segment, filling): &(u64, bool)| {
                let index = format!("{}:index:{segment}", self.key);
                if !filling {
                    let call = Call::on("HMGET", &index);
                    return fields.iter().fold(call, |call, field| call.arg(*field));
                }
                let mut texts = fields.iter().map(|field| format!("{index}:{field}"));
                let call = Call::on("MGET", &texts.next().unwrap_or_default());
                texts.fold(call, Call::arg)
            };
            let calls: Vec<Call> = some.iter().map(call).collect();
            let failed = |fault: Fault| fault.error(PART, OP);
            let answers = self.redis.pipeline(&calls).await.map_err(failed)?;
            for ((segment, _), answer) in some.iter().zip(answers) {
                let values: Vec<Option<Vec<u8>>> = read(answer.map_err(failed)?, OP)?;
                let values: BTreeMap<u64, Vec<u8>> = fields
                    .iter()
                    .copied()
                    .zip(values.into_iter().map(Option::unwrap_or_default))
                    .collect();
                for (place, (field, print)) in noted.iter().enumerate() {
                    let entries = values.get(field).map(Vec::as_slice).unwrap_or_default();
                    for entry in entries.chunks_exact(ENTRY_BYTES) {
                        if let [.., mark] = entry
                            && entry.starts_with(print)
                        {
                            show(place, segment * CHUNKS + u64::from(*mark));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// For each message, whether it has a receipt.
    pub(super) async fn find_known(&self, ids: &[MessageId]) -> Result<Vec<bool>> {
        let hashes: Vec<u64> = ids
            .iter()
            .map(|id| self.hasher.message(id.as_str()))
            .collect();
        let mut places: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        self.each_candidate(&hashes, 1, |place, chunk| {
            places.entry(chunk).or_default().push(place);
        })
        .await?;
        let mut known = vec![false; ids.len()];
        for (chunk, places) in places {
            let open = places.into_iter().filter(|place| !known[*place]);
            let mut open: Vec<(&str, usize)> =
                open.map(|place| (ids[place].as_str(), place)).collect();
            if open.is_empty() {
                continue;
            }
            open.sort_unstable();
            let (from, to) = range(chunk);
            self.each_block(from, to, |_, block| {
                look_for(block, &open, &mut known).map(|()| true)
            })
            .await?;
        }
        Ok(known)
    }

    /// For each message, the events of its receipts in order: every block is read once for all.
    pub(super) async fn find_events(&self, ids: &[MessageId]) -> Result<Vec<Vec<Event>>> {
        let hash = |id: &MessageId| self.hasher.message(id.as_str());
        let hashes: Vec<u64> = ids.iter().map(hash).collect();
        let mut chunks = BTreeSet::new();
        self.each_candidate(&hashes, 1, |_, chunk| {
            chunks.insert(chunk);
        })
        .await?;
        let mut asked: Vec<(&str, usize)> = ids.iter().map(MessageId::as_str).zip(0..).collect();
        asked.sort_unstable();
        let (mut events, mut read_to) = (vec![Vec::new(); ids.len()], 1);
        for (from, to) in ranges(&chunks) {
            self.each_block(from.max(read_to), to, |place, block| {
                let skipped = read_to.saturating_sub(place);
                read_to = place + block.receipts() as u64;
                add_events(block, &asked, skipped, &mut events).map(|()| true)
            })
            .await?;
        }
        Ok(events)
    }
}

/// The places that a block which began in `chunk` may hold, and the first beyond them.
fn range(chunk: u64) -> (u64, u64) {
    let first = chunk * CHUNK + 1;
    (first, first + CHUNK + BLOCK as u64 - 1)
}

/// The same of many, in order, joined where they meet.
fn ranges(chunks: &BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for (first, end) in chunks.iter().map(|chunk| range(*chunk)) {
        match ranges.last_mut() {
            Some(last) if last.1 >= first => last.1 = end,
            _ => ranges.push((first, end)),
        }
    }
    ranges
}

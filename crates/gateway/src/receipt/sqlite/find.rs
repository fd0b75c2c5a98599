//! How the receipt log on disk finds and reads its receipts.

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row};

use nightgate_core::MessageId;

use super::runs;
use crate::receipt::columns::ask::{Span, add_events, look_for, wanted};
use crate::receipt::columns::block::{Block, Desk};
use crate::receipt::columns::hasher::Hasher;
use crate::receipt::{Event, Filed, ReceiptAsk};
use crate::sqlite::{corrupt, natural};

const BLOCK: &str = "SELECT no, first_seq, receipts, min_at, max_at FROM block WHERE no = ?1";
const NEXT_BLOCK: &str = "SELECT no, first_seq, receipts, min_at, max_at FROM block \
    WHERE no >= ?1 AND max_at >= ?2 AND min_at <= ?3 ORDER BY no LIMIT 1";

/// What is known of a block without opening it.
struct Card {
    no: i64,
    first_seq: u64,
    receipts: u64,
    min_at: i64,
    max_at: i64,
}

impl Card {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            no: row.get(0)?,
            first_seq: natural(row, 1)?,
            receipts: natural(row, 2)?,
            min_at: row.get(3)?,
            max_at: row.get(4)?,
        })
    }

    fn end(&self) -> u64 {
        self.first_seq.saturating_add(self.receipts)
    }

    /// The error of a block that does not read back: it names the receipts that are lost with it.
    fn broken(&self) -> rusqlite::Error {
        let (no, first, last) = (self.no, self.first_seq, self.end().saturating_sub(1));
        corrupt(format_args!(
            "block {no} (receipts {first} to {last}; the others can be read)"
        ))
    }
}

/// The receipts asked for, in the order they were filed.
pub(super) fn query(
    conn: &Connection,
    hasher: &Hasher,
    ask: &ReceiptAsk,
) -> rusqlite::Result<Vec<Filed>> {
    let Some(span) = Span::of(ask) else {
        return Ok(Vec::new());
    };
    let mut reader = Reader {
        conn,
        ask,
        span,
        from_seq: ask.after.map_or(0, |after| after.saturating_add(1)),
        page: ask.page(),
        desk: Desk::default(),
        found: Vec::new(),
    };
    let from_block = first_block(conn, reader.from_seq)?;
    if let Some(blocks) = candidates(conn, hasher, ask)? {
        let mut card = conn.prepare_cached(BLOCK)?;
        for no in blocks.into_iter().filter(|no| *no >= from_block) {
            let card = card.query_row([no], Card::read).optional()?;
            let card = card.ok_or_else(|| corrupt(format_args!("block {no}, which is gone,")))?;
            if !reader.take(&card)? {
                break;
            }
        }
        return Ok(reader.found);
    }
    let (mut next, mut no) = (conn.prepare_cached(NEXT_BLOCK)?, from_block);
    let (least, most) = (reader.span.least, reader.span.most);
    while let Some(card) = next.query_row([no, least, most], Card::read).optional()? {
        if !reader.take(&card)? {
            break;
        }
        no = card.no + 1;
    }
    Ok(reader.found)
}

/// The blocks in which what is asked for can stand; `None` for all.
fn candidates(
    conn: &Connection,
    hasher: &Hasher,
    ask: &ReceiptAsk,
) -> rusqlite::Result<Option<Vec<i64>>> {
    let hashes = [
        ask.message.as_ref().map(|id| hasher.message(id.as_str())),
        ask.recipient
            .as_ref()
            .map(|key| hasher.recipient(key.expose())),
        ask.campaign.as_ref().map(|name| hasher.campaign(name)),
    ];
    let mut candidates: Option<Vec<i64>> = None;
    for hash in hashes.into_iter().flatten() {
        let blocks = runs::blocks(conn, hash)?;
        candidates = Some(match candidates {
            None => blocks,
            Some(mut both) => {
                both.retain(|no| blocks.binary_search(no).is_ok());
                both
            }
        });
    }
    Ok(candidates)
}

/// The block in which `seq` stands, or the one before the first. Blocks are numbered without gaps
/// and their receipts ascend, so that no index of places is needed.
fn first_block(conn: &Connection, seq: u64) -> rusqlite::Result<i64> {
    let mut end = conn.prepare_cached("SELECT coalesce(max(no) + 1, 0) FROM block")?;
    let (mut low, mut high): (i64, i64) = (0, end.query_row([], |row| row.get(0))?);
    let mut first = conn.prepare_cached("SELECT first_seq FROM block WHERE no = ?1")?;
    while low + 1 < high && seq > 0 {
        let middle = low.midpoint(high);
        let begins: u64 = first.query_row([middle], |row| natural(row, 0))?;
        if begins <= seq {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

struct Reader<'a> {
    conn: &'a Connection,
    ask: &'a ReceiptAsk,
    span: Span,
    from_seq: u64,
    page: usize,
    desk: Desk,
    found: Vec<Filed>,
}

impl Reader<'_> {
    /// Takes what is asked for from one block; says whether there is room for more.
    fn take(&mut self, card: &Card) -> rusqlite::Result<bool> {
        let dated = card.max_at >= self.span.least && card.min_at <= self.span.most;
        if !dated || card.end() <= self.from_seq {
            return Ok(true);
        }
        let broken = || card.broken();
        let mut body = self
            .conn
            .prepare_cached("SELECT columns FROM body WHERE no = ?1")?;
        let mut body = body.query([card.no])?;
        let body = body.next()?.ok_or_else(broken)?;
        let body = body.get_ref(0)?.as_blob()?;
        let mut block = Block::of(body, &mut self.desk).ok_or_else(broken)?;
        if block.receipts() as u64 != card.receipts {
            return Err(broken());
        }
        let from = self.from_seq.saturating_sub(card.first_seq);
        let mut wanted = wanted(&mut block, self.ask).ok_or_else(broken)?;
        wanted.retain(|number| u64::from(*number) >= from);
        wanted.truncate(self.page - self.found.len());
        if !wanted.is_empty() {
            let receipts = block.receipts_at(&wanted).ok_or_else(broken)?;
            let seq = |number: &u32| card.first_seq + u64::from(*number);
            let filed = wanted.iter().map(seq).zip(receipts);
            let filed = filed.map(|(seq, receipt)| Filed { seq, receipt });
            self.found.extend(filed);
        }
        Ok(self.found.len() < self.page)
    }
}

/// For each message, whether it has a receipt.
pub(super) fn known(
    conn: &Connection,
    hasher: &Hasher,
    ids: &[MessageId],
) -> rusqlite::Result<Vec<bool>> {
    let mut known = vec![false; ids.len()];
    let mut reader = Bodies::new(conn)?;
    for (no, mut open) in blocks_of(conn, hasher, ids)? {
        open.retain(|(_, place)| !known[*place]);
        if !open.is_empty() {
            reader.show(no, |block| look_for(block, &open, &mut known))?;
        }
    }
    Ok(known)
}

/// For each message, the events of its receipts in order: every block is read once for all.
pub(super) fn events(
    conn: &Connection,
    hasher: &Hasher,
    ids: &[MessageId],
) -> rusqlite::Result<Vec<Vec<Event>>> {
    let mut events = vec![Vec::new(); ids.len()];
    let mut reader = Bodies::new(conn)?;
    for (no, asked) in blocks_of(conn, hasher, ids)? {
        reader.show(no, |block| add_events(block, &asked, 0, &mut events))?;
    }
    Ok(events)
}

/// A block, and the messages that may have receipts in it: sorted, each with its place.
type Asked<'i> = (i64, Vec<(&'i str, usize)>);

/// Which blocks may have receipts of which messages; the blocks in order.
fn blocks_of<'i>(
    conn: &Connection,
    hasher: &Hasher,
    ids: &'i [MessageId],
) -> rusqlite::Result<Vec<Asked<'i>>> {
    let hash = |id: &MessageId| hasher.message(id.as_str());
    let mut hashed: Vec<(u64, usize)> = ids.iter().map(hash).zip(0..).collect();
    hashed.sort_unstable();
    let mut hashes: Vec<u64> = hashed.iter().map(|(hash, _)| *hash).collect();
    hashes.dedup();
    let mut candidates = Vec::new();
    runs::each(conn, &hashes, |place, block| {
        candidates.push((block, hashes[place]))
    })?;
    candidates.sort_unstable();
    candidates.dedup();
    let of_block = |of_block: &[(i64, u64)]| {
        let mut asked: Vec<(&str, usize)> = Vec::new();
        for (_, hash) in of_block {
            let first = hashed.partition_point(|(other, _)| other < hash);
            let same = hashed[first..]
                .iter()
                .take_while(|(other, _)| other == hash);
            asked.extend(same.map(|(_, place)| (ids[*place].as_str(), *place)));
        }
        asked.sort_unstable();
        (of_block[0].0, asked)
    };
    let blocks = candidates.chunk_by(|one, next| one.0 == next.0);
    Ok(blocks.map(of_block).collect())
}

/// Opens one block after another.
struct Bodies<'c> {
    body: CachedStatement<'c>,
    desk: Desk,
}

impl<'c> Bodies<'c> {
    fn new(conn: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            body: conn.prepare_cached("SELECT columns FROM body WHERE no = ?1")?,
            desk: Desk::default(),
        })
    }

    fn show(
        &mut self,
        no: i64,
        show: impl FnOnce(&mut Block<'_>) -> Option<()>,
    ) -> rusqlite::Result<()> {
        let broken = || corrupt(format_args!("block {no} (the others can be read)"));
        let mut body = self.body.query([no])?;
        let body = body.next()?.ok_or_else(broken)?;
        let body = body.get_ref(0)?.as_blob()?;
        let mut block = Block::of(body, &mut self.desk).ok_or_else(broken)?;
        show(&mut block).ok_or_else(broken)
    }
}

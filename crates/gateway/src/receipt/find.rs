//! How the receipt log on disk finds and reads its receipts.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use nightgate_core::{MessageId, Reason, RecipientKey};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use serde::de::DeserializeOwned;

use super::sqlite::{About, BLOCK_BITS, Why, event_from};
use super::{Filed, Receipt, ReceiptAsk, Subject, snapshot};
use crate::sqlite::{Instant, corrupt, nanoseconds};

const COLUMNS: &str = "r.seq, r.at, r.event, s.message, s.recipient, r.about, r.attempt, r.count, \
    r.until, r.reason, r.opens, r.closes, r.consent, r.detail";
/// `CROSS JOIN`, so that SQLite starts at the subject and not at the receipts.
const BY_SUBJECT: &str = "subject s CROSS JOIN receipt r ON r.subject = s.id";
const BY_SEQ: &str = "receipt r LEFT JOIN subject s ON s.id = r.subject";

/// The receipts asked for, in the order they were filed.
pub(super) fn query(conn: &Connection, ask: &ReceiptAsk) -> rusqlite::Result<Vec<Filed>> {
    let mut reader = Reader {
        conn,
        ask,
        abouts: HashMap::new(),
        whys: HashMap::new(),
    };
    let page = ask.page();
    if let Some(message) = &ask.message {
        let driver = ("s.message = ?", Value::from(message.as_str().to_owned()));
        return reader.read(BY_SUBJECT, &[driver], page);
    }
    if let Some(recipient) = &ask.recipient {
        let driver = (
            "s.recipient = ?",
            Value::from(recipient.expose().to_owned()),
        );
        return reader.read(BY_SUBJECT, &[driver], page);
    }
    if let Some(campaign) = &ask.campaign {
        // One ordered walk each; a campaign has as many rows as it has lanes and channels.
        let mut found = Vec::new();
        for about in abouts(conn, campaign)? {
            found.append(&mut reader.read(BY_SEQ, &[("r.about = ?", about.into())], page)?);
        }
        found.sort_by_key(|filed| filed.seq);
        found.truncate(page);
        return Ok(found);
    }
    let mut found = Vec::new();
    let mut from = ask
        .after
        .map_or(0, |after| integer(after).saturating_add(1));
    while found.len() < page
        && let Some(span) = next_span(conn, ask, from)?
    {
        let within = [
            ("r.seq >= ?", span.start.into()),
            ("r.seq < ?", Value::from(span.end)),
        ];
        found.append(&mut reader.read(BY_SEQ, &within, page - found.len())?);
        from = span.end;
    }
    Ok(found)
}

/// For each message, whether it has a receipt: a subject is only written along with one.
pub(super) fn known(conn: &Connection, ids: &[MessageId]) -> rusqlite::Result<Vec<bool>> {
    let mut known = conn.prepare_cached("SELECT 1 FROM subject WHERE message = ?1 LIMIT 1")?;
    ids.iter().map(|id| known.exists([id.as_str()])).collect()
}

fn abouts(conn: &Connection, campaign: &str) -> rusqlite::Result<Vec<i64>> {
    let mut statement = conn.prepare_cached("SELECT id FROM about WHERE campaign = ?1")?;
    statement.query_map([campaign], |row| row.get(0))?.collect()
}

/// The next places, from `from` on, among which something of the time asked for can stand.
fn next_span(
    conn: &Connection,
    ask: &ReceiptAsk,
    from: i64,
) -> rusqlite::Result<Option<Range<i64>>> {
    if from == i64::MAX {
        return Ok(None);
    }
    if ask.from.is_none() && ask.to.is_none() {
        return Ok(Some(from..i64::MAX));
    }
    let mut next = conn.prepare_cached(
        "SELECT no FROM block WHERE no >= ?1 AND max_at >= ?2 AND min_at <= ?3 ORDER BY no LIMIT 1",
    )?;
    // Where the bound of an ask lies outside the column's range, so does no receipt.
    let least = ask.from.and_then(nanoseconds).unwrap_or(i64::MIN);
    let most = ask.to.and_then(nanoseconds).unwrap_or(i64::MAX);
    let block: Option<i64> = next
        .query_row([from >> BLOCK_BITS, least, most], |row| row.get(0))
        .optional()?;
    if let Some(no) = block {
        return Ok(Some(from.max(no << BLOCK_BITS)..(no + 1) << BLOCK_BITS));
    }
    let mut open = conn.prepare_cached("SELECT coalesce(max(no) + 1, 0) FROM block")?;
    let open: i64 = open.query_row([], |row| row.get(0))?;
    Ok(Some(from.max(open << BLOCK_BITS)..i64::MAX))
}

fn integer(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

struct Reader<'a> {
    conn: &'a Connection,
    ask: &'a ReceiptAsk,
    abouts: HashMap<i64, About>,
    whys: HashMap<i64, Why>,
}

impl Reader<'_> {
    /// Reads up to `max` receipts from `tables` that meet `driver` and everything asked for.
    fn read(
        &mut self,
        tables: &str,
        driver: &[(&str, Value)],
        max: usize,
    ) -> rusqlite::Result<Vec<Filed>> {
        let ask = self.ask;
        let mut wheres: Vec<(&str, Value)> = driver.to_vec();
        if let Some(recipient) = &ask.recipient {
            wheres.push(("s.recipient = ?", recipient.expose().to_owned().into()));
        }
        if let Some(campaign) = &ask.campaign {
            let within = "r.about IN (SELECT id FROM about WHERE campaign = ?)";
            wheres.push((within, campaign.to_string().into()));
        }
        match ask.from.map(|from| (from, nanoseconds(from))) {
            Some((_, Some(nanos))) => wheres.push(("r.at >= ?", nanos.into())),
            Some((from, None)) if from.as_second() > 0 => return Ok(Vec::new()),
            _ => {}
        }
        match ask.to.map(|to| (to, nanoseconds(to))) {
            Some((_, Some(nanos))) => wheres.push(("r.at < ?", nanos.into())),
            Some((to, None)) if to.as_second() < 0 => return Ok(Vec::new()),
            _ => {}
        }
        if let Some(after) = ask.after {
            wheres.push(("r.seq > ?", integer(after).into()));
        }
        let (texts, mut values): (Vec<_>, Vec<_>) = wheres.into_iter().unzip();
        let texts = if texts.is_empty() {
            "true".to_owned()
        } else {
            texts.join(" AND ")
        };
        values.push(i64::try_from(max).unwrap_or(i64::MAX).into());
        let sql = format!("SELECT {COLUMNS} FROM {tables} WHERE {texts} ORDER BY r.seq LIMIT ?");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(self.filed(row)?);
        }
        Ok(found)
    }

    fn filed(&mut self, row: &Row<'_>) -> rusqlite::Result<Filed> {
        let seq = u64::try_from(row.get::<_, i64>(0)?).map_err(|_| corrupt("receipt.seq"))?;
        let event = event_from(row.get(2)?).ok_or_else(|| corrupt("receipt.event"))?;
        let message: Option<String> = row.get(3)?;
        let message = message.map(|id| MessageId::new(&id)).transpose();
        let recipient: Option<String> = row.get(4)?;
        let about = interned(self.conn, &mut self.abouts, "about", row.get(5)?)?;
        let About {
            campaign,
            lane,
            purpose,
            channel,
        } = about.clone();
        let subject = Subject {
            message: message.map_err(|_| corrupt("subject.message"))?,
            recipient: recipient.map(|key| RecipientKey::from_stored(&key)),
            campaign,
            lane,
            purpose,
            channel,
        };
        let receipt = Receipt {
            at: row.get::<_, Instant>(1)?.0,
            event,
            subject,
            attempt: row.get(6)?,
            count: match row.get::<_, Option<i64>>(7)? {
                None => 1,
                Some(count) => u64::try_from(count).map_err(|_| corrupt("receipt.count"))?,
            },
            until: row.get::<_, Option<Instant>>(8)?.map(|at| at.0),
            reason: self.reason(row)?,
            detail: row.get(13)?,
        };
        Ok(Filed { seq, receipt })
    }

    fn reason(&mut self, row: &Row<'_>) -> rusqlite::Result<Option<Reason>> {
        let Some(id) = row.get(9)? else {
            return Ok(None);
        };
        let why: &Why = interned(self.conn, &mut self.whys, "reason", id)?;
        let consent: Vec<u8> = row.get(12)?;
        Ok(Some(Reason {
            code: why.code,
            rule: why.rule.clone(),
            ruleset: Arc::clone(&why.ruleset),
            zone: Arc::clone(&why.zone),
            zone_source: why.zone_source,
            opens: row.get::<_, Option<Instant>>(10)?.map(|at| at.0),
            closes: row.get::<_, Option<Instant>>(11)?.map(|at| at.0),
            consent: snapshot::read(&consent).ok_or_else(|| corrupt("receipt.consent"))?,
        }))
    }
}

/// The row `id` of the side table `table`, read once a query.
fn interned<'m, T: DeserializeOwned>(
    conn: &Connection,
    memory: &'m mut HashMap<i64, T>,
    table: &'static str,
    id: i64,
) -> rusqlite::Result<&'m T> {
    use std::collections::hash_map::Entry;
    match memory.entry(id) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(place) => {
            let mut read =
                conn.prepare_cached(&format!("SELECT json FROM {table} WHERE id = ?1"))?;
            let json: Option<String> = read.query_row([id], |row| row.get(0)).optional()?;
            let row = json.and_then(|json| serde_json::from_str(&json).ok());
            Ok(place.insert(row.ok_or_else(|| corrupt(table))?))
        }
    }
}

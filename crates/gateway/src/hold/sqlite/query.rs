//! Reading: nothing here changes anything, and none of it waits for the writer.

use bytes::Bytes;

use jiff::Timestamp;
use nightgate_core::MessageId;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use crate::hold::codec::{self, HELD_COLUMNS, HELD_WIDTH};
use crate::hold::instant::{instant, nanos};
use crate::hold::{Export, Found, Lane, Pause, Shelf, State};

/// Columns of a [`Found`] after [`HELD_COLUMNS`], from message `m` and shelf `s`.
const FOUND_COLUMNS: &str = "m.state, m.attempts, m.why, m.lapsed, \
     s.lane, s.purpose, s.class, s.campaign, s.priority, s.due";
const FOUND_WIDTH: usize = HELD_WIDTH + 10;

/// The earliest due or lapse on `lane`, at least `now`.
pub(super) fn next_due(
    connection: &Connection,
    lane: &Lane,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let mut find = connection.prepare_cached(
        "SELECT min(at) FROM (
         SELECT min(due) AS at FROM shelf INDEXED BY shelf_held WHERE lane = ?1 AND held > 0
         UNION ALL
         SELECT min(m.until) FROM shelf s INDEXED BY shelf_leased
         CROSS JOIN message m INDEXED BY message_leased ON m.shelf = s.id AND m.state = 1
         WHERE s.leased > 0 AND s.lane = ?1)",
    )?;
    let at: Option<i64> = find.query_row([lane.as_str()], |row| row.get(0))?;
    Ok(at.map(|at| instant(at).max(now)))
}

/// Shelves that are not empty. Those that a re-dating made alike are shown as one.
pub(super) fn shelves(
    connection: &Connection,
    lane: Option<&Lane>,
    due_by: Option<Timestamp>,
) -> Result<Vec<Shelf>> {
    let mut read = connection.prepare_cached(
        "SELECT lane, purpose, class, campaign, priority, due,
         sum(held), sum(leased), sum(buried) FROM shelf
         WHERE due IS NOT NULL AND held + leased + buried > 0
         AND (?1 IS NULL OR lane = ?1) AND (?2 IS NULL OR due <= ?2)
         GROUP BY lane, priority, due, purpose, class, campaign
         ORDER BY lane, priority, due, purpose, class, campaign",
    )?;
    let values = params![lane.map(Lane::as_str), due_by.map(nanos)];
    let rows = read.query_map(values, |row| {
        let key = codec::read_shelf(row, 0)?;
        Ok(Shelf {
            lane: key.lane,
            purpose: key.purpose,
            class: key.class,
            campaign: key.campaign,
            priority: key.priority.get(),
            due: instant(key.due.unwrap_or_default()),
            held: row.get::<_, i64>(6)?.cast_unsigned(),
            leased: row.get::<_, i64>(7)?.cast_unsigned(),
            buried: row.get::<_, i64>(8)?.cast_unsigned(),
        })
    })?;
    rows.collect()
}

/// What is known of each id.
pub(super) fn find(connection: &Connection, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
    let mut read = connection.prepare_cached(&format!(
        "SELECT {HELD_COLUMNS}, {FOUND_COLUMNS}, b.attributes, b.body FROM message m
         JOIN shelf s ON s.id = m.shelf LEFT JOIN body b ON b.seq = m.seq WHERE m.id = ?1"
    ))?;
    ids.iter()
        .map(|id| {
            let found = read.query_row([id.as_str()], |row| {
                let mut found = read_found(row)?;
                let body = row.get_ref(FOUND_WIDTH + 1)?.as_blob_or_null()?;
                found.held.message.body = body.map(Bytes::copy_from_slice).unwrap_or_default();
                Ok(found)
            });
            found.optional()
        })
        .collect()
}

/// Up to `max` messages in `state`, by arrival, without their bodies.
pub(super) fn list(
    connection: &Connection,
    state: State,
    lane: Option<&Lane>,
    max: usize,
) -> Result<Vec<Found>> {
    // A constant state lets SQLite use the index of that state alone.
    let state = state.code();
    let mut read = connection.prepare_cached(&format!(
        "SELECT {HELD_COLUMNS}, {FOUND_COLUMNS}, b.attributes FROM message m
         CROSS JOIN shelf s ON s.id = m.shelf LEFT JOIN body b ON b.seq = m.seq
         WHERE m.state = {state} AND (?1 IS NULL OR s.lane = ?1) ORDER BY m.seq LIMIT ?2"
    ))?;
    let limit = i64::try_from(max).unwrap_or(i64::MAX);
    read.query_map(params![lane.map(Lane::as_str), limit], read_found)?
        .collect()
}

/// Live messages from `from` on, whole, and where to go on.
pub(super) fn export(connection: &Connection, from: u64, max_bytes: usize) -> Result<Export> {
    let mut read = connection.prepare_cached(&format!(
        "SELECT {HELD_COLUMNS}, {FOUND_COLUMNS}, b.attributes, b.body, m.seq FROM message m
         JOIN shelf s ON s.id = m.shelf LEFT JOIN body b ON b.seq = m.seq
         WHERE m.seq >= ?1 AND m.state IN (0, 1, 2) ORDER BY m.seq"
    ))?;
    let (mut page, mut bytes) = (Export::default(), 0);
    let mut rows = read.query([i64::try_from(from).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        let mut found = read_found(row)?;
        let body = row.get_ref(FOUND_WIDTH + 1)?.as_blob_or_null()?;
        found.held.message.body = body.map(Bytes::copy_from_slice).unwrap_or_default();
        bytes += MESSAGE_BYTES + found.held.message.body.len();
        page.found.push(found);
        if bytes >= max_bytes {
            page.next = Some(row.get::<_, i64>(FOUND_WIDTH + 2)?.cast_unsigned() + 1);
            break;
        }
    }
    Ok(page)
}

/// What the database says of itself, line by line; one `ok` when it is sound.
pub(super) fn integrity(connection: &Connection) -> Result<Vec<String>> {
    let mut check = connection.prepare("PRAGMA integrity_check")?;
    check.query_map([], |row| row.get(0))?.collect()
}

/// What every message takes beside its body, in bytes, as far as a page is concerned.
const MESSAGE_BYTES: usize = 1024;

/// Reads [`HELD_COLUMNS`], [`FOUND_COLUMNS`] and the attributes.
fn read_found(row: &Row<'_>) -> Result<Found> {
    let shelf = codec::read_shelf(row, HELD_WIDTH + 4)?;
    let mut held = codec::read_held(row, &shelf)?;
    let attributes = row.get_ref(FOUND_WIDTH)?.as_str_or_null()?;
    held.message.attributes = codec::read_attributes(attributes)?;
    let state = codec::state_of(row.get(HELD_WIDTH)?)?;
    let lapsed: bool = row.get(HELD_WIDTH + 3)?;
    Ok(Found {
        held,
        state,
        attempts: row.get(HELD_WIDTH + 1)?,
        lapsed: state == State::Held && lapsed,
        why: row.get(HELD_WIDTH + 2)?,
    })
}

/// The stops in force: the global one first, then by lane.
pub(super) fn pauses(connection: &Connection) -> Result<Vec<Pause>> {
    let mut read = connection.prepare_cached("SELECT lane, since FROM pause ORDER BY lane")?;
    let rows = read.query_map([], |row| {
        let lane = row.get_ref(0)?.as_str_or_null()?.map(Lane::new);
        Ok(Pause {
            lane,
            since: instant(row.get(1)?),
        })
    })?;
    rows.collect()
}

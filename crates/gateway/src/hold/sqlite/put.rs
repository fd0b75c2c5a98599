//! Storing messages.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Result, params};

use super::shelving::{Place, Shelving};
use crate::hold::codec::{self, Exact};
use crate::hold::instant::nanos;
use crate::hold::key::ShelfKey;
use crate::hold::{Held, Put, State};

/// The last instant at which something may have ended to be forgotten at `now`.
pub(super) fn forgotten_by(now: Timestamp, horizon: SignedDuration) -> i64 {
    let horizon = i64::try_from(horizon.as_nanos()).unwrap_or(i64::MAX);
    nanos(now).saturating_sub(horizon).saturating_sub(1)
}

/// Stores `messages`; `forgotten` is the last end that no longer makes a duplicate.
pub(super) fn put(connection: &Connection, messages: &[Held], forgotten: i64) -> Result<Vec<Put>> {
    let mut shelves = Shelving::new(connection);
    let mut insert = connection.prepare_cached(
        "INSERT INTO message (seq, id, shelf, state, key, recipient, channel, jurisdiction, zone,
         send_at, expires_at, collapse_key, content_type, accepted_at)
         VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (id) DO NOTHING",
    )?;
    let mut body = connection
        .prepare_cached("INSERT INTO body (seq, attributes, body) VALUES (?1, ?2, ?3)")?;
    let mut answers = Vec::with_capacity(messages.len());
    for held in messages {
        let shelf = shelves.id(&ShelfKey::of(held))?;
        let next = shelves.next_arrival()?;
        let mut new = insert_one(&mut insert, next, shelf, held)?;
        if !new
            && forget(
                connection,
                &mut shelves,
                held.message.id.as_str(),
                forgotten,
            )?
        {
            new = insert_one(&mut insert, next, shelf, held)?;
        }
        if new {
            let attributes = codec::write_attributes(&held.message.attributes)?;
            body.execute(params![next, attributes, &*held.message.body])?;
            shelves.add(Place {
                shelf,
                state: State::Held,
            });
            shelves.arrive()?;
        }
        answers.push(if new { Put::New } else { Put::Duplicate });
    }
    shelves.finish()?;
    Ok(answers)
}

fn insert_one(insert: &mut CachedStatement<'_>, seq: i64, shelf: i64, held: &Held) -> Result<bool> {
    let message = &held.message;
    let key = held.key.expose();
    let recipient = Some(message.recipient.expose()).filter(|recipient| *recipient != key);
    let rows = insert.execute(params![
        seq,
        message.id.as_str(),
        shelf,
        key,
        recipient,
        message.channel.as_str(),
        message
            .jurisdiction
            .map(|jurisdiction| jurisdiction.to_string()),
        message.zone,
        message.send_at.map(Exact),
        message.expires_at.map(Exact),
        message.collapse_key,
        message.content_type,
        Exact(held.accepted_at),
    ])?;
    Ok(rows == 1)
}

/// Drops the row of `id` if it ended so long ago that the id counts as new.
fn forget(
    connection: &Connection,
    shelves: &mut Shelving<'_>,
    id: &str,
    forgotten: i64,
) -> Result<bool> {
    let mut find = connection
        .prepare_cached("SELECT seq, shelf FROM message WHERE id = ?1 AND ended_at <= ?2")?;
    let old: Option<(i64, i64)> = find
        .query_row(params![id, forgotten], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((seq, shelf)) = old else {
        return Ok(false);
    };
    connection
        .prepare_cached("DELETE FROM message WHERE seq = ?1")?
        .execute([seq])?;
    shelves.take(Place {
        shelf,
        state: State::Recalled,
    });
    Ok(true)
}

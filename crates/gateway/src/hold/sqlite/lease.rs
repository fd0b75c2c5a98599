//! Lending messages, and taking back what was lent too long.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use nightgate_core::Purpose;
use rusqlite::{Connection, Result, Row, params};

use super::settle::end;
use super::shelving::{Place, Shelving, priorities};
use crate::hold::codec::{self, HELD_COLUMNS, HELD_WIDTH};
use crate::hold::instant::{instant, nanos};
use crate::hold::{Lane, Leased, Pick, State, Token};

/// Fewest arrival numbers read from a shelf at a time while shelves of one due are merged.
const MERGE_CHUNK_MIN: usize = 16;

/// [`crate::hold::LeaseAsk`], owned.
pub(super) struct Ask {
    pub(super) lane: Lane,
    pub(super) pick: Option<(Purpose, Option<String>)>,
    pub(super) now: Timestamp,
    pub(super) max: usize,
    pub(super) ttl: SignedDuration,
}

impl From<&crate::hold::LeaseAsk<'_>> for Ask {
    fn from(ask: &crate::hold::LeaseAsk<'_>) -> Self {
        let pick = match ask.pick {
            Pick::Any => None,
            Pick::Campaign(purpose, name) => Some((purpose, name.map(str::to_owned))),
        };
        Self {
            lane: ask.lane.clone(),
            pick,
            now: ask.now,
            max: ask.max,
            ttl: ask.ttl,
        }
    }
}

/// Lends up to `ask.max` due messages, by priority, then due, then arrival.
pub(super) fn lease(connection: &Connection, ask: &Ask) -> Result<Vec<Leased>> {
    let mut shelves = Shelving::new(connection);
    reclaim(connection, &mut shelves, Some(&ask.lane), ask.now)?;
    // The counts of what came back decide which shelves have something to lend.
    shelves.finish()?;
    let picked = pick(connection, ask)?;
    let mut shelves = Shelving::new(connection);
    let until = ask.now.saturating_add(ask.ttl).unwrap_or(Timestamp::MAX);
    let leased = lend(connection, &mut shelves, &picked, nanos(until))?;
    shelves.finish()?;
    Ok(leased)
}

/// Takes back loans that are over at `now`: they are held again, or recalled if that was asked.
pub(super) fn reclaim(
    connection: &Connection,
    shelves: &mut Shelving<'_>,
    lane: Option<&Lane>,
    now: Timestamp,
) -> Result<()> {
    let mut find = connection.prepare_cached(
        "SELECT m.seq, m.shelf, m.recall FROM shelf s INDEXED BY shelf_leased
         CROSS JOIN message m INDEXED BY message_leased
         ON m.shelf = s.id AND m.state = 1 AND m.until <= ?2
         WHERE s.leased > 0 AND s.lane = coalesce(?1, s.lane)",
    )?;
    let lane = lane.map(Lane::as_str);
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let over: Vec<(i64, i64, bool)> = find
        .query_map(params![lane, nanos(now)], read)?
        .collect::<Result<_>>()?;
    let mut back = connection
        .prepare_cached("UPDATE message SET state = 0, until = NULL, lapsed = 1 WHERE seq = ?1")?;
    for (seq, shelf, recall) in over {
        let from = Place {
            shelf,
            state: State::Leased,
        };
        if recall {
            end(connection, shelves, seq, from, State::Recalled, now)?;
        } else {
            back.execute([seq])?;
            shelves.take(from);
            shelves.add(Place {
                shelf,
                state: State::Held,
            });
        }
    }
    Ok(())
}

/// The messages to lend, in order, as (seq, shelf).
fn pick(connection: &Connection, ask: &Ask) -> Result<Vec<(i64, i64)>> {
    let mut due_shelves = connection.prepare_cached(
        "SELECT id, due FROM shelf INDEXED BY shelf_held
         WHERE lane = ?1 AND priority = ?2 AND due <= ?3 AND held > 0
         AND (?4 IS NULL OR (purpose = ?4 AND campaign IS ?5)) ORDER BY due, id",
    )?;
    let purpose = ask.pick.as_ref().map(|(purpose, _)| purpose.as_str());
    let campaign = ask
        .pick
        .as_ref()
        .and_then(|(_, campaign)| campaign.as_deref());
    let mut picked = Vec::new();
    for priority in priorities() {
        let values = params![
            ask.lane.as_str(),
            priority,
            nanos(ask.now),
            purpose,
            campaign
        ];
        let mut rows = due_shelves.query(values)?;
        let mut group: Vec<i64> = Vec::new();
        let mut group_due = None;
        while picked.len() < ask.max
            && let Some(row) = rows.next()?
        {
            let due: Option<i64> = row.get(1)?;
            if due != group_due {
                merge(connection, &group, ask.max, &mut picked)?;
                group.clear();
                group_due = due;
            }
            group.push(row.get(0)?);
        }
        merge(connection, &group, ask.max, &mut picked)?;
    }
    Ok(picked)
}

/// Adds messages of shelves that share one priority and due, by arrival, until `max` are picked.
fn merge(
    connection: &Connection,
    shelves: &[i64],
    max: usize,
    picked: &mut Vec<(i64, i64)>,
) -> Result<()> {
    let wanted = max.saturating_sub(picked.len());
    if wanted == 0 || shelves.is_empty() {
        return Ok(());
    }
    let chunk = (wanted / shelves.len()).max(MERGE_CHUNK_MIN).min(wanted);
    let mut heads = BinaryHeap::with_capacity(shelves.len());
    let mut queues = Vec::with_capacity(shelves.len());
    for (index, &shelf) in shelves.iter().enumerate() {
        let mut queue = chunk_after(connection, shelf, 0, chunk)?;
        heads.extend(queue.pop_front().map(|seq| Reverse((seq, index))));
        queues.push(queue);
    }
    while picked.len() < max
        && let Some(Reverse((seq, index))) = heads.pop()
    {
        let (shelf, queue) = (shelves[index], &mut queues[index]);
        picked.push((seq, shelf));
        if queue.is_empty() {
            *queue = chunk_after(connection, shelf, seq, chunk)?;
        }
        heads.extend(queue.pop_front().map(|next| Reverse((next, index))));
    }
    Ok(())
}

fn chunk_after(
    connection: &Connection,
    shelf: i64,
    after: i64,
    chunk: usize,
) -> Result<VecDeque<i64>> {
    let mut read = connection.prepare_cached(
        "SELECT seq FROM message INDEXED BY message_held
         WHERE shelf = ?1 AND state = 0 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let limit = i64::try_from(chunk).unwrap_or(i64::MAX);
    read.query_map([shelf, after, limit], |row| row.get(0))?
        .collect()
}

fn lend(
    connection: &Connection,
    shelves: &mut Shelving<'_>,
    picked: &[(i64, i64)],
    until: i64,
) -> Result<Vec<Leased>> {
    let mut mark = connection.prepare_cached(
        "UPDATE message SET state = 1, until = ?2, lease = lease + 1 WHERE seq = ?1",
    )?;
    let mut read = connection.prepare_cached(&format!(
        "SELECT {HELD_COLUMNS}, m.lease, m.attempts, m.lapsed, b.attributes, b.body
         FROM message m JOIN body b ON b.seq = m.seq WHERE m.seq = ?1"
    ))?;
    let mut leased = Vec::with_capacity(picked.len());
    for &(seq, shelf) in picked {
        let key = shelves.key(shelf)?;
        mark.execute([seq, until])?;
        leased.push(read.query_row([seq], |row| {
            let mut held = codec::read_held(row, &key)?;
            let attributes = row.get_ref(HELD_WIDTH + 3)?.as_str_or_null()?;
            held.message.attributes = codec::read_attributes(attributes)?;
            held.message.body = row.get_ref(HELD_WIDTH + 4)?.as_blob()?.to_vec().into();
            let lease: i64 = row.get(HELD_WIDTH)?;
            Ok(Leased {
                token: Token {
                    seq: seq.cast_unsigned(),
                    lease: lease.cast_unsigned(),
                },
                held,
                until: instant(until),
                attempts: row.get(HELD_WIDTH + 1)?,
                lapsed: row.get(HELD_WIDTH + 2)?,
            })
        })?);
        shelves.take(Place {
            shelf,
            state: State::Held,
        });
        shelves.add(Place {
            shelf,
            state: State::Leased,
        });
    }
    Ok(leased)
}

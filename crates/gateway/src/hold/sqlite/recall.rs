//! Taking back, bringing back, moving, stopping and forgetting.

use jiff::Timestamp;
use nightgate_core::Class;
use rusqlite::{Connection, Result, params};

use super::lease::reclaim;
use super::settle::{end, hold_again};
use super::shelving::{Place, Shelving};
use crate::hold::instant::nanos;
use crate::hold::{Lane, Recalled, Scope, State};

/// Takes back what is held or buried within `scope`, and marks what is on loan.
pub(super) fn recall(connection: &Connection, scope: &Scope, now: Timestamp) -> Result<Recalled> {
    // A loan that is over is no loan: its message is held, and is taken back like the others.
    let mut shelves = Shelving::new(connection);
    reclaim(connection, &mut shelves, None, now)?;
    let mut recalled = 0;
    for state in [State::Held, State::Buried] {
        for (seq, shelf) in within(connection, scope, state)? {
            end(
                connection,
                &mut shelves,
                seq,
                Place { shelf, state },
                State::Recalled,
                now,
            )?;
            recalled += 1;
        }
    }
    let mut mark =
        connection.prepare_cached("UPDATE message SET recall = 1 WHERE seq = ?1 AND recall = 0")?;
    let mut in_flight = 0;
    for (seq, _) in within(connection, scope, State::Leased)? {
        in_flight += mark.execute([seq])? as u64;
    }
    shelves.finish()?;
    Ok(Recalled {
        recalled,
        in_flight,
    })
}

/// Brings buried messages back, due now, as if they had never been tried.
pub(super) fn kick(connection: &Connection, scope: &Scope, now: Timestamp) -> Result<u64> {
    let mut shelves = Shelving::new(connection);
    let mut clean = connection
        .prepare_cached("UPDATE message SET attempts = 0, lapsed = 0, why = NULL WHERE seq = ?1")?;
    let state = State::Buried;
    let mut kicked = 0;
    for (seq, shelf) in within(connection, scope, state)? {
        let seq = shelves.anew(seq)?;
        clean.execute([seq])?;
        hold_again(connection, &mut shelves, seq, Place { shelf, state }, now)?;
        kicked += 1;
    }
    shelves.finish()?;
    Ok(kicked)
}

/// The messages of `scope` in `state`, by arrival, as (seq, shelf).
fn within(connection: &Connection, scope: &Scope, state: State) -> Result<Vec<(i64, i64)>> {
    let (filter, value) = match scope {
        Scope::Id(id) => ("m.id = ?1", id.as_str()),
        Scope::Recipient(key) => ("m.key = ?1", key.expose()),
        Scope::Campaign(name) => ("s.campaign = ?1", &**name),
        Scope::Lane(lane) => ("s.lane = ?1", lane.as_str()),
    };
    // A constant state lets SQLite use the index of that state alone.
    let state = state.code();
    let mut find = connection.prepare_cached(&format!(
        "SELECT m.seq, m.shelf FROM shelf s JOIN message m ON m.shelf = s.id
         WHERE m.state = {state} AND {filter} ORDER BY m.seq"
    ))?;
    find.query_map([value], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Moves the due shelves of one lane and class to `to`; says how many held messages stand there.
pub(super) fn redate(
    connection: &Connection,
    lane: &Lane,
    class: &Class,
    now: Timestamp,
    to: Timestamp,
) -> Result<u64> {
    let which = params![lane.as_str(), class.as_str(), nanos(now)];
    let filter = "lane = ?1 AND class = ?2 AND due <= ?3";
    let held: i64 = connection
        .prepare_cached(&format!(
            "SELECT coalesce(sum(held), 0) FROM shelf WHERE {filter}"
        ))?
        .query_row(which, |row| row.get(0))?;
    connection
        .prepare_cached(&format!("UPDATE shelf SET due = ?4 WHERE {filter}"))?
        .execute(params![
            lane.as_str(),
            class.as_str(),
            nanos(now),
            nanos(to)
        ])?;
    Ok(held.cast_unsigned())
}

/// Sets or lifts a stop. Setting one that stands keeps its first instant.
pub(super) fn pause(
    connection: &Connection,
    lane: Option<&Lane>,
    paused: bool,
    now: Timestamp,
) -> Result<()> {
    let lane = lane.map(Lane::as_str);
    if paused {
        connection.execute(
            "INSERT INTO pause (lane, since) SELECT ?1, ?2
             WHERE NOT EXISTS (SELECT 1 FROM pause WHERE lane IS ?1)",
            params![lane, nanos(now)],
        )?;
    } else {
        connection.execute("DELETE FROM pause WHERE lane IS ?1", [lane])?;
    }
    Ok(())
}

/// Forgets up to `max` messages that ended at or before `forgotten`; says how many.
pub(super) fn sweep(connection: &Connection, forgotten: i64, max: usize) -> Result<usize> {
    let mut shelves = Shelving::new(connection);
    let mut find = connection.prepare_cached(
        "SELECT seq, shelf FROM message INDEXED BY message_ended
         WHERE ended_at <= ?1 ORDER BY ended_at LIMIT ?2",
    )?;
    let limit = i64::try_from(max).unwrap_or(i64::MAX);
    let old: Vec<(i64, i64)> = find
        .query_map([forgotten, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_>>()?;
    let mut drop_row = connection.prepare_cached("DELETE FROM message WHERE seq = ?1")?;
    for &(seq, shelf) in &old {
        drop_row.execute([seq])?;
        // Every ended state is counted alike.
        shelves.take(Place {
            shelf,
            state: State::Recalled,
        });
    }
    shelves.finish()?;
    Ok(old.len())
}

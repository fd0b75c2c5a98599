//! Ending loans, and the end of a message's road.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::shelving::{Place, Shelving};
use crate::hold::instant::nanos;
use crate::hold::{Settle, Settled, State, Token, Verdict};

/// A loan as it stands.
struct Loan {
    seq: i64,
    from: Place,
    recall: bool,
}

/// Ends each loan that is still running at `now`.
pub(super) fn settle(
    connection: &Connection,
    settlements: &[Settle],
    now: Timestamp,
) -> Result<Vec<Settled>> {
    let mut shelves = Shelving::new(connection);
    let mut answers = Vec::with_capacity(settlements.len());
    for Settle { token, verdict } in settlements {
        let loan = running(connection, *token, now)?;
        answers.push(if loan.is_some() {
            Settled::Yes
        } else {
            Settled::Lapsed
        });
        if let Some(loan) = loan {
            obey(connection, &mut shelves, &loan, verdict, now)?;
        }
    }
    shelves.finish()?;
    Ok(answers)
}

/// The loan behind `token`, unless it lapsed, was settled or was never made.
fn running(connection: &Connection, token: Token, now: Timestamp) -> Result<Option<Loan>> {
    let mut find = connection.prepare_cached(
        "SELECT shelf, recall FROM message
         WHERE seq = ?1 AND lease = ?2 AND state = 1 AND until > ?3",
    )?;
    let seq = token.seq.cast_signed();
    find.query_row(params![seq, token.lease.cast_signed(), nanos(now)], |row| {
        let from = Place {
            shelf: row.get(0)?,
            state: State::Leased,
        };
        Ok(Loan {
            seq,
            from,
            recall: row.get(1)?,
        })
    })
    .optional()
}

fn obey(
    connection: &Connection,
    shelves: &mut Shelving<'_>,
    loan: &Loan,
    verdict: &Verdict,
    now: Timestamp,
) -> Result<()> {
    let Loan {
        mut seq,
        from,
        recall,
    } = *loan;
    if !matches!(verdict, Verdict::Done(_)) {
        seq = shelves.anew(seq)?;
    }
    match verdict {
        Verdict::Done(how) => end(connection, shelves, seq, from, State::ended(*how), now),
        Verdict::Defer { due, attempted } => {
            if *attempted {
                connection
                    .prepare_cached("UPDATE message SET attempts = attempts + 1 WHERE seq = ?1")?
                    .execute([seq])?;
            }
            if recall {
                return end(connection, shelves, seq, from, State::Recalled, now);
            }
            hold_again(connection, shelves, seq, from, *due)
        }
        Verdict::Bury { why } => {
            connection
                .prepare_cached("UPDATE message SET why = ?2 WHERE seq = ?1")?
                .execute(params![seq, why])?;
            // A recall takes back what is buried, so the order of the two must not matter.
            if recall {
                return end(connection, shelves, seq, from, State::Recalled, now);
            }
            connection
                .prepare_cached("UPDATE message SET state = 2, until = NULL WHERE seq = ?1")?
                .execute([seq])?;
            shelves.take(from);
            shelves.add(Place {
                shelf: from.shelf,
                state: State::Buried,
            });
            Ok(())
        }
    }
}

/// Puts a message onto the shelf that is like its own but due at `due`.
pub(super) fn hold_again(
    connection: &Connection,
    shelves: &mut Shelving<'_>,
    seq: i64,
    from: Place,
    due: Timestamp,
) -> Result<()> {
    let key = shelves.key(from.shelf)?.at(Some(nanos(due)));
    let to = Place {
        shelf: shelves.id(&key)?,
        state: State::Held,
    };
    connection
        .prepare_cached("UPDATE message SET state = 0, until = NULL, shelf = ?2 WHERE seq = ?1")?
        .execute([seq, to.shelf])?;
    shelves.take(from);
    shelves.add(to);
    Ok(())
}

/// Ends a message's road: its body and attributes go, its id stays known for the horizon.
pub(super) fn end(
    connection: &Connection,
    shelves: &mut Shelving<'_>,
    seq: i64,
    from: Place,
    state: State,
    now: Timestamp,
) -> Result<()> {
    let key = shelves.key(from.shelf)?;
    let to = Place {
        shelf: shelves.id(&key.at(None))?,
        state,
    };
    connection
        .prepare_cached(
            "UPDATE message SET state = ?2, shelf = ?3, due = ?4, ended_at = ?5, until = NULL
             WHERE seq = ?1",
        )?
        .execute(params![seq, state.code(), to.shelf, key.due, nanos(now)])?;
    connection
        .prepare_cached("DELETE FROM body WHERE seq = ?1")?
        .execute([seq])?;
    shelves.take(from);
    shelves.add(to);
    Ok(())
}

//! Merging runs, a bounded part at a time.
//!
//! A merge moves along the hashes: what lies below `upto` has been written to the new run, what
//! lies above still stands in the old ones, and a reader asks each for its part. So a merge of any
//! size is made of small transactions, may be left off and taken up again by anyone, and is never
//! seen half done. Once it has reached the end the old runs are dropped, a few leaves at a time.

use rusqlite::{Connection, params};

use super::runs::{FAN, LEVELS, Run, all, insert, keep, leaves};
use crate::receipt::columns::leaf::{HASH_END, ROOM, block_of, entry, hash_of, pack};

/// Entries merged at a time at least: a step ends with a leaf half full, so short ones waste space.
pub(super) const STEP_ENTRIES: u64 = 64 * 1024;
/// Leaves dropped at a time; a step makes about as many.
const LEAVES_DROPPED: u32 = 512;

/// Takes one step of each merge there is to do; `entries` is how many a step should move, roughly.
pub(super) fn step(conn: &Connection, entries: u64) -> rusqlite::Result<()> {
    for level in 1..LEVELS {
        // Read again each time: the merge below may have finished a run for this one.
        let runs = all(conn)?;
        drop_merged(conn, &runs, level - 1)?;
        if let Some(into) = next(&runs, level) {
            advance(conn, &runs, into, entries)?;
        }
    }
    Ok(())
}

/// The merge to do on `level`: the one begun, or the first whose runs are all there.
fn next(runs: &[Run], level: u32) -> Option<Run> {
    let of = |level| runs.iter().filter(move |run| run.level == level);
    if let Some(begun) = of(level).find(|run| !run.is_whole()) {
        return Some(*begun);
    }
    let below: Vec<&Run> = of(level - 1).filter(|run| run.is_whole()).collect();
    let mut families = below.chunk_by(|one, next| one.parent() == next.parent());
    let family = families.find(|family| {
        let merged = |first: &Run| of(level).any(|run| (level, run.no) == first.parent());
        family.len() as i64 == FAN && !family.first().is_none_or(|first| merged(first))
    })?;
    Some(Run {
        level,
        no: family.first()?.parent().1,
        entries: family.iter().map(|run| run.entries).sum(),
        upto: 0,
    })
}

/// Moves some `entries` into `into`.
fn advance(conn: &Connection, runs: &[Run], into: Run, entries: u64) -> rusqlite::Result<()> {
    let (from, share) = (into.upto, u128::from(entries) * u128::from(HASH_END));
    let share = share / u128::from(into.entries.max(1));
    let to = u64::try_from(u128::from(from) + share).unwrap_or(HASH_END);
    let to = to.clamp(from + 1, HASH_END);
    let (mut moved, mut room) = (Vec::new(), ROOM);
    for run in runs
        .iter()
        .filter(|run| run.parent() == (into.level, into.no))
    {
        let before = (run.first_block() - into.first_block()).cast_unsigned();
        leaves(conn, run, from, to - 1, |mut leaf| {
            while let Some(group) = leaf.next()? {
                let entries = group.entries(&mut room).iter();
                let within = entries.filter(|entry| (from..to).contains(&hash_of(**entry)));
                moved.extend(within.map(|e| entry(hash_of(*e), before + block_of(*e))));
            }
            Ok(())
        })?;
    }
    // Sixteen sorted parts: a sort that knows them merges them.
    moved.sort();
    let into = Run { upto: to, ..into };
    pack(&moved, into.blocks(), |first, page| {
        insert(conn, &into, first, page)
    })?;
    keep(conn, &into)
}

/// Drops leaves of runs of `level` that are merged whole, and the runs that have none left.
fn drop_merged(conn: &Connection, runs: &[Run], level: u32) -> rusqlite::Result<()> {
    let whole = |run: &&Run| {
        let parent = runs
            .iter()
            .find(|other| (other.level, other.no) == run.parent());
        run.level == level && parent.is_some_and(Run::is_whole)
    };
    let mut left = LEAVES_DROPPED;
    for run in runs.iter().filter(whole) {
        let (first, end) = (run.place(0), run.place(HASH_END - 1));
        let sql = format!(
            "DELETE FROM leaf_{level} WHERE place BETWEEN ?1 AND ?2 AND place <= coalesce((\
             SELECT place FROM leaf_{level} WHERE place BETWEEN ?1 AND ?2 \
             ORDER BY place LIMIT 1 OFFSET ?3), ?2)"
        );
        let mut drop = conn.prepare_cached(&sql)?;
        let dropped = drop.execute(params![first, end, left.saturating_sub(1)])?;
        left = left.saturating_sub(u32::try_from(dropped).unwrap_or(u32::MAX));
        if left == 0 {
            return Ok(());
        }
        conn.prepare_cached("DELETE FROM run WHERE level = ?1 AND no = ?2")?
            .execute(params![level, run.no])?;
    }
    Ok(())
}

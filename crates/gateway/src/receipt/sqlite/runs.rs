//! The index of receipts: runs of leaves, by which a hash leads to blocks.
//!
//! Every block comes with a run of its own, level 0. [`FAN`] neighbouring runs of one level are
//! merged into one of the next, so that a look-up asks some dozens of runs however many blocks
//! there are, and an entry is written once a level. A run stands at a number that its blocks give:
//! number 3 of level 1 spans blocks 48 to 63. Each level has a table of its own, in which the
//! newest run is always the last: there SQLite fills page after page.

use rusqlite::{Connection, OptionalExtension, params};

use crate::receipt::columns::leaf::{HASH_BITS, HASH_END, Leaf, ROOM, block_of, hash_of};
use crate::receipt::columns::press::Sealed;
use crate::sqlite::{corrupt, natural};

/// Runs merged into one.
pub(super) const FAN: i64 = 1 << FAN_BITS;
const FAN_BITS: u32 = 4;
/// Levels of runs; the last is not merged any more and spans 16 million blocks.
pub(super) const LEVELS: u32 = 7;
/// Bits of a run's number that stand in the place of its leaves; together with a hash they make a
/// positive integer. Runs so far apart are never there together.
const RUN_BITS: u32 = 63 - HASH_BITS;
/// Entries of a leaf, roughly: to guess how many leaves a run has.
pub(super) const LEAF_ENTRIES: u64 = 1_000;

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) level: u32,
    pub(super) no: i64,
    pub(super) entries: u64,
    /// Hashes below are in it: all of them, but while it is being merged.
    pub(super) upto: u64,
}

impl Run {
    /// Whether it has all its entries.
    pub(super) fn is_whole(&self) -> bool {
        self.upto >= HASH_END
    }

    /// The first block it spans.
    pub(super) fn first_block(&self) -> i64 {
        self.no << (FAN_BITS * self.level)
    }

    /// How many blocks it spans.
    pub(super) fn blocks(&self) -> u64 {
        1 << (FAN_BITS * self.level)
    }

    /// Level and number of the run that it is merged into.
    pub(super) fn parent(&self) -> (u32, i64) {
        (self.level + 1, self.no >> FAN_BITS)
    }

    /// The place of its leaf that begins with `hash`.
    pub(super) fn place(&self, hash: u64) -> i64 {
        let no = self.no & ((1 << RUN_BITS) - 1);
        no << HASH_BITS | hash.cast_signed()
    }

    /// Leaves it has, roughly.
    pub(super) fn leaves(&self) -> u64 {
        self.entries.div_ceil(LEAF_ENTRIES)
    }
}

/// All runs, in order of level and number.
pub(super) fn all(conn: &Connection) -> rusqlite::Result<Vec<Run>> {
    let mut runs = conn.prepare_cached("SELECT level, no, entries, upto FROM run ORDER BY 1, 2")?;
    let run = |row: &rusqlite::Row<'_>| {
        let run = Run {
            level: row.get(0)?,
            no: row.get(1)?,
            entries: natural(row, 2)?,
            upto: natural(row, 3)?,
        };
        let fits = run.level < LEVELS && run.no >= 0 && run.upto <= HASH_END;
        fits.then_some(run).ok_or_else(|| corrupt("run"))
    };
    runs.query_map([], run)?.collect()
}

/// Adds a run, or tells how far it has come.
pub(super) fn keep(conn: &Connection, run: &Run) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO run VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            run.level,
            run.no,
            run.entries.cast_signed(),
            run.upto.cast_signed()
        ])?;
    Ok(())
}

/// Adds the run of one new block.
pub(super) fn add(conn: &Connection, block: i64, sealed: &Sealed) -> rusqlite::Result<()> {
    let run = Run {
        level: 0,
        no: block,
        entries: sealed.entries,
        upto: HASH_END,
    };
    keep(conn, &run)?;
    for (first, page) in &sealed.leaves {
        insert(conn, &run, *first, page)?;
    }
    Ok(())
}

/// Adds a leaf.
pub(super) fn insert(
    conn: &Connection,
    run: &Run,
    first: u64,
    page: &[u8],
) -> rusqlite::Result<()> {
    conn.prepare_cached(&format!("INSERT INTO leaf_{} VALUES (?1, ?2)", run.level))?
        .execute(params![run.place(first), page])?;
    Ok(())
}

/// Calls `each` with the leaves of `run` in which hashes from `from` on and up to `to` can stand.
pub(super) fn leaves(
    conn: &Connection,
    run: &Run,
    from: u64,
    to: u64,
    mut each: impl FnMut(Leaf<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let level = run.level;
    let mut first = conn.prepare_cached(&format!(
        "SELECT max(place) FROM leaf_{level} WHERE place BETWEEN ?1 AND ?2"
    ))?;
    let bounds = [run.place(0), run.place(from)];
    let first: Option<i64> = first.query_row(bounds, |row| row.get(0))?;
    let bounds = [first.unwrap_or_else(|| run.place(from)), run.place(to)];
    let mut leaves = conn.prepare_cached(&format!(
        "SELECT place, page FROM leaf_{level} WHERE place BETWEEN ?1 AND ?2 ORDER BY place"
    ))?;
    let mut leaves = leaves.query(bounds)?;
    while let Some(leaf) = leaves.next()? {
        each(read(leaf)?)?;
    }
    Ok(())
}

fn read<'r>(leaf: &'r rusqlite::Row<'_>) -> rusqlite::Result<Leaf<'r>> {
    let place: i64 = leaf.get(0)?;
    let first = place.cast_unsigned() & (HASH_END - 1);
    Leaf::of(first, leaf.get_ref(1)?.as_blob()?)
}

/// Every run, and the hashes for which it is the one to ask: a run that is being merged and the one
/// it is merged into share them, and one that is waiting to be dropped has none.
fn asked(conn: &Connection) -> rusqlite::Result<Vec<(Run, u64)>> {
    let runs = all(conn)?;
    let from = |run: &Run| {
        let parent = runs
            .iter()
            .find(|other| (other.level, other.no) == run.parent());
        parent.map_or(0, |parent| parent.upto)
    };
    let asked = runs.iter().map(|run| (*run, from(run)));
    Ok(asked.filter(|(run, from)| *from < run.upto).collect())
}

/// The blocks in which `hash` stands, in order.
pub(super) fn blocks(conn: &Connection, hash: u64) -> rusqlite::Result<Vec<i64>> {
    let mut blocks = Vec::new();
    each(conn, &[hash], |_, block| blocks.push(block))?;
    blocks.sort_unstable();
    blocks.dedup();
    Ok(blocks)
}

/// Calls `found` for each of `hashes`, which ascend and differ, with its place among them and a
/// block in which it stands; in no order.
pub(super) fn each(
    conn: &Connection,
    hashes: &[u64],
    mut found: impl FnMut(usize, i64),
) -> rusqlite::Result<()> {
    for (run, from) in asked(conn)? {
        let first = hashes.partition_point(|hash| *hash < from);
        let last = hashes.partition_point(|hash| *hash < run.upto);
        let mut join = Join {
            hashes: &hashes[..last],
            next: first,
            first_block: run.first_block(),
        };
        let (Some(least), Some(most)) = (hashes[first..last].first(), hashes[..last].last()) else {
            continue;
        };
        // Reading on from leaf to leaf costs about half of looking for a place.
        let share = u128::from(run.leaves()) * u128::from(most - least) / u128::from(HASH_END);
        if (last - first) as u128 * 2 > share {
            leaves(conn, &run, *least, *most, |leaf| {
                join.leaf(leaf, &mut found)
            })?;
            continue;
        }
        let sql = format!(
            "SELECT place, page FROM leaf_{} WHERE place BETWEEN ?1 AND ?2 \
             ORDER BY place DESC LIMIT 1",
            run.level
        );
        let mut seek = conn.prepare_cached(&sql)?;
        while let Some(hash) = join.hashes.get(join.next) {
            let here = join.next;
            let bounds = [run.place(0), run.place(*hash)];
            seek.query_row(bounds, |leaf| join.leaf(read(leaf)?, &mut found))
                .optional()?;
            // A hash that no leaf can hold, or past the end of the one it would stand in.
            join.next = join.next.max(here + 1);
        }
    }
    Ok(())
}

/// Hashes looked for along the leaves of one run.
struct Join<'a> {
    hashes: &'a [u64],
    next: usize,
    first_block: i64,
}

impl Join<'_> {
    /// Passes along one leaf; ends at the first hash that is behind it.
    fn leaf(
        &mut self,
        mut leaf: Leaf<'_>,
        found: &mut impl FnMut(usize, i64),
    ) -> rusqlite::Result<()> {
        let mut room = ROOM;
        while let Some(group) = leaf.next()? {
            let Some(wanted) = self.hashes.get(self.next) else {
                return Ok(());
            };
            if leaf.peek().is_none_or(|next| next >= *wanted) {
                self.group(group.entries(&mut room), found);
            }
        }
        Ok(())
    }

    fn group(&mut self, entries: &[u64], found: &mut impl FnMut(usize, i64)) {
        for entry in entries {
            let hash = hash_of(*entry);
            while self.hashes.get(self.next).is_some_and(|next| *next < hash) {
                self.next += 1;
            }
            match self.hashes.get(self.next) {
                Some(next) if *next == hash => {
                    found(self.next, self.first_block + block_of(*entry).cast_signed());
                }
                Some(_) => {}
                None => return,
            }
        }
    }
}

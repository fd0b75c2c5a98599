//! Columns of instants, exact over the whole range of years: whole seconds since the first instant
//! there is, and nanoseconds within the second.
//!
//! ```text
//! 0                            no row has one
//! 1  seconds, nanos varint     every row
//! 2  three columns of numbers: whether it is there (0 or 1), seconds, nanos
//! ```

use jiff::Timestamp;

use super::Damaged;
use super::ints::{read_ints, write_ints};
use super::read::{Reader, write_varint};

const NONE: u8 = 0;
const SAME: u8 = 1;
const EACH: u8 = 2;
const NANOS_A_SECOND: i32 = 1_000_000_000;

/// A column of instants.
pub(super) enum Instants {
    None,
    Same(Timestamp),
    Each(Box<[Option<Timestamp>]>),
}

impl Instants {
    pub(super) fn get(&self, row: usize) -> Option<Timestamp> {
        match self {
            Self::None => None,
            Self::Same(at) => Some(*at),
            Self::Each(rows) => rows[row],
        }
    }

    /// Reads a column of `count` rows.
    pub(super) fn read(reader: &mut Reader<'_>, count: usize) -> Result<Self, Damaged> {
        match reader.byte()? {
            NONE => Ok(Self::None),
            SAME => {
                let (second, nano) = (reader.varint()?, reader.varint()?);
                let at = joined(second, nano);
                at.map(Self::Same)
                    .ok_or_else(|| reader.damaged("no such instant"))
            }
            EACH => {
                let there = read_ints(reader, count)?;
                let seconds = read_ints(reader, count)?;
                let nanos = read_ints(reader, count)?;
                let row = |row| match there.get(row) {
                    0 => Some(None),
                    1 => joined(seconds.get(row), nanos.get(row)).map(Some),
                    _ => None,
                };
                let rows: Option<_> = (0..count).map(row).collect();
                rows.map(Self::Each)
                    .ok_or_else(|| reader.damaged("no such instant"))
            }
            _ => Err(reader.damaged("no such layout of instants")),
        }
    }
}

/// Writes a column.
pub(super) fn write_instants(
    out: &mut Vec<u8>,
    ints: &mut Vec<u64>,
    rows: impl Iterator<Item = Option<Timestamp>> + Clone,
) {
    let first = rows.clone().next().flatten();
    if rows.clone().all(|at| at == first) {
        let Some(at) = first else {
            return out.push(NONE);
        };
        let (second, nano) = parted(at);
        out.push(SAME);
        write_varint(out, second);
        return write_varint(out, nano);
    }
    out.push(EACH);
    // A row without an instant repeats another's numbers, so that it does not widen the column.
    let filler = rows.clone().flatten().next().map_or((0, 0), parted);
    let there = |at: Option<Timestamp>| u64::from(at.is_some());
    let second = |at: Option<Timestamp>| at.map_or(filler, parted).0;
    let nano = |at: Option<Timestamp>| at.map_or(filler, parted).1;
    let columns: [&dyn Fn(Option<Timestamp>) -> u64; 3] = [&there, &second, &nano];
    for column in columns {
        ints.clear();
        ints.extend(rows.clone().map(column));
        write_ints(out, ints);
    }
}

/// Whole seconds since the first instant, and nanoseconds, both never negative.
fn parted(at: Timestamp) -> (u64, u64) {
    let (mut second, mut nano) = (at.as_second(), at.subsec_nanosecond());
    if nano < 0 {
        second -= 1;
        nano += NANOS_A_SECOND;
    }
    // An instant in the first second there is lies before no other whole second.
    let first = Timestamp::MIN.as_second() - 1;
    ((second - first).unsigned_abs(), nano.unsigned_abs().into())
}

/// The reverse of [`parted`].
fn joined(second: u64, nano: u64) -> Option<Timestamp> {
    let nano = i32::try_from(nano)
        .ok()
        .filter(|&nano| nano < NANOS_A_SECOND)?;
    let first = Timestamp::MIN.as_second() - 1;
    let second = i64::try_from(second).ok()?.checked_add(first)?;
    Timestamp::new(second, nano).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads_back(rows: &[Option<Timestamp>]) -> usize {
        let (mut out, mut ints) = (Vec::new(), Vec::new());
        write_instants(&mut out, &mut ints, rows.iter().copied());
        let mut reader = Reader::new("head", &out);
        let column = Instants::read(&mut reader, rows.len()).unwrap();
        let read: Vec<_> = (0..rows.len()).map(|row| column.get(row)).collect();
        assert_eq!(read, rows);
        reader.end().unwrap();
        out.len()
    }

    #[test]
    fn instants_are_exact_from_the_first_there_is_to_the_last() {
        let before: Timestamp = "1969-12-31T23:59:59.999999999Z".parse().unwrap();
        let nano = |at: Timestamp, by| {
            at.checked_add(jiff::SignedDuration::from_nanos(by))
                .unwrap()
        };
        let ends = [
            Timestamp::MIN,
            nano(Timestamp::MIN, 1),
            before,
            Timestamp::UNIX_EPOCH,
            nano(Timestamp::MAX, -1),
            Timestamp::MAX,
        ];
        for at in ends {
            reads_back(&[Some(at)]);
            reads_back(&[None, Some(at), None]);
        }
        reads_back(&ends.map(Some));
    }

    #[test]
    fn instants_that_all_rows_share_cost_a_few_bytes_and_none_cost_one() {
        assert_eq!(reads_back(&[None; 500]), 1);
        let at: Timestamp = "2026-11-22T20:58:31.123456789Z".parse().unwrap();
        assert!(reads_back(&[Some(at); 500]) < 16);
    }
}

//! Columns of numbers: one for all, a run, or offsets from the least in as few bytes as they need.
//!
//! ```text
//! 0  value varint                           every row
//! 1  first varint                           first, first + 1, first + 2, ...
//! 2  least varint, an offset per row        u8; as 3: u16 LE, as 4: u32 LE, as 5: u64 LE
//! ```

use super::Damaged;
use super::read::{Reader, write_varint};

const SAME: u8 = 0;
const RUN: u8 = 1;
const OFFSETS_1: u8 = 2;
const OFFSETS_2: u8 = 3;
const OFFSETS_4: u8 = 4;
const OFFSETS_8: u8 = 5;

/// A column as it lies in its section.
#[derive(Clone, Copy)]
pub(super) enum Ints<'a> {
    Same(u64),
    Run(u64),
    One(u64, &'a [u8]),
    Two(u64, &'a [[u8; 2]]),
    Four(u64, &'a [[u8; 4]]),
    Eight(u64, &'a [[u8; 8]]),
}

impl Ints<'_> {
    /// The number of row `row`, which is below the count it was read with. What would exceed 64
    /// bits wraps round, for the reader of the column to refuse.
    pub(super) fn get(&self, row: usize) -> u64 {
        match *self {
            Self::Same(value) => value,
            Self::Run(first) => first.wrapping_add(row as u64),
            Self::One(least, rows) => least.wrapping_add(rows[row].into()),
            Self::Two(least, rows) => least.wrapping_add(u16::from_le_bytes(rows[row]).into()),
            Self::Four(least, rows) => least.wrapping_add(u32::from_le_bytes(rows[row]).into()),
            Self::Eight(least, rows) => least.wrapping_add(u64::from_le_bytes(rows[row])),
        }
    }
}

/// A column of numbers that outlives its section.
pub(super) enum Numbers {
    Same(u32),
    Run(u32),
    Each(Box<[u32]>),
}

impl Numbers {
    pub(super) fn get(&self, row: usize) -> u32 {
        match self {
            Self::Same(value) => *value,
            Self::Run(first) => first + row as u32,
            Self::Each(rows) => rows[row],
        }
    }

    /// Reads a column of `count` numbers up to `max`.
    pub(super) fn read(reader: &mut Reader<'_>, count: usize, max: u32) -> Result<Self, Damaged> {
        let ints = read_ints(reader, count)?;
        let within = |value: u64| u32::try_from(value).ok().filter(|&value| value <= max);
        let over = |reader: &Reader<'_>| reader.damaged("a number is over its limit");
        match ints {
            Ints::Same(value) => within(value).map(Self::Same),
            Ints::Run(first) => first
                .checked_add(count as u64)
                .and_then(|end| within(end.saturating_sub(1)))
                .map(|_| Self::Run(first as u32)),
            _ => (0..count)
                .map(|row| within(ints.get(row)))
                .collect::<Option<_>>()
                .map(Self::Each),
        }
        .ok_or_else(|| over(reader))
    }
}

/// Reads a column of `count` rows.
pub(super) fn read_ints<'a>(reader: &mut Reader<'a>, count: usize) -> Result<Ints<'a>, Damaged> {
    let (layout, base) = (reader.byte()?, reader.varint()?);
    Ok(match layout {
        SAME => Ints::Same(base),
        RUN => Ints::Run(base),
        OFFSETS_1 => Ints::One(base, reader.take(count)?),
        OFFSETS_2 => Ints::Two(base, rows(reader, count)?),
        OFFSETS_4 => Ints::Four(base, rows(reader, count)?),
        OFFSETS_8 => Ints::Eight(base, rows(reader, count)?),
        _ => return Err(reader.damaged("no such layout of numbers")),
    })
}

fn rows<'a, const WIDTH: usize>(
    reader: &mut Reader<'a>,
    count: usize,
) -> Result<&'a [[u8; WIDTH]], Damaged> {
    let bytes = count.checked_mul(WIDTH);
    let bytes = bytes.ok_or_else(|| reader.damaged("a length is over its limit"))?;
    Ok(reader.take(bytes)?.as_chunks().0)
}

/// Writes a column.
pub(super) fn write_ints(out: &mut Vec<u8>, values: &[u64]) {
    let first = values.first().copied().unwrap_or_default();
    let (mut least, mut most, mut run) = (first, first, true);
    for (row, &value) in values.iter().enumerate() {
        least = least.min(value);
        most = most.max(value);
        run &= value.wrapping_sub(first) == row as u64;
    }
    let (layout, base) = match most - least {
        0 => (SAME, least),
        _ if run => (RUN, first),
        0x1..=0xff => (OFFSETS_1, least),
        0x100..=0xffff => (OFFSETS_2, least),
        0x1_0000..=0xffff_ffff => (OFFSETS_4, least),
        _ => (OFFSETS_8, least),
    };
    out.push(layout);
    write_varint(out, base);
    let offsets = values.iter().map(|value| value - least);
    match layout {
        OFFSETS_1 => out.extend(offsets.map(|offset| offset as u8)),
        OFFSETS_2 => offsets.for_each(|offset| out.extend((offset as u16).to_le_bytes())),
        OFFSETS_4 => offsets.for_each(|offset| out.extend((offset as u32).to_le_bytes())),
        OFFSETS_8 => offsets.for_each(|offset| out.extend(offset.to_le_bytes())),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads_back(values: &[u64]) -> usize {
        let mut out = Vec::new();
        write_ints(&mut out, values);
        let mut reader = Reader::new("head", &out);
        let ints = read_ints(&mut reader, values.len()).unwrap();
        let read: Vec<u64> = (0..values.len()).map(|row| ints.get(row)).collect();
        assert_eq!(read, values);
        reader.end().unwrap();
        out.len()
    }

    #[test]
    fn numbers_read_back_and_cost_what_their_spread_needs() {
        assert_eq!(reads_back(&[]), 2);
        assert_eq!(reads_back(&[7; 1000]), 2);
        assert_eq!(reads_back(&(40..1040).collect::<Vec<_>>()), 2);
        assert_eq!(reads_back(&[300, 301, 303]), 3 + 3);
        assert_eq!(reads_back(&[5, 260, 261]), 2 + 6);
        assert_eq!(reads_back(&[5, 70_000, 6]), 2 + 12);
        assert_eq!(reads_back(&[u64::MAX, 0, u64::MAX - 1]), 2 + 24);
    }

    #[test]
    fn a_number_over_its_limit_is_damage() {
        let mut out = Vec::new();
        write_ints(&mut out, &[1, 5, 3]);
        let read = |max| Numbers::read(&mut Reader::new("head", &out), 3, max);
        assert_eq!(read(5).ok().map(|numbers| numbers.get(1)), Some(5));
        assert!(read(4).is_err());
        let run = [RUN, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(Numbers::read(&mut Reader::new("head", &run), 1, u32::MAX).is_ok());
        assert!(Numbers::read(&mut Reader::new("head", &run), 2, u32::MAX).is_err());
    }
}

//! Answers of scripts, and blocks as one value.

use ::redis::Value;
use bytes::Bytes;

use crate::hold::block::{self, Body, Damaged, Head, Packed};

/// Number of the layout of a block's value.
const FORMAT: u8 = 1;
/// Bytes before a block's sections: format, checksum, count, length of the head.
const BEFORE: usize = 13;
/// A piece of memory may be wasted up to this before a block is stored in two pieces, whose second
/// costs a key of about this size.
const WASTE_MAX: usize = 256;
/// Smaller values are not worth two pieces.
const PIECES_MIN: usize = 8 * 1024;
/// What the server keeps before and behind a long text.
const AROUND: usize = 10;

/// An array of an answer.
pub(super) fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(values) | Value::Set(values) => Some(values),
        _ => None,
    }
}

/// A text of an answer.
pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// A number of an answer, also one written as a text.
pub(super) fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(int) => Some(*int),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

/// The same, never negative.
pub(super) fn count(value: &Value) -> Option<u64> {
    int(value).and_then(|int| u64::try_from(int).ok())
}

/// A block as one value.
pub(super) fn seal(packed: &Packed, count: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(BEFORE + packed.head.len() + packed.body.len());
    out.push(FORMAT);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(
        &u32::try_from(packed.head.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    out.extend_from_slice(&packed.head);
    out.extend_from_slice(&packed.body);
    let sum = crc32c::crc32c(&out[5..]);
    out[1..5].copy_from_slice(&sum.to_le_bytes());
    out
}

/// Opens a block's value.
pub(super) fn unseal(value: Vec<u8>) -> Result<(Head, Body), Damaged> {
    let damaged = |what| Damaged {
        section: "head",
        column: "section",
        at: 0,
        what,
    };
    let value = Bytes::from(value);
    if value.len() < BEFORE || value[0] != FORMAT {
        return Err(damaged("no block, or one of a newer version"));
    }
    let number =
        |at: usize| u32::from_le_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]]);
    if number(1) != crc32c::crc32c(&value[5..]) {
        return Err(damaged("its checksum is wrong"));
    }
    let (count, length) = (number(5), number(9) as usize);
    if length > value.len() - BEFORE {
        return Err(damaged("its length is wrong"));
    }
    let head = block::open_head(&value[BEFORE..BEFORE + length], count)?;
    let body = block::open_body_of(&value.slice(BEFORE + length..), count)?;
    Ok((head, body))
}

/// Where to cut a block's value, so that the server's allocator wastes little: it has four sizes to
/// each power of two, and a value that is a little too large for one takes the next.
pub(super) fn cut(length: usize) -> usize {
    let need = length + AROUND;
    if need < PIECES_MIN {
        return length;
    }
    let step = (1 << (need - 1).ilog2()) / 4;
    let size = need.next_multiple_of(step);
    if size - need <= WASTE_MAX {
        length
    } else {
        size - step - AROUND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_cut_where_the_allocator_has_a_size() {
        assert_eq!(cut(5_000), 5_000);
        assert_eq!(cut(160 * 1024 - AROUND), 160 * 1024 - AROUND);
        assert_eq!(cut(160 * 1024), 160 * 1024 - AROUND);
        assert_eq!(cut(190 * 1024), 160 * 1024 - AROUND);
        for length in (8_192..400_000).step_by(97) {
            let first = cut(length);
            assert!(first > length / 2 && first <= length, "{length}: {first}");
        }
    }

    #[test]
    fn what_is_no_block_is_told_so() {
        for value in [vec![], vec![FORMAT; 40], vec![9; 40]] {
            assert!(unseal(value).is_err());
        }
    }
}

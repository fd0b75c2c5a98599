//! Reading the section of attributes and bodies.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::attributes::Attributes;
use super::ints::{Ints, read_ints};
use super::read::Reader;
use super::section::columns;
use super::{BLOCK_COUNT_MAX, Damaged};

const SECTION: &str = "body";

/// The attributes and bodies of a block. Slots count from 0 to below the block's count; a larger
/// one panics, as with a slice.
pub(crate) struct Body {
    attributes: Attributes,
    /// All bodies, one after another.
    bodies: Bytes,
    bounds: Bounds,
}

enum Bounds {
    /// Bodies of one length.
    Fixed(usize),
    /// Where each begins, and where the last ends.
    Each(Box<[u32]>),
}

impl Body {
    /// The body of a message: a slice of the block's one buffer, which lives as long.
    pub(crate) fn bytes(&self, slot: usize) -> Bytes {
        let (start, end) = match &self.bounds {
            Bounds::Fixed(length) => (slot * length, (slot + 1) * length),
            Bounds::Each(starts) => (starts[slot] as usize, starts[slot + 1] as usize),
        };
        self.bodies.slice(start..end)
    }

    /// The attributes of a message.
    pub(crate) fn attributes(&self, slot: usize) -> BTreeMap<String, String> {
        self.attributes.get(slot)
    }
}

/// Reads a body section of `count` messages, in one copy.
///
/// # Errors
/// What is wrong, and where, when nobody can have written it.
#[cfg(test)]
pub(crate) fn open_body(bytes: &[u8], count: u32) -> Result<Body, Damaged> {
    open_body_of(&Bytes::copy_from_slice(bytes), count)
}

/// Reads a body section of `count` messages. Bodies that are stored raw stay in `bytes`.
///
/// # Errors
/// What is wrong, and where, when nobody can have written it.
pub(crate) fn open_body_of(bytes: &Bytes, count: u32) -> Result<Body, Damaged> {
    let columns = columns(SECTION, bytes)?;
    let mut reader = Reader::new(SECTION, &columns);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if !(1..=BLOCK_COUNT_MAX).contains(&count) {
        return Err(reader.damaged("a count that no block has"));
    }
    reader.begin("attributes");
    let attributes = Attributes::read(&mut reader, count)?;
    reader.begin("lengths");
    let lengths = read_ints(&mut reader, count)?;
    reader.begin("bodies");
    let (bounds, total) = bounds(&reader, &lengths, count)?;
    let start = reader.at();
    reader.take(total)?;
    reader.end()?;
    Ok(Body {
        attributes,
        bodies: columns.slice(start..),
        bounds,
    })
}

/// Where bodies begin and end, and how long they are together.
fn bounds(
    reader: &Reader<'_>,
    lengths: &Ints<'_>,
    count: usize,
) -> Result<(Bounds, usize), Damaged> {
    let over = || reader.damaged("a length is over its limit");
    let size = |length: u64| u32::try_from(length).map_err(|_| over());
    if let Ints::Same(length) = *lengths {
        let length = size(length)? as usize;
        return Ok((Bounds::Fixed(length), length.saturating_mul(count)));
    }
    let mut starts = Vec::with_capacity(count + 1);
    let mut end = 0u32;
    starts.push(end);
    for slot in 0..count {
        end = end.checked_add(size(lengths.get(slot))?).ok_or_else(over)?;
        starts.push(end);
    }
    Ok((Bounds::Each(starts.into()), end as usize))
}

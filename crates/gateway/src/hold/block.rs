//! How messages of one shelf are written into a block and read back: by columns, compressed.
//!
//! A block has two sections. The head holds everything but attributes and bodies and stays readable
//! for the horizon; the body section holds those two and is given back to the disk once its
//! messages have ended. What the shelf says (lane, purpose, class, campaign, priority, due) is not
//! repeated, and checksums are the log's.
//!
//! ```text
//! section  format u8, codec u8 (0 raw, 1 zstd), length of the columns u32 LE, columns
//! head     arrival, attempts, lapsed, id, key, recipient, channel, jurisdiction, zone, send_at,
//!          expires_at, collapse_key, content_type, accepted_at, why
//! body     attributes, lengths, bytes
//! ```
//!
//! Every column says first how it is written: a value that all rows share costs its own length, a
//! run of numbers its first. `ints`, `text`, `instants` and `attributes` have the layouts. Whatever
//! a reader does not know or cannot believe is [`Damaged`]: no bytes make it panic, or allocate
//! without a bound.

mod attributes;
mod body;
mod head;
mod instants;
mod ints;
mod pack;
mod read;
mod section;
mod template;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::ops::Range;

use jiff::Timestamp;

#[cfg(test)]
pub(crate) use self::body::open_body;
pub(crate) use self::body::{Body, open_body_of};
pub(crate) use self::head::{Head, open_head};
pub(crate) use self::pack::Packer;
use crate::hold::Held;
use crate::hold::key::ShelfKey;

/// Where to cut a shelf's messages into blocks, in bytes of [`weight`]: large enough for zstd to
/// find what messages share, small enough to open one for the sake of one message.
pub(crate) const BLOCK_RAW_BYTES: usize = 64 * 1024;
/// Most messages in one block: slots and their counts fit 16 bits and a bit.
pub(crate) const BLOCK_COUNT_MAX: usize = 65_536;

/// What a message brings to a record beside its own columns, in bytes: about the least there is.
const WEIGHT_BASE: usize = 8;

/// One message with what the hold knows of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// The message. What its shelf says is taken from the shelf when it is read back.
    pub(crate) held: &'a Held,
    /// Its arrival after the frame's first; ascends within a block.
    pub(crate) arrival: u32,
    /// Hand-overs tried and deferred.
    pub(crate) attempts: u32,
    /// An earlier lease of it lapsed.
    pub(crate) lapsed: bool,
    /// Why it was buried, if it was.
    pub(crate) why: Option<&'a str>,
}

/// A block as it goes to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    /// The head section.
    pub(crate) head: Vec<u8>,
    /// The body section.
    pub(crate) body: Vec<u8>,
    /// Bytes of both before compression.
    pub(crate) raw: usize,
}

/// A section that does not read back as anything that was written. Names no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged {
    /// The section: `head` or `body`.
    pub(crate) section: &'static str,
    /// The column, or `section` for what stands around the columns.
    pub(crate) column: &'static str,
    /// How far it was read, in bytes of the columns.
    pub(crate) at: usize,
    /// What is wrong.
    pub(crate) what: &'static str,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            section,
            column,
            at,
            what,
        } = self;
        write!(f, "block {section}, `{column}` at byte {at}: {what}")
    }
}

impl std::error::Error for Damaged {}

/// About how many bytes `held` brings to a block before compression, by which callers cut blocks.
pub(crate) fn weight(held: &Held) -> usize {
    let message = &held.message;
    let pairs = message.attributes.iter();
    let attributes: usize = pairs.map(|(name, value)| name.len() + value.len()).sum();
    let texts = message.id.as_str().len() + held.key.expose().len();
    message.body.len() + attributes + texts + WEIGHT_BASE
}

/// The messages of `slots`, whole: the way of a release. `due` is the shelf's at the moment.
///
/// Each shares what its block and shelf have once: content type, zone, campaign, lane, class, and
/// the buffer of bodies, which lives as long as one of them does.
pub(crate) fn helds<'a>(
    head: &'a Head,
    body: &'a Body,
    slots: Range<usize>,
    shelf: &'a ShelfKey,
    due: Timestamp,
) -> impl ExactSizeIterator<Item = Held> + 'a {
    slots.map(move |slot| {
        let own = (body.attributes(slot), body.bytes(slot));
        head.whole(slot, shelf, due, own)
    })
}

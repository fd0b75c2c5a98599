//! Reading frames back from bytes that nobody vouches for.

use std::io;
use std::ops::Range;

use super::walk::{Probe, Walk};
use crate::disk::DiskFile;
use crate::head::Salt;

/// A good frame.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Where the frame begins in the file.
    pub offset: u64,
    /// Its log sequence number.
    pub lsn: u64,
    /// Its meta.
    pub meta: &'a [u8],
    /// Where its data begins in the file.
    pub data_at: u64,
    /// Length of its data.
    pub data_len: u64,
}

/// A bad stretch with a good frame after it: bytes that were synced once are not what they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The bad bytes; empty when frames are missing and no bytes are.
    pub range: Range<u64>,
    /// The frames lost; empty when there are bytes too many and every frame is there.
    pub lsns: Range<u64>,
}

/// How a scan ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanEnd {
    /// End of the last good frame, a multiple of 8: the next one is to be written here.
    pub valid_to: u64,
    /// The lsn the next frame shall have.
    pub next_lsn: u64,
    /// From `valid_to` to the end of the file, when that is neither empty nor all zeros: what was
    /// being written when the power went, never acknowledged. Good frames may stand in it, behind
    /// a hole of their own group: they were not acknowledged either and were not visited. [`cut`]
    /// it before anything is appended. In a file that others follow it is damage, not a torn end;
    /// in the last file rot in the last group looks the same, so keep a copy of the bytes.
    pub torn: Option<Range<u64>>,
    /// Bad stretches before `valid_to`, in order.
    pub damage: Vec<Damage>,
}

/// Visits every good frame from offset `from` on, where the frame `first_lsn` is expected, in
/// order. The error of a visit ends the scan.
///
/// With `verify_data` the data is read and its checksum checked, in pieces; without, only heads
/// and metas are read, and a frame whose data is torn passes for a good one.
pub fn scan(
    file: &dyn DiskFile,
    salt: &Salt,
    from: u64,
    first_lsn: u64,
    verify_data: bool,
    visit: &mut dyn FnMut(Found<'_>) -> io::Result<()>,
) -> io::Result<ScanEnd> {
    let mut walk = Walk::new(file, salt, verify_data)?;
    let mut end = ScanEnd {
        valid_to: from,
        next_lsn: first_lsn,
        torn: None,
        damage: Vec::new(),
    };
    // The highest lsn below which all was synced, as told by the frames behind the first hole.
    let mut synced_below = None;
    let mut at = from;
    loop {
        let probe = walk.probe(at)?;
        if let Probe::Good(frame) = probe
            && frame.lsn == end.next_lsn
        {
            visit(walk.found(&frame))?;
            at = frame.end();
            (end.valid_to, end.next_lsn) = (at, frame.lsn.saturating_add(1));
            continue;
        }
        let Some(from) = walk.first_byte(at)? else {
            break;
        };
        let Some(next) = walk.next_good(from, end.next_lsn)? else {
            break;
        };
        let synced_below = match synced_below {
            Some(lsn) => lsn,
            None => *synced_below.insert(walk.synced_below(next.offset, end.next_lsn)?),
        };
        // A power cut leaves a hole; frames missing without one, or bytes too many, are damage.
        let hole = next.offset > at && next.lsn > end.next_lsn;
        if hole && synced_below <= end.next_lsn {
            break;
        }
        end.damage.push(Damage {
            range: at..next.offset,
            lsns: end.next_lsn..next.lsn,
        });
        at = next.offset;
        end.next_lsn = next.lsn;
    }
    if walk.first_byte(end.valid_to)?.is_some() {
        end.torn = Some(end.valid_to..walk.len());
    }
    Ok(end)
}

/// Cuts the torn end (and any zeros set aside) off and makes that durable.
pub fn cut(file: &dyn DiskFile, end: &ScanEnd) -> io::Result<()> {
    file.set_len(end.valid_to)?;
    file.sync()
}

//! A run's file, page by page.
//!
//! ```text
//! page 0    the file head, then zeros
//! entries   4 count u16, 8 from there (hash u64, place - base in 5 bytes), sorted
//! filter    32 from there blocks of 256 bits
//! fences    8 from there the first hash of each page of entries, u64
//! footer    8 capacity, count, base, first place, last place: u64 each
//! ```
//!
//! Every page after the first begins with a CRC-32C of its number and its other bytes, seeded from
//! the file's salt. How many pages each part has follows from the capacity.

use std::io;
use std::sync::Arc;

use super::Summary;
use super::filter::BLOCKS_IN_PAGE;
use crate::disk::{DiskFile, read_exact_at, read_full_at};
use crate::head::Salt;

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;

/// Bytes of an entry.
pub(super) const ENTRY: usize = 13;

/// Where entries, fences and the footer begin in their pages.
pub(super) const BODY_AT: usize = 8;

/// Entries in a full page.
pub(super) const ENTRIES_IN_PAGE: u64 = ((PAGE - BODY_AT) / ENTRY) as u64;

/// Fences in a full page.
pub(super) const FENCES_IN_PAGE: u64 = ((PAGE - BODY_AT) / 8) as u64;

/// Pages read at once when many follow each other.
pub(super) const PAGES_AT_ONCE: usize = 64;

/// Filter bits for each key: 21/2. About one in a hundred hashes that are not there passes.
const FILTER_BITS: (u64, u64) = (21, 2);

/// Bits of a filter block.
const BLOCK_BITS: u64 = 256;

/// Where the parts of a run's file lie, in pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) blocks: u64,
    pub(super) filter_at: u64,
    pub(super) fences_at: u64,
    pub(super) footer_at: u64,
}

impl Layout {
    /// The layout of a run with room for so many entries.
    pub(super) fn of(capacity: u64) -> Self {
        let bits = capacity.saturating_mul(FILTER_BITS.0) / FILTER_BITS.1;
        let blocks = bits.div_ceil(BLOCK_BITS).max(1);
        let entry_pages = capacity.div_ceil(ENTRIES_IN_PAGE);
        let filter_at = 1 + entry_pages;
        let fences_at = filter_at + blocks.div_ceil(BLOCKS_IN_PAGE);
        Self {
            blocks,
            filter_at,
            fences_at,
            footer_at: fences_at + entry_pages.div_ceil(FENCES_IN_PAGE),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.footer_at + 1).saturating_mul(PAGE as u64)
    }

    pub(super) fn filter_bytes(&self) -> u64 {
        self.blocks * (BLOCK_BITS / 8)
    }

    /// What a page is for, for errors.
    fn part(&self, number: u64) -> &'static str {
        match number {
            _ if number >= self.footer_at => "the footer",
            _ if number >= self.fences_at => "fences",
            _ if number >= self.filter_at => "the filter",
            _ => "entries",
        }
    }
}

/// Writes the checksum of a page into it.
pub(super) fn stamp(page: &mut [u8; PAGE], number: u64, seed: u32) {
    let crc = sum(page, number, seed);
    page[..4].copy_from_slice(&crc.to_le_bytes());
}

fn sum(page: &[u8; PAGE], number: u64, seed: u32) -> u32 {
    let crc = crc32c::crc32c_append(seed, &number.to_le_bytes());
    crc32c::crc32c_append(crc, &page[4..])
}

/// A run's file, read with the checksums checked.
pub(super) struct Pages {
    file: Arc<dyn DiskFile>,
    seed: u32,
}

impl Pages {
    pub(super) fn new(file: Arc<dyn DiskFile>, salt: Salt) -> Self {
        Self {
            file,
            seed: salt.seed(),
        }
    }

    pub(super) fn name(&self) -> &str {
        self.file.name()
    }

    /// Reads one page.
    pub(super) fn read(&self, number: u64, page: &mut [u8; PAGE]) -> io::Result<()> {
        read_exact_at(self.file.as_ref(), page, number * PAGE as u64)?;
        self.check(number, page)
    }

    /// Reads up to [`PAGES_AT_ONCE`] pages of `from..to` into `buffer`, unchecked, and says how
    /// many came.
    pub(super) fn read_many(&self, from: u64, to: u64, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let count = (to.saturating_sub(from) as usize).min(PAGES_AT_ONCE);
        buffer.resize(count * PAGE, 0);
        read_exact_at(self.file.as_ref(), buffer, from * PAGE as u64)?;
        Ok(count)
    }

    /// An `InvalidData` error unless the page is what was written.
    pub(super) fn check(&self, number: u64, page: &[u8; PAGE]) -> io::Result<()> {
        if page[..4] == sum(page, number, self.seed).to_le_bytes() {
            return Ok(());
        }
        Err(self.damaged(number, "its checksum is wrong"))
    }

    /// The error of a page that is not what it should be.
    pub(super) fn damaged(&self, number: u64, how: &str) -> io::Error {
        let part =
            Footer::read(self).map_or("unknown", |footer| Layout::of(footer.capacity).part(number));
        let said = format!("{}: page {number} ({part}) is damaged: {how}", self.name());
        io::Error::new(io::ErrorKind::InvalidData, said)
    }
}

/// The last page: what the others are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Footer {
    pub(super) capacity: u64,
    pub(super) count: u64,
    pub(super) base: u64,
    pub(super) first_place: u64,
    pub(super) last_place: u64,
}

impl Footer {
    pub(super) fn encode(&self) -> [u8; PAGE] {
        let fields = [
            self.capacity,
            self.count,
            self.base,
            self.first_place,
            self.last_place,
        ];
        let mut page = [0; PAGE];
        for (slot, field) in page[BODY_AT..].chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        page
    }

    /// Reads the footer and checks it against the length of the file, so that nothing read later
    /// can ask for more memory than the file is long.
    pub(super) fn read(pages: &Pages) -> io::Result<Self> {
        let bad = |how: &str| {
            let said = format!("{}: the footer is damaged: {how}", pages.name());
            io::Error::new(io::ErrorKind::InvalidData, said)
        };
        let len = pages.file.len()?;
        if len % PAGE as u64 != 0 || len < 2 * PAGE as u64 {
            return Err(bad("the file does not end where it should"));
        }
        let number = len / PAGE as u64 - 1;
        let mut page = [0; PAGE];
        if read_full_at(pages.file.as_ref(), &mut page, number * PAGE as u64)? < PAGE {
            return Err(bad("it could not be read whole"));
        }
        if page[..4] != sum(&page, number, pages.seed).to_le_bytes() {
            return Err(bad("its checksum is wrong"));
        }
        let field = |index: usize| u64_at(&page, BODY_AT + 8 * index);
        let footer = Self {
            capacity: field(0),
            count: field(1),
            base: field(2),
            first_place: field(3),
            last_place: field(4),
        };
        let fits = footer.capacity <= len / ENTRY as u64
            && Layout::of(footer.capacity).bytes() == len
            && footer.count <= footer.capacity;
        if fits {
            Ok(footer)
        } else {
            Err(bad("its counts do not fit the file"))
        }
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            count: self.count,
            base: self.base,
            first_place: self.first_place,
            last_place: self.last_place,
            bytes: Layout::of(self.capacity).bytes(),
        }
    }
}

/// Reads the first hashes of all pages of entries.
pub(super) fn read_fences(pages: &Pages, layout: &Layout, count: u64) -> io::Result<Box<[u64]>> {
    let wanted = count.div_ceil(ENTRIES_IN_PAGE) as usize;
    let mut fences: Vec<u64> = Vec::with_capacity(wanted);
    let mut page = [0; PAGE];
    for number in layout.fences_at..layout.footer_at {
        if fences.len() == wanted {
            break;
        }
        pages.read(number, &mut page)?;
        let more = (wanted - fences.len()).min(FENCES_IN_PAGE as usize);
        fences.extend((0..more).map(|index| u64_at(&page, BODY_AT + 8 * index)));
    }
    if !fences.is_sorted() {
        return Err(pages.damaged(layout.fences_at, "it is out of order"));
    }
    Ok(fences.into_boxed_slice())
}

/// The number at an offset inside a page.
#[inline]
pub(super) fn u64_at(page: &[u8; PAGE], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&page[at..at + 8]);
    u64::from_le_bytes(bytes)
}

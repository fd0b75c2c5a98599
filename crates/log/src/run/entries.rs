//! Pages of entries: finding a hash in one, and streaming all.

use std::io;

use super::Entry;
use super::page::{BODY_AT, ENTRIES_IN_PAGE, ENTRY, Footer, PAGE, Pages};

/// The first page of entries.
const FIRST_PAGE: u64 = 1;

/// A page of entries, checked.
pub(super) struct EntryPage {
    bytes: [u8; PAGE],
    count: usize,
}

impl EntryPage {
    /// Reads the page of entries with this index.
    pub(super) fn read(pages: &Pages, index: u64) -> io::Result<Self> {
        let mut bytes = [0; PAGE];
        pages.read(FIRST_PAGE + index, &mut bytes)?;
        let count = count_of(pages, FIRST_PAGE + index, &bytes)?;
        Ok(Self { bytes, count })
    }

    /// Appends the places of a hash; whether an entry of a higher hash stands in the page, so that
    /// the next page cannot have this one.
    pub(super) fn find(&self, hash: u64, base: u64, places: &mut Vec<u64>) -> bool {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            if entry_at(&self.bytes, middle).hash < hash {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        for index in low..self.count {
            let entry = entry_at(&self.bytes, index);
            if entry.hash != hash {
                return true;
            }
            places.push(base.saturating_add(entry.place));
        }
        false
    }
}

/// The entries of a run, in order.
pub struct Entries<'a> {
    pages: &'a Pages,
    base: u64,
    next_page: u64,
    end_page: u64,
    buffer: Vec<u8>,
    /// Pages of the buffer read already, and entries of the one being read.
    page: usize,
    index: usize,
    count: usize,
}

impl<'a> Entries<'a> {
    pub(super) fn new(pages: &'a Pages, footer: &Footer) -> Self {
        Self {
            pages,
            base: footer.base,
            next_page: FIRST_PAGE,
            end_page: FIRST_PAGE + footer.count.div_ceil(ENTRIES_IN_PAGE),
            buffer: Vec::new(),
            page: 0,
            index: 0,
            count: 0,
        }
    }

    /// Goes to the next page; whether there is one.
    fn turn(&mut self) -> io::Result<bool> {
        if self.next_page >= self.end_page {
            return Ok(false);
        }
        self.page += 1;
        if self.page * PAGE >= self.buffer.len() {
            self.pages
                .read_many(self.next_page, self.end_page, &mut self.buffer)?;
            self.page = 0;
        }
        let page = current(&self.buffer, self.page);
        self.pages.check(self.next_page, page)?;
        self.count = count_of(self.pages, self.next_page, page)?;
        self.index = 0;
        self.next_page += 1;
        Ok(true)
    }
}

impl Iterator for Entries<'_> {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.index == self.count {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(fault) => {
                    (self.index, self.count) = (0, 0);
                    self.next_page = self.end_page;
                    return Some(Err(fault));
                }
            }
        }
        let mut entry = entry_at(current(&self.buffer, self.page), self.index);
        entry.place = entry.place.saturating_add(self.base);
        self.index += 1;
        Some(Ok(entry))
    }
}

const NO_PAGE: [u8; PAGE] = [0; PAGE];

fn current(buffer: &[u8], page: usize) -> &[u8; PAGE] {
    buffer.as_chunks::<PAGE>().0.get(page).unwrap_or(&NO_PAGE)
}

fn count_of(pages: &Pages, number: u64, page: &[u8; PAGE]) -> io::Result<usize> {
    let count = u16::from_le_bytes([page[4], page[5]]);
    if u64::from(count) > ENTRIES_IN_PAGE {
        return Err(pages.damaged(number, "it claims more entries than fit"));
    }
    Ok(usize::from(count))
}

/// The entry with this index, its place still counted from the base.
#[inline]
fn entry_at(page: &[u8; PAGE], index: usize) -> Entry {
    let at = BODY_AT + index * ENTRY;
    let (mut hash, mut place) = ([0; 8], [0; 8]);
    let bytes = &page[at..at + ENTRY];
    hash.copy_from_slice(&bytes[..8]);
    place[..5].copy_from_slice(&bytes[8..]);
    Entry {
        hash: u64::from_le_bytes(hash),
        place: u64::from_le_bytes(place),
    }
}

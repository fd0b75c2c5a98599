//! Writing a run front to back, in all its parts at once, and merging runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;
use std::sync::Arc;

use super::filter::{BLOCK, BLOCKS_AT, BLOCKS_IN_PAGE, Block, block_of};
use super::page::{
    BODY_AT, ENTRIES_IN_PAGE, ENTRY, FENCES_IN_PAGE, Footer, Layout, PAGE, PAGES_AT_ONCE, stamp,
};
use super::{Entry, KIND, PLACE_SPAN, Run, Summary, VERSION};
use crate::disk::{Disk, DiskFile, write_all_at};
use crate::head::{Head, Salt};

/// See [`Run::write`].
pub(super) fn write(
    disk: &dyn Disk,
    name: &str,
    base: u64,
    entries: impl Iterator<Item = io::Result<Entry>>,
    capacity: u64,
) -> io::Result<Summary> {
    let file = disk.open(name, true)?;
    file.set_len(0)?;
    let layout = Layout::of(capacity);
    file.reserve(layout.bytes())?;
    file.set_len(layout.bytes())?;
    let mut writer = Writer::new(file, layout, base, capacity);
    let mut last = None;
    for entry in entries {
        let entry = entry?;
        if last == Some(entry) {
            continue;
        }
        if last > Some(entry) {
            return Err(refused(name, "the entries are not sorted"));
        }
        last = Some(entry);
        writer.add(name, entry)?;
    }
    writer.finish()
}

/// See [`Run::merge`].
pub(super) fn merge(disk: &dyn Disk, inputs: &[&Run], name: &str) -> io::Result<Summary> {
    let full = inputs.iter().filter(|run| run.footer.count > 0);
    let base = full.map(|run| run.footer.first_place).min().unwrap_or(0);
    let count = inputs.iter().map(|run| run.footer.count).sum();
    let mut streams: Vec<_> = inputs.iter().map(|run| run.entries()).collect();
    let mut heap = BinaryHeap::with_capacity(streams.len());
    for (index, stream) in streams.iter_mut().enumerate() {
        if let Some(entry) = stream.next().transpose()? {
            heap.push(Reverse((entry, index)));
        }
    }
    let merged = std::iter::from_fn(|| {
        let mut top = heap.peek_mut()?;
        let Reverse((entry, index)) = *top;
        match streams.get_mut(index)?.next() {
            Some(Ok(next)) => top.0.0 = next,
            Some(Err(fault)) => return Some(Err(fault)),
            None => drop(PeekMut::pop(top)),
        }
        Some(Ok(entry))
    });
    write(disk, name, base, merged, count)
}

fn refused(name: &str, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: {why}"))
}

/// The parts of a run, each at its own place in the file.
struct Writer {
    file: Arc<dyn DiskFile>,
    seed: u32,
    layout: Layout,
    footer: Footer,
    entries: Part,
    in_page: u64,
    filter: Part,
    block: Block,
    block_number: u64,
    fences: Part,
    fences_in_page: u64,
    salt: Salt,
}

impl Writer {
    fn new(file: Arc<dyn DiskFile>, layout: Layout, base: u64, capacity: u64) -> Self {
        let salt = Salt::random(&mut fastrand::Rng::new());
        Self {
            seed: salt.seed(),
            salt,
            footer: Footer {
                capacity,
                count: 0,
                base,
                first_place: u64::MAX,
                last_place: 0,
            },
            entries: Part::new(1),
            in_page: 0,
            filter: Part::new(layout.filter_at),
            block: Block::default(),
            block_number: 0,
            fences: Part::new(layout.fences_at),
            fences_in_page: 0,
            file,
            layout,
        }
    }

    #[inline]
    fn add(&mut self, name: &str, entry: Entry) -> io::Result<()> {
        let Footer { capacity, base, .. } = self.footer;
        let place = entry.place.wrapping_sub(base);
        if place >= PLACE_SPAN {
            return Err(refused(name, "a place is too far from the base"));
        }
        if self.footer.count == capacity {
            return Err(refused(name, "there are more entries than were announced"));
        }
        self.footer.count += 1;
        self.footer.first_place = self.footer.first_place.min(entry.place);
        self.footer.last_place = self.footer.last_place.max(entry.place);
        self.add_bits(entry.hash)?;
        if self.in_page == 0 {
            self.add_fence(entry.hash)?;
        }
        let at = BODY_AT + self.in_page as usize * ENTRY;
        let slot = &mut self.entries.page()[at..at + ENTRY];
        slot[..8].copy_from_slice(&entry.hash.to_le_bytes());
        slot[8..].copy_from_slice(&place.to_le_bytes()[..5]);
        self.in_page += 1;
        if self.in_page == ENTRIES_IN_PAGE {
            self.end_entry_page()?;
        }
        Ok(())
    }

    fn end_entry_page(&mut self) -> io::Result<()> {
        let count = std::mem::take(&mut self.in_page) as u16;
        self.entries.page()[4..6].copy_from_slice(&count.to_le_bytes());
        self.entries.turn(self.file.as_ref(), self.seed)
    }

    fn add_fence(&mut self, hash: u64) -> io::Result<()> {
        let at = BODY_AT + self.fences_in_page as usize * 8;
        self.fences.page()[at..at + 8].copy_from_slice(&hash.to_le_bytes());
        self.fences_in_page += 1;
        if self.fences_in_page == FENCES_IN_PAGE {
            self.fences_in_page = 0;
            self.fences.turn(self.file.as_ref(), self.seed)?;
        }
        Ok(())
    }

    #[inline]
    fn add_bits(&mut self, hash: u64) -> io::Result<()> {
        let number = block_of(hash, self.layout.blocks);
        while self.block_number < number {
            self.end_block()?;
        }
        self.block.add(hash);
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let in_page = self.block_number % BLOCKS_IN_PAGE;
        let at = BLOCKS_AT + in_page as usize * BLOCK;
        let block = std::mem::take(&mut self.block);
        self.filter.page()[at..at + BLOCK].copy_from_slice(&block.encode());
        self.block_number += 1;
        if in_page + 1 == BLOCKS_IN_PAGE {
            self.filter.turn(self.file.as_ref(), self.seed)?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<Summary> {
        if self.footer.count == 0 {
            (self.footer.first_place, self.footer.last_place) =
                (self.footer.base, self.footer.base);
        }
        while self.block_number < self.layout.blocks {
            self.end_block()?;
        }
        if self.in_page > 0 {
            self.end_entry_page()?;
        }
        let file = self.file.as_ref();
        for (part, end) in [
            (&mut self.filter, self.layout.fences_at),
            (&mut self.fences, self.layout.footer_at),
        ] {
            while part.number < end {
                part.turn(file, self.seed)?;
            }
        }
        for part in [&mut self.entries, &mut self.filter, &mut self.fences] {
            part.flush(file)?;
        }
        let mut footer = self.footer.encode();
        stamp(&mut footer, self.layout.footer_at, self.seed);
        write_all_at(file, &footer, self.layout.footer_at * PAGE as u64)?;
        let head = Head {
            kind: KIND,
            version: VERSION,
            salt: self.salt,
        };
        head.write(file)?;
        file.sync()?;
        Ok(self.footer.summary())
    }
}

/// One part of the file, written front to back.
struct Part {
    /// Number of the page being filled.
    number: u64,
    /// Number of the first page in the buffer.
    first: u64,
    buffer: Box<[[u8; PAGE]]>,
}

impl Part {
    fn new(first: u64) -> Self {
        Self {
            number: first,
            first,
            buffer: vec![[0; PAGE]; PAGES_AT_ONCE].into_boxed_slice(),
        }
    }

    /// The page being filled.
    #[inline]
    fn page(&mut self) -> &mut [u8; PAGE] {
        &mut self.buffer[(self.number - self.first) as usize]
    }

    /// Ends the page and begins the next.
    fn turn(&mut self, file: &dyn DiskFile, seed: u32) -> io::Result<()> {
        let number = self.number;
        stamp(self.page(), number, seed);
        self.number += 1;
        if self.number - self.first == self.buffer.len() as u64 {
            self.flush(file)?;
        }
        Ok(())
    }

    /// Writes the pages ended.
    fn flush(&mut self, file: &dyn DiskFile) -> io::Result<()> {
        let count = (self.number - self.first) as usize;
        let done = &mut self.buffer[..count];
        write_all_at(file, done.as_flattened(), self.first * PAGE as u64)?;
        done.as_flattened_mut().fill(0);
        self.first = self.number;
        Ok(())
    }
}

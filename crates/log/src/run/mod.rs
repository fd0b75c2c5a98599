//! Immutable sorted files of hash to place, with a filter in front.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::head::Head;

mod entries;
mod filter;
mod page;
mod write;

pub use entries::Entries;

use filter::Filter;
use page::{Footer, Layout, Pages};

/// The kind byte of a run's file head.
pub const KIND: u8 = b'r';

/// The newest format this release reads, and the one it writes.
pub const VERSION: u16 = 1;

/// Places in a run lie within this many of its base: five bytes each.
pub const PLACE_SPAN: u64 = 1 << 40;

/// One hash and where its message lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The keyed hash of the id.
    pub hash: u64,
    /// The place.
    pub place: u64,
}

/// Where a run's filter is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterHome {
    /// Loaded when the run is opened: nanoseconds a question.
    InMemory,
    /// Read page by page: no memory, one read a question.
    OnDisk,
}

/// What a run holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Entries.
    pub count: u64,
    /// What the places are counted from.
    pub base: u64,
    /// Lowest place; the base when there is no entry.
    pub first_place: u64,
    /// Highest place; the base when there is no entry.
    pub last_place: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
}

/// An open run.
pub struct Run {
    pages: Pages,
    footer: Footer,
    layout: Layout,
    /// The first hash of each page of entries: one read finds a hash.
    fences: Box<[u64]>,
    filter: Filter,
}

impl Run {
    /// Writes and syncs a run of at most `count` entries, sorted, exact repeats left out. The name
    /// is not synced. `InvalidInput`: not sorted, more than `count`, or a place that is not
    /// within [`PLACE_SPAN`] of `base`.
    pub fn write(
        disk: &dyn Disk,
        name: &str,
        base: u64,
        entries: impl Iterator<Item = Entry>,
        count: u64,
    ) -> io::Result<Summary> {
        write::write(disk, name, base, entries.map(Ok), count)
    }

    /// Writes and syncs the union of runs. Memory does not grow with their size, but for 8 bytes
    /// in 4,000 of each open run.
    pub fn merge(disk: &dyn Disk, inputs: &[&Self], name: &str) -> io::Result<Summary> {
        write::merge(disk, inputs, name)
    }

    /// Opens a run. `InvalidData` names the file and the page that is damaged.
    pub fn open(disk: &dyn Disk, name: &str, filter: FilterHome) -> io::Result<Self> {
        let file: Arc<dyn DiskFile> = disk.open(name, false)?;
        let head = Head::read(file.as_ref(), KIND, VERSION)?;
        let pages = Pages::new(file, head.salt);
        let footer = Footer::read(&pages)?;
        let layout = Layout::of(footer.capacity);
        let fences = page::read_fences(&pages, &layout, footer.count)?;
        let mut run = Self {
            pages,
            footer,
            layout,
            fences,
            filter: Filter::OnDisk,
        };
        run.set_filter_home(filter)?;
        Ok(run)
    }

    /// What it holds.
    pub fn summary(&self) -> Summary {
        self.footer.summary()
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        self.pages.name()
    }

    /// Bytes its filter takes in memory.
    pub fn filter_bytes(&self) -> u64 {
        self.layout.filter_bytes()
    }

    /// Where its filter is asked.
    pub fn filter_home(&self) -> FilterHome {
        match self.filter {
            Filter::InMemory(_) => FilterHome::InMemory,
            Filter::OnDisk => FilterHome::OnDisk,
        }
    }

    /// Loads the filter or lets it go.
    pub fn set_filter_home(&mut self, home: FilterHome) -> io::Result<()> {
        match (home, &self.filter) {
            (FilterHome::OnDisk, _) => self.filter = Filter::OnDisk,
            (FilterHome::InMemory, Filter::InMemory(_)) => {}
            (FilterHome::InMemory, Filter::OnDisk) => {
                self.filter = Filter::load(&self.pages, &self.layout)?;
            }
        }
        Ok(())
    }

    /// Whether the hash may be in the run: never wrong when it says no.
    pub fn maybe(&self, hash: u64) -> io::Result<bool> {
        self.filter.maybe(&self.pages, &self.layout, hash)
    }

    /// Appends the indexes of the hashes that may be in the run to `hits`, ascending.
    pub fn maybe_all(&self, hashes: &[u64], hits: &mut Vec<usize>) -> io::Result<()> {
        self.filter
            .maybe_all(&self.pages, &self.layout, hashes, hits)
    }

    /// Appends the places of a hash to `places`, ascending. Does not ask the filter. One read, two
    /// when the hash is the first of a page.
    pub fn find(&self, hash: u64, places: &mut Vec<u64>) -> io::Result<()> {
        let first_at_or_above = self.fences.partition_point(|fence| *fence < hash);
        let first = first_at_or_above.saturating_sub(1);
        for (number, fence) in self.fences.iter().enumerate().skip(first) {
            if *fence > hash {
                break;
            }
            let page = entries::EntryPage::read(&self.pages, number as u64)?;
            if page.find(hash, self.footer.base, places) {
                break;
            }
        }
        Ok(())
    }

    /// All entries in order, read in pieces; ends after the first error.
    pub fn entries(&self) -> Entries<'_> {
        Entries::new(&self.pages, &self.footer)
    }
}

/// How many bytes of filters may live in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilterBudget {
    /// Bytes for all runs together.
    pub bytes: u64,
}

impl FilterBudget {
    /// The home of each run's filter, given [`Run::filter_bytes`] of each, newest run first. The
    /// newest are asked most, so they come first; an older one that still fits is taken too.
    pub fn homes(&self, filter_bytes: &[u64]) -> Vec<FilterHome> {
        let mut left = self.bytes;
        let home = |size: &u64| match left.checked_sub(*size) {
            Some(rest) => {
                left = rest;
                FilterHome::InMemory
            }
            None => FilterHome::OnDisk,
        };
        filter_bytes.iter().map(home).collect()
    }
}

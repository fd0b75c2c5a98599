//! Reads blocks and side files, and keeps the last few of them in memory.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lru::LruCache;
use nightgate_log::disk::{Disk, DiskFile};
use nightgate_log::journal::Journal;

use super::fault::{Outcome, disk, error};
use super::files::{self, Told, log_name};
use super::segment::{Block, Index, Segment};
use crate::error::{Error, Kind};
use crate::hold::block::{self, Body, Damaged, Head};

/// Log files kept open for reading.
const FILES_MAX: NonZeroUsize = NonZeroUsize::new(128).unwrap();
/// Heads kept in memory: some 30 KiB each.
const HEADS_MAX: NonZeroUsize = NonZeroUsize::new(128).unwrap();
/// Bodies kept in memory: a block's worth of 64 KiB each.
const BODIES_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Side files kept in memory: some 50 KiB each, more where messages came one by one.
const INDEXES_MAX: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// What stands in the way of reading a block.
#[derive(Debug)]
pub(super) enum Unread {
    /// Its bytes are not what was written.
    Damaged(String),
    /// The disk does not answer; it may later.
    Failed(Error),
}

/// Reads what was written.
pub(super) struct Reader {
    disk: Arc<dyn Disk>,
    journal: Arc<Journal>,
    files: Mutex<LruCache<u32, Arc<dyn DiskFile>>>,
    heads: Mutex<LruCache<u64, Arc<Head>>>,
    bodies: Mutex<LruCache<u64, Arc<Body>>>,
    indexes: Mutex<LruCache<u32, Arc<Index>>>,
    has_gaps: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    pub(super) fn new(disk: Arc<dyn Disk>, journal: Arc<Journal>) -> Self {
        Self {
            disk,
            journal,
            files: Mutex::new(LruCache::new(FILES_MAX)),
            heads: Mutex::new(LruCache::new(HEADS_MAX)),
            bodies: Mutex::new(LruCache::new(BODIES_MAX)),
            indexes: Mutex::new(LruCache::new(INDEXES_MAX)),
            has_gaps: AtomicBool::new(false),
        }
    }

    /// The log file of a segment.
    pub(super) fn file(&self, segment: u32) -> Outcome<Arc<dyn DiskFile>> {
        if let Some(file) = lock(&self.files).get(&segment) {
            return Ok(Arc::clone(file));
        }
        let name = log_name(segment);
        let file = self
            .disk
            .open(&name, false)
            .map_err(|cause| match cause.kind() {
                // It will not come back by itself, so what is in it is as good as damaged.
                io::ErrorKind::NotFound => error(Kind::Corrupt, "open a log file").with(cause),
                _ => disk("open a log file")(cause),
            })?;
        lock(&self.files).put(segment, Arc::clone(&file));
        Ok(file)
    }

    /// Forgets a segment that was dropped.
    pub(super) fn forget(&self, segment: u32) {
        lock(&self.files).pop(&segment);
        lock(&self.indexes).pop(&segment);
    }

    /// Forgets what was decoded: blocks were given back.
    pub(super) fn forget_bodies(&self) {
        lock(&self.bodies).clear();
    }

    /// Asks the index of a segment, read from its side file if it is sealed.
    pub(super) fn ask<T>(&self, segment: &Segment, ask: impl FnOnce(&Index) -> T) -> Outcome<T> {
        if let Some(index) = &segment.open_index {
            return Ok(ask(index));
        }
        if let Some(index) = lock(&self.indexes).get(&segment.no) {
            return Ok(ask(index));
        }
        let index = Arc::new(self.read_index(segment)?);
        lock(&self.indexes).put(segment.no, Arc::clone(&index));
        Ok(ask(&index))
    }

    fn read_index(&self, segment: &Segment) -> Outcome<Index> {
        let Told { index, is_rebuilt } = files::read_index(&*self.disk, segment.no)?;
        let is_own = index.is_within(segment.base, segment.end);
        if is_own && !is_rebuilt {
            return Ok(index);
        }
        let index = match is_own {
            true => index,
            false => {
                tracing::error!(
                    segment = segment.no,
                    "an index is another segment's: made anew"
                );
                files::rebuild_index(&*self.disk, segment.no)?
            }
        };
        let (index, has_gaps) = index.covering(segment.base, segment.end);
        if has_gaps {
            self.has_gaps.store(true, Ordering::Release);
        } else if let Err(fault) = files::write_index(&*self.disk, segment.no, &index) {
            tracing::warn!(segment = segment.no, %fault, "could not write an index anew");
        }
        Ok(index)
    }

    /// Whether messages were missing from an index since this was asked last.
    pub(super) fn take_gaps(&self) -> bool {
        self.has_gaps.swap(false, Ordering::AcqRel)
    }

    /// Whether messages are missing from an index, and upkeep has still to mend that.
    pub(super) fn has_gaps(&self) -> bool {
        self.has_gaps.load(Ordering::Acquire)
    }

    /// The block of `shelf` that holds `place`.
    pub(super) fn block_of(&self, segment: &Segment, shelf: u32, place: u64) -> Outcome<Block> {
        let block = self.block(segment, place)?;
        if block.line.shelf == shelf {
            return Ok(block);
        }
        // A stand-in: the block that was here is lost.
        self.has_gaps.store(true, Ordering::Release);
        let op = format!("find place {place} in {}", log_name(segment.no));
        Err(error(Kind::Corrupt, op))
    }

    /// The block that holds `place`.
    pub(super) fn block(&self, segment: &Segment, place: u64) -> Outcome<Block> {
        let block = self.ask(segment, |index| index.at(place).copied())?;
        block.ok_or_else(|| {
            let op = format!("find place {place} in {}", log_name(segment.no));
            error(Kind::Corrupt, op)
        })
    }

    fn read(&self, segment: u32, at: u64, len: u32, crc: u32) -> Result<Vec<u8>, Unread> {
        let file = match self.file(segment) {
            Ok(file) => file,
            Err(error) if error.kind == Kind::Corrupt => {
                return Err(Unread::Damaged(error.to_string()));
            }
            Err(error) => return Err(Unread::Failed(error)),
        };
        let mut bytes = vec![0; len as usize];
        let read = self.journal.read_at(segment, &*file, &mut bytes, at);
        if let Err(cause) = read {
            if is_away(&cause) {
                return Err(Unread::Failed(disk("read a log file")(cause)));
            }
            // A sector that cannot be read is damage: the rest goes on.
            return Err(Unread::Damaged(format!("cannot be read: {cause}")));
        }
        if crc32c::crc32c(&bytes) != crc {
            return Err(Unread::Damaged("has a wrong checksum".to_owned()));
        }
        Ok(bytes)
    }

    /// The head of a block: everything but bodies and attributes.
    pub(super) fn head(&self, segment: u32, block: &Block) -> Result<Arc<Head>, Unread> {
        if let Some(head) = lock(&self.heads).get(&block.first) {
            return Ok(Arc::clone(head));
        }
        let line = &block.line;
        let bytes = self.read(segment, block.at, line.head_len, line.head_crc)?;
        let head = block::open_head(&bytes, line.count).map_err(damaged)?;
        let head = Arc::new(head);
        lock(&self.heads).put(block.first, Arc::clone(&head));
        Ok(head)
    }

    /// The bodies and attributes of a block.
    pub(super) fn body(&self, segment: u32, block: &Block) -> Result<Arc<Body>, Unread> {
        if let Some(body) = lock(&self.bodies).get(&block.first) {
            return Ok(Arc::clone(body));
        }
        let line = &block.line;
        let bytes = self.read(segment, block.body_at, line.body_len, line.body_crc)?;
        let body = block::open_body_of(&Bytes::from(bytes), line.count).map_err(damaged)?;
        let body = Arc::new(body);
        lock(&self.bodies).put(block.first, Arc::clone(&body));
        Ok(body)
    }
}

/// Whether the whole disk does not answer, and may later.
fn is_away(cause: &io::Error) -> bool {
    use io::ErrorKind::{NotConnected, PermissionDenied, StaleNetworkFileHandle, TimedOut};
    let away = [
        NotConnected,
        PermissionDenied,
        StaleNetworkFileHandle,
        TimedOut,
    ];
    away.contains(&cause.kind())
}

fn damaged(damaged: Damaged) -> Unread {
    Unread::Damaged(damaged.to_string())
}

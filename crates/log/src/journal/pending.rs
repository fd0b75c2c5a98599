//! What has been appended and not yet written.

use std::sync::Arc;

use super::{Appended, Stopped, Tail, Tally, Ticket};
use crate::disk::DiskFile;
use crate::frame::{DataSum, encode_behind, frame_len};
use crate::head::Salt;

/// Buffers kept for the next groups: one fills while one is written.
const SPARE_MAX: usize = 2;

/// A buffer with more room than this is kept only while groups use a quarter of it.
const KEEP_ALWAYS: usize = 4 * 1024 * 1024;

/// A buffer begins with this much room.
const FIRST_ROOM: usize = 256 * 1024;

/// The bytes of one group for one file.
pub(super) struct Part {
    pub(super) no: u32,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) at: u64,
    pub(super) frames: u32,
    pub(super) bytes: Vec<u8>,
}

impl Part {
    /// Copies what it has of the bytes that shall stand in `into` from `at` on, and says where it
    /// ends itself.
    pub(super) fn copy_to(&self, into: &mut [u8], at: u64) -> u64 {
        let own_end = self.at + self.bytes.len() as u64;
        let (from, to) = (at.max(self.at), (at + into.len() as u64).min(own_end));
        if from < to {
            let source = &self.bytes[(from - self.at) as usize..(to - self.at) as usize];
            into[(from - at) as usize..(to - at) as usize].copy_from_slice(source);
        }
        own_end
    }
}

/// Everything behind the journal's lock.
pub(super) struct State {
    pub(super) no: u32,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) salt: Salt,
    pub(super) at: u64,
    pub(super) next_lsn: u64,
    /// The group that gathers, a part for each file, in order.
    pub(super) pending: Vec<Part>,
    pub(super) pending_bytes: usize,
    /// The group that is being written; kept when writing failed, so that it can still be read.
    pub(super) flight: Option<Arc<Vec<Part>>>,
    pub(super) spare: Vec<Vec<u8>>,
    /// The thread waits for work.
    pub(super) idle: bool,
    /// Callers that wait for room or, blocking, for news.
    pub(super) blocked: usize,
    pub(super) closing: bool,
    pub(super) tally: Tally,
}

impl State {
    pub(super) fn new(tail: Tail) -> Self {
        Self {
            no: tail.no,
            file: tail.file,
            salt: tail.salt,
            at: tail.at,
            next_lsn: tail.next_lsn,
            pending: Vec::new(),
            pending_bytes: 0,
            flight: None,
            spare: Vec::new(),
            idle: false,
            blocked: 0,
            closing: false,
            tally: Tally::default(),
        }
    }

    pub(super) fn append(&mut self, meta: &[u8], data: &[&[u8]], sum: DataSum) -> Appended {
        let data_len = data.iter().map(|piece| piece.len() as u64).sum();
        let len = frame_len(meta.len(), data_len);
        let (no, at, lsn, salt) = (self.no, self.at, self.next_lsn, self.salt);
        let part = self.part();
        make_room(&mut part.bytes, len as usize);
        let inside = encode_behind(&salt, lsn, part.frames, meta, data, sum, &mut part.bytes);
        part.frames += 1;
        let appended = Appended {
            no,
            data_at: part.at + inside as u64,
            lsn,
            ticket: Ticket(lsn + 1),
            end_at: at + len,
        };
        self.pending_bytes += len as usize;
        (self.at, self.next_lsn) = (at + len, lsn + 1);
        appended
    }

    /// The part that takes the next frame.
    fn part(&mut self) -> &mut Part {
        if self.pending.last().is_none_or(|part| part.no != self.no) {
            let part = Part {
                no: self.no,
                file: Arc::clone(&self.file),
                at: self.at,
                frames: 0,
                bytes: self.spare.pop().unwrap_or_default(),
            };
            self.pending.push(part);
        }
        let last = self.pending.len() - 1;
        &mut self.pending[last]
    }

    /// The pending group, from now on in flight.
    pub(super) fn take(&mut self) -> Arc<Vec<Part>> {
        let group = Arc::new(std::mem::take(&mut self.pending));
        self.pending_bytes = 0;
        self.flight = Some(Arc::clone(&group));
        group
    }

    /// The group in flight has landed.
    pub(super) fn land(&mut self, group: Arc<Vec<Part>>) {
        self.flight = None;
        self.tally.groups += 1;
        for part in group.iter() {
            self.tally.frames += u64::from(part.frames);
            self.tally.bytes += part.bytes.len() as u64;
        }
        // A reader may still hold it: then its buffers are not used again.
        if let Ok(parts) = Arc::try_unwrap(group) {
            for Part { mut bytes, .. } in parts {
                let used = bytes.capacity() <= KEEP_ALWAYS.max(bytes.len() * 4);
                if used && self.spare.len() < SPARE_MAX {
                    bytes.clear();
                    self.spare.push(bytes);
                }
            }
        }
    }
}

/// Doubles, like a vector, but begins with room for a frame or two.
fn make_room(bytes: &mut Vec<u8>, more: usize) {
    if bytes.capacity() - bytes.len() < more {
        bytes.reserve(more.max(FIRST_ROOM));
    }
}

/// The error of a journal that stopped for `fault`.
pub(super) fn stopped(fault: &std::io::Error) -> Stopped {
    Stopped {
        kind: fault.kind(),
        cause: fault.to_string().into(),
    }
}

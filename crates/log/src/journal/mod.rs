//! Group commit: callers append, one thread writes and syncs what has gathered.
//!
//! While a group is being synced the next one gathers: the slower the disk, the larger the groups.
//! The first failed write or sync poisons the journal for good. Nothing is tried again: after a
//! failed sync the kernel may take lost pages for clean ones and answer Ok to the next.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crate::disk::{DiskFile, read_exact_at};
use crate::frame::{DATA_MAX, DataSum, META_MAX};
use crate::head::{HEAD_LEN, Salt};

mod pending;
mod shared;
mod writer;

use shared::Shared;

/// How much may gather before `append` makes its caller wait.
pub const PENDING_MAX: usize = 32 * 1024 * 1024;

/// How a journal runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Pending bytes from which on [`Journal::append`] blocks.
    pub pending_max: usize,
    /// How far ahead of the last byte the file is kept reserved; 0: not at all.
    pub reserve: u64,
    /// Name of the thread.
    pub thread: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pending_max: PENDING_MAX,
            reserve: 0,
            thread: "journal".to_owned(),
        }
    }
}

/// Where appending begins. The file's name and all its bytes before `at` are durable already.
pub struct Tail {
    /// The file's number, for the caller.
    pub no: u32,
    /// The file.
    pub file: Arc<dyn DiskFile>,
    /// Its salt.
    pub salt: Salt,
    /// Where the next frame goes: a multiple of 8.
    pub at: u64,
    /// The lsn of the next frame.
    pub next_lsn: u64,
}

/// A promise to wait for: all frames up to one of them. Later tickets are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Where a frame will lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The file's number.
    pub no: u32,
    /// Where the data begins in the file.
    pub data_at: u64,
    /// The frame's lsn.
    pub lsn: u64,
    /// What to wait for.
    pub ticket: Ticket,
    /// End of the frame in the file: the length so far.
    pub end_at: u64,
}

/// The journal takes no more: it was poisoned by a failed write or sync, or it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The kind of the error it failed with; `InvalidInput` for a frame too long, which stops
    /// nothing.
    pub kind: io::ErrorKind,
    /// What failed.
    pub cause: Arc<str>,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the journal takes no more: {}", self.cause)
    }
}

impl std::error::Error for Stopped {}

impl From<Stopped> for io::Error {
    fn from(stopped: Stopped) -> Self {
        Self::new(stopped.kind, stopped)
    }
}

/// What a journal has done since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Groups written and synced.
    pub groups: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Frames in them.
    pub frames: u64,
}

/// The appending end of a log. Dropping it writes and syncs what is pending, then ends its thread.
pub struct Journal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Starts the thread. A journal whose thread cannot start is poisoned from the beginning.
    pub fn start(options: Options, tail: Tail) -> Self {
        let name = options.thread.clone();
        let shared = Arc::new(Shared::new(options, tail));
        let theirs = Arc::clone(&shared);
        let spawned = std::thread::Builder::new()
            .name(name)
            .spawn(move || writer::run(&theirs));
        let thread = match spawned {
            Ok(thread) => Some(thread),
            Err(fault) => {
                shared.poison(&fault);
                None
            }
        };
        Self { shared, thread }
    }

    /// Copies a frame into the pending group and says where it will lie. Durable only once
    /// [`Journal::durable`] says so. Blocks while the pending group is full.
    pub fn append(&self, meta: &[u8], data: &[&[u8]]) -> Result<Appended, Stopped> {
        self.append_summed(meta, data, DataSum::of(data))
    }

    /// As [`Journal::append`], with the sum of `data` taken before the caller took its lock.
    pub fn append_summed(
        &self,
        meta: &[u8],
        data: &[&[u8]],
        sum: DataSum,
    ) -> Result<Appended, Stopped> {
        let data_len: u64 = data.iter().map(|piece| piece.len() as u64).sum();
        if meta.len() > META_MAX || data_len > DATA_MAX {
            return Err(Stopped {
                kind: io::ErrorKind::InvalidInput,
                cause: "a frame longer than a scan would read back: split it".into(),
            });
        }
        let mut state = self.shared.wait_for_room()?;
        let appended = state.append(meta, data, sum);
        self.shared
            .appended
            .store(appended.ticket.0, Ordering::Release);
        if std::mem::take(&mut state.idle) {
            drop(state);
            self.shared.work.notify_one();
        }
        Ok(appended)
    }

    /// Later appends go to another file, right behind its head. What is pending for the old one
    /// is written and synced first. The new file's head and name are durable already, and its
    /// number is new.
    pub fn roll(&self, no: u32, file: Arc<dyn DiskFile>, salt: Salt) -> Result<(), Stopped> {
        let mut state = self.shared.lock();
        self.shared.check()?;
        (state.no, state.file, state.salt, state.at) = (no, file, salt, HEAD_LEN);
        Ok(())
    }

    /// Waits until the frames up to the ticket are durable.
    pub async fn durable(&self, ticket: Ticket) -> Result<(), Stopped> {
        if self.landed(ticket) {
            return Ok(());
        }
        let mut news = self.shared.news.subscribe();
        loop {
            if self.landed(ticket) {
                return Ok(());
            }
            self.shared.check()?;
            // An error would mean that the sender is gone, and we hold it.
            let _ = news.changed().await;
        }
    }

    /// As [`Journal::durable`], for a thread that may block.
    pub fn durable_blocking(&self, ticket: Ticket) -> Result<(), Stopped> {
        if self.landed(ticket) {
            return Ok(());
        }
        let mut state = self.shared.lock();
        loop {
            if self.landed(ticket) {
                return Ok(());
            }
            self.shared.check()?;
            state = self.shared.wait_for_news(state);
        }
    }

    /// Every frame with a lower lsn is durable.
    pub fn durable_lsn(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// The ticket of the last frame appended: waiting for it waits for all.
    pub fn last_ticket(&self) -> Ticket {
        Ticket(self.shared.appended.load(Ordering::Acquire))
    }

    /// Takes no more from now on: the file that was to come next could not be begun.
    pub fn poison(&self, fault: &io::Error) {
        self.shared.poison(fault);
    }

    /// Why it stopped, when it has.
    pub fn fault(&self) -> Option<Stopped> {
        self.shared.check().err()
    }

    /// What it has done.
    pub fn tally(&self) -> Tally {
        self.shared.lock().tally
    }

    /// Fills `into` from byte `at` of file `no`, wherever those bytes are: pending, being written,
    /// or in the file. Works on after the journal stopped.
    pub fn read_at(
        &self,
        no: u32,
        file: &dyn DiskFile,
        into: &mut [u8],
        at: u64,
    ) -> io::Result<()> {
        let flight = {
            let state = self.shared.lock();
            let flight = state.flight.clone();
            let parts = flight
                .iter()
                .flat_map(|group| group.iter())
                .chain(&state.pending);
            let mut parts = parts.filter(|part| part.no == no).peekable();
            let Some(first) = parts.peek() else {
                drop(state);
                return read_exact_at(file, into, at);
            };
            // From here on the file may lack bytes: those below are written.
            let buffered_from = first.at;
            let end = at + into.len() as u64;
            let buffered_to = parts.map(|part| part.copy_to(into, at)).max().unwrap_or(0);
            if end > buffered_to && end > buffered_from {
                let said = format!("{}: ends before byte {end}", file.name());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, said));
            }
            buffered_from
        };
        let written = flight.saturating_sub(at).min(into.len() as u64) as usize;
        match into.get_mut(..written) {
            Some(rest) if written > 0 => read_exact_at(file, rest, at),
            _ => Ok(()),
        }
    }

    fn landed(&self, ticket: Ticket) -> bool {
        self.durable_lsn() >= ticket.0
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has poisoned the journal: everyone who waits knows.
            let _ = thread.join();
        }
    }
}

//! Keeps what a slow client has not read yet: a little in memory, the rest in an unlinked temporary
//! file. A client that sends millions of lines before it reads one answer costs disk, not memory,
//! and never stands against a writer that waits for it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::sync::{Mutex, Notify};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Most bytes kept in memory: the answers to a large batch, so that only a client that falls behind
/// by more costs disk.
const MEMORY_MAX_BYTES: usize = 1024 * 1024;
/// Most bytes kept on disk; beyond, the writer waits for the reader. Some 50 million answers.
const FILE_MAX_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// Read from disk at once.
const CHUNK_BYTES: u64 = 256 * 1024;

const OPEN: u8 = 0;
const WHOLE: u8 = 1;
const BROKEN: u8 = 2;
const UNWANTED: u8 = 3;

struct Shared {
    held: Arc<Mutex<Held>>,
    end: AtomicU8,
    /// Something to read, or the end.
    filled: Notify,
    /// Room to write, or nobody who reads.
    drained: Notify,
}

/// Older pieces in memory, newer ones on disk.
#[derive(Default)]
struct Held {
    memory: VecDeque<Bytes>,
    memory_bytes: usize,
    file: Option<File>,
    /// The unread part of the file.
    from: u64,
    to: u64,
}

/// A way in and a way out.
pub(super) fn spool() -> (Writer, impl Stream<Item = io::Result<Bytes>> + Send) {
    let shared = Arc::new(Shared {
        held: Arc::default(),
        end: AtomicU8::new(OPEN),
        filled: Notify::new(),
        drained: Notify::new(),
    });
    let reader = Reader(Arc::clone(&shared));
    let pieces = stream::try_unfold(reader, |reader| async move {
        let piece = reader.next().await?;
        Ok(piece.map(|piece| (piece, reader)))
    });
    (Writer(shared), pieces)
}

/// The way in. Dropped before [`Writer::finish`], the way out ends with an error.
pub(super) struct Writer(Arc<Shared>);

impl Writer {
    /// Adds a piece; waits only when the disk holds its most, `patience` at the longest.
    pub(super) async fn push(&self, piece: Bytes, patience: Duration) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let mut held = loop {
            if self.0.end.load(Ordering::Acquire) == UNWANTED {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let held = Arc::clone(&self.0.held).lock_owned().await;
            if held.to - held.from < FILE_MAX_BYTES {
                break held;
            }
            drop(held);
            let waited = timeout(patience, self.0.drained.notified()).await;
            waited.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        };
        let spilled = held.to > held.from;
        if spilled || held.memory_bytes + piece.len() > MEMORY_MAX_BYTES {
            on_disk(move || held.write(&piece)).await?;
        } else {
            held.memory_bytes += piece.len();
            held.memory.push_back(piece);
        }
        self.0.filled.notify_one();
        Ok(())
    }

    /// All has been written.
    pub(super) fn finish(self) {
        self.end(WHOLE);
    }

    fn end(&self, how: u8) {
        let ended = self
            .0
            .end
            .compare_exchange(OPEN, how, Ordering::AcqRel, Ordering::Acquire);
        if ended.is_ok() {
            self.0.filled.notify_one();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end(BROKEN);
    }
}

struct Reader(Arc<Shared>);

impl Reader {
    async fn next(&self) -> io::Result<Option<Bytes>> {
        loop {
            // Looked at before the pieces: whatever was written before the end is read.
            let end = self.0.end.load(Ordering::Acquire);
            let mut held = Arc::clone(&self.0.held).lock_owned().await;
            if let Some(piece) = held.memory.pop_front() {
                held.memory_bytes -= piece.len();
                return Ok(Some(piece));
            }
            if held.to > held.from {
                let piece = on_disk(move || held.read()).await?;
                self.0.drained.notify_one();
                return Ok(Some(piece));
            }
            drop(held);
            match end {
                OPEN => self.0.filled.notified().await,
                WHOLE => return Ok(None),
                _ => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.end.store(UNWANTED, Ordering::Release);
        self.0.drained.notify_one();
    }
}

impl Held {
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        file.seek(SeekFrom::Start(self.to))?;
        file.write_all(piece)?;
        self.to += piece.len() as u64;
        Ok(())
    }

    fn read(&mut self) -> io::Result<Bytes> {
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        file.seek(SeekFrom::Start(self.from))?;
        let length = (self.to - self.from).min(CHUNK_BYTES);
        let mut piece = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact(&mut piece)?;
        self.from += length;
        if self.from == self.to {
            // Read to its end: the disk gets its room back.
            (self.from, self.to) = (0, 0);
            file.set_len(0)?;
        }
        Ok(piece.into())
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::TryStreamExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn pieces_come_out_in_order_from_memory_and_disk() {
        let (writer, reader) = spool();
        let mut written = Vec::new();
        for number in 0..MEMORY_MAX_BYTES / 100 {
            let piece = format!("{number:>300}\n");
            written.extend_from_slice(piece.as_bytes());
            writer.push(piece.into(), PATIENCE).await.unwrap();
        }
        {
            let held = writer.0.held.lock().await;
            assert!(held.memory_bytes <= MEMORY_MAX_BYTES);
            assert!(held.to > 0, "the rest is on disk");
        }
        let mut reader = pin!(reader);
        let mut read = Vec::new();
        while read.len() < written.len() / 2 {
            read.extend_from_slice(&reader.try_next().await.unwrap().unwrap());
        }
        writer.push("late".into(), PATIENCE).await.unwrap();
        written.extend_from_slice(b"late");
        writer.finish();
        while let Some(piece) = reader.try_next().await.unwrap() {
            read.extend_from_slice(&piece);
        }
        assert!(read == written);
    }

    #[tokio::test]
    async fn a_writer_that_is_lost_breaks_the_reader_and_the_reverse() {
        let (writer, reader) = spool();
        writer.push("a".into(), PATIENCE).await.unwrap();
        drop(writer);
        let mut reader = pin!(reader);
        assert!(reader.try_next().await.unwrap().is_some());
        assert!(reader.try_next().await.is_err());
        let (writer, reader) = spool();
        drop(reader);
        assert!(writer.push("a".into(), PATIENCE).await.is_err());
    }

    #[tokio::test]
    async fn a_reader_wakes_when_something_comes() {
        let (writer, reader) = spool();
        let reading = tokio::spawn(async move { reader.try_collect::<Vec<Bytes>>().await });
        tokio::task::yield_now().await;
        writer.push("a".into(), PATIENCE).await.unwrap();
        writer.finish();
        assert_eq!(reading.await.unwrap().unwrap().concat(), b"a");
    }
}

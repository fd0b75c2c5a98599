//! A sink that writes what leaves as NDJSON, one object a message, to a file or to stdout.
//!
//! The recipient and the body are in clear: the line is the delivery itself. A file that this sink
//! makes can be read by its owner only (0600).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::sink::wire::Wire;
use crate::sink::{Outbound, Outcome, Sink};

/// Messages in one call: enough to make one flush to disk cheap a message, few enough to hold in
/// memory at the largest body.
const BATCH_MAX: usize = 1_000;

/// Writes each message as one line of JSON.
///
/// | what happened | outcome |
/// |---|---|
/// | every line written and on disk | `Delivered` |
/// | permit or loan ended before the line was formed | `TooLate` |
/// | a write failed: lines that lay before the failure, and the one it cut | `Unknown` |
/// | a write failed: lines that lay behind the failure | `Retry` |
/// | the flush to disk failed | `Unknown` for every line of the batch |
///
/// A line that a failure or a crash cut is ended before the next one, so it costs only itself.
pub struct LogSink {
    target: Arc<Mutex<Target>>,
    clock: Arc<dyn Clock>,
}

impl LogSink {
    /// Appends to the file at `path`; makes it (0600) if it is not there.
    ///
    /// # Errors
    /// `Invalid` when the file cannot be opened for appending.
    pub fn file(path: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let target = Target::file(path).map_err(|source| {
            let op = format!("open {} to append what leaves", path.display());
            Error::new(Kind::Invalid, "sink", op).with(source)
        })?;
        Ok(Self::new(target, clock))
    }

    /// Writes to the process's standard output.
    #[must_use]
    pub fn stdout(clock: Arc<dyn Clock>) -> Self {
        Self::new(
            Target {
                medium: Box::new(Stdout),
                torn: false,
            },
            clock,
        )
    }

    fn new(target: Target, clock: Arc<dyn Clock>) -> Self {
        Self {
            target: Arc::new(Mutex::new(target)),
            clock,
        }
    }
}

#[async_trait]
impl Sink for LogSink {
    fn name(&self) -> &'static str {
        "log"
    }

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    async fn deliver(&self, batch: Vec<Outbound>) -> Vec<Outcome> {
        let count = batch.len();
        let (target, clock) = (Arc::clone(&self.target), Arc::clone(&self.clock));
        let written = tokio::task::spawn_blocking(move || {
            // Lines are formed while another batch is written.
            let lines = Lines::of(&batch, clock.now());
            let mut target = target.lock().unwrap_or_else(PoisonError::into_inner);
            let (now, places) = (clock.now(), &lines.places);
            match Outbound::late(&batch, places, now).is_empty() {
                true => target.write(&lines, count),
                // Waiting for that batch has cost some their time.
                false => target.write(&Lines::of(&batch, now), count),
            }
        });
        written.await.unwrap_or_else(|_| {
            let why = "the writer stopped before it answered".to_owned();
            vec![Outcome::Unknown { why }; count]
        })
    }
}

/// Where lines go. A seam, so that tests can fail the disk.
trait Medium: Send {
    /// Takes some of `bytes`, and says how many.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Returns once what was written is safe.
    fn sync(&mut self) -> io::Result<()>;
}

impl Medium for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(self, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.sync_data() {
            // A pipe or a terminal has nothing to sync, and says so with EINVAL.
            Err(fault) if fault.kind() == io::ErrorKind::InvalidInput => Ok(()),
            answer => answer,
        }
    }
}

struct Stdout;

impl Medium for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

struct Target {
    medium: Box<dyn Medium>,
    /// The last line has no end: a write failed in it, or a crash did.
    torn: bool,
}

impl Target {
    fn file(path: &Path) -> io::Result<Self> {
        let fresh = !path.exists();
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        if fresh {
            // A new file's name lies in its folder: without this, power loss can take the name
            // and every synced line with it.
            File::open(folder_of(path))?.sync_all()?;
        }
        let torn = is_torn(&mut file)?;
        Ok(Self {
            medium: Box::new(file),
            torn,
        })
    }

    fn write(&mut self, lines: &Lines, count: usize) -> Vec<Outcome> {
        let mut outcomes = vec![Outcome::TooLate; count];
        if lines.places.is_empty() {
            return outcomes;
        }
        if self.torn {
            // Cut again, it is still the end of the line before: ended anew by the next batch.
            let (written, fault) = self.write_all(b"\n");
            self.torn = written == 0;
            if let Some(fault) = fault {
                lines.tell(&mut outcomes, 0, Some((&fault, "write")));
                return outcomes;
            }
        }
        let (written, fault) = self.write_all(&lines.bytes);
        if written > 0 {
            self.torn = lines.bytes[written - 1] != b'\n';
        }
        let fault = match fault {
            None => self.medium.sync().err().map(|fault| (fault, "flush")),
            Some(fault) => Some((fault, "write")),
        };
        let fault = fault.as_ref().map(|(fault, what)| (fault, *what));
        lines.tell(&mut outcomes, written, fault);
        outcomes
    }

    /// Writes as much as the medium takes; says how much, and what stopped it.
    fn write_all(&mut self, bytes: &[u8]) -> (usize, Option<io::Error>) {
        let mut written = 0;
        while written < bytes.len() {
            match self.medium.write(&bytes[written..]) {
                Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
                Err(fault) => return (written, Some(fault)),
            }
        }
        (written, None)
    }
}

/// The lines of a batch, without those that are too late.
struct Lines {
    bytes: Vec<u8>,
    /// Of each line: its message's place in the batch, and where it begins.
    places: Vec<usize>,
    begins: Vec<usize>,
}

impl Lines {
    fn of(batch: &[Outbound], now: Timestamp) -> Self {
        let mut places: Vec<usize> = (0..batch.len()).collect();
        let late = Outbound::late(batch, &places, now);
        let mut late = late.iter().peekable();
        places.retain(|place| late.next_if_eq(&place).is_none());
        let mut bytes = Vec::with_capacity(Wire::size_of(places.iter().map(|at| &batch[*at])));
        let mut begins = Vec::with_capacity(places.len());
        let (mut wire, at) = (Wire::default(), format!("{{\"at\":\"{now}\","));
        for place in &places {
            begins.push(bytes.len());
            bytes.extend_from_slice(at.as_bytes());
            wire.push(&batch[*place], &mut bytes);
            bytes.extend_from_slice(b"}\n");
        }
        Self {
            bytes,
            places,
            begins,
        }
    }

    /// What became of each line, when so many bytes were written before `fault`, if there was one.
    fn tell(&self, outcomes: &mut [Outcome], written: usize, fault: Option<(&io::Error, &str)>) {
        for (place, begin) in self.places.iter().zip(&self.begins) {
            outcomes[*place] = match fault {
                None => Outcome::Delivered { reference: None },
                Some((fault, what)) => {
                    let why = format!("the {what} failed: {}", fault.kind());
                    match *begin < written {
                        true => Outcome::Unknown { why },
                        false => Outcome::Retry {
                            after: None,
                            whole_lane: true,
                            why,
                        },
                    }
                }
            };
        }
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Whether the last line of `file` has no end. Pipes and devices cannot be looked at: no.
fn is_torn(file: &mut File) -> io::Result<bool> {
    let about = file.metadata()?;
    if !about.is_file() || about.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests;

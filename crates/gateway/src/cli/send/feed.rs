//! Reads a file of messages line by line, a chunk at a time, and keeps a hash of all that was read.

use std::io::{self, BufRead, BufReader, Read};

/// Longest line sent, in bytes. A gateway takes less unless it is told otherwise; this bounds the
/// memory of the sender.
pub(super) const LINE_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of lines in one chunk, after which it is not filled further.
const CHUNK_BYTES: usize = 8 * 1024 * 1024;
/// Some editors begin UTF-8 files with it.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// The lines of one source.
pub(super) struct Feed {
    reader: BufReader<Box<dyn Read + Send>>,
    hasher: blake3::Hasher,
    /// Bytes read.
    pub(super) offset: u64,
    /// Lines read, blank ones included.
    pub(super) line: u64,
}

/// Lines that are sent together.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// With their numbers, from 1; none of them blank.
    pub(super) lines: Vec<(u64, Vec<u8>)>,
    /// Lines that are too long to be sent.
    pub(super) too_long: Vec<u64>,
}

impl Chunk {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.too_long.is_empty()
    }
}

impl Feed {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Self {
        let (hasher, reader) = (blake3::Hasher::new(), BufReader::new(reader));
        Self {
            reader,
            hasher,
            offset: 0,
            line: 0,
        }
    }

    /// A hash of all that was read.
    pub(super) fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// Passes over what was read before: `offset` bytes, in which there were `line` lines. Says
    /// whether there was so much.
    pub(super) fn skip(&mut self, offset: u64, line: u64) -> io::Result<bool> {
        while self.offset < offset {
            let left = usize::try_from(offset - self.offset).unwrap_or(usize::MAX);
            let taken = self.reader.fill_buf()?;
            let taken = &taken[..taken.len().min(left)];
            if taken.is_empty() {
                return Ok(false);
            }
            self.hasher.update(taken);
            let count = taken.len();
            self.reader.consume(count);
            self.offset += count as u64;
        }
        self.line = line;
        Ok(true)
    }

    /// The next lines, `max` at most; an empty chunk is the end.
    pub(super) fn chunk(&mut self, max: usize) -> io::Result<Chunk> {
        let mut chunk = Chunk::default();
        let mut bytes = 0;
        while chunk.lines.len() + chunk.too_long.len() < max && bytes < CHUNK_BYTES {
            let Some(line) = self.next_line()? else { break };
            match line {
                Some(line) if line.iter().all(u8::is_ascii_whitespace) => {}
                Some(line) => {
                    bytes += line.len();
                    chunk.lines.push((self.line, line));
                }
                None => chunk.too_long.push(self.line),
            }
        }
        Ok(chunk)
    }

    /// The next line without its end; the inner `None` is one that is too long.
    fn next_line(&mut self) -> io::Result<Option<Option<Vec<u8>>>> {
        let mut line = Vec::new();
        let room = LINE_MAX_BYTES as u64 + 2;
        if self
            .reader
            .by_ref()
            .take(room)
            .read_until(b'\n', &mut line)?
            == 0
        {
            return Ok(None);
        }
        self.took(&line);
        self.line += 1;
        let ended = line.pop_if(|byte| *byte == b'\n').is_some();
        line.pop_if(|byte| *byte == b'\r');
        if self.line == 1 && line.starts_with(BOM) {
            line.drain(..BOM.len());
        }
        if line.len() <= LINE_MAX_BYTES {
            return Ok(Some(Some(line)));
        }
        if !ended {
            self.pass_over()?;
        }
        Ok(Some(None))
    }

    fn took(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
    }

    /// Reads to the end of the line without keeping it.
    fn pass_over(&mut self) -> io::Result<()> {
        let mut piece = Vec::new();
        loop {
            piece.clear();
            let room = LINE_MAX_BYTES as u64;
            let read = self
                .reader
                .by_ref()
                .take(room)
                .read_until(b'\n', &mut piece)?;
            self.took(&piece);
            if read == 0 || piece.ends_with(b"\n") {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(text: &str) -> Feed {
        Feed::new(Box::new(io::Cursor::new(text.as_bytes().to_vec())))
    }

    fn lines(chunk: &Chunk) -> Vec<(u64, &str)> {
        let text = |line: &'_ [u8]| std::str::from_utf8(line).unwrap().to_owned().leak() as &str;
        chunk
            .lines
            .iter()
            .map(|(number, line)| (*number, text(line)))
            .collect()
    }

    #[test]
    fn lines_keep_their_numbers_over_blank_ones_and_chunks() {
        let mut feed = feed("\u{feff}a\r\n\n  \nb\nc");
        assert_eq!(lines(&feed.chunk(2).unwrap()), [(1, "a"), (4, "b")]);
        assert_eq!(lines(&feed.chunk(2).unwrap()), [(5, "c")]);
        assert!(feed.chunk(2).unwrap().is_empty());
        assert_eq!(feed.offset, 13);
    }

    #[test]
    fn a_line_too_long_costs_only_itself() {
        let text = format!("a\n{}\nb\n", "x".repeat(LINE_MAX_BYTES * 2));
        let mut feed = feed(&text);
        let chunk = feed.chunk(10).unwrap();
        assert_eq!(
            (lines(&chunk), &*chunk.too_long),
            (vec![(1, "a"), (3, "b")], &[2][..])
        );
        assert_eq!(feed.offset, text.len() as u64);
    }

    #[test]
    fn what_was_skipped_hashes_as_what_was_read() {
        let (mut read, mut skipped) = (feed("one\ntwo\nthree\n"), feed("one\ntwo\nthree\n"));
        read.chunk(2).unwrap();
        assert!(skipped.skip(read.offset, read.line).unwrap());
        assert_eq!(read.hash(), skipped.hash());
        assert_eq!(lines(&skipped.chunk(9).unwrap()), [(3, "three")]);
        assert!(
            !feed("one\n").skip(read.offset, read.line).unwrap(),
            "the file is shorter"
        );
    }
}

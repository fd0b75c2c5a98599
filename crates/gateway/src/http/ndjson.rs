//! Splits the body of a request into lines as it arrives. Memory holds one piece of the body and
//! one line at most, however long the stream. Lines are parts of the pieces they came in: only one
//! that lies across two pieces is copied.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use memchr::memchr;
use tokio::time::timeout;

/// Some editors begin UTF-8 files with it.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// What comes next in a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A line that is not blank, without its end; its number counts from 1, blank ones included.
    Line(u64, Bytes),
    /// A line that is longer than allowed; it has been passed over.
    TooLong(u64),
    /// Nothing for so long as was asked.
    Lull,
    /// The body is over.
    End,
    /// The body broke off, or nothing came for too long.
    Broken(&'static str),
}

/// A line that is at hand.
#[derive(Debug)]
pub enum Taken<'a> {
    /// A line that is not blank, without its end.
    Line {
        /// Counts from 1, blank lines included.
        number: u64,
        /// The line.
        text: &'a [u8],
        /// What it is a part of.
        buffer: &'a Bytes,
    },
    /// A line that is longer than allowed; it has been passed over.
    TooLong(u64),
}

/// What came of waiting for more.
#[derive(Debug, PartialEq, Eq)]
pub enum More {
    /// Another piece; look again whether a line is at hand.
    Piece,
    /// Nothing for so long as was asked.
    Lull,
    /// The body is over.
    End,
    /// The body broke off, or nothing came for too long.
    Broken(&'static str),
}

/// The lines of one body.
pub struct Lines {
    body: Body,
    /// The last piece of the body, of which everything before `at` is taken.
    piece: Bytes,
    at: usize,
    /// The beginning of a line whose end is still to come; it holds no line end.
    begun: Vec<u8>,
    /// The last line that lay across pieces.
    joined: Bytes,
    line: u64,
    max_bytes: usize,
    idle: Duration,
    /// Inside a line that is too long.
    skipping: bool,
    ended: bool,
}

/// A line that was found: where it lies.
enum Found {
    /// From here to there in the piece.
    Piece(usize, usize),
    /// In `joined`, from its beginning.
    Joined(usize),
}

impl Lines {
    /// The lines of `body`: each of at most `max_bytes`, its end not counted; nothing may come for
    /// `idle` at the longest.
    #[must_use]
    pub fn new(body: Body, max_bytes: usize, idle: Duration) -> Self {
        Self {
            body,
            piece: Bytes::new(),
            at: 0,
            begun: Vec::new(),
            joined: Bytes::new(),
            line: 0,
            max_bytes,
            idle,
            skipping: false,
            ended: false,
        }
    }

    /// Reads the first piece of the body, waiting no longer than `patience`. A client that said
    /// `Expect: 100-continue` is told to go on by this.
    pub async fn begin(&mut self, patience: Duration) {
        if let Ok(Ok(())) = timeout(patience, self.fill()).await
            && self.piece.starts_with(BOM)
        {
            self.at = BOM.len();
        }
    }

    /// What comes next. With a `lull`, gives up waiting after so long; nothing is lost by that.
    pub async fn next(&mut self, lull: Option<Duration>) -> Next {
        loop {
            match self.take() {
                Some(Taken::Line {
                    number,
                    text,
                    buffer,
                }) => return Next::Line(number, buffer.slice_ref(text)),
                Some(Taken::TooLong(number)) => return Next::TooLong(number),
                None => {}
            }
            match self.more(lull).await {
                More::Piece => {}
                More::Lull => return Next::Lull,
                More::End => return Next::End,
                More::Broken(why) => return Next::Broken(why),
            }
        }
    }

    /// Waits for more of the body. To be asked once no line is at hand.
    pub async fn more(&mut self, lull: Option<Duration>) -> More {
        if self.ended {
            return More::End;
        }
        let patience = lull.unwrap_or(self.idle);
        match timeout(patience, self.fill()).await {
            Ok(Ok(())) => More::Piece,
            Ok(Err(why)) => More::Broken(why),
            Err(_) if lull.is_some() => More::Lull,
            Err(_) => More::Broken("nothing came for too long"),
        }
    }

    /// Reads one more piece of the body. Losing this future loses no data: a piece is either
    /// still in the body or here.
    async fn fill(&mut self) -> Result<(), &'static str> {
        match self.body.frame().await {
            None => self.ended = true,
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    (self.piece, self.at) = (data, 0);
                }
            }
            Some(Err(_)) => return Err("the body broke off"),
        }
        Ok(())
    }

    /// The next line, if a whole one is at hand.
    pub fn take(&mut self) -> Option<Taken<'_>> {
        loop {
            let found = self.find()?;
            self.line += 1;
            let skipped = std::mem::take(&mut self.skipping);
            let (buffer, text) = match found {
                Found::Piece(from, to) => (&self.piece, from..to),
                Found::Joined(to) => (&self.joined, 0..to),
            };
            let text = &buffer[text];
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if skipped || text.len() > self.max_bytes {
                return Some(Taken::TooLong(self.line));
            }
            if !text.iter().all(u8::is_ascii_whitespace) {
                let (number, range) = (self.line, text.len());
                let (buffer, from) = match found {
                    Found::Piece(from, _) => (&self.piece, from),
                    Found::Joined(_) => (&self.joined, 0),
                };
                return Some(Taken::Line {
                    number,
                    text: &buffer[from..from + range],
                    buffer,
                });
            }
        }
    }

    /// Passes over the next whole line, if there is one, and says where it lies. What is left of
    /// the piece without a line end is kept as the beginning of a line.
    fn find(&mut self) -> Option<Found> {
        let rest = &self.piece[self.at..];
        let Some(length) = memchr(b'\n', rest) else {
            return self.find_none();
        };
        let (from, to) = (self.at, self.at + length);
        self.at = to + 1;
        if self.begun.is_empty() {
            return Some(Found::Piece(from, to));
        }
        self.begun.extend_from_slice(&self.piece[from..to]);
        Some(self.join())
    }

    fn find_none(&mut self) -> Option<Found> {
        if !self.skipping {
            self.begun.extend_from_slice(&self.piece[self.at..]);
        }
        (self.piece, self.at) = (Bytes::new(), 0);
        if self.ended && (self.skipping || !self.begun.is_empty()) {
            return Some(self.join());
        }
        // One byte more than the longest line: its carriage return.
        if self.begun.len() > self.max_bytes + 1 {
            self.skipping = true;
            self.begun = Vec::new();
        }
        None
    }

    fn join(&mut self) -> Found {
        let line = std::mem::take(&mut self.begun);
        let length = line.len();
        self.joined = line.into();
        Found::Joined(length)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use proptest::prelude::*;

    use super::*;

    const IDLE: Duration = Duration::from_secs(5);

    async fn split(pieces: Vec<Vec<u8>>, max_bytes: usize) -> Vec<Next> {
        let pieces = pieces.into_iter().map(Ok::<_, std::io::Error>);
        let body = Body::from_stream(stream::iter(pieces));
        let mut lines = Lines::new(body, max_bytes, IDLE);
        lines.begin(IDLE).await;
        let mut all = Vec::new();
        loop {
            let next = lines.next(None).await;
            if next == Next::End {
                return all;
            }
            all.push(next);
        }
    }

    fn line(number: u64, text: &'static str) -> Next {
        Next::Line(number, text.into())
    }

    #[tokio::test]
    async fn lines_keep_their_numbers_over_blank_ones_and_any_line_end() {
        let body = b"\xef\xbb\xbfa\r\n\n  \t\nb\n\r\nlast".to_vec();
        let want = vec![line(1, "a"), line(4, "b"), line(6, "last")];
        assert_eq!(split(vec![body], 100).await, want);
        assert_eq!(split(vec![], 100).await, vec![]);
    }

    #[tokio::test]
    async fn a_line_too_long_costs_only_itself() {
        let long = "x".repeat(50);
        let body = format!("1234567890\n{long}\n1234567890\r\n12345678901\nok\n{long}");
        for step in [1, 3, 7, 1000] {
            let pieces = body.as_bytes().chunks(step).map(<[u8]>::to_vec).collect();
            let want = vec![
                line(1, "1234567890"),
                Next::TooLong(2),
                line(3, "1234567890"),
                Next::TooLong(4),
                line(5, "ok"),
                Next::TooLong(6),
            ];
            assert_eq!(split(pieces, 10).await, want, "in pieces of {step}");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_says_so_and_keeps_its_last_line_to_itself() {
        let pieces = [
            Ok("whole\nhalf".to_owned()),
            Err(std::io::Error::other("cut")),
        ];
        let body = Body::from_stream(stream::iter(pieces));
        let mut lines = Lines::new(body, 100, IDLE);
        assert_eq!(lines.next(None).await, line(1, "whole"));
        assert_eq!(lines.next(None).await, Next::Broken("the body broke off"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lull_loses_nothing_and_a_long_silence_ends_the_stream() {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<String>();
        let pieces = stream::unfold(receiver, |mut receiver| async {
            let piece = receiver.recv().await?;
            Some((Ok::<_, std::io::Error>(piece), receiver))
        });
        let mut lines = Lines::new(Body::from_stream(pieces), 100, IDLE);
        let lull = Some(Duration::from_millis(5));
        sender.send("ha".to_owned()).unwrap();
        assert_eq!(lines.next(lull).await, Next::Lull);
        sender.send("lf\n".to_owned()).unwrap();
        assert_eq!(lines.next(lull).await, line(1, "half"));
        assert_eq!(
            lines.next(None).await,
            Next::Broken("nothing came for too long")
        );
    }

    proptest! {
        #[test]
        fn how_a_body_is_cut_into_pieces_means_nothing(
            body in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()],
                0..200),
            step in 1..50_usize,
            max in 1..40_usize,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.unwrap();
            let whole = runtime.block_on(split(vec![body.clone()], max));
            // A mark of byte order is looked for in the first piece only.
            prop_assume!(!body.starts_with(b"\xef"));
            let pieces = body.chunks(step).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(runtime.block_on(split(pieces, max)), whole);
        }
    }
}

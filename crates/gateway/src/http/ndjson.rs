//! Splits the body of a request into lines as it arrives. Memory holds one line and one piece of
//! the body at most, however long the stream.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::timeout;

/// Some editors begin UTF-8 files with it.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// What comes next in a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
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

/// The lines of one body.
pub(super) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// So much of the buffer holds no line end.
    scanned: usize,
    line: u64,
    max_bytes: usize,
    idle: Duration,
    /// Inside a line that is too long.
    skipping: bool,
    ended: bool,
}

impl Lines {
    pub(super) fn new(body: Body, max_bytes: usize, idle: Duration) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            scanned: 0,
            line: 0,
            max_bytes,
            idle,
            skipping: false,
            ended: false,
        }
    }

    /// Reads the first piece of the body, waiting no longer than `patience`. A client that said
    /// `Expect: 100-continue` is told to go on by this.
    pub(super) async fn begin(&mut self, patience: Duration) {
        if let Ok(Ok(())) = timeout(patience, self.fill()).await
            && self.buffer.starts_with(BOM)
        {
            self.buffer = self.buffer.split_off(BOM.len());
        }
    }

    /// What comes next. With a `lull`, gives up waiting after so long; nothing is lost by that.
    pub(super) async fn next(&mut self, lull: Option<Duration>) -> Next {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            if self.ended {
                return Next::End;
            }
            let patience = lull.unwrap_or(self.idle);
            match timeout(patience, self.fill()).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => return Next::Broken(why),
                Err(_) if lull.is_some() => return Next::Lull,
                Err(_) => return Next::Broken("nothing came for too long"),
            }
        }
    }

    /// Reads one more piece of the body. Losing this future loses no data: a piece is either
    /// still in the body or in the buffer.
    async fn fill(&mut self) -> Result<(), &'static str> {
        match self.body.frame().await {
            None => self.ended = true,
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
            }
            Some(Err(_)) => return Err("the body broke off"),
        }
        Ok(())
    }

    /// The next line out of the buffer, if it holds a whole one.
    fn take(&mut self) -> Option<Next> {
        loop {
            let fresh = &self.buffer[self.scanned..];
            let line = if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(self.scanned + at + 1);
                line.truncate(line.len() - 1);
                line
            } else if self.ended && (self.skipping || !self.buffer.is_empty()) {
                self.buffer.split()
            } else {
                // One byte more than the longest line: its carriage return.
                if self.buffer.len() > self.max_bytes + 1 {
                    self.skipping = true;
                }
                if self.skipping {
                    self.buffer.clear();
                }
                self.scanned = self.buffer.len();
                return None;
            };
            self.scanned = 0;
            self.line += 1;
            let skipped = std::mem::take(&mut self.skipping);
            let line = line.freeze();
            let line = match line.strip_suffix(b"\r") {
                Some(stripped) => line.slice_ref(stripped),
                None => line,
            };
            if skipped || line.len() > self.max_bytes {
                return Some(Next::TooLong(self.line));
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(Next::Line(self.line, line));
            }
        }
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

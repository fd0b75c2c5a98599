//! Receipts as JSON lines on an output: CloudWatch Logs, a Firehose, a log shipper. They can be
//! read there and not here.
//!
//! The output is a log, so recipients are masked; the message's id leads to the rest. What is
//! written has been handed to the system and not to a disk: after a crash nobody here knows how far
//! a message came.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use nightgate_core::MessageId;
use serde::Serialize;

use super::export::ReceiptLine;
use super::{Filed, Receipt, ReceiptAsk, ReceiptLog};
use crate::error::{Error, Kind, Result};

/// The log. A line is `{"receipt": {…}}`, with the fields of an export; `seq` counts the lines of
/// this process.
pub struct LinesLog {
    out: Mutex<Box<dyn Write + Send>>,
    lines: AtomicU64,
}

#[derive(Serialize)]
struct Line {
    receipt: ReceiptLine,
}

impl LinesLog {
    /// Receipts to `out`.
    #[must_use]
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self {
            out: Mutex::new(Box::new(out)),
            lines: AtomicU64::new(0),
        }
    }
}

/// Adds `receipts` to `text`, one line each, from place `seq` on.
pub(super) fn write_lines(
    receipts: Vec<Receipt>,
    seq: u64,
    reveal: bool,
    mut each: impl FnMut(&[u8]),
) -> Result<()> {
    let mut text = Vec::new();
    for (receipt, seq) in receipts.into_iter().zip(seq..) {
        let receipt = ReceiptLine::new(Filed { seq, receipt }, reveal);
        text.clear();
        serde_json::to_writer(&mut text, &Line { receipt })
            .map_err(|error| Error::new(Kind::Invalid, "receipt", "write a receipt").with(error))?;
        text.push(b'\n');
        each(&text);
    }
    Ok(())
}

/// What receipts that went elsewhere cannot tell.
pub(super) fn elsewhere<T>(what: &str) -> Result<T> {
    let op = format!("{what}: receipts went elsewhere (`receipts.store`); look for them there");
    Err(Error::new(Kind::Unsupported, "receipt", op))
}

#[async_trait]
impl ReceiptLog for LinesLog {
    async fn append(&self, receipts: Vec<Receipt>) -> Result<()> {
        let seq = 1 + self
            .lines
            .fetch_add(receipts.len() as u64, Ordering::Relaxed);
        let mut all = Vec::new();
        write_lines(receipts, seq, false, |line| all.extend_from_slice(line))?;
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let written = out.write_all(&all).and_then(|()| out.flush());
        written.map_err(|error| Error::new(Kind::Unavailable, "receipt", "write").with(error))
    }

    async fn query(&self, _: &ReceiptAsk) -> Result<Vec<Filed>> {
        elsewhere("read receipts")
    }

    /// Nobody here can tell, so the receipt of a message that was put twice is filed twice: rather
    /// that than never.
    async fn known(&self, ids: &[MessageId]) -> Result<Vec<bool>> {
        Ok(vec![false; ids.len()])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::receipt;
    use super::*;
    use crate::receipt::Event;

    /// An output that keeps what it is given.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn each_receipt_is_one_line_without_the_recipient_in_clear() {
        let kept = Kept::default();
        let log = LinesLog::new(kept.clone());
        log.append(vec![
            receipt("m-1", Event::Held, 1),
            receipt("m-2", Event::Refused, 2),
        ])
        .await
        .unwrap();
        log.append(vec![receipt("m-3", Event::Delivered, 3)])
            .await
            .unwrap();
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("12345678"), "{text}");
        let line = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let lines: Vec<_> = text.lines().map(line).collect();
        let told = |place: usize, field| lines[place]["receipt"][field].clone();
        assert_eq!(lines.len(), 3);
        assert_eq!(told(0, "message"), "m-1");
        assert_eq!(told(1, "event"), "refused");
        assert_eq!(
            (told(2, "message"), told(2, "seq")),
            ("m-3".into(), 3.into())
        );
    }

    #[tokio::test]
    async fn what_went_elsewhere_cannot_be_asked_for_here() {
        let log = LinesLog::new(Kept::default());
        let fault = log.query(&ReceiptAsk::default()).await.unwrap_err();
        assert_eq!(fault.kind, Kind::Unsupported);
        assert!(fault.to_string().contains("receipts.store"), "{fault}");
        let id = MessageId::new("m-1").unwrap();
        assert_eq!(log.known(&[id]).await.unwrap(), [false]);
    }
}

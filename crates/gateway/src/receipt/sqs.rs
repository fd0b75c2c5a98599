//! Receipts as JSON lines in a queue: each of its messages is as many lines as fit, in the shape
//! that a Firehose, a Lambda or a warehouse loader takes.
//!
//! A receipt counts as filed once SQS has taken it. When the answer was lost it is sent again, so a
//! line may come twice, and never not at all; recipients are in clear, as in an export for proof.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use nightgate_core::MessageId;

use super::lines::{elsewhere, write_lines};
use super::{Filed, Receipt, ReceiptAsk, ReceiptLog};
use crate::aws::queues::{BATCH_MAX, BYTES_MAX, FaultKind, Outgoing, Queue, Queues};
use crate::clock::{Clock, pass};
use crate::error::{Error, Kind, Result};

/// Most bytes of lines in one message: a request of ten such messages is full.
const MESSAGE_BYTES_MAX: usize = BYTES_MAX / BATCH_MAX;
/// Requests under way at once.
const REQUESTS_MAX: usize = 8;
/// How often a message that was not taken is sent again.
const AGAIN_MAX: u32 = 4;
/// Pause before the first of these; it doubles.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The log.
pub struct SqsLog {
    queues: Arc<dyn Queues>,
    queue: Queue,
    clock: Arc<dyn Clock>,
    lines: AtomicU64,
}

impl SqsLog {
    /// Receipts into `queue`.
    #[must_use]
    pub fn new(queues: Arc<dyn Queues>, queue: Queue, clock: Arc<dyn Clock>) -> Self {
        Self {
            queues,
            queue,
            clock,
            lines: AtomicU64::new(0),
        }
    }

    /// Sends up to [`BATCH_MAX`] messages, those not taken again.
    async fn send(&self, mut messages: Vec<Outgoing>) -> Result<()> {
        let mut again = 0;
        loop {
            let answers = self.queues.send(&self.queue, messages.clone()).await;
            let mut fault = None;
            let mut left = Vec::new();
            for (message, answer) in messages.into_iter().zip(answers) {
                if let Err(why) = answer {
                    left.push(message);
                    fault = Some(why);
                }
            }
            let Some(fault) = fault else {
                return Ok(());
            };
            let hopeless = matches!(fault.kind, FaultKind::Denied | FaultKind::Rejected);
            if hopeless || again == AGAIN_MAX {
                let op = format!("send {} messages of receipts to {}", left.len(), self.queue);
                return Err(Error::new(Kind::Unavailable, "receipt", op).with(fault));
            }
            pass(&*self.clock, AGAIN_AFTER * 2_u32.pow(again)).await;
            (messages, again) = (left, again + 1);
        }
    }
}

/// Lines, as many in a message as fit. A FIFO queue takes all in one order.
fn pack(receipts: Vec<Receipt>, seq: u64, queue: &Queue) -> Result<Vec<Outgoing>> {
    let mut messages: Vec<Outgoing> = Vec::new();
    write_lines(receipts, seq, true, |line| {
        let line = String::from_utf8_lossy(line);
        match messages.last_mut() {
            Some(last) if last.body.len() + line.len() <= MESSAGE_BYTES_MAX => {
                last.body.push_str(&line);
            }
            _ => messages.push(Outgoing {
                body: line.into_owned(),
                group: queue.is_fifo().then(|| "receipts".to_owned()),
                ..Outgoing::default()
            }),
        }
    })?;
    if queue.is_fifo() {
        for message in &mut messages {
            message.deduplication = Some(blake3::hash(message.body.as_bytes()).to_string());
        }
    }
    Ok(messages)
}

#[async_trait]
impl ReceiptLog for SqsLog {
    async fn append(&self, receipts: Vec<Receipt>) -> Result<()> {
        let seq = 1 + self
            .lines
            .fetch_add(receipts.len() as u64, Ordering::Relaxed);
        let messages = pack(receipts, seq, &self.queue)?;
        let requests: Vec<Vec<Outgoing>> = messages.chunks(BATCH_MAX).map(<[_]>::to_vec).collect();
        let abreast = if self.queue.is_fifo() {
            1
        } else {
            REQUESTS_MAX
        };
        let sent = stream::iter(requests.into_iter().map(|messages| self.send(messages)));
        sent.buffer_unordered(abreast).try_collect().await
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
mod tests;

//! A sink that sends messages to an SQS queue, for whoever takes them from there.

mod hand;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream;

use self::hand::{Hand, Step};
use crate::aws::queues::{Answer, FaultKind, Queue, Queues};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::sink::{Outbound, Outcome, Sink};

/// Most messages in one call, unless configured: fifty requests, few enough that the last of them
/// are not long behind their decision.
pub const BATCH_MAX_DEFAULT: usize = 500;
/// Most messages in one call that can be configured.
pub const BATCH_MAX_LIMIT: usize = 5_000;
/// Requests of one call under way at the same time, unless configured.
pub const REQUESTS_DEFAULT: usize = 16;
/// Most requests of one call under way at the same time that can be configured.
pub const REQUESTS_LIMIT: usize = 256;

/// Where messages go, and how many at once.
#[derive(Clone, Debug)]
pub struct SqsSinkOptions {
    /// The queue.
    pub queue: Queue,
    /// Most messages in one call, 1 to [`BATCH_MAX_LIMIT`].
    pub batch_max: usize,
    /// Requests of one call under way at the same time, 1 to [`REQUESTS_LIMIT`].
    pub requests: usize,
}

impl SqsSinkOptions {
    /// To `queue`, with the defaults above.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self {
            queue,
            batch_max: BATCH_MAX_DEFAULT,
            requests: REQUESTS_DEFAULT,
        }
    }
}

/// Sends to a queue in requests of up to ten messages and 1 MiB, many at the same time.
///
/// A message goes as [`crate::aws::travel::leave`] says: body byte for byte, attributes as they
/// came, and as far as there is room `nightgate-id` and `nightgate-not-after`. Recipient, channel
/// and purpose are not added: whoever reads the queue knows them from body and attributes, as
/// before. What SQS forbids (over ten attributes, over 1 MiB) is `Rejected` and named.
///
/// | what happened | outcome | because |
/// |---|---|---|
/// | permit or loan ended before the request | `TooLate` | asked for each request, last of all |
/// | SQS took it | `Delivered`, with its id | |
/// | turned down for what is in it | `Rejected` | it costs only itself |
/// | all of a request turned down | sent again in halves | one bad message must be found |
/// | too many requests or bytes a second | `Retry`, whole lane | all would fare the same |
/// | no such queue, no right to it | `Retry`, whole lane | a person must look; nothing is lost |
/// | a whole request not carried out | `Retry`, whole lane | not reached, or a server's fault |
/// | some of a request not carried out | `Retry` | a server's fault with these |
/// | no answer, torn answer, left out of it | `Unknown` | SQS may have taken it |
///
/// Once the whole lane must wait, requests that have not begun are told the same.
///
/// A FIFO queue keeps the order of each group: that of the producer, else the campaign, else the
/// recipient, hashed. Of one group only one request is under way. Behind a message that must wait
/// or whose outcome is unknown nothing of its group leaves in this call: what comes behind it in
/// the same request is up to SQS, the rest is told to retry with the whole lane. The deduplication
/// id is the message's id, the same whenever it goes again; not the producer's, because two of his
/// messages of one id, sent an hour apart, may be released within the five minutes in which SQS
/// drops the second.
pub struct SqsSink {
    queues: Arc<dyn Queues>,
    options: SqsSinkOptions,
    clock: Arc<dyn Clock>,
}

impl SqsSink {
    /// Checks `options`. Nothing is sent yet.
    ///
    /// # Errors
    /// `Invalid`, with what to set instead.
    pub fn new(
        queues: Arc<dyn Queues>,
        options: SqsSinkOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let invalid = |what: String| Err(Error::new(Kind::Invalid, "sink", what));
        if !(1..=BATCH_MAX_LIMIT).contains(&options.batch_max) {
            let what = format!("use `batch_max`: set it to 1 to {BATCH_MAX_LIMIT}");
            return invalid(what);
        }
        if !(1..=REQUESTS_LIMIT).contains(&options.requests) {
            return invalid(format!("use `requests`: set it to 1 to {REQUESTS_LIMIT}"));
        }
        Ok(Self {
            queues,
            options,
            clock,
        })
    }

    /// Sends the messages at `places`, in order and one request at a time.
    async fn send(&self, hand: &Hand<'_>, places: Vec<usize>) {
        let mut runs = vec![places];
        while let Some(mut run) = runs.pop() {
            hand.withhold(&mut run);
            let rest = hand.split(&mut run);
            if !rest.is_empty() {
                runs.push(rest);
            }
            if run.is_empty() {
                continue;
            }
            let messages = hand.messages(&run);
            let late = Outbound::late(hand.batch, &run, self.clock.now());
            if !late.is_empty() {
                // The others are asked again, with the messages that stand next to them now.
                hand.too_late(&late);
                runs.push(run);
                continue;
            }
            let answers = self.queues.send(&self.options.queue, messages).await;
            match hand.read(&run, answers) {
                Step::Done => {}
                Step::Halve => {
                    let second = run.split_off(run.len() / 2);
                    runs.extend([second, run]);
                }
            }
        }
    }
}

#[async_trait]
impl Sink for SqsSink {
    fn name(&self) -> &'static str {
        "sqs"
    }

    fn batch_max(&self) -> usize {
        self.options.batch_max
    }

    async fn deliver(&self, batch: Vec<Outbound>) -> Vec<Outcome> {
        let hand = Hand::new(&batch, &self.options.queue);
        let strands = hand.strands(self.options.requests);
        let sends = strands.into_iter().map(|places| self.send(&hand, places));
        let sends: Vec<_> = sends.collect();
        let mut sends = stream::iter(sends).buffer_unordered(self.options.requests);
        while sends.next().await.is_some() {}
        drop(sends);
        hand.outcomes()
    }
}

impl fmt::Debug for SqsSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqsSink")
            .field("queue", &self.options.queue)
            .finish_non_exhaustive()
    }
}

/// What one answer of a request means, if not all of it was turned down.
fn outcome(answer: Answer<String>, whole_request: bool) -> Outcome {
    let fault = match answer {
        Ok(id) => {
            let reference = Some(id);
            return Outcome::Delivered { reference };
        }
        Err(fault) => fault,
    };
    let why = fault.why;
    let retry = |whole_lane| Outcome::Retry {
        after: None,
        whole_lane,
        why: why.clone(),
    };
    match fault.kind {
        FaultKind::Throttled | FaultKind::Denied => retry(true),
        FaultKind::Unavailable => retry(whole_request),
        FaultKind::Rejected => Outcome::Rejected { why },
        FaultKind::Unknown => Outcome::Unknown { why },
    }
}

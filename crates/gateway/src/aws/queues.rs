//! Queues as SQS has them. The seam between Nightgate and the AWS SDK, so that tests can put a
//! queue that fails in the place of a real one.
//!
//! Each call is one request to SQS; whoever calls keeps to its limits (see [`super::batch`]).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

/// Most messages in one request (SendMessageBatch, ReceiveMessage, DeleteMessageBatch).
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-quotas.html>
pub const BATCH_MAX: usize = 10;
/// Most bytes of one message, and of all messages of one request: bodies, and attributes with their
/// names and types. 1 MiB since 2025.
pub const BYTES_MAX: usize = 1024 * 1024;
/// Most attributes on one message.
pub const ATTRIBUTES_MAX: usize = 10;
/// The longest delay of a message that is sent: 15 minutes.
pub const DELAY_MAX: Duration = Duration::from_secs(900);
/// The longest a received message can be hidden, counted from when it was received: 12 hours.
pub const HIDE_MAX: Duration = Duration::from_secs(12 * 3600);
/// The longest a receive waits for a message: 20 seconds.
pub const WAIT_MAX: Duration = Duration::from_secs(20);
/// Most messages of one queue that may be received and not yet deleted.
pub const IN_FLIGHT_MAX: u64 = 120_000;
/// The longest a queue keeps a message: 14 days.
pub const RETENTION_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// A queue by its address (`QueueUrl`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Queue(Arc<str>);

impl Queue {
    /// The queue at `url`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self(url.into())
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0
    }

    /// Its name: the last part of the address.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it keeps the order of each group: its name ends in `.fifo`.
    #[must_use]
    pub fn is_fifo(&self) -> bool {
        self.0.ends_with(".fifo")
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The value of a message attribute.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Of type String or Number.
    Text(String),
    /// Of type Binary.
    Bytes(Vec<u8>),
}

/// A message attribute.
#[derive(Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// `String`, `Number` or `Binary`, and perhaps a label after a dot: `Number.float`.
    pub kind: String,
    /// Its value.
    pub value: Value,
}

impl Attribute {
    /// A plain text.
    #[must_use]
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: "String".to_owned(),
            value: Value::Text(value.into()),
        }
    }

    /// Its share of [`BYTES_MAX`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        let value = match &self.value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
        };
        self.name.len() + self.kind.len() + value
    }
}

/// Shows no value: it may be personal.
impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.kind)
    }
}

/// A message to send. `Debug` shows no body.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Unicode without control characters other than tab, line feed and carriage return; not empty.
    pub body: String,
    /// At most [`ATTRIBUTES_MAX`].
    pub attributes: Vec<Attribute>,
    /// `MessageGroupId`: needed by a FIFO queue, and allowed on others (fair queues).
    pub group: Option<String>,
    /// `MessageDeduplicationId`: of FIFO queues alone; the same within five minutes is sent once.
    pub deduplication: Option<String>,
    /// The system attribute `AWSTraceHeader`.
    pub trace: Option<String>,
    /// Not to be received for so long, whole seconds up to [`DELAY_MAX`]. Not on FIFO queues.
    pub delay: Duration,
}

impl Outgoing {
    /// Its share of [`BYTES_MAX`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.body.len() + self.attributes.iter().map(Attribute::bytes).sum::<usize>()
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("body_bytes", &self.body.len())
            .field("attributes", &self.attributes)
            .field("delay", &self.delay)
            .finish_non_exhaustive()
    }
}

/// A message that was received. `Debug` shows no body.
#[derive(Clone, PartialEq, Eq)]
pub struct Incoming {
    /// The id that SQS gave it.
    pub id: String,
    /// What it is deleted and hidden by; another at each receive.
    pub handle: String,
    /// Its body.
    pub body: String,
    /// Its attributes, by name.
    pub attributes: Vec<Attribute>,
    /// `MessageGroupId`.
    pub group: Option<String>,
    /// `MessageDeduplicationId`.
    pub deduplication: Option<String>,
    /// `AWSTraceHeader`.
    pub trace: Option<String>,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// When it was first received.
    pub first_received_at: Timestamp,
    /// How often it was received, this time included. Approximate.
    pub receives: u32,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("id", &self.id)
            .field("body_bytes", &self.body.len())
            .field("attributes", &self.attributes)
            .field("receives", &self.receives)
            .finish_non_exhaustive()
    }
}

/// What to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// 1 to [`BATCH_MAX`] messages.
    pub max: usize,
    /// Hidden from others for so long, whole seconds up to [`HIDE_MAX`].
    pub hide: Duration,
    /// How long to wait for the first, whole seconds up to [`WAIT_MAX`]. At zero the answer may be
    /// empty although messages remain: only some of the servers are asked.
    pub wait: Duration,
}

/// What a queue tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Messages that can be received. Approximate, as all counts.
    pub visible: u64,
    /// Messages received and not yet deleted.
    pub in_flight: u64,
    /// Messages sent with a delay that still runs.
    pub delayed: u64,
    /// How long the queue keeps a message.
    pub retention: Duration,
    /// How long a received message is hidden unless asked otherwise.
    pub hide: Duration,
    /// After so many receives SQS itself moves a message to a dead-letter queue, if it does.
    pub receives_max: Option<u32>,
    /// Most bytes of a message.
    pub bytes_max: usize,
}

/// What the caller can do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Too many requests, or too many in flight: slower, then again. Nothing was done.
    Throttled,
    /// Not reached, or a server's fault: again later. Nothing was done.
    Unavailable,
    /// No answer, or a torn one, after the request was on its way: it may have been carried out.
    Unknown,
    /// This message, or this handle, is wrong and will be wrong again.
    Rejected,
    /// The queue is not there, or we may not use it: a person must look.
    Denied,
}

/// Why a request, or one entry of it, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What to do about it.
    pub kind: FaultKind,
    /// What AWS said: its code and text. Holds no body and no credentials.
    pub why: String,
}

impl Fault {
    /// A fault of this kind.
    pub fn new(kind: FaultKind, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { kind, why }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Fault {}

/// An answer, or why there is none.
pub type Answer<T> = std::result::Result<T, Fault>;

/// The queues of one account and region.
#[async_trait]
pub trait Queues: Send + Sync {
    /// The queue called `name`; `None` if there is none.
    async fn find(&self, name: &str) -> Answer<Option<Queue>>;

    /// Sends up to [`BATCH_MAX`] messages, [`BYTES_MAX`] in all. One answer each, in order: the id
    /// that SQS gave it, or why it was not sent. Never tried again by itself: what failed with
    /// [`FaultKind::Unknown`] may have been sent.
    async fn send(&self, queue: &Queue, messages: Vec<Outgoing>) -> Vec<Answer<String>>;

    /// Receives messages and hides them from others.
    async fn receive(&self, queue: &Queue, ask: &Ask) -> Answer<Vec<Incoming>>;

    /// Deletes up to [`BATCH_MAX`] received messages by their handles; one answer each, in order.
    /// Deleting twice is no fault.
    async fn delete(&self, queue: &Queue, handles: &[String]) -> Vec<Answer<()>>;

    /// Hides up to [`BATCH_MAX`] received messages from now on for so long (whole seconds); zero
    /// makes them visible at once. One answer each, in order.
    async fn hide(&self, queue: &Queue, handles: &[(String, Duration)]) -> Vec<Answer<()>>;

    /// What the queue tells of itself.
    async fn look(&self, queue: &Queue) -> Answer<Look>;

    /// The queue's tags.
    async fn tags(&self, queue: &Queue) -> Answer<BTreeMap<String, String>>;

    /// Sets (`Some`) or removes one tag.
    async fn tag(&self, queue: &Queue, key: &str, value: Option<&str>) -> Answer<()>;
}

/// Whole seconds, as SQS counts them, rounded up.
#[must_use]
pub fn whole(duration: Duration) -> Duration {
    let more = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(more))
}

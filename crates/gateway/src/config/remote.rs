//! The resolved sections of what lies beyond this machine: queues, tables, services.

pub(super) mod read;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil;
use jiff::tz::TimeZone;

use crate::secret::Secret;

/// `[aws]`.
#[derive(Clone, Debug, Default)]
pub struct AwsConfig {
    /// Region; `None`: as the environment or the profile says.
    pub region: Option<String>,
    /// Another server than AWS.
    pub endpoint: Option<String>,
}

/// `[dynamodb]`.
#[derive(Clone, Debug)]
pub struct DynamoConfig {
    /// The table's name.
    pub table: String,
}

/// An opening with a wait queue of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The time of day.
    pub at: civil::Time,
    /// Where.
    pub zone: TimeZone,
}

impl Opening {
    /// Reads `08:00[Asia/Seoul]`.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rule = || format!("must be times such as \"08:00[Asia/Seoul]\", has \"{text}\"");
        let (time, zone) = text.split_once('[').ok_or_else(rule)?;
        let zone = zone.strip_suffix(']').ok_or_else(rule)?;
        Ok(Self {
            at: time.parse().map_err(|_| rule())?,
            zone: TimeZone::get(zone).map_err(|_| rule())?,
        })
    }
}

/// Where recalls are noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recalls {
    /// Nowhere: a recall is refused.
    #[default]
    None,
    /// In the table of `[dynamodb]`.
    DynamoDb,
}

/// Where hand-overs are claimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClaimStore {
    /// Nowhere: what may have gone is told by the receipts, and copies are not told apart.
    #[default]
    None,
    /// In the table of `[dynamodb]`.
    DynamoDb,
}

/// `[hold.sqs]`.
#[derive(Clone, Debug)]
pub struct SqsHoldConfig {
    /// What the names of its queues begin with.
    pub prefix: String,
    /// Openings with a wait queue of their own.
    pub openings: Vec<Opening>,
    /// How often a wait queue is asked when nothing in it was due.
    pub probe_every: Duration,
    /// Requests under way at once, for each lane.
    pub pollers: usize,
    /// Where recalls are noted.
    pub recalls: Recalls,
    /// Where hand-overs are claimed.
    pub attempts: ClaimStore,
}

/// Where consents live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsentStore {
    /// In `data.dir`, or in memory as the messages are.
    #[default]
    Embedded,
    /// In `[redis]`.
    Redis,
    /// In `[mongodb]`.
    MongoDb,
    /// In the table of `[dynamodb]`.
    DynamoDb,
    /// Asked of a service.
    Http,
}

/// `[consent.http]`.
#[derive(Clone, Debug)]
pub struct ConsentHttpConfig {
    /// `https`, or `http` on loopback.
    pub url: reqwest::Url,
    /// Bearer token.
    pub token: Option<Secret>,
    /// Longest time for one answer.
    pub timeout: Duration,
    /// How long an answer is believed.
    pub cache_for: Duration,
    /// Most recipients in one question.
    pub batch_max: usize,
}

/// Where gateways and functions agree who tells of an alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlarmsShared {
    /// Nowhere: each tells its own.
    #[default]
    None,
    /// In `[redis]`.
    Redis,
    /// In `[mongodb]`.
    MongoDb,
    /// In the table of `[dynamodb]`.
    DynamoDb,
}

/// Where receipts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiptStore {
    /// Into `data.dir`, or into memory as the messages.
    Embedded,
    /// Into `[redis]`.
    Redis,
    /// Into `[mongodb]`.
    MongoDb,
    /// To standard output, one JSON line each.
    Lines,
    /// To the queue with this name or address.
    Sqs(String),
}

/// `[receipts]`.
#[derive(Clone, Debug)]
pub struct ReceiptsConfig {
    /// Where they go.
    pub store: ReceiptStore,
}

/// `[source.NAME]`.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Its name.
    pub name: String,
    /// Name or address of its queue.
    pub queue: String,
    /// Name or address of the queue for what cannot be mapped.
    pub dead_letter: Option<String>,
    /// Receives under way at once.
    pub pollers: usize,
    /// How long a received message is hidden from others.
    pub hide: Duration,
    /// Where each field comes from; checked when the source is made.
    pub map: BTreeMap<String, String>,
}

/// `[lambda]`.
#[derive(Clone, Debug)]
pub struct LambdaConfig {
    /// So long before its deadline a function ends its work.
    pub margin: Duration,
    /// Whether a function releases what it has just taken in.
    pub release_on_receive: bool,
}

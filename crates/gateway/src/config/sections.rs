//! The resolved sections: plain data that every part may read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use nightgate_core::{Channel, House, Language, Purpose};
use tracing::level_filters::LevelFilter;

use super::engines::{MongoConfig, RedisConfig};
use super::remote::{
    AlarmsShared, AwsConfig, ConsentHttpConfig, ConsentStore, DynamoConfig, LambdaConfig,
    ReceiptStore, ReceiptsConfig, SourceConfig, SqsHoldConfig,
};
use crate::secret::Secret;

/// Every setting, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[house]`: the sender's own country and clock.
    pub house: House,
    /// `[data]`.
    pub data: DataConfig,
    /// `[hold]`.
    pub hold: HoldConfig,
    /// `[rules]`.
    pub rules: RulesConfig,
    /// `[consent]`.
    pub consent: ConsentConfig,
    /// `[receipts]`.
    pub receipts: ReceiptsConfig,
    /// `[redis]`.
    pub redis: RedisConfig,
    /// `[mongodb]`.
    pub mongodb: MongoConfig,
    /// `[dynamodb]`.
    pub dynamodb: DynamoConfig,
    /// `[aws]`.
    pub aws: AwsConfig,
    /// `[http]`.
    pub http: HttpConfig,
    /// `[clock]`.
    pub clock: ClockConfig,
    /// `[release]`.
    pub release: ReleaseConfig,
    /// `[lane.NAME]`, by name. No two carry the same purpose by the same channel; see
    /// [`Config::lane_of`].
    pub lanes: Vec<LaneConfig>,
    /// `[source.NAME]`, by name.
    pub sources: Vec<SourceConfig>,
    /// `[lambda]`.
    pub lambda: LambdaConfig,
    /// `[alerts]`.
    pub alerts: AlertsConfig,
    /// `[log]`.
    pub log: LogConfig,
}

/// `[data]`.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// Directory of everything that must outlive a restart.
    pub dir: PathBuf,
}

/// Where held messages live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldKind {
    /// In a directory of its own in `data.dir`.
    Shelf,
    /// In a file in `data.dir`.
    Sqlite,
    /// In `[redis]`.
    Redis,
    /// In `[mongodb]`.
    MongoDb,
    /// In queues of SQS.
    Sqs,
    /// Nowhere: gone at exit.
    Memory,
}

impl Default for HoldKind {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl HoldKind {
    /// Every store, the usual ones first.
    pub const ALL: [Self; 6] = [
        Self::Shelf,
        Self::Sqlite,
        Self::Redis,
        Self::MongoDb,
        Self::Sqs,
        Self::Memory,
    ];
    /// The store that the default file names: `the_default_file_names_the_default_store`.
    pub const DEFAULT: Self = Self::Shelf;

    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shelf => "shelf",
            Self::Sqlite => "sqlite",
            Self::Redis => "redis",
            Self::MongoDb => "mongodb",
            Self::Sqs => "sqs",
            Self::Memory => "memory",
        }
    }

    /// Whether it keeps its messages in `data.dir`.
    #[must_use]
    pub const fn is_on_disk(self) -> bool {
        matches!(self, Self::Shelf | Self::Sqlite)
    }
}

/// `[hold]`.
#[derive(Clone, Debug)]
pub struct HoldConfig {
    /// Where held messages live.
    pub store: HoldKind,
    /// How long an id is known after its message is done.
    pub keep_ids: SignedDuration,
    /// Most bytes held, if there is a bound.
    pub max_bytes: Option<u64>,
    /// Most messages on one shelf, if there is a bound.
    pub shelf_max: Option<u64>,
    /// Bytes of the disk that stay free.
    pub keep_free: u64,
    /// `[hold.sqs]`.
    pub sqs: SqsHoldConfig,
}

/// `[rules]`.
#[derive(Clone, Debug)]
pub struct RulesConfig {
    /// Names of packs that come with the binary.
    pub builtin: Vec<String>,
    /// Paths of further packs.
    pub packs: Vec<PathBuf>,
}

/// How long a consent stands unconfirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsentValidity {
    /// As the law in the pack says.
    #[default]
    Pack,
    /// For ever.
    Off,
    /// So many years.
    Years(u8),
}

/// `[consent]`.
#[derive(Clone, Debug)]
pub struct ConsentConfig {
    /// Where consents live.
    pub store: ConsentStore,
    /// `[consent.http]`, if consents are asked for there.
    pub http: Option<ConsentHttpConfig>,
    /// How long a consent stands unconfirmed.
    pub validity: ConsentValidity,
}

/// `[http]`.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Token of those who hand messages in. All three `None`: none asked; this alone: nobody has
    /// the role.
    pub producer_token: Option<Secret>,
    /// Token of those who pause, kick and recall; `None` as above.
    pub operator_token: Option<Secret>,
    /// Token of those who only look; `None` as above.
    pub reader_token: Option<Secret>,
    /// Largest body that is not a bulk stream, in bytes.
    pub body_max_bytes: usize,
    /// Longest line of a bulk stream, in bytes.
    pub bulk_line_max_bytes: usize,
    /// Largest head of a request, in bytes.
    pub header_max_bytes: usize,
    /// Most messages in one JSON array.
    pub batch_max: usize,
    /// Most connections open at once.
    pub connections_max: usize,
    /// Longest time for a request that is not a bulk stream.
    pub request_timeout: Duration,
    /// Longest silence within a bulk stream.
    pub bulk_idle_timeout: Duration,
    /// How long a stopping process waits for what is under way.
    pub shutdown_grace: Duration,
}

/// `[clock]`.
#[derive(Clone, Debug)]
pub struct ClockConfig {
    /// Largest step of the wall clock that is no alarm.
    pub jump_tolerance: SignedDuration,
    /// How long release stands still after a larger one.
    pub freeze: SignedDuration,
}

/// `[release]`.
#[derive(Clone, Debug)]
pub struct ReleaseConfig {
    /// How long a message is lent to a releaser.
    pub lease_ttl: SignedDuration,
    /// Most messages per lane and tick.
    pub tick_max: usize,
    /// How often upkeep runs.
    pub sweep_every: SignedDuration,
}

/// What becomes of a message that may have gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnknown {
    /// Put aside until a person looks: at most once.
    #[default]
    Bury,
    /// Handed over again: at least once.
    Retry,
}

/// `[lane.NAME]`.
#[derive(Clone, Debug)]
pub struct LaneConfig {
    /// Its name.
    pub name: String,
    /// Where messages go.
    pub sink: SinkConfig,
    /// The channels it carries.
    pub channels: Vec<Channel>,
    /// Whether it carries them by name, which goes before `["*"]`.
    pub names_channels: bool,
    /// The purposes it carries.
    pub purposes: Vec<Purpose>,
    /// Messages per second; 0 = unlimited.
    pub rate: u32,
    /// Messages that may leave at once after a lull.
    pub burst: u32,
    /// How long the rate rises after an opening; zero = off.
    pub slow_start: SignedDuration,
    /// Share of the rate at which it begins to rise, above 0 to 1.
    pub slow_start_from: f64,
    /// Batches handed over at once.
    pub in_flight: usize,
    /// Messages per batch; 0 = as many as the sink takes.
    pub batch_max: usize,
    /// Hand-overs tried before a message is buried.
    pub attempts_max: u32,
    /// Wait after the first failed hand-over.
    pub backoff_min: SignedDuration,
    /// Longest wait between two hand-overs.
    pub backoff_max: SignedDuration,
    /// What becomes of advertising that may have gone.
    pub unknown_advertising: OnUnknown,
    /// What becomes of an informational message that may have gone.
    pub unknown_informational: OnUnknown,
}

/// Where a lane's messages go.
#[derive(Clone, Debug)]
pub enum SinkConfig {
    /// To a file or standard output.
    Log(LogSinkConfig),
    /// To an HTTP endpoint.
    Webhook(WebhookConfig),
    /// To a queue of SQS.
    Sqs(SqsSinkConfig),
}

/// `[lane.NAME.sqs]`.
#[derive(Clone, Debug)]
pub struct SqsSinkConfig {
    /// Name or address of the queue.
    pub queue: String,
    /// Requests under way at once, for each batch.
    pub requests: usize,
}

/// `[lane.NAME.log]`.
#[derive(Clone, Debug)]
pub struct LogSinkConfig {
    /// The file; `None` = standard output.
    pub path: Option<PathBuf>,
}

/// `[lane.NAME.webhook]`.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// `https`, or `http` where allowed; holds no user and password.
    pub url: reqwest::Url,
    /// Key that signs each request, in base64, `whsec_` before it or not; `None`: unsigned.
    pub secret: Option<Secret>,
    /// Longest time for one request.
    pub timeout: Duration,
    /// Longest time to connect.
    pub connect_timeout: Duration,
    /// Most messages per request.
    pub batch_max: usize,
    /// Whether http:// will do.
    pub allow_plain_http: bool,
    /// Headers added to each request: valid names and values.
    pub headers: BTreeMap<String, Secret>,
}

/// `[alerts]`.
#[derive(Clone, Debug)]
pub struct AlertsConfig {
    /// Slack incoming webhook, if any: `https`, or `http` on loopback.
    pub slack_url: Option<Secret>,
    /// Where processes agree who tells Slack.
    pub shared: AlarmsShared,
    /// Language of alarms.
    pub language: Language,
    /// How often an alarm that lasts is raised again.
    pub repeat_after: SignedDuration,
    /// How long nothing may move after a window opened.
    pub nothing_moved_after: SignedDuration,
    /// Ticks in a row with failed hand-overs, none delivered or rejected, before a lane is failing.
    pub failing_after: u32,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Least level logged.
    pub level: LevelFilter,
    /// Form of the lines.
    pub format: LogFormat,
}

impl LaneConfig {
    /// Whether it carries `purpose` by `channel`.
    #[must_use]
    pub fn carries(&self, purpose: Purpose, channel: Channel) -> bool {
        self.purposes.contains(&purpose) && self.channels.contains(&channel)
    }
}

impl Config {
    /// Whether anything lives in `data.dir`.
    #[must_use]
    pub fn uses_disk(&self) -> bool {
        let embedded = self.consent.store == ConsentStore::Embedded
            || self.receipts.store == ReceiptStore::Embedded;
        self.hold.store.is_on_disk() || self.hold.store != HoldKind::Memory && embedded
    }

    /// The lane that carries `purpose` by `channel`: one that names the channel before one with
    /// `["*"]`; `None` if no lane does.
    #[must_use]
    pub fn lane_of(&self, purpose: Purpose, channel: Channel) -> Option<&str> {
        let carriers = self
            .lanes
            .iter()
            .filter(|lane| lane.carries(purpose, channel));
        carriers
            .max_by_key(|lane| lane.names_channels)
            .map(|lane| lane.name.as_str())
    }
}

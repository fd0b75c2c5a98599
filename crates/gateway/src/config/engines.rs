//! The resolved sections of engines that several gateways share: Redis and MongoDB.

use std::time::Duration;

use jiff::SignedDuration;

use super::check::Reader;
use super::sections::HoldKind;
use crate::secret::Secret;

/// Servers answer within milliseconds; a call that takes longer holds a batch.
const TIMEOUT: std::ops::RangeInclusive<SignedDuration> =
    SignedDuration::from_millis(100)..=SignedDuration::from_secs(60);
/// Clocks kept by a time service differ by milliseconds; a minute would be a law broken.
const SKEW_MAX: std::ops::RangeInclusive<SignedDuration> =
    SignedDuration::from_millis(100)..=SignedDuration::from_secs(30);
/// Replicas that a write is waited for.
const REPLICAS: std::ops::RangeInclusive<u32> = 0..=5;
/// A partition costs a call whenever all are asked.
const PARTITIONS: std::ops::RangeInclusive<u32> = 0..=256;
/// It stands in every key, so it costs memory.
const PREFIX_MAX_BYTES: usize = 32;
/// The longest name of a database in MongoDB.
/// <https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions>
const DATABASE_MAX_BYTES: usize = 63;

/// How the servers of Redis stand together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RedisMode {
    /// One address that leads to the master.
    #[default]
    Single,
    /// Sentinels that know the master by this name.
    Sentinel(String),
    /// Nodes of a cluster.
    Cluster,
}

/// `[redis]`, and what of other sections is kept there.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// One address, or several with commas between. It may have a password in it.
    pub url: Secret,
    /// How the servers stand together.
    pub mode: RedisMode,
    /// Who asks the Sentinels; `None`: their default user.
    pub sentinel_user: Option<String>,
    /// With which password; `None`: without.
    pub sentinel_password: Option<Secret>,
    /// What every key begins with.
    pub prefix: String,
    /// Longest time for one call.
    pub timeout: Duration,
    /// Whether a server that can lose what was acknowledged is refused.
    pub strict: bool,
    /// Replicas that must have a write before it is answered.
    pub replicas: u32,
    /// Whether the write must be on their disks.
    pub replicas_on_disk: bool,
    /// How far this clock and the server's may be apart.
    pub skew_max: SignedDuration,
    /// `hold.redis.partitions`; `None`: as fits the servers.
    pub partitions: Option<u32>,
    /// `receipts.redis.keep`; `None`: for ever.
    pub keep_receipts: Option<Duration>,
}

/// `[mongodb]`.
#[derive(Clone, Debug)]
pub struct MongoConfig {
    /// Address of the servers. It may have a password in it.
    pub url: Secret,
    /// The database.
    pub database: String,
    /// Longest time for one call.
    pub timeout: Duration,
    /// How far this clock and the server's may be apart.
    pub skew_max: SignedDuration,
}

/// Reads `[redis]`.
pub(super) fn redis(
    read: &mut Reader<'_>,
    hold: HoldKind,
    lease_ttl: SignedDuration,
) -> RedisConfig {
    #[derive(Clone, Copy, Default)]
    enum Mode {
        #[default]
        Single,
        Sentinel,
        Cluster,
    }
    let url = address(read, "redis.url", &["redis://", "rediss://"]);
    let modes = [
        ("single", Mode::Single),
        ("sentinel", Mode::Sentinel),
        ("cluster", Mode::Cluster),
    ];
    let mode = match read.choice("redis.mode", &modes) {
        Mode::Single => RedisMode::Single,
        Mode::Sentinel => RedisMode::Sentinel(read.some_text("redis.master").to_owned()),
        Mode::Cluster => RedisMode::Cluster,
    };
    let sentinel_user = Some(read.text("redis.sentinel.user"));
    let sentinel_user = sentinel_user.filter(|user| !user.is_empty());
    let sentinel_password = read.secret("redis.sentinel.password");
    if sentinel_user.is_some() && sentinel_password.is_none() {
        read.fault("redis.sentinel.user", "needs redis.sentinel.password, too");
    }
    let prefix = read.text("redis.prefix").to_owned();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':');
    if prefix.is_empty() || prefix.len() > PREFIX_MAX_BYTES || !prefix.bytes().all(fits) {
        let rule = format!("must be 1 to {PREFIX_MAX_BYTES} letters, digits, `-`, `_` or `:`");
        read.fault("redis.prefix", rule);
    }
    let strict = [("strict", true), ("relaxed", false)];
    let replicas = read.whole("redis.replicas", REPLICAS);
    let replicas_on_disk = read.truth("redis.replicas_on_disk");
    let partitions = read.whole("hold.redis.partitions", PARTITIONS);
    let keep = read.duration(
        "receipts.redis.keep",
        SignedDuration::ZERO..=SignedDuration::MAX,
    );
    let lent = (hold == HoldKind::Redis).then_some(lease_ttl);
    let skew_max = skew_max(read, "redis.skew_max", lent);
    RedisConfig {
        url,
        mode,
        sentinel_user: sentinel_user.map(str::to_owned),
        sentinel_password,
        prefix,
        timeout: read.timeout("redis.timeout", TIMEOUT),
        strict: read.choice("redis.durability", &strict),
        replicas,
        replicas_on_disk,
        skew_max,
        partitions: (partitions > 0).then_some(partitions),
        keep_receipts: Duration::try_from(keep).ok().filter(|keep| !keep.is_zero()),
    }
}

/// Reads `[mongodb]`.
pub(super) fn mongodb(
    read: &mut Reader<'_>,
    hold: HoldKind,
    lease_ttl: SignedDuration,
) -> MongoConfig {
    let url = address(read, "mongodb.url", &["mongodb://", "mongodb+srv://"]);
    let database = read.some_text("mongodb.database").to_owned();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if database.len() > DATABASE_MAX_BYTES || !database.bytes().all(fits) {
        let rule = format!("must be at most {DATABASE_MAX_BYTES} letters, digits, `-` or `_`");
        read.fault("mongodb.database", rule);
    }
    let lent = (hold == HoldKind::MongoDb).then_some(lease_ttl);
    MongoConfig {
        url,
        database,
        timeout: read.timeout("mongodb.timeout", TIMEOUT),
        skew_max: skew_max(read, "mongodb.skew_max", lent),
    }
}

/// How far clocks may be apart. Whoever is stopped must know of the end of its loans, which are
/// `lent` for so long where several gateways lend, before another takes them over: half of that is
/// kept for answers, and half of the half for clocks.
fn skew_max(
    read: &mut Reader<'_>,
    key: &'static str,
    lent: Option<SignedDuration>,
) -> SignedDuration {
    let skew_max = read.duration(key, SKEW_MAX);
    if let Some(lent) = lent.filter(|lent| skew_max > *lent / 4) {
        let rule = format!("must be at most a quarter of release.lease_ttl ({lent:#})");
        read.fault(key, rule);
    }
    skew_max
}

/// An address with one of these beginnings. What was given is not repeated: it may have a password
/// in it.
fn address(read: &mut Reader<'_>, key: &str, schemes: &[&str]) -> Secret {
    let url = read.secret(key).unwrap_or_else(|| Secret::new(""));
    let text = url.expose().trim();
    if !schemes.iter().any(|scheme| text.starts_with(scheme)) {
        read.fault(key, format!("must start with {}", schemes.join(" or ")));
    }
    url
}

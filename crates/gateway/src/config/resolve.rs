//! Reads each section. Every number that bounds a setting stands here, with its reason.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use nightgate_core::{House, Jurisdiction, Language};
use tracing::level_filters::LevelFilter;

use super::check::Reader;
use super::fault::Fault;
use super::raw::Settings;
use super::remote::{AlarmsShared, read as remote};
use super::sections::{
    AlertsConfig, ClockConfig, Config, ConsentConfig, ConsentValidity, DataConfig, HoldConfig,
    HoldKind, HttpConfig, LogConfig, LogFormat, ReleaseConfig, RulesConfig,
};
use super::{engines, lanes};
use crate::secret::Secret;

const fn seconds(from: i64, to: i64) -> RangeInclusive<SignedDuration> {
    SignedDuration::from_secs(from)..=SignedDuration::from_secs(to)
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

/// Below an hour a producer's retry after a deploy would be taken twice; 90 days is a year's disk.
const KEEP_IDS: RangeInclusive<SignedDuration> = seconds(HOUR, 90 * 24 * HOUR);
/// Less than 64 MiB is half a minute of a busy evening; a PiB is no disk of today.
const HELD_BYTES: RangeInclusive<u64> = 64 * 1024 * 1024..=1 << 50;
/// A shelf that does not take one call of a producer turns its last part away every time.
const SHELF_MESSAGES: RangeInclusive<u64> = 100_000..=1_000_000_000_000;
/// More than a TiB kept free is a disk that nobody uses.
const FREE_BYTES: RangeInclusive<u64> = 0..=1 << 40;
/// A law that lets consent stand longer than ten years unconfirmed has `off`.
const CONSENT_YEARS: RangeInclusive<u8> = 1..=10;
/// A request without a limit holds a connection for ever; no producer waits longer than 10 minutes.
const REQUEST_TIMEOUT: RangeInclusive<SignedDuration> = seconds(1, 10 * MINUTE);
/// Service managers kill after a few minutes whatever we ask for.
const SHUTDOWN_GRACE: RangeInclusive<SignedDuration> = seconds(0, 10 * MINUTE);
/// One message with its envelope must fit; a quarter of a GiB in memory per request is the end.
const BODY_BYTES: RangeInclusive<usize> = 1024..=256 * 1024 * 1024;
/// The largest body in base64 with its envelope fits in two MiB; nothing needs 16.
const BULK_LINE_BYTES: RangeInclusive<usize> = 1024..=16 * 1024 * 1024;
/// Hyper needs some room for a head; a MiB of headers is an attack.
const HEADER_BYTES: RangeInclusive<usize> = 8 * 1024..=1024 * 1024;
/// One transaction of the hold: larger ones gain nothing.
const HTTP_BATCH: RangeInclusive<usize> = 1..=100_000;
/// Bounded by file descriptors.
const CONNECTIONS: RangeInclusive<usize> = 1..=100_000;
/// Clocks that are disciplined slew by less than a second; an hour of tolerance is no watch at all.
const JUMP_TOLERANCE: RangeInclusive<SignedDuration> = seconds(1, HOUR);
/// Frozen longer than a day is stopped: pause instead.
const FREEZE: RangeInclusive<SignedDuration> = seconds(0, 24 * HOUR);
/// Shorter loans lapse under way; longer ones keep messages from others after a crash.
const LEASE_TTL: RangeInclusive<SignedDuration> = seconds(5, HOUR);
/// A tick is bounded work: all of it is in memory at once.
const TICK: RangeInclusive<usize> = 1..=100_000;
const SWEEP_EVERY: RangeInclusive<SignedDuration> = seconds(1, 24 * HOUR);
/// Oftener than a minute nobody reads it; rarer than a day it is forgotten.
const REPEAT_AFTER: RangeInclusive<SignedDuration> = seconds(MINUTE, 24 * HOUR);
const NOTHING_MOVED_AFTER: RangeInclusive<SignedDuration> = seconds(10, HOUR);
const FAILING_AFTER: RangeInclusive<u32> = 1..=1000;

/// Reads and checks every section.
pub(super) fn resolve(settings: &Settings) -> Result<Config, Vec<Fault>> {
    let mut reader = Reader {
        settings,
        faults: Vec::new(),
    };
    let read = &mut reader;
    let house = house(read);
    let http = http(read);
    let release = release(read);
    let data = DataConfig {
        dir: read.some_text("data.dir").into(),
    };
    let hold = hold(read);
    let rules = rules(read);
    let (store, consent_http) = remote::consent(read);
    let consent = ConsentConfig {
        store,
        http: consent_http,
        validity: read
            .parsed("consent.validity", validity)
            .unwrap_or_default(),
    };
    let clock = ClockConfig {
        jump_tolerance: read.duration("clock.jump_tolerance", JUMP_TOLERANCE),
        freeze: read.duration("clock.freeze", FREEZE),
    };
    let receipts = remote::receipts(read);
    let (redis, mongodb) = (
        engines::redis(read, hold.store, release.lease_ttl),
        engines::mongodb(read, hold.store, release.lease_ttl),
    );
    let (dynamodb, aws) = (remote::dynamodb(read), remote::aws(read));
    let lanes = lanes::lanes(read, release.lease_ttl);
    let (sources, lambda) = (remote::sources(read), remote::lambda(read));
    let alerts = alerts(read);
    let log = log(read);
    match (house, http) {
        (Some(house), Some(http)) if reader.faults.is_empty() => Ok(Config {
            house,
            data,
            hold,
            rules,
            consent,
            receipts,
            redis,
            mongodb,
            dynamodb,
            aws,
            http,
            clock,
            release,
            lanes,
            sources,
            lambda,
            alerts,
            log,
        }),
        _ => Err(reader.faults),
    }
}

fn house(read: &mut Reader<'_>) -> Option<House> {
    let jurisdiction = read.parsed("house.jurisdiction", Jurisdiction::new);
    let zone = read.parsed("house.zone", |text| {
        TimeZone::get(text).map_err(|_| "must be an IANA time zone such as Asia/Seoul".to_owned())
    });
    Some(House {
        jurisdiction: jurisdiction?,
        zone: zone?,
    })
}

fn hold(read: &mut Reader<'_>) -> HoldConfig {
    let store = read.choice(
        "hold.store",
        &HoldKind::ALL.map(|kind| (kind.as_str(), kind)),
    );
    let (max_bytes, shelf_max) = (
        read.limit("hold.max_bytes", HELD_BYTES),
        read.limit("hold.shelf_max", SHELF_MESSAGES),
    );
    // A limit that nobody keeps is worse than none.
    for (key, limit) in [("hold.max_bytes", max_bytes), ("hold.shelf_max", shelf_max)] {
        if limit.is_some() && store != HoldKind::Shelf {
            let rule = format!(
                "is kept by the store \"shelf\" alone, and `hold.store` is \"{}\"",
                store.as_str()
            );
            read.fault(key, rule);
        }
    }
    HoldConfig {
        store,
        keep_ids: read.duration("hold.keep_ids", KEEP_IDS),
        max_bytes,
        shelf_max,
        keep_free: read.whole("hold.keep_free", FREE_BYTES),
        sqs: remote::hold(read),
    }
}

fn rules(read: &mut Reader<'_>) -> RulesConfig {
    for key in ["rules.builtin", "rules.packs"] {
        let mut texts = read.texts(key);
        texts.sort_unstable();
        if let Some(pair) = texts.windows(2).find(|pair| pair[0] == pair[1]) {
            read.fault(key, format!("names \"{}\" twice", pair[0]));
        }
        if texts.first() == Some(&"") {
            read.fault(key, "must not hold an empty text");
        }
    }
    RulesConfig {
        builtin: read
            .texts("rules.builtin")
            .into_iter()
            .map(str::to_owned)
            .collect(),
        packs: read
            .texts("rules.packs")
            .into_iter()
            .map(Into::into)
            .collect(),
    }
}

fn validity(text: &str) -> Result<ConsentValidity, String> {
    let years = |text: &str| text.strip_suffix('y')?.parse().ok();
    match text {
        "pack" => Ok(ConsentValidity::Pack),
        "off" => Ok(ConsentValidity::Off),
        _ => years(text)
            .filter(|years| CONSENT_YEARS.contains(years))
            .map(ConsentValidity::Years)
            .ok_or_else(|| {
                let (low, high) = (CONSENT_YEARS.start(), CONSENT_YEARS.end());
                format!("must be \"pack\", \"off\", or years from \"{low}y\" to \"{high}y\"")
            }),
    }
}

const TOKENS: [&str; 3] = [
    "http.producer_token",
    "http.operator_token",
    "http.reader_token",
];

fn http(read: &mut Reader<'_>) -> Option<HttpConfig> {
    let listen: Option<SocketAddr> = read.parsed("http.listen", |text| {
        let rule = "must be an address and a port such as 127.0.0.1:8787 or [::1]:8787";
        text.parse().map_err(|_| rule.to_owned())
    });
    let tokens = TOKENS.map(|key| read.secret(key));
    token_faults(read, &tokens);
    if let Some(listen) = listen
        && !listen.ip().is_loopback()
        && tokens.iter().all(Option::is_none)
    {
        let rule = format!(
            "is open to the network and asks for no token, is \"{listen}\"; set \
             http.producer_token, or listen on 127.0.0.1"
        );
        read.fault("http.listen", rule);
    }
    let [producer_token, operator_token, reader_token] = tokens;
    let body_max_bytes = read.whole("http.body_max_bytes", BODY_BYTES);
    let bulk_line_max_bytes = read.whole("http.bulk_line_max_bytes", BULK_LINE_BYTES);
    let header_max_bytes = read.whole("http.header_max_bytes", HEADER_BYTES);
    let batch_max = read.whole("http.batch_max", HTTP_BATCH);
    let connections_max = read.whole("http.connections_max", CONNECTIONS);
    let request_timeout = read.timeout("http.request_timeout", REQUEST_TIMEOUT);
    let bulk_idle_timeout = read.timeout("http.bulk_idle_timeout", REQUEST_TIMEOUT);
    let shutdown_grace = read.timeout("http.shutdown_grace", SHUTDOWN_GRACE);
    Some(HttpConfig {
        listen: listen?,
        producer_token,
        operator_token,
        reader_token,
        body_max_bytes,
        bulk_line_max_bytes,
        header_max_bytes,
        batch_max,
        connections_max,
        request_timeout,
        bulk_idle_timeout,
        shutdown_grace,
    })
}

/// A bearer token crosses in a header, so it is visible ASCII; and two roles with one token are one
/// role.
fn token_faults(read: &mut Reader<'_>, tokens: &[Option<Secret>; 3]) {
    for (index, (key, token)) in TOKENS.iter().zip(tokens).enumerate() {
        let Some(token) = token else { continue };
        if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            read.fault(key, "must be visible ASCII without spaces");
        }
        let before = tokens[..index]
            .iter()
            .position(|other| other.as_ref() == Some(token));
        if let Some(before) = before {
            let other = TOKENS[before];
            read.fault(
                key,
                format!("is the same as `{other}`; give each role its own"),
            );
        }
    }
}

fn release(read: &mut Reader<'_>) -> ReleaseConfig {
    ReleaseConfig {
        lease_ttl: read.duration("release.lease_ttl", LEASE_TTL),
        tick_max: read.whole("release.tick_max", TICK),
        sweep_every: read.duration("release.sweep_every", SWEEP_EVERY),
    }
}

fn alerts(read: &mut Reader<'_>) -> AlertsConfig {
    let slack_url = read.secret("alerts.slack_url");
    if let Some(Err(rule)) = slack_url.as_ref().map(|url| slack_rule(url.expose())) {
        read.fault("alerts.slack_url", rule);
    }
    let language = read.parsed("alerts.language", |text| match text {
        "ko" => Ok(Language::Korean),
        "en" => Ok(Language::English),
        _ => Err("must be \"ko\" or \"en\"".to_owned()),
    });
    let shared = [
        ("none", AlarmsShared::None),
        ("redis", AlarmsShared::Redis),
        ("mongodb", AlarmsShared::MongoDb),
        ("dynamodb", AlarmsShared::DynamoDb),
    ];
    AlertsConfig {
        slack_url,
        shared: read.choice("alerts.shared", &shared),
        language: language.unwrap_or(Language::Korean),
        repeat_after: read.duration("alerts.repeat_after", REPEAT_AFTER),
        nothing_moved_after: read.duration("alerts.nothing_moved_after", NOTHING_MOVED_AFTER),
        failing_after: read.whole("alerts.failing_after", FAILING_AFTER),
    }
}

/// The address is itself a credential, so it never crosses in clear but to this machine.
fn slack_rule(text: &str) -> Result<(), String> {
    let url = reqwest::Url::parse(text).map_err(|_| "must be an address: https://...")?;
    match url.scheme() {
        "https" => Ok(()),
        "http" if lanes::is_loopback(&url) => Ok(()),
        _ => Err("must start with https://".to_owned()),
    }
}

fn log(read: &mut Reader<'_>) -> LogConfig {
    let level = read.parsed("log.level", |text| match text {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err("must be off, error, warn, info, debug or trace".to_owned()),
    });
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    LogConfig {
        level: level.unwrap_or(LevelFilter::INFO),
        format: read.choice("log.format", &formats),
    }
}

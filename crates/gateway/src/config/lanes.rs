//! Reads the lanes, and checks that each message has one way out at most.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use nightgate_core::{Channel, Purpose};
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use super::check::Reader;
use super::named::LANE;
use super::remote::read as remote;
use super::sections::{
    LaneConfig, LogSinkConfig, OnUnknown, SinkConfig, SqsSinkConfig, WebhookConfig,
};
use crate::secret::Secret;

const fn seconds(from: i64, to: i64) -> RangeInclusive<SignedDuration> {
    SignedDuration::from_secs(from)..=SignedDuration::from_secs(to)
}

/// Each lane has its own limiter, loop and figures.
const LANES_MAX: usize = 64;
/// Far above what any carrier takes from one sender.
const RATE: RangeInclusive<u32> = 0..=1_000_000;
const BURST: RangeInclusive<u32> = 1..=1_000_000;
/// A slow start must be over well before the day's window closes.
const SLOW_START: RangeInclusive<SignedDuration> = seconds(0, 3600);
/// Connections to one sink.
const IN_FLIGHT: RangeInclusive<usize> = 1..=256;
const BATCH: RangeInclusive<usize> = 0..=10_000;
const WEBHOOK_BATCH: RangeInclusive<usize> = 1..=WebhookConfig::BATCH_MAX_LIMIT;
const ATTEMPTS: RangeInclusive<u32> = 1..=100;
/// Below a tenth of a second a failing sink is hammered; beyond a day the window has gone by.
const BACKOFF: RangeInclusive<SignedDuration> =
    SignedDuration::from_millis(100)..=SignedDuration::from_hours(24);
const TIMEOUT: RangeInclusive<SignedDuration> =
    seconds(1, WebhookConfig::TIMEOUT_LIMIT.as_secs().cast_signed());
/// Below a tenth of a second another continent is never reached.
const CONNECT_TIMEOUT: RangeInclusive<SignedDuration> =
    SignedDuration::from_millis(100)..=*TIMEOUT.end();

/// Reads every lane; `lease_ttl` must outlast each hand-over twice.
pub(super) fn lanes(read: &mut Reader<'_>, lease_ttl: SignedDuration) -> Vec<LaneConfig> {
    let names: Vec<&str> = read.settings.names(LANE).collect();
    if let Some(name) = names.get(LANES_MAX) {
        read.fault(
            &format!("lane.{name}"),
            format!("is one too many: {LANES_MAX} lanes at most"),
        );
    }
    let lanes: Vec<_> = names
        .iter()
        .filter_map(|name| lane(read, name, lease_ttl))
        .collect();
    overlaps(read, &lanes);
    lanes
}

fn lane(read: &mut Reader<'_>, name: &str, lease_ttl: SignedDuration) -> Option<LaneConfig> {
    let key = |key: &str| format!("lane.{name}.{key}");
    let channels = read.names(&key("channels"), Channel::ALL, Channel::from_str);
    let purposes = read.names(&key("purposes"), Purpose::ALL, Purpose::from_str);
    let unknown = [("bury", OnUnknown::Bury), ("retry", OnUnknown::Retry)];
    let backoff_min = read.duration(&key("backoff_min"), BACKOFF);
    let backoff_max = read.duration(&key("backoff_max"), BACKOFF);
    if backoff_min > backoff_max {
        let rule = format!("must be at most backoff_max ({backoff_max:#}), is {backoff_min:#}");
        read.fault(&key("backoff_min"), rule);
    }
    // The sink comes last: it alone can leave no value at all.
    Some(LaneConfig {
        name: name.to_owned(),
        channels: channels.named,
        names_channels: !channels.any,
        purposes: purposes.named,
        rate: read.whole(&key("rate"), RATE),
        burst: read.whole(&key("burst"), BURST),
        slow_start: read.duration(&key("slow_start"), SLOW_START),
        slow_start_from: read.share(&key("slow_start_from"), 0.0, 1.0),
        in_flight: read.whole(&key("in_flight"), IN_FLIGHT),
        batch_max: read.whole(&key("batch_max"), BATCH),
        attempts_max: read.whole(&key("attempts_max"), ATTEMPTS),
        backoff_min,
        backoff_max,
        unknown_advertising: read.choice(&key("unknown_advertising"), &unknown),
        unknown_informational: read.choice(&key("unknown_informational"), &unknown),
        sink: sink(read, name, lease_ttl)?,
    })
}

/// Which section tells a lane where its messages go.
#[derive(Clone, Copy, Default)]
enum SinkKind {
    #[default]
    Log,
    Webhook,
    Sqs,
}

fn sink(read: &mut Reader<'_>, name: &str, lease_ttl: SignedDuration) -> Option<SinkConfig> {
    let kinds = [
        ("log", SinkKind::Log),
        ("webhook", SinkKind::Webhook),
        ("sqs", SinkKind::Sqs),
    ];
    match read.choice(&format!("lane.{name}.sink"), &kinds) {
        SinkKind::Log => {
            let path = read.some_text(&format!("lane.{name}.log.path"));
            Some(SinkConfig::Log(LogSinkConfig {
                path: (path != "-").then(|| path.into()),
            }))
        }
        SinkKind::Webhook => webhook(read, name, lease_ttl).map(SinkConfig::Webhook),
        SinkKind::Sqs => Some(SinkConfig::Sqs(SqsSinkConfig {
            queue: remote::queue(read, &format!("lane.{name}.sqs.queue")),
            requests: read.whole(&format!("lane.{name}.sqs.requests"), IN_FLIGHT),
        })),
    }
}

fn webhook(read: &mut Reader<'_>, lane: &str, lease_ttl: SignedDuration) -> Option<WebhookConfig> {
    let key = |key: &str| format!("lane.{lane}.webhook.{key}");
    let allow_plain_http = read.truth(&key("allow_plain_http"));
    let url = url(read, &key("url"), allow_plain_http);
    let secret = read.secret(&key("secret"));
    if secret
        .as_ref()
        .is_some_and(|secret| WebhookConfig::signing_key(secret).is_none())
    {
        read.fault(&key("secret"), WebhookConfig::KEY_RULE);
    }
    let faults = read.faults.len();
    let timeout = read.timeout(&key("timeout"), TIMEOUT);
    let connect_timeout = read.timeout(&key("connect_timeout"), CONNECT_TIMEOUT);
    // The stand-ins of values at fault are not held against each other.
    let sound = read.faults.len() == faults;
    if sound && connect_timeout >= timeout {
        read.fault(
            &key("connect_timeout"),
            "must be less than `timeout`, which it is part of",
        );
    }
    // A message may leave until half its loan is over; its answer must arrive in the other half.
    if sound && timeout >= Duration::try_from(lease_ttl).unwrap_or_default() / 2 {
        let rule = format!("must be less than half of release.lease_ttl ({lease_ttl:#})");
        read.fault(&key("timeout"), rule);
    }
    let batch_max = read.whole(&key("batch_max"), WEBHOOK_BATCH);
    let headers = headers(read, &key("headers"));
    let url = url?;
    Some(WebhookConfig {
        url,
        secret,
        timeout,
        connect_timeout,
        batch_max,
        allow_plain_http,
        headers,
    })
}

fn url(read: &mut Reader<'_>, key: &str, allow_plain_http: bool) -> Option<Url> {
    let text = read.text(key);
    if text.is_empty() {
        read.fault(key, "must be set: the address that batches are posted to");
        return None;
    }
    // None of these show the address: credentials may stand in it.
    let Some(url) = Url::parse(text).ok().filter(Url::has_host) else {
        read.fault(
            key,
            "must be an address such as https://push.example.com/send",
        );
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        read.fault(
            key,
            "must hold no user or password; put them into `headers`",
        );
    }
    match url.scheme() {
        "https" => {}
        "http" if allow_plain_http || is_loopback(&url) => {}
        "http" => read.fault(
            key,
            "must start with https://, or set allow_plain_http = true",
        ),
        _ => read.fault(key, "must start with https://"),
    }
    Some(url)
}

fn headers(read: &mut Reader<'_>, key: &str) -> BTreeMap<String, Secret> {
    let mut headers = BTreeMap::new();
    if read.table(key).count() > WebhookConfig::HEADERS_MAX {
        let most = WebhookConfig::HEADERS_MAX;
        read.fault(key, format!("must be at most {most} headers"));
    }
    for (name, value) in read.table(key) {
        if WebhookConfig::is_own_header(name) {
            let rule = format!("has \"{name}\", which Nightgate sets itself; take it out");
            read.fault(key, rule);
        } else if HeaderName::from_str(name).is_err() {
            read.fault(
                key,
                format!("has \"{name}\", which is no name for a header"),
            );
        } else if HeaderValue::from_str(value).is_err() {
            read.fault(
                key,
                format!("has a value for \"{name}\" that no header can carry"),
            );
        }
        headers.insert(name.to_owned(), Secret::new(value));
    }
    headers
}

/// Whether `url` names this very machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Two lanes that carry the same purpose by the same channel, both by name or both by `["*"]`, are
/// a fault: which one a message took would depend on chance.
fn overlaps(read: &mut Reader<'_>, lanes: &[LaneConfig]) {
    for (index, lane) in lanes.iter().enumerate() {
        for earlier in &lanes[..index] {
            if lane.names_channels != earlier.names_channels {
                continue;
            }
            let pairs = Purpose::ALL
                .iter()
                .flat_map(|purpose| Channel::ALL.iter().map(move |channel| (*purpose, *channel)));
            let mut both = pairs
                .filter(|(purpose, channel)| lane.carries(*purpose, *channel))
                .filter(|(purpose, channel)| earlier.carries(*purpose, *channel));
            if let Some((purpose, channel)) = both.next() {
                let more = match both.count() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let rule = format!(
                    "carries {purpose} messages by {channel}{more}, and so does `lane.{}`; name \
                     the channels in one of them, or split `purposes`",
                    earlier.name
                );
                read.fault(&format!("lane.{}", lane.name), rule);
            }
        }
    }
}

//! Reads the sections of what lies beyond this machine.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use jiff::SignedDuration;
use reqwest::Url;

use super::{
    AwsConfig, ClaimStore, ConsentHttpConfig, ConsentStore, DynamoConfig, LambdaConfig, Opening,
    Recalls, ReceiptStore, ReceiptsConfig, SourceConfig, SqsHoldConfig,
};
use crate::config::check::Reader;
use crate::config::lanes::is_loopback;
use crate::config::named::SOURCE;

const fn seconds(from: i64, to: i64) -> RangeInclusive<SignedDuration> {
    SignedDuration::from_secs(from)..=SignedDuration::from_secs(to)
}

/// Oftener costs a request a second; rarer than a quarter of an hour is an hour that is missed.
const PROBE_EVERY: RangeInclusive<SignedDuration> = seconds(1, 900);
/// Connections to AWS.
const POLLERS: RangeInclusive<usize> = 1..=256;
/// SQS hides a received message for 12 hours at most; below 10 s a slow disk loses its loan.
const HIDE: RangeInclusive<SignedDuration> = seconds(10, 12 * 3600);
/// A question that takes longer holds a whole batch.
const CONSENT_TIMEOUT: RangeInclusive<SignedDuration> =
    SignedDuration::from_millis(100)..=SignedDuration::from_secs(30);
/// A withdrawal must bite within minutes.
const CACHE_FOR: RangeInclusive<SignedDuration> = seconds(0, 300);
const CONSENT_BATCH: RangeInclusive<usize> = 1..=10_000;
/// A function runs for 15 minutes at most (90 on managed instances).
const MARGIN: RangeInclusive<SignedDuration> = seconds(1, 300);
/// Each has its own pollers.
const SOURCES_MAX: usize = 64;
/// A wait queue each.
const OPENINGS_MAX: usize = 32;
/// Room for the lane's name and the kind of queue in the 80 characters of a queue's name.
const PREFIX_MAX_BYTES: usize = 24;

/// Reads `[hold.sqs]`.
pub(in crate::config) fn hold(read: &mut Reader<'_>) -> SqsHoldConfig {
    let key = "hold.sqs.prefix";
    let prefix = read.text(key);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if prefix.is_empty() || prefix.len() > PREFIX_MAX_BYTES || !prefix.bytes().all(fits) {
        let rule = format!("must be 1 to {PREFIX_MAX_BYTES} letters, digits, `-` or `_`");
        read.fault(key, rule);
    }
    let key = "hold.sqs.openings";
    let mut openings = Vec::new();
    for text in read.texts(key) {
        match Opening::parse(text) {
            Ok(opening) if openings.contains(&opening) => {
                read.fault(key, format!("names \"{text}\" twice"));
            }
            Ok(opening) => openings.push(opening),
            Err(rule) => read.fault(key, rule),
        }
    }
    if openings.len() > OPENINGS_MAX {
        read.fault(key, format!("must be at most {OPENINGS_MAX}"));
    }
    let recalls = [("none", Recalls::None), ("dynamodb", Recalls::DynamoDb)];
    let attempts = [
        ("none", ClaimStore::None),
        ("dynamodb", ClaimStore::DynamoDb),
    ];
    SqsHoldConfig {
        prefix: prefix.to_owned(),
        openings,
        probe_every: read.timeout("hold.sqs.probe_every", PROBE_EVERY),
        pollers: read.whole("hold.sqs.pollers", POLLERS),
        recalls: read.choice("hold.sqs.recalls", &recalls),
        attempts: read.choice("hold.sqs.attempts", &attempts),
    }
}

/// Reads where consents live.
pub(in crate::config) fn consent(
    read: &mut Reader<'_>,
) -> (ConsentStore, Option<ConsentHttpConfig>) {
    let stores = [
        ("embedded", ConsentStore::Embedded),
        ("redis", ConsentStore::Redis),
        ("mongodb", ConsentStore::MongoDb),
        ("dynamodb", ConsentStore::DynamoDb),
        ("http", ConsentStore::Http),
    ];
    let store = read.choice("consent.store", &stores);
    let token = read.secret("consent.http.token");
    let timeout = read.timeout("consent.http.timeout", CONSENT_TIMEOUT);
    let cache_for = read.timeout("consent.http.cache_for", CACHE_FOR);
    let batch_max = read.whole("consent.http.batch_max", CONSENT_BATCH);
    if store != ConsentStore::Http {
        return (store, None);
    }
    let url = address(read, "consent.http.url");
    let http = url.map(|url| ConsentHttpConfig {
        url,
        token,
        timeout,
        cache_for,
        batch_max,
    });
    (store, http)
}

/// An address that may carry personal data: not in clear beyond this machine.
fn address(read: &mut Reader<'_>, key: &str) -> Option<Url> {
    let Some(url) = Url::parse(read.text(key)).ok().filter(Url::has_host) else {
        read.fault(
            key,
            "must be an address such as https://consent.example.com/ask",
        );
        return None;
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
        read.fault(key, "must start with https://");
    }
    Some(url)
}

/// Reads `[receipts]`.
pub(in crate::config) fn receipts(read: &mut Reader<'_>) -> ReceiptsConfig {
    #[derive(Clone, Copy, Default)]
    enum Kind {
        #[default]
        Embedded,
        Redis,
        MongoDb,
        Lines,
        Sqs,
    }
    let kinds = [
        ("embedded", Kind::Embedded),
        ("redis", Kind::Redis),
        ("mongodb", Kind::MongoDb),
        ("lines", Kind::Lines),
        ("sqs", Kind::Sqs),
    ];
    let store = match read.choice("receipts.store", &kinds) {
        Kind::Embedded => ReceiptStore::Embedded,
        Kind::Redis => ReceiptStore::Redis,
        Kind::MongoDb => ReceiptStore::MongoDb,
        Kind::Lines => ReceiptStore::Lines,
        Kind::Sqs => ReceiptStore::Sqs(queue(read, "receipts.sqs.queue")),
    };
    ReceiptsConfig { store }
}

/// Reads `[dynamodb]`.
pub(in crate::config) fn dynamodb(read: &mut Reader<'_>) -> DynamoConfig {
    let table = read.some_text("dynamodb.table").to_owned();
    DynamoConfig { table }
}

/// Reads `[aws]`.
pub(in crate::config) fn aws(read: &mut Reader<'_>) -> AwsConfig {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let endpoint = given(read.text("aws.endpoint"));
    if let Some(text) = &endpoint
        && !Url::parse(text).is_ok_and(|url| url.has_host())
    {
        let rule =
            "must be an address such as https://vpce-1.sqs.ap-northeast-2.vpce.amazonaws.com";
        read.fault("aws.endpoint", rule);
    }
    AwsConfig {
        region: given(read.text("aws.region")),
        endpoint,
    }
}

/// Reads every source.
pub(in crate::config) fn sources(read: &mut Reader<'_>) -> Vec<SourceConfig> {
    let names: Vec<&str> = read.settings.names(SOURCE).collect();
    if let Some(name) = names.get(SOURCES_MAX) {
        let rule = format!("is one too many: {SOURCES_MAX} sources at most");
        read.fault(&format!("source.{name}"), rule);
    }
    names.into_iter().map(|name| source(read, name)).collect()
}

fn source(read: &mut Reader<'_>, name: &str) -> SourceConfig {
    let key = |key: &str| format!("source.{name}.{key}");
    let own = queue(read, &key("queue"));
    let dead_letter = read.text(&key("dead_letter")).to_owned();
    if !own.is_empty() && own == dead_letter {
        read.fault(&key("dead_letter"), "must be another queue than `queue`");
    }
    let map: BTreeMap<String, String> = read
        .table(&key("map"))
        .map(|(field, from)| (field.to_owned(), from.to_owned()))
        .collect();
    SourceConfig {
        name: name.to_owned(),
        queue: own,
        dead_letter: (!dead_letter.is_empty()).then_some(dead_letter),
        pollers: read.whole(&key("pollers"), POLLERS),
        hide: read.timeout(&key("hide"), HIDE),
        map,
    }
}

/// Name or address of a queue, which must be told.
pub(in crate::config) fn queue(read: &mut Reader<'_>, key: &str) -> String {
    let text = read.text(key);
    if text.is_empty() {
        read.fault(key, "must be set: the name or the address of a queue");
    } else if text.contains(char::is_whitespace) {
        read.fault(key, "must be the name or the address of a queue");
    }
    text.to_owned()
}

/// Reads `[lambda]`.
pub(in crate::config) fn lambda(read: &mut Reader<'_>) -> LambdaConfig {
    LambdaConfig {
        margin: read.timeout("lambda.margin", MARGIN),
        release_on_receive: read.truth("lambda.release_on_receive"),
    }
}

//! Clients, queues and messages for the tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_sqs::types::QueueAttributeName;
use bytes::Bytes;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use nightgate::aws::queues::{Ask, Incoming, Outgoing, Queue, Queues};
use nightgate::aws::sdk::SdkQueues;
use nightgate::clock::{Clock, SystemClock};
use nightgate::sink::sqs::{SqsSink, SqsSinkOptions};
use nightgate::sink::{Outbound, Outcome};
use nightgate_core::{
    ConsentAnswer, Decision, Facts, House, Jurisdiction, Message, PackSource, Ruleset, decide,
    locate,
};
use serde_json::json;

/// What may answer late, in tests of late answers.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);
/// Hidden for longer than any test takes.
pub(crate) const HIDE: Duration = Duration::from_secs(600);

/// A client of whatever listens at `url`.
pub(crate) fn client(url: &str) -> Client {
    let timeouts = TimeoutConfig::builder().operation_timeout(TIMEOUT);
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("ap-northeast-2"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(1)))
        .timeout_config(timeouts.build())
        .endpoint_url(url);
    Client::from_conf(config.build())
}

pub(crate) fn queues(url: &str) -> Arc<dyn Queues> {
    Arc::new(SdkQueues::new(client(url)))
}

/// Makes a queue with these attributes.
pub(crate) async fn make(url: &str, name: &str, attributes: &[(&str, &str)]) -> Queue {
    let mut call = client(url).create_queue().queue_name(name);
    for (name, value) in attributes {
        call = call.attributes(QueueAttributeName::from(*name), *value);
    }
    let made = call.send().await.unwrap();
    Queue::new(made.queue_url().unwrap())
}

/// Receives until `count` have come, or five long polls in a row are empty.
pub(crate) async fn take(queues: &dyn Queues, queue: &Queue, count: usize) -> Vec<Incoming> {
    let ask = Ask {
        max: 10,
        hide: HIDE,
        wait: Duration::from_secs(1),
    };
    let (mut found, mut empty) = (Vec::new(), 0);
    while found.len() < count && empty < 5 {
        let some = queues.receive(queue, &ask).await.unwrap();
        empty = if some.is_empty() { empty + 1 } else { 0 };
        found.extend(some);
    }
    found
}

pub(crate) fn outgoing(body: &str) -> Outgoing {
    Outgoing {
        body: body.to_owned(),
        ..Outgoing::default()
    }
}

/// A message with leave to go for the next hour.
pub(crate) fn outbound(id: &str, body: Bytes, attributes: BTreeMap<String, String>) -> Outbound {
    let now = SystemClock::default().now();
    let until = now + SignedDuration::from_hours(1);
    let message: Message = serde_json::from_value(json!({
        "id": id, "recipient": "010-1234-5678", "channel": "sms", "purpose": "informational",
        "campaign": "autumn", "priority": 5, "content_type": "text/plain; charset=utf-8",
        "attributes": {}, "body": [], "expires_at": until,
    }))
    .unwrap();
    let message = Message {
        body,
        attributes,
        ..message
    };
    let permit = match decided(&message, now) {
        Decision::Send(permit) => permit,
        other => panic!("an informational message may leave at any hour: {other:?}"),
    };
    Outbound::new(permit, message, 1, until).unwrap()
}

fn decided(message: &Message, now: Timestamp) -> Decision {
    let pack = PackSource {
        name: "kr.toml".to_owned(),
        text: include_str!("../../../../rules/kr.toml").to_owned(),
    };
    let house = House {
        jurisdiction: Jurisdiction::new("KR").unwrap(),
        zone: TimeZone::get("Asia/Seoul").unwrap(),
    };
    let place = locate(message, &house);
    let facts = Facts {
        consent: &ConsentAnswer::Unknown,
        place: &place,
    };
    decide(&Ruleset::load(&[pack]).unwrap(), message, &facts, now)
}

/// `count` messages with bodies `0`, `1`, ...
pub(crate) fn numbered(count: usize) -> Vec<Outbound> {
    let one = |n: usize| outbound(&format!("m-{n}"), n.to_string().into(), BTreeMap::new());
    (0..count).map(one).collect()
}

pub(crate) fn sink(queues: Arc<dyn Queues>, queue: &Queue) -> SqsSink {
    let options = SqsSinkOptions::new(queue.clone());
    SqsSink::new(queues, options, Arc::new(SystemClock::default())).unwrap()
}

/// One word an outcome.
pub(crate) fn words(outcomes: &[Outcome]) -> Vec<&'static str> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Retry {
            whole_lane: true, ..
        } => "retry lane",
        other => other.name(),
    };
    outcomes.iter().map(word).collect()
}

//! What SQS says, in our words.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::types::{
    Message, MessageAttributeValue, MessageSystemAttributeName as Name, QueueAttributeName,
};
use jiff::Timestamp;
use serde_json::Value as Json;

use crate::aws::queues::{Answer, Attribute, Fault, FaultKind, Incoming, Look, Value};

/// A message that was received. What is not told of a time reads as 1970.
pub(super) fn incoming(message: Message) -> Answer<Incoming> {
    let (Some(id), Some(handle)) = (message.message_id, message.receipt_handle) else {
        let why = "a received message has no id or no handle";
        return Err(Fault::new(FaultKind::Unknown, why));
    };
    let mut system = message.attributes.unwrap_or_default();
    let instant = |name: &Name, system: &HashMap<Name, String>| {
        let millis = system.get(name).and_then(|text| text.parse().ok());
        millis
            .and_then(|millis| Timestamp::from_millisecond(millis).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH)
    };
    let sent_at = instant(&Name::SentTimestamp, &system);
    let first_received_at = instant(&Name::ApproximateFirstReceiveTimestamp, &system);
    let receives = system.get(&Name::ApproximateReceiveCount);
    let receives = receives.and_then(|text| text.parse().ok()).unwrap_or(1);
    let attributes = message.message_attributes.unwrap_or_default();
    let mut attributes: Vec<Attribute> = attributes.into_iter().map(attribute).collect();
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Incoming {
        id,
        handle,
        body: message.body.unwrap_or_default(),
        attributes,
        group: system.remove(&Name::MessageGroupId),
        deduplication: system.remove(&Name::MessageDeduplicationId),
        trace: system.remove(&Name::AwsTraceHeader),
        sent_at,
        first_received_at,
        receives,
    })
}

fn attribute((name, value): (String, MessageAttributeValue)) -> Attribute {
    let kind = value.data_type;
    let value = match (value.binary_value, value.string_value) {
        (Some(bytes), _) => Value::Bytes(bytes.into_inner()),
        (None, text) => Value::Text(text.unwrap_or_default()),
    };
    Attribute { name, kind, value }
}

/// What a queue tells of itself; what it does not tell is zero.
pub(super) fn look(attributes: &HashMap<QueueAttributeName, String>) -> Look {
    use QueueAttributeName as Q;
    let number = |name: Q| {
        let text = attributes.get(&name);
        text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
    };
    Look {
        visible: number(Q::ApproximateNumberOfMessages),
        in_flight: number(Q::ApproximateNumberOfMessagesNotVisible),
        delayed: number(Q::ApproximateNumberOfMessagesDelayed),
        retention: Duration::from_secs(number(Q::MessageRetentionPeriod)),
        hide: Duration::from_secs(number(Q::VisibilityTimeout)),
        receives_max: attributes
            .get(&Q::RedrivePolicy)
            .and_then(|text| receives_max(text)),
        bytes_max: usize::try_from(number(Q::MaximumMessageSize)).unwrap_or(usize::MAX),
    }
}

/// The `maxReceiveCount` of a redrive policy: a number, or one in quotes.
fn receives_max(policy: &str) -> Option<u32> {
    let policy: Json = serde_json::from_str(policy).ok()?;
    match policy.get("maxReceiveCount")? {
        Json::String(text) => text.parse().ok(),
        other => u32::try_from(other.as_u64()?).ok(),
    }
}

//! What an event asks for.

use aws_lambda_events::sqs::{SqsEvent, SqsMessage, SqsMessageAttribute};
use jiff::Timestamp;
use serde_json::Value as Json;

use crate::aws::queues::{Attribute, Incoming, Queue, Value};

/// How the records of an SQS event name where they come from.
const SQS: &str = "aws:sqs";
/// Digits of an account's number.
const ACCOUNT_DIGITS: usize = 12;

/// An event.
#[derive(Clone, Debug)]
pub enum Event {
    /// Messages of an SQS queue.
    Queue {
        /// The queue, as AWS names it: `arn:aws:sqs:REGION:ACCOUNT:NAME`.
        arn: String,
        /// The messages, in order. At least one.
        incoming: Vec<Incoming>,
    },
    /// Anything else: release what is due.
    Tick,
}

impl Event {
    /// Reads an event.
    ///
    /// # Errors
    /// What is wrong with an event of SQS.
    pub fn read(payload: Json) -> Result<Self, String> {
        let first = payload.get("Records").and_then(|records| records.get(0));
        let source = first.and_then(|record| record.get("eventSource"));
        if source.and_then(Json::as_str) != Some(SQS) {
            return Ok(Self::Tick);
        }
        // The texts of serde_json may quote what they found.
        let event: SqsEvent = serde_json::from_value(payload)
            .map_err(|error| format!("is no event of SQS ({:?})", error.classify()))?;
        let arns = event.records.iter().map(|record| &record.event_source_arn);
        let arn = match arns.clone().next() {
            Some(Some(arn)) if arns.clone().all(|other| other.as_deref() == Some(arn)) => {
                arn.clone()
            }
            _ => return Err("names no queue, or several".to_owned()),
        };
        let incoming = event.records.into_iter().map(incoming);
        let incoming = incoming.collect::<Option<Vec<Incoming>>>();
        // An answer that names no message would be taken as "none was taken in".
        let incoming = incoming.ok_or("holds a record without an id".to_owned())?;
        Ok(Self::Queue { arn, incoming })
    }
}

/// The last part of a queue's ARN: its name.
#[must_use]
pub fn name(arn: &str) -> &str {
    arn.rsplit(':').next().unwrap_or_default()
}

/// Whether `arn` is that of `queue`: by its name, and by its account where the address tells one.
#[must_use]
pub fn is_of(arn: &str, queue: &Queue) -> bool {
    let mut of_arn = arn.rsplit(':');
    let mut of_url = queue.url().rsplit('/');
    let (name, own_name) = (of_arn.next(), of_url.next());
    let (account, own_account) = (of_arn.next(), of_url.next());
    let tells = |account: &&str| {
        account.len() == ACCOUNT_DIGITS && account.bytes().all(|byte| byte.is_ascii_digit())
    };
    let same = |own: &str| Some(own) == account;
    name == own_name && own_account.filter(tells).is_none_or(same)
}

/// `None` without an id.
fn incoming(record: SqsMessage) -> Option<Incoming> {
    let id = record.message_id.filter(|id| !id.is_empty())?;
    let mut told = record.attributes;
    let at = |millis: Option<String>| {
        let millis = millis.and_then(|millis| millis.parse().ok());
        let at = millis.and_then(|millis| Timestamp::from_millisecond(millis).ok());
        at.unwrap_or(Timestamp::UNIX_EPOCH)
    };
    let attributes = record.message_attributes.into_iter();
    let mut attributes: Vec<Attribute> = attributes.map(attribute).collect();
    attributes.sort_by(|a, b| a.name.cmp(&b.name));
    let receives = told.remove("ApproximateReceiveCount");
    Some(Incoming {
        id,
        handle: record.receipt_handle.unwrap_or_default(),
        body: record.body.unwrap_or_default(),
        attributes,
        group: told.remove("MessageGroupId"),
        deduplication: told.remove("MessageDeduplicationId"),
        trace: told.remove("AWSTraceHeader"),
        sent_at: at(told.remove("SentTimestamp")),
        first_received_at: at(told.remove("ApproximateFirstReceiveTimestamp")),
        receives: receives.and_then(|it| it.parse().ok()).unwrap_or(1),
    })
}

fn attribute((name, attribute): (String, SqsMessageAttribute)) -> Attribute {
    let value = match (attribute.string_value, attribute.binary_value) {
        (Some(text), _) => Value::Text(text),
        (None, bytes) => Value::Bytes(bytes.map(|bytes| bytes.0).unwrap_or_default()),
    };
    Attribute {
        name,
        kind: attribute.data_type.unwrap_or_default(),
        value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_read_as_the_queue_would_have_given_it() {
        let event = json!({"Records": [{
            "messageId": "0001", "receiptHandle": "h", "body": "\u{c548}", "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:ap-northeast-2:123456789012:orders.fifo",
            "attributes": {"ApproximateReceiveCount": "3", "SentTimestamp": "1520621625029",
                "ApproximateFirstReceiveTimestamp": "1520621634884", "MessageGroupId": "g",
                "MessageDeduplicationId": "d", "AWSTraceHeader": "Root=1"},
            "messageAttributes": {
                "to": {"stringValue": "010", "stringListValues": [], "binaryListValues": [],
                    "dataType": "String"},
                "raw": {"binaryValue": "AP8=", "dataType": "Binary.png"}}
        }]});
        let Ok(Event::Queue { arn, incoming }) = Event::read(event) else {
            panic!("it is an event of SQS");
        };
        assert_eq!(name(&arn), "orders.fifo");
        let raw = Attribute {
            name: "raw".to_owned(),
            kind: "Binary.png".to_owned(),
            value: Value::Bytes(vec![0, 255]),
        };
        let right = Incoming {
            id: "0001".to_owned(),
            handle: "h".to_owned(),
            body: "\u{c548}".to_owned(),
            attributes: vec![raw, Attribute::text("to", "010")],
            group: Some("g".to_owned()),
            deduplication: Some("d".to_owned()),
            trace: Some("Root=1".to_owned()),
            sent_at: Timestamp::from_millisecond(1_520_621_625_029).unwrap(),
            first_received_at: Timestamp::from_millisecond(1_520_621_634_884).unwrap(),
            receives: 3,
        };
        assert!(incoming == [right], "{incoming:?}");
    }

    #[test]
    fn whatever_is_no_event_of_sqs_is_a_tick() {
        for event in [
            json!({}),
            json!(null),
            json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}),
            json!({"Records": []}),
            json!({"Records": [{"eventSource": "aws:s3"}]}),
        ] {
            let read = Event::read(event.clone());
            assert!(matches!(read, Ok(Event::Tick)), "{event}");
        }
    }

    #[test]
    fn a_record_that_cannot_be_answered_for_fails_the_event_and_shows_nothing_of_it() {
        let record = |id: &str, arn: &str| {
            json!({"messageId": id, "eventSource": "aws:sqs", "eventSourceARN": arn,
                "body": "010-1234-5678"})
        };
        for (records, why) in [
            (json!([record("", "a:b")]), "holds a record without an id"),
            (
                json!([record("1", "a"), record("2", "b")]),
                "names no queue, or several",
            ),
            (
                json!([{"eventSource": "aws:sqs", "body": 5}]),
                "is no event of SQS (Data)",
            ),
        ] {
            let fault = Event::read(json!({"Records": records})).unwrap_err();
            assert_eq!(fault, why);
        }
    }

    #[test]
    fn a_queue_is_known_by_name_and_by_account_if_its_address_tells_one() {
        let arn = "arn:aws:sqs:ap-northeast-2:123456789012:orders";
        let is = |url: &str| is_of(arn, &Queue::new(url));
        assert!(is(
            "https://sqs.ap-northeast-2.amazonaws.com/123456789012/orders"
        ));
        assert!(is("http://127.0.0.1:9324/queue/orders"));
        assert!(!is(
            "https://sqs.ap-northeast-2.amazonaws.com/210987654321/orders"
        ));
        assert!(!is(
            "https://sqs.ap-northeast-2.amazonaws.com/123456789012/orders-2"
        ));
    }
}

//! Producers and consumers use other clients: what boto3 writes leaves for boto3 as it was.

use std::collections::BTreeMap;

use nightgate::aws::queues::{BYTES_MAX, Queue};
use nightgate::aws::travel;
use nightgate::sink::{Outbound, Sink as _};
use serde_json::{Value as Json, json};

use crate::emulators::{Emulator, Kind, boto};
use crate::world::{make, outbound, queues, sink, take, words};

/// Messages as `boto.py` writes and reads them, by body.
fn messages() -> Json {
    let large = "밤".repeat(BYTES_MAX / 3) + "a";
    let attributes = json!({
        "label": {"DataType": "String.label", "StringValue": "x"},
        "logo": {"DataType": "Binary.png", "BinaryValue": "AJ+Slv8="},
        "price": {"DataType": "Number", "StringValue": "12.50"},
        "template": {"DataType": "String", "StringValue": "주문 🚚"},
    });
    let mut messages = vec![
        json!({"body": " \t\r\n", "attributes": {}}),
        json!({"body": "AAECAwQ=", "attributes": {}}),
        json!({"body": "\\u0000 %00 \u{80}\u{9f}", "attributes": {}}),
        json!({"body": "{\"to\":\"+82\",\"text\":\"안녕 👋\"}", "attributes": attributes}),
        json!({"body": large, "attributes": {}}),
    ];
    messages.sort_by(|a, b| a["body"].as_str().cmp(&b["body"].as_str()));
    Json::Array(messages)
}

/// Takes what is in `from` and hands it over to `to`, as the road does.
async fn pass_on(url: &str, from: &Queue, to: &Queue, count: usize) {
    let queues = queues(url);
    let arrived = take(&*queues, from, count).await;
    assert_eq!(arrived.len(), count);
    let out = |(n, one): (usize, &_)| -> Outbound {
        let (body, attributes) = travel::arrive(one);
        outbound(&format!("m-{n}"), body, attributes)
    };
    let batch: Vec<Outbound> = arrived.iter().enumerate().map(out).collect();
    let outcomes = sink(queues, to).deliver(batch).await;
    assert_eq!(words(&outcomes), vec!["delivered"; count]);
}

/// What is in `queue`, without our own attributes; and how many messages had them.
fn read(url: &str, queue: &Queue, count: usize) -> (Json, usize) {
    let text = boto(url, &["read", queue.url(), &count.to_string()], "");
    let mut messages: Json = serde_json::from_str(&text).unwrap();
    let mut marked = 0;
    for message in messages.as_array_mut().unwrap() {
        let attributes = message["attributes"].as_object_mut().unwrap();
        let id = attributes.remove(travel::ID).is_some();
        let end = attributes.remove(travel::NOT_AFTER).is_some();
        assert_eq!(id, end);
        marked += usize::from(id);
    }
    (messages, marked)
}

#[tokio::test]
async fn what_boto_writes_leaves_for_boto_byte_for_byte_through_two_nightgates() {
    let emulator = Emulator::start(Kind::Ministack).await;
    let url = &emulator.url;
    let (first, second) = (make(url, "in", &[]).await, make(url, "between", &[]).await);
    let last = make(url, "out", &[]).await;
    let messages = messages();
    let count = messages.as_array().unwrap().len();
    boto(url, &["write", first.url()], &messages.to_string());
    pass_on(url, &first, &second, count).await;
    pass_on(url, &second, &last, count).await;
    let (got, marked) = read(url, &last, count);
    assert!(got == messages, "boto reads other messages than it wrote");
    assert_eq!(
        marked,
        count - 1,
        "the largest has no room for our attributes"
    );
}

#[tokio::test]
async fn a_body_of_bytes_reaches_boto_as_base64_that_says_so() {
    let emulator = Emulator::start(Kind::Ministack).await;
    let url = &emulator.url;
    let queue = make(url, "bytes", &[]).await;
    let bytes: Vec<u8> = (0..=255).collect();
    let batch = vec![
        outbound("m-0", bytes.into(), BTreeMap::new()),
        outbound("m-1", "".into(), BTreeMap::new()),
    ];
    let outcomes = sink(queues(url), &queue).deliver(batch).await;
    assert_eq!(words(&outcomes), ["delivered"; 2]);
    let (got, _) = read(url, &queue, 2);
    let said = json!({"nightgate-body": {"DataType": "String", "StringValue": "base64"}});
    assert_eq!(got[0], json!({"body": "\n", "attributes": said}));
    assert_eq!(got[1]["attributes"], said);
    assert!(got[1]["body"].as_str().unwrap().starts_with("AAECAwQFBgc"));
}

use std::collections::BTreeMap;

use nightgate_core::{Channel, FieldFault, Purpose};

use super::world::{outgoing, table};
use crate::aws::queues::{Attribute, Incoming, Outgoing, Value};
use crate::ingest::sqs::{MAPPED, Mapping};

fn incoming(outgoing: Outgoing) -> Incoming {
    let at = "2026-11-22T14:00:00Z".parse().unwrap();
    Incoming {
        id: "0000-sqs".to_owned(),
        handle: "h".to_owned(),
        body: outgoing.body,
        attributes: outgoing.attributes,
        group: outgoing.group,
        deduplication: outgoing.deduplication,
        trace: outgoing.trace,
        sent_at: at,
        first_received_at: at,
        receives: 1,
    }
}

fn with(pairs: &[(&str, &str)]) -> Result<Mapping, Vec<FieldFault>> {
    let mut table = table();
    for (key, text) in pairs {
        table.insert((*key).to_owned(), (*text).to_owned());
    }
    Mapping::parse(&table)
}

fn told(faults: &[FieldFault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn the_first_place_that_is_there_wins() {
    let mapping = with(&[("campaign", "@campaign | /order/campaign | =none")]).unwrap();
    let campaign = |outgoing| mapping.map(&incoming(outgoing)).unwrap().campaign.unwrap();
    let body = r#"{"order":{"campaign":"spring"}}"#;
    let mut both = outgoing("m-1", body);
    both.attributes.push(Attribute::text("campaign", "autumn"));
    assert_eq!(&*campaign(both), "autumn");
    assert_eq!(&*campaign(outgoing("m-1", body)), "spring");
    let null = r#"{"order":{"campaign":null}}"#;
    assert_eq!(&*campaign(outgoing("m-1", null)), "none");
    assert_eq!(&*campaign(outgoing("m-1", "no JSON")), "none");
}

#[test]
fn every_field_can_be_mapped() {
    let mapping = with(&[
        ("id", "/id"),
        ("recipient", "/a~1b/0/to"),
        ("channel", "/channel"),
        ("purpose", "/purpose"),
        ("campaign", "@sqs.group"),
        ("priority", "/priority"),
        ("jurisdiction", "=KR"),
        ("zone", "=Asia/Seoul"),
        ("send_at", "/at"),
        ("expires_at", "@until"),
        ("collapse_key", "@sqs.message-id"),
        ("content_type", "=application/json"),
    ])
    .unwrap();
    let body = r#"{"id":7,"a/b":[{"to":"010-9999-0000"}],"channel":"lms","purpose":"advertising",
        "priority":2,"at":"2026-11-23T09:00:00+09:00"}"#;
    let mut outgoing = outgoing("m-1", body);
    outgoing.group = Some("g-1".to_owned());
    let until = Attribute::text("until", "2026-11-24T09:00:00+09:00");
    outgoing.attributes.push(until);
    let message = mapping.map(&incoming(outgoing)).unwrap();
    assert_eq!(message.id.as_str(), "7");
    assert_eq!(message.recipient.expose(), "010-9999-0000");
    assert_eq!(
        (message.channel, message.purpose),
        (Channel::Lms, Purpose::Advertising)
    );
    assert_eq!(message.campaign.as_deref(), Some("g-1"));
    assert_eq!(message.priority.get(), 2);
    assert_eq!(message.jurisdiction.unwrap().as_str(), "KR");
    assert_eq!(message.zone.as_deref(), Some("Asia/Seoul"));
    assert_eq!(message.send_at.unwrap().to_string(), "2026-11-23T00:00:00Z");
    assert_eq!(
        message.expires_at.unwrap().to_string(),
        "2026-11-24T00:00:00Z"
    );
    assert_eq!(message.collapse_key.as_deref(), Some("0000-sqs"));
    assert_eq!(&*message.content_type, "application/json");
    assert_eq!(&*message.body, body.as_bytes());
}

#[test]
fn an_id_is_that_of_the_producer_or_else_of_sqs() {
    let mapping = with(&[]).unwrap();
    let given = mapping.map(&incoming(outgoing("m-1", "hello"))).unwrap();
    assert_eq!(given.id.as_str(), "m-1");
    let mut nameless = outgoing("m-1", "hello");
    nameless.attributes.remove(0);
    let nameless = mapping.map(&incoming(nameless)).unwrap();
    assert_eq!(nameless.id.as_str(), "0000-sqs");
}

#[test]
fn body_and_attributes_are_carried_as_they_came() {
    let body = "{ \"\u{c548}\u{b155}\" : 1.0,\t\"a\":[ ] }\n";
    let mut outgoing = outgoing("m-1", body);
    outgoing
        .attributes
        .push(Attribute::text("tone", "\u{c548}"));
    let message = with(&[]).unwrap().map(&incoming(outgoing)).unwrap();
    assert_eq!(&*message.body, body.as_bytes());
    assert_eq!(message.attributes["tone"], "\u{c548}");
    assert_eq!(message.attributes["to"], "010-1234-5678");
}

#[test]
fn what_only_a_queue_knows_leaves_as_it_came() {
    let mut came = outgoing("m-1", "hello");
    came.group = Some("tenant-1".to_owned());
    came.deduplication = Some("d-1".to_owned());
    came.trace = Some("Root=1-5759e988-bd862e3fe1be46a994272793".to_owned());
    came.attributes.push(Attribute {
        name: "raw".to_owned(),
        kind: "Binary.png".to_owned(),
        value: Value::Bytes(vec![0, 255]),
    });
    let message = with(&[]).unwrap().map(&incoming(came.clone())).unwrap();
    let mut left = crate::aws::travel::leave(&message).unwrap();
    let names = |outgoing: &mut Outgoing| {
        outgoing.attributes.retain(|it| it.name != "nightgate-id");
        outgoing.attributes.sort_by(|a, b| a.name.cmp(&b.name));
    };
    names(&mut came);
    names(&mut left);
    assert_eq!(left, came);
}

#[test]
fn a_pointer_reads_a_body_that_travelled_as_base64() {
    let mut wrapped = outgoing("m-1", "eyJjYW1wYWlnbiI6InNwcmluZyJ9");
    wrapped
        .attributes
        .push(Attribute::text("nightgate-body", "base64"));
    let message = with(&[("campaign", "/campaign")]).unwrap();
    let message = message.map(&incoming(wrapped)).unwrap();
    assert_eq!(message.campaign.as_deref(), Some("spring"));
    assert_eq!(&*message.body, br#"{"campaign":"spring"}"#);
}

#[test]
fn what_must_be_mapped_and_is_not_is_named() {
    let faults = Mapping::parse(&BTreeMap::new()).unwrap_err();
    let fields: Vec<&str> = faults.iter().map(|fault| &*fault.field).collect();
    assert_eq!(fields, ["recipient", "channel", "purpose"]);
}

#[test]
fn every_faulty_key_is_named_with_its_rule() {
    let faults = with(&[
        ("channel", "=pigeon"),
        ("campaign", "campaign"),
        ("colour", "=red"),
        ("body", "/text"),
        ("zone", "=Moon/Base"),
        ("send_at", "/a~2b"),
        ("expires_at", "@not before"),
        ("id", "@sqs.message-id | @never-asked"),
        ("collapse_key", "@sqs.queue"),
        ("priority", "@p | "),
        ("recipient", "@010-1234-5678 "),
    ])
    .unwrap_err();
    let mut fields: Vec<&str> = faults.iter().map(|fault| &*fault.field).collect();
    fields.sort_unstable();
    let right = [
        "body",
        "campaign",
        "channel",
        "collapse_key",
        "colour",
        "expires_at",
        "id",
        "priority",
        "send_at",
        "zone",
    ];
    assert_eq!(fields, right, "{:?}", told(&faults));
    let told = told(&faults).join("\n");
    for rule in [
        "`channel` must be one of sms",
        "`campaign` must be @attribute, /pointer into the body, or =text",
        "`body` is not mapped: body and attributes are carried as they come",
        "`zone` must be an IANA time zone",
        "`send_at` must write ~ as ~0",
        "`id` names places after one that is always there",
        "`collapse_key` knows @sqs.message-id and @sqs.group",
    ] {
        assert!(told.contains(rule), "{rule} is missing from\n{told}");
    }
    assert!(told.contains(&MAPPED.join(", ")), "{told}");
}

#[test]
fn faults_of_a_message_name_every_field_and_show_no_value() {
    let mapping = with(&[
        ("id", "/id"),
        ("recipient", "/to"),
        ("channel", "/channel"),
        ("priority", "/priority"),
        ("send_at", "/at"),
        ("campaign", "/campaign"),
        ("zone", "@zone"),
        ("collapse_key", "/key"),
    ])
    .unwrap();
    let body = r#"{"id":"has space","to":821012345678,"channel":"pigeon","priority":"soon",
        "at":"tomorrow","campaign":true,"key":1.5}"#;
    let mut outgoing = outgoing("m-1", body);
    outgoing.attributes.push(Attribute {
        name: "zone".to_owned(),
        kind: "Binary".to_owned(),
        value: Value::Bytes(b"Asia/Seoul".to_vec()),
    });
    let faults = mapping.map(&incoming(outgoing)).unwrap_err();
    let mut fields: Vec<&str> = faults.iter().map(|fault| &*fault.field).collect();
    fields.sort_unstable();
    let right = [
        "campaign",
        "channel",
        "collapse_key",
        "id",
        "priority",
        "recipient",
        "send_at",
        "zone",
    ];
    assert_eq!(fields, right);
    let told = told(&faults).join("\n");
    assert!(told.contains("a number loses its leading zeros"), "{told}");
    for value in [
        "has space",
        "8210",
        "pigeon",
        "soon",
        "tomorrow",
        "1.5",
        "Asia/Seoul",
    ] {
        assert!(!told.contains(value), "{value} is shown in\n{told}");
    }
}

#[test]
fn a_missing_field_says_where_it_was_looked_for() {
    let mut nobody = outgoing("m-1", r#"{"for":"010-1234-5678"}"#);
    nobody.attributes.remove(1);
    let faults = with(&[]).unwrap().map(&incoming(nobody)).unwrap_err();
    assert_eq!(
        told(&faults),
        ["`recipient` is missing: looked at @to | /to"]
    );
}

/// A body that was cut short would otherwise leave at once.
#[test]
fn a_body_that_is_no_json_does_not_lose_a_field_that_is_asked_of_it() {
    let mapping = with(&[("send_at", "/at")]).unwrap();
    let cut = outgoing("m-1", r#"{"at":"2026-11-23T09:00:00+09:00""#);
    let faults = mapping.map(&incoming(cut)).unwrap_err();
    assert_eq!(
        told(&faults),
        ["`send_at` is asked of the body, which is no JSON"]
    );
    let none = mapping.map(&incoming(outgoing("m-1", "{}"))).unwrap();
    assert_eq!(none.send_at, None);
}

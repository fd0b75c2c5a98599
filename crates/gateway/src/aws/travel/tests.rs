//! What arrives leaves as it came; what SQS forbids is named.

use proptest::prelude::*;

use super::*;
use crate::sink::testing::message as some_message;

fn incoming(body: &str, attributes: Vec<Attribute>) -> Incoming {
    Incoming {
        id: "sqs-id".to_owned(),
        handle: "handle".to_owned(),
        body: body.to_owned(),
        attributes,
        group: None,
        deduplication: None,
        trace: None,
        sent_at: Timestamp::UNIX_EPOCH,
        first_received_at: Timestamp::UNIX_EPOCH,
        receives: 1,
    }
}

/// The message of Nightgate with this body and these attributes.
fn message(body: Bytes, attributes: BTreeMap<String, String>) -> Message {
    Message {
        body,
        attributes,
        ..some_message("m-1", b"")
    }
}

fn through(arrived: &Incoming) -> Result<Outgoing, FieldFault> {
    let (body, attributes) = arrive(arrived);
    leave(&message(body, attributes))
}

#[track_caller]
fn assert_travels(arrived: &Incoming) {
    let left = through(arrived).unwrap();
    assert!(left.body == arrived.body, "the body is another");
    let shown = |attributes: &[Attribute]| format!("{attributes:?}");
    assert!(
        left.attributes == arrived.attributes,
        "{} is not {}",
        shown(&left.attributes),
        shown(&arrived.attributes)
    );
    assert_eq!(left.group, arrived.group);
    assert_eq!(left.deduplication, arrived.deduplication);
    assert_eq!(left.trace, arrived.trace);
}

fn typed(name: &str, kind: &str, value: Value) -> Attribute {
    Attribute {
        name: name.to_owned(),
        kind: kind.to_owned(),
        value,
    }
}

fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

#[test]
fn bodies_of_every_kind_leave_byte_for_byte() {
    let long = "밤".repeat(BYTES_MAX / 3) + "a";
    assert_eq!(long.len(), BYTES_MAX);
    let bodies = [
        r#"{"to":"+82","text":"안녕"}"#,
        "👩‍👩‍👧 🇰🇷 \u{10ffff}",
        "\\u0000 \u{80}\u{9f} \u{fffd} %00 \"quoted\" \\",
        "AAECAwQ=",
        " \t\r\n",
        "a",
        &long,
    ];
    for body in bodies {
        assert_travels(&incoming(body, Vec::new()));
    }
}

#[test]
fn attributes_of_every_type_leave_as_they_came() {
    let all = vec![
        typed("label", "String.label", Value::Text("x".to_owned())),
        typed(
            "logo",
            "Binary.png",
            Value::Bytes(vec![0, 159, 146, 150, 255]),
        ),
        typed("nightgate.sqs", "String", Value::Text("{}".to_owned())),
        typed("price", "Number", Value::Text("12.50".to_owned())),
        typed("raw", "Binary", Value::Bytes(vec![7])),
        typed("template", "String", Value::Text("주문 🚚".to_owned())),
    ];
    let mut arrived = incoming("body", all);
    assert_travels(&arrived);
    arrived.group = Some("group".to_owned());
    arrived.deduplication = Some("once".to_owned());
    arrived.trace = Some("Root=1-5759e988-bd862e3fe1be46a994272793".to_owned());
    assert_travels(&arrived);
    let (_, attributes) = arrive(&arrived);
    assert_eq!(attributes.keys().collect::<Vec<_>>(), [SIDE, "template"]);
}

fn any_text() -> impl Strategy<Value = String> {
    let taken = prop_oneof![
        proptest::char::range(' ', '\u{d7ff}'),
        proptest::char::range('\u{e000}', '\u{fffd}'),
        proptest::char::range('\u{10000}', '\u{10ffff}'),
        Just('\t'),
        Just('\n'),
        Just('\r'),
    ];
    proptest::collection::vec(taken, 1..40).prop_map(|chars| chars.into_iter().collect())
}

/// An attribute without a name.
fn any_attribute() -> impl Strategy<Value = Attribute> {
    let bytes = || proptest::collection::vec(any::<u8>(), 1..60);
    prop_oneof![
        3 => any_text().prop_map(|text| typed("", "String", Value::Text(text))),
        1 => (any_text(), "[a-z]{1,9}").prop_map(|(text, label)| {
            typed("", &format!("String.{label}"), Value::Text(text))
        }),
        1 => any::<i64>().prop_map(|n| typed("", "Number", Value::Text(n.to_string()))),
        1 => bytes().prop_map(|bytes| typed("", "Binary", Value::Bytes(bytes))),
    ]
}

fn any_incoming() -> impl Strategy<Value = Incoming> {
    let name = prop_oneof![
        "[A-Za-z0-9_-]{1,20}",
        "[a-z]{1,9}\\.[a-z]{1,9}",
        Just(SIDE.into())
    ];
    let name = name.prop_filter("reserved", |name: &String| {
        !name.to_ascii_lowercase().starts_with("aws.") && !name.starts_with("amazon.")
    });
    let attributes = proptest::collection::btree_map(name, any_attribute(), 0..=ATTRIBUTES_MAX);
    let some = || proptest::option::of("[!-~]{1,128}");
    let facts = (any_text(), attributes, some(), some(), some());
    facts.prop_map(|(body, attributes, group, deduplication, trace)| Incoming {
        group,
        deduplication,
        trace,
        ..incoming(
            &body,
            attributes
                .into_iter()
                .map(|(name, attribute)| Attribute { name, ..attribute })
                .collect(),
        )
    })
}

proptest! {
    #[test]
    fn what_arrives_leaves_byte_for_byte_and_attribute_for_attribute(arrived in any_incoming()) {
        assert_travels(&arrived);
    }

    #[test]
    fn any_body_reaches_a_second_nightgate_as_it_was(
        body in proptest::collection::vec(any::<u8>(), 0..200),
        arrived in any_incoming(),
    ) {
        let (_, attributes) = arrive(&arrived);
        let first = message(body.into(), attributes);
        let Ok(mut outgoing) = leave(&first) else {
            prop_assert!(arrived.attributes.len() == ATTRIBUTES_MAX, "no room to say base64");
            return Ok(());
        };
        mark(&mut outgoing, &first.id, Timestamp::UNIX_EPOCH);
        let mut again = incoming(&outgoing.body, outgoing.attributes);
        again.group = outgoing.group;
        again.deduplication = outgoing.deduplication;
        again.trace = outgoing.trace;
        let (body, attributes) = arrive(&again);
        prop_assert_eq!(&body, &first.body);
        let second = leave(&message(body, attributes)).unwrap();
        prop_assert!(second == leave(&first).unwrap());
    }
}

#[test]
fn a_body_that_is_no_text_goes_as_base64_and_says_so() {
    for body in [
        &b"\xff\xfe\x00"[..],
        b"bell \x07",
        b"",
        "\u{fffe}".as_bytes(),
    ] {
        let left = leave(&message(Bytes::copy_from_slice(body), BTreeMap::new())).unwrap();
        assert_eq!(left.attributes, [Attribute::text(BODY, BASE64)]);
        assert!(is_text(&left.body));
        let (back, attributes) = arrive(&incoming(&left.body, left.attributes));
        assert_eq!(back, body);
        assert!(attributes.is_empty());
    }
}

#[test]
fn a_body_that_only_claims_to_be_base64_stays_as_it_is() {
    assert_travels(&incoming(
        "not base64!",
        vec![Attribute::text(BODY, BASE64)],
    ));
    assert_travels(&incoming("AAAA", vec![Attribute::text(BODY, "other")]));
}

#[test]
fn what_sqs_forbids_is_named_and_nothing_is_dropped() {
    let field = |body: &[u8], pairs: &[(&str, &str)]| {
        let fault = leave(&message(Bytes::copy_from_slice(body), attributes(pairs))).unwrap_err();
        fault.field
    };
    assert_eq!(field(b"x", &[("a:b", "1")]), "attributes.a:b");
    assert_eq!(field(b"x", &[("a..b", "1")]), "attributes.a..b");
    assert_eq!(field(b"x", &[("Aws.x", "1")]), "attributes.Aws.x");
    assert_eq!(field(b"x", &[("a", "")]), "attributes.a");
    assert_eq!(field(b"x", &[("a", "\u{0}")]), "attributes.a");
    let large = vec![b'x'; BYTES_MAX];
    assert_eq!(field(&large, &[("a", "1")]), "body");
    assert_eq!(field(&vec![0xff; BYTES_MAX * 3 / 4 + 3], &[]), "body");
    let names: Vec<String> = (0..11).map(|n| format!("a{n}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "1")).collect();
    assert_eq!(field(b"x", &pairs), "attributes");
    assert_eq!(
        field(b"\xff", &pairs[..10]),
        "attributes",
        "no room to say base64"
    );
    assert_eq!(
        field(b"\xff", &[(BODY, "mine")]),
        "attributes.nightgate-body"
    );
    let twice = r#"{"attributes":[{"name":"a","type":"Number","text":"1"}]}"#;
    assert_eq!(field(b"x", &[("a", "1"), (SIDE, twice)]), "attributes.a");
    let odd = r#"{"attributes":[{"name":"a","type":"Binary","text":"1"}]}"#;
    assert_eq!(field(b"x", &[(SIDE, odd)]), "attributes.a");
}

#[test]
fn a_producers_attribute_of_the_reserved_name_that_is_not_of_its_form_is_an_attribute() {
    for text in [
        "hello",
        "{\"other\":1}",
        r#"{"attributes":[{"name":"a","type":"Binary","base64":"?"}]}"#,
    ] {
        let left = leave(&message("x".into(), attributes(&[(SIDE, text)]))).unwrap();
        assert_eq!(left.attributes, [Attribute::text(SIDE, text)]);
    }
}

#[test]
fn our_own_attributes_go_with_a_message_as_far_as_there_is_room() {
    let end: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    let id = MessageId::new("m-1").unwrap();
    let marked = |count: usize, body: &str| {
        let all = (0..count).map(|n| Attribute::text(format!("a{n}"), "1"));
        let mut outgoing = Outgoing {
            body: body.to_owned(),
            attributes: all.collect(),
            ..Outgoing::default()
        };
        let before = outgoing.bytes();
        mark(&mut outgoing, &id, end);
        assert!(outgoing.bytes() <= BYTES_MAX.max(before));
        outgoing.attributes.split_off(count)
    };
    let both = [
        Attribute::text("nightgate-not-after", "2026-11-23T12:00:00Z"),
        Attribute::text("nightgate-id", "m-1"),
    ];
    assert_eq!(marked(0, "x"), both);
    assert_eq!(marked(8, "x"), both);
    assert_eq!(marked(9, "x"), both[..1], "the end of the permit wins");
    assert!(marked(10, "x").is_empty());
    let room = |bytes: usize| "x".repeat(BYTES_MAX - bytes);
    assert!(marked(0, &room(0)).is_empty());
    assert_eq!(marked(0, &room(both[0].bytes())), both[..1]);

    let mut theirs = Outgoing {
        attributes: vec![Attribute::text(ID, "theirs")],
        ..Outgoing::default()
    };
    mark(&mut theirs, &id, end);
    assert_eq!(
        theirs.attributes,
        [Attribute::text(ID, "theirs"), both[0].clone()]
    );
}

#[test]
fn a_nightgate_that_follows_another_knows_its_id_and_passes_on_neither_mark() {
    let marks = vec![
        Attribute::text(ID, "m-1"),
        Attribute::text(NOT_AFTER, "2026-11-23T12:00:00Z"),
        Attribute::text("template", "T-7"),
    ];
    let arrived = incoming("body", marks);
    assert_eq!(id(&arrived), Some("m-1"));
    let (_, attributes) = arrive(&arrived);
    assert_eq!(attributes.into_keys().collect::<Vec<_>>(), ["template"]);
}

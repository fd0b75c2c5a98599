use nightgate_core::Recipient;
use nightgate_core::message::BODY_MAX_BYTES;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

fn fault_fields(json: &str) -> Vec<String> {
    let faulty = read(json.as_bytes()).unwrap_err();
    faulty.faults.into_iter().map(|fault| fault.field).collect()
}

const SMALL: &str = r#"{"id":"m-1","recipient":"010-1234-5678","channel":"sms",
    "purpose":"informational","body":"hello"}"#;

fn with(extra: &str) -> String {
    SMALL.replacen(r#","body":"hello"}"#, &format!(",{extra}}}"), 1)
}

#[test]
fn a_message_needs_four_fields_and_a_body() {
    let message = read(SMALL.as_bytes()).unwrap();
    assert_eq!(&*message.body, b"hello");
    assert_eq!(&*message.content_type, CONTENT_TYPE_DEFAULT);
    assert_eq!(message.priority.get(), 5);
    assert_eq!(
        fault_fields("{}"),
        ["id", "recipient", "channel", "purpose", "body"]
    );
}

#[test]
fn a_json_body_is_kept_as_it_was_written_byte_for_byte() {
    let written = r#"{ "b" : 1.0,"a":[ 1e2, "\u0041" ], "a": null }"#;
    let message = read(with(&format!(r#""body": {written} "#)).as_bytes()).unwrap();
    assert_eq!(&*message.body, written.as_bytes());
    assert_eq!(&*message.content_type, CONTENT_TYPE_JSON);
    let message = read(with(r#""body":"\u0041\n""#).as_bytes()).unwrap();
    assert_eq!(&*message.body, b"A\n");
    let message = read(with(r#""body_base64":"/wA=""#).as_bytes()).unwrap();
    assert_eq!(&*message.body, b"\xff\0");
    assert_eq!(&*message.content_type, CONTENT_TYPE_BINARY);
}

#[test]
fn every_fault_is_told_at_once_and_none_shows_a_value() {
    let json = r#"{"id":"has space","recipient":" 010-9999-8888","channel":"pigeon",
        "purpose":7,"campaign":"","priority":10,"jurisdiction":"korea","zone":"Moon/Base",
        "send_at":"2026-11-22 09:00","expires_at":5,"collapse_key":[],"content_type":"",
        "attributes":{"a":1},"body":"sesame","body_base64":"%%","colour":"red"}"#;
    let faulty = read(json.as_bytes()).unwrap_err();
    let mut named: Vec<_> = faulty.faults.iter().map(|fault| &*fault.field).collect();
    named.sort_unstable();
    named.dedup();
    let mut all: Vec<_> = FIELDS
        .into_iter()
        .filter(|field| *field != "body")
        .collect();
    all.push("colour");
    all.sort_unstable();
    assert_eq!(named, all);
    let told = format!("{faulty:?}");
    for secret in ["9999", "sesame", "pigeon", "red\"", "%%"] {
        assert!(!told.contains(secret), "{told}");
    }
}

#[test]
fn a_name_that_stands_twice_is_a_fault() {
    assert_eq!(fault_fields(&with(r#""body":"a","body":"b""#)), ["body"]);
    assert_eq!(fault_fields(&with(r#""body":"a","id":null"#)), ["id"]);
    let twice = r#""body":"a","attributes":{"x":"1","x":"2"}"#;
    assert_eq!(fault_fields(&with(twice)), ["attributes"]);
}

#[test]
fn a_name_that_may_be_a_recipient_is_hidden() {
    let fields = fault_fields(&with(r#""body":"a","010-1234-5678":1"#));
    assert_eq!(fields, ["(hidden)"]);
}

#[test]
fn what_is_no_object_says_so() {
    for (text, rule) in [
        ("[]", "must be a JSON object"),
        ("5", "must be a JSON object"),
        ("{", "is no JSON (line 1, column 1)"),
        ("", "is no JSON (line 1, column 0)"),
    ] {
        let faulty = read(text.as_bytes()).unwrap_err();
        assert_eq!(faulty.faults, [FieldFault::new("message", rule)], "{text}");
    }
    let faulty = read(b"\xff").unwrap_err();
    assert_eq!(faulty.faults[0].rule, "must be UTF-8");
}

#[test]
fn a_faulty_message_still_tells_its_id() {
    let faulty = read(with(r#""body":7"#).as_bytes()).unwrap_err();
    assert_eq!(faulty.id.unwrap().as_str(), "m-1");
}

#[test]
fn an_envelope_needs_no_body() {
    assert!(read(with(r#""priority":1"#).as_bytes()).is_err());
    assert!(read_envelope(with(r#""priority":1"#).as_bytes()).is_ok());
}

#[test]
fn an_instant_is_rfc_3339_with_an_offset() {
    for good in [
        "2026-11-22T09:00:00+09:00",
        "2026-11-22t00:00:00.123456789z",
        "0001-01-01T00:00:00Z",
    ] {
        assert!(instant(good).is_some(), "{good}");
    }
    for bad in [
        "",
        "2026-11-22",
        "2026-11-22T09:00:00",
        "2026-11-22T09:00:00+09:00[Asia/Seoul]",
        "-009999-01-01T00:00:00Z",
        "+002026-11-22T09:00:00Z",
        "20261122T090000Z",
        "9999-12-31T23:59:59Z",
        "1795309200",
        "２０２６-11-22T09:00:00Z",
    ] {
        assert!(instant(bad).is_none(), "{bad}");
    }
}

#[test]
fn a_body_nested_deeply_is_only_text() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let message = read(with(&format!(r#""body":{deep}"#)).as_bytes()).unwrap();
    assert_eq!(message.body.len(), deep.len());
    assert!(deep.len() <= BODY_MAX_BYTES);
}

prop_compose! {
    fn messages()(
        id in "[!-~]{1,64}",
        recipient in "[^\\p{Cc}\\s]{1,40}",
        channel in proptest::sample::select(Channel::ALL),
        purpose in proptest::sample::select(Purpose::ALL),
        campaign in option::of("[^\\p{Cc}]{1,20}"),
        priority in 0..=9_u8,
        zone in option::of(Just("Asia/Seoul")),
        jurisdiction in option::of(Just("KR")),
        send_at in option::of(0..4_000_000_000_i64),
        collapse_key in option::of("[^\\p{Cc}]{1,20}"),
        content_type in "[a-z]{1,9}/[a-z]{1,9}",
        attributes in btree_map("[!-~]{1,12}", ".{0,30}", 0..4),
        body in vec(any::<u8>(), 0..200),
    ) -> Message {
        Message {
            id: MessageId::new(&id).unwrap(),
            recipient: Recipient::new(&recipient).unwrap(),
            channel,
            purpose,
            campaign: campaign.map(Into::into),
            priority: Priority::new(priority).unwrap(),
            jurisdiction: jurisdiction.map(|code| Jurisdiction::new(code).unwrap()),
            zone: zone.map(Into::into),
            send_at: send_at.map(|second| Timestamp::from_second(second).unwrap()),
            expires_at: None,
            collapse_key: collapse_key.map(Into::into),
            content_type: content_type.into(),
            attributes,
            body: body.into(),
        }
    }
}

proptest! {
    #[test]
    fn any_message_comes_back_the_same(message in messages()) {
        let wire = to_wire(&message).unwrap();
        prop_assert_eq!(&read(wire.as_bytes()).unwrap(), &message);
        // Both ways of reading agree.
        prop_assert_eq!(&fields::read(&wire, Body::Needed).unwrap(), &message);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        if let Err(faulty) = read(&bytes) {
            prop_assert!(!faulty.faults.is_empty());
        }
    }

    #[test]
    fn a_message_with_a_byte_changed_never_panics_and_reads_the_same_both_ways(
        message in messages(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut wire = to_wire(&message).unwrap().into_bytes();
        let at = at.index(wire.len());
        wire[at] = byte;
        if let Ok(text) = std::str::from_utf8(&wire) {
            let mut words = Words::default();
            let quick = quick::read(text, Body::Needed, Buffer::Borrowed, &mut words);
            if let Some(message) = quick {
                prop_assert_eq!(fields::read(text, Body::Needed), Ok(message));
            }
        }
        let _ = read(&wire);
    }
}

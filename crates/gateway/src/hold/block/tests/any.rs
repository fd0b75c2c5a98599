//! Any messages of one shelf.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use nightgate_core::{
    Channel, Class, Jurisdiction, Message, MessageId, Priority, Purpose, Recipient, RecipientKey,
};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::Record;
use crate::hold::{Held, Lane};

/// What a [`Record`] refers to.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) held: Held,
    pub(super) arrival: u32,
    pub(super) attempts: u32,
    pub(super) lapsed: bool,
    pub(super) why: Option<String>,
}

impl Row {
    pub(super) fn record(&self) -> Record<'_> {
        Record {
            held: &self.held,
            arrival: self.arrival,
            attempts: self.attempts,
            lapsed: self.lapsed,
            why: self.why.as_deref(),
        }
    }
}

/// A message as a campaign sends them by the thousand, with a body of `bytes`.
pub(super) fn plain_row(row: usize, bytes: usize) -> Row {
    let recipient = Recipient::new(&format!("+8210{:08}", row * 7919 % 100_000_000)).unwrap();
    let accepted_at = "2026-11-22T12:00:00.123456789Z".parse().unwrap();
    let text = format!("{{\"order\":{row},\"text\":\"주문이 접수되었습니다\"}}");
    let body = text.bytes().cycle().take(bytes).collect();
    Row {
        held: Held {
            key: RecipientKey::from_stored(recipient.expose()),
            message: Message {
                id: MessageId::new(&format!("msg-{row:06}")).unwrap(),
                recipient,
                channel: Channel::Sms,
                purpose: Purpose::Advertising,
                campaign: Some("autumn".into()),
                priority: Priority::default(),
                jurisdiction: None,
                zone: None,
                send_at: None,
                expires_at: None,
                collapse_key: None,
                content_type: "application/json".into(),
                attributes: BTreeMap::new(),
                body,
            },
            lane: Lane::new("kakao"),
            class: Class::from_name("advertising/sms/KR/Asia/Seoul"),
            due: "2026-11-22T23:00:00Z".parse().unwrap(),
            accepted_at,
        },
        arrival: row as u32,
        attempts: 0,
        lapsed: false,
        why: None,
    }
}

fn any_id() -> impl Strategy<Value = MessageId> {
    let texts = prop_oneof![
        "[!-~]{1,128}",
        "msg-[0-9]{6}",
        "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        "order-[0-9]{1,9}",
        "[0-9A-Z]{26}",
    ];
    texts.prop_map(|text| MessageId::new(&text).unwrap())
}

fn any_recipient() -> impl Strategy<Value = Recipient> {
    let texts = prop_oneof![
        "\\+8210[0-9]{8}",
        "010-[0-9]{4}-[0-9]{4}",
        "[a-z]{1,20}@[a-z가-힣]{1,60}\\.kr",
        "[!-~][ -~]{0,310}[!-~]",
        "[가-힣]([가-힣é ]{0,20}[가-힣])?",
    ];
    texts.prop_map(|text| Recipient::new(&text).unwrap())
}

fn any_instant() -> impl Strategy<Value = Timestamp> {
    let range = Timestamp::MIN.as_nanosecond()..=Timestamp::MAX.as_nanosecond();
    prop_oneof![
        range.prop_map(|nanos| Timestamp::from_nanosecond(nanos).unwrap()),
        (0i64..2_000_000_000).prop_map(|second| Timestamp::from_second(second).unwrap()),
        select(vec![Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH]),
    ]
}

fn any_text() -> impl Strategy<Value = Arc<str>> {
    let few = select(vec!["Asia/Seoul", "text/plain", "밤", ""]);
    prop_oneof![
        few.prop_map(str::to_owned),
        "[0-9]{4}",
        "[a-f가-힣\u{1f319}]{0,12}",
    ]
    .prop_map(Arc::from)
}

fn any_body() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        Just(Bytes::new()),
        vec(any::<u8>(), 0..200).prop_map(Bytes::from),
        "\\{\"text\":\"[가-힣 ]{0,80}\"\\}".prop_map(Bytes::from),
    ]
}

fn any_attributes() -> impl Strategy<Value = BTreeMap<String, String>> {
    let names = prop_oneof![
        "[!-~]{1,64}",
        select(vec!["template", "order"]).prop_map(str::to_owned)
    ];
    prop_oneof![
        12 => Just(BTreeMap::new()),
        6 => btree_map(names, "[ -~가-힣]{0,40}", 0..4),
        1 => btree_map("[!-~]{8,64}", "\\PC{0,9}", 32),
    ]
}

fn any_row() -> impl Strategy<Value = Row> {
    let who = (
        any_id(),
        any_recipient(),
        of(any_recipient()),
        select(Channel::ALL),
    );
    let letters = "[A-Z]{2}".prop_map(|text| Jurisdiction::new(&text).unwrap());
    let when = (
        of(any_instant()),
        of(any_instant()),
        any_instant(),
        of(letters),
    );
    let texts = (of(any_text()), of(any_text()), any_text(), of("\\PC{0,60}"));
    let state = (
        1u32..90_000,
        prop_oneof![0u32..3, any::<u32>()],
        any::<bool>(),
    );
    let what = (any_body(), any_attributes());
    (who, when, texts, state, what).prop_map(|(who, when, texts, state, what)| {
        let mut row = plain_row(0, 0);
        let message = &mut row.held.message;
        (message.id, message.recipient, message.channel) = (who.0, who.1, who.3);
        (message.send_at, message.expires_at, message.jurisdiction) = (when.0, when.1, when.3);
        (message.zone, message.collapse_key, message.content_type) = (texts.0, texts.1, texts.2);
        (message.body, message.attributes) = what;
        let key = who.2.as_ref().unwrap_or(&message.recipient);
        row.held.key = RecipientKey::from_stored(key.expose());
        row.held.accepted_at = when.2;
        // The step from the message before; summed up below.
        (row.arrival, row.attempts, row.lapsed) = state;
        row.why = texts.3;
        row
    })
}

/// A shelf's messages, of which any columns are the same in all, so that every layout is met.
pub(super) fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    (vec(any_row(), 1..24), any::<u32>()).prop_map(|(mut rows, same)| {
        let first = rows[0].clone();
        let mut arrival = 0;
        for row in &mut rows {
            let step = if same & 1 == 0 { row.arrival } else { 1 };
            arrival += step;
            row.arrival = arrival;
            share(row, &first, same);
        }
        rows
    })
}

fn share(row: &mut Row, first: &Row, same: u32) {
    let shared = |column: u32| same >> column & 1 == 1;
    let (message, of) = (&mut row.held.message, &first.held.message);
    if shared(1) {
        row.attempts = first.attempts;
        row.lapsed = first.lapsed;
    }
    if shared(2) {
        row.held.key = RecipientKey::from_stored(message.recipient.expose());
    }
    if shared(3) {
        message.channel = of.channel;
        message.jurisdiction = of.jurisdiction;
    }
    if shared(4) {
        message.zone = of.zone.clone();
        message.collapse_key = of.collapse_key.clone();
        message.content_type = of.content_type.clone();
    }
    if shared(5) {
        (message.send_at, message.expires_at) = (of.send_at, of.expires_at);
        row.held.accepted_at = first.held.accepted_at;
    }
    if shared(6) {
        message.attributes = of.attributes.clone();
    }
    if shared(7) {
        message.body = of.body.clone();
    }
    if shared(8) {
        row.why = first.why.clone();
    }
    if shared(9) {
        message.id = of.id.clone();
    }
    if shared(10) {
        message.id =
            MessageId::new(&format!("{:08x}-night", row.arrival.wrapping_mul(7919))).unwrap();
    }
    if shared(11) {
        message.recipient = Recipient::new(&format!("+8210{:08}", row.arrival)).unwrap();
        row.held.key = RecipientKey::from_stored(message.recipient.expose());
    }
}

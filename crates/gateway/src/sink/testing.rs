//! Messages with real permits, for the sinks' tests: decided by the real rules.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nightgate_core::ruleset::PackSource;
use nightgate_core::{
    ConsentAnswer, Decision, Facts, House, Jurisdiction, Message, Ruleset, decide, locate,
};

use crate::sink::Outbound;

/// Whom test messages go to: no log, error or receipt may show it.
pub(crate) const RECIPIENT: &str = "010-1234-5678";

/// An informational text message, to be changed at will before it is decided.
pub(crate) fn message(id: &str, body: &[u8]) -> Message {
    serde_json::from_value(serde_json::json!({
        "id": id, "recipient": RECIPIENT, "channel": "sms", "purpose": "informational",
        "campaign": "autumn", "priority": 5, "content_type": "text/plain; charset=utf-8",
        "attributes": {"template": "T-7"}, "body": body,
    }))
    .unwrap()
}

/// `message` with a permit from `now`, on a loan until `until`; its permit ends with the message.
pub(crate) fn decided(message: Message, now: Timestamp, until: Timestamp) -> Outbound {
    let text = include_str!("../../../../rules/kr.toml").to_owned();
    let rules = Ruleset::load(&[PackSource {
        name: "kr.toml".to_owned(),
        text,
    }])
    .unwrap();
    let (jurisdiction, zone) = (
        Jurisdiction::new("KR").unwrap(),
        TimeZone::get("Asia/Seoul"),
    );
    let place = locate(
        &message,
        &House {
            jurisdiction,
            zone: zone.unwrap(),
        },
    );
    let facts = Facts {
        consent: &ConsentAnswer::Unknown,
        place: &place,
    };
    match decide(&rules, &message, &facts, now) {
        Decision::Send(permit) => Outbound::new(permit, message, 1, until).unwrap(),
        other => panic!("an informational message may leave at any hour: {other:?}"),
    }
}

/// A batch of messages `{prefix}-0`, `{prefix}-1`, ... that live and are lent until `until`.
pub(crate) fn batch(prefix: &str, count: usize, now: Timestamp, until: Timestamp) -> Vec<Outbound> {
    let one = |n: usize| {
        let mut message = message(&format!("{prefix}-{n}"), "안녕하세요".as_bytes());
        message.expires_at = Some(until);
        decided(message, now, until)
    };
    (0..count).map(one).collect()
}

//! The instants at which hours open and close, as the receiving end sees them by its own clock. The
//! binary runs under a shifted clock; what it must answer is worked out here, from the law alone.

mod backlog;
mod explained;
mod oracle;
mod stopped;
mod streams;

use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::gateway::clock::Fake;

/// Agreed to advertising, not to advertising at night.
const DAY: &str = "+821000000001";
/// Agreed to both.
const NIGHT: &str = "+821000000002";
/// Agreed to advertising by e-mail.
const MAIL: &str = "reader@mail.example";

/// How long a message may be on its way once it was handed over. The guard is there for that: what
/// leaves as its last moment begins still arrives before the closing itself.
const TRANSIT: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// Records the consents of the recipients above.
async fn consents(gateway: &Gateway) {
    let grant = |recipient: &str, scope: &str| {
        let at = seoul(1, "12:00:00");
        json!({"recipient": recipient, "scope": scope, "at": at})
    };
    let all = json!([
        grant(DAY, "general"),
        grant(NIGHT, "general"),
        grant(NIGHT, "night"),
        grant(MAIL, "general"),
    ]);
    let answer = gateway.post("/v1/consents", &all).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

fn advertising(id: &str, recipient: &str) -> Value {
    json!({"id": id, "recipient": recipient, "channel": "sms", "purpose": "advertising",
        "body": "(AD) hello"})
}

/// A date in Seoul, in November 2026.
fn seoul(day: u8, time: &str) -> String {
    format!("2026-11-{day:02}T{time}+09:00")
}

/// A clock that will show `at` after `ahead` seconds.
fn clock_before(at: &str, ahead: i64) -> Fake {
    let at: jiff::Timestamp = at.parse().unwrap();
    let from = at - jiff::SignedDuration::from_secs(ahead);
    Fake::showing(&from.to_string())
}

//! Single instants to the millisecond, through the dry run; and numbers with several clocks.

use jiff::civil::{Time, time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::oracle::KINDS;
use super::{DAY, advertising, consents, seoul};
use crate::gateway::clock::{Fake, pause};
use crate::gateway::{Gateway, Home, eventually};

const INSTANTS: [&str; 16] = [
    "00:00:00",
    "07:59:59.999",
    "08:00:00",
    "08:00:00.001",
    "20:49:29",
    "20:49:29.999",
    "20:49:30",
    "20:49:59.999",
    "20:50:00",
    "20:59:29",
    "20:59:29.999",
    "20:59:30",
    "20:59:59.999",
    "21:00:00",
    "21:00:00.001",
    "23:59:59.999",
];

/// Nobody is asked anything before nine or after eight on any of their clocks.
const HOUSE: &str = r#"
[pack]
id = "house"
title = "Nobody is woken"
jurisdiction = "*"
clock = "recipient"
[[rule]]
id = "house.quiet"
purpose = ["advertising", "informational"]
except_channels = []
open.every_day = ["09:00-20:00"]
outside = "hold"
citation = "our own wish"
confidence = "house"
"#;
const HOUSE_OPENS: Time = time(9, 0, 0, 0);
const HOUSE_CLOSES: Time = time(20, 0, 0, 0);
/// Every mobile of Australia, from Perth to Lord Howe.
const AUSTRALIA: &str = "+61412345678";
/// Alaska, mainland and Aleutians.
const ALASKA: &str = "+19075551234";

async fn explain(gateway: &Gateway, message: &Value, at: &str) -> Value {
    let ask = json!({"message": message, "at": at, "language": "en"});
    gateway.post("/v1/explain", &ask).await.json()
}

fn instant(text: &Value) -> Timestamp {
    text.as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_edge_is_known_to_the_millisecond() {
    let home = Home::new("");
    let gateway = home.serve().await;
    consents(&gateway).await;
    for (kind, time) in KINDS.iter().flat_map(|kind| INSTANTS.map(|at| (kind, at))) {
        let at = seoul(22, time);
        let told = explain(&gateway, &kind.message("m"), &at).await;
        let due = kind.due(at.parse().unwrap());
        let decision = if due.until.is_some() { "hold" } else { "send" };
        assert_eq!(told["decision"], decision, "{} at {time}", kind.name);
        assert_eq!(
            told["reason"], due.reason,
            "{} at {time}: {told}",
            kind.name
        );
        match due.until {
            Some(until) => assert_eq!(instant(&told["until"]), until, "{told}"),
            None => assert!(instant(&told["not_after"]) > at.parse().unwrap(), "{told}"),
        }
        assert!(told["explanation"]["en"].is_string());
    }
    let closing = explain(&gateway, &advertising("m", DAY), &seoul(22, "20:59:29.999")).await;
    assert_eq!(
        instant(&closing["not_after"]),
        instant(&seoul(22, "20:59:30").into())
    );
    assert_eq!(
        instant(&closing["closes"]),
        instant(&seoul(22, "21:00:00").into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_rules_are_loaded_advertising_is_held_and_information_leaves() {
    let home = Home::new("");
    let gateway = home.serve().await;
    let at = seoul(22, "12:00:00");
    let told = explain(&gateway, &advertising("m", ALASKA), &at).await;
    assert_eq!(
        (&told["decision"], &told["reason"]),
        (&json!("hold"), &json!("no_rules"))
    );
    assert_eq!(told["jurisdiction"], "US");
    let mut informational = advertising("m", ALASKA);
    informational["purpose"] = json!("informational");
    assert_eq!(
        explain(&gateway, &informational, &at).await["decision"],
        "send"
    );
}

/// Whether it is daytime for the house on all clocks that `zone` names.
fn all_open(zone: &str, at: Timestamp) -> bool {
    zone.split('+').all(|zone| {
        let local = at.to_zoned(TimeZone::get(zone).unwrap()).time();
        (HOUSE_OPENS..HOUSE_CLOSES).contains(&local)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_with_several_clocks_is_open_only_when_all_of_them_are() {
    let fake = Fake::showing("2026-11-22T23:00:00Z");
    let config = "[rules]\npacks = [\"house.toml\"]\n[lane.main.log]\npath = \"out\"\n";
    let home = Home::new(config).with_clock(fake);
    std::fs::write(home.path("house.toml"), HOUSE).unwrap();
    let gateway = home.serve().await;
    let from: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap();
    for recipient in [AUSTRALIA, ALASKA] {
        let message = json!({"id": recipient, "recipient": recipient, "channel": "sms",
            "purpose": "informational"});
        let mut sent = 0;
        for half_hour in 0..48 {
            let at = from + SignedDuration::from_mins(30) * half_hour;
            let told = explain(&gateway, &message, &at.to_string()).await;
            let zone = told["zone"].as_str().unwrap();
            assert!(zone.contains('+'), "several clocks: {zone}");
            if all_open(zone, at) {
                assert_eq!(told["decision"], "send", "{recipient} at {at}");
                sent += 1;
                continue;
            }
            assert_eq!(told["decision"], "hold", "{recipient} at {at}");
            assert_eq!(told["rule"], "house.quiet");
            let until = instant(&told["until"]);
            assert!(all_open(zone, until), "{until} is open on all clocks");
            let early = until - SignedDuration::from_millis(1);
            assert!(!all_open(zone, early), "{until} is the first such instant");
        }
        assert!(
            sent > 0,
            "{recipient} can be reached on some part of the day"
        );
    }
    // 10:00 in Sydney and 07:00 in Perth: the landline has one clock, the mobile all of them.
    let to = |id: &str, recipient: &str| {
        json!({"id": id, "recipient": recipient, "channel": "sms",
            "purpose": "informational", "body": "hello"})
    };
    let both = json!([to("mobile", AUSTRALIA), to("sydney", "+61291234567")]);
    let answers = gateway.post("/v1/messages", &both).await.json();
    assert_eq!(answers[0]["status"], "held", "{answers}");
    assert_eq!(answers[1]["status"], "accepted", "{answers}");
    eventually("Sydney is reached", || {
        home.lines("out")
            .pop()
            .filter(|line| line["id"] == "sydney")
    })
    .await;
    pause(std::time::Duration::from_millis(300)).await;
    assert_eq!(home.lines("out").len(), 1, "nobody else is");
}

//! More than can leave before closing, and a morning's release of what an earlier process held.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{DAY, TRANSIT, advertising, clock_before, consents, seoul};
use crate::gateway::clock::Fake;
use crate::gateway::receiver::{Manner, Receiver};
use crate::gateway::{Home, eventually};

const BACKLOG: u64 = 40;
/// Messages held over night, and the pace at which they leave.
const HELD: usize = 60;
const RATE: u32 = 20;
const BURST: u32 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_lane_accepted_before_closing_is_not_handed_over_after_the_guard() {
    let receiver = Receiver::start(Manner::default()).await;
    let fake = clock_before(&seoul(22, "20:59:30"), 10);
    let lane = receiver.lane("", "rate = 1\nburst = 1\nslow_start = \"0s\"");
    let home = Home::new(&lane).with_clock(fake);
    let gateway = home.serve().await;
    consents(&gateway).await;
    let all = (0..BACKLOG).map(|n| advertising(&format!("m-{n}"), DAY));
    let all: Vec<Value> = all.collect();
    let answers = gateway.post("/v1/messages", &all.into()).await.json();
    let accepted = |answer: &&Value| answer["status"] == "accepted";
    let accepted = answers.as_array().unwrap().iter().filter(accepted).count();
    assert_eq!(
        accepted as u64, BACKLOG,
        "posted before the guard: {answers}"
    );
    fake.wait_until(&seoul(22, "20:59:33")).await;
    let opening = seoul(23, "08:00:00");
    let hold = gateway
        .until("/v1/hold", |hold| {
            let shelves = hold["shelves"].as_array().unwrap();
            shelves.iter().all(|shelf| shelf["due"] == opening)
        })
        .await;
    let guard: Timestamp = seoul(22, "20:59:30").parse().unwrap();
    let arrivals = receiver.arrivals();
    assert!(!arrivals.is_empty(), "some left in time");
    for arrival in &arrivals {
        let at = fake.of(arrival.at);
        assert!(at < guard + TRANSIT, "{} arrived at {at}", arrival.id);
        assert_eq!(arrival.not_after, guard);
    }
    for receipt in gateway.get("/v1/receipts").await.lines() {
        let at: Timestamp = receipt["at"].as_str().unwrap().parse().unwrap();
        assert!(receipt["event"] != "attempted" || at < guard, "{receipt}");
    }
    let held = hold["total"]["held"].as_u64().unwrap();
    assert_eq!(held + arrivals.len() as u64, BACKLOG, "nothing is lost");
    assert!(held > 0, "the lane is slower than the closing");
}

/// Held at 21:10: by purpose, priority and place within it; the earliest to leave comes last.
fn held_at_night() -> Vec<Value> {
    let held = |n: usize| {
        let (purpose, send_at) = match n % 2 {
            0 => ("advertising", Value::Null),
            _ => ("informational", json!(seoul(23, "08:00:00"))),
        };
        let priority = 9 - n / 2 % 3;
        json!({"id": format!("{purpose}-{priority}-{n:03}"), "recipient": DAY, "channel": "sms",
            "purpose": purpose, "priority": priority, "send_at": send_at, "body": "hello"})
    };
    (0..HELD).map(held).collect()
}

/// Informational first, then by priority, then in the order of arrival.
fn in_order(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_by_key(|id| (!id.starts_with("informational"), id.clone()));
    ids
}

/// No more left by any instant than burst and rate allow from the opening on.
fn assert_paced(at: &[Timestamp], opening: Timestamp) {
    for (place, at) in at.iter().enumerate() {
        let since = at.duration_since(opening).as_secs_f64();
        let most = f64::from(BURST) + f64::from(RATE) * since;
        // A token of the limiter may be worth a part of a message.
        assert!(
            (place + 1) as f64 <= most + 1.0,
            "{place} left {since} s after the opening"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_at_night_leaves_at_eight_in_order_and_paced_also_after_a_restart() {
    let receiver = Receiver::start(Manner::default()).await;
    let pace = format!("rate = {RATE}\nburst = {BURST}\nslow_start = \"0s\"\nin_flight = 1");
    let config = receiver.lane("batch_max = 5", &pace);
    let evening = Home::new(&config).with_clock(Fake::showing(&seoul(22, "21:10:00")));
    let gateway = evening.serve().await;
    consents(&gateway).await;
    let answers = gateway.post("/v1/messages", &held_at_night().into()).await;
    for answer in answers.json().as_array().unwrap() {
        assert_eq!(answer["status"], "held", "{answer}");
        assert_eq!(answer["due"], seoul(23, "08:00:00"), "{answer}");
    }
    gateway.stop().await;
    assert_eq!(receiver.count(), 0);

    let fake = clock_before(&seoul(23, "08:00:00"), 5);
    let morning = evening.with_clock(fake);
    let gateway = morning.serve().await;
    eventually("all have arrived", || {
        (receiver.count() == HELD).then_some(())
    })
    .await;
    let opening: Timestamp = seoul(23, "08:00:00").parse().unwrap();
    let arrivals = receiver.arrivals();
    let at: Vec<_> = arrivals.iter().map(|arrival| fake.of(arrival.at)).collect();
    assert!(at[0] >= opening, "the first arrived at {}", at[0]);
    assert!(
        at[0] < opening + SignedDuration::from_hours(1),
        "that morning"
    );
    assert_paced(&at, opening);
    let ids: Vec<String> = arrivals.into_iter().map(|arrival| arrival.id).collect();
    assert_eq!(ids, in_order(ids.clone()));
    let nothing = |hold: &Value| hold["total"]["held"] == 0 && hold["total"]["leased"] == 0;
    gateway.until("/v1/hold", nothing).await;
}

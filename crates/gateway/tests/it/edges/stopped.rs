//! A process that stands still while the window closes must not send when it goes on.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{DAY, advertising, clock_before, consents, seoul};
use crate::gateway::clock::{Fake, pause};
use crate::gateway::receiver::{Manner, Receiver};
use crate::gateway::{Gateway, Home, eventually};

const MANY: usize = 200;

/// A lane that hands over one at a time to a receiver that takes its time.
async fn slow() -> (Receiver, String) {
    let slow = Duration::from_millis(150);
    let receiver = Receiver::start(Manner {
        slow,
        ..Manner::default()
    })
    .await;
    let lane = receiver.lane("batch_max = 1", "in_flight = 1");
    (receiver, lane)
}

async fn accept_many(gateway: &Gateway) {
    consents(gateway).await;
    let all = (0..MANY).map(|n| advertising(&format!("m-{n}"), DAY));
    let all: Vec<Value> = all.collect();
    let answers = gateway.post("/v1/messages", &all.into()).await.json();
    for answer in answers.as_array().unwrap() {
        assert_eq!(answer["status"], "accepted", "{answer}");
    }
}

fn assert_none_after(receiver: &Receiver, fake: &Fake, guard: &str) {
    let guard: Timestamp = guard.parse().unwrap();
    let arrivals = receiver.arrivals();
    assert!(!arrivals.is_empty(), "it was under way when it was stopped");
    assert!(arrivals.len() < MANY, "it was stopped in the middle");
    for arrival in arrivals {
        let at = fake.of(arrival.at);
        assert!(at < guard, "{} arrived at {at}", arrival.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_stopped_between_accept_and_hand_over_sends_nothing_after_the_guard() {
    let (receiver, lane) = slow().await;
    let fake = clock_before(&seoul(22, "20:59:30"), 9);
    let home = Home::new(&lane).with_clock(fake);
    let gateway = home.serve().await;
    accept_many(&gateway).await;
    eventually("some arrive", || (receiver.count() > 2).then_some(())).await;
    gateway.signal("STOP");
    fake.wait_until(&seoul(22, "20:59:31")).await;
    gateway.signal("CONT");
    let opening = seoul(23, "08:00:00");
    gateway
        .until("/v1/hold", |hold| {
            let shelves = hold["shelves"].as_array().unwrap();
            hold["total"]["leased"] == 0 && shelves.iter().all(|shelf| shelf["due"] == opening)
        })
        .await;
    assert_none_after(&receiver, &fake, &seoul(22, "20:59:30"));
}

/// A machine that sleeps shows another wall time when it wakes, while monotonic time stood still:
/// to the process, the clock has jumped from just before closing to 21:05.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_asleep_from_before_the_guard_until_five_past_nine_sends_nothing() {
    let (receiver, lane) = slow().await;
    let home = Home::new(&lane);
    let before = clock_before(&seoul(22, "20:59:30"), 20);
    let file = home.path("clock");
    std::fs::write(&file, before.offset()).unwrap();
    let home = home.with_clock(before).with_clock_file(&file);
    let gateway = home.serve().await;
    accept_many(&gateway).await;
    eventually("some arrive", || (receiver.count() > 2).then_some(())).await;
    gateway.signal("STOP");
    pause(Duration::from_millis(300)).await;
    let under_way = receiver.count();
    let after = Fake::showing(&seoul(22, "21:05:00"));
    std::fs::write(&file, after.offset()).unwrap();
    gateway.signal("CONT");
    let lanes = gateway.until("/v1/lanes", |lanes| lanes["lanes"][0]["frozen"] == true);
    lanes.await;
    pause(Duration::from_secs(2)).await;
    assert_eq!(receiver.count(), under_way, "nothing left after it woke");
    // Thawed by a person, it asks the rules again.
    let thawed = gateway
        .post("/v1/clock/confirm", &serde_json::json!({}))
        .await;
    assert_eq!(thawed.status, 204, "{}", thawed.text);
    let opening = seoul(23, "08:00:00");
    gateway
        .until("/v1/hold", |hold| {
            let shelves = hold["shelves"].as_array().unwrap();
            hold["total"]["leased"] == 0 && shelves.iter().all(|shelf| shelf["due"] == opening)
        })
        .await;
    assert_eq!(receiver.count(), under_way, "and holds what is left");
}

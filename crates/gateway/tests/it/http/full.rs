//! A hold without room: who is turned away, and what they are told.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::SignedDuration;
use nightgate::clock::Clock;
use nightgate::hold::Room;
use serde_json::{Value, json};

use super::world::{RECIPIENT, World, message, world};

const MAX: u64 = 1_000;

/// A gateway whose hold uses so many of its [`MAX`] bytes.
async fn filled(used: u64) -> World {
    let world = world();
    world.consent_by_day(RECIPIENT).await;
    fill(&world, used);
    world
}

fn fill(world: &World, used: u64) {
    *world.hold.room.lock().unwrap() = Room::of(used, Some(MAX), u64::MAX, 0);
}

fn push(id: &str) -> Value {
    let mut push = message(id, "informational");
    push["channel"] = json!("push");
    push
}

/// The lines of the metrics that begin so.
async fn counted(world: &World, name: &str) -> Vec<String> {
    assert!(world.alerts.flush(Duration::from_secs(60)).await);
    let page = world.get("/metrics").await.text;
    let lines = page.lines().filter(|line| line.starts_with(name));
    let mut lines: Vec<_> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_full_hold_takes_nothing_in_and_says_which_limit_and_when_to_come_back() {
    let world = filled(MAX).await;
    for purpose in ["advertising", "informational"] {
        let got = world.post("/v1/messages", &message("m-1", purpose)).await;
        assert_eq!(got.problem(), "503 no-room");
        assert_eq!(got.headers["retry-after"], "30");
        let detail = got.json()["detail"].to_string();
        assert!(detail.contains("`hold.max_bytes`"), "{detail}");
    }
    let got = world.post("/v1/messages", &push("p-1")).await;
    assert_eq!(got.problem(), "503 no-room");
    fill(&world, 0);
    let got = world
        .post("/v1/messages", &message("m-1", "informational"))
        .await;
    assert_eq!(got.json()["status"], "accepted");
}

#[tokio::test]
async fn a_hold_that_is_nearly_full_turns_advertising_away_and_takes_information_in() {
    let world = filled(MAX - 1).await;
    let three = json!([
        message("a-1", "advertising"),
        message("i-1", "informational"),
        message("a-2", "advertising"),
    ]);
    let got = world.post("/v1/messages", &three).await.json();
    assert_eq!(
        got[0],
        json!({"index": 0, "id": "a-1", "status": "failed", "retry": true})
    );
    assert_eq!(got[1]["status"], "accepted");
    assert_eq!(
        (&got[2]["status"], &got[2]["retry"]),
        (&json!("failed"), &json!(true))
    );
}

#[tokio::test]
async fn a_stream_marks_what_found_no_room_to_be_sent_again() {
    let world = filled(MAX - 1).await;
    let lines = ["advertising", "informational"]
        .map(|purpose| format!("{}\n", message(purpose, purpose)))
        .concat();
    let uri = "/v1/messages/bulk";
    let got = world
        .post_as(uri, "application/x-ndjson", lines)
        .await
        .lines();
    assert_eq!(
        got[0],
        json!({"line": 1, "id": "advertising", "status": "failed", "retry": true})
    );
    assert_eq!(got[1]["status"], "accepted");
    let summary = &got[2]["summary"];
    assert_eq!(
        (&summary["failed"], &summary["accepted"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test]
async fn a_full_shelf_turns_away_only_its_own() {
    let world = filled(0).await;
    world.hold.push_is_full.store(true, Ordering::Relaxed);
    let got = world.post("/v1/messages", &push("p-1")).await;
    assert_eq!(got.problem(), "503 no-room");
    let detail = got.json()["detail"].to_string();
    assert!(detail.contains("`hold.shelf_max`"), "{detail}");
    let got = world
        .post("/v1/messages", &message("m-1", "informational"))
        .await;
    assert_eq!(got.json()["status"], "accepted");
}

#[tokio::test]
async fn a_message_too_large_for_the_store_is_invalid_and_no_alarm_and_the_others_are_taken_in() {
    let world = filled(0).await;
    world.hold.push_is_full.store(true, Ordering::Relaxed);
    *world.hold.room.lock().unwrap() = Room {
        message_max: Some(1_048_576),
        ..Room::default()
    };
    let got = world.post("/v1/messages", &push("p-1")).await;
    assert_eq!(got.problem(), "422 invalid");
    let told = got.json()["faults"].to_string();
    assert!(told.contains("at most 1048576 bytes"), "{told}");
    let both = json!([push("p-1"), message("m-1", "informational")]);
    let got = world.post("/v1/messages", &both).await.json();
    assert_eq!(got[0]["status"], "invalid");
    assert_eq!(got[1]["status"], "accepted");
    assert_eq!(counted(&world, "nightgate_alerts_total").await, [""; 0]);
}

#[tokio::test]
async fn what_found_no_room_is_counted_leaves_no_trace_and_is_new_when_it_comes_again() {
    let world = filled(MAX).await;
    for _ in 0..3 {
        world
            .post("/v1/messages", &message("m-1", "advertising"))
            .await;
    }
    let told = counted(&world, r#"nightgate_messages_total{status="no_room""#).await;
    let right = r#"nightgate_messages_total{status="no_room",purpose="advertising"} 3"#;
    assert_eq!(told, [right]);
    let got = world.get("/v1/messages/m-1").await;
    assert_eq!(got.problem(), "404 no-message", "neither held nor filed");
    fill(&world, 0);
    let got = world
        .post("/v1/messages", &message("m-1", "advertising"))
        .await;
    assert_eq!(got.json()["status"], "held", "and no duplicate");
    let view = world.get("/v1/messages/m-1").await.json();
    assert_eq!(view["receipts"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn one_alarm_tells_that_the_hold_is_nearly_full_and_another_that_it_is_full() {
    let world = filled(MAX - 1).await;
    for id in ["a-1", "a-2", "a-3"] {
        world
            .post("/v1/messages", &message(id, "advertising"))
            .await;
    }
    let alarms = "nightgate_alerts_total";
    let nearly = format!(r#"{alarms}{{kind="hold_nearly_full"}} 1"#);
    assert_eq!(counted(&world, alarms).await, std::slice::from_ref(&nearly));
    fill(&world, MAX);
    world
        .post("/v1/messages", &message("i-1", "informational"))
        .await;
    let full = format!(r#"{alarms}{{kind="hold_full"}} 1"#);
    assert_eq!(counted(&world, alarms).await, [full, nearly.clone()]);
    let later = world.clock.now() + SignedDuration::from_hours(1);
    world.clock.advance_to(later);
    world
        .post("/v1/messages", &message("i-1", "informational"))
        .await;
    let again = format!(r#"{alarms}{{kind="hold_full"}} 2"#);
    assert_eq!(counted(&world, alarms).await, [again, nearly], "it lasts");
}

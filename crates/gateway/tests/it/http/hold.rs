//! The hold, its lanes, and one step of release.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::world::{MORNING, RECIPIENT, message, world};

#[tokio::test]
async fn the_overview_counts_by_lane_opening_campaign_and_purpose() {
    let world = world();
    world.consent_by_day(RECIPIENT).await;
    let mut push = message("p-1", "advertising");
    push["channel"] = json!("push");
    let mut later = message("a-3", "advertising");
    later["send_at"] = json!("2026-11-23T10:00:00+09:00");
    let batch = json!([
        message("a-1", "advertising"),
        message("a-2", "advertising"),
        later,
        push,
        message("i-1", "informational"),
    ]);
    world.post("/v1/messages", &batch).await;
    let view = world.get("/v1/hold").await.json();
    assert_eq!(view["total"], json!({"held": 5, "leased": 0, "buried": 0}));
    assert_eq!(view["more"], false);
    let view = world.get("/v1/hold?lane=main").await.json();
    assert_eq!(view["total"]["held"], 4);
    let shelves = view["shelves"].as_array().unwrap();
    let rows: Vec<_> = shelves
        .iter()
        .map(|row| (row["due"].as_str().unwrap(), row["held"].as_u64().unwrap()))
        .collect();
    let now = "2026-11-22T23:00:00+09:00";
    assert_eq!(
        rows,
        [(now, 1), (MORNING, 2), ("2026-11-23T10:00:00+09:00", 1)]
    );
    assert_eq!(shelves[1]["campaign"], "autumn");
    assert_eq!(shelves[1]["purpose"], "advertising");
    let lanes = view["lanes"].as_array().unwrap();
    assert_eq!((lanes.len(), &lanes[0]["lane"]), (1, &json!("main")));
    assert_eq!(
        world.get("/v1/hold?lane=none").await.problem(),
        "404 no-lane"
    );
    assert_eq!(
        world.get("/v1/hold?colour=red").await.problem(),
        "400 bad-query"
    );
}

#[tokio::test]
async fn what_was_buried_is_listed_and_kicked_back() {
    let world = world();
    world.sink.unsure.store(true, Ordering::Relaxed);
    world
        .post("/v1/messages", &message("m-1", "informational"))
        .await;
    assert_eq!(world.post_nothing("/v1/release").await.json()["buried"], 1);
    let got = world.get("/v1/hold/buried").await;
    let buried = got.json();
    assert_eq!(buried[0]["id"], "m-1");
    assert!(buried[0]["why"].is_string());
    assert!(!got.text.contains("12345678"));
    assert_eq!(
        world.get("/v1/hold/buried?lane=push&max=1").await.json(),
        json!([])
    );
    for wrong in [
        "max=0",
        "max=1001",
        "max=-1",
        "max=99999999999999999999",
        "max=NaN",
        "max=",
    ] {
        let got = world.get(&format!("/v1/hold/buried?{wrong}")).await;
        assert_eq!(got.problem(), "400 bad-query", "{wrong}");
    }
    for wrong in [
        json!({}),
        json!({"lane": "none"}),
        json!({"id": "a", "lane": "main"}),
    ] {
        let got = world.post("/v1/hold/kick", &wrong).await;
        assert_eq!(got.problem(), "422 invalid", "{wrong}");
    }
    let kicked = world.post("/v1/hold/kick", &json!({"lane": "push"})).await;
    assert_eq!(kicked.json(), json!({"kicked": 0}));
    let kicked = world.post("/v1/hold/kick", &json!({"lane": "main"})).await;
    assert_eq!(kicked.json(), json!({"kicked": 1}));
    let last = world.get("/v1/receipts").await.lines().pop().unwrap();
    assert_eq!(
        (&last["event"], &last["lane"]),
        (&json!("kicked"), &json!("main"))
    );
    world.sink.unsure.store(false, Ordering::Relaxed);
    // The lane rests after a failure.
    world.clock.advance(std::time::Duration::from_secs(300));
    assert_eq!(
        world.post_nothing("/v1/release").await.json()["delivered"],
        1
    );
    assert_eq!(*world.sink.taken.lock().unwrap(), ["m-1"]);
}

#[tokio::test]
async fn a_stop_holds_until_it_is_lifted_each_by_itself() {
    let world = world();
    world
        .post("/v1/messages", &message("m-1", "informational"))
        .await;
    let lanes = world.post_nothing("/v1/lanes/main/pause").await.json();
    assert_eq!(lanes["stopped"], false);
    assert_eq!(
        (&lanes["lanes"][0]["paused"], &lanes["lanes"][1]["paused"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        lanes["lanes"][0]["paused_since"],
        "2026-11-22T23:00:00+09:00"
    );
    assert_eq!(
        world.post_nothing("/v1/release").await.json()["delivered"],
        0
    );
    let lanes = world.post_nothing("/v1/lanes/all/pause").await.json();
    assert_eq!(
        (&lanes["stopped"], &lanes["lanes"][1]["paused"]),
        (&json!(true), &json!(true))
    );
    let lanes = world.post_nothing("/v1/lanes/all/resume").await.json();
    assert_eq!(
        (&lanes["stopped"], &lanes["lanes"][0]["paused"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        world.post_nothing("/v1/release").await.json()["delivered"],
        0
    );
    world.post_nothing("/v1/lanes/main/resume").await;
    assert_eq!(
        world.post_nothing("/v1/release").await.json()["delivered"],
        1
    );
    assert_eq!(
        world.get("/v1/lanes").await.json()["lanes"][0]["paused"],
        false
    );
    for verb in ["pause", "resume"] {
        let got = world.post_nothing(&format!("/v1/lanes/none/{verb}")).await;
        assert_eq!(got.problem(), "404 no-lane");
        assert!(
            got.json()["detail"]
                .as_str()
                .unwrap()
                .contains("main, push")
        );
    }
}

#[tokio::test]
async fn a_person_who_checked_the_clock_ends_the_freeze() {
    let world = world();
    assert_eq!(world.post_nothing("/v1/release").await.status, 200);
    world
        .post("/v1/messages", &message("m-1", "informational"))
        .await;
    world
        .clock
        .step_to("2026-11-23T03:00:00+09:00".parse().unwrap());
    assert_eq!(
        world.post_nothing("/v1/release").await.json()["delivered"],
        0
    );
    assert_eq!(
        world.get("/v1/lanes").await.json()["lanes"][0]["frozen"],
        true
    );
    assert_eq!(world.post_nothing("/v1/clock/confirm").await.status, 204);
    assert_eq!(
        world.post_nothing("/v1/release").await.json()["delivered"],
        1
    );
}

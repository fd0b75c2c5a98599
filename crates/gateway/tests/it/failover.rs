//! A gateway whose Redis fills up, or loses its master, with everything in it: messages, consents,
//! receipts, pace and clock.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use crate::gateway::clock::pause;
use crate::gateway::receiver::{Manner, Receiver};
use crate::gateway::{Gateway, Home, eventually};
use crate::kill::{Producer, consents, is_advertising, trails};
use crate::several::redis::server;

#[path = "../behaviour/redis/topology.rs"]
#[expect(
    dead_code,
    reason = "shared with the behaviour suite, which uses the rest"
)]
mod topology;

use server::{Kind, Server};
use topology::{MASTER, PASSWORD, SENTINEL_PASSWORD, Sentinels};

const MESSAGES: usize = 2_000;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A minute of looks.
const LOOKS_MAX: usize = 600;

/// Everything in Redis, by these lines of `[redis]`.
fn config(redis: &str, rate: usize, receiver: &Receiver) -> String {
    let lane = format!(
        "rate = {rate}\nburst = {rate}\nunknown_informational = \"retry\"\n\
         unknown_advertising = \"bury\"\nbackoff_min = \"100ms\"\nbackoff_max = \"200ms\"\n\
         attempts_max = 50\n"
    );
    let lane = receiver.lane(
        "timeout = \"2s\"\nconnect_timeout = \"1s\"\nbatch_max = 25",
        &lane,
    );
    format!(
        "[hold]\nstore = \"redis\"\n[consent]\nstore = \"redis\"\n[receipts]\nstore = \"redis\"\n\
         [redis]\nskew_max = \"1s\"\n{redis}\n{lane}[release]\nlease_ttl = \"5s\"\n"
    )
}

fn producer(messages: usize) -> Producer {
    Producer {
        open: (0..messages).collect(),
        acknowledged: HashSet::new(),
    }
}

/// Waits until nothing is held or on loan. While no server answers, nobody can say.
async fn drained(gateway: &Gateway) {
    for _ in 0..LOOKS_MAX {
        let hold = gateway.get("/v1/hold").await;
        if hold.status == 200 {
            let total = &hold.json()["total"];
            if total["held"] == 0 && total["leased"] == 0 {
                return;
            }
        }
        pause(LOOK_EVERY).await;
    }
    panic!("something is held that should have left");
}

/// Each acknowledged message has an attempt on file before each arrival, and one end; it arrived
/// twice only where nobody could tell, and advertising never.
async fn account(gateway: &Gateway, receiver: &Receiver, acknowledged: &HashSet<String>) {
    let (trails, times) = (trails(gateway).await, receiver.times());
    for id in acknowledged {
        let (trail, arrived) = (&trails[id], times.get(id).copied().unwrap_or_default());
        let count = |event: &str| trail.iter().filter(|one| *one == event).count();
        let about = format!("{id} arrived {arrived} times, receipts {trail:?}");
        assert!(count("delivered") + count("buried") > 0, "one end: {about}");
        assert!(arrived > 0 || count("buried") == 1, "lost: {about}");
        assert!(
            count("attempted") >= arrived,
            "an attempt before each: {about}"
        );
        assert!(arrived <= 1 || !is_advertising(id), "twice: {about}");
        assert!(
            arrived <= 1 || count("unknown") > 0,
            "twice, untold: {about}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_full_takes_no_more_and_what_it_has_leaves_all_the_same() {
    let server = Server::start(&[]);
    let receiver = Receiver::start(Manner::default()).await;
    let url = format!("url = \"{}\"", server.url());
    let home = Home::new(&config(&url, 2_000, &receiver));
    let gateway = home.serve().await;
    consents(&gateway).await;
    assert!(home.run(&["lanes", "pause", "all"]).status.success());
    let mut producer = producer(MESSAGES);
    producer.produce(&gateway, MESSAGES, |_| {}).await.unwrap();
    assert_eq!(producer.acknowledged.len(), MESSAGES);
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let late = json!([{"id": "late", "recipient": "+821000000009", "channel": "sms",
        "purpose": "informational", "body": "hello"}]);
    let refused = gateway.post("/v1/messages", &late).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(gateway.get("/readyz").await.status, 503);
    let withdraws = json!([{"recipient": "r0@mail.example", "scope": "general",
        "act": "withdraw", "at": "2026-11-02T12:00:00+09:00"}]);
    let heard = gateway.post("/v1/consents", &withdraws).await;
    assert_eq!(heard.status, 200, "{heard:?}");

    let resumed = home.run(&["lanes", "resume", "all"]);
    assert!(resumed.status.success(), "{resumed:?}");
    drained(&gateway).await;
    let (trails, times) = (trails(&gateway).await, receiver.times());
    for (id, trail) in &trails {
        let refused = trail.iter().any(|event| event == "refused");
        assert_eq!(
            times.get(id).copied().unwrap_or_default(),
            usize::from(!refused),
            "{id}"
        );
        assert!(
            refused || trail.iter().any(|event| event == "attempted"),
            "{id}: {trail:?}"
        );
    }
    let refused = trails
        .values()
        .filter(|trail| trail.iter().any(|it| it == "refused"))
        .count();
    assert_eq!(
        (trails.len(), refused),
        (MESSAGES, MESSAGES / 50),
        "who withdrew gets nothing"
    );
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(gateway.post("/v1/messages", &late).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_master_is_killed_goes_on_by_itself_and_accounts_for_every_message() {
    let mut set = Sentinels::start(Kind::Redis, &[], true);
    let receiver = Receiver::start(Manner::default()).await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), SENTINEL_PASSWORD).unwrap();
    let redis = format!(
        "url = \"{}\"\nmode = \"sentinel\"\nmaster = \"{MASTER}\"\nreplicas = 1\ntimeout = \"1s\"\n\
         [redis.sentinel]\npassword_file = \"{}\"",
        set.url(&format!(":{PASSWORD}@")),
        secret.path().display()
    );
    let home = Home::new(&config(&redis, 400, &receiver));
    let gateway = home.serve().await;
    consents(&gateway).await;
    let mut producer = producer(MESSAGES);
    producer
        .produce(&gateway, MESSAGES / 2, |_| {})
        .await
        .unwrap();
    eventually("some arrive", || (receiver.count() > 200).then_some(())).await;
    let first = set.master().unwrap();
    set.servers[first].kill();
    // In mid-hold and mid-drain: what is not acknowledged is handed in again.
    while !producer.open.is_empty() {
        producer.produce(&gateway, 100, |_| {}).await.unwrap();
    }
    set.followed(first);
    drained(&gateway).await;
    account(&gateway, &receiver, &producer.acknowledged).await;
    assert_eq!(producer.acknowledged.len(), MESSAGES);
}

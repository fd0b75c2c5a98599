//! `hold move`, on the built binary.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use nightgate::clock::{Clock, SystemClock};
use nightgate::hold::open::{OpenOptions, open};
use nightgate::hold::{Held, HoldStore, Lane, LeaseAsk, Pick};
use nightgate::ingest::wire;
use nightgate_core::Class;

use crate::cli_home::Home;

const MESSAGES: usize = 2_500;

async fn hold(home: &Home, store: &str) -> Arc<dyn HoldStore> {
    let options = OpenOptions::new(&home.path("nightgate-data"));
    let now = SystemClock::default().now();
    open(store, &options, now).await.unwrap()
}

fn held(number: usize, due: Timestamp) -> Held {
    let json = serde_json::json!({
        "id": format!("order-{number}"), "recipient": "010-1234-5678", "channel": "sms",
        "purpose": "informational", "body": format!("한글 본문 {number}"),
        "attributes": { "trace": "t-1" },
    });
    let message = wire::read(json.to_string().as_bytes()).unwrap();
    Held {
        key: message.recipient.key("KR"),
        message,
        lane: Lane::new("main"),
        class: Class::from_name("informational/sms/KR/Asia/Seoul"),
        due,
        accepted_at: due,
    }
}

async fn lend(hold: &Arc<dyn HoldStore>, now: Timestamp, max: usize) -> Vec<Held> {
    let lane = Lane::new("main");
    let ask = LeaseAsk {
        lane: &lane,
        pick: Pick::Any,
        now,
        max,
        ttl: SignedDuration::from_mins(10),
    };
    let lent = hold.lease(&ask).await.unwrap();
    lent.into_iter().map(|loan| loan.held).collect()
}

/// Moves a hold of the shelf store to `other` and back; `settings` say where that is.
async fn moves_there_and_back_whole(other: &str, settings: &[&str]) {
    let home = Home::new();
    let due = SystemClock::default().now();
    let messages: Vec<Held> = (0..MESSAGES).map(|number| held(number, due)).collect();
    let shelf = hold(&home, "shelf").await;
    shelf.put(messages.clone(), due).await.unwrap();
    drop(shelf);
    for (from, to) in [("shelf", other), (other, "shelf")] {
        let args = [&["hold", "move", "--from", from, "--to", to], settings].concat();
        let moved = home.run(&[&args[..], &["--json"]].concat());
        assert_eq!(moved.code, 0, "{moved:?}");
        assert_eq!(moved.json()["moved"], MESSAGES, "{moved:?}");
        let again = home.run(&args);
        assert_eq!(again.code, 0, "{again:?}");
        assert!(again.out.starts_with("0 messages moved"), "{again:?}");
    }
    let mut there = lend(&hold(&home, "shelf").await, due, MESSAGES + 1).await;
    there.sort_by_key(|held| held.message.id.as_str()[6..].parse::<usize>().unwrap());
    assert_eq!(there, messages);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_moves_to_another_store_and_back_whole() {
    moves_there_and_back_whole("sqlite", &[]).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_hold_moves_to_redis_and_back_whole() {
    let server = crate::several::redis::server::Server::start(&[]);
    let url = format!("redis.url={}", server.url());
    moves_there_and_back_whole("redis", &["--set", &url]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_loan_is_waited_for_and_then_told() {
    let home = Home::new();
    let due = SystemClock::default().now();
    let shelf = hold(&home, "shelf").await;
    let messages = (0..3).map(|number| held(number, due)).collect();
    shelf.put(messages, due).await.unwrap();
    assert_eq!(lend(&shelf, due, 1).await.len(), 1);
    let args = [
        "hold", "move", "--from", "shelf", "--to", "sqlite", "--wait", "1s",
    ];
    let moved = home.run(&args);
    assert_eq!(moved.code, 3, "{moved:?}");
    assert!(moved.out.contains("2 messages moved"), "{moved:?}");
    assert!(moved.out.contains("1 message on loan"), "{moved:?}");
    let stops = shelf.pauses().await.unwrap();
    assert_eq!(stops.len(), 1, "the old hold stays stopped");
}

#[test]
fn a_store_that_cannot_be_moved_is_named_with_those_that_can() {
    let home = Home::new();
    let wrong = home.run(&["hold", "move", "--from", "shelves", "--to", "sqlite"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(
        wrong.err.contains("choose one of shelf, sqlite"),
        "{wrong:?}"
    );
    let same = home.run(&["hold", "move", "--from", "shelf", "--to", "shelf"]);
    assert_eq!(same.code, 2, "{same:?}");
    let none = home.run(&["hold", "move", "--from", "shelf", "--to", "sqlite"]);
    assert!(none.err.contains("no gateway has run"), "{none:?}");
}

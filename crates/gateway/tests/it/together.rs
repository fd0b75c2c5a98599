//! What one of several gateways is told, or gets wrong, and the others.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::gateway::clock::{Fake, now, pause};
use crate::gateway::receiver::{Manner, Receiver};
use crate::gateway::{Home, eventually};
use crate::several::server::Server;
use crate::several::{MESSAGES, all_serve, config, hand_in};

/// Whether a message belongs to the campaign that is taken back: `kill::line` deals three in turn.
fn is_recalled(id: &str) -> bool {
    let number = id.rsplit('-').next().unwrap();
    number.parse::<usize>().unwrap() % 3 == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_on_one_gateway_is_obeyed_by_the_others_within_a_second() {
    let server = Server::start(&[]);
    let receiver = Receiver::start(Manner::default()).await;
    let homes = [(); 3].map(|()| Home::new(&config(&server, &receiver)));
    let [one, two, three] = all_serve(&homes).await;
    hand_in([&one, &two, &three]).await;
    eventually("some arrive", || (receiver.count() > 100).then_some(())).await;
    let said = two.post("/v1/recalls", &json!({"campaign": "c1"})).await;
    let recalled = said.json()["recalled"].as_u64().unwrap();
    assert!(recalled > 0, "something was left to take back");
    pause(Duration::from_secs(1)).await;
    let theirs = || {
        let arrivals = receiver.arrivals();
        arrivals.iter().filter(|one| is_recalled(&one.id)).count()
    };
    let arrived = theirs();
    let empty = |hold: &Value| hold["total"]["held"] == 0 && hold["total"]["leased"] == 0;
    one.until("/v1/hold", empty).await;
    assert_eq!(theirs(), arrived, "none of it leaves any more");
    let gone = u64::try_from(receiver.times().len()).unwrap();
    let all = u64::try_from(MESSAGES).unwrap();
    assert!(gone + recalled <= all, "{gone} left, {recalled} taken back");
    // What was on loan at that moment may have left, or came back and was taken back then.
    assert!(gone + recalled + 500 >= all, "the others left: {gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_clock_is_an_hour_ahead_says_so_and_lets_nothing_leave() {
    let server = Server::start(&[]);
    let receiver = Receiver::start(Manner::default()).await;
    let settings = config(&server, &receiver);
    let right = [(); 3].map(|()| Home::new(&settings));
    let gateways = all_serve(&right).await;
    let paused = right[0].run(&["lanes", "pause", "all"]);
    assert!(paused.status.success(), "{paused:?}");
    let [one, two, three] = gateways;
    hand_in([&one, &two, &three]).await;
    let left_before = receiver.count();
    two.kill();
    three.kill();
    one.kill();

    let ahead = Fake::showing(&(now() + SignedDuration::from_hours(1)).to_string());
    let wrong = Home::new(&settings).with_clock(ahead);
    let _off = wrong.serve().await;
    let resumed = right[0].run(&["lanes", "resume", "all"]);
    assert!(resumed.status.success(), "{resumed:?}");
    eventually("it says so", || {
        wrong.log().contains("clock_apart").then_some(())
    })
    .await;
    pause(Duration::from_secs(2)).await;
    assert_eq!(receiver.count(), left_before, "nothing leaves from there");

    let again = right[0].serve().await;
    let empty = |hold: &Value| hold["total"]["held"] == 0 && hold["total"]["leased"] == 0;
    again.until("/v1/hold", empty).await;
    assert_eq!(receiver.times().len(), MESSAGES, "all leave by another");
}

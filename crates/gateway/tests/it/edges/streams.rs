//! Messages of every kind, posted in a stream across an edge: each answer must fit the instant that
//! its receipt names, and nothing may arrive when its kind may not.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::oracle::{KINDS, Kind};
use super::{TRANSIT, clock_before, consents, seoul};
use crate::gateway::clock::{Fake, pause};
use crate::gateway::receiver::{Manner, Receiver};
use crate::gateway::{Gateway, Home, eventually};

/// Posts before and after the edge.
const BESIDE: SignedDuration = SignedDuration::from_millis(1200);
const POST_EVERY: Duration = Duration::from_millis(60);
/// Seconds from the start of the process to the edge; doubled when the machine is slower.
const LEAD_S: i64 = 4;
const LEAD_MAX_S: i64 = 64;

/// A gateway that was up before the edge came.
async fn up_before(edge: &str, receiver: &Receiver) -> (Home, Gateway, Fake) {
    let at: Timestamp = edge.parse().unwrap();
    let mut lead = LEAD_S;
    loop {
        let fake = clock_before(edge, lead);
        let home = Home::new(&receiver.lane("", "")).with_clock(fake);
        let gateway = home.serve().await;
        consents(&gateway).await;
        if fake.now() < at - BESIDE {
            return (home, gateway, fake);
        }
        lead *= 2;
        assert!(lead <= LEAD_MAX_S, "the gateway takes a minute to start");
    }
}

fn id(kind: Kind, round: usize) -> String {
    format!("{}-{round}", kind.name)
}

fn kind_of(id: &str) -> Kind {
    let (name, _) = id.split_once('-').unwrap();
    KINDS.into_iter().find(|kind| kind.name == name).unwrap()
}

/// Posts until the edge is passed; gives the answers by id.
async fn post_across(gateway: &Gateway, edge: Timestamp, fake: &Fake) -> HashMap<String, Value> {
    let mut answers = HashMap::new();
    for round in 0.. {
        let all = KINDS.map(|kind| kind.message(&id(kind, round)));
        let answered = gateway.post("/v1/messages", &all.to_vec().into()).await;
        for answer in answered.json().as_array().unwrap() {
            let id = answer["id"].as_str().unwrap().to_owned();
            answers.insert(id, answer.clone());
        }
        if fake.now() > edge + BESIDE {
            break;
        }
        pause(POST_EVERY).await;
    }
    answers
}

#[track_caller]
fn check_answer(answer: &Value, kind: Kind, decided: Timestamp) {
    let due = kind.due(decided);
    let about = format!("{answer} at {decided} wants {due:?}");
    assert_eq!(answer["status"], due.status, "{about}");
    assert_eq!(answer["reason"], due.reason, "{about}");
    match answer["rule"].as_str() {
        Some(rule) => assert!(due.rules.contains(&rule), "{about}"),
        None => assert!(due.rules.is_empty(), "{about}"),
    }
    let told: Timestamp = answer["due"].as_str().unwrap().parse().unwrap();
    assert_eq!(told, due.until.unwrap_or(decided), "{about}");
}

async fn across(edge: String) {
    let receiver = Receiver::start(Manner::default()).await;
    let (home, gateway, fake) = up_before(&edge, &receiver).await;
    let edge: Timestamp = edge.parse().unwrap();
    fake.wait_until(&(edge - BESIDE).to_string()).await;
    let answers = post_across(&gateway, edge, &fake).await;
    let receipts = gateway.get("/v1/receipts").await.lines();
    let (mut before, mut after) = (0, 0);
    for receipt in receipts.iter().filter(|receipt| receipt["attempt"] == 0) {
        let id = receipt["message"].as_str().unwrap();
        let decided: Timestamp = receipt["at"].as_str().unwrap().parse().unwrap();
        check_answer(&answers[id], kind_of(id), decided);
        *(if decided < edge {
            &mut before
        } else {
            &mut after
        }) += 1;
    }
    assert_eq!(before + after, answers.len(), "one decision a message");
    assert!(before > 0 && after > 0, "posted on both sides of the edge");
    settled(&gateway, &receiver, &answers, &fake).await;
    drop(home);
}

/// What may leave arrives, what may not does not, and nobody is forgotten.
async fn settled(
    gateway: &Gateway,
    receiver: &Receiver,
    answers: &HashMap<String, Value>,
    fake: &Fake,
) {
    let waits = |id: &&String| !kind_of(id).may_arrive(fake.now());
    let waiting = answers.keys().filter(waits).count();
    eventually("what may leave has arrived", || {
        let times = receiver.times();
        let missing = answers.keys().filter(|id| !times.contains_key(*id));
        (missing.filter(|id| !waits(id)).count() == 0).then_some(())
    })
    .await;
    for arrival in receiver.arrivals() {
        let at = fake.of(arrival.at);
        assert!(at - TRANSIT < arrival.not_after, "{} at {at}", arrival.id);
        let kind = kind_of(&arrival.id);
        let in_time = kind.may_arrive(at) || kind.may_arrive(at - TRANSIT);
        assert!(in_time, "{} at {at}", arrival.id);
    }
    for receipt in gateway.get("/v1/receipts").await.lines() {
        if receipt["event"] == "attempted" {
            let at = receipt["at"].as_str().unwrap().parse().unwrap();
            let id = receipt["message"].as_str().unwrap();
            assert!(kind_of(id).may_arrive(at), "{id} handed over at {at}");
        }
    }
    let times = receiver.times();
    assert!(times.values().all(|times| *times == 1), "each arrives once");
    let early = answers.keys().filter(waits);
    let early = early.filter(|id| times.contains_key(*id)).count();
    let held = gateway.until("/v1/hold", |hold| hold["total"]["leased"] == 0);
    assert_eq!(held.await["total"]["held"], waiting - early);
}

#[tokio::test(flavor = "multi_thread")]
async fn kakao_takes_nothing_from_half_a_minute_before_ten_to_nine() {
    across(seoul(22, "20:49:30")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_to_nine_itself_is_closed_for_kakao() {
    across(seoul(22, "20:50:00")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn advertising_leaves_until_the_guard_and_is_held_from_then_on() {
    across(seoul(22, "20:59:30")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_in_the_evening_itself_is_night() {
    across(seoul(22, "21:00:00")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_in_the_morning_itself_is_day_and_what_was_held_leaves() {
    across(seoul(23, "08:00:00")).await;
}

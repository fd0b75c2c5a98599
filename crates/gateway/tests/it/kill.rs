//! `kill -9` at random moments of accept and release: nothing that was acknowledged is lost, and
//! nothing arrives twice that must not.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::clock::pause;
use crate::gateway::receiver::{Manner, Receiver};
use crate::gateway::{Gateway, Home, kill};

const MESSAGES: usize = 10_000;
const ROUNDS: usize = 16;
/// Messages that are handed in during one life, at the most; the rest come in later ones.
const SHARE: usize = MESSAGES / 4;
/// Every other process is killed when it has answered so many of them: in the middle of accepting.
const ANSWERS: std::ops::Range<usize> = 1..SHARE / 2;
/// The others are left so many milliseconds to release in.
const LIFE_MS: std::ops::Range<u64> = 5..500;
/// The same lives every time; what they meet is up to the machine.
const SEED: u64 = 0x006e_6967_6874;
/// Of so many messages, one is looked up by itself at the end.
const LOOK_UP_EVERY: u64 = 100;
const RECIPIENTS: usize = 50;

/// E-mail may carry advertising at any hour, so this test needs no other clock.
pub(crate) fn line(n: usize) -> Value {
    let (name, channel, purpose) = match n % 2 {
        0 => ("ad", "email", "advertising"),
        _ => ("info", "sms", "informational"),
    };
    let recipient = match n % 2 {
        0 => format!("r{}@mail.example", n % RECIPIENTS),
        _ => "+821000000009".to_owned(),
    };
    json!({"id": format!("{name}-{n}"), "recipient": recipient, "channel": channel,
        "purpose": purpose, "campaign": format!("c{}", n % 3), "body": "hello"})
}

pub(crate) fn is_advertising(id: &str) -> bool {
    id.starts_with("ad-")
}

/// What the gateway has acknowledged, and what it must still be told.
pub(crate) struct Producer {
    pub(crate) open: Vec<usize>,
    pub(crate) acknowledged: HashSet<String>,
}

impl Producer {
    /// Sends the next `share` messages. What an answer names is acknowledged, also when the rest of
    /// the answers never came because the process died. `seen` is called with each answer's number.
    pub(crate) async fn produce(
        &mut self,
        gateway: &Gateway,
        share: usize,
        seen: impl Fn(usize),
    ) -> Result<(), reqwest::Error> {
        let next: Vec<Value> = self.open.iter().take(share).map(|n| line(*n)).collect();
        let text: Vec<String> = next.iter().map(Value::to_string).collect();
        let (known, mut answers) = (&mut self.acknowledged, 0);
        let note = |answer: Value| {
            match answer["status"].as_str() {
                Some("accepted" | "held" | "duplicate") => {
                    known.insert(answer["id"].as_str().unwrap().to_owned());
                }
                Some("failed") | None => {}
                Some(_) => panic!("nothing here is refused or wrong: {answer}"),
            }
            answers += 1;
            seen(answers);
        };
        let path = "/v1/messages/bulk";
        let streamed = gateway
            .stream_while_it_lives(path, text.join("\n"), note)
            .await;
        let known = &self.acknowledged;
        self.open
            .retain(|n| !known.contains(line(*n)["id"].as_str().unwrap()));
        streamed
    }
}

fn config(receiver: &Receiver) -> String {
    let lane = receiver.lane(
        "timeout = \"2s\"\nconnect_timeout = \"1s\"\nbatch_max = 25",
        "unknown_informational = \"retry\"\nunknown_advertising = \"bury\"\n\
         backoff_min = \"100ms\"\nbackoff_max = \"200ms\"\nattempts_max = 50\n",
    );
    format!("{lane}[release]\nlease_ttl = \"5s\"\ntick_max = 500\n")
}

pub(crate) async fn consents(gateway: &Gateway) {
    let grant = |n: usize| {
        json!({"recipient": format!("r{n}@mail.example"), "scope": "general",
            "at": "2026-11-01T12:00:00+09:00"})
    };
    let all: Vec<Value> = (0..RECIPIENTS).map(grant).collect();
    assert_eq!(gateway.post("/v1/consents", &all.into()).await.status, 200);
}

/// The receipts of every message, in the order they were filed.
pub(crate) async fn trails(gateway: &Gateway) -> HashMap<String, Vec<String>> {
    let mut trails = HashMap::<String, Vec<String>>::new();
    let receipts = gateway.get("/v1/receipts").await;
    assert_eq!(receipts.status, 200);
    for receipt in receipts.lines() {
        let Some(id) = receipt["message"].as_str() else {
            continue;
        };
        let event = receipt["event"].as_str().unwrap().to_owned();
        trails.entry(id.to_owned()).or_default().push(event);
    }
    trails
}

/// One decision at ingest, an attempt before each arrival, and an end.
fn check_trail(id: &str, trail: &[String], arrived: usize) -> &'static str {
    let count = |event: &str| trail.iter().filter(|one| *one == event).count();
    let about = format!("{id} arrived {arrived} times, receipts {trail:?}");
    assert!(count("accepted") <= 1, "decided once at ingest: {about}");
    // Killed between hold and receipts, a message may be released before its producer asks again:
    // then the decision at hand-over is its first.
    assert!(matches!(&*trail[0], "accepted" | "attempted"), "{about}");
    assert!(
        count("attempted") >= arrived,
        "an attempt before each arrival: {about}"
    );
    let (delivered, buried) = (count("delivered"), count("buried"));
    assert_eq!(delivered + buried, 1, "one end: {about}");
    assert!(arrived > 0 || buried == 1, "lost: {about}");
    if is_advertising(id) {
        assert!(arrived <= 1, "advertising arrives once at most: {about}");
        return if buried == 1 { "buried" } else { "delivered" };
    }
    assert_eq!(
        delivered, 1,
        "information is tried until it is delivered: {about}"
    );
    if arrived > 1 {
        assert!(
            count("unknown") > 0,
            "twice only where an outcome was lost: {about}"
        );
    }
    "delivered"
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_however_often_the_process_is_killed() {
    let receiver = Receiver::start(Manner {
        slow: Duration::from_millis(5),
        refuse_every: 40,
    })
    .await;
    let home = Home::new(&config(&receiver));
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut cut_short = 0;
    let mut producer = Producer {
        open: (0..MESSAGES).collect(),
        acknowledged: HashSet::new(),
    };
    let first = home.serve().await;
    consents(&first).await;
    first.kill();
    for round in 0..ROUNDS {
        let gateway = home.serve().await;
        let pid = gateway.pid();
        if round % 2 == 0 {
            let last = random.usize(ANSWERS);
            let seen = |answers| {
                if answers == last {
                    kill(pid);
                }
            };
            let share = producer.produce(&gateway, SHARE, seen).await;
            cut_short += usize::from(share.is_err());
        } else {
            pause(Duration::from_millis(random.u64(LIFE_MS))).await;
        }
        gateway.kill();
    }
    let gateway = home.serve().await;
    producer.produce(&gateway, MESSAGES, |_| {}).await.unwrap();
    assert_eq!(producer.acknowledged.len(), MESSAGES);
    let empty = |hold: &Value| hold["total"]["held"] == 0 && hold["total"]["leased"] == 0;
    let hold = gateway.until("/v1/hold", empty).await;

    let (trails, times) = (trails(&gateway).await, receiver.times());
    let mut ends = BTreeMap::<&str, u64>::new();
    for id in &producer.acknowledged {
        let arrived = times.get(id).copied().unwrap_or_default();
        let end = check_trail(id, &trails[id], arrived);
        if ends.values().sum::<u64>() % LOOK_UP_EVERY == 0 {
            let found = gateway.get(&format!("/v1/messages/{id}")).await.json();
            assert_eq!(found["state"], end, "{found}");
        }
        *ends.entry(end).or_default() += 1;
    }
    assert_eq!(hold["total"]["buried"], *ends.get("buried").unwrap_or(&0));
    assert!(times.len() <= MESSAGES && trails.len() == MESSAGES);
    let twice = times.values().filter(|times| **times > 1).count();
    assert!(
        cut_short > 1,
        "some processes were killed while they took messages in"
    );
    println!("{ends:?}, {twice} arrived more than once, {cut_short} streams were cut");
}

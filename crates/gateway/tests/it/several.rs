//! Three gateways on one Redis: one is killed, one is stopped for longer than its loans run.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::cli_home;
use crate::gateway::clock::pause;
use crate::gateway::receiver::{Arrival, Manner, Receiver};
use crate::gateway::{Gateway, Home, eventually};
use crate::kill::{Producer, consents, is_advertising, trails};

#[path = "../behaviour/redis/server.rs"]
#[expect(
    dead_code,
    reason = "shared with the behaviour suite, which uses the rest"
)]
pub(crate) mod server;

use server::Server;

pub(crate) const MESSAGES: usize = 3_000;
/// Messages a second, of all gateways together.
const RATE: usize = 400;
const BURST: usize = 50;
/// More than loans run.
const STOPPED: Duration = Duration::from_secs(7);

/// Everything in Redis, nothing on disk.
fn in_redis(server: &Server) -> String {
    format!(
        "[hold]\nstore = \"redis\"\n[consent]\nstore = \"redis\"\n[receipts]\nstore = \"redis\"\n\
         [redis]\nurl = \"{}\"\nskew_max = \"1s\"\n",
        server.url()
    )
}

pub(crate) fn config(server: &Server, receiver: &Receiver) -> String {
    let lane = format!(
        "rate = {RATE}\nburst = {BURST}\nunknown_informational = \"retry\"\n\
         unknown_advertising = \"bury\"\nbackoff_min = \"100ms\"\nbackoff_max = \"200ms\"\n\
         attempts_max = 50\n"
    );
    let lane = receiver.lane(
        "timeout = \"2s\"\nconnect_timeout = \"1s\"\nbatch_max = 25",
        &lane,
    );
    let release = "[release]\nlease_ttl = \"5s\"\ntick_max = 500\n";
    format!("{}{lane}{release}", in_redis(server))
}

/// The most that arrived within `window`.
fn most_within(arrivals: &[Arrival], window: SignedDuration) -> usize {
    let mut at: Vec<Timestamp> = arrivals.iter().map(|arrival| arrival.at).collect();
    at.sort_unstable();
    let within = |(first, begin): (usize, &Timestamp)| {
        at.partition_point(|one| one.duration_since(*begin) < window) - first
    };
    at.iter().enumerate().map(within).max().unwrap_or(0)
}

/// Starts a gateway in each home, and tells the first of consents.
pub(crate) async fn all_serve(homes: &[Home; 3]) -> [Gateway; 3] {
    let [one, two, three] = homes;
    let first = one.serve().await;
    consents(&first).await;
    [first, two.serve().await, three.serve().await]
}

/// Hands all messages in, a part to each gateway.
pub(crate) async fn hand_in(gateways: [&Gateway; 3]) -> HashSet<String> {
    let mut producer = Producer {
        open: (0..MESSAGES).collect(),
        acknowledged: HashSet::new(),
    };
    for (gateway, share) in gateways.into_iter().zip([1_000, 1_000, MESSAGES]) {
        producer.produce(gateway, share, |_| {}).await.unwrap();
    }
    assert_eq!(producer.acknowledged.len(), MESSAGES);
    producer.acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_is_killed_and_one_stopped_and_nothing_is_lost_doubled_or_too_fast() {
    let server = Server::start(&[]);
    let receiver = Receiver::start(Manner::default()).await;
    let homes = [(); 3].map(|()| Home::new(&config(&server, &receiver)));
    let [one, two, three] = all_serve(&homes).await;
    let acknowledged = hand_in([&one, &two, &three]).await;
    let arrived = |count| move |receiver: &Receiver| (receiver.count() > count).then_some(());
    let (early, later) = (arrived(MESSAGES / 6), arrived(MESSAGES / 3));
    eventually("some arrive", || early(&receiver)).await;
    two.kill();
    eventually("more arrive", || later(&receiver)).await;
    three.signal("STOP");
    pause(STOPPED).await;
    three.signal("CONT");
    let empty = |hold: &Value| hold["total"]["held"] == 0 && hold["total"]["leased"] == 0;
    one.until("/v1/hold", empty).await;

    let (trails, times) = (trails(&one).await, receiver.times());
    for id in &acknowledged {
        let (trail, arrived) = (&trails[id], times.get(id).copied().unwrap_or_default());
        let count = |event: &str| trail.iter().filter(|one| *one == event).count();
        let about = format!("{id} arrived {arrived} times, receipts {trail:?}");
        assert!(count("delivered") + count("buried") > 0, "one end: {about}");
        assert!(arrived > 0 || count("buried") == 1, "lost: {about}");
        assert!(
            count("attempted") >= arrived,
            "an attempt before each arrival: {about}"
        );
        if is_advertising(id) {
            assert!(arrived <= 1, "advertising arrives once at most: {about}");
        } else if arrived > 1 {
            assert!(
                count("unknown") > 0,
                "twice only where nobody could tell: {about}"
            );
        }
    }
    // Two seconds of the rate and the burst; a batch may be on its way for a moment.
    let most = most_within(&receiver.arrivals(), SignedDuration::from_secs(2));
    assert!(
        most <= 2 * RATE + BURST + RATE / 4,
        "{most} within two seconds"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_set_on_one_gateway_stops_the_others_within_a_second() {
    let server = Server::start(&[]);
    let receiver = Receiver::start(Manner::default()).await;
    let homes = [(); 3].map(|()| Home::new(&config(&server, &receiver)));
    let [one, two, three] = all_serve(&homes).await;
    hand_in([&one, &two, &three]).await;
    eventually("some arrive", || (receiver.count() > 100).then_some(())).await;
    let paused = homes[1].run(&["lanes", "pause", "all"]);
    assert!(paused.status.success(), "{paused:?}");
    pause(Duration::from_secs(1)).await;
    let stopped_at = receiver.count();
    pause(Duration::from_secs(2)).await;
    assert_eq!(receiver.count(), stopped_at, "nothing leaves by anybody");
    assert!(stopped_at < MESSAGES, "something is left to stop");
}

#[test]
fn the_doctor_compares_the_clocks_of_gateways_on_one_redis() {
    let server = Server::start(&[]);
    let home = cli_home::Home::new();
    let lane = "[lane.main]\nrate = 1000\nburst = 100\n";
    home.write("nightgate.toml", &format!("{}{lane}", in_redis(&server)));
    let looked = home.run(&["doctor", "--set", "http.listen=127.0.0.1:0"]);
    assert!(
        looked.out.contains("✓ clocks: this clock is ahead of"),
        "{looked:?}"
    );
    assert!(
        looked
            .out
            .contains("✓ pace: 1 lane with a burst below a fifth"),
        "{looked:?}"
    );
}

#[test]
fn a_server_that_evicts_is_refused_with_a_sentence_that_says_what_to_change() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let home = cli_home::Home::new();
    home.write("nightgate.toml", &in_redis(&server));
    let refused = home.run(&["hold", "ls"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.err.contains("set it to `noeviction`"),
        "{refused:?}"
    );
    let relaxed = home.run(&["hold", "ls", "--set", "redis.durability=relaxed"]);
    assert_eq!(relaxed.code, 0, "{relaxed:?}");
}

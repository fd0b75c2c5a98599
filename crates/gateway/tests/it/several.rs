//! Three gateways on one hold: one is killed, one is stopped for longer than its loans run. What is
//! tested is here; where they share their hold, in a file each.

#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(feature = "redis")]
pub(crate) mod redis;

use std::any::Any;
use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cli_home;
use crate::gateway::clock::{Fake, now, pause};
use crate::gateway::receiver::{Arrival, Manner, Receiver};
use crate::gateway::{Gateway, Home, eventually};
use crate::kill::{Producer, consents, is_advertising, line, trails};

/// More than loans run.
const STOPPED: Duration = Duration::from_secs(7);
/// A stop, or what is taken back, bites everywhere within so long.
const SECOND: Duration = Duration::from_secs(1);

/// Where all gateways of a test keep everything.
struct Place {
    /// `[hold]` and what goes with it; clocks may be a second apart.
    config: String,
    /// How many messages it can take in a test's time.
    messages: usize,
    /// Messages a second, of all gateways together.
    rate: usize,
    burst: usize,
    slow_start: &'static str,
    /// Ends with the test.
    _server: Box<dyn Any>,
}

impl Place {
    fn config(&self, receiver: &Receiver) -> String {
        let Self {
            rate,
            burst,
            slow_start,
            ..
        } = self;
        let lane = format!(
            "rate = {rate}\nburst = {burst}\nslow_start = \"{slow_start}\"\n\
             unknown_informational = \"retry\"\nunknown_advertising = \"bury\"\n\
             backoff_min = \"100ms\"\nbackoff_max = \"200ms\"\nattempts_max = 50\n"
        );
        let lane = receiver.lane(
            "timeout = \"2s\"\nconnect_timeout = \"1s\"\nbatch_max = 25",
            &lane,
        );
        let release = "[release]\nlease_ttl = \"5s\"\ntick_max = 500\n";
        format!("{}{lane}{release}", self.config)
    }

    fn homes(&self, receiver: &Receiver) -> [Home; 3] {
        [(); 3].map(|()| Home::new(&self.config(receiver)))
    }

    /// Hands all messages in, a part to each gateway.
    async fn hand_in(&self, gateways: [&Gateway; 3]) -> HashSet<String> {
        let mut producer = Producer {
            open: (0..self.messages).collect(),
            acknowledged: HashSet::new(),
        };
        let third = self.messages / 3;
        for (gateway, share) in gateways.into_iter().zip([third, third, self.messages]) {
            producer.produce(gateway, share, |_| {}).await.unwrap();
        }
        assert_eq!(producer.acknowledged.len(), self.messages);
        producer.acknowledged
    }
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
async fn all_serve(homes: &[Home; 3]) -> [Gateway; 3] {
    let [one, two, three] = homes;
    let first = one.serve().await;
    consents(&first).await;
    [first, two.serve().await, three.serve().await]
}

async fn one_is_killed_and_one_stopped(place: Place) {
    let receiver = Receiver::start(Manner::default()).await;
    let homes = place.homes(&receiver);
    let [one, two, three] = all_serve(&homes).await;
    let acknowledged = place.hand_in([&one, &two, &three]).await;
    let arrived = |count| move |receiver: &Receiver| (receiver.count() > count).then_some(());
    let (early, later) = (arrived(place.messages / 6), arrived(place.messages / 3));
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
        most <= 2 * place.rate + place.burst + place.rate / 4,
        "{most} within two seconds"
    );
}

async fn a_pause_stops_all(place: Place) {
    let receiver = Receiver::start(Manner::default()).await;
    let homes = place.homes(&receiver);
    let [one, two, three] = all_serve(&homes).await;
    place.hand_in([&one, &two, &three]).await;
    eventually("some arrive", || (receiver.count() > 100).then_some(())).await;
    let paused = homes[1].run(&["lanes", "pause", "all"]);
    assert!(paused.status.success(), "{paused:?}");
    pause(SECOND).await;
    let stopped_at = receiver.count();
    pause(SECOND * 2).await;
    assert_eq!(receiver.count(), stopped_at, "nothing leaves by anybody");
    assert!(stopped_at < place.messages, "something is left to stop");
}

async fn what_is_recalled_leaves_by_nobody(place: Place) {
    let receiver = Receiver::start(Manner::default()).await;
    let homes = place.homes(&receiver);
    let [one, two, three] = all_serve(&homes).await;
    place.hand_in([&one, &two, &three]).await;
    eventually("some arrive", || (receiver.count() > 50).then_some(())).await;
    let recalled = two.post("/v1/recalls", &json!({"campaign": "c0"})).await;
    assert!(
        recalled.json()["recalled"].as_u64() > Some(0),
        "{recalled:?}"
    );
    let bites = now() + SECOND;
    let empty = |hold: &Value| hold["total"]["held"] == 0 && hold["total"]["leased"] == 0;
    one.until("/v1/hold", empty).await;
    let c0: HashSet<String> = (0..place.messages)
        .map(line)
        .filter(|line| line["campaign"] == "c0")
        .map(|line| line["id"].as_str().unwrap().to_owned())
        .collect();
    let arrivals = receiver.arrivals();
    let late = |arrival: &&Arrival| c0.contains(&arrival.id) && arrival.at > bites;
    assert_eq!(
        arrivals.iter().filter(late).count(),
        0,
        "taken back everywhere"
    );
    let others = arrivals.iter().filter(|arrival| !c0.contains(&arrival.id));
    assert_eq!(
        others.count(),
        place.messages - c0.len(),
        "and nothing else"
    );
}

async fn a_gateway_whose_clock_is_apart_says_so_and_sends_nothing(place: Place) {
    let receiver = Receiver::start(Manner::default()).await;
    let [apart, right, _] = place.homes(&receiver);
    let ahead = (now() + SignedDuration::from_secs(5)).to_string();
    let apart = apart.with_clock(Fake::showing(&ahead));
    let gateway = apart.serve().await;
    let taken = gateway.post("/v1/messages", &line(1)).await;
    assert_eq!(taken.json()["status"], "accepted", "{taken:?}");
    let alarm = || apart.log().contains("clock_apart").then_some(());
    eventually("the alarm is raised", alarm).await;
    pause(SECOND * 2).await;
    assert_eq!(receiver.count(), 0, "nothing leaves there");
    let _right = right.serve().await;
    let arrives = || (receiver.count() == 1).then_some(());
    eventually("another one sends it", arrives).await;
}

/// `burst`: how the doctor names the least one.
fn the_doctor_compares_clocks(place: &Place, burst: &str) {
    let home = cli_home::Home::new();
    let lane = "[lane.main]\nrate = 1000\nburst = 100\n";
    home.write("nightgate.toml", &format!("{}{lane}", place.config));
    let looked = home.run(&["doctor", "--set", "http.listen=127.0.0.1:0"]);
    assert!(
        looked.out.contains("✓ clocks: this clock is ahead of"),
        "{looked:?}"
    );
    let small = format!("✓ pace: 1 lane with a burst below {burst} of the rate");
    assert!(looked.out.contains(&small), "{looked:?}");
}

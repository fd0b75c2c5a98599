//! Opening, stops, counts and what is told of age.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nightgate::aws::queues::{Fault, FaultKind, Queues};
use nightgate::aws::sim::{FaultPlan, Op, SimOptions};
use nightgate::clock::Clock as _;
use nightgate::error::Kind;
use nightgate::hold::{HoldStore, Lane, Pause};

use super::world::*;
use crate::world::*;

#[tokio::test]
async fn every_missing_queue_is_named_with_what_to_create() {
    let world = World::new();
    world.sim.remove(EIGHT);
    world.sim.remove("night-push-buried");
    let error = world.open(world.options()).await.err().unwrap();
    assert_eq!(error.kind, Kind::Invalid);
    let text = error.to_string();
    for word in [
        EIGHT,
        "night-push-buried",
        "create a standard queue",
        "14 days",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains(READY), "those that are there are not named");
}

#[tokio::test]
async fn a_queue_that_moves_messages_away_after_a_few_receives_is_refused() {
    let world = World::new();
    let dead = |receives: u32| SimOptions {
        dead_letter: Some((receives, "dead".to_owned())),
        ..SimOptions::default()
    };
    world.sim.create(WAIT, dead(5));
    let error = world.open(world.options()).await.err().unwrap();
    assert_eq!(error.kind, Kind::Invalid);
    let text = error.to_string();
    assert!(
        text.contains(WAIT) && text.contains("after 5 receives"),
        "{text}"
    );
    world.sim.create(WAIT, dead(1_000));
    world.open(world.options()).await.unwrap();
}

#[tokio::test]
async fn a_queue_that_does_not_answer_is_not_taken_for_missing() {
    let world = World::new();
    let down = Fault::new(FaultKind::Unavailable, "down");
    world.sim.faults.next(Op::Find, FaultPlan::Before(down));
    let error = world.open(world.options()).await.err().unwrap();
    assert_eq!(error.kind, Kind::Unavailable);
}

/// Keeps what is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || log.clone());
        tracing::subscriber::set_default(subscriber.with_ansi(false).finish())
    }

    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

#[tokio::test]
async fn a_short_retention_and_a_small_maximum_are_warned_of_at_the_start() {
    let (world, log) = (World::new(), Log::default());
    let _listening = log.listen();
    world.open(world.options()).await.unwrap();
    assert_eq!(log.take(), "");
    let four_days = SimOptions {
        retention: Duration::from_secs(4 * 24 * 3600),
        bytes_max: 256 * 1024,
        ..SimOptions::default()
    };
    world.sim.create(WAIT, four_days);
    world.open(world.options()).await.unwrap();
    let told = log.take();
    assert!(told.contains(WAIT) && told.contains("days=4"), "{told}");
    assert!(told.contains("bytes=262144"), "{told}");
}

#[tokio::test]
async fn a_message_held_for_most_of_its_queues_retention_is_warned_of_by_a_sweep() {
    let (world, log) = (World::new(), Log::default());
    let hold = &*world.hold().await;
    put(hold, vec![held("a")]).await;
    let day = 24 * 60;
    lease_one(hold, at(11 * day)).await;
    let _listening = log.listen();
    assert_eq!(hold.sweep(at(11 * day)).await.unwrap(), 0);
    assert_eq!(log.take(), "", "less than 80 % of 14 days");
    lease_one(hold, at(12 * day)).await;
    hold.sweep(at(12 * day)).await.unwrap();
    let told = log.take();
    assert!(
        told.contains("messages=1") && told.contains("80 %"),
        "{told}"
    );
    hold.sweep(at(12 * day)).await.unwrap();
    assert_eq!(log.take(), "", "once");
}

#[tokio::test]
async fn stops_are_tags_that_every_process_sees() {
    let world = World::new();
    let (hold, other) = (&*world.hold().await, &*world.hold().await);
    assert_eq!(other.pauses().await.unwrap(), []);
    hold.pause(Some(&lane()), true, at(1)).await.unwrap();
    hold.pause(None, true, at(2)).await.unwrap();
    let stops = [
        Pause {
            lane: None,
            since: at(2),
        },
        Pause {
            lane: Some(lane()),
            since: at(1),
        },
    ];
    assert_eq!(hold.pauses().await.unwrap(), stops);
    world.turn(at(3));
    assert_eq!(other.pauses().await.unwrap(), stops);
    let tags = world.sim.tags(&world.queue(READY).await).await.unwrap();
    assert_eq!(tags["nightgate-paused"], at(1).to_string());
    assert_eq!(tags["nightgate-stopped"], at(2).to_string());
    other.pause(None, false, at(4)).await.unwrap();
    world.turn(at(5));
    assert_eq!(hold.pauses().await.unwrap(), stops[1..]);
    let unknown = hold.pause(Some(&Lane::new("fax")), true, at(5)).await;
    assert_eq!(unknown.unwrap_err().kind, Kind::Invalid);
}

#[tokio::test]
async fn tags_are_read_at_most_once_a_second() {
    let world = World::new();
    let hold = &*world.hold().await;
    for _ in 0..10 {
        hold.pauses().await.unwrap();
    }
    assert_eq!(world.sim.faults.requests(Op::Tags), 2, "one a lane");
    world.turn(at(1));
    hold.pauses().await.unwrap();
    assert_eq!(world.sim.faults.requests(Op::Tags), 4);
}

#[tokio::test]
async fn shelves_show_what_is_due_what_waits_what_is_lent_and_what_is_buried() {
    let world = World::new();
    let hold = &*world.hold().await;
    let eight = at(0) + jiff::SignedDuration::from_hours(11)
        - jiff::SignedDuration::from_nanos(123_456_789);
    let mut all: Vec<_> = (0..6)
        .map(|number| held(&format!("now-{number}")))
        .collect();
    all.extend((0..3).map(|number| due(&format!("soon-{number}"), at(10))));
    all.extend((0..4).map(|number| due(&format!("eight-{number}"), eight)));
    put(hold, all).await;
    let now = at(0) + jiff::SignedDuration::from_secs(5);
    // What waits was looked at, so nobody takes it for due.
    let loans = lease(hold, at(0), ALL).await;
    assert_eq!(lease(hold, at(0), ALL).await, []);
    settle(hold, loans[0].token, bury(), at(0)).await;
    settle(hold, loans[1].token, done(), at(0)).await;
    hold.put(vec![held("fresh")], now).await.unwrap();
    let due = hold.shelves(Some(&lane()), Some(now)).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].held, due[0].leased, due[0].buried), (1, 4, 1));
    let before = world.sim.faults.requests(Op::Look);
    let shelves = hold.shelves(Some(&lane()), None).await.unwrap();
    assert!(
        world.sim.faults.requests(Op::Look) - before <= 1,
        "counts are kept a second"
    );
    let dues: Vec<_> = shelves
        .iter()
        .map(|shelf| (shelf.due, shelf.held))
        .collect();
    assert_eq!(dues[1..], [(at(10), 3), (eight, 4)]);
    assert_eq!(totals(hold).await, (8, 4, 1));
    assert!(shelves.iter().all(|shelf| shelf.class.as_str() == "sqs"));
    hold.check().await.unwrap();
    world.sim.remove(READY);
    assert_eq!(hold.check().await.unwrap_err().kind, Kind::Unavailable);
}

#[tokio::test]
async fn what_another_process_took_is_not_shown_as_due_for_ever() {
    let world = World::new();
    let (hold, other) = (&*world.hold().await, &*world.hold().await);
    put(hold, vec![held("a"), due("b", at(30))]).await;
    for now in [at(0), at(30)] {
        let loan = lease_one(other, now).await;
        settle(other, loan.token, done(), now).await;
    }
    // Nobody leases here: the lane is paused in this process.
    let due = async |now| hold.shelves(Some(&lane()), Some(now)).await.unwrap();
    assert_eq!(due(at(31)).await.len(), 1, "counts may be late");
    assert_eq!(due(at(34)).await, []);
    assert_eq!(due(at(90)).await, []);
}

#[tokio::test]
async fn what_sqs_cannot_do_is_said_and_not_guessed() {
    let world = World::new();
    let hold = &*world.hold().await;
    put(hold, vec![held("a")]).await;
    let can = hold.capability();
    assert!(can.durable && !can.dedupe && !can.order && !can.find && !can.prompt);
    assert_eq!(hold.find(&[id("a")]).await.unwrap(), [None]);
    let redated = hold.redate(&lane(), &class("x"), at(0), at(5)).await;
    assert_eq!(redated.unwrap_err().kind, Kind::Unsupported);
    let stranger = with("b", |held| held.lane = Lane::new("fax"));
    assert_eq!(
        hold.put(vec![stranger], at(0)).await.unwrap_err().kind,
        Kind::Invalid
    );
}

/// What one look of a daemon at its lanes asks of the hold.
async fn look(hold: &dyn HoldStore, world: &World) -> u64 {
    let (now, mut held) = (world.clock.now(), 0);
    for lane in ["push", "sms"].map(Lane::new) {
        let shelves = hold.shelves(Some(&lane), Some(now)).await.unwrap();
        held += shelves.iter().map(|shelf| shelf.held).sum::<u64>();
        hold.pauses().await.unwrap();
        hold.next_due(&lane, now).await.unwrap();
    }
    held
}

#[tokio::test]
async fn a_daemon_on_an_idle_lane_asks_for_less_than_one_thing_a_second() {
    let world = World::new();
    let hold = world.hold().await;
    let ops = [Op::Look, Op::Tags, Op::Receive, Op::Find];
    let requests = || ops.map(|op| world.sim.faults.requests(op));
    for _ in 0..120 {
        look(&*hold, &world).await;
        world.clock.advance(Duration::from_secs(1));
    }
    let before = requests();
    for _ in 0..3600 {
        assert_eq!(look(&*hold, &world).await, 0);
        world.clock.advance(Duration::from_secs(1));
    }
    let after = requests();
    let [looks, tags, receives, finds] = [0, 1, 2, 3].map(|op| after[op] - before[op]);
    // Of two lanes: the ready queue every 5 s, wait queues, what is buried and stops every 10 s.
    assert!((3500..=3700).contains(&looks), "{looks}");
    assert!((700..=740).contains(&tags), "{tags}");
    assert_eq!((receives, finds), (0, 0));
}

#[tokio::test]
async fn what_another_process_puts_into_an_idle_lane_is_seen_within_seconds_and_a_stop_bites() {
    let world = World::new();
    let (hold, other) = (world.hold().await, world.hold().await);
    for _ in 0..300 {
        look(&*hold, &world).await;
        world.clock.advance(Duration::from_secs(1));
    }
    let now = world.clock.now();
    other.put(vec![due("a", now)], now).await.unwrap();
    other
        .pause(Some(&Lane::new("sms")), true, now)
        .await
        .unwrap();
    let mut seconds = 0;
    while look(&*hold, &world).await == 0 {
        world.clock.advance(Duration::from_secs(1));
        seconds += 1;
    }
    assert!(seconds <= 5, "{seconds}");
    let stops = hold.pauses().await.unwrap();
    assert_eq!(stops.len(), 1, "whoever sees the message sees the stop");
}

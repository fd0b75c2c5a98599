//! Waiting: the delay of SQS, wait queues, and receives of what is not due.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use nightgate::aws::queues::Queues;
use nightgate::aws::sim::{Op, SimOptions};
use nightgate::clock::{Clock, ManualClock};
use nightgate::hold::sqs::SqsHold;
use nightgate::hold::{HoldStore, Settled};

use super::world::*;
use crate::world::*;

const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// Minutes after the evening, to a whole second.
fn on(minutes: i64) -> Timestamp {
    at(minutes) - SignedDuration::from_nanos(123_456_789)
}

#[tokio::test]
async fn a_due_within_fifteen_minutes_is_ready_with_sqs_own_delay_and_a_later_one_waits() {
    let world = World::new();
    let hold = &*world.hold().await;
    let all = vec![
        due("past", at(-5)),
        due("soon", at(0) + SignedDuration::from_millis(1)),
        due("quarter", at(15)),
        due("later", at(15) + MOMENT),
        due("eight", on(EIGHT_MINUTES)),
        due("another", on(EIGHT_MINUTES + 24 * 60)),
    ];
    put(hold, all).await;
    assert_eq!(world.counts(), [3, 2, 1, 0]);
    let delays: Vec<u64> = world
        .messages(READY)
        .iter()
        .map(|message| message.sent.delay.as_secs())
        .collect();
    assert_eq!(delays, [0, 1, 900], "whole seconds, never early");
    assert_eq!(names(&lease(hold, at(0), ALL).await), ["past"]);
    assert_eq!(names(&lease(hold, at(0) + SECOND, ALL).await), ["soon"]);
    let lapsed = lease(hold, at(15) - SECOND, ALL).await;
    assert_eq!(names(&lapsed), ["past", "soon"]);
    let last = lease(hold, at(15) + SECOND, ALL).await;
    assert!(names(&last).contains(&"quarter") && names(&last).contains(&"later"));
}

#[tokio::test]
async fn what_is_not_due_is_hidden_until_its_due_and_lent_then_and_did_not_lapse() {
    let world = World::new();
    let hold = &*world.hold().await;
    put(hold, vec![due("a", at(60))]).await;
    // Another process knows nothing of it and looks.
    let other = &*world.hold().await;
    assert_eq!(lease(other, at(20), ALL).await, []);
    let probed = &world.messages(WAIT)[0];
    assert_eq!((probed.receives, probed.visible_at), (1, at(60)));
    assert_eq!(lease(hold, at(60) - SECOND, ALL).await, []);
    for hold in [other, hold] {
        assert!(hold.next_due(&lane(), at(59)).await.unwrap() <= Some(at(60)));
    }
    let loan = lease_one(other, at(60)).await;
    assert!(!loan.lapsed, "the first receive was a probe");
    let again = lease_one(other, loan.until).await;
    assert!(again.lapsed, "the second was a loan");
}

/// A clock that shows another time than SQS's.
struct Skewed(Arc<ManualClock>, SignedDuration);

#[async_trait::async_trait]
impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        self.0.now() + self.1
    }

    fn monotonic(&self) -> std::time::Duration {
        self.0.monotonic()
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.0.advance_to(at - self.1);
    }
}

#[tokio::test]
async fn a_clock_that_differs_from_sqs_makes_nothing_early_and_no_lapse_of_what_was_none() {
    for ahead_ms in [-4_000, -300, 300, 4_000] {
        let world = World::new();
        let skew = SignedDuration::from_millis(ahead_ms);
        let clock = Arc::new(Skewed(Arc::clone(&world.clock), skew));
        let hold = SqsHold::open(Arc::clone(&world.sim) as Arc<_>, world.options(), clock);
        let hold = hold.await.unwrap();
        put(
            &*world.hold().await,
            vec![due("a", at(60)), due("b", at(5))],
        )
        .await;
        for (name, then) in [("b", at(5)), ("a", at(60))] {
            // Ours, in steps of a tenth of a second around the due.
            let mut now = then - SignedDuration::from_secs(10);
            let loan = loop {
                world.turn(now - skew);
                let mut loans = lease(&hold, now, ALL).await;
                if let Some(loan) = loans.pop() {
                    break loan;
                }
                now += SignedDuration::from_millis(100);
                assert!(
                    now < then + SignedDuration::from_secs(10),
                    "{name}, {ahead_ms}"
                );
            };
            assert_eq!(names(std::slice::from_ref(&loan)), [name]);
            assert!(now >= then, "{name} is early at {ahead_ms}");
            assert!(!loan.lapsed, "{name} at {ahead_ms}");
            // Its releaser dies.
            world.turn(loan.until - skew + SECOND);
            let again = lease(&hold, loan.until + SECOND, ALL).await.remove(0);
            assert!(again.lapsed, "{name} at {ahead_ms}");
            settle(&hold, again.token, done(), loan.until + SECOND).await;
        }
    }
}

#[tokio::test]
async fn a_due_more_than_twelve_hours_away_is_hidden_in_steps_that_are_no_lapses() {
    for hours in [13, 24, 30, 100] {
        let world = World::new();
        let hold = &*world.hold().await;
        let then = at(hours * 60);
        put(hold, vec![due("a", then)]).await;
        let other = &*world.hold().await;
        let mut now = at(1);
        while now < then {
            assert_eq!(lease(other, now, ALL).await, []);
            now += SignedDuration::from_mins(7);
        }
        let probes = world.messages(WAIT)[0].receives;
        assert!(probes > 1, "{hours} hours need more than one step");
        let loan = lease_one(other, then + SECOND).await;
        assert!(!loan.lapsed, "{hours} hours");
        assert!(lease_one(other, loan.until).await.lapsed, "{hours} hours");
    }
}

#[tokio::test]
async fn an_opening_queue_is_left_alone_until_it_opens_but_for_a_look_a_minute() {
    let world = World::new();
    let hold = &*world.hold().await;
    let all = (0..500).map(|number| due(&format!("m{number}"), on(EIGHT_MINUTES)));
    put(hold, all.collect()).await;
    assert_eq!(world.counts(), [0, 500, 0, 0]);
    // A process that comes later knows of no message, but of the opening.
    let other = &*world.hold().await;
    let before = world.sim.faults.requests(Op::Receive);
    for minute in 1..=30 {
        let shelves = other
            .shelves(Some(&lane()), Some(at(minute)))
            .await
            .unwrap();
        let waiting: u64 = shelves.iter().map(|shelf| shelf.held).sum();
        assert!(waiting <= 10, "a look is not a backlog: {waiting}");
        if waiting > 0 {
            assert_eq!(lease(other, at(minute), waiting as usize).await, []);
        }
        let next = other.next_due(&lane(), at(minute)).await.unwrap().unwrap();
        assert!(next > at(minute) && next <= at(minute + 1), "{next}");
    }
    let asked = world.sim.faults.requests(Op::Receive) - before;
    assert!(asked <= 30 * 6, "{asked}");
    assert!(
        other
            .next_due(&lane(), on(EIGHT_MINUTES - 1))
            .await
            .unwrap()
            <= Some(on(EIGHT_MINUTES))
    );
    let eight = on(EIGHT_MINUTES) + SECOND;
    let shelves = other.shelves(Some(&lane()), Some(eight)).await.unwrap();
    assert_eq!(shelves.iter().map(|shelf| shelf.held).sum::<u64>(), 500);
    let loans = lease(other, eight, ALL).await;
    assert_eq!(loans.len(), 500);
    assert!(loans.iter().all(|loan| !loan.lapsed));
}

#[tokio::test]
async fn a_due_message_is_found_behind_many_that_are_not() {
    let world = World::new();
    let hold = &*world.hold().await;
    let undue = (0..1_000).map(|number| due(&format!("later-{number}"), at(600 + number % 50)));
    put(hold, undue.collect()).await;
    put(hold, vec![due("now", at(20))]).await;
    let other = &*world.hold().await;
    let mut found = Vec::new();
    for _ in 0..20 {
        found.extend(lease(other, at(20), 20).await);
    }
    assert_eq!(names(&found), ["now"]);
    let hidden = world.messages(WAIT);
    assert!(hidden.iter().all(|message| message.receives <= 1));
    let rest = lease(other, at(650), ALL).await;
    assert_eq!(rest.len(), 1_001, "and the one whose loan lapsed");
    assert_eq!(rest.iter().filter(|loan| loan.lapsed).count(), 1);
}

#[tokio::test]
async fn a_put_or_a_deferral_makes_a_queue_worth_asking_again() {
    let world = World::new();
    let hold = &*world.hold().await;
    assert_eq!(lease(hold, at(0), ALL).await, []);
    assert!(hold.next_due(&lane(), at(0)).await.unwrap() > Some(at(0)));
    put(hold, vec![held("a"), due("b", at(40))]).await;
    assert_eq!(hold.next_due(&lane(), at(0)).await.unwrap(), Some(at(0)));
    let loan = lease_one(hold, at(0)).await;
    settle(hold, loan.token, defer(at(30)), at(0)).await;
    assert_eq!(lease(hold, at(1), ALL).await, []);
    assert_eq!(names(&lease(hold, at(30), ALL).await), ["a"]);
    assert_eq!(names(&lease(hold, at(40), ALL).await).len(), 2, "a lapsed");
}

#[tokio::test]
async fn an_empty_hold_is_asked_ever_more_seldom_and_not_in_a_hot_loop() {
    let world = World::new();
    let hold = &*world.hold().await;
    let (mut now, mut ticks) = (at(0), 0);
    while now < at(60) {
        let due = hold.shelves(Some(&lane()), Some(now)).await.unwrap();
        if due.iter().any(|shelf| shelf.held + shelf.leased > 0) {
            lease(hold, now, 10).await;
        }
        let next = hold.next_due(&lane(), now).await.unwrap().unwrap();
        assert!(next > now, "a hot loop");
        now = next;
        ticks += 1;
    }
    assert!((60..200).contains(&ticks), "{ticks}");
    assert_eq!(
        world.sim.faults.requests(Op::Receive),
        0,
        "counts say enough"
    );
}

#[tokio::test]
async fn stale_counts_make_no_hot_loop_either() {
    let world = World::new();
    let hold = &*world.hold().await;
    put(hold, vec![held("a")]).await;
    let lag = nightgate::aws::sim::Noise {
        counts_lag: std::time::Duration::from_secs(3600),
        ..Default::default()
    };
    world.sim.noise(lag, 0);
    assert_eq!(totals(hold).await.0, 1);
    let loan = lease_one(hold, at(0)).await;
    assert_eq!(settle(hold, loan.token, done(), at(0)).await, Settled::Yes);
    let (mut now, mut leases) = (at(0), 0);
    while now < at(30) {
        let due = hold.shelves(Some(&lane()), Some(now)).await.unwrap();
        if due.iter().any(|shelf| shelf.held + shelf.leased > 0) {
            assert_eq!(lease(hold, now, 10).await, []);
            leases += 1;
        }
        let next = hold.next_due(&lane(), now).await.unwrap().unwrap();
        assert!(next >= now);
        now = next.max(now + SignedDuration::from_millis(1));
    }
    assert!(leases < 60, "{leases}");
}

#[tokio::test]
async fn when_too_many_are_in_flight_a_lease_waits_and_goes_on_later() {
    let world = World::with(&SimOptions {
        in_flight_max: 25,
        ..SimOptions::default()
    });
    let hold = &*world.hold().await;
    put(
        hold,
        (0..40).map(|number| held(&format!("m{number}"))).collect(),
    )
    .await;
    let loans = lease(hold, at(0), ALL).await;
    assert_eq!(loans.len(), 25);
    let lane = lane();
    let ask = nightgate::hold::LeaseAsk {
        lane: &lane,
        pick: nightgate::hold::Pick::Any,
        now: at(0),
        max: 5,
        ttl: TTL,
    };
    let error = hold.lease(&ask).await.unwrap_err();
    assert_eq!(error.kind, nightgate::error::Kind::Unavailable);
    for loan in &loans {
        assert_eq!(settle(hold, loan.token, done(), at(1)).await, Settled::Yes);
    }
    assert_eq!(lease(hold, at(1), ALL).await.len(), 15);
}

#[tokio::test]
async fn two_processes_never_lend_one_message_at_once() {
    let world = World::new();
    let holds = [world.hold().await, world.hold().await];
    put(
        &*holds[0],
        (0..300).map(|number| held(&format!("m{number}"))).collect(),
    )
    .await;
    let take = |hold: &Arc<dyn HoldStore>| {
        let hold = Arc::clone(hold);
        tokio::spawn(async move {
            let mut got = Vec::new();
            loop {
                let loans = lease(&*hold, at(0), 7).await;
                if loans.is_empty() {
                    return got;
                }
                got.extend(loans);
            }
        })
    };
    let (one, two) = (take(&holds[0]), take(&holds[1]));
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    let mut all: Vec<&str> = names(&one).into_iter().chain(names(&two)).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!((all.len(), one.len() + two.len()), (300, 300));
    // Nobody settles what the other has.
    let stranger = settle(&*holds[0], two[0].token, done(), at(1)).await;
    assert_eq!(stranger, Settled::Lapsed);
    assert_eq!(
        settle(&*holds[1], two[0].token, done(), at(1)).await,
        Settled::Yes
    );
    let queue = world.queue(READY).await;
    assert_eq!(world.sim.look(&queue).await.unwrap().in_flight, 299);
}

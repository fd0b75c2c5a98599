//! What SQS may do with what it lends, and how a lapse is told.

use nightgate::aws::queues::{Fault, FaultKind};
use nightgate::aws::sim::{FaultPlan, Noise, Op};
use nightgate::hold::{Leased, Settle, Settled};

use super::world::*;
use crate::world::*;

#[tokio::test]
async fn a_short_poll_that_sees_nothing_does_not_end_a_drain() {
    for (unseen_percent, seed) in [(50, 1), (90, 2), (100, 3)] {
        let world = World::new();
        let hold = &*world.hold().await;
        put(
            hold,
            (0..50).map(|number| held(&format!("m{number}"))).collect(),
        )
        .await;
        let noise = Noise {
            unseen_percent,
            ..Noise::default()
        };
        world.sim.noise(noise, seed);
        let mut got = Vec::new();
        loop {
            let loans = lease(hold, at(0), 20).await;
            if loans.is_empty() {
                break;
            }
            got.extend(loans);
        }
        assert_eq!(got.len(), 50, "{unseen_percent} %");
    }
}

#[tokio::test]
async fn what_sqs_delivers_twice_is_lapsed_the_second_time() {
    let world = World::new();
    let hold = &*world.hold().await;
    put(hold, vec![held("a")]).await;
    let twice = Noise {
        twice_percent: 100,
        ..Noise::default()
    };
    world.sim.noise(twice, 1);
    let first = lease(hold, at(0), 1).await.remove(0);
    world.sim.noise(Noise::default(), 1);
    let second = lease_one(hold, at(0)).await;
    assert!(
        !first.lapsed && second.lapsed,
        "somebody may have handed it over"
    );
    // By the first handle nothing is deleted any more.
    settle(hold, first.token, done(), at(1)).await;
    assert_eq!(world.messages(READY).len(), 1);
    assert_eq!(
        settle(hold, second.token, done(), at(1)).await,
        Settled::Yes
    );
    assert_eq!(world.counts(), [0; 4]);
}

#[tokio::test]
async fn a_delete_that_sqs_forgets_brings_the_message_back_as_lapsed() {
    let world = World::new();
    let hold = &*world.hold().await;
    put(hold, vec![held("a")]).await;
    let forgets = Noise {
        undeleted_percent: 100,
        ..Noise::default()
    };
    world.sim.noise(forgets, 1);
    let loan = lease_one(hold, at(0)).await;
    assert_eq!(settle(hold, loan.token, done(), at(1)).await, Settled::Yes);
    assert!(lease_one(hold, at(10)).await.lapsed);
}

#[tokio::test]
async fn receives_beyond_the_probes_are_lapses_and_a_message_put_back_counts_anew() {
    let world = World::new();
    let hold = &*world.hold().await;
    put(hold, vec![held("a")]).await;
    let first = lease_one(hold, at(0)).await;
    assert!(!first.lapsed);
    settle(hold, first.token, defer(at(1)), at(0)).await;
    let second = lease_one(hold, at(1)).await;
    assert_eq!((second.lapsed, second.attempts), (false, 1));
    let third = lease_one(hold, second.until).await;
    assert!(third.lapsed, "the second loan lapsed");
    settle(hold, third.token, defer(at(40)), at(12)).await;
    assert_eq!(world.counts(), [0, 0, 1, 0]);
    let fourth = lease_one(hold, at(40)).await;
    assert_eq!((fourth.lapsed, fourth.attempts), (true, 2), "carried along");
}

#[tokio::test]
async fn a_process_killed_between_sending_anew_and_deleting_leaves_the_old_one_lapsed() {
    let world = World::new();
    let hold = &*world.hold().await;
    put(hold, vec![held("a")]).await;
    let loan = lease_one(hold, at(0)).await;
    // As good as killed: every delete fails from now on.
    let gone = Fault::new(FaultKind::Unavailable, "killed");
    world
        .sim
        .faults
        .always(Op::Delete, Some(FaultPlan::Before(gone)));
    let answer = settle(hold, loan.token, defer(at(5)), at(0)).await;
    assert_eq!(answer, Settled::Lapsed);
    world.sim.faults.always(Op::Delete, None);
    let next = &*world.hold().await;
    let anew = lease_one(next, at(5)).await;
    assert_eq!((anew.attempts, anew.lapsed), (1, false));
    let old = lease_one(next, at(10)).await;
    assert_eq!(
        (old.attempts, old.lapsed),
        (0, true),
        "to be buried, not sent twice"
    );
}

#[tokio::test]
async fn what_may_have_been_sent_anew_is_not_sent_again() {
    let world = World::new();
    let hold = &*world.hold().await;
    put(hold, vec![held("a")]).await;
    let loan = lease_one(hold, at(0)).await;
    let lost = Fault::new(FaultKind::Unknown, "no answer");
    world.sim.faults.next(Op::Send, FaultPlan::After(lost));
    let answer = settle(hold, loan.token, defer(at(5)), at(0)).await;
    assert_eq!(answer, Settled::Lapsed);
    assert_eq!(
        world.messages(READY).len(),
        2,
        "the old one and one new one"
    );
    assert!(!lease_one(hold, at(5)).await.lapsed);
    assert!(lease_one(hold, at(10)).await.lapsed);
}

#[tokio::test]
async fn of_a_delete_that_fails_in_part_only_that_part_lapses() {
    let world = World::new();
    let hold = &*world.hold().await;
    put(hold, ["a", "b", "c"].map(held).to_vec()).await;
    let loans = lease(hold, at(0), ALL).await;
    let done_all = || {
        let done = |loan: &nightgate::hold::Leased| Settle {
            token: loan.token,
            verdict: done(),
        };
        loans.iter().map(done).collect::<Vec<_>>()
    };
    let slow = Fault::new(FaultKind::Throttled, "RequestThrottled");
    world
        .sim
        .faults
        .next(Op::Delete, FaultPlan::Entries(vec![1], slow.clone()));
    let wrong = Fault::new(FaultKind::Rejected, "ReceiptHandleIsInvalid");
    world
        .sim
        .faults
        .next(Op::Delete, FaultPlan::Entries(vec![0], wrong));
    let answers = hold.settle(done_all(), at(1)).await.unwrap();
    use Settled::{Lapsed, Yes};
    assert_eq!(answers, [Yes, Lapsed, Yes], "tried again once, then wrong");
    assert_eq!(world.messages(READY).len(), 1);
    assert!(lease_one(hold, at(10)).await.lapsed);
    // A lost answer is asked for again: deleting twice is no fault.
    let lost = Fault::new(FaultKind::Unknown, "no answer");
    world.sim.faults.next(Op::Delete, FaultPlan::After(lost));
    let loan = lease_one(hold, at(20)).await;
    assert_eq!(settle(hold, loan.token, done(), at(21)).await, Yes);
    assert_eq!(world.counts(), [0; 4]);
}

#[tokio::test]
async fn a_delete_that_fails_for_good_is_tried_so_often_and_lapses() {
    let world = World::new();
    let hold = &*world.hold().await;
    put(hold, vec![held("a")]).await;
    let loan = lease_one(hold, at(0)).await;
    let gone = Fault::new(FaultKind::Unavailable, "down");
    world
        .sim
        .faults
        .always(Op::Delete, Some(FaultPlan::Before(gone)));
    assert_eq!(
        settle(hold, loan.token, done(), at(1)).await,
        Settled::Lapsed
    );
    assert_eq!(world.sim.faults.requests(Op::Delete), 5);
    let next = hold.next_due(&lane(), at(2)).await.unwrap().unwrap();
    assert!(
        next <= loan.until,
        "it is looked for when it lapses: {next}"
    );
}

#[tokio::test]
async fn a_receive_whose_answer_is_lost_hides_its_messages_until_they_lapse() {
    let world = World::new();
    let hold = &*world.hold().await;
    put(hold, vec![held("a")]).await;
    let lost = Fault::new(FaultKind::Unknown, "no answer");
    world.sim.faults.next(Op::Receive, FaultPlan::After(lost));
    let lane = lane();
    let ask = nightgate::hold::LeaseAsk {
        lane: &lane,
        pick: nightgate::hold::Pick::Any,
        now: at(0),
        max: 5,
        ttl: TTL,
    };
    assert!(hold.lease(&ask).await.is_err());
    assert_eq!(lease(hold, at(1), ALL).await, []);
    assert!(
        lease_one(hold, at(10)).await.lapsed,
        "nobody can know better"
    );
}

#[tokio::test]
async fn the_group_of_a_producer_stays_with_what_is_held_put_back_and_brought_back() {
    let world = World::new();
    let hold = world.hold().await;
    let side = r#"{"group":"tenant-7","attributes":[]}"#;
    let grouped = with("a", |held| {
        let attributes = &mut held.message.attributes;
        attributes.insert("nightgate.sqs".to_owned(), side.to_owned());
    });
    hold.put(vec![grouped, held("b")], at(0)).await.unwrap();
    let groups = |name: &str| -> Vec<Option<String>> {
        let messages = world.messages(name).into_iter();
        messages.map(|message| message.sent.group).collect()
    };
    let tenant = Some("tenant-7".to_owned());
    assert_eq!(groups(READY), [tenant.clone(), None]);
    for (now, verdict, queue) in [(at(0), defer(at(60)), WAIT), (at(61), bury(), BURIED)] {
        world.turn(now);
        let leased = lease(&*hold, now, 10).await;
        let of = |one: &&Leased| one.held.message.id == id("a");
        let token = leased.iter().find(of).unwrap().token;
        let settle = Settle { token, verdict };
        hold.settle(vec![settle], now).await.unwrap();
        assert_eq!(groups(queue), std::slice::from_ref(&tenant), "{queue}");
    }
}

//! Requests that fail, messages that do not read or are too large.

use jiff::SignedDuration;
use nightgate::aws::queues::{BYTES_MAX, Fault, FaultKind};
use nightgate::aws::sim::{FaultPlan, Op, SimOptions};
use nightgate::error::Kind;
use nightgate::hold::{Limit, Put, Scope, State};
use nightgate_core::Purpose;

use super::world::*;
use crate::world::*;

fn slow() -> Fault {
    Fault::new(FaultKind::Throttled, "RequestThrottled")
}

/// A body that no packing makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut dice = fastrand::Rng::with_seed(1);
    std::iter::repeat_with(|| dice.u8(..)).take(bytes).collect()
}

#[tokio::test]
async fn entries_that_are_throttled_are_sent_again_and_no_other_is() {
    let world = World::new();
    let hold = &*world.hold().await;
    let throttled = FaultPlan::Entries(vec![0, 2], slow());
    world.sim.faults.next(Op::Send, throttled.clone());
    world
        .sim
        .faults
        .next(Op::Send, FaultPlan::Entries(vec![1], slow()));
    put(hold, ["a", "b", "c", "d"].map(held).to_vec()).await;
    assert_eq!(world.messages(READY).len(), 4, "each once");
    assert_eq!(world.sim.faults.requests(Op::Send), 3);
}

#[tokio::test]
async fn a_put_that_cannot_be_sent_fails_as_a_whole_after_some_tries() {
    let world = World::new();
    let hold = &*world.hold().await;
    world
        .sim
        .faults
        .always(Op::Send, Some(FaultPlan::Entries(vec![1], slow())));
    // The first try sends a and c; b is then the first entry of a request of its own.
    put(hold, ["a", "b", "c"].map(held).to_vec()).await;
    let down = Fault::new(FaultKind::Unavailable, "down");
    world
        .sim
        .faults
        .always(Op::Send, Some(FaultPlan::Before(down)));
    let before = world.sim.faults.requests(Op::Send);
    let error = hold.put(vec![held("d")], at(0)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert_eq!(world.sim.faults.requests(Op::Send) - before, 5);
    assert_eq!(world.messages(READY).len(), 3);
}

#[tokio::test]
async fn a_put_whose_answer_is_lost_fails_and_is_not_sent_again_by_us() {
    let world = World::new();
    let hold = &*world.hold().await;
    let lost = Fault::new(FaultKind::Unknown, "no answer");
    world.sim.faults.next(Op::Send, FaultPlan::After(lost));
    assert!(hold.put(vec![held("a")], at(0)).await.is_err());
    assert_eq!(
        world.messages(READY).len(),
        1,
        "the producer's retry makes it two"
    );
}

#[tokio::test]
async fn a_body_of_a_mebibyte_is_held_and_reads_back() {
    let world = World::new();
    let hold = &*world.hold().await;
    let text = with("text", |held| {
        held.message.body = vec![b'x'; BYTES_MAX].into()
    });
    let half = with("half", |held| {
        held.message.body = noise(BYTES_MAX / 2).into()
    });
    put(hold, vec![text.clone(), half.clone()]).await;
    for wanted in [text, half] {
        let loan = lease(hold, at(0), 1).await.remove(0);
        assert!(loan.held == wanted);
        settle(hold, loan.token, bury(), at(0)).await;
    }
    assert_eq!(hold.kick(&Scope::Lane(lane()), at(1)).await.unwrap(), 2);
    assert_eq!(lease(hold, at(1), ALL).await.len(), 2);
}

#[tokio::test]
async fn a_message_that_sqs_cannot_hold_is_turned_away_and_the_others_are_held() {
    let world = World::new();
    let hold = &*world.hold().await;
    let huge = with("huge", |held| held.message.body = noise(BYTES_MAX).into());
    let answers = hold
        .put(vec![held("a"), huge, held("b")], at(0))
        .await
        .unwrap();
    assert_eq!(answers, [Put::New, Put::Full, Put::New]);
    assert_eq!(names(&lease(hold, at(0), ALL).await), ["a", "b"]);
    let room = hold.room().await.unwrap();
    assert_eq!(room.message_max, Some(BYTES_MAX as u64));
    assert_eq!(room.limit(Purpose::Advertising), Limit::MessageMax);
}

#[tokio::test]
async fn queues_of_smaller_messages_are_kept_to() {
    let world = World::with(&SimOptions {
        bytes_max: 64 * 1024,
        ..SimOptions::default()
    });
    let hold = &*world.hold().await;
    let large = with("large", |held| held.message.body = noise(64 * 1024).into());
    let answers = hold.put(vec![large, held("a")], at(0)).await.unwrap();
    assert_eq!(answers, [Put::Full, Put::New]);
    // They were made smaller since the hold was opened: SQS itself says no.
    for name in [READY, EIGHT, WAIT, BURIED] {
        let options = SimOptions {
            bytes_max: 1024,
            ..SimOptions::default()
        };
        world.sim.create(name, options);
    }
    let large = with("large", |held| held.message.body = noise(8 * 1024).into());
    let answers = hold.put(vec![large, held("b")], at(0)).await.unwrap();
    assert_eq!(answers, [Put::Full, Put::New]);
}

#[tokio::test]
async fn what_does_not_read_is_moved_aside_byte_for_byte_and_blocks_nothing() {
    let world = World::new();
    let hold = &*world.hold().await;
    world.send(READY, "somebody else's\nmessage").await;
    world.send(WAIT, "{\"v\":9}\n").await;
    put(hold, vec![held("a")]).await;
    assert_eq!(names(&lease(hold, at(0), ALL).await), ["a"]);
    assert_eq!(lease(hold, at(1), ALL).await, []);
    assert_eq!(world.counts(), [1, 0, 0, 2]);
    assert_eq!(hold.damage().await.unwrap().messages, 2);
    let aside = world.messages(BURIED);
    let bodies: Vec<&str> = aside.iter().map(|it| it.sent.body.as_str()).collect();
    assert_eq!(bodies, ["somebody else's\nmessage", "{\"v\":9}\n"]);
    assert!(
        aside
            .iter()
            .all(|it| it.sent.attributes[0].name == "nightgate-why")
    );
    // A person looks at the others; these stay where they are.
    let lane = lane();
    assert_eq!(
        hold.kick(&Scope::Lane(lane.clone()), at(2)).await.unwrap(),
        0
    );
    assert_eq!(
        hold.list(State::Buried, Some(&lane), ALL).await.unwrap(),
        []
    );
    assert_eq!(world.messages(BURIED).len(), 2);
    let shown = world.messages(BURIED);
    assert!(
        shown.iter().all(|it| it.visible_at <= at(2)),
        "visible again"
    );
}

#[tokio::test]
async fn a_message_that_cannot_be_moved_aside_stays_and_is_tried_later() {
    let world = World::new();
    let hold = &*world.hold().await;
    world.send(READY, "poison").await;
    let down = Fault::new(FaultKind::Unavailable, "down");
    world
        .sim
        .faults
        .always(Op::Send, Some(FaultPlan::Before(down)));
    assert_eq!(lease(hold, at(0), ALL).await, []);
    assert_eq!(
        (world.counts(), hold.damage().await.unwrap().messages),
        ([1, 0, 0, 0], 0)
    );
    world.sim.faults.always(Op::Send, None);
    assert_eq!(lease(hold, at(11), ALL).await, []);
    assert_eq!(
        (world.counts(), hold.damage().await.unwrap().messages),
        ([0, 0, 0, 1], 1)
    );
}

#[tokio::test]
async fn a_kick_that_fails_half_way_loses_nothing_and_shows_what_stays() {
    let world = World::new();
    let hold = &*world.hold().await;
    put(hold, ["a", "b", "c"].map(held).to_vec()).await;
    for loan in lease(hold, at(0), ALL).await {
        settle(hold, loan.token, bury(), at(0)).await;
    }
    let wrong = Fault::new(FaultKind::Denied, "AccessDenied");
    world
        .sim
        .faults
        .next(Op::Send, FaultPlan::Entries(vec![1], wrong));
    let error = hold.kick(&Scope::Lane(lane()), at(1)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert_eq!(world.counts(), [2, 0, 0, 1]);
    assert_eq!(hold.kick(&Scope::Lane(lane()), at(2)).await.unwrap(), 1);
    let loans = lease(hold, at(2), ALL).await;
    assert_eq!(loans.len(), 3);
    assert!(loans.iter().all(|loan| !loan.lapsed && loan.attempts == 0));
}

#[tokio::test]
async fn a_kick_takes_what_it_was_asked_for_and_shows_the_rest_at_once() {
    let world = World::new();
    let hold = &*world.hold().await;
    let of = |number: usize| of_campaign(&format!("m{number}"), ["x", "y"][number % 2]);
    put(hold, (0..60).map(of).collect()).await;
    for loan in lease(hold, at(0), ALL).await {
        settle(hold, loan.token, bury(), at(0)).await;
    }
    let x = Scope::Campaign("x".into());
    assert_eq!(hold.kick(&x, at(1)).await.unwrap(), 30);
    assert_eq!(world.counts(), [30, 0, 0, 30]);
    assert_eq!(hold.list(State::Buried, None, 7).await.unwrap().len(), 7);
    let listed = hold.list(State::Buried, None, ALL).await.unwrap();
    assert_eq!(listed.len(), 30);
    let whole = |found: &nightgate::hold::Found| {
        found.held.message.body.is_empty() && found.why.as_deref() == Some("unknown outcome")
    };
    assert!(listed.iter().all(whole));
    let later = at(1) + SignedDuration::from_secs(1);
    assert_eq!(hold.kick(&Scope::Lane(lane()), later).await.unwrap(), 30);
    let error = hold.list(State::Held, None, ALL).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unsupported);
}

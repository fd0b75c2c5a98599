//! The same message twice in the hold, and loans of the dead: what leaves when hand-overs are
//! claimed. Without claims these are the cases that SQS alone cannot tell.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures_util::poll;
use jiff::SignedDuration;
use nightgate::aws::sim::Noise;
use nightgate::hold::{HoldStore as _, Scope};
use nightgate::release::{OnUnknown, Tick};
use nightgate::sink::{Outbound, Outcome, Sink};

use super::world::{EIGHT, Night, Slow, advertisement, at};
use super::{Silent, killed_after_sending};

/// Takes the evening's messages in once more, a minute later: a function was killed between put and
/// answer, or a producer tried again.
async fn again(night: &Night, count: usize) {
    night.pass(60);
    let messages = (0..count).map(|n| advertisement(&format!("m-{n:05}")));
    night.put(messages.collect()).await;
}

/// Drains with a new process until nothing is due any more.
async fn drain(night: &Night) -> Tick {
    night.process().await.drain(night).await
}

/// A sink that says of everything that it may be tried again, or that nobody knows.
struct Says(Outcome);

#[async_trait]
impl Sink for Says {
    fn name(&self) -> &'static str {
        "says"
    }

    fn batch_max(&self) -> usize {
        10
    }

    async fn deliver(&self, batch: Vec<Outbound>) -> Vec<Outcome> {
        vec![self.0.clone(); batch.len()]
    }
}

#[tokio::test]
async fn what_was_taken_in_twice_leaves_once() {
    let night = Night::claimed(25).await;
    again(&night, 25).await;
    assert_eq!(night.kept(), 50, "SQS recognises no message");
    night.clock.advance_to(at(EIGHT));
    let mut total = drain(&night).await;
    // A copy that met the other one under way waits until that one's loan is over.
    night.pass(61);
    total.add(&drain(&night).await);
    assert_eq!((total.delivered, total.refused), (25, 25));
    assert_eq!(
        (night.left_once(), night.kept(), night.buried()),
        (25, 0, 0)
    );
}

#[tokio::test]
async fn without_claims_what_was_taken_in_twice_leaves_twice() {
    let night = Night::waiting(5).await;
    again(&night, 5).await;
    night.clock.advance_to(at(EIGHT));
    assert_eq!(drain(&night).await.delivered, 10);
    assert_eq!(night.left().len(), 10, "this is what claims are for");
}

#[tokio::test]
async fn what_sqs_delivers_twice_leaves_once() {
    let night = Night::claimed(60).await;
    let noise = Noise {
        twice_percent: 40,
        undeleted_percent: 20,
        shuffled: true,
        ..Noise::default()
    };
    night.sim.noise(noise, 7);
    night.clock.advance_to(at(EIGHT));
    for _ in 0..40 {
        drain(&night).await;
        night.pass(30);
    }
    assert_eq!(night.left_once(), 60);
    assert_eq!((night.kept(), night.buried()), (0, 0));
}

#[tokio::test]
async fn two_functions_at_once_send_each_message_once_although_each_is_there_twice() {
    let night = Night::claimed(40).await;
    again(&night, 40).await;
    night.clock.advance_to(at(EIGHT));
    let slow = || {
        let queues = Slow {
            sim: night.sim.clone(),
            clock: night.clock.clone(),
            takes: SignedDuration::from_secs(5),
        };
        night.sink(Arc::new(queues))
    };
    let (one, other) = (
        night.over(slow(), None).await,
        night.over(slow(), None).await,
    );
    {
        let mut both = pin!(async { tokio::join!(one.drain(&night), other.drain(&night)) });
        for _ in 0..4000 {
            if poll!(&mut both).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
            night.clock.advance(std::time::Duration::from_millis(50));
        }
    }
    for _ in 0..3 {
        night.pass(61);
        drain(&night).await;
    }
    assert_eq!((night.left_once(), night.kept()), (40, 0));
}

#[tokio::test]
async fn killed_before_anything_was_handed_over_everything_leaves_and_nothing_is_buried() {
    let night = Night::claimed(30).await;
    night.clock.advance_to(at(EIGHT));
    let attempts = night.attempts.clone().unwrap();
    attempts.stuck.store(true, Ordering::Relaxed);
    {
        // Killed with everything on loan, before it is claimed.
        let process = night.process().await;
        let mut tick = pin!(process.releaser.tick());
        for _ in 0..1000 {
            assert!(poll!(&mut tick).is_pending());
            tokio::task::yield_now().await;
        }
        let there = night.sim.messages("night-main-wait-1");
        assert!(
            there.iter().any(|message| message.receives > 0),
            "it has some on loan"
        );
    }
    attempts.stuck.store(false, Ordering::Relaxed);
    assert_eq!(night.left_once(), 0);
    night.pass(61);
    let tick = drain(&night).await;
    assert_eq!((tick.delivered, tick.buried, tick.unknown), (30, 0, 0));
    assert_eq!((night.left_once(), night.kept()), (30, 0));
}

#[tokio::test]
async fn killed_after_handing_over_what_may_have_gone_is_buried_and_the_rest_leaves() {
    let night = Night::claimed(30).await;
    night.clock.advance_to(at(EIGHT));
    killed_after_sending(&night).await;
    let sent = night.left_once();
    assert!(sent > 0);
    night.pass(61);
    let tick = drain(&night).await;
    assert_eq!(tick.delivered + tick.buried, 30);
    assert!(
        tick.buried >= sent as u64,
        "all that was sent is among them"
    );
    assert_eq!(night.left_once(), 30 - tick.buried as usize + sent);
}

#[tokio::test]
async fn another_copy_of_what_may_have_gone_is_buried_too_and_a_person_may_bring_one_back() {
    let night = Night::claimed(3).await;
    night.clock.advance_to(at(EIGHT));
    killed_after_sending(&night).await;
    again(&night, 3).await;
    night.clock.advance_to(at("2026-11-24T08:00:00+09:00"));
    let tick = drain(&night).await;
    assert_eq!((tick.delivered, tick.buried), (0, 6));
    assert_eq!(night.left_once(), 3);
    let hold = night.hold().await;
    let everything = Scope::Lane(nightgate::hold::Lane::new("main"));
    assert_eq!(
        hold.kick(&everything, at("2026-11-24T08:00:00+09:00"))
            .await
            .unwrap(),
        6
    );
    drain(&night).await;
    night.pass(61);
    drain(&night).await;
    // The person let each message go once more, and of its two copies one went.
    assert_eq!(
        (night.left().len(), night.kept(), night.buried()),
        (6, 0, 0)
    );
}

#[tokio::test]
async fn what_was_not_taken_may_be_handed_over_by_the_other_copy() {
    let night = Night::claimed(4).await;
    again(&night, 4).await;
    night.clock.advance_to(at(EIGHT));
    let busy = Says(Outcome::Retry {
        after: Some(SignedDuration::from_secs(600)),
        whole_lane: false,
        why: "busy".to_owned(),
    });
    let tick = night.over(Arc::new(busy), None).await.drain(&night).await;
    assert!(tick.retried >= 4);
    night.pass(1300);
    for _ in 0..3 {
        drain(&night).await;
        night.pass(61);
    }
    assert_eq!((night.left_once(), night.kept(), night.buried()), (4, 0, 0));
}

#[tokio::test]
async fn an_unknown_outcome_buries_the_other_copy_as_well_where_that_is_the_lanes_choice() {
    let night = Night::claimed(4).await;
    again(&night, 4).await;
    night.clock.advance_to(at(EIGHT));
    let lost = || {
        Says(Outcome::Unknown {
            why: "no answer".to_owned(),
        })
    };
    let mut buried = night
        .over(Arc::new(lost()), None)
        .await
        .drain(&night)
        .await
        .buried;
    night.pass(61);
    buried += drain(&night).await.buried;
    assert_eq!(buried, 8);
    assert_eq!((night.left_once(), night.kept(), night.buried()), (0, 0, 8));
}

#[tokio::test]
async fn a_lane_that_sends_again_what_may_have_gone_takes_claims_over() {
    let mut night = Night::claimed(3).await;
    night.unknown = OnUnknown::Retry;
    night.clock.advance_to(at(EIGHT));
    let silent = Arc::new(Silent(night.sink(night.sim.clone())));
    super::killed_with(&night, silent).await;
    night.pass(61);
    let tick = drain(&night).await;
    assert_eq!((tick.delivered, tick.unknown, tick.buried), (3, 3, 0));
    assert_eq!((night.left().len(), night.kept()), (6, 0), "at least once");
}

#[tokio::test]
async fn while_claims_cannot_be_made_nothing_leaves_and_then_everything_does() {
    let night = Night::claimed(30).await;
    let attempts = night.attempts.clone().unwrap();
    attempts.away.store(true, Ordering::Relaxed);
    night.clock.advance_to(at(EIGHT));
    let process = night.process().await;
    for _ in 0..3 {
        let fault = process.releaser.tick().await.unwrap_err();
        assert!(fault.to_string().contains("claim"), "{fault}");
        night.pass(2);
    }
    assert_eq!((night.left_once(), night.kept()), (0, 30));
    attempts.away.store(false, Ordering::Relaxed);
    night.pass(60);
    assert_eq!(process.drain(&night).await.delivered, 30);
    assert_eq!(
        (night.left_once(), night.kept(), night.buried()),
        (30, 0, 0)
    );
}

#[tokio::test]
async fn claims_that_are_turned_down_keep_back_their_own_messages_alone() {
    let night = Night::claimed(30).await;
    let attempts = night.attempts.clone().unwrap();
    attempts.busy.store(7, Ordering::Relaxed);
    night.clock.advance_to(at(EIGHT));
    let process = night.process().await;
    let fault = process.releaser.tick().await.unwrap_err();
    assert!(fault.to_string().contains("ThrottlingException"), "{fault}");
    let left = night.left_once();
    assert!(left > 0 && left <= 23, "{left}");
    night.pass(2);
    process.drain(&night).await;
    assert_eq!(
        (night.left_once(), night.kept(), night.buried()),
        (30, 0, 0)
    );
}

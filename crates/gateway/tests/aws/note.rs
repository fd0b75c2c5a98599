//! What the original's code did wrong at night, one test each: messages of an evening, held in SQS,
//! on their way to the senders' queue in the morning. The hold, the releaser and the sink are the
//! real ones; SQS and time are simulated, so that both can fail as they do.

mod copies;
mod drained;
mod world;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::poll;
use jiff::SignedDuration;
use nightgate::aws::queues::{BYTES_MAX, Fault, FaultKind};
use nightgate::aws::sim::{FaultPlan, Op};
use nightgate::clock::Clock;
use nightgate::consent::Act;
use nightgate::sink::sqs::SqsSink;
use nightgate::sink::{Outbound, Outcome, Sink};

use self::world::{EIGHT, Night, Process, Slow, TTL, advertisement, at};

/// Fails the third entry of the next request of this kind.
fn fail_third(night: &Night, op: Op, kind: FaultKind) {
    let fault = Fault::new(kind, "InternalError");
    night
        .sim
        .faults
        .next(op, FaultPlan::Entries(vec![2], fault));
}

/// A process that sent what it was given and was killed before it could delete any of it.
async fn killed_after_sending(night: &Night) {
    killed_with(night, Arc::new(Silent(night.sink(night.sim.clone())))).await;
}

async fn killed_with(night: &Night, silent: Arc<Silent>) {
    let process = night.over(silent, None).await;
    let mut tick = pin!(process.releaser.tick());
    for _ in 0..1000 {
        assert!(poll!(&mut tick).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(!night.left().is_empty(), "it sent something");
}

/// A sink that sends and never answers.
struct Silent(Arc<SqsSink>);

#[async_trait]
impl Sink for Silent {
    fn name(&self) -> &'static str {
        "silent"
    }

    fn batch_max(&self) -> usize {
        self.0.batch_max()
    }

    async fn deliver(&self, batch: Vec<Outbound>) -> Vec<Outcome> {
        self.0.deliver(batch).await;
        std::future::pending().await
    }
}

#[tokio::test]
async fn the_clock_is_asked_anew_and_nothing_leaves_at_three_or_a_second_before_eight() {
    let night = Night::waiting(5).await;
    let process = night.process().await;
    for early in ["2026-11-23T03:00:00+09:00", "2026-11-23T07:59:59+09:00"] {
        night.clock.advance_to(at(early));
        process.drain(&night).await;
        assert_eq!(night.left_once(), 0, "{early}");
    }
    night.clock.advance_to(at(EIGHT));
    assert_eq!(process.drain(&night).await.delivered, 5);
}

#[tokio::test]
async fn what_was_due_at_eight_leaves_at_a_second_past_five_past_or_at_half_past_eleven() {
    for late in ["2026-11-23T08:05:01+09:00", "2026-11-23T11:30:00+09:00"] {
        let night = Night::waiting(25).await;
        night.clock.advance_to(at(late));
        let process = night.process().await;
        assert_eq!(process.drain(&night).await.delivered, 25, "{late}");
        assert_eq!((night.left_once(), night.kept()), (25, 0));
    }
}

#[tokio::test]
async fn after_a_night_missed_altogether_it_waits_for_the_next_morning_and_not_for_ever() {
    let night = Night::waiting(5).await;
    let process = night.process().await;
    night.clock.advance_to(at("2026-11-23T23:30:00+09:00"));
    let tick = process.drain(&night).await;
    assert_eq!((tick.delivered, tick.held), (0, 5));
    night.clock.advance_to(at("2026-11-24T08:00:00+09:00"));
    assert_eq!(process.drain(&night).await.delivered, 5);
    assert_eq!((night.left_once(), night.kept()), (5, 0));
}

#[tokio::test]
async fn two_thousand_messages_cost_fewer_than_a_third_of_a_request_each() {
    let night = Night::waiting(2000).await;
    night.clock.advance_to(at(EIGHT));
    let before = night.requests();
    let process = night.process().await;
    assert_eq!(process.drain(&night).await.delivered, 2000);
    assert_eq!((night.left_once(), night.kept()), (2000, 0));
    // Receive, send, delete, and every look, tag and search for queues.
    let spent = night.requests() - before;
    let counts = night.counts();
    assert!(
        spent <= 640,
        "{spent} requests for 2000 messages: {counts:?}"
    );
}

#[tokio::test]
async fn a_body_of_a_mebibyte_neither_grows_nor_keeps_back_the_others() {
    let night = Night::new("target");
    let mut dice = fastrand::Rng::with_seed(8);
    let mut body = String::new();
    // Hangul grows to twice its size where JSON escapes it.
    while body.len() < 900_000 {
        body.push(dice.char('가'..='힣'));
    }
    let mut full = body.clone();
    while full.len() < BYTES_MAX {
        full.push(if full.len().is_multiple_of(7) {
            '"'
        } else {
            'x'
        });
    }
    // The last has room for nothing but itself.
    let mut messages: Vec<_> = (0..10)
        .map(|n| advertisement(&format!("m-{n:05}")))
        .collect();
    messages[5].body = body.clone().into();
    messages[9].body = full.clone().into();
    messages[9].attributes.clear();
    night.put(messages).await;
    night.clock.advance_to(at(EIGHT));
    let process = night.process().await;
    assert_eq!(process.drain(&night).await.delivered, 10);
    assert_eq!((night.kept(), night.buried()), (0, 0));
    let left = night.sim.messages(night.target.name());
    let bodies: BTreeSet<&str> = left.iter().map(|one| &*one.sent.body).collect();
    assert!(bodies.contains(&*body) && bodies.contains(&*full));
}

#[tokio::test]
async fn one_failed_send_of_ten_costs_only_itself_and_is_told() {
    let night = Night::waiting(10).await;
    night.clock.advance_to(at(EIGHT));
    fail_third(&night, Op::Send, FaultKind::Rejected);
    let process = night.process().await;
    let tick = process.drain(&night).await;
    assert_eq!((tick.delivered, tick.rejected, tick.remaining), (9, 1, 0));
    assert_eq!((night.left_once(), night.kept()), (9, 0));
}

#[tokio::test]
async fn a_send_that_failed_for_a_while_leaves_later_and_the_others_leave_once() {
    let night = Night::waiting(10).await;
    night.clock.advance_to(at(EIGHT));
    fail_third(&night, Op::Send, FaultKind::Unavailable);
    let process = night.process().await;
    let tick = process.releaser.tick().await.unwrap();
    assert_eq!((tick.delivered, tick.retried), (9, 1));
    night.pass(61);
    assert_eq!(process.drain(&night).await.delivered, 1);
    assert_eq!((night.left_once(), night.kept()), (10, 0));
}

#[tokio::test]
async fn a_queue_that_throttles_keeps_the_rest_and_the_report_says_so() {
    let night = Night::waiting(100).await;
    night.clock.advance_to(at(EIGHT));
    let busy = Fault::new(FaultKind::Throttled, "ThrottlingException");
    // The fourth request of all.
    for _ in 0..3 {
        night.sim.faults.next(Op::Send, FaultPlan::Pass);
    }
    night
        .sim
        .faults
        .next(Op::Send, FaultPlan::Before(busy.clone()));
    let process = night.process().await;
    let mut tick = process.releaser.tick().await.unwrap();
    tick.add(&process.releaser.tick().await.unwrap());
    let kept = tick.retried + tick.held;
    assert_eq!((tick.delivered, kept), (30, 70), "{tick:?}");
    assert!(tick.retried >= 10, "{tick:?}");
    assert_eq!(night.left_once(), 30);
    night.pass(61);
    process.drain(&night).await;
    assert_eq!((night.left_once(), night.kept()), (100, 0));
}

#[tokio::test]
async fn a_second_run_sends_nothing_again() {
    let night = Night::waiting(100).await;
    night.clock.advance_to(at(EIGHT));
    night.process().await.drain(&night).await;
    night.pass(120);
    let again = night.process().await.drain(&night).await;
    assert_eq!((again.delivered, again.remaining, again.on_loan), (0, 0, 0));
    assert_eq!(night.left_once(), 100);
}

#[tokio::test]
async fn a_delete_that_fails_in_part_stops_nothing_and_nothing_leaves_twice() {
    let night = Night::waiting(30).await;
    night.clock.advance_to(at(EIGHT));
    fail_third(&night, Op::Delete, FaultKind::Rejected);
    let process = night.process().await;
    let tick = process.drain(&night).await;
    assert_eq!((tick.delivered, night.left_once()), (30, 30));
    assert_eq!(night.kept(), 1, "the one that was not deleted");
    // It comes back, and nobody can tell that it left: a person looks.
    night.pass(61);
    let tick = process.drain(&night).await;
    assert_eq!((tick.delivered, tick.buried), (0, 1));
    assert_eq!((night.left_once(), night.kept()), (30, 0));
}

#[tokio::test]
async fn a_process_killed_between_send_and_delete_makes_no_advertisement_leave_twice() {
    let night = Night::waiting(30).await;
    night.clock.advance_to(at(EIGHT));
    killed_after_sending(&night).await;
    let sent = night.left_once();
    assert!(sent > 0);
    night.pass(61);
    let tick = night.process().await.drain(&night).await;
    assert_eq!(tick.delivered + tick.buried, 30);
    assert_eq!(tick.buried, sent as u64, "whose loans lapsed");
    assert_eq!((night.left_once(), night.buried()), (30, sent));
    assert_eq!(night.kept(), 0);
}

#[tokio::test]
async fn a_run_right_after_a_kill_tells_what_is_still_invisible_and_a_later_one_finds_it() {
    let night = Night::waiting(30).await;
    night.clock.advance_to(at(EIGHT));
    killed_after_sending(&night).await;
    let sent = night.left_once();
    night.pass(2);
    let process = night.process().await;
    let tick = process.drain(&night).await;
    let rest = 30 - sent;
    assert_eq!((tick.delivered, tick.remaining), (rest as u64, 0));
    assert_eq!(
        tick.on_loan, sent as u64,
        "no success while these are invisible"
    );
    night.pass(61);
    let tick = process.drain(&night).await;
    assert_eq!((tick.buried, tick.on_loan), (sent as u64, 0));
    assert_eq!((night.left_once(), night.kept()), (30, 0));
}

#[tokio::test]
async fn two_runs_at_once_with_a_sink_slower_than_the_visibility_send_nothing_twice() {
    let night = Night::waiting(60).await;
    night.clock.advance_to(at(EIGHT));
    // Six requests of 20 s each; loans run for 60 s.
    let slow = || {
        let queues = Slow {
            sim: night.sim.clone(),
            clock: night.clock.clone(),
            takes: SignedDuration::from_secs(20),
        };
        night.over(night.sink(Arc::new(queues)), None)
    };
    let run = |process: Process| {
        let clock = night.clock.clone();
        tokio::spawn(async move {
            loop {
                let tick = process.releaser.tick().await.unwrap();
                let next = clock.now() + SignedDuration::from_secs(1);
                let until = tick.wake.unwrap_or(next).min(next);
                while clock.now() < until {
                    clock.sleep_until(until).await;
                }
                tokio::task::yield_now().await;
            }
        })
    };
    let runs = [run(slow().await), run(slow().await)];
    let mut seconds = 0;
    while night.kept() > 0 {
        seconds += 1;
        assert!(seconds < 3600, "{} are kept", night.kept());
        night.pass(1);
        for _ in 0..300 {
            tokio::task::yield_now().await;
        }
    }
    for run in runs {
        run.abort();
    }
    assert!(seconds > TTL.as_secs(), "the loans did lapse");
    let sent = night.left_once();
    assert!(sent + night.buried() >= 60, "{sent} left");
}

#[tokio::test]
async fn messages_leave_at_the_pace_of_the_lane_and_not_all_at_eight() {
    let night = Night::waiting(100).await;
    night.clock.advance_to(at(EIGHT));
    let sink = night.sink(night.sim.clone());
    let process = night.over(sink, Some(5)).await;
    let (mut before, mut seconds) = (0, 0);
    while before < 100 {
        assert!(seconds < 100, "{before} left");
        for _ in 0..10 {
            process.releaser.tick().await.unwrap();
            night.clock.advance(std::time::Duration::from_millis(100));
        }
        seconds += 1;
        let left = night.left_once();
        assert!(left - before <= 6, "{} in a second", left - before);
        before = left;
    }
    assert!(seconds >= 18, "{seconds}");
}

#[tokio::test]
async fn whoever_withdrew_during_the_night_or_never_agreed_gets_nothing() {
    let night = Night::waiting(3).await;
    night.put_unasked(vec![advertisement("m-00003")]).await;
    let withdrawn = advertisement("m-00001");
    night
        .consent(&withdrawn, Act::Withdraw, "2026-11-23T02:00:00+09:00")
        .await;
    night.clock.advance_to(at(EIGHT));
    let tick = night.process().await.drain(&night).await;
    assert_eq!((tick.delivered, tick.refused), (2, 2));
    let mut left = night.left();
    left.sort();
    assert_eq!(left, ["m-00000", "m-00002"]);
    assert_eq!(night.kept(), 0);
}

#[tokio::test]
async fn a_target_that_keeps_order_takes_all_of_it_once() {
    let night = Night::new("target.fifo");
    let messages = (0..50).map(|n| advertisement(&format!("m-{n:05}")));
    night.put(messages.collect()).await;
    night.clock.advance_to(at(EIGHT));
    assert_eq!(night.process().await.drain(&night).await.delivered, 50);
    assert_eq!((night.left_once(), night.kept()), (50, 0));
    let left = night.sim.messages("target.fifo");
    let group = left.iter().map(|one| one.sent.group.as_deref());
    assert!(group.eq([Some("autumn"); 50]));
}

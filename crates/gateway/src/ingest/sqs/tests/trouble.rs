use std::sync::atomic::Ordering;

use super::world::{outgoing, world};
use crate::alert::AlertKind;
use crate::aws::queues::{Fault, FaultKind};
use crate::aws::sim::{FaultPlan, Noise, Op, SimOptions};
use crate::ingest::sqs::SourceOptions;

fn fault(kind: FaultKind) -> Fault {
    Fault::new(kind, "RequestThrottled: slower")
}

#[tokio::test]
async fn nothing_is_deleted_while_the_hold_fails_and_all_of_it_comes_again() {
    let world = world("in", SimOptions::default());
    world.hold.fails.store(true, Ordering::Relaxed);
    world
        .send(vec![outgoing("m-1", "hello"), outgoing("m-2", "hello")])
        .await;
    let running = world.start(world.options());
    world.pass(120).await;
    assert_eq!(world.queues.faults.requests(Op::Delete), 0);
    assert_eq!(world.left().len(), 2);
    assert!(
        world
            .receives()
            .iter()
            .all(|receives| (2..20).contains(receives))
    );
    world.hold.fails.store(false, Ordering::Relaxed);
    world.in_time("taken", || world.left().is_empty()).await;
    running.end().await;
    assert!(
        world
            .held(&["m-1", "m-2"])
            .await
            .iter()
            .all(Option::is_some)
    );
}

#[tokio::test]
async fn what_there_is_no_room_for_stays_and_the_rest_goes_on() {
    let world = world("in", SimOptions::default());
    world.hold.full.lock().unwrap().insert("m-1".to_owned());
    world
        .send(vec![outgoing("m-1", "hello"), outgoing("m-2", "hello")])
        .await;
    let running = world.start(world.options());
    world
        .until("one is taken", || world.left().len() == 1)
        .await;
    world.quiet().await;
    assert_eq!(world.receives(), [1], "it is hidden for a while");
    world.hold.full.lock().unwrap().clear();
    world.in_time("taken", || world.left().is_empty()).await;
    running.end().await;
    assert!(
        world
            .held(&["m-1", "m-2"])
            .await
            .iter()
            .all(Option::is_some)
    );
    assert!(world.dead().is_empty());
}

#[tokio::test]
async fn one_message_that_the_hold_never_takes_does_not_keep_back_the_others() {
    let world = world("in", SimOptions::default());
    world.hold.wrong.lock().unwrap().insert("m-2".to_owned());
    let messages = ["m-1", "m-2", "m-3"].map(|id| outgoing(id, "hello"));
    world.send(messages.into()).await;
    let running = world.start(world.options());
    world
        .until("all are gone", || world.left().is_empty())
        .await;
    running.end().await;
    let held = world.held(&["m-1", "m-2", "m-3"]).await;
    assert_eq!(
        held.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(world.dead().len(), 1);
}

#[tokio::test]
async fn deletes_that_fail_are_tried_again() {
    let world = world("in", SimOptions::default());
    let faults = &world.queues.faults;
    faults.next(Op::Delete, FaultPlan::Before(fault(FaultKind::Throttled)));
    faults.next(
        Op::Delete,
        FaultPlan::Entries(vec![1], fault(FaultKind::Unavailable)),
    );
    world
        .send(vec![outgoing("m-1", "hello"), outgoing("m-2", "hello")])
        .await;
    let running = world.start(world.options());
    world.in_time("deleted", || world.left().is_empty()).await;
    running.end().await;
    assert_eq!(world.queues.faults.requests(Op::Delete), 3);
    assert_eq!(world.hold.tried().len(), 1);
}

#[tokio::test]
async fn deletes_are_given_up_after_a_few_and_what_comes_again_is_known() {
    let world = world("in", SimOptions::default());
    let plan = FaultPlan::Before(fault(FaultKind::Unavailable));
    world.queues.faults.always(Op::Delete, Some(plan));
    world.send(vec![outgoing("m-1", "hello")]).await;
    let running = world.start(world.options());
    world.pass(50).await;
    assert_eq!(world.queues.faults.requests(Op::Delete), 4);
    assert_eq!(world.receives(), [1]);
    world.queues.faults.always(Op::Delete, None);
    world.in_time("deleted", || world.left().is_empty()).await;
    running.end().await;
    assert_eq!(world.hold.tried().len(), 2);
    let page = world.metrics.encode();
    let line = r#"nightgate_messages_total{status="duplicate",purpose="informational"} 1"#;
    assert!(page.contains(line), "{page}");
}

#[tokio::test]
async fn a_queue_that_throttles_is_asked_less_and_less_and_a_person_is_told() {
    let world = world("in", SimOptions::default());
    let plan = FaultPlan::Before(fault(FaultKind::Throttled));
    world.queues.faults.always(Op::Receive, Some(plan));
    let running = world.start(world.options());
    world.quiet().await;
    assert_eq!(
        world.queues.faults.requests(Op::Receive),
        1,
        "time stands still"
    );
    assert!(world.alarms().await.is_empty());
    world.pass(600).await;
    let asked = world.queues.faults.requests(Op::Receive);
    assert!((10..40).contains(&asked), "{asked} times in ten minutes");
    let alarms = world.alarms().await;
    assert_eq!(alarms[0].kind, AlertKind::SourceFailing);
    world.queues.faults.always(Op::Receive, None);
    world.send(vec![outgoing("m-1", "hello")]).await;
    world.in_time("taken", || world.left().is_empty()).await;
    running.end().await;
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_told_at_once() {
    let world = world("in", SimOptions::default());
    world.queues.remove("in");
    let running = world.start(world.options());
    world.quiet().await;
    running.end().await;
    let alarms = world.alarms().await;
    assert_eq!(alarms[0].kind, AlertKind::SourceFailing);
    assert!(
        alarms[0].english.contains("QueueDoesNotExist"),
        "{}",
        alarms[0].english
    );
}

#[tokio::test]
async fn a_dead_letter_queue_that_is_away_loses_nothing() {
    use super::world::poison;
    let world = world("in", SimOptions::default());
    world.queues.remove("dead");
    world.send(vec![poison(outgoing("m-1", "hello"))]).await;
    let running = world.start(world.options());
    world.quiet().await;
    assert_eq!(world.left().len(), 1);
    let alarms = world.alarms().await;
    assert_eq!(
        (alarms[0].kind, &*alarms[0].subject),
        (AlertKind::SourceFailing, "dead")
    );
    world.queues.create("dead", SimOptions::default());
    world.in_time("moved", || world.left().is_empty()).await;
    running.end().await;
    assert_eq!(world.dead().len(), 1);
}

#[tokio::test]
async fn whatever_sqs_may_do_every_message_is_stored_and_none_twice() {
    for seed in 0..8 {
        let world = world("in", SimOptions::default());
        let noise = Noise {
            unseen_percent: 30,
            twice_percent: 20,
            undeleted_percent: 20,
            shuffled: true,
            ..Noise::default()
        };
        world.queues.noise(noise, seed);
        let ids: Vec<String> = (0..60).map(|number| format!("m-{number}")).collect();
        world
            .send(ids.iter().map(|id| outgoing(id, "hello")).collect())
            .await;
        let options = SourceOptions {
            pollers: 3,
            ..world.options()
        };
        let running = world.start(options);
        world.in_time("deleted", || world.left().is_empty()).await;
        running.end().await;
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        assert!(
            world.held(&ids).await.iter().all(Option::is_some),
            "seed {seed}"
        );
        let line = r#"nightgate_messages_total{status="accepted",purpose="informational"} 60"#;
        assert!(world.metrics.encode().contains(line), "seed {seed}");
    }
}

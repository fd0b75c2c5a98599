use super::world::{World, grouped, poison, world};
use crate::aws::sim::{Op, SimOptions};
use crate::ingest::sqs::SourceOptions;

fn fifo() -> World {
    let options = SimOptions {
        fifo: true,
        ..SimOptions::default()
    };
    world("in.fifo", options)
}

/// The ids of messages that wait in the queue, by what their producer called them.
fn waiting(world: &World) -> Vec<String> {
    let ids = world.left().into_iter();
    ids.map(|message| message.sent.deduplication.unwrap())
        .collect()
}

#[tokio::test]
async fn a_group_reaches_the_hold_in_its_order() {
    let world = fifo();
    let ids: Vec<String> = (0..40).map(|number| format!("m-{number:02}")).collect();
    let group = |id: &String| {
        grouped(
            id,
            if id.ends_with(['0', '3', '7']) {
                "a"
            } else {
                "b"
            },
        )
    };
    world.send(ids.iter().map(group).collect()).await;
    let options = SourceOptions {
        pollers: 3,
        ..world.options()
    };
    let running = world.start(options);
    world.until("taken", || world.left().is_empty()).await;
    running.end().await;
    let put: Vec<String> = world.hold.tried().concat();
    let of = |a: bool| move |id: &&String| id.ends_with(['0', '3', '7']) == a;
    for group in [true, false] {
        let put: Vec<&String> = put.iter().filter(of(group)).collect();
        let right: Vec<&String> = ids.iter().filter(of(group)).collect();
        assert_eq!(put, right);
    }
}

#[tokio::test]
async fn behind_a_message_that_stays_the_later_ones_of_its_group_stay_too() {
    let world = fifo();
    world.hold.full.lock().unwrap().insert("a-2".to_owned());
    let messages = ["a-1", "a-2", "a-3", "b-1", "b-2"].map(|id| grouped(id, &id[..1]));
    world.send(messages.into()).await;
    let running = world.start(world.options());
    world
        .until("the others are taken", || world.left().len() == 2)
        .await;
    world.quiet().await;
    assert_eq!(waiting(&world), ["a-2", "a-3"]);
    world.hold.full.lock().unwrap().clear();
    world.in_time("taken", || world.left().is_empty()).await;
    running.end().await;
    assert!(
        world
            .held(&["a-2", "a-3"])
            .await
            .iter()
            .all(Option::is_some)
    );
}

#[tokio::test]
async fn behind_poison_without_a_dead_letter_queue_its_group_is_not_even_put() {
    let world = fifo();
    let messages = ["a-1", "a-2", "a-3", "b-1"].map(|id| grouped(id, &id[..1]));
    let [first, second, third, other] = messages;
    world.send(vec![first, poison(second), third, other]).await;
    let options = SourceOptions {
        dead_letter: None,
        ..world.options()
    };
    let running = world.start(options);
    world
        .until("the others are taken", || world.left().len() == 2)
        .await;
    world.pass(30).await;
    running.end().await;
    assert_eq!(waiting(&world), ["a-2", "a-3"]);
    assert_eq!(world.hold.tried().concat(), ["a-1", "b-1"]);
    assert_eq!(world.queues.faults.requests(Op::Delete), 1);
}

#[tokio::test]
async fn poison_with_a_dead_letter_queue_lets_its_group_go_on() {
    let world = fifo();
    let [first, second, third] = ["a-1", "a-2", "a-3"].map(|id| grouped(id, "a"));
    world.send(vec![first, poison(second), third]).await;
    let running = world.start(world.options());
    world
        .until("all are gone", || world.left().is_empty())
        .await;
    running.end().await;
    assert_eq!(world.hold.tried().concat(), ["a-1", "a-3"]);
    let dead = world.dead();
    let sent = &dead[0].sent;
    let names = (sent.group.as_deref(), sent.deduplication.as_deref());
    assert_eq!(names, (Some("a"), Some("a-2")));
}

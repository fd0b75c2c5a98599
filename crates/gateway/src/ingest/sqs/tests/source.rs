use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::world::{outgoing, poison, world};
use crate::alert::AlertKind;
use crate::aws::queues::{
    ATTRIBUTES_MAX, Answer, Ask, Attribute, Incoming, Look, Outgoing, Queue, Queues, Value,
};
use crate::aws::sim::{Op, SimOptions, SimQueues};
use crate::ingest::sqs::{REASON_ATTRIBUTE, SourceOptions};
use crate::receipt::{Event, ReceiptAsk, ReceiptLog};

fn reason(outgoing: &Outgoing) -> Option<&str> {
    let found = outgoing
        .attributes
        .iter()
        .find(|it| it.name == REASON_ATTRIBUTE)?;
    match &found.value {
        Value::Text(text) => Some(text),
        Value::Bytes(_) => None,
    }
}

#[tokio::test]
async fn what_the_gate_has_is_deleted_and_carried_byte_for_byte() {
    let world = world("in", SimOptions::default());
    let body = "{ \"\u{c548}\" : 1.0 }\n";
    let mut message = outgoing("m-1", body);
    message.attributes.push(Attribute::text("tone", "soft"));
    message.group = Some("tenant-1".to_owned());
    world.send(vec![message, outgoing("m-2", "plain")]).await;
    let running = world.start(world.options());
    world.until("deleted", || world.left().is_empty()).await;
    running.end().await;
    let held = world.held(&["m-1", "m-2"]).await;
    let first = &held[0].as_ref().unwrap().held.message;
    assert_eq!(&*first.body, body.as_bytes());
    assert_eq!(first.attributes["tone"], "soft");
    assert_eq!(&*held[1].as_ref().unwrap().held.message.body, b"plain");
    let page = world.metrics.encode();
    let line = r#"nightgate_source_messages_total{queue="in",outcome="taken"} 2"#;
    assert!(page.contains(line), "{page}");
}

#[tokio::test]
async fn what_several_pollers_received_goes_to_the_hold_at_once() {
    let world = world("in", SimOptions::default());
    let ids: Vec<String> = (0..30).map(|number| format!("m-{number}")).collect();
    world
        .send(ids.iter().map(|id| outgoing(id, "hello")).collect())
        .await;
    let options = SourceOptions {
        pollers: 3,
        batch_wait: Duration::from_secs(3600),
        ..world.options()
    };
    let running = world.start(options);
    world.until("deleted", || world.left().is_empty()).await;
    running.end().await;
    let puts = world.hold.tried();
    assert_eq!(puts.iter().map(Vec::len).collect::<Vec<_>>(), [30]);
}

#[tokio::test]
async fn a_batch_waits_for_more_only_so_long() {
    let world = world("in", SimOptions::default());
    world.send(vec![outgoing("m-1", "hello")]).await;
    let options = SourceOptions {
        pollers: 2,
        batch_wait: Duration::from_secs(3),
        ..world.options()
    };
    let running = world.start(options);
    world.quiet().await;
    assert!(
        world.hold.tried().is_empty(),
        "a second poller may bring more"
    );
    world.pass(3).await;
    world.until("deleted", || world.left().is_empty()).await;
    running.end().await;
}

#[tokio::test]
async fn poison_goes_to_the_dead_letter_queue_with_its_reason_and_the_rest_goes_on() {
    let world = world("in", SimOptions::default());
    let mut bad = poison(outgoing("m-1", "{\"to\": 5 }"));
    bad.trace = Some("Root=1-5759e988-bd862e3fe1be46a994272793".to_owned());
    bad.attributes.push(Attribute {
        name: "raw".to_owned(),
        kind: "Binary.png".to_owned(),
        value: Value::Bytes(vec![0, 255]),
    });
    world
        .send(vec![bad.clone(), outgoing("m-2", "hello")])
        .await;
    let running = world.start(world.options());
    world
        .until("both are gone", || world.left().is_empty())
        .await;
    running.end().await;
    let dead = world.dead();
    assert_eq!(dead.len(), 1);
    let mut sent = dead[0].sent.clone();
    let reason = reason(&sent).unwrap().to_owned();
    let right = "`recipient` must be a string at /to: a number loses its leading zeros";
    assert_eq!(reason, right);
    sent.attributes.pop();
    assert_eq!(sent, bad, "it went as it came");
    assert!(world.held(&["m-2"]).await[0].is_some());
    let alarms = world.alarms().await;
    assert_eq!(alarms[0].kind, AlertKind::SourceUnreadable);
    assert!(
        alarms[0].english.contains("moved to the queue dead"),
        "{}",
        alarms[0].english
    );
}

#[tokio::test]
async fn what_the_gate_finds_invalid_goes_to_the_dead_letter_queue_as_well() {
    let world = world("in", SimOptions::default());
    let mut push = outgoing("m-1", "hello");
    push.attributes.push(Attribute::text("channel", "push"));
    world.send(vec![push, outgoing("m-2", "hello")]).await;
    let running = world.start(world.options());
    world
        .until("both are gone", || world.left().is_empty())
        .await;
    running.end().await;
    let dead = world.dead();
    let reason = reason(&dead[0].sent).unwrap();
    assert_eq!(
        reason,
        "`channel` push has no lane for informational messages"
    );
    assert!(world.held(&["m-2"]).await[0].is_some());
}

#[tokio::test]
async fn ten_attributes_leave_no_room_for_the_reason_and_none_of_them_is_lost() {
    let world = world("in", SimOptions::default());
    let mut bad = poison(outgoing("m-1", "hello"));
    while bad.attributes.len() < ATTRIBUTES_MAX {
        let name = format!("a-{}", bad.attributes.len());
        bad.attributes.push(Attribute::text(name, "x"));
    }
    world.send(vec![bad.clone()]).await;
    let running = world.start(world.options());
    world.until("moved", || world.left().is_empty()).await;
    running.end().await;
    assert_eq!(world.dead()[0].sent, bad);
}

#[tokio::test]
async fn without_a_dead_letter_queue_poison_stays_and_a_person_is_told() {
    let world = world("in", SimOptions::default());
    world
        .send(vec![
            poison(outgoing("m-1", "hello")),
            outgoing("m-2", "hello"),
        ])
        .await;
    let options = SourceOptions {
        dead_letter: None,
        ..world.options()
    };
    let running = world.start(options);
    world
        .until("the other is taken", || world.left().len() == 1)
        .await;
    world.quiet().await;
    running.end().await;
    assert!(world.dead().is_empty());
    assert_eq!(
        world.queues.faults.requests(Op::Hide),
        0,
        "it is left as it is"
    );
    let alarms = world.alarms().await;
    assert_eq!(alarms[0].kind, AlertKind::SourceUnreadable);
    assert!(
        alarms[0].english.contains("stays in its queue"),
        "{}",
        alarms[0].english
    );
}

#[tokio::test]
async fn a_message_that_takes_long_stays_hidden_and_is_received_once() {
    let world = world("in", SimOptions::default());
    world.hold.close_door();
    world.send(vec![outgoing("m-1", "hello")]).await;
    let options = SourceOptions {
        pollers: 2,
        hide: Duration::from_secs(20),
        ..world.options()
    };
    let running = world.start(options);
    world.until("put", || !world.hold.tried().is_empty()).await;
    world.pass(90).await;
    assert_eq!(
        world.receives(),
        [1],
        "a second poller looked all the while"
    );
    assert!(world.queues.faults.requests(Op::Hide) >= 8);
    world.hold.door.add_permits(10);
    world.until("deleted", || world.left().is_empty()).await;
    running.end().await;
    assert_eq!(world.hold.tried().len(), 1);
}

#[tokio::test]
async fn what_was_received_before_the_stop_is_brought_to_its_end() {
    let world = world("in", SimOptions::default());
    world.hold.close_door();
    world.send(vec![outgoing("m-1", "hello")]).await;
    let running = world.start(world.options());
    world.until("put", || !world.hold.tried().is_empty()).await;
    running.stop.send(true).unwrap();
    world.quiet().await;
    assert!(!running.task.is_finished(), "it is being put");
    world.hold.door.add_permits(10);
    running.task.await.unwrap();
    assert!(world.left().is_empty());
}

/// Queues of which a receive waits for ever.
struct Still(Arc<SimQueues>);

#[async_trait]
impl Queues for Still {
    async fn find(&self, name: &str) -> Answer<Option<Queue>> {
        self.0.find(name).await
    }
    async fn send(&self, queue: &Queue, messages: Vec<Outgoing>) -> Vec<Answer<String>> {
        self.0.send(queue, messages).await
    }
    async fn receive(&self, _: &Queue, _: &Ask) -> Answer<Vec<Incoming>> {
        std::future::pending().await
    }
    async fn delete(&self, queue: &Queue, handles: &[String]) -> Vec<Answer<()>> {
        self.0.delete(queue, handles).await
    }
    async fn hide(&self, queue: &Queue, handles: &[(String, Duration)]) -> Vec<Answer<()>> {
        self.0.hide(queue, handles).await
    }
    async fn look(&self, queue: &Queue) -> Answer<Look> {
        self.0.look(queue).await
    }
    async fn tags(&self, queue: &Queue) -> Answer<std::collections::BTreeMap<String, String>> {
        self.0.tags(queue).await
    }
    async fn tag(&self, queue: &Queue, key: &str, value: Option<&str>) -> Answer<()> {
        self.0.tag(queue, key, value).await
    }
}

#[tokio::test]
async fn a_receive_that_waits_is_given_up_at_the_stop() {
    let world = world("in", SimOptions::default());
    let still = Arc::new(Still(Arc::clone(&world.queues)));
    let running = world.start_over(still, world.options());
    world.quiet().await;
    assert!(!running.task.is_finished());
    // The clock stands still: were anything waited for, this would never end.
    running.end().await;
}

#[tokio::test]
async fn killed_between_put_and_delete_a_message_comes_again_and_is_stored_once() {
    use crate::aws::queues::{Fault, FaultKind};
    use crate::aws::sim::FaultPlan;
    let world = world("in", SimOptions::default());
    world.send(vec![outgoing("m-1", "hello")]).await;
    let fault = Fault::new(FaultKind::Unavailable, "503");
    world
        .queues
        .faults
        .always(Op::Delete, Some(FaultPlan::Before(fault)));
    let running = world.start(world.options());
    world
        .until("a delete", || world.queues.faults.requests(Op::Delete) > 0)
        .await;
    running.task.abort();
    assert!(running.task.await.unwrap_err().is_cancelled());
    assert!(world.held(&["m-1"]).await[0].is_some());
    assert_eq!(world.left().len(), 1);

    world.queues.faults.always(Op::Delete, None);
    let running = world.start(world.options());
    world.in_time("deleted", || world.left().is_empty()).await;
    running.end().await;
    assert_eq!(world.hold.tried().len(), 2, "it came twice");
    let filed = world.receipts.query(&ReceiptAsk::default()).await.unwrap();
    let accepted = filed
        .iter()
        .filter(|filed| filed.receipt.event == Event::Accepted);
    assert_eq!(accepted.count(), 1, "and was taken once");
}

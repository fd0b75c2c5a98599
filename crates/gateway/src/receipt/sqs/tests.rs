//! The log on queues that fail.

use super::super::tests::receipt;
use super::*;
use crate::aws::queues::Fault;
use crate::aws::sim::{FaultPlan, Op, SimMessage, SimOptions, SimQueues};
use crate::clock::ManualClock;
use crate::receipt::Event;

struct World {
    queues: Arc<SimQueues>,
    log: SqsLog,
    clock: Arc<ManualClock>,
}

impl World {
    fn new(name: &str) -> Self {
        let clock = Arc::new(ManualClock::new("2026-11-22T12:00:00Z".parse().unwrap()));
        let queues = Arc::new(SimQueues::new(Arc::clone(&clock)));
        let options = SimOptions {
            fifo: name.ends_with(".fifo"),
            ..SimOptions::default()
        };
        let queue = queues.create(name, options);
        let log = SqsLog::new(Arc::clone(&queues) as _, queue, Arc::clone(&clock) as _);
        Self { queues, log, clock }
    }

    /// Appends while time passes.
    async fn append(&self, many: usize) -> Result<()> {
        let name = |n: usize| receipt(&format!("m-{n}"), Event::Delivered, 5);
        let append = self.log.append((0..many).map(name).collect());
        let passing = async {
            loop {
                tokio::task::yield_now().await;
                self.clock.advance(Duration::from_millis(50));
            }
        };
        tokio::select! {
            done = append => done,
            () = passing => unreachable!("time does not end"),
        }
    }

    fn told(&self, name: &str) -> Vec<String> {
        let messages: Vec<SimMessage> = self.queues.messages(name);
        let mut told = Vec::new();
        for message in &messages {
            assert!(message.sent.bytes() <= MESSAGE_BYTES_MAX);
            for line in message.sent.body.lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(line["receipt"]["recipient"], "+821012345678");
                told.push(line["receipt"]["message"].as_str().unwrap().to_owned());
            }
        }
        told
    }
}

fn every(many: usize) -> Vec<String> {
    (0..many).map(|n| format!("m-{n}")).collect()
}

#[tokio::test]
async fn many_receipts_are_few_messages_and_every_line_is_there() {
    let world = World::new("receipts");
    world.append(10_000).await.unwrap();
    let mut told = world.told("receipts");
    told.sort_by_key(|name| name[2..].parse::<usize>().unwrap());
    assert_eq!(told, every(10_000));
    let messages = world.queues.messages("receipts").len();
    assert!(messages < 60, "{messages} messages");
    assert!(world.queues.faults.requests(Op::Send) <= 6);
}

#[tokio::test]
async fn what_was_not_taken_is_sent_again_and_a_lost_answer_doubles_rather_than_loses() {
    let world = World::new("receipts");
    let throttled = Fault::new(FaultKind::Throttled, "slow down");
    let lost = Fault::new(FaultKind::Unknown, "no answer");
    let faults = &world.queues.faults;
    faults.next(Op::Send, FaultPlan::Before(throttled.clone()));
    faults.next(Op::Send, FaultPlan::Entries(vec![1], throttled));
    faults.next(Op::Send, FaultPlan::After(lost));
    world.append(900).await.unwrap();
    let mut told = world.told("receipts");
    told.sort_by_key(|name| name[2..].parse::<usize>().unwrap());
    assert!(told.len() > 900, "the lost answer's lines are there twice");
    told.dedup();
    assert_eq!(told, every(900));
}

#[tokio::test]
async fn a_queue_that_takes_nothing_is_a_fault_after_a_few_tries() {
    let world = World::new("receipts");
    let down = Fault::new(FaultKind::Unavailable, "503");
    world
        .queues
        .faults
        .always(Op::Send, Some(FaultPlan::Before(down)));
    let fault = world.append(1).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Unavailable);
    assert_eq!(
        world.queues.faults.requests(Op::Send),
        1 + u64::from(AGAIN_MAX)
    );
    let denied = Fault::new(FaultKind::Denied, "no such queue");
    world
        .queues
        .faults
        .always(Op::Send, Some(FaultPlan::Before(denied)));
    world.append(1).await.unwrap_err();
    let requests = world.queues.faults.requests(Op::Send);
    assert_eq!(
        requests,
        2 + u64::from(AGAIN_MAX),
        "what a person must mend is not hammered"
    );
}

#[tokio::test]
async fn a_fifo_queue_has_them_in_order() {
    let world = World::new("receipts.fifo");
    world.append(3000).await.unwrap();
    assert_eq!(world.told("receipts.fifo"), every(3000));
}

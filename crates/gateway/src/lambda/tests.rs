//! Calls into functions in memory.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::functions::{FunctionParts, Functions};
use crate::aws::sim::SimOptions;
use crate::backoff::Backoff;
use crate::hold::Lane;
use crate::ingest::sqs::tests::world::{World, world};
use crate::ingest::sqs::{Source, SourceOptions, SourceParts};
use crate::release::freeze::Freeze;
use crate::release::limiter::Pace;
use crate::release::{LaneOptions, OnUnknown, Releaser, ReleaserParts};
use crate::sink::{Outbound, Outcome, Sink};

/// A sink that takes what comes, unless it is closed.
#[derive(Default)]
struct Taker(Mutex<Vec<String>>, AtomicBool);

#[async_trait]
impl Sink for Taker {
    fn name(&self) -> &'static str {
        "taker"
    }
    fn batch_max(&self) -> usize {
        100
    }
    async fn deliver(&self, batch: Vec<Outbound>) -> Vec<Outcome> {
        if self.1.load(Ordering::Relaxed) {
            let closed = Outcome::Retry {
                after: None,
                whole_lane: true,
                why: "closed".to_owned(),
            };
            return vec![closed; batch.len()];
        }
        let mut taken = self.0.lock().unwrap();
        let outcome = |outbound: Outbound| {
            taken.push(outbound.message().id.to_string());
            Outcome::Delivered { reference: None }
        };
        batch.into_iter().map(outcome).collect()
    }
}

struct Night {
    world: World,
    sink: Arc<Taker>,
    functions: Arc<Functions>,
}

/// How a night is set up.
struct Setting {
    fifo: bool,
    dead_letter: bool,
    /// Messages a second.
    rate: Option<u32>,
    release_on_receive: bool,
}

const USUAL: Setting = Setting {
    fifo: false,
    dead_letter: true,
    rate: None,
    release_on_receive: false,
};

fn lane(name: &str, rate: Option<u32>) -> LaneOptions {
    LaneOptions {
        lane: Lane::new(name),
        pace: Pace {
            rate: rate.and_then(NonZeroU32::new),
            burst: NonZeroU32::MIN,
            slow_start: Duration::ZERO,
            slow_start_from: 1.0,
        },
        in_flight: 2,
        batch_max: 0,
        tick_max: 1000,
        lease_ttl: SignedDuration::from_secs(60),
        attempts_max: 3,
        backoff: Backoff {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
        },
        unknown_advertising: OnUnknown::Bury,
        unknown_informational: OnUnknown::Bury,
        nothing_moved_after: Duration::from_secs(3600),
        failing_after: 5,
    }
}

fn night(setting: &Setting) -> Night {
    let options = SimOptions {
        fifo: setting.fifo,
        ..SimOptions::default()
    };
    let world = world(if setting.fifo { "in.fifo" } else { "in" }, options);
    let sink = Arc::new(Taker::default());
    let lanes = ["main", "long"]
        .map(|name| -> (LaneOptions, Arc<dyn Sink>) { (lane(name, setting.rate), sink.clone()) });
    let parts = ReleaserParts {
        decider: Arc::clone(&world.decider),
        clock: world.clock.clone(),
        hold: world.hold.clone(),
        receipts: world.receipts.clone(),
        alerts: world.alerts.clone(),
        metrics: Arc::clone(&world.metrics),
        freeze: Freeze::new(SignedDuration::from_secs(60), Duration::from_secs(300)),
        random: Mutex::new(fastrand::Rng::with_seed(1)),
    };
    let source_parts = SourceParts {
        queues: world.queues.clone(),
        gate: Arc::clone(&world.gate),
        clock: world.clock.clone(),
        alerts: world.alerts.clone(),
        metrics: Arc::clone(&world.metrics),
    };
    let mut source_options: SourceOptions = world.options();
    if !setting.dead_letter {
        source_options.dead_letter = None;
    }
    let functions = Functions::new(FunctionParts {
        clock: world.clock.clone(),
        hold: world.hold.clone(),
        gate: Arc::clone(&world.gate),
        releaser: Arc::new(Releaser::new(lanes.into(), parts)),
        alerts: world.alerts.clone(),
        sources: vec![Arc::new(Source::new(source_parts, source_options))],
        margin: Duration::from_secs(10),
        release_on_receive: setting.release_on_receive,
        sweep_every: Duration::from_secs(600),
    });
    Night {
        world,
        sink,
        functions: Arc::new(functions),
    }
}

/// A record to a recipient.
fn record(id: &str, channel: &str) -> Value {
    json!({"messageId": format!("sqs-{id}"), "receiptHandle": "h", "body": "hello",
        "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:in",
        "attributes": {},
        "messageAttributes": {
            "nightgate-id": {"stringValue": id, "dataType": "String"},
            "channel": {"stringValue": channel, "dataType": "String"},
            "to": {"stringValue": "010-1234-5678", "dataType": "String"}}})
}

fn poison(mut record: Value) -> Value {
    let attributes = record["messageAttributes"].as_object_mut().unwrap();
    attributes.remove("to");
    record
}

fn grouped(id: &str) -> Value {
    let mut record = record(id, "sms");
    record["eventSourceARN"] = json!("arn:aws:sqs:us-east-1:000000000000:in.fifo");
    record["attributes"] = json!({"MessageGroupId": &id[..1], "MessageDeduplicationId": id});
    record
}

impl Night {
    fn deadline_ms(&self, seconds: i64) -> u64 {
        use crate::clock::Clock;
        u64::try_from(self.world.clock.now().as_millisecond() + seconds * 1000).unwrap()
    }

    async fn call(&self, event: Value) -> Result<Value, super::Failed> {
        let deadline_ms = self.deadline_ms(900);
        self.functions.call(event, deadline_ms).await
    }

    /// The messages that the queue must give again.
    async fn failures(&self, records: Vec<Value>) -> Vec<String> {
        let answer = self.call(json!({"Records": records})).await.unwrap();
        let failures = answer["batchItemFailures"].as_array().unwrap();
        let id = |failure: &Value| failure["itemIdentifier"].as_str().unwrap().to_owned();
        failures.iter().map(id).collect()
    }

    /// Calls while time passes, until there is an answer; how many seconds that took.
    async fn timed(&self, event: Value, deadline_ms: u64) -> (Result<Value, super::Failed>, u64) {
        let functions = Arc::clone(&self.functions);
        let call = tokio::spawn(async move { functions.call(event, deadline_ms).await });
        let mut seconds = 0;
        self.world.quiet().await;
        while !call.is_finished() {
            assert!(seconds < 1000, "it never ends");
            self.world.pass(1).await;
            seconds += 1;
        }
        (call.await.unwrap(), seconds)
    }
}

#[tokio::test]
async fn an_event_of_a_queue_is_taken_in_and_what_cannot_be_read_is_put_aside() {
    let night = night(&USUAL);
    let records = vec![
        record("m-1", "sms"),
        poison(record("m-2", "sms")),
        record("m-3", "push"),
    ];
    assert!(night.failures(records).await.is_empty());
    assert!(night.world.held(&["m-1"]).await[0].is_some());
    assert_eq!(night.world.dead().len(), 2, "no recipient; no lane");
    let again = night.failures(vec![record("m-1", "sms")]).await;
    assert!(again.is_empty(), "it is known");
}

#[tokio::test]
async fn what_is_not_taken_in_is_named_and_the_rest_is_not() {
    let night = night(&Setting {
        dead_letter: false,
        ..USUAL
    });
    night
        .world
        .hold
        .full
        .lock()
        .unwrap()
        .insert("m-2".to_owned());
    let records = ["m-1", "m-2", "m-3"].map(|id| record(id, "sms"));
    let mut records = Vec::from(records);
    records.push(poison(record("m-4", "sms")));
    assert_eq!(night.failures(records).await, ["sqs-m-2", "sqs-m-4"]);
    let alarms = night.world.port.alerts();
    assert!(!alarms.is_empty(), "they are delivered before the answer");
}

#[tokio::test]
async fn while_the_hold_fails_every_message_is_to_be_given_again() {
    let night = night(&USUAL);
    night.world.hold.fails.store(true, Ordering::Relaxed);
    let records = ["m-1", "m-2"].map(|id| record(id, "sms"));
    assert_eq!(night.failures(records.into()).await, ["sqs-m-1", "sqs-m-2"]);
}

#[tokio::test]
async fn from_the_first_failure_of_a_group_on_the_later_ones_are_failures_too() {
    let night = night(&Setting {
        fifo: true,
        ..USUAL
    });
    night
        .world
        .hold
        .full
        .lock()
        .unwrap()
        .insert("a-2".to_owned());
    let records = ["a-1", "b-1", "a-2", "b-2", "a-3"].map(grouped);
    assert_eq!(night.failures(records.into()).await, ["sqs-a-2", "sqs-a-3"]);
}

#[tokio::test]
async fn a_queue_that_no_source_has_is_an_error_and_its_messages_come_again() {
    let night = night(&USUAL);
    let mut stranger = record("m-1", "sms");
    stranger["eventSourceARN"] = json!("arn:aws:sqs:us-east-1:000000000000:other");
    let failed = night
        .call(json!({"Records": [stranger]}))
        .await
        .unwrap_err();
    assert_eq!(failed.kind, "Nightgate.Source");
    assert!(failed.to_string().contains("the queue other"), "{failed}");
}

#[tokio::test]
async fn what_came_and_may_leave_leaves_in_the_same_call_if_that_is_configured() {
    let patient = night(&USUAL);
    patient.failures(vec![record("m-1", "sms")]).await;
    assert!(patient.sink.0.lock().unwrap().is_empty());
    let prompt = night(&Setting {
        release_on_receive: true,
        ..USUAL
    });
    prompt.failures(vec![record("m-1", "sms")]).await;
    assert_eq!(*prompt.sink.0.lock().unwrap(), ["m-1"]);
}

#[tokio::test]
async fn a_call_with_messages_does_not_wait_for_the_pace_of_a_lane() {
    let night = night(&Setting {
        release_on_receive: true,
        rate: Some(1),
        ..USUAL
    });
    let records: Vec<Value> = (0..50).map(|n| record(&format!("m-{n}"), "sms")).collect();
    let deadline_ms = night.deadline_ms(900);
    let (answer, seconds) = night.timed(json!({"Records": records}), deadline_ms).await;
    assert_eq!(answer.unwrap(), json!({"batchItemFailures": []}));
    assert_eq!(seconds, 0);
}

#[tokio::test]
async fn a_tick_releases_until_nothing_is_due_and_reports_it() {
    let night = night(&USUAL);
    let records = ["m-1", "m-2"].map(|id| record(id, "sms"));
    night.failures(records.into()).await;
    let report = night
        .call(json!({"detail-type": "Scheduled Event"}))
        .await
        .unwrap();
    let right = json!({"released": 2, "held": 0, "refused": 0, "expired": 0, "retried": 0,
        "rejected": 0, "unknown": 0, "buried": 0, "remaining": 0,
        "on_loan": 0, "wake": null});
    assert_eq!(report, right);
    let report = night.call(json!({})).await.unwrap();
    assert_eq!(report["released"], 0, "a second call is harmless");
}

#[tokio::test]
async fn a_tick_that_failed_is_an_error_that_tells_what_was_done_nevertheless() {
    let night = night(&USUAL);
    night
        .failures(vec![record("m-1", "sms"), record("m-2", "lms")])
        .await;
    *night.world.hold.stuck.lock().unwrap() = Some(Lane::new("long"));
    let failed = night.call(json!({})).await.unwrap_err();
    assert_eq!(failed.kind, "Nightgate.Release");
    assert_eq!(failed.report.unwrap().released, 1);
    let told = failed.to_string();
    assert!(
        told.contains(r#"done nevertheless: {"released":1,"#),
        "{told}"
    );
    *night.world.hold.stuck.lock().unwrap() = None;
    assert_eq!(night.call(json!({})).await.unwrap()["released"], 1);
}

#[tokio::test]
async fn a_call_ends_when_its_lane_backs_off_and_a_later_one_goes_on() {
    let night = night(&USUAL);
    night.failures(vec![record("m-1", "sms")]).await;
    night.sink.1.store(true, Ordering::Relaxed);
    let deadline_ms = night.deadline_ms(900);
    let (answer, seconds) = night.timed(json!({}), deadline_ms).await;
    let report = answer.unwrap();
    assert_eq!(
        (&report["retried"], &report["released"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(seconds, 0, "the alarm is not kept back");
    night.sink.1.store(false, Ordering::Relaxed);
    night.world.pass(3600).await;
    assert_eq!(night.call(json!({})).await.unwrap()["released"], 1);
}

#[tokio::test]
async fn a_tick_ends_before_its_deadline_and_tells_what_remains() {
    let night = night(&Setting {
        rate: Some(1),
        ..USUAL
    });
    let records: Vec<Value> = (0..100).map(|n| record(&format!("m-{n}"), "sms")).collect();
    night.failures(records).await;
    let deadline_ms = night.deadline_ms(40);
    let (answer, seconds) = night.timed(json!({}), deadline_ms).await;
    let report = answer.unwrap();
    assert!(
        seconds <= 30,
        "{seconds} s of 40, of which 10 are the margin"
    );
    let (released, remaining) = (&report["released"], &report["remaining"]);
    let (released, remaining) = (released.as_u64().unwrap(), remaining.as_u64().unwrap());
    assert!(released >= 20, "{report}");
    assert_eq!(released + remaining, 100);
    assert!(report["wake"].is_string(), "{report}");
    assert_eq!(night.sink.0.lock().unwrap().len() as u64, released);
}

#[tokio::test]
async fn a_deadline_in_the_past_is_unknown_and_the_call_ends_all_the_same() {
    let night = night(&Setting {
        rate: Some(1),
        ..USUAL
    });
    let records: Vec<Value> = (0..100).map(|n| record(&format!("m-{n}"), "sms")).collect();
    night.failures(records).await;
    let deadline_ms = night.deadline_ms(-900);
    let (answer, seconds) = night.timed(json!({}), deadline_ms).await;
    let report = answer.unwrap();
    assert!((10..=30).contains(&seconds), "{seconds}");
    assert!(report["released"].as_u64().unwrap() > 0);
    assert!(report["remaining"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn what_is_due_at_eight_leaves_with_the_first_call_after_it_however_late_that_comes() {
    let night = night(&USUAL);
    let mut options = night.world.options();
    options.mapping = crate::ingest::sqs::Mapping::parse(&{
        let mut table = crate::ingest::sqs::tests::world::table();
        table.insert(
            "send_at".to_owned(),
            "=2026-11-23T08:00:00+09:00".to_owned(),
        );
        table
    })
    .unwrap();
    night
        .world
        .send(vec![crate::ingest::sqs::tests::world::outgoing(
            "m-1", "hello",
        )])
        .await;
    let running = night.world.start(options);
    night
        .world
        .until("taken", || night.world.left().is_empty())
        .await;
    running.end().await;
    let early = night.call(json!({})).await.unwrap();
    assert_eq!(
        (&early["released"], &early["wake"]),
        (&json!(0), &json!("2026-11-22T23:00:00Z"))
    );
    night
        .world
        .clock
        .advance_to("2026-11-23T11:30:00+09:00".parse().unwrap());
    assert_eq!(
        night.call(json!({})).await.unwrap()["released"],
        1,
        "hours late, and not lost"
    );
}

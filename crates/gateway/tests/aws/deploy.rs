//! The template of `deploy/aws` on an emulator of AWS, with the built binary for a function: what
//! it makes, and what becomes of messages there. Roles hold: a function may do what its role says.

use std::process::Command;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nightgate::aws::queues::Queue;
use nightgate::aws::travel;
use nightgate::clock::{Clock, SystemClock};
use nightgate::ingest::sqs::REASON_ATTRIBUTE;
use serde_json::{Value as Json, json};

use crate::clock::{monotonic, pause};
use crate::emulators::{Emulator, Kind, boto, python};
use crate::template::Template;
use crate::world::queues;

/// Longest wait for anything. Generous: it bounds only tests that fail.
const PATIENCE: Duration = Duration::from_secs(60);
/// The queue that senders read.
const TARGET: &str = "sqs_schedule_message";
/// 14 days, as SQS tells them.
const DAYS_14: &str = "1209600";

/// A stack, and what its parts said of themselves when it was made.
struct Stack {
    emulator: Emulator,
    there: Json,
}

impl Stack {
    async fn new() -> Self {
        Self::of(for_ministack(Template::of_this_crate())).await
    }

    async fn of(template: Template) -> Self {
        let emulator = Emulator::start(Kind::Ministack).await;
        let binary = env!("CARGO_BIN_EXE_nightgate");
        let arguments = [emulator.url.as_str(), "deploy", binary, TARGET];
        let there = python("boto", "deploy.py", &arguments, &template.0.to_string());
        Self {
            emulator,
            there: serde_json::from_str(&there).unwrap(),
        }
    }

    fn queue(&self, name: &str) -> Queue {
        let url = &self.there["queues"][name]["url"];
        Queue::new(url.as_str().unwrap())
    }

    fn write(&self, messages: &Json) {
        let incoming = self.queue("nightgate-incoming");
        let arguments = ["write", incoming.url()];
        boto(&self.emulator.url, &arguments, &messages.to_string());
    }

    /// Takes `count` messages out of a queue, in the order of their bodies.
    fn read(&self, name: &str, count: usize) -> Vec<Json> {
        let (queue, count) = (self.queue(name), count.to_string());
        let text = boto(&self.emulator.url, &["read", queue.url(), &count], "");
        serde_json::from_str(&text).unwrap()
    }

    /// Messages in a queue, lent and delayed ones too.
    async fn count(&self, name: &str) -> u64 {
        let queues = queues(&self.emulator.url);
        let look = queues.look(&self.queue(name)).await.unwrap();
        look.visible + look.in_flight + look.delayed
    }

    /// Waits until the mapping has called the function with all that came.
    async fn taken_in(&self) {
        let began = monotonic();
        while self.count("nightgate-incoming").await > 0 {
            assert!(monotonic() - began < PATIENCE, "it is still there");
            pause(Duration::from_millis(100)).await;
        }
    }

    /// What the drain answers when the schedule calls it.
    fn drain(&self) -> Json {
        let arguments = [self.emulator.url.as_str(), "call", "nightgate-drain"];
        let answer = python("boto", "deploy.py", &arguments, "");
        let answer: Json = serde_json::from_str(&answer).unwrap();
        assert!(answer["error"].is_null(), "{answer}");
        answer["payload"].clone()
    }

    /// The command line of an operator, whose own credentials may write to the table.
    #[track_caller]
    fn operate(&self, arguments: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let variables = &self.there["functions"]["nightgate-drain"];
        let variables = variables.as_object().unwrap().iter();
        let done = Command::new(env!("CARGO_BIN_EXE_nightgate"))
            .env_clear()
            .envs(variables.map(|(name, value)| (name, value.as_str().unwrap())))
            .env("NIGHTGATE_AWS__ENDPOINT", &self.emulator.url)
            .env("AWS_REGION", "ap-northeast-2")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .current_dir(dir.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(done.status.success(), "{arguments:?}: {done:?}");
    }
}

/// The statements of the functions' role.
fn statements(template: &mut Template) -> &mut Vec<Json> {
    let role = &mut template.0["Resources"]["FunctionRole"]["Properties"];
    let policy = &mut role["Policies"][0]["PolicyDocument"];
    policy["Statement"].as_array_mut().unwrap()
}

/// The template as this emulator can take it.
fn for_ministack(mut template: Template) -> Template {
    let resources = template.0["Resources"].as_object_mut().unwrap();
    // It has no metric math.
    assert!(resources.remove("NothingMoved").is_some());
    // To AWS, a batch is as many of the single action; to it, an action of its own.
    let singles = ["SendMessage", "DeleteMessage", "ChangeMessageVisibility"];
    let singles = singles.map(|single| format!("sqs:{single}"));
    for statement in statements(&mut template) {
        let actions = statement["Action"].as_array_mut().unwrap();
        let of_one = |action: &&Json| singles.iter().any(|single| *action == single);
        let batch = |action: &Json| json!(format!("{}Batch", action.as_str().unwrap()));
        let batches: Vec<Json> = actions.iter().filter(of_one).map(batch).collect();
        actions.extend(batches);
    }
    template
}

/// What a producer writes.
fn written(who: &str, phone: &str, attributes: &[(&str, &str)]) -> Json {
    let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
    let mut all = json!({ "who": text(who) });
    for (name, value) in attributes {
        all[*name] = text(value);
    }
    // Spaces and escapes as no other writer of JSON would set them.
    let body =
        format!("{{ \"to\" :\"{phone}\",  \"text\":\"{who}\\u002c 밤 특가 🌙 \\\"8시\\\"\"}}");
    json!({ "body": body, "attributes": all })
}

fn name_of(message: &Json) -> &str {
    message["attributes"]["who"]["StringValue"]
        .as_str()
        .unwrap()
}

#[tokio::test]
async fn the_template_makes_every_part_as_it_must_be() {
    let stack = Stack::new().await;
    let there = &stack.there;
    let template = for_ministack(Template::of_this_crate());
    let resources = there["resources"].as_object().unwrap();
    let states = resources.values().all(|state| state == "CREATE_COMPLETE");
    assert!(states, "{resources:?}");
    let all = template.0["Resources"].as_object().unwrap();
    // The only resource under a condition that does not hold here.
    let missing: Vec<_> = all
        .keys()
        .filter(|name| !resources.contains_key(*name))
        .collect();
    assert_eq!(missing, ["DrainScheduleThird"]);

    let held = ["ready", "wait", "wait-1", "buried"].map(|name| format!("nightgate-main-{name}"));
    let around = ["nightgate-incoming", "nightgate-incoming-dead"].map(str::to_owned);
    for name in held.iter().chain(&around) {
        let queue = &there["queues"][name];
        assert_eq!(queue["MessageRetentionPeriod"], DAYS_14, "{name}");
        assert_eq!(queue["SqsManagedSseEnabled"], "true", "{name}");
        let redrive = queue.get("RedrivePolicy");
        assert_eq!(redrive.is_some(), name == "nightgate-incoming", "{name}");
    }
    let redrive = &there["queues"]["nightgate-incoming"]["RedrivePolicy"];
    let redrive: Json = serde_json::from_str(redrive.as_str().unwrap()).unwrap();
    let dead = &there["queues"]["nightgate-incoming-dead"]["QueueArn"];
    assert_eq!(&redrive["deadLetterTargetArn"], dead);

    let keys = json!([
        { "AttributeName": "pk", "KeyType": "HASH" },
        { "AttributeName": "sk", "KeyType": "RANGE" },
    ]);
    assert_eq!(there["table"]["KeySchema"], keys);
    let alarms = [
        "buried",
        "dead-letters",
        "drain-fails",
        "held-too-long",
        "incoming-stuck",
    ];
    assert_eq!(
        there["alarms"],
        json!(alarms.map(|name| format!("nightgate-{name}")))
    );
    let schedules = ["nightgate-drain", "nightgate-drain-second"];
    assert_eq!(there["schedules"], json!(schedules));
    let mapping = &there["mappings"][0];
    let incoming = &there["queues"]["nightgate-incoming"]["QueueArn"];
    assert_eq!(&mapping["EventSourceArn"], incoming);
    let answers = json!(["ReportBatchItemFailures"]);
    assert_eq!(
        mapping["FunctionResponseTypes"], answers,
        "one bad message keeps no other"
    );
    for (_, function) in template.all("AWS::Lambda::Function") {
        let name = template.text(&function["FunctionName"]);
        let given = there["functions"][&name].as_object().unwrap();
        for (variable, value) in template.environment(function) {
            let told = variable == "NIGHTGATE_SOURCE__INCOMING__MAP";
            assert!(told || given[&variable] == value, "{name}: {variable}");
        }
    }
}

/// By the hour of no clock: information may leave at any, as may advertising to who agreed to the
/// night; what has no consent, at none; what is for later, not before.
fn messages(later: Timestamp) -> Json {
    let information = ("purpose", "informational");
    let later = later.to_string();
    let brand = ("brand.name", "밤 🌙");
    let mut order = written("a-order", "010-0000-0001", &[information]);
    order["attributes"]["price"] = json!({ "DataType": "Number.won", "StringValue": "3900" });
    order["attributes"]["seal"] = json!({ "DataType": "Binary", "BinaryValue": "AP8A" });
    let mut poison = written("f-poison", "", &[]);
    poison["body"] = json!("no JSON at all");
    let for_later = [information, ("send-at", later.as_str())];
    json!([
        order,
        written("b-parcel", "010-0000-0002", &[information, brand]),
        written("c-no-consent", "010-0000-0003", &[]),
        written("d-night-owl", "010-0000-0004", &[]),
        written("e-later", "010-0000-0001", &for_later),
        poison,
    ])
}

#[tokio::test]
async fn the_functions_take_in_hold_and_release_what_producers_write() {
    let stack = Stack::new().await;
    for scope in ["general", "night"] {
        stack.operate(&["consent", "grant", "010-0000-0004", "--scope", scope]);
    }
    let now = SystemClock::default().now();
    let messages = messages(now + SignedDuration::from_hours(72));
    stack.write(&messages);
    stack.taken_in().await;

    // Nothing leaves before the schedule: the drain alone keeps the lane's rate.
    assert_eq!(stack.count(TARGET).await, 0);
    assert_eq!(stack.count("nightgate-main-ready").await, 3);
    assert_eq!(stack.count("nightgate-main-wait").await, 1);
    let poison = stack.read("nightgate-incoming-dead", 1);
    assert_eq!(poison[0]["body"], "no JSON at all");
    assert_eq!(name_of(&poison[0]), "f-poison");
    let reason = poison[0]["attributes"][REASON_ATTRIBUTE]["StringValue"].to_string();
    assert!(reason.contains("recipient"), "{reason}");

    let report = stack.drain();
    let others = "refused expired retried rejected unknown buried remaining";
    for key in others.split(' ') {
        assert_eq!(report[key], 0, "{report}");
    }
    assert_eq!(report["released"], 3, "{report}");
    let wake: Timestamp = report["wake"].as_str().unwrap().parse().unwrap();
    assert!(wake > now, "one is still held: {report}");

    let left = stack.read(TARGET, 3);
    let names: Vec<_> = left.iter().map(name_of).collect();
    assert_eq!(names, ["a-order", "b-parcel", "d-night-owl"]);
    let all = messages.as_array().unwrap();
    for (one, as_written) in left.iter().zip([&all[0], &all[1], &all[3]]) {
        assert_eq!(one["body"], as_written["body"], "byte for byte");
        for (name, value) in as_written["attributes"].as_object().unwrap() {
            assert_eq!(&one["attributes"][name], value);
        }
        for name in [travel::ID, travel::NOT_AFTER] {
            assert!(one["attributes"][name].is_object(), "{name}");
        }
    }
    // The next minute's run finds nothing more, and what waits for its day stays.
    assert_eq!(stack.drain()["released"], 0);
    assert_eq!(stack.count("nightgate-main-wait").await, 1);
    for name in ["ready", "wait-1", "buried"].map(|name| format!("nightgate-main-{name}")) {
        assert_eq!(stack.count(&name).await, 0, "{name}");
    }
    assert_eq!(stack.count(TARGET).await, 0);
}

#[tokio::test]
async fn without_leave_to_write_to_the_senders_queue_nothing_is_lost_and_it_says_so() {
    let mut template = for_ministack(Template::of_this_crate());
    let mut all = statements(&mut template).iter_mut();
    let release = all.find(|statement| statement["Sid"] == "Release").unwrap();
    release["Action"] = json!(["sqs:GetQueueUrl"]);
    let stack = Stack::of(template).await;
    let information = ("purpose", "informational");
    stack.write(&json!([written(
        "a-order",
        "010-0000-0001",
        &[information]
    )]));
    stack.taken_in().await;
    let report = stack.drain();
    assert_eq!(report["released"], 0, "{report}");
    assert_eq!(report["retried"], 1, "{report}");
    assert_eq!(stack.count(TARGET).await, 0);
    assert_eq!(stack.count("nightgate-main-ready").await, 1);
}

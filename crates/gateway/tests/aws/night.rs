//! One night of the original's drawing: producers write to a queue as they always did, what may not
//! leave is held in SQS, and in the morning it is in the queue that the senders read. The built
//! binary, under clocks of its own; producers and senders are boto3.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use jiff::{Timestamp, ToSpan, Zoned};
use nightgate::aws::queues::Queue;
use nightgate::aws::travel;
use serde_json::{Value as Json, json};

use crate::clock::{Fake, monotonic, now, pause};
use crate::emulators::{Emulator, Kind, boto};
use crate::tables::make_table;
use crate::world::{make, queues};

/// Longest wait for anything. Generous: it bounds only tests that fail.
const PATIENCE: Duration = Duration::from_secs(60);

/// The last night that is over: SQS's clock is the machine's, and stands behind its morning.
struct Night {
    morning: Zoned,
}

impl Night {
    fn last() -> Self {
        let now = now().in_tz("Asia/Seoul").unwrap();
        let today = now.date().at(8, 7, 0, 0).in_tz("Asia/Seoul").unwrap();
        let morning = match today < now {
            true => today,
            false => today.yesterday().unwrap(),
        };
        Self { morning }
    }

    /// A clock at half past ten in the evening.
    fn evening(&self) -> Fake {
        let eve = self.morning.yesterday().unwrap().date();
        let eve = eve.at(22, 30, 0, 0).in_tz("Asia/Seoul").unwrap();
        Fake::showing(&eve.timestamp().to_string())
    }

    /// A clock at an hour and minute before noon.
    fn at(&self, hour: i8, minute: i8) -> Fake {
        let at = self.morning.date().at(hour, minute, 0, 0);
        Fake::showing(&at.in_tz("Asia/Seoul").unwrap().timestamp().to_string())
    }

    /// Long before, and not yet two years ago.
    fn consents(&self) -> String {
        let at = self.morning.checked_sub(100.days()).unwrap().timestamp();
        CONSENTS.replace("AT", &at.to_string())
    }
}

/// A team's queues, and a folder to run in.
struct World {
    emulator: Emulator,
    incoming: Queue,
    dead: Queue,
    target: Queue,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let emulator = Emulator::start(Kind::Ministack).await;
        let url = emulator.url.clone();
        for name in ["ready", "wait", "wait-1", "buried"] {
            let name = format!("nightgate-main-{name}");
            make(&url, &name, &[("MessageRetentionPeriod", "1209600")]).await;
        }
        make_table(&url).await;
        let incoming = make(&url, "orders", &[]).await;
        let dead = make(&url, "orders-dead", &[]).await;
        let target = make(&url, "sqs_schedule_message", &[]).await;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("nightgate.toml"), settings(&url)).unwrap();
        Self {
            emulator,
            incoming,
            dead,
            target,
            dir,
        }
    }

    /// The built binary at a time of the night.
    fn command(&self, clock: &Fake, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightgate"));
        command
            .env_clear()
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(self.dir.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        clock.dress(&mut command);
        command
    }

    #[track_caller]
    fn run(&self, clock: &Fake, arguments: &[&str]) -> Output {
        let output = self.command(clock, arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What is in `queue`, by its `nightgate-id` and in the order of those.
    fn read(&self, queue: &Queue, count: usize) -> Vec<Json> {
        let text = boto(
            &self.emulator.url,
            &["read", queue.url(), &count.to_string()],
            "",
        );
        let messages: Json = serde_json::from_str(&text).unwrap();
        let mut messages = messages.as_array().unwrap().clone();
        messages.sort_by_key(|one| one["attributes"]["who"]["StringValue"].to_string());
        messages
    }

    /// Waits until every message has been taken in.
    async fn taken_in(&self) {
        let queues = queues(&self.emulator.url);
        let began = monotonic();
        loop {
            let look = queues.look(&self.incoming).await.unwrap();
            if look.visible + look.in_flight == 0 {
                return;
            }
            assert!(monotonic() - began < PATIENCE, "{look:?} is still there");
            pause(Duration::from_millis(100)).await;
        }
    }

    async fn holds_nothing(&self) {
        for name in ["ready", "wait", "wait-1", "buried"] {
            let held = self.held(&format!("nightgate-main-{name}")).await;
            assert_eq!(held, 0, "{name}");
        }
    }

    async fn held(&self, name: &str) -> u64 {
        let queues = queues(&self.emulator.url);
        let queue = queues.find(name).await.unwrap().unwrap();
        queues.look(&queue).await.unwrap().visible
    }
}

fn settings(url: &str) -> String {
    format!(
        r#"
[aws]
region = "ap-northeast-2"
endpoint = "{url}"
[hold]
store = "sqs"
[hold.sqs]
openings = ["08:00[Asia/Seoul]"]
recalls = "dynamodb"
[consent]
store = "dynamodb"
[receipts]
store = "lines"
[lane.main]
sink = "sqs"
[lane.main.sqs]
queue = "sqs_schedule_message"
[source.orders]
queue = "orders"
dead_letter = "orders-dead"
hide = "10s"
[source.orders.map]
purpose = "@purpose | =advertising"
channel = "=sms"
recipient = "/to"
campaign = "@campaign"
[log]
format = "json"
"#
    )
}

/// What a producer writes.
fn written(who: &str, phone: &str, extra: &[(&str, &str)]) -> Json {
    let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
    let mut attributes = json!({ "who": text(who) });
    for (name, value) in extra {
        attributes[*name] = text(value);
    }
    let body = json!({ "to": phone, "text": format!("{who}님, 밤 특가 🌙 \"8시\"") });
    json!({ "body": body.to_string(), "attributes": attributes })
}

/// Consents: everybody agreed in general; `c` withdrew at night; `d` agreed to the night as well.
const CONSENTS: &str = r#"
{"recipient":"010-0000-0001","scope":"general","at":"AT"}
{"recipient":"010-0000-0002","scope":"general","at":"AT"}
{"recipient":"010-0000-0003","scope":"general","at":"AT"}
{"recipient":"010-0000-0004","scope":"general","at":"AT"}
{"recipient":"010-0000-0004","scope":"night","at":"AT"}
"#;

fn messages() -> Json {
    json!([
        written("a-order", "010-0000-0001", &[("purpose", "informational")]),
        written("b-sale", "010-0000-0002", &[("campaign", "autumn")]),
        written("c-withdraws", "010-0000-0003", &[("campaign", "autumn")]),
        written("d-night-owl", "010-0000-0004", &[("campaign", "autumn")]),
        written("e-recalled", "010-0000-0001", &[("campaign", "mistake")]),
        json!({ "body": "no JSON at all", "attributes": { "who": {
            "DataType": "String", "StringValue": "f-poison" } } }),
    ])
}

#[track_caller]
fn names(messages: &[Json]) -> Vec<&str> {
    let mut names = Vec::new();
    for one in messages {
        names.push(one["attributes"]["who"]["StringValue"].as_str().unwrap());
    }
    names
}

#[tokio::test]
async fn what_came_at_night_is_in_the_senders_queue_in_the_morning_as_it_was_written() {
    let world = World::new().await;
    let last = Night::last();
    let night = last.evening();
    std::fs::write(world.file("consents.ndjson"), last.consents()).unwrap();
    world.run(&night, &["consent", "import", "consents.ndjson"]);
    let written = messages();
    boto(
        &world.emulator.url,
        &["write", world.incoming.url()],
        &written.to_string(),
    );

    let mut serving = world.command(&night, &["serve", "--listen", "127.0.0.1:0"]);
    let mut serving = serving
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    world.taken_in().await;
    // Information and who agreed to the night leave at once.
    let left = world.read(&world.target, 2);
    assert_eq!(names(&left), ["a-order", "d-night-owl"]);
    serving.kill().unwrap();
    serving.wait().unwrap();
    let poison = world.read(&world.dead, 1);
    assert_eq!(poison[0]["body"], "no JSON at all");
    let reason = poison[0]["attributes"]["nightgate-reason"]["StringValue"].to_string();
    assert!(reason.contains("recipient"), "{reason}");
    assert_eq!(
        world.held("nightgate-main-wait-1").await,
        3,
        "held for eight o'clock"
    );

    let two = last.at(2, 0);
    world.run(
        &two,
        &["consent", "withdraw", "010-0000-0003", "--scope", "general"],
    );
    world.run(&two, &["hold", "recall", "--campaign", "mistake", "--yes"]);

    // Seven minutes late: what is due is due.
    let drained = world.run(&last.at(8, 7), &["drain", "--json"]);
    let told = String::from_utf8(drained.stdout).unwrap();
    let left = world.read(&world.target, 1);
    assert_eq!(names(&left), ["b-sale"], "{told}");
    let as_written = &written[1];
    assert_eq!(
        left[0]["body"], as_written["body"],
        "byte for byte, encoded once"
    );
    for (name, value) in as_written["attributes"].as_object().unwrap() {
        assert_eq!(&left[0]["attributes"][name], value);
    }
    let not_after = &left[0]["attributes"][travel::NOT_AFTER]["StringValue"];
    let not_after: Timestamp = not_after.as_str().unwrap().parse().unwrap();
    let left = not_after.duration_since(last.morning.timestamp());
    assert!(
        (1..14).contains(&left.as_hours()),
        "until the window closes: {left:?}"
    );
    world.holds_nothing().await;
    // A second run finds nothing and sends nothing.
    world.run(&last.at(8, 20), &["drain"]);
    assert_eq!(world.held("sqs_schedule_message").await, 0);
}

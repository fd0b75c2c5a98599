//! `nightgate drain` itself, the built binary, in place of the original's job.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use jiff::{SignedDuration, Timestamp};
use nightgate::clock::{Clock, SystemClock};
use nightgate::hold::sqs::{SqsHold, SqsHoldOptions};
use nightgate::hold::{Held, HoldStore, Lane, LeaseAsk, Pick};
use nightgate_core::{Class, Message};
use serde_json::{Value as Json, json};

use crate::emulators::{Emulator, Kind};
use crate::proxy::Proxy;
use crate::world::{make, queues};

/// Queues of a hold, a target, and a folder to run in.
struct Job {
    emulator: Emulator,
    hold: SqsHold,
    dir: tempfile::TempDir,
}

fn now() -> Timestamp {
    SystemClock::default().now()
}

fn held(number: usize, now: Timestamp) -> Held {
    let message: Message = serde_json::from_value(json!({
        "id": format!("m-{number}"), "recipient": "010-1234-5678", "channel": "sms",
        "purpose": "informational", "priority": 5, "content_type": "text/plain; charset=utf-8",
        "attributes": {}, "body": b"hello",
    }))
    .unwrap();
    Held {
        key: message.recipient.key("KR"),
        message,
        lane: Lane::new("main"),
        class: Class::from_name("informational/sms/KR/Asia/Seoul"),
        due: now,
        accepted_at: now,
    }
}

impl Job {
    /// `count` messages that are due now.
    async fn with(count: usize) -> Self {
        let emulator = Emulator::start(Kind::Fauxqs).await;
        for kind in ["ready", "wait", "buried"] {
            let name = format!("nightgate-main-{kind}");
            make(
                &emulator.url,
                &name,
                &[("MessageRetentionPeriod", "1209600")],
            )
            .await;
        }
        make(&emulator.url, "target", &[]).await;
        let options = SqsHoldOptions::new("nightgate", vec![Lane::new("main")]);
        let clock = std::sync::Arc::new(SystemClock::default());
        let hold = SqsHold::open(queues(&emulator.url), options, clock);
        let hold = hold.await.unwrap();
        let now = now();
        let all = (0..count).map(|number| held(number, now)).collect();
        hold.put(all, now).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self {
            emulator,
            hold,
            dir,
        }
    }

    /// Somebody lends so many for so long, and is never heard of again.
    async fn lend(&self, max: usize, ttl: SignedDuration) {
        let lane = Lane::new("main");
        let mut left = max;
        while left > 0 {
            let ask = LeaseAsk {
                lane: &lane,
                pick: Pick::Any,
                now: now(),
                max: left,
                ttl,
            };
            left -= self.hold.lease(&ask).await.unwrap().len();
        }
    }

    /// Runs the job against `url`; its exit code and what it said last.
    async fn drain(&self, url: &str) -> (Option<i32>, Json) {
        std::fs::write(self.dir.path().join("nightgate.toml"), settings(url)).unwrap();
        let command = command(self.dir.path());
        let output = tokio::task::spawn_blocking(move || run(command));
        let output = output.await.unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let total = told.lines().last().unwrap();
        (output.status.code(), serde_json::from_str(total).unwrap())
    }

    async fn left(&self) -> u64 {
        let queues = queues(&self.emulator.url);
        let target = queues.find("target").await.unwrap().unwrap();
        queues.look(&target).await.unwrap().visible
    }
}

fn run(mut command: Command) -> Output {
    command.output().unwrap()
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightgate"));
    command
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .current_dir(dir)
        .args(["drain", "--json"])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn settings(url: &str) -> String {
    format!(
        r#"
[aws]
region = "ap-northeast-2"
endpoint = "{url}"
[hold]
store = "sqs"
[release]
lease_ttl = "5s"
[lane.main]
sink = "sqs"
unknown_informational = "retry"
[lane.main.sqs]
queue = "target"
"#
    )
}

#[tokio::test]
async fn a_run_after_a_kill_waits_for_what_comes_back_and_is_no_success_while_some_does_not() {
    let job = Job::with(5).await;
    job.lend(3, SignedDuration::from_secs(4)).await;
    job.lend(2, SignedDuration::from_mins(10)).await;
    let (code, total) = job.drain(&job.emulator.url).await;
    assert_eq!(
        (&total["delivered"], &total["on_loan"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(code, Some(3), "{total}");
    assert_eq!(job.left().await, 3);
}

#[tokio::test]
async fn one_client_with_few_connections_serves_a_whole_run() {
    let job = Job::with(1000).await;
    let proxy = Proxy::start(&job.emulator.url).await;
    let (code, total) = job.drain(&proxy.url).await;
    assert_eq!(
        (code, &total["delivered"]),
        (Some(0), &json!(1000)),
        "{total}"
    );
    assert_eq!(job.left().await, 1000);
    let connections = proxy.connections();
    assert!(connections < 200, "{connections} connections");
    let requests = ["ReceiveMessage", "SendMessageBatch", "DeleteMessageBatch"];
    let [received, sent, deleted] = requests.map(|operation| proxy.count(operation).0);
    assert!(
        received <= 120 && sent == 100 && deleted <= 110,
        "{received} {sent} {deleted}"
    );
}

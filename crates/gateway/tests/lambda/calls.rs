use serde_json::{Value, json};

use super::runtime::{Answer, Function};

/// A function that holds in memory. `RATE`: messages a second.
const CONFIG: &str = r#"
    [data]
    dir = "DIR/data"
    [hold]
    store = "memory"
    [aws]
    region = "ap-northeast-2"
    [lane.main]
    sink = "log"
    rate = RATE
    burst = 1
    slow_start = "0s"
    [lane.main.log]
    path = "DIR/sent"
    [source.orders]
    queue = "https://sqs.ap-northeast-2.amazonaws.com/123456789012/orders"
    map = { recipient = "/to", channel = "=sms", purpose = "=informational" }
    [lambda]
    release_on_receive = PROMPT
"#;

async fn function(rate: u32, prompt: bool) -> Function {
    let config = CONFIG.replace("RATE", &rate.to_string());
    Function::start(&config.replace("PROMPT", &prompt.to_string())).await
}

fn record(id: &str, body: &str) -> Value {
    json!({"messageId": id, "receiptHandle": "h", "body": body, "md5OfBody": "0",
        "eventSource": "aws:sqs", "awsRegion": "ap-northeast-2",
        "eventSourceARN": "arn:aws:sqs:ap-northeast-2:123456789012:orders",
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1520621625029",
            "SenderId": "x", "ApproximateFirstReceiveTimestamp": "1520621634884"},
        "messageAttributes": {}})
}

fn records(count: u32) -> Value {
    let body = r#"{"to":"010-1234-5678","text":"hello"}"#;
    let all: Vec<Value> = (0..count)
        .map(|n| record(&format!("m-{n}"), body))
        .collect();
    json!({"Records": all})
}

fn scheduled() -> Value {
    json!({"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}})
}

#[tokio::test]
async fn an_event_of_a_queue_names_what_was_not_taken_in_and_the_rest_leaves() {
    let mut function = function(0, true).await;
    let mut event = records(3);
    let all = event["Records"].as_array_mut().unwrap();
    all.insert(1, record("poison", "{\"to\": 5, \"secret\": \"sesame\"}"));
    let answer = function.ask(event, 60).await;
    assert_eq!(
        answer,
        json!({"batchItemFailures": [{"itemIdentifier": "poison"}]})
    );
    assert_eq!(function.sent(), ["m-0", "m-1", "m-2"]);
    let log = function.log();
    assert!(log.contains("source_unreadable"), "{log}");
    for shown in ["sesame", "010-1234"] {
        assert!(!log.contains(shown), "{log}");
    }
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).expect("every log line is JSON");
        assert!(line["level"].is_string());
    }
}

#[tokio::test]
async fn one_instance_answers_call_after_call_and_a_schedule_releases_what_is_due() {
    let mut function = function(0, false).await;
    let nothing = function.ask(json!({}), 60).await;
    assert_eq!(
        (&nothing["released"], &nothing["wake"]),
        (&json!(0), &json!(null))
    );
    let taken = function.ask(records(20), 60).await;
    assert_eq!(taken, json!({"batchItemFailures": []}));
    assert!(function.sent().is_empty());
    let again = function.ask(records(20), 60).await;
    assert_eq!(
        again,
        json!({"batchItemFailures": []}),
        "what comes twice is known"
    );
    let report = function.ask(scheduled(), 60).await;
    assert_eq!(
        (&report["released"], &report["remaining"]),
        (&json!(20), &json!(0))
    );
    assert_eq!(function.sent().len(), 20);
}

#[tokio::test]
async fn a_deadline_in_the_past_is_unknown() {
    let mut function = function(0, false).await;
    function.ask(records(5), -3600).await;
    let report = function.ask(scheduled(), -3600).await;
    assert_eq!(report["released"], 5);
}

#[tokio::test]
async fn a_call_ends_before_its_deadline_and_tells_what_remains() {
    let mut function = function(1, false).await;
    function.ask(records(100), 60).await;
    let report = function.ask(scheduled(), 5).await;
    let released = report["released"].as_u64().unwrap();
    let remaining = report["remaining"].as_u64().unwrap();
    assert!(released >= 1 && remaining > 0, "{report}");
    assert_eq!(released + remaining, 100);
    assert_eq!(function.sent().len() as u64, released);
}

#[tokio::test]
async fn a_call_that_fails_is_answered_as_an_error_and_the_next_one_goes_on() {
    let mut function = function(0, false).await;
    let mut event = records(1);
    event["Records"][0]["eventSourceARN"] = json!("arn:aws:sqs:ap-northeast-2:123456789012:x");
    let Answer::Error(error) = function.call(event, 60).await else {
        panic!("no source has that queue");
    };
    assert_eq!(error["errorType"], "Nightgate.Source");
    let message = error["errorMessage"].as_str().unwrap();
    assert!(
        message.contains("no [source.NAME] of the configuration names it"),
        "{message}"
    );
    assert_eq!(function.ask(scheduled(), 60).await["released"], 0);
}

#[tokio::test]
async fn an_instance_that_cannot_start_says_why() {
    let config = CONFIG.replace("RATE", "0").replace("PROMPT", "true");
    let config = config.replace("channel = \"=sms\", ", "");
    let mut function = Function::start(&config).await;
    let (_, answer) = function.answer().await;
    let Answer::Init(error) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(error["errorType"], "Nightgate.Init");
    let message = error["errorMessage"].as_str().unwrap();
    assert!(
        message.contains("`source.orders.map.channel` must be mapped"),
        "{message}"
    );
    assert!(!function.child.wait().unwrap().success());
}

#[test]
fn a_command_is_a_command_in_the_environment_of_a_function_too() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nightgate"));
    let command = command
        .env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
        .arg("--version");
    let output = command.output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"nightgate "));
}

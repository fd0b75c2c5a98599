//! Messages by the stream.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::Running;
use super::world::{RECIPIENT, World, limits, message, world};

const NDJSON: &str = "application/x-ndjson";
const BULK: &str = "/v1/messages/bulk";

async fn bulk(world: &World, query: &str, body: impl Into<Body>) -> Vec<Value> {
    let got = world.post_as(&format!("{BULK}{query}"), NDJSON, body).await;
    assert_eq!(got.status, 200, "{got:?}");
    got.lines()
}

fn line(id: &str, purpose: &str) -> String {
    format!("{}\n", message(id, purpose))
}

#[tokio::test]
async fn every_line_is_answered_in_order_and_a_bad_one_costs_only_itself() {
    let world = world();
    world.consent_by_day(RECIPIENT).await;
    let mut body = Vec::new();
    body.extend(line("m-1", "informational").bytes());
    body.extend(b"\n  \r\n{\"id\":\"m-2\",\n");
    body.extend(line("m-3", "advertising").bytes());
    body.extend(b"\xff\xfe\n");
    body.extend(format!("{{\"id\":\"{}\"}}\n", "x".repeat(5_000)).bytes());
    body.extend(line("m-1", "informational").bytes());
    body.extend(line("m-4", "informational").trim_end().bytes());
    let lines = bulk(&world, "", body.clone()).await;
    let told: Vec<_> = lines
        .iter()
        .take(7)
        .map(|line| {
            (
                line["line"].as_u64().unwrap(),
                line["status"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, "accepted"),
            (4, "invalid"),
            (5, "held"),
            (6, "invalid"),
            (7, "invalid"),
            (8, "duplicate"),
            (9, "accepted"),
        ]
    );
    assert!(lines[2].get("explanation").is_none(), "lean");
    assert_eq!(lines[2]["reason"], "quiet_hours");
    assert_eq!(
        lines[4]["faults"][0]["rule"],
        "is longer than a line may be"
    );
    assert_eq!(lines.len(), 8);
    assert_eq!(
        lines[7],
        json!({"summary": {"lines": 7, "accepted": 2, "held": 1, "refused": 0,
        "duplicate": 1, "invalid": 3, "failed": 0, "complete": true}})
    );
    let problems = bulk(&world, "?answers=problems", body.clone()).await;
    let told: Vec<_> = problems
        .iter()
        .filter_map(|line| line["line"].as_u64())
        .collect();
    assert_eq!(told, [4, 6, 7]);
    assert_eq!(bulk(&world, "?answers=none", body).await.len(), 1);
    assert_eq!(bulk(&world, "", "").await[0]["summary"]["lines"], 0);
}

#[tokio::test]
async fn what_is_no_stream_of_lines_is_a_problem() {
    let world = world();
    let got = world.post_as(BULK, "application/json", "{}").await;
    assert_eq!(got.problem(), "415 wrong-type");
    let got = world
        .post_as(&format!("{BULK}?answers=some"), NDJSON, "")
        .await;
    assert_eq!(got.problem(), "400 bad-query");
}

#[tokio::test]
async fn a_store_that_fails_marks_its_lines_to_be_sent_again() {
    let world = world();
    world.hold.fails.store(true, Ordering::Relaxed);
    let body = line("m-1", "informational") + "{}\n" + &line("m-2", "informational");
    let lines = bulk(&world, "", body.clone()).await;
    assert_eq!(
        lines[0],
        json!({"line": 1, "id": "m-1", "status": "failed", "retry": true})
    );
    assert_eq!(lines[1]["status"], "invalid");
    assert_eq!(lines[3]["summary"]["failed"], 2);
    world.hold.fails.store(false, Ordering::Relaxed);
    assert_eq!(bulk(&world, "", body).await[3]["summary"]["accepted"], 2);
}

#[tokio::test]
async fn a_store_that_recovers_takes_the_following_lines() {
    let world = world();
    world.hold.fails.store(true, Ordering::Relaxed);
    let hold = std::sync::Arc::clone(&world.hold);
    // The second piece comes once the first has been answered.
    let (sender, receiver) = tokio::sync::mpsc::channel::<String>(1);
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((Ok::<_, std::io::Error>(piece), receiver))
    });
    sender.send(line("m-1", "informational")).await.unwrap();
    let request = super::world::request("POST", BULK).header("content-type", NDJSON);
    let request = request.body(Body::from_stream(pieces)).unwrap();
    let response = tower::ServiceExt::oneshot(world.app.clone(), request)
        .await
        .unwrap();
    let mut answers = response.into_body().into_data_stream();
    let first = answers.next().await.unwrap().unwrap();
    assert!(first.ends_with(b"\"retry\":true}\n"), "{first:?}");
    hold.fails.store(false, Ordering::Relaxed);
    sender.send(line("m-2", "informational")).await.unwrap();
    drop(sender);
    let rest: Vec<_> = answers.map(|piece| piece.unwrap().to_vec()).collect().await;
    let rest = String::from_utf8(rest.concat()).unwrap();
    assert!(rest.contains(r#""id":"m-2","status":"accepted""#), "{rest}");
}

/// The first batch is cut at 1,000 lines. Were the second put only once the first has its receipts,
/// this log would wait for ever.
#[tokio::test]
async fn the_next_batch_is_put_while_the_receipts_of_this_one_are_filed() {
    let world = world();
    world.log.puts.store(2, Ordering::Relaxed);
    let body: String = (0..1_500)
        .map(|number| line(&format!("m-{number}"), "informational"))
        .collect();
    let lines = bulk(&world, "", body);
    let lines = tokio::time::timeout(Duration::from_secs(60), lines).await;
    let lines = lines.expect("the second batch was put");
    let numbers = lines.iter().filter_map(|line| line["line"].as_u64());
    assert!(numbers.eq(1..=1_500), "in order");
    assert_eq!(lines[1_500]["summary"]["accepted"], 1_500);
    let receipts = world.get("/v1/receipts").await.lines();
    let filed = receipts.iter().map(|receipt| receipt["message"].clone());
    assert!(filed.eq((0..1_500).map(|number| json!(format!("m-{number}")))));
}

#[tokio::test]
async fn what_was_put_gets_its_receipts_although_the_client_has_gone() {
    let world = world();
    let body: String = (0..3_000)
        .map(|number| line(&format!("m-{number}"), "informational"))
        .collect();
    let request = super::world::request("POST", BULK).header("content-type", NDJSON);
    let request = request.body(Body::from(body)).unwrap();
    let response = tower::ServiceExt::oneshot(world.app.clone(), request);
    drop(response.await.unwrap());
    let all_filed = async {
        loop {
            let held = world.get("/v1/hold").await.json()["total"]["held"].as_u64();
            let filed = world.get("/v1/receipts").await.lines().len();
            if held > Some(0) && held == u64::try_from(filed).ok() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let all_filed = tokio::time::timeout(Duration::from_secs(60), all_filed).await;
    all_filed.expect("each message put has its receipt");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_called_complete() {
    let world = world();
    let pieces = [
        Ok(line("m-1", "informational") + "{\"id\":\"half"),
        Err(std::io::Error::other("cut")),
    ];
    let lines = bulk(
        &world,
        "",
        Body::from_stream(futures_util::stream::iter(pieces)),
    )
    .await;
    assert_eq!(lines[0]["status"], "accepted");
    let summary = &lines[1]["summary"];
    assert_eq!(
        (&summary["lines"], &summary["complete"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(summary["why"], "the body broke off");
}

/// Python's `requests` and `curl --data-binary` do that: were answers not spooled, both sides would
/// wait for each other for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_before_it_has_sent_everything_gets_every_answer() {
    const LINES: u64 = 200_000;
    let running = Running::start(limits()).await;
    let mut body = String::new();
    for number in 1..=LINES {
        match number % 5_000 {
            0 => body += &line(&format!("m-{number}"), "informational"),
            _ => body += "{\"id\":\"x\",\"recipient\":\"y\"}\n",
        }
    }
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    // HTTP/1.0: the answer is not in chunks, and ends with the connection.
    let length = body.len();
    let head = format!(
        "POST {BULK} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {NDJSON}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, lines) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    let mut last = 0;
    let mut summary = Value::Null;
    for line in lines.lines() {
        match line.strip_prefix("{\"line\":") {
            Some(rest) => {
                let number = rest.split(',').next().unwrap().parse().unwrap();
                assert_eq!(last + 1, number);
                last = number;
            }
            None => summary = serde_json::from_str(line).unwrap(),
        }
    }
    assert_eq!(last, LINES);
    assert_eq!(summary["summary"]["accepted"], LINES / 5_000);
    assert_eq!(summary["summary"]["complete"], true);
    running.stop().await;
}

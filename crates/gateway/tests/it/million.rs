//! Memory does not grow with the number of lines in a bulk stream.

use std::fs;

use serde_json::{Value, json};

use crate::gateway::{Gateway, Home};

const FIRST: usize = 40_000;
const THEN: usize = 100_000;
const BODY_BYTES: usize = 2_000;
/// Peak resident memory of a debug build, in KiB, whatever the number of lines: SQLite's caches (64
/// MiB for the hold, 32 MiB for receipts), batches on their way, the program.
const PEAK_MAX_KIB: u64 = 192 * 1024;
/// How much more the second stream may cost: caches that were not full yet. A third of its bodies.
const GROWTH_MAX_KIB: u64 = 40 * 1024;

/// Held until much later, so that all of it stays.
fn lines(from: usize, to: usize) -> String {
    let body = "b".repeat(BODY_BYTES);
    let line = |n: usize| {
        json!({"id": format!("bulk-{n}"), "recipient": format!("+8210{:08}", n),
            "channel": "sms", "purpose": "informational", "send_at": "2040-01-01T08:00:00+09:00",
            "body": body})
        .to_string()
    };
    (from..to).map(|n| line(n) + "\n").collect()
}

fn peak_kib(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    peak.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn post(gateway: &Gateway, from: usize, to: usize) {
    let path = "/v1/messages/bulk?answers=problems";
    let answers = gateway.stream(path, lines(from, to)).await.lines();
    let summary: &Value = &answers.last().unwrap()["summary"];
    assert_eq!(summary["held"], to - from, "{summary}");
    assert_eq!(summary["complete"], true, "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_flat_however_many_lines_come() {
    let home = Home::new("");
    let gateway = home.serve().await;
    post(&gateway, 0, FIRST).await;
    let first = peak_kib(&gateway);
    post(&gateway, FIRST, THEN).await;
    let then = peak_kib(&gateway);
    println!("peak after {FIRST} lines {first} KiB, after {THEN} {then} KiB");
    assert!(then < PEAK_MAX_KIB, "peak {then} KiB");
    assert!(then - first < GROWTH_MAX_KIB, "from {first} to {then} KiB");
    assert_eq!(gateway.get("/v1/hold").await.json()["total"]["held"], THEN);
}

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::*;
use crate::clock::ManualClock;
use crate::sink::testing::{RECIPIENT, batch, decided, message};

const NOW: &str = "2026-11-22T23:30:00+09:00";
const LATER: &str = "2026-11-23T00:30:00+09:00";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(at(NOW)))
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn delivered(outcome: &Outcome) -> bool {
    *outcome == Outcome::Delivered { reference: None }
}

#[tokio::test]
async fn what_leaves_is_one_line_each_byte_for_byte_and_appended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.ndjson");
    let korean = "(광고) \"반값\"\n무료수신거부\u{0000}080".as_bytes();
    let binary = [0xff, 0x00, 0xfe, b'\n'];
    for (id, body) in [("m-1", korean), ("m-2", &binary[..])] {
        let sink = LogSink::file(&path, clock()).unwrap();
        let outcomes = sink
            .deliver(vec![decided(message(id, body), at(NOW), at(LATER))])
            .await;
        assert!(outcomes.iter().all(delivered), "{outcomes:?}");
    }
    let lines = lines(&path);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["at"], "2026-11-22T14:30:00Z");
    assert_eq!(lines[0]["id"], "m-1");
    assert_eq!(lines[0]["recipient"], RECIPIENT);
    assert_eq!(lines[0]["channel"], "sms");
    assert_eq!(lines[0]["purpose"], "informational");
    assert_eq!(lines[0]["campaign"], "autumn");
    assert_eq!(lines[0]["attempt"], 1);
    assert!(
        lines[0]["not_after"]
            .as_str()
            .unwrap()
            .parse::<Timestamp>()
            .is_ok()
    );
    assert_eq!(lines[0]["content_type"], "text/plain; charset=utf-8");
    assert_eq!(lines[0]["attributes"]["template"], "T-7");
    assert_eq!(lines[0]["body"].as_str().unwrap().as_bytes(), korean);
    assert_eq!(lines[0].get("body_base64"), None);
    let encoded = lines[1]["body_base64"].as_str().unwrap();
    assert_eq!(STANDARD.decode(encoded).unwrap(), binary);
    assert_eq!(lines[1].get("body"), None);
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_this_sink_makes_can_be_read_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.ndjson");
    LogSink::file(&path, clock()).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn a_message_whose_permit_or_loan_ended_is_too_late_and_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.ndjson");
    let clock = clock();
    let sink = LogSink::file(&path, Arc::<ManualClock>::clone(&clock)).unwrap();
    let mut both = batch("soon", 1, at(NOW), at("2026-11-22T23:40:00+09:00"));
    both.extend(batch("late", 1, at(NOW), at(LATER)));
    clock.advance(Duration::from_secs(600));
    let outcomes = sink.deliver(both).await;
    assert_eq!(outcomes[0], Outcome::TooLate);
    assert!(delivered(&outcomes[1]));
    assert_eq!(lines(&path).len(), 1);
}

#[tokio::test]
async fn a_line_that_a_crash_cut_costs_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.ndjson");
    std::fs::write(&path, "{\"at\":\"2026-").unwrap();
    let sink = LogSink::file(&path, clock()).unwrap();
    sink.deliver(batch("m", 2, at(NOW), at(LATER))).await;
    assert_eq!(lines(&path).len(), 2);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
}

#[test]
fn a_file_that_cannot_be_opened_is_told_at_once() {
    let fault = LogSink::file(Path::new("/nonexistent/out.ndjson"), clock())
        .err()
        .unwrap();
    assert_eq!(fault.kind, Kind::Invalid);
    assert!(fault.to_string().contains("/nonexistent/out.ndjson"));
}

/// A disk with room for so many bytes, which can also refuse to flush.
#[derive(Default)]
struct Disk {
    room: usize,
    deaf: bool,
    written: Arc<Mutex<Vec<u8>>>,
    synced: Arc<AtomicBool>,
}

impl Medium for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(self.room).min(7);
        self.room -= taken;
        self.written
            .lock()
            .unwrap()
            .extend_from_slice(&bytes[..taken]);
        self.synced.store(false, Ordering::SeqCst);
        Ok(taken)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.deaf {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.synced.store(true, Ordering::SeqCst);
        Ok(())
    }
}

fn on(disk: Disk) -> LogSink {
    LogSink::new(
        Target {
            medium: Box::new(disk),
            torn: false,
        },
        clock(),
    )
}

#[tokio::test]
async fn a_batch_is_on_disk_before_it_is_delivered() {
    let disk = Disk {
        room: usize::MAX,
        ..Disk::default()
    };
    let synced = Arc::clone(&disk.synced);
    let outcomes = on(disk).deliver(batch("m", 3, at(NOW), at(LATER))).await;
    assert!(outcomes.iter().all(delivered), "{outcomes:?}");
    assert!(synced.load(Ordering::SeqCst));
}

#[tokio::test]
async fn when_a_write_fails_what_lay_before_is_unknown_and_what_lay_behind_is_retried() {
    let probe = Disk {
        room: usize::MAX,
        ..Disk::default()
    };
    let written = Arc::clone(&probe.written);
    on(probe).deliver(batch("m", 1, at(NOW), at(LATER))).await;
    let line = written.lock().unwrap().len();

    let cuts = [
        (0, "rrr"),
        (line - 1, "urr"),
        (line, "urr"),
        (line + 1, "uur"),
        (3 * line, "ddd"),
    ];
    for (room, wanted) in cuts {
        let disk = Disk {
            room,
            ..Disk::default()
        };
        let outcomes = on(disk).deliver(batch("m", 3, at(NOW), at(LATER))).await;
        let seen: String = outcomes.iter().map(letter).collect();
        assert_eq!(seen, wanted, "room for {room} bytes, a line has {line}");
    }
}

#[tokio::test]
async fn when_the_flush_fails_every_line_of_the_batch_is_unknown() {
    let disk = Disk {
        room: usize::MAX,
        deaf: true,
        ..Disk::default()
    };
    let outcomes = on(disk).deliver(batch("m", 2, at(NOW), at(LATER))).await;
    assert_eq!(outcomes.iter().map(letter).collect::<String>(), "uu");
    let text = format!("{outcomes:?}");
    assert!(
        !text.contains(RECIPIENT) && !text.contains("안녕"),
        "{text}"
    );
}

fn letter(outcome: &Outcome) -> char {
    match outcome {
        Outcome::Delivered { .. } => 'd',
        Outcome::Retry { .. } => 'r',
        Outcome::Unknown { .. } => 'u',
        Outcome::Rejected { .. } => 'x',
        Outcome::TooLate => 't',
    }
}

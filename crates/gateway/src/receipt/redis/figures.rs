//! What a receipt costs: measured on a night as it is, told by
//! `cargo test --features redis --lib receipt::redis::figures -- --nocapture`.

use super::*;
use crate::receipt::Event;
use crate::receipt::tests::{at, receipt};
use crate::redis::RedisOptions;
use crate::redis::server::Server;
use crate::secret::Secret;

/// Receipts filed: three of each message.
const RECEIPTS: usize = 60_000;
/// No more bytes of the server's memory for each of them.
const MOST: f64 = 64.0;
/// No more bytes of its append-only file.
const MOST_LOGGED: f64 = 160.0;

fn figure(text: &str, name: &str) -> f64 {
    let (_, rest) = text.split_once(name).unwrap();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
    rest[..end].parse().unwrap()
}

/// One message's receipt: ids as of a UUID, numbers as of phones.
fn one(n: usize, event: Event) -> Receipt {
    let noise = blake3::hash(&n.to_le_bytes());
    let mut one = receipt(
        &noise.to_hex()[..32],
        event,
        1_800_000_000 + (n / 500) as i64,
    );
    let phone = u32::from_le_bytes(noise.as_bytes()[..4].try_into().unwrap()) % 100_000_000;
    one.subject.recipient = Some(nightgate_core::RecipientKey::from_stored(&format!(
        "+8210{phone:08}"
    )));
    if event == Event::Attempted {
        one.until = Some(at(1_800_030_000));
    }
    one
}

#[tokio::test]
async fn a_receipt_costs_few_bytes_of_the_servers_memory() {
    let server = Server::start(&["--appendfsync", "no"]);
    let options = RedisOptions::single(Secret::new(server.url()));
    let redis = Redis::open(&options).await.unwrap();
    let log = RedisLog::open(redis, None).await.unwrap();
    log.append(vec![receipt("first", Event::Held, 0)])
        .await
        .unwrap();
    let memory = || figure(&server.ask(&["INFO", "memory"]), "used_memory:");
    let (before, cpu) = (memory(), server.cpu_seconds());
    let messages = RECEIPTS / 3;
    for event in [Event::Held, Event::Attempted, Event::Delivered] {
        for first in (0..messages).step_by(500) {
            let some = (first..(first + 500).min(messages)).map(|n| one(n, event));
            log.append(some.collect()).await.unwrap();
        }
    }
    let bytes = (memory() - before) / RECEIPTS as f64;
    let micros = (server.cpu_seconds() - cpu) * 1e6 / RECEIPTS as f64;
    let log_bytes = figure(&server.ask(&["INFO", "persistence"]), "aof_current_size:");
    let logged = log_bytes / RECEIPTS as f64;
    println!(
        "{bytes:.1} bytes a receipt, {logged:.1} of the append-only file, {micros:.2} us of the \
         server"
    );
    assert!(
        logged < MOST_LOGGED,
        "{logged:.1} bytes of the append-only file"
    );
    assert!(bytes < MOST, "{bytes:.1} bytes a receipt");
    assert_eq!(
        log.known(&[one(7, Event::Held).subject.message.unwrap()])
            .await
            .unwrap(),
        [true]
    );
}

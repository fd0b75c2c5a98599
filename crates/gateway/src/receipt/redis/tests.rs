//! The log on real servers; the port's own promises on it are in `receipt/tests.rs`.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::receipt::memory::MemoryLog;
use crate::receipt::tests::any::any_receipt;
use crate::receipt::tests::{at, id, receipt};
use crate::receipt::{Event, Subject};
use crate::redis::server::{Cluster, Server};
use crate::redis::{Mode, RedisOptions};
use crate::secret::Secret;

fn quick() -> Server {
    Server::start(&["--appendonly", "no"])
}

async fn open(server: &Server, keep: Option<Duration>) -> RedisLog {
    let options = RedisOptions::single(Secret::new(server.url()));
    let redis = Redis::open(&options).await.unwrap();
    RedisLog::open(redis, keep).await.unwrap()
}

fn cards(server: &Server) -> usize {
    let count = server.ask(&["ZCARD", "{ng:r}:receipts:cards"]);
    count.trim_start_matches(':').trim().parse().unwrap()
}

async fn all(log: &RedisLog) -> Vec<Filed> {
    log.query(&ReceiptAsk::default()).await.unwrap()
}

#[tokio::test]
async fn receipts_survive_a_kill_and_places_go_on() {
    let mut server = Server::start(&[]);
    let log = open(&server, None).await;
    log.append(vec![receipt("a", Event::Attempted, 1)])
        .await
        .unwrap();
    server.kill();
    let lost = log
        .append(vec![receipt("b", Event::Held, 1)])
        .await
        .unwrap_err();
    assert_eq!(lost.kind, Kind::Unavailable);
    assert!(!format!("{lost:?}").contains("12345678"));
    assert_eq!(
        log.query(&ReceiptAsk::default()).await.unwrap_err().kind,
        Kind::Unavailable
    );
    server.restart();
    let log = open(&server, None).await;
    assert_eq!(log.known(&[id("a"), id("b")]).await.unwrap(), [true, false]);
    log.append(vec![receipt("a", Event::Delivered, 2)])
        .await
        .unwrap();
    let filed = all(&log).await;
    assert_eq!(filed[0].receipt, receipt("a", Event::Attempted, 1));
    assert_eq!(
        (filed[1].seq, &filed[1].receipt),
        (2, &receipt("a", Event::Delivered, 2))
    );
}

#[tokio::test]
async fn several_writers_file_into_one_order_without_gaps() {
    let server = quick();
    let logs = [
        Arc::new(open(&server, None).await),
        Arc::new(open(&server, None).await),
    ];
    let mut tasks = Vec::new();
    for task in 0..20_i64 {
        let log = Arc::clone(&logs[usize::from(task % 2 == 0)]);
        // Small appends, which are joined meanwhile, and ones of more than a block.
        let many = if task % 5 == 0 { 1_200 } else { 97 };
        let make = move |n| receipt(&format!("{task}-{n}"), Event::Accepted, task * 2_000 + n);
        tasks.push(tokio::spawn(async move {
            log.append((0..many).map(make).collect()).await
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let filed = all(&logs[0]).await;
    let sum = 4 * 1_200 + 16 * 97;
    assert!(filed.iter().map(|filed| filed.seq).eq(1..=sum));
    let second = |filed: &Filed| filed.receipt.at.as_second();
    for append in filed.chunk_by(|one, next| second(one) / 2_000 == second(next) / 2_000) {
        assert!(append.is_sorted_by_key(second), "an append stays together");
        assert!([97, 1_200].contains(&append.len()), "{}", append.len());
    }
    let ids: Vec<MessageId> = (0..97).map(|n| id(&format!("13-{n}"))).collect();
    assert!(
        logs[1]
            .known(&ids)
            .await
            .unwrap()
            .iter()
            .all(|known| *known)
    );
}

#[tokio::test]
async fn small_blocks_are_joined_and_every_receipt_is_still_found() {
    let server = quick();
    let log = open(&server, None).await;
    for n in 0..300 {
        log.append(vec![receipt(&format!("m{n}"), Event::Held, n)])
            .await
            .unwrap();
    }
    assert!(cards(&server) < 300 / 2, "{} blocks", cards(&server));
    assert!(all(&log).await.iter().map(|filed| filed.seq).eq(1..=300));
    for n in [0, 63, 64, 127, 128, 299] {
        let ask = ReceiptAsk {
            message: Some(id(&format!("m{n}"))),
            ..ReceiptAsk::default()
        };
        let found = log.query(&ask).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].receipt, receipt(&format!("m{n}"), Event::Held, n));
    }
}

#[tokio::test]
async fn what_is_older_than_it_is_kept_goes_block_by_block() {
    let server = quick();
    let now = Timestamp::now_by(&server);
    let log = open(&server, Some(Duration::from_secs(3_600))).await;
    let old = |n| receipt(&format!("old{n}"), Event::Held, now - 4_000);
    let new = |n: usize| receipt(&format!("new{n}"), Event::Held, now - 10);
    log.append((0..1_500).map(old).collect()).await.unwrap();
    assert_eq!(all(&log).await.len(), 0, "they were old when they came");
    log.append((0..600).map(new).collect()).await.unwrap();
    let filed = all(&log).await;
    assert!(
        filed.iter().map(|filed| filed.seq).eq(1_501..=2_100),
        "places are not used again"
    );
    let known = log.known(&[id("old7"), id("new7")]).await.unwrap();
    assert_eq!(known, [false, true]);
    // Nobody drops anything for a log that keeps.
    let keeps = open(&server, None).await;
    keeps.append((0..600).map(old).collect()).await.unwrap();
    assert_eq!(all(&keeps).await.len(), 1_200);
}

#[tokio::test]
async fn the_index_of_a_segment_goes_with_its_receipts() {
    let server = quick();
    let now = Timestamp::now_by(&server);
    let keeps = open(&server, None).await;
    // Places of two segments, without receipts in between.
    let head = "{ng:r}:receipts";
    keeps
        .append(vec![receipt("old", Event::Held, now - 4_000)])
        .await
        .unwrap();
    server.ask(&["HSET", head, "next", "131100"]);
    keeps
        .append(vec![receipt("b", Event::Held, now)])
        .await
        .unwrap();
    let folded = |segment| server.ask(&["EXISTS", &format!("{head}:index:{segment}")]);
    let texts = |segment| {
        let keys = server.ask(&["KEYS", &format!("{head}:index:{segment}:*")]);
        !keys.starts_with("*0")
    };
    assert_eq!(
        (folded(0).trim(), texts(0)),
        (":1", false),
        "full, and folded"
    );
    assert_eq!((folded(1).trim(), texts(1)), (":0", true), "being filled");
    let known = keeps.known(&[id("old"), id("b")]).await.unwrap();
    assert_eq!(known, [true, true], "found across segments");
    let drops = open(&server, Some(Duration::from_secs(60))).await;
    drops
        .append(vec![receipt("c", Event::Held, now)])
        .await
        .unwrap();
    assert_eq!(
        folded(0).trim(),
        ":1",
        "a block that began there may reach over the border"
    );
    server.ask(&["HSET", head, "next", "140000"]);
    server.ask(&[
        "ZREM",
        &format!("{head}:cards"),
        &format!("131100 1 {now} {now}"),
    ]);
    server.ask(&[
        "ZREM",
        &format!("{head}:cards"),
        &format!("131101 1 {now} {now}"),
    ]);
    drops
        .append(vec![receipt("d", Event::Held, now)])
        .await
        .unwrap();
    assert_eq!((folded(0).trim(), texts(1)), (":0", true));
    assert_eq!(
        drops.known(&[id("d"), id("old")]).await.unwrap(),
        [true, false]
    );
}

#[tokio::test]
async fn a_damaged_block_costs_its_own_receipts_and_says_which() {
    let server = quick();
    let log = open(&server, None).await;
    let make = |n| receipt(&format!("m{n}"), Event::Held, n);
    log.append((0..1_100).map(make).collect()).await.unwrap();
    server.ask(&["HSET", "{ng:r}:receipts:blocks", "513", "gone"]);
    let error = log.query(&ReceiptAsk::default()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Corrupt);
    assert!(error.op.contains("receipts 513 to 1024"), "{error}");
    let beyond = ReceiptAsk {
        after: Some(1_024),
        ..ReceiptAsk::default()
    };
    assert_eq!(log.query(&beyond).await.unwrap().len(), 76);
}

#[tokio::test]
async fn a_log_of_a_later_version_is_refused() {
    let server = quick();
    server.ask(&["HSET", "{ng:r}:receipts", "form", "3"]);
    let options = RedisOptions::single(Secret::new(server.url()));
    let redis = Redis::open(&options).await.unwrap();
    let error = RedisLog::open(redis, None).await.err().unwrap();
    assert_eq!(error.kind, Kind::Invalid);
}

#[tokio::test]
async fn a_cluster_keeps_the_log_on_one_slot() {
    let cluster = Cluster::start();
    let mut options = RedisOptions::single(Secret::new(cluster.url()));
    options.mode = Mode::Cluster;
    let log = RedisLog::open(Redis::open(&options).await.unwrap(), None)
        .await
        .unwrap();
    let make = |n| receipt(&format!("m{n}"), Event::Held, n);
    log.append((0..700).map(make).collect()).await.unwrap();
    assert_eq!(all(&log).await.len(), 700);
    assert_eq!(
        log.known(&[id("m699"), id("m700")]).await.unwrap(),
        [true, false]
    );
}

/// Seconds since 1970 by the server's clock.
trait NowBy {
    fn now_by(server: &Server) -> i64;
}

impl NowBy for Timestamp {
    fn now_by(server: &Server) -> i64 {
        let told = server.ask(&["EVAL", "return redis.call('TIME')[1] + 0", "0"]);
        told.trim_start_matches(':').trim().parse().unwrap()
    }
}

/// Receipts that share few messages, recipients and campaigns.
fn any_few() -> impl Strategy<Value = Receipt> {
    let few = |names: &'static [&'static str]| prop::option::of(prop::sample::select(names));
    (
        few(&["a", "b", "c"]),
        few(&["x", "y"]),
        few(&["p", "q"]),
        0..50_i64,
    )
        .prop_map(|(message, recipient, campaign, second)| Receipt {
            subject: Subject {
                message: message.map(id),
                recipient: recipient.map(nightgate_core::RecipientKey::from_stored),
                campaign: campaign.map(Into::into),
                ..Subject::default()
            },
            ..receipt("x", Event::Held, second)
        })
}

fn any_ask() -> impl Strategy<Value = ReceiptAsk> {
    let second = || prop::option::of((0..60_i64).prop_map(at));
    (
        any_few(),
        second(),
        second(),
        prop::option::of(0..1_500_u64),
        0..40_usize,
    )
        .prop_map(|(like, from, to, after, max)| ReceiptAsk {
            message: like.subject.message,
            recipient: like.subject.recipient,
            campaign: like.subject.campaign,
            from,
            to,
            after,
            max,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn it_answers_as_a_log_in_memory_does(
        few in prop::collection::vec(any_few(), 1..40),
        appends in prop::collection::vec(1..700_usize, 1..6),
        asks in prop::collection::vec(any_ask(), 1..12),
        any in prop::collection::vec(any_receipt(), 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = quick();
        runtime.block_on(async {
            let (log, memory) = (open(&server, None).await, MemoryLog::default());
            let mut next = few.iter().cycle();
            for many in appends {
                let some: Vec<Receipt> = next.by_ref().take(many).cloned().collect();
                log.append(some.clone()).await.unwrap();
                memory.append(some).await.unwrap();
            }
            let dated = |one: &Receipt| crate::sqlite::nanoseconds(one.at).is_some();
            let any: Vec<Receipt> = any.into_iter().filter(dated).collect();
            log.append(any.clone()).await.unwrap();
            memory.append(any).await.unwrap();
            for ask in asks {
                let (told, want) = (log.query(&ask).await, memory.query(&ask).await);
                assert_eq!(told.unwrap(), want.unwrap(), "{ask:?}");
            }
            let ids = ["a", "b", "c", "d"].map(id);
            assert_eq!(log.known(&ids).await.unwrap(), memory.known(&ids).await.unwrap());
        });
    }
}

#[tokio::test]
async fn where_memory_is_full_what_leaves_is_filed_and_what_comes_in_is_not() {
    let server = quick();
    let log = open(&server, None).await;
    log.append(vec![receipt("a", Event::Held, 1)])
        .await
        .unwrap();
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    for event in [Event::Accepted, Event::Held, Event::Refused] {
        let full = log.append(vec![receipt("b", event, 1)]).await.unwrap_err();
        assert_eq!(full.kind, Kind::Unavailable, "{event:?}");
    }
    let log = self::open(&server, None).await;
    // As many as make small blocks be joined.
    for second in 0..130 {
        log.append(vec![
            receipt("a", Event::Held, second),
            receipt("a", Event::Attempted, second),
        ])
        .await
        .unwrap();
    }
    log.append(vec![receipt("a", Event::Delivered, 200)])
        .await
        .unwrap();
    assert_eq!(log.known(&[id("a"), id("b")]).await.unwrap(), [true, false]);
    assert_eq!(all(&log).await.len(), 262);
    assert!(cards(&server) < 100, "joined");
}

//! What only the log in MongoDB has.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::tests::any::any_receipt;
use super::super::tests::{at, id, receipt};
use super::*;
use crate::mongodb::server::Server;
use crate::mongodb::tests::{BOTH, anew, place};
use crate::receipt::Event;

async fn log(mongo: &Mongo) -> MongoLog {
    MongoLog::open(mongo.clone()).await.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn every_receipt_reads_back_equal(receipts in prop::collection::vec(any_receipt(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let log = log(&anew(Server::Usual).await).await;
            log.append(receipts.clone()).await.unwrap();
            let filed = log.query(&ReceiptAsk::default()).await.unwrap();
            let back: Vec<_> = filed.into_iter().map(|filed| filed.receipt).collect();
            assert_eq!(back, receipts);
        });
    }
}

/// On SecantusDB alone: once a connection to nx-27017 met a duplicate key while others write, it is
/// shown an old state for good.
#[tokio::test]
async fn logs_of_several_processes_file_into_one_order_without_gaps() {
    let options = place(Server::Secantus);
    let mut logs = Vec::new();
    for _ in 0..3 {
        let mongo = Mongo::open(&options).await.unwrap();
        logs.push(Arc::new(log(&mongo).await));
    }
    let mut tasks = Vec::new();
    for task in 0..12_i64 {
        let log = Arc::clone(&logs[usize::try_from(task % 3).unwrap()]);
        let make = move |n| receipt(&format!("{task}-{n}"), Event::Accepted, task * 50 + n);
        tasks.push(tokio::spawn(async move {
            log.append((0..50).map(make).collect()).await
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let filed = logs[0].query(&ReceiptAsk::default()).await.unwrap();
    assert!(filed.iter().map(|filed| filed.seq).eq(1..=600));
    for append in filed.chunks(50) {
        let together = append.is_sorted_by_key(|filed| filed.receipt.at);
        assert!(together, "an append stays together");
    }
}

#[tokio::test]
async fn appends_that_wait_for_each_other_share_a_block_and_each_is_there_once() {
    let mongo = anew(Server::Usual).await;
    let log = Arc::new(log(&mongo).await);
    let turn = log.next.lock().await;
    let mut tasks = Vec::new();
    for n in 0..30 {
        let log = Arc::clone(&log);
        tasks.push(tokio::spawn(async move {
            log.append(vec![receipt(&format!("m{n}"), Event::Held, n)])
                .await
        }));
    }
    while log.waiting().len() < 30 {
        tokio::task::yield_now().await;
    }
    drop(turn);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let filed = log.query(&ReceiptAsk::default()).await.unwrap();
    assert_eq!(filed.len(), 30);
    let blocks = mongo.collection(RECEIPTS);
    let blocks = mongo.find(op("count"), &blocks, Ask::default()).await;
    assert_eq!(blocks.unwrap().len(), 1);
}

#[tokio::test]
async fn a_block_that_was_sent_twice_is_filed_once() {
    let log = log(&anew(Server::Usual).await).await;
    let some = [receipt("a", Event::Held, 1), receipt("b", Event::Held, 2)];
    let (mut first, mut again) = (1, 1);
    log.write(&mut first, &some, "mark").await.unwrap();
    log.write(&mut again, &some, "mark").await.unwrap();
    assert_eq!((first, again), (3, 3));
    let filed = log.query(&ReceiptAsk::default()).await.unwrap();
    assert_eq!(filed.len(), 2);
    let mut other = 1;
    log.write(&mut other, &some, "another").await.unwrap();
    assert_eq!(other, 5, "behind the first");
}

#[tokio::test]
async fn a_page_begins_in_the_middle_of_a_block() {
    let log = log(&anew(Server::Usual).await).await;
    let make = |n: i64| receipt(&format!("m{n}"), Event::Held, n);
    log.append((1..=10).map(make).collect()).await.unwrap();
    log.append((11..=20).map(make).collect()).await.unwrap();
    let page = |after| ReceiptAsk {
        after: Some(after),
        max: 4,
        ..ReceiptAsk::default()
    };
    for after in [0, 5, 8, 9, 10, 15, 18, 20, 99] {
        let filed = log.query(&page(after)).await.unwrap();
        let seqs: Vec<u64> = filed.iter().map(|filed| filed.seq).collect();
        assert_eq!(seqs, Vec::from_iter((after + 1..=20).take(4)), "{after}");
        let right = |filed: &Filed| filed.receipt.at == at(filed.seq.cast_signed());
        assert!(filed.iter().all(right));
    }
}

#[tokio::test]
async fn a_block_that_somebody_damaged_is_corrupt_and_tells_no_recipient() {
    let mongo = anew(Server::Usual).await;
    let log = log(&mongo).await;
    log.append(vec![receipt("a", Event::Held, 1)])
        .await
        .unwrap();
    let damage = doc! { "$set": { "receipts": "+821012345678" } };
    let blocks = mongo.collection(RECEIPTS);
    blocks.update_one(doc! { "_id": 1 }, damage).await.unwrap();
    let error = log.query(&ReceiptAsk::default()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Corrupt);
    assert!(
        !format!("{error} {error:?}").contains("12345678"),
        "{error:?}"
    );
    assert_eq!(log.known(&[id("a")]).await.unwrap(), [true]);
}

/// What is told by its place is in the order of places, also of many: nx-27017 would sort 129
/// before 75.
#[tokio::test]
async fn many_blocks_are_read_in_their_order_and_another_process_files_behind_them() {
    for kind in BOTH {
        let mongo = anew(kind).await;
        let (first, other) = (log(&mongo).await, log(&mongo).await);
        for n in 0..12 {
            let receipts = vec![receipt("m", Event::Retry, n)];
            first.append(receipts).await.unwrap();
        }
        let receipts = vec![receipt("m", Event::Delivered, 12)];
        other.append(receipts).await.unwrap();
        let ask = ReceiptAsk {
            message: Some(id("m")),
            ..ReceiptAsk::default()
        };
        let filed = first.query(&ask).await.unwrap();
        assert!(filed.iter().map(|filed| filed.seq).eq(1..=13), "{filed:?}");
        assert_eq!(filed[12].receipt.event, Event::Delivered);
    }
}

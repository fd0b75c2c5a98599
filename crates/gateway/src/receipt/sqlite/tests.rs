//! What only the log on disk promises: blocks, their index, damage and company.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nightgate_core::RecipientKey;
use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::lane::Lane;
use crate::receipt::Event;
use crate::receipt::columns::block::{Block, Desk};
use crate::receipt::columns::leaf::{HASH_END, entry, pack};
use crate::receipt::columns::press::{BLOCK_RECEIPTS, Column, RECEIPT_TEXT_BYTES};
use crate::receipt::memory::MemoryLog;
use crate::receipt::tests::any::any_receipt;
use crate::receipt::tests::{at, disk, id, receipt};

/// A block that holds nothing but its entries.
fn sealed(hashes: &BTreeSet<u64>) -> Sealed {
    let entries: Vec<u64> = hashes.iter().map(|hash| entry(*hash, 0)).collect();
    let mut leaves = Vec::new();
    let keep = |first, page: &[u8]| {
        leaves.push((first, page.to_vec()));
        Ok::<_, ()>(())
    };
    pack(&entries, 1, keep).unwrap();
    Sealed {
        receipts: 1,
        min_at: 0,
        max_at: 0,
        body: Vec::new(),
        entries: entries.len() as u64,
        leaves,
    }
}

type Model = BTreeMap<u64, BTreeSet<i64>>;

/// Asks for hashes one by one and together, few and many.
fn check_index(conn: &Connection, model: &Model, random: &mut fastrand::Rng) {
    let known: Vec<u64> = model.keys().copied().collect();
    let any = |random: &mut fastrand::Rng| match random.u8(0..3) {
        0 => random.u64(0..HASH_END),
        1 => HASH_END - 1,
        _ => known[random.usize(0..known.len())],
    };
    for _ in 0..10 {
        let hash = any(random);
        let want: Vec<i64> = model.get(&hash).into_iter().flatten().copied().collect();
        assert_eq!(runs::blocks(conn, hash).unwrap(), want);
    }
    for many in [3, 600] {
        let hashes: BTreeSet<u64> = (0..many).map(|_| any(random)).collect();
        let hashes: Vec<u64> = hashes.into_iter().collect();
        let mut found = BTreeSet::new();
        runs::each(conn, &hashes, |place, block| {
            assert!(found.insert((hashes[place], block)), "told once");
        })
        .unwrap();
        let want = hashes.iter().flat_map(|hash| {
            let blocks = model.get(hash).into_iter().flatten();
            blocks.map(|block| (*hash, *block))
        });
        assert_eq!(found, want.collect());
    }
}

#[test]
fn a_hash_leads_to_its_blocks_at_every_moment_of_every_merge() {
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(CREATE).unwrap();
        let mut model = Model::new();
        // Hashes near each other share leaves; some stand in nearly every block.
        let reach = if seed % 2 == 0 { HASH_END } else { 4_000 };
        for block in 0..600 {
            let many = random.usize(1..60);
            let mut hashes: BTreeSet<u64> = (0..many).map(|_| random.u64(0..reach)).collect();
            hashes.insert(reach / 2);
            runs::add(&conn, block, &sealed(&hashes)).unwrap();
            for hash in hashes {
                model.entry(hash).or_default().insert(block);
            }
            // Steps far too small for the merges to be done before the next are there.
            merge::step(&conn, random.u64(1..200)).unwrap();
            if block % 20 == 0 {
                check_index(&conn, &model, &mut random);
            }
        }
        for _ in 0..2_000 {
            merge::step(&conn, 500).unwrap();
        }
        check_index(&conn, &model, &mut random);
        let left = runs::all(&conn).unwrap();
        assert!(left.iter().all(runs::Run::is_whole));
        let levels = |level| left.iter().filter(|run| run.level == level).count();
        assert_eq!(
            [levels(0), levels(1), levels(2)],
            [8, 5, 2],
            "600 = 2, 5, 8"
        );
        let leaves = |level| {
            let sql = format!("SELECT count(*) FROM leaf_{level}");
            conn.query_row(&sql, [], |row| row.get::<_, i64>(0))
                .unwrap()
        };
        assert_eq!(leaves(0), 8, "what was merged is dropped");
    }
}

fn any_ask() -> impl Strategy<Value = ReceiptAsk> {
    let conditions = (
        prop::option::weighted(0.4, 0..12_u8),
        prop::option::weighted(0.3, 0..4_u8),
        prop::option::weighted(0.3, 0..3_u8),
    );
    let times = (
        prop::option::weighted(0.3, 0..70_i64),
        prop::option::weighted(0.3, 0..70_i64),
    );
    let page = (prop::option::weighted(0.3, 0..1_200_u64), 0..40_usize);
    (conditions, times, page).prop_map(
        |((message, recipient, campaign), (from, to), (after, max))| ReceiptAsk {
            message: message.map(|n| id(&format!("m{n}"))),
            recipient: recipient.map(|n| RecipientKey::from_stored(&format!("+82101234{n}"))),
            campaign: campaign.map(|n| format!("c{n}").into()),
            from: from.map(at),
            to: to.map(at),
            after,
            max,
        },
    )
}

/// Receipts of few messages, recipients and campaigns, with whatever else there can be.
fn few() -> impl Strategy<Value = Receipt> {
    (any_receipt(), 0..12_u8, 0..5_u8, 0..4_u8, 0..70_i64).prop_map(
        |(mut receipt, message, recipient, campaign, second)| {
            receipt.at = at(second);
            receipt.subject.message = (message > 0).then(|| id(&format!("m{message}")));
            let key = || RecipientKey::from_stored(&format!("+82101234{recipient}"));
            receipt.subject.recipient = (recipient > 0).then(key);
            receipt.subject.campaign = (campaign > 0).then(|| format!("c{campaign}").into());
            receipt
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn the_log_on_disk_answers_as_the_one_in_memory(
        some in prop::collection::vec(few(), 40..60),
        sizes in prop::collection::vec(prop_oneof![8 => 1..4_usize, 1 => 250..300_usize], 40..60),
        asks in prop::collection::vec(any_ask(), 60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = TempDir::new().unwrap();
        runtime.block_on(async {
            let memory = MemoryLog::default();
            let mut log = disk(&dir);
            let mut next = some.iter().cycle().cloned();
            for (turn, size) in sizes.iter().enumerate() {
                let batch: Vec<_> = next.by_ref().take(*size).collect();
                memory.append(batch.clone()).await.unwrap();
                log.append(batch).await.unwrap();
                if turn % 17 == 0 {
                    drop(log);
                    log = disk(&dir);
                }
            }
            for ask in &asks {
                let want = memory.query(ask).await.unwrap();
                assert_eq!(log.query(ask).await.unwrap(), want, "{ask:?}");
            }
            let ids: Vec<_> = (0..14).map(|n| id(&format!("m{n}"))).collect();
            let ids = [ids.clone(), ids].concat();
            assert_eq!(log.known(&ids).await.unwrap(), memory.known(&ids).await.unwrap());
        });
    }

    #[test]
    fn a_block_of_any_bytes_is_refused_or_read_without_panic(
        receipts in prop::collection::vec(any_receipt(), 1..40),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 200),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut press = Press::new(Hasher::new(&[7; 16]));
        receipts.iter().for_each(|receipt| press.push(receipt).unwrap());
        let whole = press.seal().unwrap().body;
        let mut desk = Desk::default();
        let mut read = |body: &mut Vec<u8>| {
            if body.len() > 5 {
                // Past the checksum, as a mistake in the press would be.
                let sum = crc32c::crc32c(&body[5..]).to_le_bytes();
                body[1..5].copy_from_slice(&sum);
            }
            let Some(mut block) = Block::of(body, &mut desk) else {
                return;
            };
            let all: Vec<u32> = (0..block.receipts() as u32).collect();
            let _ = block.with_text(Column::MessageLengths, "m");
            let _ = block.with_campaign("c");
            let _ = block.dated(Some(at(1)), None);
            if let Some(receipts) = block.receipts_at(&all) {
                assert_eq!(receipts.len(), all.len());
            }
        };
        for (place, byte) in changes {
            let mut body = whole.clone();
            body[place.index(whole.len())] ^= byte;
            read(&mut body);
        }
        read(&mut whole[..cut.index(whole.len())].to_vec());
    }
}

#[tokio::test]
async fn a_call_of_many_is_filed_in_several_blocks_and_one_order() {
    let dir = TempDir::new().unwrap();
    let log = disk(&dir);
    let many = 2 * BLOCK_RECEIPTS as i64 + 100;
    let make = |n| receipt(&format!("m{n}"), Event::Held, n);
    log.append((0..many).map(make).collect()).await.unwrap();
    for n in [0, 8_191, 8_192, many - 1] {
        let ask = ReceiptAsk {
            message: Some(id(&format!("m{n}"))),
            ..ReceiptAsk::default()
        };
        let found = log.query(&ask).await.unwrap();
        assert_eq!(found.len(), 1);
        let seq = n.cast_unsigned() + 1;
        assert_eq!((found[0].seq, &found[0].receipt), (seq, &make(n)));
    }
    let ids: Vec<_> = (many - 50..many + 50)
        .map(|n| id(&format!("m{n}")))
        .collect();
    let known = log.known(&ids).await.unwrap();
    assert_eq!(known, [[true; 50], [false; 50]].concat());
}

#[tokio::test]
async fn two_logs_on_one_file_merge_each_others_runs() {
    let dir = TempDir::new().unwrap();
    let logs = [Arc::new(disk(&dir)), Arc::new(disk(&dir))];
    let mut tasks = Vec::new();
    for (place, log) in logs.iter().enumerate() {
        let log = Arc::clone(log);
        tasks.push(tokio::spawn(async move {
            for turn in 0..40 {
                let many = if turn % 8 == 0 { LOOSE_RECEIPTS + 1 } else { 2 };
                let make = |n| receipt(&format!("{place}-{turn}-{n}"), Event::Held, turn);
                log.append((0..many).map(make).collect()).await.unwrap();
                let mine = id(&format!("{place}-{turn}-1"));
                assert_eq!(log.known(&[mine]).await.unwrap(), [true]);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let all = logs[0].query(&ReceiptAsk::default()).await.unwrap();
    assert!(
        all.iter()
            .map(|filed| filed.seq)
            .eq(1..=2 * (5 * 257 + 35 * 2))
    );
    let ids: Vec<_> = all
        .iter()
        .filter_map(|f| f.receipt.subject.message.clone())
        .collect();
    assert!(
        logs[1]
            .known(&ids)
            .await
            .unwrap()
            .into_iter()
            .all(|known| known)
    );
    drop(logs);
    let conn = Connection::open(dir.path().join("receipts.db")).unwrap();
    let merged = runs::all(&conn).unwrap();
    assert!(
        merged.iter().any(|run| run.level == 1 && run.is_whole()),
        "{merged:?}"
    );
}

#[tokio::test]
async fn a_damaged_block_names_its_receipts_and_the_others_are_read() {
    let dir = TempDir::new().unwrap();
    let log = disk(&dir);
    for block in ["a", "b", "c"] {
        let make = |n| receipt(&format!("{block}{n}"), Event::Held, 1);
        log.append((0..10).map(make).collect()).await.unwrap();
    }
    let conn = Connection::open(dir.path().join("receipts.db")).unwrap();
    let body: Vec<u8> = conn
        .query_row("SELECT columns FROM body WHERE no = 1", [], |row| {
            row.get(0)
        })
        .unwrap();
    conn.execute_batch("DROP TRIGGER body_stands").unwrap();
    for bit in [0, 13, 8 * 6, 8 * body.len() - 1] {
        let mut body = body.clone();
        body[bit / 8] ^= 1 << (bit % 8);
        conn.execute("UPDATE body SET columns = ?1 WHERE no = 1", [body])
            .unwrap();
        let of = |message: &str| ReceiptAsk {
            message: Some(id(message)),
            ..ReceiptAsk::default()
        };
        for ask in [of("b3"), ReceiptAsk::default()] {
            let error = log.query(&ask).await.unwrap_err();
            assert_eq!(error.kind, Kind::Corrupt);
            assert!(error.to_string().contains("receipts 11 to 20"), "{error}");
        }
        let error = log.known(&[id("b3")]).await.unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt);
        assert_eq!(log.query(&of("a3")).await.unwrap()[0].seq, 4);
        let behind = ReceiptAsk {
            after: Some(20),
            ..ReceiptAsk::default()
        };
        assert_eq!(log.query(&behind).await.unwrap().len(), 10);
        assert_eq!(
            log.known(&[id("c9"), id("d")]).await.unwrap(),
            [true, false]
        );
    }
    log.append(vec![receipt("d", Event::Held, 1)])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_damaged_leaf_is_told_and_never_an_answer() {
    let dir = TempDir::new().unwrap();
    let log = disk(&dir);
    log.append(vec![receipt("a", Event::Held, 1)])
        .await
        .unwrap();
    let conn = Connection::open(dir.path().join("receipts.db")).unwrap();
    conn.execute("UPDATE leaf_0 SET page = zeroblob(length(page))", [])
        .unwrap();
    // Also to those who ask for another message: nobody can say what stood there.
    let last = (0..).map(|n| id(&format!("b{n}")));
    let first = conn.query_row("SELECT min(place) FROM leaf_0", [], |row| row.get(0));
    let first: i64 = first.unwrap();
    let behind = |id: &MessageId| log.hasher.message(id.as_str()).cast_signed() > first;
    let other = last.into_iter().find(behind).unwrap();
    for id in [id("a"), other] {
        assert_eq!(log.known(&[id]).await.unwrap_err().kind, Kind::Corrupt);
    }
}

#[tokio::test]
async fn a_receipt_too_long_is_refused_and_poisons_nothing() {
    let dir = TempDir::new().unwrap();
    let log = disk(&dir);
    let mut long = receipt("long", Event::Retry, 1);
    long.detail = Some("x".repeat(RECEIPT_TEXT_BYTES));
    for many in [0, LOOSE_RECEIPTS] {
        let mut batch: Vec<_> = (0..many).map(|_| receipt("a", Event::Held, 1)).collect();
        batch.push(long.clone());
        let error = log.append(batch).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid);
    }
    assert_eq!(log.query(&ReceiptAsk::default()).await.unwrap(), []);
    let rest = RECEIPT_TEXT_BYTES - (text_bytes_of(&receipt("long", Event::Retry, 1)));
    long.detail = Some("x".repeat(rest));
    log.append(vec![long.clone(); 9]).await.unwrap();
    let filed = log.query(&ReceiptAsk::default()).await.unwrap();
    assert!(filed.len() == 9 && filed.iter().all(|filed| filed.receipt == long));
}

fn text_bytes_of(receipt: &Receipt) -> usize {
    let subject = &receipt.subject;
    let texts = [
        subject.message.as_ref().map(MessageId::as_str),
        subject.recipient.as_ref().map(RecipientKey::expose),
        subject.campaign.as_deref(),
        subject.lane.as_ref().map(Lane::as_str),
    ];
    texts.into_iter().flatten().map(str::len).sum()
}

#[test]
fn a_file_of_version_1_is_refused_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("receipts.db");
    drop(disk(&dir));
    let conn = Connection::open(&path).unwrap();
    conn.pragma_update(None, "user_version", 1).unwrap();
    let Err(error) = SqliteLog::open(&path) else {
        panic!("opened")
    };
    assert_eq!(error.kind, Kind::Invalid);
    let text = error.to_string();
    assert!(
        text.contains("export it with the program that wrote it"),
        "{text}"
    );
}

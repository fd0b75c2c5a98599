//! The promises of the receipt port, on every log, and the export.

pub(super) mod any;

use futures_util::TryStreamExt;
use nightgate_core::{Basis, Code, ConsentSnapshot, Standing, ZoneSource};
use proptest::prelude::*;
use tempfile::TempDir;

use self::any::any_receipt;
use super::columns::{event_code, event_from};
use super::export::{ReceiptLine, export, ndjson};
use super::memory::MemoryLog;
#[cfg(feature = "mongodb")]
use super::mongodb::MongoLog;
use super::sqlite::SqliteLog;
use super::*;
use crate::error::Kind;
#[cfg(feature = "mongodb")]
use crate::mongodb::tests::{BOTH, anew};

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(super) fn id(text: &str) -> MessageId {
    MessageId::new(text).unwrap()
}

pub(super) fn receipt(message: &str, event: Event, second: i64) -> Receipt {
    Receipt {
        at: at(second),
        event,
        subject: Subject {
            message: Some(id(message)),
            recipient: Some(RecipientKey::from_stored("+821012345678")),
            campaign: Some("autumn".into()),
            lane: Some(Lane::new("kakao")),
            purpose: Some(Purpose::Advertising),
            channel: Some(Channel::Friendtalk),
        },
        attempt: 0,
        count: 1,
        until: None,
        reason: None,
        detail: None,
    }
}

pub(super) fn disk(dir: &TempDir) -> SqliteLog {
    SqliteLog::open(&dir.path().join("receipts.db")).unwrap()
}

/// Runs one promise on a log in memory, on one on disk and on those elsewhere.
async fn on_each<F: AsyncFn(Arc<dyn ReceiptLog>)>(promise: F) {
    #[cfg(feature = "redis")]
    {
        let server = crate::redis::server::Server::start(&["--appendonly", "no"]);
        let url = crate::secret::Secret::new(server.url());
        let options = crate::redis::RedisOptions::single(url);
        let redis = crate::redis::Redis::open(&options).await.unwrap();
        let log = super::redis::RedisLog::open(redis, None).await.unwrap();
        promise(Arc::new(log)).await;
    }
    promise(Arc::new(MemoryLog::default())).await;
    let dir = TempDir::new().unwrap();
    promise(Arc::new(disk(&dir))).await;
    #[cfg(feature = "mongodb")]
    for kind in BOTH {
        promise(Arc::new(MongoLog::open(anew(kind).await).await.unwrap())).await;
    }
}

async fn seqs(log: &Arc<dyn ReceiptLog>, ask: ReceiptAsk) -> Vec<u64> {
    log.query(&ask)
        .await
        .unwrap()
        .iter()
        .map(|filed| filed.seq)
        .collect()
}

/// Six receipts that differ in each way an ask can tell.
async fn file_six(log: &Arc<dyn ReceiptLog>) {
    let mut other = receipt("b", Event::Accepted, 20);
    other.subject.recipient = Some(RecipientKey::from_stored("a@b.kr"));
    let mut elsewhere = receipt("c", Event::Accepted, 30);
    elsewhere.subject.lane = Some(Lane::new("sms"));
    let mut recall = receipt("x", Event::Recalled, 40);
    recall.subject = Subject {
        campaign: Some("autumn".into()),
        ..Subject::default()
    };
    recall.count = 12;
    let mut plain = receipt("d", Event::Accepted, 50);
    plain.subject = Subject {
        recipient: plain.subject.recipient,
        ..Subject::default()
    };
    let first = receipt("a", Event::Held, 10);
    log.append(vec![first, other, elsewhere, recall, plain])
        .await
        .unwrap();
    log.append(vec![receipt("a", Event::Attempted, 60)])
        .await
        .unwrap();
    log.append(Vec::new()).await.unwrap();
}

const NOTHING: [u64; 0] = [];

#[tokio::test]
async fn receipts_are_found_by_each_condition() {
    on_each(async |log| {
        file_six(&log).await;
        let all = ReceiptAsk::default();
        assert_eq!(seqs(&log, all.clone()).await, [1, 2, 3, 4, 5, 6]);
        let message = ReceiptAsk {
            message: Some(id("a")),
            ..all.clone()
        };
        assert_eq!(seqs(&log, message).await, [1, 6]);
        let who = Some(RecipientKey::from_stored("+821012345678"));
        let recipient = ReceiptAsk {
            recipient: who,
            ..all.clone()
        };
        assert_eq!(seqs(&log, recipient).await, [1, 3, 5, 6]);
        let campaign = ReceiptAsk {
            campaign: Some("autumn".into()),
            ..all.clone()
        };
        assert_eq!(seqs(&log, campaign).await, [1, 2, 3, 4, 6]);
        let nobody = ReceiptAsk {
            campaign: Some("autum".into()),
            ..all.clone()
        };
        assert_eq!(seqs(&log, nobody).await, NOTHING);
        let time = ReceiptAsk {
            from: Some(at(20)),
            to: Some(at(50)),
            ..all.clone()
        };
        assert_eq!(seqs(&log, time).await, [2, 3, 4]);
        assert_eq!(
            seqs(
                &log,
                ReceiptAsk {
                    after: Some(4),
                    ..all.clone()
                }
            )
            .await,
            [5, 6]
        );
        assert_eq!(
            seqs(
                &log,
                ReceiptAsk {
                    max: 2,
                    ..all.clone()
                }
            )
            .await,
            [1, 2]
        );
        assert_eq!(
            seqs(
                &log,
                ReceiptAsk {
                    after: Some(u64::MAX),
                    ..all
                }
            )
            .await,
            NOTHING
        );
    })
    .await;
}

#[tokio::test]
async fn conditions_hold_together() {
    on_each(async |log| {
        file_six(&log).await;
        let who = |key| Some(RecipientKey::from_stored(key));
        let campaign = ReceiptAsk {
            campaign: Some("autumn".into()),
            ..ReceiptAsk::default()
        };
        let page = ReceiptAsk {
            after: Some(1),
            max: 2,
            ..campaign.clone()
        };
        assert_eq!(seqs(&log, page).await, [2, 3]);
        let (from, to) = (Some(at(20)), Some(at(60)));
        let four = ReceiptAsk {
            recipient: who("+821012345678"),
            from,
            to,
            ..campaign.clone()
        };
        assert_eq!(seqs(&log, four).await, [3]);
        let message = ReceiptAsk {
            message: Some(id("a")),
            ..campaign
        };
        assert_eq!(seqs(&log, message.clone()).await, [1, 6]);
        let wrong = ReceiptAsk {
            recipient: who("a@b.kr"),
            ..message
        };
        assert_eq!(seqs(&log, wrong).await, NOTHING);
    })
    .await;
}

#[tokio::test]
async fn a_time_range_is_found_across_blocks_and_steps_of_the_clock() {
    on_each(async |log| {
        // The clock runs to 2,999, is set back to 1,000, and runs on: 2,000 seconds come twice.
        let forward = (0..3_000).map(|s| receipt(&format!("f{s}"), Event::Accepted, s));
        let again = (1_000..6_000).map(|s| receipt(&format!("a{s}"), Event::Accepted, s));
        let all: Vec<_> = forward.chain(again).collect();
        for part in all.chunks(700) {
            log.append(part.to_vec()).await.unwrap();
        }
        for (from, to) in [
            (1_500, 1_600),
            (0, 1),
            (2_990, 3_010),
            (5_990, 9_000),
            (7_000, 8_000),
        ] {
            let ask = ReceiptAsk {
                from: Some(at(from)),
                to: Some(at(to)),
                ..ReceiptAsk::default()
            };
            let in_range =
                |(_, filed): &(usize, &Receipt)| filed.at >= at(from) && filed.at < at(to);
            let want: Vec<u64> = all
                .iter()
                .enumerate()
                .filter(in_range)
                .map(|(place, _)| place as u64 + 1)
                .collect();
            assert_eq!(seqs(&log, ask.clone()).await, want, "{from} to {to}");
            let mut paged = Vec::new();
            let mut ask = ReceiptAsk { max: 7, ..ask };
            while let [.., last] = seqs(&log, ask.clone()).await[..] {
                paged.append(&mut seqs(&log, ask.clone()).await);
                ask.after = Some(last);
            }
            assert_eq!(paged, want, "paged, {from} to {to}");
        }
        let far = |from, to| ReceiptAsk {
            from,
            to,
            max: 3,
            ..ReceiptAsk::default()
        };
        let (min, max) = (Some(Timestamp::MIN), Some(Timestamp::MAX));
        assert_eq!(seqs(&log, far(min, max)).await, [1, 2, 3]);
        assert_eq!(seqs(&log, far(max, None)).await, NOTHING);
        assert_eq!(seqs(&log, far(None, min)).await, NOTHING);
    })
    .await;
}

#[tokio::test]
async fn a_message_is_known_once_any_receipt_of_it_is_filed() {
    on_each(async |log| {
        log.append(vec![receipt("held", Event::Held, 0)])
            .await
            .unwrap();
        let ids = [id("never"), id("held")];
        assert_eq!(log.known(&ids).await.unwrap(), [false, true]);
    })
    .await;
}

#[tokio::test]
async fn events_of_many_messages_are_those_of_each_in_the_order_filed() {
    const MESSAGES: usize = 700;
    on_each(async |log| {
        let names: Vec<String> = (0..MESSAGES).map(|number| format!("m{number}")).collect();
        // Blocks large and small, of which some are joined, and a message that is in most of them.
        for (event, some) in [
            (Event::Held, 700),
            (Event::Attempted, 9),
            (Event::Unknown, 300),
            (Event::Delivered, 50),
        ] {
            for part in names.chunks(some) {
                let of = |name: &String| receipt(name, event, 1);
                let mut receipts: Vec<Receipt> = part.iter().map(of).collect();
                receipts.push(receipt("often", event, 1));
                log.append(receipts).await.unwrap();
            }
        }
        let asked = ["m3", "never", "often", "m699", "m3"].map(id);
        let events = log.events(&asked).await.unwrap();
        let each = [
            Event::Held,
            Event::Attempted,
            Event::Unknown,
            Event::Delivered,
        ];
        assert_eq!(events[0], each);
        assert_eq!(
            (&events[1], &events[3], &events[4]),
            (&vec![], &events[0], &events[0])
        );
        let often = [1, 78, 3, 14];
        let often = each.into_iter().zip(often);
        let often: Vec<Event> = often
            .flat_map(|(event, times)| vec![event; times])
            .collect();
        assert_eq!(events[2], often);
        let all: Vec<MessageId> = names.iter().map(|name| id(name)).collect();
        let events = log.events(&all).await.unwrap();
        assert!(events.iter().all(|events| *events == each));
    })
    .await;
}

#[tokio::test]
async fn receipts_are_there_after_reopening_and_seqs_go_on() {
    let dir = TempDir::new().unwrap();
    disk(&dir)
        .append(vec![receipt("a", Event::Attempted, 1)])
        .await
        .unwrap();
    let log = disk(&dir);
    assert_eq!(log.known(&[id("a")]).await.unwrap(), [true]);
    log.append(vec![receipt("a", Event::Delivered, 2)])
        .await
        .unwrap();
    let filed = disk(&dir).query(&ReceiptAsk::default()).await.unwrap();
    assert_eq!(filed[0].receipt, receipt("a", Event::Attempted, 1));
    assert_eq!(
        (filed[1].seq, &filed[1].receipt),
        (2, &receipt("a", Event::Delivered, 2))
    );
}

#[tokio::test]
async fn two_logs_on_one_file_file_into_one_order() {
    let dir = TempDir::new().unwrap();
    let logs = [Arc::new(disk(&dir)), Arc::new(disk(&dir))];
    let mut tasks = Vec::new();
    for task in 0..20_i64 {
        let log = Arc::clone(&logs[usize::from(task % 2 == 0)]);
        let make = move |n| receipt(&format!("{task}-{n}"), Event::Accepted, task * 200 + n);
        tasks.push(tokio::spawn(async move {
            log.append((0..200).map(make).collect()).await
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let filed = logs[0].query(&ReceiptAsk::default()).await.unwrap();
    assert!(filed.iter().map(|filed| filed.seq).eq(1..=4_000));
    for batch in filed.chunks(200) {
        assert!(
            batch.is_sorted_by_key(|filed| filed.receipt.at),
            "an append stays together"
        );
    }
    let ask = ReceiptAsk {
        from: Some(at(1_000)),
        to: Some(at(1_200)),
        ..ReceiptAsk::default()
    };
    assert_eq!(
        logs[1].query(&ask).await.unwrap().len(),
        200,
        "both close the blocks"
    );
}

#[tokio::test]
async fn the_log_refuses_to_be_rewritten() {
    let dir = TempDir::new().unwrap();
    let mut told = receipt("a", Event::Held, 1);
    told.reason = Some(reason(Standing::None));
    disk(&dir).append(vec![told]).await.unwrap();
    let conn = rusqlite::Connection::open(dir.path().join("receipts.db")).unwrap();
    for table in ["block", "body"] {
        for sql in [
            format!("DELETE FROM {table}"),
            format!("UPDATE {table} SET rowid = 9"),
        ] {
            let refused = conn.execute(&sql, []).unwrap_err().to_string();
            assert!(refused.contains("append-only"), "{sql}: {refused}");
        }
    }
}

#[tokio::test]
async fn a_receipt_with_an_impossible_date_is_refused_and_poisons_nothing() {
    let dir = TempDir::new().unwrap();
    let log = disk(&dir);
    let far = Receipt {
        at: Timestamp::MAX,
        ..receipt("a", Event::Held, 1)
    };
    let error = log
        .append(vec![receipt("b", Event::Held, 1), far])
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    log.append(vec![receipt("c", Event::Held, 1)])
        .await
        .unwrap();
    assert_eq!(log.known(&[id("b"), id("c")]).await.unwrap(), [false, true]);
}

#[tokio::test]
async fn an_id_used_again_for_another_recipient_keeps_both() {
    on_each(async |log| {
        let mut other = receipt("a", Event::Accepted, 2);
        other.subject.recipient = None;
        log.append(vec![receipt("a", Event::Accepted, 1), other.clone()])
            .await
            .unwrap();
        let ask = ReceiptAsk {
            message: Some(id("a")),
            ..ReceiptAsk::default()
        };
        let filed = log.query(&ask).await.unwrap();
        assert_eq!((filed.len(), &filed[1].receipt), (2, &other));
    })
    .await;
}

#[test]
fn every_event_reads_back_from_its_code() {
    for event in Event::ALL {
        assert_eq!(event_from(event_code(event)), Some(event));
        assert_eq!(serde_json::to_value(event).unwrap(), event.as_str());
    }
    assert_eq!(event_from(12), None);
}

fn reason(general: Standing) -> Reason {
    Reason {
        code: Code::QuietHours,
        rule: Some("kr.night".into()),
        ruleset: "b3:0123".into(),
        zone: "Asia/Seoul".into(),
        zone_source: ZoneSource::Number,
        opens: Some(at(100)),
        closes: None,
        consent: ConsentSnapshot {
            general,
            night: Standing::None,
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn every_receipt_reads_back_equal(receipts in prop::collection::vec(any_receipt(), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = TempDir::new().unwrap();
        runtime.block_on(async {
            let log = disk(&dir);
            // Twice: the second time everything shared is known to the writer already.
            log.append(receipts.clone()).await.unwrap();
            log.append(receipts.clone()).await.unwrap();
            let filed = log.query(&ReceiptAsk::default()).await.unwrap();
            let back: Vec<_> = filed.into_iter().map(|filed| filed.receipt).collect();
            assert_eq!(back, [receipts.clone(), receipts].concat());
        });
    }

    #[test]
    fn every_line_reads_back_equal(receipt in any_receipt(), seq in any::<u64>()) {
        let line = ReceiptLine::new(Filed { seq, receipt }, true);
        let json = serde_json::to_string(&line).unwrap();
        prop_assert!(!json.contains('\n'));
        prop_assert_eq!(serde_json::from_str::<ReceiptLine>(&json).unwrap(), line);
    }
}

#[tokio::test]
async fn an_export_is_the_whole_answer_a_page_at_a_time() {
    on_each(async |log| {
        let make = |n| receipt(&format!("m{n}"), Event::Held, n);
        log.append((0..25).map(make).collect()).await.unwrap();
        let all = ReceiptAsk::default();
        let pages: Vec<_> = ndjson(Arc::clone(&log), all.clone(), false, 10)
            .try_collect()
            .await
            .unwrap();
        let lines: Vec<_> = pages
            .iter()
            .map(|page| page.split(|b| *b == b'\n').count() - 1)
            .collect();
        assert_eq!(lines, [10, 10, 5]);
        let mut out = Vec::new();
        assert_eq!(
            export(Arc::clone(&log), all.clone(), false, 10, &mut out)
                .await
                .unwrap(),
            25
        );
        assert_eq!(out, pages.concat());
        let some = ReceiptAsk {
            max: 12,
            from: Some(at(5)),
            ..all
        };
        let mut out = Vec::new();
        assert_eq!(export(log, some, false, 10, &mut out).await.unwrap(), 12);
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with("{\"seq\":6,"), "{out}");
        assert!(out.ends_with("}\n"));
    })
    .await;
}

#[test]
fn a_line_shows_the_recipient_only_when_asked() {
    let filed = Filed {
        seq: 7,
        receipt: receipt("a", Event::Held, 1),
    };
    let masked = serde_json::to_string(&ReceiptLine::new(filed.clone(), false)).unwrap();
    let clear = serde_json::to_string(&ReceiptLine::new(filed, true)).unwrap();
    assert!(!masked.contains("12345678"), "{masked}");
    assert!(clear.contains("\"recipient\":\"+821012345678\""), "{clear}");
}

#[test]
fn the_shape_of_a_line_is_stable() {
    let until = Some(at(63_072_000));
    let given = Standing::Valid {
        since: at(0),
        until,
        basis: Basis::Explicit,
    };
    let mut held = receipt("a", Event::Held, 1);
    held.until = Some(at(100));
    held.reason = Some(reason(given));
    held.detail = Some("why".to_owned());
    let line = serde_json::to_value(ReceiptLine::new(
        Filed {
            seq: 7,
            receipt: held,
        },
        true,
    ))
    .unwrap();
    let want = serde_json::json!({
        "seq": 7, "at": "1970-01-01T00:00:01Z", "event": "held", "message": "a",
        "recipient": "+821012345678", "campaign": "autumn", "lane": "kakao",
        "purpose": "advertising", "channel": "friendtalk", "attempt": 0, "count": 1,
        "until": "1970-01-01T00:01:40Z", "rule": "kr.night", "ruleset": "b3:0123",
        "zone": "Asia/Seoul", "zone_source": "number", "code": "quiet_hours",
        "opens": "1970-01-01T00:01:40Z",
        "consent": {
            "general": {
                "standing": "valid", "basis": "explicit",
                "since": "1970-01-01T00:00:00Z", "until": "1972-01-01T00:00:00Z"
            },
            "night": { "standing": "none" }
        },
        "detail": "why"
    });
    assert_eq!(line, want);
}

//! Files that the store wrote, changed in ways that nobody would write. `NIGHTGATE_SEED` runs
//! other changes.

use std::sync::Arc;

use jiff::SignedDuration;
use nightgate_core::message::Message;
use nightgate_core::{Channel, MessageId, Recipient, RecipientKey};
use nightgate_log::disk::{DiskFile, read_exact_at};
use nightgate_log::frame::scan;
use nightgate_log::head::{HEAD_LEN, Head};

use super::*;
use crate::hold::shelf::{Options, ShelfHold};
use crate::hold::{End, Held, HoldStore, LeaseAsk, Pick, Scope, Settle, Verdict};

/// Changed copies of each file or meta.
const ROUNDS: u64 = 400;
/// What a disk loses, repeats or mixes up at once, in bytes.
const SECTOR: usize = 4_096;
/// Numbers that stand in a length gone wrong, as they are and as a varint.
const EXTREMES: [&[u8]; 5] = [
    &[0xff; 8],
    &[0, 0, 0, 0, 0, 0, 0, 0x80],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0; 8],
];

fn seeds() -> std::ops::Range<u64> {
    let told = std::env::var("NIGHTGATE_SEED");
    let first = told.map_or(0, |text| text.parse().unwrap());
    first..first + ROUNDS
}

fn message(number: usize) -> Held {
    let due = Timestamp::UNIX_EPOCH + SignedDuration::from_mins(number as i64 % 3);
    Held {
        key: RecipientKey::from_stored("+821000000001"),
        message: Message {
            id: MessageId::new(&format!("order-{number}")).unwrap(),
            recipient: Recipient::new("010-0000-0001").unwrap(),
            channel: Channel::Lms,
            purpose: Purpose::Advertising,
            campaign: [None, Some("sale".into())][number % 2].clone(),
            priority: Priority::default(),
            jurisdiction: None,
            zone: None,
            send_at: None,
            expires_at: None,
            collapse_key: None,
            content_type: "text/plain".into(),
            attributes: Default::default(),
            body: format!("body of {number}").repeat(20).into(),
        },
        lane: Lane::new("sms"),
        class: Class::from_name("advertising/lms/KR/Asia/Seoul"),
        due,
        accepted_at: due,
    }
}

/// The disk of a store that did something of everything.
async fn lived() -> SimDisk {
    let disk = SimDisk::new();
    let options = Options {
        keep_free: 0,
        segment_bytes: 2 * 1024,
        ..Options::default()
    };
    let hold = ShelfHold::open_on(Arc::new(disk.clone()), options).unwrap();
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
    let lane = Lane::new("sms");
    for round in 0..12 {
        let messages = (round * 6..round * 6 + 6).map(message).collect();
        hold.put(messages, now).await.unwrap();
        let ask = LeaseAsk {
            lane: &lane,
            pick: Pick::Any,
            now,
            max: 4,
            ttl: SignedDuration::from_mins(1),
        };
        let why = "a test".to_owned();
        let verdicts = [
            Verdict::Done(End::Delivered),
            Verdict::Bury { why },
            Verdict::Defer {
                due: now,
                attempted: true,
            },
        ];
        let loans = hold.lease(&ask).await.unwrap();
        let settled = loans.iter().zip(verdicts).map(|(loan, verdict)| Settle {
            token: loan.token,
            verdict,
        });
        hold.settle(settled.collect(), now).await.unwrap();
    }
    let class = Class::from_name("advertising/lms/KR/Asia/Seoul");
    hold.redate(&lane, &class, now, now + SignedDuration::from_mins(9))
        .await
        .unwrap();
    hold.recall(&Scope::Campaign("sale".into()), now)
        .await
        .unwrap();
    hold.pause(Some(&lane), true, now).await.unwrap();
    hold.sweep(now).await.unwrap();
    drop(hold);
    disk
}

fn read(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(file, &mut bytes, 0).unwrap();
    bytes
}

/// The metas of every frame in every log.
fn metas(disk: &SimDisk) -> Vec<Vec<u8>> {
    let mut metas = Vec::new();
    for name in disk.names().unwrap() {
        if name.starts_with("log-") {
            let file = disk.open(&name, false).unwrap();
            let salt = Head::read(&*file, files::KIND_LOG, 1).unwrap().salt;
            let mut visit = |found: nightgate_log::frame::Found<'_>| {
                metas.push(found.meta.to_vec());
                Ok(())
            };
            scan(&*file, &salt, HEAD_LEN, 0, true, &mut visit).unwrap();
        }
    }
    metas
}

/// Changes `bytes` in one to three ways; `other` is something of the same kind.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], dice: &mut fastrand::Rng) {
    for _ in 0..dice.usize(1..4) {
        let at = dice.usize(..bytes.len().max(1)).min(bytes.len());
        let end = bytes.len().min(at + dice.usize(1..64));
        match dice.u8(..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.u8(..8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.usize(..5)],
            2 => bytes.truncate(at),
            3 => {
                let from = dice.usize(..=other.len());
                let to = dice.usize(from..=other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            4 => {
                let extreme = EXTREMES[dice.usize(..EXTREMES.len())];
                let end = bytes.len().min(at + extreme.len());
                bytes.splice(at..end, extreme.iter().copied());
            }
            5 => {
                let end = bytes.len().min(at / SECTOR * SECTOR + SECTOR);
                bytes[at / SECTOR * SECTOR..end].fill(0);
            }
            6 => bytes.extend_from_slice(&other[..other.len().min(SECTOR)]),
            _ => bytes[at..end].fill_with(|| dice.u8(..)),
        }
    }
}

#[tokio::test]
async fn a_changed_meta_reads_as_something_or_not_at_all_and_never_panics() {
    // The keeper merges behind a store's back, so one life may leave few frames.
    let mut metas = metas(&lived().await);
    while metas.len() <= 40 {
        metas.extend(self::metas(&lived().await));
    }
    assert!(metas.iter().all(|meta| op(meta)));
    let (mut taken, mut refused) = (0, 0);
    for seed in seeds() {
        let mut dice = fastrand::Rng::with_seed(seed);
        for meta in &metas {
            let mut bad = meta.clone();
            mutate(&mut bad, &metas[dice.usize(..metas.len())], &mut dice);
            *[&mut refused, &mut taken][usize::from(op(&bad))] += 1;
        }
    }
    assert!(
        taken > 1_000 && refused > 1_000,
        "{taken} taken, {refused} refused"
    );
}

#[test]
fn a_meta_that_claims_more_than_there_is_asks_for_no_memory() {
    // Shelves, blocks and ops, each of 2^64-1: making room for them would end the process.
    let claim = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for before in 0..3 {
        let mut bytes = vec![0; 1 + before];
        bytes.extend(claim);
        assert!(!op(&bytes));
    }
}

#[test]
fn a_change_that_no_store_makes_is_not_read() {
    use crate::hold::shelf::marks::Fate;
    use crate::hold::shelf::op::{BlockLine, Op, Stretch};
    let mut meta = Meta {
        base: u64::MAX - 5,
        ..Meta::default()
    };
    let line = BlockLine {
        shelf: 1,
        count: 6,
        head_len: 0,
        body_len: 0,
        head_crc: 0,
        body_crc: 0,
    };
    meta.blocks.push(line);
    assert!(!op(&meta.encode().unwrap()), "places beyond all numbers");
    meta.blocks[0].count = 5;
    assert!(op(&meta.encode().unwrap()));
    let backwards = vec![Stretch {
        shelf: 1,
        from: 2,
        to: 1,
    }];
    meta.ops.push(Op::End {
        fate: Fate::Recalled,
        at: 0,
        stretches: backwards,
    });
    assert!(
        !op(&meta.encode().unwrap()),
        "a stretch that ends before it begins"
    );
}

#[tokio::test]
async fn a_changed_whole_file_is_noticed_or_holds_what_it_held() {
    let disk = lived().await;
    let mut names = disk.names().unwrap();
    names.retain(|name| !name.starts_with("log-") && !name.starts_with("ids-"));
    assert!(names.len() > 4, "{names:?}");
    let contents = |name: &str| read(&*disk.open(name, false).unwrap());
    let wholes: Vec<Vec<u8>> = names.iter().map(|name| contents(name)).collect();
    assert!(wholes.iter().all(|bytes| whole(bytes)));
    let mut noticed = 0;
    for seed in seeds() {
        let mut dice = fastrand::Rng::with_seed(seed);
        for bytes in &wholes {
            let mut bad = bytes.clone();
            mutate(&mut bad, &wholes[dice.usize(..wholes.len())], &mut dice);
            if !whole(&bad) {
                noticed += 1;
                continue;
            }
            // Bytes behind the end say nothing, and neither does a splice that is the whole file.
            let is_whole = wholes.iter().any(|whole| bad.starts_with(whole));
            assert!(is_whole, "seed {seed}: a changed file was read");
        }
    }
    assert!(noticed > 1_000, "{noticed}");
}

#[tokio::test]
async fn every_flipped_bit_of_a_whole_file_is_noticed() {
    let disk = lived().await;
    let bytes = read(&*disk.open(files::MANIFEST, false).unwrap());
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(!whole(&bad), "bit {bit}");
    }
}

#[tokio::test]
async fn changed_blocks_of_a_store_never_panic() {
    let disk = lived().await;
    let logs = disk
        .names()
        .unwrap()
        .into_iter()
        .filter(|name| name.starts_with("log-"));
    let mut blocks = Vec::new();
    for name in logs {
        let no = name.trim_start_matches("log-").parse().unwrap();
        let bytes = read(&*disk.open(&name, false).unwrap());
        for one in files::rebuild_index(&disk, no).unwrap().blocks() {
            let part = |at: u64, len: u32| bytes[at as usize..][..len as usize].to_vec();
            let line = one.line;
            let sections = (
                part(one.at, line.head_len),
                part(one.body_at, line.body_len),
            );
            // Bodies of messages that ended were given back to the disk.
            let is_there = crc32c::crc32c(&sections.1) == line.body_crc;
            assert_eq!(block(line.count, &sections.0, &sections.1), is_there);
            blocks.extend(is_there.then_some((line, sections)));
        }
    }
    assert!(blocks.len() > 5);
    for seed in seeds() {
        let mut dice = fastrand::Rng::with_seed(seed);
        let (line, (head, body)) = blocks[dice.usize(..blocks.len())].clone();
        let (_, (other_head, other_body)) = &blocks[dice.usize(..blocks.len())];
        let (mut bad_head, mut bad_body) = (head.clone(), body.clone());
        mutate(&mut bad_head, other_head, &mut dice);
        mutate(&mut bad_body, other_body, &mut dice);
        for (head, body) in [
            (&bad_head, &bad_body),
            (&head, &bad_body),
            (&bad_head, &body),
        ] {
            block(line.count, head, body);
        }
        // What covers them notices every change of them.
        let same = (bad_head == head, bad_body == body);
        let held = (
            crc32c::crc32c(&bad_head) == line.head_crc,
            crc32c::crc32c(&bad_body) == line.body_crc,
        );
        assert_eq!(same, held, "seed {seed}");
    }
}

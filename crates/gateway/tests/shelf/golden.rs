//! A store of format 1, written once and opened for good: `tests/golden/store-1` holds every kind
//! of file, with something of everything in them.
//!
//! Only a new format may write it anew, into a folder of its own:
//! `cargo test -p nightgate --test shelf write_the_golden_store -- --ignored`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use nightgate::hold::shelf::{Options, ShelfHold};
use nightgate::hold::{
    End, Held, HoldStore, Lane, Leased, Pause, Put, Scope, Settle, Settled, State, Token, Verdict,
};
use nightgate_core::{Channel, Jurisdiction, Priority, Purpose, Recipient};
use nightgate_log::disk::{Disk, DiskFile, RealDisk, SimDisk, read_exact_at, write_all_at};
use nightgate_log::frame::scan;
use nightgate_log::head::{HEAD_LEN, Head};

use crate::support::*;
use crate::world::{ALL, TTL, at, bury, class, defer, id, put, recount, settle, totals, with};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store-1");
/// Most of what is in the store is sealed, in logs of so many bytes.
const LOG: u64 = 4 * 1024;
/// What fills the logs: every other one is delivered.
const FILLERS: usize = 16;
const ROTS: &str = "a body that rots on the disk";
/// The loan that was out, as the releaser who has it knows it.
const LENT: Token = Token { seq: 35, lease: 11 };
/// The message behind it is wanted back.
const WANTED: Token = Token { seq: 36, lease: 12 };
/// When the store was left.
const LEFT: i64 = 12;

fn small() -> Options {
    Options {
        segment_bytes: LOG,
        ..options()
    }
}

/// A message, and what is known of it in the golden store.
struct Line {
    held: Held,
    state: State,
    attempts: u32,
    why: Option<&'static str>,
}

/// A message on a lane of its own, named like it.
fn alone(name: &str, state: State) -> Line {
    Line {
        held: with(name, |held| held.lane = Lane::new(name)),
        state,
        attempts: 0,
        why: None,
    }
}

/// A message with everything that one can have.
fn full() -> Held {
    with("full", |held| {
        held.lane = Lane::new("full");
        held.due = at(30);
        held.class = class("informational/alimtalk/KR/Asia/Seoul");
        let message = &mut held.message;
        message.recipient = Recipient::new("010-0001-5838").unwrap();
        message.channel = Channel::Alimtalk;
        message.purpose = Purpose::Informational;
        message.campaign = Some("주문".into());
        message.priority = Priority::new(1).unwrap();
        message.jurisdiction = Some(Jurisdiction::new("KR").unwrap());
        message.zone = Some("Asia/Seoul".into());
        message.send_at = Some(at(1));
        message.expires_at = Some(at(600));
        message.collapse_key = Some("order/1".into());
        message.content_type = "application/json".into();
        message.attributes = [("template".to_owned(), "T_01".to_owned())].into();
        message.body = "{\"말\":\"밤에는 보내지 않습니다\"}".into();
    })
}

fn filler(number: usize) -> Held {
    with(&format!("filler-{number}"), |held| {
        held.lane = Lane::new(["delivered-filler", "held-filler"][number % 2]);
        let mut dice = fastrand::Rng::with_seed(number as u64);
        held.message.body = noise(&mut dice, 500).into();
    })
}

/// Everyone in the golden store, as they stand there.
fn everyone() -> Vec<Line> {
    let mut lines = vec![
        alone("plain", State::Held),
        alone("delivered", State::Delivered),
        alone("refused", State::Refused),
        alone("expired", State::Expired),
        alone("rejected", State::Rejected),
        alone("recalled", State::Recalled),
        alone("sale-1", State::Recalled),
        alone("sale-2", State::Recalled),
        alone("deferred", State::Held),
        alone("buried", State::Buried),
        alone("kicked", State::Held),
        alone("lapsed", State::Held),
        alone("lent", State::Leased),
        alone("wanted", State::Leased),
        alone("redated", State::Held),
        alone("rotten", State::Buried),
    ];
    for line in &mut lines {
        match line.held.message.id.as_str() {
            "sale-1" | "sale-2" => line.held.message.campaign = Some("sale".into()),
            "deferred" => (line.held.due, line.attempts) = (at(40), 1),
            "buried" => line.why = Some("unknown outcome"),
            "kicked" => line.held.due = at(3),
            "redated" => {
                line.held.class = class("advertising/sms/KR/Asia/Seoul");
                line.held.due = at(50);
            }
            "rotten" => {
                line.held.message.body = ROTS.into();
                line.why = Some("damaged on disk: see `nightgate hold verify`");
            }
            _ => {}
        }
    }
    let mut last = alone("full", State::Held);
    last.held = full();
    lines.push(last);
    lines.extend((0..FILLERS).map(|number| Line {
        held: filler(number),
        state: [State::Delivered, State::Held][number % 2],
        attempts: 0,
        why: None,
    }));
    lines
}

/// Lends all of a lane and ends the loans.
async fn end(hold: &dyn HoldStore, lane: &str, verdict: Verdict) {
    let leased = lend(hold, &Lane::new(lane), at(1), ALL).await.unwrap();
    assert!(!leased.is_empty(), "{lane}");
    for loan in leased {
        assert_eq!(
            settle(hold, loan.token, verdict.clone(), at(1)).await,
            Settled::Yes
        );
    }
}

/// The life that led to the golden store, up to a bit that flips.
async fn first_life(disk: &SimDisk) {
    let hold = ShelfHold::open_on(Arc::new(disk.clone()), small()).unwrap();
    for line in everyone() {
        let mut held = line.held;
        if matches!(held.message.id.as_str(), "deferred" | "kicked" | "redated") {
            held.due = at(0);
        }
        // Those of the second life are in the log that stays open.
        if !matches!(held.message.id.as_str(), "lent" | "wanted" | "full") {
            put(&hold, vec![held]).await;
        }
    }
    for (lane, how) in [
        ("delivered", End::Delivered),
        ("refused", End::Refused),
        ("expired", End::Expired),
        ("rejected", End::Rejected),
        ("delivered-filler", End::Delivered),
    ] {
        end(&hold, lane, Verdict::Done(how)).await;
    }
    until(async || files(disk, "idx-").len() + 1 == files(disk, "log-").len()).await;
}

/// Flips a bit of the body that rots.
fn rot(disk: &SimDisk) {
    let found = files(disk, "log-").into_iter().find_map(|name| {
        let bytes = bytes_of(disk, &name);
        let mut windows = bytes.windows(ROTS.len());
        let at = windows.position(|window| window == ROTS.as_bytes())?;
        Some((name, at as u64))
    });
    let (name, offset) = found.unwrap();
    assert!(disk.flip(&name, offset, 1));
}

async fn second_life(disk: &SimDisk) {
    let hold = ShelfHold::open_on(Arc::new(disk.clone()), small()).unwrap();
    let recall = async |scope| {
        let recalled = hold.recall(&scope, at(2)).await.unwrap();
        (recalled.recalled, recalled.in_flight)
    };
    assert_eq!(recall(Scope::Id(id("recalled"))).await, (1, 0));
    assert_eq!(recall(Scope::Campaign("sale".into())).await, (2, 0));
    end(&hold, "deferred", defer(at(40))).await;
    end(&hold, "buried", bury()).await;
    end(&hold, "kicked", bury()).await;
    assert_eq!(hold.kick(&Scope::Id(id("kicked")), at(3)).await.unwrap(), 1);
    let lane = Lane::new("redated");
    let class = class("advertising/sms/KR/Asia/Seoul");
    assert_eq!(hold.redate(&lane, &class, at(3), at(50)).await.unwrap(), 1);
    hold.pause(None, true, at(4)).await.unwrap();
    hold.pause(Some(&lane), true, at(5)).await.unwrap();
    let soon = SignedDuration::from_secs(1);
    let lapsing = lend_for(&hold, &Lane::new("lapsed"), at(6), 1, soon)
        .await
        .unwrap();
    assert_eq!(lapsing.len(), 1);
    assert!(
        lend(&hold, &Lane::new("rotten"), at(6), 1)
            .await
            .unwrap()
            .is_empty()
    );
    for line in everyone() {
        if matches!(line.held.message.id.as_str(), "lent" | "wanted" | "full") {
            put(&hold, vec![line.held]).await;
        }
    }
    let lent = lend(&hold, &Lane::new("lent"), at(LEFT), 1).await.unwrap();
    let wanted = lend(&hold, &Lane::new("wanted"), at(LEFT), 1)
        .await
        .unwrap();
    println!("LENT {:?}, WANTED {:?}", lent[0].token, wanted[0].token);
    assert_eq!(recall(Scope::Id(id("wanted"))).await, (0, 1));
    // Ends the loan that lapsed.
    let none = lend(&hold, &Lane::new("lapsed"), at(LEFT), 0)
        .await
        .unwrap();
    assert!(none.is_empty());
    until(async || files(disk, "idx-").len() + 1 == files(disk, "log-").len()).await;
    drop(hold);
    assert!(files(disk, "idx-").len() > 1, "sealed logs");
    for kind in ["MANIFEST", "MANIFEST-copy", "state-", "ids-", "log-"] {
        assert!(!files(disk, kind).is_empty(), "{kind}");
    }
}

async fn lead() -> SimDisk {
    let disk = SimDisk::new();
    first_life(&disk).await;
    rot(&disk);
    second_life(&disk).await;
    disk
}

fn bytes_of(disk: &dyn Disk, name: &str) -> Vec<u8> {
    let file = disk.open(name, false).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    bytes
}

/// Where the last frame of a log ends: what is behind it is room set aside.
fn end_of_log(file: &dyn DiskFile) -> usize {
    let head = Head::read(file, b'l', 1).unwrap();
    let end = scan(file, &head.salt, HEAD_LEN, 0, false, &mut |_| Ok(())).unwrap();
    usize::try_from(end.valid_to).unwrap()
}

/// Everyone stands where they stood, and counts agree.
async fn tells_the_story(hold: &ShelfHold) {
    let everyone = everyone();
    let ids: Vec<_> = everyone
        .iter()
        .map(|line| line.held.message.id.clone())
        .collect();
    let found = hold.find(&ids).await.unwrap();
    for (line, found) in everyone.iter().zip(found) {
        let name = &line.held.message.id;
        let found = found.unwrap_or_else(|| panic!("{name} is unknown"));
        let mut held = line.held.clone();
        let is_open = [State::Held, State::Leased, State::Buried].contains(&line.state);
        if !is_open || name.as_str() == "rotten" {
            held.message.body = Default::default();
            held.message.attributes = Default::default();
        }
        assert_eq!(found.held, held, "{name}");
        let recipient = found.held.message.recipient.expose();
        assert_eq!(recipient, held.message.recipient.expose(), "{name}");
        assert_eq!(found.state, line.state, "{name}");
        assert_eq!(found.attempts, line.attempts, "{name}");
        assert_eq!(found.why.as_deref(), line.why, "{name}");
    }
    let mut counted = 0;
    for state in [
        State::Held,
        State::Leased,
        State::Buried,
        State::Recalled,
        State::Delivered,
    ] {
        let listed = hold.list(state, None, ALL).await.unwrap();
        let there = everyone.iter().filter(|line| line.state == state);
        assert_eq!(listed.len(), there.count(), "{state:?}");
        counted += listed.len();
    }
    assert_eq!(
        counted,
        everyone.len() - 3,
        "refused, expired and rejected are one each"
    );
    assert_eq!(totals(hold).await, (7 + FILLERS as u64 / 2 - 1, 2, 2));
    let paused = |lane, minute| Pause {
        lane,
        since: at(minute),
    };
    let pauses = [paused(None, 4), paused(Some(Lane::new("redated")), 5)];
    assert_eq!(hold.pauses().await.unwrap(), pauses);
}

/// Life goes on from there: loans are settled, ids are known, everything held leaves.
async fn goes_on(hold: &ShelfHold) {
    for line in everyone() {
        let again = hold.put(vec![line.held.clone()], at(LEFT)).await.unwrap();
        let known = match line.held.message.id.as_str() {
            // What is lost may be sent again.
            "rotten" => Put::New,
            _ => Put::Duplicate,
        };
        assert_eq!(again, [known], "{}", line.held.message.id);
    }
    let returned = defer(at(LEFT));
    assert_eq!(settle(hold, WANTED, returned, at(LEFT)).await, Settled::Yes);
    let found = crate::world::find(hold, "wanted").await.unwrap();
    assert_eq!(found.state, State::Recalled, "it was wanted back");
    let settled = Settle {
        token: LENT,
        verdict: Verdict::Done(End::Delivered),
    };
    assert_eq!(
        hold.settle(vec![settled], at(LEFT)).await.unwrap(),
        [Settled::Yes]
    );
    let now: Timestamp = at(55);
    assert!(
        now < at(LEFT) + TTL + SignedDuration::from_hours(1),
        "nothing is forgotten"
    );
    for line in everyone() {
        if line.state != State::Held && line.held.message.id.as_str() != "rotten" {
            continue;
        }
        let leased: Vec<Leased> = lend(hold, &line.held.lane, now, ALL).await.unwrap();
        let name = line.held.message.id.as_str();
        for loan in &leased {
            let put = everyone();
            let put = put
                .iter()
                .find(|line| line.held.message.id == loan.held.message.id);
            assert_eq!(loan.held, put.unwrap().held);
            assert_eq!(loan.lapsed, name == "lapsed");
        }
        deliver(hold, &leased, now).await;
    }
    assert_eq!(totals(hold).await, (0, 0, 2), "all but the buried left");
}

/// The golden store in a folder of its own.
fn copied() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shelf = folder.path().join("shelf");
    std::fs::create_dir(&shelf).unwrap();
    for entry in std::fs::read_dir(GOLDEN).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        std::fs::copy(&path, shelf.join(path.file_name().unwrap())).unwrap();
    }
    folder
}

#[tokio::test]
async fn a_store_of_format_1_is_read_for_good() {
    let folder = copied();
    let hold = ShelfHold::open(folder.path(), small()).await.unwrap();
    tells_the_story(&hold).await;
    drop(hold);
    let hold = ShelfHold::open(folder.path(), small()).await.unwrap();
    tells_the_story(&hold).await;
    goes_on(&hold).await;
    drop(hold);
    let hold = ShelfHold::open(folder.path(), small()).await.unwrap();
    assert_eq!(totals(&hold).await, (0, 0, 2));
}

#[tokio::test]
async fn a_store_of_format_1_opens_with_every_side_file_made_anew() {
    let folder = copied();
    let shelf = folder.path().join("shelf");
    for entry in std::fs::read_dir(&shelf).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("id") || name.ends_with("-copy") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let hold = ShelfHold::open(folder.path(), small()).await.unwrap();
    tells_the_story(&hold).await;
    goes_on(&hold).await;
}

#[tokio::test]
async fn a_store_of_today_tells_the_golden_story() {
    let disk = lead().await;
    let hold = ShelfHold::open_on(Arc::new(disk), small()).unwrap();
    tells_the_story(&hold).await;
    recount(&hold).await;
    goes_on(&hold).await;
}

#[tokio::test]
#[ignore = "writes the golden store anew, which only a new format may"]
async fn write_the_golden_store() {
    let disk = lead().await;
    let folder = Path::new(GOLDEN);
    let _ = std::fs::remove_dir_all(folder);
    let on = RealDisk::open(folder).unwrap();
    for name in disk.names().unwrap() {
        let mut bytes = bytes_of(&disk, &name);
        if name.starts_with("log-") {
            bytes.truncate(end_of_log(&*disk.open(&name, false).unwrap()));
        }
        write_all_at(&*on.open(&name, true).unwrap(), &bytes, 0).unwrap();
    }
    // What guards a folder in use is no part of the store.
    let names = disk.names().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !names.iter().any(|name| path.ends_with(name)) {
            std::fs::remove_file(path).unwrap();
        }
    }
}

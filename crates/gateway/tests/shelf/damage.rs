//! Files that rot, are overwritten, cut short or removed: nothing panics, nothing damaged is lent,
//! nothing else is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nightgate::alert::AlertKind;
use nightgate::alert::desk::{Alerts, DeskOptions, MemoryPort};
use nightgate::clock::SystemClock;
use nightgate::error::Kind;
use nightgate::hold::shelf::ShelfHold;
use nightgate::hold::{End, Held, HoldStore, Lane, Put, Scope, Settle, Verdict};
use nightgate::release::run;
use nightgate_core::Priority;
use nightgate_log::disk::{Disk, DiskFile, SimDisk, write_all_at};

use crate::support::*;
use crate::world::{HORIZON, at, id, totals, with};

const LANES: [&str; 2] = ["sms", "push"];
/// Long after everything is due and every loan is over.
fn later() -> Timestamp {
    at(0) + HORIZON - SignedDuration::from_mins(1)
}

/// A store as it stood when it was damaged.
pub(crate) struct Before {
    pub(crate) disk: SimDisk,
    pub(crate) put: BTreeMap<String, Held>,
    /// Delivered or recalled, and acknowledged.
    pub(crate) ended: BTreeSet<String>,
    /// How many of these were on loan when they were recalled.
    wanted: usize,
}

/// What a person sees of a store after damage.
#[derive(Debug, PartialEq)]
pub(crate) struct After {
    pub(crate) delivered: BTreeSet<String>,
    pub(crate) aside: u64,
}

fn message(dice: &mut fastrand::Rng, number: usize) -> Held {
    let lane = LANES[number % 2];
    let campaigns = [None, Some("x"), Some("y")];
    with(&format!("m{number}"), |held| {
        held.lane = Lane::new(lane);
        held.due = at(dice.i64(0..4));
        held.message.priority = Priority::new(dice.u8(..2)).unwrap();
        held.message.campaign = campaigns[dice.usize(..3)].map(Into::into);
        let len = dice.usize(50..900);
        held.message.body = noise(dice, len).into();
    })
}

/// A store with sealed logs and an open one, and something of everything in it.
pub(crate) async fn build(seed: u64) -> Before {
    let mut dice = fastrand::Rng::with_seed(seed);
    let disk = SimDisk::seeded(seed);
    let hold = open(&disk);
    let (mut put, mut ended, mut wanted) = (BTreeMap::new(), BTreeSet::new(), 0);
    for round in 0..24 {
        let numbers = round * 8..round * 8 + 8;
        let messages: Vec<Held> = numbers.map(|number| message(&mut dice, number)).collect();
        for held in &messages {
            put.insert(held.message.id.as_str().to_owned(), held.clone());
        }
        let answers = hold.put(messages, at(0)).await.unwrap();
        assert_eq!(answers, [Put::New; 8]);
        let lane = Lane::new(LANES[dice.usize(..2)]);
        let mut settlements = Vec::new();
        for loan in lend(&hold, &lane, at(4), 5).await.unwrap() {
            let verdict = match dice.u8(..6) {
                0 => continue,
                1 => Verdict::Defer {
                    due: at(3),
                    attempted: true,
                },
                2 => Verdict::Bury {
                    why: "a test".to_owned(),
                },
                _ => {
                    ended.insert(loan.held.message.id.as_str().to_owned());
                    Verdict::Done(End::Delivered)
                }
            };
            let token = loan.token;
            settlements.push(Settle { token, verdict });
        }
        hold.settle(settlements, at(4)).await.unwrap();
        let name = format!("m{}", dice.usize(..put.len()));
        let recalled = hold.recall(&Scope::Id(id(&name)), at(4)).await.unwrap();
        if recalled.recalled + recalled.in_flight > 0 {
            wanted += usize::from(recalled.in_flight > 0 && ended.insert(name.clone()));
            ended.insert(name);
        }
    }
    until(async || files(&disk, "idx-").len() + 1 == files(&disk, "log-").len()).await;
    drop(hold);
    disk.sync_names().unwrap();
    assert!(files(&disk, "idx-").len() > 4, "sealed logs");
    Before {
        disk,
        put,
        ended,
        wanted,
    }
}

/// Lends and delivers everything that can be lent; fails when something is lent that may not be.
async fn drain(hold: &ShelfHold, before: &Before, is_lossy: bool) -> After {
    let (mut delivered, mut waits) = (BTreeSet::new(), 0);
    let mut now = later();
    // Twice: what was on loan when the store was damaged comes back.
    for lane in LANES.iter().cycle().take(4).map(|lane| Lane::new(lane)) {
        now += SignedDuration::from_mins(11);
        loop {
            let (leased, why) = match lend(hold, &lane, now, 7).await {
                Err(error) if error.kind == Kind::Unavailable => (Vec::new(), Some(error)),
                leased => (leased.unwrap(), None),
            };
            for loan in &leased {
                let held = &loan.held;
                let name = held.message.id.as_str().to_owned();
                let put = &before.put[&name];
                assert_eq!(held.message, put.message, "{name} reads back as it was put");
                assert!(
                    is_lossy || !before.ended.contains(&name),
                    "{name} had ended"
                );
                assert!(delivered.insert(name.clone()), "{name} was lent twice");
            }
            deliver(hold, &leased, now).await;
            let shelves = hold.shelves(Some(&lane), None).await.unwrap();
            if leased.is_empty() && shelves.iter().all(|shelf| shelf.held == 0) {
                break;
            }
            if leased.is_empty() {
                // Upkeep has still to find out that these are lost.
                waits += 1;
                assert!(waits < PATIENCE, "{shelves:?} were not told anew: {why:?}");
                soon().await;
            }
        }
    }
    let (held, leased, aside) = totals(hold).await;
    assert_eq!((held, leased), (0, 0), "everything else left");
    After { delivered, aside }
}

/// Opens a damaged store, drains it, and opens it again.
pub(crate) async fn survive(before: &Before, disk: &SimDisk, is_lossy: bool) -> Option<After> {
    let hold = match try_open(disk) {
        Ok(hold) => hold,
        Err(error) => {
            let text = error.to_string();
            assert!(
                matches!(error.kind, Kind::Corrupt | Kind::Invalid),
                "{text}"
            );
            assert!(
                text.contains("restore") || text.contains("release"),
                "no advice: {text}"
            );
            return None;
        }
    };
    let after = drain(&hold, before, is_lossy).await;
    drop(hold);
    let hold = open(disk);
    let (_, _, aside) = totals(&hold).await;
    assert_eq!(aside, after.aside, "what is put aside stays there");
    let open = before.put.len() - before.ended.len();
    let seen = after.delivered.len() + usize::try_from(after.aside).unwrap();
    match is_lossy {
        true => assert!(seen >= open, "{seen} of {open} are accounted for"),
        // A message that was on loan when it was recalled is lost with its block, and told of.
        false => assert!(
            (open..=open + before.wanted).contains(&seen),
            "every message is somewhere: {seen} of {open}"
        ),
    }
    // New messages come and go as ever.
    let new = with("brand-new", |held| held.due = at(0));
    assert_eq!(hold.put(vec![new], later()).await.unwrap(), [Put::New]);
    let leased = lend(&hold, &Lane::new("sms"), later(), 5).await.unwrap();
    assert_eq!(leased.len(), 1);
    Some(after)
}

pub(crate) fn file(disk: &SimDisk, name: &str) -> std::sync::Arc<dyn DiskFile> {
    disk.open(name, false).unwrap()
}

/// Writes garbage over a range, for good.
pub(crate) fn overwrite(disk: &SimDisk, name: &str, at: u64, bytes: &[u8]) {
    let file = file(disk, name);
    let len = file.len().unwrap();
    let bytes = &bytes[..bytes.len().min((len - at.min(len)) as usize)];
    write_all_at(&*file, bytes, at).unwrap();
    file.sync().unwrap();
}

/// The logs that are not sealed: what is lost there may be an end.
pub(crate) fn is_open_log(disk: &SimDisk, name: &str) -> bool {
    let sealed = files(disk, "idx-");
    name.strip_prefix("log-")
        .is_some_and(|number| !sealed.contains(&format!("idx-{number}")))
}

pub(crate) fn copy(disk: &SimDisk) -> SimDisk {
    disk.crash(&mut fastrand::Rng::with_seed(0))
}

#[tokio::test]
async fn an_undamaged_store_drains_exactly() {
    let before = build(0).await;
    let after = survive(&before, &copy(&before.disk), false).await.unwrap();
    assert!(
        !after.delivered.is_empty() && after.aside > 0,
        "delivered and buried: {after:?}"
    );
}

#[tokio::test]
async fn wherever_a_bit_flips_the_rest_leaves_and_nothing_twice() {
    let before = build(1).await;
    let mut dice = fastrand::Rng::with_seed(1);
    let mut refused = 0;
    for round in 0..300 {
        let disk = copy(&before.disk);
        let names = disk.names().unwrap();
        let name = &names[dice.usize(..names.len())];
        let len = file(&disk, name).len().unwrap();
        let (offset, mask) = (dice.u64(..len), 1 << dice.u8(..8));
        println!("round {round}: {mask} in byte {offset} of {len} of {name}");
        let is_lossy = is_open_log(&disk, name);
        assert!(disk.flip(name, offset, mask));
        let after = survive(&before, &disk, is_lossy).await;
        if after.is_none() {
            assert!(
                is_lossy && offset < 64,
                "only the head of an open log is needed to open"
            );
            refused += 1;
        }
    }
    assert!(refused < 20);
}

#[tokio::test]
async fn whatever_is_overwritten_the_rest_leaves_and_nothing_twice() {
    let before = build(2).await;
    let mut dice = fastrand::Rng::with_seed(2);
    for round in 0..200 {
        let disk = copy(&before.disk);
        let names = disk.names().unwrap();
        let name = &names[dice.usize(..names.len())];
        let len = file(&disk, name).len().unwrap();
        let offset = dice.u64(..len);
        let bytes: Vec<u8> = match dice.bool() {
            true => vec![0; dice.usize(1..4_096)],
            false => std::iter::repeat_with(|| dice.u8(..)).take(700).collect(),
        };
        println!(
            "round {round}: {} bytes at {offset} of {len} of {name}",
            bytes.len()
        );
        let is_lossy = is_open_log(&disk, name);
        overwrite(&disk, name, offset, &bytes);
        let after = survive(&before, &disk, is_lossy).await;
        assert!(after.is_some() || (is_lossy && offset < 64), "it opens");
    }
}

#[tokio::test]
async fn whichever_side_file_is_missing_nothing_is_lost() {
    let before = build(3).await;
    let names = before.disk.names().unwrap();
    for name in names.iter().filter(|name| !name.starts_with("log-")) {
        println!("without {name}");
        let disk = copy(&before.disk);
        disk.remove(name).unwrap();
        disk.sync_names().unwrap();
        let after = survive(&before, &disk, false).await.unwrap();
        let whole = survive(&before, &copy(&before.disk), false).await.unwrap();
        assert_eq!(after, whole, "made anew from the log, or from its copy");
    }
    // All that can be made anew, at once.
    let disk = copy(&before.disk);
    for name in names
        .iter()
        .filter(|name| name.starts_with("id") || name.ends_with("-copy"))
    {
        disk.remove(name).unwrap();
    }
    disk.sync_names().unwrap();
    survive(&before, &disk, false).await.unwrap();
}

#[tokio::test]
async fn ids_whose_run_is_damaged_are_still_refused_twice() {
    let before = build(4).await;
    let runs = files(&before.disk, "ids-");
    let mut dice = fastrand::Rng::with_seed(4);
    for _ in 0..20 {
        let disk = copy(&before.disk);
        let run = &runs[dice.usize(..runs.len())];
        let len = file(&disk, run).len().unwrap();
        for _ in 0..4 {
            disk.flip(run, dice.u64(..len), 0x55);
        }
        let hold = open(&disk);
        for held in before.put.values() {
            let put = hold.put(vec![held.clone()], at(4)).await;
            let again = match put {
                Ok(answers) => answers,
                Err(error) => {
                    assert_eq!(error.kind, Kind::Unavailable, "worth trying again");
                    let mut answers = None;
                    until(async || {
                        answers = hold.put(vec![held.clone()], at(4)).await.ok();
                        answers.is_some()
                    })
                    .await;
                    answers.unwrap()
                }
            };
            assert_eq!(again, [Put::Duplicate], "{}", held.message.id);
        }
    }
}

#[tokio::test]
async fn messages_of_a_log_that_is_gone_are_put_aside() {
    let before = build(5).await;
    let sealed = files(&before.disk, "idx-");
    for index in &sealed {
        let log = index.replace("idx-", "log-");
        println!("without {log}");
        let disk = copy(&before.disk);
        disk.remove(&log).unwrap();
        disk.sync_names().unwrap();
        survive(&before, &disk, false).await.unwrap();
        println!("without {log} and {index}");
        let disk = copy(&before.disk);
        disk.remove(&log).unwrap();
        disk.remove(index).unwrap();
        disk.sync_names().unwrap();
        survive(&before, &disk, false).await.unwrap();
    }
}

#[tokio::test]
async fn an_open_log_that_is_gone_is_missed_and_nothing_is_removed() {
    let before = build(6).await;
    let disk = copy(&before.disk);
    let last = files(&disk, "log-").pop().unwrap();
    disk.remove(&last).unwrap();
    disk.sync_names().unwrap();
    let names = disk.names().unwrap();
    let error = try_open(&disk).err().unwrap();
    let text = error.to_string();
    assert_eq!(error.kind, Kind::Corrupt, "{text}");
    assert!(
        text.contains(&last) && text.contains("restore a backup"),
        "{text}"
    );
    assert_eq!(disk.names().unwrap(), names);
}

#[tokio::test]
async fn damaged_bytes_of_a_log_are_copied_aside() {
    let before = build(7).await;
    let disk = copy(&before.disk);
    let last = files(&disk, "log-").pop().unwrap();
    let garbage = [0xa5; 24];
    overwrite(&disk, &last, 80, &garbage);
    survive(&before, &disk, true).await.unwrap();
    let aside = files(&disk, &format!("quarantine-{last}"));
    assert_eq!(aside.len(), 1, "{:?}", disk.names().unwrap());
    let copied = file(&disk, &aside[0]);
    let mut bytes = vec![0; copied.len().unwrap() as usize];
    copied.read_at(&mut bytes, 0).unwrap();
    assert!(bytes.windows(24).any(|window| window == garbage));
}

#[tokio::test]
async fn damage_raises_an_alarm_that_names_it() {
    let before = build(9).await;
    let disk = copy(&before.disk);
    let last = files(&disk, "log-").pop().unwrap();
    overwrite(&disk, &last, 80, &[0xa5; 24]);
    let sealed = files(&disk, "idx-").remove(0).replace("idx-", "log-");
    overwrite(&disk, &sealed, 4096, &[0xa5; 4096]);
    let hold = open(&disk);
    drain(&hold, &before, true).await;
    let damage = hold.damage().await.unwrap();
    assert!(damage.messages > 0, "{damage:?}");

    let (port, clock) = (
        Arc::new(MemoryPort::default()),
        Arc::new(SystemClock::default()),
    );
    let alerts = Alerts::new(vec![port.clone()], clock.clone(), DeskOptions::default());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let watching = run::watch_damage(Arc::new(hold), clock, alerts.clone(), stopped);
    let watching = tokio::spawn(watching);
    until(async || {
        alerts.flush(Duration::from_secs(1)).await;
        !port.alerts().is_empty()
    })
    .await;
    stop.send(true).unwrap();
    watching.await.unwrap();
    let alert = port.alerts().remove(0);
    assert_eq!(alert.kind, AlertKind::HoldDamaged);
    let figures: BTreeMap<_, _> = alert.figures.into_iter().collect();
    assert_eq!(figures["messages"], damage.messages.to_string());
    assert!(figures["copied_aside"].contains(&format!("quarantine-{last}")));
}

#[tokio::test]
async fn a_checkpoint_damaged_twice_over_says_what_to_do() {
    let before = build(8).await;
    for kind in ["state-", "MANIFEST"] {
        let disk = copy(&before.disk);
        let names = files(&disk, kind);
        assert_eq!(names.len(), 2, "{kind} has a copy");
        for name in &names {
            disk.flip(name, 70, 0xff);
        }
        let error = try_open(&disk).err().unwrap();
        let text = error.to_string();
        assert_eq!(error.kind, Kind::Corrupt, "{text}");
        assert!(text.contains("restore a backup"), "{text}");
        // One of them is enough.
        disk.flip(&names[1], 70, 0xff);
        survive(&before, &disk, false).await.unwrap();
    }
}

#[tokio::test]
async fn a_file_of_a_newer_format_is_refused_in_a_sentence() {
    let before = build(9).await;
    let disk = copy(&before.disk);
    let manifest = file(&disk, "MANIFEST");
    let mut head = [0; 64];
    manifest.read_at(&mut head, 0).unwrap();
    head[6] = 2;
    let crc = crc32c::crc32c(&head[..60]);
    head[60..].copy_from_slice(&crc.to_le_bytes());
    overwrite(&disk, "MANIFEST", 0, &head);
    let error = try_open(&disk).err().unwrap();
    assert_eq!(error.kind, Kind::Invalid);
    assert_eq!(
        error.to_string(),
        "read MANIFEST (hold, invalid): MANIFEST: expected format version 1 to 1, found 2: use the \
         release that wrote it, or a newer one"
    );
}

//! Checks, copies, exports and restores: what a check calls sound is, a copy has everything that
//! was answered, and what has left since a backup stays where it went.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nightgate::error::Kind;
use nightgate::hold::care::{Ill, Report};
use nightgate::hold::shelf::{BackupNote, Options, Restoring, ShelfHold, verify_folder, verify_on};
use nightgate::hold::{End, HoldStore, Put, Scope, Settle, State, Verdict};
use nightgate_log::disk::{Disk, SimDisk};

use crate::damage::{Before, build, copy, file, is_open_log, overwrite, survive};
use crate::support::*;
use crate::world::{ALL, at, held, id, lane, lease, of_campaign, put, totals, with};

/// The faults of a report, each with its file.
fn faults(report: &Report) -> Vec<(Ill, &str)> {
    let faults = report.findings.iter().filter(|one| one.ill.is_fault());
    faults.map(|one| (one.ill, one.file.as_str())).collect()
}

fn contents(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| {
        let file = file(disk, &name);
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        (name, bytes)
    };
    disk.names().unwrap().into_iter().map(read).collect()
}

#[tokio::test]
async fn a_sound_store_is_called_sound_and_is_not_changed() {
    let before = build(20).await;
    let disk = copy(&before.disk);
    let was = contents(&disk);
    let report = verify_on(&disk).unwrap();
    assert!(report.is_sound(), "{report:#?}");
    assert_eq!(contents(&disk), was, "nothing is changed");
    let hold = open(&disk);
    let (held, leased, buried) = totals(&hold).await;
    let counted = (report.held, report.leased, report.buried);
    assert_eq!(counted, (held, leased, buried));
    assert!(report.frames > 24 && report.blocks > 24 && report.files > 8);
    // The same beside a process that owns it, which reads it itself.
    let beside = hold.verify().await.unwrap();
    assert!(beside.is_sound(), "{beside:#?}");
    assert_eq!((beside.held, beside.buried), (held, buried));
}

#[tokio::test]
async fn damage_of_each_kind_is_found_and_its_file_is_named() {
    let before = build(21).await;
    let last = files(&before.disk, "log-").pop().unwrap();
    let index = files(&before.disk, "idx-")[0].clone();
    let sealed = index.replace("idx-", "log-");
    let run = files(&before.disk, "ids-")[0].clone();
    let state = files(&before.disk, "state-")[0].clone();
    let flipped = |name: &str, at: u64| {
        let disk = copy(&before.disk);
        assert!(disk.flip(name, at, 0x40));
        verify_on(&disk).unwrap()
    };
    for (name, at, ill) in [
        (last.as_str(), 20, Ill::LogHead),
        (&last, 80, Ill::Frames),
        (&sealed, 20, Ill::LogHead),
        (&sealed, 80, Ill::SealedFrames),
        (&index, 70, Ill::Index),
        (&run, 4_100, Ill::Run),
        ("MANIFEST", 70, Ill::CopyDamaged),
        ("MANIFEST-copy", 70, Ill::CopyDamaged),
        (&state, 70, Ill::CopyDamaged),
    ] {
        let report = flipped(name, at);
        let found = faults(&report);
        assert!(found.contains(&(ill, name)), "{name}: {report:#?}");
    }
    let disk = copy(&before.disk);
    disk.flip("MANIFEST", 70, 1);
    disk.flip("MANIFEST-copy", 70, 1);
    let report = verify_on(&disk).unwrap();
    assert_eq!(faults(&report), [(Ill::BothDamaged, "MANIFEST")]);
    for (name, ill) in [(&sealed, Ill::LogMissing), (&last, Ill::LogMissing)] {
        let disk = copy(&before.disk);
        disk.remove(name).unwrap();
        let report = verify_on(&disk).unwrap();
        assert!(
            faults(&report).contains(&(ill, name.as_str())),
            "{report:#?}"
        );
    }
    for (name, ill) in [(&index, Ill::Index), (&run, Ill::Run)] {
        let disk = copy(&before.disk);
        disk.remove(name).unwrap();
        let report = verify_on(&disk).unwrap();
        assert_eq!(
            faults(&report),
            [(ill, name.as_str())],
            "nothing else is lost"
        );
    }
    assert_eq!(
        verify_on(&SimDisk::seeded(1)).unwrap_err().kind,
        Kind::Invalid
    );
}

#[tokio::test]
async fn what_is_no_fault_is_told_all_the_same() {
    let before = build(22).await;
    let disk = copy(&before.disk);
    let last = files(&disk, "log-").pop().unwrap();
    let end = file(&disk, &last).len().unwrap();
    for name in [
        "notes.txt",
        "quarantine-log-00000001-64",
        "state-99999999.new",
    ] {
        overwrite(&disk, &last, end, b"");
        disk.open(name, true).unwrap().sync().unwrap();
    }
    let report = verify_on(&disk).unwrap();
    assert!(report.is_sound(), "{report:#?}");
    let notes: BTreeSet<(&str, &str)> = report
        .findings
        .iter()
        .map(|one| {
            (
                one.file.as_str(),
                if one.ill.is_fault() { "fault" } else { "note" },
            )
        })
        .collect();
    assert!(notes.contains(&("notes.txt", "note")), "{notes:?}");
    assert!(notes.contains(&("quarantine-log-00000001-64", "note")));
    assert!(notes.contains(&("state-99999999.new", "note")));
}

#[tokio::test]
async fn bodies_of_what_has_ended_may_be_anything_and_others_may_not() {
    let disk = SimDisk::seeded(5);
    let hold = open(&disk);
    let noise = |name: &str, seed| {
        let mut dice = fastrand::Rng::with_seed(seed);
        with(name, |held| {
            held.message.body = noise(&mut dice, 9_000).into()
        })
    };
    put(&hold, vec![noise("stays", 1)]).await;
    put(&hold, vec![noise("goes", 2)]).await;
    for round in 0..4 {
        put(&hold, vec![noise(&format!("more-{round}"), round + 3)]).await;
    }
    until(async || !files(&disk, "idx-").is_empty()).await;
    let text = verify_on(&copy(&disk)).unwrap();
    assert!(text.is_sound(), "{text:#?}");
    drop(hold);
    disk.sync_names().unwrap();
    let sealed = files(&disk, "idx-")[0].replace("idx-", "log-");
    let len = file(&disk, &sealed).len().unwrap();
    let mut touched = 0;
    for part in 1..20 {
        let other = copy(&disk);
        other.flip(&sealed, len.min(16_384) * part / 20, 0xff);
        let report = verify_on(&other).unwrap();
        touched += report.damaged;
        for one in report.findings.iter().filter(|one| one.messages > 0) {
            assert_eq!(one.file, sealed);
            let (from, to) = one.bytes.unwrap();
            assert!(from < to && to <= len, "{one:?}");
        }
    }
    assert!(
        touched >= 10,
        "bodies of held messages are looked at: {touched}"
    );
}

#[tokio::test]
async fn what_a_check_calls_sound_drains_exactly() {
    let before = build(23).await;
    let mut dice = fastrand::Rng::with_seed(23);
    let whole = survive(&before, &copy(&before.disk), false).await.unwrap();
    let mut found = 0;
    for round in 0..120 {
        let disk = copy(&before.disk);
        let names = disk.names().unwrap();
        let name = &names[dice.usize(..names.len())];
        let offset = dice.u64(..file(&disk, name).len().unwrap());
        println!("round {round}: byte {offset} of {name}");
        assert!(disk.flip(name, offset, 1 << dice.u8(..8)));
        let report = verify_on(&disk).unwrap();
        if !report.is_sound() {
            found += 1;
            let others = report.findings.iter().filter(|one| one.ill.is_fault());
            let mut others =
                others.filter(|one| !one.file.contains(name.trim_end_matches("-copy")));
            assert_eq!(others.next(), None, "another file is blamed");
            continue;
        }
        let after = survive(&before, &disk, is_open_log(&disk, name))
            .await
            .unwrap();
        assert_eq!(after, whole, "it was called sound");
    }
    assert!(found > 60, "{found} of 120 found");
}

fn real() -> Options {
    Options {
        segment_bytes: 64 * 1024,
        ..options()
    }
}

fn check(folder: &Path) -> Report {
    verify_folder(folder, &mut |_, _| {}).unwrap().unwrap()
}

/// Opens a backup as a store of its own, from a copy.
async fn opened(backup: &Path, data: &Path) -> ShelfHold {
    let restoring = Restoring::begin(backup, data, real(), false).await.unwrap();
    restoring.finish(at(0)).await.unwrap();
    ShelfHold::open(data, real()).await.unwrap()
}

// The backup is made while other tasks put and release.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_has_everything_that_was_answered_and_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let hold = Arc::new(
        ShelfHold::open(&dir.path().join("data"), real())
            .await
            .unwrap(),
    );
    let stop = Arc::new(AtomicBool::new(false));
    let putting = {
        let (hold, stop) = (Arc::clone(&hold), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut dice = fastrand::Rng::with_seed(1);
            let mut round = 0;
            while !stop.load(Ordering::Acquire) {
                let make = |number| {
                    with(&format!("m{round}-{number}"), |held| {
                        held.message.body = noise(&mut dice, 300).into();
                    })
                };
                put(&*hold, (0..20).map(make).collect()).await;
                round += 1;
            }
        })
    };
    let releasing = {
        let (hold, stop) = (Arc::clone(&hold), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Acquire) {
                let leased = lend(&*hold, &lane(), at(1), 7).await.unwrap();
                deliver(&*hold, &leased, at(1)).await;
            }
        })
    };
    for number in 0..4 {
        let mut known = Vec::new();
        for extra in 0..40 {
            let name = format!("known-{number}-{extra}");
            let later = with(&name, |held| held.due = at(600));
            put(&*hold, vec![later]).await;
            known.push(id(&name));
        }
        let to = dir.path().join(format!("backup-{number}"));
        let copied = hold.backup(&to, at(1)).await.unwrap();
        assert!(copied.files > 4 && copied.bytes > 0 && copied.unread == 0);
        let report = check(&to);
        assert!(report.is_sound(), "{report:#?}");
        let note = BackupNote::of(&to).unwrap().unwrap();
        assert_eq!(note.taken_at, at(1));
        let rights = to.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(rights, 0o700, "for its owner alone");
        let copy = opened(&to, &dir.path().join(format!("data-{number}"))).await;
        for found in copy.find(&known).await.unwrap() {
            assert_eq!(found.unwrap().state, State::Held);
        }
        let mut seen = BTreeSet::new();
        loop {
            let leased = lend(&copy, &lane(), at(1_000), 500).await.unwrap();
            for loan in &leased {
                assert!(seen.insert(loan.held.message.id.clone()), "twice");
            }
            if leased.is_empty() {
                break;
            }
            deliver(&copy, &leased, at(1_000)).await;
        }
        assert_eq!(seen.len() as u64, report.held + report.leased);
        assert!(known.iter().all(|id| seen.contains(id)));
    }
    stop.store(true, Ordering::Release);
    putting.await.unwrap();
    releasing.await.unwrap();
}

#[tokio::test]
async fn holes_stay_holes_in_a_backup_and_are_not_shared_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let hold = ShelfHold::open(&dir.path().join("data"), real())
        .await
        .unwrap();
    let mut dice = fastrand::Rng::with_seed(3);
    for round in 0..60 {
        let mut make = |number| {
            with(&format!("m{round}-{number}"), |held| {
                held.message.body = noise(&mut dice, 2_000).into();
            })
        };
        put(&hold, vec![make(0), make(1)]).await;
    }
    until(async || check_names(&dir.path().join("data/shelf"), "idx-") >= 2).await;
    let early = dir.path().join("early");
    hold.backup(&early, at(0)).await.unwrap();
    let leased = lend(&hold, &lane(), at(1), 100).await.unwrap();
    deliver(&hold, &leased, at(1)).await;
    let now = hold.verify().await.unwrap();
    assert!(now.is_sound(), "{now:#?}");
    let report = check(&early);
    assert!(
        report.is_sound(),
        "what left here is still there: {report:#?}"
    );
    assert_eq!(report.held, 120);
    let late = dir.path().join("late");
    hold.backup(&late, at(2)).await.unwrap();
    let occupied = |folder: &Path| -> u64 {
        let files = folder.read_dir().unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().blocks() * 512)
            .sum()
    };
    let report = check(&late);
    assert!(report.is_sound() && report.held == 20, "{report:#?}");
    assert!(occupied(&late) <= occupied(&early), "no larger than it was");
}

fn check_names(folder: &Path, prefix: &str) -> usize {
    let names = folder.read_dir().unwrap();
    let names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(prefix)).count()
}

#[tokio::test]
async fn a_backup_that_fails_midway_leaves_nothing_that_looks_like_one() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::seeded(8);
    let hold = open(&disk);
    put(&hold, vec![held("a"), held("b")]).await;
    let log = files(&disk, "log-").pop().unwrap();
    disk.remove(&log).unwrap();
    let to = dir.path().join("backup");
    let error = hold.backup(&to, at(0)).await.unwrap_err();
    assert!(error.to_string().contains(&log), "{error}");
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn what_a_crash_left_of_a_backup_is_no_backup_and_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let hold = ShelfHold::open(&dir.path().join("data"), real())
        .await
        .unwrap();
    put(&hold, vec![held("a")]).await;
    let (to, partial) = (dir.path().join("backup"), dir.path().join("backup.partial"));
    std::fs::create_dir(&partial).unwrap();
    std::fs::write(partial.join("log-00000007"), "half").unwrap();
    let refused = Restoring::begin(&partial, &dir.path().join("other"), real(), false).await;
    assert!(refused.is_err(), "it has no manifest");
    hold.backup(&to, at(0)).await.unwrap();
    assert!(check(&to).is_sound() && !partial.exists());
    assert!(!to.join("log-00000007").exists());
    let again = hold.backup(&to, at(0)).await.unwrap_err();
    assert_eq!(again.kind, Kind::Invalid, "another is never replaced");
    let relative = hold.backup(Path::new("backup"), at(0)).await.unwrap_err();
    assert_eq!(relative.kind, Kind::Invalid);
    // Somebody's own folder is not emptied.
    let (to, partial) = (dir.path().join("mine"), dir.path().join("mine.partial"));
    std::fs::create_dir(&partial).unwrap();
    std::fs::write(partial.join("letter.txt"), "dear").unwrap();
    let error = hold.backup(&to, at(0)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    assert!(partial.join("letter.txt").exists());
}

/// A backup of a store with messages in all states, and the folder of a new data directory.
async fn backed_up(dir: &Path) -> std::path::PathBuf {
    let hold = ShelfHold::open(&dir.join("data"), real()).await.unwrap();
    put(&hold, vec![held("buried")]).await;
    let leased = lease(&hold, at(0), ALL).await;
    let why = "a test".to_owned();
    let verdict = Verdict::Bury { why };
    let token = leased[0].token;
    hold.settle(vec![Settle { token, verdict }], at(0))
        .await
        .unwrap();
    put(&hold, vec![held("on-loan")]).await;
    assert_eq!(lease(&hold, at(0), ALL).await.len(), 1);
    put(
        &hold,
        vec![held("left"), held("waits"), of_campaign("called", "x")],
    )
    .await;
    let to = dir.join("backup");
    hold.backup(&to, at(1)).await.unwrap();
    to
}

#[tokio::test]
async fn a_restored_hold_ends_what_has_ended_and_doubts_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let backup = backed_up(dir.path()).await;
    let data = dir.path().join("new");
    let restoring = Restoring::begin(&backup, &data, real(), false)
        .await
        .unwrap();
    let ends = vec![
        (id("left"), End::Delivered),
        (id("left"), End::Delivered),
        (id("buried"), End::Rejected),
        (id("nobody"), End::Delivered),
    ];
    assert_eq!(restoring.end_known(ends, at(2)).await.unwrap(), 2);
    let campaign = Scope::Campaign("x".into());
    let recalled = restoring.hold().recall(&campaign, at(2)).await.unwrap();
    assert_eq!(recalled.recalled, 1);
    assert_eq!(restoring.doubt(at(2)).await.unwrap(), 2);
    assert!(!data.join("shelf").exists(), "not before all is done");
    restoring.finish(at(2)).await.unwrap();
    let hold = ShelfHold::open(&data, real()).await.unwrap();
    let leased = lease(&hold, at(3), ALL).await;
    let names: Vec<&str> = leased
        .iter()
        .map(|one| one.held.message.id.as_str())
        .collect();
    assert_eq!(names, ["on-loan", "waits"], "in their order");
    assert!(
        leased.iter().all(|one| one.lapsed),
        "receipts are asked first"
    );
    let states = hold
        .find(&[id("left"), id("buried"), id("called")])
        .await
        .unwrap();
    let states: Vec<State> = states.into_iter().map(|one| one.unwrap().state).collect();
    assert_eq!(states, [State::Delivered, State::Rejected, State::Recalled]);
    let again = hold.put(vec![held("left")], at(3)).await.unwrap();
    assert_eq!(again, [Put::Duplicate]);
    drop(hold);
    assert!(check(&data.join("shelf")).is_sound());
}

#[tokio::test]
async fn a_restore_without_receipts_buries_everything() {
    let dir = tempfile::tempdir().unwrap();
    let backup = backed_up(dir.path()).await;
    let data = dir.path().join("new");
    let restoring = Restoring::begin(&backup, &data, real(), false)
        .await
        .unwrap();
    assert_eq!(restoring.bury_all("a restore", at(2)).await.unwrap(), 4);
    restoring.finish(at(2)).await.unwrap();
    let hold = ShelfHold::open(&data, real()).await.unwrap();
    assert_eq!(totals(&hold).await, (0, 0, 5));
    let waits = hold.find(&[id("waits")]).await.unwrap().remove(0).unwrap();
    assert_eq!(waits.why.as_deref(), Some("a restore"));
    assert_eq!(waits.held.message, held("waits").message);
    let one = Scope::Id(id("waits"));
    assert_eq!(hold.kick(&one, at(3)).await.unwrap(), 1);
    assert_eq!(lease(&hold, at(3), ALL).await.len(), 1);
}

#[tokio::test]
async fn a_restore_never_replaces_a_hold_unasked_nor_one_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let backup = backed_up(dir.path()).await;
    let data = dir.path().join("data");
    let begin = async |replaces| Restoring::begin(&backup, &data, real(), replaces).await;
    let hold = ShelfHold::open(&data, real()).await.unwrap();
    assert_eq!(begin(true).await.err().unwrap().kind, Kind::Unavailable);
    drop(hold);
    assert_eq!(begin(false).await.err().unwrap().kind, Kind::Invalid);
    let aside = begin(true)
        .await
        .unwrap()
        .finish(at(9))
        .await
        .unwrap()
        .unwrap();
    assert!(check(&aside).is_sound(), "the old one is still whole");
    assert!(check(&data.join("shelf")).is_sound());
    assert!(!data.join("hold-restoring").exists());
}

/// What is held, lent or buried. What was recalled on loan ends only when it comes back.
async fn live<'a>(hold: &ShelfHold, before: &'a Before) -> BTreeSet<&'a String> {
    let mut live = BTreeSet::new();
    for name in before.put.keys() {
        let found = hold.find(&[id(name)]).await.unwrap().remove(0).unwrap();
        if matches!(found.state, State::Held | State::Leased | State::Buried) {
            live.insert(name);
        }
    }
    live
}

#[tokio::test]
async fn an_export_has_every_live_message_whole_page_by_page() {
    let before = build(24).await;
    let hold = open(&copy(&before.disk));
    let (mut seen, mut pages, mut from) = (BTreeMap::new(), 0, Some(0));
    while let Some(at) = from {
        let page = hold.export(at, 2_000).await.unwrap();
        assert_eq!(page.lost, []);
        for found in page.found {
            let name = found.held.message.id.as_str().to_owned();
            assert_eq!(found.held.message, before.put[&name].message);
            assert_eq!(found.why.is_some(), found.state == State::Buried, "{name}");
            assert!(seen.insert(name, found.state).is_none());
        }
        (pages, from) = (pages + 1, page.next);
    }
    let seen: BTreeSet<&String> = seen.keys().collect();
    assert_eq!(seen, live(&hold, &before).await);
    assert!(pages > 10, "{pages}");
}

#[tokio::test]
async fn an_export_of_a_damaged_store_has_the_rest_and_names_what_is_lost() {
    let before = build(25).await;
    let live = live(&open(&copy(&before.disk)), &before).await.len();
    let sealed = files(&before.disk, "idx-")[0].replace("idx-", "log-");
    let disk = copy(&before.disk);
    overwrite(&disk, &sealed, 64, &[0xa5; 16 * 1024]);
    let hold = open(&disk);
    let page = hold.export(0, usize::MAX).await.unwrap();
    assert_eq!(page.next, None);
    let lost: u64 = page.lost.iter().map(|one| one.messages).sum();
    assert!(lost > 0 && page.lost.iter().all(|one| one.file == sealed));
    assert_eq!(page.found.len() + lost as usize, live);
    for found in page.found {
        let message = &found.held.message;
        assert_eq!(*message, before.put[message.id.as_str()].message);
    }
}

//! Disks that are full, that fail, and that take little at a time.

use nightgate::error::{Error, Kind};
use nightgate::hold::shelf::{Options, ShelfHold};
use nightgate::hold::{HoldStore, Put};
use nightgate_log::disk::{Disk, SimDisk};
use std::sync::Arc;

use crate::oracle::Oracle;
use crate::script::Script;
use crate::support::*;
use crate::world::{at, held, id, lane, with};

/// Puts until that fails; the ids that were answered.
async fn fill(hold: &dyn HoldStore, dice: &mut fastrand::Rng) -> (Vec<String>, Option<Error>) {
    let mut answered = Vec::new();
    for round in 0..2_000 {
        let names: Vec<String> = (0..5).map(|number| format!("r{round}-{number}")).collect();
        let message = |name: &String| {
            let body = noise(dice, 400);
            with(name, |held| held.message.body = body.into())
        };
        match hold.put(names.iter().map(message).collect(), at(0)).await {
            Ok(answers) => {
                let new = names
                    .into_iter()
                    .zip(&answers)
                    .filter(|(_, put)| **put == Put::New);
                answered.extend(new.map(|(name, _)| name));
                if answers.contains(&Put::Full) {
                    return (answered, None);
                }
            }
            Err(error) => return (answered, Some(error)),
        }
    }
    panic!("the disk never filled");
}

async fn assert_held(hold: &dyn HoldStore, names: &[String]) {
    let ids: Vec<_> = names.iter().map(|name| id(name)).collect();
    let found = hold.find(&ids).await.unwrap();
    for (name, found) in names.iter().zip(found) {
        assert!(found.is_some(), "{name} was acknowledged and is gone");
    }
}

#[tokio::test]
async fn a_full_disk_stops_the_hold_and_loses_nothing() {
    for seed in 0..12 {
        println!("seed {seed}");
        let mut dice = fastrand::Rng::with_seed(seed);
        let disk = SimDisk::seeded(seed);
        let hold = open(&disk);
        disk.space_left(Some(40_000 + dice.u64(..60_000)));
        let (answered, error) = fill(&hold, &mut dice).await;
        if let Some(error) = error {
            let kind = error.kind;
            assert!(
                matches!(kind, Kind::Poisoned | Kind::Unavailable),
                "{error}"
            );
        }
        assert!(!answered.is_empty());
        assert_held_or_stopped(&hold, &answered).await;
        drop(hold);
        // The process starts again, with room and without.
        if let Ok(hold) = try_open(&disk) {
            assert_held(&hold, &answered).await;
        }
        disk.space_left(None);
        let hold = open(&disk);
        assert_held(&hold, &answered).await;
        let more = hold.put(vec![held("more")], at(0)).await.unwrap();
        assert_eq!(more, [Put::New]);
        let leased = lend(&hold, &lane(), at(0), 100_000).await.unwrap();
        assert!(leased.len() > answered.len());
    }
}

/// A hold that was poisoned answers nothing any more; one that was not, everything.
async fn assert_held_or_stopped(hold: &ShelfHold, names: &[String]) {
    match hold.check().await {
        Ok(()) => assert_held(hold, names).await,
        Err(error) => {
            assert_eq!(error.kind, Kind::Poisoned);
            let text = format!("{error}");
            assert!(text.contains("start again"), "says what to do: {text}");
        }
    }
}

#[tokio::test]
async fn a_failed_sync_stops_the_hold_and_is_never_asked_again() {
    let disk = SimDisk::new();
    // One log, so that nothing but puts asks for syncs.
    let options = Options {
        segment_bytes: 1 << 30,
        ..options()
    };
    let hold = ShelfHold::open_on(Arc::new(disk.clone()), options).unwrap();
    hold.put(vec![held("before")], at(0)).await.unwrap();
    let syncs = disk.syncs();
    disk.fail_sync(syncs + 1);
    for attempt in 0..5 {
        let put = hold.put(vec![held("lost")], at(0)).await;
        assert_eq!(put.unwrap_err().kind, Kind::Poisoned, "attempt {attempt}");
        let leased = lend(&hold, &lane(), at(0), 10).await;
        assert_eq!(
            leased.unwrap_err().kind,
            Kind::Poisoned,
            "attempt {attempt}"
        );
    }
    assert_eq!(hold.check().await.unwrap_err().kind, Kind::Poisoned);
    drop(hold);
    assert_eq!((disk.syncs(), disk.failed_syncs()), (syncs + 1, 1));
    let hold = open(&disk.crash(&mut fastrand::Rng::with_seed(1)));
    assert_held(&hold, &["before".to_owned()]).await;
}

/// As the power cuts, but with a sync that fails: the process dies of it, and then the machine.
#[tokio::test]
async fn nothing_acknowledged_is_lost_whichever_sync_fails() {
    for seed in seeds(1) {
        let mut chance = fastrand::Rng::with_seed(seed);
        for sync in (1..160).step_by(3) {
            println!("seed {seed}, sync {sync} fails");
            let (mut script, mut oracle) = (Script::new(seed), Oracle::new());
            let disk = SimDisk::seeded(seed);
            disk.fail_sync(sync);
            if let Ok(hold) = try_open(&disk) {
                for _ in 0..40 {
                    if script.step(&hold, &mut oracle).await.is_err() {
                        break;
                    }
                }
            }
            assert!(disk.failed_syncs() <= 1);
            let disk = disk.crash(&mut chance);
            let hold = open(&disk);
            oracle.ask(&hold, script.now).await;
            script.drain(&hold, &mut oracle).await;
            assert_eq!(oracle.open(), Vec::<&str>::new());
        }
    }
}

#[tokio::test]
async fn a_disk_that_takes_little_at_a_time_gets_everything() {
    for seed in seeds(1) {
        let (mut script, mut oracle) = (Script::new(seed), Oracle::new());
        let disk = SimDisk::seeded(seed);
        disk.short_writes(Some(701));
        let hold = open(&disk);
        for _ in 0..30 {
            script.step(&hold, &mut oracle).await.unwrap();
        }
        drop(hold);
        let disk = disk.crash(&mut fastrand::Rng::with_seed(seed));
        let hold = open(&disk);
        oracle.ask(&hold, script.now).await;
        script.drain(&hold, &mut oracle).await;
        assert_eq!(oracle.open(), Vec::<&str>::new());
    }
}

#[tokio::test]
async fn what_a_bad_sector_holds_is_put_aside_and_the_rest_leaves() {
    let mut dice = fastrand::Rng::with_seed(3);
    let disk = SimDisk::new();
    let hold = open(&disk);
    for round in 0..40 {
        let messages = (0..10).map(|number| {
            let body = noise(&mut dice, 300);
            with(&format!("r{round}-{number}"), |held| {
                held.message.body = body.into()
            })
        });
        hold.put(messages.collect(), at(0)).await.unwrap();
    }
    drop(hold);
    let hold = open(&disk);
    let log = files(&disk, "log-")[0].clone();
    let len = disk.open(&log, false).unwrap().len().unwrap();
    disk.fail_read(&log, len / 2..len / 2 + 512);
    let mut delivered = 0;
    loop {
        let leased = lend(&hold, &lane(), at(0), 37).await.unwrap();
        let shelves = hold.shelves(None, None).await.unwrap();
        let left: u64 = shelves.iter().map(|shelf| shelf.held).sum();
        delivered += leased.len() as u64;
        if leased.is_empty() && left == 0 {
            let aside: u64 = shelves.iter().map(|shelf| shelf.buried).sum();
            assert!(aside > 0, "a sector of a sealed log was bad");
            assert_eq!(delivered + aside, 400, "every message is somewhere");
            return;
        }
    }
}

//! Power cuts at every sync of a life, and what must be true afterwards.

use nightgate::hold::HoldStore;
use nightgate_log::disk::{Disk, SimDisk};

use crate::oracle::Oracle;
use crate::script::Script;
use crate::support::*;

/// Steps of a life. With small segments that is some hundreds of syncs.
const STEPS: usize = 60;
/// Lives unless told.
const SEEDS: u64 = 2;
/// Every so many-th sync is tried unless one seed is asked for.
const STRIDE: u64 = 3;

/// Leads a life until it is over or the power goes.
async fn live(disk: &SimDisk, script: &mut Script, oracle: &mut Oracle, steps: usize) -> bool {
    let Ok(hold) = try_open(disk) else {
        return false;
    };
    for _ in 0..steps {
        if script.step(&hold, oracle).await.is_err() {
            return false;
        }
    }
    true
}

/// How many syncs a life takes when nothing happens to it.
async fn syncs(seed: u64) -> u64 {
    let disk = SimDisk::seeded(seed);
    let (mut script, mut oracle) = (Script::new(seed), Oracle::new());
    assert!(live(&disk, &mut script, &mut oracle, STEPS).await);
    for kind in ["idx-", "ids-", "state-"] {
        assert!(
            !files(&disk, kind).is_empty(),
            "the life is too short for {kind}"
        );
    }
    disk.syncs()
}

async fn cut_at(seed: u64, sync: u64) {
    println!("seed {seed}, the power goes at sync {sync}");
    let mut chance = fastrand::Rng::with_seed(seed << 32 | sync);
    let (mut script, mut oracle) = (Script::new(seed), Oracle::new());
    let mut disk = SimDisk::seeded(seed);
    // One cut where it was asked for, then another somewhere in what is mended.
    for (cut, steps) in [(sync, STEPS), (chance.u64(1..60), 20)] {
        disk.crash_at_sync(cut);
        live(&disk, &mut script, &mut oracle, steps).await;
        disk = disk.crash(&mut chance);
        println!("cut at sync {cut}, left with {:?}", disk.names().unwrap());
        let hold = open(&disk);
        oracle.ask(&hold, script.now).await;
        drop(hold);
    }
    let hold = open(&disk);
    let again = oracle.remembered();
    let answers = hold.put(again.clone(), script.now).await.unwrap();
    oracle.put(&again, Some(&answers), script.now);
    for _ in 0..10 {
        script.step(&hold, &mut oracle).await.unwrap();
    }
    script.drain(&hold, &mut oracle).await;
    oracle.ask(&hold, script.now).await;
    assert_eq!(oracle.open(), Vec::<&str>::new(), "everything left");
    assert_eq!(
        hold.shelves(None, None).await.unwrap(),
        [],
        "nothing is counted any more"
    );
    assert_eq!(
        files(&disk, "quarantine"),
        Vec::<String>::new(),
        "a power cut is no damage"
    );
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_wherever_the_power_goes() {
    let stride = match told("NIGHTGATE_SHELF_SEED") {
        Some(_) => 1,
        None => STRIDE,
    };
    for seed in seeds(SEEDS) {
        let all = syncs(seed).await;
        println!("seed {seed}: {all} syncs");
        if let Some(sync) = told("NIGHTGATE_SHELF_SYNC") {
            cut_at(seed, sync).await;
            continue;
        }
        let cuts = (1 + seed % stride..=all).step_by(usize::try_from(stride).unwrap());
        for sync in cuts {
            cut_at(seed, sync).await;
        }
    }
}

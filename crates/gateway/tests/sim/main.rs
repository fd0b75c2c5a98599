//! Seeded nights over the real gate and the real releaser. See docs/SIMULATOR.md.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a simulator may fail loudly"
)]

mod build;
mod drive;
mod faults;
mod forgetful;
mod history;
mod knobs;
#[cfg(feature = "mongodb")]
#[path = "../behaviour/mongodb/server.rs"]
#[expect(
    dead_code,
    reason = "shared with the behaviour suite, which uses the rest"
)]
mod mongodb_server;
mod mutants;
mod oracle;
#[cfg(feature = "redis")]
#[path = "../behaviour/redis/server.rs"]
#[expect(
    dead_code,
    reason = "shared with the behaviour suite, which uses the rest"
)]
mod redis_server;
mod script;
mod sink;
mod store;
mod stores;
mod world;

use std::collections::BTreeMap;

use tokio::runtime::Runtime;

use build::Stores;
use drive::night;
use knobs::Knobs;
use stores::{in_memory, in_memory_forgetful, on_disk};

/// Nights of one run unless `NIGHTGATE_SIM_SEEDS` says otherwise.
const SEEDS_DEFAULT: u64 = 1000;
/// The same on disk, where every call waits for it.
const DISK_SEEDS_DEFAULT: u64 = 6;
/// The same in Redis, where every call travels.
#[cfg(feature = "redis")]
const REDIS_SEEDS_DEFAULT: u64 = 4;
/// The same in MongoDB, where what speaks as it does is slow.
#[cfg(feature = "mongodb")]
const MONGODB_SEEDS_DEFAULT: u64 = 2;
/// Events shown from before two nights part.
const SHOWN: usize = 40;

fn told(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().expect("a whole number"))
}

/// Runs nights and fails with the first violation of each promise, and how many nights broke it.
fn expect_quiet(seeds: impl Iterator<Item = u64>, stores: impl Fn() -> Stores) -> [usize; 3] {
    let mut broken: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut run = [0; 3];
    for seed in seeds {
        let night = night(Knobs::of(seed), stores());
        if told("NIGHTGATE_SIM_ALL").is_some() {
            println!("{}", history::whole(&night.history));
        }
        run = [
            run[0] + 1,
            run[1] + night.ticks,
            run[2] + night.history.len(),
        ];
        for violation in oracle::judge(&night) {
            let first = || (0, oracle::report(&night, &violation));
            let kind = format!("{}: {}", violation.rule, violation.text);
            let digits = |at: char| at.is_ascii_digit();
            let kind = kind.split(digits).collect::<String>();
            broken.entry(kind).or_insert_with(first).0 += 1;
        }
    }
    for (count, report) in broken.values() {
        println!("{report}{count} times\n");
    }
    let kinds: Vec<_> = broken
        .iter()
        .map(|(kind, (count, _))| (kind, count))
        .collect();
    assert!(kinds.is_empty(), "broken promises: {kinds:#?}");
    run
}

#[test]
fn no_night_breaks_a_promise() {
    let seeds = match told("NIGHTGATE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..told("NIGHTGATE_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT),
    };
    let [nights, ticks, events] = expect_quiet(seeds, in_memory);
    println!("{nights} nights, {ticks} ticks, {events} events");
}

#[test]
fn one_seed_is_one_night() {
    for seed in 0..20 {
        let (one, two) = (
            night(Knobs::of(seed), in_memory()),
            night(Knobs::of(seed), in_memory()),
        );
        assert_eq!(one.history, two.history, "seed {seed}");
    }
}

/// What stores of their own threads and connections need.
fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

/// Runs the night of `seed` over `stores` and over memory, which forgets as much: nothing is
/// broken, and history, event for event, and what is left in the hold are the same.
fn is_the_night_in_memory(seed: u64, stores: Stores) {
    let (name, ended) = (stores.hold.name(), stores.hold.capability().ended);
    let there = night(Knobs::of(seed), stores);
    if let Some(first) = oracle::judge(&there).first() {
        panic!("{name}: {}", oracle::report(&there, first));
    }
    let memory = match ended {
        true => in_memory(),
        false => in_memory_forgetful(),
    };
    let memory = night(Knobs::of(seed), memory);
    let pairs = there.history.iter().zip(&memory.history);
    let same = pairs.take_while(|(there, memory)| there == memory).count();
    let rest = [&there, &memory].map(|night| night.history.get(same));
    assert_eq!(
        rest[0],
        rest[1],
        "{name} and memory part at {same} in the night of seed {seed}, after\n{}",
        history::whole(&memory.history[same.saturating_sub(SHOWN)..same])
    );
    assert_eq!(there.counts, memory.counts, "{name}, seed {seed}");
    assert_eq!(there.left(), memory.left(), "{name}, seed {seed}");
}

#[test]
fn nights_on_disk_are_the_nights_in_memory() {
    let runtime = runtime();
    let _inside = runtime.enter();
    for seed in 0..told("NIGHTGATE_SIM_DISK_SEEDS").unwrap_or(DISK_SEEDS_DEFAULT) {
        let dir = tempfile::tempdir().unwrap();
        is_the_night_in_memory(seed, on_disk(dir.path()));
    }
}

#[cfg(feature = "redis")]
#[test]
fn nights_in_redis_are_the_nights_in_memory() {
    let runtime = runtime();
    let _inside = runtime.enter();
    for seed in 0..told("NIGHTGATE_SIM_REDIS_SEEDS").unwrap_or(REDIS_SEEDS_DEFAULT) {
        is_the_night_in_memory(seed, stores::redis::stores(1));
    }
}

/// Partitions have an order each, so these nights are others than in memory: the oracle judges.
#[cfg(feature = "redis")]
#[test]
fn no_night_in_four_partitions_of_redis_breaks_a_promise() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let seeds = 0..told("NIGHTGATE_SIM_REDIS_SEEDS").unwrap_or(REDIS_SEEDS_DEFAULT);
    expect_quiet(seeds, || stores::redis::stores(4));
}

#[cfg(feature = "mongodb")]
#[test]
fn nights_in_mongodb_are_the_nights_in_memory() {
    let runtime = runtime();
    let _inside = runtime.enter();
    for seed in 0..told("NIGHTGATE_SIM_MONGODB_SEEDS").unwrap_or(MONGODB_SEEDS_DEFAULT) {
        is_the_night_in_memory(seed, stores::mongodb::stores());
    }
}

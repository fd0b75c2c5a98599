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
mod history;
mod knobs;
mod mutants;
mod oracle;
mod script;
mod sink;
mod store;
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nightgate::consent::memory::MemoryBook;
use nightgate::consent::sqlite::SqliteBook;
use nightgate::hold::HORIZON_DEFAULT;
use nightgate::hold::memory::MemoryHold;
use nightgate::hold::shelf::{Options, ShelfHold};
use nightgate::receipt::memory::MemoryLog;
use nightgate::receipt::sqlite::SqliteLog;

use build::Stores;
use drive::night;
use knobs::Knobs;
use world::at_once;

/// Nights of one run unless `NIGHTGATE_SIM_SEEDS` says otherwise.
const SEEDS_DEFAULT: u64 = 1000;
/// The same on disk, where every call waits for it.
const DISK_SEEDS_DEFAULT: u64 = 6;

fn in_memory() -> Stores {
    Stores {
        hold: Arc::new(MemoryHold::new(HORIZON_DEFAULT)),
        book: Arc::new(MemoryBook::default()),
        log: Arc::new(MemoryLog::default()),
    }
}

/// Stores on disk in `dir`. Needs a runtime: they use its threads.
fn on_disk(dir: &Path) -> Stores {
    let hold = at_once(ShelfHold::open(&dir.join("hold"), Options::default())).unwrap();
    Stores {
        hold: Arc::new(hold),
        book: Arc::new(SqliteBook::open(&dir.join("consent.db")).unwrap()),
        log: Arc::new(SqliteLog::open(&dir.join("receipts.db")).unwrap()),
    }
}

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

#[test]
fn nights_on_disk_are_the_nights_in_memory() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let _inside = runtime.enter();
    for seed in 0..told("NIGHTGATE_SIM_DISK_SEEDS").unwrap_or(DISK_SEEDS_DEFAULT) {
        let dir = tempfile::tempdir().unwrap();
        let disk = night(Knobs::of(seed), on_disk(dir.path()));
        if let Some(first) = oracle::judge(&disk).first() {
            panic!("on disk: {}", oracle::report(&disk, first));
        }
        let memory = night(Knobs::of(seed), in_memory());
        let pairs = disk.history.iter().zip(&memory.history);
        for (place, (disk, memory)) in pairs.enumerate() {
            assert_eq!(
                disk, memory,
                "the stores part at {place} in the night of seed {seed}"
            );
        }
        assert_eq!(disk.counts, memory.counts, "seed {seed}");
    }
}

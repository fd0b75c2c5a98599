//! Seeded nights over the real gate and the real releaser. See docs/SIMULATOR.md.

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
use std::sync::Arc;

use nightgate::consent::memory::MemoryBook;
use nightgate::hold::HORIZON_DEFAULT;
use nightgate::hold::memory::MemoryHold;
use nightgate::receipt::memory::MemoryLog;

use drive::{Stores, night};
use knobs::Knobs;

/// Nights of one run unless `NIGHTGATE_SIM_SEEDS` says otherwise.
const SEEDS_DEFAULT: u64 = 1000;

fn in_memory() -> Stores {
    Stores {
        hold: Arc::new(MemoryHold::new(HORIZON_DEFAULT)),
        book: Arc::new(MemoryBook::default()),
        log: Arc::new(MemoryLog::default()),
    }
}

fn told(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a whole number"))
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

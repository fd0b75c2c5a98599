//! Runs against a model, their filters, merges and damage.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use nightgate_log::{Disk, Entry, FilterBudget, FilterHome, Run, SimDisk};

const BASE: u64 = 1_000_000;

/// Entries with some hashes twice, thrice, and one over more than a page.
fn some_entries(seed: u64, count: usize) -> BTreeSet<Entry> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut entries = BTreeSet::new();
    let mut hash = rng.u64(..);
    while entries.len() < count {
        if rng.u8(..10) > 0 {
            hash = rng.u64(..);
        }
        entries.insert(Entry {
            hash,
            place: BASE + rng.u64(..1 << 39),
        });
    }
    let twin = rng.u64(..);
    let repeats = if count > 1_000 { 700 } else { 0 };
    entries.extend((0..repeats).map(|place| Entry {
        hash: twin,
        place: BASE + place,
    }));
    entries
}

fn write(disk: &SimDisk, name: &str, entries: &BTreeSet<Entry>) -> Run {
    let count = entries.len() as u64;
    let summary = Run::write(disk, name, BASE, entries.iter().copied(), count).unwrap();
    assert_eq!(
        summary.bytes,
        disk.open(name, false).unwrap().len().unwrap()
    );
    let run = Run::open(disk, name, FilterHome::InMemory).unwrap();
    assert_eq!(run.summary(), summary);
    run
}

fn places(run: &Run, hash: u64) -> Vec<u64> {
    let mut places = Vec::new();
    run.find(hash, &mut places).unwrap();
    places
}

#[test]
fn a_run_answers_as_a_sorted_map_would() {
    for (seed, count) in [0, 1, 2, 313, 314, 315, 628, 5_000, 60_000]
        .into_iter()
        .enumerate()
    {
        let disk = SimDisk::new();
        let entries = some_entries(seed as u64, count);
        let mut run = write(&disk, "ids", &entries);
        let streamed: Vec<_> = run.entries().map(Result::unwrap).collect();
        assert_eq!(streamed, entries.iter().copied().collect::<Vec<_>>());
        let summary = run.summary();
        let least = entries.iter().map(|entry| entry.place).min();
        let most = entries.iter().map(|entry| entry.place).max();
        assert_eq!(summary.count, entries.len() as u64);
        assert_eq!(summary.first_place, least.unwrap_or(BASE));
        assert_eq!(summary.last_place, most.unwrap_or(BASE));
        for home in [FilterHome::InMemory, FilterHome::OnDisk] {
            run.set_filter_home(home).unwrap();
            assert_eq!(run.filter_home(), home);
            for entry in entries.iter().step_by(7) {
                let at = |hash| {
                    Entry { hash, place: 0 }..=Entry {
                        hash,
                        place: u64::MAX,
                    }
                };
                let model: Vec<_> = entries.range(at(entry.hash)).map(|e| e.place).collect();
                assert_eq!(places(&run, entry.hash), model);
                assert!(
                    run.maybe(entry.hash).unwrap(),
                    "a filter never denies what is there"
                );
            }
        }
        let mut rng = fastrand::Rng::with_seed(99);
        for hash in [0, u64::MAX]
            .into_iter()
            .chain((0..500).map(|_| rng.u64(..)))
        {
            assert_eq!(places(&run, hash), Vec::<u64>::new());
        }
    }
}

#[test]
fn fewer_than_two_in_a_hundred_absent_hashes_pass_the_filter() {
    let disk = SimDisk::new();
    let run = write(&disk, "ids", &some_entries(1, 100_000));
    let mut rng = fastrand::Rng::with_seed(2);
    let absent: Vec<u64> = (0..100_000).map(|_| rng.u64(..)).collect();
    let mut hits = Vec::new();
    run.maybe_all(&absent, &mut hits).unwrap();
    assert!(
        (1..2_000).contains(&hits.len()),
        "{} of 100,000",
        hits.len()
    );
}

#[test]
fn asking_for_all_is_asking_for_each_wherever_the_filter_lives() {
    let disk = SimDisk::new();
    let entries = some_entries(3, 20_000);
    let mut run = write(&disk, "ids", &entries);
    let mut rng = fastrand::Rng::with_seed(4);
    let present = entries.iter().step_by(50).map(|entry| entry.hash);
    let mut hashes: Vec<u64> = present.chain((0..3_001).map(|_| rng.u64(..))).collect();
    rng.shuffle(&mut hashes);
    let each = hashes.iter().map(|hash| run.maybe(*hash).unwrap());
    let each: Vec<usize> = each
        .enumerate()
        .filter_map(|(at, hit)| hit.then_some(at))
        .collect();
    let mut hits = vec![usize::MAX];
    run.maybe_all(&hashes, &mut hits).unwrap();
    run.set_filter_home(FilterHome::OnDisk).unwrap();
    run.maybe_all(&hashes, &mut hits).unwrap();
    assert_eq!(hits[0], usize::MAX, "hits are appended");
    assert_eq!(hits[1..=each.len()], each);
    assert_eq!(hits[each.len() + 1..], each);
}

#[test]
fn a_merge_is_the_union_of_its_inputs() {
    let disk = SimDisk::new();
    let sets = [(1, 9_000), (2, 1), (3, 0), (4, 12_345)].map(|(seed, n)| some_entries(seed, n));
    let mut all: BTreeSet<Entry> = sets.iter().flatten().copied().collect();
    let mut runs: Vec<Run> = Vec::new();
    for (index, set) in sets.iter().enumerate() {
        runs.push(write(&disk, &format!("in-{index}"), set));
    }
    let again: BTreeSet<Entry> = sets[0].iter().step_by(3).copied().collect();
    runs.push(write(&disk, "again", &again));
    let inputs: Vec<&Run> = runs.iter().collect();
    let summary = Run::merge(&disk, &inputs, "merged").unwrap();
    assert_eq!(
        summary.count,
        all.len() as u64,
        "exact repeats are left out"
    );
    let merged = Run::open(&disk, "merged", FilterHome::InMemory).unwrap();
    assert_eq!(
        merged
            .entries()
            .map(Result::unwrap)
            .collect::<BTreeSet<_>>(),
        all
    );
    while let Some(entry) = all.pop_first() {
        assert!(merged.maybe(entry.hash).unwrap());
    }
    assert_eq!(Run::merge(&disk, &[], "nothing").unwrap().count, 0);
    assert_eq!(
        Run::open(&disk, "nothing", FilterHome::OnDisk)
            .unwrap()
            .entries()
            .count(),
        0
    );
}

#[test]
fn a_run_that_could_not_be_read_back_is_not_written() {
    let disk = SimDisk::new();
    let entry = |hash, place| Entry { hash, place };
    let refused = |base, entries: &[Entry], count| {
        let fault = Run::write(&disk, "x", base, entries.iter().copied(), count).unwrap_err();
        assert_eq!(fault.kind(), ErrorKind::InvalidInput);
        fault.to_string()
    };
    assert!(refused(0, &[entry(2, 0), entry(1, 0)], 2).contains("not sorted"));
    assert!(refused(0, &[entry(1, 5), entry(1, 4)], 2).contains("not sorted"));
    assert!(refused(0, &[entry(1, 0), entry(2, 0)], 1).contains("more entries"));
    assert!(refused(0, &[entry(1, 1 << 40)], 1).contains("too far"));
    assert!(refused(9, &[entry(1, 8)], 1).contains("too far"));
    let fine = [entry(1, 9), entry(1, 9), entry(1, 8 + (1 << 40))];
    assert_eq!(
        Run::write(&disk, "x", 9, fine.into_iter(), 5)
            .unwrap()
            .count,
        2
    );
    assert_eq!(
        places(&Run::open(&disk, "x", FilterHome::OnDisk).unwrap(), 1),
        [9, 8 + (1 << 40)]
    );
}

#[test]
fn a_damaged_page_is_an_error_that_names_file_and_page() {
    let entries = some_entries(6, 30_000);
    let clean = SimDisk::new();
    let pages = write(&clean, "ids-7", &entries).summary().bytes / 4096;
    let mut parts = BTreeSet::new();
    for page in 1..pages {
        let disk = SimDisk::new();
        write(&disk, "ids-7", &entries);
        assert!(disk.flip("ids-7", page * 4096 + 4095 * (page % 2), 0x40));
        let fault = match Run::open(&disk, "ids-7", FilterHome::InMemory) {
            Err(fault) => fault,
            Ok(run) => run.entries().find_map(Result::err).expect("nobody noticed"),
        };
        assert_eq!(fault.kind(), ErrorKind::InvalidData);
        let said = fault.to_string();
        assert!(said.starts_with("ids-7: "), "{said}");
        assert!(
            page == pages - 1 || said.contains(&format!("page {page} ")),
            "{said}"
        );
        parts.insert(
            said.split(['(', ')'])
                .nth(1)
                .unwrap_or("the footer")
                .to_owned(),
        );
    }
    assert_eq!(
        parts.into_iter().collect::<Vec<_>>(),
        ["entries", "fences", "the filter", "the footer"]
    );
}

#[test]
fn a_damaged_filter_page_on_disk_is_an_error_and_not_a_no() {
    let disk = SimDisk::new();
    let entries = some_entries(8, 5_000);
    write(&disk, "ids", &entries);
    let run = Run::open(&disk, "ids", FilterHome::OnDisk).unwrap();
    let filter_page = 1 + (entries.len() as u64).div_ceil(314);
    disk.flip("ids", filter_page * 4096 + 1_000, 1);
    assert_eq!(run.maybe(0).unwrap_err().kind(), ErrorKind::InvalidData);
    assert!(run.maybe_all(&[0, u64::MAX], &mut Vec::new()).is_err());
}

#[test]
fn two_pages_that_changed_places_are_noticed() {
    let disk = SimDisk::new();
    write(&disk, "ids", &some_entries(6, 3_000));
    let file = disk.open("ids", false).unwrap();
    let mut pages = [[0; 4096]; 2];
    for (page, at) in pages.iter_mut().zip([4096, 8192]) {
        nightgate_log::read_exact_at(file.as_ref(), page, at).unwrap();
    }
    for (page, at) in pages.iter().zip([8192, 4096]) {
        nightgate_log::write_all_at(file.as_ref(), page, at).unwrap();
    }
    let run = Run::open(&disk, "ids", FilterHome::OnDisk).unwrap();
    assert!(run.entries().any(|entry| entry.is_err()));
}

#[test]
fn a_run_is_durable_once_it_is_written() {
    let disk = SimDisk::new();
    let entries = some_entries(5, 2_000);
    write(&disk, "ids", &entries);
    disk.sync_names().unwrap();
    for seed in 0..20 {
        let left = disk.crash(&mut fastrand::Rng::with_seed(seed));
        let run = Run::open(&left, "ids", FilterHome::InMemory).unwrap();
        assert!(
            run.entries()
                .map(Result::unwrap)
                .eq(entries.iter().copied())
        );
    }
}

#[test]
fn a_run_that_was_never_finished_does_not_open() {
    let entries = some_entries(5, 2_000);
    let disk = SimDisk::new();
    disk.crash_at_sync(1);
    let written = Run::write(&disk, "ids", BASE, entries.iter().copied(), 2_000 + 700);
    assert!(written.is_err());
    let mut whole = 0;
    for seed in 0..200 {
        let left = disk.crash(&mut fastrand::Rng::with_seed(seed));
        let Ok(run) = Run::open(&left, "ids", FilterHome::InMemory) else {
            continue;
        };
        // Whatever opens is either all there or says where it is not.
        let read: Result<Vec<Entry>, _> = run.entries().collect();
        whole += usize::from(read.is_ok_and(|read| read.iter().eq(entries.iter())));
    }
    assert!(whole < 200);
}

#[test]
fn the_newest_filters_live_in_memory_while_they_fit() {
    use FilterHome::{InMemory, OnDisk};
    let homes = |bytes, sizes: &[u64]| FilterBudget { bytes }.homes(sizes);
    assert_eq!(
        homes(100, &[40, 50, 30, 10]),
        [InMemory, InMemory, OnDisk, InMemory]
    );
    assert_eq!(homes(0, &[1]), [OnDisk]);
    assert_eq!(homes(0, &[]), []);
}

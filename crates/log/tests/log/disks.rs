//! The simulated disk itself: what it keeps, what it may lose, what it never touches.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use nightgate_log::disk::sim::is_power_off;
use nightgate_log::{Disk, DiskFile, SimDisk, read_exact_at, write_all_at};

fn all(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    read_exact_at(file, &mut bytes, 0).unwrap();
    bytes
}

/// What each of many power losses leaves of a disk.
fn losses(disk: &SimDisk) -> impl Iterator<Item = SimDisk> {
    let disk = disk.clone();
    (0..200).map(move |seed| disk.crash(&mut fastrand::Rng::with_seed(seed)))
}

#[test]
fn what_was_synced_is_never_touched() {
    let disk = SimDisk::new();
    let file = disk.open("a", true).unwrap();
    write_all_at(file.as_ref(), &[1; 3_000], 0).unwrap();
    file.sync().unwrap();
    disk.sync_names().unwrap();
    write_all_at(file.as_ref(), &[2; 9_000], 3_000).unwrap();
    let mut outcomes = BTreeSet::new();
    for left in losses(&disk) {
        let bytes = all(left.open("a", false).unwrap().as_ref());
        assert_eq!(bytes[..3_000], [1; 3_000]);
        assert!(bytes[3_000..].iter().all(|byte| [0, 2].contains(byte)));
        outcomes.insert(bytes);
    }
    assert!(
        outcomes.iter().any(|bytes| bytes.len() == 3_000),
        "sometimes all is lost"
    );
    assert!(
        outcomes
            .iter()
            .any(|bytes| bytes.len() == 12_000 && !bytes.contains(&0))
    );
    assert!(
        outcomes.iter().any(|bytes| bytes.contains(&0)),
        "sometimes it is torn"
    );
    let edge = |bytes: &Vec<u8>| {
        let pairs = bytes.windows(2).enumerate();
        pairs
            .filter(|(_, pair)| pair[0] != pair[1] && pair[0] != 1)
            .all(|(at, _)| (at + 1) % 512 == 0)
    };
    assert!(outcomes.iter().all(edge), "it tears at sectors only");
}

#[test]
fn the_same_seed_leaves_the_same_disk() {
    let disk = SimDisk::new();
    let file = disk.open("a", true).unwrap();
    write_all_at(file.as_ref(), &[1; 9_000], 0).unwrap();
    disk.sync_names().unwrap();
    let left = |seed| {
        let left = disk.crash(&mut fastrand::Rng::with_seed(seed));
        all(left.open("a", false).unwrap().as_ref())
    };
    for seed in 0..50 {
        assert_eq!(left(seed), left(seed));
    }
}

#[test]
fn a_name_is_kept_only_when_names_were_synced() {
    let disk = SimDisk::new();
    disk.open("old", true).unwrap().sync().unwrap();
    disk.sync_names().unwrap();
    disk.open("temp", true).unwrap().sync().unwrap();
    disk.rename("temp", "old").unwrap();
    let seen: BTreeSet<_> = losses(&disk).map(|left| left.names().unwrap()).collect();
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        seen,
        BTreeSet::from([names(&["old"]), names(&["old", "temp"])])
    );
    disk.sync_names().unwrap();
    disk.remove("old").unwrap();
    let seen: BTreeSet<_> = losses(&disk).map(|left| left.names().unwrap()).collect();
    assert_eq!(seen, BTreeSet::from([names(&[]), names(&["old"])]));
}

#[test]
fn a_rename_never_loses_the_bytes_that_were_synced_under_either_name() {
    let disk = SimDisk::new();
    for (name, byte) in [("m", 1), ("m.new", 2)] {
        let file = disk.open(name, true).unwrap();
        write_all_at(file.as_ref(), &[byte; 100], 0).unwrap();
        file.sync().unwrap();
        disk.sync_names().unwrap();
    }
    disk.rename("m.new", "m").unwrap();
    for left in losses(&disk) {
        let bytes = all(left.open("m", false).unwrap().as_ref());
        assert!(bytes == [1; 100] || bytes == [2; 100]);
    }
}

#[test]
fn a_failed_sync_is_not_mended_by_the_next() {
    let mut lost = 0;
    for seed in 0..40 {
        let disk = SimDisk::seeded(seed);
        let file = disk.open("a", true).unwrap();
        disk.sync_names().unwrap();
        write_all_at(file.as_ref(), &[1; 2_000], 0).unwrap();
        disk.fail_sync(2);
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert_eq!(
            all(file.as_ref()),
            [1; 2_000],
            "the page cache shows it still"
        );
        let left = disk.crash(&mut fastrand::Rng::with_seed(0));
        lost += u64::from(all(left.open("a", false).unwrap().as_ref()) != [1; 2_000]);
    }
    assert!((5..40).contains(&lost), "lost {lost} times of 40");
}

#[test]
fn every_call_fails_once_the_power_is_off() {
    let disk = SimDisk::new();
    let file = disk.open("a", true).unwrap();
    disk.crash_at_sync(2);
    file.sync().unwrap();
    let off = file.sync().unwrap_err();
    assert!(is_power_off(&off), "{off}");
    for fault in [
        file.write_at(&[1], 0).unwrap_err(),
        file.read_at(&mut [1], 0).unwrap_err(),
        file.len().unwrap_err(),
        disk.open("a", false).err().unwrap(),
        disk.names().unwrap_err(),
        disk.sync_names().unwrap_err(),
        disk.rename("a", "b").unwrap_err(),
    ] {
        assert!(is_power_off(&fault));
    }
    assert!(
        disk.crash(&mut fastrand::Rng::with_seed(0)).names().is_ok(),
        "after it is on again"
    );
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = SimDisk::new();
    let file = disk.open("a", true).unwrap();
    disk.space_left(Some(10));
    assert_eq!(file.write_at(&[1; 8], 0).unwrap(), 8);
    assert_eq!(file.write_at(&[1; 8], 8).unwrap(), 2);
    assert_eq!(
        file.write_at(&[1; 8], 10).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(disk.space().unwrap().free, 0);
    assert!(file.reserve(11).is_err());
}

#[test]
fn a_bad_range_fails_only_reads_that_touch_it() {
    let disk = SimDisk::new();
    let file = disk.open("a", true).unwrap();
    write_all_at(file.as_ref(), &[1; 300], 0).unwrap();
    disk.fail_read("a", 100..200);
    assert!(file.read_at(&mut [0; 100], 0).is_ok());
    assert!(file.read_at(&mut [0; 101], 0).is_err());
    assert!(file.read_at(&mut [0; 10], 199).is_err());
    assert!(file.read_at(&mut [0; 10], 200).is_ok());
}

#[test]
fn a_punched_range_reads_as_zeros_and_is_given_back() {
    let disk = SimDisk::new();
    let file = disk.open("a", true).unwrap();
    write_all_at(file.as_ref(), &[1; 20_000], 0).unwrap();
    let before = file.occupied().unwrap();
    file.punch(1_000, 12_000).unwrap();
    let bytes = all(file.as_ref());
    assert_eq!(bytes.len(), 20_000);
    assert!(bytes[1_000..13_000].iter().all(|byte| *byte == 0));
    assert!(
        bytes[..1_000]
            .iter()
            .chain(&bytes[13_000..])
            .all(|byte| *byte == 1)
    );
    assert!(file.occupied().unwrap() < before);
}

#[test]
fn a_name_that_leaves_the_folder_is_refused() {
    let disk = SimDisk::new();
    for name in ["", "..", "../a", "/a", "a/../b", "a/b/c", "a\0", "a/"] {
        let fault = disk.open(name, true).err().unwrap();
        assert_eq!(fault.kind(), ErrorKind::InvalidInput, "{name:?}");
    }
    disk.open("quarantine/log-1", true).unwrap();
    assert_eq!(disk.names().unwrap(), Vec::<String>::new());
    let missing = disk.open("nothing", false).err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

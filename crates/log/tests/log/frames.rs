//! Frames and scans: good files, torn ends, damage in the middle.

use std::io;

use nightgate_log::frame::{self, Damage, DataSum, ScanEnd};
use nightgate_log::head::Salt;
use nightgate_log::{Disk, DiskFile, SimDisk, write_all_at};

use super::support::{data_of, meta_of, salt};

const FROM: u64 = 64;

/// A file of frames, with where each begins and, at last, the end.
struct Log {
    disk: SimDisk,
    starts: Vec<u64>,
}

/// Frames 1 to the sum of `groups`, each number a group of so many frames.
fn log_of(groups: &[u32]) -> Log {
    let mut bytes = vec![0; FROM as usize];
    let (mut starts, mut lsn) = (Vec::new(), 1);
    for group in groups {
        for behind in 0..*group {
            starts.push(bytes.len() as u64);
            let (meta, data) = (meta_of(lsn), data_of(lsn));
            let sum = DataSum::of(&[&data]);
            frame::encode_behind(&salt(1), lsn, behind, &meta, &[&data], sum, &mut bytes);
            lsn += 1;
        }
    }
    starts.push(bytes.len() as u64);
    let disk = SimDisk::new();
    let file = disk.open("log", true).unwrap();
    write_all_at(file.as_ref(), &bytes, 0).unwrap();
    Log { disk, starts }
}

impl Log {
    fn file(&self) -> std::sync::Arc<dyn DiskFile> {
        self.disk.open("log", false).unwrap()
    }

    fn scan(&self, verify: bool) -> (Vec<u64>, ScanEnd) {
        scan_with(self.file().as_ref(), &salt(1), verify)
    }

    fn start(&self, lsn: u64) -> u64 {
        self.starts[lsn as usize - 1]
    }
}

fn scan_with(file: &dyn DiskFile, salt: &Salt, verify: bool) -> (Vec<u64>, ScanEnd) {
    let mut lsns = Vec::new();
    let end = frame::scan(file, salt, FROM, 1, verify, &mut |found| {
        assert_eq!(found.meta, meta_of(found.lsn));
        assert_eq!(found.data_len as usize, data_of(found.lsn).len());
        lsns.push(found.lsn);
        Ok(())
    });
    (lsns, end.unwrap())
}

#[test]
fn encode_says_where_the_data_lies_and_pads_to_eight() {
    for len in 0..40 {
        let mut out = vec![1; 16];
        let data = vec![9; len];
        let at = frame::encode(
            &salt(1),
            1,
            b"meta!",
            &[&data[..len / 2], &data[len / 2..]],
            &mut out,
        );
        assert_eq!(out[at..at + len], data);
        assert_eq!(out.len() as u64 - 16, frame::frame_len(5, len as u64));
        assert_eq!(out.len() % 8, 0);
    }
}

#[test]
fn a_scan_visits_every_frame_in_order() {
    let log = log_of(&[3, 1, 1, 8, 20]);
    for verify in [false, true] {
        let (lsns, end) = log.scan(verify);
        assert_eq!(lsns, (1..=33).collect::<Vec<_>>());
        let whole = ScanEnd {
            valid_to: log.start(34),
            next_lsn: 34,
            torn: None,
            damage: Vec::new(),
        };
        assert_eq!(end, whole);
    }
}

#[test]
fn frames_longer_than_what_is_read_at_once_are_found() {
    let (meta, data) = (vec![3; 2_500_000], vec![4; 3_300_000]);
    let mut bytes = vec![0; FROM as usize];
    for lsn in 1..4 {
        frame::encode(&salt(1), lsn, &meta, &[&data], &mut bytes);
    }
    let disk = SimDisk::new();
    let file = disk.open("log", true).unwrap();
    write_all_at(file.as_ref(), &bytes, 0).unwrap();
    for verify in [false, true] {
        let mut seen = 0;
        let end = frame::scan(file.as_ref(), &salt(1), FROM, 1, verify, &mut |found| {
            assert!(found.meta == meta && found.data_len == 3_300_000);
            seen += 1;
            Ok(())
        });
        assert_eq!((seen, end.unwrap().torn), (3, None));
    }
}

#[test]
fn a_file_cut_anywhere_keeps_every_frame_before_the_cut() {
    let log = log_of(&[1, 2, 3, 2]);
    let whole = log.start(9);
    for len in FROM..whole {
        let file = log.file();
        let before = read_all(file.as_ref());
        file.set_len(len).unwrap();
        let (lsns, end) = log.scan(true);
        // Zeros behind a frame's data are not part of it.
        let kept = (1..=8).take_while(|lsn| log.start(lsn + 1) < len + 8);
        let kept = kept.filter(|lsn| data_end(&log, *lsn) <= len).count();
        assert_eq!(lsns.len(), kept, "cut at {len}");
        assert_eq!(end.valid_to, log.starts[kept]);
        assert_eq!(end.torn.is_some(), len > end.valid_to);
        assert_eq!(end.damage, []);
        write_all_at(file.as_ref(), &before, 0).unwrap();
    }
}

fn data_end(log: &Log, lsn: u64) -> u64 {
    let lens = frame::FRAME_HEAD + meta_of(lsn).len() + data_of(lsn).len();
    log.start(lsn) + lens as u64
}

fn read_all(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    nightgate_log::read_exact_at(file, &mut bytes, 0).unwrap();
    bytes
}

#[test]
fn a_flipped_bit_costs_one_frame_and_later_ones_are_visited() {
    let groups = [1; 20];
    let mut rng = fastrand::Rng::with_seed(9);
    for _ in 0..400 {
        let log = log_of(&groups);
        let lsn = rng.u64(1..20);
        let at = rng.u64(log.start(lsn)..data_end(&log, lsn));
        log.disk.flip("log", at, 1 << rng.u8(..8));
        let (lsns, end) = log.scan(true);
        assert_eq!(
            lsns,
            (1..=20).filter(|other| *other != lsn).collect::<Vec<_>>()
        );
        let lost = Damage {
            range: log.start(lsn)..log.start(lsn + 1),
            lsns: lsn..lsn + 1,
        };
        assert_eq!(end.damage, [lost]);
        assert_eq!((end.next_lsn, end.torn), (21, None));
    }
}

#[test]
fn several_bad_stretches_are_told_apart() {
    let log = log_of(&[1; 30]);
    for lsn in [4, 5, 17] {
        log.disk.flip("log", log.start(lsn) + 1, 0x10);
    }
    let (lsns, end) = log.scan(true);
    assert_eq!(lsns.len(), 27);
    let lost: Vec<_> = end
        .damage
        .iter()
        .map(|damage| damage.lsns.clone())
        .collect();
    assert_eq!(lost, [4..6, 17..18]);
    assert_eq!(end.damage[0].range, log.start(4)..log.start(6));
}

#[test]
fn damage_of_data_is_seen_only_when_data_is_verified() {
    let log = log_of(&[1; 6]);
    let lsn = (2..6).find(|lsn| !data_of(*lsn).is_empty()).unwrap();
    log.disk.flip("log", data_end(&log, lsn) - 1, 1);
    assert_eq!(log.scan(false).0.len(), 6);
    assert_eq!(log.scan(true).1.damage.len(), 1);
}

#[test]
fn a_hole_in_the_last_group_is_a_torn_end() {
    let log = log_of(&[2, 1, 5]);
    log.disk.flip("log", log.start(5), 0xff);
    let (lsns, end) = log.scan(true);
    assert_eq!(lsns, [1, 2, 3, 4]);
    assert_eq!((end.valid_to, end.next_lsn), (log.start(5), 5));
    assert_eq!(end.torn, Some(log.start(5)..log.start(9)));
    assert_eq!(end.damage, []);
    frame::cut(log.file().as_ref(), &end).unwrap();
    assert_eq!(log.scan(true).1.torn, None);
}

#[test]
fn a_hole_that_a_later_group_stands_behind_is_damage() {
    let log = log_of(&[2, 5, 3, 4]);
    log.disk.flip("log", log.start(4), 0xff);
    log.disk.flip("log", log.start(12), 0xff);
    let (lsns, end) = log.scan(true);
    assert_eq!(lsns, [1, 2, 3, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(end.damage.len(), 1, "the second hole is in the last group");
    assert_eq!(end.damage[0].lsns, 4..5);
    assert_eq!(end.torn, Some(log.start(12)..log.start(15)));
}

#[test]
fn a_gap_in_the_numbers_is_damage() {
    let mut bytes = vec![0; FROM as usize];
    for lsn in [1, 2, 5] {
        frame::encode(&salt(1), lsn, &meta_of(lsn), &[&data_of(lsn)], &mut bytes);
    }
    let disk = SimDisk::new();
    let file = disk.open("log", true).unwrap();
    write_all_at(file.as_ref(), &bytes, 0).unwrap();
    let (lsns, end) = scan_with(file.as_ref(), &salt(1), true);
    assert_eq!(lsns, [1, 2, 5]);
    assert_eq!(end.damage.len(), 1);
    assert!(end.damage[0].range.is_empty());
    assert_eq!(end.damage[0].lsns, 3..5);
}

#[test]
fn frames_of_another_file_are_not_taken_for_ours() {
    let log = log_of(&[1; 5]);
    let (lsns, end) = scan_with(log.file().as_ref(), &salt(2), true);
    assert!(lsns.is_empty());
    assert_eq!(end.torn, Some(FROM..log.start(6)));
}

#[test]
fn zeros_behind_the_last_frame_are_neither_torn_nor_damage() {
    let log = log_of(&[1; 5]);
    log.file().set_len(log.start(6) + 5_000_000).unwrap();
    let (lsns, end) = log.scan(true);
    assert_eq!((lsns.len(), end.torn, end.damage), (5, None, Vec::new()));
}

#[test]
fn one_byte_far_behind_the_last_frame_is_torn() {
    let log = log_of(&[1; 5]);
    let at = log.start(6) + 3_000_000;
    write_all_at(log.file().as_ref(), &[1], at).unwrap();
    assert_eq!(log.scan(true).1.torn, Some(log.start(6)..at + 1));
}

#[test]
fn the_error_of_a_visit_ends_the_scan() {
    let log = log_of(&[1; 5]);
    let mut seen = 0;
    let end = frame::scan(log.file().as_ref(), &salt(1), FROM, 1, true, &mut |found| {
        seen = found.lsn;
        if found.lsn == 3 {
            Err(io::Error::other("enough"))
        } else {
            Ok(())
        }
    });
    assert_eq!((seen, end.unwrap_err().to_string().as_str()), (3, "enough"));
}

#[test]
fn a_read_that_fails_ends_the_scan_with_its_error() {
    let log = log_of(&[1; 20]);
    log.disk.fail_read("log", log.start(7)..log.start(8));
    let end = frame::scan(
        log.file().as_ref(),
        &salt(1),
        FROM,
        1,
        true,
        &mut |_| Ok(()),
    );
    assert!(end.is_err());
}

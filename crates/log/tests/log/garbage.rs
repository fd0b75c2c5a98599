//! Readers fed with what nobody wrote: no panic, no wrong answer, no memory beyond the file's.

use std::collections::BTreeSet;

use nightgate_log::frame;
use nightgate_log::head::{Head, Salt};
use nightgate_log::{Disk, DiskFile, Entry, FilterHome, HashKey, Run, SimDisk, write_all_at};

use super::support::{data_of, meta_of, salt};

const ROUNDS: u64 = 3_000;
const RUN_ROUNDS: u64 = 3_000;
/// What a disk loses, repeats or mixes up at once, in bytes.
const SECTOR: usize = 4_096;
/// Most bytes that a reader asks for at once, whatever a file says of itself.
const READ_MAX: usize = 1024 * 1024;

/// Where the seeds of a test begin: `NIGHTGATE_SEED` runs others.
fn seeds(rounds: u64) -> std::ops::Range<u64> {
    let told = std::env::var("NIGHTGATE_SEED");
    let first = told.map_or(0, |text| text.parse().unwrap());
    first..first + rounds
}

fn file_of(bytes: &[u8]) -> (SimDisk, std::sync::Arc<dyn DiskFile>) {
    let disk = SimDisk::new();
    let file = disk.open("f", true).unwrap();
    write_all_at(file.as_ref(), bytes, 0).unwrap();
    (disk, file)
}

/// A file that fails when more is asked of it at once than a reader may: what a reader sets aside
/// for a piece of a file it then asks for.
struct Frugal(std::sync::Arc<dyn DiskFile>);

impl DiskFile for Frugal {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> std::io::Result<usize> {
        self.0.write_at(bytes, at)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> std::io::Result<usize> {
        assert!(into.len() <= READ_MAX, "{} bytes asked for", into.len());
        self.0.read_at(into, at)
    }

    fn sync(&self) -> std::io::Result<()> {
        self.0.sync()
    }

    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn reserve(&self, len: u64) -> std::io::Result<()> {
        self.0.reserve(len)
    }

    fn punch(&self, at: u64, len: u64) -> std::io::Result<()> {
        self.0.punch(at, len)
    }

    fn occupied(&self) -> std::io::Result<u64> {
        self.0.occupied()
    }
}

/// Flips, fills, cuts, doubles or moves some bytes.
fn mutate(bytes: &mut Vec<u8>, rng: &mut fastrand::Rng) {
    for _ in 0..rng.usize(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.usize(..bytes.len());
        let len = rng.usize(..64).min(bytes.len() - at);
        match rng.u8(..10) {
            0 | 1 => bytes[at] ^= 1 << rng.u8(..8),
            2 => bytes[at..at + len].fill([0, 0xff][rng.usize(..2)]),
            3 => bytes[at..at + len].fill_with(|| rng.u8(..)),
            4 => bytes.truncate(at),
            // A sector that reads as zeros, one that stands twice, or a number at an extreme.
            6 => {
                let at = at / SECTOR * SECTOR;
                let end = bytes.len().min(at + SECTOR);
                bytes[at..end].fill(0);
            }
            7 => {
                let sectors = bytes.len() / SECTOR;
                if sectors > 1 {
                    let from = rng.usize(..sectors) * SECTOR;
                    bytes.copy_within(from..from + SECTOR, rng.usize(..sectors) * SECTOR);
                }
            }
            8 => {
                let at = at / 8 * 8;
                let extremes = [0, 1, u64::MAX, u64::MAX - 7, 1 << 31, 1 << 63, 0xffff_ffff];
                let number = extremes[rng.usize(..extremes.len())].to_le_bytes();
                let end = bytes.len().min(at + 8);
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            5 => {
                let piece = bytes[at..at + len].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let other = rng.usize(..bytes.len() - len + 1);
                bytes.copy_within(at..at + len, other);
            }
        }
    }
}

/// Scans; every frame visited is one that was written, in order, and the end makes sense.
fn scan_checked(bytes: &[u8], written: &BTreeSet<u64>) {
    let (_disk, file) = file_of(bytes);
    let file = Frugal(file);
    for verify in [true, false] {
        let mut last = 0;
        let end = frame::scan(&file, &salt(1), 0, 1, verify, &mut |found| {
            assert!(written.contains(&found.lsn) && found.lsn > last);
            assert_eq!(found.meta, meta_of(found.lsn));
            let mut data = vec![0; found.data_len as usize];
            nightgate_log::read_exact_at(&file, &mut data, found.data_at).unwrap();
            assert!(!verify || data == data_of(found.lsn));
            last = found.lsn;
            Ok(())
        });
        let end = end.unwrap();
        assert!(end.valid_to < bytes.len() as u64 + 8);
        assert_eq!(end.next_lsn, last + 1);
        assert!(
            end.damage
                .iter()
                .all(|damage| damage.range.end <= end.valid_to)
        );
        assert!(
            end.torn
                .is_none_or(|torn| torn == (end.valid_to..bytes.len() as u64))
        );
    }
}

#[test]
fn a_mutated_log_yields_only_frames_that_were_written() {
    let mut whole = Vec::new();
    let mut rng = fastrand::Rng::with_seed(11);
    let mut behind = 0;
    for lsn in 1..=12 {
        let (meta, data) = (meta_of(lsn), data_of(lsn));
        let sum = frame::DataSum::of(&[&data]);
        frame::encode_behind(&salt(1), lsn, behind, &meta, &[&data], sum, &mut whole);
        behind = if rng.bool() { behind + 1 } else { 0 };
    }
    let written: BTreeSet<u64> = (1..=12).collect();
    scan_checked(&whole, &written);
    for seed in seeds(ROUNDS) {
        let mut bytes = whole.clone();
        mutate(&mut bytes, &mut fastrand::Rng::with_seed(seed));
        scan_checked(&bytes, &written);
    }
}

#[test]
fn random_bytes_hold_no_frame() {
    for seed in seeds(ROUNDS) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; rng.usize(..5_000)];
        rng.fill(&mut bytes);
        scan_checked(&bytes, &BTreeSet::new());
    }
}

#[test]
fn lengths_beyond_the_file_or_the_limits_are_no_frame() {
    let lie = |meta_len: u32, data_len: u64| {
        let mut bytes = Vec::new();
        frame::encode(&salt(1), 1, b"", &[], &mut bytes);
        bytes[4..8].copy_from_slice(&meta_len.to_le_bytes());
        bytes[8..16].copy_from_slice(&data_len.to_le_bytes());
        let seed = crc32c::crc32c(&salt(1).0);
        let crc = crc32c::crc32c_append(seed, &bytes[..36]);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        scan_checked(&bytes, &BTreeSet::new());
    };
    for meta_len in [1, 0x00ff_ffff, 0x0100_0000, u32::MAX] {
        for data_len in [0, 1, 1 << 30, u64::MAX] {
            lie(meta_len, data_len);
        }
    }
    lie(0, 1);
    lie(0, u64::MAX - 7);
}

#[test]
fn a_mutated_head_reads_as_itself_or_not_at_all() {
    let head = Head {
        kind: 1,
        version: 1,
        salt: Salt([3; 16]),
    };
    for seed in seeds(ROUNDS) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = head.encode().to_vec();
        mutate(&mut bytes, &mut rng);
        if let Ok(read) = Head::decode("f", &bytes, 1, 1) {
            assert_eq!(read, head, "seed {seed}");
        }
        bytes.resize(64, 0);
        rng.fill(&mut bytes);
        assert!(Head::decode("f", &bytes, 1, 1).is_err());
    }
}

/// A run and its bytes.
fn a_run() -> (BTreeSet<Entry>, Vec<u8>) {
    let mut rng = fastrand::Rng::with_seed(21);
    let entry = |_| Entry {
        hash: rng.u64(..),
        place: rng.u64(..1_000),
    };
    let entries: BTreeSet<Entry> = (0..1_500).map(entry).collect();
    let disk = SimDisk::new();
    Run::write(&disk, "f", 0, entries.iter().copied(), entries.len() as u64).unwrap();
    let file = disk.open("f", false).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    nightgate_log::read_exact_at(file.as_ref(), &mut bytes, 0).unwrap();
    (entries, bytes)
}

#[test]
fn a_mutated_run_answers_rightly_or_with_an_error() {
    let (entries, whole) = a_run();
    let mut refused = 0;
    for seed in seeds(RUN_ROUNDS) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = whole.clone();
        mutate(&mut bytes, &mut rng);
        let (disk, _file) = file_of(&bytes);
        let home = if rng.bool() {
            FilterHome::InMemory
        } else {
            FilterHome::OnDisk
        };
        let Ok(run) = Run::open(&disk, "f", home) else {
            refused += 1;
            continue;
        };
        assert!(run.filter_bytes() <= bytes.len() as u64);
        for entry in entries.iter().step_by(40) {
            let mut places = Vec::new();
            if run.find(entry.hash, &mut places).is_ok() {
                assert_eq!(places, [entry.place]);
            }
            assert!(run.maybe(entry.hash).unwrap_or(true));
        }
        let sound = run.entries().map_while(Result::ok);
        assert!(sound.zip(&entries).all(|(read, written)| read == *written));
    }
    assert!(refused > 0);
}

#[test]
fn a_footer_that_lies_asks_for_no_memory() {
    let (_, whole) = a_run();
    let salt_seed = crc32c::crc32c(&whole[8..24]);
    let at = whole.len() - 4096;
    let number = (at / 4096) as u64;
    for field in 0..2 {
        for lie in [0, 1, u64::from(u32::MAX), u64::MAX / 13, u64::MAX] {
            let mut bytes = whole.clone();
            bytes[at + 8 + field * 8..at + 16 + field * 8].copy_from_slice(&lie.to_le_bytes());
            let crc = crc32c::crc32c_append(salt_seed, &number.to_le_bytes());
            let crc = crc32c::crc32c_append(crc, &bytes[at + 4..]);
            bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
            let (disk, _file) = file_of(&bytes);
            if let Ok(run) = Run::open(&disk, "f", FilterHome::InMemory) {
                assert!(run.summary().count <= 1_500);
                assert!(run.filter_bytes() <= bytes.len() as u64);
            }
        }
    }
}

#[test]
fn random_bytes_are_no_run() {
    for seed in seeds(RUN_ROUNDS) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; rng.usize(..5) * 4096];
        rng.fill(&mut bytes);
        let (disk, _file) = file_of(&bytes);
        assert!(Run::open(&disk, "f", FilterHome::InMemory).is_err());
    }
}

#[test]
fn a_hash_is_siphash_1_3_under_its_key() {
    let key = HashKey(std::array::from_fn(|index| index as u8));
    assert_eq!(key.hash(b""), key.hash(b""));
    assert_ne!(key.hash(b"a"), key.hash(b"b"));
    assert_ne!(key.hash(b"a"), HashKey([0; 16]).hash(b"a"));
    // Fixed for good: runs on disks were written with it.
    assert_eq!(key.hash(b""), 0xabac_0158_050f_c4dc);
    assert_eq!(format!("{key:?}"), "HashKey(..)");
}

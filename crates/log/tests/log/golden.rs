//! Frames and runs of format 1, as bytes: they are read for good, and written so until there is a
//! format 2. Heads have theirs in `heads`.

use nightgate_log::frame::{self, DataSum, scan};
use nightgate_log::{Disk, Entry, FilterHome, Run, Salt, SimDisk, read_exact_at, write_all_at};

const SALT: Salt = Salt(*b"sixteen bytes!!!");

/// Frame 7 with a meta and data, then frame 8 of the same group, with a meta alone.
const FRAMES: &str = "\
    9e4e461d040000000500000000000000070000000000000000000000\
    9510071b59e4bda1626f30bd6d6574616461746121000000\
    000000009e4e461d0100000000000000000000000800000000000000\
    01000000e08c938c00000000949afd726d00000000000000";

/// The stretches of a run that are not zeros, and where they stand.
const RUN: [(usize, &str); 10] = [
    (0, "4e474c47720001003f991eeda3ecc2524744891a2d99c993"),
    (60, "7c52f945"),
    (
        4096,
        "9a3039a003000000efcdab8967452301070000000001000000ffffff7f",
    ),
    (4130, "1032547698badcfe0000000002"),
    (8192, "ee322807"),
    (
        8224,
        "0280010001800100011008000101800021000004110000080200005000100880",
    ),
    (12288, "d330859b00000000efcdab8967452301"),
    (
        16384,
        "53e909170000000003000000000000000300000000000000e803",
    ),
    (16416, "e803000000000000e803000002"),
    (20479, "00"),
];
const PAGE: usize = 4096;

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

fn golden_run() -> Vec<u8> {
    let mut bytes = vec![0; RUN[RUN.len() - 1].0 + 1];
    for (at, hex) in RUN {
        let stretch = bytes_of(hex);
        bytes[at..at + stretch.len()].copy_from_slice(&stretch);
    }
    bytes
}

fn entries() -> [Entry; 3] {
    let entry = |hash, place| Entry { hash, place };
    [
        entry(0x0123_4567_89ab_cdef, 1_007),
        entry(0x7fff_ffff_0000_0001, 1_000),
        entry(0xfedc_ba98_7654_3210, 1_000 + (1 << 33)),
    ]
}

#[test]
fn frames_of_format_1_are_read_for_good_and_written_to_the_byte() {
    let golden = bytes_of(FRAMES);
    let mut written = Vec::new();
    frame::encode(&SALT, 7, b"meta", &[b"da", b"ta!"], &mut written);
    let none = DataSum::of(&[]);
    frame::encode_behind(&SALT, 8, 1, b"m", &[], none, &mut written);
    assert_eq!(written, golden);

    let disk = SimDisk::new();
    let file = disk.open("f", true).unwrap();
    write_all_at(&*file, &golden, 0).unwrap();
    let mut found = Vec::new();
    let end = scan(&*file, &SALT, 0, 7, true, &mut |frame| {
        let mut data = vec![0; frame.data_len as usize];
        read_exact_at(&*file, &mut data, frame.data_at)?;
        found.push((frame.lsn, frame.meta.to_vec(), data));
        Ok(())
    });
    let expected = [
        (7, b"meta".to_vec(), b"data!".to_vec()),
        (8, b"m".to_vec(), Vec::new()),
    ];
    assert_eq!(found, expected);
    assert_eq!(end.unwrap().valid_to, golden.len() as u64);
}

#[test]
fn a_run_of_format_1_is_read_for_good() {
    let disk = SimDisk::new();
    write_all_at(&*disk.open("r", true).unwrap(), &golden_run(), 0).unwrap();
    for home in [FilterHome::InMemory, FilterHome::OnDisk] {
        let run = Run::open(&disk, "r", home).unwrap();
        let read: Vec<Entry> = run.entries().map(Result::unwrap).collect();
        assert_eq!(read, entries());
        let summary = run.summary();
        assert_eq!((summary.count, summary.base), (3, 1_000));
        assert_eq!(
            (summary.first_place, summary.last_place),
            (1_000, 1_000 + (1 << 33))
        );
        for entry in entries() {
            let mut places = Vec::new();
            run.find(entry.hash, &mut places).unwrap();
            assert_eq!(places, [entry.place]);
            assert!(run.maybe(entry.hash).unwrap());
        }
        let absent = (1..1_000).filter(|hash| run.maybe(hash << 40).unwrap());
        assert!(absent.count() < 20, "the filter says no");
    }
}

#[test]
fn a_run_is_written_as_format_1_but_for_its_salt() {
    let disk = SimDisk::new();
    Run::write(&disk, "r", 1_000, entries().into_iter(), 3).unwrap();
    let file = disk.open("r", false).unwrap();
    let mut written = vec![0; file.len().unwrap() as usize];
    read_exact_at(&*file, &mut written, 0).unwrap();
    let mut golden = golden_run();
    for bytes in [&mut written, &mut golden] {
        // The salt, and every checksum it goes into.
        bytes[8..24].fill(0);
        bytes[60..64].fill(0);
        for page in bytes.chunks_mut(PAGE).skip(1) {
            page[..4].fill(0);
        }
    }
    assert_eq!(written, golden);
}

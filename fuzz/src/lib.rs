//! What each fuzz target does with its bytes.
//!
//! The first byte of an input says how the rest is taken: an even one as it is, an odd one with
//! its checksums made right first, so that what stands behind them is read too. `seeds` writes
//! inputs to begin with from the golden store.

use std::sync::Arc;

use nightgate::hold::shelf::fuzzing;
use nightgate_log::frame::{self, FRAME_HEAD};
use nightgate_log::head::{HEAD_LEN, Head, Salt};
use nightgate_log::{Disk, DiskFile, FilterHome, Run, SimDisk, read_exact_at, write_all_at};

const PAGE: usize = 4096;
/// Where the whole files' lengths and checksum stand.
const LENGTHS_AT: usize = HEAD_LEN as usize;
const CONTENTS_AT: usize = LENGTHS_AT + 24;
/// Entries of one run that are looked for.
const FINDS_MAX: usize = 64;

/// The input behind its first byte, and whether checksums are to be made right.
fn taken(bytes: &[u8]) -> (bool, Vec<u8>) {
    match bytes.split_first() {
        Some((how, rest)) => (how % 2 == 1, rest.to_vec()),
        None => (false, Vec::new()),
    }
}

fn file_of(bytes: &[u8]) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new();
    let file = disk.open("f", true).expect("a file in memory");
    write_all_at(&*file, bytes, 0).expect("a file in memory");
    (disk, file)
}

fn stamp_head(bytes: &mut [u8]) {
    if bytes.len() >= HEAD_LEN as usize {
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    }
}

/// What the checksums of a file with this head begin from.
fn seed(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes.get(8..24).unwrap_or_default())
}

/// A file's first 64 bytes.
pub fn head(bytes: &[u8]) {
    let (stamp, mut bytes) = taken(bytes);
    if stamp {
        stamp_head(&mut bytes);
    }
    let kind = bytes.get(4).copied().unwrap_or_default();
    for kind in [kind, b'l'] {
        match Head::decode("f", &bytes, kind, 2) {
            Ok(head) => {
                assert!(head.kind == kind && (1..=2).contains(&head.version));
                let again = Head::decode("f", &head.encode(), kind, 2);
                assert_eq!(again.expect("what was encoded"), head);
            }
            Err(fault) => assert!(fault.to_string().starts_with("f: ")),
        }
    }
}

/// Makes the checksums of whatever looks like a frame right.
fn stamp_frames(bytes: &mut [u8]) {
    let seed = seed(bytes);
    let number = |bytes: &[u8]| usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok();
    for at in (HEAD_LEN as usize..bytes.len()).step_by(8) {
        let (_, frame) = bytes.split_at_mut(at);
        if frame.len() < FRAME_HEAD || frame[..4] != [0x9e, b'N', b'F', 0x1d] {
            continue;
        }
        let meta_len = u32::from_le_bytes(frame[4..8].try_into().expect("4 bytes")) as usize;
        let data_len = number(&frame[8..16]).unwrap_or(usize::MAX);
        let rest = frame.len() - FRAME_HEAD;
        if meta_len <= rest && data_len <= rest - meta_len {
            let (meta, data) = frame[FRAME_HEAD..].split_at(meta_len);
            let (meta, data) = (crc32c::crc32c(meta), crc32c::crc32c(&data[..data_len]));
            frame[28..32].copy_from_slice(&meta.to_le_bytes());
            frame[32..36].copy_from_slice(&data.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(seed, &frame[..36]);
        frame[36..40].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A log file.
pub fn frame(bytes: &[u8]) {
    let (stamp, mut bytes) = taken(bytes);
    if stamp {
        stamp_frames(&mut bytes);
    }
    let len = bytes.len() as u64;
    let salt = bytes.get(8..24).and_then(|salt| salt.try_into().ok());
    let salt = Salt(salt.unwrap_or_default());
    let (_disk, file) = file_of(&bytes);
    for verify in [true, false] {
        let (mut next, mut at) = (1, HEAD_LEN);
        let end = frame::scan(&*file, &salt, HEAD_LEN, 1, verify, &mut |found| {
            assert!(found.lsn >= next && found.offset >= at && found.offset % 8 == 0);
            assert_eq!(
                found.data_at,
                found.offset + (FRAME_HEAD + found.meta.len()) as u64
            );
            at = found.data_at + found.data_len;
            assert!(at <= len);
            let mut data = vec![0; found.data_len as usize];
            read_exact_at(&*file, &mut data, found.data_at)?;
            let told = &bytes[found.offset as usize + 28..][..8];
            assert_eq!(told[..4], crc32c::crc32c(found.meta).to_le_bytes());
            assert!(!verify || told[4..] == crc32c::crc32c(&data).to_le_bytes());
            next = found.lsn.saturating_add(1);
            Ok(())
        });
        let end = end.expect("files in memory are read");
        assert_eq!(end.next_lsn, next);
        assert!(end.valid_to >= at && end.valid_to < at + 8);
        assert!(
            end.damage
                .iter()
                .all(|damage| damage.range.end <= end.valid_to)
        );
        assert!(end.torn.is_none_or(|torn| torn == (end.valid_to..len)));
    }
}

fn stamp_pages(bytes: &mut [u8]) {
    stamp_head(bytes);
    let seed = seed(bytes);
    for (number, page) in bytes.chunks_exact_mut(PAGE).enumerate().skip(1) {
        let crc = crc32c::crc32c_append(seed, &(number as u64).to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &page[4..]);
        page[..4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A run of ids.
pub fn run(bytes: &[u8]) {
    let (stamp, mut bytes) = taken(bytes);
    if stamp {
        bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
        stamp_pages(&mut bytes);
    }
    let (disk, _file) = file_of(&bytes);
    for home in [FilterHome::InMemory, FilterHome::OnDisk] {
        let Ok(run) = Run::open(&disk, "f", home) else {
            continue;
        };
        assert!(run.filter_bytes() <= bytes.len() as u64);
        let entries: Vec<_> = run.entries().map_while(Result::ok).collect();
        assert!(entries.len() as u64 <= run.summary().count);
        assert!(stamp || entries.is_sorted());
        let hashes: Vec<u64> = entries.iter().map(|entry| entry.hash).collect();
        let _ = run.maybe_all(&hashes, &mut Vec::new());
        for entry in entries.iter().take(FINDS_MAX) {
            let mut places = Vec::new();
            let _ = (run.maybe(entry.hash), run.find(entry.hash, &mut places));
            assert!(places.len() <= entries.len());
        }
    }
}

/// A whole file: manifest, checkpoint or index. An odd first byte: its contents are what follows
/// the lengths, not yet compressed.
pub fn manifest(bytes: &[u8]) {
    let (stamp, mut bytes) = taken(bytes);
    if stamp && bytes.len() >= CONTENTS_AT {
        let plain = bytes.split_off(CONTENTS_AT);
        let packed = zstd::bulk::compress(&plain, 1).expect("there is memory");
        stamp_head(&mut bytes);
        bytes[LENGTHS_AT..][..8].copy_from_slice(&(packed.len() as u64).to_le_bytes());
        bytes[LENGTHS_AT + 8..][..8].copy_from_slice(&(plain.len() as u64).to_le_bytes());
        let crc = crc32c::crc32c_append(seed(&bytes), &bytes[LENGTHS_AT..][..16]);
        let crc = crc32c::crc32c_append(crc, &packed);
        bytes[LENGTHS_AT + 16..].copy_from_slice(&u64::from(crc).to_le_bytes());
        bytes.extend(packed);
    }
    fuzzing::whole(&bytes);
}

/// The meta of a frame.
pub fn op(bytes: &[u8]) {
    fuzzing::op(bytes);
}

/// A block: its count (u16), the length of its head (u32), head, body.
pub fn block(bytes: &[u8]) {
    let Some((count, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let Some((length, sections)) = rest.split_first_chunk() else {
        return;
    };
    let length = u32::from_le_bytes(*length) as usize;
    let (head, body) = sections.split_at(length.min(sections.len()));
    fuzzing::block(u16::from_le_bytes(*count).into(), head, body);
}

//! The store's files but the log: what they are called, how they are written and read back.
//!
//! Each is written whole under a temporary name, synced and renamed, so that it is there as it was
//! meant or not at all.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use nightgate_log::disk::{Disk, DiskFile, read_exact_at, write_all_at};
use nightgate_log::frame::{self, scan};
use nightgate_log::head::{HEAD_LEN, Head, Salt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::fault::{Outcome, disk, error};
use super::loans::Loans;
use super::op::{Meta, Stretch};
use super::segment::{Block, Index, Ledger};
use super::shelves::Shelf;
use super::state::blocks_of;
use crate::error::Kind;
use crate::hold::Lane;

/// The version of all files' formats.
pub const FORMAT_VERSION: u16 = 1;
/// What the heads of the files say they hold.
pub(super) const KIND_LOG: u8 = b'l';
pub(super) const KIND_MANIFEST: u8 = b'm';
pub(super) const KIND_INDEX: u8 = b'i';
pub(super) const KIND_STATE: u8 = b's';

pub(super) const MANIFEST: &str = "MANIFEST";
/// What is added to the name of the second copy of a file without which nothing can be told.
const COPY: &str = "-copy";
const TEMPORARY: &str = ".new";
/// Longest whole file read back: a state of a hundred million messages is some MB.
const WHOLE_MAX: u64 = 1 << 30;
/// Length and checksum in front of the contents.
const LENGTHS: u64 = 24;
/// How the names begin of files to which damaged stretches of the log are copied.
pub(super) const QUARANTINE: &str = "quarantine";
/// Most bytes of a damaged stretch that are copied aside.
pub(super) const QUARANTINE_MAX: usize = 64 * 1024 * 1024;
/// What to do where nothing else helps.
const RESTORE: &str = "restore a backup (see OPERATIONS.md, Damage)";
/// zstd level of whole files: they are small and rarely written.
const LEVEL: i32 = 1;

pub(super) fn log_name(no: u32) -> String {
    format!("log-{no:08}")
}

pub(super) fn index_name(no: u32) -> String {
    format!("idx-{no:08}")
}

pub(super) fn run_name(no: u32) -> String {
    format!("ids-{no:08}")
}

pub(super) fn state_name(no: u32) -> String {
    format!("state-{no:08}")
}

/// The manifest and its copy.
pub(super) fn manifest_names() -> [String; 2] {
    [MANIFEST.to_owned(), format!("{MANIFEST}{COPY}")]
}

/// A checkpoint and its copy.
pub(super) fn state_names(no: u32) -> [String; 2] {
    [state_name(no), format!("{}{COPY}", state_name(no))]
}

/// A sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sealed {
    pub(super) no: u32,
    pub(super) base: u64,
    pub(super) end: u64,
}

/// A run of ids, and the segments it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunLine {
    pub(super) no: u32,
    pub(super) first_segment: u32,
    pub(super) last_segment: u32,
    pub(super) count: u64,
}

/// What belongs to the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The key under which ids are hashed.
    pub(super) key: [u8; 16],
    pub(super) sealed: Vec<Sealed>,
    /// Oldest first.
    pub(super) runs: Vec<RunLine>,
    /// The latest checkpoint.
    pub(super) state: Option<u32>,
    /// The first log file that is not sealed, and the number of its first frame.
    pub(super) open_from: u32,
    pub(super) open_lsn: u64,
    /// The number the next run or state gets.
    pub(super) next_no: u32,
}

/// Everything of the state that cannot be read from elsewhere, as of one frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// The last frame it knows of.
    pub(super) lsn: u64,
    pub(super) next_place: u64,
    pub(super) last_shelf: u32,
    pub(super) shelves: BTreeMap<u32, Shelf>,
    pub(super) loans: Loans,
    /// By segment: number, base, end, ledger.
    pub(super) ledgers: Vec<(u32, u64, u64, Ledger)>,
    pub(super) pauses: Vec<(Option<Lane>, i64)>,
    pub(super) damaged: Vec<(Stretch, i64)>,
}

/// A log file that was begun.
pub(super) struct Begun {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) salt: Salt,
}

/// Makes an empty log file, durable by name and head.
pub(super) fn make_log(on: &dyn Disk, no: u32, reserve: u64) -> Outcome<Begun> {
    let make = || -> io::Result<Begun> {
        let file = on.open(&log_name(no), true)?;
        file.set_len(0)?;
        let salt = Salt::random(&mut fastrand::Rng::new());
        let (kind, version) = (KIND_LOG, FORMAT_VERSION);
        Head {
            kind,
            version,
            salt,
        }
        .write(&*file)?;
        reserve_room(&*file, reserve);
        file.sync()?;
        on.sync_names()?;
        Ok(Begun { file, salt })
    };
    make().map_err(disk("begin a log file"))
}

/// Sets room aside for a log, where there is any: writes into it are quicker. Without it the log
/// grows as it is written, and says itself when there is no more room.
pub(super) fn reserve_room(file: &dyn DiskFile, bytes: u64) {
    if let Err(cause) = file.reserve(bytes) {
        tracing::debug!(name = file.name(), %cause, "no room set aside for a log file");
    }
}

fn write_whole<T: Serialize>(on: &dyn Disk, name: &str, kind: u8, contents: &T) -> Outcome<()> {
    let op = format!("write {name}");
    let plain = postcard::to_stdvec(contents);
    let plain = plain.map_err(|cause| error(Kind::Invalid, op.as_str()).with(cause))?;
    let write = || -> io::Result<()> {
        let packed = zstd::bulk::compress(&plain, LEVEL)?;
        let temporary = format!("{name}{TEMPORARY}");
        let file = on.open(&temporary, true)?;
        file.set_len(0)?;
        let salt = Salt::random(&mut fastrand::Rng::new());
        let version = FORMAT_VERSION;
        Head {
            kind,
            version,
            salt,
        }
        .write(&*file)?;
        let lengths = [packed.len() as u64, plain.len() as u64];
        let crc = whole_crc(&salt, lengths, &packed);
        let mut bytes = Vec::with_capacity(packed.len() + 24);
        for number in [lengths[0], lengths[1], u64::from(crc)] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(packed);
        write_all_at(&*file, &bytes, HEAD_LEN)?;
        file.sync()?;
        on.rename(&temporary, name)?;
        on.sync_names()
    };
    write().map_err(disk(&op))
}

/// The checksum of a whole file: of its salt, its lengths and what it holds.
fn whole_crc(salt: &Salt, lengths: [u64; 2], packed: &[u8]) -> u32 {
    let mut crc = crc32c::crc32c(&salt.0);
    for length in lengths {
        crc = crc32c::crc32c_append(crc, &length.to_le_bytes());
    }
    crc32c::crc32c_append(crc, packed)
}

/// What a whole file holds. `InvalidData` when it does not read back as it was written.
pub(super) fn read_whole<T: DeserializeOwned>(
    on: &dyn Disk,
    name: &str,
    kind: u8,
) -> io::Result<T> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{name} {what}"));
    let file = on.open(name, false)?;
    let head = Head::read(&*file, kind, FORMAT_VERSION)?;
    let mut lengths = [0; LENGTHS as usize];
    read_exact_at(&*file, &mut lengths, HEAD_LEN)?;
    let number = |at: usize| {
        let bytes = lengths[at..]
            .first_chunk::<8>()
            .copied()
            .unwrap_or_default();
        u64::from_le_bytes(bytes)
    };
    let (packed, plain, crc) = (number(0), number(8), number(16));
    if packed > file.len()? || plain > WHOLE_MAX {
        return Err(bad("is cut short"));
    }
    let mut bytes = vec![0; usize::try_from(packed).unwrap_or_default()];
    read_exact_at(&*file, &mut bytes, HEAD_LEN + LENGTHS)?;
    if u64::from(whole_crc(&head.salt, [packed, plain], &bytes)) != crc {
        return Err(bad("has a wrong checksum"));
    }
    let plain = zstd::bulk::decompress(&bytes, usize::try_from(plain).unwrap_or_default());
    let plain = plain.map_err(|_| bad("does not unpack"))?;
    postcard::from_bytes(&plain).map_err(|_| bad("does not hold what it should"))
}

/// The manifest, written twice: without it nothing can be told.
pub(super) fn write_manifest(on: &dyn Disk, manifest: &Manifest) -> Outcome<()> {
    write_twice(on, manifest_names(), KIND_MANIFEST, manifest)
}

/// The manifest; `None` where no store was ever made.
pub(super) fn read_manifest(on: &dyn Disk) -> Outcome<Option<Manifest>> {
    let names = on.names().map_err(disk("list the store's files"))?;
    let there = |wanted: &String| names.iter().any(|name| name == wanted);
    if manifest_names().iter().any(there) {
        return read_twice(on, manifest_names(), KIND_MANIFEST).map(Some);
    }
    if names.iter().any(|name| name.starts_with("log-")) {
        let op = format!("find {MANIFEST} beside the log files: {RESTORE}");
        return Err(error(Kind::Corrupt, op));
    }
    Ok(None)
}

pub(super) fn write_state(on: &dyn Disk, no: u32, checkpoint: &Checkpoint) -> Outcome<()> {
    write_twice(on, state_names(no), KIND_STATE, checkpoint)
}

/// A checkpoint; its copy only where it is damaged, since it may be large.
pub(super) fn read_state(on: &dyn Disk, no: u32) -> Outcome<Checkpoint> {
    match read_whole(on, &state_name(no), KIND_STATE) {
        Ok(checkpoint) => Ok(checkpoint),
        Err(_) => read_twice(on, state_names(no), KIND_STATE),
    }
}

fn write_twice<T: Serialize>(
    on: &dyn Disk,
    names: [String; 2],
    kind: u8,
    contents: &T,
) -> Outcome<()> {
    names
        .iter()
        .try_for_each(|name| write_whole(on, name, kind, contents))
}

/// What the first of two copies holds that reads back as it was written. The other is mended.
fn read_twice<T>(on: &dyn Disk, names: [String; 2], kind: u8) -> Outcome<T>
where
    T: Serialize + DeserializeOwned + PartialEq,
{
    let op = format!("read {}", names[0]);
    let [first, second] = names.each_ref().map(|name| read_whole::<T>(on, name, kind));
    let (good, mend) = match (first, second) {
        (Err(cause), _) if cause.kind() == io::ErrorKind::Unsupported => {
            return Err(disk(&op)(cause));
        }
        (Ok(first), Ok(second)) if first == second => return Ok(first),
        (Ok(first), Ok(_)) => (first, &names[1]),
        (Ok(first), Err(cause)) => {
            tracing::warn!(name = names[1], %cause, "a copy cannot be read: written anew");
            (first, &names[1])
        }
        (Err(cause), Ok(second)) => {
            tracing::error!(name = names[0], %cause, "a file is damaged: its copy is taken");
            (second, &names[0])
        }
        (Err(cause), Err(_)) => {
            let op = format!("{op}, and its copy: {RESTORE}");
            return Err(disk(&op)(cause));
        }
    };
    write_whole(on, mend, kind, &good)?;
    Ok(good)
}

pub(super) fn write_index(on: &dyn Disk, no: u32, index: &Index) -> Outcome<()> {
    write_whole(on, &index_name(no), KIND_INDEX, &index.blocks())
}

/// An index as it was read.
pub(super) struct Told {
    pub(super) index: Index,
    /// Read from the log: its own file is damaged or gone.
    pub(super) is_rebuilt: bool,
}

/// The index of a sealed segment; made anew from its log if its file is damaged.
pub(super) fn read_index(on: &dyn Disk, no: u32) -> Outcome<Told> {
    match read_whole::<Vec<Block>>(on, &index_name(no), KIND_INDEX) {
        Ok(blocks) => Ok(Told {
            index: Index::from_blocks(blocks),
            is_rebuilt: false,
        }),
        Err(cause) => {
            tracing::error!(segment = no, %cause, "an index is damaged: read from the log instead");
            let index = rebuild_index(on, no)?;
            let is_rebuilt = true;
            Ok(Told { index, is_rebuilt })
        }
    }
}

/// The index of a segment as far as its log tells it.
pub(super) fn rebuild_index(on: &dyn Disk, no: u32) -> Outcome<Index> {
    let mut blocks = Vec::new();
    let mut read = || -> io::Result<()> {
        let file = on.open(&log_name(no), false)?;
        let head = Head::read(&*file, KIND_LOG, FORMAT_VERSION)?;
        let mut visit = |found: frame::Found<'_>| {
            // A frame that is no change leaves a gap, as one that is damaged does.
            if let Ok(meta) = Meta::decode(found.meta) {
                blocks.extend(blocks_of(&meta, found.data_at));
            }
            Ok(())
        };
        scan(&*file, &head.salt, HEAD_LEN, 0, false, &mut visit)?;
        Ok(())
    };
    match read() {
        Ok(()) => {}
        Err(cause) if is_gone(&cause) => {
            tracing::error!(log = log_name(no), %cause, "a log is damaged: its messages are lost");
        }
        Err(cause) => return Err(disk("read a log file")(cause)),
    }
    Ok(Index::from_blocks(blocks))
}

/// Whether an error says that bytes are gone, and not that the disk is away for the moment.
pub(super) fn is_gone(cause: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(cause.kind(), InvalidData | NotFound | UnexpectedEof)
}

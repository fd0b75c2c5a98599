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
const KIND_MANIFEST: u8 = b'm';
const KIND_INDEX: u8 = b'i';
const KIND_STATE: u8 = b's';

pub(super) const MANIFEST: &str = "MANIFEST";
const TEMPORARY: &str = ".new";
/// Longest whole file read back: a state of a hundred million messages is some MB.
const WHOLE_MAX: u64 = 1 << 30;
/// Length and checksum in front of the contents.
const LENGTHS: u64 = 24;
/// Most bytes of a damaged stretch that are copied aside.
pub(super) const QUARANTINE_MAX: usize = 64 * 1024 * 1024;
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
        let mut bytes = Vec::with_capacity(packed.len() + 24);
        bytes.extend((packed.len() as u64).to_le_bytes());
        bytes.extend((plain.len() as u64).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&salt.0), &packed);
        bytes.extend(u64::from(crc).to_le_bytes());
        bytes.extend(packed);
        write_all_at(&*file, &bytes, HEAD_LEN)?;
        file.sync()?;
        on.rename(&temporary, name)?;
        on.sync_names()
    };
    write().map_err(disk(&op))
}

/// What a whole file holds. `InvalidData` when it does not read back as it was written.
fn read_whole<T: DeserializeOwned>(on: &dyn Disk, name: &str, kind: u8) -> io::Result<T> {
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
    if u64::from(crc32c::crc32c_append(crc32c::crc32c(&head.salt.0), &bytes)) != crc {
        return Err(bad("has a wrong checksum"));
    }
    let plain = zstd::bulk::decompress(&bytes, usize::try_from(plain).unwrap_or_default())?;
    postcard::from_bytes(&plain).map_err(|_| bad("does not hold what it should"))
}

pub(super) fn write_manifest(on: &dyn Disk, manifest: &Manifest) -> Outcome<()> {
    write_whole(on, MANIFEST, KIND_MANIFEST, manifest)
}

/// The manifest; `None` where no store was ever made.
pub(super) fn read_manifest(on: &dyn Disk) -> Outcome<Option<Manifest>> {
    let names = on.names().map_err(disk("list the store's files"))?;
    if !names.iter().any(|name| name == MANIFEST) {
        if names.iter().any(|name| name.starts_with("log-")) {
            let op = "find MANIFEST beside the log files: restore it from a backup";
            return Err(error(Kind::Corrupt, op));
        }
        return Ok(None);
    }
    read_whole(on, MANIFEST, KIND_MANIFEST)
        .map(Some)
        .map_err(disk("read MANIFEST"))
}

pub(super) fn write_state(on: &dyn Disk, no: u32, checkpoint: &Checkpoint) -> Outcome<()> {
    write_whole(on, &state_name(no), KIND_STATE, checkpoint)
}

pub(super) fn read_state(on: &dyn Disk, no: u32) -> Outcome<Checkpoint> {
    read_whole(on, &state_name(no), KIND_STATE).map_err(disk("read the checkpoint"))
}

pub(super) fn write_index(on: &dyn Disk, no: u32, index: &Index) -> Outcome<()> {
    write_whole(on, &index_name(no), KIND_INDEX, &index.blocks())
}

/// The index of a sealed segment; made anew from its log if its file is damaged.
pub(super) fn read_index(on: &dyn Disk, no: u32) -> Outcome<Index> {
    match read_whole::<Vec<Block>>(on, &index_name(no), KIND_INDEX) {
        Ok(blocks) => Ok(Index::from_blocks(blocks)),
        Err(cause) => {
            tracing::error!(segment = no, %cause, "an index is damaged: read from the log instead");
            rebuild_index(on, no)
        }
    }
}

/// The index of a segment as its log tells it.
pub(super) fn rebuild_index(on: &dyn Disk, no: u32) -> Outcome<Index> {
    let mut blocks = Vec::new();
    let mut read = || -> io::Result<()> {
        let file = on.open(&log_name(no), false)?;
        let head = Head::read(&*file, KIND_LOG, FORMAT_VERSION)?;
        scan(
            &*file,
            &head.salt,
            HEAD_LEN,
            0,
            false,
            &mut |found: frame::Found<'_>| {
                let meta = Meta::decode(found.meta).map_err(io::Error::other)?;
                blocks.extend(blocks_of(&meta, found.data_at));
                Ok(())
            },
        )?;
        Ok(())
    };
    read().map_err(disk("read a log file"))?;
    Ok(Index::from_blocks(blocks))
}

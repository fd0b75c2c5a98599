//! What a log file is made of: frames of one log sequence number (lsn) each.
//!
//! ```text
//! 0 magic u32 | 4 meta_len u32 | 8 data_len u64 | 16 lsn u64 | 24 behind u32
//! 28 crc of meta | 32 crc of data | 36 crc of the bytes before, seeded from the file's salt
//! 40 meta | data | zeros to a multiple of 8
//! ```
//!
//! `behind` says how many frames right before this one were written in the same group. All frames
//! before those were synced before this one was written: so [`scan`] can tell a hole in a group
//! that was never acknowledged (cut it) from a hole in acknowledged bytes (damage, tell a person).

use crate::head::Salt;

mod scan;
mod walk;

pub use scan::{Damage, Found, ScanEnd, cut, scan};

/// Bytes before the meta.
pub const FRAME_HEAD: usize = 40;

/// Frames begin at multiples of this, counted from the beginning of the file.
pub const ALIGN: u64 = 8;

/// Longest meta. A scan keeps one meta in memory.
pub const META_MAX: usize = 16 * 1024 * 1024;

/// Longest data. Above the largest put, below what a length field gone wrong would claim.
pub const DATA_MAX: u64 = 1024 * 1024 * 1024;

const MAGIC: [u8; 4] = [0x9e, b'N', b'F', 0x1d];

/// The checksum of a frame's data, so that it can be taken before a lock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataSum(u32);

impl DataSum {
    /// The sum of the pieces, one after the other.
    pub fn of(data: &[&[u8]]) -> Self {
        Self(
            data.iter()
                .fold(0, |crc, piece| crc32c::crc32c_append(crc, piece)),
        )
    }
}

/// Bytes a frame takes, with its padding.
pub const fn frame_len(meta_len: usize, data_len: u64) -> u64 {
    (FRAME_HEAD as u64 + meta_len as u64 + data_len).next_multiple_of(ALIGN)
}

/// Appends a frame to `out` and returns the offset of its data in `out`.
///
/// Claims that every frame before it was synced before it is written. The lengths are the caller's
/// to check against [`META_MAX`] and [`DATA_MAX`]: a scan takes a longer frame for damage.
pub fn encode(salt: &Salt, lsn: u64, meta: &[u8], data: &[&[u8]], out: &mut Vec<u8>) -> usize {
    encode_behind(salt, lsn, 0, meta, data, DataSum::of(data), out)
}

/// As [`encode`], for the frame that has `behind` frames of its own group before it, with the sum
/// of the data already taken.
pub fn encode_behind(
    salt: &Salt,
    lsn: u64,
    behind: u32,
    meta: &[u8],
    data: &[&[u8]],
    sum: DataSum,
    out: &mut Vec<u8>,
) -> usize {
    let data_len = data.iter().map(|piece| piece.len() as u64).sum();
    let fields = Fields {
        meta_len: meta.len() as u32,
        data_len,
        lsn,
        behind,
        meta_crc: crc32c::crc32c(meta),
        data_crc: sum.0,
    };
    out.extend_from_slice(&fields.encode(salt.seed()));
    out.extend_from_slice(meta);
    let data_at = out.len();
    for piece in data {
        out.extend_from_slice(piece);
    }
    let written = FRAME_HEAD as u64 + meta.len() as u64 + data_len;
    let padding = written.next_multiple_of(ALIGN) - written;
    out.extend_from_slice(&[0; ALIGN as usize][..padding as usize]);
    data_at
}

/// The fixed part of a frame.
#[derive(Debug, Clone, Copy)]
struct Fields {
    meta_len: u32,
    data_len: u64,
    lsn: u64,
    behind: u32,
    meta_crc: u32,
    data_crc: u32,
}

impl Fields {
    fn encode(&self, seed: u32) -> [u8; FRAME_HEAD] {
        let mut bytes = [0; FRAME_HEAD];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.meta_len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.data_len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.lsn.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.behind.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.meta_crc.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.data_crc.to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The fields, when these bytes are a frame head of the file with this seed.
    fn decode(bytes: &[u8; FRAME_HEAD], seed: u32) -> Option<Self> {
        if bytes[..4] != MAGIC {
            return None;
        }
        let crc = crc32c::crc32c_append(seed, &bytes[..36]);
        if crc.to_le_bytes() != bytes[36..] {
            return None;
        }
        let fields = Self {
            meta_len: u32_at(bytes, 4),
            data_len: u64::from(u32_at(bytes, 8)) | u64::from(u32_at(bytes, 12)) << 32,
            lsn: u64::from(u32_at(bytes, 16)) | u64::from(u32_at(bytes, 20)) << 32,
            behind: u32_at(bytes, 24),
            meta_crc: u32_at(bytes, 28),
            data_crc: u32_at(bytes, 32),
        };
        let sane = fields.meta_len as usize <= META_MAX
            && fields.data_len <= DATA_MAX
            && u64::from(fields.behind) <= fields.lsn;
        sane.then_some(fields)
    }
}

fn u32_at(bytes: &[u8; FRAME_HEAD], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

//! The first 64 bytes of every file: whose it is, what it holds, and its salt.
//!
//! ```text
//! 0 "NGLG" | 4 kind u8 | 5 zero | 6 version u16 | 8 salt, 16 bytes | 24 zeros | 60 crc32c u32
//! ```

use std::fmt;
use std::io;

use crate::disk::{DiskFile, read_full_at, write_all_at};

/// Bytes a head takes: what follows begins here.
pub const HEAD_LEN: u64 = 64;

const MAGIC: [u8; 4] = *b"NGLG";
const CRC_AT: usize = 60;

/// Random bytes of one file, mixed into all its checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 16]);

impl Salt {
    /// A salt for a new file.
    pub fn random(rng: &mut fastrand::Rng) -> Self {
        let mut bytes = [0; 16];
        rng.fill(&mut bytes);
        Self(bytes)
    }

    /// What a checksum of this file starts from.
    pub(crate) fn seed(&self) -> u32 {
        crc32c::crc32c(&self.0)
    }
}

/// What a file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What the file holds; the numbers belong to whoever writes the files.
    pub kind: u8,
    /// Format version of what follows, counted from 1.
    pub version: u16,
    /// The file's salt.
    pub salt: Salt,
}

/// Why a file is not what was looked for. Names the file.
#[derive(Debug)]
pub enum HeadFault {
    /// The file could not be read.
    Io(io::Error),
    /// Shorter than a head, or nothing but zeros there: it was never finished.
    Unfinished {
        /// The file.
        name: String,
    },
    /// Does not begin as our files begin.
    Foreign {
        /// The file.
        name: String,
    },
    /// The checksum of the head is wrong.
    Damaged {
        /// The file.
        name: String,
    },
    /// Ours, but of another kind.
    Kind {
        /// The file.
        name: String,
        /// The kind asked for.
        expected: u8,
        /// The kind it is.
        found: u8,
    },
    /// Written by a newer release, or by none.
    Version {
        /// The file.
        name: String,
        /// The newest version this release reads.
        newest: u16,
        /// The version it is.
        found: u16,
    },
}

impl fmt::Display for HeadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(fault) => fault.fmt(f),
            Self::Unfinished { name } => {
                write!(
                    f,
                    "{name}: expected a file head of {HEAD_LEN} bytes, it was never written"
                )
            }
            Self::Foreign { name } => {
                write!(
                    f,
                    "{name}: expected a file that begins with \"NGLG\": it is not ours"
                )
            }
            Self::Damaged { name } => {
                write!(
                    f,
                    "{name}: the checksum of the file head is wrong: restore the file"
                )
            }
            Self::Kind {
                name,
                expected,
                found,
            } => write!(
                f,
                "{name}: expected a file of kind {expected}, found kind {found}"
            ),
            Self::Version {
                name,
                newest,
                found,
            } => write!(
                f,
                "{name}: expected format version 1 to {newest}, found {found}: \
                 use the release that wrote it, or a newer one"
            ),
        }
    }
}

impl std::error::Error for HeadFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<HeadFault> for io::Error {
    fn from(fault: HeadFault) -> Self {
        match fault {
            HeadFault::Io(fault) => fault,
            HeadFault::Version { .. } => Self::new(io::ErrorKind::Unsupported, fault),
            fault => Self::new(io::ErrorKind::InvalidData, fault),
        }
    }
}

impl Head {
    /// The bytes of the head.
    pub fn encode(&self) -> [u8; HEAD_LEN as usize] {
        let mut bytes = [0; HEAD_LEN as usize];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = self.kind;
        bytes[6..8].copy_from_slice(&self.version.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.salt.0);
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a head from the first bytes of the file `name`, which shall be of `kind` and of a
    /// version from 1 to `newest`.
    pub fn decode(name: &str, bytes: &[u8], kind: u8, newest: u16) -> Result<Self, HeadFault> {
        let name = || name.to_owned();
        let Some(bytes) = bytes.first_chunk::<{ HEAD_LEN as usize }>() else {
            return Err(HeadFault::Unfinished { name: name() });
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(HeadFault::Unfinished { name: name() });
        }
        if bytes[..4] != MAGIC {
            return Err(HeadFault::Foreign { name: name() });
        }
        if crc32c::crc32c(&bytes[..CRC_AT]).to_le_bytes() != bytes[CRC_AT..] {
            return Err(HeadFault::Damaged { name: name() });
        }
        let mut salt = [0; 16];
        salt.copy_from_slice(&bytes[8..24]);
        let head = Self {
            kind: bytes[4],
            version: u16::from_le_bytes([bytes[6], bytes[7]]),
            salt: Salt(salt),
        };
        if head.kind != kind {
            return Err(HeadFault::Kind {
                name: name(),
                expected: kind,
                found: head.kind,
            });
        }
        if head.version == 0 || head.version > newest {
            return Err(HeadFault::Version {
                name: name(),
                newest,
                found: head.version,
            });
        }
        Ok(head)
    }

    /// Writes the head to the beginning of a file. Not durable before the file is synced.
    pub fn write(&self, file: &dyn DiskFile) -> io::Result<()> {
        write_all_at(file, &self.encode(), 0)
    }

    /// Reads and checks the head of a file, see [`Head::decode`].
    pub fn read(file: &dyn DiskFile, kind: u8, newest: u16) -> Result<Self, HeadFault> {
        let mut bytes = [0; HEAD_LEN as usize];
        let count = read_full_at(file, &mut bytes, 0).map_err(HeadFault::Io)?;
        Self::decode(file.name(), &bytes[..count], kind, newest)
    }
}

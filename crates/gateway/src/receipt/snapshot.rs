//! A consent snapshot in few bytes. Every decision about advertising carries one, and unlike the
//! rest of a reason hardly two recipients share it, so it decides how large the log grows.

use jiff::Timestamp;
use nightgate_core::{Basis, ConsentSnapshot, Standing};

// One tag a standing, then its instants. Tags are stored: never renumber, only add.
const NONE: u8 = 0;
const UNKNOWN: u8 = 1;
const WITHDRAWN: u8 = 2;
const LAPSED: u8 = 3;
const VALID: u8 = 4;
const VALID_UNTIL: u8 = 5;
const EXCEPTION: u8 = 6;
const EXCEPTION_UNTIL: u8 = 7;

/// Writes `snapshot`: general, then night.
pub(super) fn write(snapshot: &ConsentSnapshot) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    for standing in [snapshot.general, snapshot.night] {
        let (tag, instants) = match standing {
            Standing::None => (NONE, [None; 3]),
            Standing::Unknown => (UNKNOWN, [None; 3]),
            Standing::Withdrawn { at } => (WITHDRAWN, [Some(at), None, None]),
            Standing::Lapsed { at } => (LAPSED, [Some(at), None, None]),
            Standing::Valid {
                since,
                until,
                basis: Basis::Explicit,
            } => {
                let tag = if until.is_some() { VALID_UNTIL } else { VALID };
                (tag, [Some(since), until, None])
            }
            Standing::Valid {
                since,
                until,
                basis: Basis::TransactionException { ends },
            } => {
                let tag = if until.is_some() {
                    EXCEPTION_UNTIL
                } else {
                    EXCEPTION
                };
                (tag, [Some(since), Some(ends), until])
            }
        };
        bytes.push(tag);
        for at in instants.into_iter().flatten() {
            bytes.extend_from_slice(&at.as_second().to_be_bytes());
            bytes.extend_from_slice(&at.subsec_nanosecond().to_be_bytes());
        }
    }
    bytes
}

/// Reads what [`write`] wrote; `None` if it is anything else.
pub(super) fn read(mut bytes: &[u8]) -> Option<ConsentSnapshot> {
    let snapshot = ConsentSnapshot {
        general: standing(&mut bytes)?,
        night: standing(&mut bytes)?,
    };
    bytes.is_empty().then_some(snapshot)
}

fn standing(bytes: &mut &[u8]) -> Option<Standing> {
    let (tag, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(match *tag {
        NONE => Standing::None,
        UNKNOWN => Standing::Unknown,
        WITHDRAWN => Standing::Withdrawn {
            at: instant(bytes)?,
        },
        LAPSED => Standing::Lapsed {
            at: instant(bytes)?,
        },
        VALID | VALID_UNTIL => {
            let since = instant(bytes)?;
            let until = if *tag == VALID_UNTIL {
                Some(instant(bytes)?)
            } else {
                None
            };
            Standing::Valid {
                since,
                until,
                basis: Basis::Explicit,
            }
        }
        EXCEPTION | EXCEPTION_UNTIL => {
            let since = instant(bytes)?;
            let basis = Basis::TransactionException {
                ends: instant(bytes)?,
            };
            let until = if *tag == EXCEPTION_UNTIL {
                Some(instant(bytes)?)
            } else {
                None
            };
            Standing::Valid {
                since,
                until,
                basis,
            }
        }
        _ => return None,
    })
}

fn instant(bytes: &mut &[u8]) -> Option<Timestamp> {
    let (seconds, rest) = bytes.split_first_chunk()?;
    let (nanos, rest) = rest.split_first_chunk()?;
    *bytes = rest;
    Timestamp::new(i64::from_be_bytes(*seconds), i32::from_be_bytes(*nanos)).ok()
}

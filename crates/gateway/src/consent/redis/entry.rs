//! What stands in a recipient's field: its events, one behind the other.

use jiff::Timestamp;
use nightgate_core::{Basis, RecipientKey, Scope};

use crate::consent::{Act, ConsentEvent};
use crate::error::{Error, Kind, Result};

// Bits of an identity's first byte. Stored: never renumber, only add.
const NIGHT: u8 = 1;
const EXCEPTION: u8 = 2;
const WITHDRAW: u8 = 4;
/// The instant has a fraction of a second.
const FRACTION: u8 = 8;
/// The end of the exception has one.
const END_FRACTION: u8 = 16;

/// All that makes an event this one, in 9 bytes for most: the same event has the same bytes.
pub(super) fn identity(event: &ConsentEvent) -> Vec<u8> {
    let mut bytes = vec![0; 1];
    let mut bits = match event.scope {
        Scope::General => 0,
        Scope::Night => NIGHT,
    };
    if put(&mut bytes, event.at) {
        bits |= FRACTION;
    }
    match event.act {
        Act::Grant(Basis::Explicit) => {}
        Act::Grant(Basis::TransactionException { ends }) => {
            bits |= EXCEPTION;
            if put(&mut bytes, ends) {
                bits |= END_FRACTION;
            }
        }
        Act::Withdraw => bits |= WITHDRAW,
    }
    bytes[0] = bits;
    bytes
}

/// Writes an instant; says whether it has a fraction of a second.
fn put(bytes: &mut Vec<u8>, at: Timestamp) -> bool {
    // Both parts of an instant before 1970 are negative.
    bytes.extend(at.as_second().to_be_bytes());
    let nanos = at.subsec_nanosecond();
    if nanos != 0 {
        bytes.extend(nanos.to_be_bytes());
    }
    nanos != 0
}

/// An entry: identity and source, each with its length.
///
/// # Errors
/// `Invalid` when the source is longer than a length can say.
pub(super) fn entry(identity: &[u8], source: &str) -> Result<Vec<u8>> {
    let long = || {
        let op = format!(
            "record a consent: its source must be at most {} bytes",
            u16::MAX
        );
        Error::new(Kind::Invalid, "consent", op)
    };
    let length = u16::try_from(source.len()).map_err(|_| long())?;
    let mut bytes = vec![identity.len() as u8];
    bytes.extend(identity);
    bytes.extend(length.to_be_bytes());
    bytes.extend(source.as_bytes());
    Ok(bytes)
}

/// The events of a history, as they were recorded; an error ends them.
pub(super) fn events<'a>(
    key: &'a RecipientKey,
    mut history: &'a [u8],
) -> impl Iterator<Item = Result<ConsentEvent>> + 'a {
    std::iter::from_fn(move || {
        if history.is_empty() {
            return None;
        }
        let event = event(key, &mut history);
        if event.is_none() {
            history = &[];
        }
        Some(event.ok_or_else(corrupt))
    })
}

fn event(key: &RecipientKey, history: &mut &[u8]) -> Option<ConsentEvent> {
    let [long] = take(history)?;
    let (mut identity, rest) = history.split_at_checked(long.into())?;
    *history = rest;
    let [bits] = take(&mut identity)?;
    let at = instant(&mut identity, bits & FRACTION != 0)?;
    let act = match bits & (EXCEPTION | WITHDRAW) {
        0 => Act::Grant(Basis::Explicit),
        WITHDRAW => Act::Withdraw,
        EXCEPTION => {
            let ends = instant(&mut identity, bits & END_FRACTION != 0)?;
            Act::Grant(Basis::TransactionException { ends })
        }
        _ => return None,
    };
    let known = NIGHT | EXCEPTION | WITHDRAW | FRACTION | END_FRACTION;
    if !identity.is_empty() || bits & !known != 0 {
        return None;
    }
    let long = u16::from_be_bytes(take(history)?);
    let (source, rest) = history.split_at_checked(long.into())?;
    *history = rest;
    let scope = match bits & NIGHT {
        0 => Scope::General,
        _ => Scope::Night,
    };
    Some(ConsentEvent {
        key: key.clone(),
        scope,
        act,
        at,
        source: String::from_utf8(source.to_vec()).ok()?,
    })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

fn instant(bytes: &mut &[u8], fraction: bool) -> Option<Timestamp> {
    let seconds = i64::from_be_bytes(take(bytes)?);
    let nanos = match fraction {
        true => i32::from_be_bytes(take(bytes)?),
        false => 0,
    };
    Timestamp::new(seconds, nanos).ok()
}

fn corrupt() -> Error {
    let op = "read a consent: its history does not read back as it was written";
    Error::new(Kind::Corrupt, "consent", op)
}

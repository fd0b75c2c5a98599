//! What can go wrong with the files, as the errors of the gateway.

use std::io;

use nightgate_log::journal::Stopped;

use crate::error::{Error, Kind, Result};

pub(super) type Outcome<T> = Result<T>;

/// An error of the hold.
pub(super) fn error(kind: Kind, op: impl Into<String>) -> Error {
    Error::new(kind, "hold", op)
}

/// The disk failed while doing `op`: try again later, or look at the disk.
pub(super) fn disk(op: &str) -> impl FnOnce(io::Error) -> Error {
    move |cause| {
        let kind = match cause.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Kind::Corrupt,
            // A newer program wrote it.
            io::ErrorKind::Unsupported => Kind::Invalid,
            _ => Kind::Unavailable,
        };
        error(kind, op).with(cause)
    }
}

/// The log takes no more.
pub(super) fn stopped(op: &str) -> impl FnOnce(Stopped) -> Error {
    move |cause| {
        error(Kind::Poisoned, op).with(format!(
            "the log could not be written: {cause}; free or mend the disk, then start again"
        ))
    }
}

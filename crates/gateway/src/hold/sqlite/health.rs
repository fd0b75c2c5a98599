//! What a failure underneath means for the caller, and for the whole store.

use std::sync::OnceLock;

use rusqlite::ErrorCode;

use crate::error::{Error, Kind};

/// Why something failed, in a form that several callers of one transaction can be told.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    pub(super) kind: Kind,
    pub(super) text: String,
}

impl Cause {
    /// The error a caller sees who wanted to do `op`.
    pub(super) fn error(&self, op: &str) -> Error {
        Error::new(self.kind, "hold", op).with(self.text.clone())
    }
}

/// Says what `error` means. It poisons when a write, or the file itself, may be lost.
pub(super) fn judge(error: &rusqlite::Error) -> Cause {
    let kind = match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            // Nothing of the transaction is in the log; the writer makes sure of its roll-back.
            | ErrorCode::DiskFull,
        ) => Kind::Unavailable,
        // A counter below zero or an id twice: the file is sound, what stands in it is not.
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) | None => Kind::Corrupt,
        Some(_) => Kind::Poisoned,
    };
    Cause {
        kind,
        text: error.to_string(),
    }
}

/// Whether the store may still be used. Once poisoned it stays so until it is opened again.
#[derive(Debug, Default)]
pub(super) struct Health {
    poison: OnceLock<String>,
}

impl Health {
    /// Why no call may be answered any more, if so.
    pub(super) fn poison(&self) -> Option<Cause> {
        let text = self.poison.get()?;
        let text = format!("an earlier write was lost ({text}); check the disk, then restart");
        Some(Cause {
            kind: Kind::Poisoned,
            text,
        })
    }

    /// Judges `error`, and remembers it if it poisons.
    pub(super) fn note(&self, error: &rusqlite::Error) -> Cause {
        let cause = judge(error);
        if cause.kind == Kind::Poisoned {
            self.spoil(&cause.text);
        }
        cause
    }

    /// Poisons the store; the first reason stands.
    pub(super) fn spoil(&self, why: &str) {
        if self.poison.set(why.to_owned()).is_ok() {
            tracing::error!(
                why,
                "the hold is poisoned and refuses every call until reopened"
            );
        }
    }
}

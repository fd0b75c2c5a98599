//! One error for the whole gateway: what the caller can do, where it happened, and why.

use std::fmt;

/// What the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Try again later; nothing was changed, or the change is idempotent.
    Unavailable,
    /// This backend cannot do that; see its `Capability`.
    Unsupported,
    /// The request is wrong; it will be wrong again.
    Invalid,
    /// Stored data does not read back as it was written; a person must look.
    Corrupt,
    /// A write was lost underneath; stop, restart, check the disk.
    Poisoned,
}

/// A failed operation. Displays as a fragment that fits "failed to ...".
#[derive(Debug)]
pub struct Error {
    /// What the caller can do.
    pub kind: Kind,
    /// The part it happened in: `hold`, `consent`, `sink`, ...
    pub part: &'static str,
    /// What was being done, as a fragment: `put 12 messages`.
    pub op: String,
    /// What lay underneath, if anything did.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of anything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` in `part` while doing `op`.
    pub fn new(kind: Kind, part: &'static str, op: impl Into<String>) -> Self {
        Self {
            kind,
            part,
            op: op.into(),
            source: None,
        }
    }

    /// The same, with what lay underneath.
    #[must_use]
    pub fn with(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.op, self.part)?;
        match self.kind {
            Kind::Unavailable => f.write_str(", unavailable")?,
            Kind::Unsupported => f.write_str(", unsupported")?,
            Kind::Invalid => f.write_str(", invalid")?,
            Kind::Corrupt => f.write_str(", corrupt")?,
            Kind::Poisoned => f.write_str(", poisoned")?,
        }
        match &self.source {
            Some(source) => write!(f, "): {source}"),
            None => f.write_str(")"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

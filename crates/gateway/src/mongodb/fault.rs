//! What the driver's errors mean for the caller, and what they say to people. Documents hold
//! recipients and addresses hold passwords, so neither a server's own text nor the address may get
//! into ours.

use std::time::Duration;

use ::mongodb::bson::{Bson, Document};
use ::mongodb::error::{Error as Fault, ErrorKind, WriteFailure};

use super::{Op, int};
use crate::error::{Error, Kind};

/// A unique key is there already.
pub(super) const DUPLICATE: i32 = 11000;
/// Codes of what a person must mend: rights, users.
/// <https://www.mongodb.com/docs/manual/reference/error-codes/>
const DENIED: [i32; 3] = [13, 18, 8000];

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) kind: Kind,
    pub(super) code: Option<i32>,
    text: String,
}

impl Why {
    fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            code: None,
            text: text.into(),
        }
    }

    /// What a fault of the driver means.
    pub(super) fn of(fault: &Fault) -> Self {
        match &*fault.kind {
            ErrorKind::Authentication { .. } => Self::denied(None),
            ErrorKind::Command(command) => Self::code(command.code, &command.code_name),
            ErrorKind::Write(WriteFailure::WriteError(error)) => {
                Self::code(error.code, error.code_name.as_deref().unwrap_or_default())
            }
            ErrorKind::Write(WriteFailure::WriteConcernError(error)) => {
                Self::unsure(error.code, &error.code_name)
            }
            ErrorKind::InsertMany(many) => {
                if let Some(error) = &many.write_concern_error {
                    return Self::unsure(error.code, &error.code_name);
                }
                let errors = many.write_errors.iter().flatten();
                let other = errors.clone().find(|error| error.code != DUPLICATE);
                match other.or(errors.clone().next()) {
                    Some(error) => {
                        Self::code(error.code, error.code_name.as_deref().unwrap_or_default())
                    }
                    None => Self::new(Kind::Unavailable, "a write failed without a reason"),
                }
            }
            ErrorKind::InvalidArgument { .. } => Self::new(
                Kind::Invalid,
                "the driver refused it; look at the server's address",
            ),
            ErrorKind::InvalidTlsConfig { .. } => Self::new(
                Kind::Invalid,
                "its TLS options do not read; look at the server's address",
            ),
            ErrorKind::IncompatibleServer { .. } => {
                Self::new(Kind::Invalid, "this server is too old")
            }
            ErrorKind::DnsResolve { .. } => {
                Self::new(Kind::Unavailable, "its name does not resolve")
            }
            ErrorKind::ServerSelection { .. } => Self::new(
                Kind::Unavailable,
                "no server that takes writes answered in time",
            ),
            ErrorKind::Io(error) => Self::new(
                Kind::Unavailable,
                format!("the connection: {}", error.kind()),
            ),
            ErrorKind::BsonDeserialization(_) | ErrorKind::InvalidResponse { .. } => {
                Self::new(Kind::Unavailable, "its answer does not read")
            }
            _ => Self::new(Kind::Unavailable, "the driver gave up"),
        }
    }

    /// What an answer to a command says went wrong, if anything did.
    pub(super) fn of_answer(answer: &Document) -> Option<Self> {
        let errors = answer.get_array("writeErrors").ok();
        let first = errors.and_then(|errors| errors.first());
        if let Some(error) = first.and_then(Bson::as_document) {
            return Some(Self::code(code(error), name(error)));
        }
        let concern = answer.get_document("writeConcernError").ok()?;
        Some(Self::unsure(code(concern), name(concern)))
    }

    /// Nothing came within `limit`.
    pub(super) fn late(limit: Duration) -> Self {
        let text = format!("no answer within {} ms", limit.as_millis());
        Self::new(Kind::Unavailable, text)
    }

    fn denied(code: Option<i32>) -> Self {
        let text = "it does not let this user do that; look at the user, its password and rights";
        Self {
            code,
            ..Self::new(Kind::Invalid, text)
        }
    }

    fn code(code: i32, name: &str) -> Self {
        if DENIED.contains(&code) {
            return Self::denied(Some(code));
        }
        let code = Some(code).filter(|code| *code != 0);
        let number = code.map_or_else(|| "without a number".to_owned(), |code| code.to_string());
        let text = match name {
            "" => format!("error {number}"),
            name => format!("error {number}, {name}"),
        };
        Self {
            code,
            ..Self::new(Kind::Unavailable, text)
        }
    }

    /// Written, and not known to be safe.
    fn unsure(code: i32, name: &str) -> Self {
        let text = format!("no majority confirmed the write (error {code}, {name})");
        Self::new(Kind::Unavailable, text)
    }

    /// The error of a caller who wanted to do `op`.
    pub(super) fn error(self, op: Op<'_>) -> Error {
        Error::new(self.kind, op.part, op.what).with(format!("MongoDB: {}", self.text))
    }
}

fn code(error: &Document) -> i32 {
    let code = int(error, "code").unwrap_or_default();
    i32::try_from(code).unwrap_or_default()
}

fn name(error: &Document) -> &str {
    error.get_str("codeName").unwrap_or_default()
}

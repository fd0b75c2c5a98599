//! What can go wrong with a call, and whether it may have been carried out all the same.

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::{Error, Kind};

/// Longest piece of a server's own words in an error: it may quote what it was sent.
const WORDS_MAX: usize = 160;

/// Said behind the words of a server that wants a password, or another one.
const LOGIN: &str = ": look at the name and password in `redis.url`, and, of Sentinels, in \
                     `redis.sentinel`";

/// Whether a call that failed may have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The server never saw it, or said no.
    No,
    /// The answer was lost, or too few replicas have it.
    Maybe,
}

/// A failed call.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What the caller can do.
    pub kind: Kind,
    /// Whether it may have been carried out.
    pub ran: Ran,
    code: String,
    text: String,
}

impl Fault {
    /// The server's word for it, `OOM` or `NOSCRIPT`; empty when the server said nothing.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Whether the server's memory is full: nothing was stored.
    #[must_use]
    pub fn full(&self) -> bool {
        self.code == "OOM"
    }

    /// The same as the crate's error.
    #[must_use]
    pub fn error(self, part: &'static str, op: impl Into<String>) -> Error {
        Error::new(self.kind, part, op).with(self.text)
    }

    /// An answer of the server that is none of those expected: `what` is said of it.
    #[must_use]
    pub fn answer(what: &str) -> Self {
        Self {
            kind: Kind::Corrupt,
            ran: Ran::Maybe,
            code: String::new(),
            text: format!("an answer of the server that nobody expected: {what}"),
        }
    }

    /// `why`: what the server said instead of how many.
    pub(super) fn too_few_replicas(why: Option<Self>) -> Self {
        let few = "the master has it, but too few replicas said so in time; see `replicas`";
        let text = match &why {
            Some(why) => format!("{few} ({})", why.text),
            None => few.to_owned(),
        };
        Self {
            kind: Kind::Unavailable,
            ran: Ran::Maybe,
            code: String::new(),
            text,
        }
    }

    /// Everybody waits for replicas already.
    pub(super) fn busy() -> Self {
        Self {
            kind: Kind::Unavailable,
            ran: Ran::No,
            code: String::new(),
            text: "too many calls wait for replicas: they are slow, or gone".into(),
        }
    }

    pub(super) fn timed_out() -> Self {
        Self {
            kind: Kind::Unavailable,
            ran: Ran::Maybe,
            code: String::new(),
            text: "no answer in time".into(),
        }
    }
}

impl From<&RedisError> for Fault {
    fn from(error: &RedisError) -> Self {
        let code = error.code().unwrap_or_default().to_owned();
        let words = words(error);
        // Scripts read before they write, so a key that is being moved is met before a write.
        let moving = words.contains("non local key");
        let (kind, ran) = match error.kind() {
            ErrorKind::Io if error.is_connection_refusal() => (Kind::Unavailable, Ran::No),
            ErrorKind::Io | ErrorKind::Parse => (Kind::Unavailable, Ran::Maybe),
            ErrorKind::MasterNameNotFoundBySentinel
            | ErrorKind::NoValidReplicasFoundBySentinel
            | ErrorKind::ClusterConnectionNotFound => (Kind::Unavailable, Ran::No),
            ErrorKind::Server(ServerErrorKind::ResponseError)
                if moving || words.contains("max number of clients") =>
            {
                (Kind::Unavailable, if moving { Ran::Maybe } else { Ran::No })
            }
            ErrorKind::Server(
                ServerErrorKind::ResponseError
                | ServerErrorKind::CrossSlot
                | ServerErrorKind::NoPerm,
            ) => (Kind::Invalid, Ran::No),
            ErrorKind::Server(_) => (Kind::Unavailable, Ran::No),
            // Who waited for replicas is sent away when the master becomes a replica.
            ErrorKind::Extension if code == "UNBLOCKED" => (Kind::Unavailable, Ran::Maybe),
            ErrorKind::Extension => (extension(&code), Ran::No),
            _ => (Kind::Invalid, Ran::No),
        };
        let mut text = if words.is_empty() {
            error.category().to_owned()
        } else {
            words
        };
        if ["NOAUTH", "WRONGPASS"].contains(&&*code)
            || error.kind() == ErrorKind::AuthenticationFailed
        {
            text.push_str(LOGIN);
        }
        Self {
            kind,
            ran,
            code,
            text,
        }
    }
}

/// Words of the server that the driver has no name for.
fn extension(code: &str) -> Kind {
    match code {
        "OOM" | "MISCONF" | "NOREPLICAS" | "BUSY" | "NOQUORUM" | "UNKILLABLE" | "FAILOVER"
        | "INPROG" => Kind::Unavailable,
        "WRONGTYPE" => Kind::Corrupt,
        _ => Kind::Invalid,
    }
}

/// The error in words that hold nothing of what was sent: a driver's error says no password, but a
/// server quotes the arguments of a command that it does not know.
fn words(error: &RedisError) -> String {
    let text = error.to_string();
    let text = match text.find("with args beginning with") {
        Some(quoted) => &text[..quoted],
        None => &text,
    };
    text.chars().take(WORDS_MAX).collect()
}

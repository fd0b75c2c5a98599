//! What truly happened in a night, in order: the oracle's only evidence.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use nightgate::error::Kind;
use nightgate::gate::Status;
use nightgate::hold::{Settled, Verdict};
use nightgate::receipt::Event;
use nightgate_core::{Basis, Scope};

/// Who acts: the gate, or one of the releasers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Who {
    Gate,
    Releaser(u8),
}

/// How a loan was asked to end, without its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Done(nightgate::hold::End),
    Defer,
    Bury,
}

impl From<&Verdict> for Ending {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Done(end) => Self::Done(*end),
            Verdict::Defer { .. } => Self::Defer,
            Verdict::Bury { .. } => Self::Bury,
        }
    }
}

/// One thing that happened. Messages and recipients are named by their number in the script.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    Answered {
        id: usize,
        status: Status,
    },
    NoAnswer {
        ids: Vec<usize>,
    },
    Granted {
        key: usize,
        scope: Scope,
        basis: Basis,
        at: Timestamp,
        lapses: Option<Timestamp>,
    },
    Withdrew {
        key: usize,
        scope: Scope,
        at: Timestamp,
    },
    LookedUp {
        key: usize,
        by: Who,
    },
    Leased {
        id: usize,
        by: Who,
        lapsed: bool,
    },
    Filed {
        id: usize,
        event: Event,
        by: Who,
    },
    NotFiled {
        id: usize,
        event: Event,
        by: Who,
    },
    Entered {
        id: usize,
        by: Who,
    },
    Received {
        id: usize,
        by: Who,
        lane: usize,
    },
    Said {
        id: usize,
        by: Who,
        outcome: &'static str,
    },
    Settled {
        id: usize,
        by: Who,
        ending: Ending,
        answer: Settled,
    },
    Recalled {
        ids: Vec<usize>,
        in_flight: Vec<usize>,
        said: u64,
    },
    Kicked {
        ids: Vec<usize>,
    },
    Paused {
        lane: Option<usize>,
        paused: bool,
    },
    Stepped {
        by: SignedDuration,
    },
    Corrected,
    Crashed {
        who: Who,
    },
    Started {
        who: Who,
    },
    Fault {
        who: Who,
        op: &'static str,
        fault: &'static str,
    },
    TickFailed {
        who: Who,
        lane: usize,
        kind: Kind,
    },
    Calm,
}

impl What {
    /// Whether it says something about this message.
    fn names(&self, message: usize) -> bool {
        match self {
            Self::Answered { id, .. }
            | Self::Leased { id, .. }
            | Self::Filed { id, .. }
            | Self::NotFiled { id, .. }
            | Self::Entered { id, .. }
            | Self::Received { id, .. }
            | Self::Said { id, .. }
            | Self::Settled { id, .. } => *id == message,
            Self::NoAnswer { ids } | Self::Kicked { ids } => ids.contains(&message),
            Self::Recalled { ids, in_flight, .. } => {
                ids.contains(&message) || in_flight.contains(&message)
            }
            _ => false,
        }
    }

    /// Whether it says something about this recipient.
    fn is_of(&self, recipient: usize) -> bool {
        match self {
            Self::Granted { key, .. } | Self::Withdrew { key, .. } | Self::LookedUp { key, .. } => {
                *key == recipient
            }
            _ => false,
        }
    }

    /// Whether it may matter to any message.
    fn concerns_all(&self) -> bool {
        matches!(
            self,
            Self::Paused { .. }
                | Self::Stepped { .. }
                | Self::Corrected
                | Self::Crashed { .. }
                | Self::Started { .. }
                | Self::Fault { .. }
                | Self::TickFailed { .. }
                | Self::Calm
        )
    }
}

/// Something that happened, at true time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) at: Timestamp,
    pub(crate) what: What,
}

/// Seoul's wall clock at `at`, by the oracle's own arithmetic: UTC+9, no summer time.
pub(crate) fn seoul_second(at: Timestamp) -> i64 {
    (at.as_second() + 9 * 3600).rem_euclid(86_400)
}

/// The lines of `history` that have to do with one message.
pub(crate) fn excerpt(history: &[Entry], id: usize, key: usize) -> String {
    let mut text = String::new();
    // Crashes and the like matter only while the message is on its road.
    let own = |entry: &Entry| entry.what.names(id);
    let first = history.iter().position(own).unwrap_or(0);
    let last = history.iter().rposition(own).unwrap_or(history.len());
    for (place, entry) in history.iter().enumerate() {
        let meanwhile = (first..=last).contains(&place) && entry.what.concerns_all();
        let asked = matches!(entry.what, What::LookedUp { .. }) && !(first..=last).contains(&place);
        if asked || !(meanwhile || entry.what.names(id) || entry.what.is_of(key)) {
            continue;
        }
        line(&mut text, place, entry);
    }
    text
}

/// The lines of all of it.
pub(crate) fn whole(history: &[Entry]) -> String {
    let mut text = String::new();
    for (place, entry) in history.iter().enumerate() {
        line(&mut text, place, entry);
    }
    text
}

fn line(text: &mut String, place: usize, entry: &Entry) {
    let (second, milli) = (seoul_second(entry.at), entry.at.subsec_millisecond());
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let what = &entry.what;
    let _ = writeln!(
        text,
        "  {place:>5} {hour:02}:{minute:02}:{second:02}.{milli:03} KST  {what:?}"
    );
}

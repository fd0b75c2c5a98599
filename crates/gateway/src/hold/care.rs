//! What is told of a hold that is looked after: what a check of its files found, what a backup
//! holds, what an export could read.

use serde::{Deserialize, Serialize};

use super::Found;

/// Most findings that a report tells one by one; the rest is counted.
pub const FINDINGS_MAX: usize = 2_000;

/// What is wrong, or worth knowing, about a file of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ill {
    /// One of two copies cannot be read.
    CopyDamaged,
    /// Neither of two copies can be read: without them nothing more can be told.
    BothDamaged,
    /// A newer program wrote it.
    NewerVersion,
    /// A log that is named is not there.
    LogMissing,
    /// The head of a log cannot be read.
    LogHead,
    /// Bytes in the middle of a log that is still written are not what was written.
    Frames,
    /// The same, in a log that is sealed: its index tells what stands there.
    SealedFrames,
    /// Changes are missing from the log.
    ChangesLost,
    /// An index cannot be read.
    Index,
    /// An index does not tell what its log tells.
    IndexDiffers,
    /// A run of ids cannot be read.
    Run,
    /// The head of a block cannot be read: nobody can say whose its messages are.
    BlockHead,
    /// The bodies of a block cannot be read.
    BlockBody,
    /// Messages of which no block is known.
    Unknown,
    /// Counts do not fit what is there.
    Counts,
    /// The database says that it is not sound.
    Database,
    /// No fault: the end of the log was never answered.
    TornEnd,
    /// No fault: two copies differ, since a crash came between.
    CopiesDiffer,
    /// No fault: left by a crash, and named by nothing.
    Stray,
    /// No fault: a copy of bytes that were damaged once.
    Quarantine,
    /// No fault: not a file of ours.
    Foreign,
    /// No fault of the files: messages that were put aside as damaged before.
    Aside,
}

impl Ill {
    /// Whether something is wrong, and not only worth knowing.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        !matches!(
            self,
            Self::TornEnd
                | Self::CopiesDiffer
                | Self::Stray
                | Self::Quarantine
                | Self::Foreign
                | Self::Aside
        )
    }
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub ill: Ill,
    /// The file, by its name in the hold's folder.
    pub file: String,
    /// The bytes concerned, from (inclusive) to (exclusive); all of the file without.
    pub bytes: Option<(u64, u64)>,
    /// Held messages that it touches.
    pub messages: u64,
    /// What the reader said. No personal data.
    pub detail: Option<String>,
}

/// What a check of a hold's files found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Files read.
    pub files: u64,
    /// Their length, in bytes.
    pub bytes: u64,
    /// Frames of the logs that are whole.
    pub frames: u64,
    /// Blocks of messages.
    pub blocks: u64,
    /// Messages held.
    pub held: u64,
    /// Messages on loan.
    pub leased: u64,
    /// Messages buried.
    pub buried: u64,
    /// Messages put aside as damaged before.
    pub aside: u64,
    /// Held messages that the faults touch.
    pub damaged: u64,
    /// How many faults there are.
    pub faults: u64,
    /// The faults and the notes, [`FINDINGS_MAX`] at most.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.faults == 0
    }

    /// Counts a finding, and keeps it while there is room.
    pub fn note(&mut self, finding: Finding) {
        if finding.ill.is_fault() {
            self.faults += 1;
            self.damaged += finding.messages;
        }
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Files.
    pub files: u64,
    /// Bytes written; holes are left out.
    pub bytes: u64,
    /// Bytes of the hold that could not be read, and are zeros in the backup.
    pub unread: u64,
}

/// Messages that an export could not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The file they stand in.
    pub file: String,
    /// Where their block begins in it.
    pub at: u64,
    /// How many.
    pub messages: u64,
    /// Their ids, if these at least could be read.
    pub ids: Vec<String>,
}

/// A page of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Held, lent and buried messages, whole.
    pub found: Vec<Found>,
    /// What could not be read.
    pub lost: Vec<Lost>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

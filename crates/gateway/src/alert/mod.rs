//! Alarms: what a person should know now. Raising one never blocks and never fails the road.

pub mod count;
pub mod desk;
pub mod log;
pub mod once;
pub mod slack;
pub mod text;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use crate::error::Result;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A window opened, messages are due, and nothing moved.
    NothingMoved,
    /// A lane keeps failing.
    LaneFailing,
    /// Messages were buried.
    Buried,
    /// At the present rate the backlog will not drain before the window closes.
    WillNotDrain,
    /// The wall clock jumped; release is frozen.
    ClockJumped,
    /// The wall clock differs from the one that several gateways share; nothing leaves.
    ClockApart,
    /// A store lost a write; nothing is accepted until a restart.
    StorePoisoned,
    /// A part the road needs cannot be reached (consent book, receipt log, hold).
    PartUnavailable,
    /// The hold is nearly full: advertising is turned away.
    HoldNearlyFull,
    /// The hold, or a shelf of it, is full: messages are turned away.
    HoldFull,
    /// Files of the hold are damaged: messages of it are put aside.
    HoldDamaged,
    /// A queue that messages come from cannot be received from, or not be sent to.
    SourceFailing,
    /// Messages of a queue cannot be read: nobody will take them in as they are.
    SourceUnreadable,
}

impl AlertKind {
    /// The one name used in JSON and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NothingMoved => "nothing_moved",
            Self::LaneFailing => "lane_failing",
            Self::Buried => "buried",
            Self::WillNotDrain => "will_not_drain",
            Self::ClockJumped => "clock_jumped",
            Self::ClockApart => "clock_apart",
            Self::StorePoisoned => "store_poisoned",
            Self::PartUnavailable => "part_unavailable",
            Self::HoldNearlyFull => "hold_nearly_full",
            Self::HoldFull => "hold_full",
            Self::HoldDamaged => "hold_damaged",
            Self::SourceFailing => "source_failing",
            Self::SourceUnreadable => "source_unreadable",
        }
    }
}

/// One alarm. Texts hold no personal data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// What is wrong.
    pub kind: AlertKind,
    /// What it is about: a lane, a part. Alarms of one kind and subject are one alarm.
    pub subject: String,
    /// When it was raised.
    pub at: Timestamp,
    /// One sentence in English.
    pub english: String,
    /// The same in Korean.
    pub korean: String,
    /// Figures: name and value.
    pub figures: Vec<(String, String)>,
}

/// A place alarms go to.
#[async_trait]
pub trait AlertPort: Send + Sync {
    /// The port's name in config and logs.
    fn name(&self) -> &'static str;

    /// Delivers one alarm.
    async fn deliver(&self, alert: &Alert) -> Result<()>;
}

//! What a recipient agreed to. General and night consent are separate facts (Network Act Art. 50(1), (3)).

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::message::named;

named! {
    /// Which of the two agreements.
    Scope {
        /// To receive advertising at all (Art. 50(1)).
        General = "general",
        /// To receive it between 21:00 and 08:00 too (Art. 50(3)).
        Night = "night",
    }
}

/// On what ground a scope stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "basis")]
pub enum Basis {
    /// The recipient said yes.
    Explicit,
    /// Contact got through a transaction for the same kind of goods: six months after it ended
    /// (Art. 50(1) no. 1, Decree Art. 61(1)). Never a ground for night consent.
    TransactionException {
        /// The first instant at which the exception no longer holds.
        ends: Timestamp,
    },
}

/// The history of one scope, reduced to what decides: the latest grant and the latest withdrawal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fact {
    /// When the latest grant (or its two-yearly confirmation) was given, if ever.
    pub granted: Option<Grant>,
    /// When it was last withdrawn, if ever. At the same instant as a grant, withdrawal wins.
    pub withdrawn_at: Option<Timestamp>,
}

/// One grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// When it was given or last confirmed.
    pub at: Timestamp,
    /// Its ground.
    #[serde(flatten)]
    pub basis: Basis,
}

/// Everything known about one recipient. Default: never asked, so no consent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Consent {
    /// To advertising.
    pub general: Option<Fact>,
    /// To advertising at night.
    pub night: Option<Fact>,
}

/// A consent book's answer about one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsentAnswer {
    /// The book answered. A recipient it never heard of has the default, empty consent.
    Known(Consent),
    /// The book could not be asked. Advertising is held, never sent.
    Unknown,
}

/// How one scope stands at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "standing")]
pub enum Standing {
    /// Given and in force.
    Valid {
        /// Since when.
        since: Timestamp,
        /// The first instant at which it no longer holds, if it runs out.
        until: Option<Timestamp>,
        /// Its ground.
        #[serde(flatten)]
        basis: Basis,
    },
    /// Never given.
    None,
    /// Taken back.
    Withdrawn {
        /// When.
        at: Timestamp,
    },
    /// Given once, no longer in force: not confirmed in time, or the exception ended.
    Lapsed {
        /// The instant it ended.
        at: Timestamp,
    },
    /// The book could not be asked.
    Unknown,
}

/// Both scopes as they stood when a decision was made; part of every receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConsentSnapshot {
    /// To advertising.
    pub general: Standing,
    /// To advertising at night.
    pub night: Standing,
}

impl Consent {
    /// Withdrawing general consent withdraws night consent too.
    pub fn withdraw(&mut self, scope: Scope, at: Timestamp) {
        let _ = (scope, at);
        unimplemented!()
    }

    /// Records a grant; older facts that arrive late never undo newer ones.
    pub fn grant(&mut self, scope: Scope, grant: Grant) {
        let _ = (scope, grant);
        unimplemented!()
    }
}

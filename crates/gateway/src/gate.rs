//! The only way in: validate, decide, put, answer.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use nightgate_core::{Channel, FieldFault, House, Message, MessageId, Purpose, Reason, Ruleset};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::consent::ConsentBook;
use crate::error::Result;
use crate::hold::{HoldStore, Lane};
use crate::metrics::Metrics;
use crate::receipt::ReceiptLog;

/// Which lane carries a message.
#[derive(Clone, Debug, Default)]
pub struct Routes(HashMap<(Purpose, Channel), Lane>);

/// The gate.
pub struct Gate {
    rules: Arc<Ruleset>,
    house: House,
    routes: Routes,
    clock: Arc<dyn Clock>,
    hold: Arc<dyn HoldStore>,
    consent: Arc<dyn ConsentBook>,
    receipts: Arc<dyn ReceiptLog>,
    metrics: Arc<Metrics>,
    wake: Arc<Notify>,
}

/// What became of one message at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Stored, and may leave now.
    Accepted,
    /// Stored, and kept until `due`.
    Held,
    /// Not stored: our rules say never.
    Refused,
    /// Its id is known already; nothing was changed.
    Duplicate,
    /// Not stored: a field breaks a rule.
    Invalid,
}

/// The gate's answer to one message.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The message.
    pub id: MessageId,
    /// What became of it.
    pub status: Status,
    /// When it is worth asking again (held), or now (accepted).
    pub due: Option<Timestamp>,
    /// Why, unless it is invalid or a duplicate.
    pub reason: Option<Reason>,
    /// The rules its fields break, if it is invalid.
    pub faults: Vec<FieldFault>,
}

impl Gate {
    /// Takes messages in. One answer each, in order; an invalid one costs only itself.
    ///
    /// # Errors
    /// When the hold or the receipt log cannot be written: nothing was promised, send again.
    pub async fn accept(&self, messages: Vec<Message>) -> Result<Vec<Accepted>> {
        let _ = messages;
        unimplemented!()
    }
}

//! Receipts as blocks of columns, compressed and checksummed: how every log that keeps its own form
//! writes them. A block tells its receipts without anything outside it.

pub(super) mod ask;
pub(super) mod block;
pub(super) mod bytes;
pub(super) mod hasher;
pub(super) mod leaf;
pub(super) mod press;
mod texts;

use std::sync::Arc;

use nightgate_core::{Channel, Code, Purpose, ZoneSource};
use serde::{Deserialize, Serialize};

use super::Event;
use crate::lane::Lane;

/// What the receipts of one campaign on one lane share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::receipt) struct About {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    campaign: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lane: Option<Lane>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purpose: Option<Purpose>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<Channel>,
}

/// What the reasons of one class at one time share: all but instants and consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::receipt) struct Why {
    code: Code,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<Arc<str>>,
    ruleset: Arc<str>,
    zone: Arc<str>,
    zone_source: ZoneSource,
}

/// The number under which an event is stored: never renumber, only add.
pub(in crate::receipt) const fn event_code(event: Event) -> u8 {
    match event {
        Event::Accepted => 0,
        Event::Held => 1,
        Event::Refused => 2,
        Event::Expired => 3,
        Event::Attempted => 4,
        Event::Delivered => 5,
        Event::Retry => 6,
        Event::Rejected => 7,
        Event::Unknown => 8,
        Event::Buried => 9,
        Event::Recalled => 10,
        Event::Kicked => 11,
    }
}

/// The event stored under `code`.
pub(in crate::receipt) fn event_from(code: u8) -> Option<Event> {
    Event::ALL
        .into_iter()
        .find(|event| event_code(*event) == code)
}

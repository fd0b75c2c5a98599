//! The name of a shelf.

use std::sync::Arc;

use nightgate_core::{Class, Priority, Purpose};

use super::instant::nanos;
use super::{Held, Lane};

/// What all messages of one shelf share. Ended messages stand on a shelf without a due.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ShelfKey {
    pub(crate) lane: Lane,
    pub(crate) purpose: Purpose,
    pub(crate) class: Class,
    pub(crate) campaign: Option<Arc<str>>,
    pub(crate) priority: Priority,
    pub(crate) due: Option<i64>,
}

impl ShelfKey {
    /// The shelf on which `held` belongs.
    pub(crate) fn of(held: &Held) -> Self {
        Self {
            lane: held.lane.clone(),
            purpose: held.message.purpose,
            class: held.class.clone(),
            campaign: held.message.campaign.clone(),
            priority: held.message.priority,
            due: Some(nanos(held.due)),
        }
    }

    /// The same with another due; `None` is the shelf of those that ended.
    pub(crate) fn at(&self, due: Option<i64>) -> Self {
        Self {
            due,
            ..self.clone()
        }
    }
}

//! A shelf as one text in every head: what the server groups and counts by.

use jiff::Timestamp;
use nightgate_core::{Class, Priority, Purpose};

use super::corrupt;
use crate::error::Result;
use crate::hold::instant::{instant, nanos};
use crate::hold::key::ShelfKey;
use crate::hold::{Held, Lane};

/// The fields in their order.
type Fields<'t> = (
    std::borrow::Cow<'t, str>,
    u8,
    i64,
    std::borrow::Cow<'t, str>,
    std::borrow::Cow<'t, str>,
    Option<std::borrow::Cow<'t, str>>,
);

/// The shelf on which `held` belongs, if it is due at `due`.
pub(super) fn of(held: &Held, due: Timestamp) -> Result<String> {
    write(&ShelfKey::of(held).at(Some(nanos(due))))
}

/// A shelf as text.
pub(super) fn write(key: &ShelfKey) -> Result<String> {
    let fields: Fields<'_> = (
        key.lane.as_str().into(),
        key.priority.get(),
        key.due.unwrap_or_default(),
        key.purpose.as_str().into(),
        key.class.as_str().into(),
        key.campaign.as_deref().map(Into::into),
    );
    serde_json::to_string(&fields).map_err(|_| corrupt("a shelf cannot be written"))
}

/// The reverse of [`write`].
pub(super) fn read(text: &str) -> Result<ShelfKey> {
    let broken = || corrupt("the name of a shelf does not read");
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|_| broken())?;
    let (lane, priority, due, purpose, class, campaign) = fields;
    Ok(ShelfKey {
        lane: Lane::new(&lane),
        purpose: purpose.parse::<Purpose>().map_err(|_| broken())?,
        class: Class::from_name(&class),
        campaign: campaign.map(|campaign| campaign.as_ref().into()),
        priority: Priority::new(priority).map_err(|_| broken())?,
        due: Some(due),
    })
}

/// When a shelf is due.
pub(super) fn due(key: &ShelfKey) -> Timestamp {
    instant(key.due.unwrap_or_default())
}

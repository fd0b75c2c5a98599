//! How a held message is written into columns, and read back: shared by every SQL backend.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use nightgate_core::{
    Channel, Class, Jurisdiction, Message, MessageId, Priority, Recipient, RecipientKey,
};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Error, Result, Row};

use super::instant::instant;
use super::key::ShelfKey;
use super::{Held, Lane, State};

/// An instant that is carried and never compared in SQL: exact over the whole range of years, as a
/// number of nanoseconds where it fits and as RFC 3339 text where it does not.
pub(crate) struct Exact(pub(crate) Timestamp);

impl ToSql for Exact {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        let stored = match i64::try_from(self.0.as_nanosecond()) {
            Ok(nanos) => Value::Integer(nanos),
            Err(_) => Value::Text(self.0.to_string()),
        };
        Ok(ToSqlOutput::Owned(stored))
    }
}

impl FromSql for Exact {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Integer(nanos) => Ok(Self(instant(nanos))),
            ValueRef::Text(_) => value
                .as_str()?
                .parse()
                .map(Self)
                .map_err(|error: jiff::Error| FromSqlError::Other(error.into())),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// Reads a shelf's `lane, purpose, class, campaign, priority, due` from column `first` on.
pub(crate) fn read_shelf(row: &Row<'_>, first: usize) -> Result<ShelfKey> {
    let text = |column: usize| row.get_ref(first + column)?.as_str().map_err(Error::from);
    let campaign: Option<Arc<str>> = row.get(first + 3)?;
    Ok(ShelfKey {
        lane: Lane::new(text(0)?),
        purpose: checked(first + 1, text(1)?.parse())?,
        class: Class::from_name(text(2)?),
        campaign,
        priority: checked(first + 4, Priority::new(row.get(first + 4)?))?,
        due: row.get(first + 5)?,
    })
}

/// The columns that [`read_held`] reads, in its order, of the message table under the name `m`.
pub(crate) const HELD_COLUMNS: &str = "m.id, m.key, m.recipient, m.channel, m.jurisdiction, \
     m.zone, m.send_at, m.expires_at, m.collapse_key, m.content_type, m.accepted_at, m.due";
/// How many they are.
pub(crate) const HELD_WIDTH: usize = 12;

/// Reads [`HELD_COLUMNS`] from column 0 on. Body and attributes are the caller's to add.
pub(crate) fn read_held(row: &Row<'_>, shelf: &ShelfKey) -> Result<Held> {
    let text = |column: usize| row.get_ref(column)?.as_str().map_err(Error::from);
    let key = text(1)?;
    let recipient: &str = row
        .get_ref(2)?
        .as_str_or_null()
        .map_err(Error::from)?
        .unwrap_or(key);
    let jurisdiction = row.get_ref(4)?.as_str_or_null().map_err(Error::from)?;
    let ended_due: Option<i64> = row.get(11)?;
    Ok(Held {
        message: Message {
            id: checked(0, MessageId::new(text(0)?))?,
            recipient: checked(2, Recipient::new(recipient))?,
            channel: checked(3, text(3)?.parse::<Channel>())?,
            purpose: shelf.purpose,
            campaign: shelf.campaign.clone(),
            priority: shelf.priority,
            jurisdiction: checked(4, jurisdiction.map(Jurisdiction::new).transpose())?,
            zone: row.get(5)?,
            send_at: row.get::<_, Option<Exact>>(6)?.map(|at| at.0),
            expires_at: row.get::<_, Option<Exact>>(7)?.map(|at| at.0),
            collapse_key: row.get(8)?,
            content_type: row.get(9)?,
            attributes: BTreeMap::new(),
            body: Bytes::new(),
        },
        key: RecipientKey::from_stored(key),
        lane: shelf.lane.clone(),
        class: shelf.class.clone(),
        due: instant(shelf.due.or(ended_due).unwrap_or_default()),
        accepted_at: row.get::<_, Exact>(10)?.0,
    })
}

/// Attributes as one JSON object; nothing when there are none.
pub(crate) fn write_attributes(attributes: &BTreeMap<String, String>) -> Result<Option<String>> {
    if attributes.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_string(attributes);
    text.map(Some)
        .map_err(|error| Error::ToSqlConversionFailure(error.into()))
}

/// The reverse of [`write_attributes`].
pub(crate) fn read_attributes(text: Option<&str>) -> Result<BTreeMap<String, String>> {
    let read = text.map(serde_json::from_str).transpose();
    // The cause could quote a value, which is the producer's own data: it is left out.
    checked(
        0,
        read.map(Option::unwrap_or_default)
            .map_err(|_| "attributes are no JSON object"),
    )
}

/// The reverse of [`State::code`].
pub(crate) fn state_of(code: i64) -> Result<State> {
    let state = u8::try_from(code).ok().and_then(State::from_code);
    checked(0, state.ok_or("no such state"))
}

/// A stored value that breaks the rule of its type: says the column and the rule, never the value.
pub(crate) fn checked<T>(
    column: usize,
    value: std::result::Result<T, impl fmt::Display>,
) -> Result<T> {
    value.map_err(|rule| {
        let kind = rusqlite::types::Type::Text;
        Error::FromSqlConversionFailure(column, kind, rule.to_string().into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_breaks_its_rule_is_not_quoted() {
        let error = read_attributes(Some("{\"name\": 01012345678}")).unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("0101234"),
            "{error:?}"
        );
    }
}

//! How a held message is written into columns, and read back: shared by every SQL backend.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use nightgate_core::{
    Channel, Class, Jurisdiction, Message, MessageId, Priority, Purpose, Recipient, RecipientKey,
};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Error, Result, Row};

use super::{End, Held, Lane, State};

/// Nanoseconds since 1970, which is what instants that are compared in SQL are stored as. 64 bits
/// reach from 1677 to 2262; what lies beyond is stored as the nearer end: nobody waits for it.
pub(crate) fn nanos(at: Timestamp) -> i64 {
    let nanos = at.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

/// The instant behind [`nanos`].
pub(crate) fn instant(nanos: i64) -> Timestamp {
    // Every i64 lies within jiff's range, so there is nothing to report.
    Timestamp::from_nanosecond(nanos.into()).unwrap_or(Timestamp::MAX)
}

/// `at` as it reads back once stored.
pub(crate) fn storable(at: Timestamp) -> Timestamp {
    instant(nanos(at))
}

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

    /// Reads `lane, purpose, class, campaign, priority, due` from column `first` on.
    pub(crate) fn read(row: &Row<'_>, first: usize) -> Result<Self> {
        let text = |column: usize| row.get_ref(first + column)?.as_str().map_err(Error::from);
        let campaign: Option<Arc<str>> = row.get(first + 3)?;
        Ok(Self {
            lane: Lane::new(text(0)?),
            purpose: checked(first + 1, text(1)?.parse())?,
            class: Class::from_name(text(2)?),
            campaign,
            priority: checked(first + 4, Priority::new(row.get(first + 4)?))?,
            due: row.get(first + 5)?,
        })
    }
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

/// The number under which a state is stored.
pub(crate) const fn state_code(state: State) -> i64 {
    match state {
        State::Held => 0,
        State::Leased => 1,
        State::Buried => 2,
        State::Recalled => 3,
        State::Delivered => 4,
        State::Refused => 5,
        State::Expired => 6,
        State::Rejected => 7,
    }
}

/// The reverse of [`state_code`].
pub(crate) fn state_of(code: i64) -> Result<State> {
    const ALL: [State; 8] = [
        State::Held,
        State::Leased,
        State::Buried,
        State::Recalled,
        State::Delivered,
        State::Refused,
        State::Expired,
        State::Rejected,
    ];
    let state = usize::try_from(code).ok().and_then(|code| ALL.get(code));
    checked(0, state.copied().ok_or("no such state"))
}

/// The state in which a road ends.
pub(crate) const fn ended(end: End) -> State {
    match end {
        End::Delivered => State::Delivered,
        End::Refused => State::Refused,
        End::Expired => State::Expired,
        End::Rejected => State::Rejected,
    }
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
    fn instants_keep_their_nanoseconds_and_far_ones_the_nearest_that_fits() {
        let near: Timestamp = "2026-11-22T23:00:00.123456789Z".parse().unwrap();
        assert_eq!(storable(near), near);
        assert_eq!(
            storable(Timestamp::MAX).to_string(),
            "2262-04-11T23:47:16.854775807Z"
        );
        assert_eq!(
            storable(Timestamp::MIN).to_string(),
            "1677-09-21T00:12:43.145224192Z"
        );
    }

    #[test]
    fn every_state_reads_back_as_itself() {
        for code in 0..8 {
            assert_eq!(state_code(state_of(code).unwrap()), code);
        }
        assert!(state_of(8).is_err() && state_of(-1).is_err());
    }

    #[test]
    fn a_value_that_breaks_its_rule_is_not_quoted() {
        let error = read_attributes(Some("{\"name\": 01012345678}")).unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("0101234"),
            "{error:?}"
        );
    }
}

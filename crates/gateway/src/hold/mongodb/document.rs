//! How a message is written into a head and a body, and read back.

use std::collections::BTreeMap;

use ::mongodb::bson::spec::BinarySubtype;
use ::mongodb::bson::{Binary, Bson, Document, doc};
use bytes::Bytes;
use jiff::Timestamp;
use nightgate_core::{
    Channel, Class, Jurisdiction, Message, MessageId, Priority, Purpose, Recipient, RecipientKey,
};

use super::schema::code;
use super::shelf;
use crate::error::Result;
use crate::hold::instant::{instant, nanos, storable};
use crate::hold::{Found, Held, Lane, State};
use crate::mongodb::Read;

/// The head of a message that arrives as `number`, with its body in the collection `place`.
pub(super) fn head(held: &Held, number: i64, place: &str) -> Result<Document> {
    let message = &held.message;
    let mut head = doc! {
        "_id": number,
        "name": message.id.as_str(),
        "first": number,
        "seq": number,
        "state": code(State::Held),
        "lane": held.lane.as_str(),
        "priority": i32::from(message.priority.get()),
        "due": nanos(held.due),
        "shelf": shelf::of(held, held.due)?,
        "purpose": message.purpose.as_str(),
        "class": held.class.as_str(),
        "key": held.key.expose(),
        "channel": message.channel.as_str(),
        "content_type": &*message.content_type,
        "accepted_at": exact(held.accepted_at),
        "place": place,
        "lease": 0_i64,
        "attempts": 0_i64,
        "lapsed": 0,
        "recall": 0,
    };
    let recipient = message.recipient.expose();
    let own = (recipient != held.key.expose()).then_some(recipient);
    let jurisdiction = message.jurisdiction.map(|it| it.to_string());
    for (field, value) in [
        ("campaign", message.campaign.as_deref()),
        ("recipient", own),
        ("jurisdiction", jurisdiction.as_deref()),
        ("zone", message.zone.as_deref()),
        ("collapse_key", message.collapse_key.as_deref()),
    ] {
        if let Some(value) = value {
            head.insert(field, value);
        }
    }
    for (field, at) in [
        ("send_at", message.send_at),
        ("expires_at", message.expires_at),
    ] {
        if let Some(at) = at {
            head.insert(field, exact(at));
        }
    }
    Ok(head)
}

/// The body of a message that arrives as `number`. Attributes are a list, name and value by turns:
/// names may contain what names of fields may not.
pub(super) fn body(held: &Held, number: i64) -> Document {
    let attributes = held.message.attributes.iter();
    let attributes = attributes.flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    doc! {
        "_id": number,
        "body": Binary {
            subtype: BinarySubtype::Generic,
            bytes: held.message.body.to_vec(),
        },
        "attributes": attributes.collect::<Vec<_>>(),
    }
}

/// What of a message stands in its body.
#[derive(Debug, Default)]
pub(super) struct Body {
    attributes: BTreeMap<String, String>,
    body: Bytes,
}

impl Body {
    /// Reads a body; one that was asked for without its bytes has none.
    pub(super) fn read(document: &Document) -> Result<Self> {
        let read = reader(document);
        let body = match document.contains_key("body") {
            true => Bytes::copy_from_slice(read.bytes("body")?),
            false => Bytes::new(),
        };
        let broken = || read.broken("attributes", "is no list of texts");
        let list = document.get_array("attributes").map_err(|_| broken())?;
        let mut attributes = BTreeMap::new();
        for pair in list.chunks(2) {
            let [Bson::String(name), Bson::String(value)] = pair else {
                return Err(broken());
            };
            attributes.insert(name.clone(), value.clone());
        }
        Ok(Self { attributes, body })
    }

    /// Completes a message read from its head.
    pub(super) fn into(self, held: &mut Held) {
        held.message.attributes = self.attributes;
        held.message.body = self.body;
    }
}

/// Reads a head. Body and attributes are the caller's to add.
pub(super) fn held(head: &Document) -> Result<Held> {
    let read = reader(head);
    let key = read.text("key")?;
    let jurisdiction = read.maybe("jurisdiction").map(Jurisdiction::new);
    let recipient = Recipient::new(read.maybe("recipient").unwrap_or(key));
    Ok(Held {
        message: Message {
            id: read.checked("name", MessageId::new(read.text("name")?))?,
            recipient: read.checked("recipient", recipient)?,
            channel: read.checked("channel", read.text("channel")?.parse::<Channel>())?,
            purpose: read.checked("purpose", read.text("purpose")?.parse::<Purpose>())?,
            campaign: read.maybe("campaign").map(Into::into),
            priority: read.checked("priority", Priority::new(read.number("priority")?))?,
            jurisdiction: read.checked("jurisdiction", jurisdiction.transpose())?,
            zone: read.maybe("zone").map(Into::into),
            send_at: when(&read, "send_at")?,
            expires_at: when(&read, "expires_at")?,
            collapse_key: read.maybe("collapse_key").map(Into::into),
            content_type: read.text("content_type")?.into(),
            attributes: BTreeMap::new(),
            body: Bytes::new(),
        },
        key: RecipientKey::from_stored(key),
        lane: Lane::new(read.text("lane")?),
        class: Class::from_name(read.text("class")?),
        due: instant(read.int("due")?),
        accepted_at: when(&read, "accepted_at")?.unwrap_or_default(),
    })
}

/// Reads all that is known of a message, but for its body and attributes.
pub(super) fn found(head: &Document) -> Result<Found> {
    let read = reader(head);
    let state = state(head)?;
    Ok(Found {
        held: held(head)?,
        state,
        attempts: read.number("attempts")?,
        lapsed: state == State::Held && read.int("lapsed")? != 0,
        why: read.maybe("why").map(Into::into),
    })
}

/// Where a message is.
pub(super) fn state(head: &Document) -> Result<State> {
    let read = reader(head);
    let code: u8 = read.number("state")?;
    let state = State::from_code(code).ok_or("is no state");
    read.checked("state", state)
}

/// Whether a message is held, on loan or buried.
pub(super) fn is_live(state: State) -> bool {
    matches!(state, State::Held | State::Leased | State::Buried)
}

pub(super) fn reader(document: &Document) -> Read<'_> {
    Read {
        part: "hold",
        document,
    }
}

/// An instant that is carried and never compared: a number of nanoseconds where it fits, RFC 3339
/// where it does not.
fn exact(at: Timestamp) -> Bson {
    match storable(at) == at {
        true => Bson::Int64(nanos(at)),
        false => Bson::String(at.to_string()),
    }
}

/// The reverse of [`exact`].
fn when(read: &Read<'_>, field: &str) -> Result<Option<Timestamp>> {
    match read.document.get(field) {
        None => Ok(None),
        Some(Bson::String(text)) => {
            let at = text.parse().map_err(|_| "is no instant");
            read.checked(field, at).map(Some)
        }
        Some(_) => read.int(field).map(|nanos| Some(instant(nanos))),
    }
}

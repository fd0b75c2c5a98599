//! One JSON object as one message, and back. Every fault of a message is told at once, by field and
//! rule; no fault shows a recipient or a body.

mod fields;
mod quick;
mod words;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use nightgate_core::message::CONTENT_TYPE_DEFAULT;
use nightgate_core::{Channel, FieldFault, Jurisdiction, Message, MessageId, Priority, Purpose};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use quick::Buffer;
use words::Words;

/// Content type of a body that is a JSON object or array, when its producer named none.
pub const CONTENT_TYPE_JSON: &str = "application/json";
/// Content type of a body in base64, when its producer named none.
pub const CONTENT_TYPE_BINARY: &str = "application/octet-stream";
/// The fields of a message, as they are named in JSON.
pub const FIELDS: [&str; 15] = [
    "id",
    "recipient",
    "channel",
    "purpose",
    "campaign",
    "priority",
    "jurisdiction",
    "zone",
    "send_at",
    "expires_at",
    "collapse_key",
    "body",
    "body_base64",
    "content_type",
    "attributes",
];
/// The rule for instants.
pub const INSTANT_RULE: &str = "must be RFC 3339 with an offset, such as 2026-11-22T09:00:00+09:00";

/// Text that is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faulty {
    /// Its id, if that much could be read.
    pub id: Option<MessageId>,
    /// Every fault, at least one.
    pub faults: Vec<FieldFault>,
}

impl Faulty {
    /// A fault of the message as a whole.
    #[must_use]
    pub fn whole(rule: impl Into<String>) -> Self {
        Self {
            id: None,
            faults: vec![FieldFault::new("message", rule)],
        }
    }
}

/// Whether a message must bring its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Needed,
    Optional,
}

/// Reads one message. What [`Message::faults`] tells of a message that is otherwise well written is
/// left to the gate, which asks it anyway.
///
/// # Errors
/// Every fault at once, those of [`Message::faults`] included.
pub fn read(json: &[u8]) -> Result<Message, Faulty> {
    read_with(json, Body::Needed, Buffer::Borrowed, &mut Words::default())
}

/// Reads a message that may lack its body: for dry runs, which never look at it.
///
/// # Errors
/// As [`read`].
pub fn read_envelope(json: &[u8]) -> Result<Message, Faulty> {
    read_with(
        json,
        Body::Optional,
        Buffer::Borrowed,
        &mut Words::default(),
    )
}

/// Reads messages that come together; see [`Reader::read`].
#[derive(Debug)]
pub struct Reader(Words);

impl Default for Reader {
    fn default() -> Self {
        let mut words = Words::default();
        words.renew();
        Self(words)
    }
}

impl Reader {
    /// Reads one message, as [`read`]. Campaigns, zones and content types that are the same in
    /// several messages become one text in memory. A body that is kept as it was written becomes a
    /// part of `buffer`, not a copy, so it keeps all of `buffer` in memory.
    ///
    /// `json` must be a part of `buffer`.
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(&mut self, json: &[u8], buffer: &Bytes) -> Result<Message, Faulty> {
        read_with(json, Body::Needed, Buffer::Shared(buffer), &mut self.0)
    }

    /// The next message belongs to another batch, with which nothing is shared.
    pub fn next_batch(&mut self) {
        self.0.renew();
    }
}

fn read_with(
    json: &[u8],
    body: Body,
    buffer: Buffer<'_>,
    words: &mut Words,
) -> Result<Message, Faulty> {
    let Ok(text) = simdutf8::basic::from_utf8(json) else {
        return Err(Faulty::whole("must be UTF-8"));
    };
    // Nearly all messages are right: they are read in one pass. The rest are read field by field.
    match quick::read(text, body, buffer, words) {
        Some(message) => Ok(message),
        None => fields::read(text, body),
    }
}

/// A text that borrows from the JSON unless it holds escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Reads an instant: RFC 3339, with an offset, without a zone in brackets.
#[must_use]
pub fn instant(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= "2026-11-22T09:00:00Z".len()
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && [bytes[4], bytes[7], bytes[13], bytes[16]] == *b"--::"
        && matches!(bytes[10], b'T' | b't' | b' ')
        && !bytes.contains(&b'[');
    if shaped { text.parse().ok() } else { None }
}

/// A body with the content type it has unless the producer names another.
type BodyAndType = (Bytes, &'static str);

/// A JSON string is its text; an object or array is its own text, byte for byte.
fn body_of(raw: &RawValue) -> Result<BodyAndType, String> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<Text<'_>>(text) {
            Ok(text) => Ok((text.0.into_owned().into(), CONTENT_TYPE_DEFAULT)),
            Err(_) => Err("must be text that Unicode can write".to_owned()),
        },
        Some(b'{' | b'[') => Ok((Bytes::copy_from_slice(text.as_bytes()), CONTENT_TYPE_JSON)),
        _ => Err("must be a string, an object or an array".to_owned()),
    }
}

fn base64_of(text: &str) -> Result<Bytes, String> {
    let bytes = STANDARD.decode(text);
    bytes
        .map(Into::into)
        .map_err(|_| "must be base64 with padding (RFC 4648, section 4)".to_owned())
}

/// Attributes of which none stands twice.
#[derive(Default)]
pub(super) struct Attributes(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Attributes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes, A::Error> {
                let mut all = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    if all.insert(name, value).is_some() {
                        return Err(de::Error::custom("a name stands twice"));
                    }
                }
                Ok(Attributes(all))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// A message as its producer would write it; [`read`] gives the same message back. The recipient is
/// in clear.
///
/// # Errors
/// None in practice: every part of a message has a JSON form.
pub fn to_wire(message: &Message) -> serde_json::Result<String> {
    let text = std::str::from_utf8(&message.body).ok();
    serde_json::to_string(&Written {
        id: message.id.as_str(),
        recipient: message.recipient.expose(),
        channel: message.channel,
        purpose: message.purpose,
        campaign: message.campaign.as_deref(),
        priority: message.priority,
        jurisdiction: message.jurisdiction,
        zone: message.zone.as_deref(),
        send_at: message.send_at,
        expires_at: message.expires_at,
        collapse_key: message.collapse_key.as_deref(),
        body: text,
        body_base64: text.is_none().then(|| STANDARD.encode(&message.body)),
        content_type: &message.content_type,
        attributes: &message.attributes,
    })
}

#[derive(Serialize)]
struct Written<'a> {
    id: &'a str,
    recipient: &'a str,
    channel: Channel,
    purpose: Purpose,
    #[serde(skip_serializing_if = "Option::is_none")]
    campaign: Option<&'a str>,
    priority: Priority,
    #[serde(skip_serializing_if = "Option::is_none")]
    jurisdiction: Option<Jurisdiction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collapse_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    content_type: &'a str,
    attributes: &'a BTreeMap<String, String>,
}

#[cfg(test)]
mod tests;

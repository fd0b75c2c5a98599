//! How a message travels in SQS: what arrives leaves byte for byte and attribute for attribute.
//!
//! Inside Nightgate a message has a body of bytes and attributes of text. A plain attribute of SQS
//! (type `String`) is such an attribute, under its own name. All else that SQS knows of a message
//! (other types, group, deduplication id, trace header) is kept as one JSON text under the name
//! [`SIDE`], and taken apart again when the message leaves:
//!
//! ```json
//! {"attributes": [{"name": "price", "type": "Number", "text": "12.50"},
//!                 {"name": "logo", "type": "Binary.png", "base64": "iVBORw=="}],
//!  "group": "..", "deduplication": "..", "trace": ".."}
//! ```
//!
//! Three names are Nightgate's own: [`ID`] and [`NOT_AFTER`] go with a message if there is room
//! (see [`mark`]), and [`BODY`] says that the body is base64 because SQS takes text alone. They are
//! taken off when a message arrives, so that one Nightgate can follow another.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use nightgate_core::message::FieldFault;
use nightgate_core::{Message, MessageId};
use serde::{Deserialize, Serialize};

use super::queues::{ATTRIBUTES_MAX, Attribute, BYTES_MAX, Incoming, Outgoing, Value};

/// Attribute of a message in SQS: its id in Nightgate.
pub const ID: &str = "nightgate-id";
/// Attribute of a message in SQS: the end of its permit, RFC 3339 in UTC. Whoever takes it from
/// the queue later must not send it.
pub const NOT_AFTER: &str = "nightgate-not-after";
/// Attribute of a message in SQS: what was done to its body. The one value is [`BASE64`].
pub const BODY: &str = "nightgate-body";
/// The body is the base64 (RFC 4648 section 4) of what was handed in.
pub const BASE64: &str = "base64";
/// Attribute of a message in Nightgate: what no plain attribute can say, as JSON.
pub const SIDE: &str = "nightgate.sqs";

/// The type of plain attributes.
const PLAIN: &str = "String";
/// Types of attributes; a label may follow after a dot.
const KINDS: &[&str] = &["String", "Number", "Binary"];
/// Longest name and longest type of an attribute, in characters.
const NAME_MAX: usize = 256;
/// The base64 of nothing, as far as SQS takes it: decoders pass over line ends (RFC 2045).
const NOTHING: &str = "\n";
/// What names must not begin with, in any case.
const RESERVED: &[&str] = &["aws.", "amazon."];

/// What stands under [`SIDE`].
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Side {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<Kept>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deduplication: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Kept {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(flatten)]
    value: KeptValue,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeptValue {
    Text(String),
    Base64(String),
}

impl From<&Attribute> for Kept {
    fn from(attribute: &Attribute) -> Self {
        let value = match &attribute.value {
            Value::Text(text) => KeptValue::Text(text.clone()),
            Value::Bytes(bytes) => KeptValue::Base64(STANDARD.encode(bytes)),
        };
        Self {
            name: attribute.name.clone(),
            kind: attribute.kind.clone(),
            value,
        }
    }
}

impl Kept {
    /// `None` if its base64 is none.
    fn undone(self) -> Option<Attribute> {
        let value = match self.value {
            KeptValue::Text(text) => Value::Text(text),
            KeptValue::Base64(text) => Value::Bytes(STANDARD.decode(text).ok()?),
        };
        Some(Attribute {
            name: self.name,
            kind: self.kind,
            value,
        })
    }
}

/// The id that a Nightgate before this one gave a message.
#[must_use]
pub fn id(incoming: &Incoming) -> Option<&str> {
    plain(&incoming.attributes, ID)
}

/// Body and attributes of a message that arrived, as they are inside Nightgate.
#[must_use]
pub fn arrive(incoming: &Incoming) -> (Bytes, BTreeMap<String, String>) {
    let wrapped = plain(&incoming.attributes, BODY) == Some(BASE64);
    let undone = wrapped.then(|| STANDARD.decode(incoming.body.trim_ascii()).ok());
    let undone = undone.flatten();
    let is_ours = |attribute: &Attribute| {
        let names = [ID, NOT_AFTER];
        let names = names.contains(&&*attribute.name);
        attribute.kind == PLAIN && (names || (attribute.name == BODY && undone.is_some()))
    };
    let mut attributes = BTreeMap::new();
    let mut side = Side {
        attributes: Vec::new(),
        group: incoming.group.clone(),
        deduplication: incoming.deduplication.clone(),
        trace: incoming.trace.clone(),
    };
    for attribute in incoming.attributes.iter().filter(|one| !is_ours(one)) {
        match &attribute.value {
            Value::Text(text) if attribute.kind == PLAIN && attribute.name != SIDE => {
                attributes.insert(attribute.name.clone(), text.clone());
            }
            _ => side.attributes.push(attribute.into()),
        }
    }
    // Text and lists of text: writing them cannot fail.
    if side != Side::default()
        && let Ok(text) = serde_json::to_string(&side)
    {
        attributes.insert(SIDE.to_owned(), text);
    }
    let body = undone.map_or_else(|| incoming.body.clone().into(), Bytes::from);
    (body, attributes)
}

/// A message as it goes into SQS, without delay and without [`mark`]. A body that is no text of
/// SQS (not UTF-8, empty, control characters) goes as base64, and [`BODY`] says so. What stands
/// under [`SIDE`] and is not of its form is an attribute like others. The base64 of an empty body
/// is a line end, since SQS takes no empty text.
///
/// # Errors
/// The field that SQS does not take, and its rule: more than [`ATTRIBUTES_MAX`] attributes, an
/// empty value, a name or a type it forbids, over [`BYTES_MAX`] in all.
pub fn leave(message: &Message) -> Result<Outgoing, FieldFault> {
    let mut outgoing = Outgoing::default();
    let side = message
        .attributes
        .get(SIDE)
        .and_then(|text| unfold(text, &mut outgoing));
    let all = message.attributes.iter();
    let plain = all.filter(|(name, _)| side.is_none() || *name != SIDE);
    outgoing
        .attributes
        .extend(plain.map(|(name, value)| Attribute::text(name, value)));
    match std::str::from_utf8(&message.body) {
        Ok(text) if is_text(text) => text.clone_into(&mut outgoing.body),
        _ => {
            outgoing.body = STANDARD.encode(&message.body);
            if outgoing.body.is_empty() {
                outgoing.body.push_str(NOTHING);
            }
            outgoing.attributes.push(Attribute::text(BODY, BASE64));
        }
    }
    outgoing.attributes.sort_by(|a, b| a.name.cmp(&b.name));
    check(&outgoing)?;
    Ok(outgoing)
}

/// The group that a message came with, if it came from SQS and had one. On a standard queue it
/// makes the queue fair: nobody's many messages keep those of others waiting ("Amazon SQS fair
/// queues" of the developer guide).
#[must_use]
pub fn group(message: &Message) -> Option<String> {
    let side: Side = serde_json::from_str(message.attributes.get(SIDE)?).ok()?;
    side.group
}

/// Puts Nightgate's own attributes on a message, as far as there is room: SQS takes
/// [`ATTRIBUTES_MAX`] and [`BYTES_MAX`], and the producer's own are never dropped. If only one has
/// room, it is [`NOT_AFTER`]. A name that the producer uses stays the producer's.
pub fn mark(outgoing: &mut Outgoing, id: &MessageId, not_after: Timestamp) {
    let ours = [
        Attribute::text(NOT_AFTER, not_after.to_string()),
        Attribute::text(ID, id.as_str()),
    ];
    for attribute in ours {
        let slot = outgoing.attributes.len() < ATTRIBUTES_MAX;
        let room = outgoing.bytes() + attribute.bytes() <= BYTES_MAX;
        let free = |one: &Attribute| one.name != attribute.name;
        if slot && room && outgoing.attributes.iter().all(free) {
            outgoing.attributes.push(attribute);
        }
    }
}

/// The value of a plain attribute.
fn plain<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    let attribute = attributes.iter().find(|one| one.name == name)?;
    match &attribute.value {
        Value::Text(text) if attribute.kind == PLAIN => Some(text),
        _ => None,
    }
}

/// Takes apart what stands under [`SIDE`]. `None`, and nothing done, if it is not of its form.
fn unfold(text: &str, outgoing: &mut Outgoing) -> Option<()> {
    let side: Side = serde_json::from_str(text).ok()?;
    let attributes = side.attributes.into_iter().map(Kept::undone);
    outgoing.attributes = attributes.collect::<Option<_>>()?;
    outgoing.group = side.group;
    outgoing.deduplication = side.deduplication;
    outgoing.trace = side.trace;
    Some(())
}

/// What SQS takes as text: not empty, and the characters of XML 1.0.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>
fn is_text(text: &str) -> bool {
    let taken = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    !text.is_empty() && text.chars().all(taken)
}

fn check(outgoing: &Outgoing) -> Result<(), FieldFault> {
    let attributes = &outgoing.attributes;
    if attributes.len() > ATTRIBUTES_MAX {
        let count = attributes.len();
        let rule = format!("must be at most {ATTRIBUTES_MAX} for SQS, are {count}");
        return Err(FieldFault::new("attributes", rule));
    }
    let mut names = BTreeSet::new();
    for attribute in attributes {
        let rule = if !names.insert(&attribute.name) {
            Some("must be given once")
        } else {
            broken(attribute)
        };
        if let Some(rule) = rule {
            let field = format!("attributes.{}", attribute.name);
            return Err(FieldFault::new(&field, rule));
        }
    }
    let bytes = outgoing.bytes();
    if bytes > BYTES_MAX {
        let rule = format!(
            "must be at most {BYTES_MAX} bytes for SQS with attributes, base64 included, is {bytes}"
        );
        return Err(FieldFault::new("body", rule));
    }
    Ok(())
}

/// The rule of SQS that an attribute breaks.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html> and
/// "Amazon SQS message metadata" of the developer guide.
fn broken(attribute: &Attribute) -> Option<&'static str> {
    let Attribute { name, kind, value } = attribute;
    let byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let dots = name.starts_with('.') || name.ends_with('.') || name.contains("..");
    let lower = name.to_ascii_lowercase();
    let reserved = RESERVED.iter().any(|begin| lower.starts_with(begin));
    let named = (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(byte);
    if !named || dots || reserved {
        return Some(
            "must be named by 1 to 256 of A-Z a-z 0-9 _ - . for SQS, dots apart and inside, \
             and not begin with AWS. or Amazon.",
        );
    }
    let base = kind.split('.').next().unwrap_or_default();
    if !KINDS.contains(&base) || kind.len() > NAME_MAX {
        return Some("must be of type String, Number or Binary");
    }
    match value {
        Value::Text(_) if base == "Binary" => Some("must be base64, being of type Binary"),
        Value::Bytes(_) if base != "Binary" => Some("must be text, not being of type Binary"),
        Value::Text(text) if !is_text(text) => {
            Some("must not be empty nor hold control characters: SQS takes neither")
        }
        Value::Bytes(bytes) if bytes.is_empty() => Some("must not be empty: SQS takes no such"),
        _ => None,
    }
}

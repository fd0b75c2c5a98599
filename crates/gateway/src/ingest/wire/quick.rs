//! The quick reading of a message: one pass, no copies but of what a message keeps. It understands
//! how messages are usually written; whatever it does not, [`super::fields`] reads.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memchr2;
use nightgate_core::message::CONTENT_TYPE_DEFAULT;
use nightgate_core::{Channel, Jurisdiction, Message, MessageId, Priority, Purpose, Recipient};
use serde_json::value::RawValue;

use super::words::Words;
use super::{
    Attributes, Body, CONTENT_TYPE_BINARY, CONTENT_TYPE_JSON, FIELDS, Text, base64_of, instant,
};

/// Bytes below it may not stand in a JSON string.
const CONTROL_END: u8 = 0x20;
/// Bytes of a string looked at one by one before a search is worth its call.
const SHORT: usize = 16;

/// Where the text of a message lies, for a body that can be kept without a copy.
#[derive(Clone, Copy)]
pub(super) enum Buffer<'a> {
    /// In a buffer that may be shared.
    Shared(&'a Bytes),
    /// In one that may not.
    Borrowed,
}

impl Buffer<'_> {
    fn keep(self, part: &str) -> Bytes {
        match self {
            Self::Shared(buffer) => buffer.slice_ref(part.as_bytes()),
            Self::Borrowed => Bytes::copy_from_slice(part.as_bytes()),
        }
    }
}

/// What stands behind a name.
#[derive(Clone, Copy)]
enum Value<'a> {
    /// Nothing, or `null`.
    Absent,
    /// A string without escapes, its quotes taken off.
    Plain(&'a str),
    /// A string with escapes, quotes and all.
    Escaped(&'a str),
    /// An object or an array, well formed.
    Nested(&'a str),
    /// A number of one digit.
    Digit(u8),
}

/// A message, or `None` when it is wrong or written in an uncommon way.
pub(super) fn read(
    text: &str,
    need: Body,
    buffer: Buffer<'_>,
    words: &mut Words,
) -> Option<Message> {
    let mut scan = Scan {
        text,
        at: 0,
        plain: is_plain(text.as_bytes()),
    };
    let values = scan.object()?;
    message(&values, need, buffer, words)
}

/// Whether no byte is a control character. A fold, so that many bytes are looked at in one step.
fn is_plain(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(true, |plain, byte| plain & (*byte >= CONTROL_END))
}

type Values<'a> = [Value<'a>; FIELDS.len()];

/// The field of a name: its place in [`FIELDS`]. A test holds the two together.
fn place(name: &[u8]) -> Option<usize> {
    Some(match name {
        b"id" => 0,
        b"recipient" => 1,
        b"channel" => 2,
        b"purpose" => 3,
        b"campaign" => 4,
        b"priority" => 5,
        b"jurisdiction" => 6,
        b"zone" => 7,
        b"send_at" => 8,
        b"expires_at" => 9,
        b"collapse_key" => 10,
        b"body" => 11,
        b"body_base64" => 12,
        b"content_type" => 13,
        b"attributes" => 14,
        _ => return None,
    })
}

struct Scan<'a> {
    text: &'a str,
    at: usize,
    /// There is no control character anywhere.
    plain: bool,
}

impl<'a> Scan<'a> {
    fn object(&mut self) -> Option<Values<'a>> {
        let mut values = [Value::Absent; FIELDS.len()];
        let mut seen = 0_u32;
        self.take(b'{')?;
        loop {
            self.take(b'"')?;
            let place = place(self.name()?)?;
            // A name that stands twice is a fault.
            if seen & (1 << place) != 0 {
                return None;
            }
            seen |= 1 << place;
            self.take(b':')?;
            values[place] = self.value()?;
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        self.space();
        (self.at == self.text.len()).then_some(values)
    }

    fn space(&mut self) {
        let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        while self.text.as_bytes().get(self.at).is_some_and(space) {
            self.at += 1;
        }
    }

    /// The next byte that is no white space, passed over.
    fn next(&mut self) -> Option<u8> {
        self.space();
        let byte = *self.text.as_bytes().get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    /// What stands up to the closing quote; names are short.
    fn name(&mut self) -> Option<&'a [u8]> {
        let rest = &self.text.as_bytes()[self.at..];
        let end = rest.iter().position(|byte| *byte == b'"')?;
        self.at += end + 1;
        Some(&rest[..end])
    }

    fn value(&mut self) -> Option<Value<'a>> {
        match self.next()? {
            b'"' => self.string(),
            b'{' | b'[' => {
                self.at -= 1;
                let rest = self.text.get(self.at..)?;
                let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
                let raw = values.next()?.ok()?;
                self.at += raw.get().len();
                Some(Value::Nested(raw.get()))
            }
            b'n' => {
                let rest = self.text.as_bytes().get(self.at..)?;
                rest.starts_with(b"ull").then(|| self.at += 3)?;
                Some(Value::Absent)
            }
            // Where a second digit follows, what comes next is neither comma nor brace.
            digit @ b'0'..=b'9' => Some(Value::Digit(digit - b'0')),
            _ => None,
        }
    }

    /// What stands up to the closing quote; its opening one is passed already.
    fn string(&mut self) -> Option<Value<'a>> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut at = start;
        let mut escaped = false;
        loop {
            let rest = bytes.get(at..)?;
            let stop = |byte: &u8| matches!(byte, b'"' | b'\\');
            let short = &rest[..rest.len().min(SHORT)];
            at += match short.iter().position(stop) {
                Some(found) => found,
                None => short.len() + memchr2(b'"', b'\\', &rest[short.len()..])?,
            };
            if bytes[at] == b'"' {
                break;
            }
            escaped = true;
            at += 2;
        }
        self.at = at + 1;
        if escaped {
            return self.text.get(start - 1..=at).map(Value::Escaped);
        }
        let text = self.text.get(start..at)?;
        (self.plain || is_plain(text.as_bytes())).then_some(Value::Plain(text))
    }
}

impl<'a> Value<'a> {
    /// A string's text; `Err` where something else stands.
    fn text(self) -> Result<Option<Cow<'a, str>>, ()> {
        match self {
            Self::Absent => Ok(None),
            Self::Plain(text) => Ok(Some(Cow::Borrowed(text))),
            Self::Escaped(raw) => {
                let text = serde_json::from_str::<Text<'a>>(raw);
                text.map(|text| Some(text.0)).map_err(drop)
            }
            Self::Nested(_) | Self::Digit(_) => Err(()),
        }
    }

    /// A string that must be there, read as something.
    fn needed<T>(self, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        read(&self.text().ok()??).ok()
    }

    /// A string that may be there, read as something.
    fn optional<T>(self, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
        match self.text().ok()? {
            None => Some(None),
            Some(text) => read(&text).map(Some),
        }
    }
}

fn message(
    values: &Values<'_>,
    need: Body,
    buffer: Buffer<'_>,
    words: &mut Words,
) -> Option<Message> {
    let [
        id,
        recipient,
        channel,
        purpose,
        campaign,
        priority,
        jurisdiction,
        zone,
        send_at,
        expires_at,
        collapse_key,
        body,
        body_base64,
        content_type,
        attributes,
    ] = *values;
    let (body, usual) = self::body(body, body_base64, need, buffer)?;
    Some(Message {
        id: id.needed(MessageId::new)?,
        recipient: recipient.needed(Recipient::new)?,
        channel: channel.needed(Channel::from_str)?,
        purpose: purpose.needed(Purpose::from_str)?,
        campaign: campaign.optional(|text| Some(words.share(text)))?,
        priority: match priority {
            Value::Absent => Priority::default(),
            Value::Digit(digit) => Priority::new(digit).ok()?,
            _ => return None,
        },
        jurisdiction: jurisdiction.optional(|text| Jurisdiction::new(text).ok())?,
        zone: zone.optional(|text| Some(words.share(text)))?,
        send_at: send_at.optional(instant)?,
        expires_at: expires_at.optional(instant)?,
        // As many as there are messages, so not worth sharing.
        collapse_key: collapse_key.optional(|text| Some(Arc::from(text)))?,
        content_type: content_type
            .optional(|text| Some(words.share(text)))?
            .unwrap_or_else(|| words.share(usual)),
        attributes: match attributes {
            Value::Absent => Attributes::default().0,
            Value::Nested(raw) => serde_json::from_str::<Attributes>(raw).ok()?.0,
            _ => return None,
        },
        body,
    })
}

/// The body, and the content type it has unless the producer names another.
fn body(
    body: Value<'_>,
    body_base64: Value<'_>,
    need: Body,
    buffer: Buffer<'_>,
) -> Option<(Bytes, &'static str)> {
    Some(match (body, body_base64) {
        (Value::Plain(text), Value::Absent) => (buffer.keep(text), CONTENT_TYPE_DEFAULT),
        (Value::Nested(raw), Value::Absent) => (buffer.keep(raw), CONTENT_TYPE_JSON),
        (Value::Escaped(_), Value::Absent) => {
            let text = body.text().ok()??.into_owned();
            (text.into(), CONTENT_TYPE_DEFAULT)
        }
        (Value::Absent, Value::Plain(_) | Value::Escaped(_)) => {
            (body_base64.needed(base64_of)?, CONTENT_TYPE_BINARY)
        }
        (Value::Absent, Value::Absent) if need == Body::Optional => {
            (Bytes::new(), CONTENT_TYPE_DEFAULT)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_place() {
        for (at, field) in FIELDS.iter().enumerate() {
            assert_eq!(place(field.as_bytes()), Some(at), "{field}");
        }
        assert_eq!(place(b"colour"), None);
    }
}

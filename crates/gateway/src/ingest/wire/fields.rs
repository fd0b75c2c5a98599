//! The slow reading of a message: field by field, so that every fault is found.

use bytes::Bytes;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use nightgate_core::message::CONTENT_TYPE_DEFAULT;
use nightgate_core::{
    Channel, FieldFault, Jurisdiction, Message, MessageId, Priority, Purpose, Recipient,
};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{
    Attributes, Body, CONTENT_TYPE_BINARY, FIELDS, Faulty, INSTANT_RULE, Text, base64_of, body_of,
    instant,
};

/// Longest name of an unknown field that a fault repeats.
const NAME_SHOWN_MAX: usize = 32;
/// Most unknown fields that are told one by one.
const UNKNOWN_TOLD_MAX: usize = 16;

pub(super) fn read(text: &str, body: Body) -> Result<Message, Faulty> {
    let Slots { values, faults } = match serde_json::from_str(text) {
        Ok(slots) => slots,
        Err(error) if error.is_data() => {
            return Err(Faulty::whole("must be a JSON object"));
        }
        // The texts of serde_json may quote what they found: only the place is told.
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            return Err(Faulty::whole(format!(
                "is no JSON (line {line}, column {column})"
            )));
        }
    };
    Reading { values, faults }.message(body)
}

/// The values by field, and the faults of their names.
struct Slots<'a> {
    values: [Option<&'a RawValue>; FIELDS.len()],
    faults: Vec<FieldFault>,
}

impl<'de> Deserialize<'de> for Slots<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Slots<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Slots<'de>, A::Error> {
                let mut slots = Slots {
                    values: [None; FIELDS.len()],
                    faults: Vec::new(),
                };
                let mut seen = [false; FIELDS.len()];
                while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    match FIELDS.iter().position(|field| *field == name.0) {
                        Some(place) if seen[place] => slots.fault(FIELDS[place], "stands twice"),
                        Some(place) => {
                            seen[place] = true;
                            slots.values[place] = Some(value).filter(|raw| raw.get() != "null");
                        }
                        None => slots.fault(shown(&name.0), "is no field of a message"),
                    }
                }
                Ok(slots)
            }
        }
        deserializer.deserialize_map(Read)
    }
}

impl Slots<'_> {
    fn fault(&mut self, field: &str, rule: &str) {
        let fault = FieldFault::new(field, rule);
        if self.faults.len() < UNKNOWN_TOLD_MAX && !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

/// A name is repeated only if it looks like one: anything may stand where a field should.
fn shown(name: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let shows = (1..=NAME_SHOWN_MAX).contains(&name.len()) && name.bytes().all(plain);
    if shows { name } else { "(hidden)" }
}

struct Reading<'a> {
    values: [Option<&'a RawValue>; FIELDS.len()],
    faults: Vec<FieldFault>,
}

impl<'a> Reading<'a> {
    fn message(mut self, body: Body) -> Result<Message, Faulty> {
        let id = self.needed("id", MessageId::new);
        let recipient = self.needed("recipient", Recipient::new);
        let channel = self.needed("channel", Channel::from_str);
        let purpose = self.needed("purpose", Purpose::from_str);
        let (bytes, content_type) = self.body(body);
        let message = Message {
            // Stand-ins let the rules over whole messages be asked as well; none of them gets out.
            id: id
                .clone()
                .or_else(|| MessageId::new("-").ok())
                .ok_or_else(broken)?,
            recipient: recipient
                .or_else(|| Recipient::new("-").ok())
                .ok_or_else(broken)?,
            channel: channel.unwrap_or(Channel::Sms),
            purpose: purpose.unwrap_or(Purpose::Advertising),
            campaign: self.shared("campaign"),
            priority: self.priority().unwrap_or_default(),
            jurisdiction: self.text("jurisdiction", Jurisdiction::new),
            zone: self.shared("zone"),
            send_at: self.text("send_at", |text| instant(text).ok_or(INSTANT_RULE)),
            expires_at: self.text("expires_at", |text| instant(text).ok_or(INSTANT_RULE)),
            collapse_key: self.shared("collapse_key"),
            content_type: self
                .shared("content_type")
                .unwrap_or_else(|| content_type.into()),
            attributes: self.attributes().0,
            body: bytes,
        };
        if self.faults.is_empty() {
            return Ok(message);
        }
        for fault in message.faults() {
            if !self.faults.iter().any(|known| known.field == fault.field) {
                self.faults.push(fault);
            }
        }
        Err(Faulty {
            id,
            faults: self.faults,
        })
    }

    fn value(&self, field: &str) -> Option<&'a RawValue> {
        let place = FIELDS.iter().position(|name| *name == field)?;
        self.values[place]
    }

    fn fault(&mut self, field: &str, rule: impl Into<String>) {
        self.faults.push(FieldFault::new(field, rule));
    }

    /// A text that must be there.
    fn needed<T, E: Into<String>>(
        &mut self,
        field: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if self.value(field).is_none() {
            self.fault(field, "is missing");
        }
        self.text(field, read)
    }

    fn text<T, E: Into<String>>(
        &mut self,
        field: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let raw = self.value(field)?;
        let rule = match serde_json::from_str::<Text<'_>>(raw.get()) {
            Err(_) => "must be a string".to_owned(),
            Ok(Text(text)) => match read(&text) {
                Ok(value) => return Some(value),
                Err(rule) => rule.into(),
            },
        };
        self.fault(field, rule);
        None
    }

    fn shared(&mut self, field: &str) -> Option<Arc<str>> {
        self.text(field, |text| Ok::<_, String>(text.into()))
    }

    fn priority(&mut self) -> Option<Priority> {
        let raw = self.value("priority")?;
        let value = serde_json::from_str::<u8>(raw.get()).ok();
        let priority = value.and_then(|value| Priority::new(value).ok());
        if priority.is_none() {
            let last = Priority::LAST;
            let rule = format!("must be a whole number from 0 (first) to {last} (last)");
            self.fault("priority", rule);
        }
        priority
    }

    fn attributes(&mut self) -> Attributes {
        let Some(raw) = self.value("attributes") else {
            return Attributes::default();
        };
        serde_json::from_str(raw.get()).unwrap_or_else(|_| {
            let rule = "must be an object of strings in which no name stands twice";
            self.fault("attributes", rule);
            Attributes::default()
        })
    }

    fn body(&mut self, need: Body) -> (Bytes, &'static str) {
        let read = match (self.value("body"), self.value("body_base64")) {
            (Some(raw), None) => body_of(raw).map_err(|rule| ("body", rule)),
            (None, Some(raw)) => serde_json::from_str::<Text<'_>>(raw.get())
                .map_err(|_| "must be a string".to_owned())
                .and_then(|Text(text): Text<'_>| base64_of(&text))
                .map(|bytes| (bytes, CONTENT_TYPE_BINARY))
                .map_err(|rule| ("body_base64", rule)),
            (None, None) if need == Body::Optional => Ok((Bytes::new(), CONTENT_TYPE_DEFAULT)),
            (None, None) => Err(("body", "or `body_base64` must be there".to_owned())),
            (Some(_), Some(_)) => {
                let rule = "must not stand beside `body`: give one of the two";
                Err(("body_base64", rule.to_owned()))
            }
        };
        read.unwrap_or_else(|(field, rule)| {
            self.fault(field, rule);
            (Bytes::new(), CONTENT_TYPE_DEFAULT)
        })
    }
}

fn broken() -> Faulty {
    Faulty::whole("cannot be read")
}

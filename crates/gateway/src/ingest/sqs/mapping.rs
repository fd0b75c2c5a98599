//! Which field of a message stands where in a queue's message.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::str::FromStr;

use bytes::Bytes;
use nightgate_core::message::CONTENT_TYPE_DEFAULT;
use nightgate_core::{
    Channel, FieldFault, Jurisdiction, Message, MessageId, Priority, Purpose, Recipient,
};
use serde_json::Value as Json;

use crate::aws::queues::{Incoming, Value};
use crate::aws::travel;
use crate::ingest::wire::{INSTANT_RULE, instant};

/// The fields that can be mapped, as docs/API.md names them. Body and attributes are no part of it:
/// they are carried as they are.
pub const MAPPED: [&str; 12] = [
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
    "content_type",
];
/// Where the id stands unless told otherwise: given by the producer, or else by SQS, which keeps it
/// however often it delivers the message.
pub const ID_DEFAULT: &str = "@nightgate-id | @sqs.message-id";
/// Fields without which there is no message, and a value that is right for each.
const NEEDED: [(&str, &str); 4] = [
    ("id", "-"),
    ("recipient", "-"),
    ("channel", "sms"),
    ("purpose", "informational"),
];
/// Stands between alternatives.
const OR: &str = " | ";
/// Longest name of a message attribute (SQS Developer Guide, message metadata).
const NAME_MAX_BYTES: usize = 256;

/// Where a value may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// `@name`: a message attribute.
    Attribute(String),
    /// `@sqs.message-id`: the id that SQS gave it.
    MessageId,
    /// `@sqs.group`: its message group.
    Group,
    /// `/a/b`: within the body, which is JSON (RFC 6901).
    Pointer(String),
    /// `=text`: the same for every message.
    Fixed(String),
}

/// How the messages of a queue are read. Per field one text with alternatives between ` | `, of
/// which the first that is there wins: `@name` is a message attribute, `/a/b` a JSON pointer into
/// the body, `=text` the text itself, `@sqs.message-id` the id that SQS gave, `@sqs.group` the
/// message group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping([Vec<Place>; MAPPED.len()]);

/// The texts that were found, by field.
type Texts<'a> = [Option<Cow<'a, str>>; MAPPED.len()];

impl Mapping {
    /// Reads a table of fields and their places.
    ///
    /// # Errors
    /// Every faulty key with the rule it breaks.
    pub fn parse(table: &BTreeMap<String, String>) -> Result<Self, Vec<FieldFault>> {
        let mut faults = Vec::new();
        let mut all: [Vec<Place>; MAPPED.len()] = Default::default();
        for (key, text) in table {
            let at = MAPPED.iter().position(|field| field == key);
            match at.ok_or_else(|| unmapped(key)).and_then(|at| {
                all[at] = places(text)?;
                Ok(())
            }) {
                Ok(()) => {}
                Err(rule) => faults.push(FieldFault::new(key, rule)),
            }
        }
        for (field, _) in NEEDED.iter().filter(|(field, _)| *field != "id") {
            if !table.contains_key(*field) {
                let rule = "must be mapped: @attribute, /pointer into the body, or =text";
                faults.push(FieldFault::new(field, rule));
            }
        }
        if !table.contains_key("id") {
            all[0] = places(ID_DEFAULT).unwrap_or_default();
        }
        for fault in fixed_faults(&all) {
            if !faults.iter().any(|known| known.field == fault.field) {
                faults.push(fault);
            }
        }
        match faults.is_empty() {
            true => Ok(Self(all)),
            false => Err(faults),
        }
    }

    /// Reads one message. Body and attributes are carried as they came; the body is read as JSON
    /// only if a pointer asks for it.
    ///
    /// # Errors
    /// Every fault at once, by field and rule; none of them shows a value.
    pub fn map(&self, incoming: &Incoming) -> Result<Message, Vec<FieldFault>> {
        let (body, attributes) = travel::arrive(incoming);
        let json = Body::of(&body);
        let mut texts = Texts::default();
        let mut faults = Vec::new();
        for (at, (places, field)) in self.0.iter().zip(MAPPED).enumerate() {
            match find(places, field, incoming, &json) {
                Ok(None) if is_needed(field) => {
                    let rule = format!("is missing: looked at {}", shown(places));
                    faults.push(FieldFault::new(field, rule));
                }
                Ok(found) => texts[at] = found,
                Err(rule) => faults.push(FieldFault::new(field, rule)),
            }
        }
        build(&texts, faults, body.clone(), attributes)
    }
}

fn is_needed(field: &str) -> bool {
    NEEDED.iter().any(|(needed, _)| *needed == field)
}

fn unmapped(key: &str) -> String {
    match key {
        "body" | "body_base64" | "attributes" => {
            "is not mapped: body and attributes are carried as they come".to_owned()
        }
        _ => format!("is no field; fields are {}", MAPPED.join(", ")),
    }
}

/// The alternatives of one field.
fn places(text: &str) -> Result<Vec<Place>, String> {
    let places = text.split(OR).map(|text| place(text.trim()));
    let places = places.collect::<Result<Vec<Place>, String>>()?;
    let always = |place: &Place| matches!(place, Place::Fixed(_) | Place::MessageId);
    match places.iter().rposition(|_| true) {
        Some(last) if places[..last].iter().any(always) => {
            Err("names places after one that is always there: they are never looked at".to_owned())
        }
        _ => Ok(places),
    }
}

fn place(text: &str) -> Result<Place, String> {
    if let Some(fixed) = text.strip_prefix('=') {
        return Ok(Place::Fixed(fixed.to_owned()));
    }
    if text.starts_with('/') {
        let steps = text.split('~').skip(1);
        let escaped = |rest: &str| rest.starts_with(['0', '1']);
        return match steps.into_iter().all(escaped) {
            true => Ok(Place::Pointer(text.to_owned())),
            false => Err("must write ~ as ~0 in a pointer (RFC 6901)".to_owned()),
        };
    }
    let Some(name) = text.strip_prefix('@') else {
        return Err(format!(
            "must be @attribute, /pointer into the body, or =text; alternatives stand between \
             \"{OR}\""
        ));
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    match name {
        "sqs.message-id" => Ok(Place::MessageId),
        "sqs.group" => Ok(Place::Group),
        _ if name.starts_with("sqs.") => {
            Err("knows @sqs.message-id and @sqs.group, and no other @sqs.".to_owned())
        }
        _ if (1..=NAME_MAX_BYTES).contains(&name.len()) && name.bytes().all(plain) => {
            Ok(Place::Attribute(name.to_owned()))
        }
        _ => Err(format!(
            "must name an attribute by 1 to {NAME_MAX_BYTES} letters, digits, _, - and ."
        )),
    }
}

/// The places as they were written.
fn shown(places: &[Place]) -> String {
    let shown = places.iter().map(|place| match place {
        Place::Attribute(name) => format!("@{name}"),
        Place::MessageId => "@sqs.message-id".to_owned(),
        Place::Group => "@sqs.group".to_owned(),
        Place::Pointer(pointer) => pointer.clone(),
        Place::Fixed(text) => format!("={text}"),
    });
    shown.collect::<Vec<_>>().join(OR)
}

/// Rules that texts of the mapping itself break: every message would.
fn fixed_faults(all: &[Vec<Place>]) -> Vec<FieldFault> {
    let mut texts = Texts::default();
    for (at, (places, field)) in all.iter().zip(MAPPED).enumerate() {
        let stand_in = NEEDED.iter().find(|(needed, _)| *needed == field);
        texts[at] = match places.last() {
            Some(Place::Fixed(text)) => Some(Cow::Borrowed(text)),
            _ => stand_in.map(|(_, text)| Cow::Borrowed(*text)),
        };
    }
    let built = build(&texts, Vec::new(), Bytes::new(), BTreeMap::new());
    built.err().unwrap_or_default()
}

/// A body that is read as JSON when somebody asks, and once.
struct Body<'a> {
    bytes: &'a [u8],
    json: OnceCell<Option<Json>>,
}

impl<'a> Body<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            json: OnceCell::new(),
        }
    }

    /// `None` if it is no JSON.
    fn json(&self) -> Option<&Json> {
        let read = || serde_json::from_slice(self.bytes).ok();
        self.json.get_or_init(read).as_ref()
    }
}

/// The value of `field`: from the first place where there is one.
fn find<'a>(
    places: &'a [Place],
    field: &str,
    incoming: &'a Incoming,
    body: &'a Body<'_>,
) -> Result<Option<Cow<'a, str>>, String> {
    let mut no_json = false;
    for place in places {
        let found = match place {
            Place::Fixed(text) => Some(Cow::Borrowed(text.as_str())),
            Place::MessageId => Some(Cow::Borrowed(incoming.id.as_str())),
            Place::Group => incoming.group.as_deref().map(Cow::Borrowed),
            Place::Attribute(name) => attribute(name, incoming)?,
            Place::Pointer(pointer) => match body.json() {
                Some(json) => pointed(json.pointer(pointer), pointer, field)?,
                None => {
                    no_json = true;
                    None
                }
            },
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    // A body cut short must not lose its `send_at`.
    match no_json {
        true => Err("is asked of the body, which is no JSON".to_owned()),
        false => Ok(None),
    }
}

fn attribute<'a>(name: &str, incoming: &'a Incoming) -> Result<Option<Cow<'a, str>>, String> {
    let found = incoming.attributes.iter().find(|it| it.name == name);
    match found.map(|attribute| &attribute.value) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(Cow::Borrowed(text))),
        Some(Value::Bytes(_)) => Err(format!("must be text, and @{name} is binary")),
    }
}

fn pointed<'a>(
    value: Option<&'a Json>,
    pointer: &str,
    field: &str,
) -> Result<Option<Cow<'a, str>>, String> {
    match value {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(Cow::Borrowed(text))),
        Some(Json::Number(_)) if field == "recipient" => Err(format!(
            "must be a string at {pointer}: a number loses its leading zeros"
        )),
        Some(Json::Number(number)) if number.is_u64() || number.is_i64() => {
            Ok(Some(Cow::Owned(number.to_string())))
        }
        Some(_) => Err(format!("must be a string or a whole number at {pointer}")),
    }
}

/// A message of these texts, or every rule they break beside the faults known already.
fn build(
    texts: &Texts<'_>,
    faults: Vec<FieldFault>,
    body: Bytes,
    attributes: BTreeMap<String, String>,
) -> Result<Message, Vec<FieldFault>> {
    let mut reading = Reading { texts, faults };
    let read = &mut reading;
    let id = read.text("id", MessageId::new);
    let recipient = read.text("recipient", Recipient::new);
    let (channel, purpose) = (
        read.text("channel", Channel::from_str),
        read.text("purpose", Purpose::from_str),
    );
    let shared = |text: &str| Ok::<_, String>(text.into());
    let at = |text: &str| instant(text).ok_or(INSTANT_RULE);
    let message = Message {
        // Stand-ins let the rules over whole messages be asked as well; none of them gets out.
        id: id.or_else(|| MessageId::new("-").ok()).ok_or_else(broken)?,
        recipient: recipient
            .or_else(|| Recipient::new("-").ok())
            .ok_or_else(broken)?,
        channel: channel.unwrap_or(Channel::Sms),
        purpose: purpose.unwrap_or(Purpose::Advertising),
        campaign: read.text("campaign", shared),
        priority: read.text("priority", priority).unwrap_or_default(),
        jurisdiction: read.text("jurisdiction", Jurisdiction::new),
        zone: read.text("zone", shared),
        send_at: read.text("send_at", at),
        expires_at: read.text("expires_at", at),
        collapse_key: read.text("collapse_key", shared),
        content_type: read
            .text("content_type", shared)
            .unwrap_or_else(|| CONTENT_TYPE_DEFAULT.into()),
        attributes,
        body,
    };
    if reading.faults.is_empty() {
        return Ok(message);
    }
    for fault in message.faults() {
        if !reading
            .faults
            .iter()
            .any(|known| known.field == fault.field)
        {
            reading.faults.push(fault);
        }
    }
    Err(reading.faults)
}

/// That a stand-in breaks its rule cannot happen, and must not panic.
fn broken() -> Vec<FieldFault> {
    vec![FieldFault::new("message", "cannot be read")]
}

fn priority(text: &str) -> Result<Priority, String> {
    let value = text.parse().ok();
    let priority = value.and_then(|value| Priority::new(value).ok());
    priority.ok_or_else(|| {
        let last = Priority::LAST;
        format!("must be a whole number from 0 (first) to {last} (last)")
    })
}

struct Reading<'a> {
    texts: &'a Texts<'a>,
    faults: Vec<FieldFault>,
}

impl Reading<'_> {
    fn text<T, E: Into<String>>(
        &mut self,
        field: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let at = MAPPED.iter().position(|name| *name == field)?;
        match read(self.texts[at].as_deref()?) {
            Ok(value) => Some(value),
            Err(rule) => {
                self.faults.push(FieldFault::new(field, rule));
                None
            }
        }
    }
}

//! Reading the section that says who and when.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use nightgate_core::message::{ID_MAX_BYTES, Message};
use nightgate_core::recipient::RECIPIENT_MAX_BYTES;
use nightgate_core::{Channel, Jurisdiction, MessageId, Recipient, RecipientKey};

use super::instants::Instants;
use super::ints::{Numbers, read_ints};
use super::pack::{channel_of, jurisdiction_of};
use super::read::Reader;
use super::section::with_columns;
use super::text::Texts;
use super::{BLOCK_COUNT_MAX, Damaged};
use crate::hold::Held;
use crate::hold::key::ShelfKey;

const SECTION: &str = "head";

/// Who and when of a block's messages. Slots count from 0 to below [`Head::len`]; a larger one
/// panics, as with a slice.
pub(crate) struct Head {
    count: usize,
    /// Every text of the section.
    text: String,
    arrivals: Numbers,
    attempts: Numbers,
    lapsed: Numbers,
    ids: Texts,
    keys: Texts,
    recipients: Texts,
    channels: Values<Channel>,
    jurisdictions: Values<Option<Jurisdiction>>,
    zones: Shared,
    send_at: Instants,
    expires_at: Instants,
    collapse_keys: Shared,
    content_types: Shared,
    accepted_at: Instants,
    whys: Texts,
}

/// A column of small values.
enum Values<T> {
    Same(T),
    Each(Box<[T]>),
}

/// A column of texts of which messages share one copy where they are the same.
enum Shared {
    None,
    Same(Arc<str>),
    Few {
        values: Box<[Arc<str>]>,
        which: Box<[u8]>,
    },
    Each(Texts),
}

impl<T: Copy> Values<T> {
    fn get(&self, slot: usize) -> T {
        match self {
            Self::Same(value) => *value,
            Self::Each(values) => values[slot],
        }
    }

    /// Reads a column of numbers that stand for values.
    fn read(
        reader: &mut Reader<'_>,
        count: usize,
        value_of: impl Fn(u64) -> Option<T>,
    ) -> Result<Self, Damaged> {
        let ints = read_ints(reader, count)?;
        let values = match ints {
            super::ints::Ints::Same(code) => value_of(code).map(Self::Same),
            _ => (0..count)
                .map(|slot| value_of(ints.get(slot)))
                .collect::<Option<_>>()
                .map(Self::Each),
        };
        values.ok_or_else(|| reader.damaged("no such value"))
    }
}

impl Shared {
    fn get(&self, text: &str, slot: usize) -> Option<Arc<str>> {
        match self {
            Self::None => None,
            Self::Same(value) => Some(Arc::clone(value)),
            Self::Few { values, which } => match which[slot] {
                0 => None,
                value => Some(Arc::clone(&values[usize::from(value) - 1])),
            },
            Self::Each(texts) => texts.get(text, slot).map(Arc::from),
        }
    }

    /// The column of `texts`, its few values made once.
    fn of(texts: Texts, text: &str) -> Self {
        let value = |(start, end): (u32, u32)| text.get(start as usize..end as usize);
        let value = |span| Arc::from(value(span).unwrap_or_default());
        match texts {
            Texts::None => Self::None,
            Texts::Same(span) => Self::Same(value(span)),
            Texts::Few { values, which } => Self::Few {
                values: values.iter().copied().map(value).collect(),
                which,
            },
            Texts::Fixed { .. } | Texts::Each(_) => Self::Each(texts),
        }
    }
}

impl Head {
    /// How many messages it has.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// A message's id.
    pub(crate) fn id(&self, slot: usize) -> &str {
        self.ids.get(&self.text, slot).unwrap_or_default()
    }

    /// Its recipient's key.
    pub(crate) fn recipient_key(&self, slot: usize) -> &str {
        self.keys.get(&self.text, slot).unwrap_or_default()
    }

    /// Its arrival after the frame's first.
    pub(crate) fn arrival(&self, slot: usize) -> u32 {
        self.arrivals.get(slot)
    }

    /// Hand-overs tried and deferred when it was written.
    pub(crate) fn attempts(&self, slot: usize) -> u32 {
        self.attempts.get(slot)
    }

    /// Whether an earlier lease of it had lapsed when it was written.
    pub(crate) fn lapsed(&self, slot: usize) -> bool {
        self.lapsed.get(slot) != 0
    }

    /// Why it was buried, if it was.
    pub(crate) fn why(&self, slot: usize) -> Option<&str> {
        self.whys.get(&self.text, slot)
    }

    /// The message without body and attributes. `due` is its shelf's at the moment.
    pub(crate) fn held(&self, slot: usize, shelf: &ShelfKey, due: Timestamp) -> Held {
        self.whole(slot, shelf, due, (BTreeMap::new(), Bytes::new()))
    }

    /// The message with its attributes and body.
    pub(super) fn whole(
        &self,
        slot: usize,
        shelf: &ShelfKey,
        due: Timestamp,
        (attributes, body): (BTreeMap<String, String>, Bytes),
    ) -> Held {
        let key = self.recipient_key(slot);
        let recipient = self.recipients.get(&self.text, slot).unwrap_or(key);
        let shared = |column: &Shared| column.get(&self.text, slot);
        Held {
            message: Message {
                id: MessageId::from_stored(self.id(slot)),
                recipient: Recipient::from_stored(recipient),
                channel: self.channels.get(slot),
                purpose: shelf.purpose,
                campaign: shelf.campaign.clone(),
                priority: shelf.priority,
                jurisdiction: self.jurisdictions.get(slot),
                zone: shared(&self.zones),
                send_at: self.send_at.get(slot),
                expires_at: self.expires_at.get(slot),
                collapse_key: shared(&self.collapse_keys),
                // Reading saw to it that every message has one, and was accepted.
                content_type: shared(&self.content_types).unwrap_or_default(),
                attributes,
                body,
            },
            key: RecipientKey::from_stored(key),
            lane: shelf.lane.clone(),
            class: shelf.class.clone(),
            due,
            accepted_at: self.accepted_at.get(slot).unwrap_or_default(),
        }
    }
}

/// Reads a head section of `count` messages.
///
/// # Errors
/// What is wrong, and where, when nobody can have written it.
pub(crate) fn open_head(bytes: &[u8], count: u32) -> Result<Head, Damaged> {
    with_columns(SECTION, bytes, |columns| {
        let mut reader = Reader::new(SECTION, columns);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if !(1..=BLOCK_COUNT_MAX).contains(&count) {
            return Err(reader.damaged("a count that no block has"));
        }
        let head = read(&mut reader, count)?;
        reader.end()?;
        Ok(head)
    })
}

fn read(reader: &mut Reader<'_>, count: usize) -> Result<Head, Damaged> {
    let mut text = Vec::new();
    reader.begin("arrival");
    let arrivals = read_arrivals(reader, count)?;
    reader.begin("attempts");
    let attempts = Numbers::read(reader, count, u32::MAX)?;
    reader.begin("lapsed");
    let lapsed = Numbers::read(reader, count, 1)?;
    reader.begin("id");
    let ids = read_ids(reader, &mut text, count)?;
    let (keys, recipients) = read_recipients(reader, &mut text, count)?;
    reader.begin("channel");
    let channels = Values::read(reader, count, channel_of)?;
    reader.begin("jurisdiction");
    let jurisdictions = Values::read(reader, count, jurisdiction_of)?;
    reader.begin("zone");
    let zones = Texts::read(reader, &mut text, count)?;
    reader.begin("send_at");
    let send_at = Instants::read(reader, count)?;
    reader.begin("expires_at");
    let expires_at = Instants::read(reader, count)?;
    reader.begin("collapse_key");
    let collapse_keys = Texts::read(reader, &mut text, count)?;
    reader.begin("content_type");
    let content_types = Texts::read(reader, &mut text, count)?;
    all_there(reader, content_types.is_full(count))?;
    reader.begin("accepted_at");
    let accepted_at = Instants::read(reader, count)?;
    all_there(
        reader,
        (0..count).all(|slot| accepted_at.get(slot).is_some()),
    )?;
    reader.begin("why");
    let whys = Texts::read(reader, &mut text, count)?;
    let text = String::from_utf8(text);
    let text = text.map_err(|_| reader.damaged("a text is not UTF-8"))?;
    Ok(Head {
        count,
        arrivals,
        attempts,
        lapsed,
        ids,
        keys,
        recipients,
        channels,
        jurisdictions,
        zones: Shared::of(zones, &text),
        send_at,
        expires_at,
        collapse_keys: Shared::of(collapse_keys, &text),
        content_types: Shared::of(content_types, &text),
        accepted_at,
        whys,
        text,
    })
}

fn all_there(reader: &Reader<'_>, there: bool) -> Result<(), Damaged> {
    let missing = || reader.damaged("a message lacks what each has");
    there.then_some(()).ok_or_else(missing)
}

fn read_arrivals(reader: &mut Reader<'_>, count: usize) -> Result<Numbers, Damaged> {
    let arrivals = Numbers::read(reader, count, u32::MAX)?;
    let ascend = match &arrivals {
        Numbers::Same(_) => count == 1,
        Numbers::Run(_) => true,
        Numbers::Each(each) => each.is_sorted_by(|a, b| a < b),
    };
    let astray = || reader.damaged("arrivals do not ascend");
    ascend.then_some(arrivals).ok_or_else(astray)
}

/// Reads ids and holds them to the rule of [`MessageId::new`].
fn read_ids(reader: &mut Reader<'_>, text: &mut Vec<u8>, count: usize) -> Result<Texts, Damaged> {
    let start = text.len();
    let ids = Texts::read(reader, text, count)?;
    // Without a way out of the loop, the compiler looks at many bytes at once.
    let visible = |all: bool, byte: &u8| all & byte.is_ascii_graphic();
    let visible = text[start..].iter().fold(true, visible);
    let sized = |slot| {
        let span = ids.span(slot);
        span.is_some_and(|(start, end)| (1..=ID_MAX_BYTES).contains(&((end - start) as usize)))
    };
    if !(visible && (0..count).all(sized)) {
        return Err(reader.damaged("an id that cannot be one"));
    }
    Ok(ids)
}

/// Reads keys, and recipients where they differ; holds recipients to [`Recipient::new`]'s rule.
fn read_recipients(
    reader: &mut Reader<'_>,
    text: &mut Vec<u8>,
    count: usize,
) -> Result<(Texts, Texts), Damaged> {
    let plain = |text: &[u8]| {
        let plain = |all: bool, byte: &u8| all & (b' '..=b'~').contains(byte);
        text.iter().fold(true, plain)
    };
    reader.begin("key");
    let start = text.len();
    let keys = Texts::read(reader, text, count)?;
    all_there(reader, keys.is_full(count))?;
    reader.begin("recipient");
    let recipients = Texts::read(reader, text, count)?;
    let plain = plain(&text[start..]);
    let right = |slot| {
        let span = recipients.span(slot).or_else(|| keys.span(slot));
        let bytes = span.and_then(|(start, end)| text.get(start as usize..end as usize));
        let Some(bytes @ [first, .., last] | bytes @ [first @ last]) = bytes else {
            return false;
        };
        if plain {
            return bytes.len() <= RECIPIENT_MAX_BYTES && *first != b' ' && *last != b' ';
        }
        std::str::from_utf8(bytes).is_ok_and(|text| Recipient::new(text).is_ok())
    };
    if !(0..count).all(right) {
        return Err(reader.damaged("a recipient that cannot be one"));
    }
    Ok((keys, recipients))
}

//! The press: turns receipts into a block, a column at a time, for the disk.
//!
//! A block stands for itself: what its receipts share is written once in it, and nothing outside is
//! needed to read it. Beside it the press makes the leaves under which its receipts are found.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use nightgate_core::{Basis, ConsentSnapshot, Reason, Standing};
use serde::Serialize;
use zstd::bulk::Compressor;

use super::bytes::{Pace, put};
use super::hasher::Hasher;
use super::leaf::{entry, pack};
use super::texts::Texts;
use super::{About, Why, event_code};
use crate::receipt::{Receipt, Subject};
use crate::sqlite::nanoseconds;

/// Most receipts in one block. One is read whole to show any receipt of it.
pub(in crate::receipt) const BLOCK_RECEIPTS: usize = 8_192;
/// A block is closed once its texts are this long.
const BLOCK_TEXT_BYTES: usize = 4 * 1024 * 1024;
/// Longest texts of one receipt together: a detail is a line or two.
pub(in crate::receipt) const RECEIPT_TEXT_BYTES: usize = 1024 * 1024;
/// Longest column, before it is compressed: the texts, with every character escaped.
pub(in crate::receipt) const COLUMN_BYTES: usize = 6 * (BLOCK_TEXT_BYTES + RECEIPT_TEXT_BYTES);
/// Columns shorter than this are not worth a frame of their own.
const SMALL_BYTES: usize = 64;
/// Zstandard's level: ids and recipients are noise, which higher levels only look at for longer.
const LEVEL: i32 = 1;
/// Form of a block, its first byte. Stored: a change of the columns is another form.
pub(in crate::receipt) const FORM: u8 = 1;

/// The columns, in the order in which they stand in a block.
#[derive(Clone, Copy)]
pub(in crate::receipt) enum Column {
    At,
    Event,
    Attempt,
    Count,
    Until,
    Abouts,
    About,
    Whys,
    Why,
    Opens,
    Closes,
    Standing,
    Since,
    ValidUntil,
    Ends,
    MessageLengths,
    Messages,
    RecipientLengths,
    Recipients,
    DetailLengths,
    Details,
}

/// How many columns there are.
pub(in crate::receipt) const COLUMNS: usize = Column::Details as usize + 1;

// How a column is written, in the two lowest bits of its length.
/// Some bytes, then one byte again and again.
pub(in crate::receipt) const RUN: u64 = 0;
pub(in crate::receipt) const PLAIN: u64 = 1;
pub(in crate::receipt) const PACKED: u64 = 2;
/// Most bytes before the run.
const RUN_HEAD_BYTES: usize = 32;

// Tags of standings; two share a byte. Stored: never renumber, only add.
pub(in crate::receipt) const STANDING_NONE: u8 = 0;
pub(in crate::receipt) const STANDING_UNKNOWN: u8 = 1;
pub(in crate::receipt) const STANDING_WITHDRAWN: u8 = 2;
pub(in crate::receipt) const STANDING_LAPSED: u8 = 3;
pub(in crate::receipt) const STANDING_VALID: u8 = 4;
pub(in crate::receipt) const STANDING_EXCEPTION: u8 = 5;

/// A block ready for the disk, and the leaves that lead to it.
#[derive(Debug)]
pub(in crate::receipt) struct Sealed {
    pub(in crate::receipt) receipts: u64,
    /// Earliest and latest `at`, in nanoseconds since 1970.
    pub(in crate::receipt) min_at: i64,
    pub(in crate::receipt) max_at: i64,
    pub(in crate::receipt) body: Vec<u8>,
    /// Entries in the leaves.
    pub(in crate::receipt) entries: u64,
    /// Each with its first hash.
    pub(in crate::receipt) leaves: Vec<(u64, Vec<u8>)>,
}

/// A block and the entries that lead to it, in order.
#[derive(Debug)]
pub(in crate::receipt) struct Flat {
    pub(in crate::receipt) receipts: u64,
    /// Earliest and latest `at`, in nanoseconds since 1970.
    pub(in crate::receipt) min_at: i64,
    pub(in crate::receipt) max_at: i64,
    pub(in crate::receipt) body: Vec<u8>,
    /// Made by [`entry`], of block 0.
    pub(in crate::receipt) entries: Vec<u64>,
}

/// The press. Takes receipts, gives blocks; keeps its memory for the next one.
pub(in crate::receipt) struct Press {
    hasher: Hasher,
    compressor: Compressor<'static>,
    receipts: usize,
    text_bytes: usize,
    span: Option<(i64, i64)>,
    entries: Vec<u64>,
    columns: [Vec<u8>; COLUMNS],
    paces: Paces,
    abouts: Shared<About>,
    whys: Shared<Why>,
    messages: Texts,
    recipients: Texts,
    details: Texts,
}

#[derive(Default)]
struct Paces {
    at: Pace,
    until: Pace,
    opens: Pace,
    closes: Pace,
    since: Pace,
    valid_until: Pace,
    ends: Pace,
}

impl Press {
    pub(in crate::receipt) fn new(hasher: Hasher) -> Self {
        let mut compressor = Compressor::default();
        // Only a level that does not exist can be refused, and the default one would serve.
        let _ = compressor.set_compression_level(LEVEL);
        Self {
            hasher,
            compressor,
            receipts: 0,
            text_bytes: 0,
            span: None,
            entries: Vec::new(),
            columns: Default::default(),
            paces: Paces::default(),
            abouts: Shared::default(),
            whys: Shared::default(),
            messages: Texts::default(),
            recipients: Texts::default(),
            details: Texts::default(),
        }
    }

    pub(in crate::receipt) fn is_empty(&self) -> bool {
        self.receipts == 0
    }

    /// Whether the block must be sealed before it takes another receipt.
    pub(in crate::receipt) fn is_full(&self) -> bool {
        self.receipts >= BLOCK_RECEIPTS || self.text_bytes >= BLOCK_TEXT_BYTES
    }

    /// Takes one receipt.
    ///
    /// # Errors
    /// The rule that it breaks; then nothing of it was taken.
    pub(in crate::receipt) fn push(&mut self, receipt: &Receipt) -> Result<(), String> {
        // No `..` here: a new field must find its column.
        let Receipt {
            at,
            event,
            subject,
            attempt,
            count,
            until,
            reason,
            detail,
        } = receipt;
        let (nanos, text_bytes) = measure(receipt)?;
        self.text_bytes += text_bytes;
        self.receipts += 1;
        let (min, max) = self.span.unwrap_or((nanos, nanos));
        self.span = Some((min.min(nanos), max.max(nanos)));
        let columns = &mut self.columns;
        self.paces
            .at
            .put(&mut columns[Column::At as usize], Some(*at));
        columns[Column::Event as usize].push(event_code(*event));
        put(&mut columns[Column::Attempt as usize], u64::from(*attempt));
        put(&mut columns[Column::Count as usize], *count);
        let place = &mut columns[Column::Until as usize];
        self.paces.until.put(place, *until);
        self.details.push(detail.as_deref());
        self.subject(subject);
        match reason {
            Some(reason) => self.reason(reason),
            None => self.columns[Column::Why as usize].push(0),
        }
        Ok(())
    }

    fn subject(&mut self, subject: &Subject) {
        let Subject {
            message,
            recipient,
            campaign,
            lane,
            purpose,
            channel,
        } = subject;
        let (message, recipient) = (
            message.as_ref().map(|id| id.as_str()),
            recipient.as_ref().map(|key| key.expose()),
        );
        self.messages.push(message);
        self.recipients.push(recipient);
        if let Some(id) = message {
            self.entries.push(entry(self.hasher.message(id), 0));
        }
        if let Some(key) = recipient {
            self.entries.push(entry(self.hasher.recipient(key), 0));
        }
        let same = |about: &About| {
            same(campaign.as_deref(), about.campaign.as_deref())
                && same(
                    lane.as_ref().map(|lane| lane.as_str()),
                    about.lane.as_ref().map(|lane| lane.as_str()),
                )
                && *purpose == about.purpose
                && *channel == about.channel
        };
        let hash = |hasher: &DefaultHashBuilder| hasher.hash_one((campaign, lane, channel));
        let (about, new) = self.abouts.place(same, hash, || About {
            campaign: campaign.clone(),
            lane: lane.clone(),
            purpose: *purpose,
            channel: *channel,
        });
        put(&mut self.columns[Column::About as usize], about);
        if new && let Some(name) = campaign {
            self.entries.push(entry(self.hasher.campaign(name), 0));
        }
    }

    fn reason(&mut self, reason: &Reason) {
        let Reason {
            code,
            rule,
            ruleset,
            zone,
            zone_source,
            opens,
            closes,
            consent,
        } = reason;
        let same = |why: &Why| {
            *code == why.code
                && same(rule.as_deref(), why.rule.as_deref())
                && same(Some(ruleset), Some(&why.ruleset))
                && same(Some(zone), Some(&why.zone))
                && *zone_source == why.zone_source
        };
        let hash = |hasher: &DefaultHashBuilder| hasher.hash_one((code, rule, zone));
        let (why, _) = self.whys.place(same, hash, || Why {
            code: *code,
            rule: rule.clone(),
            ruleset: ruleset.clone(),
            zone: zone.clone(),
            zone_source: *zone_source,
        });
        put(&mut self.columns[Column::Why as usize], why + 1);
        let place = &mut self.columns[Column::Opens as usize];
        self.paces.opens.put(place, *opens);
        let place = &mut self.columns[Column::Closes as usize];
        self.paces.closes.put(place, *closes);
        let ConsentSnapshot { general, night } = consent;
        let tags = self.standing(general) | self.standing(night) << 4;
        self.columns[Column::Standing as usize].push(tags);
    }

    /// Writes the instants of a standing; says its tag.
    fn standing(&mut self, standing: &Standing) -> u8 {
        let (columns, paces) = (&mut self.columns, &mut self.paces);
        let (tag, since) = match standing {
            Standing::None => return STANDING_NONE,
            Standing::Unknown => return STANDING_UNKNOWN,
            Standing::Withdrawn { at } => (STANDING_WITHDRAWN, at),
            Standing::Lapsed { at } => (STANDING_LAPSED, at),
            Standing::Valid {
                since,
                until,
                basis,
            } => {
                let place = &mut columns[Column::ValidUntil as usize];
                paces.valid_until.put(place, *until);
                let tag = match basis {
                    Basis::Explicit => STANDING_VALID,
                    Basis::TransactionException { ends } => {
                        let place = &mut columns[Column::Ends as usize];
                        paces.ends.put(place, Some(*ends));
                        STANDING_EXCEPTION
                    }
                };
                (tag, since)
            }
        };
        let place = &mut columns[Column::Since as usize];
        paces.since.put(place, Some(*since));
        tag
    }

    /// Makes a block of what was taken, with its hashes as they are, and is empty again.
    ///
    /// # Errors
    /// As [`Press::seal`].
    #[cfg(feature = "redis")]
    pub(in crate::receipt) fn seal_flat(&mut self) -> std::io::Result<Flat> {
        let flat = self.flat();
        self.clear();
        flat
    }

    /// Makes a block of what was taken, and is empty again.
    ///
    /// # Errors
    /// What the compressor or the writer of JSON says; neither has a reason to.
    pub(in crate::receipt) fn seal(&mut self) -> std::io::Result<Sealed> {
        let sealed = self.sealed();
        self.clear();
        sealed
    }

    fn sealed(&mut self) -> std::io::Result<Sealed> {
        let flat = self.flat()?;
        let mut leaves = Vec::new();
        pack(&flat.entries, 1, |first, page| {
            leaves.push((first, page.to_vec()));
            std::io::Result::Ok(())
        })?;
        let sealed = Sealed {
            receipts: flat.receipts,
            min_at: flat.min_at,
            max_at: flat.max_at,
            body: flat.body,
            entries: flat.entries.len() as u64,
            leaves,
        };
        // Its memory serves the next block.
        self.entries = flat.entries;
        Ok(sealed)
    }

    fn flat(&mut self) -> std::io::Result<Flat> {
        let columns = &mut self.columns;
        self.abouts.write(&mut columns[Column::Abouts as usize])?;
        self.whys.write(&mut columns[Column::Whys as usize])?;
        for (texts, first) in [
            (&self.messages, Column::MessageLengths),
            (&self.recipients, Column::RecipientLengths),
            (&self.details, Column::DetailLengths),
        ] {
            let pair = &mut columns[first as usize..][..2];
            if let [lengths, bytes] = pair {
                texts.write(lengths, bytes);
            }
        }
        let mut body = vec![FORM, 0, 0, 0, 0];
        put(&mut body, self.receipts as u64);
        for column in columns {
            write(column, &mut body, &mut self.compressor)?;
        }
        let sum = crc32c::crc32c(&body[5..]).to_le_bytes();
        body[1..5].copy_from_slice(&sum);
        self.entries.sort_unstable();
        self.entries.dedup();
        let (min_at, max_at) = self.span.unwrap_or_default();
        Ok(Flat {
            receipts: self.receipts as u64,
            min_at,
            max_at,
            body,
            entries: std::mem::take(&mut self.entries),
        })
    }

    /// Throws away what was taken.
    pub(in crate::receipt) fn clear(&mut self) {
        (self.receipts, self.text_bytes, self.span) = (0, 0, None);
        self.entries.clear();
        self.columns.iter_mut().for_each(Vec::clear);
        self.paces = Paces::default();
        self.abouts.clear();
        self.whys.clear();
        for texts in [&mut self.messages, &mut self.recipients, &mut self.details] {
            texts.clear();
        }
    }
}

/// Checks that the press would take `receipt`.
///
/// # Errors
/// The rule that it breaks.
pub(in crate::receipt) fn check(receipt: &Receipt) -> Result<(), String> {
    measure(receipt).map(drop)
}

/// When a receipt was written, in nanoseconds since 1970, and the bytes of its texts.
fn measure(receipt: &Receipt) -> Result<(i64, usize), String> {
    let nanos = nanoseconds(receipt.at)
        .ok_or("a receipt must be dated 1678 to 2261: set this machine's clock")?;
    let bytes = text_bytes(receipt);
    if bytes > RECEIPT_TEXT_BYTES {
        return Err(format!(
            "the texts of a receipt must be at most {RECEIPT_TEXT_BYTES} bytes, are {bytes}"
        ));
    }
    Ok((nanos, bytes))
}

/// Bytes of all texts of a receipt.
fn text_bytes(receipt: &Receipt) -> usize {
    let subject = &receipt.subject;
    let reason = receipt.reason.as_ref().map_or(0, |reason| {
        reason.rule.as_ref().map_or(0, |rule| rule.len()) + reason.ruleset.len() + reason.zone.len()
    });
    subject.message.as_ref().map_or(0, |id| id.as_str().len())
        + subject
            .recipient
            .as_ref()
            .map_or(0, |key| key.expose().len())
        + subject.campaign.as_ref().map_or(0, |name| name.len())
        + subject.lane.as_ref().map_or(0, |lane| lane.as_str().len())
        + receipt.detail.as_ref().map_or(0, String::len)
        + reason
}

/// Equal, and quickly so where both are the very same text.
fn same(one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => std::ptr::eq(one, other) || one == other,
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// What receipts of one block share, each thing once.
struct Shared<T> {
    things: Vec<T>,
    last: usize,
    places: HashTable<usize>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        let (things, last, places) = (Vec::new(), 0, HashTable::new());
        let hasher = DefaultHashBuilder::default();
        Self {
            things,
            last,
            places,
            hasher,
        }
    }
}

impl<T: Serialize + Keyed> Shared<T> {
    /// The place of the thing that is the `same`, kept if it is new; and whether it is.
    fn place(
        &mut self,
        same: impl Fn(&T) -> bool,
        hash: impl Fn(&DefaultHashBuilder) -> u64,
        make: impl FnOnce() -> T,
    ) -> (u64, bool) {
        if self.things.get(self.last).is_some_and(&same) {
            return (self.last as u64, false);
        }
        let hash = hash(&self.hasher);
        let known = self.places.find(hash, |place| same(&self.things[*place]));
        let new = known.is_none();
        self.last = known.copied().unwrap_or(self.things.len());
        if new {
            self.things.push(make());
            let rehash = |place: &usize| self.things[*place].hash(&self.hasher);
            self.places.insert_unique(hash, self.last, rehash);
        }
        (self.last as u64, new)
    }

    fn write(&self, column: &mut Vec<u8>) -> std::io::Result<()> {
        serde_json::to_writer(column, &self.things).map_err(std::io::Error::from)
    }

    fn clear(&mut self) {
        self.things.clear();
        self.places.clear();
        self.last = 0;
    }
}

/// The hash under which a thing is found again; of the same parts as when it was looked for.
trait Keyed {
    fn hash(&self, hasher: &DefaultHashBuilder) -> u64;
}

impl Keyed for About {
    fn hash(&self, hasher: &DefaultHashBuilder) -> u64 {
        hasher.hash_one((&self.campaign, &self.lane, &self.channel))
    }
}

impl Keyed for Why {
    fn hash(&self, hasher: &DefaultHashBuilder) -> u64 {
        hasher.hash_one((&self.code, &self.rule, &self.zone))
    }
}

/// Writes one column in the shortest of the three ways.
fn write(
    column: &[u8],
    body: &mut Vec<u8>,
    compressor: &mut Compressor<'_>,
) -> std::io::Result<()> {
    let length = (column.len() as u64) << 2;
    let byte = column.last().copied().unwrap_or_default();
    let tail = column.iter().rev().take_while(|other| **other == byte);
    let head = column.len() - tail.count();
    if head <= RUN_HEAD_BYTES && column.len() - head > 2 {
        put(body, length | RUN);
        put(body, head as u64);
        body.extend_from_slice(&column[..head]);
        body.push(byte);
        return Ok(());
    }
    if column.len() >= SMALL_BYTES {
        let packed = compressor.compress(column)?;
        if packed.len() < column.len() {
            put(body, length | PACKED);
            put(body, packed.len() as u64);
            body.extend_from_slice(&packed);
            return Ok(());
        }
    }
    put(body, length | PLAIN);
    body.extend_from_slice(column);
    Ok(())
}

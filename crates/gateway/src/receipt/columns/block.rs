//! A block read back: first the columns that tell which receipts are asked for, then those alone.

use jiff::Timestamp;
use nightgate_core::{Basis, ConsentSnapshot, MessageId, Reason, RecipientKey, Standing};
use serde::de::DeserializeOwned;
use zstd::bulk::Decompressor;

use super::bytes::{Cursor, Pace};
use super::press::{
    BLOCK_RECEIPTS, COLUMN_BYTES, COLUMNS, Column, FORM, PACKED, PLAIN, RUN, STANDING_EXCEPTION,
    STANDING_LAPSED, STANDING_NONE, STANDING_UNKNOWN, STANDING_VALID, STANDING_WITHDRAWN,
};
use super::{About, Why, event_from};
use crate::receipt::{Receipt, Subject};

/// Most bytes of one receipt in a column that is no text: two instants.
const CELL_BYTES: usize = 2 * 20;

/// Memory and tools for reading one block after another.
#[derive(Default)]
pub(in crate::receipt) struct Desk {
    zstd: Decompressor<'static>,
    columns: [Vec<u8>; COLUMNS],
    filled: [bool; COLUMNS],
}

/// One block. Everything answers `None` where the block does not read back as it was written.
pub(in crate::receipt) struct Block<'a> {
    receipts: usize,
    sections: [Section<'a>; COLUMNS],
    desk: &'a mut Desk,
}

#[derive(Clone, Copy)]
enum Section<'a> {
    Run {
        bytes: usize,
        head: &'a [u8],
        byte: u8,
    },
    Plain(&'a [u8]),
    Packed {
        bytes: usize,
        frame: &'a [u8],
    },
}

/// The longest that a column can be when it is open: only texts and what is shared have no measure.
fn most(column: usize) -> usize {
    let free = [
        Column::Abouts,
        Column::Whys,
        Column::Messages,
        Column::Recipients,
        Column::Details,
    ];
    if free.iter().any(|free| *free as usize == column) {
        COLUMN_BYTES
    } else {
        BLOCK_RECEIPTS * CELL_BYTES
    }
}

impl<'a> Section<'a> {
    fn read(column: usize, body: &mut Cursor<'a>) -> Option<Self> {
        let number = body.number()?;
        let bytes = usize::try_from(number >> 2).ok();
        let bytes = bytes.filter(|bytes| *bytes <= most(column))?;
        let part = |body: &mut Cursor<'a>| {
            let bytes = usize::try_from(body.number()?).ok()?;
            body.take(bytes)
        };
        Some(match number & 3 {
            RUN => {
                let head = part(body).filter(|head| head.len() <= bytes)?;
                let byte = body.byte()?;
                Self::Run { bytes, head, byte }
            }
            PLAIN => Self::Plain(body.take(bytes)?),
            PACKED => Self::Packed {
                bytes,
                frame: part(body)?,
            },
            _ => return None,
        })
    }
}

impl<'a> Block<'a> {
    /// Reads the plan of a block; its columns are opened when they are needed.
    pub(in crate::receipt) fn of(body: &'a [u8], desk: &'a mut Desk) -> Option<Self> {
        let (form, rest) = body.split_first()?;
        let (sum, rest) = rest.split_first_chunk()?;
        if *form != FORM || crc32c::crc32c(rest) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut rest = Cursor(rest);
        let receipts = usize::try_from(rest.number()?).ok();
        let receipts = receipts.filter(|many| *many <= BLOCK_RECEIPTS)?;
        let mut sections = [Section::Plain(&[]); COLUMNS];
        for (column, section) in sections.iter_mut().enumerate() {
            *section = Section::read(column, &mut rest)?;
        }
        desk.filled = [false; COLUMNS];
        rest.0.is_empty().then_some(Self {
            receipts,
            sections,
            desk,
        })
    }

    /// How many receipts it holds.
    pub(in crate::receipt) fn receipts(&self) -> usize {
        self.receipts
    }

    fn open(&mut self, column: usize) -> Option<()> {
        let Desk {
            zstd,
            columns,
            filled,
        } = &mut *self.desk;
        if std::mem::replace(filled.get_mut(column)?, true) {
            return Some(());
        }
        let place = columns.get_mut(column)?;
        place.clear();
        match *self.sections.get(column)? {
            Section::Run { bytes, head, byte } => {
                place.extend_from_slice(head);
                place.resize(bytes, byte);
            }
            Section::Plain(bytes) => place.extend_from_slice(bytes),
            Section::Packed { bytes, frame } => {
                place.reserve_exact(bytes);
                let read = zstd.decompress_to_buffer(frame, place).ok()?;
                return (read == bytes).then_some(());
            }
        }
        Some(())
    }

    fn column(&self, column: Column) -> Cursor<'_> {
        Cursor(&self.desk.columns[column as usize])
    }

    /// The numbers of the receipts whose text in the column after `lengths` is `wanted`.
    pub(in crate::receipt) fn with_text(
        &mut self,
        lengths: Column,
        wanted: &str,
    ) -> Option<Vec<u32>> {
        let mut found = Vec::new();
        self.each_text(lengths, |number, lead, rest| {
            let wanted = wanted.as_bytes();
            let long = lead.len() + rest.len() == wanted.len();
            if long && wanted.ends_with(rest) && wanted.starts_with(lead) {
                found.push(number);
            }
        })?;
        Some(found)
    }

    /// Shows each text there is in the column after `lengths`, in two halves.
    pub(in crate::receipt) fn each_text(
        &mut self,
        lengths: Column,
        mut show: impl FnMut(u32, &[u8], &[u8]),
    ) -> Option<()> {
        self.open(lengths as usize)?;
        self.open(lengths as usize + 1)?;
        let mut texts = Texts::of(&self.desk.columns[lengths as usize..])?;
        for number in 0..self.receipts as u32 {
            if let Some(rest) = texts.next()? {
                show(number, texts.lead, rest);
            }
        }
        Some(())
    }

    /// Of the receipts, those of `campaign`.
    pub(in crate::receipt) fn with_campaign(&mut self, campaign: &str) -> Option<Vec<u32>> {
        let abouts: Vec<About> = self.shared(Column::Abouts)?;
        self.open(Column::About as usize)?;
        let mut column = self.column(Column::About);
        let mut found = Vec::new();
        for number in 0..self.receipts as u32 {
            let about = abouts.get(usize::try_from(column.number()?).ok()?)?;
            if about.campaign.as_deref() == Some(campaign) {
                found.push(number);
            }
        }
        Some(found)
    }

    /// The receipts dated from `from` on and before `to`.
    pub(in crate::receipt) fn dated(
        &mut self,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Option<Vec<u32>> {
        self.open(Column::At as usize)?;
        let (mut column, mut pace) = (self.column(Column::At), Pace::default());
        let mut found = Vec::new();
        for number in 0..self.receipts as u32 {
            let at = pace.next(&mut column)??;
            if from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to) {
                found.push(number);
            }
        }
        Some(found)
    }

    fn shared<T: DeserializeOwned>(&mut self, column: Column) -> Option<Vec<T>> {
        self.open(column as usize)?;
        serde_json::from_slice(self.column(column).0).ok()
    }

    /// The receipts of the numbers `wanted`, which ascend.
    pub(in crate::receipt) fn receipts_at(&mut self, wanted: &[u32]) -> Option<Vec<Receipt>> {
        let (abouts, whys) = (self.shared(Column::Abouts)?, self.shared(Column::Whys)?);
        for column in 0..COLUMNS {
            self.open(column)?;
        }
        let mut rows = Rows::of(&self.desk.columns, &abouts, &whys)?;
        let mut read = Vec::with_capacity(wanted.len());
        let mut next = 0;
        for number in wanted {
            rows.skip((*number as usize).checked_sub(next)?)?;
            read.push(rows.next()?);
            next = *number as usize + 1;
        }
        Some(read)
    }
}

/// Texts of one column and the column of their lengths before it.
struct Texts<'a> {
    lengths: Cursor<'a>,
    lead: &'a [u8],
    bytes: Cursor<'a>,
}

impl<'a> Texts<'a> {
    fn of(columns: &'a [Vec<u8>]) -> Option<Self> {
        let [lengths, bytes, ..] = columns else {
            return None;
        };
        let mut bytes = Cursor(bytes);
        let lead = usize::try_from(bytes.number()?).ok()?;
        Some(Self {
            lengths: Cursor(lengths),
            lead: bytes.take(lead)?,
            bytes,
        })
    }

    /// The next text after the lead.
    fn next(&mut self) -> Option<Option<&'a [u8]>> {
        let length = usize::try_from(self.lengths.number()?).ok()?;
        match length.checked_sub(1) {
            None => Some(None),
            Some(length) => self.bytes.take(length).map(Some),
        }
    }

    fn skip(&mut self, many: usize) -> Option<()> {
        let mut bytes = 0_usize;
        for _ in 0..many {
            let length = usize::try_from(self.lengths.number()?).ok()?;
            bytes = bytes.checked_add(length.saturating_sub(1))?;
        }
        self.bytes.take(bytes).map(drop)
    }

    fn text(&mut self) -> Option<Option<String>> {
        let Some(rest) = self.next()? else {
            return Some(None);
        };
        let mut text = Vec::with_capacity(self.lead.len() + rest.len());
        text.extend_from_slice(self.lead);
        text.extend_from_slice(rest);
        String::from_utf8(text).ok().map(Some)
    }
}

/// An instant column and how far it was read.
struct Instants<'a> {
    column: Cursor<'a>,
    pace: Pace,
}

impl Instants<'_> {
    fn next(&mut self) -> Option<Option<Timestamp>> {
        self.pace.next(&mut self.column)
    }

    fn skip(&mut self, many: usize) -> Option<()> {
        for _ in 0..many {
            self.pace.step(&mut self.column)?;
        }
        Some(())
    }
}

/// Passes over `many` numbers.
fn skip(column: &mut Cursor<'_>, many: usize) -> Option<()> {
    for _ in 0..many {
        column.number()?;
    }
    Some(())
}

/// All columns, read row by row.
struct Rows<'a> {
    abouts: &'a [About],
    whys: &'a [Why],
    at: Instants<'a>,
    event: Cursor<'a>,
    attempt: Cursor<'a>,
    count: Cursor<'a>,
    until: Instants<'a>,
    about: Cursor<'a>,
    why: Cursor<'a>,
    opens: Instants<'a>,
    closes: Instants<'a>,
    standing: Cursor<'a>,
    since: Instants<'a>,
    valid_until: Instants<'a>,
    ends: Instants<'a>,
    messages: Texts<'a>,
    recipients: Texts<'a>,
    details: Texts<'a>,
}

impl<'a> Rows<'a> {
    fn of(columns: &'a [Vec<u8>; COLUMNS], abouts: &'a [About], whys: &'a [Why]) -> Option<Self> {
        let column = |column: Column| Cursor(&columns[column as usize]);
        let instants = |name| Instants {
            column: column(name),
            pace: Pace::default(),
        };
        let texts = |lengths: Column| Texts::of(&columns[lengths as usize..]);
        Some(Self {
            abouts,
            whys,
            at: instants(Column::At),
            event: column(Column::Event),
            attempt: column(Column::Attempt),
            count: column(Column::Count),
            until: instants(Column::Until),
            about: column(Column::About),
            why: column(Column::Why),
            opens: instants(Column::Opens),
            closes: instants(Column::Closes),
            standing: column(Column::Standing),
            since: instants(Column::Since),
            valid_until: instants(Column::ValidUntil),
            ends: instants(Column::Ends),
            messages: texts(Column::MessageLengths)?,
            recipients: texts(Column::RecipientLengths)?,
            details: texts(Column::DetailLengths)?,
        })
    }

    /// Passes over `many` receipts, a column at a time.
    fn skip(&mut self, many: usize) -> Option<()> {
        if many == 0 {
            return Some(());
        }
        self.at.skip(many)?;
        self.event.take(many)?;
        skip(&mut self.attempt, many)?;
        skip(&mut self.count, many)?;
        self.until.skip(many)?;
        skip(&mut self.about, many)?;
        self.messages.skip(many)?;
        self.recipients.skip(many)?;
        self.details.skip(many)?;
        let mut reasons = 0;
        for _ in 0..many {
            reasons += usize::from(self.why.number()? > 0);
        }
        self.opens.skip(reasons)?;
        self.closes.skip(reasons)?;
        let (mut dated, mut valid, mut exceptions) = (0, 0, 0);
        for tags in self.standing.take(reasons)? {
            for tag in [tags & 0xf, tags >> 4] {
                dated += usize::from(tag >= STANDING_WITHDRAWN);
                valid += usize::from(tag >= STANDING_VALID);
                exceptions += usize::from(tag == STANDING_EXCEPTION);
            }
        }
        self.since.skip(dated)?;
        self.valid_until.skip(valid)?;
        self.ends.skip(exceptions)
    }

    fn next(&mut self) -> Option<Receipt> {
        let about = usize::try_from(self.about.number()?).ok()?;
        let About {
            campaign,
            lane,
            purpose,
            channel,
        } = self.abouts.get(about)?.clone();
        let message = self.messages.text()?;
        let message = message.map(|id| MessageId::new(&id)).transpose().ok()?;
        let recipient = self.recipients.text()?;
        let subject = Subject {
            message,
            recipient: recipient.map(|key| RecipientKey::from_stored(&key)),
            campaign,
            lane,
            purpose,
            channel,
        };
        Some(Receipt {
            at: self.at.next()??,
            event: event_from(self.event.byte()?)?,
            subject,
            attempt: u32::try_from(self.attempt.number()?).ok()?,
            count: self.count.number()?,
            until: self.until.next()?,
            reason: match self.why.number()?.checked_sub(1) {
                None => None,
                Some(why) => Some(self.reason(usize::try_from(why).ok()?)?),
            },
            detail: self.details.text()?,
        })
    }

    fn reason(&mut self, why: usize) -> Option<Reason> {
        let Why {
            code,
            rule,
            ruleset,
            zone,
            zone_source,
        } = self.whys.get(why)?.clone();
        let (opens, closes) = (self.opens.next()?, self.closes.next()?);
        let tags = self.standing.byte()?;
        let consent = ConsentSnapshot {
            general: self.standing(tags & 0xf)?,
            night: self.standing(tags >> 4)?,
        };
        Some(Reason {
            code,
            rule,
            ruleset,
            zone,
            zone_source,
            opens,
            closes,
            consent,
        })
    }

    fn standing(&mut self, tag: u8) -> Option<Standing> {
        Some(match tag {
            STANDING_NONE => Standing::None,
            STANDING_UNKNOWN => Standing::Unknown,
            STANDING_WITHDRAWN => Standing::Withdrawn {
                at: self.since.next()??,
            },
            STANDING_LAPSED => Standing::Lapsed {
                at: self.since.next()??,
            },
            STANDING_VALID | STANDING_EXCEPTION => {
                let until = self.valid_until.next()?;
                let basis = match tag {
                    STANDING_VALID => Basis::Explicit,
                    _ => Basis::TransactionException {
                        ends: self.ends.next()??,
                    },
                };
                Standing::Valid {
                    since: self.since.next()??,
                    until,
                    basis,
                }
            }
            _ => return None,
        })
    }
}

//! Writing a block.

use jiff::Timestamp;
use nightgate_core::{Channel, Jurisdiction};

use super::attributes::write_attributes;
use super::instants::write_instants;
use super::ints::write_ints;
use super::section::{BODY_LEVEL, HEAD_LEVEL, Press};
use super::text::{Likely, write_texts};
use super::{BLOCK_COUNT_MAX, Packed, Record};

/// Writes blocks. Keeps its buffers and its zstd context, so one is worth keeping.
pub(crate) struct Packer {
    head: Press,
    body: Press,
    ints: Vec<u64>,
}

/// Where one section is written.
struct Pen<'p> {
    columns: &'p mut Vec<u8>,
    ints: &'p mut Vec<u64>,
    /// Bytes of texts that are written as they are.
    plain: usize,
}

impl Default for Packer {
    fn default() -> Self {
        Self::new()
    }
}

impl Packer {
    /// A packer with empty buffers.
    pub(crate) fn new() -> Self {
        Self {
            head: Press::new(HEAD_LEVEL),
            body: Press::new(BODY_LEVEL),
            ints: Vec::new(),
        }
    }

    /// Writes `records` of one shelf, their arrivals ascending.
    ///
    /// # Panics
    /// When there are none, more than [`BLOCK_COUNT_MAX`], or more than 16 MiB of them: what no
    /// reader would take must not be written. Who cuts blocks by [`super::weight`] is far below.
    pub(crate) fn pack(&mut self, records: &[Record<'_>]) -> Packed {
        assert!(
            (1..=BLOCK_COUNT_MAX).contains(&records.len()),
            "a block holds 1 to {BLOCK_COUNT_MAX} messages, not {}",
            records.len()
        );
        let bodies = records.iter().map(|record| record.held.message.body.len());
        let bodies: usize = bodies.sum();
        let lengths = records.len() * size_of::<u32>();
        let ints = &mut self.ints;
        let plain = 0;
        let columns = self.head.begin(0);
        let mut pen = Pen {
            columns,
            ints,
            plain,
        };
        pen.write_head(records);
        // Packed digits and numbers have little to give, and are most of many a head.
        let dense = pen.plain * 2 < pen.columns.len();
        let (head, head_raw) = self.head.seal(dense);
        let columns = self.body.begin(bodies + lengths);
        let mut pen = Pen {
            columns,
            ints,
            plain,
        };
        pen.write_body(records);
        let (body, body_raw) = self.body.seal(false);
        Packed {
            head,
            body,
            raw: head_raw + body_raw,
        }
    }
}

impl Pen<'_> {
    fn write_head(&mut self, records: &[Record<'_>]) {
        use Likely::{Each, Few};
        let mut texts = Vec::with_capacity(records.len());
        self.numbers(records, |record| record.arrival.into());
        self.numbers(records, |record| record.attempts.into());
        self.numbers(records, |record| record.lapsed.into());
        self.texts(&mut texts, Each, records, |record| {
            Some(record.held.message.id.as_str())
        });
        self.texts(&mut texts, Each, records, |record| {
            Some(record.held.key.expose())
        });
        self.texts(&mut texts, Each, records, |record| {
            let recipient = record.held.message.recipient.expose();
            (recipient != record.held.key.expose()).then_some(recipient)
        });
        self.numbers(records, |record| {
            channel_code(record.held.message.channel).into()
        });
        self.numbers(records, |record| {
            jurisdiction_code(record.held.message.jurisdiction)
        });
        self.texts(&mut texts, Few, records, |record| {
            record.held.message.zone.as_deref()
        });
        self.instants(records, |record| record.held.message.send_at);
        self.instants(records, |record| record.held.message.expires_at);
        self.texts(&mut texts, Few, records, |record| {
            record.held.message.collapse_key.as_deref()
        });
        self.texts(&mut texts, Few, records, |record| {
            Some(&record.held.message.content_type)
        });
        self.instants(records, |record| Some(record.held.accepted_at));
        self.texts(&mut texts, Few, records, |record| record.why);
    }

    fn write_body(&mut self, records: &[Record<'_>]) {
        let maps = records.iter().map(|record| &record.held.message.attributes);
        write_attributes(self.columns, self.ints, maps);
        self.numbers(records, |record| record.held.message.body.len() as u64);
        for record in records {
            self.columns.extend_from_slice(&record.held.message.body);
        }
    }

    fn numbers<'r>(&mut self, records: &[Record<'r>], column: impl Fn(&Record<'r>) -> u64) {
        self.ints.clear();
        self.ints.extend(records.iter().map(column));
        write_ints(self.columns, self.ints);
    }

    fn instants<'r>(
        &mut self,
        records: &[Record<'r>],
        column: impl Fn(&Record<'r>) -> Option<Timestamp>,
    ) {
        let rows = records.iter().map(&column);
        write_instants(self.columns, self.ints, rows);
    }

    fn texts<'r>(
        &mut self,
        rows: &mut Vec<Option<&'r str>>,
        likely: Likely,
        records: &[Record<'r>],
        column: impl Fn(&Record<'r>) -> Option<&'r str>,
    ) {
        rows.clear();
        rows.extend(records.iter().map(column));
        self.plain += write_texts(self.columns, self.ints, rows, likely);
    }
}

/// Every channel at the number under which it is stored.
const CHANNELS: [Channel; 11] = [
    Channel::Sms,
    Channel::Lms,
    Channel::Mms,
    Channel::Rcs,
    Channel::Alimtalk,
    Channel::Friendtalk,
    Channel::Brandmessage,
    Channel::Push,
    Channel::Email,
    Channel::Voice,
    Channel::Fax,
];

const fn channel_code(channel: Channel) -> u8 {
    match channel {
        Channel::Sms => 0,
        Channel::Lms => 1,
        Channel::Mms => 2,
        Channel::Rcs => 3,
        Channel::Alimtalk => 4,
        Channel::Friendtalk => 5,
        Channel::Brandmessage => 6,
        Channel::Push => 7,
        Channel::Email => 8,
        Channel::Voice => 9,
        Channel::Fax => 10,
    }
}

/// The channel stored under `code`, if there is one.
pub(super) fn channel_of(code: u64) -> Option<Channel> {
    let code = usize::try_from(code).ok()?;
    CHANNELS.get(code).copied()
}

/// The two letters as a number, 0 for none.
fn jurisdiction_code(jurisdiction: Option<Jurisdiction>) -> u64 {
    let letters = jurisdiction.as_ref().map_or("", Jurisdiction::as_str);
    let push = |code: u64, letter: u8| code << 8 | u64::from(letter);
    letters.bytes().fold(0, push)
}

/// The reverse of `jurisdiction_code`; `None` when it is the code of nothing.
pub(super) fn jurisdiction_of(code: u64) -> Option<Option<Jurisdiction>> {
    if code == 0 {
        return Some(None);
    }
    let letters = u16::try_from(code).ok()?.to_be_bytes();
    let letters = std::str::from_utf8(&letters).ok()?;
    Jurisdiction::new(letters).ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_and_jurisdiction_reads_back_as_itself() {
        for channel in Channel::ALL {
            assert_eq!(channel_of(channel_code(*channel).into()), Some(*channel));
        }
        assert_eq!(channel_of(CHANNELS.len() as u64), None);
        let korea = Some(Jurisdiction::new("KR").unwrap());
        for jurisdiction in [None, korea] {
            let code = jurisdiction_code(jurisdiction);
            assert_eq!(jurisdiction_of(code), Some(jurisdiction));
        }
        assert_eq!(jurisdiction_of(1), None);
        assert_eq!(jurisdiction_of(u64::MAX), None);
    }
}

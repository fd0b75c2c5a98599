//! What stands in a block.

use std::collections::BTreeSet;

use ::mongodb::bson::spec::BinarySubtype;
use ::mongodb::bson::{Binary, Document, doc};
use jiff::Timestamp;

use super::PART;
use crate::error::{Error, Kind, Result};
use crate::mongodb::Read;
use crate::receipt::{Filed, Receipt};

/// Receipts of one campaign are alike, so that the quickest level finds most of it.
const ZSTD_LEVEL: i32 = 3;
/// Most bytes that a block unpacks to: what [`super::APPEND_MAX`] receipts take, many times over.
const UNPACKED_MAX: usize = 1 << 30;

/// Receipts, packed.
pub(super) struct Block {
    many: i64,
    packed: Vec<u8>,
    about: Document,
}

impl Block {
    /// Packs receipts.
    pub(super) fn of(receipts: &[Receipt]) -> Result<Self> {
        let failed = |op: &str| Error::new(Kind::Invalid, PART, op);
        let json = serde_json::to_vec(receipts).map_err(|_| failed("write receipts as JSON"))?;
        let packed = zstd::bulk::compress(&json, ZSTD_LEVEL);
        let packed = packed.map_err(|_| failed("pack receipts"))?;
        let (mut messages, mut recipients) = (BTreeSet::new(), BTreeSet::new());
        let mut campaigns = BTreeSet::new();
        for Receipt { subject, .. } in receipts {
            messages.extend(subject.message.as_ref().map(|id| id.as_str()));
            recipients.extend(subject.recipient.as_ref().map(|key| key.expose()));
            campaigns.extend(subject.campaign.as_deref());
        }
        let at = || receipts.iter().map(|receipt| nanos(receipt.at));
        let about = doc! {
            "messages": Vec::from_iter(messages),
            "recipients": Vec::from_iter(recipients),
            "campaigns": Vec::from_iter(campaigns),
            "first_at": at().min().unwrap_or_default(),
            "last_at": at().max().unwrap_or_default(),
        };
        Ok(Self {
            many: i64::try_from(receipts.len()).unwrap_or(i64::MAX),
            packed,
            about,
        })
    }

    /// How many receipts.
    pub(super) fn many(&self) -> i64 {
        self.many
    }

    /// The document that stands at `place`; `mark` tells who wrote it.
    pub(super) fn write(&self, place: i64, mark: &str) -> Document {
        let mut document = doc! { "_id": place, "many": self.many, "mark": mark };
        document.extend(self.about.clone());
        let packed = Binary {
            subtype: BinarySubtype::Generic,
            bytes: self.packed.clone(),
        };
        document.insert("receipts", packed);
        document
    }
}

/// The receipts of a block with their places.
pub(super) fn read(document: &Document) -> Result<Vec<Filed>> {
    let read = Read {
        part: PART,
        document,
    };
    let first: u64 = read.number("_id")?;
    let packed = read.bytes("receipts")?;
    let json = zstd::bulk::decompress(packed, unpacked(packed));
    let json = read.checked("receipts", json.map_err(|_| "does not unpack"))?;
    // The cause could quote a recipient: it is left out.
    let receipts: std::result::Result<Vec<Receipt>, _> = serde_json::from_slice(&json);
    let receipts = read.checked("receipts", receipts.map_err(|_| "are no receipts"))?;
    let places = first..;
    let filed = places.zip(receipts);
    Ok(filed.map(|(seq, receipt)| Filed { seq, receipt }).collect())
}

/// How many bytes a frame says it unpacks to, within the bound.
fn unpacked(frame: &[u8]) -> usize {
    let told = zstd::zstd_safe::get_frame_content_size(frame)
        .ok()
        .flatten();
    let told = told.and_then(|told| usize::try_from(told).ok());
    told.unwrap_or_default().min(UNPACKED_MAX)
}

/// An instant as blocks are compared by it: nanoseconds, the nearest that fit.
pub(super) fn nanos(at: Timestamp) -> i64 {
    let nanos = at.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

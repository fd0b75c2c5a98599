//! What stands around the columns of a section: their format, their codec and their length.

use std::cell::RefCell;

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use super::Damaged;
use super::read::Reader;

/// The format that this program writes. A reader refuses what it does not know.
pub(super) const FORMAT: u8 = 1;
const RAW: u8 = 0;
const ZSTD: u8 = 1;
/// Format, codec and length.
pub(super) const HEAD_BYTES: usize = 6;
/// Most bytes of columns. Blocks are cut at 64 KiB; the largest message has 256 KiB of body and
/// 34 KiB of attributes. The rest is room for reasons that nobody limits.
pub(super) const RAW_MAX_BYTES: usize = 16 * 1024 * 1024;

/// The level of body sections: where zstd costs least and still divides ordinary text by four.
pub(super) const BODY_LEVEL: i32 = -5;
/// The level of head sections: the lowest that finds short codes for letters, which is what ids
/// that are no hexadecimal numbers have to give.
pub(super) const HEAD_LEVEL: i32 = 1;
/// Columns smaller than this are left as they are: a table per frame eats what there is to gain.
const COMPRESS_MIN_BYTES: usize = 512;
/// So much of a section shows whether the rest is worth compressing.
const PROBE_BYTES: usize = 4 * 1024;
/// What compression must save at least: a twentieth.
const SAVED_MIN_SHARE: usize = 20;
/// Largest buffer that a thread keeps between sections.
const KEPT_MAX_BYTES: usize = 1024 * 1024;

/// Most room made for a section of which nothing is known yet.
const LIKELY_MAX_BYTES: usize = 64 * 1024;

/// Writes sections of one kind, with one zstd context for all of them.
pub(super) struct Press {
    /// None when there was no memory for one: sections are written raw then.
    zstd: Option<Compressor<'static>>,
    columns: Vec<u8>,
    room: Vec<u8>,
    /// Bytes of the longest section so far: the next is likely no longer.
    longest: usize,
}

impl Press {
    pub(super) fn new(level: i32) -> Self {
        Self {
            zstd: Compressor::new(level).ok(),
            columns: Vec::new(),
            room: Vec::new(),
            longest: 0,
        }
    }

    /// Begins a section: its columns are to be added to what is given, `bytes` of them or more.
    pub(super) fn begin(&mut self, bytes: usize) -> &mut Vec<u8> {
        self.columns.clear();
        let likely = self.longest.min(LIKELY_MAX_BYTES);
        self.columns.reserve_exact(HEAD_BYTES + bytes.max(likely));
        self.columns.extend([FORMAT, RAW, 0, 0, 0, 0]);
        &mut self.columns
    }

    /// The section that was begun, and the length of its columns. `dense`: nothing in them is worth
    /// compressing.
    ///
    /// # Panics
    /// When no reader would take so much.
    pub(super) fn seal(&mut self, dense: bool) -> (Vec<u8>, usize) {
        let length = self.columns.len() - HEAD_BYTES;
        assert!(
            length <= RAW_MAX_BYTES,
            "a section of {length} bytes is larger than any reader takes"
        );
        self.longest = self.longest.max(length);
        self.columns[2..HEAD_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
        if dense || !self.is_worth_it() {
            // Bodies that do not shrink are long, so they are not copied once more.
            return (std::mem::take(&mut self.columns), length);
        }
        let mut section = Vec::with_capacity(HEAD_BYTES + self.room.len());
        section.extend_from_slice(&self.columns[..HEAD_BYTES]);
        section[1] = ZSTD;
        section.extend_from_slice(&self.room);
        (section, length)
    }

    /// Whether compressing saves enough; what it comes to is in `room` then.
    fn is_worth_it(&mut self) -> bool {
        let columns = &self.columns[HEAD_BYTES..];
        let (zstd, room) = (&mut self.zstd, &mut self.room);
        columns.len() >= COMPRESS_MIN_BYTES
            && (columns.len() <= 2 * PROBE_BYTES || shrinks(zstd, room, &columns[..PROBE_BYTES]))
            && shrinks(zstd, room, columns)
    }
}

/// Compresses into `room`; false when that saves too little.
fn shrinks(zstd: &mut Option<Compressor<'_>>, room: &mut Vec<u8>, columns: &[u8]) -> bool {
    let Some(zstd) = zstd else {
        return false;
    };
    let most = columns.len() - columns.len() / SAVED_MIN_SHARE;
    room.clear();
    room.reserve(zstd::zstd_safe::compress_bound(columns.len()));
    zstd.compress_to_buffer(columns, room)
        .is_ok_and(|bytes| bytes <= most)
}

/// A section's payload, and how it is written.
struct Sealed<'a> {
    codec: u8,
    length: usize,
    payload: &'a [u8],
}

fn unseal<'a>(section: &'static str, bytes: &'a [u8]) -> Result<Sealed<'a>, Damaged> {
    let mut reader = Reader::new(section, bytes);
    if reader.byte()? != FORMAT {
        return Err(reader.damaged("a format that this program does not know"));
    }
    let codec = reader.byte()?;
    let mut length = [0; 4];
    length.copy_from_slice(reader.take(4)?);
    let length = u32::from_le_bytes(length) as usize;
    if length > RAW_MAX_BYTES {
        return Err(reader.damaged("a length is over its limit"));
    }
    let payload = &bytes[reader.at()..];
    match codec {
        RAW if payload.len() != length => Err(reader.damaged("a length that does not agree")),
        RAW | ZSTD => Ok(Sealed {
            codec,
            length,
            payload,
        }),
        _ => Err(reader.damaged("a codec that this program does not know")),
    }
}

/// Calls `read` with the columns of a section.
pub(super) fn with_columns<T>(
    section: &'static str,
    bytes: &[u8],
    read: impl FnOnce(&[u8]) -> Result<T, Damaged>,
) -> Result<T, Damaged> {
    thread_local! {
        static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let sealed = unseal(section, bytes)?;
    if sealed.codec == RAW {
        return read(sealed.payload);
    }
    let mut room = ROOM.take();
    room.clear();
    room.reserve(sealed.length);
    let read = inflate(section, &sealed, &mut room).and_then(|()| read(&room));
    if room.capacity() <= KEPT_MAX_BYTES {
        ROOM.set(room);
    }
    read
}

/// The columns of a section in a buffer that can be shared; `bytes` itself when it is raw.
pub(super) fn columns(section: &'static str, bytes: &Bytes) -> Result<Bytes, Damaged> {
    let sealed = unseal(section, bytes)?;
    if sealed.codec == RAW {
        return Ok(bytes.slice(HEAD_BYTES..));
    }
    let mut room = Vec::with_capacity(sealed.length);
    inflate(section, &sealed, &mut room)?;
    Ok(room.into())
}

fn inflate(section: &'static str, sealed: &Sealed<'_>, room: &mut Vec<u8>) -> Result<(), Damaged> {
    thread_local! {
        static ZSTD: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    let inflated = ZSTD.with_borrow_mut(|zstd| {
        let zstd = match zstd {
            Some(zstd) => zstd,
            None => zstd.insert(Decompressor::new().ok()?),
        };
        zstd.decompress_to_buffer(sealed.payload, room).ok()
    });
    if inflated == Some(sealed.length) {
        return Ok(());
    }
    Err(Reader::new(section, &[]).damaged("does not decompress to its length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(columns: &[u8]) -> Vec<u8> {
        let mut press = Press::new(BODY_LEVEL);
        press.begin(columns.len()).extend_from_slice(columns);
        let (section, length) = press.seal(false);
        assert_eq!(length, columns.len());
        section
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(4);
        (0..bytes).map(|_| random.u8(..)).collect()
    }

    #[test]
    fn what_does_not_shrink_is_stored_raw_and_what_does_is_not() {
        for columns in [noise(64 * 1024), noise(3000), vec![7; 100], Vec::new()] {
            let section = sealed(&columns);
            assert_eq!(section.len(), columns.len() + HEAD_BYTES);
            let bytes = Bytes::from(section);
            let read = super::columns("body", &bytes).unwrap();
            assert_eq!(read, columns);
            assert!(columns.is_empty() || read.as_ptr() == bytes[HEAD_BYTES..].as_ptr());
        }
        let text = "밤에는 보내지 않습니다. ".repeat(400).into_bytes();
        let section = sealed(&text);
        assert!(section.len() * 4 < text.len());
        let read = with_columns("head", &section, |columns| Ok(columns.to_vec()));
        assert_eq!(read.unwrap(), text);
    }

    #[test]
    fn a_section_that_contradicts_itself_is_damage() {
        let damage = |bytes: &[u8]| {
            let read = with_columns("head", bytes, |_| Ok(()));
            read.unwrap_err().what
        };
        let good = sealed(&vec![7; 4096]);
        let change = |at: usize, byte| {
            let mut bad = good.clone();
            bad[at] = byte;
            bad
        };
        assert_eq!(damage(&good[..5]), "ends early");
        assert_eq!(
            damage(&change(0, 2)),
            "a format that this program does not know"
        );
        assert_eq!(
            damage(&change(1, 2)),
            "a codec that this program does not know"
        );
        assert_eq!(damage(&change(1, RAW)), "a length that does not agree");
        assert_eq!(damage(&change(5, 2)), "a length is over its limit");
        let inflating = "does not decompress to its length";
        assert_eq!(damage(&change(3, 17)), inflating);
        assert_eq!(damage(&change(3, 15)), inflating);
        assert_eq!(damage(&good[..good.len() - 1]), inflating);
    }
}

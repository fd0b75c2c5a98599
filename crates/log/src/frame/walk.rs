//! Finding one frame at a time in a file, good ones and the next good one.

use std::io;
use std::ops::Range;

use super::scan::Found;
use super::{ALIGN, FRAME_HEAD, Fields, MAGIC, META_MAX};
use crate::disk::{DiskFile, read_full_at};
use crate::head::Salt;

/// Bytes read at once when data is verified or a next frame is looked for.
const PIECE: usize = 1024 * 1024;

/// Bytes read at once when only heads and metas are wanted: most metas fit.
const PEEK: usize = 4096;

/// Bytes looked at together, without asking after each.
const WIDE: usize = 512;

/// Where a frame lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) offset: u64,
    pub(super) lsn: u64,
    behind: u32,
    meta_len: usize,
    data_len: u64,
    data_crc: u32,
}

impl Frame {
    fn data_at(&self) -> u64 {
        self.offset + (FRAME_HEAD + self.meta_len) as u64
    }

    /// Where the next frame begins.
    pub(super) fn end(&self) -> u64 {
        (self.data_at() + self.data_len).next_multiple_of(ALIGN)
    }
}

/// What stands at an offset.
#[derive(Debug, Clone, Copy)]
pub(super) enum Probe {
    /// A frame whose checksums hold.
    Good(Frame),
    /// A frame's head, and what it speaks of is not there.
    Hollow(Frame),
    /// Anything else.
    Nothing,
}

/// A file with a window of it in memory.
pub(super) struct Walk<'a> {
    file: &'a dyn DiskFile,
    seed: u32,
    len: u64,
    verify_data: bool,
    window: Vec<u8>,
    window_at: u64,
    /// The meta of the last good frame, when it was longer than the window.
    meta: Vec<u8>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, salt: &Salt, verify_data: bool) -> io::Result<Self> {
        Ok(Self {
            file,
            seed: salt.seed(),
            len: file.len()?,
            verify_data,
            window: Vec::new(),
            window_at: 0,
            meta: Vec::new(),
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// What stands at `at`; leaves the meta of a good frame in memory.
    pub(super) fn probe(&mut self, at: u64) -> io::Result<Probe> {
        let want = if self.verify_data { PIECE } else { PEEK };
        let seed = self.seed;
        let bytes = self.load(at, FRAME_HEAD, want)?;
        let Some(head) = bytes.first_chunk::<FRAME_HEAD>() else {
            return Ok(Probe::Nothing);
        };
        let Some(fields) = Fields::decode(head, seed) else {
            return Ok(Probe::Nothing);
        };
        let frame = Frame {
            offset: at,
            lsn: fields.lsn,
            behind: fields.behind,
            meta_len: fields.meta_len as usize,
            data_len: fields.data_len,
            data_crc: fields.data_crc,
        };
        let fits = frame.data_at() + frame.data_len <= self.len;
        let good = fits
            && self.load_meta(&frame, fields.meta_crc)?
            && (!self.verify_data || self.data_holds(&frame)?);
        Ok(if good {
            Probe::Good(frame)
        } else {
            Probe::Hollow(frame)
        })
    }

    /// The good frame that [`Walk::probe`] found last.
    pub(super) fn found(&self, frame: &Frame) -> Found<'_> {
        Found {
            offset: frame.offset,
            lsn: frame.lsn,
            meta: &self.meta,
            data_at: frame.data_at(),
            data_len: frame.data_len,
        }
    }

    /// The first good frame from `at` on, in steps of 8 bytes, that is no older than `lsn`.
    ///
    /// A hollow frame is believed about its length, when what follows it bears that out.
    pub(super) fn next_good(&mut self, at: u64, lsn: u64) -> io::Result<Option<Frame>> {
        let mut at = at;
        while let Some(candidate) = self.next_magic(at)? {
            match self.probe(candidate)? {
                Probe::Good(frame) if frame.lsn >= lsn => return Ok(Some(frame)),
                Probe::Hollow(frame) if frame.lsn >= lsn && frame.end() < self.len => {
                    if let Probe::Good(next) = self.probe(frame.end())?
                        && next.lsn > frame.lsn
                    {
                        return Ok(Some(next));
                    }
                }
                _ => {}
            }
            at = candidate + ALIGN;
        }
        Ok(None)
    }

    /// From the good frame at `at` on: the highest lsn that some frame says all before was synced.
    pub(super) fn synced_below(&mut self, at: u64, lsn: u64) -> io::Result<u64> {
        let (mut at, mut lsn, mut below) = (at, lsn, 0);
        loop {
            let frame = match self.probe(at)? {
                Probe::Good(frame) if frame.lsn >= lsn => frame,
                _ => match self.next_good(at, lsn)? {
                    Some(frame) => frame,
                    None => return Ok(below),
                },
            };
            below = below.max(frame.lsn - u64::from(frame.behind));
            (at, lsn) = (frame.end(), frame.lsn.saturating_add(1));
        }
    }

    /// The step of 8 bytes, from `at` on, with the first byte that is not zero.
    pub(super) fn first_byte(&mut self, at: u64) -> io::Result<Option<u64>> {
        let mut at = at;
        while at < self.len {
            let bytes = self.load(at, 1, PIECE)?;
            if bytes.is_empty() {
                break;
            }
            // Wide pieces first: a file may end in a great many zeros.
            for (index, wide) in bytes.chunks(WIDE).enumerate() {
                if wide.iter().fold(0, |all, byte| all | byte) != 0 {
                    let inside = wide.iter().take_while(|byte| **byte == 0).count();
                    let found = at + (index * WIDE + inside) as u64;
                    return Ok(Some(found - found % ALIGN));
                }
            }
            at += bytes.len() as u64;
        }
        Ok(None)
    }

    fn next_magic(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut at = from.next_multiple_of(ALIGN);
        loop {
            let bytes = self.load(at, FRAME_HEAD, PIECE)?;
            if bytes.len() < FRAME_HEAD {
                return Ok(None);
            }
            let (steps, _) = bytes.as_chunks::<{ ALIGN as usize }>();
            for (index, wide) in steps.chunks(WIDE / ALIGN as usize).enumerate() {
                if wide
                    .iter()
                    .fold(false, |any, step| any | step.starts_with(&MAGIC))
                {
                    let inside = wide
                        .iter()
                        .take_while(|step| !step.starts_with(&MAGIC))
                        .count();
                    return Ok(Some(at + (index * WIDE) as u64 + inside as u64 * ALIGN));
                }
            }
            at += steps.len() as u64 * ALIGN;
        }
    }

    fn load_meta(&mut self, frame: &Frame, crc: u32) -> io::Result<bool> {
        debug_assert!(frame.meta_len <= META_MAX);
        let mut meta = std::mem::take(&mut self.meta);
        meta.clear();
        let at = frame.offset + FRAME_HEAD as u64;
        let in_window = self.window_from(at).get(..frame.meta_len);
        if let Some(bytes) = in_window {
            meta.extend_from_slice(bytes);
        } else {
            meta.resize(frame.meta_len, 0);
            let count = read_full_at(self.file, &mut meta, at)?;
            meta.truncate(count);
        }
        self.meta = meta;
        Ok(self.meta.len() == frame.meta_len && crc32c::crc32c(&self.meta) == crc)
    }

    fn data_holds(&mut self, frame: &Frame) -> io::Result<bool> {
        let Range { start, end } = frame.data_at()..frame.data_at() + frame.data_len;
        let (mut at, mut crc) = (start, 0);
        while at < end {
            let bytes = self.load(at, 1, PIECE)?;
            let piece = bytes
                .get(..bytes.len().min((end - at) as usize))
                .unwrap_or_default();
            if piece.is_empty() {
                return Ok(false);
            }
            crc = crc32c::crc32c_append(crc, piece);
            at += piece.len() as u64;
        }
        Ok(crc == frame.data_crc)
    }

    /// The bytes in memory from `at` on, after making sure there are at least `least` of them or
    /// all the file has; reads up to `want` when there are not.
    fn load(&mut self, at: u64, least: usize, want: usize) -> io::Result<&[u8]> {
        if self.window_from(at).len() < least && at + (self.window_from(at).len() as u64) < self.len
        {
            let room = want.min(usize::try_from(self.len - at).unwrap_or(want));
            self.window.resize(room, 0);
            let count = read_full_at(self.file, &mut self.window, at)?;
            self.window.truncate(count);
            self.window_at = at;
        }
        Ok(self.window_from(at))
    }

    fn window_from(&self, at: u64) -> &[u8] {
        let skip = at
            .checked_sub(self.window_at)
            .and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.window.get(skip..))
            .unwrap_or_default()
    }
}

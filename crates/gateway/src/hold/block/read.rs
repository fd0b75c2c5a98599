//! A cursor over the columns of one section, which never believes a length.

use super::Damaged;

/// Most bits that a varint shifts by: ten groups of seven hold 64 bits.
const VARINT_SHIFT_MAX: u32 = 63;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    section: &'static str,
    column: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(section: &'static str, bytes: &'a [u8]) -> Self {
        let column = "section";
        Self {
            bytes,
            at: 0,
            section,
            column,
        }
    }

    /// Names the column that is read next, for whoever must look at the damage.
    pub(super) fn begin(&mut self, column: &'static str) {
        self.column = column;
    }

    pub(super) fn damaged(&self, what: &'static str) -> Damaged {
        Damaged {
            section: self.section,
            column: self.column,
            at: self.at,
            what,
        }
    }

    /// How far it has read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], Damaged> {
        let end = self.at.checked_add(bytes);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| self.damaged("ends early"))?;
        self.at += bytes;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Damaged> {
        let byte = self.bytes.get(self.at).copied();
        let byte = byte.ok_or_else(|| self.damaged("ends early"))?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn varint(&mut self) -> Result<u64, Damaged> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift > VARINT_SHIFT_MAX || bits << shift >> shift != bits {
                return Err(self.damaged("a number is larger than 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// A length or count that is at most `max`.
    pub(super) fn size(&mut self, max: usize) -> Result<usize, Damaged> {
        let size = usize::try_from(self.varint()?).ok();
        size.filter(|&size| size <= max)
            .ok_or_else(|| self.damaged("a length is over its limit"))
    }

    /// That nothing is left over.
    pub(super) fn end(mut self) -> Result<(), Damaged> {
        self.begin("section");
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(self.damaged("goes on behind its last column"))
        }
    }
}

pub(super) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

//! Columns of texts. All of a section's texts are laid out in one buffer when it is opened.
//!
//! ```text
//! 0                                          no row has one
//! 1  length varint, text                     every row
//! 2  count varint, that many of 1 without    a few values; numbers: which, from 1 (0: no text)
//!    their 1, a column of numbers
//! 3  length varint, template, rows           every row, see `template`
//! 4  length varint, prefix, a column of      each its own; numbers: bytes behind the prefix,
//!    numbers, bytes of all rows              plus 1 (0: no text)
//! ```

use std::collections::HashMap;

use super::Damaged;
use super::ints::{read_ints, write_ints};
use super::read::{Reader, write_varint};
use super::template::{self, Template};

const NONE: u8 = 0;
const SAME: u8 = 1;
const FEW: u8 = 2;
const TEMPLATE: u8 = 3;
const EACH: u8 = 4;

/// Most values of a column that are written once each: their numbers fit one byte.
const FEW_MAX: usize = 255;
/// Rows for each value, at least, or writing values once is not worth the looking.
const ROWS_A_VALUE: usize = 2;
/// Most bytes of text in one section: what a section may hold raw, so that no layout of texts grows
/// beyond what could have been written.
pub(super) const TEXT_MAX_BYTES: usize = super::section::RAW_MAX_BYTES;

/// Where a text begins and ends in the buffer.
type Span = (u32, u32);
/// The span of a row without text.
const ABSENT: Span = (u32::MAX, u32::MAX);

/// A column of texts in a buffer.
pub(super) enum Texts {
    None,
    Same(Span),
    Few {
        values: Box<[Span]>,
        which: Box<[u8]>,
    },
    Fixed {
        at: u32,
        width: u32,
    },
    Each(Box<[Span]>),
}

impl Texts {
    /// Where the text of `row` stands.
    pub(super) fn span(&self, row: usize) -> Option<Span> {
        match self {
            Self::None => None,
            Self::Same(span) => Some(*span),
            Self::Few { values, which } => match which[row] {
                0 => None,
                value => Some(values[usize::from(value) - 1]),
            },
            Self::Fixed { at, width } => {
                let start = at + width * row as u32;
                Some((start, start + width))
            }
            Self::Each(spans) => Some(spans[row]).filter(|span| *span != ABSENT),
        }
    }

    /// The text of `row`.
    pub(super) fn get<'t>(&self, text: &'t str, row: usize) -> Option<&'t str> {
        // Reading saw to it that spans lie within the buffer and between characters.
        self.span(row)
            .and_then(|(start, end)| text.get(start as usize..end as usize))
    }

    /// Whether every one of `count` rows has a text.
    pub(super) fn is_full(&self, count: usize) -> bool {
        match self {
            Self::None => false,
            Self::Same(_) | Self::Fixed { .. } => true,
            Self::Few { which, .. } => !which.contains(&0),
            Self::Each(_) => (0..count).all(|row| self.span(row).is_some()),
        }
    }

    /// Reads a column of `count` rows into `text`.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        text: &mut Vec<u8>,
        count: usize,
    ) -> Result<Self, Damaged> {
        let start = text.len();
        let column = match reader.byte()? {
            NONE => Self::None,
            SAME => Self::Same(read_one(reader, text)?),
            FEW => read_few(reader, text, count)?,
            TEMPLATE => read_template(reader, text, count)?,
            EACH => read_each(reader, text, count)?,
            _ => return Err(reader.damaged("no such layout of texts")),
        };
        if !text[start..].is_ascii() {
            column.check_characters(reader, text, start, count)?;
        }
        Ok(column)
    }

    /// That what was read from `start` on is UTF-8, and every text a whole number of characters.
    fn check_characters(
        &self,
        reader: &Reader<'_>,
        text: &[u8],
        start: usize,
        count: usize,
    ) -> Result<(), Damaged> {
        let wrong = || reader.damaged("a text is not UTF-8");
        std::str::from_utf8(&text[start..]).map_err(|_| wrong())?;
        // In valid UTF-8 a text is cut well if it does not begin within a character.
        let cut_well =
            |(start, _): Span| text.get(start as usize).is_none_or(|byte| byte >> 6 != 2);
        let whole = match self {
            Self::None | Self::Same(_) => true,
            Self::Few { values, .. } => values.iter().copied().all(cut_well),
            _ => (0..count).filter_map(|row| self.span(row)).all(cut_well),
        };
        whole.then_some(()).ok_or_else(wrong)
    }
}

/// Makes room for `bytes` more, and says where they will stand.
fn grow(reader: &Reader<'_>, text: &mut Vec<u8>, bytes: usize) -> Result<u32, Damaged> {
    let start = text.len();
    if bytes > TEXT_MAX_BYTES - start.min(TEXT_MAX_BYTES) {
        return Err(reader.damaged("texts are over their limit"));
    }
    text.reserve(bytes);
    Ok(start as u32)
}

fn read_one(reader: &mut Reader<'_>, text: &mut Vec<u8>) -> Result<Span, Damaged> {
    let length = reader.size(TEXT_MAX_BYTES)?;
    let bytes = reader.take(length)?;
    let start = grow(reader, text, length)?;
    text.extend_from_slice(bytes);
    Ok((start, start + length as u32))
}

fn read_few(reader: &mut Reader<'_>, text: &mut Vec<u8>, count: usize) -> Result<Texts, Damaged> {
    let values = reader.size(FEW_MAX)?;
    let values: Box<[Span]> = (0..values)
        .map(|_| read_one(reader, text))
        .collect::<Result<_, _>>()?;
    let ints = read_ints(reader, count)?;
    let known = |row| {
        let value = u8::try_from(ints.get(row)).ok();
        value.filter(|value| usize::from(*value) <= values.len())
    };
    let which: Option<_> = (0..count).map(known).collect();
    let which = which.ok_or_else(|| reader.damaged("no such value"))?;
    Ok(Texts::Few { values, which })
}

fn read_template(
    reader: &mut Reader<'_>,
    text: &mut Vec<u8>,
    count: usize,
) -> Result<Texts, Damaged> {
    let width = reader.size(template::WIDTH_MAX)?;
    let found = Template::new(reader.take(width)?);
    let template = found.ok_or_else(|| reader.damaged("no such template"))?;
    let bytes = template.row_bytes();
    let packed = reader.take(bytes.saturating_mul(count))?;
    let at = grow(reader, text, template.width().saturating_mul(count))?;
    for row in packed.chunks_exact(bytes) {
        template.read(text, row);
    }
    let width = width as u32;
    Ok(Texts::Fixed { at, width })
}

fn read_each(reader: &mut Reader<'_>, text: &mut Vec<u8>, count: usize) -> Result<Texts, Damaged> {
    let length = reader.size(TEXT_MAX_BYTES)?;
    let prefix = reader.take(length)?;
    let lengths = read_ints(reader, count)?;
    let (mut whole, mut tails) = (0u64, 0u64);
    for row in 0..count {
        if let Some(tail) = lengths.get(row).checked_sub(1) {
            tails = tails.saturating_add(tail);
            whole = whole.saturating_add(tail).saturating_add(length as u64);
        }
    }
    let sized = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut rest = reader.take(sized(tails))?;
    let at = grow(reader, text, sized(whole))?;
    if let super::ints::Ints::Same(one @ 1..) = lengths
        && prefix.is_empty()
    {
        text.extend_from_slice(rest);
        let width = (one - 1) as u32;
        return Ok(Texts::Fixed { at, width });
    }
    let mut spans = Vec::with_capacity(count);
    for row in 0..count {
        let Some(tail) = lengths.get(row).checked_sub(1) else {
            spans.push(ABSENT);
            continue;
        };
        let (own, after) = rest.split_at(sized(tail));
        let start = text.len() as u32;
        text.extend_from_slice(prefix);
        text.extend_from_slice(own);
        spans.push((start, text.len() as u32));
        rest = after;
    }
    Ok(Texts::Each(spans.into()))
}

/// How a column is likely to look, which saves looking for what is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Likely {
    /// Few values.
    Few,
    /// A value a row.
    Each,
}

/// Writes a column; says how many bytes of its rows stand there as they are. `ints` is scratch.
pub(super) fn write_texts(
    out: &mut Vec<u8>,
    ints: &mut Vec<u64>,
    rows: &[Option<&str>],
    likely: Likely,
) -> usize {
    let first = rows.first().copied().flatten();
    if rows.iter().all(|row| *row == first) {
        match first {
            None => out.push(NONE),
            Some(text) => {
                out.push(SAME);
                write_one(out, text.as_bytes());
            }
        }
        return 0;
    }
    if likely == Likely::Few && write_few(out, ints, rows) {
        return 0;
    }
    let mut found = Vec::with_capacity(template::WIDTH_MAX);
    if Template::find(&mut found, rows.iter().copied())
        && let Some(template) = Template::new(&found)
    {
        out.push(TEMPLATE);
        write_one(out, &found);
        for row in rows.iter().flatten() {
            template.write(out, row.as_bytes());
        }
        return 0;
    }
    write_each(out, ints, rows)
}

fn write_one(out: &mut Vec<u8>, text: &[u8]) {
    write_varint(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// Writes each value once, if they are few.
fn write_few(out: &mut Vec<u8>, ints: &mut Vec<u64>, rows: &[Option<&str>]) -> bool {
    let most = FEW_MAX.min(rows.len() / ROWS_A_VALUE);
    let (mut known, mut values) = (HashMap::new(), Vec::new());
    ints.clear();
    for row in rows {
        let Some(text) = *row else {
            ints.push(0);
            continue;
        };
        let which = *known.entry(text).or_insert_with(|| {
            values.push(text);
            values.len() as u64
        });
        ints.push(which);
        if values.len() > most {
            return false;
        }
    }
    out.push(FEW);
    write_varint(out, values.len() as u64);
    for value in values {
        write_one(out, value.as_bytes());
    }
    write_ints(out, ints);
    true
}

fn write_each(out: &mut Vec<u8>, ints: &mut Vec<u64>, rows: &[Option<&str>]) -> usize {
    let mut texts = rows.iter().flatten().map(|row| row.as_bytes());
    let mut prefix = texts.next().unwrap_or_default();
    for text in texts {
        let shared = prefix.iter().zip(text).take_while(|(a, b)| a == b).count();
        prefix = &prefix[..shared];
    }
    out.push(EACH);
    write_one(out, prefix);
    let skip = prefix.len();
    ints.clear();
    let length = |row: &Option<&str>| row.map_or(0, |text| (text.len() - skip) as u64 + 1);
    ints.extend(rows.iter().map(length));
    write_ints(out, ints);
    let start = out.len();
    for text in rows.iter().flatten() {
        out.extend_from_slice(&text.as_bytes()[skip..]);
    }
    out.len() - start
}

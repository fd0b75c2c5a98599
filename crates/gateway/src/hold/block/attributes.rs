//! The column of attributes.
//!
//! ```text
//! 0                  no row has any
//! 1  pairs, 1 row    every row has these
//! 2  pairs, a row each
//!
//! pairs  count of names varint, a column of them, then columns of: how many each row has
//!        (numbers), the name of each pair (numbers), the value of each pair (texts)
//! ```

use std::collections::{BTreeMap, HashMap};

use nightgate_core::message::ATTRIBUTES_MAX;

use super::ints::{Numbers, write_ints};
use super::read::{Reader, write_varint};
use super::text::{Likely, Texts, write_texts};
use super::{BLOCK_COUNT_MAX, Damaged};

const NONE: u8 = 0;
const SAME: u8 = 1;
const EACH: u8 = 2;

/// Most pairs in one block, and so most names.
const PAIRS_MAX: usize = BLOCK_COUNT_MAX * ATTRIBUTES_MAX;

/// The attributes of a block.
pub(super) enum Attributes {
    None,
    Same(Pairs),
    Each(Pairs),
}

/// Names and values by row.
pub(super) struct Pairs {
    text: String,
    names: Texts,
    /// Where each row's pairs begin, and where the last ends.
    starts: Box<[u32]>,
    name_of: Numbers,
    values: Texts,
}

impl Attributes {
    pub(super) fn get(&self, row: usize) -> BTreeMap<String, String> {
        match self {
            Self::None => BTreeMap::new(),
            Self::Same(pairs) => pairs.get(0),
            Self::Each(pairs) => pairs.get(row),
        }
    }

    /// Reads the column of `count` rows.
    pub(super) fn read(reader: &mut Reader<'_>, count: usize) -> Result<Self, Damaged> {
        match reader.byte()? {
            NONE => Ok(Self::None),
            SAME => Pairs::read(reader, 1).map(Self::Same),
            EACH => Pairs::read(reader, count).map(Self::Each),
            _ => Err(reader.damaged("no such layout of attributes")),
        }
    }
}

impl Pairs {
    fn get(&self, row: usize) -> BTreeMap<String, String> {
        let pairs = self.starts[row] as usize..self.starts[row + 1] as usize;
        let pair = |pair: usize| {
            let name = self
                .names
                .get(&self.text, self.name_of.get(pair) as usize)?;
            let value = self.values.get(&self.text, pair)?;
            Some((name.to_owned(), value.to_owned()))
        };
        // Reading saw to it that each pair has both.
        pairs.filter_map(pair).collect()
    }

    fn read(reader: &mut Reader<'_>, count: usize) -> Result<Self, Damaged> {
        let mut text = Vec::new();
        let names_count = reader.size(PAIRS_MAX)?;
        let names = Texts::read(reader, &mut text, names_count)?;
        let counts = Numbers::read(reader, count, PAIRS_MAX as u32)?;
        let mut starts = Vec::with_capacity(count + 1);
        starts.push(0);
        let mut end = 0;
        for row in 0..count {
            end += counts.get(row) as usize;
            if end > PAIRS_MAX {
                return Err(reader.damaged("more pairs than there may be"));
            }
            starts.push(end as u32);
        }
        let last_name = names_count.saturating_sub(1) as u32;
        let name_of = Numbers::read(reader, end, last_name)?;
        let values = Texts::read(reader, &mut text, end)?;
        if end > 0 && !(names.is_full(names_count) && values.is_full(end) && names_count > 0) {
            return Err(reader.damaged("a pair lacks its name or its value"));
        }
        let text = String::from_utf8(text);
        let text = text.map_err(|_| reader.damaged("a text is not UTF-8"))?;
        Ok(Self {
            text,
            names,
            starts: starts.into(),
            name_of,
            values,
        })
    }
}

/// Writes the column. `ints` is scratch.
pub(super) fn write_attributes<'r>(
    out: &mut Vec<u8>,
    ints: &mut Vec<u64>,
    mut rows: impl Iterator<Item = &'r BTreeMap<String, String>> + Clone,
) {
    let all = rows.clone();
    let Some(first) = rows.next() else {
        return out.push(NONE);
    };
    if rows.all(|row| row == first) {
        if first.is_empty() {
            return out.push(NONE);
        }
        out.push(SAME);
        return write_pairs(out, ints, std::iter::once(first));
    }
    out.push(EACH);
    write_pairs(out, ints, all);
}

fn write_pairs<'r>(
    out: &mut Vec<u8>,
    ints: &mut Vec<u64>,
    rows: impl Iterator<Item = &'r BTreeMap<String, String>> + Clone,
) {
    let (mut numbers, mut names, mut name_of) = (HashMap::new(), Vec::new(), Vec::new());
    let mut values = Vec::new();
    for (name, value) in rows.clone().flatten() {
        let number = *numbers.entry(name).or_insert_with(|| {
            names.push(Some(name.as_str()));
            names.len() as u64 - 1
        });
        name_of.push(number);
        values.push(Some(value.as_str()));
    }
    assert!(
        values.len() <= PAIRS_MAX,
        "more attributes than a block holds"
    );
    write_varint(out, names.len() as u64);
    write_texts(out, ints, &names, Likely::Each);
    ints.clear();
    ints.extend(rows.map(|row| row.len() as u64));
    write_ints(out, ints);
    write_ints(out, &name_of);
    write_texts(out, ints, &values, Likely::Few);
}

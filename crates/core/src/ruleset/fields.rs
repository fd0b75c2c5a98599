//! Reads TOML tables and collects every fault with its line, instead of stopping at the first.

use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::PackFault;

/// A value with its place in the file.
pub(super) type Value<'a> = &'a Spanned<DeValue<'a>>;

/// The faults of one file.
#[derive(Debug)]
pub(super) struct Faults<'a> {
    file: &'a str,
    text: &'a str,
    pub(super) found: Vec<PackFault>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            text,
            found: Vec::new(),
        }
    }

    /// The 1-based line on which a place in the text lies.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let before = self
            .text
            .as_bytes()
            .get(..span.start)
            .unwrap_or(self.text.as_bytes());
        before.iter().filter(|&&byte| byte == b'\n').count() + 1
    }

    /// Notes a fault at a place in the text.
    pub(super) fn at(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let line = self.line(span);
        self.found.push(PackFault {
            file: self.file.to_owned(),
            line,
            message: message.into(),
        });
    }
}

/// One table being read: every key it is asked for counts as known, the rest are faults.
pub(super) struct Fields<'a> {
    table: &'a DeTable<'a>,
    /// Where the table stands.
    pub(super) span: Range<usize>,
    /// What the table is, for faults: ``rule `kr.night` ``.
    pub(super) owner: String,
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(table: &'a DeTable<'a>, span: Range<usize>, owner: &str) -> Self {
        Self {
            table,
            span,
            owner: owner.to_owned(),
            asked: Vec::new(),
        }
    }

    /// The table in `value`, or a fault.
    pub(super) fn of(value: Value<'a>, owner: &str, faults: &mut Faults<'_>) -> Option<Self> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let found = value.get_ref().type_str();
            faults.at(
                &value.span(),
                format!("{owner} must be a table, is {found}"),
            );
        }
        Some(Self::new(table?, value.span(), owner))
    }

    /// Sentence start for a fault of `key`.
    pub(super) fn name(&self, key: &str) -> String {
        format!("`{key}` of {}", self.owner)
    }

    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.asked.push(key);
        self.table.get(key)
    }

    /// The text under `key`, if there is any.
    pub(super) fn text(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
    ) -> Option<(&'a str, Range<usize>)> {
        let value = self.get(key)?;
        let text = value
            .get_ref()
            .as_str()
            .filter(|text| !text.trim().is_empty());
        if text.is_none() {
            let found = match value.get_ref() {
                DeValue::String(_) => "empty",
                other => other.type_str(),
            };
            let name = self.name(key);
            faults.at(&value.span(), format!("{name} must be text, is {found}"));
        }
        Some((text?, value.span()))
    }

    /// The text under `key`, or a fault.
    pub(super) fn required(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
    ) -> Option<(&'a str, Range<usize>)> {
        self.require(key, faults);
        self.text(key, faults)
    }

    /// A fault when `key` is not there.
    pub(super) fn require(&mut self, key: &'static str, faults: &mut Faults<'_>) {
        if !self.table.contains_key(key) {
            faults.at(&self.span, format!("{} lacks `{key}`", self.owner));
        }
    }

    /// The value under `key`, read from text.
    pub(super) fn parsed<T: FromStr<Err = String>>(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
    ) -> Option<T> {
        let (text, span) = self.text(key, faults)?;
        let parsed = text.parse();
        parsed
            .map_err(|why| faults.at(&span, format!("{} {why}", self.name(key))))
            .ok()
    }

    /// The list of texts under `key`, each read; `None` when the key is not there.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        faults: &mut Faults<'_>,
        read: impl FnMut(&DeValue<'a>) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = self.get(key)?;
        Some(list(value, &self.name(key), faults, read))
    }

    /// A fault for every key that nobody asked for.
    pub(super) fn finish(self, faults: &mut Faults<'_>) {
        for key in self.table.keys() {
            if !self.asked.contains(&key.get_ref().as_ref()) {
                let known = self.asked.join(", ");
                let name = key.get_ref();
                let message = format!("{} knows no key `{name}`, only {known}", self.owner);
                faults.at(&key.span(), message);
            }
        }
    }

    /// Every key of a table whose keys are names, not fields.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        self.table
            .iter()
            .map(|(key, value)| (key.get_ref().as_ref(), value))
    }
}

/// Reads each element of an array; one fault for each that cannot be read.
pub(super) fn list<'a, T>(
    value: Value<'a>,
    name: &str,
    faults: &mut Faults<'_>,
    mut read: impl FnMut(&DeValue<'a>) -> Result<T, String>,
) -> Vec<T> {
    let Some(array) = value.get_ref().as_array() else {
        let found = value.get_ref().type_str();
        faults.at(&value.span(), format!("{name} must be a list, is {found}"));
        return Vec::new();
    };
    let mut items = Vec::with_capacity(array.len());
    for item in array.iter() {
        match read(item.get_ref()) {
            Ok(item) => items.push(item),
            Err(why) => faults.at(&item.span(), format!("{name} {why}")),
        }
    }
    items
}

/// Text, read by `FromStr`.
pub(super) fn text_item<T: FromStr<Err = String>>(value: &DeValue<'_>) -> Result<T, String> {
    match value.as_str() {
        Some(text) => text.parse(),
        None => Err(format!("must hold text, holds {}", value.type_str())),
    }
}

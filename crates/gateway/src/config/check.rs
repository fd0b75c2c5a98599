//! From settings to a [`Config`](super::Config): ranges, choices, and what must fit together.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::SignedDuration;
use toml::Value;

use super::fault::Fault;
use super::raw::{FILE_SUFFIX, Settings, is_secret};
use crate::secret::Secret;

/// Reads typed values out of settings and collects every fault on the way. A value at fault reads
/// as the least that is allowed, so that checking goes on.
pub(super) struct Reader<'a> {
    pub(super) settings: &'a Settings,
    pub(super) faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    pub(super) fn fault(&mut self, key: &str, rule: impl Into<String>) {
        let origin = self.settings.origin(key);
        self.faults.push(Fault {
            origin,
            key: key.to_owned(),
            rule: rule.into(),
        });
    }

    pub(super) fn text(&self, key: &str) -> &'a str {
        self.settings
            .value(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub(super) fn truth(&self, key: &str) -> bool {
        self.settings
            .value(key)
            .and_then(Value::as_bool)
            .unwrap_or_default()
    }

    pub(super) fn texts(&self, key: &str) -> Vec<&'a str> {
        let items = self.settings.value(key).and_then(Value::as_array);
        items
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    pub(super) fn table(&self, key: &str) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let table = self.settings.value(key).and_then(Value::as_table);
        let pairs = table.into_iter().flatten();
        pairs.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }

    /// A text that is not empty.
    pub(super) fn some_text(&mut self, key: &str) -> &'a str {
        let text = self.text(key);
        if text.trim().is_empty() {
            self.fault(key, "must not be empty");
        }
        text
    }

    /// A whole number within `range`.
    pub(super) fn whole<T>(&mut self, key: &str, range: RangeInclusive<T>) -> T
    where
        T: Copy + PartialOrd + fmt::Display + TryFrom<i64>,
    {
        let (low, high) = (*range.start(), *range.end());
        let value = self
            .settings
            .value(key)
            .and_then(Value::as_integer)
            .unwrap_or_default();
        match T::try_from(value) {
            Ok(fits) if range.contains(&fits) => fits,
            _ => {
                self.fault(key, format!("must be {low} to {high}, is {value}"));
                low
            }
        }
    }

    /// A whole number within `range`, or 0, which sets no limit.
    pub(super) fn limit(&mut self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.settings.value(key).and_then(Value::as_integer);
        match value.map(u64::try_from) {
            Some(Ok(0)) => None,
            Some(Ok(fits)) if range.contains(&fits) => Some(fits),
            _ => {
                let (low, high) = (range.start(), range.end());
                let value = value.unwrap_or_default();
                let rule = format!("must be 0 (no limit) or {low} to {high}, is {value}");
                self.fault(key, rule);
                None
            }
        }
    }

    /// A number within (`above`, `max`].
    pub(super) fn share(&mut self, key: &str, above: f64, max: f64) -> f64 {
        let value = self
            .settings
            .value(key)
            .and_then(Value::as_float)
            .unwrap_or_default();
        if value > above && value <= max {
            return value;
        }
        self.fault(
            key,
            format!("must be above {above} and at most {max}, is {value}"),
        );
        max
    }

    /// A duration within `range`.
    pub(super) fn duration(
        &mut self,
        key: &str,
        range: RangeInclusive<SignedDuration>,
    ) -> SignedDuration {
        let text = self.text(key);
        match text.parse::<SignedDuration>() {
            Ok(fits) if range.contains(&fits) => fits,
            Ok(_) => {
                let (low, high) = (range.start(), range.end());
                self.fault(key, format!("must be {low:#} to {high:#}, is \"{text}\""));
                *range.start()
            }
            Err(_) => {
                let rule = "must be a duration in hours, minutes and seconds such as \"30s\", \
                            \"1m30s\" or \"72h\"";
                self.fault(key, format!("{rule}, is \"{text}\""));
                *range.start()
            }
        }
    }

    /// A duration of monotonic time within `range`.
    pub(super) fn timeout(&mut self, key: &str, range: RangeInclusive<SignedDuration>) -> Duration {
        Duration::try_from(self.duration(key, range)).unwrap_or_default()
    }

    /// One of `choices`, which are not empty.
    pub(super) fn choice<T: Copy + Default>(&mut self, key: &str, choices: &[(&str, T)]) -> T {
        let text = self.text(key);
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return *value;
        }
        let names: Vec<_> = choices
            .iter()
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        self.fault(
            key,
            format!("must be {}, is \"{text}\"", names.join(" or ")),
        );
        T::default()
    }

    /// What `parse` makes of a text.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key);
        match parse(text) {
            Ok(value) => Some(value),
            Err(rule) => {
                // A secret's text stays out of the fault.
                let is = if is_secret(key) {
                    String::new()
                } else {
                    format!(", is \"{text}\"")
                };
                self.fault(key, format!("{rule}{is}"));
                None
            }
        }
    }

    /// A list of names, each parsed; `["*"]` is `all`. An empty list is a fault.
    pub(super) fn names<T: Copy + PartialEq>(
        &mut self,
        key: &str,
        all: &[T],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Names<T> {
        let texts = self.texts(key);
        if texts == [ANY] {
            return Names {
                any: true,
                named: all.to_vec(),
            };
        }
        if texts.is_empty() {
            self.fault(key, "must name at least one, or be [\"*\"]");
        }
        let mut named = Vec::new();
        for text in texts {
            match parse(text) {
                Ok(value) if named.contains(&value) => {
                    self.fault(key, format!("names \"{text}\" twice"));
                }
                Ok(value) => named.push(value),
                Err(rule) if text == ANY => {
                    self.fault(key, format!("\"*\" must stand alone; else each {rule}"));
                }
                Err(rule) => self.fault(key, format!("{rule} (or [\"*\"]), has \"{text}\"")),
            }
        }
        Names { any: false, named }
    }

    /// A secret, given in place or as the path of a file; `None` if neither.
    pub(super) fn secret(&mut self, key: &str) -> Option<Secret> {
        let file_key = format!("{key}{FILE_SUFFIX}");
        let path = self.text(&file_key);
        if path.is_empty() {
            let text = self.text(key);
            return (!text.is_empty()).then(|| Secret::new(text));
        }
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let text = text.trim_end_matches(['\n', '\r']);
                if text.is_empty() {
                    self.fault(&file_key, format!("names {path}, which is empty"));
                }
                Some(Secret::new(text))
            }
            Err(error) => {
                self.fault(
                    &file_key,
                    format!("names {path}, which cannot be read: {error}"),
                );
                None
            }
        }
    }
}

/// Stands for every name of a list.
const ANY: &str = "*";

/// A list of names, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names<T> {
    /// It was `["*"]`.
    pub(super) any: bool,
    /// The names.
    pub(super) named: Vec<T>,
}

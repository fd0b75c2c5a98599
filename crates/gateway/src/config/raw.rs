//! The low level: settings as they were written, before anyone asks what they mean.
//!
//! The shape is the default file itself: a key it does not have is unknown, and the type of its
//! value is the type of the key. An empty inline table there (`headers = {}`) is a map of texts.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use super::fault::{Fault, Origin};

/// The default file.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// The section whose keys are names the user chooses.
const LANE: &str = "lane";
/// The lane whose keys stand for those of every lane.
const LANE_EXEMPLAR: &str = "main";
/// Longest lane name, in bytes: it stands in every metric and log line of the lane.
const LANE_NAME_MAX_BYTES: usize = 32;
/// Keys that hold secrets. `*` stands for any lane's name.
const SECRETS: &[&str] = &[
    "http.producer_token",
    "http.operator_token",
    "http.reader_token",
    "lane.*.webhook.secret",
    "lane.*.webhook.headers",
    "alerts.slack_url",
];
/// The map among them, which cannot be a file.
const SECRET_MAP: &str = "lane.*.webhook.headers";
/// What a secret's key ends in when its value is the path of a file.
pub(super) const FILE_SUFFIX: &str = "_file";
/// Most letters that may differ for one key to be offered for another.
const NEAR_MISS_MAX: usize = 3;

/// One value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// What one layer says: values by dotted key, and the lanes it names.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) lanes: BTreeMap<String, Origin>,
}

/// All layers, one on the other.
#[derive(Debug)]
pub(super) struct Settings {
    entries: BTreeMap<String, Entry>,
    lanes: BTreeMap<String, Origin>,
}

/// What stands at a place of the default file.
pub(super) enum Place<'a> {
    /// A section; more must follow.
    Section,
    /// A key, and its default, which tells its type.
    Key(&'a Value),
}

/// The shape of a configuration: every key of the default file, lanes under the name `*`.
#[derive(Debug)]
pub(super) struct Shape {
    keys: BTreeMap<String, Value>,
    sections: BTreeSet<String>,
}

/// `lane.NAME.rate` -> `lane.*.rate`.
pub(super) fn general(key: &str) -> String {
    let mut parts: Vec<&str> = key.split('.').collect();
    if let [LANE, name, ..] = parts.as_mut_slice() {
        *name = "*";
    }
    parts.join(".")
}

/// The lane a key belongs to.
pub(super) fn lane_of_key(key: &str) -> Option<&str> {
    key.strip_prefix(LANE)?.strip_prefix('.')?.split('.').next()
}

/// Whether the value of `key` must never be shown.
pub(super) fn is_secret(key: &str) -> bool {
    SECRETS.contains(&general(key).as_str())
}

impl Shape {
    /// The shape of the default file.
    pub(super) fn new() -> Self {
        let mut shape = Self {
            keys: BTreeMap::new(),
            sections: BTreeSet::new(),
        };
        // The file is part of the binary; `the_default_file_parses_and_checks_clean` holds it.
        shape.add("", &DEFAULT_TOML.parse().unwrap_or_default());
        shape.sections.insert(LANE.to_owned());
        for secret in SECRETS.iter().filter(|secret| **secret != SECRET_MAP) {
            shape.keys.insert(
                format!("{secret}{FILE_SUFFIX}"),
                Value::String(String::new()),
            );
        }
        shape
    }

    fn add(&mut self, prefix: &str, table: &toml::Table) {
        for (name, value) in table {
            let key = general(&join(prefix, name));
            match value {
                Value::Table(inner) if !inner.is_empty() => {
                    self.sections.insert(key.clone());
                    self.add(&key, inner);
                }
                leaf => _ = self.keys.insert(key, leaf.clone()),
            }
        }
    }

    /// What stands at `key`.
    ///
    /// # Errors
    /// The rule that an unknown key breaks.
    pub(super) fn place(&self, key: &str) -> Result<Place<'_>, String> {
        if let Some(name) = lane_of_key(key) {
            lane_name(name)?;
        }
        let general = general(key);
        if let Some(default) = self.keys.get(&general) {
            return Ok(Place::Key(default));
        }
        if self.sections.contains(&general) {
            return Ok(Place::Section);
        }
        Err(match self.nearest(&general) {
            Some(near) => {
                let near = near.replacen('*', lane_of_key(key).unwrap_or("NAME"), 1);
                format!("is unknown; did you mean `{near}`?")
            }
            None => "is unknown; config/default.toml has every key".to_owned(),
        })
    }

    /// The known key or section that looks most like `general`: a few letters off, or the same name
    /// in another section.
    fn nearest(&self, general: &str) -> Option<&str> {
        let name = |key: &str| key.rsplit('.').next().map(str::to_owned);
        let known = || self.keys.keys().chain(&self.sections).map(String::as_str);
        let near = known()
            .map(|key| (distance(key, general), key))
            .filter(|(off, key)| *off <= NEAR_MISS_MAX.min(key.len() / 2))
            .min();
        near.map(|(_, key)| key)
            .or_else(|| known().find(|key| general.contains('.') && name(key) == name(general)))
    }
}

fn lane_name(name: &str) -> Result<(), String> {
    let fits = name.len() <= LANE_NAME_MAX_BYTES
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.contains("__");
    fits.then_some(()).ok_or_else(|| {
        format!(
            "is no name for a lane: a lower-case letter, then lower-case letters, digits or \
             single `_`, {LANE_NAME_MAX_BYTES} at most"
        )
    })
}

/// `a` and `b` joined by a dot.
pub(super) fn join(a: &str, b: &str) -> String {
    if a.is_empty() {
        b.to_owned()
    } else {
        format!("{a}.{b}")
    }
}

/// How many letters must be put in, taken out or changed to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Names the type of a value in a sentence.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list of texts",
        Value::Table(_) => "a table of texts",
    }
}

/// `value` if it has the type of `default`.
///
/// # Errors
/// The rule it breaks.
pub(super) fn typed(value: Value, default: &Value) -> Result<Value, String> {
    let fits = match (&value, default) {
        (Value::Array(items), Value::Array(_)) => items.iter().all(Value::is_str),
        (Value::Table(items), Value::Table(_)) => items.values().all(Value::is_str),
        _ => value.same_type(default),
    };
    match (value, default) {
        (value, _) if fits => Ok(value),
        #[expect(clippy::cast_precision_loss, reason = "no key needs more than 52 bits")]
        (Value::Integer(whole), Value::Float(_)) => Ok(Value::Float(whole as f64)),
        (Value::Array(_) | Value::Table(_), Value::Array(_) | Value::Table(_)) => {
            Err(format!("must be {}", type_name(default)))
        }
        (value, _) => Err(format!(
            "must be {}, is {}",
            type_name(default),
            type_name(&value)
        )),
    }
}

impl Settings {
    /// Puts `layers` on the defaults, later ones on top, and says which keys are given twice over.
    pub(super) fn stack(shape: &Shape, layers: Vec<Layer>) -> (Self, Vec<Fault>) {
        let mut faults = Vec::new();
        let mut settings = Self {
            entries: BTreeMap::new(),
            lanes: BTreeMap::new(),
        };
        for layer in layers {
            for (key, entry) in &layer.entries {
                let file = format!("{key}{FILE_SUFFIX}");
                if is_secret(key) && layer.entries.contains_key(&file) {
                    let rule = format!("and `{file}` are both given; keep one");
                    let origin = entry.origin.clone();
                    faults.push(Fault {
                        origin,
                        key: key.clone(),
                        rule,
                    });
                }
                // A higher layer's secret must not lose to a lower layer's file, or the reverse.
                settings.entries.remove(&file);
                if let Some(plain) = key.strip_suffix(FILE_SUFFIX) {
                    settings.entries.remove(plain);
                }
            }
            settings.entries.extend(layer.entries);
            settings.lanes.extend(layer.lanes);
        }
        settings.fill(shape);
        (settings, faults)
    }

    /// Fills in what no layer said.
    fn fill(&mut self, shape: &Shape) {
        if self.lanes.is_empty() {
            self.lanes.insert(LANE_EXEMPLAR.to_owned(), Origin::Default);
        }
        for (general, default) in &shape.keys {
            if is_secret(general.trim_end_matches(FILE_SUFFIX)) && general.ends_with(FILE_SUFFIX) {
                continue;
            }
            let entry = Entry {
                value: default.clone(),
                origin: Origin::Default,
            };
            if lane_of_key(general).is_none() {
                self.entries.entry(general.clone()).or_insert(entry);
                continue;
            }
            for lane in self.lanes.keys() {
                let key = general.replacen('*', lane, 1);
                self.entries.entry(key).or_insert_with(|| entry.clone());
            }
        }
    }

    /// The value of `key`.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Where the value of `key` came from: its own place, that of its file, or, for what a lane
    /// leaves out, the lane's.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let said = |key: &str| {
            let origin = self.entries.get(key).map(|entry| &entry.origin);
            origin.filter(|origin| **origin != Origin::Default)
        };
        said(key)
            .or_else(|| said(&format!("{key}{FILE_SUFFIX}")))
            .or_else(|| lane_of_key(key).and_then(|name| self.lanes.get(name)))
            .cloned()
            .unwrap_or(Origin::Default)
    }

    /// The names of the lanes.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &str> {
        self.lanes.keys().map(String::as_str)
    }

    /// Every key with its value, secrets hidden, and where it came from.
    pub(super) fn lines(&self) -> Vec<Setting> {
        let line = |(key, entry): (&String, &Entry)| {
            let empty = match &entry.value {
                Value::String(text) => text.is_empty(),
                Value::Table(table) => table.is_empty(),
                _ => false,
            };
            let hide = is_secret(key) && !empty;
            let value = if hide {
                "<hidden>".to_owned()
            } else {
                entry.value.to_string()
            };
            Setting {
                key: key.clone(),
                value,
                origin: entry.origin.clone(),
            }
        };
        self.entries.iter().map(line).collect()
    }
}

/// One key as `nightgate doctor` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Section and key, joined by dots.
    pub key: String,
    /// The value in TOML; `<hidden>` for a secret that is set.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

//! The low level: settings as they were written, before anyone asks what they mean.
//!
//! The shape is the default file itself: a key it does not have is unknown, and the type of its
//! value is the type of the key. An empty inline table there (`headers = {}`) is a map of texts.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use super::fault::{Fault, Origin};
use super::named::{GROUPS, Group, check_name, general, named};

/// The default file.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// Keys that hold secrets. `*` stands for any lane's name.
const SECRETS: &[&str] = &[
    "http.producer_token",
    "http.operator_token",
    "http.reader_token",
    "lane.*.webhook.secret",
    "lane.*.webhook.headers",
    "alerts.slack_url",
    "consent.http.token",
    "redis.url",
    "redis.sentinel.password",
    "mongodb.url",
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

/// Names that the user chose, by their section, and where each came from.
pub(super) type Chosen = BTreeMap<(&'static Group, String), Origin>;

/// What one layer says: values by dotted key, and the names it chooses.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) chosen: Chosen,
}

/// All layers, one on the other.
#[derive(Debug)]
pub(super) struct Settings {
    entries: BTreeMap<String, Entry>,
    chosen: Chosen,
}

/// What stands at a place of the default file.
pub(super) enum Place<'a> {
    /// A section; more must follow.
    Section,
    /// A key, and its default, which tells its type.
    Key(&'a Value),
}

/// The shape of a configuration: every key of the default file, chosen names as `*`.
#[derive(Debug)]
pub(super) struct Shape {
    keys: BTreeMap<String, Value>,
    sections: BTreeSet<String>,
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
        let groups = GROUPS.iter().map(|group| group.name.to_owned());
        shape.sections.extend(groups);
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
        if let Some((group, name)) = named(key) {
            check_name(group, name)?;
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
                let near = near.replacen('*', named(key).map_or("NAME", |(_, name)| name), 1);
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
            chosen: BTreeMap::new(),
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
            settings.chosen.extend(layer.chosen);
        }
        settings.fill(shape);
        (settings, faults)
    }

    /// Fills in what no layer said.
    fn fill(&mut self, shape: &Shape) {
        for group in GROUPS.iter().filter(|group| group.standing) {
            if self.names(group.name).next().is_none() {
                let exemplar = (group, group.exemplar.to_owned());
                self.chosen.insert(exemplar, Origin::Default);
            }
        }
        for (general, default) in &shape.keys {
            if is_secret(general.trim_end_matches(FILE_SUFFIX)) && general.ends_with(FILE_SUFFIX) {
                continue;
            }
            let entry = Entry {
                value: default.clone(),
                origin: Origin::Default,
            };
            let Some((group, _)) = named(general) else {
                self.entries.entry(general.clone()).or_insert(entry);
                continue;
            };
            for (_, name) in self.chosen.keys().filter(|(of, _)| *of == group) {
                let key = general.replacen('*', name, 1);
                self.entries.entry(key).or_insert_with(|| entry.clone());
            }
        }
    }

    /// The value of `key`.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Where the value of `key` came from: its own place, that of its file, or, for what a lane or
    /// source leaves out, the lane's or source's.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let said = |key: &str| {
            let origin = self.entries.get(key).map(|entry| &entry.origin);
            origin.filter(|origin| **origin != Origin::Default)
        };
        said(key)
            .or_else(|| said(&format!("{key}{FILE_SUFFIX}")))
            .or_else(|| {
                let (group, name) = named(key)?;
                self.chosen.get(&(group, name.to_owned()))
            })
            .cloned()
            .unwrap_or(Origin::Default)
    }

    /// The names chosen in `section`.
    pub(super) fn names(&self, section: &str) -> impl Iterator<Item = &str> {
        let chosen = self.chosen.keys();
        chosen.filter_map(move |(of, name)| (of.name == section).then_some(name.as_str()))
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

//! Reads layers: a file, the environment, flags.

use std::path::Path;

use serde::Deserialize;
use toml::Value;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::fault::{Fault, Origin};
use super::named::named;
use super::raw::{Entry, Layer, Place, Shape, join, type_name, typed};

/// What every variable of ours starts with.
const ENV_PREFIX: &str = "NIGHTGATE_";
/// What joins section and key in a variable.
const ENV_JOINT: &str = "__";

/// One layer being read, with its faults so far.
struct Reading<'a> {
    shape: &'a Shape,
    layer: Layer,
    faults: Vec<Fault>,
}

impl<'a> Reading<'a> {
    fn new(shape: &'a Shape) -> Self {
        Self {
            shape,
            layer: Layer::default(),
            faults: Vec::new(),
        }
    }

    fn fault(&mut self, origin: Origin, key: &str, rule: impl Into<String>) {
        self.faults.push(Fault {
            origin,
            key: key.to_owned(),
            rule: rule.into(),
        });
    }

    fn note_name(&mut self, key: &str, origin: &Origin) {
        if let Some((group, name)) = named(key)
            && (group.standing || name != group.exemplar)
        {
            let chosen = self.layer.chosen.entry((group, name.to_owned()));
            chosen.or_insert_with(|| origin.clone());
        }
    }

    fn put(&mut self, origin: Origin, key: &str, value: Result<Value, String>) {
        match value {
            Ok(value) => {
                self.note_name(key, &origin);
                self.layer
                    .entries
                    .insert(key.to_owned(), Entry { value, origin });
            }
            Err(rule) => self.fault(origin, key, rule),
        }
    }

    /// Text from outside TOML: its key's default says what to read it as.
    fn put_text(&mut self, origin: Origin, key: &str, text: &str) {
        match self.shape.place(key) {
            Ok(Place::Key(default)) => self.put(origin, key, from_text(text, default)),
            Ok(Place::Section) => self.fault(origin, key, "is a section; name a key in it"),
            Err(rule) => self.fault(origin, key, rule),
        }
    }
}

/// Reads `text`, the content of the file `path`.
pub(super) fn from_file(shape: &Shape, path: &Path, text: &str) -> (Layer, Vec<Fault>) {
    let mut reading = Reading::new(shape);
    let origin = |at: usize| {
        let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        Origin::File {
            path: path.to_owned(),
            line,
        }
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = origin(error.span().map_or(0, |span| span.start));
        reading.fault(at, "", error.message());
    }
    walk(&mut reading, &origin, "", table.get_ref());
    (reading.layer, reading.faults)
}

fn walk(
    reading: &mut Reading<'_>,
    origin: &dyn Fn(usize) -> Origin,
    prefix: &str,
    table: &DeTable<'_>,
) {
    for (name, value) in table {
        let key = join(prefix, name.get_ref());
        let at = origin(name.span().start);
        match (reading.shape.place(&key), value.get_ref()) {
            (Err(rule), _) => reading.fault(at, &key, rule),
            (Ok(Place::Section), DeValue::Table(inner)) => {
                reading.note_name(&key, &at);
                walk(reading, origin, &key, inner);
            }
            (Ok(Place::Section), _) => {
                reading.fault(
                    at,
                    &key,
                    format!("is a section; write [{key}] and keys below it"),
                );
            }
            (Ok(Place::Key(default)), _) => {
                // The parser knows no numbers yet: one that is too large fails only here.
                let plain = Value::deserialize(ValueDeserializer::from(value.clone()));
                let plain = plain.map_err(|_| format!("must be {}", type_name(default)));
                reading.put(at, &key, plain.and_then(|value| typed(value, default)));
            }
        }
    }
}

/// Reads the variables that are ours.
///
/// A variable without a double underscore is no key: other tools share the prefix (Kubernetes sets
/// `NIGHTGATE_PORT` for a service of that name). Only one that would be a key but for its single
/// underscore is a fault.
pub(super) fn from_env(shape: &Shape, vars: &[(String, String)]) -> (Layer, Vec<Fault>) {
    let mut reading = Reading::new(shape);
    for (variable, text) in vars {
        let Some(name) = variable.strip_prefix(ENV_PREFIX) else {
            continue;
        };
        let origin = Origin::Env(variable.clone());
        if name.contains(ENV_JOINT) {
            let key = name.to_lowercase().replace(ENV_JOINT, ".");
            reading.put_text(origin, &key, text);
            continue;
        }
        let key = name.to_lowercase().replacen('_', ".", 1);
        if matches!(shape.place(&key), Ok(Place::Key(_))) {
            let right = name.replacen('_', ENV_JOINT, 1);
            let rule = format!("is not set by this name; did you mean {ENV_PREFIX}{right}?");
            reading.fault(origin, &key, rule);
        }
    }
    (reading.layer, reading.faults)
}

/// Reads `section.key=value` pairs.
pub(super) fn from_flags(shape: &Shape, pairs: &[String]) -> (Layer, Vec<Fault>) {
    let mut reading = Reading::new(shape);
    for pair in pairs {
        match pair.split_once('=') {
            Some((key, text)) => {
                let key = key.trim();
                reading.put_text(Origin::Flag(key.to_owned()), key, text.trim());
            }
            None => {
                let origin = Origin::Flag(pair.clone());
                reading.fault(origin, "", "must be a key and a value: section.key=value");
            }
        }
    }
    (reading.layer, reading.faults)
}

/// `text` as the type of `default`.
fn from_text(text: &str, default: &Value) -> Result<Value, String> {
    let must = || format!("must be {}, is `{text}`", type_name(default));
    let toml = || {
        let value = DeValue::parse(text).map_err(|_| must())?;
        let value = Value::deserialize(ValueDeserializer::from(value)).map_err(|_| must())?;
        typed(value, default)
    };
    match default {
        Value::String(_) => Ok(Value::String(text.to_owned())),
        Value::Array(_) if !text.trim_start().starts_with('[') => {
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            Ok(Value::Array(
                items.map(|item| Value::String(item.to_owned())).collect(),
            ))
        }
        // A map may hold secrets: its text must not come back in the fault.
        Value::Table(_) => toml().map_err(|_| format!("must be {}", type_name(default))),
        _ => toml(),
    }
}

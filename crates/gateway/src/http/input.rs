//! Reads what a request brings: path, query, JSON objects. Wrong input becomes a problem that names
//! the field and the rule, and never shows a value.

use std::fmt;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use bytes::Bytes;
use jiff::Timestamp;
use nightgate_core::FieldFault;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::problem::{Answer, Problem, Sort};
use crate::ingest::wire::{INSTANT_RULE, instant};

/// Media type of JSON.
pub(super) const JSON: &str = "application/json";
/// Media types of NDJSON.
pub(super) const NDJSON: [&str; 3] = [
    "application/x-ndjson",
    "application/jsonl",
    "application/ndjson",
];

/// The media type of a body, lower case, without parameters; `None` if it cannot be read as it is:
/// compressed, or in a character set that is not UTF-8.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let plain = |value: &str| value.is_empty() || value.eq_ignore_ascii_case("identity");
    let encodings = headers.get_all(CONTENT_ENCODING).iter();
    if !encodings
        .map(|value| value.to_str().unwrap_or("?"))
        .all(plain)
    {
        return None;
    }
    let mut parts = headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';');
    let media = parts.next()?.trim().to_ascii_lowercase();
    let utf_8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, set)) if name.trim().eq_ignore_ascii_case("charset") => {
            set.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    };
    parts.all(utf_8).then_some(media)
}

/// The problem of a body with another content type than those wanted.
pub(super) fn wrong_type(wanted: &[&str]) -> Problem {
    let wanted = wanted.join(" or ");
    let detail = format!("send UTF-8, uncompressed, with `Content-Type: {wanted}`");
    Problem::new(Sort::WrongType, detail)
}

/// The body of a request that promised JSON.
pub(super) struct JsonBody(pub(super) Bytes);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;
    async fn from_request(request: Request, _: &S) -> Answer<Self> {
        if media_type(request.headers()).as_deref() != Some(JSON) {
            return Err(wrong_type(&[JSON]));
        }
        // The entry has read it already, within the limits.
        let read = axum::body::to_bytes(request.into_body(), usize::MAX).await;
        let cut = |_| Problem::new(Sort::CutOff, "send the whole body");
        Ok(Self(read.map_err(cut)?))
    }
}

/// One part of the path.
pub(super) struct Part(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Part {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let read: Result<Path<String>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        let Ok(Path(part)) = read else {
            let detail = "write the path in UTF-8, percent-encoded";
            return Err(Problem::new(Sort::BadPath, detail));
        };
        Ok(Self(part))
    }
}

/// The parameters behind the `?`: each named once at most, none that is not asked for.
pub(super) struct Asked {
    pairs: Vec<(String, String)>,
    faults: Vec<FieldFault>,
}

impl Asked {
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Answer<Self> {
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            let detail = "write the query as name=value pairs, percent-encoded";
            return Err(Problem::new(Sort::BadQuery, detail));
        };
        let mut faults = Vec::new();
        for (place, (name, _)) in pairs.iter().enumerate() {
            let Some(name) = known.iter().find(|known| *known == name) else {
                let rule = format!("may hold only {}", known.join(", "));
                faults.push(FieldFault::new("query", rule));
                break;
            };
            if pairs[..place].iter().any(|(earlier, _)| earlier == name) {
                faults.push(FieldFault::new(name, "stands twice"));
            }
        }
        Ok(Self { pairs, faults })
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A parameter that `read` turns into something else.
    pub(super) fn read_as<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = read(self.text(name)?);
        value
            .map_err(|rule| self.faults.push(FieldFault::new(name, rule)))
            .ok()
    }

    pub(super) fn instant(&mut self, name: &str) -> Option<Timestamp> {
        self.read_as(name, |text| {
            instant(text).ok_or_else(|| INSTANT_RULE.to_owned())
        })
    }

    /// A whole number from `least` to `most`.
    pub(super) fn number(&mut self, name: &str, least: u64, most: u64) -> Option<u64> {
        self.read_as(name, |text| {
            let number = text
                .parse()
                .ok()
                .filter(|number| (least..=most).contains(number));
            number.ok_or_else(|| format!("must be a whole number from {least} to {most}"))
        })
    }

    pub(super) fn flag(&mut self, name: &str) -> bool {
        let read = |text: &str| text.parse().map_err(|_| "must be true or false".to_owned());
        self.read_as(name, read).unwrap_or(false)
    }

    pub(super) fn done(self) -> Answer<()> {
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(Problem::faults(Sort::BadQuery, self.faults))
    }
}

/// The problem of text that is no JSON. Only the place is told: serde_json quotes what it finds.
pub(super) fn bad_json(error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    let detail = format!("no JSON at line {line}, column {column}");
    Problem::new(Sort::BadJson, detail)
}

/// The fields of one JSON object: each named once at most, none that is not asked for; null is
/// absent.
pub(super) struct Fields {
    pairs: Vec<(String, Box<RawValue>)>,
    pub(super) faults: Vec<FieldFault>,
}

struct Pairs(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

impl Fields {
    pub(super) fn read(json: &[u8], known: &[&str]) -> Answer<Self> {
        let Pairs(mut pairs) = serde_json::from_slice(json).map_err(|error| {
            if error.is_data() {
                Problem::field(Sort::Invalid, "body", "must be a JSON object")
            } else {
                bad_json(&error)
            }
        })?;
        let mut faults = Vec::new();
        for (place, (name, _)) in pairs.iter().enumerate() {
            let Some(name) = known.iter().find(|known| *known == name) else {
                let rule = format!("may hold only {}", known.join(", "));
                faults.push(FieldFault::new("body", rule));
                break;
            };
            if pairs[..place].iter().any(|(earlier, _)| earlier == name) {
                faults.push(FieldFault::new(name, "stands twice"));
                break;
            }
        }
        pairs.retain(|(_, value)| value.get() != "null");
        Ok(Self { pairs, faults })
    }

    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.get())
    }

    pub(super) fn fault(&mut self, name: &str, rule: impl Into<String>) {
        self.faults.push(FieldFault::new(name, rule));
    }

    /// A field of a shape; `rule` says which.
    pub(super) fn shaped<T: DeserializeOwned>(&mut self, name: &str, rule: &str) -> Option<T> {
        let value = serde_json::from_str(self.raw(name)?);
        value.map_err(|_| self.fault(name, rule)).ok()
    }

    /// A text that `read` turns into something else.
    pub(super) fn text<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text: String = self.shaped(name, "must be a string")?;
        read(&text).map_err(|rule| self.fault(name, rule)).ok()
    }

    pub(super) fn instant(&mut self, name: &str) -> Option<Timestamp> {
        self.text(name, |text| {
            instant(text).ok_or_else(|| INSTANT_RULE.to_owned())
        })
    }

    /// The name of the one field that must be there, of several.
    pub(super) fn exactly_one(&mut self, of: &[&'static str]) -> Option<&'static str> {
        let mut there = of.iter().filter(|name| self.raw(name).is_some());
        match (there.next(), there.next()) {
            (Some(one), None) => Some(one),
            _ => {
                let rule = format!("must hold exactly one of {}", of.join(", "));
                self.fault("body", rule);
                None
            }
        }
    }

    pub(super) fn done(self) -> Answer<()> {
        if self.faults.is_empty() {
            return Ok(());
        }
        Err(Problem::faults(Sort::Invalid, self.faults))
    }
}

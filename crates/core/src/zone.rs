//! Where the recipient is: whose law and which clocks. A number may map to a *set* of zones.

use std::fmt;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::message::Message;

/// ISO 3166-1 alpha-2 code of the country whose law applies, upper case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Jurisdiction([u8; 2]);

impl Jurisdiction {
    /// Checks that `text` is two upper-case letters.
    ///
    /// # Errors
    /// A sentence fragment that names the rule.
    pub fn new(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            &[a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([a, b])),
            _ => Err("must be an ISO 3166-1 country code such as KR".to_owned()),
        }
    }

    /// The two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("??")
    }
}

impl TryFrom<String> for Jurisdiction {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<Jurisdiction> for String {
    fn from(jurisdiction: Jurisdiction) -> Self {
        jurisdiction.as_str().to_owned()
    }
}

impl fmt::Display for Jurisdiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Jurisdiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the zones of a recipient came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZoneSource {
    /// The message names its zone.
    Message,
    /// From the recipient's phone number.
    Number,
    /// The house default.
    House,
}

/// The candidate zones of one recipient, never empty. Open means open in *every* one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zones {
    /// How they came to be known.
    pub source: ZoneSource,
    /// IANA names joined by `+`, as receipts show them.
    pub name: Arc<str>,
    /// The zones, at least one.
    pub all: Arc<[TimeZone]>,
}

/// The sender's own country and clock: the defaults for recipients that tell neither.
#[derive(Clone, Debug)]
pub struct House {
    /// Default law, and the region by which national phone numbers are read.
    pub jurisdiction: Jurisdiction,
    /// Default clock.
    pub zone: TimeZone,
}

/// Whose law and which clocks hold for one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose law.
    pub jurisdiction: Jurisdiction,
    /// Which clocks.
    pub zones: Zones,
}

/// Finds whose law and which clocks hold for `message`.
#[must_use]
pub fn locate(message: &Message, house: &House) -> Place {
    let _ = (message, house);
    unimplemented!()
}

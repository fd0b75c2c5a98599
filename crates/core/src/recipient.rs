//! Whom a message goes to, and the key under which that person's consent is kept.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest recipient, in bytes: the longest e-mail address (RFC 5321) and any push token in use.
pub const RECIPIENT_MAX_BYTES: usize = 320;

/// Phone number, e-mail address, push token or user id, as the producer wrote it. Personal data:
/// `Debug` and `Display` mask it; [`Recipient::expose`] is the one way to read it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Recipient(Arc<str>);

/// A recipient in canonical form (a phone number as E.164), so that `010-1234-5678` and
/// `+821012345678` share one consent. Personal data: masked like [`Recipient`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecipientKey(Arc<str>);

impl Recipient {
    /// Checks `text`: 1 to [`RECIPIENT_MAX_BYTES`] bytes, no control characters or surrounding spaces.
    ///
    /// # Errors
    /// A sentence fragment that names the rule and never the value.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > RECIPIENT_MAX_BYTES {
            return Err(format!(
                "must be 1 to {RECIPIENT_MAX_BYTES} bytes, is {}",
                text.len()
            ));
        }
        if text.chars().any(char::is_control) || text.trim() != text {
            return Err("must not hold control characters or surrounding spaces".to_owned());
        }
        Ok(Self(text.into()))
    }

    /// The recipient in clear, for the sink and the stores.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The key under which this recipient's consent is kept. `home` is the house's region, by which
    /// national numbers are read (`010-…` under `KR`).
    #[must_use]
    pub fn key(&self, home: &str) -> RecipientKey {
        let key = phone(&self.0, home)
            .map(|number| number.format(namba::Format::E164).to_string().into());
        RecipientKey(key.unwrap_or_else(|| Arc::clone(&self.0)))
    }
}

impl TryFrom<String> for Recipient {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl RecipientKey {
    /// A key read back from a store.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The key in clear, for the stores.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The number behind `text` when it is written like one: digits and the usual separators only.
pub(crate) fn phone(text: &str, home: &str) -> Option<namba::PhoneNumber> {
    let like_a_number = |byte: u8| byte.is_ascii_digit() || b"+-() .".contains(&byte);
    if !text.bytes().all(like_a_number) {
        return None;
    }
    let number = if text.starts_with('+') {
        namba::parse(text).ok()?
    } else {
        namba::parse_in(namba::Region::new(home).ok()?, text).ok()?
    };
    number.assess().is_valid().then_some(number)
}

/// Keeps the first three and last two characters: enough to recognise, too little to call.
fn masked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= 7 {
        return "*".repeat(chars.len());
    }
    let hidden = "*".repeat(chars.len() - 5);
    let head: String = chars[..3].iter().collect();
    let tail: String = chars[chars.len() - 2..].iter().collect();
    format!("{head}{hidden}{tail}")
}

macro_rules! masked_format {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&masked(&self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&masked(&self.0))
            }
        }
    };
}
masked_format!(Recipient);
masked_format!(RecipientKey);

//! Whom a message goes to, and the key under which that person's consent is kept.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::message::has_control;
use crate::{ranges, zone};

/// Longest recipient, in bytes: the longest e-mail address (RFC 5321) and any push token in use.
pub const RECIPIENT_MAX_BYTES: usize = 320;

/// Phone number, e-mail address, push token or user id, as the producer wrote it. Personal data:
/// `Debug` and `Display` mask it; [`Recipient::expose`] is the one way to read it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Recipient(CompactString);

/// A recipient in canonical form (a phone number as E.164), so that `010-1234-5678` and
/// `+821012345678` share one consent. Personal data: masked like [`Recipient`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecipientKey(CompactString);

impl Recipient {
    /// Checks `text`: 1 to [`RECIPIENT_MAX_BYTES`] bytes, no control characters or surrounding
    /// spaces.
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
        if has_control(text) || text.trim() != text {
            return Err("must not hold control characters or surrounding spaces".to_owned());
        }
        Ok(Self(text.into()))
    }

    /// A recipient read back from a store, which held it to the rule of [`Recipient::new`].
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        debug_assert!(
            Self::new(text).is_ok(),
            "a stored recipient breaks its rule"
        );
        Self(text.into())
    }

    /// The recipient in clear, for the sink and the stores.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The key under which this recipient's consent is kept. `home` is the house's region, by which
    /// national numbers are read (`010-…` under `KR`).
    ///
    /// ```
    /// use nightgate_core::Recipient;
    ///
    /// let national = Recipient::new("010-1234-5678")?.key("KR");
    /// assert_eq!(national, Recipient::new("+821012345678")?.key("KR"));
    /// assert_eq!(national.expose(), "+821012345678");
    /// # Ok::<(), String>(())
    /// ```
    #[must_use]
    pub fn key(&self, home: &str) -> RecipientKey {
        if let Some(mobile) = korean_mobile(&self.0, home) {
            return RecipientKey(match std::str::from_utf8(&mobile) {
                Ok(mobile) if mobile != &*self.0 => mobile.into(),
                _ => self.0.clone(),
            });
        }
        if ranges::is_canonical(&self.0) {
            return RecipientKey(self.0.clone());
        }
        let american = ranges::american(&self.0, home);
        if let Some(american) = american.as_ref().and_then(|text| str::from_utf8(text).ok())
            && let Some(valid) = zone::is_valid(american)
        {
            return RecipientKey(match valid {
                true => american.into(),
                false => self.0.clone(),
            });
        }
        RecipientKey(long_key(&self.0, home).map_or_else(|| self.0.clone(), CompactString::from))
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

/// The key of `text` by the numbering plans alone, when they know it.
pub(crate) fn long_key(text: &str, home: &str) -> Option<String> {
    phone(text, home).map(|number| number.format(namba::Format::E164).to_string())
}

/// The valid number behind `text`.
pub(crate) fn phone(text: &str, home: &str) -> Option<namba::PhoneNumber> {
    number(text, home).filter(|number| number.assess().is_valid())
}

/// The number behind `text`, also when no numbering plan holds it valid, as long as it bears its
/// country's code. Digits alone that are no valid number can be anything: a user id, an order.
pub(crate) fn dialled(text: &str, home: &str) -> Option<namba::PhoneNumber> {
    number(text, home).filter(|number| text.starts_with('+') || number.assess().is_valid())
}

/// The number behind `text` when it is written like one: digits and the usual separators only.
fn number(text: &str, home: &str) -> Option<namba::PhoneNumber> {
    let like_a_number = |byte: u8| byte.is_ascii_digit() || b"+-() .".contains(&byte);
    if !text.bytes().all(like_a_number) {
        return None;
    }
    if text.starts_with('+') {
        return namba::parse(text).ok();
    }
    namba::parse_in(namba::Region::new(home).ok()?, text).ok()
}

/// Length of a Korean mobile number of the common form, as E.164: `+8210` and eight digits.
const KOREAN_MOBILE_BYTES: usize = 13;

/// `text` as E.164 when it is a plain Korean mobile number, `+8210…` or, at home in Korea, `010…`,
/// hyphens and spaces aside. The numbering plans answer the same, a hundred times slower; whatever
/// they restrict (`010-5…`) is left to them. A test holds the two together.
pub(crate) fn korean_mobile(text: &str, home: &str) -> Option<[u8; KOREAN_MOBILE_BYTES]> {
    let (lead, rest) = match text.strip_prefix("+8210") {
        Some(rest) => (5, rest),
        None if home == "KR" => (5, text.strip_prefix("010")?),
        None => return None,
    };
    let mut key = *b"+821000000000";
    let mut length = lead;
    for byte in rest.bytes() {
        match byte {
            b'0'..=b'9' => {
                *key.get_mut(length)? = byte;
                length += 1;
            }
            b'-' | b' ' => {}
            _ => return None,
        }
    }
    (length == KOREAN_MOBILE_BYTES && key[lead] != b'5').then_some(key)
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

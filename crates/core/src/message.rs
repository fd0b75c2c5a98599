//! A notification as its producer hands it over: the envelope Nightgate reads, the body it never
//! does.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::recipient::Recipient;
use crate::zone::{Jurisdiction, ZoneSource, Zones};

/// Longest message id, in bytes. Room for two UUIDs and a prefix; ids are dedupe keys, not payload.
pub const ID_MAX_BYTES: usize = 128;
/// Longest campaign name, in bytes.
pub const CAMPAIGN_MAX_BYTES: usize = 128;
/// Longest collapse key, in bytes.
pub const COLLAPSE_KEY_MAX_BYTES: usize = 128;
/// Longest content type, in bytes. RFC 6838 allows 127 for each half; nobody comes near it.
pub const CONTENT_TYPE_MAX_BYTES: usize = 128;
/// Largest body, in bytes: 1 MiB, the most that a message of SQS can have.
pub const BODY_MAX_BYTES: usize = 1024 * 1024;
/// Most attributes on one message.
pub const ATTRIBUTES_MAX: usize = 32;
/// Longest attribute name, in bytes, as in SQS.
pub const ATTRIBUTE_NAME_MAX_BYTES: usize = 256;
/// Most bytes of all attributes together, names and values: what SQS allows, binary ones in base64.
pub const ATTRIBUTES_MAX_BYTES: usize = 1536 * 1024;
/// Content type of a body whose producer named none.
pub const CONTENT_TYPE_DEFAULT: &str = "text/plain; charset=utf-8";

/// The caller's idempotency key: 1 to [`ID_MAX_BYTES`] bytes of visible ASCII.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct MessageId(CompactString);

impl MessageId {
    /// Checks `text` against the rule for ids.
    ///
    /// # Errors
    /// A sentence fragment that names the rule.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > ID_MAX_BYTES {
            return Err(format!(
                "must be 1 to {ID_MAX_BYTES} bytes, is {}",
                text.len()
            ));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must be visible ASCII without spaces".to_owned());
        }
        Ok(Self(text.into()))
    }

    /// An id read back from a store, which held it to the rule of [`MessageId::new`].
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        debug_assert!(Self::new(text).is_ok(), "a stored id breaks its rule");
        Self(text.into())
    }

    /// The id as the caller wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MessageId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({})", self.0)
    }
}

/// Declares an enum whose variants have one lower-case name each, used in JSON, TOML and storage
/// alike.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The one name used in JSON, TOML and storage.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!("must be one of {}", [$($text),+].join(", "))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use named;

named! {
    /// The medium a message leaves by. Korean night hours cover every one but e-mail (Decree
    /// Art. 61(2)).
    Channel {
        /// Short text message.
        Sms = "sms",
        /// Long text message.
        Lms = "lms",
        /// Multimedia message.
        Mms = "mms",
        /// Rich communication services.
        Rcs = "rcs",
        /// KakaoTalk AlimTalk: informational templates.
        Alimtalk = "alimtalk",
        /// KakaoTalk FriendTalk: advertising to channel friends.
        Friendtalk = "friendtalk",
        /// KakaoTalk Brand Message, FriendTalk's successor.
        Brandmessage = "brandmessage",
        /// App push.
        Push = "push",
        /// E-mail.
        Email = "email",
        /// Voice call.
        Voice = "voice",
        /// Fax.
        Fax = "fax",
    }
}

named! {
    /// The law's two classes. Information plus any benefit is advertising. There is no default.
    Purpose {
        /// Order, delivery, security and the like: no quiet hours by law.
        Informational = "informational",
        /// For-profit advertising (Network Act Art. 50).
        Advertising = "advertising",
    }
}

/// Order among held messages of one purpose: 0 leaves first, 9 last, 5 when the producer names
/// none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

impl Priority {
    /// The last priority to leave.
    pub const LAST: u8 = 9;

    /// Checks that `value` is 0 to 9.
    ///
    /// # Errors
    /// A sentence fragment that names the rule.
    pub fn new(value: u8) -> Result<Self, String> {
        if value > Self::LAST {
            return Err(format!(
                "must be 0 (first) to {} (last), is {value}",
                Self::LAST
            ));
        }
        Ok(Self(value))
    }

    /// The number, 0 to 9.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(5)
    }
}

impl TryFrom<u8> for Priority {
    type Error = String;
    fn try_from(value: u8) -> Result<Self, String> {
        Self::new(value)
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

/// What shares one answer from the rules at one instant: purpose, channel, jurisdiction and zones.
///
/// Messages of one class open and close together, so a shelf of them can be re-dated as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Class(Arc<str>);

impl Class {
    /// A class by its stored name, `purpose/channel/jurisdiction/zone+zone`.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self(name.into())
    }

    /// The stored name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One notification. `Debug` shows neither recipient nor body.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The caller's idempotency key.
    pub id: MessageId,
    /// Whom it goes to, as the producer wrote it.
    pub recipient: Recipient,
    /// The medium.
    pub channel: Channel,
    /// Advertising or informational.
    pub purpose: Purpose,
    /// The campaign it belongs to: the unit of recall and of fairness.
    pub campaign: Option<Arc<str>>,
    /// Order within its purpose.
    pub priority: Priority,
    /// Whose law applies; else that of the recipient's number, else the house's.
    pub jurisdiction: Option<Jurisdiction>,
    /// IANA zone of the recipient; else that of the number, else the house's.
    pub zone: Option<Arc<str>>,
    /// Not before this instant.
    pub send_at: Option<Timestamp>,
    /// Worthless from this instant on.
    pub expires_at: Option<Timestamp>,
    /// Stored for later use: newer messages of one key will replace older held ones.
    pub collapse_key: Option<Arc<str>>,
    /// Media type of the body.
    pub content_type: Arc<str>,
    /// Carried to the sink beside the body.
    pub attributes: BTreeMap<String, String>,
    /// Opaque bytes, carried byte for byte.
    pub body: Bytes,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("channel", &self.channel)
            .field("purpose", &self.purpose)
            .field("campaign", &self.campaign)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A field of a message that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldFault {
    /// The field, as it is named in JSON.
    pub field: String,
    /// The rule, as a fragment that follows the field's name.
    pub rule: String,
}

impl FieldFault {
    /// A fault of `field` against `rule`.
    #[must_use]
    pub fn new(field: &str, rule: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            rule: rule.into(),
        }
    }
}

impl fmt::Display for FieldFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.field, self.rule)
    }
}

/// Whether a control character stands in `text`. Nearly all texts are plain ASCII, which is told
/// apart quickly.
pub(crate) fn has_control(text: &str) -> bool {
    let ordinary = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    !text.bytes().all(ordinary) && text.chars().any(char::is_control)
}

impl Message {
    /// Every rule this message breaks; empty when it may enter. Types already hold the rest.
    #[must_use]
    pub fn faults(&self) -> Vec<FieldFault> {
        let mut faults = Vec::new();
        let mut text = |field: &str, value: Option<&str>, max: usize| {
            let Some(value) = value else { return };
            if value.is_empty() || value.len() > max {
                let rule = format!("must be 1 to {max} bytes, is {}", value.len());
                faults.push(FieldFault::new(field, rule));
            } else if has_control(value) {
                faults.push(FieldFault::new(field, "must not hold control characters"));
            }
        };
        text("campaign", self.campaign.as_deref(), CAMPAIGN_MAX_BYTES);
        text(
            "collapse_key",
            self.collapse_key.as_deref(),
            COLLAPSE_KEY_MAX_BYTES,
        );
        text(
            "content_type",
            Some(&self.content_type),
            CONTENT_TYPE_MAX_BYTES,
        );
        self.attribute_faults(&mut faults);
        if self.body.len() > BODY_MAX_BYTES {
            let rule = format!(
                "must be at most {BODY_MAX_BYTES} bytes, is {}",
                self.body.len()
            );
            faults.push(FieldFault::new("body", rule));
        }
        // Zones in use are at hand; the database is asked about the others.
        if let Some(zone) = &self.zone
            && Zones::named(zone, ZoneSource::Message).is_none()
            && jiff::tz::TimeZone::get(zone).is_err()
        {
            faults.push(FieldFault::new(
                "zone",
                "must be an IANA time zone such as Asia/Seoul",
            ));
        }
        if let (Some(from), Some(to)) = (self.send_at, self.expires_at)
            && from >= to
        {
            faults.push(FieldFault::new(
                "expires_at",
                "must be later than `send_at`",
            ));
        }
        faults
    }

    fn attribute_faults(&self, faults: &mut Vec<FieldFault>) {
        if self.attributes.len() > ATTRIBUTES_MAX {
            let rule = format!(
                "must be at most {ATTRIBUTES_MAX}, are {}",
                self.attributes.len()
            );
            faults.push(FieldFault::new("attributes", rule));
        }
        let pairs = self.attributes.iter();
        let bytes: usize = pairs.map(|(name, value)| name.len() + value.len()).sum();
        if bytes > ATTRIBUTES_MAX_BYTES {
            let rule = format!("must be at most {ATTRIBUTES_MAX_BYTES} bytes in all, are {bytes}");
            faults.push(FieldFault::new("attributes", rule));
        }
        for name in self.attributes.keys() {
            let visible = name.bytes().all(|byte| byte.is_ascii_graphic());
            if name.is_empty() || name.len() > ATTRIBUTE_NAME_MAX_BYTES || !visible {
                let rule =
                    format!("names must be 1 to {ATTRIBUTE_NAME_MAX_BYTES} visible ASCII bytes");
                faults.push(FieldFault::new("attributes", rule));
            }
        }
    }
}

//! A held message as the body of an SQS message: one line of JSON, then the body as its producer
//! wrote it. What SQS does not take as text, or what would be too long, is packed whole.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::aws::queues::Outgoing;
use crate::aws::travel;
use crate::hold::Held;

/// The version of this form.
const VERSION: u8 = 1;
/// The first line of a packed message; the base64 of a zstd frame follows.
const PACKED: &str = r#"{"v":1,"packed":"zstd"}"#;
/// How hard a message is packed. It happens seldom, and beyond this it gets slow.
const PACK_LEVEL: i32 = 3;
/// Most bytes that a packed message may unpack to: twice the largest message with all attributes.
const UNPACKED_MAX_BYTES: usize = 8 * 1024 * 1024;

/// A held message with what its store remembers of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) held: Held,
    /// Hand-overs already tried and deferred.
    pub(super) attempts: u32,
    /// An earlier loan lapsed before the message was sent anew.
    pub(super) lapsed: bool,
    /// Why it is buried, if it is.
    pub(super) why: Option<String>,
}

/// The first line. The message's body is empty in it.
#[derive(Serialize, Deserialize)]
struct Head {
    v: u8,
    held: Held,
    attempts: u32,
    lapsed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Letter {
    /// A message that was just put.
    pub(super) fn new(held: Held) -> Self {
        Self {
            held,
            attempts: 0,
            lapsed: false,
            why: None,
        }
    }

    /// The text to send; `None` if even packed it is longer than `max` bytes.
    pub(super) fn write(&self, max: usize) -> Option<String> {
        let mut held = self.held.clone();
        let body = std::mem::take(&mut held.message.body);
        let head = Head {
            v: VERSION,
            held,
            attempts: self.attempts,
            lapsed: self.lapsed,
            why: self.why.clone(),
        };
        let mut text = serde_json::to_string(&head).ok()?;
        text.push('\n');
        match simdutf8::basic::from_utf8(&body) {
            Ok(plain) if text.len() + plain.len() <= max && is_plain(&text) && is_plain(plain) => {
                text.push_str(plain);
                Some(text)
            }
            _ => pack(text, &body).filter(|packed| packed.len() <= max),
        }
    }

    /// The message to send, of at most `max` bytes; `None` if it is longer even if packed. The
    /// group of its producer stays with it, so that a hold is as fair as the queue it came from.
    pub(super) fn outgoing(&self, max: usize, delay: Duration) -> Option<Outgoing> {
        Some(Outgoing {
            body: self.write(max)?,
            group: travel::group(&self.held.message),
            delay,
            ..Outgoing::default()
        })
    }

    /// The reverse of [`Letter::write`]. The fault quotes nothing: it may be personal.
    pub(super) fn read(text: &str) -> Result<Self, &'static str> {
        let (head, rest) = text.split_once('\n').ok_or("it has no first line")?;
        if head != PACKED {
            return Self::of(head.as_bytes(), rest.to_owned().into());
        }
        let frame = STANDARD.decode(rest).map_err(|_| "it is no base64")?;
        let whole = zstd::bulk::decompress(&frame, UNPACKED_MAX_BYTES);
        let whole = Bytes::from(whole.map_err(|_| "it cannot be unpacked")?);
        let end = memchr::memchr(b'\n', &whole).ok_or("it has no first line")?;
        Self::of(&whole[..end], whole.slice(end + 1..))
    }

    fn of(head: &[u8], body: Bytes) -> Result<Self, &'static str> {
        let head: Head =
            serde_json::from_slice(head).map_err(|_| "its first line was not written by us")?;
        if head.v != VERSION {
            return Err("a later version wrote it");
        }
        let mut held = head.held;
        held.message.body = body;
        Ok(Self {
            held,
            attempts: head.attempts,
            lapsed: head.lapsed,
            why: head.why,
        })
    }
}

fn pack(head: String, body: &[u8]) -> Option<String> {
    let mut whole = head.into_bytes();
    whole.extend_from_slice(body);
    let frame = zstd::bulk::compress(&whole, PACK_LEVEL).ok()?;
    let mut text = format!("{PACKED}\n");
    STANDARD.encode_string(frame, &mut text);
    Some(text)
}

/// Whether SQS takes it as it is: the characters of XML 1.0.
fn is_plain(text: &str) -> bool {
    let plain = |c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..);
    text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::queues::BYTES_MAX;
    use crate::hold::sqs::lane::tests::held;

    fn letter(body: &[u8]) -> Letter {
        let mut letter = Letter::new(held("a", "2026-11-22T23:00:00.123456789Z"));
        letter.held.message.body = Bytes::copy_from_slice(body);
        let attributes = &mut letter.held.message.attributes;
        attributes.insert("n".to_owned(), "a\u{0}\u{FFFE}\n한글".to_owned());
        letter
    }

    fn round(letter: &Letter) -> String {
        let text = letter.write(BYTES_MAX).unwrap();
        assert!(Letter::read(&text).unwrap() == *letter, "{letter:?}");
        assert!(is_plain(&text) && text.len() <= BYTES_MAX);
        text
    }

    #[test]
    fn a_text_travels_as_it_is_behind_one_line_and_anything_else_is_packed() {
        let mut plain = letter("두 줄\r\n\t{} \u{1F600}".as_bytes());
        plain.held.message.attributes.clear();
        (plain.attempts, plain.lapsed) = (3, true);
        plain.why = Some("no answer".to_owned());
        let text = round(&plain);
        assert!(text.ends_with("\n두 줄\r\n\t{} \u{1F600}") && text.starts_with("{\"v\":1,"));
        for odd in [&b"\0"[..], &[0xFF, 0xFE], "\u{FFFF}".as_bytes(), b"a\x08"] {
            assert!(round(&letter(odd)).starts_with(PACKED), "{odd:?}");
        }
        assert!(
            round(&letter(b"")).starts_with(PACKED),
            "an attribute is odd"
        );
    }

    #[test]
    fn a_long_text_is_packed_and_what_cannot_be_packed_enough_is_not_written() {
        let long = vec![b'x'; BYTES_MAX];
        assert!(round(&letter(&long)).len() < BYTES_MAX / 100);
        let mut dice = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = std::iter::repeat_with(|| dice.u8(..))
            .take(BYTES_MAX)
            .collect();
        assert_eq!(letter(&noise).write(BYTES_MAX), None);
        round(&letter(&noise[..BYTES_MAX / 2]));
    }

    #[test]
    fn what_we_did_not_write_is_told_without_quoting_it() {
        let good = letter(b"x").write(BYTES_MAX).unwrap();
        let later = good.replacen("{\"v\":1", "{\"v\":2", 1);
        let bombs = zstd::bulk::compress(&vec![0; UNPACKED_MAX_BYTES + 1], 1).unwrap();
        let bomb = format!("{PACKED}\n{}", STANDARD.encode(bombs));
        let torn = format!("{PACKED}\nAAAA");
        for text in ["", "x", "{}\nx", "01012345678\n", &later, &bomb, &torn] {
            let fault = Letter::read(text).unwrap_err();
            assert!(!fault.contains("0101"), "{fault}");
        }
    }
}

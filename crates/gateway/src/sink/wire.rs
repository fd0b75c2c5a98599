//! The JSON form of a message that leaves, shared by the sinks that speak JSON.
//!
//! Written by hand, in one pass and into one buffer: at hundreds of thousands of messages a second
//! this is most of what a sink does. A test holds it to what `serde_json` writes, byte for byte.

mod text;

use std::io::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use self::text::{push_text, push_word};
use crate::sink::Outbound;

/// Bytes of one message beside its body, about: names, quotes, id, recipient, instants.
const HEAD_BYTES: usize = 320;

/// Writes messages as JSON.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// The end of a permit, and how it is written: those of one batch are mostly the same.
    end: Option<(Timestamp, String)>,
}

impl Wire {
    /// Bytes that a batch takes, about.
    pub(super) fn size_of<'a>(batch: impl Iterator<Item = &'a Outbound>) -> usize {
        batch
            .map(|one| HEAD_BYTES + one.message().body.len())
            .sum::<usize>()
    }

    /// Writes the id of one message.
    pub(super) fn push_id(&self, outbound: &Outbound, out: &mut Vec<u8>) {
        push_text(outbound.message().id.as_str(), out);
    }

    /// Writes the members of one message, without braces: `"id":..` to `"body":..`, with the
    /// recipient in clear, because this is the delivery itself. A body of UTF-8 goes as text,
    /// anything else as `body_base64` (RFC 4648 section 4): either way byte for byte.
    pub(super) fn push(&mut self, outbound: &Outbound, out: &mut Vec<u8>) {
        let message = outbound.message();
        out.extend_from_slice(b"\"id\":");
        self.push_id(outbound, out);
        out.extend_from_slice(b",\"recipient\":");
        push_text(message.recipient.expose(), out);
        out.extend_from_slice(b",\"channel\":");
        push_word(message.channel.as_str(), out);
        out.extend_from_slice(b",\"purpose\":");
        push_word(message.purpose.as_str(), out);
        if let Some(campaign) = &message.campaign {
            out.extend_from_slice(b",\"campaign\":");
            push_text(campaign, out);
        }
        // Writing to a buffer in memory cannot fail.
        let _ = write!(out, ",\"attempt\":{}", outbound.attempt());
        out.extend_from_slice(b",\"not_after\":");
        push_word(self.written(outbound.permit().not_after()), out);
        out.extend_from_slice(b",\"content_type\":");
        push_text(&message.content_type, out);
        out.extend_from_slice(b",\"attributes\":{");
        for (place, (name, value)) in message.attributes.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            push_text(name, out);
            out.push(b':');
            push_text(value, out);
        }
        match std::str::from_utf8(&message.body) {
            Ok(text) => {
                out.extend_from_slice(b"},\"body\":");
                push_text(text, out);
            }
            Err(_) => {
                out.extend_from_slice(b"},\"body_base64\":");
                push_word(&STANDARD.encode(&message.body), out);
            }
        }
    }

    fn written(&mut self, end: Timestamp) -> &str {
        if self.end.as_ref().is_none_or(|(known, _)| *known != end) {
            self.end = None;
        }
        let (_, written) = self.end.get_or_insert_with(|| (end, end.to_string()));
        written
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use nightgate_core::{Channel, Message, Purpose};
    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;
    use crate::sink::testing::{decided, message};

    /// What a message looks like, in the words of `serde`.
    #[derive(Serialize)]
    pub(in crate::sink) struct Reference<'a> {
        id: &'a str,
        recipient: &'a str,
        channel: Channel,
        purpose: Purpose,
        #[serde(skip_serializing_if = "Option::is_none")]
        campaign: Option<&'a str>,
        attempt: u32,
        not_after: Timestamp,
        content_type: &'a str,
        attributes: &'a BTreeMap<String, String>,
        #[serde(flatten)]
        body: Body<'a>,
    }

    #[derive(Serialize)]
    enum Body<'a> {
        #[serde(rename = "body")]
        Text(&'a str),
        #[serde(rename = "body_base64")]
        Base64(String),
    }

    impl<'a> From<&'a Outbound> for Reference<'a> {
        fn from(outbound: &'a Outbound) -> Self {
            let message = outbound.message();
            Self {
                id: message.id.as_str(),
                recipient: message.recipient.expose(),
                channel: message.channel,
                purpose: message.purpose,
                campaign: message.campaign.as_deref(),
                attempt: outbound.attempt(),
                not_after: outbound.permit().not_after(),
                content_type: &message.content_type,
                attributes: &message.attributes,
                body: match std::str::from_utf8(&message.body) {
                    Ok(text) => Body::Text(text),
                    Err(_) => Body::Base64(STANDARD.encode(&message.body)),
                },
            }
        }
    }

    /// Messages with anything that may stand in a body, a campaign and an attribute.
    pub(in crate::sink) fn any_message() -> impl Strategy<Value = Message> {
        let body = prop_oneof![
            any::<String>().prop_map(String::into_bytes),
            "[ -~]{0,80}[\"\\\\\n\u{0}]?[가-힣 ]{0,40}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..200),
        ];
        let attributes = proptest::collection::btree_map("\\PC{1,20}", any::<String>(), 0..4);
        let campaign = proptest::option::of("\\PC{1,30}");
        let facts = (body, campaign, attributes, 0..Channel::ALL.len());
        facts.prop_map(|(body, campaign, attributes, channel)| Message {
            campaign: campaign.map(Into::into),
            attributes,
            channel: Channel::ALL[channel],
            content_type: "text/plain; charset=\"utf-8\"".into(),
            ..message("m-\"1\"\\", &body)
        })
    }

    proptest! {
        #[test]
        fn what_is_written_by_hand_is_what_serde_writes(messages in
            proptest::collection::vec(any_message(), 1..4))
        {
            let mut wire = Wire::default();
            for (hours, message) in (0..).zip(messages) {
                let now = "2026-11-22T23:30:00.25+09:00".parse::<Timestamp>().unwrap();
                let now = now + jiff::SignedDuration::from_hours(hours / 2);
                let until = now + jiff::SignedDuration::from_hours(1);
                let channel = message.channel;
                // Decided as a text message: which rules a channel has is not the question here.
                let outbound = decided(Message { channel: Channel::Sms, ..message }, now, until);
                let mut written = vec![b'{'];
                wire.push(&outbound, &mut written);
                written.push(b'}');
                let reference = serde_json::to_vec(&Reference::from(&outbound)).unwrap();
                prop_assert_eq!(String::from_utf8(written), String::from_utf8(reference));
                let named = serde_json::to_string(&channel).unwrap();
                prop_assert_eq!(named, format!("\"{}\"", channel.as_str()));
            }
        }
    }
}

//! The JSON form of a message that leaves, shared by the sinks that speak JSON.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use nightgate_core::{Channel, Purpose};
use serde::Serialize;

use crate::sink::Outbound;

/// One message on its way out. The recipient is in clear: this is the delivery itself.
#[derive(Debug, Serialize)]
pub(super) struct WireMessage<'a> {
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
    body: WireBody<'a>,
}

/// UTF-8 goes as text, anything else as base64 (RFC 4648 section 4): either way byte for byte.
#[derive(Debug, Serialize)]
enum WireBody<'a> {
    #[serde(rename = "body")]
    Text(&'a str),
    #[serde(rename = "body_base64")]
    Base64(String),
}

impl<'a> From<&'a Outbound> for WireMessage<'a> {
    fn from(outbound: &'a Outbound) -> Self {
        let message = outbound.message();
        let body = match std::str::from_utf8(&message.body) {
            Ok(text) => WireBody::Text(text),
            Err(_) => WireBody::Base64(STANDARD.encode(&message.body)),
        };
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
            body,
        }
    }
}

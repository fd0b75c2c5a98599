//! What a webhook can be told: asked here before anything is made, and again by the sink.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::sections::WebhookConfig;
use crate::secret::Secret;

/// Shortest key that Standard Webhooks allows.
const KEY_MIN_BYTES: usize = 24;
/// Headers the sink sets itself, beside every `webhook-*` and `nightgate-*`.
const OWN_HEADERS: [&str; 6] = [
    "content-type",
    "content-length",
    "host",
    "idempotency-key",
    "ttl",
    "transfer-encoding",
];

impl WebhookConfig {
    /// Most messages in one request: at 1 MiB a body, 1 GiB at worst.
    pub const BATCH_MAX_LIMIT: usize = 1000;
    /// Longest time for one request: a loan must outlast it twice.
    pub const TIMEOUT_LIMIT: Duration = Duration::from_secs(120);
    /// Most headers.
    pub const HEADERS_MAX: usize = 32;
    /// What a signing key must be, for faults.
    pub const KEY_RULE: &str =
        "must be \"whsec_\" and base64 of at least 24 bytes: `openssl rand -base64 32`";

    /// Whether the sink sets the header `name`, in any case, itself.
    #[must_use]
    pub fn is_own_header(name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        name.starts_with("webhook-")
            || name.starts_with("nightgate-")
            || OWN_HEADERS.contains(&name.as_str())
    }

    /// The key in `secret`: base64, `whsec_` before it or not; `None` if that is no key.
    #[must_use]
    pub fn signing_key(secret: &Secret) -> Option<Vec<u8>> {
        let text = secret.expose();
        let text = text.strip_prefix("whsec_").unwrap_or(text);
        let key = STANDARD.decode(text).ok()?;
        (key.len() >= KEY_MIN_BYTES).then_some(key)
    }
}

//! Signatures after the Standard Webhooks specification
//! (<https://www.standardwebhooks.com>, version 1.0.0): `v1,` and the base64 of an HMAC-SHA-256.

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The header that names a request.
pub(super) const ID: &str = "webhook-id";
/// The header that dates it, in seconds since 1970.
pub(super) const TIMESTAMP: &str = "webhook-timestamp";
/// The header that proves both and the body.
pub(super) const SIGNATURE: &str = "webhook-signature";

/// Signs with one key.
pub(super) struct Signer(Key);

impl Signer {
    pub(super) fn new(key: &[u8]) -> Self {
        Self(Key::new(HMAC_SHA256, key))
    }

    /// The signature of `body`, sent as `id` at `seconds`. Nothing is copied.
    pub(super) fn sign(&self, id: &str, seconds: &str, body: &[u8]) -> String {
        let mut context = Context::with_key(&self.0);
        for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
            context.update(part);
        }
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

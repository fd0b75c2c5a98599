//! Hashes of messages, recipients and campaigns, under a key that only the file knows.

use siphasher::sip::SipHasher13;

use super::leaf::HASH_BITS;

/// Under what a receipt is found. Each kind is hashed under a key of its own.
#[derive(Clone, Debug)]
pub(in crate::receipt) struct Hasher {
    message: SipHasher13,
    recipient: SipHasher13,
    campaign: SipHasher13,
}

impl Hasher {
    /// The hasher of the file whose secret is `key`.
    pub(in crate::receipt) fn new(key: &[u8; 16]) -> Self {
        let root = SipHasher13::new_with_key(key);
        let of = |kind: &str| {
            let half = |half: &str| root.hash(format!("{kind} {half}").as_bytes());
            SipHasher13::new_with_keys(half("0"), half("1"))
        };
        Self {
            message: of("message"),
            recipient: of("recipient"),
            campaign: of("campaign"),
        }
    }

    /// In the lower half of the hashes: whoever asks for many messages passes over half the index.
    pub(in crate::receipt) fn message(&self, id: &str) -> u64 {
        half(&self.message, id)
    }

    pub(in crate::receipt) fn recipient(&self, key: &str) -> u64 {
        half(&self.recipient, key) | UPPER_HALF
    }

    pub(in crate::receipt) fn campaign(&self, name: &str) -> u64 {
        half(&self.campaign, name) | UPPER_HALF
    }
}

/// The bit of the hashes of recipients and campaigns.
const UPPER_HALF: u64 = 1 << (HASH_BITS - 1);

fn half(hasher: &SipHasher13, text: &str) -> u64 {
    hasher.hash(text.as_bytes()) >> (u64::BITS - HASH_BITS + 1)
}

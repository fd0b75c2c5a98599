//! The keyed hash that stands for an id.

use std::fmt;

use siphasher::sip::SipHasher13;

/// The secret of one store: nobody who chooses ids can choose hashes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u8; 16]);

impl HashKey {
    /// SipHash-1-3 of `id` under this key.
    #[inline]
    pub fn hash(&self, id: &[u8]) -> u64 {
        SipHasher13::new_with_key(&self.0).hash(id)
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

//! Texts that many messages of one batch share: campaigns, zones, content types.

use std::sync::Arc;

/// Texts kept at once. A batch names few; one that comes back after it was displaced is copied
/// again.
const SLOTS: usize = 256;

/// One text in memory for all messages that bring the same. By default it shares nothing, for who
/// reads one message only.
#[derive(Debug, Default)]
pub(super) struct Words {
    slots: Vec<Option<Arc<str>>>,
}

impl Words {
    /// Words that are shared from now on, and none of before. Texts of one batch are counted down
    /// by whoever stores it while the next is read: were they the same, two cores would fight over
    /// each count.
    pub(super) fn renew(&mut self) {
        self.slots.clear();
        self.slots.resize(SLOTS, None);
    }

    pub(super) fn share(&mut self, text: &str) -> Arc<str> {
        let first = hash(text.as_bytes());
        for step in 0..2 {
            let Some(slot) = self.slots.get_mut((first + step) % SLOTS) else {
                return text.into();
            };
            match slot {
                Some(known) if **known == *text => return Arc::clone(known),
                Some(_) => {}
                None => return Arc::clone(slot.insert(text.into())),
            }
        }
        let text = Arc::from(text);
        self.slots[first] = Some(Arc::clone(&text));
        text
    }
}

/// Where a text is looked for: spread by its last bytes, in which names of one kind differ.
fn hash(text: &[u8]) -> usize {
    let mut last = [0; 8];
    let length = text.len().min(last.len());
    last[..length].copy_from_slice(&text[text.len() - length..]);
    let mixed = u64::from_le_bytes(last) ^ (text.len() as u64);
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_one_place_in_memory_until_they_are_renewed() {
        let mut words = Words::default();
        assert!(!Arc::ptr_eq(&words.share("spring"), &words.share("spring")));
        words.renew();
        let first = words.share("spring");
        assert!(Arc::ptr_eq(&first, &words.share("spring")));
        words.renew();
        assert!(!Arc::ptr_eq(&first, &words.share("spring")));
    }

    #[test]
    fn any_number_of_texts_come_back_as_they_were() {
        let mut words = Words::default();
        words.renew();
        for number in (0..10_000).chain(0..10_000) {
            let text = format!("campaign-{number}");
            assert_eq!(*words.share(&text), text);
        }
        assert_eq!(&*words.share(""), "");
        assert_eq!(words.slots.len(), SLOTS);
    }
}

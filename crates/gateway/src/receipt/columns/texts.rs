//! A column of texts in the making: their lengths, and what all begin with once.

use super::bytes::put;

/// Texts one after another. What all of them begin with is written once.
#[derive(Default)]
pub(super) struct Texts {
    /// One more than the bytes of each text; 0 where there is none.
    lengths: Vec<usize>,
    bytes: Vec<u8>,
}

impl Texts {
    /// Adds one text, or that there is none.
    pub(super) fn push(&mut self, text: Option<&str>) {
        self.lengths.push(text.map_or(0, |text| text.len() + 1));
        self.bytes
            .extend_from_slice(text.unwrap_or_default().as_bytes());
    }

    /// Forgets the texts and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.lengths.clear();
        self.bytes.clear();
    }

    fn each(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        let present = self.lengths.iter().filter(|length| **length > 0);
        present.map(move |length| {
            let (text, left) = rest.split_at(length - 1);
            rest = left;
            text
        })
    }

    /// The length of what all begin with.
    fn lead(&self) -> usize {
        let mut texts = self.each();
        let mut lead = texts.next().unwrap_or_default();
        for text in texts {
            if !text.starts_with(lead) {
                let same = lead
                    .iter()
                    .zip(text)
                    .take_while(|(one, other)| one == other);
                lead = &lead[..same.count()];
            }
        }
        lead.len()
    }

    /// Writes the column of lengths and the one of texts.
    pub(super) fn write(&self, lengths: &mut Vec<u8>, bytes: &mut Vec<u8>) {
        let lead = self.lead();
        for length in &self.lengths {
            put(
                lengths,
                length.saturating_sub(if *length > 0 { lead } else { 0 }) as u64,
            );
        }
        put(bytes, lead as u64);
        bytes.extend_from_slice(self.each().next().map_or(&[], |text| &text[..lead]));
        if lead == 0 {
            bytes.extend_from_slice(&self.bytes);
            return;
        }
        bytes.reserve(self.bytes.len());
        for text in self.each() {
            bytes.extend_from_slice(&text[lead..]);
        }
    }
}

//! Texts of one length that differ only in hexadecimal digits: phone numbers, counters, UUIDs.
//!
//! Random digits are what a general compressor is slowest at and gains least on; packed two to a
//! byte they need no compressor at all. The template is the text that rows share, with a zero byte
//! where they differ. Neighbours that both differ make one byte of a row, left to right; what is
//! left over follows, two to a byte.

/// Longest text, in bytes: a UUID in braces fits; what is longer seldom differs in digits alone.
pub(super) const WIDTH_MAX: usize = 64;
/// What stands in a template where rows differ.
const OPEN: u8 = 0;

/// Both digits of a byte.
const PAIRS: [[u8; 2]; 256] = pairs();

const fn pairs() -> [[u8; 2]; 256] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
}

/// Where rows differ.
pub(super) struct Template<'a> {
    text: &'a [u8],
    /// First of two neighbours.
    pairs: Vec<u8>,
    singles: Vec<u8>,
}

impl<'a> Template<'a> {
    /// Reads a template; `None` when it is too long or nothing in it is open.
    pub(super) fn new(text: &'a [u8]) -> Option<Self> {
        if text.len() > WIDTH_MAX || !text.contains(&OPEN) {
            return None;
        }
        let (mut pairs, mut singles) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < text.len() {
            if text[at] != OPEN {
                at += 1;
            } else if text.get(at + 1) == Some(&OPEN) {
                pairs.push(at as u8);
                at += 2;
            } else {
                singles.push(at as u8);
                at += 1;
            }
        }
        Some(Self {
            text,
            pairs,
            singles,
        })
    }

    /// The template that fits all of `rows`, as text; false when there is none.
    pub(super) fn find<'r>(
        found: &mut Vec<u8>,
        mut rows: impl Iterator<Item = Option<&'r str>>,
    ) -> bool {
        let Some(first) = rows.next().flatten().map(str::as_bytes) else {
            return false;
        };
        if first.len() > WIDTH_MAX || first.contains(&OPEN) {
            return false;
        }
        let (mut differs, mut odd) = ([0; WIDTH_MAX], [false; WIDTH_MAX]);
        let mut note = |row: &[u8]| {
            let notes = differs.iter_mut().zip(&mut odd);
            for ((&byte, &other), (differs, odd)) in row.iter().zip(first).zip(notes) {
                *differs |= byte ^ other;
                let digit = byte.wrapping_sub(b'0') < 10 || byte.wrapping_sub(b'a') < 6;
                *odd |= !digit;
            }
        };
        note(first);
        for row in rows {
            match row.map(str::as_bytes) {
                Some(row) if row.len() == first.len() => note(row),
                _ => return false,
            }
        }
        found.clear();
        for (at, &byte) in first.iter().enumerate() {
            if differs[at] != 0 && odd[at] {
                return false;
            }
            found.push(if differs[at] == 0 { byte } else { OPEN });
        }
        found.contains(&OPEN)
    }

    pub(super) fn width(&self) -> usize {
        self.text.len()
    }

    /// Bytes of one packed row.
    pub(super) fn row_bytes(&self) -> usize {
        self.pairs.len() + self.singles.len().div_ceil(2)
    }

    /// Packs a text that fits.
    pub(super) fn write(&self, out: &mut Vec<u8>, row: &[u8]) {
        let pair = |&at: &u8| digit(row[usize::from(at)]) << 4 | digit(row[usize::from(at) + 1]);
        out.extend(self.pairs.iter().map(pair));
        let single = |&at: &u8| digit(row[usize::from(at)]);
        let both = |two: &[u8]| single(&two[0]) << 4 | two.get(1).map_or(0, single);
        out.extend(self.singles.chunks(2).map(both));
    }

    /// Adds the text behind `packed`, which has [`Template::row_bytes`].
    pub(super) fn read(&self, text: &mut Vec<u8>, packed: &[u8]) {
        let start = text.len();
        text.extend_from_slice(self.text);
        let row = &mut text[start..];
        let (pairs, singles) = packed.split_at(self.pairs.len());
        for (&at, &byte) in self.pairs.iter().zip(pairs) {
            let at = usize::from(at);
            row[at..at + 2].copy_from_slice(&PAIRS[usize::from(byte)]);
        }
        for (two, &byte) in self.singles.chunks(2).zip(singles) {
            for (&at, digit) in two.iter().zip(PAIRS[usize::from(byte)]) {
                row[usize::from(at)] = digit;
            }
        }
    }
}

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> u8 {
    // Letters stand at 0x61, so their low half is one to six.
    (byte & 15) + 9 * (byte >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of a row, when a template fits.
    #[track_caller]
    fn packs(rows: &[&str]) -> Option<usize> {
        let mut found = Vec::new();
        if !Template::find(&mut found, rows.iter().map(|row| Some(*row))) {
            return None;
        }
        let template = Template::new(&found).unwrap();
        let mut text = Vec::new();
        for row in rows {
            let mut packed = Vec::new();
            template.write(&mut packed, row.as_bytes());
            assert_eq!(packed.len(), template.row_bytes());
            template.read(&mut text, &packed);
        }
        assert_eq!(String::from_utf8(text).unwrap(), rows.concat());
        Some(template.row_bytes())
    }

    #[test]
    fn phone_numbers_take_four_bytes_and_uuids_sixteen() {
        assert_eq!(
            packs(&["+821012345678", "+821098765432", "+821000019021"]),
            Some(4)
        );
        let uuids = [
            "b3a1f0de-8c55-4d2e-9b1f-00c2aa9e71d3",
            "0f9e8d7c-6b5a-4f3e-8d2c-1b0a99887766",
            "5a5a0000-1111-4222-b333-444455556666",
            "4b0b1e2d-3c4f-4a5b-a697-8899aabbccdd",
        ];
        assert_eq!(packs(&uuids), Some(16));
        assert_eq!(packs(&["msg-000000009", "msg-000000010"]), Some(1));
        assert_eq!(packs(&["a-1-x-2-y", "a-2-x-3-y"]), Some(1));
    }

    #[test]
    fn texts_that_differ_in_length_or_in_more_than_digits_have_no_template() {
        assert_eq!(packs(&["1", "12"]), None);
        assert_eq!(packs(&["A1", "B1"]), None);
        assert_eq!(packs(&["밤1", "낮2"]), None);
        assert_eq!(packs(&["same", "same"]), None);
        let long = "0".repeat(WIDTH_MAX);
        assert_eq!(packs(&[&(long.clone() + "1"), &(long + "2")]), None);
        assert!(!Template::find(
            &mut Vec::new(),
            [Some("1"), None].into_iter()
        ));
    }

    #[test]
    fn a_template_of_nothing_open_is_none() {
        assert!(Template::new(b"").is_none() && Template::new(b"abc").is_none());
        assert!(Template::new(&[0; WIDTH_MAX + 1]).is_none());
    }
}

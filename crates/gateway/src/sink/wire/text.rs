//! JSON strings, copied in stretches that need no escape.

/// Bytes looked at together: as many as compilers put in one register everywhere.
const STRIDE: usize = 16;

/// Writes `text` as a JSON string.
pub(super) fn push_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (clean, dirty) = rest.split_at(clean(rest));
        out.extend_from_slice(clean);
        let Some((&byte, behind)) = dirty.split_first() else {
            break;
        };
        escape(byte, out);
        rest = behind;
    }
    out.push(b'"');
}

/// Writes a text that is known to hold nothing to escape as a JSON string.
pub(super) fn push_word(text: &str, out: &mut Vec<u8>) {
    debug_assert_eq!(clean(text.as_bytes()), text.len());
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// How many bytes at the front need no escape.
fn clean(bytes: &[u8]) -> usize {
    let (strides, _) = bytes.as_chunks::<STRIDE>();
    let is_dirty = |stride: &[u8; STRIDE]| {
        // Without a branch inside, so that the whole stride is looked at at once.
        stride
            .iter()
            .fold(false, |dirty, byte| dirty | needs_escape(*byte))
    };
    let skipped = strides.iter().position(is_dirty).unwrap_or(strides.len());
    let from = skipped * STRIDE;
    let place = bytes[from..].iter().position(|byte| needs_escape(*byte));
    place.map_or(bytes.len(), |place| from + place)
}

/// RFC 8259 section 7, the short form where there is one.
fn escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 0xf)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_escaped_as_serde_escapes_it_wherever_it_stands() {
        for character in (0..=0x17f).filter_map(char::from_u32) {
            for before in [0, 1, 15, 16, 17, 40] {
                let text = format!("{}{character}{character} end", "a".repeat(before));
                let mut written = Vec::new();
                push_text(&text, &mut written);
                let reference = serde_json::to_vec(&text).unwrap();
                assert_eq!(written, reference, "{character:?} behind {before}");
            }
        }
    }
}

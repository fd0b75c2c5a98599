//! Which numbers share what the numbering plans say of them.
//!
//! The plans are slow (0.1 to 1 ms a number: they make their matchers anew for every look), but
//! they look at few digits. Numbers of one length that begin with the same decisive digits form a
//! [`Range`]; one of them stands for all. The tables are derived from the patterns and hold for one
//! version of the plans: under any other, every number takes the long road.

mod table;

use std::collections::HashMap;
use std::sync::LazyLock;

use table::{DEEPER, DERIVED_FROM, SEVERAL, TRUNK_OTHER, TRUNK_ZERO, TRUNKLESS};

/// Most digits of an international number (ITU-T E.164).
const DIGITS_MAX: usize = 15;
/// Fewest digits behind a calling code that the plans read.
const NATIONAL_MIN: usize = 2;
/// Length of an American number as E.164: `+1` and ten digits.
const AMERICAN_BYTES: usize = 12;

/// Numbers of one length with one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Range {
    /// The decisive digits, calling code first. No code begins with a zero, so none is lost.
    lead: u32,
    /// Digits of the whole number; 0 where the length decides nothing.
    length: u8,
}

/// `+` and digits that are their own canonical form, valid or not: what the plans would cut off
/// such a number (a trunk prefix behind the calling code) is not there.
pub(crate) fn is_canonical(text: &str) -> bool {
    split(text).is_some()
}

/// The range of a number of which [`is_canonical`] holds, as far as the tables reach.
pub(crate) fn of(text: &str) -> Option<Range> {
    let (code, national) = split(text)?;
    let digits = text.get(1..)?;
    let Some((_, lengths)) = SEVERAL.iter().find(|(several, _)| *several == code) else {
        return Some(Range {
            lead: u32::from(code),
            length: 0,
        });
    };
    if !lengths.contains(&national.len()) {
        return None;
    }
    let mut end = digits.len() - national.len();
    let mut lead = u32::from(code);
    while let Some(more) = deeper(lead) {
        end += more;
        lead = digits.get(..end)?.parse().ok()?;
    }
    Some(Range {
        lead,
        length: u8::try_from(digits.len()).ok()?,
    })
}

/// `text` as E.164 when it reads as an American number, separators aside: `+1` and ten digits or,
/// at home in North America, ten digits. Whether it is a valid one is for its range to say.
pub(crate) fn american(text: &str, home: &str) -> Option<[u8; AMERICAN_BYTES]> {
    let rest = match text.strip_prefix('+') {
        Some(rest) => rest.strip_prefix('1')?,
        None if home == "US" || home == "CA" => text,
        None => return None,
    };
    let mut number = *b"+10000000000";
    let mut length = 2;
    for byte in rest.bytes() {
        match byte {
            b'0'..=b'9' => {
                *number.get_mut(length)? = byte;
                length += 1;
            }
            b'-' | b'(' | b')' | b' ' | b'.' => {}
            _ => return None,
        }
    }
    // An area code begins with 2 to 9; before anything else, a trunk prefix may stand.
    (length == AMERICAN_BYTES && number[2] >= b'2').then_some(number)
}

/// Calling code and national digits of a number that is its own canonical form.
fn split(text: &str) -> Option<(u16, &str)> {
    let digits = text.strip_prefix('+')?;
    if digits.len() > DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // No calling code begins another, so at most one length is found.
    let (code, national, trunk) = (1..=3).find_map(|length| {
        let (code, national) = digits.split_at_checked(length)?;
        let code = code.parse().ok().filter(|_| !digits.starts_with('0'))?;
        Some((code, national, trunks().get(&code)?))
    })?;
    let cut = trunk.iter().any(|trunk| national.starts_with(trunk));
    (national.len() >= NATIONAL_MIN && !cut).then_some((code, national))
}

/// What the plans may cut off or rewrite behind each calling code; nothing under other plans than
/// those of the tables.
fn trunks() -> &'static HashMap<u16, &'static [&'static str]> {
    static TRUNKS: LazyLock<HashMap<u16, &[&str]>> = LazyLock::new(|| {
        if namba::DATA_VERSION != DERIVED_FROM {
            return HashMap::new();
        }
        let none = TRUNKLESS.map(|code| (code, [].as_slice()));
        let zero = TRUNK_ZERO.map(|code| (code, ["0"].as_slice()));
        none.into_iter().chain(zero).chain(TRUNK_OTHER).collect()
    });
    &TRUNKS
}

/// How many more digits matter behind `lead`.
fn deeper(lead: u32) -> Option<usize> {
    static MORE: LazyLock<HashMap<u32, usize>> = LazyLock::new(|| {
        let leads = DEEPER.iter();
        leads
            .flat_map(|(more, leads)| leads.iter().map(|lead| (*lead, *more)))
            .collect()
    });
    MORE.get(&lead).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else every answer is still right, and a thousand times slower: run `tables/ranges.py`.
    #[test]
    fn the_tables_were_derived_from_the_plans_in_use() {
        assert_eq!(namba::DATA_VERSION, DERIVED_FROM);
    }

    #[test]
    fn numbers_of_one_range_share_it_and_a_trunk_prefix_has_none() {
        assert_eq!(of("+12127365000"), of("+12127365999"));
        assert_ne!(of("+12127365000"), of("+14167365000"));
        assert!(is_canonical("+14167365000"));
        for text in [
            "+440207946001",
            "+11212736500",
            "+82010123456",
            "+999123456",
        ] {
            assert!(!is_canonical(text) && of(text).is_none(), "{text}");
        }
    }
}

//! Numbers and instants as bytes.

use jiff::Timestamp;

/// Seconds in a day, for instants that differ by whole days.
const DAY: i64 = 86_400;

/// Writes `number` in 7 bits a byte, lowest first.
pub(in crate::receipt) fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

const fn zigzag(number: i64) -> u64 {
    (number.wrapping_shl(1) ^ (number >> 63)).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

/// Reads what stands in bytes, from the front. `None` where they end too early.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::receipt) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    /// A number that [`put`] wrote.
    pub(in crate::receipt) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(in crate::receipt) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(in crate::receipt) fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }
}

// How an instant follows from the one before it, in the two lowest bits. Stored: never renumber.
const NONE: u64 = 0;
const DAYS: u64 = 1;
const SECONDS: u64 = 2;
const NANOS: u64 = 3;

/// Instants one after another, each told by what it adds to the one before: nothing takes a byte,
/// whole days take one or two.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::receipt) struct Pace {
    second: i64,
    nano: i64,
}

impl Pace {
    /// Writes `at`.
    pub(in crate::receipt) fn put(&mut self, bytes: &mut Vec<u8>, at: Option<Timestamp>) {
        let Some(at) = at else {
            return put(bytes, NONE);
        };
        let (second, nano) = (at.as_second(), i64::from(at.subsec_nanosecond()));
        let (seconds, nanos) = (second - self.second, nano - self.nano);
        *self = Self { second, nano };
        if nanos != 0 {
            put(bytes, zigzag(seconds) << 2 | NANOS);
            put(bytes, zigzag(nanos));
        } else if seconds % DAY == 0 {
            put(bytes, zigzag(seconds / DAY) << 2 | DAYS);
        } else {
            put(bytes, zigzag(seconds) << 2 | SECONDS);
        }
    }

    /// Reads the next instant; the outer `None` is for bytes that hold none.
    pub(in crate::receipt) fn next(&mut self, bytes: &mut Cursor<'_>) -> Option<Option<Timestamp>> {
        if !self.step(bytes)? {
            return Some(None);
        }
        let nano = i32::try_from(self.nano).ok()?;
        Timestamp::new(self.second, nano).ok().map(Some)
    }

    /// Passes over the next instant; says whether there is one.
    pub(in crate::receipt) fn step(&mut self, bytes: &mut Cursor<'_>) -> Option<bool> {
        let number = bytes.number()?;
        let added = unzigzag(number >> 2);
        let seconds = match number & 3 {
            NONE => return (number == NONE).then_some(false),
            DAYS => added.checked_mul(DAY)?,
            SECONDS => added,
            _ => {
                let nanos = unzigzag(bytes.number()?);
                self.nano = self.nano.checked_add(nanos)?;
                added
            }
        };
        self.second = self.second.checked_add(seconds)?;
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_reads_back() {
        let mut bytes = Vec::new();
        let numbers = [0, 1, 127, 128, 16_383, 16_384, u64::MAX >> 1, u64::MAX];
        for number in numbers {
            put(&mut bytes, number);
        }
        let mut cursor = Cursor(&bytes);
        for number in numbers {
            assert_eq!(cursor.number(), Some(number));
        }
        assert_eq!(cursor.number(), None);
        assert_eq!(Cursor(&[0xff; 11]).number(), None);
        for number in [0, 1, -1, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(number)), number);
        }
    }

    #[test]
    fn instants_of_any_time_read_back_and_equal_ones_take_a_byte() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let instants = [
            Some(Timestamp::MAX),
            Some(Timestamp::MIN),
            None,
            Some(at("1969-12-31T23:59:59.999999999Z")),
            Some(at("2026-11-22T12:00:00.5Z")),
            Some(at("2026-11-25T12:00:00.5Z")),
            Some(at("2026-11-25T12:00:01.5Z")),
        ];
        let (mut bytes, mut pace) = (Vec::new(), Pace::default());
        for instant in instants {
            pace.put(&mut bytes, instant);
        }
        let long = bytes.len();
        pace.put(&mut bytes, instants[6]);
        assert_eq!(bytes.len(), long + 1);
        let (mut cursor, mut pace) = (Cursor(&bytes), Pace::default());
        for instant in instants.into_iter().chain([instants[6]]) {
            assert_eq!(pace.next(&mut cursor), Some(instant));
        }
        assert_eq!(pace.next(&mut cursor), None);
    }
}

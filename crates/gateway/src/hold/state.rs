//! The number under which a state is stored, the same in every store for good.

use super::{End, State};

/// Every state at its number.
const BY_CODE: [State; 8] = [
    State::Held,
    State::Leased,
    State::Buried,
    State::Recalled,
    State::Delivered,
    State::Refused,
    State::Expired,
    State::Rejected,
];

impl State {
    /// The number under which this state is stored.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Held => 0,
            Self::Leased => 1,
            Self::Buried => 2,
            Self::Recalled => 3,
            Self::Delivered => 4,
            Self::Refused => 5,
            Self::Expired => 6,
            Self::Rejected => 7,
        }
    }

    /// The state stored under `code`, if there is one.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        BY_CODE.get(usize::from(code)).copied()
    }

    /// The state in which a road ends.
    pub(crate) const fn ended(how: End) -> Self {
        match how {
            End::Delivered => Self::Delivered,
            End::Refused => Self::Refused,
            End::Expired => Self::Expired,
            End::Rejected => Self::Rejected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_back_as_itself() {
        for code in 0..8 {
            assert_eq!(State::from_code(code).unwrap().code(), code);
        }
        assert_eq!(State::from_code(8), None);
    }
}

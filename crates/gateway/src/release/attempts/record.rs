//! What a table of claims keeps of one message, and what follows from it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{Claim, Fate, Trail, Try};
use crate::hold::Token;

/// Whether a claim is still open, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Claimed; once the loan is over, it may have gone.
    Open,
    /// Whoever comes next may have it.
    Free,
    /// The sink took it.
    Delivered,
    /// The provider said never.
    Rejected,
}

/// The latest claim of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) state: State,
    /// Of which copy.
    pub(super) copy: Timestamp,
    pub(super) token: Token,
    /// When its loan is over.
    pub(super) until: Timestamp,
    /// When this was written.
    pub(super) at: Timestamp,
    /// Copies that were put aside because of this claim. One that comes back without having lapsed
    /// was brought back by a person.
    pub(super) aside: BTreeSet<Timestamp>,
}

/// What follows for a copy that wants to be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It may take the claim over.
    Take,
    /// It may not.
    Leave(Trail),
}

impl Record {
    /// A claim that was just made.
    pub(super) fn open(claim: &Claim, now: Timestamp) -> Self {
        Self {
            state: State::Open,
            copy: claim.copy,
            token: claim.token,
            until: claim.until,
            at: now,
            aside: BTreeSet::new(),
        }
    }

    /// The same with an end. `None`: it does not end by this fate.
    pub(super) fn ended(claim: &Claim, fate: Fate, now: Timestamp) -> Option<Self> {
        let state = match fate {
            Fate::Delivered => State::Delivered,
            Fate::Rejected => State::Rejected,
            Fate::Free | Fate::PutAside => return None,
        };
        Some(Self {
            state,
            ..Self::open(claim, now)
        })
    }

    /// What follows from this record for `asks`. Ids are kept for `horizon` after an end, after
    /// which another copy is another message.
    pub(super) fn judge(&self, asks: &Try, now: Timestamp, horizon: SignedDuration) -> Judged {
        let claim = &asks.claim;
        let own = self.copy == claim.copy;
        let end = match self.state {
            State::Free => return Judged::Take,
            State::Open if self.token == claim.token => return Judged::Take,
            State::Open => return self.judge_open(asks, now),
            State::Delivered => Trail::Delivered,
            State::Rejected => Trail::Rejected,
        };
        if own {
            return Judged::Leave(end);
        }
        match now.duration_since(self.at) >= horizon {
            true => Judged::Take,
            false => Judged::Leave(Trail::Elsewhere),
        }
    }

    fn judge_open(&self, asks: &Try, now: Timestamp) -> Judged {
        let claim = &asks.claim;
        let over = self.until <= now || self.aside.contains(&self.copy);
        let was_aside = self.aside.contains(&claim.copy);
        if !over {
            return Judged::Leave(Trail::Running { until: self.until });
        }
        if asks.again || (was_aside && !claim.lapsed) {
            return Judged::Take;
        }
        Judged::Leave(match was_aside {
            true => Trail::Buried,
            false => Trail::Open,
        })
    }
}

#[cfg(test)]
mod tests {
    use nightgate_core::MessageId;

    use super::*;

    const HORIZON: SignedDuration = SignedDuration::from_hours(72);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// A claim of the copy that was accepted then, by the loan of that number, for a minute.
    fn claim(copy: i64, seq: u64) -> Claim {
        Claim {
            id: MessageId::new("m-1").unwrap(),
            copy: at(copy),
            token: Token { seq, lease: 7 },
            until: at(60),
            lapsed: false,
        }
    }

    fn asks(claim: Claim, again: bool) -> Try {
        Try { claim, again }
    }

    fn lapsed(claim: Claim) -> Claim {
        Claim {
            lapsed: true,
            ..claim
        }
    }

    #[test]
    fn an_open_claim_is_somebodys_until_its_loan_is_over_and_may_have_gone_then() {
        let open = Record::open(&claim(0, 1), at(0));
        let judge = |one: Claim, again, now| open.judge(&asks(one, again), at(now), HORIZON);
        assert_eq!(judge(claim(0, 1), false, 59), Judged::Take, "it is ours");
        let running = Judged::Leave(Trail::Running { until: at(60) });
        for other in [claim(0, 2), claim(5, 3), lapsed(claim(0, 2))] {
            assert_eq!(judge(other.clone(), true, 59), running);
            let may_have_gone = Judged::Leave(Trail::Open);
            assert_eq!(judge(other.clone(), false, 60), may_have_gone);
            assert_eq!(judge(other, true, 60), Judged::Take);
        }
    }

    #[test]
    fn a_known_end_keeps_every_copy_back_until_the_id_is_forgotten() {
        for (fate, end) in [
            (Fate::Delivered, Trail::Delivered),
            (Fate::Rejected, Trail::Rejected),
        ] {
            let done = Record::ended(&claim(0, 1), fate, at(10)).unwrap();
            let judge = |one, now| done.judge(&asks(one, true), now, HORIZON);
            let forgotten = at(10) + HORIZON;
            let just_before = forgotten - SignedDuration::from_secs(1);
            assert_eq!(
                judge(claim(9, 2), just_before),
                Judged::Leave(Trail::Elsewhere)
            );
            assert_eq!(judge(claim(9, 2), forgotten), Judged::Take);
            assert_eq!(judge(claim(0, 2), forgotten), Judged::Leave(end));
        }
    }

    #[test]
    fn what_was_put_aside_leaves_when_a_person_brings_it_back_and_not_by_itself() {
        let mut open = Record::open(&claim(0, 1), at(0));
        open.aside.insert(at(0));
        let judge = |open: &Record, one, now| open.judge(&asks(one, false), at(now), HORIZON);
        assert_eq!(judge(&open, claim(0, 2), 5), Judged::Take, "kicked at once");
        let back = lapsed(claim(0, 2));
        assert_eq!(judge(&open, back, 5), Judged::Leave(Trail::Buried));
        let other = Judged::Leave(Trail::Open);
        assert_eq!(judge(&open, claim(9, 3), 5), other, "its fate is unknown");
        open.aside.insert(at(9));
        assert_eq!(judge(&open, claim(9, 3), 5), Judged::Take);
    }
}

//! The hand-over itself, and what came of it: receipt, settlement, tally.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nightgate_core::Purpose;

use super::attempts::Fate;
use super::books::{Books, Loan};
use super::lane::{LaneReleaser, OnUnknown};
use super::prepare::Chunk;
use crate::hold::{End, Verdict};
use crate::receipt::Event;
use crate::sink::Outcome;

/// One call of the sink that has answered.
pub(super) struct Left {
    pub(super) loans: Vec<Loan>,
    /// One a loan, in order.
    pub(super) outcomes: Vec<Outcome>,
    pub(super) took: Duration,
}

impl LaneReleaser {
    /// Hands one chunk over.
    pub(super) async fn hand_over(&self, chunk: Chunk) -> Left {
        let Chunk {
            outbound, loans, ..
        } = chunk;
        let (many, began) = (loans.len(), self.parts.clock.monotonic());
        let mut outcomes = self.sink.deliver(outbound).await;
        let took = self.parts.clock.monotonic().saturating_sub(began);
        self.parts.metrics.deliver_took(&self.options.lane, took);
        if outcomes.len() != many {
            // A sink that miscounts has told us nothing about any single message.
            let why = format!(
                "the sink gave {} outcomes for {many} messages",
                outcomes.len()
            );
            outcomes = vec![Outcome::Unknown { why }; many];
        }
        Left {
            loans,
            outcomes,
            took,
        }
    }

    /// What came of a chunk. Says whether none of it was taken.
    pub(super) fn conclude(&self, left: Left, books: &mut Books) -> bool {
        let Left {
            loans, outcomes, ..
        } = left;
        let (now, before) = (self.parts.clock.now(), books.learned.failed);
        let many = loans.len();
        books.receipts.reserve(many);
        books.settle.reserve(many);
        let mut counts: Vec<(&'static str, u64)> = Vec::new();
        for (loan, outcome) in loans.into_iter().zip(outcomes) {
            let name = outcome.name();
            match counts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, count)) => *count += 1,
                None => counts.push((name, 1)),
            }
            self.conclude_one(loan, outcome, now, books);
        }
        for (name, count) in counts {
            self.parts.metrics.outcomes(&self.options.lane, name, count);
        }
        many > 0 && books.learned.failed - before == many
    }

    fn conclude_one(&self, mut loan: Loan, outcome: Outcome, now: Timestamp, books: &mut Books) {
        let token = loan.token;
        let claim = loan.claim.take();
        books.conclude(claim, self.fate(&outcome, loan.purpose));
        match outcome {
            Outcome::Delivered { reference } => {
                books.close(Event::Delivered, loan, now, reference);
                books.settle(token, Verdict::Done(End::Delivered));
                books.learned.tick.delivered += 1;
            }
            Outcome::Rejected { why } => {
                books.close(Event::Rejected, loan, now, Some(why));
                books.settle(token, Verdict::Done(End::Rejected));
                books.learned.tick.rejected += 1;
            }
            Outcome::Retry {
                after,
                whole_lane,
                why,
            } => {
                books.file(Event::Retry, &loan, now, Some(why.clone()));
                let learned = &mut books.learned;
                learned.tick.retried += 1;
                learned.failed += 1;
                learned.why = why;
                if whole_lane {
                    let longest = learned.lane_waits.flatten().max(after);
                    learned.lane_waits = Some(longest);
                }
                self.try_later(loan, after, !whole_lane, now, books);
            }
            Outcome::Unknown { why } => {
                books.file(Event::Unknown, &loan, now, Some(why.clone()));
                books.learned.tick.unknown += 1;
                books.learned.failed += 1;
                match self.options.on_unknown(loan.purpose) {
                    OnUnknown::Bury => books.bury(loan, now, format!("unknown outcome: {why}")),
                    OnUnknown::Retry => self.try_later(loan, None, true, now, books),
                }
                books.learned.why = why;
            }
            Outcome::TooLate => {
                let why = "permit or loan ended before the hand-over: not sent";
                not_sent(loan, why, now, books);
            }
        }
    }

    /// What an outcome means for other copies of the message, and for itself when it comes again.
    fn fate(&self, outcome: &Outcome, purpose: Purpose) -> Fate {
        match outcome {
            Outcome::Delivered { .. } => Fate::Delivered,
            Outcome::Rejected { .. } => Fate::Rejected,
            Outcome::Unknown { .. } if self.options.on_unknown(purpose) == OnUnknown::Bury => {
                Fate::PutAside
            }
            Outcome::Retry { .. } | Outcome::Unknown { .. } | Outcome::TooLate => Fate::Free,
        }
    }

    /// A chunk that stays, because the lane came to a stop before its turn.
    pub(super) fn hold_back(&self, chunk: Chunk, books: &mut Books) {
        let now = self.parts.clock.now();
        for mut loan in chunk.loans {
            books.conclude(loan.claim.take(), Fate::Free);
            not_sent(
                loan,
                "the lane stopped before the hand-over: not sent",
                now,
                books,
            );
        }
    }

    /// Back-off, or the grave after too many attempts. A sink that refuses everything (`counts`
    /// false) says nothing about this message, so it costs the message no attempt.
    fn try_later(
        &self,
        loan: Loan,
        after: Option<SignedDuration>,
        counts: bool,
        now: Timestamp,
        books: &mut Books,
    ) {
        let attempts = loan.attempts + u32::from(counts);
        if attempts >= self.options.attempts_max {
            let why = format!("gave up after {attempts} attempts");
            books.bury(loan, now, why);
            return;
        }
        let backoff = &self.options.backoff;
        let wait = backoff.wait(attempts.max(1), after, self.parts.chance());
        let due = now.checked_add(wait).unwrap_or(now);
        books.defer(loan.token, due, counts);
    }
}

fn not_sent(loan: Loan, why: &str, now: Timestamp, books: &mut Books) {
    let token = loan.token;
    books.close(Event::Retry, loan, now, Some(why.to_owned()));
    books.defer(token, now, false);
    books.learned.tick.held += 1;
}

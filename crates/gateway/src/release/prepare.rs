//! What was lent, made ready to leave: what lapsed is recovered, the rules are asked again, and the
//! attempts are put on file.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Code, Decision, Message, Permit, Purpose, Reason, RecipientKey};

use super::attempts::{Claim, Fate, Trail, Try};
use super::books::{Books, Loan};
use super::lane::{LaneReleaser, OnUnknown};
use crate::alert::text;
use crate::decider::{Instant, moves_as_one, names};
use crate::error::{Error, Result};
use crate::hold::due::shelf_of;
use crate::hold::{End, Leased, Settle, Verdict};
use crate::receipt::{Event, Receipt};
use crate::sink::Outbound;

/// How long messages wait that could not be handed over for reasons of our own.
const AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// What receipts and people are told of messages that were handed over before, or may have been.
const ELSEWHERE: &str = "already handed over: another copy of this message came before it";
const RUNNING: &str = "another loan has this message in hand: held until that is over";
const OPEN: &str = "handed over before a stop, and no outcome was recorded: it may have gone";
/// Most bytes of bodies in one call of the sink, unless one message has more: what common web
/// servers take in one request, and little to hold for each hand-over under way.
const BATCH_BYTES_MAX: usize = 768 * 1024;

/// Messages for one call of the sink, and their loans in the same order.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) outbound: Vec<Outbound>,
    pub(super) loans: Vec<Loan>,
    bytes: usize,
}

/// One round, ready to leave.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) chunks: Vec<Chunk>,
    /// What came of those that may not leave.
    pub(super) books: Books,
    pub(super) fault: Option<Error>,
}

/// A round in the making.
struct Round {
    at: Instant,
    chunks: Vec<Chunk>,
    books: Books,
    /// Monotonic time at which the leave to send ends, where it has an end.
    leave_until: Option<Duration>,
    /// How often the rules answered in the same way.
    counts: Vec<((&'static str, &'static str), u64)>,
    late: Vec<SignedDuration>,
}

impl LaneReleaser {
    /// Takes a round up to the hand-over. No claim and no receipt, no hand-over: if the log cannot
    /// be written, everything goes back.
    pub(super) async fn prepare(
        &self,
        leased: Vec<Leased>,
        leave_until: Option<Duration>,
    ) -> Prepared {
        let mut books = Books::default();
        let leased = match self.recover(leased, &mut books).await {
            Ok(leased) => leased,
            Err(fault) => {
                return Prepared {
                    fault: Some(fault),
                    ..Prepared::default()
                };
            }
        };
        let (mut round, permitted) = self.ask_again(leased, books, leave_until).await;
        let unclaimed = self.claim(permitted, &mut round).await;
        let metrics = &self.parts.metrics;
        for ((decision, code), count) in round.counts {
            metrics.decisions(decision, code, count);
        }
        metrics.late(&self.options.lane, round.late);
        let (chunks, mut books) = (round.chunks, round.books);
        let receipts = std::mem::take(&mut books.receipts);
        if let Err(fault) = self.record(receipts).await {
            self.give_back(chunks, &books).await;
            return Prepared {
                fault: Some(fault),
                ..Prepared::default()
            };
        }
        Prepared {
            chunks,
            books,
            fault: unclaimed,
        }
    }

    /// Deals with loans that lapsed: it may be known how far the message came, which the hold may
    /// never have been told. Returns those that go on.
    async fn recover(&self, leased: Vec<Leased>, books: &mut Books) -> Result<Vec<Leased>> {
        let lapsed = leased.iter().filter(|one| one.lapsed);
        let lapsed: Vec<Claim> = lapsed.map(Claim::of).collect();
        if lapsed.is_empty() {
            return Ok(leased);
        }
        let now = self.parts.clock.now();
        let mut trails = self.attempts.trails(&lapsed, now).await?.into_iter();
        let mut go_on = Vec::with_capacity(leased.len());
        for leased in leased {
            let trail = match leased.lapsed {
                // An answer too few proves nothing.
                true => trails.next().unwrap_or(Trail::Open),
                false => Trail::Clear,
            };
            go_on.extend(self.follow(leased, trail, books));
        }
        Ok(go_on)
    }

    /// What is to be done with a message that came so far. Returns it if it goes on.
    fn follow(&self, leased: Leased, trail: Trail, books: &mut Books) -> Option<Leased> {
        let now = self.parts.clock.now();
        match trail {
            Trail::Clear => return Some(leased),
            Trail::Delivered => books.settle(leased.token, Verdict::Done(End::Delivered)),
            Trail::Rejected => books.settle(leased.token, Verdict::Done(End::Rejected)),
            Trail::Buried => {
                let why = "put aside before a stop, see its receipts".to_owned();
                books.settle(leased.token, Verdict::Bury { why });
            }
            Trail::Elsewhere => {
                let (loan, _) = part(leased);
                let token = loan.token;
                books.close(Event::Refused, loan, now, Some(ELSEWHERE.to_owned()));
                books.settle(token, Verdict::Done(End::Refused));
                books.learned.tick.refused += 1;
            }
            Trail::Running { until } => {
                let (loan, _) = part(leased);
                let until = shelf_of(until);
                books.receipts.push(Receipt {
                    until: Some(until),
                    ..loan.receipt(Event::Held, now, Some(RUNNING.to_owned()))
                });
                books.defer(loan.token, until, false);
                books.learned.tick.held += 1;
            }
            Trail::Open => {
                let claim = self.attempts.claims().then(|| Claim::of(&leased));
                let (loan, _) = part(leased.clone());
                books.file(Event::Unknown, &loan, now, Some(OPEN.to_owned()));
                books.learned.tick.unknown += 1;
                match self.options.on_unknown(loan.purpose) {
                    OnUnknown::Retry => return Some(leased),
                    OnUnknown::Bury => {
                        books.conclude(claim, Fate::PutAside);
                        books.bury(loan, now, OPEN.to_owned());
                    }
                }
            }
        }
        None
    }

    /// Claims what may leave, and makes it ready. What cannot be claimed stays; the fault says why.
    async fn claim(&self, permitted: Vec<(Leased, Permit)>, round: &mut Round) -> Option<Error> {
        if !self.attempts.claims() {
            for (leased, permit) in permitted {
                self.permit(leased, permit, None, round);
            }
            return None;
        }
        let asks = |(leased, _): &(Leased, Permit)| Try {
            claim: Claim::of(leased),
            again: self.options.on_unknown(leased.held.message.purpose) == OnUnknown::Retry,
        };
        let tries: Vec<Try> = permitted.iter().map(asks).collect();
        let answers = self.attempts.claim(&tries, round.at.wall).await;
        let mut answers = answers.into_iter();
        let mut fault = None;
        for ((leased, permit), asked) in permitted.into_iter().zip(tries) {
            let token = leased.token;
            let stays = match answers.next() {
                Some(Ok(Trail::Clear)) => {
                    self.permit(leased, permit, Some(asked.claim), round);
                    continue;
                }
                Some(Ok(trail)) => self.follow(leased, trail, &mut round.books).is_some(),
                Some(Err(error)) => {
                    fault.get_or_insert(error);
                    true
                }
                None => true,
            };
            if stays {
                let now = self.parts.clock.now();
                let due = now.checked_add(AGAIN).unwrap_or(now);
                round.books.defer(token, due, false);
            }
        }
        fault
    }

    /// The second asking, with fresh consent and a fresh clock.
    async fn ask_again(
        &self,
        leased: Vec<Leased>,
        books: Books,
        leave_until: Option<Duration>,
    ) -> (Round, Vec<(Leased, Permit)>) {
        let keys: Vec<RecipientKey> = leased
            .iter()
            .filter(|one| one.held.message.purpose == Purpose::Advertising)
            .map(|one| one.held.key.clone())
            .collect();
        let told = self.parts.decider.ask(&keys).await;
        let at = Instant {
            wall: self.parts.clock.now(),
            monotonic: self.parts.clock.monotonic(),
        };
        let (mut answers, fault) = self.parts.decider.answers(told, at.wall);
        if let Some(fault) = &fault {
            self.parts.alerts.raise(text::of_fault(fault, at.wall));
        }
        let mut round = Round {
            at,
            chunks: Vec::new(),
            books,
            leave_until,
            counts: Vec::new(),
            late: Vec::with_capacity(leased.len()),
        };
        round.books.receipts.reserve(leased.len());
        let mut permitted = Vec::with_capacity(leased.len());
        for leased in leased {
            let (decision, ..) = answers.next(&leased.held.message);
            round.count(names(&decision));
            match decision {
                Decision::Send(permit) => permitted.push((leased, permit)),
                Decision::Hold { until, reason } => round.hold_again(leased, until, reason),
                Decision::Refuse { reason } => round.refuse(leased, reason),
            }
        }
        (round, permitted)
    }

    fn permit(&self, leased: Leased, permit: Permit, claim: Option<Claim>, round: &mut Round) {
        let (now, attempt) = (round.at.wall, leased.attempts + 1);
        // Half of the loan is kept for the answer to arrive in: after its end the message may be
        // lent to another releaser, which must be able to trust that nothing leaves any more.
        let leave_by = leased.until.checked_sub(self.options.lease_ttl / 2);
        let leave_by = leave_by.unwrap_or(Timestamp::MIN).min(round.leave_ends());
        // What could leave at once shares the shelf of its minute; it is late from its arrival on.
        let asked_for = leased.held.due.max(leased.held.accepted_at);
        round.late.push(now.duration_since(asked_for));
        let (mut loan, message) = part(leased);
        loan.claim = claim;
        let reason = permit.reason();
        if let Some(closes) = reason.closes {
            round.books.learned.closes_at(closes);
        }
        round.books.receipts.push(Receipt {
            until: Some(permit.not_after()),
            reason: Some(reason.clone()),
            ..loan.receipt(Event::Attempted, now, None)
        });
        if let Some(outbound) = Outbound::new(permit, message, attempt, leave_by) {
            let clock = Arc::clone(&self.parts.clock);
            let outbound = outbound.timed(clock, now, round.at.monotonic);
            round.push(outbound, loan, self.batch_max());
        }
    }

    /// What is on loan but has no attempt on file goes back.
    async fn give_back(&self, chunks: Vec<Chunk>, books: &Books) {
        let now = self.parts.clock.now();
        let due = shelf_of(now.checked_add(AGAIN).unwrap_or(now));
        let (mut tokens, mut claims) = (Vec::new(), Vec::new());
        for loan in chunks.into_iter().flat_map(|chunk| chunk.loans) {
            tokens.push(loan.token);
            claims.extend(loan.claim.map(|claim| (claim, Fate::Free)));
        }
        if let Err(fault) = self.end_claims(claims).await {
            tracing::warn!(lane = %self.options.lane, %fault, "claims stay that nothing came of");
        }
        let settled = books.settle.iter().map(|settle| settle.token);
        let tokens = tokens.into_iter().chain(settled);
        let attempted = false;
        let back = tokens.map(|token| Settle {
            token,
            verdict: Verdict::Defer { due, attempted },
        });
        // The loans lapse by themselves if this fails too.
        let _ = self.parts.hold.settle(back.collect(), now).await;
    }
}

impl Round {
    /// The end of the leave to send, as the wall clock will show it unless somebody sets it.
    fn leave_ends(&self) -> Timestamp {
        let Some(until) = self.leave_until else {
            return Timestamp::MAX;
        };
        let left = until.saturating_sub(self.at.monotonic);
        let left = SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX);
        self.at.wall.saturating_add(left).unwrap_or(Timestamp::MAX)
    }

    fn count(&mut self, named: (&'static str, &'static str)) {
        match self.counts.iter_mut().find(|(known, _)| *known == named) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((named, 1)),
        }
    }

    fn push(&mut self, outbound: Outbound, loan: Loan, batch_max: usize) {
        let bytes = outbound.message().body.len();
        let fits = self.chunks.last().is_some_and(|chunk| {
            chunk.loans.len() < batch_max && chunk.bytes + bytes <= BATCH_BYTES_MAX
        });
        if !fits {
            self.chunks.push(Chunk::default());
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.bytes += bytes;
            chunk.outbound.push(outbound);
            chunk.loans.push(loan);
        }
    }

    fn hold_again(&mut self, leased: Leased, until: Timestamp, reason: Reason) {
        let (until, class) = (shelf_of(until), &leased.held.class);
        if matches!(reason.code, Code::QuietHours | Code::Guard) && moves_as_one(class) {
            let opening = self.books.closed.entry(class.clone()).or_insert(until);
            *opening = until.min(*opening);
        }
        let (loan, _) = part(leased);
        self.books.receipts.push(Receipt {
            until: Some(until),
            reason: Some(reason),
            ..loan.receipt(Event::Held, self.at.wall, None)
        });
        self.books.defer(loan.token, until, false);
        self.books.learned.tick.held += 1;
    }

    fn refuse(&mut self, leased: Leased, reason: Reason) {
        let tick = &mut self.books.learned.tick;
        let (event, end) = match reason.code {
            Code::Expired => (Event::Expired, End::Expired),
            _ => (Event::Refused, End::Refused),
        };
        match end {
            End::Expired => tick.expired += 1,
            _ => tick.refused += 1,
        }
        let (loan, _) = part(leased);
        self.books.receipts.push(Receipt {
            reason: Some(reason),
            ..loan.receipt(event, self.at.wall, None)
        });
        self.books.settle(loan.token, Verdict::Done(end));
    }
}

/// The loan, and the message it is of.
fn part(leased: Leased) -> (Loan, Message) {
    let (held, attempts) = (leased.held, leased.attempts);
    let loan = Loan::of(leased.token, &held.message, held.key, held.lane, attempts);
    (loan, held.message)
}

//! One batch on loan, from lease to settlement: recover, ask again, record, hand over, record,
//! settle.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Class, Code, Decision, Message, Permit, Purpose, Reason, RecipientKey};

use super::freeze::Frost;
use super::lane::{LaneReleaser, OnUnknown};
use super::tally::Tick;
use super::trail::Trail;
use crate::alert::text;
use crate::decider::{Instant, moves_as_one, names};
use crate::error::Result;
use crate::hold::due::shelf_of;
use crate::hold::{End, Leased, Settle, Settled, Token, Verdict};
use crate::receipt::{Event, Receipt, Subject};
use crate::sink::{Outbound, Outcome};

/// How long messages wait that could not be handed over for reasons of our own.
const AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// What the lane learns from a hand-over.
#[derive(Debug, Default)]
pub(super) struct HandedOver {
    pub(super) tick: Tick,
    /// Hand-overs that failed in a way that says something about the sink.
    pub(super) failed: usize,
    /// The whole lane must wait at least so long.
    pub(super) lane_waits: Option<Option<SignedDuration>>,
    /// What the sink said last when it failed.
    pub(super) why: String,
    /// The earliest closing among the windows the permits stand on.
    pub(super) closes: Option<Timestamp>,
}

/// A message on loan without its body: enough to settle it and to write its receipts.
struct Loan {
    token: Token,
    subject: Subject,
    purpose: Purpose,
    attempts: u32,
}

/// Work in progress on one batch.
#[derive(Default)]
struct Batch {
    receipts: Vec<Receipt>,
    settle: Vec<Settle>,
    loans: Vec<Loan>,
    outbound: Vec<Outbound>,
    closed: BTreeMap<Class, Timestamp>,
    done: HandedOver,
}

impl Batch {
    fn file(&mut self, event: Event, loan: &Loan, at: Timestamp, detail: Option<String>) {
        let receipt = Receipt::of(event, loan.subject.clone(), at);
        self.receipts.push(Receipt {
            attempt: loan.attempts + 1,
            detail,
            ..receipt
        });
    }

    fn settle(&mut self, loan: &Loan, verdict: Verdict) {
        self.settle.push(Settle {
            token: loan.token,
            verdict,
        });
    }

    fn bury(&mut self, loan: &Loan, at: Timestamp, why: &str) {
        self.file(Event::Buried, loan, at, Some(why.to_owned()));
        self.settle(
            loan,
            Verdict::Bury {
                why: why.to_owned(),
            },
        );
        self.done.tick.buried += 1;
    }

    fn defer(&mut self, loan: &Loan, due: Timestamp, attempted: bool) {
        self.settle(
            loan,
            Verdict::Defer {
                due: shelf_of(due),
                attempted,
            },
        );
    }
}

impl LaneReleaser {
    /// Takes a leased batch through to settlement.
    pub(super) async fn hand_over(&self, leased: Vec<Leased>) -> Result<HandedOver> {
        let mut batch = Batch::default();
        let leased = self.recover(leased, &mut batch).await?;
        self.ask_again(leased, &mut batch).await;
        self.record_attempts(&mut batch).await?;
        let outbound = std::mem::take(&mut batch.outbound);
        let outcomes = self.deliver(outbound).await;
        let loans = std::mem::take(&mut batch.loans);
        for (loan, outcome) in loans.iter().zip(outcomes) {
            self.conclude(loan, outcome, &mut batch);
        }
        let filed = self.record(&mut batch).await;
        // Outcomes are settled even when they could not be recorded: to hand them over again would
        // be worse than a receipt that says only "attempted".
        self.settle(&mut batch).await?;
        filed?;
        self.hold_the_rest(&batch).await?;
        Ok(batch.done)
    }

    /// Deals with loans that lapsed: their receipts tell how far the message came, which the hold
    /// may never have been told. Returns those that go on.
    async fn recover(&self, leased: Vec<Leased>, batch: &mut Batch) -> Result<Vec<Leased>> {
        let mut go_on = Vec::with_capacity(leased.len());
        for leased in leased {
            if !leased.lapsed {
                go_on.push(leased);
                continue;
            }
            let trail = Trail::of(&*self.parts.receipts, &leased.held.message.id).await?;
            let (loan, now) = (Loan::of(&leased), self.parts.clock.now());
            match trail {
                Trail::Clear => go_on.push(leased),
                Trail::Delivered => batch.settle(&loan, Verdict::Done(End::Delivered)),
                Trail::Rejected => batch.settle(&loan, Verdict::Done(End::Rejected)),
                Trail::Buried => {
                    let why = "put aside before a stop, see its receipts".to_owned();
                    batch.settle(&loan, Verdict::Bury { why });
                }
                Trail::Open => {
                    let why =
                        "handed over before a stop, and no outcome was recorded: it may have gone";
                    batch.file(Event::Unknown, &loan, now, Some(why.to_owned()));
                    batch.done.tick.unknown += 1;
                    match self.options.on_unknown(loan.purpose) {
                        OnUnknown::Bury => batch.bury(&loan, now, why),
                        OnUnknown::Retry => go_on.push(leased),
                    }
                }
            }
        }
        Ok(go_on)
    }

    /// The second asking, with fresh consent and a fresh clock.
    async fn ask_again(&self, leased: Vec<Leased>, batch: &mut Batch) {
        let (decisions, at) = {
            let messages: Vec<&Message> = leased.iter().map(|one| &one.held.message).collect();
            let keys: Vec<&RecipientKey> = leased.iter().map(|one| &one.held.key).collect();
            let (decider, clock) = (&self.parts.decider, &*self.parts.clock);
            decider.decide_now(&messages, &keys, clock).await
        };
        let now = at.wall;
        if let Some(fault) = &decisions.consent_fault {
            self.parts.alerts.raise(text::of_fault(fault, now));
        }
        for (leased, decided) in leased.into_iter().zip(decisions.all) {
            let (decision, code) = names(&decided.decision);
            self.parts.metrics.decision(decision, code);
            let loan = Loan::of(&leased);
            match decided.decision {
                Decision::Send(permit) => self.permit(leased, loan, permit, at, batch),
                Decision::Hold { until, reason } => {
                    hold_again(&loan, &leased.held.class, until, reason, now, batch);
                }
                Decision::Refuse { reason } => refuse(&loan, reason, now, batch),
            }
        }
    }

    fn permit(&self, leased: Leased, loan: Loan, permit: Permit, at: Instant, batch: &mut Batch) {
        let now = at.wall;
        let receipt = Receipt::of(Event::Attempted, loan.subject.clone(), now);
        batch.receipts.push(Receipt {
            attempt: loan.attempts + 1,
            until: Some(permit.not_after()),
            reason: Some(permit.reason().clone()),
            ..receipt
        });
        if let Some(closes) = permit.reason().closes {
            batch.done.closes = Some(batch.done.closes.map_or(closes, |other| other.min(closes)));
        }
        // What could leave at once shares the shelf of its minute; it is late from its arrival on.
        let asked_for = leased.held.due.max(leased.held.accepted_at);
        self.parts
            .metrics
            .late(&self.options.lane, now.duration_since(asked_for));
        // Half of the loan is kept for the answer to arrive in: after its end the message may be
        // lent to another releaser, which must be able to trust that nothing leaves any more.
        let leave_by = leased.until.checked_sub(self.options.lease_ttl / 2);
        let leave_by = leave_by.unwrap_or(Timestamp::MIN);
        let message = leased.held.message;
        if let Some(outbound) = Outbound::new(permit, message, loan.attempts + 1, leave_by) {
            let clock = Arc::clone(&self.parts.clock);
            batch
                .outbound
                .push(outbound.timed(clock, now, at.monotonic));
            batch.loans.push(loan);
        }
    }

    /// No receipt, no hand-over: if the log cannot be written, everything goes back.
    async fn record_attempts(&self, batch: &mut Batch) -> Result<()> {
        let Err(fault) = self.record(batch).await else {
            return Ok(());
        };
        let due = self.again();
        let loans = std::mem::take(&mut batch.loans);
        let back = loans.iter().map(|loan| loan.token);
        let back = back.chain(batch.settle.iter().map(|settle| settle.token));
        let verdict = Verdict::Defer {
            due,
            attempted: false,
        };
        let back = back
            .map(|token| Settle {
                token,
                verdict: verdict.clone(),
            })
            .collect();
        // The loans lapse by themselves if this fails too.
        let _ = self.parts.hold.settle(back, self.parts.clock.now()).await;
        Err(fault)
    }

    async fn record(&self, batch: &mut Batch) -> Result<()> {
        if batch.receipts.is_empty() {
            return Ok(());
        }
        let receipts = std::mem::take(&mut batch.receipts);
        self.parts.metrics.receipts(receipts.len() as u64);
        self.parts.receipts.append(receipts).await
    }

    /// Hands over in chunks of the sink's size, several at a time, in order. A clock that jumped
    /// since the decision stops everything.
    async fn deliver(&self, outbound: Vec<Outbound>) -> Vec<Outcome> {
        let many = outbound.len();
        if many == 0 {
            return Vec::new();
        }
        if let Frost::Jumped(_) | Frost::Frozen(_) = self.look_at_clock() {
            return vec![Outcome::TooLate; many];
        }
        let size = self.batch_max();
        let mut chunks = Vec::with_capacity(many.div_ceil(size));
        let mut rest = outbound.into_iter();
        loop {
            let chunk: Vec<Outbound> = rest.by_ref().take(size).collect();
            if chunk.is_empty() {
                break;
            }
            chunks.push(chunk);
        }
        let deliveries = chunks.into_iter().map(|chunk| self.deliver_chunk(chunk));
        let outcomes: Vec<Vec<Outcome>> = stream::iter(deliveries)
            .buffered(self.options.in_flight)
            .collect()
            .await;
        outcomes.into_iter().flatten().collect()
    }

    async fn deliver_chunk(&self, chunk: Vec<Outbound>) -> Vec<Outcome> {
        let (many, began) = (chunk.len(), self.parts.clock.monotonic());
        let mut outcomes = self.sink.deliver(chunk).await;
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
        outcomes
    }

    /// One outcome: receipt, settlement, tally.
    fn conclude(&self, loan: &Loan, outcome: Outcome, batch: &mut Batch) {
        let now = self.parts.clock.now();
        self.parts
            .metrics
            .outcomes(&self.options.lane, outcome.name(), 1);
        match outcome {
            Outcome::Delivered { reference } => {
                batch.file(Event::Delivered, loan, now, reference);
                batch.settle(loan, Verdict::Done(End::Delivered));
                batch.done.tick.delivered += 1;
            }
            Outcome::Rejected { why } => {
                batch.file(Event::Rejected, loan, now, Some(why));
                batch.settle(loan, Verdict::Done(End::Rejected));
                batch.done.tick.rejected += 1;
            }
            Outcome::Retry {
                after,
                whole_lane,
                why,
            } => {
                batch.file(Event::Retry, loan, now, Some(why.clone()));
                batch.done.tick.retried += 1;
                batch.done.failed += 1;
                batch.done.why = why;
                if whole_lane {
                    let longest = batch.done.lane_waits.flatten().max(after);
                    batch.done.lane_waits = Some(longest);
                }
                self.try_later(loan, after, !whole_lane, now, batch);
            }
            Outcome::Unknown { why } => {
                batch.file(Event::Unknown, loan, now, Some(why.clone()));
                batch.done.tick.unknown += 1;
                batch.done.failed += 1;
                match self.options.on_unknown(loan.purpose) {
                    OnUnknown::Bury => batch.bury(loan, now, &format!("unknown outcome: {why}")),
                    OnUnknown::Retry => self.try_later(loan, None, true, now, batch),
                }
                batch.done.why = why;
            }
            Outcome::TooLate => {
                let why = "permit or loan ended before the hand-over: not sent";
                batch.file(Event::Retry, loan, now, Some(why.to_owned()));
                batch.defer(loan, now, false);
                batch.done.tick.held += 1;
            }
        }
    }

    /// Back-off, or the grave after too many attempts. A sink that refuses everything (`counts`
    /// false) says nothing about this message, so it costs the message no attempt.
    fn try_later(
        &self,
        loan: &Loan,
        after: Option<SignedDuration>,
        counts: bool,
        now: Timestamp,
        batch: &mut Batch,
    ) {
        let attempts = loan.attempts + u32::from(counts);
        if attempts >= self.options.attempts_max {
            let why = format!("gave up after {attempts} attempts");
            batch.bury(loan, now, &why);
            return;
        }
        let wait = self
            .options
            .backoff
            .wait(attempts.max(1), after, self.parts.chance());
        batch.defer(loan, now.checked_add(wait).unwrap_or(now), counts);
    }

    async fn settle(&self, batch: &mut Batch) -> Result<()> {
        let settle = std::mem::take(&mut batch.settle);
        if settle.is_empty() {
            return Ok(());
        }
        let settled = self
            .parts
            .hold
            .settle(settle, self.parts.clock.now())
            .await?;
        let lapsed = settled
            .iter()
            .filter(|settled| **settled == Settled::Lapsed)
            .count();
        batch.done.tick.lapsed += lapsed as u64;
        if lapsed > 0 {
            tracing::warn!(lane = %self.options.lane, lapsed, "settled after the loan had lapsed");
        }
        Ok(())
    }

    /// Windows that closed while a backlog was still due: the rest of each class is held again as
    /// whole shelves, with one receipt that says how many.
    async fn hold_the_rest(&self, batch: &Batch) -> Result<()> {
        if !self.parts.hold.capability().redate {
            return Ok(());
        }
        for (class, until) in &batch.closed {
            let now = self.parts.clock.now();
            let lane = &self.options.lane;
            let moved = self.parts.hold.redate(lane, class, now, *until).await?;
            if moved == 0 {
                continue;
            }
            let subject = Subject {
                lane: Some(lane.clone()),
                ..Subject::default()
            };
            let receipt = Receipt {
                count: moved,
                until: Some(*until),
                detail: Some(format!(
                    "windows closed: class {} held again",
                    class.as_str()
                )),
                ..Receipt::of(Event::Held, subject, now)
            };
            self.parts.receipts.append(vec![receipt]).await?;
        }
        Ok(())
    }

    fn again(&self) -> Timestamp {
        let now = self.parts.clock.now();
        shelf_of(now.checked_add(AGAIN).unwrap_or(now))
    }
}

impl Loan {
    fn of(leased: &Leased) -> Self {
        let held = &leased.held;
        Self {
            token: leased.token,
            subject: Subject::of(&held.message, &held.key, &held.lane),
            purpose: held.message.purpose,
            attempts: leased.attempts,
        }
    }
}

fn hold_again(
    loan: &Loan,
    class: &Class,
    until: Timestamp,
    reason: Reason,
    now: Timestamp,
    batch: &mut Batch,
) {
    let until = shelf_of(until);
    if matches!(reason.code, Code::QuietHours | Code::Guard) && moves_as_one(class) {
        let opening = batch.closed.entry(class.clone()).or_insert(until);
        *opening = until.min(*opening);
    }
    let receipt = Receipt::of(Event::Held, loan.subject.clone(), now);
    batch.receipts.push(Receipt {
        attempt: loan.attempts + 1,
        until: Some(until),
        reason: Some(reason),
        ..receipt
    });
    batch.settle(
        loan,
        Verdict::Defer {
            due: until,
            attempted: false,
        },
    );
    batch.done.tick.held += 1;
}

fn refuse(loan: &Loan, reason: Reason, now: Timestamp, batch: &mut Batch) {
    let (event, end) = match reason.code {
        Code::Expired => (Event::Expired, End::Expired),
        _ => (Event::Refused, End::Refused),
    };
    match end {
        End::Expired => batch.done.tick.expired += 1,
        _ => batch.done.tick.refused += 1,
    }
    let receipt = Receipt::of(event, loan.subject.clone(), now);
    batch.receipts.push(Receipt {
        attempt: loan.attempts + 1,
        reason: Some(reason),
        ..receipt
    });
    batch.settle(loan, Verdict::Done(end));
}

//! What a tick owes the receipt log and the hold: receipts not yet filed, loans not yet ended, and
//! what the lane has learned so far.

use std::collections::BTreeMap;

use futures_util::future::join;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Class, Message, Purpose, RecipientKey};

use super::attempts::{Claim, Fate};
use super::lane::LaneReleaser;
use super::tally::Tick;
use crate::error::{Error, Result};
use crate::hold::due::shelf_of;
use crate::hold::{Lane, Settle, Settled, Token, Verdict};
use crate::receipt::{Event, Receipt, Subject};

/// What the lane learns from a tick's hand-overs.
#[derive(Debug, Default)]
pub(super) struct Learned {
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
pub(super) struct Loan {
    pub(super) token: Token,
    pub(super) subject: Subject,
    pub(super) purpose: Purpose,
    pub(super) attempts: u32,
    /// Its hand-over, if it was claimed.
    pub(super) claim: Option<Claim>,
}

impl Loan {
    /// The loan of `message`, to `key` by `lane`, tried so often before.
    pub(super) fn of(
        token: Token,
        message: &Message,
        key: RecipientKey,
        lane: Lane,
        attempts: u32,
    ) -> Self {
        let subject = Subject {
            message: Some(message.id.clone()),
            recipient: Some(key),
            campaign: message.campaign.clone(),
            lane: Some(lane),
            purpose: Some(message.purpose),
            channel: Some(message.channel),
        };
        Self {
            token,
            subject,
            purpose: message.purpose,
            attempts,
            claim: None,
        }
    }

    /// A receipt about this loan's hand-over.
    pub(super) fn receipt(&self, event: Event, at: Timestamp, detail: Option<String>) -> Receipt {
        Receipt {
            attempt: self.attempts + 1,
            detail,
            ..Receipt::of(event, self.subject.clone(), at)
        }
    }
}

/// Receipts and settlements that are owed.
#[derive(Default)]
pub(super) struct Books {
    pub(super) receipts: Vec<Receipt>,
    pub(super) settle: Vec<Settle>,
    /// Claims that ended. They are told before the hold is: a hold that was not told gives the
    /// message again, and then this is known of it.
    pub(super) ended: Vec<(Claim, Fate)>,
    /// Classes whose windows closed, and when they open again.
    pub(super) closed: BTreeMap<Class, Timestamp>,
    pub(super) learned: Learned,
}

impl Books {
    pub(super) fn file(&mut self, event: Event, loan: &Loan, at: Timestamp, why: Option<String>) {
        self.receipts.push(loan.receipt(event, at, why));
    }

    /// The last receipt of a loan: nothing is copied.
    pub(super) fn close(&mut self, event: Event, loan: Loan, at: Timestamp, why: Option<String>) {
        self.receipts.push(Receipt {
            attempt: loan.attempts + 1,
            detail: why,
            ..Receipt::of(event, loan.subject, at)
        });
    }

    /// What came of a hand-over, if it was claimed.
    pub(super) fn conclude(&mut self, claim: Option<Claim>, fate: Fate) {
        self.ended.extend(claim.map(|claim| (claim, fate)));
    }

    pub(super) fn settle(&mut self, token: Token, verdict: Verdict) {
        self.settle.push(Settle { token, verdict });
    }

    pub(super) fn bury(&mut self, loan: Loan, at: Timestamp, why: String) {
        let token = loan.token;
        self.close(Event::Buried, loan, at, Some(why.clone()));
        self.settle(token, Verdict::Bury { why });
        self.learned.tick.buried += 1;
    }

    pub(super) fn defer(&mut self, token: Token, due: Timestamp, attempted: bool) {
        let due = shelf_of(due);
        self.settle(token, Verdict::Defer { due, attempted });
    }

    /// Whether there is nothing to file and nothing to settle.
    pub(super) fn is_clear(&self) -> bool {
        self.receipts.is_empty() && self.settle.is_empty() && self.ended.is_empty()
    }

    /// What is owed by now; nothing is afterwards.
    pub(super) fn take(&mut self) -> Owed {
        Owed {
            receipts: std::mem::take(&mut self.receipts),
            ended: std::mem::take(&mut self.ended),
            settle: std::mem::take(&mut self.settle),
        }
    }

    /// Takes over what a round owes before any hand-over.
    pub(super) fn join(&mut self, other: Self) {
        self.receipts.extend(other.receipts);
        self.settle.extend(other.settle);
        self.ended.extend(other.ended);
        for (class, until) in other.closed {
            let opening = self.closed.entry(class).or_insert(until);
            *opening = until.min(*opening);
        }
        self.learned.tick.add(&other.learned.tick);
        if let Some(closes) = other.learned.closes {
            self.learned.closes_at(closes);
        }
    }
}

impl Learned {
    /// A window that a permit stands on closes then.
    pub(super) fn closes_at(&mut self, closes: Timestamp) {
        self.closes = Some(self.closes.map_or(closes, |other| other.min(closes)));
    }
}

/// What is filed, concluded and settled together.
pub(super) struct Owed {
    receipts: Vec<Receipt>,
    ended: Vec<(Claim, Fate)>,
    settle: Vec<Settle>,
}

/// What became of filing and settling: loans that had lapsed by then, and what failed.
pub(super) type Filed = (u64, Option<Error>);

impl LaneReleaser {
    pub(super) async fn record(&self, receipts: Vec<Receipt>) -> Result<()> {
        if receipts.is_empty() {
            return Ok(());
        }
        self.parts.metrics.receipts(receipts.len() as u64);
        self.parts.receipts.append(receipts).await
    }

    /// Files receipts and concludes claims, then ends loans.
    pub(super) async fn file(&self, owed: Owed) -> Filed {
        let recorded = self.record(owed.receipts);
        let (recorded, concluded) = join(recorded, self.end_claims(owed.ended)).await;
        // Outcomes are settled even when they could not be recorded: to hand them over again would
        // be worse than a receipt that says only "attempted".
        match self.settle(owed.settle).await {
            Ok(lapsed) => (lapsed, recorded.and(concluded).err()),
            Err(fault) => (0, Some(fault)),
        }
    }

    pub(super) async fn end_claims(&self, ended: Vec<(Claim, Fate)>) -> Result<()> {
        if ended.is_empty() {
            return Ok(());
        }
        let now = self.parts.clock.now();
        self.attempts.conclude(ended, now).await
    }

    async fn settle(&self, settle: Vec<Settle>) -> Result<u64> {
        if settle.is_empty() {
            return Ok(0);
        }
        let now = self.parts.clock.now();
        let settled = self.parts.hold.settle(settle, now).await?;
        let lapsed = |settled: &&Settled| **settled == Settled::Lapsed;
        let lapsed = settled.iter().filter(lapsed).count();
        if lapsed > 0 {
            tracing::warn!(lane = %self.options.lane, lapsed, "settled after the loan had lapsed");
        }
        Ok(lapsed as u64)
    }

    /// Windows that closed while a backlog was still due: the rest of each class is held again as
    /// whole shelves, with one receipt that says how many.
    pub(super) async fn hold_the_rest(&self, closed: &BTreeMap<Class, Timestamp>) -> Result<()> {
        if !self.parts.hold.capability().redate {
            return Ok(());
        }
        for (class, until) in closed {
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
            let why = format!("windows closed: class {} held again", class.as_str());
            let receipt = Receipt {
                count: moved,
                until: Some(*until),
                detail: Some(why),
                ..Receipt::of(Event::Held, subject, now)
            };
            self.parts.receipts.append(vec![receipt]).await?;
        }
        Ok(())
    }
}

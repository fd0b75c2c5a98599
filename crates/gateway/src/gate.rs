//! The only way in: validate, decide, put, file the receipt, answer.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nightgate_core::{
    Channel, Decision, FieldFault, Message, MessageId, Purpose, Reason, RecipientKey,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::alert::{desk::Alerts, text};
use crate::clock::Clock;
use crate::decider::{Decided, Decider, names};
use crate::error::Result;
use crate::hold::due::{shelf_of, shelf_of_now};
use crate::hold::{Held, HoldStore, Lane, Put};
use crate::metrics::Metrics;
use crate::receipt::{Event, Receipt, ReceiptLog, Subject};

/// Which lane carries a message.
#[derive(Clone, Debug, Default)]
pub struct Routes(HashMap<(Purpose, Channel), Lane>);

impl Routes {
    /// Routes from pairs of what a lane carries; a later pair replaces an earlier one.
    pub fn new(pairs: impl IntoIterator<Item = ((Purpose, Channel), Lane)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// The lane for a message, if any lane carries its purpose and channel.
    #[must_use]
    pub fn lane(&self, message: &Message) -> Option<&Lane> {
        self.0.get(&(message.purpose, message.channel))
    }
}

/// The parts a gate is made of.
pub struct GateParts {
    /// Rules, house and consent.
    pub decider: Arc<Decider>,
    /// Lanes by purpose and channel.
    pub routes: Routes,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where messages are put.
    pub hold: Arc<dyn HoldStore>,
    /// Where receipts are filed.
    pub receipts: Arc<dyn ReceiptLog>,
    /// Where alarms are raised.
    pub alerts: Alerts,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The gate. Cheap to share behind an `Arc`; holds no state of its own.
pub struct Gate {
    parts: GateParts,
    wake: watch::Sender<u64>,
}

/// What became of one message at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Stored, and may leave now.
    Accepted,
    /// Stored, and kept until `due`.
    Held,
    /// Not stored: our rules say never.
    Refused,
    /// Its id is known already; nothing was changed.
    Duplicate,
    /// Not stored: a field breaks a rule.
    Invalid,
}

impl Status {
    /// Its one name, in JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Held => "held",
            Self::Refused => "refused",
            Self::Duplicate => "duplicate",
            Self::Invalid => "invalid",
        }
    }
}

/// The gate's answer to one message.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The message.
    pub id: MessageId,
    /// What became of it.
    pub status: Status,
    /// When it is worth asking again (held), or now (accepted).
    pub due: Option<Timestamp>,
    /// The recipient's zone, in which `due` is shown: the first of the candidates.
    pub zone: Option<TimeZone>,
    /// Why, unless it is invalid or a duplicate.
    pub reason: Option<Reason>,
    /// What the rules answered, for a sentence about `reason`; with it and without it alike.
    pub answer: Option<nightgate_core::Answer>,
    /// The rules its fields break, if it is invalid.
    pub faults: Vec<FieldFault>,
}

/// A valid message on its way through the gate.
struct Entering {
    place: usize,
    message: Message,
    key: RecipientKey,
    lane: Lane,
}

impl Gate {
    /// A gate over these parts.
    #[must_use]
    pub fn new(parts: GateParts) -> Self {
        Self {
            parts,
            wake: watch::Sender::new(0),
        }
    }

    /// Changes whenever messages came in that may leave: wakes the releaser.
    #[must_use]
    pub fn woken(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    /// Rules, house and consent: for dry runs.
    #[must_use]
    pub fn decider(&self) -> &Decider {
        &self.parts.decider
    }

    /// Takes messages in. One answer each, in order; an invalid one costs only itself. When it
    /// returns, every `Accepted` and `Held` message is durable, and so is its receipt.
    ///
    /// # Errors
    /// When the hold or the receipt log cannot be written: nothing was promised, send the same
    /// messages again; their ids make that safe.
    pub async fn accept(&self, messages: Vec<Message>) -> Result<Vec<Accepted>> {
        let began = self.parts.clock.monotonic();
        let purposes: Vec<Purpose> = messages.iter().map(|message| message.purpose).collect();
        let mut answers = Vec::with_capacity(messages.len());
        let entering = self.validate(messages, &mut answers);
        let (decided, at) = {
            let messages: Vec<&Message> = entering.iter().map(|one| &one.message).collect();
            let keys: Vec<&RecipientKey> = entering.iter().map(|one| &one.key).collect();
            let (decider, clock) = (&self.parts.decider, &*self.parts.clock);
            decider.decide_now(&messages, &keys, clock).await
        };
        let now = at.wall;
        if let Some(fault) = &decided.consent_fault {
            self.parts.alerts.raise(text::of_fault(fault, now));
        }
        let outcome = self.enter(entering, decided.all, now, &mut answers).await;
        if let Err(fault) = &outcome {
            self.parts.alerts.raise(text::of_fault(fault, now));
        }
        outcome?;
        for (answer, purpose) in answers.iter().zip(purposes) {
            self.parts
                .metrics
                .messages(answer.status.as_str(), purpose, 1);
        }
        self.parts
            .metrics
            .accept_took(self.parts.clock.monotonic().saturating_sub(began));
        if answers
            .iter()
            .any(|answer| answer.status == Status::Accepted)
        {
            self.wake.send_modify(|wakes| *wakes += 1);
        }
        Ok(answers)
    }

    /// Answers the invalid ones and passes on the rest. Every answer gets its place at once.
    fn validate(&self, messages: Vec<Message>, answers: &mut Vec<Accepted>) -> Vec<Entering> {
        let mut entering = Vec::with_capacity(messages.len());
        for (place, message) in messages.into_iter().enumerate() {
            let mut faults = message.faults();
            let lane = self.parts.routes.lane(&message).cloned();
            if lane.is_none() {
                let rule = format!(
                    "{} has no lane for {} messages",
                    message.channel, message.purpose
                );
                faults.push(FieldFault::new("channel", rule));
            }
            let status = if faults.is_empty() {
                Status::Duplicate
            } else {
                Status::Invalid
            };
            let id = message.id.clone();
            answers.push(Accepted {
                id,
                status,
                due: None,
                zone: None,
                reason: None,
                answer: None,
                faults,
            });
            if let (Status::Duplicate, Some(lane)) = (status, lane) {
                let key = self.parts.decider.key(&message);
                entering.push(Entering {
                    place,
                    message,
                    key,
                    lane,
                });
            }
        }
        entering
    }

    /// Puts what may enter, files receipts for what is new, and completes the answers. Put comes
    /// first: only it can tell a new message from a duplicate, which must not get a second receipt.
    async fn enter(
        &self,
        entering: Vec<Entering>,
        decided: Vec<Decided>,
        now: Timestamp,
        answers: &mut [Accepted],
    ) -> Result<()> {
        let mut held = Vec::with_capacity(entering.len());
        let mut staged = Vec::with_capacity(entering.len());
        let mut refused = Vec::new();
        for (one, decided) in entering.into_iter().zip(decided) {
            let (decision, code) = names(&decided.decision);
            self.parts.metrics.decision(decision, code);
            let told = nightgate_core::Answer::from(&decided.decision);
            let (status, due, reason) = fate(decided.decision);
            let receipt = first_receipt(&one, status, due, &reason, now);
            let answer = &mut answers[one.place];
            answer.zone = decided.place.zones.all.first().cloned();
            answer.reason = Some(reason);
            answer.answer = Some(told);
            if status == Status::Refused {
                refused.push((one.place, status, receipt));
                continue;
            }
            answer.due = Some(due.unwrap_or(now));
            staged.push((one.place, status, receipt));
            held.push(Held {
                message: one.message,
                key: one.key,
                lane: one.lane,
                class: decided.class,
                due: due.map_or_else(|| shelf_of_now(now), shelf_of),
                accepted_at: now,
            });
        }
        let known = self.known(&refused).await?;
        let puts = if held.is_empty() {
            Vec::new()
        } else {
            self.parts.hold.put(held, now).await?
        };
        let new = known.into_iter().map(|known| !known);
        let new = new.chain(puts.into_iter().map(|put| put == Put::New));
        self.file(refused.into_iter().chain(staged).zip(new), answers)
            .await
    }

    /// For each refused message: is its id in the hold? Then it is a duplicate, not a new refusal.
    async fn known(&self, refused: &[(usize, Status, Receipt)]) -> Result<Vec<bool>> {
        let ids: Vec<MessageId> = refused
            .iter()
            .filter_map(|(_, _, receipt)| receipt.subject.message.clone())
            .collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.parts.hold.find(&ids).await?;
        Ok(found.into_iter().map(|found| found.is_some()).collect())
    }

    /// Files the receipts of what is new and completes all answers. A duplicate whose first receipt
    /// was lost to a crash between put and filing gets it now.
    async fn file(
        &self,
        staged: impl Iterator<Item = ((usize, Status, Receipt), bool)>,
        answers: &mut [Accepted],
    ) -> Result<()> {
        let mut receipts = Vec::new();
        let mut duplicates = Vec::new();
        for ((place, status, receipt), new) in staged {
            if new {
                answers[place].status = status;
                receipts.push(receipt);
            } else {
                duplicates.push((place, receipt));
            }
        }
        if !duplicates.is_empty() {
            let ids: Vec<MessageId> = duplicates
                .iter()
                .map(|(place, _)| answers[*place].id.clone())
                .collect();
            let filed = self.parts.receipts.known(&ids).await?;
            let found = self.parts.hold.find(&ids).await?;
            for (((place, receipt), filed), found) in duplicates.into_iter().zip(filed).zip(found) {
                let answer = &mut answers[place];
                answer.reason = None;
                answer.answer = None;
                answer.due = found.map(|found| found.held.due);
                if !filed {
                    receipts.push(receipt);
                }
            }
        }
        if receipts.is_empty() {
            return Ok(());
        }
        self.parts.metrics.receipts(receipts.len() as u64);
        self.parts.receipts.append(receipts).await
    }
}

/// A decision as a status, the instant to ask again (held only) and the reason.
fn fate(decision: Decision) -> (Status, Option<Timestamp>, Reason) {
    match decision {
        Decision::Send(permit) => (Status::Accepted, None, permit.reason().clone()),
        Decision::Hold { until, reason } => (Status::Held, Some(until), reason),
        Decision::Refuse { reason } => (Status::Refused, None, reason),
    }
}

fn first_receipt(
    one: &Entering,
    status: Status,
    until: Option<Timestamp>,
    reason: &Reason,
    at: Timestamp,
) -> Receipt {
    let event = match status {
        Status::Held => Event::Held,
        Status::Refused => Event::Refused,
        Status::Accepted | Status::Duplicate | Status::Invalid => Event::Accepted,
    };
    let subject = Subject::of(&one.message, &one.key, &one.lane);
    Receipt {
        until,
        reason: Some(reason.clone()),
        ..Receipt::of(event, subject, at)
    }
}

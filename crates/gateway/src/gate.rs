//! The only way in: validate, decide, put, file the receipt, answer.

mod batch;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Answer, Channel, Code, FieldFault, Message, MessageId, Purpose, Reason};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::alert::{desk::Alerts, text};
use crate::clock::Clock;
use crate::decider::Decider;
use crate::error::{Error, Result};
use crate::hold::{HoldStore, Lane, Limit, Put, Refusing};
use crate::metrics::Metrics;
use crate::receipt::{Event, Filed, Receipt, ReceiptAsk, ReceiptLog};
use batch::{Checked, Staged};

/// Which lane carries a message.
#[derive(Clone, Debug, Default)]
pub struct Routes([Option<Lane>; ROUTES]);

/// Pairs of purpose and channel.
const ROUTES: usize = Purpose::ALL.len() * Channel::ALL.len();

impl Routes {
    /// Routes from pairs of what a lane carries; a later pair replaces an earlier one.
    pub fn new(pairs: impl IntoIterator<Item = ((Purpose, Channel), Lane)>) -> Self {
        let mut routes = Self::default();
        for ((purpose, channel), lane) in pairs {
            routes.0[Self::place(purpose, channel)] = Some(lane);
        }
        routes
    }

    /// The lane for a message, if any lane carries its purpose and channel.
    #[must_use]
    pub fn lane(&self, message: &Message) -> Option<&Lane> {
        self.0[Self::place(message.purpose, message.channel)].as_ref()
    }

    /// The same lanes under names of their own: counted by who handles one batch, on whatever core
    /// that is, and by nobody else.
    fn copied(&self) -> Self {
        let copy = |lane: &Option<Lane>| lane.as_ref().map(|lane| Lane::new(lane.as_str()));
        Self(self.0.each_ref().map(copy))
    }

    const fn place(purpose: Purpose, channel: Channel) -> usize {
        purpose as usize * Channel::ALL.len() + channel as usize
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
    /// How long an id is known after its message is done (`hold.keep_ids`).
    pub keep_ids: SignedDuration,
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
    /// Not stored: the hold has no room for it now. Send it again later.
    NoRoom,
}

impl Status {
    /// Every status, in declaration order.
    pub const ALL: [Self; 6] = [
        Self::Accepted,
        Self::Held,
        Self::Refused,
        Self::Duplicate,
        Self::Invalid,
        Self::NoRoom,
    ];

    /// Its one name, in JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Held => "held",
            Self::Refused => "refused",
            Self::Duplicate => "duplicate",
            Self::Invalid => "invalid",
            Self::NoRoom => "no_room",
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
    /// What decided, unless it is invalid. Of a duplicate only the clock means anything.
    pub ruling: Option<Arc<Ruling>>,
    /// The whole of why, if [`Detail::Reasons`] was asked for, unless it is invalid or a duplicate.
    pub why: Option<Box<Why>>,
    /// The rules its fields break, if it is invalid.
    pub faults: Vec<FieldFault>,
    /// What ran out, if there is no room for it.
    pub limit: Option<Limit>,
}

/// What decided about a message; one for all messages of a batch that were told the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What decided.
    pub code: Code,
    /// The rule that decided, if one did.
    pub rule: Option<Arc<str>>,
    /// The candidate zones, joined by `+`.
    pub zone: Arc<str>,
    /// The recipient's clock, on which `due` is shown: the first of the candidates.
    pub clock: Option<TimeZone>,
}

/// What a sentence for people is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// What the rules answered.
    pub answer: Answer,
    /// Why.
    pub reason: Reason,
}

/// How much the answers of a gate tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What decided.
    Rulings,
    /// Also the whole reason.
    Reasons,
}

/// Messages that are in the hold, and their receipts, which are not yet filed.
#[must_use = "what is not filed has no receipt"]
pub struct Entered {
    answers: Vec<Accepted>,
    purposes: Vec<Purpose>,
    /// Of what is new.
    receipts: Vec<Receipt>,
    /// The places of what was known already, with the receipt of who has none.
    duplicates: Vec<(usize, Receipt)>,
    began: Duration,
    at: Timestamp,
    outcome: Result<()>,
}

/// A batch that could not be stored: nothing was promised.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub fault: Error,
    /// The ids, in order; nothing else in them holds.
    pub answers: Vec<Accepted>,
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
        let entered = self.put(messages, Detail::Reasons).await;
        self.file(entered).await.map_err(|failed| failed.fault)
    }

    /// The first half of [`Gate::accept`]: validates, decides and puts. Put comes before the
    /// receipt: only it can tell a new message from a duplicate, which must not get a second
    /// receipt. Nothing is promised before [`Gate::file`] has answered; meanwhile the next batch
    /// may be put.
    pub async fn put(&self, messages: Vec<Message>, detail: Detail) -> Entered {
        let began = self.parts.clock.monotonic();
        let purposes = messages.iter().map(|message| message.purpose).collect();
        let checked = self.check(&messages);
        let told = {
            let advertised = checked.advertised(&messages);
            self.parts.decider.ask(&advertised).await
        };
        let now = self.parts.clock.now();
        let (answers, fault) = self.parts.decider.answers(told, now);
        let (mut answered, staged) = checked.decide(messages, answers, now, detail);
        if let Some(fault) = &fault {
            self.parts.alerts.raise(text::of_fault(fault, now));
        }
        staged.counts.tell(&self.parts.metrics);
        let stored = self.store(staged, now, &mut answered).await;
        if let Err(fault) = &stored {
            self.parts.alerts.raise(text::of_fault(fault, now));
        }
        let (outcome, (receipts, duplicates)) = match stored {
            Ok(receipts) => (Ok(()), receipts),
            Err(fault) => (Err(fault), (Vec::new(), Vec::new())),
        };
        Entered {
            answers: answered,
            purposes,
            receipts,
            duplicates,
            began,
            at: now,
            outcome,
        }
    }

    /// The second half: files the receipts of what is new and completes the answers. Batches of one
    /// producer are filed in the order in which they were put.
    ///
    /// # Errors
    /// When either half could not be written.
    pub async fn file(&self, mut entered: Entered) -> std::result::Result<Vec<Accepted>, Failed> {
        let outcome = match std::mem::replace(&mut entered.outcome, Ok(())) {
            Ok(()) => self.file_receipts(&mut entered).await.inspect_err(|fault| {
                self.parts.alerts.raise(text::of_fault(fault, entered.at));
            }),
            failed => failed,
        };
        let Entered {
            answers,
            purposes,
            began,
            ..
        } = entered;
        if let Err(fault) = outcome {
            return Err(Failed { fault, answers });
        }
        count(&answers, &purposes, &self.parts.metrics);
        let took = self.parts.clock.monotonic().saturating_sub(began);
        self.parts.metrics.accept_took(took);
        let may_leave = |answer: &Accepted| answer.status == Status::Accepted;
        if answers.iter().any(may_leave) {
            self.wake.send_modify(|wakes| *wakes += 1);
        }
        Ok(answers)
    }

    /// Finds faults, lanes and keys.
    fn check(&self, messages: &[Message]) -> Checked {
        let mut checked = Checked::with_capacity(messages.len());
        let routes = self.parts.routes.copied();
        for message in messages {
            let mut faults = message.faults();
            let lane = routes.lane(message);
            if lane.is_none() {
                let rule = format!(
                    "{} has no lane for {} messages",
                    message.channel, message.purpose
                );
                faults.push(FieldFault::new("channel", rule));
            }
            match lane.filter(|_| faults.is_empty()) {
                Some(lane) => checked.valid(lane.clone(), self.parts.decider.key(message)),
                None => checked.invalid(faults),
            }
        }
        checked
    }

    /// Puts what may enter; gives the receipts of what is new and those of duplicates.
    async fn store(
        &self,
        staged: Staged,
        now: Timestamp,
        answers: &mut [Accepted],
    ) -> Result<(Vec<Receipt>, Vec<(usize, Receipt)>)> {
        let Staged {
            held,
            mut places,
            mut receipts,
            refused,
            ..
        } = staged;
        let known = self.known(&refused, now).await?;
        let puts = match held.is_empty() {
            true => Vec::new(),
            false => self.parts.hold.put(held, now).await?,
        };
        // Those the hold refused come first, so their places do as well.
        let mut became: Vec<Put> = known.into_iter().map(put_of_known).collect();
        became.extend(puts);
        if !refused.is_empty() {
            let (mut first, mut before): (Vec<_>, Vec<_>) = refused.into_iter().unzip();
            first.append(&mut places);
            before.append(&mut receipts);
            (places, receipts) = (first, before);
        }
        if became.len() == receipts.len() && became.iter().all(|put| *put == Put::New) {
            return Ok((receipts, Vec::new()));
        }
        let (mut duplicates, mut full) = (Vec::new(), Vec::new());
        let mut filed = Vec::with_capacity(receipts.len());
        for ((place, receipt), put) in places.into_iter().zip(receipts).zip(became) {
            let answer = &mut answers[place];
            match put {
                Put::New => filed.push(receipt),
                Put::Duplicate => {
                    (answer.status, answer.why) = (Status::Duplicate, None);
                    duplicates.push((place, receipt));
                }
                Put::Full => full.push((place, receipt.subject.purpose)),
            }
        }
        self.turn_away(&full, now, answers).await?;
        Ok((filed, duplicates))
    }

    /// Answers those the hold had no room for, without a receipt: nothing became of them. One alarm
    /// a limit. A message that is too large for this hold is invalid: more room would not help it.
    async fn turn_away(
        &self,
        full: &[(usize, Option<Purpose>)],
        now: Timestamp,
        answers: &mut [Accepted],
    ) -> Result<()> {
        if full.is_empty() {
            return Ok(());
        }
        let room = self.parts.hold.room().await?;
        let mut limits = Vec::new();
        for &(place, purpose) in full {
            let limit = room.limit(purpose.unwrap_or(Purpose::Informational));
            let answer = &mut answers[place];
            (answer.due, answer.ruling, answer.why) = (None, None, None);
            if limit == Limit::MessageMax {
                // It will be too large again: its producer's affair, no alarm.
                let rule = format!(
                    "is too large for the store, which writes at most {} bytes a message",
                    room.message_max.unwrap_or_default()
                );
                answer.status = Status::Invalid;
                answer.faults = vec![FieldFault::new("body", rule)];
                continue;
            }
            (answer.status, answer.limit) = (Status::NoRoom, Some(limit));
            if !limits.contains(&limit) {
                limits.push(limit);
            }
        }
        for limit in limits {
            let nearly = room.refusing == Refusing::Advertising && limit != Limit::ShelfMax;
            self.parts.alerts.raise(match nearly {
                true => text::hold_nearly_full(limit.as_str(), now),
                false => text::hold_full(limit.as_str(), now),
            });
        }
        Ok(())
    }

    /// For each refused message: is its id in the hold? Then it is a duplicate, not a new refusal.
    async fn known(&self, refused: &[(usize, Receipt)], now: Timestamp) -> Result<Vec<bool>> {
        let ids: Vec<MessageId> = refused
            .iter()
            .filter_map(|(_, receipt)| receipt.subject.message.clone())
            .collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.parts.hold.find(&ids).await?;
        let mut known: Vec<bool> = found.iter().map(Option::is_some).collect();
        if !self.parts.hold.capability().ended {
            let filed = self.parts.receipts.known(&ids).await?;
            for ((id, known), filed) in ids.iter().zip(&mut known).zip(filed) {
                *known = *known || filed && self.was_let_in(id, now).await?;
            }
        }
        Ok(known)
    }

    /// Where the hold tells nothing of what ended: whether receipts within the horizon do.
    async fn was_let_in(&self, id: &MessageId, now: Timestamp) -> Result<bool> {
        let ask = ReceiptAsk {
            message: Some(id.clone()),
            from: now.checked_sub(self.parts.keep_ids).ok(),
            ..ReceiptAsk::default()
        };
        let filed = self.parts.receipts.query(&ask).await?;
        // A message that was refused before it came in has no other receipts.
        let let_in = |filed: &Filed| filed.receipt.event != Event::Refused;
        Ok(filed.iter().any(let_in))
    }

    /// Files the receipts of what is new. A duplicate whose first receipt was lost to a crash
    /// between put and filing gets it now.
    async fn file_receipts(&self, entered: &mut Entered) -> Result<()> {
        let mut receipts = std::mem::take(&mut entered.receipts);
        let duplicates = std::mem::take(&mut entered.duplicates);
        if !duplicates.is_empty() {
            let ids: Vec<MessageId> = duplicates
                .iter()
                .map(|(place, _)| entered.answers[*place].id.clone())
                .collect();
            let filed = self.parts.receipts.known(&ids).await?;
            let found = self.parts.hold.find(&ids).await?;
            for (((place, receipt), filed), found) in duplicates.into_iter().zip(filed).zip(found) {
                entered.answers[place].due = found.map(|found| found.held.due);
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

/// A refused message whose id is in the hold is a duplicate.
const fn put_of_known(known: bool) -> Put {
    if known { Put::Duplicate } else { Put::New }
}

/// Counts the answers.
fn count(answers: &[Accepted], purposes: &[Purpose], metrics: &Metrics) {
    let mut counts = [[0; Status::ALL.len()]; Purpose::ALL.len()];
    for (answer, purpose) in answers.iter().zip(purposes) {
        counts[*purpose as usize][answer.status as usize] += 1;
    }
    for (purpose, counts) in Purpose::ALL.iter().zip(counts) {
        for (status, count) in Status::ALL.iter().zip(counts) {
            if count > 0 {
                metrics.messages(status.as_str(), *purpose, count);
            }
        }
    }
}

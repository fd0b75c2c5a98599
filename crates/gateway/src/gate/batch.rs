//! One batch on its way through the gate: what was found out of each message, and what is to be
//! stored of it.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nightgate_core::{Answer, Decision, FieldFault, Message, Place, Purpose, Reason, RecipientKey};

use super::{Accepted, Detail, Ruling, Status, Why};
use crate::decider::{Answers, names};
use crate::hold::due::{shelf_of, shelf_of_now};
use crate::hold::{Held, Lane};
use crate::metrics::Metrics;
use crate::receipt::{Event, Receipt, Subject};

/// What is known of each message before the rules are asked.
pub(super) struct Checked {
    /// By message; `None` for invalid ones.
    lanes: Vec<Option<Lane>>,
    /// By valid message.
    keys: Vec<RecipientKey>,
    /// By invalid message.
    faults: Vec<Vec<FieldFault>>,
}

/// What is to be stored of a batch.
pub(super) struct Staged {
    pub(super) held: Vec<Held>,
    /// The places of what is in `held`, in the batch.
    pub(super) places: Vec<usize>,
    /// Its receipts.
    pub(super) receipts: Vec<Receipt>,
    /// Places and receipts of what the rules refuse.
    pub(super) refused: Vec<(usize, Receipt)>,
    pub(super) counts: Counts,
}

impl Checked {
    pub(super) fn with_capacity(messages: usize) -> Self {
        Self {
            lanes: Vec::with_capacity(messages),
            keys: Vec::with_capacity(messages),
            faults: Vec::new(),
        }
    }

    pub(super) fn valid(&mut self, lane: Lane, key: RecipientKey) {
        self.lanes.push(Some(lane));
        self.keys.push(key);
    }

    pub(super) fn invalid(&mut self, faults: Vec<FieldFault>) {
        self.lanes.push(None);
        self.faults.push(faults);
    }

    /// The recipients of advertising among the valid messages, in order.
    pub(super) fn advertised(&self, messages: &[Message]) -> Cow<'_, [RecipientKey]> {
        let is_ad = |message: &Message| message.purpose == Purpose::Advertising;
        if messages.iter().all(is_ad) {
            return Cow::Borrowed(&self.keys);
        }
        let valid = messages.iter().zip(&self.lanes);
        let valid = valid.filter(|(_, lane)| lane.is_some());
        let ads = valid.zip(&self.keys);
        let ads = ads.filter(|((message, _), _)| is_ad(message));
        Cow::Owned(ads.map(|(_, key)| key.clone()).collect())
    }

    /// One answer a message, and what is to be stored. Every message is touched once: a batch is
    /// larger than what the processor keeps at hand.
    pub(super) fn decide(
        self,
        messages: Vec<Message>,
        mut answers: Answers<'_>,
        now: Timestamp,
        detail: Detail,
    ) -> (Vec<Accepted>, Staged) {
        let mut staged = Staged::with_capacity(self.keys.len());
        let mut answered = Vec::with_capacity(messages.len());
        let (mut keys, mut faults) = (self.keys.into_iter(), self.faults.into_iter());
        let (mut rulings, mut shelves) = (Rulings::default(), Shelves::new(now));
        for (place, (message, lane)) in messages.into_iter().zip(self.lanes).enumerate() {
            let mut answer = Accepted {
                id: message.id.clone(),
                status: Status::Invalid,
                due: None,
                ruling: None,
                why: None,
                faults: Vec::new(),
                limit: None,
            };
            let Some((lane, key)) = lane.and_then(|lane| Some((lane, keys.next()?))) else {
                answer.faults = faults.next().unwrap_or_default();
                answered.push(answer);
                continue;
            };
            let (decision, at, class) = answers.next(&message);
            staged.counts.add(&decision);
            let told = (detail == Detail::Reasons).then(|| Answer::from(&decision));
            let (status, until, reason) = fate(decision);
            answer.status = status;
            answer.ruling = Some(rulings.of(&reason, at));
            answer.why = told.map(|answer| {
                let reason = reason.clone();
                Box::new(Why { answer, reason })
            });
            let receipt = Receipt {
                until,
                reason: Some(reason),
                ..Receipt::of(event(status), Subject::of(&message, &key, &lane), now)
            };
            if status == Status::Refused {
                staged.refused.push((place, receipt));
            } else {
                answer.due = Some(until.unwrap_or(now));
                staged.places.push(place);
                staged.receipts.push(receipt);
                staged.held.push(Held {
                    message,
                    key,
                    lane,
                    class,
                    due: shelves.of(until),
                    accepted_at: now,
                });
            }
            answered.push(answer);
        }
        (answered, staged)
    }
}

impl Staged {
    fn with_capacity(messages: usize) -> Self {
        Self {
            held: Vec::with_capacity(messages),
            places: Vec::with_capacity(messages),
            receipts: Vec::with_capacity(messages),
            refused: Vec::new(),
            counts: Counts::default(),
        }
    }
}

/// A decision as a status, the instant to ask again (held only) and the reason.
fn fate(decision: Decision) -> (Status, Option<Timestamp>, Reason) {
    match decision {
        Decision::Send(permit) => (Status::Accepted, None, permit.into_reason()),
        Decision::Hold { until, reason } => (Status::Held, Some(until), reason),
        Decision::Refuse { reason } => (Status::Refused, None, reason),
    }
}

fn event(status: Status) -> Event {
    match status {
        Status::Held => Event::Held,
        Status::Refused => Event::Refused,
        _ => Event::Accepted,
    }
}

/// Which shelf each message goes on; most go on that of the one before.
struct Shelves {
    now: Timestamp,
    last: (Timestamp, Timestamp),
}

impl Shelves {
    fn new(now: Timestamp) -> Self {
        Self {
            now: shelf_of_now(now),
            last: (now, shelf_of(now)),
        }
    }

    fn of(&mut self, until: Option<Timestamp>) -> Timestamp {
        let Some(until) = until else { return self.now };
        if self.last.0 != until {
            self.last = (until, shelf_of(until));
        }
        self.last.1
    }
}

/// The rulings of one batch, each once. There are few: what messages are told depends on their
/// rules and places.
#[derive(Default)]
struct Rulings {
    all: Vec<(Arc<[TimeZone]>, Arc<Ruling>)>,
    last: usize,
}

impl Rulings {
    fn of(&mut self, reason: &Reason, place: &Place) -> Arc<Ruling> {
        let is_it = |(zones, ruling): &(Arc<[TimeZone]>, Arc<Ruling>)| {
            Arc::ptr_eq(zones, &place.zones.all)
                && ruling.code == reason.code
                && ruling.rule == reason.rule
                && ruling.zone == reason.zone
        };
        if !self.all.get(self.last).is_some_and(is_it) {
            self.last = self.all.iter().position(is_it).unwrap_or_else(|| {
                let ruling = Ruling {
                    code: reason.code,
                    rule: reason.rule.clone(),
                    zone: Arc::clone(&reason.zone),
                    clock: place.zones.all.first().cloned(),
                };
                self.all
                    .push((Arc::clone(&place.zones.all), Arc::new(ruling)));
                self.all.len() - 1
            });
        }
        Arc::clone(&self.all[self.last].1)
    }
}

/// How often each answer was given.
#[derive(Default)]
pub(super) struct Counts(Vec<(Name, u64)>);

/// A decision and its code, as the metrics name them.
type Name = (&'static str, &'static str);

impl Counts {
    fn add(&mut self, decision: &Decision) {
        let name = names(decision);
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => self.0.push((name, 1)),
        }
    }

    pub(super) fn tell(&self, metrics: &Metrics) {
        for ((decision, code), count) in &self.0 {
            metrics.decisions(decision, code, *count);
        }
    }
}

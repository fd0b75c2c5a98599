//! What becomes of one receive: taken in and deleted, put aside, or left in the queue.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nightgate_core::{FieldFault, Message};
use tokio::sync::{mpsc, oneshot};

use super::dead::reason;
use super::join::{Answered, Parcel};
use super::order::Behind;
use super::patience::{Patience, pass, whole};
use super::source::Source;
use crate::alert::text;
use crate::aws::queues::{BATCH_MAX, FaultKind, Incoming};
use crate::error::Kind;
use crate::gate::{Accepted, Status};

/// How often a deletion is tried. What is not deleted comes again and is known by its id.
const DELETES_MAX: u32 = 4;
/// Waits between deletions.
const BETWEEN_DELETES: Patience = Patience {
    min: Duration::from_millis(200),
    max: Duration::from_secs(2),
};
/// How long a message is hidden that could not be taken in: by how often it was received. Longer
/// waits spare its redrive policy, which counts receives; information must not wait for hours.
const AFTER_NO: Patience = Patience {
    min: Duration::from_secs(5),
    max: Duration::from_secs(300),
};

/// What becomes of a received message at its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nobody knows yet.
    Open,
    /// The gate has it: deleted.
    Taken,
    /// It cannot be read and went to the dead-letter queue: deleted.
    Dead,
    /// It cannot be read and stays as it is, until its time is up.
    Stays,
    /// It could not be taken in now: comes again after a while.
    Later,
    /// It stands behind one that stays: comes again after it.
    Behind,
}

impl Fate {
    const fn is_gone(self) -> bool {
        matches!(self, Self::Taken | Self::Dead)
    }

    /// As the metrics name it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Dead => "dead_letter",
            Self::Stays => "unreadable",
            Self::Open | Self::Later | Self::Behind => "left",
        }
    }
}

/// The handles of messages that are still worked on.
struct Pending(Mutex<BTreeSet<String>>);

impl Pending {
    fn of(incoming: &[Incoming]) -> Self {
        let handles = incoming.iter().map(|incoming| incoming.handle.clone());
        Self(Mutex::new(handles.collect()))
    }

    fn all(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self, handles: &[String]) {
        let mut all = self.all();
        for handle in handles {
            all.remove(handle);
        }
    }
}

impl Source {
    /// Brings one receive to its end, and keeps it hidden until then. Answers whether the road goes
    /// on: something was taken, or all that stays was put aside.
    pub(super) async fn take(&self, incoming: &[Incoming], parcels: &mpsc::Sender<Parcel>) -> bool {
        let pending = Pending::of(incoming);
        let fates = tokio::select! {
            fates = self.settle(incoming, &pending, parcels) => fates,
            never = self.keep_hidden(&pending) => match never {},
        };
        for fate in &fates {
            self.parts.metrics.source(&self.name, fate.as_str(), 1);
        }
        fates.iter().any(|fate| fate.is_gone()) || !fates.contains(&Fate::Later)
    }

    async fn settle(
        &self,
        incoming: &[Incoming],
        pending: &Pending,
        parcels: &mpsc::Sender<Parcel>,
    ) -> Vec<Fate> {
        let mut fates = vec![Fate::Open; incoming.len()];
        let mut behind = Behind::new(self.options.queue.is_fifo());
        let (mut places, mut messages) = (Vec::new(), Vec::new());
        for (place, incoming) in incoming.iter().enumerate() {
            if behind.holds(incoming) {
                fates[place] = Fate::Behind;
                continue;
            }
            match self.options.mapping.map(incoming) {
                Ok(message) => {
                    places.push(place);
                    messages.push(message);
                }
                Err(faults) => {
                    self.parts.metrics.malformed(1);
                    fates[place] = self.put_aside(incoming, &faults).await;
                    if !fates[place].is_gone() {
                        behind.stays(incoming);
                    }
                }
            }
        }
        for (place, answer) in places.into_iter().zip(self.ask(messages, parcels).await) {
            fates[place] = match answer.map(|answer| (answer.status, answer.faults)) {
                None | Some((Status::NoRoom, _)) => Fate::Later,
                Some((Status::Invalid, faults)) => self.put_aside(&incoming[place], &faults).await,
                Some(_) => Fate::Taken,
            };
        }
        keep_order(incoming, &mut fates, self.options.queue.is_fifo());
        self.delete(incoming, &fates, pending).await;
        self.leave(incoming, &fates, pending).await;
        fates
    }

    /// One answer a message: `None` where nothing was promised.
    async fn ask(
        &self,
        messages: Vec<Message>,
        parcels: &mpsc::Sender<Parcel>,
    ) -> Vec<Option<Accepted>> {
        let count = messages.len();
        if count == 0 {
            return Vec::new();
        }
        let alone = messages.clone();
        let (answer, answered) = oneshot::channel();
        let sent = parcels.send(Parcel { messages, answer }).await;
        let answered: Answered = match sent {
            Ok(()) => answered.await.unwrap_or(Err(Kind::Unavailable)),
            Err(_) => Err(Kind::Unavailable),
        };
        match answered {
            Ok(answers) => answers.into_iter().map(Some).collect(),
            // One message that the hold will never take must not keep back the others.
            Err(Kind::Invalid) => {
                let mut answers = Vec::with_capacity(count);
                for message in alone {
                    answers.push(self.ask_alone(message).await);
                }
                answers
            }
            Err(_) => (0..count).map(|_| None).collect(),
        }
    }

    async fn ask_alone(&self, message: Message) -> Option<Accepted> {
        let id = message.id.clone();
        let fault = match self.parts.gate.accept(vec![message]).await {
            Ok(answers) => return answers.into_iter().next(),
            Err(fault) => fault,
        };
        (fault.kind == Kind::Invalid).then(|| Accepted {
            id,
            status: Status::Invalid,
            due: None,
            ruling: None,
            why: None,
            faults: vec![FieldFault::new(
                "message",
                format!("the {} does not take it", fault.part),
            )],
            limit: None,
        })
    }

    /// A message that will never be right goes to the dead-letter queue, if there is one.
    async fn put_aside(&self, incoming: &Incoming, faults: &[FieldFault]) -> Fate {
        let moved = match &self.dead_letter {
            None => None,
            Some(dead) => match dead.take(incoming, faults).await {
                Ok(()) => Some(dead.queue().name()),
                Err(fault) => {
                    let (queue, now) = (dead.queue(), self.parts.clock.now());
                    tracing::warn!(%queue, %fault, "failed to send to the dead-letter queue");
                    let alarm = text::source_failing(queue.name(), 1, &fault.why, now);
                    self.parts.alerts.raise(alarm);
                    return Fate::Later;
                }
            },
        };
        let (reason, now) = (reason(faults), self.parts.clock.now());
        let alarm = text::source_unreadable(&self.name, &reason, moved, now);
        self.parts.alerts.raise(alarm);
        if moved.is_some() {
            return Fate::Dead;
        }
        let (message, queue) = (&incoming.id, &self.options.queue);
        tracing::warn!(message, %queue, reason, "a message cannot be read and stays in its queue");
        Fate::Stays
    }

    async fn delete(&self, incoming: &[Incoming], fates: &[Fate], pending: &Pending) {
        let mut left = handles(incoming, fates, Fate::is_gone);
        pending.done(&left);
        for attempt in 1..=DELETES_MAX {
            let mut failed = Vec::new();
            for handles in left.chunks(BATCH_MAX) {
                let deleted = self.parts.queues.delete(&self.options.queue, handles).await;
                for (handle, deleted) in handles.iter().zip(deleted) {
                    if let Err(fault) = deleted {
                        tracing::warn!(queue = %self.options.queue, %fault, attempt, "not deleted");
                        let again = !matches!(fault.kind, FaultKind::Rejected | FaultKind::Denied);
                        failed.extend(again.then(|| handle.clone()));
                    }
                }
            }
            left = failed;
            if left.is_empty() {
                return;
            }
            if attempt < DELETES_MAX {
                pass(&*self.parts.clock, BETWEEN_DELETES.wait(attempt)).await;
            }
        }
    }

    /// Brings messages that could not be taken in back after a while, each by how often it came.
    async fn leave(&self, incoming: &[Incoming], fates: &[Fate], pending: &Pending) {
        let later = incoming.iter().zip(fates);
        let later = later.filter(|(_, fate)| matches!(fate, Fate::Later | Fate::Behind));
        let later: Vec<(String, Duration)> = later
            .map(|(it, _)| (it.handle.clone(), whole(AFTER_NO.wait(it.receives))))
            .collect();
        pending.all().clear();
        for handles in later.chunks(BATCH_MAX) {
            let hidden = self.parts.queues.hide(&self.options.queue, handles).await;
            for fault in hidden.into_iter().filter_map(Result::err) {
                // It comes again all the same, when its time is up.
                tracing::debug!(queue = %self.options.queue, %fault, "not hidden");
            }
        }
    }

    /// Hides what is worked on anew, at half of its time; sooner if that failed.
    async fn keep_hidden(&self, pending: &Pending) -> Infallible {
        let hide = self.options.hide;
        let mut next = hide / 2;
        loop {
            pass(&*self.parts.clock, next).await;
            let handles: Vec<_> = pending.all().iter().map(|it| (it.clone(), hide)).collect();
            let mut again = false;
            for handles in handles.chunks(BATCH_MAX) {
                let hidden = self.parts.queues.hide(&self.options.queue, handles).await;
                for fault in hidden.into_iter().filter_map(Result::err) {
                    again |= fault.kind != FaultKind::Rejected;
                    tracing::debug!(queue = %self.options.queue, %fault, "not hidden anew");
                }
            }
            next = if again { hide / 8 } else { hide / 2 };
        }
    }
}

/// Behind a message that stays, the later ones of its group stay too, also when the gate has them:
/// they come again after it, and are known.
fn keep_order(incoming: &[Incoming], fates: &mut [Fate], fifo: bool) {
    let mut behind = Behind::new(fifo);
    for (incoming, fate) in incoming.iter().zip(fates) {
        if behind.holds(incoming) && *fate == Fate::Taken {
            *fate = Fate::Behind;
        }
        if !fate.is_gone() {
            behind.stays(incoming);
        }
    }
}

fn handles(incoming: &[Incoming], fates: &[Fate], which: fn(Fate) -> bool) -> Vec<String> {
    let chosen = incoming.iter().zip(fates).filter(|(_, fate)| which(**fate));
    chosen.map(|(it, _)| it.handle.clone()).collect()
}

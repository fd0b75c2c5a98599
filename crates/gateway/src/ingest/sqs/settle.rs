//! What becomes of one receive: taken in and deleted, put aside, or left in the queue.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nightgate_core::Message;
use tokio::sync::{mpsc, oneshot};

use super::intake::{Answered, Fate};
use super::join::Parcel;
use super::source::Source;
use crate::aws::queues::{BATCH_MAX, FaultKind, Incoming, whole};
use crate::backoff::Backoff;
use crate::clock::pass;
use crate::error::Kind;

/// How often a deletion is tried. What is not deleted comes again and is known by its id.
const DELETES_MAX: u32 = 4;
/// Waits between deletions.
const BETWEEN_DELETES: Backoff = Backoff {
    min: Duration::from_millis(200),
    max: Duration::from_secs(2),
};
/// How long a message is hidden that could not be taken in: by how often it was received. Longer
/// waits spare its redrive policy, which counts receives; information must not wait for hours.
const AFTER_NO: Backoff = Backoff {
    min: Duration::from_secs(5),
    max: Duration::from_secs(300),
};

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
        fates.iter().any(|fate| fate.is_gone()) || !fates.contains(&Fate::Later)
    }

    async fn settle(
        &self,
        incoming: &[Incoming],
        pending: &Pending,
        parcels: &mpsc::Sender<Parcel>,
    ) -> Vec<Fate> {
        let (read, messages) = self.intake.read(incoming).await;
        let answered = match messages.is_empty() {
            true => Ok(Vec::new()),
            false => ask(messages.clone(), parcels).await,
        };
        let fates = self.intake.settle(read, messages, answered).await;
        self.delete(incoming, &fates, pending).await;
        self.leave(incoming, &fates, pending).await;
        fates
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
                pass(
                    &*self.parts.clock,
                    BETWEEN_DELETES.pause(attempt, fastrand::u64(..)),
                )
                .await;
            }
        }
    }

    /// Brings messages that could not be taken in back after a while, each by how often it came.
    async fn leave(&self, incoming: &[Incoming], fates: &[Fate], pending: &Pending) {
        let later = incoming.iter().zip(fates);
        let later = later.filter(|(_, fate)| matches!(fate, Fate::Later | Fate::Behind));
        let later: Vec<(String, Duration)> = later
            .map(|(it, _)| {
                (
                    it.handle.clone(),
                    whole(AFTER_NO.pause(it.receives, fastrand::u64(..))),
                )
            })
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

/// The gate's answers, which come with those of other pollers.
async fn ask(messages: Vec<Message>, parcels: &mpsc::Sender<Parcel>) -> Answered {
    let (answer, answered) = oneshot::channel();
    let sent = parcels.send(Parcel { messages, answer }).await;
    match sent {
        Ok(()) => answered.await.unwrap_or(Err(Kind::Unavailable)),
        Err(_) => Err(Kind::Unavailable),
    }
}

fn handles(incoming: &[Incoming], fates: &[Fate], which: fn(Fate) -> bool) -> Vec<String> {
    let chosen = incoming.iter().zip(fates).filter(|(_, fate)| which(**fate));
    chosen.map(|(it, _)| it.handle.clone()).collect()
}

//! Many entries, few requests: packed, several at once, and tried again where that is safe.

use std::ops::Range;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::stream::{self, StreamExt};

use super::SqsHold;
use crate::aws::batch::pack;
use crate::aws::queues::{Answer, Fault, FaultKind, Outgoing, Queue};
use crate::clock::pass;

/// Requests of one call that are under way at once.
const ABREAST: usize = 16;
/// How often an entry is tried again.
const RETRIES: usize = 4;
/// The first wait before that, and the longest.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Entries of requests of one kind.
#[derive(Clone)]
pub(super) enum Entries {
    Send(Vec<Outgoing>),
    Delete(Vec<String>),
    Hide(Vec<(String, Duration)>),
}

impl Entries {
    fn len(&self) -> usize {
        match self {
            Self::Send(entries) => entries.len(),
            Self::Delete(entries) => entries.len(),
            Self::Hide(entries) => entries.len(),
        }
    }

    fn pick(&self, places: &[usize]) -> Self {
        fn some<T: Clone>(entries: &[T], places: &[usize]) -> Vec<T> {
            places.iter().map(|place| entries[*place].clone()).collect()
        }
        match self {
            Self::Send(entries) => Self::Send(some(entries, places)),
            Self::Delete(entries) => Self::Delete(some(entries, places)),
            Self::Hide(entries) => Self::Hide(some(entries, places)),
        }
    }

    fn batches(&self) -> Vec<Range<usize>> {
        let sizes = match self {
            Self::Send(entries) => entries.iter().map(Outgoing::bytes).collect(),
            _ => vec![0; self.len()],
        };
        pack(&sizes)
    }

    /// Whether an entry that failed so may be tried again. What may have been sent may not: it
    /// would be there twice.
    fn again(&self, kind: FaultKind) -> bool {
        match kind {
            FaultKind::Throttled | FaultKind::Unavailable => true,
            FaultKind::Unknown => !matches!(self, Self::Send(_)),
            FaultKind::Rejected | FaultKind::Denied => false,
        }
    }
}

impl SqsHold {
    /// Sends, deletes or hides; one answer each, in order. What can safely be tried again is, a
    /// bounded number of times.
    pub(super) async fn all(&self, queue: &Queue, entries: Entries) -> Vec<Answer<()>> {
        let lost = || Err(Fault::new(FaultKind::Unknown, "no answer for this entry"));
        let mut answers = Vec::from_iter((0..entries.len()).map(|_| lost()));
        let requests = entries.batches().into_iter().map(|batch| {
            let places = Vec::from_iter(batch);
            let picked = entries.pick(&places);
            async move { (places, self.batch(queue, picked).await) }
        });
        // Collected, since the requests would otherwise borrow what the stream is made of.
        let requests = requests.collect::<Vec<_>>();
        let mut done = stream::iter(requests).buffer_unordered(ABREAST);
        while let Some((places, answered)) = done.next().await {
            for (place, answer) in places.into_iter().zip(answered) {
                answers[place] = answer;
            }
        }
        answers
    }

    async fn batch(&self, queue: &Queue, entries: Entries) -> Vec<Answer<()>> {
        let mut answers = self.request(queue, entries.clone()).await;
        let waits = ExponentialBuilder::new()
            .with_min_delay(WAIT_MIN)
            .with_max_delay(WAIT_MAX)
            .with_max_times(RETRIES)
            .with_jitter()
            .with_jitter_seed(self.chance())
            .build();
        for wait in waits {
            let failed = |(place, answer): (usize, &Answer<()>)| {
                let fault = answer.as_ref().err()?;
                entries.again(fault.kind).then_some(place)
            };
            let again: Vec<usize> = answers.iter().enumerate().filter_map(failed).collect();
            if again.is_empty() {
                break;
            }
            pass(&*self.clock, wait).await;
            let answered = self.request(queue, entries.pick(&again)).await;
            for (place, answer) in again.into_iter().zip(answered) {
                answers[place] = answer;
            }
        }
        answers
    }

    async fn request(&self, queue: &Queue, entries: Entries) -> Vec<Answer<()>> {
        match entries {
            Entries::Send(messages) => {
                let sent = self.queues.send(queue, messages).await;
                sent.into_iter().map(|one| one.map(drop)).collect()
            }
            Entries::Delete(handles) => self.queues.delete(queue, &handles).await,
            Entries::Hide(handles) => self.queues.hide(queue, &handles).await,
        }
    }
}

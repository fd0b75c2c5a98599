//! The pollers of one queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::intake::Intake;
use super::join::{self, Parcel, Size};
use super::mapping::Mapping;
use crate::alert::desk::Alerts;
use crate::alert::text;
use crate::aws::queues::{
    Ask, BATCH_MAX, Fault, FaultKind, HIDE_MAX, Queue, Queues, WAIT_MAX, whole,
};
use crate::backoff::Backoff;
use crate::clock::{Clock, pass};
use crate::gate::Gate;
use crate::metrics::Metrics;

/// Pollers, unless configured: enough for some thousand messages a second, few enough that an idle
/// queue costs next to nothing (three requests a minute each).
pub const POLLERS_DEFAULT: usize = 8;
/// How long a received message is hidden, unless configured. It is hidden anew while it is worked
/// on, so this is only how long a crash keeps it back.
pub const HIDE_DEFAULT: Duration = Duration::from_secs(60);
/// How long a batch waits for more, unless configured.
pub const BATCH_WAIT_DEFAULT: Duration = Duration::from_millis(10);
/// Messages that go to the gate at once, unless configured.
pub const BATCH_MAX_DEFAULT: usize = 1000;
/// Receives that fail in a row before a person is told; one that is denied tells at once.
const FAILURES_TOLD: u32 = 5;
/// Waits after a receive that failed, or brought nothing that could be taken.
const AFTER_FAULT: Backoff = Backoff {
    min: Duration::from_millis(500),
    max: Duration::from_secs(30),
};

/// What a source takes from where, and how.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Where messages come from.
    pub queue: Queue,
    /// Where those go that cannot be read. Without it they stay where they are, and the queue's own
    /// redrive policy counts.
    pub dead_letter: Option<Queue>,
    /// Receives under way at once, each of up to ten messages.
    pub pollers: usize,
    /// How long a received message is hidden from others: whole seconds up to 12 hours.
    pub hide: Duration,
    /// How long the first message of a batch waits for more.
    pub batch_wait: Duration,
    /// Messages that go to the gate at once.
    pub batch_max: usize,
    /// How they are read.
    pub mapping: Mapping,
}

impl SourceOptions {
    /// `queue` read by `mapping`, and the rest as it is unless configured.
    #[must_use]
    pub fn new(queue: Queue, mapping: Mapping) -> Self {
        Self {
            queue,
            dead_letter: None,
            pollers: POLLERS_DEFAULT,
            hide: HIDE_DEFAULT,
            batch_wait: BATCH_WAIT_DEFAULT,
            batch_max: BATCH_MAX_DEFAULT,
            mapping,
        }
    }
}

/// The parts a source is made of.
#[derive(Clone)]
pub struct SourceParts {
    /// The queues.
    pub queues: Arc<dyn Queues>,
    /// Where messages are taken in.
    pub gate: Arc<Gate>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where alarms are raised.
    pub alerts: Alerts,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Takes the messages of one queue in.
pub struct Source {
    pub(super) parts: SourceParts,
    pub(super) options: SourceOptions,
    pub(super) intake: Intake,
}

impl Source {
    /// A source over these parts.
    #[must_use]
    pub fn new(parts: SourceParts, mut options: SourceOptions) -> Self {
        options.pollers = options.pollers.max(1);
        options.hide = whole(options.hide).clamp(Duration::from_secs(1), HIDE_MAX);
        let (queue, mapping) = (options.queue.clone(), options.mapping.clone());
        let intake = Intake::new(parts.clone(), queue, mapping, options.dead_letter.clone());
        Self {
            intake,
            parts,
            options,
        }
    }

    /// What takes its messages in, whoever received them.
    #[must_use]
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Takes messages in until `stopped` turns true. A receive that waits is given up then; what it
    /// may still bring is visible again when its time is up. What was received before is brought to
    /// its end.
    pub async fn run(self: Arc<Self>, stopped: watch::Receiver<bool>) {
        let size = Size {
            parcels: self.options.pollers,
            messages: self.options.batch_max,
            wait: self.options.batch_wait,
        };
        let (parcels, joined) = mpsc::channel(self.options.pollers);
        let (gate, clock) = (Arc::clone(&self.parts.gate), Arc::clone(&self.parts.clock));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(join::run(gate, clock, size, joined));
        for _ in 0..self.options.pollers {
            let (source, parcels, stopped) = (Arc::clone(&self), parcels.clone(), stopped.clone());
            tasks.spawn(async move { source.poll(&parcels, stopped).await });
        }
        drop(parcels);
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(queue = %self.options.queue, %error, "a poller failed");
            }
        }
    }

    async fn poll(&self, parcels: &mpsc::Sender<Parcel>, mut stopped: watch::Receiver<bool>) {
        let ask = Ask {
            max: BATCH_MAX,
            hide: self.options.hide,
            wait: WAIT_MAX,
        };
        let mut failures = 0;
        while !*stopped.borrow() {
            let received = tokio::select! {
                received = self.parts.queues.receive(&self.options.queue, &ask) => received,
                _ = stopped.wait_for(|stopped| *stopped) => return,
            };
            let went_on = match received {
                Ok(incoming) => incoming.is_empty() || self.take(&incoming, parcels).await,
                Err(fault) => {
                    self.not_received(&fault, failures + 1);
                    false
                }
            };
            if went_on {
                failures = 0;
                // A queue that is never empty lets others have the thread.
                tokio::task::yield_now().await;
                continue;
            }
            failures += 1;
            tokio::select! {
                () = pass(&*self.parts.clock, AFTER_FAULT.pause(failures, fastrand::u64(..))) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    fn not_received(&self, fault: &Fault, failures: u32) {
        tracing::warn!(queue = %self.options.queue, %fault, failures, "failed to receive");
        if fault.kind == FaultKind::Denied || failures >= FAILURES_TOLD {
            let (name, now) = (self.options.queue.name(), self.parts.clock.now());
            let alarm = text::source_failing(name, u64::from(failures), &fault.why, now);
            self.parts.alerts.raise(alarm);
        }
    }
}

//! The alarm desk: takes alarms from anywhere, leaves out repeats, and sees them delivered.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, select};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use crate::alert::{Alert, AlertKind, AlertPort};
use crate::clock::{Clock, pass};
use crate::error::Result;

/// Alarms that wait for one port. More at once than anyone can read; repeats never get here.
pub const QUEUE_MAX: usize = 256;
/// Alarms of one kind and subject within this time are one alarm, unless configured.
pub const WINDOW_DEFAULT: SignedDuration = SignedDuration::from_mins(15);
/// How often a port is tried with one alarm.
pub const ATTEMPTS_MAX: u32 = 4;
/// Pause before the second attempt, unless configured; it doubles with each further one.
pub const BACKOFF_DEFAULT: Duration = Duration::from_secs(1);
/// Time for one attempt: longer than the longest pause a chat service is granted within it.
pub const PORT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(90);
/// Alarms remembered to know a repeat. A house has tens of lanes and seven kinds of alarm.
const REMEMBERED_MAX: usize = 1024;

/// How the desk works.
#[derive(Clone, Copy, Debug)]
pub struct DeskOptions {
    /// Alarms of one kind and subject within this time, by `Alert::at`, are one alarm.
    pub window: SignedDuration,
    /// Time for one attempt at one port.
    pub port_timeout: Duration,
    /// Pause before the second attempt; zero never sleeps, for the simulator.
    pub backoff: Duration,
}

impl Default for DeskOptions {
    fn default() -> Self {
        Self {
            window: WINDOW_DEFAULT,
            port_timeout: PORT_TIMEOUT_DEFAULT,
            backoff: BACKOFF_DEFAULT,
        }
    }
}

/// What became of alarms so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertCounts {
    /// Deliveries, one for each port that took an alarm.
    pub sent: u64,
    /// Repeats left out.
    pub suppressed: u64,
    /// Alarms left out because a port's queue was full, one for each such port.
    pub dropped: u64,
    /// Alarms that a port did not take in [`ATTEMPTS_MAX`] attempts, one for each such port.
    pub failed: u64,
}

/// The desk's front. Cheap to clone; every clone is the same desk.
#[derive(Clone)]
pub struct Alerts(Arc<Desk>);

struct Desk {
    options: DeskOptions,
    clock: Arc<dyn Clock>,
    seen: Mutex<HashMap<(AlertKind, String), Seen>>,
    trays: Vec<Tray>,
    counts: Counts,
}

/// The last alarm of one kind and subject that was let through.
struct Seen {
    at: Timestamp,
    repeats: u64,
}

/// One port and what waits for it: each has its own, so that a failing one holds back no other.
struct Tray {
    port: Arc<dyn AlertPort>,
    waiting: Mutex<VecDeque<Arc<Alert>>>,
    filled: Notify,
    /// Held while alarms are delivered, so that two workers never deliver the same one.
    worker: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    suppressed: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Alerts {
    /// A desk before `ports`. Nothing is delivered until [`Alerts::run`] or [`Alerts::flush`].
    #[must_use]
    pub fn new(
        ports: Vec<Arc<dyn AlertPort>>,
        clock: Arc<dyn Clock>,
        options: DeskOptions,
    ) -> Self {
        let trays = ports.into_iter().map(Tray::new).collect();
        let seen = Mutex::default();
        Self(Arc::new(Desk {
            options,
            clock,
            seen,
            trays,
            counts: Counts::default(),
        }))
    }

    /// A desk without ports: alarms go nowhere.
    #[must_use]
    pub fn silent() -> Self {
        let clock = Arc::new(crate::clock::ManualClock::new(Timestamp::UNIX_EPOCH));
        Self::new(Vec::new(), clock, DeskOptions::default())
    }

    /// Takes an alarm. Never waits and never fails: a repeat within the window is counted, an alarm
    /// that finds a port's queue full is dropped there and counted.
    pub fn raise(&self, alert: Alert) {
        let Some(alert) = self.0.unless_repeat(alert) else {
            return;
        };
        let alert = Arc::new(alert);
        for tray in &self.0.trays {
            if !tray.push(&alert) {
                self.0.counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What became of alarms so far.
    #[must_use]
    pub fn counts(&self) -> AlertCounts {
        let counts = &self.0.counts;
        AlertCounts {
            sent: counts.sent.load(Ordering::Relaxed),
            suppressed: counts.suppressed.load(Ordering::Relaxed),
            dropped: counts.dropped.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
        }
    }

    /// Delivers alarms as they are raised, until `stop` is ready. Then call [`Alerts::flush`].
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let workers = join_all(self.0.trays.iter().map(|tray| self.0.work(tray)));
        // An attempt that the stop cuts stays in its tray, for the flush.
        select(std::pin::pin!(workers), std::pin::pin!(stop)).await;
    }

    /// Delivers what is pending, for at most `bound`; says whether nothing is left. For one-shot
    /// commands before they end, and for the simulator between its steps.
    pub async fn flush(&self, bound: Duration) -> bool {
        let all = join_all(self.0.trays.iter().map(|tray| self.0.empty(tray)));
        let in_time = tokio::time::timeout(bound, all).await.is_ok();
        in_time && self.0.trays.iter().all(|tray| tray.first().is_none())
    }
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<_> = self.0.trays.iter().map(|tray| tray.port.name()).collect();
        f.debug_struct("Alerts")
            .field("ports", &ports)
            .field("counts", &self.counts())
            .finish()
    }
}

impl Desk {
    /// The alarm, with a word about repeats left out before it; `None` if it is a repeat itself.
    fn unless_repeat(&self, mut alert: Alert) -> Option<Alert> {
        let mut seen = locked(&self.seen);
        let key = (alert.kind, alert.subject.clone());
        if let Some(last) = seen.get_mut(&key) {
            // A clock set back does not make an old alarm new, nor a new one old for ever.
            if alert.at.duration_since(last.at).abs() < self.options.window {
                last.repeats += 1;
                self.counts.suppressed.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            if last.repeats > 0 {
                mention(&mut alert, last);
            }
        }
        if seen.len() >= REMEMBERED_MAX && !seen.contains_key(&key) {
            forget_oldest(&mut seen);
        }
        seen.insert(
            key,
            Seen {
                at: alert.at,
                repeats: 0,
            },
        );
        Some(alert)
    }

    async fn work(&self, tray: &Tray) {
        loop {
            // Asked for before looking, so that an alarm between the two wakes this again.
            let filled = tray.filled.notified();
            self.empty(tray).await;
            filled.await;
        }
    }

    async fn empty(&self, tray: &Tray) {
        let _worker = tray.worker.lock().await;
        while let Some(alert) = tray.first() {
            let taken = self.deliver(&*tray.port, &alert).await;
            let count = if taken {
                &self.counts.sent
            } else {
                &self.counts.failed
            };
            count.fetch_add(1, Ordering::Relaxed);
            locked(&tray.waiting).pop_front();
        }
    }

    async fn deliver(&self, port: &dyn AlertPort, alert: &Alert) -> bool {
        let mut pause = self.options.backoff;
        for attempt in 1..=ATTEMPTS_MAX {
            let why =
                match tokio::time::timeout(self.options.port_timeout, port.deliver(alert)).await {
                    Ok(Ok(())) => return true,
                    Ok(Err(fault)) => fault.to_string(),
                    Err(_) => "it did not answer in time".to_owned(),
                };
            tracing::warn!(port = port.name(), kind = ?alert.kind, attempt, why, "alarm not taken");
            if attempt < ATTEMPTS_MAX {
                pass(&*self.clock, pause).await;
                pause = pause.saturating_mul(2);
            }
        }
        false
    }
}

impl Tray {
    fn new(port: Arc<dyn AlertPort>) -> Self {
        Self {
            port,
            waiting: Mutex::default(),
            filled: Notify::new(),
            worker: tokio::sync::Mutex::new(()),
        }
    }

    fn push(&self, alert: &Arc<Alert>) -> bool {
        let mut waiting = locked(&self.waiting);
        if waiting.len() >= QUEUE_MAX {
            return false;
        }
        waiting.push_back(Arc::clone(alert));
        self.filled.notify_one();
        true
    }

    fn first(&self) -> Option<Arc<Alert>> {
        locked(&self.waiting).front().cloned()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mention(alert: &mut Alert, last: &Seen) {
    let (count, since) = (last.repeats, last.at);
    alert
        .english
        .push_str(&format!(" ({count} more times since {since}.)"));
    alert
        .korean
        .push_str(&format!(" ({since} 이후 {count}회 더 발생했습니다.)"));
}

fn forget_oldest(seen: &mut HashMap<(AlertKind, String), Seen>) {
    let oldest = seen
        .iter()
        .min_by_key(|(_, last)| last.at)
        .map(|(key, _)| key.clone());
    if let Some(key) = oldest {
        seen.remove(&key);
    }
}

/// A port that keeps alarms in memory: for the simulator and tests.
#[derive(Debug, Default)]
pub struct MemoryPort(Mutex<Vec<Alert>>);

impl MemoryPort {
    /// The alarms delivered so far, in order.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        locked(&self.0).clone()
    }
}

#[async_trait]
impl AlertPort for MemoryPort {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn deliver(&self, alert: &Alert) -> Result<()> {
        locked(&self.0).push(alert.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests;

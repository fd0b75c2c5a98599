//! What one call does: takes in, releases, reports.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lambda_events::sqs::SqsBatchResponse;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value as Json;

use super::deadline::Deadline;
use super::event::{Event, is_of, name};
use crate::alert::desk::Alerts;
use crate::aws::queues::Incoming;
use crate::clock::Clock;
use crate::error::Error;
use crate::gate::Gate;
use crate::hold::HoldStore;
use crate::ingest::sqs::Source;
use crate::release::{LaneReleaser, Releaser, Tick};

/// How long a call waits for its alarms to be delivered, at most.
const ALARMS: Duration = Duration::from_secs(5);
/// What a call that failed is called in the answer to Lambda, by what failed.
const EVENT_FAILED: &str = "Nightgate.Event";
/// No source has the queue.
const SOURCE_MISSING: &str = "Nightgate.Source";
/// A part of the road failed while messages were released.
const RELEASE_FAILED: &str = "Nightgate.Release";

/// The parts that functions are made of.
pub struct FunctionParts {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where messages are held: for its upkeep.
    pub hold: Arc<dyn HoldStore>,
    /// The only way in.
    pub gate: Arc<Gate>,
    /// The only way out.
    pub releaser: Arc<Releaser>,
    /// Where alarms are raised.
    pub alerts: Alerts,
    /// The queues that events come from. They are not run: Lambda receives.
    pub sources: Vec<Arc<Source>>,
    /// So long before its deadline a call ends its work.
    pub margin: Duration,
    /// Whether a call releases what it has just taken in.
    pub release_on_receive: bool,
    /// How often ids that were kept long enough are forgotten.
    pub sweep_every: Duration,
}

/// Answers calls. One at a time is what Lambda asks of an instance; more would do as well.
pub struct Functions {
    parts: FunctionParts,
    /// Monotonic time of the last upkeep.
    swept: Mutex<Option<Duration>>,
}

/// What a tick did, in the words of [`Tick`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Taken by a sink.
    pub released: u64,
    /// Held again.
    pub held: u64,
    /// Refused by our rules.
    pub refused: u64,
    /// Refused because their life had ended.
    pub expired: u64,
    /// Not taken, to be tried again.
    pub retried: u64,
    /// Rejected by the provider.
    pub rejected: u64,
    /// May have gone: nobody can tell.
    pub unknown: u64,
    /// Put aside until a person looks.
    pub buried: u64,
    /// Still due when the call ended: the next one goes on.
    pub remaining: u64,
    /// On loan to another call, or to one that was killed: what it lost comes back.
    pub on_loan: u64,
    /// When the next call is worth it; none if nothing is held.
    pub wake: Option<Timestamp>,
}

impl From<Tick> for Report {
    fn from(tick: Tick) -> Self {
        Self {
            released: tick.delivered,
            held: tick.held,
            refused: tick.refused,
            expired: tick.expired,
            retried: tick.retried,
            rejected: tick.rejected,
            unknown: tick.unknown,
            buried: tick.buried,
            remaining: tick.remaining,
            on_loan: tick.on_loan,
            wake: tick.wake,
        }
    }
}

/// A call that failed. To call again is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What failed: stable, for filters.
    pub kind: &'static str,
    /// A sentence fragment that fits "failed to ...", without personal data.
    pub why: String,
    /// What was done nevertheless.
    pub report: Option<Report>,
}

impl Failed {
    fn new(kind: &'static str, why: impl Into<String>) -> Self {
        Self {
            kind,
            why: why.into(),
            report: None,
        }
    }
}

/// The fragment, and the report in JSON behind it.
impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        let report = self.report.map(|report| serde_json::to_string(&report));
        match report {
            Some(Ok(report)) => write!(f, "; done nevertheless: {report}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Failed {}

/// Whether a call waits for what the pace of a lane lets go later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Yes,
    No,
}

impl Functions {
    /// Functions over these parts.
    #[must_use]
    pub fn new(parts: FunctionParts) -> Self {
        Self {
            parts,
            swept: Mutex::default(),
        }
    }

    /// Answers one call. `deadline_ms`: when the process may be killed, in milliseconds since 1970;
    /// one in the past is unknown. Alarms are delivered before it returns.
    ///
    /// # Errors
    /// When a part of the road failed, or the event cannot be answered for. Nothing is lost: call
    /// again.
    pub async fn call(&self, payload: Json, deadline_ms: u64) -> Result<Json, Failed> {
        let clock = &*self.parts.clock;
        let deadline = Deadline::new(clock, deadline_ms, self.parts.margin);
        let answer = match Event::read(payload) {
            Ok(Event::Tick) => self.tick(&deadline).await,
            Ok(Event::Queue { arn, incoming }) => self.take_in(&arn, &incoming, &deadline).await,
            Err(why) => Err(Failed::new(
                EVENT_FAILED,
                format!("read an event: it {why}"),
            )),
        };
        if let Err(failed) = &answer {
            tracing::error!(kind = failed.kind, %failed, "failed to answer a call");
        }
        let bound = ALARMS.min(deadline.until_end(clock));
        if !self.parts.alerts.flush(bound).await {
            tracing::warn!("not every alarm was delivered before the call ended");
        }
        answer
    }

    async fn tick(&self, deadline: &Deadline) -> Result<Json, Failed> {
        let (tick, fault) = self.release(deadline, Waits::Yes).await;
        let fault = match fault {
            None => self.sweep(deadline).await,
            fault => fault,
        };
        let report = Report::from(tick);
        tracing::info!(
            released = report.released,
            held = report.held,
            refused = report.refused,
            retried = report.retried,
            rejected = report.rejected,
            unknown = report.unknown,
            buried = report.buried,
            remaining = report.remaining,
            "a tick ended"
        );
        match fault {
            None => Ok(json(&report)),
            Some(fault) => Err(Failed {
                report: Some(report),
                ..Failed::new(RELEASE_FAILED, fault.to_string())
            }),
        }
    }

    /// Takes messages of one queue in; names those that it must give again.
    async fn take_in(
        &self,
        arn: &str,
        incoming: &[Incoming],
        deadline: &Deadline,
    ) -> Result<Json, Failed> {
        let mut sources = self.parts.sources.iter();
        let source = sources.find(|source| is_of(arn, source.intake().queue()));
        let Some(source) = source else {
            let why = format!(
                "take in messages of the queue {}: no [source.NAME] of the configuration names it",
                name(arn)
            );
            return Err(Failed::new(SOURCE_MISSING, why));
        };
        let intake = source.intake();
        let (read, messages) = intake.read(incoming).await;
        let answered = match messages.is_empty() {
            true => Ok(Vec::new()),
            false => self.parts.gate.accept(messages.clone()).await,
        };
        let answered = answered.map_err(|fault| {
            tracing::error!(%fault, "failed to take messages in");
            fault.kind
        });
        let fates = intake.settle(read, messages, answered).await;
        let failures = incoming.iter().zip(fates);
        let failures = failures.filter(|(_, fate)| !fate.is_gone());
        let mut answer = SqsBatchResponse::default();
        answer.set_failures(failures.map(|(incoming, _)| incoming.id.as_str()));
        let (count, left) = (incoming.len(), answer.batch_item_failures.len());
        tracing::info!(
            queue = name(arn),
            taken = count - left,
            left,
            "messages came"
        );
        if self.parts.release_on_receive && left < count {
            // A lane that fails has raised its alarm; what was taken in stays taken in.
            self.release(deadline, Waits::No).await;
        }
        Ok(json(&answer))
    }

    /// Releases what is due on every lane, side by side; the first fault, and what was done.
    async fn release(&self, deadline: &Deadline, waits: Waits) -> (Tick, Option<Error>) {
        let lanes = self.parts.releaser.lanes().iter();
        let lanes = lanes.map(|lane| self.release_lane(lane, deadline, waits));
        let (mut total, mut fault) = (Tick::default(), None);
        for (tick, failed) in join_all(lanes).await {
            total.add(&tick);
            fault = fault.or(failed);
        }
        (total, fault)
    }

    /// Ticks until nothing is due, a tick fails, the lane backs off, or there is no time for
    /// another like the longest.
    async fn release_lane(
        &self,
        lane: &LaneReleaser,
        deadline: &Deadline,
        waits: Waits,
    ) -> (Tick, Option<Error>) {
        let clock = &*self.parts.clock;
        let (mut total, mut longest) = (Tick::default(), Duration::ZERO);
        while deadline.left(clock) > longest {
            let began = clock.monotonic();
            let tick = match lane.tick().await {
                Ok(tick) => tick,
                Err(fault) => return (total, Some(fault)),
            };
            longest = longest.max(clock.monotonic().saturating_sub(began));
            total.add(&tick);
            (total.remaining, total.wake) = (tick.remaining, tick.wake);
            total.on_loan = tick.on_loan;
            let (status, now) = (lane.status(), clock.now());
            if status.resting_until.is_some() {
                // A sink that takes nothing is not waited for: the alarm must go out, and the next
                // call asks again.
                break;
            }
            let is_due = status.due > 0 && !status.paused;
            let Some(wake) = tick.wake.filter(|wake| is_due || *wake <= now) else {
                break;
            };
            let ahead = Duration::try_from(wake.duration_since(now)).unwrap_or(Duration::ZERO);
            let too_late =
                ahead >= deadline.left(clock) || (waits == Waits::No && !ahead.is_zero());
            if too_late {
                break;
            }
            while clock.now() < wake {
                clock.sleep_until(wake).await;
            }
            tokio::task::yield_now().await;
        }
        (total, None)
    }

    /// Upkeep from time to time, if there is time.
    async fn sweep(&self, deadline: &Deadline) -> Option<Error> {
        let clock = &*self.parts.clock;
        let (now, monotonic) = (clock.now(), clock.monotonic());
        {
            let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
            let is_over = |last: Duration| monotonic.saturating_sub(last) >= self.parts.sweep_every;
            if deadline.left(clock).is_zero() || !swept.is_none_or(is_over) {
                return None;
            }
            *swept = Some(monotonic);
        }
        self.parts.hold.sweep(now).await.err()
    }
}

/// A value without floats and with texts for keys: it always has a JSON form.
fn json(value: &impl Serialize) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}

/// A configured duration, which is never negative.
pub(super) fn short(duration: SignedDuration) -> Duration {
    Duration::try_from(duration).unwrap_or(Duration::ZERO)
}

//! One lane's releaser: is it worth it, how many, whose turn, and when next.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nightgate_core::Purpose;
use serde::Serialize;
use tokio::sync::Mutex;

use super::attempts::Attempts;
use super::books::Learned;
use super::budget::{Allowance, Leave};
use super::forecast::{Rate, drained_at};
use super::freeze::Frost;
use super::limiter::Pace;
use super::line::{Done, Line};
use super::plan::{Turn, plan};
use super::releaser::{ReleaserParts, Shared};
use super::tally::Tick;
use crate::alert::text;
use crate::backoff::Backoff;
use crate::error::Result;
use crate::hold::{Lane, Pause, Shelf};
use crate::sink::Sink;

/// A tick of a lane with a rate takes leave for at most so many times its batches abreast: what it
/// was given leave for should go while that is fresh.
const ROUNDS: usize = 2;

/// A tick lends nothing more after so long, so that what comes in meanwhile, a pause and the state
/// of the lane are looked at again soon, however slow the sink is.
const LENDS_FOR: Duration = Duration::from_millis(250);

/// How often a resting lane looks again: pauses are lifted and clocks are set by other processes.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// What to do with a message that may or may not have gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// At most once: a person decides.
    Bury,
    /// At least once: send it again.
    Retry,
}

/// How one lane works.
#[derive(Clone, Debug)]
pub struct LaneOptions {
    /// Its name.
    pub lane: Lane,
    /// How fast it may go.
    pub pace: Pace,
    /// Batches handed over at the same time.
    pub in_flight: usize,
    /// Most messages in one batch; 0 for as many as the sink takes.
    pub batch_max: usize,
    /// Most messages leased by one tick. A lane without a rate takes them as fast as they leave.
    pub tick_max: usize,
    /// How long messages are on loan.
    pub lease_ttl: SignedDuration,
    /// Hand-overs tried before a message is buried.
    pub attempts_max: u32,
    /// How long to wait between them.
    pub backoff: Backoff,
    /// Policy for advertising whose outcome is unknown.
    pub unknown_advertising: OnUnknown,
    /// Policy for information whose outcome is unknown.
    pub unknown_informational: OnUnknown,
    /// Alarm when messages are due and none moved for so long.
    pub nothing_moved_after: Duration,
    /// Alarm after so many failed ticks in a row.
    pub failing_after: u32,
}

impl LaneOptions {
    pub(super) fn on_unknown(&self, purpose: Purpose) -> OnUnknown {
        match purpose {
            Purpose::Advertising => self.unknown_advertising,
            Purpose::Informational => self.unknown_informational,
        }
    }
}

/// One look at a lane: what is due, how fast it goes, when it will be out.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct LaneStatus {
    /// Its name.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// A person stopped it.
    pub paused: bool,
    /// The clock jumped; nothing leaves for now.
    pub frozen: bool,
    /// It backs off until then.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub resting_until: Option<Timestamp>,
    /// Messages due now.
    pub due: u64,
    /// Messages per second, averaged.
    pub rate: f64,
    /// When what is due will be out at this rate.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub drained_at: Option<Timestamp>,
    /// When the windows its last messages left by will close.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub closes: Option<Timestamp>,
}

/// One lane's releaser. Ticks of one lane never overlap.
pub struct LaneReleaser {
    pub(super) options: LaneOptions,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) parts: Arc<ReleaserParts>,
    pub(super) attempts: Arc<dyn Attempts>,
    state: Mutex<LaneState>,
    status: StdMutex<LaneStatus>,
}

struct LaneState {
    allowance: Box<dyn Allowance>,
    rate: Rate,
    turn: usize,
    /// Nothing was due, or nothing could leave, when it last looked.
    rested: bool,
    failures: u32,
    not_before: Option<Duration>,
    /// Since when messages are due and none moved.
    stuck_since: Option<(Duration, Timestamp)>,
    closes: Option<Timestamp>,
}

impl LaneReleaser {
    /// A releaser for one lane, which goes as fast as the budget of `shared` gives it leave.
    #[must_use]
    pub fn new(
        options: LaneOptions,
        sink: Arc<dyn Sink>,
        parts: Arc<ReleaserParts>,
        shared: &Shared,
    ) -> Self {
        let allowance = shared
            .budget
            .allowance(&options.lane, options.pace, &parts.clock);
        let state = LaneState {
            allowance,
            rate: Rate::default(),
            turn: 0,
            rested: true,
            failures: 0,
            not_before: None,
            stuck_since: None,
            closes: None,
        };
        let status = LaneStatus {
            lane: options.lane.clone(),
            paused: false,
            frozen: false,
            resting_until: None,
            due: 0,
            rate: 0.0,
            drained_at: None,
            closes: None,
        };
        let (state, status) = (Mutex::new(state), StdMutex::new(status));
        Self {
            options,
            sink,
            parts,
            attempts: Arc::clone(&shared.attempts),
            state,
            status,
        }
    }

    /// The lane's name.
    #[must_use]
    pub fn lane(&self) -> &Lane {
        &self.options.lane
    }

    /// The latest look at the lane.
    #[must_use]
    pub fn status(&self) -> LaneStatus {
        self.status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Does a bounded amount of work.
    ///
    /// # Errors
    /// When the hold or the receipt log fails; loans lapse by themselves, nothing is lost.
    pub async fn tick(&self) -> Result<Tick> {
        let mut state = self.state.lock().await;
        let ticked = self.step(&mut state).await;
        if let Err(fault) = &ticked {
            let alert = text::of_fault(fault, self.parts.clock.now());
            self.parts.alerts.raise(alert);
        }
        ticked
    }

    async fn step(&self, state: &mut LaneState) -> Result<Tick> {
        let now = self.parts.clock.now();
        let lane = &self.options.lane;
        let due = self.parts.hold.shelves(Some(lane), Some(now)).await?;
        let waiting = sum(&due, |shelf| shelf.held);
        let on_loan = sum(&due, |shelf| shelf.leased);
        let resting = self.resting(state, now).await?;
        self.watch(state, waiting, now);
        if let Some(wake) = resting {
            state.rested = true;
            state.allowance.rest(self.parts.clock.monotonic()).await;
            return Ok(Tick {
                remaining: waiting,
                on_loan,
                wake: Some(wake),
                ..Tick::default()
            });
        }
        if waiting + on_loan == 0 {
            state.rest();
            state.allowance.rest(self.parts.clock.monotonic()).await;
            let wake = self.parts.hold.next_due(lane, now).await?;
            // Due now although nothing is: loans lapsed on shelves that have moved to later.
            if wake.is_none_or(|wake| wake > now) {
                return Ok(Tick {
                    wake,
                    ..Tick::default()
                });
            }
        }
        let (turns, leave) = self.turns(state, &due).await?;
        let lend_until = self.parts.clock.monotonic().saturating_add(LENDS_FOR);
        let Done {
            mut learned,
            closed,
            lent,
            mut fault,
        } = Line::new(self, turns, lend_until, leave.until).run().await;
        let lent_now = usize::try_from(lent).unwrap_or(usize::MAX);
        let unused = leave.messages.saturating_sub(lent_now);
        state.allowance.unused(unused);
        if let Err(error) = self.hold_the_rest(&closed).await {
            fault = fault.or(Some(error));
        }
        if lent == 0 && fault.is_none() {
            let next_due = || self.parts.hold.next_due(lane, now);
            let wake = match leave.again {
                Some(again) => {
                    let ahead = again.saturating_sub(self.parts.clock.monotonic());
                    Some(after(self.parts.clock.now(), ahead))
                }
                None => next_due().await?.map(|at| at.max(now)),
            };
            return Ok(Tick {
                remaining: waiting,
                on_loan,
                wake,
                ..Tick::default()
            });
        }
        learned.tick.remaining = waiting.saturating_sub(lent);
        learned.tick.on_loan = on_loan;
        learned.tick.wake = Some(self.parts.clock.now());
        self.learn(state, &learned);
        fault.map_or(Ok(learned.tick), Err)
    }

    /// Why nothing may leave for now, if so: until when to wait.
    async fn resting(&self, state: &mut LaneState, now: Timestamp) -> Result<Option<Timestamp>> {
        let look_again = now.checked_add(LOOK_AGAIN).unwrap_or(now);
        let frost = self.look_at_clock();
        let paused = self.is_paused().await?;
        let monotonic = self.parts.clock.monotonic();
        let ahead = state
            .not_before
            .and_then(|until| until.checked_sub(monotonic));
        let ahead = ahead.filter(|ahead| !ahead.is_zero());
        let resting_until = ahead.map(|ahead| after(now, ahead));
        {
            let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            status.paused = paused;
            status.frozen = frost != Frost::None;
            status.resting_until = resting_until;
        }
        self.parts.metrics.lane_paused(&self.options.lane, paused);
        Ok(if paused || frost != Frost::None {
            Some(look_again)
        } else {
            resting_until
        })
    }

    async fn is_paused(&self) -> Result<bool> {
        let lane = &self.options.lane;
        let pauses = self.parts.hold.pauses().await?;
        let stops = |pause: &Pause| pause.lane.as_ref().is_none_or(|it| it == lane);
        Ok(pauses.iter().any(stops))
    }

    /// Whether a person paused the lane since the tick began, or the clock jumped.
    pub(super) async fn is_stopped(&self) -> Result<bool> {
        Ok(self.look_at_clock() != Frost::None || self.is_paused().await?)
    }

    /// Looks at the clock; raises the alarm when it has just jumped.
    pub(super) fn look_at_clock(&self) -> Frost {
        let frost = self.parts.freeze.look(&*self.parts.clock);
        if let Frost::Jumped(step) = frost {
            let now = self.parts.clock.now();
            let until = after(now, self.parts.freeze.length());
            self.parts
                .alerts
                .raise(text::clock_jumped(step, until, now));
        }
        frost
    }

    /// What this tick may lend: as many as pace and size allow, whose turn it is; and the leave to
    /// do so.
    async fn turns(&self, state: &mut LaneState, due: &[Shelf]) -> Result<(Vec<Turn>, Leave)> {
        let monotonic = self.parts.clock.monotonic();
        let (waiting, on_loan) = (sum(due, |shelf| shelf.held), sum(due, |shelf| shelf.leased));
        let backlog = usize::try_from(waiting).unwrap_or(usize::MAX);
        let rate = self.options.pace.rate;
        if state.rested && rate.is_some_and(|rate| waiting > rate.get().into()) {
            state.allowance.start_slowly(monotonic);
        }
        if waiting > 0 {
            state.rested = false;
        }
        let most = match rate {
            // Where leave ends soon, nothing is lent that must wait for its turn at the sink.
            Some(_) if state.allowance.is_brief() => self.options.tick_max.min(self.abreast()),
            Some(_) => self.options.tick_max.min(self.abreast() * ROUNDS),
            None => self.options.tick_max,
        };
        // One more than waits, where loans of others run: they may have lapsed.
        let wanted = backlog.saturating_add(usize::from(on_loan > 0 || waiting == 0));
        let wanted = wanted.min(most);
        let leave = state.allowance.take(wanted, backlog, monotonic).await?;
        let max = leave.messages;
        if max == 0 {
            return Ok((Vec::new(), leave));
        }
        state.turn = state.turn.wrapping_add(1);
        // Any lease takes back what lapsed, so this also serves a lane where all is on loan.
        let turns = if waiting == 0 || !self.parts.hold.capability().pick {
            vec![Turn { of: None, max }]
        } else {
            let shares = plan(due, max, state.turn).into_iter();
            shares.map(Turn::from).collect()
        };
        Ok((turns, leave))
    }

    /// Messages in as many full batches as are handed over at the same time.
    pub(super) fn abreast(&self) -> usize {
        self.options.in_flight.max(1) * self.batch_max()
    }

    pub(super) fn batch_max(&self) -> usize {
        match (self.options.batch_max, self.sink.batch_max().max(1)) {
            (0, sink) => sink,
            (own, sink) => own.min(sink),
        }
    }

    /// Notes what is due, and raises the alarm when it has been due for long and nothing moved.
    fn watch(&self, state: &mut LaneState, waiting: u64, now: Timestamp) {
        let monotonic = self.parts.clock.monotonic();
        let lane = &self.options.lane;
        if waiting == 0 {
            state.stuck_since = None;
        }
        if waiting > 0 {
            let (since, at) = *state.stuck_since.get_or_insert((monotonic, now));
            if monotonic.saturating_sub(since) >= self.options.nothing_moved_after {
                self.parts
                    .alerts
                    .raise(text::nothing_moved(lane.as_str(), waiting, at, now));
            }
        }
        let rate = state.rate.per_second();
        let drained = drained_at(waiting, rate, now);
        self.parts.metrics.lane_rate(lane, rate);
        self.parts
            .metrics
            .lane_drain(lane, drained.map(|at| at.duration_since(now)));
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.due = waiting;
        status.rate = rate;
        status.drained_at = drained.filter(|_| waiting > 0);
        status.closes = state.closes;
    }

    /// Draws the lane's conclusions from a hand-over: rest, rate, alarms.
    fn learn(&self, state: &mut LaneState, handed: &Learned) {
        let (now, monotonic) = (self.parts.clock.now(), self.parts.clock.monotonic());
        let (lane, tick) = (&self.options.lane, &handed.tick);
        if tick.moved() {
            state.stuck_since = None;
        }
        state.rate.note(
            usize::try_from(tick.delivered).unwrap_or(usize::MAX),
            monotonic,
        );
        state.closes = handed.closes.or(state.closes);
        if tick.delivered + tick.rejected > 0 {
            state.failures = 0;
        } else if handed.failed > 0 {
            state.failures += 1;
        }
        let waits = match handed.lane_waits {
            Some(asked_for) => Some(asked_for),
            None => (state.failures > 0 && handed.failed > 0).then_some(None),
        };
        state.not_before = waits.map(|asked_for| {
            let failures = state.failures.max(1);
            let wait = self
                .options
                .backoff
                .wait(failures, asked_for, self.parts.chance());
            monotonic + Duration::try_from(wait).unwrap_or(Duration::MAX)
        });
        if state.failures >= self.options.failing_after {
            let alert = text::lane_failing(lane.as_str(), state.failures.into(), &handed.why, now);
            self.parts.alerts.raise(alert);
        }
        if tick.buried > 0 {
            self.parts
                .alerts
                .raise(text::buried(lane.as_str(), tick.buried, now));
        }
        self.warn_if_late(state, tick.remaining, now);
    }

    fn warn_if_late(&self, state: &LaneState, remaining: u64, now: Timestamp) {
        let (rate, Some(closes)) = (state.rate.per_second(), state.closes) else {
            return;
        };
        if remaining == 0 || rate <= 0.0 || closes <= now {
            return;
        }
        if drained_at(remaining, rate, now).is_none_or(|drained| drained > closes) {
            let alert =
                text::will_not_drain(self.options.lane.as_str(), remaining, rate, closes, now);
            self.parts.alerts.raise(alert);
        }
    }
}

impl LaneState {
    fn rest(&mut self) {
        self.rested = true;
        self.rate.reset();
        self.stuck_since = None;
    }
}

fn sum(shelves: &[Shelf], count: impl Fn(&Shelf) -> u64) -> u64 {
    shelves.iter().map(count).sum()
}

fn after(now: Timestamp, ahead: Duration) -> Timestamp {
    let ahead = SignedDuration::try_from(ahead).unwrap_or(SignedDuration::MAX);
    now.checked_add(ahead).unwrap_or(Timestamp::MAX)
}

//! What one tick has under way at the same time.
//!
//! A round (some batches, lent and decided together) goes through four stages: it is lent;
//! prepared, which ends with its attempts on file; handed over batch by batch; and what came of it
//! is filed and settled. Each stage waits for a disk or for the sink, so while one round waits the
//! others move: nothing stands in line for a disk that is idle.
//!
//! - Rounds are lent and prepared, and their batches handed over, in the order of the plan.
//! - Batches end in any order. What has ended while books are being written goes on file together,
//!   in one append and one settlement.
//! - On loan are at most the batches under way at the sink, and as many again ahead of their turn;
//!   some rounds more while the sink is quick.
//! - Lending stops after a while, when a person pauses the lane, when windows closed, when the sink
//!   took nothing of a batch, or on a fault. What is under way then comes to its end: a tick leaves
//!   nothing behind.
//! - What waits for its hand-over is held back when a person pauses the lane, which is looked for
//!   twice a second, when the sink refuses the whole lane, when the clock has jumped or leave to
//!   send has ended, or when outcomes cannot be recorded.
//!
//! All of it is one future that polls its parts in one order: where time and answers are simulated,
//! the same night happens every time.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{BoxFuture, join};
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use futures_util::{FutureExt, StreamExt, poll, stream};
use jiff::Timestamp;
use nightgate_core::Class;

use super::books::{Books, Filed, Learned};
use super::freeze::Frost;
use super::lane::LaneReleaser;
use super::outcome::Left;
use super::plan::Turn;
use super::prepare::{Chunk, Prepared};
use crate::error::{Error, Result};
use crate::hold::{LeaseAsk, Leased, Pick};

/// Rounds prepared at once: while the attempts of one are put on file, the next is decided.
const PREPARING_MAX: usize = 2;
/// Books written at once: while the outcomes of one batch are filed, those of another are settled.
const FILING_MAX: usize = 2;
/// Leases asked for at once, each of another campaign.
const LEASING_MAX: usize = 8;
/// Most messages of one round, unless a batch has more: what is read at once.
const ROUND_MAX: usize = 2_000;
/// Most rounds on loan ahead of their hand-over: enough to keep a sink busy while each of them
/// waits for a disk two times.
const ROUNDS_AHEAD_MAX: usize = 4;
/// So long a look at the lane's pauses is good: a person who stops a lane waits no longer than a
/// second for it, however slow the sink is.
const LOOK_GOOD: Duration = Duration::from_millis(500);
/// A hand-over that took no longer is quick. Where none was so far, only as many messages are on
/// loan ahead of their turn as go abreast: they must not wait for more than one hand-over, which
/// may take the whole time-out of the sink.
const QUICK: Duration = Duration::from_secs(1);

/// A round on its way from the hold, or why there is none.
enum Lent {
    Round(Vec<Leased>, Option<Error>),
    /// A person paused the lane, or the clock jumped: what was lent meanwhile goes back.
    Stopped(Vec<Leased>),
}

/// Something under way that has ended.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time is on the stack; a box would be made and dropped every round"
)]
enum Ended {
    Lent(Lent),
    Prepared(Prepared),
    Left(Left),
    Filed(Filed),
    /// Whether the lane was stopped meanwhile.
    Looked(Result<bool>),
}

/// What is under way.
pub(super) struct Line<'a> {
    lane: &'a LaneReleaser,
    turns: VecDeque<Turn>,
    /// Monotonic time after which nothing more is lent.
    lend_until: Duration,
    /// Monotonic time from which on nothing may be handed over, where leave to send has an end.
    leave_until: Option<Duration>,
    lent: u64,
    lending: Option<BoxFuture<'a, Lent>>,
    /// It has lent before.
    begun: bool,
    preparing: FuturesOrdered<BoxFuture<'a, Prepared>>,
    /// Messages that are being prepared.
    in_preparation: VecDeque<usize>,
    ready: VecDeque<Chunk>,
    leaving: FuturesUnordered<BoxFuture<'a, Left>>,
    books: Books,
    filing: FuturesUnordered<BoxFuture<'a, Filed>>,
    looking: Option<BoxFuture<'a, Result<bool>>>,
    /// When it last looked, by the monotonic clock.
    looked: Duration,
    /// The last hand-over was quick.
    quick: bool,
    /// Nothing more is lent.
    stopped: bool,
    /// Nothing more is handed over.
    shut: bool,
    fault: Option<Error>,
}

/// What a tick did in all.
pub(super) struct Done {
    pub(super) learned: Learned,
    /// Classes whose windows closed, and when they open again.
    pub(super) closed: BTreeMap<Class, Timestamp>,
    pub(super) lent: u64,
    pub(super) fault: Option<Error>,
}

impl<'a> Line<'a> {
    /// A line for `turns`, lent from until `lend_until` by the monotonic clock, by a leave that
    /// ends at `leave_until`.
    pub(super) fn new(
        lane: &'a LaneReleaser,
        turns: Vec<Turn>,
        lend_until: Duration,
        leave_until: Option<Duration>,
    ) -> Self {
        Self {
            lane,
            turns: turns.into(),
            lend_until,
            leave_until,
            lent: 0,
            lending: None,
            begun: false,
            preparing: FuturesOrdered::new(),
            in_preparation: VecDeque::new(),
            ready: VecDeque::new(),
            leaving: FuturesUnordered::new(),
            books: Books::default(),
            filing: FuturesUnordered::new(),
            looking: None,
            looked: lane.parts.clock.monotonic(),
            quick: false,
            stopped: false,
            shut: false,
            fault: None,
        }
    }

    /// Runs until nothing is under way any more.
    pub(super) async fn run(mut self) -> Done {
        loop {
            self.begin();
            let Some(ended) = poll_fn(|context| self.poll(context)).await else {
                break;
            };
            self.note(ended);
        }
        Done {
            learned: self.books.learned,
            closed: self.books.closed,
            lent: self.lent,
            fault: self.fault,
        }
    }

    /// Begins whatever may begin, that which is furthest first.
    fn begin(&mut self) {
        self.begin_hand_overs();
        while !self.books.is_clear() && self.filing.len() < FILING_MAX {
            let owed = self.books.take();
            self.filing.push(self.lane.file(owed).boxed());
        }
        self.begin_lending();
    }

    fn begin_hand_overs(&mut self) {
        while self.leaving.len() < self.lane.options.in_flight.max(1) && !self.must_look() {
            let Some(chunk) = self.ready.pop_front() else {
                return;
            };
            // A clock that jumped since the decision stops everything.
            self.shut |= self.lane.look_at_clock() != Frost::None;
            if self.shut || self.is_leave_over() {
                self.stopped = true;
                self.lane.hold_back(chunk, &mut self.books);
            } else {
                self.leaving.push(self.lane.hand_over(chunk).boxed());
            }
        }
    }

    /// Whether it has to look for a pause before anything more is handed over; begins to.
    fn must_look(&mut self) -> bool {
        if self.shut || self.ready.is_empty() {
            return false;
        }
        let monotonic = self.lane.parts.clock.monotonic();
        if self.looking.is_none() && monotonic.saturating_sub(self.looked) >= LOOK_GOOD {
            self.looking = Some(self.lane.is_stopped().boxed());
        }
        self.looking.is_some()
    }

    fn begin_lending(&mut self) {
        self.stopped |= self.is_leave_over();
        let busy = self.lending.is_some() || self.preparing.len() >= PREPARING_MAX;
        if busy || self.stopped || self.turns.is_empty() {
            return;
        }
        if self.begun && self.lane.parts.clock.monotonic() >= self.lend_until {
            self.stopped = true;
            return;
        }
        let batch = self.lane.batch_max();
        let abreast = self.lane.abreast();
        let round = (abreast / 2).min(ROUND_MAX).max(batch);
        let most = match self.quick {
            true => round * ROUNDS_AHEAD_MAX,
            false => abreast.min(round * 2),
        };
        let waiting: usize = self.ready.iter().map(|chunk| chunk.loans.len()).sum();
        let ahead = waiting + self.in_preparation.iter().sum::<usize>();
        if ahead > 0 && ahead + round > most {
            return;
        }
        let turns = take(&mut self.turns, round);
        let first = !std::mem::replace(&mut self.begun, true);
        self.lending = Some(self.lane.lend(turns, first).boxed());
    }

    /// The next thing that has ended; `None` when nothing is under way.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Ended>> {
        let mut idle = true;
        match self.filing.poll_next_unpin(context) {
            Poll::Ready(Some(filed)) => return Poll::Ready(Some(Ended::Filed(filed))),
            Poll::Ready(None) => {}
            Poll::Pending => idle = false,
        }
        match self.leaving.poll_next_unpin(context) {
            Poll::Ready(Some(left)) => return Poll::Ready(Some(Ended::Left(left))),
            Poll::Ready(None) => {}
            Poll::Pending => idle = false,
        }
        match self.preparing.poll_next_unpin(context) {
            Poll::Ready(Some(prepared)) => return Poll::Ready(Some(Ended::Prepared(prepared))),
            Poll::Ready(None) => {}
            Poll::Pending => idle = false,
        }
        if let Some(looking) = &mut self.looking {
            if let Poll::Ready(stopped) = looking.poll_unpin(context) {
                self.looking = None;
                return Poll::Ready(Some(Ended::Looked(stopped)));
            }
            idle = false;
        }
        if let Some(lending) = &mut self.lending {
            if let Poll::Ready(lent) = lending.poll_unpin(context) {
                self.lending = None;
                return Poll::Ready(Some(Ended::Lent(lent)));
            }
            idle = false;
        }
        if idle {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }

    fn note(&mut self, ended: Ended) {
        match ended {
            Ended::Lent(Lent::Stopped(leased)) => self.put_back(leased),
            Ended::Lent(Lent::Round(leased, fault)) => {
                self.lent += leased.len() as u64;
                self.stop_for(fault);
                if self.is_leave_over() {
                    self.put_back(leased);
                } else if !leased.is_empty() {
                    self.in_preparation.push_back(leased.len());
                    let prepared = self.lane.prepare(leased, self.leave_until);
                    self.preparing.push_back(prepared.boxed());
                }
            }
            Ended::Prepared(prepared) => {
                self.in_preparation.pop_front();
                self.stop_for(prepared.fault);
                self.stopped |= !prepared.books.closed.is_empty();
                self.books.join(prepared.books);
                self.ready.extend(prepared.chunks);
            }
            Ended::Left(left) => {
                self.quick = left.took <= QUICK;
                let nothing = self.lane.conclude(left, &mut self.books);
                self.stopped |= nothing;
                self.shut |= self.books.learned.lane_waits.is_some();
                self.stopped |= self.shut;
            }
            Ended::Looked(stopped) => {
                self.looked = self.lane.parts.clock.monotonic();
                self.shut |= !matches!(stopped, Ok(false));
                self.stopped |= self.shut;
                self.stop_for(stopped.err());
            }
            Ended::Filed((lapsed, fault)) => {
                self.books.learned.tick.lapsed += lapsed;
                self.shut |= fault.is_some();
                self.stop_for(fault);
            }
        }
    }

    /// Whether what was given leave for may not go any more.
    fn is_leave_over(&self) -> bool {
        let monotonic = || self.lane.parts.clock.monotonic();
        self.leave_until.is_some_and(|until| monotonic() >= until)
    }

    /// What was lent and cannot leave goes back as it came.
    fn put_back(&mut self, leased: Vec<Leased>) {
        self.stopped = true;
        for one in leased {
            self.books.defer(one.token, one.held.due, false);
        }
    }

    fn stop_for(&mut self, fault: Option<Error>) {
        if let Some(fault) = fault {
            self.stopped = true;
            self.fault.get_or_insert(fault);
        }
    }
}

impl LaneReleaser {
    /// Borrows what these turns ask for. Before every round but the first it looks whether somebody
    /// has stopped the lane meanwhile; a hold that needs a while to tell is asked for the round,
    /// too.
    async fn lend(&self, turns: Vec<Turn>, first: bool) -> Lent {
        let now = self.parts.clock.now();
        if first {
            let (leased, fault) = self.lease_all(turns, now).await;
            return Lent::Round(leased, fault);
        }
        let mut look = pin!(self.is_stopped());
        let (stopped, (leased, fault)) = match poll!(&mut look) {
            Poll::Ready(Ok(false)) => (Ok(false), self.lease_all(turns, now).await),
            Poll::Ready(stopped) => (stopped, (Vec::new(), None)),
            Poll::Pending => join(look, self.lease_all(turns, now)).await,
        };
        match stopped {
            Ok(true) => Lent::Stopped(leased),
            Ok(false) => Lent::Round(leased, fault),
            Err(error) => Lent::Round(leased, fault.or(Some(error))),
        }
    }

    async fn lease_all(&self, turns: Vec<Turn>, now: Timestamp) -> (Vec<Leased>, Option<Error>) {
        let leases = turns.into_iter().map(|turn| self.lease(turn, now));
        let mut answers = stream::iter(leases).buffered(LEASING_MAX);
        let (mut all, mut fault) = (Vec::new(), None);
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(leased) if all.is_empty() => all = leased,
                Ok(leased) => all.extend(leased),
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        (all, fault)
    }

    async fn lease(&self, turn: Turn, now: Timestamp) -> Result<Vec<Leased>> {
        let pick = match &turn.of {
            Some((purpose, campaign)) => Pick::Campaign(*purpose, campaign.as_deref()),
            None => Pick::Any,
        };
        let ask = LeaseAsk {
            lane: &self.options.lane,
            pick,
            now,
            max: turn.max,
            ttl: self.options.lease_ttl,
        };
        self.parts.hold.lease(&ask).await
    }
}

/// Turns for up to `max` messages, off the front; the last may be divided.
fn take(turns: &mut VecDeque<Turn>, max: usize) -> Vec<Turn> {
    let (mut taken, mut left) = (Vec::new(), max);
    while left > 0
        && let Some(turn) = turns.front_mut()
    {
        let some = turn.max.min(left);
        left -= some;
        turn.max -= some;
        let mut part = turn.clone();
        part.max = some;
        taken.push(part);
        if turn.max == 0 {
            turns.pop_front();
        }
    }
    taken
}

#[cfg(test)]
mod tests;

//! True time, the gateway's clock, chance, stalls and the history: what all fakes share.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use nightgate::clock::{Clock, ManualClock};
use nightgate::hold::Token;

use crate::history::{Entry, What, Who};
use crate::knobs::{Knobs, Mutant};

/// Everything that one night shares.
pub(crate) struct World {
    pub(crate) knobs: Knobs,
    /// The clock that the gateway sees.
    pub(crate) clock: ManualClock,
    inner: Mutex<Inner>,
}

struct Inner {
    rng: fastrand::Rng,
    now: Timestamp,
    timers: Vec<(Timestamp, Waker)>,
    history: Vec<Entry>,
    crashed: Vec<Who>,
    calm: bool,
    loans: HashMap<Token, usize>,
}

impl World {
    pub(crate) fn new(knobs: Knobs, start: Timestamp) -> Self {
        let inner = Inner {
            rng: fastrand::Rng::with_seed(knobs.seed ^ 0x5eed),
            now: start,
            timers: Vec::new(),
            history: Vec::new(),
            crashed: Vec::new(),
            calm: false,
            loans: HashMap::new(),
        };
        Self {
            knobs,
            clock: ManualClock::new(start),
            inner: Mutex::new(inner),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// True time.
    pub(crate) fn now(&self) -> Timestamp {
        self.inner().now
    }

    /// What the gateway's wall clock shows.
    pub(crate) fn wall(&self) -> Timestamp {
        self.clock.now()
    }

    /// True time passes, and with it the gateway's clock, right or wrong.
    pub(crate) fn advance_to(&self, at: Timestamp) {
        let woken = {
            let mut inner = self.inner();
            let by = Duration::try_from(at.duration_since(inner.now)).unwrap_or_default();
            self.clock.advance(by);
            inner.now = inner.now.max(at);
            let now = inner.now;
            let (woken, rest) = std::mem::take(&mut inner.timers)
                .into_iter()
                .partition(|(until, _)| *until <= now);
            inner.timers = rest;
            woken
        };
        let woken: Vec<(Timestamp, Waker)> = woken;
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// When the next stall is over.
    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        self.inner().timers.iter().map(|(until, _)| *until).min()
    }

    /// Returns when true time has come to `until`.
    pub(crate) async fn stall_until(&self, until: Timestamp) {
        let mut set = false;
        std::future::poll_fn(|context: &mut Context<'_>| {
            let mut inner = self.inner();
            if inner.now >= until {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut set, true) {
                inner.timers.push((until, context.waker().clone()));
            }
            Poll::Pending
        })
        .await;
    }

    pub(crate) async fn stall(&self, ahead: SignedDuration) {
        self.stall_until(self.now() + ahead).await;
    }

    /// The process of `who` dies here: never returns, the driver drops what runs.
    pub(crate) async fn crash(&self, who: Who) {
        self.inner().crashed.push(who);
        std::future::pending::<()>().await;
    }

    pub(crate) fn take_crashes(&self) -> Vec<Who> {
        std::mem::take(&mut self.inner().crashed)
    }

    pub(crate) fn chance<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.inner().rng)
    }

    pub(crate) fn note(&self, what: What) {
        let mut inner = self.inner();
        let at = inner.now;
        inner.history.push(Entry { at, what });
    }

    pub(crate) fn take_history(&self) -> Vec<Entry> {
        std::mem::take(&mut self.inner().history)
    }

    /// No faults from here on.
    pub(crate) fn calm_down(&self) {
        self.inner().calm = true;
        self.note(What::Calm);
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.inner().calm
    }

    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.knobs.mutant == Some(mutant)
    }

    pub(crate) fn lend(&self, token: Token, id: usize) {
        self.inner().loans.insert(token, id);
    }

    pub(crate) fn lent(&self, token: Token) -> usize {
        self.inner().loans[&token]
    }
}

/// The gateway's clock as its parts see it.
pub(crate) struct SimClock(pub(crate) Arc<World>);

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn monotonic(&self) -> Duration {
        if self.0.is(Mutant::ClockHidesSteps) {
            let since = self.now().duration_since(Timestamp::UNIX_EPOCH);
            return Duration::try_from(since).unwrap_or_default();
        }
        self.0.clock.monotonic()
    }

    async fn sleep_until(&self, at: Timestamp) {
        self.0.clock.sleep_until(at).await;
    }
}

/// Message number of an id: `m-17`, or `m-17~2` where a mutant put it twice.
pub(crate) fn number(id: &str) -> usize {
    let digits = id
        .trim_start_matches("m-")
        .split('~')
        .next()
        .unwrap_or_default();
    digits.parse().expect("ids are m-<number>")
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a store's call to its end here and now: in simulated time every call is one instant, and
/// two calls never overlap, so that one seed is one night whatever threads a store uses.
pub(crate) fn at_once<T>(call: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut call = pin!(call);
    loop {
        if let Poll::Ready(answer) = call.as_mut().poll(&mut context) {
            return answer;
        }
        std::thread::park();
    }
}

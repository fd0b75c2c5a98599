//! Stop-watches around the ports: how long calls are under way, and for how many messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate::clock::Clock;
use nightgate::consent::{ConsentBook, ConsentEvent};
use nightgate::error::Result;
use nightgate::hold::{
    Capability, Found, Held, HoldStore, Lane, LeaseAsk, Leased, Pause, Put, Recalled, Scope,
    Settle, Settled, Shelf, State,
};
use nightgate::receipt::{Event, Filed, Receipt, ReceiptAsk, ReceiptLog};
use nightgate::sink::{Outbound, Outcome, Sink};
use nightgate_core::{Class, Consent, MessageId, RecipientKey};

/// What the process used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Spent {
    pub(crate) fn till(&self, later: &Self) -> Self {
        Self {
            user: later.user - self.user,
            system: later.system - self.system,
        }
    }

    pub(crate) fn total(&self) -> f64 {
        self.user + self.system
    }
}

/// CPU seconds of all threads, by `/proc`: ticks of 10 ms.
pub(crate) fn spent() -> crate::Outcome<Spent> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after.split_whitespace().collect();
    Ok(Spent {
        user: fields[11].parse::<f64>()? / 100.0,
        system: fields[12].parse::<f64>()? / 100.0,
    })
}

/// One step.
#[derive(Debug, Default)]
struct Watch {
    nanos: AtomicU64,
    calls: AtomicU64,
    messages: AtomicU64,
}

impl Watch {
    fn note(&self, took: Duration, messages: usize) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.messages.fetch_add(messages as u64, Ordering::Relaxed);
    }
}

/// All steps.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    look: Watch,
    lease: Watch,
    consent: Watch,
    attempted: Watch,
    deliver: Watch,
    outcome: Watch,
    settle: Watch,
}

impl Watches {
    pub(crate) fn hold(
        self: &Arc<Self>,
        clock: &Arc<dyn Clock>,
        inner: Arc<dyn HoldStore>,
    ) -> Arc<dyn HoldStore> {
        Arc::new(self.around(clock, inner))
    }

    pub(crate) fn log(
        self: &Arc<Self>,
        clock: &Arc<dyn Clock>,
        inner: Arc<dyn ReceiptLog>,
    ) -> Arc<dyn ReceiptLog> {
        Arc::new(self.around(clock, inner))
    }

    pub(crate) fn book(
        self: &Arc<Self>,
        clock: &Arc<dyn Clock>,
        inner: Arc<dyn ConsentBook>,
    ) -> Arc<dyn ConsentBook> {
        Arc::new(self.around(clock, inner))
    }

    pub(crate) fn sink(
        self: &Arc<Self>,
        clock: &Arc<dyn Clock>,
        inner: Arc<dyn Sink>,
    ) -> Arc<dyn Sink> {
        Arc::new(self.around(clock, inner))
    }

    fn around<T: ?Sized>(self: &Arc<Self>, clock: &Arc<dyn Clock>, inner: Arc<T>) -> Around<T> {
        let (clock, watches) = (Arc::clone(clock), Arc::clone(self));
        Around {
            inner,
            clock,
            watches,
        }
    }

    pub(crate) fn say(&self, messages: u64) {
        let steps = [
            ("look at shelves and stops", &self.look),
            ("lease", &self.lease),
            ("consent", &self.consent),
            ("attempted receipts", &self.attempted),
            ("hand-over", &self.deliver),
            ("outcome receipts", &self.outcome),
            ("settle", &self.settle),
        ];
        println!("  under way:            ns a message     calls   ms a call   messages a call");
        for (name, watch) in steps {
            let nanos = watch.nanos.load(Ordering::Relaxed);
            let calls = watch.calls.load(Ordering::Relaxed).max(1);
            #[expect(clippy::cast_precision_loss, reason = "figures for people")]
            let ms = nanos as f64 / calls as f64 / 1e6;
            println!(
                "  {name:26} {:>7} {calls:>9} {ms:>11.3} {:>17}",
                nanos / messages,
                watch.messages.load(Ordering::Relaxed) / calls
            );
        }
    }
}

struct Around<T: ?Sized> {
    clock: Arc<dyn Clock>,
    watches: Arc<Watches>,
    inner: Arc<T>,
}

impl<T: ?Sized> Around<T> {
    async fn timed<A>(&self, watch: &Watch, call: impl Future<Output = A>) -> A {
        self.counted(watch, call, |_| 0).await
    }

    async fn counted<A>(
        &self,
        watch: &Watch,
        call: impl Future<Output = A>,
        messages: impl FnOnce(&A) -> usize,
    ) -> A {
        let began = self.clock.monotonic();
        let answer = call.await;
        let took = self.clock.monotonic().saturating_sub(began);
        watch.note(took, messages(&answer));
        answer
    }
}

#[async_trait]
impl HoldStore for Around<dyn HoldStore> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn capability(&self) -> Capability {
        self.inner.capability()
    }
    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        self.inner.put(messages, now).await
    }
    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        let count = |leased: &Result<Vec<Leased>>| leased.as_ref().map_or(0, Vec::len);
        self.counted(&self.watches.lease, self.inner.lease(ask), count)
            .await
    }
    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        let many = settlements.len();
        let call = self.inner.settle(settlements, now);
        self.counted(&self.watches.settle, call, |_| many).await
    }
    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        self.inner.next_due(lane, now).await
    }
    async fn shelves(&self, lane: Option<&Lane>, due_by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        self.timed(&self.watches.look, self.inner.shelves(lane, due_by))
            .await
    }
    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        self.inner.find(ids).await
    }
    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        self.inner.list(state, lane, max).await
    }
    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        self.inner.recall(scope, now).await
    }
    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        self.inner.kick(scope, now).await
    }
    async fn redate(
        &self,
        lane: &Lane,
        class: &Class,
        now: Timestamp,
        to: Timestamp,
    ) -> Result<u64> {
        self.inner.redate(lane, class, now, to).await
    }
    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        self.inner.pause(lane, paused, now).await
    }
    async fn pauses(&self) -> Result<Vec<Pause>> {
        self.timed(&self.watches.look, self.inner.pauses()).await
    }
    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        self.inner.sweep(now).await
    }
    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }
}

#[async_trait]
impl ReceiptLog for Around<dyn ReceiptLog> {
    async fn append(&self, receipts: Vec<Receipt>) -> Result<()> {
        let first = receipts.first().map(|receipt| receipt.event);
        let watch = match first {
            Some(Event::Attempted) => &self.watches.attempted,
            _ => &self.watches.outcome,
        };
        let many = receipts.len();
        self.counted(watch, self.inner.append(receipts), |_| many)
            .await
    }
    async fn query(&self, ask: &ReceiptAsk) -> Result<Vec<Filed>> {
        self.inner.query(ask).await
    }
    async fn known(&self, ids: &[MessageId]) -> Result<Vec<bool>> {
        self.inner.known(ids).await
    }
}

#[async_trait]
impl ConsentBook for Around<dyn ConsentBook> {
    async fn look_up(&self, keys: &[RecipientKey]) -> Result<Vec<Consent>> {
        let call = self.inner.look_up(keys);
        self.counted(&self.watches.consent, call, |_| keys.len())
            .await
    }
    async fn record(&self, events: Vec<ConsentEvent>) -> Result<u64> {
        self.inner.record(events).await
    }
    async fn history(&self, key: &RecipientKey) -> Result<Vec<ConsentEvent>> {
        self.inner.history(key).await
    }
    async fn count(&self) -> Result<u64> {
        self.inner.count().await
    }
}

#[async_trait]
impl Sink for Around<dyn Sink> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn batch_max(&self) -> usize {
        self.inner.batch_max()
    }
    async fn deliver(&self, batch: Vec<Outbound>) -> Vec<Outcome> {
        let many = batch.len();
        let call = self.inner.deliver(batch);
        self.counted(&self.watches.deliver, call, |_| many).await
    }
}

/// Takes everything that may leave.
pub(crate) struct NullSink(pub(crate) Arc<dyn Clock>);

#[async_trait]
impl Sink for NullSink {
    fn name(&self) -> &'static str {
        "null"
    }
    fn batch_max(&self) -> usize {
        1_000
    }
    async fn deliver(&self, batch: Vec<Outbound>) -> Vec<Outcome> {
        let now = self.0.now();
        let outcome = |one: &Outbound| match one.may_leave_at(now) {
            true => Outcome::Delivered { reference: None },
            false => Outcome::TooLate,
        };
        batch.iter().map(outcome).collect()
    }
}

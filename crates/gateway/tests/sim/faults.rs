//! Ports that fail, stall and die at any call, in front of the real ones.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use nightgate::consent::{ConsentBook, ConsentEvent};
use nightgate::error::{Error, Kind, Result};
use nightgate::receipt::{Event, Filed, Receipt, ReceiptAsk, ReceiptLog};
use nightgate_core::{Consent, MessageId, RecipientKey};

use crate::history::{What, Who, seoul_second};
use crate::knobs::{Mutant, Weather};
use crate::world::{World, at_once, number};

/// What befalls one call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    ErrBefore,
    ErrAfter,
    StallBefore(SignedDuration),
    StallAfter(SignedDuration),
    CrashBefore,
    CrashAfter,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ErrBefore => "fails before it is done",
            Self::ErrAfter => "is done but says it failed",
            Self::StallBefore(_) => "stalls, then is done",
            Self::StallAfter(_) => "is done, then stalls",
            Self::CrashBefore => "dies before it is done",
            Self::CrashAfter => "is done, then dies",
        }
    }
}

/// Draws the faults of one process at one port.
#[derive(Clone)]
pub(crate) struct Faults {
    pub(crate) world: Arc<World>,
    pub(crate) who: Who,
    pub(crate) part: &'static str,
}

impl Faults {
    pub(crate) fn new(world: &Arc<World>, who: Who, part: &'static str) -> Self {
        Self {
            world: Arc::clone(world),
            who,
            part,
        }
    }

    fn draw(&self) -> Fault {
        let world = &self.world;
        if world.is_calm() || world.chance(|rng| rng.u32(0..1000)) >= world.knobs.port_faults {
            return Fault::None;
        }
        let stormy = world.knobs.weather == Weather::Stormy;
        match world.chance(|rng| {
            if stormy {
                rng.u32(4..8)
            } else {
                rng.u32(0..10)
            }
        }) {
            0..2 => Fault::ErrBefore,
            2..4 => Fault::ErrAfter,
            4..6 => Fault::StallBefore(long(world)),
            6..8 => Fault::StallAfter(long(world)),
            8 => Fault::CrashBefore,
            _ => Fault::CrashAfter,
        }
    }

    /// One call of the port behind, or what is left of it.
    pub(crate) async fn around<T: Send>(
        &self,
        op: &'static str,
        call: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        let fault = self.draw();
        if fault != Fault::None {
            self.world.note(What::Fault {
                who: self.who,
                op,
                fault: fault.name(),
            });
        }
        let failed = || Error::new(Kind::Unavailable, self.part, op);
        match fault {
            Fault::None => call(),
            Fault::ErrBefore => Err(failed()),
            Fault::ErrAfter => call().and_then(|_| Err(failed())),
            Fault::StallBefore(ahead) => {
                self.world.stall(ahead).await;
                call()
            }
            Fault::StallAfter(ahead) => {
                let answer = call();
                self.world.stall(ahead).await;
                answer
            }
            Fault::CrashBefore => {
                self.world.crash(self.who).await;
                Err(failed())
            }
            Fault::CrashAfter => {
                let _ = call();
                self.world.crash(self.who).await;
                Err(failed())
            }
        }
    }
}

/// How long a stall lasts: a breath, a loan, half an hour, hours, or just across a bound of law.
pub(crate) fn long(world: &World) -> SignedDuration {
    let now = world.now();
    let most = if world.knobs.weather == Weather::Stormy {
        20
    } else {
        10
    };
    world
        .chance(|rng| match rng.u32(0..most) {
            0..3 => SignedDuration::from_millis(rng.i64(50..20_000)),
            3..6 => SignedDuration::from_millis(rng.i64(10_000..300_000)),
            6 => SignedDuration::from_secs(rng.i64(300..2400)),
            7 => SignedDuration::from_secs(rng.i64(2400..6 * 3600)),
            _ => across(now) + SignedDuration::from_millis(rng.i64(-60_000..240_000)),
        })
        .clamp(
            SignedDuration::from_millis(1),
            SignedDuration::from_hours(8),
        )
}

/// Until the next of 08:00, 20:50 and 21:00 in Seoul.
fn across(now: Timestamp) -> SignedDuration {
    let second = seoul_second(now);
    let ahead = |bound: i64| (bound - second).rem_euclid(86_400);
    let bounds = [8 * 3600, 20 * 3600 + 50 * 60, 21 * 3600];
    SignedDuration::from_secs(bounds.into_iter().map(ahead).min().unwrap_or(0))
}

/// The consent book through one process's eyes.
pub(crate) struct FaultyBook {
    pub(crate) faults: Faults,
    pub(crate) inner: Arc<dyn ConsentBook>,
    pub(crate) keys: Arc<crate::script::Keys>,
    /// The first answers, for the mutant that never asks again.
    pub(crate) stale: std::sync::Mutex<std::collections::HashMap<RecipientKey, Consent>>,
}

#[async_trait]
impl ConsentBook for FaultyBook {
    async fn look_up(&self, keys: &[RecipientKey]) -> Result<Vec<Consent>> {
        let world = &self.faults.world;
        let call = || {
            let mut answers = at_once(self.inner.look_up(keys))?;
            for key in keys {
                let key = self.keys.number(key);
                world.note(What::LookedUp {
                    key,
                    by: self.faults.who,
                });
            }
            if world.is(Mutant::BookIsStale) {
                let mut stale = self.stale.lock().unwrap();
                for (key, answer) in keys.iter().zip(&mut answers) {
                    *answer = *stale.entry(key.clone()).or_insert(*answer);
                }
            }
            Ok(answers)
        };
        self.faults.around("look up consents", call).await
    }

    async fn record(&self, events: Vec<ConsentEvent>) -> Result<u64> {
        at_once(self.inner.record(events))
    }

    async fn history(&self, key: &RecipientKey) -> Result<Vec<ConsentEvent>> {
        at_once(self.inner.history(key))
    }

    async fn count(&self) -> Result<u64> {
        at_once(self.inner.count())
    }
}

/// The receipt log through one process's eyes.
pub(crate) struct FaultyLog {
    pub(crate) faults: Faults,
    pub(crate) inner: Arc<dyn ReceiptLog>,
}

impl FaultyLog {
    fn note(&self, receipts: &[(usize, Event)], filed: bool) {
        let by = self.faults.who;
        for &(id, event) in receipts {
            self.faults.world.note(if filed {
                What::Filed { id, event, by }
            } else {
                What::NotFiled { id, event, by }
            });
        }
    }
}

#[async_trait]
impl ReceiptLog for FaultyLog {
    async fn append(&self, mut receipts: Vec<Receipt>) -> Result<()> {
        let mutant = self.faults.world.is(Mutant::LogDropsAttempted);
        receipts.retain(|receipt| !mutant || receipt.event != Event::Attempted);
        let named: Vec<_> = receipts
            .iter()
            .filter_map(|one| Some((number(one.subject.message.as_ref()?.as_str()), one.event)))
            .collect();
        let done = std::sync::atomic::AtomicBool::new(false);
        let call = || {
            at_once(self.inner.append(receipts))?;
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            self.note(&named, true);
            Ok(())
        };
        let answer = self.faults.around("append receipts", call).await;
        if !done.load(std::sync::atomic::Ordering::Relaxed) {
            self.note(&named, false);
        }
        answer
    }

    async fn query(&self, ask: &ReceiptAsk) -> Result<Vec<Filed>> {
        if self.faults.world.is(Mutant::LogForgets) {
            return Ok(Vec::new());
        }
        self.faults
            .around("query receipts", || at_once(self.inner.query(ask)))
            .await
    }

    async fn known(&self, ids: &[MessageId]) -> Result<Vec<bool>> {
        self.faults
            .around("look for receipts", || at_once(self.inner.known(ids)))
            .await
    }
}

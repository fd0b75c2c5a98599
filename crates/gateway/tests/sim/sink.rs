//! A provider that delivers, rejects, refuses for a while, loses answers, is slow, or dies with the
//! process. What it received, and when, is the oracle's evidence.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use nightgate::sink::{Outbound, Outcome, Sink};

use crate::faults::long;
use crate::history::{What, Who};
use crate::knobs::{Mutant, Weather};
use crate::world::{World, number};

/// How the provider takes one call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Good,
    /// 429 with `Retry-After`, or without.
    Busy(Option<i64>),
    /// Took it; the answer was lost.
    LostAnswer,
    /// Did not take it; nobody knows.
    LostRequest,
    /// Some of each.
    Mixed,
    Rejects,
    /// Answers for fewer than it was given.
    Miscounts,
}

pub(crate) struct FakeSink {
    pub(crate) world: Arc<World>,
    pub(crate) who: Who,
    pub(crate) lane: usize,
}

impl FakeSink {
    fn mood(&self) -> Mood {
        let world = &self.world;
        if world.is_calm() || world.chance(|rng| rng.u32(0..1000)) >= world.knobs.sink_faults {
            return Mood::Good;
        }
        world.chance(|rng| match rng.u32(0..12) {
            0 => Mood::Good,
            _ if world.knobs.weather == Weather::Stormy => Mood::Good,
            1 => Mood::Busy(None),
            2 => Mood::Busy(Some(rng.i64(1..1800))),
            3..6 => Mood::LostAnswer,
            6..8 => Mood::LostRequest,
            8..10 => Mood::Mixed,
            10 => Mood::Rejects,
            _ => Mood::Miscounts,
        })
    }

    /// One stall in three faulty calls, before or after taking the batch; sometimes the end.
    async fn dawdle(&self) {
        let world = &self.world;
        let usual = SignedDuration::from_millis(world.chance(|rng| rng.i64(1..40)));
        if world.is_calm() || world.chance(|rng| rng.u32(0..2000)) >= world.knobs.sink_faults {
            world.stall(usual).await;
        } else if world.knobs.weather != Weather::Stormy && world.chance(|rng| rng.u32(0..8)) == 0 {
            world.note(What::Fault {
                who: self.who,
                op: "deliver",
                fault: "dies",
            });
            world.crash(self.who).await;
        } else {
            world.stall(long(world)).await;
        }
    }

    fn take(&self, id: usize) {
        self.world.note(What::Received {
            id,
            by: self.who,
            lane: self.lane,
        });
    }

    fn answer(&self, id: usize, mood: Mood) -> Outcome {
        let why = String::new;
        match mood {
            Mood::Good | Mood::Miscounts => {
                self.take(id);
                Outcome::Delivered { reference: None }
            }
            Mood::Busy(secs) => {
                let after = secs.map(SignedDuration::from_secs);
                Outcome::Retry {
                    after,
                    whole_lane: true,
                    why: why(),
                }
            }
            Mood::LostAnswer => {
                self.take(id);
                Outcome::Unknown { why: why() }
            }
            Mood::LostRequest => Outcome::Unknown { why: why() },
            Mood::Rejects => Outcome::Rejected { why: why() },
            Mood::Mixed => match self.world.chance(|rng| rng.u32(0..6)) {
                0..3 => self.answer(id, Mood::Good),
                3 => self.answer(id, Mood::LostAnswer),
                4 => self.answer(id, Mood::Rejects),
                _ => Outcome::Retry {
                    after: None,
                    whole_lane: false,
                    why: why(),
                },
            },
        }
    }
}

#[async_trait]
impl Sink for FakeSink {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn batch_max(&self) -> usize {
        self.world.knobs.sink_batch
    }

    async fn deliver(&self, batch: Vec<Outbound>) -> Vec<Outcome> {
        for outbound in &batch {
            let id = number(outbound.message().id.as_str());
            self.world.note(What::Entered { id, by: self.who });
        }
        let mood = self.mood();
        self.dawdle().await;
        // The last act before it leaves, as in the real sinks.
        let now = self.world.wall();
        let heedless = self.world.is(Mutant::SinkIgnoresPermit);
        let mut outcomes = Vec::with_capacity(batch.len());
        for outbound in &batch {
            let id = number(outbound.message().id.as_str());
            outcomes.push(if heedless || outbound.may_leave_at(now) {
                self.answer(id, mood)
            } else {
                Outcome::TooLate
            });
        }
        self.dawdle().await;
        for (outbound, outcome) in batch.iter().zip(&outcomes) {
            let id = number(outbound.message().id.as_str());
            self.world.note(What::Said {
                id,
                by: self.who,
                outcome: outcome.name(),
            });
        }
        if mood == Mood::Miscounts {
            outcomes.pop();
        }
        outcomes
    }
}

//! Gateways that stall, for the tests of each budget that several share.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::clock::{Clock, ManualClock};
use crate::lane::Lane;
use crate::release::budget::{Allowance, Budget, Leave};
use crate::release::limiter::Pace;

pub(in super::super) fn pace(rate: u32, burst: u32, slow_start: u64) -> Pace {
    Pace {
        rate: NonZeroU32::new(rate),
        burst: NonZeroU32::new(burst).unwrap(),
        slow_start: Duration::from_secs(slow_start),
        slow_start_from: 0.1,
    }
}

/// Some gateways with one lane at `pace`, and the clock of all of them and of the server.
pub(in super::super) struct World {
    pub(in super::super) clock: Arc<ManualClock>,
    pub(in super::super) nodes: Vec<Box<dyn Allowance>>,
}

impl World {
    /// The budget is made with the clock that tells its server the time.
    pub(in super::super) fn new<B: Budget>(
        budget: impl FnOnce(Arc<dyn Clock>) -> B,
        lane: &str,
        nodes: usize,
        pace: Pace,
    ) -> Self {
        let clock = Arc::new(ManualClock::new("2026-11-22T20:00:00Z".parse().unwrap()));
        let own = Arc::clone(&clock) as Arc<dyn Clock>;
        let budget = budget(Arc::clone(&own));
        let lane = Lane::new(lane);
        let nodes = (0..nodes).map(|_| budget.allowance(&lane, pace, &own));
        let nodes = nodes.collect();
        Self { clock, nodes }
    }

    pub(in super::super) async fn take(&mut self, node: usize, wanted: usize) -> Leave {
        let now = self.clock.monotonic();
        let taken = self.nodes[node].take(wanted, 1_000_000, now).await;
        taken.unwrap()
    }

    /// All nodes ask for 1,000 every 10 ms for `seconds`; what was given in each second.
    pub(in super::super) async fn drain(&mut self, seconds: usize) -> Vec<usize> {
        let mut given = Vec::new();
        for _ in 0..seconds {
            let mut second = 0;
            for _ in 0..100 {
                for node in 0..self.nodes.len() {
                    second += self.take(node, 1_000).await.messages;
                }
                self.clock.advance(Duration::from_millis(10));
            }
            given.push(second);
        }
        given
    }
}

/// One step of one node: the time before it, the time that its question takes to arrive, and what
/// it does.
#[derive(Clone, Debug)]
pub(in super::super) struct Step {
    node: usize,
    before: Duration,
    way: Duration,
    act: Act,
}

#[derive(Clone, Debug)]
pub(in super::super) enum Act {
    /// Hands over what it has leave for, or takes leave for so many where it has none.
    Go(usize),
    /// Hands over all but so many of them.
    Part(usize),
    /// Has nothing left to send, whatever leave it has.
    Rest,
}

pub(in super::super) fn any_steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let act = prop_oneof![
        6 => (1..400_usize).prop_map(Act::Go),
        2 => (1..50_usize).prop_map(Act::Part),
        1 => Just(Act::Rest),
    ];
    // Mostly a few milliseconds, sometimes a stall.
    let time = || prop_oneof![6 => 0..20_u64, 2 => 0..200_u64, 1 => 0..3_000_u64];
    let step = (0..4_usize, time(), time(), act).prop_map(|(node, before, way, act)| Step {
        node,
        before: Duration::from_millis(before),
        way: Duration::from_millis(way),
        act,
    });
    prop::collection::vec(step, 1..most)
}

/// What the receiver gets: instants and messages.
pub(in super::super) async fn play(world: &mut World, steps: &[Step]) -> Vec<(Duration, usize)> {
    let mut received = Vec::new();
    let mut in_hand = vec![Leave::default(); world.nodes.len()];
    for step in steps {
        world.clock.advance(step.before);
        let node = step.node % in_hand.len();
        let now = world.clock.monotonic();
        let leave = in_hand[node];
        let go = leave.messages > 0 && leave.until.is_some_and(|until| now < until);
        match step.act {
            Act::Go(wanted) if leave.messages == 0 => {
                world.clock.advance(step.way);
                let taken = world.nodes[node].take(wanted, 1_000, now).await;
                in_hand[node] = taken.unwrap();
            }
            Act::Go(_) => {
                in_hand[node] = Leave::default();
                if go {
                    received.push((now, leave.messages));
                }
            }
            Act::Part(keep) => {
                let keep = keep.min(leave.messages);
                in_hand[node] = Leave::default();
                if go {
                    received.push((now, leave.messages - keep));
                }
                world.nodes[node].unused(keep);
            }
            Act::Rest => {
                in_hand[node] = Leave::default();
                world.nodes[node].unused(leave.messages);
                world.nodes[node].rest(now).await;
            }
        }
    }
    received
}

/// No stretch of time has seen more than `rate` and `most`.
pub(in super::super) fn is_within(received: &[(Duration, usize)], rate: u32, most: f64) {
    for (first, &(from, _)) in received.iter().enumerate() {
        let mut sum = 0;
        for &(to, messages) in &received[first..] {
            sum += messages;
            let allowed = f64::from(rate) * (to - from).as_secs_f64() + most;
            assert!(
                sum as f64 <= allowed + 0.01,
                "{sum} in {:?}, {allowed} are allowed",
                to - from
            );
        }
    }
}

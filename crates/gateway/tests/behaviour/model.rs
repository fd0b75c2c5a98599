//! Every backend against the plain one in memory: the same random calls, the same answers.

use std::sync::Arc;

use jiff::Timestamp;
use nightgate::hold::{HoldStore, Lane, Scope};

use crate::backends::{memory, on_each};
use crate::twins::Twins;
use crate::world::*;

const RUNS: u64 = 5;
const STEPS: usize = 250;

#[tokio::test]
async fn every_backend_answers_random_calls_as_the_plain_one_does() {
    let promises = |can: &nightgate::hold::Capability| {
        can.dedupe && can.order && can.pick && can.exact_depth && can.recall && can.redate
    };
    on_each(promises, async |bench| {
        for seed in 0..RUNS {
            println!("seed {seed}");
            // Each run begins long after the last one, in what that one left behind.
            let now = at(seed as i64 * 100_000);
            clear(&*bench.hold, now).await;
            let mut twins = Twins::new(memory(), Arc::clone(&bench.hold), seed, now);
            for step in 0..STEPS {
                twins.step().await;
                twins.compare(step % 10 == 0).await;
            }
        }
    })
    .await;
}

/// Ends and forgets everything.
async fn clear(hold: &dyn HoldStore, now: Timestamp) {
    for lane in ["sms", "push"] {
        hold.recall(&Scope::Lane(Lane::new(lane)), now - HORIZON - HORIZON)
            .await
            .unwrap();
        hold.recall(&Scope::Lane(Lane::new(lane)), now - HORIZON - MOMENT)
            .await
            .unwrap();
        hold.pause(Some(&Lane::new(lane)), false, now)
            .await
            .unwrap();
    }
    hold.pause(None, false, now).await.unwrap();
    hold.sweep(now).await.unwrap();
    assert_eq!(
        hold.shelves(None, None).await.unwrap(),
        [],
        "nothing is left of the last run"
    );
}

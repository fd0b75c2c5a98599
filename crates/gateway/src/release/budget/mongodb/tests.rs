//! The shared budget on what speaks as MongoDB does. Time is told to it, so that stalls of seconds
//! and whole climbs take no time.

use futures_util::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::clock::SystemClock;
use crate::error::Kind;
use crate::mongodb::MongoOptions;
use crate::mongodb::server::{NX, NX_WORDS, Server, address, database, start};
use crate::mongodb::tests::anew;
use crate::release::budget::slices::world::{World, any_steps, is_within, pace, play};
use crate::secret::Secret;

/// What of a second's messages may come in the next: a quarter of a burst of half a second, which
/// is worth waiting for, and what came in the ten milliseconds between two questions.
const A_SLICE: usize = 140;

async fn mongo() -> Mongo {
    anew(Server::Usual).await
}

fn world(mongo: &Mongo, lane: &str, nodes: usize, pace: Pace) -> World {
    let told = |clock| MongoBudget {
        mongo: mongo.clone(),
        told: Some(clock),
    };
    World::new(told, lane, nodes, pace)
}

async fn writes(mongo: &Mongo, lane: &str) -> i64 {
    let all = mongo.collection(PACES);
    let found = all.find_one(doc! { "_id": lane }).await.unwrap();
    version(&found.unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn gateways_that_stall_never_exceed_rate_and_burst_together(
        steps in any_steps(80),
        nodes in 1..5_usize,
        rate in prop_oneof![1..20_u32, 20..5_000_u32],
        burst in prop_oneof![1..10_u32, 10..2_000_u32],
        slow_start in 0..3_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let pace = pace(rate, burst, slow_start);
            let mut world = world(&mongo().await, "main", nodes, pace);
            let received = play(&mut world, &steps).await;
            let most = Bucket::of(pace, GOOD_MIN).unwrap().burst;
            is_within(&received, rate, most);
        });
    }
}

#[tokio::test]
async fn together_they_are_as_fast_as_one_may_be_in_few_writes() {
    let mongo = mongo().await;
    let mut world = world(&mongo, "main", 3, pace(1_000, 500, 0));
    let given = world.drain(4).await;
    assert!(given[0] <= 1_500, "{given:?}");
    let full = |second: &usize| second.abs_diff(1_000) <= A_SLICE;
    assert!(given[1..].iter().all(full), "{given:?}");
    let writes = writes(&mongo, "main").await;
    assert!(writes <= 3 * 4 * 30, "{writes} writes for 4,000 messages");
}

#[tokio::test]
async fn of_many_who_ask_at_once_each_has_its_answer_and_together_no_more_than_there_is() {
    let mongo = mongo().await;
    let mut world = world(&mongo, "main", TRIES, pace(100, 100, 0));
    let now = world.clock.monotonic();
    let asked = world.nodes.iter_mut().map(|node| node.take(20, 20, now));
    let given = join_all(asked).await.into_iter();
    let given: Vec<usize> = given.map(|leave| leave.unwrap().messages).collect();
    assert_eq!(
        given.iter().sum::<usize>(),
        50,
        "half of the burst: {given:?}"
    );
}

#[tokio::test]
async fn what_was_taken_and_slept_over_has_ended() {
    let mongo = mongo().await;
    let mut world = world(&mongo, "main", 2, pace(100, 100, 0));
    let slept = world.take(0, 50).await;
    assert_eq!(slept.messages, 50);
    world.clock.advance(Duration::from_secs(10));
    assert!(slept.until.unwrap() <= world.clock.monotonic());
    let other = world.take(1, 50).await;
    assert_eq!(other.messages, 50, "the time in between is another's");
    assert!(other.until.unwrap() > world.clock.monotonic());
}

#[tokio::test]
async fn a_slow_start_is_one_climb_for_all() {
    let mongo = mongo().await;
    let mut world = world(&mongo, "main", 2, pace(1_000, 50, 10));
    let now = world.clock.monotonic();
    world.nodes[0].start_slowly(now);
    let first = world.drain(5).await;
    // The other one had a rest of its own in the middle of the climb: it begins none.
    let now = world.clock.monotonic();
    world.nodes[1].start_slowly(now);
    let seen = [first, world.drain(8).await].concat();
    assert!(seen[0] <= 150, "{seen:?}");
    let climbs = |pair: &[usize]| pair[0] <= pair[1] + A_SLICE;
    assert!(seen[..11].windows(2).all(climbs), "climbs: {seen:?}");
    assert!(seen[12] + A_SLICE >= 1_000, "{seen:?}");
    // All of them rested: the next climb begins.
    world.clock.advance(Duration::from_secs(3));
    let now = world.clock.monotonic();
    world
        .nodes
        .iter_mut()
        .for_each(|node| node.start_slowly(now));
    let again = world.drain(2).await;
    assert!(again[0] <= 150, "{again:?}");
}

#[tokio::test]
async fn leave_that_one_did_not_use_another_takes_with_the_end_it_had() {
    let mongo = mongo().await;
    let mut world = world(&mongo, "main", 2, pace(100, 100, 0));
    let first = world.take(0, 50).await;
    assert_eq!(first.messages, 50, "half of the burst");
    assert_eq!(world.take(1, 50).await.messages, 0);
    world.nodes[0].unused(40);
    let now = world.clock.monotonic();
    world.nodes[0].rest(now).await;
    world.clock.advance(Duration::from_millis(200));
    let second = world.take(1, 60).await;
    assert_eq!(second.messages, 60, "40 given back, 20 new ones");
    assert!(second.until <= first.until);
    let now = world.clock.monotonic();
    world.nodes[1].unused(60);
    world.nodes[1].rest(now).await;
    world.clock.advance(Duration::from_millis(400));
    let third = world.take(0, 100).await;
    assert_eq!(third.messages, 40, "what was given back has ended");
}

#[tokio::test]
async fn lanes_do_not_share_and_one_without_a_rate_asks_nobody() {
    let mongo = mongo().await;
    let mut one = world(&mongo, "one", 1, pace(10, 20, 0));
    let mut other = world(&mongo, "other", 1, pace(10, 20, 0));
    assert_eq!(one.take(0, 10).await.messages, 10);
    assert_eq!(other.take(0, 10).await.messages, 10);
    let mut free = pace(1, 1, 0);
    free.rate = None;
    let mut free = world(&mongo, "free", 1, free);
    let leave = free.take(0, 12_345).await;
    assert_eq!((leave.messages, leave.until), (12_345, None));
    let all = mongo.collection(PACES);
    let written = all.find_one(doc! { "_id": "free" }).await.unwrap();
    assert_eq!(written, None);
}

#[tokio::test]
async fn without_the_server_nothing_leaves() {
    let (mut process, port) = start(0, "-", NX, NX_WORDS);
    let options = MongoOptions {
        database: database(),
        timeout: Duration::from_secs(5),
        ..MongoOptions::new(Secret::new(address(port)))
    };
    let mongo = Mongo::open(&options).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let budget = MongoBudget::new(mongo);
    let mut lane = budget.allowance(&Lane::new("main"), pace(100, 200, 0), &clock);
    let leave = lane.take(5, 5, clock.monotonic()).await.unwrap();
    assert_eq!(leave.messages, 5, "by the server's own time");
    assert!(leave.until.is_some());
    drop(process.stdin.take());
    process.wait().unwrap();
    lane.unused(5);
    lane.rest(clock.monotonic()).await;
    let error = lane.take(5, 5, clock.monotonic()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
}

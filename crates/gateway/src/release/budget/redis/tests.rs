//! The shared budget on a real server. Time is told to its scripts, so that stalls of seconds and
//! whole climbs take no time.

use proptest::prelude::*;

use super::*;
use crate::clock::SystemClock;
use crate::error::Kind;
use crate::redis::RedisOptions;
use crate::redis::server::Server;
use crate::release::budget::slices::world::{World, any_steps, is_within, pace, play};
use crate::secret::Secret;

fn server() -> Server {
    Server::start(&["--appendonly", "no"])
}

async fn open(server: &Server) -> Redis {
    let options = RedisOptions::single(Secret::new(server.url()));
    Redis::open(&options).await.unwrap()
}

fn world(redis: &Redis, lane: &str, nodes: usize, pace: Pace) -> World {
    let told = |clock| RedisBudget::told(redis.clone(), clock);
    World::new(told, lane, nodes, pace)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn gateways_that_stall_never_exceed_rate_and_burst_together(
        steps in any_steps(150),
        nodes in 1..5_usize,
        rate in prop_oneof![1..20_u32, 20..5_000_u32],
        burst in prop_oneof![1..10_u32, 10..2_000_u32],
        slow_start in 0..3_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = server();
        runtime.block_on(async {
            let pace = pace(rate, burst, slow_start);
            let mut world = world(&open(&server).await, "main", nodes, pace);
            let received = play(&mut world, &steps).await;
            let most = Bucket::of(pace, GOOD_MIN).unwrap().burst;
            is_within(&received, rate, most);
        });
    }
}

#[test]
fn the_burst_is_as_configured_unless_a_slice_would_not_last() {
    let of = |rate, burst| Bucket::of(pace(rate, burst, 0), GOOD_MIN).unwrap();
    assert_eq!((of(1_000, 500).burst, of(1_000, 500).cap), (500.0, 250.0));
    assert_eq!(of(1_000, 100).burst, 200.0, "a fifth of a second's worth");
    assert_eq!((of(1, 1).burst, of(1, 1).cap), (1.1, 1.0));
    for (rate, burst) in [(1, 1), (7, 3), (1_000, 1), (5_000, 2_000)] {
        let bucket = of(rate, burst);
        let good = (bucket.burst - bucket.cap) / bucket.rate;
        assert!(good >= GOOD_MIN.as_secs_f64() - 1e-9, "{bucket:?}");
        assert!(bucket.cap >= 1.0);
    }
}

#[tokio::test]
async fn together_they_are_as_fast_as_one_may_be_in_few_round_trips() {
    let server = server();
    let mut world = world(&open(&server).await, "main", 3, pace(1_000, 400, 0));
    let given = world.drain(10).await;
    assert!(given[0] <= 1_400, "{given:?}");
    assert!(
        given[1..]
            .iter()
            .all(|second| (950..=1_050).contains(second)),
        "{given:?}"
    );
    let stats = server.ask(&["INFO", "commandstats"]);
    let (_, calls) = stats.split_once("cmdstat_evalsha:calls=").unwrap();
    let calls: usize = calls.split(',').next().unwrap().parse().unwrap();
    assert!(calls <= 3 * 10 * 30, "{calls} calls for 10,000 messages");
}

#[tokio::test]
async fn a_slow_start_is_one_climb_for_all() {
    let server = server();
    let mut world = world(&open(&server).await, "main", 2, pace(1_000, 50, 10));
    let now = world.clock.monotonic();
    world.nodes[0].start_slowly(now);
    let first = world.drain(5).await;
    // The other one had a rest of its own in the middle of the climb: it begins none.
    let now = world.clock.monotonic();
    world.nodes[1].start_slowly(now);
    let seen = [first, world.drain(10).await].concat();
    assert!(seen[0] <= 150, "{seen:?}");
    let climbs = |pair: &[usize]| pair[0] <= pair[1] + 20;
    assert!(seen[..11].windows(2).all(climbs), "climbs: {seen:?}");
    assert!(seen[12] >= 900, "{seen:?}");
    // All of them rested: the next climb begins.
    world.clock.advance(RESTED + Duration::from_secs(1));
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
    let server = server();
    let mut world = world(&open(&server).await, "main", 2, pace(100, 100, 0));
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
    let server = server();
    let redis = open(&server).await;
    let mut one = world(&redis, "one", 1, pace(10, 20, 0));
    let mut other = world(&redis, "other", 1, pace(10, 20, 0));
    assert_eq!(one.take(0, 10).await.messages, 10);
    assert_eq!(other.take(0, 10).await.messages, 10);
    let mut free = pace(1, 1, 0);
    free.rate = None;
    drop(server);
    let mut free = world(&redis, "free", 1, free);
    let leave = free.take(0, 12_345).await;
    assert_eq!((leave.messages, leave.until), (12_345, None));
}

#[tokio::test]
async fn without_the_server_nothing_leaves() {
    let mut server = server();
    let redis = open(&server).await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let budget = RedisBudget::new(redis);
    let mut lane = budget.allowance(&Lane::new("main"), pace(100, 100, 0), &clock);
    let leave = lane.take(5, 5, clock.monotonic()).await.unwrap();
    assert_eq!(leave.messages, 5, "by the server's own time");
    assert!(leave.until.unwrap() > clock.monotonic());
    server.kill();
    let error = lane.take(5, 5, clock.monotonic()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    lane.unused(5);
    lane.rest(clock.monotonic()).await;
}

#[tokio::test]
async fn a_full_server_gives_leave_all_the_same_or_nothing_would_ever_make_room() {
    let server = server();
    let redis = open(&server).await;
    let mut world = world(&redis, "main", 1, pace(1_000, 1_000, 0));
    assert_eq!(world.take(0, 10).await.messages, 10);
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(server.ask(&["SET", "x", "1"]).starts_with("-OOM"));
    world.clock.advance(Duration::from_secs(1));
    assert!(world.take(0, 10).await.messages > 0);
    let now = world.clock.monotonic();
    world.nodes[0].rest(now).await;
}

#[tokio::test]
async fn a_pace_goes_on_at_a_master_that_knows_none_of_it_and_gives_half_a_burst_more_at_most() {
    let server = server();
    let redis = open(&server).await;
    let mut world = world(&redis, "main", 1, pace(1_000, 400, 0));
    let mut before = 0;
    for _ in 0..100 {
        before += world.take(0, 1_000).await.messages;
        world.clock.advance(Duration::from_millis(10));
    }
    // A replica that had received nothing yet, and no script.
    server.ask(&["FLUSHALL"]);
    server.ask(&["SCRIPT", "FLUSH"]);
    let after = world.take(0, 1_000).await.messages;
    assert!(
        before <= 1_400 && after > 0 && after <= 200,
        "{before}, {after}"
    );
}

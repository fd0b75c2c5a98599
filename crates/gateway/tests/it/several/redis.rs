//! On one Redis.

use super::*;

#[path = "../../behaviour/redis/server.rs"]
#[expect(
    dead_code,
    reason = "shared with the behaviour suite, which uses the rest"
)]
pub(crate) mod server;

use server::Server;

/// Everything in Redis, nothing on disk.
fn in_redis(server: &Server) -> String {
    format!(
        "[hold]\nstore = \"redis\"\n[consent]\nstore = \"redis\"\n[receipts]\nstore = \"redis\"\n\
         [redis]\nurl = \"{}\"\nskew_max = \"1s\"\n",
        server.url()
    )
}

fn redis() -> Place {
    let server = Server::start(&[]);
    Place {
        config: in_redis(&server),
        messages: 3_000,
        rate: 400,
        burst: 50,
        slow_start: "60s",
        _server: Box::new(server),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_is_killed_and_one_stopped_and_nothing_is_lost_doubled_or_too_fast() {
    one_is_killed_and_one_stopped(redis()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_set_on_one_gateway_stops_the_others_within_a_second() {
    a_pause_stops_all(redis()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_recalled_on_one_gateway_leaves_by_none() {
    what_is_recalled_leaves_by_nobody(redis()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_clock_is_apart_sends_nothing_and_the_others_go_on() {
    a_gateway_whose_clock_is_apart_says_so_and_sends_nothing(redis()).await;
}

#[test]
fn the_doctor_compares_the_clocks_of_gateways_on_one_redis() {
    the_doctor_compares_clocks(&redis(), "a fifth");
}

#[test]
fn a_server_that_evicts_is_refused_with_a_sentence_that_says_what_to_change() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let home = cli_home::Home::new();
    home.write("nightgate.toml", &in_redis(&server));
    let refused = home.run(&["hold", "ls"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.err.contains("set it to `noeviction`"),
        "{refused:?}"
    );
    let relaxed = home.run(&["hold", "ls", "--set", "redis.durability=relaxed"]);
    assert_eq!(relaxed.code, 0, "{relaxed:?}");
}

//! On one MongoDB, or what speaks as it does: that is slow, so there are fewer messages.

use super::*;

#[path = "../../behaviour/mongodb/server.rs"]
#[expect(
    dead_code,
    reason = "shared with the behaviour suite, which uses the rest"
)]
mod server;

/// Everything in a database of its own, nothing on disk.
fn mongodb() -> Place {
    let (url, database) = (server::url(server::Server::Usual), server::database());
    let config = format!(
        "[hold]\nstore = \"mongodb\"\n[consent]\nstore = \"mongodb\"\n[receipts]\n\
         store = \"mongodb\"\n[mongodb]\nurl = \"{url}\"\ndatabase = \"{database}\"\n\
         timeout = \"20s\"\nskew_max = \"1s\"\n"
    );
    Place {
        config,
        messages: 300,
        rate: 30,
        burst: 90,
        slow_start: "5s",
        _server: Box::new(()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_is_killed_and_one_stopped_and_nothing_is_lost_doubled_or_too_fast() {
    one_is_killed_and_one_stopped(mongodb()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_set_on_one_gateway_stops_the_others_within_a_second() {
    a_pause_stops_all(mongodb()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_recalled_on_one_gateway_leaves_by_none() {
    what_is_recalled_leaves_by_nobody(mongodb()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_clock_is_apart_sends_nothing_and_the_others_go_on() {
    a_gateway_whose_clock_is_apart_says_so_and_sends_nothing(mongodb()).await;
}

#[test]
fn the_doctor_compares_the_clocks_of_gateways_on_one_mongodb() {
    the_doctor_compares_clocks(&mongodb(), "half");
}

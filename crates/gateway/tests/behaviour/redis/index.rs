//! The index of ids: it splits, stays small, and forgets.

use nightgate::hold::{HoldStore, Put, Settle};

use super::server::Server;
use super::world::{open, options};
use crate::world::*;

const MESSAGES: usize = 3_000;

fn number(server: &Server, words: &[&str]) -> u64 {
    let answer = server.ask(words);
    let last = answer.trim().rsplit("\r\n").next().unwrap();
    last.trim_start_matches(':').parse().unwrap_or(0)
}

#[tokio::test]
async fn the_index_splits_into_small_buckets_and_forgets_after_the_horizon() {
    let server = Server::start(&[]);
    let hold = open(&options(&server), 1).await;
    let names: Vec<String> = (0..MESSAGES).map(|number| format!("m{number}")).collect();
    let all = || names.iter().map(|name| held(name)).collect::<Vec<_>>();
    for some in all().chunks(700) {
        put(&hold, some.to_vec()).await;
    }
    let buckets = number(&server, &["HGET", "{ng:0}m", "buckets"]);
    assert!(buckets > 32, "it began with one bucket and has {buckets}");
    let mut ids = 0;
    for bucket in 0..buckets {
        let key = format!("{{ng:0}}i{bucket}");
        ids += number(&server, &["HLEN", &key]);
        let encoding = server.ask(&["OBJECT", "ENCODING", &key]);
        assert!(
            encoding.contains("listpack"),
            "bucket {bucket} is {encoding}"
        );
    }
    assert_eq!(ids, MESSAGES as u64);
    let again = hold.put(all(), at(0)).await.unwrap();
    assert!(
        again.iter().all(|put| *put == Put::Duplicate),
        "every id is found after the splits"
    );

    let loans = lease(&hold, at(0), ALL).await;
    let done = |token| Settle {
        token,
        verdict: done(),
    };
    hold.settle(loans.iter().map(|loan| done(loan.token)).collect(), at(0))
        .await
        .unwrap();
    assert_eq!(
        number(&server, &["EXISTS", "{ng:0}b1"]),
        0,
        "bodies go at once"
    );
    let later = at(0) + HORIZON + MOMENT;
    assert_eq!(hold.sweep(later).await.unwrap(), MESSAGES as u64);
    for _ in 0..4 {
        hold.sweep(later).await.unwrap();
    }
    let left: u64 = (0..buckets)
        .map(|bucket| number(&server, &["HLEN", &format!("{{ng:0}}i{bucket}")]))
        .sum();
    assert_eq!(left, 0, "forgotten ids leave the index");
    assert_eq!(
        number(&server, &["HLEN", "{ng:0}s"]),
        0,
        "and their blocks' records go"
    );
    put(&hold, all()).await;
}

#[tokio::test]
async fn a_block_that_was_damaged_is_told_and_nothing_of_it_is_lent() {
    let server = Server::start(&[]);
    let hold = open(&options(&server), 1).await;
    put(
        &hold,
        (0..50).map(|number| held(&format!("m{number}"))).collect(),
    )
    .await;
    server.ask(&["SETRANGE", "{ng:0}b1", "40", "xxxx"]);
    let lane = lane();
    let ask = nightgate::hold::LeaseAsk {
        lane: &lane,
        pick: nightgate::hold::Pick::Any,
        now: at(0),
        max: 10,
        ttl: TTL,
    };
    let error = hold.lease(&ask).await.unwrap_err();
    assert_eq!(error.kind, nightgate::error::Kind::Corrupt, "{error}");
    let page = hold.export(0, usize::MAX).await.unwrap();
    assert_eq!((page.found.len(), page.lost[0].messages), (0, 50));
}

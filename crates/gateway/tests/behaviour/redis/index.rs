//! Ids: packs beside blocks, known to every process, checked by the server.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use nightgate::error::Kind;
use nightgate::hold::redis::{Options, RedisHold};
use nightgate::hold::{Held, HoldStore, Put, Recalled, Scope, Settle, Settled, State};
use nightgate::redis::Redis;

use super::server::Server;
use super::world::{open, options};
use crate::world::*;

const MESSAGES: usize = 3_000;

fn number(server: &Server, words: &[&str]) -> u64 {
    let answer = server.ask(words);
    let last = answer.trim().rsplit("\r\n").next().unwrap();
    last.trim_start_matches(':').parse().unwrap_or(0)
}

/// Bytes that the server has sent since `CONFIG RESETSTAT`.
fn sent(server: &Server) -> u64 {
    let info = server.ask(&["INFO", "stats"]);
    let after = info.split("total_net_output_bytes:").nth(1).unwrap();
    after.lines().next().unwrap().trim().parse().unwrap()
}

/// `count` messages of one name.
fn some(name: &str, count: usize) -> Vec<Held> {
    (0..count)
        .map(|number| held(&format!("{name}{number}")))
        .collect()
}

/// The kinds of answers to a put.
async fn answers(hold: &RedisHold, messages: Vec<Held>) -> Vec<Put> {
    let mut said = hold.put(messages, at(0)).await.unwrap();
    said.dedup();
    said
}

fn only(put: Put) -> Vec<Put> {
    vec![put]
}

async fn end_all(hold: &RedisHold) {
    let loans = lease(hold, at(0), ALL).await;
    let done = |token| Settle {
        token,
        verdict: done(),
    };
    hold.settle(loans.iter().map(|loan| done(loan.token)).collect(), at(0))
        .await
        .unwrap();
}

#[tokio::test]
async fn ids_stand_beside_their_block_and_go_with_it_after_the_horizon() {
    let server = Server::start(&[]);
    let hold = open(&options(&server), 1).await;
    let all = || some("m", MESSAGES);
    for some in all().chunks(700) {
        put(&hold, some.to_vec()).await;
    }
    assert_eq!(number(&server, &["STRLEN", "{ng:0}h1"]), 8 + 700 * 10);
    let late = open(&options(&server), 1).await;
    for hold in [&hold, &late] {
        assert_eq!(answers(hold, all()).await, only(Put::Duplicate));
    }
    end_all(&hold).await;
    assert_eq!(answers(&late, all()).await, only(Put::Duplicate));
    assert_eq!(
        number(&server, &["EXISTS", "{ng:0}b1"]),
        0,
        "bodies go at once"
    );
    assert_eq!(number(&server, &["EXISTS", "{ng:0}h1"]), 1, "ids stay");
    let later = at(0) + HORIZON + MOMENT;
    assert_eq!(hold.sweep(later).await.unwrap(), MESSAGES as u64);
    let left = server.ask(&["KEYS", "{ng:0}[bhs]*"]);
    assert_eq!(left, "*0\r\n", "ids and records go after the horizon");
    assert_eq!(answers(&late, all()).await, only(Put::New));
    assert_eq!(answers(&hold, all()).await, only(Put::Duplicate));
}

#[tokio::test]
async fn an_id_whose_end_is_forgotten_is_new_before_it_is_swept() {
    let server = Server::start(&[]);
    let hold = open(&options(&server), 1).await;
    put(&hold, some("m", 30)).await;
    end_all(&hold).await;
    let later = at(0) + HORIZON + MOMENT;
    let said = hold.put(some("m", 15), later).await.unwrap();
    assert_eq!(said, vec![Put::New; 15]);
    assert_eq!(
        hold.put(some("m", 15), later).await.unwrap(),
        vec![Put::Duplicate; 15]
    );
    assert_eq!(hold.sweep(later).await.unwrap(), 15, "the others");
    assert_eq!(totals(&hold).await, (15, 0, 0));
}

#[tokio::test]
async fn a_few_ids_stand_in_their_block_s_record() {
    let server = Server::start(&[]);
    let (one, two) = (
        open(&options(&server), 1).await,
        open(&options(&server), 1).await,
    );
    for number in 0..20 {
        put(&one, vec![held(&format!("m{number}"))]).await;
    }
    assert_eq!(server.ask(&["KEYS", "{ng:0}h*"]), "*0\r\n");
    assert_eq!(answers(&two, some("m", 20)).await, only(Put::Duplicate));
    let found = two.find(&[id("m7"), id("m70")]).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().held.message.id, id("m7"));
    assert!(found[1].is_none());
}

#[tokio::test]
async fn who_has_not_seen_what_others_put_learns_it_from_the_answer_or_reads_on() {
    let server = Server::start(&["--appendfsync", "everysec"]);
    let (one, two) = (
        open(&options(&server), 1).await,
        open(&options(&server), 1).await,
    );
    put(&two, some("first", 1)).await;
    // A few blocks, many small ones, and a few large ones: more than one put looks through.
    put(&one, some("few", 900)).await;
    let mixed = [some("few", 900), some("new", 5)].concat();
    let said = two.put(mixed, at(0)).await.unwrap();
    assert!(said[..900].iter().all(|it| *it == Put::Duplicate));
    assert!(said[900..].iter().all(|it| *it == Put::New));
    for number in 0..700 {
        put(&one, vec![held(&format!("small{number}"))]).await;
    }
    assert_eq!(
        answers(&two, some("small", 700)).await,
        only(Put::Duplicate)
    );
    put(&one, some("large", 12_000)).await;
    put(&one, some("more", 12_000)).await;
    assert_eq!(
        answers(&two, some("large", 500)).await,
        only(Put::Duplicate)
    );
    assert_eq!(
        answers(&two, some("more", 12_000)).await,
        only(Put::Duplicate)
    );
    let found = two.find(&[id("more11999")]).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().state, State::Held);
    assert_eq!(totals(&one).await, (1 + 900 + 5 + 700 + 24_000, 0, 0));
}

#[tokio::test]
async fn what_another_has_moved_is_found_recalled_and_known_where_it_is() {
    let server = Server::start(&[]);
    for partitions in [1, 4] {
        let mut options = options(&server);
        options.prefix = format!("p{partitions}");
        let (one, two) = (
            open(&options, partitions).await,
            open(&options, partitions).await,
        );
        put(&one, some("m", 40)).await;
        assert_eq!(answers(&two, some("m", 40)).await, only(Put::Duplicate));
        for (round, loan) in lease(&two, at(0), ALL).await.into_iter().enumerate() {
            let verdict = if round < 30 { defer(at(1)) } else { bury() };
            assert_eq!(settle(&two, loan.token, verdict, at(0)).await, Settled::Yes);
        }
        for hold in [&one, &two] {
            assert_eq!(answers(hold, some("m", 40)).await, only(Put::Duplicate));
            let ids: Vec<_> = (0..40).map(|number| id(&format!("m{number}"))).collect();
            let found = hold.find(&ids).await.unwrap();
            let is_in = |state| {
                let of = found.iter().flatten();
                of.filter(|found| found.state == state).count()
            };
            assert_eq!((is_in(State::Held), is_in(State::Buried)), (30, 10));
        }
        assert_eq!(two.kick(&Scope::Lane(lane()), at(2)).await.unwrap(), 10);
        for name in ["m3", "m33"] {
            let said = one.recall(&Scope::Id(id(name)), at(2)).await.unwrap();
            let once = Recalled {
                recalled: 1,
                in_flight: 0,
            };
            assert_eq!(said, once, "{name}");
            assert!(two.find(&[id(name)]).await.unwrap()[0].is_none());
        }
        assert_eq!(answers(&one, some("m", 40)).await, only(Put::Duplicate));
        assert_eq!(totals(&one).await, (38, 0, 0));
    }
}

#[tokio::test]
async fn where_another_has_moved_the_last_block_that_one_knew_nothing_is_read_anew() {
    let server = Server::start(&[]);
    let (one, two) = (
        open(&options(&server), 1).await,
        open(&options(&server), 1).await,
    );
    put(&one, some("m", 5_000)).await;
    for round in 0..3 {
        put(&one, vec![due(&format!("last{round}"), at(-9))]).await;
        let loans = lease(&two, at(-8), 1).await;
        let moved = settle(&two, loans[0].token, defer(at(90)), at(-8)).await;
        assert_eq!(moved, Settled::Yes);
        server.ask(&["CONFIG", "RESETSTAT"]);
        put(&one, some(&format!("new{round}"), 1)).await;
        let sent = sent(&server);
        assert!(sent < 5_000, "{sent} bytes: not the ids of all");
    }
    let last = some("last", 3);
    assert_eq!(answers(&one, last).await, only(Put::Duplicate));
}

#[tokio::test]
async fn who_asks_about_a_few_ids_has_the_server_look_and_reads_no_others() {
    let server = Server::start(&[]);
    let hold = open(&options(&server), 1).await;
    put(&hold, some("m", 1_200)).await;
    for name in ["a", "b", "c"] {
        put(&hold, vec![held(name)]).await;
    }
    let loans = lease(&hold, at(0), ALL).await;
    for (name, verdict) in [("m1199", defer(at(9))), ("b", bury())] {
        let token = token_of(&loans, name);
        assert_eq!(settle(&hold, token, verdict, at(0)).await, Settled::Yes);
    }
    for (name, state) in [
        ("m7", State::Leased),
        ("m1199", State::Held),
        ("a", State::Leased),
        ("b", State::Buried),
    ] {
        let fresh = open(&options(&server), 1).await;
        server.ask(&["CONFIG", "RESETSTAT"]);
        let found = fresh.find(&[id(name), id("nobody")]).await.unwrap();
        assert_eq!(found[0].as_ref().unwrap().state, state, "{name}");
        assert!(found[1].is_none());
        let sent = sent(&server);
        assert!(sent < 1_200 * 10, "{sent} bytes for one message");
    }
    let fresh = open(&options(&server), 1).await;
    let said = fresh.recall(&Scope::Id(id("m1199")), at(1)).await.unwrap();
    assert_eq!((said.recalled, said.in_flight), (1, 0));
    let said = fresh.recall(&Scope::Id(id("m7")), at(1)).await.unwrap();
    assert_eq!((said.recalled, said.in_flight), (0, 1));
}

#[tokio::test]
async fn puts_of_one_process_that_share_ids_store_each_once() {
    let server = Server::start(&["--appendfsync", "everysec"]);
    for partitions in [1, 4] {
        let mut options = options(&server);
        options.prefix = format!("p{partitions}");
        let hold = open(&options, partitions).await;
        let names = |from: usize| (from * 150..from * 150 + 300).map(|it| format!("m{it}"));
        let puts = (0..12).map(|from| {
            let messages = names(from).map(|name| held(&name)).collect();
            hold.put(messages, at(0))
        });
        let said = futures_util::future::try_join_all(puts).await.unwrap();
        let new = said.iter().flatten().filter(|it| **it == Put::New).count();
        assert_eq!(new, 11 * 150 + 300);
        assert_eq!(totals(&hold).await, (new as u64, 0, 0));
    }
}

#[tokio::test]
async fn puts_of_thousands_of_shelves_at_once_are_all_stored() {
    let server = Server::start(&["--appendfsync", "everysec"]);
    let (one, two) = (
        open(&options(&server), 1).await,
        open(&options(&server), 1).await,
    );
    put(&two, some("first", 1)).await;
    let messages = |round: usize| -> Vec<Held> {
        (0..2_500)
            .map(|number| of_campaign(&format!("m{round}-{number}"), &format!("c{number}")))
            .collect()
    };
    let puts = (0..3).map(|round| one.put(messages(round), at(0)));
    let said = futures_util::future::try_join_all(puts).await.unwrap();
    assert!(said.iter().flatten().all(|it| *it == Put::New));
    for round in 0..3 {
        assert_eq!(answers(&two, messages(round)).await, only(Put::Duplicate));
    }
}

#[tokio::test]
async fn a_put_that_was_given_up_half_way_is_tried_again_and_stored_once() {
    let server = Server::start(&["--appendfsync", "everysec"]);
    let hold = open(&options(&server), 1).await;
    put(&hold, some("first", 1)).await;
    for polls in 0..60_usize {
        let messages = some(&format!("m{polls}-"), 20);
        {
            let mut put = pin!(hold.put(messages.clone(), at(0)));
            for _ in 0..polls {
                let mut context = Context::from_waker(Waker::noop());
                if let Poll::Ready(said) = put.as_mut().poll(&mut context) {
                    said.unwrap();
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        hold.put(messages, at(0)).await.unwrap();
    }
    assert_eq!(totals(&hold).await, (1 + 60 * 20, 0, 0));
}

/// Copies all keys aside, or takes them back in place of what there is now: what a replica that
/// lags behind has when it becomes the master.
fn aside(server: &Server) {
    for key in server.ask(&["KEYS", "*"]).split("\r\n") {
        if key.starts_with('{') {
            server.ask(&["COPY", key, key, "DB", "1", "REPLACE"]);
        }
    }
}

fn back(server: &Server) {
    assert_eq!(server.ask(&["SWAPDB", "0", "1"]), "+OK\r\n");
}

#[tokio::test]
async fn a_message_that_a_failover_took_back_is_new_and_those_that_stayed_are_known() {
    let server = Server::start(&["--appendfsync", "everysec"]);
    let mut options = options(&server);
    // How many blocks came after the failover, where three were lost.
    for after in [0, 1, 2, 3, 4, 9] {
        server.ask(&["FLUSHALL"]);
        options.prefix = format!("p{after}");
        let (one, two) = (open(&options, 1).await, open(&options, 1).await);
        put(&one, some("old", 40)).await;
        assert_eq!(answers(&two, some("old", 40)).await, only(Put::Duplicate));
        aside(&server);
        for round in 0..3 {
            put(&one, some(&format!("lost{round}-"), 40)).await;
        }
        back(&server);
        for round in 0..after {
            put(&two, some(&format!("new{round}-"), 40)).await;
        }
        let lost: Vec<_> = (0..3).map(|round| id(&format!("lost{round}-7"))).collect();
        for round in 0..after {
            let known = answers(&one, some(&format!("new{round}-"), 40)).await;
            assert_eq!(known, only(Put::Duplicate), "{after}: new{round}");
        }
        assert_eq!(one.find(&lost).await.unwrap(), [None, None, None]);
        for round in 0..3 {
            let again = answers(&one, some(&format!("lost{round}-"), 40)).await;
            assert_eq!(again, only(Put::New), "{after}: lost{round}");
        }
        assert_eq!(answers(&one, some("old", 40)).await, only(Put::Duplicate));
        assert_eq!(totals(&one).await, (40 * (1 + after + 3), 0, 0));
    }
}

#[tokio::test]
async fn a_hold_of_an_older_layout_is_refused_with_what_to_do() {
    let server = Server::start(&[]);
    server.ask(&["HSET", "{ng:0}m", "layout", "1"]);
    let redis = Redis::open(&options(&server)).await.unwrap();
    let error = RedisHold::open(redis, Options::default()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    assert!(error.to_string().contains("an older program"), "{error}");
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

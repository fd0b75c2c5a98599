//! Several processes over one hold.

use std::collections::HashSet;
use std::sync::Arc;

use nightgate::error::Kind;
use nightgate::hold::redis::{Options, RedisHold};
use nightgate::hold::{HoldStore, LeaseAsk, Pick, Put, Settle, Settled};
use nightgate::redis::Redis;

use super::server::Server;
use super::world::{open, options};
use crate::world::*;

const MESSAGES: usize = 4_000;

#[tokio::test]
async fn handles_that_lease_at_once_never_share_a_message() {
    let server = Server::start(&["--appendfsync", "everysec"]);
    for (round, partitions) in [1, 4].into_iter().enumerate() {
        let mut options = options(&server);
        options.prefix = format!("r{round}");
        let first = open(&options, partitions).await;
        put(
            &first,
            (0..MESSAGES)
                .map(|number| held(&format!("m{number}")))
                .collect(),
        )
        .await;
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let hold = Arc::new(open(&options, partitions).await);
            tasks.push(tokio::spawn(async move {
                let (mut mine, lane) = (Vec::new(), lane());
                loop {
                    let (now, max) = (at(0), 37);
                    let ask = LeaseAsk {
                        lane: &lane,
                        pick: Pick::Any,
                        now,
                        max,
                        ttl: TTL,
                    };
                    let loans = hold.lease(&ask).await.unwrap();
                    if loans.is_empty() {
                        return mine;
                    }
                    let done = |token| Settle {
                        token,
                        verdict: done(),
                    };
                    let ends = loans.iter().map(|loan| done(loan.token)).collect();
                    let said = hold.settle(ends, at(0)).await.unwrap();
                    assert!(said.iter().all(|it| *it == Settled::Yes));
                    mine.extend(loans.into_iter().map(|loan| loan.held.message.id));
                }
            }));
        }
        let (mut all, mut count) = (HashSet::new(), 0);
        for task in tasks {
            let mine = task.await.unwrap();
            count += mine.len();
            all.extend(mine);
        }
        assert_eq!((count, all.len()), (MESSAGES, MESSAGES));
        assert_eq!(totals(&first).await, (0, 0, 0));
    }
}

#[tokio::test]
async fn who_did_not_lease_may_settle_and_a_lapsed_token_settles_nothing() {
    let server = Server::start(&[]);
    let (one, two) = (
        open(&options(&server), 4).await,
        open(&options(&server), 4).await,
    );
    put(
        &one,
        (0..6).map(|number| held(&format!("m{number}"))).collect(),
    )
    .await;
    let loans = lease(&one, at(0), ALL).await;
    assert_eq!(loans.len(), 6);
    for (loan, verdict) in loans.iter().zip([done(), defer(at(90)), bury()]) {
        assert_eq!(settle(&two, loan.token, verdict, at(1)).await, Settled::Yes);
    }
    recount(&one).await;
    assert_eq!(totals(&one).await, (1, 3, 1));
    // The rest lapses, and is lent to the other.
    let again = lease(&two, at(20), ALL).await;
    assert_eq!(again.len(), 3);
    for (loan, verdict) in loans[3..].iter().zip([done(), defer(at(90)), bury()]) {
        assert_eq!(
            settle(&one, loan.token, verdict, at(21)).await,
            Settled::Lapsed
        );
    }
    recount(&one).await;
    for loan in again {
        assert!(loan.lapsed);
        assert_eq!(settle(&one, loan.token, done(), at(21)).await, Settled::Yes);
    }
    assert_eq!(totals(&two).await, (1, 0, 1));
}

#[tokio::test]
async fn messages_put_by_two_at_once_are_stored_once() {
    let server = Server::start(&["--appendfsync", "everysec"]);
    let (one, two) = (
        open(&options(&server), 4).await,
        open(&options(&server), 4).await,
    );
    let all = || {
        (0..500)
            .map(|number| held(&format!("m{number}")))
            .collect::<Vec<_>>()
    };
    let (first, second) = tokio::join!(one.put(all(), at(0)), two.put(all(), at(0)));
    let (first, second) = (first.unwrap(), second.unwrap());
    let once = |(one, two): (&Put, &Put)| (*one == Put::New) != (*two == Put::New);
    assert!(first.iter().zip(&second).all(once));
    assert_eq!(totals(&one).await, (500, 0, 0));
}

#[tokio::test]
async fn partitions_are_fixed_at_the_first_start() {
    let server = Server::start(&[]);
    drop(open(&options(&server), 4).await);
    let redis = Redis::open(&options(&server)).await.unwrap();
    let wanted = Options {
        partitions: Some(2),
        ..Options::default()
    };
    let error = RedisHold::open(redis.clone(), wanted).await.unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    assert!(
        error.to_string().contains("it has 4 partitions for good"),
        "{error}"
    );
    let hold = RedisHold::open(redis, Options::default()).await.unwrap();
    assert!(!hold.capability().order, "it takes those that are there");
}

#[tokio::test]
async fn an_export_shows_every_live_message_once_page_by_page() {
    let server = Server::start(&[]);
    let hold = open(&options(&server), 4).await;
    let messages = (0..300).map(|number| {
        with(&format!("m{number}"), |held| {
            held.message.campaign = Some(format!("c{}", number % 7).into());
        })
    });
    put(&hold, messages.collect()).await;
    let loans = lease(&hold, at(0), 30).await;
    settle(&hold, loans[0].token, done(), at(0)).await;
    settle(&hold, loans[1].token, bury(), at(0)).await;
    let (mut from, mut names, mut pages) = (Some(0), HashSet::new(), 0);
    while let Some(at) = from {
        let page = hold.export(at, 1).await.unwrap();
        for found in page.found {
            assert!(!found.held.message.body.is_empty());
            assert!(names.insert(found.held.message.id));
        }
        (from, pages) = (page.next, pages + 1);
    }
    assert_eq!(names.len(), 299);
    assert!(pages > 10, "{pages} pages");
}

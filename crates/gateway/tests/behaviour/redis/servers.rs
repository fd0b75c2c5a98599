//! Servers that die, fill up, are wrong, or are many.

use std::collections::HashSet;

use nightgate::error::Kind;
use nightgate::hold::redis::{Options, RedisHold};
use nightgate::hold::{Held, HoldStore, Put, Scope, Settle, Settled};
use nightgate::redis::{Durability, Mode, Redis, RedisOptions};
use nightgate::secret::Secret;

use super::server::{Cluster, Server};
use super::world::{open, options};
use crate::world::*;

fn some(round: usize, count: usize) -> Vec<Held> {
    (0..count)
        .map(|number| held(&format!("m{round}-{number}")))
        .collect()
}

#[tokio::test]
async fn a_server_killed_in_mid_hold_loses_nothing_acknowledged() {
    let mut server = Server::start(&["--appendfsync", "always"]);
    let mut acknowledged = HashSet::new();
    for round in 0..3 {
        let hold = std::sync::Arc::new(open(&options(&server), 4).await);
        assert!(hold.capability().durable);
        let (sender, mut said) = tokio::sync::mpsc::unbounded_channel();
        let writer = tokio::spawn(async move {
            for number in 0.. {
                let messages = some(round * 100_000 + number, 50);
                let names: Vec<_> = messages.iter().map(|it| it.message.id.clone()).collect();
                let Ok(answers) = hold.put(messages, at(0)).await else {
                    return;
                };
                assert!(answers.iter().all(|put| *put == Put::New));
                let _ = sender.send(names);
            }
        });
        for _ in 0..20 + round * 7 {
            acknowledged.extend(said.recv().await.unwrap());
        }
        server.kill();
        writer.await.unwrap();
        while let Some(names) = said.recv().await {
            acknowledged.extend(names);
        }
        server.restart();
    }
    let hold = open(&options(&server), 4).await;
    recount(&hold).await;
    let lent: HashSet<_> = lease(&hold, at(0), ALL)
        .await
        .into_iter()
        .map(|loan| loan.held.message.id)
        .collect();
    assert!(
        acknowledged.is_subset(&lent),
        "{} acknowledged",
        acknowledged.len()
    );
}

#[tokio::test]
async fn a_full_server_takes_no_more_lends_what_it_has_and_loses_nothing() {
    let server = Server::start(&["--maxmemory", "6mb"]);
    let hold = open(&options(&server), 1).await;
    let large = |round: usize| {
        let mut dice = fastrand::Rng::with_seed(round as u64);
        let mut messages = some(round, 100);
        for held in &mut messages {
            let mut body = vec![0; 1_000];
            dice.fill(&mut body);
            held.message.body = body.into();
        }
        messages
    };
    let mut acknowledged = 0;
    let error = loop {
        match hold.put(large(acknowledged / 100), at(0)).await {
            Ok(answers) => acknowledged += answers.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    assert!(acknowledged > 1_000, "{acknowledged}");
    recount(&hold).await;
    let mut lent = 0;
    loop {
        let loans = lease(&hold, at(0), 300).await;
        if loans.is_empty() {
            break;
        }
        lent += loans.len();
        let done = |token| Settle {
            token,
            verdict: done(),
        };
        let said = hold
            .settle(loans.iter().map(|it| done(it.token)).collect(), at(0))
            .await;
        assert!(said.unwrap().iter().all(|it| *it == Settled::Yes));
    }
    assert_eq!(
        lent, acknowledged,
        "nothing acknowledged is lost, nothing refused is lent"
    );
    hold.check().await.unwrap();
    put(&hold, some(1_000_000, 10)).await;
}

#[tokio::test]
async fn what_a_failover_took_back_is_never_taken_for_what_came_after_it() {
    let server = Server::start(&[]);
    let hold = open(&options(&server), 1).await;
    put(
        &hold,
        (0..9).map(|number| held(&format!("old{number}"))).collect(),
    )
    .await;
    let old = lease(&hold, at(0), ALL).await;
    // As a replica that had none of it and was made the master: all counters begin anew.
    server.ask(&["FLUSHALL"]);
    put(
        &hold,
        (0..9).map(|number| held(&format!("new{number}"))).collect(),
    )
    .await;
    let new = lease(&hold, at(0), ALL).await;
    assert_eq!(
        new[0].token.seq, old[0].token.seq,
        "the same block and slot"
    );
    assert!(
        new.iter()
            .all(|loan| loan.held.message.id.as_str().starts_with("new"))
    );
    for (loan, verdict) in old.iter().zip([done(), defer(at(9)), bury()]) {
        assert_eq!(
            settle(&hold, loan.token, verdict, at(1)).await,
            Settled::Lapsed
        );
    }
    assert_eq!(totals(&hold).await, (0, 9, 0));
}

#[tokio::test]
async fn a_server_that_throws_messages_away_is_refused_unless_told_otherwise() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let redis = Redis::open(&options(&server)).await.unwrap();
    let error = RedisHold::open(redis.clone(), Options::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    assert!(
        error.to_string().contains("set it to `noeviction`"),
        "{error}"
    );
    let relaxed = Options {
        durability: Durability::Relaxed,
        ..Options::default()
    };
    let hold = RedisHold::open(redis, relaxed).await.unwrap();
    assert_eq!(hold.checked().warnings.len(), 1);
}

#[tokio::test]
async fn a_server_that_fsyncs_every_second_is_used_and_called_not_durable() {
    let server = Server::start(&["--appendfsync", "everysec"]);
    let hold = open(&options(&server), 1).await;
    assert!(!hold.capability().durable);
}

#[tokio::test]
async fn a_cluster_holds_lends_settles_and_recalls_in_sixteen_partitions() {
    let cluster = Cluster::start();
    let mut options = RedisOptions::single(Secret::new(cluster.url()));
    options.mode = Mode::Cluster;
    let redis = Redis::open(&options).await.unwrap();
    let wanted = Options {
        horizon: HORIZON,
        ..Options::default()
    };
    let hold = RedisHold::open(redis, wanted).await.unwrap();
    let mut messages = some(0, 2_000);
    for (number, held) in messages.iter_mut().enumerate() {
        let priority = u8::try_from(number % 3).unwrap();
        held.message.priority = nightgate_core::Priority::new(priority).unwrap();
    }
    put(&hold, messages.clone()).await;
    let again = hold.put(messages, at(0)).await.unwrap();
    assert!(again.iter().all(|put| *put == Put::Duplicate));
    assert_eq!(totals(&hold).await, (2_000, 0, 0));
    let used = cluster
        .nodes
        .iter()
        .filter(|node| node.ask(&["DBSIZE"]) != ":0\r\n")
        .count();
    assert_eq!(used, 3, "every master has a part");
    let loans = lease(&hold, at(0), 900).await;
    assert_eq!(loans.len(), 900);
    let priorities: Vec<u8> = loans
        .iter()
        .map(|it| it.held.message.priority.get())
        .collect();
    assert!(
        priorities.is_sorted(),
        "none overtakes in another partition"
    );
    for (loan, verdict) in loans.iter().zip([done(), defer(at(30)), bury()]) {
        assert_eq!(
            settle(&hold, loan.token, verdict, at(1)).await,
            Settled::Yes
        );
    }
    recount(&hold).await;
    let recalled = hold.recall(&Scope::Lane(lane()), at(2)).await.unwrap();
    assert_eq!((recalled.recalled, recalled.in_flight), (1_102, 897));
    assert_eq!(totals(&hold).await, (0, 897, 0));
}

//! Clusters whose masters have replicas: killed, stopped, and one of them full.

use std::sync::Arc;
use std::time::Duration;

use nightgate::error::Kind as Of;
use nightgate::hold::HoldStore;
use nightgate::hold::redis::{Options, RedisHold};
use nightgate::redis::{Mode, Redis, RedisOptions};
use nightgate::secret::Secret;

use super::ledger::{Ledger, until_answered};
use super::server::{Cluster, Kind, wait};
use crate::world::*;

async fn hold(cluster: &Cluster, replicas: u32) -> RedisHold {
    let mut options = RedisOptions::single(Secret::new(cluster.url()));
    options.mode = Mode::Cluster;
    options.timeout = Duration::from_secs(1);
    options.replicas.count = replicas;
    let redis = Redis::open(&options).await.unwrap();
    let wanted = Options {
        horizon: HORIZON,
        ..Options::default()
    };
    // A replica that has just come is sent nothing for a second.
    let open = || RedisHold::open(redis.clone(), wanted.clone());
    until_answered("open", open).await
}

/// Waits until another has the slots of `old`.
fn followed(cluster: &Cluster, before: &[usize], old: usize) {
    wait("a replica takes over", || {
        let now = cluster.masters();
        now.len() == before.len() && !now.contains(&old)
    });
}

/// Waits until each master has its replica.
fn whole(cluster: &Cluster) {
    wait("each master has its replica", || {
        let masters = cluster.masters();
        let with = |at: &usize| cluster.nodes[*at].replicas() == 1;
        masters.len() == 3 && masters.iter().all(with)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn masters_of_a_cluster_killed_in_mid_hold_and_in_mid_drain_are_followed_by_their_replicas() {
    let mut cluster = Cluster::with_replicas(Kind::Redis);
    let one = Arc::new(hold(&cluster, 1).await);
    assert!(one.checked().warnings.is_empty(), "{:?}", one.checked());
    let ledger = Arc::new(Ledger::default());
    let writer = ledger.writer(&one);
    ledger.more_acknowledged(300).await;
    let before = cluster.masters();
    cluster.nodes[before[0]].kill();
    followed(&cluster, &before, before[0]);
    // Whoever took over has nobody behind it until the old one comes back.
    cluster.nodes[before[0]].restart();
    whole(&cluster);
    ledger.more_acknowledged(300).await;
    ledger.stop();
    writer.await.unwrap();

    let drains = [Arc::clone(&one), Arc::new(hold(&cluster, 1).await)].map(|hold| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move { ledger.drain(&hold, at(0)).await })
    });
    ledger.until_ended(150).await;
    let before = cluster.masters();
    cluster.nodes[before[1]].kill();
    followed(&cluster, &before, before[1]);
    cluster.nodes[before[1]].restart();
    for drain in drains {
        drain.await.unwrap();
    }
    ledger.close(&one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_full_master_of_a_cluster_stops_puts_and_neither_loans_nor_settlements() {
    let cluster = Cluster::start();
    let mut hold = self::hold(&cluster, 0).await;
    let ledger = Ledger::default();
    let names = |word: &str| (0..400).map(|number| format!("{word}{number}")).collect();
    ledger.put(&hold, names("before")).await;
    let full = &cluster.nodes[1];
    full.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = (0..64)
        .map(|number| held(&format!("full{number}")))
        .collect::<Vec<_>>();
    let error = hold.put(refused.clone(), at(0)).await.unwrap_err();
    assert_eq!(error.kind, Of::Unavailable, "{error}");
    // What the other masters took of it is known when it is tried again.
    full.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    ledger
        .put(
            &hold,
            refused
                .iter()
                .map(|held| held.message.id.to_string())
                .collect(),
        )
        .await;
    full.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    // Whoever starts now must be able to drain it, and a person to stop it.
    hold = self::hold(&cluster, 0).await;
    hold.pause(None, true, at(0)).await.unwrap();
    hold.pause(None, false, at(0)).await.unwrap();
    ledger.drain(&hold, at(0)).await;
    ledger.close(&hold).await;
    full.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    ledger.put(&hold, names("after")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_of_a_cluster_that_was_stopped_is_asked_no_more_once_its_replica_took_over() {
    let cluster = Cluster::with_replicas(Kind::Valkey);
    let hold = hold(&cluster, 0).await;
    assert!(
        hold.checked().version.starts_with("valkey "),
        "{:?}",
        hold.checked()
    );
    let warned = &hold.checked().warnings;
    assert!(
        warned.iter().any(|it| it.contains("`replicas = 1`")),
        "{warned:?}"
    );
    let ledger = Ledger::default();
    let names = |word: &str| (0..200).map(|number| format!("{word}{number}")).collect();
    ledger.put(&hold, names("before")).await;
    // All of it is on the replicas.
    let before = cluster.masters();
    for master in &before {
        assert_eq!(cluster.nodes[*master].ask(&["WAIT", "1", "5000"]), ":1\r\n");
    }
    cluster.nodes[before[2]].signal("STOP");
    followed(&cluster, &before, before[2]);
    // Nobody says that the slots have moved, and no connection breaks.
    ledger.put(&hold, names("after")).await;
    until_answered("shelves", || hold.shelves(None, None)).await;
    ledger.drain(&hold, at(0)).await;
    cluster.nodes[before[2]].signal("CONT");
    ledger.close(&hold).await;
}

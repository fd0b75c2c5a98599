//! Answers that wait for replicas, in their memory (`WAIT`) and on their disks (`WAITAOF`).

use std::sync::Arc;
use std::time::Duration;

use nightgate::error::Kind as Of;
use nightgate::hold::redis::{Options, RedisHold};
use nightgate::hold::{HoldStore, Put};
use nightgate::redis::{Redis, RedisOptions, Replicas};
use nightgate::secret::Secret;

use super::ledger::{Ledger, fails, lend};
use super::proxy::Proxy;
use super::server::{Kind, Server};
use super::world::open;
use crate::world::*;

fn options(url: String, on_disk: bool) -> RedisOptions {
    let mut options = RedisOptions::single(Secret::new(url));
    options.replicas = Replicas { count: 1, on_disk };
    // Disks that are written every second may need two.
    let seconds = if on_disk { 4 } else { 1 };
    options.timeout = Duration::from_secs(seconds);
    options
}

fn pair(kind: Kind, settings: &[&str]) -> [Server; 2] {
    let pair = [Server::of(kind, settings), Server::of(kind, settings)];
    pair[1].replica_of(&pair[0]);
    pair
}

/// A replica that is stopped: what must be acknowledged is not, what is only asked is answered.
async fn stops_and_goes_on(hold: &RedisHold, replica: &Server) {
    put(
        hold,
        (0..9).map(|number| held(&format!("m{number}"))).collect(),
    )
    .await;
    replica.signal("STOP");
    let late = || vec![held("late")];
    let (puts, totals) = tokio::join!(
        futures_util::future::join_all((0..20).map(|_| fails(hold.put(late(), at(0))))),
        totals(hold),
    );
    assert!(
        puts.iter()
            .all(|error| error.to_string().contains("put messages"))
    );
    assert!(totals.0 >= 9, "whoever asks does not wait with them");
    fails(lend(hold, at(0), 1)).await;
    replica.signal("CONT");
    let again = hold.put(late(), at(0)).await.unwrap();
    assert_eq!(again, [Put::Duplicate]);
    assert_eq!(
        lease(hold, at(0), ALL).await.len(),
        9,
        "one is on the loan that nobody was told of"
    );
    let lapsed = lease(hold, at(0) + TTL + MOMENT, ALL).await;
    assert_eq!(lapsed.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_on_the_replica_when_the_master_is_killed() {
    let [mut master, replica] = pair(Kind::Redis, &[]);
    let proxy = Proxy::to(&master);
    let hold = Arc::new(open(&options(proxy.url(), false), 4).await);
    assert!(hold.checked().warnings.is_empty(), "{:?}", hold.checked());
    let ledger = Arc::new(Ledger::default());
    let writer = ledger.writer(&hold);
    ledger.more_acknowledged(300).await;
    master.kill();
    replica.ask(&["REPLICAOF", "NO", "ONE"]);
    let third = Server::of(Kind::Redis, &[]);
    third.replica_of(&replica);
    proxy.lead_to(&replica);
    ledger.more_acknowledged(100).await;
    ledger.stop();
    writer.await.unwrap();
    ledger.drain(&hold, at(0)).await;
    ledger.close(&hold).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_stopped_lets_nothing_be_acknowledged_and_nobody_wait_who_need_not() {
    let [master, replica] = pair(Kind::Redis, &[]);
    let hold = open(&options(master.url(), false), 1).await;
    stops_and_goes_on(&hold, &replica).await;
    assert!(hold.capability().durable, "appendfsync is always");
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_are_waited_for_on_valkey_whatever_its_appendfsync_says() {
    let [mut master, replica] = pair(Kind::Valkey, &["--appendfsync", "everysec"]);
    let hold = open(&options(master.url(), true), 1).await;
    assert!(hold.capability().durable);
    assert!(
        hold.checked().version.starts_with("valkey "),
        "{:?}",
        hold.checked()
    );
    stops_and_goes_on(&hold, &replica).await;
    // What waits for disks waits together, and is on both of them then.
    let puts = (0..40).map(|number| hold.put(vec![held(&format!("n{number}"))], at(0)));
    for said in futures_util::future::join_all(puts).await {
        assert_eq!(said.unwrap(), [Put::New]);
    }
    master.kill();
    master.restart();
    replica.ask(&["REPLICAOF", "NO", "ONE"]);
    for server in [&master, &replica] {
        let mut options = options(server.url(), false);
        options.replicas.count = 0;
        let hold = open(&options, 1).await;
        assert_eq!(totals(&hold).await, (40, 10, 0));
    }
}

#[tokio::test]
async fn disks_of_a_redis_that_cannot_wait_for_them_are_refused_with_what_to_change() {
    let server = Server::start(&[]);
    let version = server.ask(&["INFO", "server"]);
    if !version.contains("redis_version:7.0.") {
        return;
    }
    let redis = Redis::open(&options(server.url(), true)).await.unwrap();
    let error = RedisHold::open(redis, Options::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind, Of::Invalid);
    assert!(
        error
            .to_string()
            .contains("install Redis 7.2 or later, or any Valkey"),
        "{error}"
    );
}

//! `hold::open`.

use std::path::Path;
use std::sync::Arc;

use nightgate::error::{Error, Kind};
use nightgate::hold::Put;
use nightgate::hold::open::{OpenOptions, SOCKET, STORES, open, own_or_reach};
use nightgate::hold::remote::serve;

use crate::backends::memory;
use crate::world::*;

fn options(dir: &Path) -> OpenOptions {
    OpenOptions {
        horizon: HORIZON,
        ..OpenOptions::new(dir)
    }
}

#[tokio::test]
async fn every_store_opens_by_its_own_name() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let hold = open(store, &options(dir.path()), at(0)).await.unwrap();
        assert_eq!(hold.name(), *store);
        hold.check().await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_store_is_refused_with_the_choices() {
    let dir = tempfile::tempdir().unwrap();
    let error = open("kafka", &options(dir.path()), at(0))
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind, Kind::Invalid);
    let text = error.to_string();
    assert!(
        text.contains("kafka") && text.contains("sqlite, memory"),
        "{text}"
    );
}

#[tokio::test]
async fn opening_forgets_what_outlived_the_horizon() {
    let dir = tempfile::tempdir().unwrap();
    let hold = open("sqlite", &options(dir.path()), at(0)).await.unwrap();
    put(&*hold, vec![held("a"), due("b", at(500))]).await;
    let loan = lease_one(&*hold, at(0)).await;
    settle(&*hold, loan.token, done(), at(0)).await;
    drop(hold);
    let hold = open("sqlite", &options(dir.path()), at(0) + HORIZON + MOMENT)
        .await
        .unwrap();
    assert!(find(&*hold, "a").await.is_none() && find(&*hold, "b").await.is_some());
}

#[tokio::test]
async fn a_hold_is_owned_by_the_first_and_reached_by_the_others_until_the_first_ends() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join(SOCKET);
    let hold = memory();
    let first = own_or_reach(&socket, async || Ok(Some(Arc::clone(&hold))))
        .await
        .unwrap();
    let second = own_or_reach(&socket, async || Ok(None)).await.unwrap();
    put(&*second, vec![held("a")]).await;
    assert_eq!(
        first.put(vec![held("a")], at(0)).await.unwrap(),
        [Put::Duplicate]
    );
    drop(first);
    assert_eq!(second.check().await.unwrap_err().kind, Kind::Unavailable);
    let third = own_or_reach(&socket, async || Ok(Some(Arc::clone(&hold))))
        .await
        .unwrap();
    assert!(find(&*third, "a").await.is_some());
    second.check().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_still_opening_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join(SOCKET);
    let mut server = None;
    let mut tries = 0;
    let own = async || {
        tries += 1;
        if tries == 3 {
            server = Some(serve(memory(), &socket)?);
        }
        Ok(None)
    };
    let hold = own_or_reach(&socket, own).await.unwrap();
    assert_eq!((hold.name(), tries), ("memory", 3));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_giving_up_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut tries = 0;
    let own = async || {
        tries += 1;
        Ok((tries == 3).then(memory))
    };
    let hold = own_or_reach(&dir.path().join(SOCKET), own).await.unwrap();
    hold.check().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_lets_nobody_in_is_given_up_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let hold = own_or_reach(&dir.path().join(SOCKET), async || Ok(None)).await;
    let error = hold.err().unwrap();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.to_string().contains("another process"), "{error}");
    let own = async || Err(Error::new(Kind::Corrupt, "hold", "read it"));
    let hold = own_or_reach(&dir.path().join(SOCKET), own).await;
    assert_eq!(hold.err().unwrap().kind, Kind::Corrupt);
}

#[tokio::test]
async fn a_hold_that_cannot_be_served_is_used_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("missing").join(SOCKET);
    let hold = own_or_reach(&nowhere, async || Ok(Some(memory())))
        .await
        .unwrap();
    put(&*hold, vec![held("a")]).await;
}

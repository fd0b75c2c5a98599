//! `hold::open`.

use nightgate::error::Kind;
use nightgate::hold::open::{STORES, open};

use crate::world::*;

#[tokio::test]
async fn every_store_opens_by_its_own_name() {
    for store in STORES {
        let dir = tempfile::tempdir().unwrap();
        let hold = open(store, dir.path(), HORIZON, at(0)).await.unwrap();
        assert_eq!(hold.name(), *store);
        hold.check().await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_store_is_refused_with_the_choices() {
    let dir = tempfile::tempdir().unwrap();
    let error = open("kafka", dir.path(), HORIZON, at(0))
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
    let hold = open("sqlite", dir.path(), HORIZON, at(0)).await.unwrap();
    put(&*hold, vec![held("a"), due("b", at(500))]).await;
    let loan = lease_one(&*hold, at(0)).await;
    settle(&*hold, loan.token, done(), at(0)).await;
    drop(hold);
    let hold = open("sqlite", dir.path(), HORIZON, at(0) + HORIZON + MOMENT)
        .await
        .unwrap();
    assert!(find(&*hold, "a").await.is_none() && find(&*hold, "b").await.is_some());
}

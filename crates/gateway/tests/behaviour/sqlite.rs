//! What only the SQLite file promises.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nightgate::error::{Kind, Result};
use nightgate::hold::sqlite::{FILE, Options, SCHEMA_VERSION, SqliteHold};
use nightgate::hold::{HoldStore, Lane, LeaseAsk, Pick, Put, Scope, State};
use nightgate_core::RecipientKey;
use rusqlite::Connection;

use crate::world::*;

fn kind<T>(result: Result<T>) -> Kind {
    result.err().unwrap().kind
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_poisons_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        pages_max: Some(80),
        ..Options::default()
    };
    let hold = SqliteHold::open(dir.path(), options).await.unwrap();
    let large = |name: &str| with(name, |held| held.message.body = vec![7; 3_000].into());
    let mut acknowledged = Vec::new();
    let error = loop {
        let name = format!("m{}", acknowledged.len());
        match hold.put(vec![large(&name)], at(0)).await {
            Ok(_) => acknowledged.push(name),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    let again: Vec<_> = (0..20)
        .map(|number| large(&format!("again{number}")))
        .collect();
    assert_eq!(kind(hold.put(again, at(0)).await), Kind::Unavailable);
    hold.check().await.unwrap();
    assert_eq!(totals(&hold).await, (acknowledged.len() as u64, 0, 0));

    drop(hold);
    let roomy = SqliteHold::open(dir.path(), Options::default())
        .await
        .unwrap();
    for name in &acknowledged {
        let found = find(&roomy, name).await.unwrap();
        assert_eq!(found.held.message.body.len(), 3_000);
    }
    assert!(find(&roomy, "again0").await.is_none(), "rolled back whole");
    put(&roomy, vec![held("after")]).await;
    recount(&roomy).await;
}

#[tokio::test]
async fn a_write_that_is_lost_poisons_every_later_call_until_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let hold = SqliteHold::open(dir.path(), Options::default())
        .await
        .unwrap();
    put(&hold, vec![held("m0"), held("m1")]).await;
    // Nobody should, and so it stands for whatever else makes a write fail without a reason known.
    let file = Connection::open(dir.path().join(FILE)).unwrap();
    file.execute_batch("ALTER TABLE message RENAME TO gone")
        .unwrap();
    let lost = kind(hold.put(vec![held("m2")], at(0)).await);
    assert_eq!(lost, Kind::Poisoned);
    file.execute_batch("ALTER TABLE gone RENAME TO message")
        .unwrap();
    drop(file);

    let lane = lane();
    let ask = LeaseAsk {
        lane: &lane,
        pick: Pick::Any,
        now: at(0),
        max: 1,
        ttl: TTL,
    };
    let scope = Scope::Lane(lane.clone());
    let class = class("k");
    let kinds = [
        kind(hold.put(Vec::new(), at(0)).await),
        kind(hold.lease(&ask).await),
        kind(hold.settle(Vec::new(), at(0)).await),
        kind(hold.next_due(&lane, at(0)).await),
        kind(hold.shelves(None, None).await),
        kind(hold.find(&[]).await),
        kind(hold.list(State::Held, None, 1).await),
        kind(hold.recall(&scope, at(0)).await),
        kind(hold.kick(&scope, at(0)).await),
        kind(hold.redate(&lane, &class, at(0), at(1)).await),
        kind(hold.pause(None, true, at(0)).await),
        kind(hold.pauses().await),
        kind(hold.sweep(at(0)).await),
        kind(hold.check().await),
    ];
    assert_eq!(kinds, [Kind::Poisoned; 14]);
    let text = hold.check().await.unwrap_err().to_string();
    assert!(text.contains("check the disk"), "{text}");

    drop(hold);
    let hold = SqliteHold::open(dir.path(), Options::default())
        .await
        .unwrap();
    assert_eq!(totals(&hold).await, (2, 0, 0));
    assert!(find(&hold, "m2").await.is_none());
    hold.check().await.unwrap();
    put(&hold, vec![held("after")]).await;
}

#[tokio::test]
async fn another_who_writes_too_long_makes_it_unavailable_and_not_poisoned() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        busy_timeout: Duration::from_millis(30),
        ..Options::default()
    };
    let hold = SqliteHold::open(dir.path(), options).await.unwrap();
    let other = Connection::open(dir.path().join(FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(
        kind(hold.put(vec![held("a")], at(0)).await),
        Kind::Unavailable
    );
    assert_eq!(
        hold.shelves(None, None).await.unwrap(),
        [],
        "reading does not wait for writes"
    );
    other.execute_batch("ROLLBACK").unwrap();
    put(&hold, vec![held("a")]).await;
}

#[tokio::test]
async fn a_file_of_a_newer_program_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(
        SqliteHold::open(dir.path(), Options::default())
            .await
            .unwrap(),
    );
    let newer = SCHEMA_VERSION + 1;
    let file = Connection::open(dir.path().join(FILE)).unwrap();
    file.pragma_update(None, "user_version", newer).unwrap();
    let error = SqliteHold::open(dir.path(), Options::default())
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind, Kind::Invalid);
    let text = error.to_string();
    assert!(
        text.contains("use the newer nightgate that wrote it"),
        "{text}"
    );
    let left: i64 = file
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(left, newer);
}

#[tokio::test]
async fn a_file_that_is_no_hold_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), "not a database, ".repeat(1_000)).unwrap();
    let error = SqliteHold::open(dir.path(), Options::default())
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind, Kind::Corrupt);
}

#[tokio::test]
async fn pages_that_do_not_read_back_poison() {
    let dir = tempfile::tempdir().unwrap();
    let hold = SqliteHold::open(dir.path(), Options::default())
        .await
        .unwrap();
    put(
        &hold,
        (0..500).map(|number| held(&format!("m{number}"))).collect(),
    )
    .await;
    drop(hold);
    let path = dir.path().join(FILE);
    let file = Connection::open(&path).unwrap();
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    drop(file);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4_096..].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    let hold = match SqliteHold::open(dir.path(), Options::default()).await {
        Ok(hold) => hold,
        Err(error) => return assert_eq!(error.kind, Kind::Corrupt),
    };
    assert_eq!(kind(hold.find(&[id("m7")]).await), Kind::Poisoned);
    assert_eq!(kind(hold.put(vec![held("a")], at(0)).await), Kind::Poisoned);
}

#[tokio::test]
async fn a_stored_value_that_breaks_its_rule_is_corrupt_and_not_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let hold = SqliteHold::open(dir.path(), Options::default())
        .await
        .unwrap();
    put(&hold, vec![held("a"), held("b")]).await;
    let file = Connection::open(dir.path().join(FILE)).unwrap();
    let spoil = "UPDATE message SET recipient = ' 010-0000-9999' WHERE id = 'a'";
    file.execute(spoil, []).unwrap();
    for error in [
        hold.find(&[id("a")]).await.unwrap_err(),
        hold.list(State::Held, None, 5).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, Kind::Corrupt);
        assert!(!format!("{error} {error:?}").contains("9999"), "{error:?}");
    }
    let loans = {
        let lane = lane();
        let ask = LeaseAsk {
            lane: &lane,
            pick: Pick::Any,
            now: at(0),
            max: 9,
            ttl: TTL,
        };
        hold.lease(&ask).await
    };
    assert_eq!(kind(loans), Kind::Corrupt);
    assert_eq!(
        totals(&hold).await,
        (2, 0, 0),
        "the lease that failed was undone"
    );
    assert!(find(&hold, "b").await.is_some(), "the rest is still served");
}

#[tokio::test]
async fn data_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("deep").join("data");
    let hold = SqliteHold::open(&data, Options::default()).await.unwrap();
    put(&hold, vec![held("a")]).await;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files += 1;
    }
    assert_eq!(
        files, 4,
        "the file, its log, the log's index and its openers' turn"
    );
}

#[tokio::test]
async fn many_can_open_a_new_file_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let opening = (0..8).map(|_| {
        let data = dir.path().join("data");
        tokio::spawn(async move { SqliteHold::open(&data, Options::default()).await })
    });
    for (number, opened) in opening.collect::<Vec<_>>().into_iter().enumerate() {
        let hold = opened.await.unwrap().unwrap();
        put(&hold, vec![held(&format!("m{number}"))]).await;
    }
}

#[tokio::test]
async fn shelves_on_which_nothing_stands_leave_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let hold = SqliteHold::open(dir.path(), Options::default())
        .await
        .unwrap();
    put(
        &hold,
        (0..40)
            .map(|number| due(&format!("m{number}"), at(number)))
            .collect(),
    )
    .await;
    let file = Connection::open(dir.path().join(FILE)).unwrap();
    let rows = |table: &str| -> i64 {
        let count = format!("SELECT count(*) FROM {table}");
        file.query_row(&count, [], |row| row.get(0)).unwrap()
    };
    assert_eq!((rows("shelf"), rows("body")), (40, 40));
    for loan in lease(&hold, at(40), ALL).await {
        settle(&hold, loan.token, done(), at(40)).await;
    }
    assert_eq!(
        (rows("shelf"), rows("body")),
        (1, 0),
        "one is left, of those that ended"
    );
    let horizon = Options::default().horizon;
    assert_eq!(hold.sweep(at(40) + horizon + MOMENT).await.unwrap(), 40);
    assert_eq!((rows("shelf"), rows("message")), (0, 0));
}

#[tokio::test]
async fn an_arrival_number_is_never_used_twice() {
    let dir = tempfile::tempdir().unwrap();
    let hold = SqliteHold::open(dir.path(), Options::default())
        .await
        .unwrap();
    put(&hold, vec![held("a")]).await;
    let first = lease_one(&hold, at(0)).await;
    settle(&hold, first.token, done(), at(0)).await;
    let later = at(0) + Options::default().horizon + MOMENT;
    assert_eq!(
        hold.put(vec![due("a", later)], later).await.unwrap(),
        [Put::New]
    );
    let second = lease_one(&hold, later).await;
    assert!(
        second.token.seq > first.token.seq,
        "an old token would fit the new message"
    );
}

#[tokio::test]
async fn lanes_and_recipients_with_quotes_are_only_text() {
    let dir = tempfile::tempdir().unwrap();
    let hold = SqliteHold::open(dir.path(), Options::default())
        .await
        .unwrap();
    let odd = "x'); DROP TABLE message; --";
    put(
        &hold,
        vec![with("a", |held| {
            held.lane = Lane::new(odd);
            held.key = RecipientKey::from_stored(odd);
        })],
    )
    .await;
    let scope = Scope::Recipient(RecipientKey::from_stored(odd));
    assert_eq!(hold.recall(&scope, at(0)).await.unwrap().recalled, 1);
}

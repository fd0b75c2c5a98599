//! What only the book on disk promises: a table in memory that is never behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use tempfile::TempDir;

use super::*;

fn key(text: &str) -> RecipientKey {
    RecipientKey::from_stored(text)
}

fn event(who: &str, act: Act, second: i64) -> ConsentEvent {
    ConsentEvent {
        key: key(who),
        scope: Scope::General,
        act,
        at: Timestamp::from_second(second).unwrap(),
        source: "test".to_owned(),
    }
}

fn path(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join("consent.db")
}

const YES: Act = Act::Grant(Basis::Explicit);

/// When general consent was last withdrawn, as the book says; -1 where it was not.
async fn withdrawn(book: &SqliteBook, who: &str) -> i64 {
    let found = book.look_up(&[key(who)]).await.unwrap()[0];
    let at = found.general.and_then(|fact| fact.withdrawn_at);
    at.map_or(-1, Timestamp::as_second)
}

/// Whether the next look-up of `who` is answered from memory.
fn is_remembered(book: &SqliteBook, who: &str) -> bool {
    let hash = book.watch.hash(&key(who));
    book.watch.current().unwrap().get(hash).is_some()
}

#[tokio::test]
async fn a_withdrawal_is_seen_by_the_next_look_up_of_every_process() {
    let dir = TempDir::new().unwrap();
    let books = [
        SqliteBook::open(&path(&dir)).unwrap(),
        SqliteBook::open(&path(&dir)).unwrap(),
    ];
    books[0]
        .record(vec![event("a", YES, 1), event("b", YES, 1)])
        .await
        .unwrap();
    for turn in 2..30 {
        for book in &books {
            assert_eq!(
                withdrawn(book, "a").await,
                if turn == 2 { -1 } else { turn - 1 }
            );
            assert_eq!(withdrawn(book, "b").await, -1);
            assert_eq!(withdrawn(book, "never").await, -1);
            for who in ["a", "b", "never"] {
                assert!(is_remembered(book, who), "{who}");
            }
        }
        let by = &books[usize::from(turn % 2 == 0)];
        by.record(vec![event("a", Act::Withdraw, turn)])
            .await
            .unwrap();
        for book in &books {
            assert!(!is_remembered(book, "a"));
            assert!(is_remembered(book, "b"), "others stay");
        }
    }
    books[1]
        .record(vec![event("never", Act::Withdraw, 50)])
        .await
        .unwrap();
    assert_eq!(
        withdrawn(&books[0], "never").await,
        50,
        "also who was not heard of"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_look_up_never_answers_with_less_than_was_recorded_before_it_began() {
    let dir = TempDir::new().unwrap();
    let open = || Arc::new(SqliteBook::open(&path(&dir)).unwrap());
    let (mine, other) = (open(), open());
    let recorded = Arc::new(AtomicI64::new(-1));
    let mut readers = Vec::new();
    for reader in 0..4 {
        let book = Arc::clone(if reader % 2 == 0 { &mine } else { &other });
        let recorded = Arc::clone(&recorded);
        readers.push(tokio::spawn(async move {
            let (mut least, mut looked) = (0, 0);
            while least < 150 {
                least = recorded.load(Ordering::SeqCst);
                let found = withdrawn(&book, "a").await;
                assert!(found >= least, "found {found}, recorded {least}");
                looked += 1;
                // A table emptied now and then makes the file be asked, which takes longer.
                if looked % 7 == 0 {
                    book.watch.forget_everybody();
                }
            }
        }));
    }
    for second in 0..=150 {
        let by = if second % 3 == 0 { &other } else { &mine };
        by.record(vec![event("a", Act::Withdraw, second)])
            .await
            .unwrap();
        recorded.store(second, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_was_on_its_way_during_a_withdrawal_is_not_remembered() {
    let dir = TempDir::new().unwrap();
    let book = SqliteBook::open(&path(&dir)).unwrap();
    book.record(vec![event("a", YES, 1)]).await.unwrap();
    let conn = crate::sqlite::reader(&path(&dir)).unwrap();
    let (read, before) = from_file(&conn, &[key("a")]).unwrap();
    let before = [before[0].unwrap()];
    book.record(vec![event("a", Act::Withdraw, 2)])
        .await
        .unwrap();
    // Somebody else looks up and is told of the change; then the slow one comes in.
    assert!(!is_remembered(&book, "a"));
    book.watch
        .remember(&[book.watch.hash(&key("a"))], &before, read);
    assert_eq!(withdrawn(&book, "a").await, 2);
}

#[tokio::test]
async fn who_has_missed_too_many_changes_forgets_everybody() {
    let dir = TempDir::new().unwrap();
    let book = SqliteBook::open(&path(&dir)).unwrap();
    book.record(vec![event("a", YES, 1), event("b", YES, 1)])
        .await
        .unwrap();
    let conn = open(&path(&dir), &SCHEMA).unwrap();
    conn.pragma_update(None, "synchronous", "OFF").unwrap();
    let secret = book.watch.key();
    let change = |who: &str| watch::note(&conn, &secret, [key(who)].iter()).unwrap();
    for (missed, kept) in [
        (1, true),
        (watch::CHANGES_KEPT, true),
        (watch::CHANGES_KEPT + 1, false),
    ] {
        assert_eq!(withdrawn(&book, "b").await, -1);
        for _ in 0..missed {
            change("a");
        }
        assert_eq!(is_remembered(&book, "b"), kept, "{missed}");
    }
    let rows: rusqlite::Result<i64> =
        conn.query_row("SELECT count(*) FROM change", [], |row| row.get(0));
    assert_eq!(rows.unwrap(), watch::CHANGES_KEPT, "the file keeps no more");
}

#[tokio::test]
async fn a_change_of_too_many_to_name_forgets_everybody() {
    let dir = TempDir::new().unwrap();
    let book = SqliteBook::open(&path(&dir)).unwrap();
    book.record(vec![event("a", YES, 1)]).await.unwrap();
    assert_eq!(withdrawn(&book, "a").await, -1);
    let conn = open(&path(&dir), &SCHEMA).unwrap();
    for (many, kept) in [(watch::NAMED_MAX, true), (watch::NAMED_MAX + 1, false)] {
        let others = vec![key("other"); many];
        watch::note(&conn, &book.watch.key(), others.iter()).unwrap();
        assert_eq!(is_remembered(&book, "a"), kept, "{many}");
    }
    for _ in 0..=watch::LONG_CHANGES_KEPT {
        watch::note(&conn, &book.watch.key(), [key("b")].iter()).unwrap();
    }
    let long = "SELECT count(*) FROM change WHERE length(recipients) > 1000";
    let long: i64 = conn.query_row(long, [], |row| row.get(0)).unwrap();
    assert_eq!(long, 0, "a long change is kept for less long");
}

#[tokio::test]
async fn a_look_up_of_more_than_fits_in_memory_answers_all() {
    let dir = TempDir::new().unwrap();
    let mut book = SqliteBook::open(&path(&dir)).unwrap();
    book.watch = Arc::new(Watch::open(&path(&dir), 16 * 1024).unwrap());
    let who = |n: i64| format!("user-{n}");
    let all = (0..1_000)
        .map(|n| event(&who(n), Act::Withdraw, n))
        .collect();
    book.record(all).await.unwrap();
    let keys: Vec<_> = (0..1_000)
        .rev()
        .chain(0..500)
        .map(|n| key(&who(n)))
        .collect();
    for _ in 0..3 {
        let found = book.look_up(&keys).await.unwrap();
        let at = |consent: &Consent| consent.general.unwrap().withdrawn_at.unwrap().as_second();
        assert!(found.iter().map(at).eq((0..1_000).rev().chain(0..500)));
    }
}

#[tokio::test]
async fn a_book_of_version_1_is_brought_up_to_date_and_keeps_all() {
    let dir = TempDir::new().unwrap();
    {
        let book = SqliteBook::open(&path(&dir)).unwrap();
        book.record(vec![event("a", Act::Withdraw, 7)])
            .await
            .unwrap();
    }
    let conn = Connection::open(path(&dir)).unwrap();
    conn.execute_batch("DROP TABLE change; DROP TABLE secret; PRAGMA user_version = 1")
        .unwrap();
    drop(conn);
    let book = SqliteBook::open(&path(&dir)).unwrap();
    assert_eq!(withdrawn(&book, "a").await, 7);
    book.record(vec![event("a", Act::Withdraw, 8)])
        .await
        .unwrap();
    assert_eq!(withdrawn(&book, "a").await, 8);
}

#[tokio::test]
async fn a_process_that_looks_up_many_soon_knows_them_all() {
    let dir = TempDir::new().unwrap();
    let who = |n: i64| format!("user-{n}");
    let many = 5 * ahead::BEGIN_AFTER;
    let all = (0..many)
        .map(|n| event(&who(n), Act::Withdraw, n))
        .collect();
    SqliteBook::open(&path(&dir))
        .unwrap()
        .record(all)
        .await
        .unwrap();
    for (bytes, reads) in [(TABLE_BYTES, true), (64 * 1024, false)] {
        let mut book = SqliteBook::open(&path(&dir)).unwrap();
        book.watch = Arc::new(Watch::open(&path(&dir), bytes).unwrap());
        let strangers: Vec<_> = (0..many).map(|n| key(&format!("stranger-{n}"))).collect();
        book.look_up(&strangers).await.unwrap();
        assert!(
            !is_remembered(&book, &who(7)),
            "strangers tell nothing of the book"
        );
        let some: Vec<_> = (10..10 + ahead::BEGIN_AFTER)
            .map(|n| key(&who(n)))
            .collect();
        book.look_up(&some[1..]).await.unwrap();
        assert!(!is_remembered(&book, &who(7)));
        book.look_up(&some[..1]).await.unwrap();
        book.ahead.done().await;
        let known = (0..many).filter(|n| is_remembered(&book, &who(*n))).count();
        if reads {
            assert_eq!(known, usize::try_from(many).unwrap());
        } else {
            assert!(known < 1_000, "what does not fit is not read");
        }
        assert_eq!(withdrawn(&book, &who(7)).await, 7);
    }
}

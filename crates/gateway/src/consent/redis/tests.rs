//! The book on real servers; the port's own promises on it are in `consent/tests.rs`.

use std::time::Duration;

use jiff::Timestamp;
use nightgate_core::{Basis, Scope};
use proptest::prelude::*;

use super::*;
use crate::consent::Act;
use crate::consent::memory::MemoryBook;
use crate::error::Kind;
use crate::redis::server::{Cluster, Server};
use crate::redis::{Mode, RedisOptions};
use crate::secret::Secret;

const YES: Act = Act::Grant(Basis::Explicit);

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

fn many(from: u32, to: u32) -> Vec<ConsentEvent> {
    let one = |n| event(&format!("+8210{n:08}"), YES, 1_700_000_000);
    (from..to).map(one).collect()
}

fn options(url: String) -> RedisOptions {
    RedisOptions::single(Secret::new(url))
}

async fn book(server: &Server) -> RedisBook {
    RedisBook::new(Redis::open(&options(server.url())).await.unwrap())
}

#[tokio::test]
async fn two_gateways_record_into_one_book_and_what_they_recorded_survives_a_kill() {
    let mut server = Server::start(&[]);
    let (one, other) = (book(&server).await, book(&server).await);
    let (mine, yours) = tokio::join!(one.record(many(0, 3_000)), other.record(many(2_000, 4_000)));
    assert_eq!(
        mine.unwrap() + yours.unwrap(),
        4_000,
        "those in both are new once"
    );
    other
        .record(vec![event("+821000000000", Act::Withdraw, 1_800_000_000)])
        .await
        .unwrap();
    let consent = one.look_up(&[key("+821000000000")]).await.unwrap()[0];
    let withdrawn = consent.general.unwrap().withdrawn_at;
    assert_eq!(
        withdrawn,
        Some(Timestamp::from_second(1_800_000_000).unwrap()),
        "at once"
    );
    server.kill();
    server.restart();
    let again = book(&server).await;
    assert_eq!(again.count().await.unwrap(), 4_000);
    assert_eq!(again.record(many(0, 4_000)).await.unwrap(), 0);
    assert_eq!(again.history(&key("+821000000000")).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_cluster_shares_the_recipients_among_its_masters() {
    let cluster = Cluster::start();
    let mut options = options(cluster.url());
    options.mode = Mode::Cluster;
    let book = RedisBook::new(Redis::open(&options).await.unwrap());
    assert_eq!(book.record(many(0, 2_000)).await.unwrap(), 2_000);
    assert_eq!(book.record(many(1_000, 3_000)).await.unwrap(), 1_000);
    assert_eq!(book.count().await.unwrap(), 3_000);
    let keys: Vec<RecipientKey> = many(2_500, 3_500).into_iter().map(|one| one.key).collect();
    let told = book.look_up(&keys).await.unwrap();
    assert!(told[..500].iter().all(|one| one.general.is_some()));
    assert!(told[500..].iter().all(|one| one.general.is_none()));
    for node in &cluster.nodes {
        assert!(!node.ask(&["DBSIZE"]).starts_with(":0"), "nobody is empty");
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_an_error_and_no_empty_consent() {
    let mut server = Server::start(&[]);
    let mut options = options(server.url());
    options.timeout = Duration::from_millis(300);
    let book = RedisBook::new(Redis::open(&options).await.unwrap());
    let who = "+821012345678";
    book.record(vec![event(who, YES, 0)]).await.unwrap();
    server.kill();
    let error = book.look_up(&[key(who)]).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(!format!("{error} {error:?}").contains("12345678"));
    let error = book
        .record(vec![event(who, Act::Withdraw, 1)])
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(!format!("{error} {error:?}").contains("12345678"));
}

#[tokio::test]
async fn what_somebody_else_wrote_is_corrupt_and_no_empty_consent() {
    let server = Server::start(&[]);
    let book = book(&server).await;
    let at = book.key(partition(&key("a")));
    for value in ["x", "\u{9}\u{0}", "\u{1}\u{3f}\u{0}\u{0}"] {
        server.ask(&["HSET", &at, "a", value]);
        let error = book.look_up(&[key("a")]).await.unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt, "{error}");
        assert_eq!(
            book.history(&key("a")).await.unwrap_err().kind,
            Kind::Corrupt
        );
    }
    server.ask(&["SET", &at, "text"]);
    assert_eq!(
        book.look_up(&[key("a")]).await.unwrap_err().kind,
        Kind::Corrupt
    );
}

fn any_instant() -> impl Strategy<Value = Timestamp> {
    let (min, max) = (
        Timestamp::MIN.as_nanosecond(),
        Timestamp::MAX.as_nanosecond(),
    );
    let any = (min..=max).prop_map(|nanos| Timestamp::from_nanosecond(nanos).unwrap());
    let whole = (-2..2_i64).prop_map(|second| Timestamp::from_second(second).unwrap());
    prop_oneof![any, whole]
}

fn any_event() -> impl Strategy<Value = ConsentEvent> {
    let act = prop_oneof![
        Just(YES),
        any_instant().prop_map(|ends| Act::Grant(Basis::TransactionException { ends })),
        Just(Act::Withdraw)
    ];
    let scope = prop_oneof![Just(Scope::General), Just(Scope::Night)];
    (scope, act, any_instant(), ".{0,9}").prop_map(|(scope, act, at, source)| ConsentEvent {
        key: key("a"),
        scope,
        act,
        at,
        source,
    })
}

proptest! {
    #[test]
    fn a_history_reads_back_and_an_identity_tells_events_apart(
        events in prop::collection::vec(any_event(), 0..9),
    ) {
        let mut history = Vec::new();
        for event in &events {
            history.extend(entry::entry(&entry::identity(event), &event.source).unwrap());
        }
        let back: Vec<ConsentEvent> =
            entry::events(&key("a"), &history).collect::<Result<_>>().unwrap();
        prop_assert_eq!(&back, &events);
        for one in &events {
            for other in &events {
                let same = entry::identity(one) == entry::identity(other);
                prop_assert_eq!(same, one.order() == other.order());
            }
        }
        for cut in 1..history.len() {
            let cut = &history[..cut];
            let read: Result<Vec<_>> = entry::events(&key("a"), cut).collect();
            // Cut between two entries it is a shorter history; anywhere else it is corrupt.
            prop_assert!(read.is_err() || events.starts_with(&read.unwrap()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn it_answers_as_a_book_in_memory_does_in_any_order_and_any_batches(
        (events, mut shuffled) in prop::collection::vec((any_event(), "[ab]"), 0..20)
            .prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle())),
        cut in 0..20_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let server = Server::start(&["--appendonly", "no"]);
        let of = |all: Vec<(ConsentEvent, String)>| {
            let named = |(event, who): (ConsentEvent, String)| ConsentEvent {
                key: key(&who),
                source: "test".to_owned(),
                ..event
            };
            all.into_iter().map(named).collect::<Vec<_>>()
        };
        runtime.block_on(async {
            let (memory, book) = (MemoryBook::default(), book(&server).await);
            let rest = shuffled.split_off(cut.min(shuffled.len()));
            let new = memory.record(of(events)).await.unwrap();
            let first = book.record(of(shuffled)).await.unwrap();
            assert_eq!(new, first + book.record(of(rest)).await.unwrap());
            let keys = [key("a"), key("b"), key("c"), key("a")];
            let told = book.look_up(&keys).await.unwrap();
            assert_eq!(told, memory.look_up(&keys).await.unwrap());
            assert_eq!(book.count().await.unwrap(), memory.count().await.unwrap());
            for who in &keys {
                let history = memory.history(who).await.unwrap();
                assert_eq!(book.history(who).await.unwrap(), history);
            }
        });
    }
}

#[tokio::test]
async fn whoever_withdraws_is_heard_where_memory_is_full_and_nobody_else() {
    let server = Server::start(&[]);
    let book = book(&server).await;
    book.record(many(0, 10)).await.unwrap();
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let granted = book.record(many(10, 11)).await.unwrap_err();
    assert_eq!(granted.kind, Kind::Unavailable);
    let withdraws = event("+821000000000", Act::Withdraw, 1_800_000_000);
    assert_eq!(book.record(vec![withdraws]).await.unwrap(), 1);
    let consent = book.look_up(&[key("+821000000000")]).await.unwrap()[0];
    assert!(consent.general.unwrap().withdrawn_at.is_some(), "at once");
}

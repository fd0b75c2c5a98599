//! What only the book in MongoDB has.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::consent::memory::MemoryBook;
use crate::error::Kind;
use crate::mongodb::MongoOptions;
use crate::mongodb::server::{self, Server};
use crate::mongodb::tests::{BOTH, anew, place};
use crate::secret::Secret;

fn key(text: &str) -> RecipientKey {
    RecipientKey::from_stored(text)
}

fn any_events() -> impl Strategy<Value = Vec<ConsentEvent>> {
    let instant = |(second, nano)| Timestamp::new(second, nano).unwrap();
    let instant = move || (-2..4_i64, 0..2_i32).prop_map(instant);
    let ends = instant().prop_map(|ends| Basis::TransactionException { ends });
    let act = prop_oneof![
        Just(Act::Grant(Basis::Explicit)),
        ends.prop_map(Act::Grant),
        Just(Act::Withdraw)
    ];
    let scope = prop_oneof![Just(Scope::General), Just(Scope::Night)];
    let one = ("[ab#]", scope, act, instant()).prop_map(|(who, scope, act, at)| ConsentEvent {
        key: key(&who),
        scope,
        act,
        at,
        source: "test".to_owned(),
    });
    prop::collection::vec(one, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn it_answers_as_the_plain_one_does_in_any_order_and_any_batches(
        events in any_events()
            .prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle())),
        cut in 0..12_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (events, mut shuffled) = events;
        let rest = shuffled.split_off(cut.min(shuffled.len()));
        runtime.block_on(async {
            let memory = MemoryBook::default();
            let book = MongoBook::open(anew(Server::Usual).await).await.unwrap();
            let new = memory.record(events).await.unwrap();
            let first = book.record(shuffled).await.unwrap();
            assert_eq!(new, first + book.record(rest).await.unwrap());
            let keys = [key("a"), key("b"), key("#")];
            assert_eq!(book.look_up(&keys).await.unwrap(), memory.look_up(&keys).await.unwrap());
            assert_eq!(book.count().await.unwrap(), memory.count().await.unwrap());
            for who in &keys {
                assert_eq!(book.history(who).await.unwrap(), memory.history(who).await.unwrap());
            }
        });
    }
}

#[tokio::test]
async fn far_instants_keep_as_they_are_and_another_connection_sees_them() {
    for kind in BOTH {
        let options = place(kind);
        let ends = "9999-12-30T22:00:00Z".parse().unwrap();
        let old = ConsentEvent {
            key: key("a"),
            scope: Scope::General,
            act: Act::Grant(Basis::TransactionException { ends }),
            at: "1601-01-01T00:00:00.000000001Z".parse().unwrap(),
            source: "import 목록.csv".to_owned(),
        };
        let open = async || {
            MongoBook::open(Mongo::open(&options).await.unwrap())
                .await
                .unwrap()
        };
        assert_eq!(open().await.record(vec![old.clone()]).await.unwrap(), 1);
        let other = open().await;
        assert_eq!(other.history(&key("a")).await.unwrap(), vec![old.clone()]);
        assert_eq!(other.record(vec![old]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn many_recipients_are_looked_up_at_once_in_their_order() {
    let book = MongoBook::open(anew(Server::Usual).await).await.unwrap();
    let who = |n: usize| key(&format!("+8210{n:08}"));
    let event = |n| ConsentEvent {
        key: who(n),
        scope: Scope::General,
        act: Act::Withdraw,
        at: Timestamp::from_second(i64::try_from(n).unwrap()).unwrap(),
        source: "test".to_owned(),
    };
    let many = IN_MAX + 500;
    let recorded = book.record((0..many).map(event).collect()).await.unwrap();
    assert_eq!(recorded, many as u64);
    let keys: Vec<_> = (0..many).rev().map(who).collect();
    let told = book.look_up(&keys).await.unwrap();
    for (n, consent) in (0..many).rev().zip(told) {
        assert_eq!(consent.general.unwrap().withdrawn_at, Some(event(n).at));
    }
}

#[tokio::test]
async fn a_document_that_somebody_else_wrote_is_corrupt_and_not_an_empty_consent() {
    let mongo = anew(Server::Usual).await;
    let book = MongoBook::open(mongo.clone()).await.unwrap();
    let consents = mongo.collection(CONSENTS);
    let good = doc! {
        "_id": "x", "key": "a", "scope": "general", "act": "withdraw",
        "at": "2026-01-01T00:00:00Z", "source": "s",
    };
    for (field, value) in [
        ("act", "perhaps"),
        ("at", "never"),
        ("scope", "all"),
        ("ends", "x"),
    ] {
        let mut bad = good.clone();
        bad.insert(field, value);
        consents.insert_one(bad).await.unwrap();
        let error = book.look_up(&[key("b"), key("a")]).await.unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt, "{field}: {error}");
        consents.delete_one(doc! { "_id": "x" }).await.unwrap();
    }
    assert_eq!(
        book.look_up(&[key("a")]).await.unwrap(),
        [Consent::default()]
    );
}

#[tokio::test]
async fn a_book_that_does_not_answer_in_time_is_an_error_and_not_an_empty_consent() {
    let (mut process, port) = server::start(0, "-", server::NX, server::NX_WORDS);
    let options = MongoOptions {
        timeout: Duration::from_secs(2),
        ..MongoOptions::new(Secret::new(server::address(port)))
    };
    let opened = MongoBook::open(Mongo::open(&options).await.unwrap()).await;
    let book = opened.unwrap();
    assert_eq!(
        book.look_up(&[key("a")]).await.unwrap(),
        [Consent::default()]
    );
    drop(process.stdin.take());
    process.wait().unwrap();
    let error = book.look_up(&[key("a")]).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
}

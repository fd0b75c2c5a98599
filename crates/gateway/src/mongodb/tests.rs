//! The servers that parts are tested on, and formats.

use super::server::{Server, TIMEOUT, database, url};
use super::*;
use crate::clock::{Clock, SystemClock};

/// Every server, for what is quick on the slower.
pub(crate) const BOTH: [Server; 2] = [Server::Usual, Server::Secantus];

/// A database that nobody uses yet.
pub(crate) fn place(kind: Server) -> MongoOptions {
    MongoOptions {
        database: database(),
        timeout: TIMEOUT,
        partial_indexes: kind != Server::Secantus,
        ..MongoOptions::new(Secret::new(url(kind)))
    }
}

/// A connection to a database that nobody uses yet.
pub(crate) async fn anew(kind: Server) -> Mongo {
    Mongo::open(&place(kind)).await.unwrap()
}

#[tokio::test]
async fn a_part_kept_by_a_newer_program_is_refused_and_others_are_not() {
    for kind in BOTH {
        let mongo = anew(kind).await;
        mongo.claim_format("one", 7).await.unwrap();
        mongo.claim_format("one", 8).await.unwrap();
        mongo.claim_format("one", 7).await.unwrap();
        let error = mongo.claim_format("one", 6).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid);
        assert!(
            error.to_string().contains("run the newer program"),
            "{error}"
        );
        mongo.claim_format("other", 1).await.unwrap();
    }
}

#[tokio::test]
async fn of_documents_inserted_at_once_those_whose_key_is_taken_are_told() {
    let op = Op {
        part: "test",
        what: "insert",
    };
    for kind in BOTH {
        let mongo = anew(kind).await;
        let into = mongo.collection("some");
        let some = |keys: &[i32]| -> Vec<Document> {
            keys.iter().map(|key| doc! { "_id": key }).collect()
        };
        let new = async |keys: &[i32]| mongo.insert_new(op, &into, &some(keys)).await.unwrap();
        assert!(new(&[]).await.is_empty());
        assert!(new(&[1, 2, 3]).await.is_empty());
        assert_eq!(new(&[4, 2, 5, 1]).await, [1, 3]);
        let all = mongo.find(op, &into, Ask::default()).await.unwrap();
        assert_eq!(all.len(), 5);
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_unavailable() {
    let op = Op {
        part: "test",
        what: "wait",
    };
    let never = std::future::pending::<::mongodb::error::Result<()>>();
    let error = timed(Duration::from_millis(1), op, never)
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(
        error.to_string().contains("no answer within 1 ms"),
        "{error}"
    );
}

#[tokio::test]
async fn the_server_tells_its_time() {
    let own = SystemClock::default();
    for kind in BOTH {
        let mongo = anew(kind).await;
        let (before, told, after) = (own.now(), mongo.time().await.unwrap(), own.now());
        // The same machine's clock, cut to the millisecond.
        let before = Timestamp::from_millisecond(before.as_millisecond()).unwrap();
        assert!(before <= told && told <= after, "{before} {told} {after}");
    }
}

#[test]
fn a_server_that_forgets_or_follows_is_refused_with_what_to_do() {
    let memory = doc! { "storageEngine": { "name": "ephemeral", "persistent": false } };
    let error = refuse_memory(&memory).unwrap_err();
    assert!(error.to_string().contains("wiredTiger"), "{error}");
    refuse_memory(&doc! { "storageEngine": { "persistent": true } }).unwrap();
    refuse_memory(&doc! {}).unwrap();
    let follower = doc! { "setName": "rs", "isWritablePrimary": false };
    let error = refuse_secondary(&follower).unwrap_err();
    assert!(error.to_string().contains("directConnection"), "{error}");
    refuse_secondary(&doc! { "setName": "rs", "isWritablePrimary": true }).unwrap();
}

#[test]
fn what_the_server_says_of_a_document_is_not_told() {
    let answer = doc! {
        "ok": 1,
        "writeErrors": [{ "index": 0, "code": 11000, "errmsg": "dup key: { key: \"+8210\" }" }],
    };
    let op = Op {
        part: "hold",
        what: "settle",
    };
    let why = Why::of_answer(&answer).unwrap();
    assert_eq!((why.kind, why.code), (Kind::Unavailable, Some(11000)));
    assert!(!why.error(op).to_string().contains("+8210"));
    let concern = doc! { "ok": 1, "writeConcernError": { "code": 64, "codeName": "Late" } };
    let error = Why::of_answer(&concern).unwrap().error(op).to_string();
    assert!(error.contains("no majority confirmed"), "{error}");
    let denied = doc! { "writeErrors": [{ "code": 13, "errmsg": "x" }] };
    assert_eq!(Why::of_answer(&denied).unwrap().kind, Kind::Invalid);
    assert_eq!(Why::of_answer(&doc! { "ok": 1, "n": 3 }), None);
}

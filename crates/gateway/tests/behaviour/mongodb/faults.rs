//! Servers that are away or stop, processes that stop, and what errors say.

use std::net::TcpListener;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate::clock::Clock;
use nightgate::error::Kind;
use nightgate::hold::mongodb::{MongoHold, MongoHoldOptions};
use nightgate::hold::{HoldStore, Put};
use nightgate::mongodb::{Mongo, MongoOptions};
use nightgate::secret::Secret;
use tempfile::TempDir;

use super::{Place, Server, server};
use crate::world::*;

/// A server of a test's own, which it may kill and start again on what it kept.
struct Own {
    process: Option<Child>,
    port: u16,
    folder: TempDir,
}

impl Own {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (process, port) = Self::run(0, &folder);
        Self {
            process: Some(process),
            port,
            folder,
        }
    }

    fn run(port: u16, folder: &TempDir) -> (Child, u16) {
        let folder = folder.path().to_str().unwrap();
        server::start(port, folder, server::NX, server::NX_WORDS)
    }

    /// `kill -9`.
    fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        drop(process.stdin.take());
        process.wait().unwrap();
    }

    fn restart(&mut self) {
        self.process = Some(Self::run(self.port, &self.folder).0);
    }
}

/// A clock on which hours pass between one look and the next, as for a process that was stopped.
#[derive(Default)]
struct Stopped(AtomicU64);

#[async_trait]
impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        at(0)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(7_200 * self.0.fetch_add(1, Ordering::Relaxed))
    }

    async fn sleep_until(&self, _: Timestamp) {}
}

#[tokio::test]
async fn a_put_that_was_stopped_for_hours_takes_back_what_it_put() {
    let place = Place::new(Server::Usual);
    let mongo = Mongo::open(&place.options()).await.unwrap();
    let options = MongoHoldOptions { horizon: HORIZON };
    let stopped = MongoHold::open(mongo, options, Arc::new(Stopped::default()))
        .await
        .unwrap();
    let error = stopped.put(vec![held("a")], at(0)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    let hold = place.hold().await;
    assert!(find(&hold, "a").await.is_none());
    assert_eq!(hold.put(vec![held("a")], at(0)).await.unwrap(), [Put::New]);
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable_and_its_address_is_not_told() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let url = format!("mongodb://somebody:hunter2@127.0.0.1:{port}/?directConnection=true");
    let options = MongoOptions {
        timeout: Duration::from_millis(500),
        ..MongoOptions::new(Secret::new(url))
    };
    let error = Mongo::open(&options).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    let told = format!("{error} {error:?} {options:?}");
    for secret in ["hunter2", "somebody", &port.to_string()] {
        assert!(!told.contains(secret), "{told}");
    }
}

#[tokio::test]
async fn an_address_that_does_not_read_is_invalid_and_not_told() {
    for url in [
        "hunter2",
        "mongodb://a:hunter2@",
        "mongodb://h/?w=hunter2&tls=perhaps",
    ] {
        let error = Mongo::open(&MongoOptions::new(Secret::new(url)))
            .await
            .unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{error}");
        assert!(error.to_string().contains("address"), "{error}");
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_stops_is_unavailable_and_nothing_acknowledged_is_lost_when_it_is_back() {
    let mut own = Own::start();
    let place = Place {
        kind: Server::Usual,
        url: server::address(own.port),
        database: server::database(),
    };
    let quick = MongoOptions {
        timeout: Duration::from_secs(5),
        ..place.options()
    };
    let mongo = Mongo::open(&quick).await.unwrap();
    let options = MongoHoldOptions { horizon: HORIZON };
    let clock = Arc::new(Stopped::default());
    let hold = MongoHold::open(mongo, options, clock).await.unwrap();
    let fresh = place.hold().await;
    put(&fresh, vec![held("a"), held("b")]).await;
    let loan = lease(&hold, at(0), 1).await.remove(0);
    own.kill();
    let error = fresh_error(&hold).await;
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    own.restart();
    let answer = settle(&fresh, loan.token, done(), at(1)).await;
    assert_eq!(
        answer,
        nightgate::hold::Settled::Yes,
        "the loan outlived the server"
    );
    assert_eq!(names(&lease(&fresh, at(1), ALL).await), ["b"]);
    let again = fresh.put(vec![held("a"), held("c")], at(1)).await.unwrap();
    assert_eq!(again, [Put::Duplicate, Put::New]);
}

async fn fresh_error(hold: &dyn HoldStore) -> nightgate::error::Error {
    let look = hold.find(&[id("a")]).await.unwrap_err();
    let write = hold.check().await.unwrap_err();
    assert_eq!(look.kind, write.kind);
    write
}

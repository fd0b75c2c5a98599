//! Accounts of messages while servers come and go: what was acknowledged, what is on loan, and what
//! came to its end.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use nightgate::error::{Error, Kind, Result};
use nightgate::hold::redis::RedisHold;
use nightgate::hold::{Held, HoldStore, LeaseAsk, Leased, Pick, Settle, Settled};

use crate::world::*;

/// Messages in a put.
const BATCH: usize = 20;
/// How often a call is tried: a minute and more.
const TRIES: usize = 1_200;

/// What is known of all messages.
#[derive(Default)]
pub(crate) struct Ledger {
    acknowledged: Mutex<HashSet<String>>,
    on_loan: Mutex<HashSet<String>>,
    ended: Mutex<HashMap<String, usize>>,
    stopped: AtomicBool,
}

impl Ledger {
    /// A writer that goes on until it is stopped, whatever becomes of the servers.
    pub(crate) fn writer(self: &Arc<Self>, hold: &Arc<RedisHold>) -> tokio::task::JoinHandle<()> {
        let (ledger, hold) = (Arc::clone(self), Arc::clone(hold));
        tokio::spawn(async move {
            for batch in 0.. {
                if ledger.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let name = |number| format!("m{batch}-{number}");
                ledger.put(&hold, (0..BATCH).map(name).collect()).await;
                pause(1).await;
            }
        })
    }

    /// Puts these, until it is acknowledged.
    pub(crate) async fn put(&self, hold: &RedisHold, names: Vec<String>) {
        let messages: Vec<Held> = names.iter().map(|name| held(name)).collect();
        until_answered("put", || hold.put(messages.clone(), at(0))).await;
        self.acknowledged.lock().unwrap().extend(names);
    }

    /// The writer puts no more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Waits until so many more are acknowledged.
    pub(crate) async fn more_acknowledged(&self, more: usize) {
        let count = || self.acknowledged.lock().unwrap().len();
        let enough = count() + more;
        until("more are acknowledged", || count() >= enough).await;
    }

    /// Waits until so many have come to their end.
    pub(crate) async fn until_ended(&self, enough: usize) {
        let count = || self.ended.lock().unwrap().len();
        until("more come to their end", || count() >= enough).await;
    }

    /// Lends and settles until nothing is left, whatever becomes of the servers. Fails if a message
    /// is lent that is on loan or has come to its end.
    pub(crate) async fn drain(&self, hold: &RedisHold, now: Timestamp) {
        loop {
            let loans = until_answered("lease", || lend(hold, now, 15)).await;
            if loans.is_empty() {
                return;
            }
            self.lent(&loans);
            self.settle(hold, &loans, now).await;
        }
    }

    fn lent(&self, loans: &[Leased]) {
        let mut on_loan = self.on_loan.lock().unwrap();
        let ended = self.ended.lock().unwrap();
        for loan in loans {
            let name = loan.held.message.id.as_str().to_owned();
            assert!(!ended.contains_key(&name), "{name} is lent after its end");
            assert!(on_loan.insert(name.clone()), "{name} is lent twice at once");
        }
    }

    async fn settle(&self, hold: &RedisHold, loans: &[Leased], now: Timestamp) {
        let ends = || {
            loans.iter().map(|loan| Settle {
                token: loan.token,
                verdict: done(),
            })
        };
        let mut tried = 0;
        let said = until_answered("settle", || {
            tried += 1;
            hold.settle(ends().collect(), now)
        });
        let said = said.await;
        let mut on_loan = self.on_loan.lock().unwrap();
        let mut ended = self.ended.lock().unwrap();
        for (loan, said) in loans.iter().zip(said) {
            let name = loan.held.message.id.as_str();
            // Lapsed is also what a settlement says whose first answer was lost.
            assert!(
                said == Settled::Yes || tried > 1,
                "the loan of {name} was lost"
            );
            on_loan.remove(name);
            *ended.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// Fails unless what came to its end is what was acknowledged.
    fn balance(&self) {
        let acknowledged = self.acknowledged.lock().unwrap();
        let ended = self.ended.lock().unwrap();
        let missing = |name: &&String| !ended.contains_key(*name);
        let lost = acknowledged.iter().filter(missing).count();
        assert_eq!(lost, 0, "of {} acknowledged", acknowledged.len());
        let known = |name: &String| acknowledged.contains(name);
        assert!(ended.keys().all(known), "nothing came from nowhere");
    }

    /// Lets loans lapse whose answer was lost, and drains those; then all must be accounted for.
    pub(crate) async fn close(&self, hold: &RedisHold) {
        let later = at(0) + TTL + MOMENT;
        self.drain(hold, later).await;
        self.balance();
        assert_eq!(totals(hold).await, (0, 0, 0));
        recount(hold).await;
    }
}

/// One lease, which may fail.
pub(crate) async fn lend(hold: &RedisHold, now: Timestamp, max: usize) -> Result<Vec<Leased>> {
    let lane = lane();
    let ask = LeaseAsk {
        lane: &lane,
        pick: Pick::Any,
        now,
        max,
        ttl: TTL,
    };
    hold.lease(&ask).await
}

/// Tries until there is an answer. What is said meanwhile is that nobody can say.
pub(crate) async fn until_answered<T, F: Future<Output = Result<T>>>(
    what: &str,
    mut call: impl FnMut() -> F,
) -> T {
    for _ in 0..TRIES {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert_eq!(error.kind, Kind::Unavailable, "{what}: {error}"),
        }
        pause(50).await;
    }
    panic!("{what} is not answered any more");
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..TRIES {
        if so() {
            return;
        }
        pause(50).await;
    }
    panic!("still not: {what}");
}

/// The error of a call that must have one, and must end.
pub(crate) async fn fails<T: std::fmt::Debug>(call: impl Future<Output = Result<T>>) -> Error {
    let patience = Duration::from_secs(20);
    let ended = tokio::time::timeout(patience, call).await;
    let Ok(ended) = ended else {
        panic!("the call does not end");
    };
    let error = ended.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "{error}");
    error
}

#[expect(
    clippy::disallowed_methods,
    reason = "real servers come back in real time"
)]
pub(crate) async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

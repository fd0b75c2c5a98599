//! A network that loses answers, requests, or both.

use std::time::Duration;

use nightgate::hold::redis::RedisHold;
use nightgate::hold::{HoldStore, Put, Settle, Settled};
use nightgate::redis::RedisOptions;
use nightgate::secret::Secret;

use super::ledger::{fails, lend};
use super::proxy::{Net, Proxy};
use super::server::Server;
use super::world::open;
use crate::world::*;

async fn hold(proxy: &Proxy) -> RedisHold {
    let mut options = RedisOptions::single(Secret::new(proxy.url()));
    options.timeout = Duration::from_millis(300);
    open(&options, 1).await
}

/// Scripts are called by their hashes.
const SCRIPT: &str = "EVALSHA";

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_leaves_nothing_in_doubt_when_the_call_is_tried_again() {
    let server = Server::start(&[]);
    let proxy = Proxy::to(&server);
    let hold = hold(&proxy).await;
    // The scripts are there: the next call of each is one request.
    put(&hold, vec![held("first")]).await;
    let first = lease_one(&hold, at(0)).await;
    assert_eq!(
        settle(&hold, first.token, done(), at(0)).await,
        Settled::Yes
    );

    proxy.set(Net::CutsAnswerTo(SCRIPT));
    let some: Vec<_> = ["done", "later", "aside", "lent"].map(held).to_vec();
    fails(hold.put(some.clone(), at(0))).await;
    assert!(proxy.passes(), "the answer was lost");
    let again = hold.put(some, at(0)).await.unwrap();
    assert_eq!(again, [Put::Duplicate; 4]);

    let loans = lease(&hold, at(0), 3).await;
    for (loan, verdict) in loans.iter().zip([done(), defer(at(30)), bury()]) {
        proxy.set(Net::CutsAnswerTo(SCRIPT));
        let ends = vec![Settle {
            token: loan.token,
            verdict: verdict.clone(),
        }];
        fails(hold.settle(ends, at(0))).await;
        assert_eq!(
            settle(&hold, loan.token, verdict, at(0)).await,
            Settled::Lapsed
        );
    }
    assert_eq!(
        totals(&hold).await,
        (2, 0, 1),
        "each settlement was obeyed once"
    );

    proxy.set(Net::CutsAnswerTo(SCRIPT));
    fails(lend(&hold, at(0), ALL)).await;
    assert!(
        lend(&hold, at(1), ALL).await.unwrap().is_empty(),
        "it is on loan"
    );
    let back = lease_one(&hold, at(0) + TTL + MOMENT).await;
    assert!(
        back.lapsed,
        "it comes back when the loan lapses, and says so"
    );
    recount(&hold).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_swallows_everything_ends_every_call_by_its_time_out() {
    let server = Server::start(&[]);
    let proxy = Proxy::to(&server);
    let hold = hold(&proxy).await;
    put(&hold, vec![held("before")]).await;
    for (number, net) in [Net::LosesRequests, Net::LosesAnswers, Net::Refuses]
        .into_iter()
        .enumerate()
    {
        proxy.set(net);
        // Many at once, none of whom waits for the others to give up.
        let one = |caller: usize| held(&format!("during-{number}-by-{caller}"));
        let puts = (0..100).map(|caller| hold.put(vec![one(caller)], at(0)));
        fails(async { futures_util::future::try_join_all(puts).await }).await;
        let asks = (0..100).map(|_| fails(hold.shelves(None, None)));
        futures_util::future::join_all(asks).await;
        proxy.set(Net::Passes);
        proxy.cut();
        let name = format!("after-{number}");
        super::ledger::until_answered("put", || hold.put(vec![held(&name)], at(0))).await;
        assert!(find(&hold, &name).await.is_some());
    }
    recount(&hold).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_at_any_moment_lose_nothing_and_lend_nothing_twice() {
    let server = Server::start(&[]);
    let proxy = std::sync::Arc::new(Proxy::to(&server));
    let hold = std::sync::Arc::new(hold(&proxy).await);
    let ledger = std::sync::Arc::new(super::ledger::Ledger::default());
    let cutting = std::sync::Arc::clone(&proxy);
    let cutter = tokio::spawn(async move {
        loop {
            super::ledger::pause(23).await;
            cutting.cut();
        }
    });
    let writer = ledger.writer(&hold);
    ledger.more_acknowledged(1_000).await;
    ledger.stop();
    writer.await.unwrap();
    ledger.drain(&hold, at(0)).await;
    cutter.abort();
    ledger.close(&hold).await;
}

//! Many callers at once, while logs are sealed and given back under them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use nightgate::hold::shelf::ShelfHold;
use nightgate::hold::{End, Held, HoldStore, Lane, Put, Settle, Settled, Verdict};
use nightgate_core::Priority;
use nightgate_log::disk::SimDisk;

use crate::support::*;
use crate::world::{HORIZON, at, id, lane, recount, totals, with};

const PUTTERS: usize = 2;
const PUTS: usize = 40;
const MESSAGES: usize = 25;
const DRAINERS: usize = 3;

/// A message on one of some hundred shelves, every one of them due long ago.
fn late(dice: &mut fastrand::Rng, name: &str) -> Held {
    let campaigns = [None, Some("x"), Some("y")];
    with(name, |held| {
        held.due = past(dice);
        held.message.priority = Priority::new(dice.u8(..4)).unwrap();
        held.message.campaign = campaigns[dice.usize(..3)].map(Into::into);
        held.message.body = noise(dice, 200).into();
    })
}

fn past(dice: &mut fastrand::Rng) -> Timestamp {
    at(dice.i64(0..12))
}

async fn put_all(hold: Arc<ShelfHold>, putter: usize, left: Arc<AtomicUsize>) {
    let mut dice = fastrand::Rng::with_seed(putter as u64);
    for round in 0..PUTS {
        let name = |number| format!("p{putter}-{round}-{number}");
        let messages = (0..MESSAGES).map(|number| late(&mut dice, &name(number)));
        let answers = hold.put(messages.collect(), at(20)).await.unwrap();
        assert_eq!(answers, vec![Put::New; MESSAGES]);
    }
    left.fetch_sub(1, Ordering::SeqCst);
}

type Delivered = Arc<Mutex<BTreeMap<String, u32>>>;

async fn drain(hold: Arc<ShelfHold>, drainer: usize, left: Arc<AtomicUsize>, out: Delivered) {
    let mut dice = fastrand::Rng::with_seed(100 + drainer as u64);
    let lane: Lane = lane();
    loop {
        let putting = left.load(Ordering::SeqCst) > 0;
        let leased = lend(&*hold, &lane, at(20), 40).await.unwrap();
        if leased.is_empty() && !putting && totals(&*hold).await == (0, 0, 0) {
            return;
        }
        let mut settlements = Vec::new();
        for loan in &leased {
            let again = dice.u8(..4) == 0;
            let verdict = match again {
                true => Verdict::Defer {
                    due: past(&mut dice),
                    attempted: true,
                },
                false => Verdict::Done(End::Delivered),
            };
            if !again {
                let name = loan.held.message.id.as_str().to_owned();
                *out.lock().unwrap().entry(name).or_default() += 1;
            }
            let token = loan.token;
            settlements.push(Settle { token, verdict });
        }
        let answers = hold.settle(settlements, at(20)).await.unwrap();
        assert_eq!(answers, vec![Settled::Yes; leased.len()]);
    }
}

/// The first driver of this store's prototype lost some messages of every run: a retry was written
/// behind the place up to which its shelf had been read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_puts_and_retries_are_never_behind_a_cursor() {
    let disk = SimDisk::new();
    let hold = Arc::new(open(&disk));
    let left = Arc::new(AtomicUsize::new(PUTTERS));
    let out = Delivered::default();
    let mut tasks = Vec::new();
    for putter in 0..PUTTERS {
        let task = put_all(Arc::clone(&hold), putter, Arc::clone(&left));
        tasks.push(tokio::spawn(task));
    }
    for drainer in 0..DRAINERS {
        let (left, out) = (Arc::clone(&left), Arc::clone(&out));
        tasks.push(tokio::spawn(drain(Arc::clone(&hold), drainer, left, out)));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let out = out.lock().unwrap();
    assert_eq!(out.len(), PUTTERS * PUTS * MESSAGES);
    assert!(out.values().all(|times| *times == 1), "delivered twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_put_at_once_is_stored_once_while_logs_are_sealed() {
    let disk = SimDisk::new();
    let hold = Arc::new(open(&disk));
    let ids = 400;
    let mut tasks = Vec::new();
    for putter in 0..4 {
        let hold = Arc::clone(&hold);
        tasks.push(tokio::spawn(async move {
            let mut dice = fastrand::Rng::with_seed(putter);
            let mut order: Vec<usize> = (0..ids).collect();
            dice.shuffle(&mut order);
            let mut new = Vec::new();
            for some in order.chunks(10) {
                let name = |number: &usize| format!("m{number}");
                let messages = some.iter().map(|number| late(&mut dice, &name(number)));
                let answers = hold.put(messages.collect(), at(20)).await.unwrap();
                let fresh = some.iter().zip(answers).filter(|(_, put)| *put == Put::New);
                new.extend(fresh.map(|(number, _)| *number));
            }
            new
        }));
    }
    let mut new = Vec::new();
    for task in tasks {
        new.extend(task.await.unwrap());
    }
    new.sort_unstable();
    assert_eq!(new, (0..ids).collect::<Vec<_>>(), "each answers New once");
    assert_eq!(totals(&*hold).await, (ids as u64, 0, 0));
    recount(&*hold).await;
}

/// Ids that are forgotten and put again, by several at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_put_again_by_many_after_the_horizon_is_stored_once() {
    let disk = SimDisk::new();
    let hold = Arc::new(open(&disk));
    let mut dice = fastrand::Rng::with_seed(5);
    for round in 0..20 {
        let now = at(20) + (HORIZON + HORIZON) * round + SignedDuration::from_mins(1);
        let message = late(&mut dice, "again");
        let puts = (0..4).map(|_| hold.put(vec![message.clone()], now));
        let answers = futures_util::future::join_all(puts).await;
        let new = answers
            .iter()
            .filter(|put| put.as_ref().unwrap()[0] == Put::New);
        assert_eq!(new.count(), 1, "round {round}: {answers:?}");
        let leased = lend(&*hold, &lane(), now, 10).await.unwrap();
        assert_eq!(leased.len(), 1);
        let (token, verdict) = (leased[0].token, Verdict::Done(End::Delivered));
        hold.settle(vec![Settle { token, verdict }], now)
            .await
            .unwrap();
        if round % 3 == 0 {
            hold.sweep(now).await.unwrap();
        }
    }
    let found = hold.find(&[id("again")]).await.unwrap();
    assert!(found[0].is_some());
}

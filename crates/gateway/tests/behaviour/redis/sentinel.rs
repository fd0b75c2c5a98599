//! Under Sentinels: masters are killed and stopped, and the hold goes on by itself.

use std::sync::Arc;
use std::time::Duration;

use nightgate::clock::{Clock, SystemClock};
use nightgate::consent::redis::RedisBook;
use nightgate::consent::{Act, ConsentBook, ConsentEvent};
use nightgate::error::Kind as Of;
use nightgate::hold::redis::RedisHold;
use nightgate::hold::{HoldStore, Lane, Put};
use nightgate::receipt::redis::RedisLog;
use nightgate::receipt::{Event, Receipt, ReceiptLog, Subject};
use nightgate::redis::{Durability, Mode, Redis, RedisOptions};
use nightgate::release::budget::redis::RedisBudget;
use nightgate::release::budget::{Allowance, Budget};
use nightgate::release::limiter::Pace;
use nightgate::release::skew::SharedClock;
use nightgate::secret::Secret;
use nightgate_core::{RecipientKey, Scope};

use super::ledger::{Ledger, fails, lend, pause, until_answered};
use super::server::Kind;
use super::topology::{MASTER, PASSWORD, SENTINEL_PASSWORD, Sentinels};
use super::world::open;
use crate::world::*;

/// Longest time for a call here.
const TIMEOUT: Duration = Duration::from_secs(1);

fn options(set: &Sentinels, who: &str, replicas: u32) -> RedisOptions {
    let mut options = RedisOptions::single(Secret::new(set.url(who)));
    options.mode = Mode::Sentinel {
        master: MASTER.to_owned(),
    };
    options.replicas.count = replicas;
    options.timeout = TIMEOUT;
    options
}

/// All that else stands on the same servers.
struct Rest {
    book: RedisBook,
    log: RedisLog,
    allowance: Box<dyn Allowance>,
    clock: Arc<dyn Clock>,
    redis: Redis,
}

impl Rest {
    async fn open(options: &RedisOptions) -> Self {
        let redis = Redis::open(options).await.unwrap();
        let pace = Pace {
            rate: std::num::NonZeroU32::new(1_000),
            burst: std::num::NonZeroU32::new(1_000).unwrap(),
            slow_start: Duration::ZERO,
            slow_start_from: 0.1,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let lane = Lane::new("sms");
        Self {
            book: RedisBook::new(redis.clone()),
            log: RedisLog::open(redis.clone(), None).await.unwrap(),
            allowance: RedisBudget::new(redis.clone()).allowance(&lane, pace, &clock),
            clock,
            redis,
        }
    }

    /// All of it is used once more; before number `round` it must remember every other.
    async fn goes_on(&mut self, round: usize) {
        let who = |round: usize| RecipientKey::from_stored(&format!("+82100000000{round}"));
        let event = ConsentEvent {
            key: who(round),
            scope: Scope::General,
            act: Act::Withdraw,
            at: at(0),
            source: "test".to_owned(),
        };
        let (book, log) = (&self.book, &self.log);
        until_answered("record", || book.record(vec![event.clone()])).await;
        let all: Vec<RecipientKey> = (0..=round).map(who).collect();
        let consents = until_answered("look up", || book.look_up(&all)).await;
        let withdrawn = |consent: &nightgate_core::Consent| {
            consent.general.is_some_and(|it| it.withdrawn_at.is_some())
        };
        assert!(consents.iter().all(withdrawn), "{consents:?}");
        let name = |round: usize| id(&format!("r{round}"));
        let receipt = Receipt {
            at: at(0),
            event: Event::Attempted,
            subject: Subject {
                message: Some(name(round)),
                ..Subject::default()
            },
            attempt: 1,
            count: 1,
            until: None,
            reason: None,
            detail: None,
        };
        until_answered("append", || log.append(vec![receipt.clone()])).await;
        let all: Vec<_> = (0..=round).map(name).collect();
        let known = until_answered("known", || log.known(&all)).await;
        assert!(known.iter().all(|known| *known), "{known:?}");
        let mut given = 0;
        while given == 0 {
            let taken = self.allowance.take(10, 10, self.clock.monotonic()).await;
            given = match taken {
                Ok(leave) => leave.messages,
                Err(error) => {
                    assert_eq!(error.kind, Of::Unavailable, "{error}");
                    0
                }
            };
            pause(20).await;
        }
        until_answered("read the clock", || self.redis.read()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_killed_in_mid_hold_and_in_mid_drain_is_followed_and_nothing_is_lost() {
    let mut set = Sentinels::start(Kind::Redis, &[], false);
    let options = options(&set, "", 1);
    let hold = Arc::new(open(&options, 1).await);
    assert!(hold.checked().warnings.is_empty(), "{:?}", hold.checked());
    let mut rest = Rest::open(&options).await;
    rest.goes_on(0).await;
    let ledger = Arc::new(Ledger::default());
    let writer = ledger.writer(&hold);
    ledger.more_acknowledged(300).await;
    let first = set.master().unwrap();
    set.servers[first].kill();
    let second = set.followed(first);
    ledger.more_acknowledged(300).await;
    rest.goes_on(1).await;
    set.servers[first].restart();
    set.whole(2);
    ledger.more_acknowledged(100).await;
    ledger.stop();
    writer.await.unwrap();

    let other = Arc::new(open(&options, 1).await);
    let drains = [&hold, &other].map(|hold| {
        let (ledger, hold) = (Arc::clone(&ledger), Arc::clone(hold));
        tokio::spawn(async move { ledger.drain(&hold, at(0)).await })
    });
    ledger.until_ended(150).await;
    set.servers[second].kill();
    let third = set.followed(second);
    for drain in drains {
        drain.await.unwrap();
    }
    ledger.close(&hold).await;
    rest.goes_on(2).await;
    assert_ne!(third, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_goes_on_after_another_took_over_counts_only_for_who_waits_for_nobody() {
    let set = Sentinels::start(Kind::Valkey, &[], true);
    let (waits, trusts) = logins(&set).await;
    // Each has a connection to the first master, and says nothing on it meanwhile.
    let mut idle: Vec<RedisHold> = Vec::new();
    for options in [&waits, &waits, &trusts, &trusts] {
        idle.push(open(options, 1).await);
    }
    let hold = open(&waits, 1).await;
    let some = (0..50).map(|number| held(&format!("m{number}")));
    put(&hold, some.collect()).await;
    let first = set.master().unwrap();
    let zombie = &set.servers[first];
    zombie.signal("STOP");
    set.followed(first);
    let more = || vec![held("after")];
    until_answered("put", || hold.put(more(), at(0))).await;
    zombie.signal("CONT");
    zombie.ask(&["PING"]);
    let lone = |name: &str| vec![held(name)];
    tokio::join!(
        fails(idle[0].put(lone("who-waits"), at(0))),
        fails(lend(&idle[1], at(0), ALL)),
    );
    // What nobody waits for is answered, and lost, unless the server itself wants replicas.
    assert_eq!(idle[2].put(lone("lost"), at(0)).await.unwrap(), [Put::New]);
    zombie.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    fails(idle[3].put(lone("who-is-stopped"), at(0))).await;

    // They find the new one by themselves, where nothing of it happened.
    for (idle, name) in [(&idle[0], "who-waits"), (&idle[3], "who-is-stopped")] {
        let said = until_answered("put", || idle.put(lone(name), at(0))).await;
        assert_eq!(said, [Put::New], "{name}");
    }
    assert!(find(&hold, "lost").await.is_none());
    let lent = until_answered("lease", || lend(&hold, at(0), ALL)).await;
    assert_eq!(lent.len(), 53);
    let again = until_answered("lease", || lend(&idle[1], at(0), ALL)).await;
    assert!(again.is_empty(), "nothing is lent twice");
}

/// Options of who waits for a replica and of who does not. Sentinels and servers want passwords.
async fn logins(set: &Sentinels) -> (RedisOptions, RedisOptions) {
    let mut waits = options(set, &format!(":{PASSWORD}@"), 1);
    let refused = Redis::open(&waits).await.unwrap_err();
    assert_eq!(refused.kind, Of::Invalid, "Sentinels want a password");
    assert!(refused.to_string().contains("redis.sentinel"), "{refused}");
    waits.sentinel.password = Some(Secret::new(SENTINEL_PASSWORD));
    let mut trusts = waits.clone();
    trusts.replicas.count = 0;
    let warnings = async |options: &RedisOptions| {
        let redis = Redis::open(options).await.unwrap();
        redis.check(Durability::Strict).await.unwrap().warnings
    };
    let warned = warnings(&trusts).await;
    assert!(warned[0].contains("say `replicas = 1`"), "{warned:?}");
    assert!(warnings(&waits).await.is_empty());
    let master = &set.servers[set.master().unwrap()];
    for (replicas, warned) in [("1", 0), ("0", 1)] {
        master.ask(&["CONFIG", "SET", "min-replicas-to-write", replicas]);
        assert_eq!(warnings(&trusts).await.len(), warned);
    }
    (waits, trusts)
}

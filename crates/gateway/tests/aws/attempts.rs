//! Claims of hand-overs in DynamoDB, on an emulator.

use jiff::{SignedDuration, Timestamp};
use nightgate::error::Kind as Fault;
use nightgate::hold::Token;
use nightgate::release::attempts::dynamodb::DynamoAttempts;
use nightgate::release::attempts::memory::MemoryAttempts;
use nightgate::release::attempts::{Attempts, Claim, Fate, Trail, Try};
use nightgate_core::MessageId;

use crate::emulators::{Emulator, Kind};
use crate::proxy::{Fault as Proxied, Proxy};
use crate::tables::{TABLE, client, make_table, table};

const HORIZON: SignedDuration = SignedDuration::from_hours(72);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

/// The claim of a copy that was accepted at a second, on a loan of a minute from another.
fn claim(n: usize, copy: i64, seq: u64, from: i64) -> Claim {
    Claim {
        id: MessageId::new(&format!("m-{n}")).unwrap(),
        copy: at(copy),
        token: Token {
            seq,
            lease: u64::MAX - 3,
        },
        until: at(from + 60),
        lapsed: false,
    }
}

fn asks(claim: Claim) -> Try {
    let again = false;
    Try { claim, again }
}

async fn one(attempts: &dyn Attempts, asks: Try, now: i64) -> Trail {
    let mut answers = attempts.claim(&[asks], at(now)).await;
    answers.remove(0).unwrap()
}

/// A life of claims, ends and lapses by a dice; every answer as a word.
async fn life(processes: &[&dyn Attempts]) -> Vec<String> {
    let mut dice = fastrand::Rng::with_seed(11);
    let (mut told, mut ours) = (Vec::new(), Vec::<Claim>::new());
    for step in 0..400_i64 {
        let now = step * 7;
        let attempts = *dice.choice(processes.iter()).unwrap();
        if dice.u8(..3) == 0 && !ours.is_empty() {
            let claim = ours.swap_remove(dice.usize(..ours.len()));
            let fates = [Fate::Delivered, Fate::Rejected, Fate::Free, Fate::PutAside];
            let fate = dice.choice(fates).unwrap();
            attempts
                .conclude(vec![(claim, fate)], at(now))
                .await
                .unwrap();
            continue;
        }
        let mut claim = claim(dice.usize(..8), dice.i64(0..3), dice.u64(..40), now);
        claim.lapsed = dice.bool();
        if claim.lapsed {
            told.push(format!(
                "{:?}",
                attempts.trails(&[claim.clone()], at(now)).await.unwrap()
            ));
        }
        let again = dice.u8(..5) == 0;
        let trail = one(
            attempts,
            Try {
                claim: claim.clone(),
                again,
            },
            now,
        )
        .await;
        if trail == Trail::Clear {
            ours.push(claim);
        }
        told.push(format!("{step}: {trail:?}"));
    }
    told
}

#[tokio::test]
async fn a_table_tells_of_claims_what_memory_tells() {
    let emulator = Emulator::start(Kind::Ministack).await;
    let client = make_table(&emulator.url).await;
    let processes = [0, 1].map(|_| DynamoAttempts::new(&table(&client, TABLE), HORIZON));
    let memory = MemoryAttempts::new(HORIZON);
    let in_table = life(&[&processes[0], &processes[1]]).await;
    assert_eq!(in_table, life(&[&memory, &memory]).await);
    let clear = in_table
        .iter()
        .filter(|told| told.contains("Clear"))
        .count();
    assert!(
        clear > 20 && clear < in_table.len() - 20,
        "it says both: {clear}"
    );
}

#[tokio::test]
async fn of_many_processes_one_claims_each_message() {
    let emulator = Emulator::start(Kind::Ministack).await;
    let client = make_table(&emulator.url).await;
    let claimed = (0..6_u64).map(|process| {
        let attempts = DynamoAttempts::new(&table(&client, TABLE), HORIZON);
        async move {
            let claims = (0..50).map(|n| asks(claim(n, process as i64, process * 100, 0)));
            let answers = attempts.claim(&claims.collect::<Vec<_>>(), at(1)).await;
            let mine = |answer: &nightgate::error::Result<Trail>| match answer {
                Ok(Trail::Clear) => 1_u32,
                Ok(Trail::Running { until }) if *until == at(60) => 0,
                other => panic!("{other:?}"),
            };
            answers.iter().map(mine).collect::<Vec<_>>()
        }
    });
    let claimed = futures_util::future::join_all(claimed.collect::<Vec<_>>()).await;
    for n in 0..50 {
        let winners: u32 = claimed.iter().map(|mine| mine[n]).sum();
        assert_eq!(winners, 1, "message {n}");
    }
}

#[tokio::test]
async fn a_thousand_messages_cost_a_write_each_before_and_a_fortieth_of_a_request_after() {
    let emulator = Emulator::start(Kind::Ministack).await;
    make_table(&emulator.url).await;
    let proxy = Proxy::start(&emulator.url).await;
    let attempts = DynamoAttempts::new(&table(&client(&proxy.url), TABLE), HORIZON);
    let claims: Vec<Claim> = (0..1000).map(|n| claim(n, 0, n as u64, 0)).collect();
    let tries: Vec<Try> = claims.iter().cloned().map(asks).collect();
    for answer in attempts.claim(&tries, at(0)).await {
        assert_eq!(answer.unwrap(), Trail::Clear);
    }
    assert_eq!(proxy.count("PutItem"), (1000, 1000));
    let ended = claims.iter().cloned().map(|claim| (claim, Fate::Delivered));
    attempts.conclude(ended.collect(), at(1)).await.unwrap();
    assert_eq!(proxy.count("BatchWriteItem"), (40, 40));
    let told = attempts.trails(&claims, at(2)).await.unwrap();
    assert!(told.iter().all(|trail| *trail == Trail::Delivered));
    assert_eq!(proxy.count("BatchGetItem"), (10, 10));
    let others = ["UpdateItem", "GetItem", "TransactWriteItems", "Query"];
    assert!(others.iter().all(|operation| proxy.count(operation).0 == 0));
}

#[tokio::test]
async fn a_busy_table_is_asked_again_and_one_that_stays_busy_claims_nothing() {
    let emulator = Emulator::start(Kind::Ministack).await;
    make_table(&emulator.url).await;
    let proxy = Proxy::start(&emulator.url).await;
    let attempts = DynamoAttempts::new(&table(&client(&proxy.url), TABLE), HORIZON);
    let busy = Proxied::Error(400, "ThrottlingException", "ThrottlingException");
    proxy.script("PutItem", &[busy.clone(), busy.clone(), busy.clone()]);
    assert_eq!(
        one(&attempts, asks(claim(1, 0, 1, 0)), 0).await,
        Trail::Clear
    );
    assert_eq!(proxy.count("PutItem"), (4, 1));
    proxy.script("PutItem", &vec![busy; 100]);
    let answers = attempts.claim(&[asks(claim(2, 0, 2, 0))], at(0)).await;
    let fault = answers[0].as_ref().unwrap_err();
    assert_eq!(fault.kind, Fault::Unavailable);
    let text = fault.to_string();
    assert!(
        text.contains("ThrottlingException") && !text.contains("m-2"),
        "{text}"
    );
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_ours_and_not_somebody_elses() {
    let emulator = Emulator::start(Kind::Ministack).await;
    make_table(&emulator.url).await;
    let proxy = Proxy::start(&emulator.url).await;
    let through = || DynamoAttempts::new(&table(&client(&proxy.url), TABLE), HORIZON);
    let (attempts, other) = (through(), through());
    proxy.script("PutItem", &[Proxied::Lost]);
    assert_eq!(
        one(&attempts, asks(claim(1, 0, 1, 0)), 0).await,
        Trail::Clear
    );
    assert_eq!(proxy.count("PutItem"), (2, 2), "the SDK asked again");
    // Every answer is lost: nothing may leave, and the claim stands all the same.
    proxy.script("PutItem", &vec![Proxied::Lost; 3]);
    let answers = attempts.claim(&[asks(claim(2, 0, 2, 0))], at(0)).await;
    assert_eq!(answers[0].as_ref().unwrap_err().kind, Fault::Unavailable);
    let running = Trail::Running { until: at(60) };
    assert_eq!(one(&other, asks(claim(2, 5, 9, 0)), 1).await, running);
    // Whoever asked knows that it handed nothing over: the message need not be buried.
    assert_eq!(
        one(&attempts, asks(claim(2, 0, 3, 1)), 1).await,
        Trail::Clear
    );
    let running = Trail::Running { until: at(61) };
    assert_eq!(
        one(&attempts, asks(claim(2, 5, 4, 1)), 2).await,
        running,
        "once"
    );
}

#[tokio::test]
async fn ends_that_a_busy_table_leaves_out_are_told_again() {
    let emulator = Emulator::start(Kind::Ministack).await;
    make_table(&emulator.url).await;
    let proxy = Proxy::start(&emulator.url).await;
    let attempts = DynamoAttempts::new(&table(&client(&proxy.url), TABLE), HORIZON);
    let busy = Proxied::Error(
        400,
        "ProvisionedThroughputExceededException",
        "ProvisionedThroughputExceededException",
    );
    proxy.script("BatchWriteItem", &[busy]);
    let claims: Vec<Claim> = (0..30).map(|n| claim(n, 0, n as u64, 0)).collect();
    let ended = claims.iter().cloned().map(|claim| (claim, Fate::Rejected));
    attempts.conclude(ended.collect(), at(1)).await.unwrap();
    let told = attempts.trails(&claims, at(2)).await.unwrap();
    assert!(told.iter().all(|trail| *trail == Trail::Rejected));
}

#[tokio::test]
async fn a_table_that_is_missing_claims_nothing_and_says_where_to_look() {
    let emulator = Emulator::start(Kind::Ministack).await;
    let attempts = DynamoAttempts::new(&table(&client(&emulator.url), "elsewhere"), HORIZON);
    let answers = attempts.claim(&[asks(claim(1, 0, 1, 0))], at(0)).await;
    let text = answers[0].as_ref().unwrap_err().to_string();
    assert!(
        text.contains("`dynamodb.table`") && !text.contains("m-1"),
        "{text}"
    );
    assert!(attempts.trails(&[claim(1, 0, 1, 0)], at(0)).await.is_err());
    let ended = vec![(claim(1, 0, 1, 0), Fate::Delivered)];
    assert!(attempts.conclude(ended, at(0)).await.is_err());
}

#[tokio::test]
async fn what_is_put_aside_without_a_claim_is_nobodys() {
    let emulator = Emulator::start(Kind::Ministack).await;
    let client = make_table(&emulator.url).await;
    let attempts = DynamoAttempts::new(&table(&client, TABLE), HORIZON);
    let aside = vec![(claim(1, 0, 1, 0), Fate::PutAside)];
    attempts.conclude(aside, at(0)).await.unwrap();
    let told = attempts.trails(&[claim(1, 0, 1, 0)], at(1)).await.unwrap();
    assert_eq!(told, [Trail::Clear]);
    let trail = one(&attempts, asks(claim(1, 5, 2, 1)), 1).await;
    assert_eq!(trail, Trail::Clear);
}

//! The road taken apart: each step for all messages before the next begins, and the CPU it took.

use jiff::SignedDuration;
use nightgate::clock::Clock as _;
use nightgate::hold::{End, Lane, LeaseAsk, Leased, Pick, Settle, Verdict};
use nightgate::receipt::{Event, Receipt, Subject};
use nightgate_core::{Decision, Message, RecipientKey};

use crate::Outcome;
use crate::watch::{Spent, spent};
use crate::world::{LANE, World};

/// Messages in one call.
const BATCH: usize = 4_000;

fn say(step: &str, messages: u64, before: &Spent, after: &Spent) {
    let cpu = before.till(after);
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let nanos = |seconds: f64| seconds * 1e9 / messages as f64;
    println!(
        "  {step:26} {:>7.0} ns of CPU a message ({:.0} user, {:.0} system)",
        nanos(cpu.total()),
        nanos(cpu.user),
        nanos(cpu.system)
    );
}

pub(crate) async fn run(world: &World, messages: u64) -> Outcome<()> {
    println!("steps    {messages} messages, each step by itself");
    let (hold, log, decider) = (world.hold(), world.receipts()?, world.decider(None));
    let lane = Lane::new(LANE);
    let mut before = spent()?;
    let mut batches: Vec<Vec<Leased>> = Vec::new();
    loop {
        let leased = hold
            .lease(&LeaseAsk {
                lane: &lane,
                pick: Pick::Any,
                now: world.clock.now(),
                max: BATCH,
                ttl: SignedDuration::from_mins(30),
            })
            .await?;
        if leased.is_empty() {
            break;
        }
        batches.push(leased);
    }
    let next = |step: &str, before: &mut Spent| -> Outcome<()> {
        let after = spent()?;
        say(step, messages, before, &after);
        *before = spent()?;
        Ok(())
    };
    next("lease", &mut before)?;
    for again in ["decide, cold book", "decide, warm book"] {
        for batch in &batches {
            let asked: Vec<&Message> = batch.iter().map(|one| &one.held.message).collect();
            let keys: Vec<&RecipientKey> = batch.iter().map(|one| &one.held.key).collect();
            let (decisions, _) = decider.decide_now(&asked, &keys, &*world.clock).await;
            let all = decisions.all.iter();
            assert!(
                all.map(|one| &one.decision)
                    .all(|decision| matches!(decision, Decision::Send(_))),
                "everything may leave"
            );
        }
        next(again, &mut before)?;
    }
    for event in [Event::Attempted, Event::Delivered] {
        for batch in &batches {
            let now = world.clock.now();
            let receipts = batch.iter().map(|one| {
                let held = &one.held;
                let subject = Subject::of(&held.message, &held.key, &held.lane);
                Receipt {
                    attempt: 1,
                    ..Receipt::of(event, subject, now)
                }
            });
            log.append(receipts.collect()).await?;
        }
        next(&format!("{event} receipts (no reason)"), &mut before)?;
    }
    for batch in &batches {
        let done = batch.iter().map(|one| Settle {
            token: one.token,
            verdict: Verdict::Done(End::Delivered),
        });
        hold.settle(done.collect(), world.clock.now()).await?;
    }
    next("settle", &mut before)
}

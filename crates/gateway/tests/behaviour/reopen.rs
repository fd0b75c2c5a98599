//! What survives: a restart, `kill -9`, a disk that stops taking writes.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::SignedDuration;
use nightgate::hold::{HoldStore, Put, Scope, State};

use crate::backends::{self, Bench, on_each};
use crate::world::*;

/// Tells the child where to work, on which backend, and in which round.
const CHILD_DIR: &str = "NIGHTGATE_BEHAVIOUR_DIR";
const CHILD_BACKEND: &str = "NIGHTGATE_BEHAVIOUR_BACKEND";
const CHILD_ROUND: &str = "NIGHTGATE_BEHAVIOUR_ROUND";
const CHILD_TEST: &str = "reopen::the_child_that_writes_until_it_is_killed";

const ROUNDS: u64 = 6;
const PUT_GROUP: usize = 20;
/// Largest file the child may write in the test of a full disk, in blocks of 512 bytes.
const FILE_BLOCKS: u32 = 1_200;

#[tokio::test]
async fn everything_is_as_it_was_after_a_restart() {
    on_each(
        |can| can.durable && can.find,
        async |bench| {
            let hold = &*bench.hold;
            put(
                hold,
                (0..6)
                    .map(|number| of_campaign(&format!("m{number}"), "x"))
                    .collect(),
            )
            .await;
            let loans = lease(hold, at(0), 4).await;
            settle(hold, loans[0].token, done(), at(0)).await;
            settle(hold, loans[1].token, bury(), at(0)).await;
            settle(hold, loans[2].token, defer(at(40)), at(0)).await;
            hold.recall(&Scope::Id(id("m5")), at(0)).await.unwrap();
            let ids: Vec<_> = (0..6).map(|number| id(&format!("m{number}"))).collect();
            let before = (
                hold.find(&ids).await.unwrap(),
                hold.shelves(None, None).await.unwrap(),
            );

            bench.reopen().await;
            let hold = &*bench.hold;
            let after = (
                hold.find(&ids).await.unwrap(),
                hold.shelves(None, None).await.unwrap(),
            );
            assert_eq!(after, before);
            recount(hold).await;
            assert_eq!(
                hold.put(vec![held("m0")], at(0)).await.unwrap(),
                [Put::Duplicate]
            );
            let token = loans[3].token;
            let answer = settle(hold, token, done(), at(1)).await;
            assert_eq!(
                answer,
                nightgate::hold::Settled::Yes,
                "a loan outlives its store's restart"
            );
        },
    )
    .await;
}

#[tokio::test]
async fn what_was_acknowledged_before_kill_9_is_found_after_it() {
    on_each(
        |can| can.durable && can.find,
        async |bench| {
            let mut dice = fastrand::Rng::new();
            let (mut put_names, mut done_names) = (BTreeSet::new(), BTreeSet::new());
            for round in 0..ROUNDS {
                let lines = dice.usize(1..600);
                println!("killing after {lines} lines");
                bench.close();
                let said = run_child(&mut child(bench, round), Some(lines));
                put_names.extend(told(&said, "put "));
                done_names.extend(told(&said, "done "));
                // Lent and not done at the kill: lapsed long before the next round begins.
                bench.reopen().await;
                check_survivors(&*bench.hold, &put_names, &done_names).await;
            }
            assert!(
                put_names.len() > PUT_GROUP,
                "the child was killed before it wrote anything"
            );
        },
    )
    .await;
}

#[tokio::test]
async fn a_disk_that_takes_no_more_poisons_and_loses_nothing_acknowledged() {
    on_each(
        |can| can.durable && can.files,
        async |bench| {
            // The shell limits the size of files, so that a real write really fails.
            let limited = child(bench, 0);
            let mut command = Command::new("sh");
            let script = format!("ulimit -f {FILE_BLOCKS}; trap '' XFSZ; exec \"$0\" \"$@\"");
            command
                .arg("-c")
                .arg(script)
                .arg(limited.get_program())
                .args(limited.get_args());
            command.envs(
                limited
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
            bench.close();
            let said = run_child(&mut command, None);
            assert_eq!(
                told(&said, "failed "),
                ["Poisoned"],
                "the write that failed"
            );
            assert_eq!(
                told(&said, "then "),
                ["Poisoned"],
                "and everything after it"
            );
            let put_names: BTreeSet<_> = told(&said, "put ").into_iter().collect();
            assert!(put_names.len() > PUT_GROUP);
            bench.reopen().await;
            let done_names = told(&said, "done ").into_iter().collect();
            check_survivors(&*bench.hold, &put_names, &done_names).await;
            put(&*bench.hold, vec![held("after")]).await;
        },
    )
    .await;
}

async fn check_survivors(
    hold: &dyn HoldStore,
    put_names: &BTreeSet<String>,
    done_names: &BTreeSet<String>,
) {
    for name in put_names {
        let found = find(hold, name).await;
        if found.is_none() && !hold.capability().ended {
            // Its road has ended, which only its id can tell now.
            let again = hold.put(vec![held(name)], at(ROUNDS as i64)).await.unwrap();
            assert_eq!(
                again,
                [Put::Duplicate],
                "{name} was acknowledged and is lost"
            );
            continue;
        }
        let found = found.unwrap_or_else(|| panic!("{name} was acknowledged and is lost"));
        let body = &found.held.message.body;
        if done_names.contains(name) {
            assert_eq!(found.state, State::Delivered, "{name} would be sent twice");
        } else if matches!(found.state, State::Held | State::Leased) {
            assert_eq!(**body, *format!("body of {name}").as_bytes());
        } else {
            // Settled, and killed before it could say so.
            assert_eq!((found.state, body.len()), (State::Delivered, 0), "{name}");
        }
    }
    recount(hold).await;
}

fn child(bench: &Bench, round: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", CHILD_TEST, "--ignored", "--nocapture"]);
    command
        .env(CHILD_DIR, bench.data())
        .env(CHILD_BACKEND, bench.backend.name);
    command.env(CHILD_ROUND, round.to_string());
    command
}

/// Runs a child, kills it after so many lines, and returns all that it said.
fn run_child(command: &mut Command, lines: Option<usize>) -> Vec<String> {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut said = Vec::new();
    for line in output.lines() {
        said.push(line.unwrap());
        if Some(said.len()) == lines {
            child.kill().unwrap(); // SIGKILL; what is in the pipe was acknowledged too
        }
    }
    child.wait().unwrap();
    said
}

/// What a child said after `word`. The test harness may write its own before it, in the same line.
fn told(said: &[String], word: &str) -> Vec<String> {
    let after = |line: &String| {
        line.split_once(&format!("@{word}"))
            .map(|(_, it)| it.to_owned())
    };
    said.iter().filter_map(after).collect()
}

#[tokio::test]
#[ignore = "the tests above start it in a process of its own"]
async fn the_child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let name = std::env::var(CHILD_BACKEND).unwrap();
    let round: i64 = std::env::var(CHILD_ROUND).unwrap().parse().unwrap();
    let backend = backends::ALL
        .iter()
        .find(|backend| backend.name == name)
        .unwrap();
    let hold = (backend.open)(Path::new(&dir).to_owned()).await;
    if let Err(error) = write(&*hold, round).await {
        println!("@failed {:?}", error.kind);
        // Large, so that it cannot fit where the write before it did not: another handle on the
        // same file is not poisoned yet and meets the disk by itself.
        let mut then = held("then");
        then.message.body = vec![0; nightgate_core::message::BODY_MAX_BYTES].into();
        println!(
            "@then {:?}",
            hold.put(vec![then], at(0)).await.unwrap_err().kind
        );
    }
}

/// Puts, leases and settles for ever; says what was acknowledged, once it was.
async fn write(hold: &dyn HoldStore, round: i64) -> nightgate::error::Result<()> {
    // Within the horizon of the first round, so that its ends are still known in the last.
    let now = at(0) + SignedDuration::from_mins(round);
    let lane = lane();
    let ask = nightgate::hold::LeaseAsk {
        lane: &lane,
        pick: nightgate::hold::Pick::Any,
        now,
        max: 7,
        ttl: SignedDuration::from_secs(30),
    };
    for number in 0.. {
        let name = |index| format!("r{round}-{number}-{index}");
        let messages: Vec<_> = (0..PUT_GROUP).map(|index| held(&name(index))).collect();
        hold.put(messages, now).await?;
        (0..PUT_GROUP).for_each(|index| println!("@put {}", name(index)));
        let loans = hold.lease(&ask).await?;
        let settle = |token| nightgate::hold::Settle {
            token,
            verdict: done(),
        };
        hold.settle(loans.iter().map(|loan| settle(loan.token)).collect(), now)
            .await?;
        loans
            .iter()
            .for_each(|loan| println!("@done {}", loan.held.message.id));
    }
    Ok(())
}

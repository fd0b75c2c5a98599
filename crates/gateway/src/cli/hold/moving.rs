//! `nightgate hold move`: from one store to another.

use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::cli::{Common, Done, EXIT_OK, EXIT_PARTIAL, Failure, out, shown, stores};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, HoldKind};
use crate::hold::HoldStore;
use crate::hold::moving::{self, Moved};
use crate::release::attempts::receipts::unsent;

/// Every gateway has seen a stop so long after it was set: it looks once a second.
const SEEN_AFTER: SignedDuration = SignedDuration::from_secs(2);
/// How often loans are counted while they are waited for.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_millis(500);
/// Walks through the old hold, for what a gateway takes in meanwhile.
const WALKS_MAX: usize = 10;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate hold move --from shelf --to redis
  nightgate hold move --from redis --to shelf --wait 10m --json
Everything on the old hold is stopped first, and stays so; stops of lanes are carried over. Then
each message is copied, and taken back from the old hold once the new one has it: ended at any
point and run again, nothing is lost or doubled. What is on loan is waited for; what does not come
back, what is buried, and what was lent once without a receipt that it did not go, stays behind and
is told: let the old gateway end it, or kick or recall it, and move again. Ids of messages that have
ended are not carried over, nor counts of attempts.
Afterwards set `hold.store` to the new one and start the gateway. Exit code 3: something stayed.")]
pub(super) struct Move {
    /// The old store: shelf, sqlite, redis, mongodb
    #[arg(long, value_name = "STORE")]
    from: String,
    /// The new one: shelf, sqlite, redis, mongodb, sqs
    #[arg(long, value_name = "STORE")]
    to: String,
    /// How long to wait for what is on loan
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    wait: SignedDuration,
}

/// What was done, in JSON.
#[derive(Serialize)]
struct Line<'a> {
    from: &'a str,
    to: &'a str,
    #[serde(flatten)]
    moved: Moved,
    /// Stops that are in force on the new hold now.
    stops: usize,
}

impl Move {
    pub(super) async fn run(self, common: &Common) -> Done {
        let config = common.load()?.config;
        let (from, to) = (kind(&self.from)?, kind(&self.to)?);
        if from == to {
            return Err(Failure::usage("--from and --to name the same store"));
        }
        let clock = SystemClock::default();
        let old = stores::hold_in(&config, from, true).await?;
        let new = stores::hold_in(&config, to, false).await?;
        let carried = moving::stop(&*old, &*new, clock.now()).await?;
        clock.sleep_until(later(clock.now(), SEEN_AFTER)).await;
        let until = later(clock.now(), self.wait);
        wait_for_loans(&*old, &clock, until).await?;
        let moved = all_walks(&old, &*new, &config, &clock).await?;
        let line = Line {
            from: from.as_str(),
            to: to.as_str(),
            moved,
            stops: carried.len(),
        };
        say(&line, common.json)?;
        Ok(match moved.left() + moved.lent {
            0 => EXIT_OK,
            _ => EXIT_PARTIAL,
        })
    }
}

fn kind(name: &str) -> Result<HoldKind, Failure> {
    let outlives = |kind: &HoldKind| *kind != HoldKind::Memory;
    let mut known = HoldKind::ALL.into_iter().filter(outlives);
    known.find(|kind| kind.as_str() == name).ok_or_else(|| {
        let names = HoldKind::ALL.into_iter().filter(outlives);
        let names: Vec<&str> = names.map(HoldKind::as_str).collect();
        let names = names.join(", ");
        Failure::usage(format!("there is no store {name}: choose one of {names}"))
    })
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

async fn wait_for_loans(
    old: &dyn HoldStore,
    clock: &SystemClock,
    until: Timestamp,
) -> Result<(), Failure> {
    let bar = shown::bar(None, "{spinner} {msg}")?;
    loop {
        let shelves = old.shelves(None, None).await?;
        let lent: u64 = shelves.iter().map(|shelf| shelf.leased).sum();
        let now = clock.now();
        if lent == 0 || now >= until {
            bar.finish_and_clear();
            return Ok(());
        }
        bar.set_message(format!("{} on loan are waited for", shown::messages(lent)));
        bar.tick();
        clock.sleep_until(later(now, LOOK_AGAIN).min(until)).await;
    }
}

/// Walks until nothing more is found: a gateway may still take messages in.
async fn all_walks(
    old: &Arc<dyn HoldStore>,
    new: &dyn HoldStore,
    config: &Config,
    clock: &SystemClock,
) -> Result<Moved, Failure> {
    let shelves = old.shelves(None, None).await?;
    let held = shelves.iter().map(|shelf| shelf.held).sum();
    let template = "{bar:40} {pos}/{len} messages, {per_sec}, {eta} left";
    let bar: ProgressBar = shown::bar(Some(held), template)?;
    let mut all = Moved::default();
    for _ in 0..WALKS_MAX {
        let unsent = async |ids: Vec<_>| match stores::filed(config).await {
            Ok(receipts) => unsent(&*receipts, &ids).await,
            // None were ever filed, or they are elsewhere: nobody can say so.
            Err(_) => Ok(vec![false; ids.len()]),
        };
        let seen = |seen| bar.inc(seen);
        let walked = moving::walk(&**old, new, clock.now(), unsent, seen).await?;
        let (moved, known, lent) = (all.moved, all.known, all.lent);
        // What stays is what the last walk met.
        all = walked;
        all.moved += moved;
        all.known += known;
        all.lent += lent;
        if walked.moved == 0 {
            break;
        }
        bar.set_length(bar.length().unwrap_or(0).max(bar.position()));
    }
    bar.finish_and_clear();
    Ok(all)
}

fn say(line: &Line<'_>, json: bool) -> Result<(), Failure> {
    if json {
        return out::say_json(line);
    }
    let Line {
        from,
        to,
        moved,
        stops,
    } = line;
    let count = shown::messages(moved.moved);
    out::say(&format!("{count} moved from {from} to {to}"))?;
    let stays = [
        (
            moved.on_loan,
            "on loan: run the old gateway until they are settled",
        ),
        (
            moved.buried,
            "buried: kick or recall them (`nightgate hold kick`)",
        ),
        (
            moved.ended,
            "known to the new hold, where they ended: look at their receipts",
        ),
        (
            moved.lapsed,
            "lent before, and no receipt says that they did not go: run the old gateway",
        ),
        (moved.full, "without room in the new hold: see its limits"),
        (moved.unreadable, "unreadable: see `nightgate hold verify`"),
    ];
    for (count, why) in stays.into_iter().filter(|(count, _)| *count > 0) {
        let count = shown::messages(count);
        out::say(&format!("stays in {from}: {count} {why}; then move again"))?;
    }
    if moved.lent > 0 {
        let count = shown::messages(moved.lent);
        out::complain(&format!(
            "{count} lent by a gateway that did not see the stop: look at their receipts"
        ));
    }
    if *stops > 0 {
        let stops = shown::counted(*stops as u64, "stop");
        out::say(&format!(
            "{stops} carried over; `nightgate lanes` shows them"
        ))?;
    }
    out::say(&format!(
        "{from} stays stopped; set `hold.store` to \"{to}\" and start the gateway"
    ))
}

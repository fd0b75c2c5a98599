//! `nightgate drain`: releases all that is due, then exits. What the original calls the batch job.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};

use super::process::{interrupted, start_log};
use super::road::Road;
use super::{Common, Done, EXIT_OK, EXIT_PARTIAL, Failure, out};
use crate::clock::{Clock, SystemClock};
use crate::hold::HoldStore;
use crate::release::Tick;

/// How often a drain looks whether what others have on loan has come back.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// A little more than the loans of others run: so much later they have come back for sure.
const LOANS_SLACK: SignedDuration = SignedDuration::from_secs(5);
/// How long a drain waits for the last alarms to be delivered.
const LAST_ALARMS: Duration = Duration::from_secs(10);

/// Release everything that is due, inside the rules, then exit.
#[derive(Debug, Args)]
pub struct Drain {
    /// Wait for messages whose due is at most so far ahead, such as back-offs ("10m")
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    wait: SignedDuration,
    /// The store to drain, like --set hold.store=STORE: "sqs", "shelf" or "sqlite"
    #[arg(long, value_name = "STORE")]
    hold: Option<String>,
}

impl Drain {
    pub(super) async fn run(self, common: &Common) -> Done {
        let mut common = common.clone();
        let store = self.hold.iter().map(|store| format!("hold.store={store}"));
        common.set.extend(store);
        let loaded = common.load()?;
        start_log(&loaded.config);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let road = Road::open(&loaded.config, Arc::clone(&clock), fastrand::Rng::new()).await?;
        let until = clock.now().checked_add(self.wait).unwrap_or(Timestamp::MAX);
        let loans = loaded.config.release.lease_ttl + LOANS_SLACK;
        let bar = bar(&*road.hold, clock.now()).await?;
        let total = drain(&road, until, loans, &bar, common.json).await;
        bar.finish_and_clear();
        road.alerts.flush(LAST_ALARMS).await;
        let total = total?;
        report(&total, common.json)?;
        Ok(if total.remaining + total.on_loan + total.buried > 0 {
            EXIT_PARTIAL
        } else {
            EXIT_OK
        })
    }
}

/// Ticks until nothing is due at or before `until`. What others have on loan is waited for: a run
/// that was killed may have lost it, and then it comes back when its loans end, within `loans`.
async fn drain(
    road: &Road,
    until: Timestamp,
    loans: SignedDuration,
    bar: &ProgressBar,
    json: bool,
) -> Result<Tick, Failure> {
    let mut total = Tick::default();
    let mut moved_at = road.clock.now();
    let interrupted = interrupted();
    tokio::pin!(interrupted);
    loop {
        let tick = road.releaser.tick().await?;
        total.add(&tick);
        total.remaining = tick.remaining;
        total.on_loan = tick.on_loan;
        total.wake = tick.wake;
        let now = road.clock.now();
        if tick.moved() {
            moved_at = now;
        }
        bar.inc(tick.delivered + tick.refused + tick.expired + tick.rejected + tick.buried);
        if json && tick.moved() {
            out::say_json(&tick)?;
        }
        let lanes = road.releaser.status();
        let lanes = lanes.iter().filter(|lane| !lane.paused);
        let due: u64 = lanes.map(|lane| lane.due).sum();
        // More may have become due, and not every hold can count at the start.
        bar.set_length(bar.length().unwrap_or(0).max(bar.position() + due));
        let awaited = tick.on_loan > 0 && now.duration_since(moved_at) < loans;
        let wake = match tick.wake {
            Some(wake) if due > 0 || wake <= until => wake,
            _ if awaited => now.saturating_add(LOOK_AGAIN).unwrap_or(now),
            _ => return Ok(total),
        };
        tokio::select! {
            () = road.clock.sleep_until(wake) => {}
            () = &mut interrupted => return Ok(total),
        }
    }
}

async fn bar(hold: &dyn HoldStore, now: Timestamp) -> Result<ProgressBar, Failure> {
    if !out::watched() {
        return Ok(ProgressBar::hidden());
    }
    let shelves = hold.shelves(None, Some(now)).await?;
    let due = shelves.iter().map(|shelf| shelf.held).sum();
    let style = "{bar:40} {pos}/{len} due messages, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(style)
        .map_err(|error| Failure::failed(format!("failed to draw a progress bar: {error}")))?;
    Ok(ProgressBar::new(due).with_style(style))
}

fn report(total: &Tick, json: bool) -> Result<(), Failure> {
    if json {
        return out::say_json(total);
    }
    out::say(&format!(
        "delivered {} · held again {} · refused {} · expired {} · rejected {} · unknown {} · \
         buried {} · still due {} · on loan to others {}",
        total.delivered,
        total.held,
        total.refused,
        total.expired,
        total.rejected,
        total.unknown,
        total.buried,
        total.remaining,
        total.on_loan
    ))?;
    if let Some(wake) = total.wake {
        out::say(&format!("next due {wake}"))?;
    }
    Ok(())
}

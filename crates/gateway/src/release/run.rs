//! The daemon's loop: one task a lane, woken by the gate, by a due shelf, or by the next look.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::lane::LaneReleaser;
use super::releaser::Releaser;
use crate::alert::desk::Alerts;
use crate::alert::text;
use crate::clock::Clock;
use crate::hold::{Damage, HoldStore};

/// How long a lane waits after its hold or its receipt log failed.
const AFTER_FAULT: SignedDuration = SignedDuration::from_secs(1);
/// How often the hold is asked what of it is damaged.
const DAMAGE_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// Runs every lane until `stop` turns true; returns when the ticks under way have ended.
pub async fn run(
    releaser: Arc<Releaser>,
    clock: Arc<dyn Clock>,
    woken: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
) {
    let mut tasks = tokio::task::JoinSet::new();
    for lane in releaser.lanes() {
        let (lane, clock) = (Arc::clone(lane), Arc::clone(&clock));
        tasks.spawn(run_lane(lane, clock, woken.clone(), stop.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

async fn run_lane(
    lane: Arc<LaneReleaser>,
    clock: Arc<dyn Clock>,
    mut woken: watch::Receiver<u64>,
    mut stop: watch::Receiver<bool>,
) {
    while !*stop.borrow() {
        woken.mark_unchanged();
        let wake = match lane.tick().await {
            Ok(tick) => tick.wake.unwrap_or(Timestamp::MAX),
            Err(fault) => {
                tracing::error!(lane = %lane.lane(), %fault, "failed to tick");
                clock
                    .now()
                    .saturating_add(AFTER_FAULT)
                    .unwrap_or(Timestamp::MAX)
            }
        };
        if wake <= clock.now() {
            // Even a lane that is never out of work lets others have the thread.
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = clock.sleep_until(wake) => {}
            changed = woken.changed() => {
                if changed.is_err() {
                    clock.sleep_until(wake).await;
                }
            }
            _ = stop.changed() => {}
        }
    }
}

/// Raises an alarm when more of the hold's files is found damaged, until `stop` turns true.
pub async fn watch_damage(
    hold: Arc<dyn HoldStore>,
    clock: Arc<dyn Clock>,
    alerts: Alerts,
    mut stop: watch::Receiver<bool>,
) {
    let mut known = Damage::default();
    while !*stop.borrow() {
        let now = clock.now();
        match hold.damage().await {
            Ok(damage) if damage != known => {
                let (messages, files) = (damage.messages, &damage.copied_aside);
                let is_more = messages > known.messages || files.len() > known.copied_aside.len();
                if is_more {
                    alerts.raise(text::hold_damaged(messages, files, now));
                }
                known = damage;
            }
            Ok(_) => {}
            Err(fault) => tracing::warn!(%fault, "failed to look for damage of the hold"),
        }
        let next = now.saturating_add(DAMAGE_EVERY).unwrap_or(Timestamp::MAX);
        tokio::select! {
            () = clock.sleep_until(next) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Forgets old ids from time to time until `stop` turns true.
pub async fn sweep(
    hold: Arc<dyn HoldStore>,
    clock: Arc<dyn Clock>,
    every: SignedDuration,
    mut stop: watch::Receiver<bool>,
) {
    let mut next = clock.now();
    while !*stop.borrow() {
        let now = clock.now();
        if now >= next {
            match hold.sweep(now).await {
                Ok(forgotten) => tracing::debug!(forgotten, "swept the hold"),
                Err(fault) => tracing::error!(%fault, "failed to sweep the hold"),
            }
            next = now.checked_add(every).unwrap_or(Timestamp::MAX);
        }
        tokio::select! {
            () = clock.sleep_until(next) => {}
            _ = stop.changed() => {}
        }
    }
}

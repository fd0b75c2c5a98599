//! Stores on simulated disks.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use nightgate::clock::{Clock, SystemClock};
use nightgate::error::Result;
use nightgate::hold::shelf::{Options, ShelfHold};
use nightgate::hold::{End, HoldStore, Lane, LeaseAsk, Leased, Pick, Settle, Settled, Verdict};
use nightgate_log::disk::{Disk, SimDisk};

use crate::world::{HORIZON, TTL};

/// Looks at what upkeep did, a fiftieth of a second apart.
pub(crate) const PATIENCE: u32 = 3_000;

/// Small enough that a few puts fill one: seals, merges and drops happen all the time.
pub(crate) const SEGMENT_BYTES: u64 = 16 * 1024;

/// Small segments, a short horizon, and no space kept free.
pub(crate) fn options() -> Options {
    Options {
        horizon: HORIZON,
        keep_free: 0,
        segment_bytes: SEGMENT_BYTES,
        ..Options::default()
    }
}

/// The store on a simulated disk.
pub(crate) fn try_open(disk: &SimDisk) -> Result<ShelfHold> {
    ShelfHold::open_on(Arc::new(disk.clone()), options())
}

/// The same, which must open.
pub(crate) fn open(disk: &SimDisk) -> ShelfHold {
    try_open(disk).unwrap()
}

/// The files whose names begin so.
pub(crate) fn files(disk: &SimDisk, prefix: &str) -> Vec<String> {
    let mut names = disk.names().unwrap();
    names.retain(|name| name.starts_with(prefix));
    names
}

/// A number from the environment.
pub(crate) fn told(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap())
}

/// The seeds to run: one that was asked for, or so many.
pub(crate) fn seeds(default: u64) -> std::ops::Range<u64> {
    match told("NIGHTGATE_SHELF_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..told("NIGHTGATE_SHELF_SEEDS").unwrap_or(default),
    }
}

/// Text that does not compress to nothing.
pub(crate) fn noise(dice: &mut fastrand::Rng, len: usize) -> String {
    std::iter::repeat_with(|| dice.alphanumeric())
        .take(len)
        .collect()
}

/// Leases anything from a lane.
pub(crate) async fn lend(
    hold: &dyn HoldStore,
    lane: &Lane,
    now: Timestamp,
    max: usize,
) -> Result<Vec<Leased>> {
    lend_for(hold, lane, now, max, TTL).await
}

/// The same for a while of one's own.
pub(crate) async fn lend_for(
    hold: &dyn HoldStore,
    lane: &Lane,
    now: Timestamp,
    max: usize,
    ttl: SignedDuration,
) -> Result<Vec<Leased>> {
    let pick = Pick::Any;
    let ask = LeaseAsk {
        lane,
        pick,
        now,
        max,
        ttl,
    };
    hold.lease(&ask).await
}

/// Delivers loans.
pub(crate) async fn deliver(hold: &dyn HoldStore, leased: &[Leased], now: Timestamp) {
    let verdict = Verdict::Done(End::Delivered);
    let settle = |loan: &Leased| Settle {
        token: loan.token,
        verdict: verdict.clone(),
    };
    let answers = hold
        .settle(leased.iter().map(settle).collect(), now)
        .await
        .unwrap();
    assert_eq!(answers, vec![Settled::Yes; leased.len()]);
}

/// Waits for upkeep, which goes on beside the calls.
pub(crate) async fn until(mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..PATIENCE {
        if done().await {
            return;
        }
        soon().await;
    }
    panic!("upkeep did not do it within a minute");
}

/// Waits a moment.
pub(crate) async fn soon() {
    let clock = SystemClock::default();
    let soon = clock.now() + SignedDuration::from_millis(20);
    clock.sleep_until(soon).await;
}

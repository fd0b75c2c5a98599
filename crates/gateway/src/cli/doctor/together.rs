//! What several gateways on one Redis must have in common.

use std::sync::Arc;

use super::{Check, ill, well};
use crate::cli::beyond::Beyond;
use crate::cli::shown;
use crate::clock::Clock;
use crate::config::{Config, HoldKind, LaneConfig};
use crate::release::skew::{Skew, Standing};

/// A slice of leave is for a fifth of a second: a burst below that counts as so much.
const SLICES_A_SECOND: u32 = 5;

/// How the clocks stand, and whether the lanes can keep their pace together. Nothing where the hold
/// is not shared.
pub(super) async fn look(config: &Config, clock: &Arc<dyn Clock>, beyond: &Beyond) -> Vec<Check> {
    if config.hold.store != HoldKind::Redis {
        return Vec::new();
    }
    let mut checks = vec![clocks(config, clock, beyond).await];
    checks.extend(pace(&config.lanes));
    checks
}

async fn clocks(config: &Config, clock: &Arc<dyn Clock>, beyond: &Beyond) -> Check {
    const NAME: &str = "clocks";
    let shared = match beyond.redis.clock().await {
        Ok(shared) => shared,
        Err(fault) => return ill(NAME, fault.text, "look at `redis` in the configuration"),
    };
    let skew = Skew::new(config.redis.skew_max);
    let looked = match skew.look(&*shared, &**clock).await {
        Ok(looked) => looked,
        Err(error) => return ill(NAME, format!("failed to {error}"), "see the stores"),
    };
    let found = format!(
        "this clock is ahead of the server's by {} ms, give or take {} ms",
        looked.ahead.as_millis(),
        looked.error.as_millis()
    );
    match skew.standing(clock.monotonic()) {
        Standing::Together => well(NAME, found),
        Standing::Apart(_) | Standing::Unknown => ill(
            NAME,
            format!("{found}: nothing would leave here"),
            "run a time service (chrony, systemd-timesyncd) on every machine and the server",
        ),
    }
}

/// No fault: the pace is kept, with a larger burst than was asked for.
fn pace(lanes: &[LaneConfig]) -> Option<Check> {
    let small = |lane: &&LaneConfig| lane.rate > 0 && lane.burst < lane.rate / SLICES_A_SECOND;
    let small: Vec<&str> = lanes.iter().filter(small).map(|lane| &*lane.name).collect();
    if small.is_empty() {
        return None;
    }
    let lanes = shown::counted(small.len() as u64, "lane");
    let found = format!(
        "{lanes} with a burst below a fifth of the rate ({}): shared, it counts as a fifth",
        small.join(", ")
    );
    Some(Check {
        remedy: Some("set `lane.NAME.burst` to what the provider takes at once".to_owned()),
        ..well("pace", found)
    })
}

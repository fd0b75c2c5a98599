//! What several gateways on one hold must have in common.

use std::sync::Arc;

use super::{Check, ill, well};
use crate::cli::beyond::Beyond;
use crate::cli::shown;
use crate::cli::together::shared_clock;
use crate::clock::Clock;
use crate::config::{Config, HoldKind, LaneConfig};
use crate::release::skew::{Skew, Standing};

/// How the clocks stand, and whether the lanes can keep their pace together. Nothing where the hold
/// is not shared.
pub(super) async fn look(config: &Config, clock: &Arc<dyn Clock>, beyond: &Beyond) -> Vec<Check> {
    let clocks = clocks(config, clock, beyond).await;
    let pace = least_burst(config.hold.store).and_then(|least| pace(&config.lanes, least));
    clocks.into_iter().chain(pace).collect()
}

/// A burst of less than such a part of a second's worth counts as so much: a slice of leave must be
/// good for half of that. One in so many, and in words.
fn least_burst(store: HoldKind) -> Option<(u32, &'static str)> {
    match store {
        HoldKind::Redis => Some((5, "a fifth")),
        HoldKind::MongoDb => Some((2, "half")),
        HoldKind::Shelf | HoldKind::Sqlite | HoldKind::Sqs | HoldKind::Memory => None,
    }
}

async fn clocks(config: &Config, clock: &Arc<dyn Clock>, beyond: &Beyond) -> Option<Check> {
    const NAME: &str = "clocks";
    let (shared, max) = match shared_clock(config, beyond).await {
        Ok(shared) => shared?,
        Err(fault) => {
            let section = config.hold.store.as_str();
            let remedy = format!("look at `{section}` in the configuration");
            return Some(ill(NAME, fault.text, remedy));
        }
    };
    let skew = Skew::new(max);
    let looked = match skew.look(&*shared, &**clock).await {
        Ok(looked) => looked,
        Err(error) => return Some(ill(NAME, format!("failed to {error}"), "see the stores")),
    };
    let found = format!(
        "this clock is ahead of the server's by {} ms, give or take {} ms",
        looked.ahead.as_millis(),
        looked.error.as_millis()
    );
    Some(match skew.standing(clock.monotonic()) {
        Standing::Together => well(NAME, found),
        Standing::Apart(_) | Standing::Unknown => ill(
            NAME,
            format!("{found}: nothing would leave here"),
            "run a time service (chrony, systemd-timesyncd) on every machine and the server",
        ),
    })
}

/// No fault: the pace is kept, with a larger burst than was asked for.
fn pace(lanes: &[LaneConfig], (parts, part): (u32, &str)) -> Option<Check> {
    let small = |lane: &&LaneConfig| lane.rate > 0 && lane.burst < lane.rate / parts;
    let small: Vec<&str> = lanes.iter().filter(small).map(|lane| &*lane.name).collect();
    if small.is_empty() {
        return None;
    }
    let lanes = shown::counted(small.len() as u64, "lane");
    let found = format!(
        "{lanes} with a burst below {part} of the rate ({}): shared, it counts as {part}",
        small.join(", ")
    );
    Some(Check {
        remedy: Some("set `lane.NAME.burst` to what the provider takes at once".to_owned()),
        ..well("pace", found)
    })
}

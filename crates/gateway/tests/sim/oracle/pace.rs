//! In no stretch of time does a lane receive more than its pace allows.

use jiff::Timestamp;

use super::Violation;
use crate::drive::Night;
use crate::history::{What, Who};
use crate::knobs::{LANES, RELEASERS, Weather};

/// Checks every stretch between two receptions of each lane from each releaser.
pub(super) fn check(night: &Night, found: &mut Vec<Violation>) {
    if night.script.knobs.unpaced {
        return;
    }
    for releaser in 0..RELEASERS {
        for lane in 0..LANES.len() {
            check_lane(night, Who::Releaser(releaser), lane, found);
        }
    }
}

fn check_lane(night: &Night, who: Who, of: usize, found: &mut Vec<Violation>) {
    let knobs = &night.script.knobs;
    let mut starts: Vec<Timestamp> = Vec::new();
    let mut received: Vec<(Timestamp, usize)> = Vec::new();
    for entry in &night.history {
        match entry.what {
            What::Started { who: it } if it == who => starts.push(entry.at),
            What::Received { id, by, lane } if by == who && lane == of => {
                received.push((entry.at, id));
            }
            _ => {}
        }
    }
    // What one tick took may be stuck in a slow call while the bucket fills again, so a stretch
    // may begin with a burst that was granted before it. A fresh process has a fresh bucket.
    let bursts = if knobs.weather == Weather::Calm { 1 } else { 2 };
    for (first, &(from, _)) in received.iter().enumerate() {
        for (last, &(to, id)) in received.iter().enumerate().skip(first) {
            let fresh = starts.iter().filter(|at| from < **at && **at <= to).count();
            let millis = u128::try_from(to.duration_since(from).as_millis()).unwrap();
            let paced = (millis * u128::from(knobs.rate)).div_ceil(1000);
            let burst = u128::from(knobs.burst) * bursts * (fresh as u128 + 1);
            // A latency of up to 40 ms blurs both ends.
            let blur = 1 + u128::from(knobs.rate) / 10;
            if (last - first + 1) as u128 > paced + burst + blur {
                let many = last - first + 1;
                let text = format!("{many} messages in {millis} ms by {who:?} on lane {of}");
                found.push(Violation {
                    rule: "4 pace",
                    id: Some(id),
                    text,
                });
                return;
            }
        }
    }
}

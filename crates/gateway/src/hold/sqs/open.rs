//! Opening: every queue is looked for and looked at first, so that what is missing or set up wrong
//! is told in the daytime and not at eight in the morning.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;

use super::lane::{LaneQueues, Place};
use super::loans::Loans;
use super::marks::Reader;
use super::stops::Stops;
use super::{SqsHold, SqsHoldOptions, failed};
use crate::aws::queues::{BYTES_MAX, Look, Queue, Queues, RETENTION_MAX};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};

/// With fewer receives than so many before SQS moves a message to a dead-letter queue, probes and
/// lapses would do it, behind our back.
const RECEIVES_MIN: u32 = 1_000;
const DAY_SECONDS: u64 = 24 * 3600;

impl SqsHold {
    /// Opens the hold on queues that are there: of each lane `{prefix}-{lane}-ready`, `-wait`,
    /// `-wait-1` for the first of the openings and so on, and `-buried`.
    ///
    /// # Errors
    /// Of kind `Invalid` when a queue is missing, or would move messages away after a few receives:
    /// all of them at once, each with what to do. Of kind `Unavailable` when SQS does not answer.
    pub async fn open(
        queues: Arc<dyn Queues>,
        options: SqsHoldOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let mut faults = Vec::new();
        let mut lanes = BTreeMap::new();
        for lane in &options.lanes {
            let mut found = Vec::new();
            for name in names(&options, lane.as_str()) {
                let (queue, fault) = inspect(&*queues, &name).await?;
                faults.extend(fault);
                found.extend(queue);
            }
            if faults.is_empty() {
                lanes.insert(lane.clone(), lay_out(&options, lane, found));
            }
        }
        if !faults.is_empty() {
            let op = format!("open the hold on SQS: {}", faults.join("; "));
            return Err(Error::new(Kind::Invalid, "hold", op));
        }
        let now = clock.now();
        for place in lanes.values().flat_map(|lane| &lane.places) {
            place.note_opening(now);
        }
        let mut dice = fastrand::Rng::new();
        Ok(Self {
            queues,
            clock,
            pollers: options.pollers.max(1),
            lanes,
            loans: Mutex::new(Loans::new(dice.u64(1..u64::MAX))),
            marks: options.marks.map(Reader::new),
            stops: Stops::default(),
            chance: Mutex::new(dice),
            poison: AtomicU64::new(0),
            aged: AtomicU64::new(0),
        })
    }
}

/// The ready queue, the wait queues of the openings, the other wait queue, and the buried one.
fn names(options: &SqsHoldOptions, lane: &str) -> Vec<String> {
    let prefix = format!("{}-{lane}", options.prefix);
    let mut names = vec![format!("{prefix}-ready")];
    names.extend((1..=options.openings.len()).map(|number| format!("{prefix}-wait-{number}")));
    names.extend([format!("{prefix}-wait"), format!("{prefix}-buried")]);
    names
}

fn lay_out(
    options: &SqsHoldOptions,
    lane: &crate::hold::Lane,
    mut found: Vec<(Queue, Look)>,
) -> LaneQueues {
    let smallest = found.iter().map(|(_, look)| look.bytes_max).min();
    let every = SignedDuration::try_from(options.probe_every).unwrap_or(SignedDuration::MAX);
    let buried = found.pop();
    let last = found.len().saturating_sub(1);
    let openings = options.openings.iter().cloned().map(Some);
    let openings = std::iter::once(None).chain(openings);
    let openings = openings.chain(std::iter::repeat(None)).take(last + 1);
    let places = found.into_iter().zip(openings);
    let places = places.map(|((queue, _), opening)| Place::new(queue, opening, every));
    LaneQueues {
        lane: lane.clone(),
        places: places.collect(),
        buried: buried.map_or_else(|| Queue::new(""), |(queue, _)| queue),
        buried_count: Mutex::default(),
        bytes_max: smallest.unwrap_or(BYTES_MAX).min(BYTES_MAX),
        early: Mutex::default(),
    }
}

/// A queue with what it tells of itself, or what is wrong with it as a sentence fragment.
async fn inspect(
    queues: &dyn Queues,
    name: &str,
) -> Result<(Option<(Queue, Look)>, Option<String>)> {
    let found = queues.find(name).await;
    let found = found.map_err(|fault| failed(format!("find the SQS queue {name}"), fault))?;
    let Some(queue) = found else {
        let fault = format!(
            "the SQS queue `{name}` is not there, or may not be used: create a standard queue of \
             that name that keeps messages for 14 days"
        );
        return Ok((None, Some(fault)));
    };
    let look = queues.look(&queue).await;
    let look = look.map_err(|fault| failed(format!("look at the SQS queue {name}"), fault))?;
    if look.retention < RETENTION_MAX {
        tracing::warn!(
            queue = name,
            days = look.retention.as_secs() / DAY_SECONDS,
            "this SQS queue drops messages after less than 14 days; set its retention to 14 days"
        );
    }
    if look.bytes_max < BYTES_MAX {
        tracing::warn!(
            queue = name,
            bytes = look.bytes_max,
            "this SQS queue takes smaller messages than it could; set its maximum to 1 MiB"
        );
    }
    let fault = look.receives_max.filter(|max| *max < RECEIVES_MIN).map(|max| {
        format!(
            "the SQS queue `{name}` moves messages away after {max} receives, and asking whether \
             they are due counts as one: take its redrive policy away, or allow {RECEIVES_MIN}"
        )
    });
    Ok((Some((queue, look)), fault))
}

//! `put`.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::body::Letter;
use super::lane::LaneQueues;
use super::send::Entries;
use super::{SqsHold, failed};
use crate::aws::queues::{FaultKind, Outgoing};
use crate::error::Result;
use crate::hold::{Held, Put};

/// A message on its way into a queue.
struct Sent {
    /// Its place among those that were put.
    at: usize,
    due: Timestamp,
    message: Outgoing,
}

impl SqsHold {
    /// Sends each message to its queue. One that SQS can never hold answers `Full`; the others are
    /// sent all the same. When some cannot be sent the whole call fails, and what was sent is there
    /// twice once it is put again: SQS cannot tell (`dedupe`).
    pub(super) async fn put_all(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        let mut answers = vec![Put::New; messages.len()];
        let mut groups: BTreeMap<_, Vec<Sent>> = BTreeMap::new();
        for (at, held) in messages.into_iter().enumerate() {
            let lane = self.lane(&held.lane)?;
            let (due, (place, delay)) = (held.due, lane.place_of(held.due, now));
            let Some(message) = Letter::new(held).outgoing(lane.bytes_max, delay) else {
                answers[at] = Put::Full;
                continue;
            };
            let group = groups.entry((&lane.lane, place)).or_default();
            group.push(Sent { at, due, message });
        }
        let mut sends = Vec::new();
        for ((lane, place), group) in groups {
            sends.push(self.put_some(self.lane(lane)?, place, group, now));
        }
        for full in join_all(sends).await {
            for at in full? {
                answers[at] = Put::Full;
            }
        }
        Ok(answers)
    }

    /// Sends messages to one queue; says which of them SQS will not take.
    async fn put_some(
        &self,
        lane: &LaneQueues,
        place: usize,
        group: Vec<Sent>,
        now: Timestamp,
    ) -> Result<Vec<usize>> {
        let queue = &lane.places[place].queue;
        let mut sent = Vec::with_capacity(group.len());
        let mut messages = Vec::with_capacity(group.len());
        for Sent { at, due, message } in group {
            sent.push((at, due, message.delay));
            messages.push(message);
        }
        let answers = self.all(queue, Entries::Send(messages)).await;
        let (mut full, mut fault) = (Vec::new(), None);
        for ((at, due, delay), answer) in sent.into_iter().zip(answers) {
            match answer {
                Ok(()) => lane.sent(place, due, delay, now),
                Err(why) if why.kind == FaultKind::Rejected => {
                    // Mostly too large for a queue that was made smaller; it is said what it was.
                    tracing::warn!(%queue, fault = %why, "SQS turned a message away");
                    full.push(at);
                }
                Err(why) => fault = Some(why),
            }
        }
        match fault {
            Some(fault) => Err(failed(format!("send messages to the queue {queue}"), fault)),
            None => Ok(full),
        }
    }
}

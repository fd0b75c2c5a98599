//! The buried queue: reading it, and bringing back what a person looked at.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::body::Letter;
use super::lane::{LaneQueues, READY};
use super::send::Entries;
use super::{SqsHold, failed};
use crate::aws::queues::{Ask, BATCH_MAX};
use crate::error::Result;
use crate::hold::{Found, Held, Lane, Scope, State};

/// Buried messages are hidden for so long while they are read. Longer than reading takes, or they
/// come round again.
const HIDE: Duration = Duration::from_secs(900);
/// What is received by a short poll may be a part; a long one asks everywhere.
const WAIT: Duration = Duration::from_secs(1);
/// Most buried messages that are read in one call: as many as can be in flight, less a reserve.
const READ_MAX: usize = 100_000;

/// A buried message as it was received.
struct Buried {
    id: String,
    handle: String,
    /// `None`: it does not read.
    letter: Option<Letter>,
}

/// Messages read so far, to be shown again: their handles by their ids.
type Shown = HashMap<String, String>;

impl SqsHold {
    /// Sends what is buried of `scope` to the ready queues. Messages that do not read stay.
    pub(super) async fn bring_back(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        let mut kicked = 0;
        for lane in self.lanes.values() {
            if !matches!(scope, Scope::Lane(of) if *of != lane.lane) {
                let mut shown = Shown::new();
                let result = self.kick_lane(lane, scope, now, &mut shown).await;
                self.show(lane, shown).await;
                kicked += result?;
            }
        }
        Ok(kicked)
    }

    async fn kick_lane(
        &self,
        lane: &LaneQueues,
        scope: &Scope,
        now: Timestamp,
        shown: &mut Shown,
    ) -> Result<u64> {
        let (mut kicked, mut read) = (0, 0);
        while read < READ_MAX {
            let batch = self.read_buried(lane, BATCH_MAX, shown).await?;
            if batch.is_empty() {
                break;
            }
            read += batch.len();
            let mut back = Vec::new();
            for one in batch {
                match one.letter {
                    Some(letter) if is_within(&letter.held, scope) => {
                        shown.remove(&one.id);
                        back.push((one.id, one.handle, letter));
                    }
                    _ => {}
                }
            }
            kicked += self.send_back(lane, back, now, shown).await?;
        }
        Ok(kicked)
    }

    async fn send_back(
        &self,
        lane: &LaneQueues,
        back: Vec<(String, String, Letter)>,
        now: Timestamp,
        shown: &mut Shown,
    ) -> Result<u64> {
        let anew = |letter: &Letter| {
            let mut held = letter.held.clone();
            held.due = now;
            // It is shorter than it was: it says no why.
            let message = Letter::new(held).outgoing(lane.bytes_max, Duration::ZERO);
            message.unwrap_or_default()
        };
        let messages = back.iter().map(|(_, _, letter)| anew(letter)).collect();
        let queue = &lane.places[READY].queue;
        let (mut gone, mut fault) = (Vec::new(), None);
        let answers = self.all(queue, Entries::Send(messages)).await;
        for ((id, handle, _), answer) in back.into_iter().zip(answers) {
            match answer {
                Ok(()) => {
                    lane.sent(READY, now, Duration::ZERO, now);
                    gone.push(handle);
                }
                Err(why) => {
                    fault = Some(why);
                    shown.insert(id, handle);
                }
            }
        }
        let kicked = gone.len() as u64;
        lane.buried_changed();
        for answer in self.all(&lane.buried, Entries::Delete(gone)).await {
            fault = answer.err().or(fault);
        }
        let op = || format!("bring back all messages from the queue {}", lane.buried);
        fault.map_or(Ok(kicked), |fault| Err(failed(op(), fault)))
    }

    /// Up to `max` buried messages without their bodies.
    pub(super) async fn list_buried(&self, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for of in self.lanes.values() {
            if lane.is_none_or(|lane| *lane == of.lane) {
                let mut shown = Shown::new();
                let result = self.list_lane(of, max, &mut shown, &mut found).await;
                self.show(of, shown).await;
                result?;
            }
        }
        Ok(found)
    }

    async fn list_lane(
        &self,
        lane: &LaneQueues,
        max: usize,
        shown: &mut Shown,
        found: &mut Vec<Found>,
    ) -> Result<()> {
        while found.len() < max && shown.len() < READ_MAX {
            let most = (max - found.len()).min(BATCH_MAX);
            let batch = self.read_buried(lane, most, shown).await?;
            if batch.is_empty() {
                break;
            }
            for mut letter in batch.into_iter().filter_map(|one| one.letter) {
                letter.held.message.body = Bytes::new();
                found.push(Found {
                    held: letter.held,
                    state: State::Buried,
                    attempts: letter.attempts,
                    lapsed: false,
                    why: letter.why,
                });
            }
        }
        Ok(())
    }

    /// Some more buried messages, hidden from others; none when all were read.
    async fn read_buried(
        &self,
        lane: &LaneQueues,
        max: usize,
        shown: &mut Shown,
    ) -> Result<Vec<Buried>> {
        let ask = Ask {
            max,
            hide: HIDE,
            wait: WAIT,
        };
        let received = self.queues.receive(&lane.buried, &ask).await;
        let op = || format!("read the queue {}", lane.buried);
        let received = received.map_err(|fault| failed(op(), fault))?;
        let mut batch = Vec::new();
        for one in received {
            // One that comes round again can be shown by its latest handle alone.
            let known = shown.insert(one.id.clone(), one.handle.clone());
            if known.is_none() {
                let letter = Letter::read(&one.body).ok();
                let (id, handle) = (one.id, one.handle);
                batch.push(Buried { id, handle, letter });
            }
        }
        Ok(batch)
    }

    /// Makes buried messages visible again; where that fails they are soon by themselves.
    async fn show(&self, lane: &LaneQueues, shown: Shown) {
        let shown = shown.into_values().map(|handle| (handle, Duration::ZERO));
        self.all(&lane.buried, Entries::Hide(shown.collect())).await;
    }
}

fn is_within(held: &Held, scope: &Scope) -> bool {
    match scope {
        Scope::Id(id) => held.message.id == *id,
        Scope::Campaign(name) => held.message.campaign.as_ref() == Some(name),
        Scope::Recipient(key) => held.key == *key,
        Scope::Lane(lane) => held.lane == *lane,
    }
}

//! Stops, as tags of the ready queues: every process on these queues sees them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;

use super::lane::READY;
use super::{SqsHold, failed};
use crate::aws::queues::Queue;
use crate::error::Result;
use crate::hold::{Lane, Pause};

/// The tag of a lane that is paused: since when.
const PAUSED: &str = "nightgate-paused";
/// The tag of every lane while everything is stopped: since when.
const STOPPED: &str = "nightgate-stopped";
/// Tags are read again after so long, of monotonic time.
const READ_EVERY: Duration = Duration::from_secs(1);
/// The same while there is nothing that a stop could keep back.
const READ_EVERY_IDLE: Duration = Duration::from_secs(10);

/// The stops as they were read lately.
#[derive(Default)]
pub(super) struct Stops(Mutex<Option<(Duration, Vec<Pause>)>>);

impl SqsHold {
    pub(super) async fn all_stops(&self) -> Result<Vec<Pause>> {
        let mut kept = self.stops.0.lock().await;
        let monotonic = self.clock.monotonic();
        let every = match self.is_idle(self.clock.now()) {
            true => READ_EVERY_IDLE,
            false => READ_EVERY,
        };
        let fresh = |at: &Duration| monotonic.saturating_sub(*at) < every;
        if let Some((_, stops)) = kept.as_ref().filter(|(at, _)| fresh(at)) {
            return Ok(stops.clone());
        }
        let (mut stops, mut global) = (Vec::new(), None);
        for lane in self.lanes.values() {
            let tags = self.tags(&lane.places[READY].queue).await?;
            // A tag that was set by hand may say anything; it is a stop all the same.
            let since = |key| -> Option<Timestamp> {
                let text: &String = tags.get(key)?;
                Some(text.parse().unwrap_or(Timestamp::UNIX_EPOCH))
            };
            global = global.into_iter().chain(since(STOPPED)).min();
            stops.extend(since(PAUSED).map(|since| Pause {
                lane: Some(lane.lane.clone()),
                since,
            }));
        }
        if let Some(since) = global {
            stops.insert(0, Pause { lane: None, since });
        }
        *kept = Some((monotonic, stops.clone()));
        Ok(stops)
    }

    /// A stop that is set keeps its first instant. When this fails some lanes may be stopped and
    /// others not: set it again.
    pub(super) async fn stop(
        &self,
        lane: Option<&Lane>,
        paused: bool,
        now: Timestamp,
    ) -> Result<()> {
        let (key, lanes) = match lane {
            Some(lane) => (PAUSED, vec![self.lane(lane)?]),
            None => (STOPPED, self.lanes.values().collect()),
        };
        // Forgotten whatever comes of it, so that the next look sees what is there.
        let mut kept = self.stops.0.lock().await;
        *kept = None;
        for lane in lanes {
            let queue = &lane.places[READY].queue;
            let is_set = self.tags(queue).await?.contains_key(key);
            if is_set != paused {
                let value = paused.then(|| now.to_string());
                let tagged = self.queues.tag(queue, key, value.as_deref()).await;
                tagged.map_err(|fault| failed(format!("tag the queue {queue}"), fault))?;
            }
        }
        Ok(())
    }

    async fn tags(&self, queue: &Queue) -> Result<BTreeMap<String, String>> {
        let tags = self.queues.tags(queue).await;
        tags.map_err(|fault| failed(format!("read the tags of the queue {queue}"), fault))
    }
}

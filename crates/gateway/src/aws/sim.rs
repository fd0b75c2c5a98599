//! Queues in this process that behave as AWS documents SQS, in time that a test turns by hand; for
//! tests and for trying out. Nothing survives them.
//!
//! A long poll does not wait: time stands still meanwhile, so it answers what is there. What only
//! happens now and then in SQS ([`Noise`]) comes from a seeded dice, so that a run can be repeated.

mod check;
mod faults;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

pub use self::faults::{FaultPlan, Faults, Op};
use self::queue::{Moved, SimQueue};
use super::queues::{
    Answer, Ask, Attribute, BATCH_MAX, BYTES_MAX, Fault, FaultKind, IN_FLIGHT_MAX, Incoming, Look,
    Outgoing, Queue, Queues, RETENTION_MAX,
};
use crate::clock::{Clock, ManualClock};

/// What the addresses of simulated queues begin with. Nothing answers there.
const URL: &str = "https://sqs.invalid/000000000000/";
/// How long a received message is hidden unless a queue says otherwise, as in SQS.
const HIDE_DEFAULT: Duration = Duration::from_secs(30);

/// How a queue is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimOptions {
    /// How long it keeps a message.
    pub retention: Duration,
    /// How long a received message is hidden unless asked otherwise; only told by `look`.
    pub hide: Duration,
    /// Keeps the order of each group. Its name must end in `.fifo`.
    pub fifo: bool,
    /// A FIFO queue that tells messages apart by their bodies where they carry no deduplication id.
    pub by_content: bool,
    /// After so many receives a message is moved to the queue of this name.
    pub dead_letter: Option<(u32, String)>,
    /// Most messages received and not yet deleted.
    pub in_flight_max: u64,
    /// Most bytes of a message.
    pub bytes_max: usize,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            retention: RETENTION_MAX,
            hide: HIDE_DEFAULT,
            fifo: false,
            by_content: false,
            dead_letter: None,
            in_flight_max: IN_FLIGHT_MAX,
            bytes_max: BYTES_MAX,
        }
    }
}

/// What SQS is allowed to do and seldom does. Shares are in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    /// Share of messages that a short poll does not see, since it asks only some servers.
    pub unseen_percent: u8,
    /// Share of received messages that stay visible and are received twice.
    pub twice_percent: u8,
    /// Share of deletes that are answered well and forgotten: the message comes back.
    pub undeleted_percent: u8,
    /// Messages of standard queues come in any order.
    pub shuffled: bool,
    /// For so long the counts of `look` may be old.
    pub counts_lag: Duration,
}

/// A message in a simulated queue, as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimMessage {
    /// The id that it was given.
    pub id: String,
    /// What was sent.
    pub sent: Outgoing,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// From when on it can be received.
    pub visible_at: Timestamp,
    /// How often it was received.
    pub receives: u32,
}

/// Queues as SQS has them, in this process.
pub struct SimQueues {
    clock: Arc<ManualClock>,
    /// What is to go wrong.
    pub faults: Faults,
    world: Mutex<World>,
}

struct World {
    queues: BTreeMap<String, SimQueue>,
    noise: Noise,
    dice: fastrand::Rng,
    last_id: u64,
}

impl SimQueues {
    /// No queues yet, in the time of `clock`, without noise.
    #[must_use]
    pub fn new(clock: Arc<ManualClock>) -> Self {
        let world = World {
            queues: BTreeMap::new(),
            noise: Noise::default(),
            dice: fastrand::Rng::with_seed(0),
            last_id: 0,
        };
        Self {
            clock,
            faults: Faults::default(),
            world: Mutex::new(world),
        }
    }

    /// Makes a queue, or sets up anew one that is there; its messages stay.
    pub fn create(&self, name: &str, options: SimOptions) -> Queue {
        debug_assert_eq!(options.fifo, name.ends_with(".fifo"), "its name says it");
        let mut world = self.world();
        let queue = world.queues.entry(name.to_owned()).or_default();
        queue.options = options;
        Queue::new(&format!("{URL}{name}"))
    }

    /// Takes a queue away, with its messages.
    pub fn remove(&self, name: &str) {
        self.world().queues.remove(name);
    }

    /// From now on so much noise, by a dice that starts at `seed`.
    pub fn noise(&self, noise: Noise, seed: u64) {
        let mut world = self.world();
        world.noise = noise;
        world.dice = fastrand::Rng::with_seed(seed);
    }

    /// All messages of a queue in the order in which they were sent, whether they can be received
    /// or not; none of a queue that is not there.
    #[must_use]
    pub fn messages(&self, name: &str) -> Vec<SimMessage> {
        let now = self.clock.now();
        let mut world = self.world();
        let queue = world.queues.get_mut(name);
        queue.map(|queue| queue.messages(now)).unwrap_or_default()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One request: counted, failed if a test wants it so, and carried out. Others run in between,
    /// as they do on a network.
    async fn request<T>(&self, op: Op, run: impl FnOnce(&mut World) -> Answer<T>) -> Answer<T> {
        tokio::task::yield_now().await;
        match self.faults.take(op) {
            FaultPlan::Before(fault) => Err(fault),
            FaultPlan::After(fault) => {
                let _ = run(&mut self.world());
                Err(fault)
            }
            FaultPlan::Pass | FaultPlan::Entries(..) => run(&mut self.world()),
        }
    }

    /// The same for a request of several entries, of which some may fail.
    async fn entries<E, T>(
        &self,
        op: Op,
        entries: Vec<E>,
        whole: Option<Fault>,
        run: impl Fn(&mut World, E) -> Answer<T>,
    ) -> Vec<Answer<T>> {
        tokio::task::yield_now().await;
        let plan = self.faults.take(op);
        let wrong = match entries.len() {
            0 => return Vec::new(),
            count if count > BATCH_MAX => Some(rejected("TooManyEntriesInBatchRequest")),
            _ => whole,
        };
        let mut world = self.world();
        let one = |(place, entry): (usize, E)| match (&wrong, &plan) {
            (_, FaultPlan::Before(fault)) | (Some(fault), _) => Err(fault.clone()),
            (_, FaultPlan::Entries(which, fault)) if which.contains(&place) => Err(fault.clone()),
            (_, FaultPlan::After(fault)) => {
                let _ = run(&mut world, entry);
                Err(fault.clone())
            }
            _ => run(&mut world, entry),
        };
        entries.into_iter().enumerate().map(one).collect()
    }
}

impl World {
    fn queue(&mut self, queue: &Queue) -> Answer<&mut SimQueue> {
        let none = || Fault::new(FaultKind::Denied, format!("QueueDoesNotExist: {queue}"));
        self.queues.get_mut(queue.name()).ok_or_else(none)
    }

    fn send(&mut self, queue: &Queue, message: Outgoing, now: Timestamp) -> Answer<String> {
        let id = self.last_id + 1;
        let sent = self.queue(queue)?.send(message, id, now);
        self.last_id = id;
        sent
    }

    fn receive(&mut self, queue: &Queue, ask: &Ask, now: Timestamp) -> Answer<Vec<Incoming>> {
        check::ask(ask)?;
        let noise = self.noise;
        let mut dice = self.dice.fork();
        let mut moved = Moved::default();
        let received = self
            .queue(queue)?
            .receive(ask, now, &noise, &mut dice, &mut moved);
        for (name, message) in moved {
            if let Some(dead) = self.queues.get_mut(&name) {
                self.last_id += 1;
                dead.take_over(message, self.last_id);
            }
        }
        received
    }

    fn delete(&mut self, queue: &Queue, handle: &str, now: Timestamp) -> Answer<()> {
        let forgotten = self.dice.u8(..100) < self.noise.undeleted_percent;
        self.queue(queue)?.delete(handle, now, forgotten)
    }
}

#[async_trait]
impl Queues for SimQueues {
    async fn find(&self, name: &str) -> Answer<Option<Queue>> {
        let find = |world: &mut World| {
            let known = world.queues.contains_key(name);
            Ok(known.then(|| Queue::new(&format!("{URL}{name}"))))
        };
        self.request(Op::Find, find).await
    }

    async fn send(&self, queue: &Queue, messages: Vec<Outgoing>) -> Vec<Answer<String>> {
        let now = self.clock.now();
        let bytes: usize = messages.iter().map(Outgoing::bytes).sum();
        let too_long = (bytes > BYTES_MAX).then(|| rejected("BatchRequestTooLong"));
        let send = |world: &mut World, message| world.send(queue, message, now);
        self.entries(Op::Send, messages, too_long, send).await
    }

    async fn receive(&self, queue: &Queue, ask: &Ask) -> Answer<Vec<Incoming>> {
        let now = self.clock.now();
        let receive = |world: &mut World| world.receive(queue, ask, now);
        self.request(Op::Receive, receive).await
    }

    async fn delete(&self, queue: &Queue, handles: &[String]) -> Vec<Answer<()>> {
        let now = self.clock.now();
        let delete = |world: &mut World, handle: String| world.delete(queue, &handle, now);
        let handles = handles.to_vec();
        self.entries(Op::Delete, handles, None, delete).await
    }

    async fn hide(&self, queue: &Queue, handles: &[(String, Duration)]) -> Vec<Answer<()>> {
        let now = self.clock.now();
        let hide = |world: &mut World, (handle, by): (String, Duration)| {
            world.queue(queue)?.hide(&handle, by, now)
        };
        self.entries(Op::Hide, handles.to_vec(), None, hide).await
    }

    async fn look(&self, queue: &Queue) -> Answer<Look> {
        let now = self.clock.now();
        let look = |world: &mut World| {
            let lag = world.noise.counts_lag;
            Ok(world.queue(queue)?.look(now, lag))
        };
        self.request(Op::Look, look).await
    }

    async fn tags(&self, queue: &Queue) -> Answer<BTreeMap<String, String>> {
        let tags = |world: &mut World| Ok(world.queue(queue)?.tags.clone());
        self.request(Op::Tags, tags).await
    }

    async fn tag(&self, queue: &Queue, key: &str, value: Option<&str>) -> Answer<()> {
        let tag = |world: &mut World| {
            let tags = &mut world.queue(queue)?.tags;
            match value {
                Some(value) => drop(tags.insert(key.to_owned(), value.to_owned())),
                None => drop(tags.remove(key)),
            }
            Ok(())
        };
        self.request(Op::Tag, tag).await
    }
}

fn rejected(why: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Rejected, why)
}

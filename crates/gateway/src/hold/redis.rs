//! The hold on Redis or Valkey, shared by any number of processes.
//!
//! Messages are packed into blocks, one value a block. The hold has some partitions; a message
//! lives in the one that its id hashes to, all of whose keys share a hash tag, so that whatever
//! happens to a message is one script on one slot. docs/adr/0033 and 0036 have the reasons and the
//! layout.

mod cache;
mod export;
mod ids;
mod keys;
mod lend;
mod query;
mod recall;
mod scripts;
mod settle;
mod store;
mod table;
mod wire;
mod write;

use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};

use ::redis::Value;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Class, MessageId};

use self::cache::Cache;
use self::ids::Known;
use self::keys::{Hash, PARTITIONS_MAX, counted, partition_key};
use self::scripts::Scripts;
use super::block::Packer;
use super::{
    Capability, Export, Found, HORIZON_DEFAULT, Held, HoldStore, Lane, LeaseAsk, Leased, Pause,
    Put, Recalled, Scope, Settle, Settled, Shelf, State,
};
use crate::error::{Error, Kind, Result};
use crate::redis::{Call, Checked, Durability, Fault, Redis};

/// Partitions of a hold on a cluster, unless told otherwise: enough to spread over its masters.
pub const PARTITIONS_CLUSTER: u32 = 16;
/// Number of the layout in Redis.
const LAYOUT: u64 = 2;

/// How to open the hold.
#[derive(Clone, Debug)]
pub struct Options {
    /// Partitions, fixed at the first start; `None`: what the hold has, else 1, or
    /// [`PARTITIONS_CLUSTER`] on a cluster.
    pub partitions: Option<u32>,
    /// How long ids of ended messages are remembered.
    pub horizon: SignedDuration,
    /// Whether a server that can lose acknowledged messages is refused.
    pub durability: Durability,
    /// Ids that this process keeps in one table of its memory; `None` as fits most.
    pub chapter_ids: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partitions: None,
            horizon: HORIZON_DEFAULT,
            durability: Durability::Strict,
            chapter_ids: None,
        }
    }
}

/// The hold on Redis.
pub struct RedisHold {
    redis: Redis,
    /// What the keys of each partition begin with.
    keys: Vec<String>,
    hash: Hash,
    horizon: SignedDuration,
    checked: Checked,
    scripts: Scripts,
    cache: Mutex<Cache>,
    packer: Mutex<Packer>,
    /// What this process knows of the ids of each partition.
    known: Vec<Known>,
    chapter_ids: Option<usize>,
    /// Whose turn it is to be asked first.
    turn: AtomicUsize,
    /// Sweeps so far.
    sweeps: AtomicUsize,
}

impl std::fmt::Debug for RedisHold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisHold")
            .field("partitions", &self.keys.len())
            .field("server", &self.checked.version)
            .finish_non_exhaustive()
    }
}

impl RedisHold {
    /// Opens the hold, or makes an empty one.
    ///
    /// # Errors
    /// `Invalid` when the server can lose acknowledged messages (and `durability` is strict), or
    /// the hold there has another layout or number of partitions; `Unavailable` when nobody
    /// answers.
    pub async fn open(redis: Redis, options: Options) -> Result<Self> {
        let checked = redis.check(options.durability).await?;
        let scripts = Scripts::new();
        let (partitions, key) = settle_layout(&redis, &scripts, &options).await?;
        let keys: Vec<String> = (0..partitions)
            .map(|partition| partition_key(redis.prefix(), partition))
            .collect();
        let chapter_ids = options.chapter_ids;
        Ok(Self {
            redis,
            known: keys.iter().map(|_| Known::new(chapter_ids)).collect(),
            chapter_ids,
            keys,
            hash: Hash { key, partitions },
            horizon: options.horizon,
            checked,
            scripts,
            cache: Mutex::default(),
            packer: Mutex::default(),
            turn: AtomicUsize::new(0),
            sweeps: AtomicUsize::new(0),
        })
    }

    /// What the server was found to be when the hold was opened; its warnings are for people.
    #[must_use]
    pub fn checked(&self) -> &Checked {
        &self.checked
    }

    /// What ended before this is forgotten at `now`.
    fn forgotten_before(&self, now: Timestamp) -> String {
        counted(now.saturating_sub(self.horizon).unwrap_or(Timestamp::MIN))
    }

    fn pack<T>(&self, work: impl FnOnce(&mut Packer) -> T) -> T {
        work(&mut self.packer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn all(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.keys.len()).unwrap_or(u32::MAX)
    }

    fn known(&self, partition: u32) -> &Known {
        &self.known[partition as usize]
    }

    fn key(&self, partition: u32) -> &str {
        &self.keys[partition as usize]
    }

    /// One call on a partition that changes nothing that anybody was promised.
    async fn ask(&self, call: &Call, op: &'static str) -> Result<Value> {
        self.redis
            .call(call)
            .await
            .map_err(|fault| failed(op, fault))
    }

    /// Calls of one partition that change what was promised: as many replicas as configured have
    /// them when it returns.
    async fn write(&self, calls: &[Call], op: &'static str) -> Result<Vec<Value>> {
        let said = self
            .redis
            .written(calls)
            .await
            .map_err(|fault| failed(op, fault))?;
        said.into_iter()
            .collect::<std::result::Result<_, _>>()
            .map_err(|fault| failed(op, fault))
    }

    async fn write_one(&self, call: Call, op: &'static str) -> Result<Value> {
        let mut said = self.write(&[call], op).await?;
        said.pop().ok_or_else(|| odd(op))
    }
}

/// Makes or reads what all processes of this hold must agree on: partitions, and the key of hashes.
async fn settle_layout(
    redis: &Redis,
    scripts: &Scripts,
    options: &Options,
) -> Result<(u32, [u8; 16])> {
    const OP: &str = "open the hold";
    let default = if redis.clustered() {
        PARTITIONS_CLUSTER
    } else {
        1
    };
    let wanted = options.partitions.unwrap_or(default);
    if !(1..=PARTITIONS_MAX).contains(&wanted) {
        let op = format!("open the hold: partitions must be 1 to {PARTITIONS_MAX}");
        return Err(Error::new(Kind::Invalid, "hold", op));
    }
    let meta = format!("{}m", partition_key(redis.prefix(), 0));
    let mut fresh = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut fresh).map_err(|_| {
        Error::new(
            Kind::Unavailable,
            "hold",
            "make a key for the hashes of ids",
        )
    })?;
    let set = |field: &str| scripts.set_new.call(&meta).arg(field);
    let calls = [
        set("layout").arg(LAYOUT),
        set("partitions").arg(wanted),
        set("key").arg(&fresh[..]),
    ];
    let told = redis.written(&calls).await;
    for said in told.map_err(|fault| failed(OP, fault))? {
        said.map_err(|fault| failed(OP, fault))?;
    }
    // Asked for itself: a script that the server must learn first runs behind what follows it.
    let ask = Call::on("HMGET", &meta).arg("layout");
    let last = redis.call(&ask.arg("partitions").arg("key")).await;
    let last = last.map_err(|fault| failed(OP, fault))?;
    let fields = wire::array(last).ok_or_else(|| odd(OP))?;
    let [layout, partitions, key] = &fields[..] else {
        return Err(odd(OP));
    };
    match wire::count(layout) {
        Some(LAYOUT) => {}
        Some(older) if older < LAYOUT => {
            let op = "open the hold: an older program has made it; move what is held with that \
                      one (`nightgate hold move`), or use another prefix";
            return Err(Error::new(Kind::Invalid, "hold", op));
        }
        _ => {
            let op = "open the hold: a newer program has made it; use that one, or another prefix";
            return Err(Error::new(Kind::Invalid, "hold", op));
        }
    }
    let partitions = wire::count(partitions).and_then(|count| u32::try_from(count).ok());
    let partitions = partitions.ok_or_else(|| odd(OP))?;
    if options
        .partitions
        .is_some_and(|wanted| wanted != partitions)
    {
        let op = format!(
            "open the hold: it has {partitions} partitions for good; say so, or move it to \
             another prefix"
        );
        return Err(Error::new(Kind::Invalid, "hold", op));
    }
    let key = wire::bytes(key).and_then(|key| key.try_into().ok());
    Ok((partitions, key.ok_or_else(|| odd(OP))?))
}

/// A fault of Redis as the hold tells it.
fn failed(op: &'static str, fault: Fault) -> Error {
    fault.error("hold", op)
}

/// An answer of a script that makes no sense.
fn odd(op: &'static str) -> Error {
    failed(op, Fault::answer("not of this form"))
}

#[async_trait]
impl HoldStore for RedisHold {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn capability(&self) -> Capability {
        let one = self.keys.len() == 1;
        Capability {
            durable: self.checked.fsync_always || self.redis.replicas().on_disk,
            dedupe: true,
            order: one,
            pick: true,
            exact_depth: true,
            find: true,
            ended: false,
            files: false,
            prompt: true,
            recall: true,
            redate: true,
        }
    }

    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        self.store(&messages, now).await
    }

    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        self.lend(ask).await
    }

    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        self.settle_all(&settlements, now).await
    }

    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        self.first_due(lane, now).await
    }

    async fn shelves(&self, lane: Option<&Lane>, due_by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        self.count_shelves(lane, due_by).await
    }

    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        self.look_up(ids).await
    }

    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        self.list_some(state, lane, max).await
    }

    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        self.take_back(scope, now).await
    }

    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        self.bring_back(scope, now).await
    }

    async fn redate(
        &self,
        lane: &Lane,
        class: &Class,
        now: Timestamp,
        to: Timestamp,
    ) -> Result<u64> {
        self.move_shelves(lane, class, now, to).await
    }

    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        self.set_pause(lane, paused, now).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>> {
        self.list_pauses().await
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        self.forget(now).await
    }

    async fn check(&self) -> Result<()> {
        // A write, since a full server and a replica still answer questions.
        let call = Call::on("SET", &format!("{}w", self.key(0))).arg(1);
        self.ask(&call, "check that the server takes writes")
            .await
            .map(drop)
    }

    async fn export(&self, from: u64, max_bytes: usize) -> Result<Export> {
        self.export_page(from, max_bytes).await
    }
}

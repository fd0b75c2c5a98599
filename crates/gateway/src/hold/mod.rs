//! The port behind which held messages live. Every call is a batch; `now` is always passed in.
//!
//! Each line under a method's `# Behaviour` is a test in `tests/behaviour`, run on every backend.

pub(crate) mod block;
pub mod care;
pub(crate) mod codec;
pub mod due;
pub(crate) mod instant;
pub(crate) mod key;
pub mod memory;
#[cfg(feature = "mongodb")]
pub mod mongodb;
pub mod moving;
pub mod open;
#[cfg(feature = "redis")]
pub mod redis;
pub mod remote;
pub mod room;
pub mod shelf;
pub mod sqlite;
#[cfg(feature = "sqs")]
pub mod sqs;
mod state;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Class, Message, MessageId, Purpose, RecipientKey};
use serde::{Deserialize, Serialize};

pub use self::care::{Backup, Export, Report};
pub use self::room::{Limit, Refusing, Room};
use crate::error::{Error, Kind, Result};
pub use crate::lane::Lane;

/// How long an id is remembered after its message is done, unless configured: a producer's retries.
pub const HORIZON_DEFAULT: SignedDuration = SignedDuration::from_hours(72);

/// A message as the hold keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The message, body and all.
    pub message: Message,
    /// Its recipient in canonical form.
    pub key: RecipientKey,
    /// The lane it leaves by.
    pub lane: Lane,
    /// Its class, by which a whole shelf can be re-dated.
    pub class: Class,
    /// When it is worth asking again.
    pub due: Timestamp,
    /// When it was accepted.
    pub accepted_at: Timestamp,
}

/// What became of one message that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Put {
    /// Stored.
    New,
    /// Its id is held already, or was within the horizon; nothing was changed.
    Duplicate,
    /// Not stored: the hold, or this message's shelf, is full. Send it again later.
    Full,
}

/// Proof that one message is lent to one releaser. A later lease of the same message has another
/// token, so an old one cannot settle it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token {
    /// The message's arrival in its store, which is another once it arrives anew.
    pub seq: u64,
    /// Which lease of it this is; grows with each.
    pub lease: u64,
}

/// Which messages a lease may pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick<'a> {
    /// Any due message of the lane.
    Any,
    /// Of one purpose and one campaign (`None`: those that name no campaign).
    Campaign(Purpose, Option<&'a str>),
}

/// A request to lend messages.
#[derive(Clone, Copy, Debug)]
pub struct LeaseAsk<'a> {
    /// From this lane.
    pub lane: &'a Lane,
    /// Which of them.
    pub pick: Pick<'a>,
    /// Due at or before this instant; also the instant at which old leases are judged.
    pub now: Timestamp,
    /// At most so many.
    pub max: usize,
    /// For so long.
    pub ttl: SignedDuration,
}

/// A message on loan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// To settle it with.
    pub token: Token,
    /// What is lent.
    pub held: Held,
    /// The first instant at which the loan is over.
    pub until: Timestamp,
    /// Hand-overs already tried and deferred.
    pub attempts: u32,
    /// An earlier lease of this message lapsed: whoever had it may have handed it over.
    pub lapsed: bool,
}

/// Where a message's road ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The sink took it.
    Delivered,
    /// Our rules say never.
    Refused,
    /// Its life ended while it was held.
    Expired,
    /// The provider says never.
    Rejected,
}

/// How a lease ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The road ends here.
    Done(End),
    /// Held again until `due`. `attempted`: a hand-over was tried and counts.
    Defer {
        /// When to ask again.
        due: Timestamp,
        /// Whether it counts as an attempt.
        attempted: bool,
    },
    /// Put aside until a person looks.
    Bury {
        /// Why, for that person. No personal data.
        why: String,
    },
}

/// One settlement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// The loan it ends.
    pub token: Token,
    /// How.
    pub verdict: Verdict,
}

/// What became of one settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settled {
    /// Obeyed.
    Yes,
    /// The loan had lapsed, or was never made: reported, not obeyed.
    Lapsed,
}

/// Where a message is (the state chart of ARCHITECTURE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Kept until it is due.
    Held,
    /// On loan to a releaser.
    Leased,
    /// Put aside until a person looks.
    Buried,
    /// Taken back before it left.
    Recalled,
    /// The sink took it.
    Delivered,
    /// Our rules said never.
    Refused,
    /// Its life ended while it was held.
    Expired,
    /// The provider said never.
    Rejected,
}

/// What the hold knows of one id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The message as held. The body is empty once its road has ended.
    pub held: Held,
    /// Where it is.
    pub state: State,
    /// Hand-overs tried and deferred.
    pub attempts: u32,
    /// It is held, and an earlier lease of it lapsed: whoever had it may have handed it over.
    pub lapsed: bool,
    /// Why it was buried, if it was.
    pub why: Option<String>,
}

/// What to take back, or bring back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// One message by its caller's id.
    Id(MessageId),
    /// A whole campaign.
    Campaign(Arc<str>),
    /// Everything for one recipient.
    Recipient(RecipientKey),
    /// Everything on one lane.
    Lane(Lane),
}

/// What a recall did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Recalled {
    /// Messages taken back.
    pub recalled: u64,
    /// Messages on loan at that moment: taken back if they return, gone if they were handed over.
    pub in_flight: u64,
}

/// One shelf: what is due at one opening on one lane at one priority, of one class and campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelf {
    /// The lane.
    pub lane: Lane,
    /// Advertising or informational.
    pub purpose: Purpose,
    /// The class.
    pub class: Class,
    /// The campaign.
    pub campaign: Option<Arc<str>>,
    /// The priority, 0 first.
    pub priority: u8,
    /// The opening.
    pub due: Timestamp,
    /// Messages held.
    pub held: u64,
    /// Messages on loan.
    pub leased: u64,
    /// Messages buried.
    pub buried: u64,
}

/// What a backend promises beyond keeping messages. The behaviour suite and the releaser ask this,
/// never the backend's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// `put` answers only after the disk did.
    pub durable: bool,
    /// `put` is idempotent by message id, also after the message is done.
    pub dedupe: bool,
    /// `lease` gives priority, then due, then arrival.
    pub order: bool,
    /// `lease` can pick one campaign.
    pub pick: bool,
    /// `shelves` and `next_due` tell exactly what is there.
    pub exact_depth: bool,
    /// `find` and `list` know every message that is held, on loan or buried. Without it `find`
    /// knows nothing, and `list` at most what is buried.
    pub find: bool,
    /// `find` and `list` know those that ended, too, for the horizon. Without it only their ids are
    /// known, and receipts tell the rest.
    pub ended: bool,
    /// What it keeps is in files of this process or its machine: a full disk poisons it, and a new
    /// start begins with them. Without it another server has them, and says itself when it is full.
    pub files: bool,
    /// A message is lent at its very due. Without it, up to a second late, never early.
    pub prompt: bool,
    /// `recall` by id, campaign and recipient; with exact counts where `exact_depth` is promised,
    /// else what is taken back is counted as nothing and never lent.
    pub recall: bool,
    /// `redate` moves shelves without rewriting messages.
    pub redate: bool,
}

/// What of a hold's files was found damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Messages that cannot be read. They count as buried until the horizon passes.
    pub messages: u64,
    /// Names of the files to which damaged bytes were copied.
    pub copied_aside: Vec<String>,
}

/// A stop that a person set. Kept with the messages, so that it outlives a restart and every
/// releaser of this hold sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The paused lane; `None` is the global stop.
    pub lane: Option<Lane>,
    /// Since when.
    pub since: Timestamp,
}

/// Where held messages live.
///
/// Messages arrive in the order in which they are put. What is put back or aside (deferred,
/// buried, kicked) arrives anew: behind those already there. A loan that lapses and a shelf that is
/// re-dated keep their arrivals.
#[async_trait]
pub trait HoldStore: Send + Sync {
    /// The backend's name in config, logs and `doctor`.
    fn name(&self) -> &'static str;

    /// What it promises.
    fn capability(&self) -> Capability;

    /// Stores messages; one answer each, in order.
    ///
    /// # Behaviour
    /// - when it returns `Ok`, every message that answers `New` survives `kill -9` (`durable`)
    /// - an id that is held, or ended within the horizon, answers `Duplicate` and changes nothing
    /// - an id twice in one call answers `New`, then `Duplicate`
    /// - the message reads back byte for byte
    /// - a message that answers `Full` is not stored and its id is not known; the others are stored
    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>>;

    /// Lends up to `max` due messages.
    ///
    /// # Behaviour
    /// - order is priority, then due, then arrival (`order`)
    /// - at its very due (`prompt`)
    /// - what was put back or aside arrives anew; what lapsed or was re-dated does not (`order`)
    /// - nothing due after `now`, nothing on loan, buried, recalled or done is lent
    /// - a message put or deferred late, with a due already passed, is still lent (no cursor)
    /// - a loan whose `until` is at or before `now` has lapsed: the message is lent again, `lapsed`
    /// - `Pick::Campaign` lends only that purpose and campaign (`pick`)
    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>>;

    /// Ends loans; one answer each, in order.
    ///
    /// # Behaviour
    /// - a token that lapsed, was settled or was never made answers `Lapsed` and changes nothing
    /// - done: the id stays known for the horizon, the body is gone
    /// - defer: held again until the new due; `attempted` adds one attempt
    /// - bury: not lent again until kicked
    /// - a message recalled while on loan becomes recalled, not held or buried, when it returns
    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>>;

    /// The earliest instant at which `lane` has something to lend: a due message or a lapsing loan.
    ///
    /// # Behaviour
    /// - never before `now`: what is due already is due now
    /// - without `exact_depth`, when it is next worth asking
    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>>;

    /// Shelves that are not empty, by lane, priority, due. `lane`: only that one. `due_by`: only
    /// those due at or before it.
    ///
    /// # Behaviour
    /// - counts are exact after every call above and below (`exact_depth`)
    async fn shelves(&self, lane: Option<&Lane>, due_by: Option<Timestamp>) -> Result<Vec<Shelf>>;

    /// What is known of each id, in order; `None` where nothing is.
    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>>;

    /// Up to `max` messages in `state`, by arrival, without their bodies.
    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>>;

    /// Takes back what is still held or buried.
    ///
    /// # Behaviour
    /// - counts are exact; a second recall of the same scope counts nothing
    /// - messages put later are not touched
    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled>;

    /// Brings buried messages back, due now, with a clean count of attempts and not `lapsed`, since
    /// a person looked; says how many. They arrive anew in the order in which they were buried.
    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64>;

    /// Moves every held message of `lane` and `class` that is due at or before `now` to `to`,
    /// without rewriting the messages (`redate`); says how many.
    ///
    /// # Behaviour
    /// - whole shelves move: loans and buried messages of theirs move along, uncounted
    async fn redate(
        &self,
        lane: &Lane,
        class: &Class,
        now: Timestamp,
        to: Timestamp,
    ) -> Result<u64>;

    /// Sets or lifts a stop: of one lane, or (`None`) of everything. Durable.
    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()>;

    /// The stops in force.
    async fn pauses(&self) -> Result<Vec<Pause>>;

    /// Upkeep: forgets ids done longer ago than the horizon; says how many.
    async fn sweep(&self, now: Timestamp) -> Result<u64>;

    /// Whether the store can still be written: `Err` of kind `Poisoned` when not.
    async fn check(&self) -> Result<()>;

    /// How much room there is, and who is turned away; unless told, as much as anybody wants.
    async fn room(&self) -> Result<Room> {
        Ok(Room::default())
    }

    /// What of the hold's files was found damaged so far; unless told, nothing.
    async fn damage(&self) -> Result<Damage> {
        Ok(Damage::default())
    }

    /// Reads everything that is stored from end to end, changes nothing, and says what is wrong.
    /// `Unsupported` where there are no files to read.
    async fn verify(&self) -> Result<Report> {
        Err(unsupported(self.name(), "check its files"))
    }

    /// Copies the whole hold into a new folder `to`, an absolute path, while it is used.
    /// `Unsupported` where there is nothing to copy.
    ///
    /// # Behaviour
    /// - everything answered before the call is in it
    /// - `to` is there whole or not at all, whenever the process ends
    async fn backup(&self, to: &Path, now: Timestamp) -> Result<Backup> {
        let _ = (to, now);
        Err(unsupported(self.name(), "back it up"))
    }

    /// Held, lent and buried messages, whole, in order of place from `from` on: some `max_bytes` of
    /// them. A message that moves meanwhile may come twice; none is left out. `Unsupported` where
    /// nobody could need it.
    async fn export(&self, from: u64, max_bytes: usize) -> Result<Export> {
        let _ = (from, max_bytes);
        Err(unsupported(self.name(), "export its messages"))
    }
}

fn unsupported(name: &str, what: &str) -> Error {
    let op = format!("{what}: the store `{name}` cannot do that");
    Error::new(Kind::Unsupported, "hold", op)
}

//! What goes over the socket: a greeting of fixed form, then frames of postcard.
//!
//! A frame is its length (u32, little endian) and so many bytes. The caller sends one [`Request`]
//! and reads [`Part`]s until the last; then the next request may follow.

use std::borrow::Cow;
use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Class, MessageId, Purpose};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::{Error, Kind};
use crate::hold::{
    Backup, Capability, Export, Found, Held, Lane, LeaseAsk, Leased, Pause, Pick, Put, Recalled,
    Report, Room, Scope, Settle, Settled, Shelf, State, Verdict,
};

/// The version of this protocol. Any change to a type below, or to one of the port's that it
/// carries, makes a new one: `the_wire_form_changes_only_with_its_version` holds it.
pub const WIRE_VERSION: u32 = 5;
/// Largest frame, in bytes. Fifty of the largest messages fit; more is no frame of ours.
pub const FRAME_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of messages lent in one call, at which the owner stops and lends no more: what a releaser
/// can hold in memory with ease. The call goes over by one step at most.
pub const LEASE_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Most bytes of messages in one page of an export: with a last block behind them they fit a frame.
pub(super) const EXPORT_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Messages the owner lends at a time, within one call.
pub(super) const LEASE_STEP: usize = 256;
/// Bytes worth a frame of their own: large enough to be cheap, small enough to stay in cache.
const PART_BYTES: usize = 1024 * 1024;
/// Items in one frame.
const PART_ITEMS: usize = 4_096;
/// Most bytes of the fields of fixed size in anything sent, and of the lengths of the others.
const FIXED_BYTES: usize = 256;
/// Bytes kept of a buffer between two calls.
const BUFFER_KEPT_BYTES: usize = 256 * 1024;
/// What a conversation begins with, before the version.
const MAGIC: [u8; 8] = *b"nighthld";
/// How long a greeting may take: nobody has to look anything up for it.
pub(super) const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// Which messages a lease may pick; see [`Pick`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum PickForm {
    Any,
    Campaign(Purpose, Option<Arc<str>>),
}

/// A [`LeaseAsk`] that owns what it names.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AskForm {
    lane: Lane,
    pick: PickForm,
    now: Timestamp,
    max: u64,
    ttl: SignedDuration,
}

impl AskForm {
    pub(super) fn of(ask: &LeaseAsk<'_>) -> Self {
        Self {
            lane: ask.lane.clone(),
            pick: match ask.pick {
                Pick::Any => PickForm::Any,
                Pick::Campaign(purpose, campaign) => {
                    PickForm::Campaign(purpose, campaign.map(Arc::from))
                }
            },
            now: ask.now,
            max: ask.max as u64,
            ttl: ask.ttl,
        }
    }

    /// How many are asked for.
    pub(super) fn max(&self) -> usize {
        usize::try_from(self.max).unwrap_or(usize::MAX)
    }

    /// The same for at most `max`.
    pub(super) fn ask(&self, max: usize) -> LeaseAsk<'_> {
        LeaseAsk {
            lane: &self.lane,
            pick: match &self.pick {
                PickForm::Any => Pick::Any,
                PickForm::Campaign(purpose, campaign) => {
                    Pick::Campaign(*purpose, campaign.as_deref())
                }
            },
            now: self.now,
            max,
            ttl: self.ttl,
        }
    }
}

/// One call. Borrowed by the caller, owned by the owner of the hold.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request<'a> {
    Put(Cow<'a, [Held]>, Timestamp),
    Lease(AskForm),
    Settle(Cow<'a, [Settle]>, Timestamp),
    NextDue(Lane, Timestamp),
    Shelves(Option<Lane>, Option<Timestamp>),
    Find(Cow<'a, [MessageId]>),
    List(State, Option<Lane>, u64),
    Recall(Scope, Timestamp),
    Kick(Scope, Timestamp),
    Redate(Lane, Class, Timestamp, Timestamp),
    Pause(Option<Lane>, bool, Timestamp),
    Pauses,
    Sweep(Timestamp),
    Check,
    Room,
    Verify,
    Backup(PathBuf, Timestamp),
    Export(u64, u64),
}

/// The answer to one call, or a part of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Put(Vec<Put>),
    Leased(Vec<Leased>),
    Settled(Vec<Settled>),
    NextDue(Option<Timestamp>),
    Shelves(Vec<Shelf>),
    Found(Vec<Option<Found>>),
    Listed(Vec<Found>),
    Recalled(Recalled),
    Count(u64),
    Pauses(Vec<Pause>),
    Room(Room),
    Verified(Report),
    BackedUp(Backup),
    Exported(Export),
    Done,
    Failed(Fault),
}

/// One frame of an answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) last: bool,
    pub(super) reply: Reply,
}

/// What the owner says of its hold once the greetings are exchanged.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Welcome {
    pub(super) name: String,
    pub(super) capability: Capability,
}

impl Reply {
    /// Adds the next part; `false` if the two do not belong together.
    pub(super) fn join(&mut self, next: Self) -> bool {
        match (&mut *self, next) {
            (whole, Self::Failed(fault)) => *whole = Self::Failed(fault),
            (Self::Leased(all), Self::Leased(more)) => all.extend(more),
            (Self::Shelves(all), Self::Shelves(more)) => all.extend(more),
            (Self::Found(all), Self::Found(more)) => all.extend(more),
            (Self::Listed(all), Self::Listed(more)) => all.extend(more),
            _ => return false,
        }
        true
    }
}

/// An [`Error`] on its way. Its texts hold no personal data, like those of every error.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Fault {
    #[serde(with = "KindForm")]
    kind: Kind,
    part: String,
    op: String,
    source: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Kind")]
enum KindForm {
    Unavailable,
    Unsupported,
    Invalid,
    Corrupt,
    Poisoned,
}

/// Parts of the gateway that errors of a hold name.
const PARTS: [&str; 2] = ["hold", "shelf"];

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        Self {
            kind: error.kind,
            part: error.part.to_owned(),
            op: error.op.clone(),
            source: error.source.as_ref().map(ToString::to_string),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let part = PARTS.into_iter().find(|part| *part == fault.part);
        let error = Self::new(fault.kind, part.unwrap_or(PARTS[0]), fault.op);
        match fault.source {
            Some(source) => error.with(source),
            None => error,
        }
    }
}

/// What an item takes in a frame, in bytes: never less than that, and not much more.
pub(super) trait Weigh {
    fn weight(&self) -> usize;
}

impl Weigh for Held {
    fn weight(&self) -> usize {
        let message = &self.message;
        let long = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        let attributes = message.attributes.iter();
        let texts = [
            message.id.as_str().len(),
            message.recipient.expose().len(),
            message.content_type.len(),
            self.key.expose().len(),
            self.lane.as_str().len(),
            self.class.as_str().len(),
            long(&message.campaign) + long(&message.zone) + long(&message.collapse_key),
            attributes
                .map(|(name, value)| name.len() + value.len() + 8)
                .sum(),
        ];
        FIXED_BYTES + message.body.len() + texts.iter().sum::<usize>()
    }
}

impl Weigh for Leased {
    fn weight(&self) -> usize {
        FIXED_BYTES + self.held.weight()
    }
}

impl Weigh for Found {
    fn weight(&self) -> usize {
        FIXED_BYTES + self.held.weight() + self.why.as_ref().map_or(0, String::len)
    }
}

impl<T: Weigh> Weigh for Option<T> {
    fn weight(&self) -> usize {
        1 + self.as_ref().map_or(0, Weigh::weight)
    }
}

impl Weigh for Shelf {
    fn weight(&self) -> usize {
        let campaign = self.campaign.as_ref().map_or(0, |name| name.len());
        FIXED_BYTES + self.lane.as_str().len() + self.class.as_str().len() + campaign
    }
}

impl Weigh for Settle {
    fn weight(&self) -> usize {
        FIXED_BYTES
            + match &self.verdict {
                Verdict::Bury { why } => why.len(),
                _ => 0,
            }
    }
}

impl Weigh for MessageId {
    fn weight(&self) -> usize {
        FIXED_BYTES + self.as_str().len()
    }
}

/// How many of the first `items` go into one frame: at least one, if there is one.
pub(super) fn part<T: Weigh>(items: &[T]) -> usize {
    let mut bytes = 0;
    let fits = items.iter().take(PART_ITEMS).take_while(|item| {
        bytes += item.weight();
        bytes <= PART_BYTES
    });
    fits.count().max(1).min(items.len())
}

/// Exchanges greetings: magic and version, of the same form in every version. `false` if the other
/// side speaks another version.
pub(super) async fn greet<S>(stream: &mut S) -> IoResult<bool>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut own = [0; 12];
    own[..8].copy_from_slice(&MAGIC);
    own[8..].copy_from_slice(&WIRE_VERSION.to_le_bytes());
    stream.write_all(&own).await?;
    let mut other = [0; 12];
    stream.read_exact(&mut other).await?;
    if other[..8] != MAGIC {
        return Err(odd("it is no hold that answers"));
    }
    Ok(own == other)
}

/// Something that the other side should not have sent.
pub(super) fn odd(what: &'static str) -> IoError {
    IoError::new(ErrorKind::InvalidData, what)
}

/// Writes one frame.
///
/// # Errors
/// `InvalidInput` for what is larger than [`FRAME_MAX_BYTES`], before anything is written.
pub(super) async fn write<S, T>(stream: &mut S, buffer: &mut Vec<u8>, frame: &T) -> IoResult<()>
where
    S: AsyncWrite + Unpin,
    T: Serialize,
{
    buffer.clear();
    buffer.extend([0; 4]);
    let mut filled = postcard::to_extend(frame, std::mem::take(buffer)).map_err(IoError::other)?;
    let length = u32::try_from(filled.len() - 4).unwrap_or(u32::MAX);
    if length as usize > FRAME_MAX_BYTES {
        let what = format!("more than {FRAME_MAX_BYTES} bytes at once");
        return Err(IoError::new(ErrorKind::InvalidInput, what));
    }
    filled[..4].copy_from_slice(&length.to_le_bytes());
    stream.write_all(&filled).await?;
    filled.clear();
    filled.shrink_to(BUFFER_KEPT_BYTES);
    *buffer = filled;
    Ok(())
}

/// Reads one frame; `None` if the other side ended the conversation instead.
///
/// # Errors
/// `InvalidData` for what is no frame; then the conversation cannot go on.
pub(super) async fn read<S, T>(stream: &mut S, buffer: &mut Vec<u8>) -> IoResult<Option<T>>
where
    S: AsyncRead + Unpin,
    T: DeserializeOwned,
{
    let mut length = [0; 4];
    if stream.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..]).await?;
    let length = u32::from_le_bytes(length);
    if length as usize > FRAME_MAX_BYTES {
        return Err(odd("a frame is too large"));
    }
    buffer.clear();
    // Grows with what comes, not with what is announced.
    let read = stream.take(length.into()).read_to_end(buffer).await?;
    if read < length as usize {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    // What does not parse could be quoted, and hold anybody's data: it is left out.
    let frame = postcard::from_bytes(buffer).map_err(|_| odd("a frame does not parse"))?;
    buffer.clear();
    buffer.shrink_to(BUFFER_KEPT_BYTES);
    Ok(Some(frame))
}

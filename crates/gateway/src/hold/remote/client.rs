//! The calling side.

use std::borrow::Cow;
use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate_core::{Class, MessageId};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::path::Fitting;
use super::wire::{self, AskForm, GREETING_TIMEOUT, Part, Reply, Request, Weigh, Welcome};
use crate::error::{Error, Kind, Result};
use crate::hold::open::STORES;
use crate::hold::{
    Backup, Capability, Export, Found, Held, HoldStore, Lane, LeaseAsk, Leased, Pause, Put,
    Recalled, Report, Room, Scope, Settle, Settled, Shelf, State,
};

/// Most calls under way at once; further ones wait their turn. A releaser has one a lane.
const CALLS_MAX: usize = 8;
/// How long one call may take. A recall of millions takes seconds; an owner that says nothing for
/// so long hangs.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// How long reading or copying a whole hold may take: a terabyte on a slow disk. An owner that dies
/// meanwhile ends the wait.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(12 * 60 * 60);
/// The name of a hold whose own is not known here.
const NAMELESS: &str = "remote";

/// The hold of another process.
pub struct RemoteHold {
    socket: PathBuf,
    name: &'static str,
    capability: Capability,
    idle: Mutex<Vec<Line>>,
    turns: Semaphore,
}

/// One connection, between two calls.
struct Line {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl RemoteHold {
    /// Reaches the hold that is served at `socket`.
    ///
    /// # Errors
    /// `Unavailable` when nobody serves there, `Unsupported` when another version of the program
    /// does.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let (line, welcome) = dial(socket).await?;
        let name = STORES.iter().find(|name| **name == welcome.name);
        Ok(Self {
            socket: socket.to_owned(),
            name: name.copied().unwrap_or(NAMELESS),
            capability: welcome.capability,
            idle: Mutex::new(vec![line]),
            turns: Semaphore::new(CALLS_MAX),
        })
    }

    /// One call. A connection on which anything went wrong is not used again.
    async fn call(&self, op: &str, request: &Request<'_>) -> Result<Reply> {
        let _turn = self.turns.acquire().await;
        let mut line = match self.rested() {
            Some(line) => line,
            None => dial(&self.socket).await?.0,
        };
        let patience = match request {
            Request::Verify | Request::Backup(..) => WHOLE_TIMEOUT,
            _ => CALL_TIMEOUT,
        };
        match timeout(patience, line.ask(request)).await {
            Ok(Ok(reply)) => {
                self.idle().push(line);
                match reply {
                    Reply::Failed(fault) => Err(fault.into()),
                    reply => Ok(reply),
                }
            }
            Ok(Err(error)) => Err(broken(op, error)),
            Err(_) => Err(broken(op, ErrorKind::TimedOut.into())),
        }
    }

    /// A connection from an earlier call that is still open.
    fn rested(&self) -> Option<Line> {
        let mut idle = self.idle();
        loop {
            let line = idle.pop()?;
            let read = line.stream.try_read(&mut [0]);
            // Anything else is an owner that has gone, or one that speaks without being asked.
            if read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                return Some(line);
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn dial(socket: &Path) -> Result<(Line, Welcome)> {
    let op = || format!("reach the hold's owner at {}", socket.display());
    let dialled = timeout(GREETING_TIMEOUT, async {
        let fitting = Fitting::of(socket)?;
        let mut stream = UnixStream::connect(&fitting.path).await?;
        if !wire::greet(&mut stream).await? {
            return Ok(None);
        }
        let mut buffer = Vec::new();
        let welcome = wire::read(&mut stream, &mut buffer).await?;
        let welcome = welcome.ok_or(ErrorKind::UnexpectedEof)?;
        IoResult::Ok(Some((Line { stream, buffer }, welcome)))
    });
    match dialled.await {
        Ok(Ok(Some(line))) => Ok(line),
        Ok(Ok(None)) => Err(Error::new(
            Kind::Unsupported,
            "hold",
            op() + ": it is another version of this program; use the same one",
        )),
        Ok(Err(error)) => Err(broken(&op(), error)),
        Err(_) => Err(broken(&op(), ErrorKind::TimedOut.into())),
    }
}

/// What a connection that failed means for the call.
fn broken(op: &str, error: IoError) -> Error {
    let kind = match error.kind() {
        ErrorKind::InvalidInput => Kind::Invalid,
        _ => Kind::Unavailable,
    };
    Error::new(kind, "hold", op).with(error)
}

/// An answer to another question.
fn strange(op: &str) -> Error {
    broken(op, wire::odd("the owner answers something else"))
}

impl Line {
    /// Asks, and reads the answer to its end.
    async fn ask(&mut self, request: &Request<'_>) -> IoResult<Reply> {
        wire::write(&mut self.stream, &mut self.buffer, request).await?;
        let mut whole = None;
        loop {
            let part = wire::read(&mut self.stream, &mut self.buffer).await?;
            let Part { last, reply } = part.ok_or(ErrorKind::UnexpectedEof)?;
            match &mut whole {
                None => whole = Some(reply),
                Some(whole) => {
                    if !whole.join(reply) {
                        return Err(wire::odd("parts of an answer do not belong together"));
                    }
                }
            }
            if let Some(whole) = whole.take_if(|_| last) {
                return Ok(whole);
            }
        }
    }
}

/// The answer of the right sort, or an error.
macro_rules! answer {
    ($variant:ident, $op:expr, $reply:expr) => {
        match $reply {
            Reply::$variant(answer) => Ok(answer),
            _ => Err(strange($op)),
        }
    };
}

/// Cuts `items` into frames. Without any there is one: an owner that is ill says so even then.
fn parts<T: Weigh>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    let mut first = true;
    std::iter::from_fn(move || {
        if items.is_empty() && !first {
            return None;
        }
        first = false;
        let (part, rest) = items.split_at(wire::part(items));
        items = rest;
        Some(part)
    })
}

#[async_trait]
impl HoldStore for RemoteHold {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capability(&self) -> Capability {
        self.capability
    }

    async fn put(&self, messages: Vec<Held>, now: Timestamp) -> Result<Vec<Put>> {
        let op = format!("put {} messages", messages.len());
        let mut answers = Vec::with_capacity(messages.len());
        for part in parts(&messages) {
            let request = Request::Put(Cow::Borrowed(part), now);
            let more = answer!(Put, &op, self.call(&op, &request).await?)?;
            if more.len() != part.len() {
                return Err(strange(&op));
            }
            answers.extend(more);
        }
        Ok(answers)
    }

    async fn lease(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        let op = format!("lease from lane {}", ask.lane);
        let request = Request::Lease(AskForm::of(ask));
        answer!(Leased, &op, self.call(&op, &request).await?)
    }

    async fn settle(&self, settlements: Vec<Settle>, now: Timestamp) -> Result<Vec<Settled>> {
        let op = format!("settle {} loans", settlements.len());
        let mut answers = Vec::with_capacity(settlements.len());
        for part in parts(&settlements) {
            let request = Request::Settle(Cow::Borrowed(part), now);
            let more = answer!(Settled, &op, self.call(&op, &request).await?)?;
            if more.len() != part.len() {
                return Err(strange(&op));
            }
            answers.extend(more);
        }
        Ok(answers)
    }

    async fn next_due(&self, lane: &Lane, now: Timestamp) -> Result<Option<Timestamp>> {
        let op = "ask what is due next";
        let request = Request::NextDue(lane.clone(), now);
        answer!(NextDue, op, self.call(op, &request).await?)
    }

    async fn shelves(&self, lane: Option<&Lane>, due_by: Option<Timestamp>) -> Result<Vec<Shelf>> {
        let op = "count the shelves";
        let request = Request::Shelves(lane.cloned(), due_by);
        answer!(Shelves, op, self.call(op, &request).await?)
    }

    async fn find(&self, ids: &[MessageId]) -> Result<Vec<Option<Found>>> {
        let op = "find messages";
        let mut found = Vec::with_capacity(ids.len());
        for part in parts(ids) {
            let request = Request::Find(Cow::Borrowed(part));
            let more = answer!(Found, op, self.call(op, &request).await?)?;
            if more.len() != part.len() {
                return Err(strange(op));
            }
            found.extend(more);
        }
        Ok(found)
    }

    async fn list(&self, state: State, lane: Option<&Lane>, max: usize) -> Result<Vec<Found>> {
        let op = "list messages";
        let request = Request::List(state, lane.cloned(), max as u64);
        answer!(Listed, op, self.call(op, &request).await?)
    }

    async fn recall(&self, scope: &Scope, now: Timestamp) -> Result<Recalled> {
        let op = "recall messages";
        let request = Request::Recall(scope.clone(), now);
        answer!(Recalled, op, self.call(op, &request).await?)
    }

    async fn kick(&self, scope: &Scope, now: Timestamp) -> Result<u64> {
        let op = "kick messages";
        let request = Request::Kick(scope.clone(), now);
        answer!(Count, op, self.call(op, &request).await?)
    }

    async fn redate(&self, of: &Lane, class: &Class, now: Timestamp, to: Timestamp) -> Result<u64> {
        let op = "redate shelves";
        let request = Request::Redate(of.clone(), class.clone(), now, to);
        answer!(Count, op, self.call(op, &request).await?)
    }

    async fn pause(&self, lane: Option<&Lane>, paused: bool, now: Timestamp) -> Result<()> {
        let request = Request::Pause(lane.cloned(), paused, now);
        self.call("set a pause", &request).await.map(drop)
    }

    async fn pauses(&self) -> Result<Vec<Pause>> {
        let op = "read the pauses";
        answer!(Pauses, op, self.call(op, &Request::Pauses).await?)
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64> {
        let op = "sweep";
        answer!(Count, op, self.call(op, &Request::Sweep(now)).await?)
    }

    async fn check(&self) -> Result<()> {
        let op = "check that it can be written";
        self.call(op, &Request::Check).await.map(drop)
    }

    async fn room(&self) -> Result<Room> {
        let op = "ask how much room there is";
        answer!(Room, op, self.call(op, &Request::Room).await?)
    }
    async fn verify(&self) -> Result<Report> {
        let op = "check its files";
        answer!(Verified, op, self.call(op, &Request::Verify).await?)
    }

    async fn backup(&self, to: &Path, now: Timestamp) -> Result<Backup> {
        let op = "back it up";
        let request = Request::Backup(to.to_owned(), now);
        answer!(BackedUp, op, self.call(op, &request).await?)
    }

    async fn export(&self, from: u64, max_bytes: usize) -> Result<Export> {
        let op = "export its messages";
        let request = Request::Export(from, max_bytes as u64);
        answer!(Exported, op, self.call(op, &request).await?)
    }
}

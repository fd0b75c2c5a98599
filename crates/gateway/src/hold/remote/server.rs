//! The owner's side.

use std::fs::{self, Permissions};
use std::io::{Error as IoError, ErrorKind, Result as IoResult};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::path::Fitting;
use super::wire::{
    self, AskForm, Fault, GREETING_TIMEOUT, LEASE_MAX_BYTES, LEASE_STEP, Part, Reply, Request,
    Weigh, Welcome,
};
use crate::error::{Error, Kind, Result};
use crate::hold::HoldStore;

/// Most connections at once; further ones are sent away. A command needs one or two.
const CONNECTIONS_MAX: usize = 64;
/// How long a caller may take to read its answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Wait after a connection could not be accepted: the process has too many files open.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A hold served to other processes. Dropping it ends every conversation and removes the socket.
pub struct Server {
    socket: PathBuf,
    /// Device and number of the socket's file: another's is not ours to remove.
    file: (u64, u64),
    accepting: JoinHandle<()>,
    _hold: Arc<dyn HoldStore>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        if identity(&self.socket).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.socket);
        }
    }
}

fn identity(path: &Path) -> IoResult<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Serves `hold` at `socket`, to processes of the same user. Needs a running tokio.
///
/// # Behaviour
/// - a socket that a dead owner left behind is replaced; a living owner's is not
/// - the socket's rights are 0600
/// - dropping the [`Server`] removes the socket
///
/// # Errors
/// `Unavailable` when another process serves there or the socket cannot be made, `Invalid` when
/// something else than a socket has its name.
pub fn serve(hold: Arc<dyn HoldStore>, socket: &Path) -> Result<Server> {
    let failed = |error: IoError| {
        let kind = match error.kind() {
            ErrorKind::AlreadyExists => Kind::Invalid,
            _ => Kind::Unavailable,
        };
        let op = format!("serve the hold at {}", socket.display());
        Error::new(kind, "hold", op).with(error)
    };
    let listener = bind(socket).map_err(failed)?;
    let own = fs::symlink_metadata(socket).map_err(failed)?;
    let accepting = accept(listener, Arc::downgrade(&hold), own.uid());
    Ok(Server {
        socket: socket.to_owned(),
        file: (own.dev(), own.ino()),
        accepting: tokio::spawn(accepting),
        _hold: hold,
    })
}

fn bind(socket: &Path) -> IoResult<UnixListener> {
    let fitting = Fitting::of(socket)?;
    match fs::symlink_metadata(socket) {
        Ok(file) if !file.file_type().is_socket() => {
            let what = "a file of that name is there that is no socket; move it away";
            return Err(IoError::new(ErrorKind::AlreadyExists, what));
        }
        Ok(_) => match Probe::connect(&fitting.path) {
            Ok(_) => return Err(IoError::new(ErrorKind::AddrInUse, "another process does")),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(socket)?,
            Err(error) => return Err(error),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&fitting.path)?;
    // Until here its directory alone keeps others out, and the question who the peer is.
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    Ok(listener)
}

pub(super) async fn accept(listener: UnixListener, hold: Weak<dyn HoldStore>, own_user: u32) {
    let mut conversations = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection to the hold");
                let _ = timeout(ACCEPT_AGAIN, std::future::pending::<()>()).await;
                continue;
            }
        };
        while conversations.try_join_next().is_some() {}
        if conversations.len() >= CONNECTIONS_MAX {
            tracing::warn!("too many connections to the hold: one was sent away");
            continue;
        }
        let hold = Weak::clone(&hold);
        conversations.spawn(async move {
            if let Err(error) = converse(stream, &hold, own_user).await {
                tracing::debug!(%error, "a conversation about the hold broke off");
            }
        });
    }
}

/// Answers one caller until it goes.
async fn converse(
    mut stream: UnixStream,
    hold: &Weak<dyn HoldStore>,
    own_user: u32,
) -> IoResult<()> {
    let user = stream.peer_cred()?.uid();
    if user != own_user {
        tracing::warn!(user, "another user asked for the hold and was sent away");
        return Ok(());
    }
    let mut caller = Caller {
        buffer: Vec::new(),
        stream: &mut stream,
    };
    let same = timeout(GREETING_TIMEOUT, wire::greet(caller.stream)).await??;
    let Some(owned) = hold.upgrade().filter(|_| same) else {
        return Ok(());
    };
    let welcome = Welcome {
        name: owned.name().to_owned(),
        capability: owned.capability(),
    };
    drop(owned);
    wire::write(caller.stream, &mut caller.buffer, &welcome).await?;
    while let Some(request) = wire::read(caller.stream, &mut caller.buffer).await? {
        let Some(hold) = hold.upgrade() else { break };
        caller.answer(&*hold, request).await?;
    }
    Ok(())
}

struct Caller<'a> {
    stream: &'a mut UnixStream,
    buffer: Vec<u8>,
}

impl Caller<'_> {
    async fn answer(&mut self, hold: &dyn HoldStore, request: Request<'static>) -> IoResult<()> {
        match request {
            Request::Lease(ask) => self.lend(hold, &ask).await,
            Request::Shelves(lane, due_by) => match hold.shelves(lane.as_ref(), due_by).await {
                Ok(shelves) => self.list(shelves, Reply::Shelves).await,
                Err(error) => self.fail(&error).await,
            },
            Request::Find(ids) => match hold.find(&ids).await {
                Ok(found) => self.list(found, Reply::Found).await,
                Err(error) => self.fail(&error).await,
            },
            Request::List(state, lane, max) => {
                let max = usize::try_from(max).unwrap_or(usize::MAX);
                match hold.list(state, lane.as_ref(), max).await {
                    Ok(found) => self.list(found, Reply::Listed).await,
                    Err(error) => self.fail(&error).await,
                }
            }
            short => match reply(hold, short).await {
                Ok(reply) => self.say(reply, true).await,
                Err(error) => self.fail(&error).await,
            },
        }
    }

    /// Lends step by step until there are enough, there is no more, or it is as much as one call
    /// may carry: then the answer is shorter than it was asked to be.
    async fn lend(&mut self, hold: &dyn HoldStore, ask: &AskForm) -> IoResult<()> {
        let (mut left, mut bytes) = (ask.max(), 0);
        let mut first = true;
        loop {
            let step = left.min(LEASE_STEP);
            let lent = match hold.lease(&ask.ask(step)).await {
                Ok(lent) => lent,
                Err(error) if first => return self.fail(&error).await,
                // What was lent before is the caller's all the same.
                Err(error) => {
                    tracing::warn!(%error, "failed to lend more");
                    Vec::new()
                }
            };
            left -= lent.len().min(left);
            bytes += lent.iter().map(Weigh::weight).sum::<usize>();
            let last = left == 0 || lent.len() < step || bytes >= LEASE_MAX_BYTES;
            self.pieces(lent, Reply::Leased, last).await?;
            if last {
                return Ok(());
            }
            first = false;
        }
    }

    async fn list<T: Weigh>(&mut self, all: Vec<T>, reply: fn(Vec<T>) -> Reply) -> IoResult<()> {
        self.pieces(all, reply, true).await
    }

    /// Sends `all` in as many frames as it takes, and in one if it is empty. `last`: nothing
    /// follows.
    async fn pieces<T: Weigh>(
        &mut self,
        all: Vec<T>,
        reply: fn(Vec<T>) -> Reply,
        last: bool,
    ) -> IoResult<()> {
        let mut all = all.into_iter();
        loop {
            let part = wire::part(all.as_slice());
            let part = all.by_ref().take(part).collect();
            let end = all.as_slice().is_empty();
            self.say(reply(part), last && end).await?;
            if end {
                return Ok(());
            }
        }
    }

    async fn fail(&mut self, error: &Error) -> IoResult<()> {
        self.say(Reply::Failed(Fault::from(error)), true).await
    }

    async fn say(&mut self, reply: Reply, last: bool) -> IoResult<()> {
        let part = Part { last, reply };
        let writing = wire::write(self.stream, &mut self.buffer, &part);
        timeout(READ_TIMEOUT, writing).await?
    }
}

/// The answers that fit a frame whatever is asked.
async fn reply(hold: &dyn HoldStore, request: Request<'static>) -> Result<Reply> {
    Ok(match request {
        Request::Put(messages, now) => Reply::Put(hold.put(messages.into_owned(), now).await?),
        Request::Settle(loans, now) => Reply::Settled(hold.settle(loans.into_owned(), now).await?),
        Request::NextDue(lane, now) => Reply::NextDue(hold.next_due(&lane, now).await?),
        Request::Recall(scope, now) => Reply::Recalled(hold.recall(&scope, now).await?),
        Request::Kick(scope, now) => Reply::Count(hold.kick(&scope, now).await?),
        Request::Redate(lane, class, now, to) => {
            Reply::Count(hold.redate(&lane, &class, now, to).await?)
        }
        Request::Pause(lane, paused, now) => {
            hold.pause(lane.as_ref(), paused, now).await?;
            Reply::Done
        }
        Request::Pauses => Reply::Pauses(hold.pauses().await?),
        Request::Sweep(now) => Reply::Count(hold.sweep(now).await?),
        Request::Check => {
            hold.check().await?;
            Reply::Done
        }
        Request::Room => Reply::Room(hold.room().await?),
        Request::Verify => Reply::Verified(hold.verify().await?),
        Request::Backup(to, now) => Reply::BackedUp(hold.backup(&to, now).await?),
        Request::Export(from, max) => {
            // More than that would not fit the frame.
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            Reply::Exported(hold.export(from, max.min(wire::EXPORT_MAX_BYTES)).await?)
        }
        Request::Lease(_) | Request::Shelves(..) | Request::Find(_) | Request::List(..) => {
            return Err(Error::new(Kind::Unsupported, "hold", "answer at once"));
        }
    })
}

//! The one thread that writes. Calls that wait while it is busy share the next commit, and with it
//! one wait for the disk; each gets its own answer once that commit is durable.

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::health::{Cause, Health};
use crate::error::{Error, Kind, Result};

/// Calls that may wait before further callers have to.
const QUEUE_MAX: usize = 1024;
/// Calls that share one commit. Larger groups gain nothing and make the first of them wait.
const GROUP_MAX: usize = 64;

/// A call on its way through the writing thread.
trait Work: Send {
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    fn fail(&mut self, cause: Cause);
    fn answer(self: Box<Self>);
}

struct Task<T, F> {
    op: String,
    work: Option<F>,
    outcome: Option<std::result::Result<T, Cause>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Work for Task<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.outcome = Some(Ok(work(connection)?));
        }
        Ok(())
    }

    fn fail(&mut self, cause: Cause) {
        self.outcome = Some(Err(cause));
    }

    fn answer(self: Box<Self>) {
        let Self {
            op, outcome, reply, ..
        } = *self;
        if let Some(outcome) = outcome {
            // A caller who no longer waits is not told; the store is right without it.
            let _ = reply.send(outcome.map_err(|cause| cause.error(&op)));
        }
    }
}

/// Hands calls to the writing thread. The thread ends when this is dropped.
pub(super) struct Writer {
    jobs: mpsc::Sender<Box<dyn Work>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(connection: Connection, health: Arc<Health>) -> Result<Self> {
        let (jobs, waiting) = mpsc::channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("hold-writer".to_owned());
        let started = thread.spawn(move || serve(&connection, waiting, &health));
        let failed = |error| Error::new(Kind::Unavailable, "hold", "start its thread").with(error);
        started.map_err(failed)?;
        Ok(Self { jobs })
    }

    /// Runs `work` in a transaction and answers when that is durable.
    pub(super) async fn call<T, F>(&self, op: impl Into<String>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let op = op.into();
        let gone = || Error::new(Kind::Poisoned, "hold", &op).with("its writing thread has died");
        let (reply, answer) = oneshot::channel();
        let task = Task {
            op: op.clone(),
            work: Some(work),
            outcome: None,
            reply,
        };
        self.jobs.send(Box::new(task)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn serve(connection: &Connection, mut waiting: mpsc::Receiver<Box<dyn Work>>, health: &Health) {
    while let Some(first) = waiting.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX
            && let Ok(next) = waiting.try_recv()
        {
            group.push(next);
        }
        let lost = match health.poison() {
            Some(cause) => Some(cause),
            None => commit(connection, &mut group)
                .err()
                .map(|error| health.note(&error)),
        };
        for mut job in group {
            if let Some(cause) = &lost {
                job.fail(cause.clone());
            }
            job.answer();
        }
    }
}

/// Runs a group in one transaction. A call that fails alone is undone alone; `Err` undoes them all.
fn commit(connection: &Connection, group: &mut [Box<dyn Work>]) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let done = run_each(connection, group).and_then(|()| connection.execute_batch("COMMIT"));
    if done.is_err() && !connection.is_autocommit() {
        // The failure is reported; a roll-back that fails too ends with the connection.
        let _ = connection.execute_batch("ROLLBACK");
    }
    done
}

fn run_each(connection: &Connection, group: &mut [Box<dyn Work>]) -> rusqlite::Result<()> {
    for job in group {
        connection.execute_batch("SAVEPOINT job")?;
        if let Err(error) = job.run(connection) {
            let cause = super::health::judge(&error);
            if cause.kind == Kind::Poisoned || connection.is_autocommit() {
                return Err(error);
            }
            connection.execute_batch("ROLLBACK TO job")?;
            job.fail(cause);
        }
        connection.execute_batch("RELEASE job")?;
    }
    Ok(())
}

//! The one thread that writes. Calls that wait while it is busy share the next commit, and with it
//! one wait for the disk; each gets its own answer once that commit is durable.

use std::sync::Arc;

use rusqlite::{Connection, ErrorCode};
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
            None => commit(connection, &mut group).err().map(|error| {
                if !connection.is_autocommit() {
                    health.spoil("a transaction that failed could not be rolled back");
                }
                health.note(&error)
            }),
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
        // The failure is reported; a roll-back that fails too poisons.
        let _ = connection.execute_batch("ROLLBACK");
    }
    done
}

fn run_each(connection: &Connection, group: &mut [Box<dyn Work>]) -> rusqlite::Result<()> {
    for job in group {
        connection.execute_batch("SAVEPOINT job")?;
        if let Err(error) = job.run(connection) {
            let cause = super::health::judge(&error);
            // Out of room, SQLite may refuse everything but to roll the whole transaction back.
            let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
            if full || cause.kind == Kind::Poisoned || connection.is_autocommit() {
                return Err(error);
            }
            connection.execute_batch("ROLLBACK TO job")?;
            job.fail(cause);
        }
        connection.execute_batch("RELEASE job")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a call that keeps the thread busy while `others` queue up; those share a commit then.
    async fn while_busy<T>(writer: &Writer, others: impl Future<Output = T>) -> T {
        let (running, runs) = oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let first = writer.call("wait", move |_| {
            running.send(()).unwrap();
            released.recv().unwrap();
            Ok(())
        });
        let others = async {
            runs.await.unwrap();
            // In this order: every call is on its way before the thread is free again.
            tokio::join!(biased; others, async { release.send(()).unwrap() }).0
        };
        let (first, answers) = tokio::join!(first, others);
        first.unwrap();
        answers
    }

    #[tokio::test]
    async fn a_call_that_fails_alone_is_undone_alone() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE t (n INTEGER UNIQUE)")
            .unwrap();
        let writer = Writer::start(connection, Arc::new(Health::default())).unwrap();
        let insert = |n: i64, times: usize| {
            writer.call("insert", move |db| {
                (0..times).try_for_each(|_| db.execute("INSERT INTO t VALUES (?1)", [n]).map(drop))
            })
        };
        let others = async { tokio::join!(biased; insert(1, 1), insert(10, 2), insert(100, 1)) };
        let (one, twice, two) = while_busy(&writer, others).await;
        one.unwrap();
        two.unwrap();
        assert_eq!(
            twice.unwrap_err().kind,
            Kind::Corrupt,
            "the second insert breaks a rule"
        );
        let sum = writer.call("add up", |db| {
            db.query_one("SELECT sum(n) FROM t", [], |r| r.get(0))
        });
        let sum: i64 = sum.await.unwrap();
        assert_eq!(
            sum, 101,
            "its first insert is taken back, and nothing of the others"
        );
    }

    #[tokio::test]
    async fn a_failed_commit_is_told_to_all_who_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let connection = Connection::open(dir.path().join("t.db")).unwrap();
        connection
            .execute_batch("CREATE TABLE t (x BLOB); PRAGMA max_page_count = 10")
            .unwrap();
        let health = Arc::new(Health::default());
        let writer = Writer::start(connection, Arc::clone(&health)).unwrap();
        let count = || {
            writer.call("count", |db| {
                db.query_one("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0))
            })
        };
        let write = |bytes: usize| {
            let insert = format!("INSERT INTO t VALUES (zeroblob({bytes}))");
            writer.call("insert", move |db| db.execute(&insert, []))
        };
        write(10).await.unwrap();
        let others = async { tokio::join!(biased; write(10), write(1_000_000)) };
        let (small, large) = while_busy(&writer, others).await;
        assert_eq!(
            small.unwrap_err().kind,
            Kind::Unavailable,
            "its commit never was"
        );
        assert_eq!(large.unwrap_err().kind, Kind::Unavailable);
        assert_eq!(count().await.unwrap(), 1, "both are rolled back whole");
        assert!(health.poison().is_none());
        write(10).await.unwrap();
        assert_eq!(count().await.unwrap(), 2);
    }
}

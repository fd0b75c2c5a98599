//! What callers and the thread share.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use super::pending::{Part, State, stopped};
use super::{Options, Stopped, Tail};

/// The lock and the bells.
pub(super) struct Shared {
    pub(super) options: Options,
    state: Mutex<State>,
    fault: OnceLock<Stopped>,
    /// Every lsn below is durable.
    pub(super) durable: AtomicU64,
    /// Every lsn below has been appended.
    pub(super) appended: AtomicU64,
    /// Rung for the thread.
    pub(super) work: Condvar,
    /// Rung for callers that block: a group was taken, has landed, or the journal stopped.
    turn: Condvar,
    /// Rung for tasks that wait: a group has landed, or the journal stopped.
    pub(super) news: watch::Sender<()>,
}

impl Shared {
    pub(super) fn new(options: Options, tail: Tail) -> Self {
        Self {
            options,
            fault: OnceLock::new(),
            durable: AtomicU64::new(tail.next_lsn),
            appended: AtomicU64::new(tail.next_lsn),
            state: Mutex::new(State::new(tail)),
            work: Condvar::new(),
            turn: Condvar::new(),
            news: watch::Sender::new(()),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn check(&self) -> Result<(), Stopped> {
        self.fault
            .get()
            .map_or(Ok(()), |stopped| Err(stopped.clone()))
    }

    /// The first fault counts; everyone who waits is told.
    pub(super) fn poison(&self, fault: &io::Error) {
        let _ = self.fault.set(stopped(fault));
        self.ring(self.lock());
    }

    /// The state, once the pending group has room.
    pub(super) fn wait_for_room(&self) -> Result<MutexGuard<'_, State>, Stopped> {
        let mut state = self.lock();
        loop {
            self.check()?;
            if state.pending_bytes < self.options.pending_max {
                return Ok(state);
            }
            state = self.wait_for_news(state);
        }
    }

    /// Waits for the next ring.
    pub(super) fn wait_for_news<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
    ) -> MutexGuard<'a, State> {
        state.blocked += 1;
        let mut state = self
            .turn
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
        state.blocked -= 1;
        state
    }

    /// The next group; `None` when the journal closes and nothing is pending.
    pub(super) fn next_group(&self) -> Option<Arc<Vec<Part>>> {
        let mut state = self.lock();
        while state.pending.is_empty() {
            if state.closing {
                return None;
            }
            state.idle = true;
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        let group = state.take();
        if state.blocked > 0 {
            drop(state);
            self.turn.notify_all();
        }
        Some(group)
    }

    /// Tells everyone that the group is durable.
    pub(super) fn land(&self, group: Arc<Vec<Part>>) {
        let mut state = self.lock();
        let frames: u64 = group.iter().map(|part| u64::from(part.frames)).sum();
        self.durable.fetch_add(frames, Ordering::Release);
        state.land(group);
        self.ring(state);
    }

    fn ring(&self, state: MutexGuard<'_, State>) {
        let blocked = state.blocked > 0;
        drop(state);
        self.news.send_replace(());
        if blocked {
            self.turn.notify_all();
        }
    }
}

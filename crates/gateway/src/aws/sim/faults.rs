//! What is to go wrong with the next requests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::aws::queues::Fault;

/// A request by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// `Queues::find`.
    Find,
    /// `Queues::send`.
    Send,
    /// `Queues::receive`.
    Receive,
    /// `Queues::delete`.
    Delete,
    /// `Queues::hide`.
    Hide,
    /// `Queues::look`.
    Look,
    /// `Queues::tags`.
    Tags,
    /// `Queues::tag`.
    Tag,
}

/// What goes wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultPlan {
    /// Nothing.
    Pass,
    /// It fails and nothing is done.
    Before(Fault),
    /// It is carried out and the answer is lost.
    After(Fault),
    /// The entries at these places fail, and nothing is done for them; the others are carried out.
    Entries(Vec<usize>, Fault),
}

/// What is to go wrong, and how often each request was made.
#[derive(Debug, Default)]
pub struct Faults {
    plans: Mutex<BTreeMap<Op, Plans>>,
}

#[derive(Debug, Default)]
struct Plans {
    next: VecDeque<FaultPlan>,
    always: Option<FaultPlan>,
    requests: u64,
}

impl Faults {
    /// Plans the next request of this kind that has no plan yet.
    pub fn next(&self, op: Op, plan: FaultPlan) {
        self.plans().entry(op).or_default().next.push_back(plan);
    }

    /// Plans every request of this kind that has no plan of its own, until told otherwise.
    pub fn always(&self, op: Op, plan: Option<FaultPlan>) {
        self.plans().entry(op).or_default().always = plan;
    }

    /// How many requests of this kind were made, failed ones included.
    #[must_use]
    pub fn requests(&self, op: Op) -> u64 {
        self.plans().get(&op).map_or(0, |plans| plans.requests)
    }

    /// Counts a request and says what becomes of it.
    pub(super) fn take(&self, op: Op) -> FaultPlan {
        let mut plans = self.plans();
        let plans = plans.entry(op).or_default();
        plans.requests += 1;
        let next = plans.next.pop_front().or_else(|| plans.always.clone());
        next.unwrap_or(FaultPlan::Pass)
    }

    fn plans(&self) -> MutexGuard<'_, BTreeMap<Op, Plans>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

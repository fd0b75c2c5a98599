//! The order within a group, which a FIFO queue keeps and we must not break.

use std::collections::HashSet;

use crate::aws::queues::Incoming;

/// Which groups of one receive stand still: behind a message that stays in the queue, the later
/// ones of its group stay as well. On a queue that is no FIFO queue nothing stands behind another.
#[derive(Debug)]
pub struct Behind<'a> {
    fifo: bool,
    groups: HashSet<Option<&'a str>>,
}

impl<'a> Behind<'a> {
    /// No group stands still yet.
    #[must_use]
    pub fn new(fifo: bool) -> Self {
        Self {
            fifo,
            groups: HashSet::new(),
        }
    }

    /// `incoming` stays in the queue.
    pub fn stays(&mut self, incoming: &'a Incoming) {
        if self.fifo {
            self.groups.insert(incoming.group.as_deref());
        }
    }

    /// Whether `incoming` stands behind one that stays.
    #[must_use]
    pub fn holds(&self, incoming: &Incoming) -> bool {
        self.fifo && self.groups.contains(&incoming.group.as_deref())
    }
}

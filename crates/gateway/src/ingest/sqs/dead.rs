//! The queue for messages that no attempt will ever make right.

use std::sync::Arc;

use nightgate_core::FieldFault;

use crate::aws::queues::{
    ATTRIBUTES_MAX, Attribute, BYTES_MAX, Fault, FaultKind, Incoming, Outgoing, Queue, Queues,
};

/// The attribute that says which field breaks which rule.
pub const REASON_ATTRIBUTE: &str = "nightgate-reason";
/// Longest reason, in bytes: it must not cost the message its room.
const REASON_MAX_BYTES: usize = 1024;

/// Where messages go that cannot be read. `Debug` shows no more than the queue.
#[derive(Clone)]
pub struct DeadLetter {
    queues: Arc<dyn Queues>,
    queue: Queue,
}

impl DeadLetter {
    /// Messages go to `queue`.
    #[must_use]
    pub fn new(queues: Arc<dyn Queues>, queue: Queue) -> Self {
        Self { queues, queue }
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Sends `incoming` there as it came, with [`REASON_ATTRIBUTE`] if there is room for one more
    /// attribute. When it returns `Ok`, the message may be deleted where it came from.
    ///
    /// # Errors
    /// Why it was not sent, or may not have been.
    pub async fn take(&self, incoming: &Incoming, faults: &[FieldFault]) -> Result<(), Fault> {
        let reason = reason(faults);
        let mut outgoing = self.copy(incoming);
        let has_one = |attribute: &Attribute| attribute.name == REASON_ATTRIBUTE;
        let attribute = Attribute::text(REASON_ATTRIBUTE, reason.as_str());
        let fits = outgoing.attributes.len() < ATTRIBUTES_MAX
            && !outgoing.attributes.iter().any(has_one)
            && outgoing.bytes() + attribute.bytes() <= BYTES_MAX;
        if fits {
            outgoing.attributes.push(attribute);
        }
        let sent = self.queues.send(&self.queue, vec![outgoing]).await;
        let missing = || Err(Fault::new(FaultKind::Unknown, "the queue did not answer"));
        sent.into_iter().next().unwrap_or_else(missing)?;
        tracing::warn!(
            id = incoming.id,
            dead_letter = %self.queue,
            reason,
            "a message cannot be read and went to the dead-letter queue"
        );
        Ok(())
    }

    /// The message as it came, as far as the queue it goes to allows.
    fn copy(&self, incoming: &Incoming) -> Outgoing {
        let fifo = self.queue.is_fifo();
        let or_id = |text: &Option<String>| text.clone().or_else(|| Some(incoming.id.clone()));
        Outgoing {
            body: incoming.body.clone(),
            attributes: incoming.attributes.clone(),
            // A FIFO queue needs both; no other takes the second.
            group: match fifo {
                true => or_id(&incoming.group),
                false => incoming.group.clone(),
            },
            deduplication: if fifo {
                or_id(&incoming.deduplication)
            } else {
                None
            },
            trace: incoming.trace.clone(),
            ..Outgoing::default()
        }
    }
}

impl std::fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DeadLetter").field(&self.queue).finish()
    }
}

/// The faults in one line, cut at a whole character.
pub(super) fn reason(faults: &[FieldFault]) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let mut reason = faults.join("; ");
    if reason.len() > REASON_MAX_BYTES {
        reason.truncate(reason.floor_char_boundary(REASON_MAX_BYTES));
    }
    reason
}

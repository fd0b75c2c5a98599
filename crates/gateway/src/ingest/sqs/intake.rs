//! What becomes of received messages: read, taken in by the gate, put aside, or left.

use std::sync::Arc;

use nightgate_core::{FieldFault, Message};

use super::dead::{DeadLetter, reason};
use super::mapping::Mapping;
use super::order::Behind;
use super::source::SourceParts;
use crate::alert::text;
use crate::aws::queues::{Incoming, Queue};
use crate::error::Kind;
use crate::gate::{Accepted, Status};

/// What becomes of a received message at its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The gate has it durably: to be deleted.
    Taken,
    /// It cannot be read and went to the dead-letter queue: to be deleted.
    Dead,
    /// It cannot be read and stays as it is.
    Stays,
    /// It could not be taken in now: to come again after a while.
    Later,
    /// It stands behind one that stays: to come again after it.
    Behind,
}

impl Fate {
    /// Whether the queue is rid of it.
    #[must_use]
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Taken | Self::Dead)
    }

    /// As the metrics name it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Dead => "dead_letter",
            Self::Stays => "unreadable",
            Self::Later | Self::Behind => "left",
        }
    }
}

/// One answer a message, or why nothing was promised.
pub type Answered = Result<Vec<Accepted>, Kind>;

/// Takes in what was received from one queue, whoever received it.
pub struct Intake {
    parts: SourceParts,
    queue: Queue,
    /// The queue's name, as metrics show it.
    name: Arc<str>,
    mapping: Mapping,
    dead_letter: Option<DeadLetter>,
}

/// Received messages of which some are read.
#[must_use = "what was read must be settled"]
pub struct Read<'a> {
    incoming: &'a [Incoming],
    /// `None` for those that the gate is to be asked about.
    fates: Vec<Option<Fate>>,
}

impl Intake {
    /// An intake of what comes from `queue`, read by `mapping`; what cannot be read goes to
    /// `dead_letter`, or stays without one.
    #[must_use]
    pub fn new(
        parts: SourceParts,
        queue: Queue,
        mapping: Mapping,
        dead_letter: Option<Queue>,
    ) -> Self {
        let dead_letter =
            dead_letter.map(|queue| DeadLetter::new(Arc::clone(&parts.queues), queue));
        Self {
            name: queue.name().into(),
            parts,
            queue,
            mapping,
            dead_letter,
        }
    }

    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Reads messages and puts aside those that cannot be read. What comes back is for the gate, in
    /// order; [`Intake::settle`] wants its answers.
    pub async fn read<'a>(&self, incoming: &'a [Incoming]) -> (Read<'a>, Vec<Message>) {
        let mut fates = Vec::with_capacity(incoming.len());
        let mut behind = Behind::new(self.queue.is_fifo());
        let mut messages = Vec::with_capacity(incoming.len());
        for incoming in incoming {
            if behind.holds(incoming) {
                fates.push(Some(Fate::Behind));
                continue;
            }
            match self.mapping.map(incoming) {
                Ok(message) => {
                    fates.push(None);
                    messages.push(message);
                }
                Err(faults) => {
                    self.parts.metrics.malformed(1);
                    let fate = self.put_aside(incoming, &faults).await;
                    if !fate.is_gone() {
                        behind.stays(incoming);
                    }
                    fates.push(Some(fate));
                }
            }
        }
        (Read { incoming, fates }, messages)
    }

    /// One fate a message, in order. `messages`: those that the gate answered about.
    pub async fn settle(
        &self,
        read: Read<'_>,
        messages: Vec<Message>,
        answered: Answered,
    ) -> Vec<Fate> {
        let answers = match answered {
            Ok(answers) => answers.into_iter().map(Some).collect(),
            // One message that the hold will never take must not keep back the others.
            Err(Kind::Invalid) => self.one_by_one(messages).await,
            Err(_) => Vec::new(),
        };
        let Read { incoming, fates } = read;
        let mut answers = answers.into_iter();
        let mut settled = Vec::with_capacity(fates.len());
        for (incoming, fate) in incoming.iter().zip(fates) {
            settled.push(match fate {
                Some(fate) => fate,
                None => self.fate(incoming, answers.next().flatten()).await,
            });
        }
        keep_order(incoming, &mut settled, self.queue.is_fifo());
        for fate in &settled {
            self.parts.metrics.source(&self.name, fate.as_str(), 1);
        }
        settled
    }

    async fn fate(&self, incoming: &Incoming, answer: Option<Accepted>) -> Fate {
        match answer.map(|answer| (answer.status, answer.faults)) {
            None | Some((Status::NoRoom, _)) => Fate::Later,
            Some((Status::Invalid, faults)) => self.put_aside(incoming, &faults).await,
            Some((Status::Accepted | Status::Held | Status::Refused | Status::Duplicate, _)) => {
                Fate::Taken
            }
        }
    }

    async fn one_by_one(&self, messages: Vec<Message>) -> Vec<Option<Accepted>> {
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            answers.push(self.alone(message).await);
        }
        answers
    }

    async fn alone(&self, message: Message) -> Option<Accepted> {
        let id = message.id.clone();
        let fault = match self.parts.gate.accept(vec![message]).await {
            Ok(answers) => return answers.into_iter().next(),
            Err(fault) => fault,
        };
        let rule = format!("is not taken by the {}", fault.part);
        (fault.kind == Kind::Invalid).then(|| Accepted {
            id,
            status: Status::Invalid,
            due: None,
            ruling: None,
            why: None,
            faults: vec![FieldFault::new("message", rule)],
            limit: None,
        })
    }

    /// A message that will never be right goes to the dead-letter queue, if there is one.
    async fn put_aside(&self, incoming: &Incoming, faults: &[FieldFault]) -> Fate {
        let (reason, now) = (reason(faults), self.parts.clock.now());
        let Some(dead) = &self.dead_letter else {
            let alarm = text::source_unreadable(&self.name, &reason, None, now);
            self.parts.alerts.raise(alarm);
            let (id, queue) = (&incoming.id, &self.queue);
            tracing::warn!(id, %queue, reason, "a message cannot be read and stays");
            return Fate::Stays;
        };
        let queue = dead.queue();
        if let Err(fault) = dead.take(incoming, faults).await {
            tracing::warn!(%queue, %fault, "failed to send to the dead-letter queue");
            let alarm = text::source_failing(queue.name(), 1, &fault.why, now);
            self.parts.alerts.raise(alarm);
            return Fate::Later;
        }
        let alarm = text::source_unreadable(&self.name, &reason, Some(queue.name()), now);
        self.parts.alerts.raise(alarm);
        Fate::Dead
    }
}

/// Behind a message that stays, the later ones of its group stay too, also when the gate has them:
/// they come again after it, and are known.
fn keep_order(incoming: &[Incoming], fates: &mut [Fate], fifo: bool) {
    let mut behind = Behind::new(fifo);
    for (incoming, fate) in incoming.iter().zip(fates) {
        if behind.holds(incoming) && *fate == Fate::Taken {
            *fate = Fate::Behind;
        }
        if !fate.is_gone() {
            behind.stays(incoming);
        }
    }
}

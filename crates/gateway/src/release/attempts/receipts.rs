//! What the receipts tell of messages that came back from lapsed loans. Nothing is claimed: a copy
//! of a message that the hold does not recognise as one is not recognised here either.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate_core::MessageId;

use super::{Attempts, Claim, Fate, Trail, Try};
use crate::error::{Kind, Result};
use crate::receipt::{Event, ReceiptLog};

/// Messages asked about at a time: what left together was filed together, so many cost little more
/// than one.
const IDS_MAX: usize = 1_000;

/// The receipts, asked.
pub struct ReceiptAttempts(Arc<dyn ReceiptLog>);

impl ReceiptAttempts {
    /// Asks `receipts`.
    #[must_use]
    pub fn new(receipts: Arc<dyn ReceiptLog>) -> Self {
        Self(receipts)
    }
}

/// Of which messages receipts say that no attempt is without its answer: they were not handed over,
/// or that failed. Where there are no receipts, or they cannot be read, nobody can say so.
///
/// # Errors
/// When the log fails.
pub async fn unsent(receipts: &dyn ReceiptLog, ids: &[MessageId]) -> Result<Vec<bool>> {
    let clear =
        |events: Vec<Event>| !events.is_empty() && Trail::from_events(&events) == Trail::Clear;
    match receipts.events(ids).await {
        Err(error) if error.kind == Kind::Unsupported => Ok(vec![false; ids.len()]),
        events => Ok(events?.into_iter().map(clear).collect()),
    }
}

#[async_trait]
impl Attempts for ReceiptAttempts {
    fn claims(&self) -> bool {
        false
    }

    async fn trails(&self, lapsed: &[Claim], _: Timestamp) -> Result<Vec<Trail>> {
        let mut trails = Vec::with_capacity(lapsed.len());
        for some in lapsed.chunks(IDS_MAX) {
            let ids: Vec<MessageId> = some.iter().map(|claim| claim.id.clone()).collect();
            match self.0.events(&ids).await {
                // They went elsewhere: whatever was on loan may have gone.
                Err(error) if error.kind == Kind::Unsupported => {
                    return Ok(vec![Trail::Open; lapsed.len()]);
                }
                events => trails.extend(events?.iter().map(|events| Trail::from_events(events))),
            }
        }
        Ok(trails)
    }

    async fn claim(&self, tries: &[Try], _: Timestamp) -> Vec<Result<Trail>> {
        tries.iter().map(|_| Ok(Trail::Clear)).collect()
    }

    async fn conclude(&self, _: Vec<(Claim, Fate)>, _: Timestamp) -> Result<()> {
        Ok(())
    }
}

impl Trail {
    /// The order of receipts proves little where two releasers had the message in turn, so the
    /// furthest it came counts, and every attempt must have its answer.
    fn from_events(events: &[Event]) -> Self {
        let since = events.iter().rposition(|event| *event == Event::Kicked);
        let events = &events[since.map_or(0, |kick| kick + 1)..];
        let count = |wanted: &[Event]| events.iter().filter(|event| wanted.contains(event)).count();
        let answers = [Event::Retry, Event::Unknown];
        if count(&[Event::Delivered]) > 0 {
            Self::Delivered
        } else if count(&[Event::Rejected]) > 0 {
            Self::Rejected
        } else if count(&[Event::Buried]) > 0 {
            Self::Buried
        } else if count(&[Event::Attempted]) > count(&answers) {
            Self::Open
        } else {
            Self::Clear
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hold::Token;
    use Event::{Accepted, Attempted, Buried, Delivered, Held, Kicked, Rejected, Retry, Unknown};

    #[test]
    fn an_end_on_file_counts_although_the_hold_was_never_told() {
        let of = Trail::from_events;
        assert_eq!(of(&[Accepted, Attempted, Delivered]), Trail::Delivered);
        assert_eq!(of(&[Accepted, Attempted, Rejected]), Trail::Rejected);
        assert_eq!(of(&[Accepted, Attempted, Unknown, Buried]), Trail::Buried);
    }

    #[test]
    fn an_attempt_without_an_answer_is_open_whoever_else_was_answered_since() {
        let of = Trail::from_events;
        assert_eq!(of(&[Accepted, Attempted]), Trail::Open);
        assert_eq!(of(&[Accepted, Attempted, Held]), Trail::Open);
        assert_eq!(of(&[Accepted, Attempted, Attempted, Retry]), Trail::Open);
        assert_eq!(
            of(&[Accepted, Attempted, Attempted, Delivered, Retry]),
            Trail::Delivered
        );
    }

    #[tokio::test]
    async fn receipts_that_cannot_be_read_leave_every_trail_open() {
        let log = crate::receipt::lines::LinesLog::new(std::io::sink());
        let attempts = ReceiptAttempts::new(Arc::new(log));
        let claim = Claim {
            id: MessageId::new("m-1").unwrap(),
            copy: Timestamp::UNIX_EPOCH,
            token: Token { seq: 1, lease: 1 },
            until: Timestamp::UNIX_EPOCH,
            lapsed: true,
        };
        let asked = vec![claim; IDS_MAX + 1];
        let trails = attempts.trails(&asked, Timestamp::UNIX_EPOCH).await;
        assert_eq!(trails.unwrap(), vec![Trail::Open; asked.len()]);
    }

    #[test]
    fn answered_attempts_and_those_before_a_kick_are_clear() {
        let of = Trail::from_events;
        assert_eq!(of(&[]), Trail::Clear);
        assert_eq!(
            of(&[Held, Attempted, Retry, Attempted, Unknown]),
            Trail::Clear
        );
        assert_eq!(of(&[Attempted, Unknown, Buried, Kicked]), Trail::Clear);
    }
}

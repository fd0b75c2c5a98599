//! `settle`: what is done is deleted; what is put back or aside is sent anew, then deleted.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::SqsHold;
use super::loans::Loan;
use super::send::Entries;
use crate::aws::queues::Fault;
use crate::hold::{Lane, Settle, Settled, Verdict};

/// A loan that ends, and its place among the settlements.
struct Ending {
    at: usize,
    loan: Loan,
}

/// A message on its way into a queue: of a lane, by its place, or the buried one.
type Target = (Lane, Option<usize>);

impl SqsHold {
    pub(super) async fn end_all(&self, settlements: Vec<Settle>, now: Timestamp) -> Vec<Settled> {
        let mut answers = vec![Settled::Lapsed; settlements.len()];
        let mut done = Vec::new();
        let mut anew: BTreeMap<Target, Vec<Ending>> = BTreeMap::new();
        for (at, settle) in settlements.into_iter().enumerate() {
            let Some(mut loan) = self.loans().end(settle.token, now) else {
                continue;
            };
            let target = self.turn(&mut loan, settle.verdict, now);
            let ending = Ending { at, loan };
            match target {
                None => done.push(ending),
                Some(target) => anew.entry(target).or_default().push(ending),
            }
        }
        let sends = anew.into_iter();
        let sends = sends.map(|(target, endings)| self.send_anew(target, endings, now));
        for sent in join_all(sends.collect::<Vec<_>>()).await {
            done.extend(sent);
        }
        for at in self.delete_all(done).await {
            answers[at] = Settled::Yes;
        }
        answers
    }

    /// What becomes of the message; says where it is sent anew, if it is.
    fn turn(&self, loan: &mut Loan, verdict: Verdict, now: Timestamp) -> Option<Target> {
        match verdict {
            Verdict::Done(_) => None,
            Verdict::Defer { due, attempted } => {
                loan.letter.held.due = due;
                loan.letter.attempts += u32::from(attempted);
                let lane = self.lanes.get(&loan.lane)?;
                Some((loan.lane.clone(), Some(lane.place_of(due, now).0)))
            }
            Verdict::Bury { why } => {
                loan.letter.why = Some(why);
                Some((loan.lane.clone(), None))
            }
        }
    }

    /// Sends messages to one queue; gives those that are there now, whose old ones can go. Of the
    /// others the old one stays on loan and lapses: what may have been sent is there twice then,
    /// one of them lapsed.
    async fn send_anew(
        &self,
        (lane, place): Target,
        endings: Vec<Ending>,
        now: Timestamp,
    ) -> Vec<Ending> {
        let Some(lane) = self.lanes.get(&lane) else {
            return Vec::new();
        };
        let mut kept = Vec::with_capacity(endings.len());
        let mut messages = Vec::with_capacity(endings.len());
        for ending in endings {
            let letter = &ending.loan.letter;
            let delay = place.map(|_| lane.place_of(letter.held.due, now).1);
            let message = letter.outgoing(lane.bytes_max, delay.unwrap_or_default());
            let Some(message) = message else {
                warn(&lane.lane, "send anew", "it would be too large");
                continue;
            };
            messages.push(message);
            kept.push(ending);
        }
        let delays: Vec<_> = messages.iter().map(|message| message.delay).collect();
        let queue = place.map_or(&lane.buried, |place| &lane.places[place].queue);
        let answers = self.all(queue, Entries::Send(messages)).await;
        if place.is_none() {
            lane.buried_changed();
        }
        let mut sent = Vec::with_capacity(kept.len());
        for ((ending, delay), answer) in kept.into_iter().zip(delays).zip(answers) {
            match answer {
                Ok(()) => {
                    let due = ending.loan.letter.held.due;
                    if let Some(place) = place {
                        lane.sent(place, due, delay, now);
                    }
                    sent.push(ending);
                }
                Err(fault) => self.leave(&ending.loan, "send anew", &fault),
            }
        }
        sent
    }

    /// Deletes loans from their queues; says the places of those that are gone.
    async fn delete_all(&self, endings: Vec<Ending>) -> Vec<usize> {
        let mut groups: BTreeMap<(Lane, usize), Vec<Ending>> = BTreeMap::new();
        for ending in endings {
            let key = (ending.loan.lane.clone(), ending.loan.place);
            groups.entry(key).or_default().push(ending);
        }
        let deletes = groups
            .into_iter()
            .map(|((lane, place), endings)| async move {
                let Some(lane) = self.lanes.get(&lane) else {
                    return Vec::new();
                };
                let handles = endings.iter().map(|ending| ending.loan.handle.clone());
                let entries = Entries::Delete(handles.collect());
                let answers = self.all(&lane.places[place].queue, entries).await;
                let mut gone = Vec::with_capacity(endings.len());
                for (ending, answer) in endings.into_iter().zip(answers) {
                    match answer {
                        Ok(()) => gone.push(ending.at),
                        Err(fault) => self.leave(&ending.loan, "delete", &fault),
                    }
                }
                gone
            });
        let gone = join_all(deletes.collect::<Vec<_>>()).await;
        gone.into_iter().flatten().collect()
    }

    /// A loan that could not be ended: it lapses, so its queue is worth asking then.
    fn leave(&self, loan: &Loan, what: &str, fault: &Fault) {
        warn(&loan.lane, what, &fault.why);
        if let Some(lane) = self.lanes.get(&loan.lane) {
            lane.places[loan.place].state().worth.note(loan.until);
        }
    }
}

fn warn(lane: &Lane, what: &str, why: &str) {
    tracing::warn!(
        %lane,
        why,
        "failed to {what} a message in SQS; its loan lapses and it comes again, as lapsed"
    );
}

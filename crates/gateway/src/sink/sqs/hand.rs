//! One call of the sink: its messages as SQS takes them, and what is known of each.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::outcome;
use crate::aws::batch::pack;
use crate::aws::queues::{Answer, FaultKind, Outgoing, Queue};
use crate::aws::travel;
use crate::sink::{Outbound, Outcome};

/// Longest group and deduplication id of SQS, in characters.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-quotas.html>
const NAME_MAX: usize = 128;
/// Keeps the hashes of recipients apart from any other.
const RECIPIENT_CONTEXT: &str = "nightgate 2026-11 sqs sink: group of a recipient";
/// Keeps the hashes of names that SQS forbids apart from any other.
const NAME_CONTEXT: &str = "nightgate 2026-11 sqs sink: name that sqs forbids";

/// What to do after an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing more: each message has its outcome.
    Done,
    /// Send it again in halves: it was turned down as a whole.
    Halve,
}

/// One call of the sink.
pub(super) struct Hand<'a> {
    pub(super) batch: &'a [Outbound],
    /// As SQS takes them; those it never takes have their outcome already.
    formed: Vec<Option<Outgoing>>,
    /// On a FIFO queue the number of each message's group.
    groups: Vec<Option<usize>>,
    state: Mutex<State>,
}

struct State {
    told: Vec<Option<Outcome>>,
    /// What every request that has not begun is told.
    stop: Option<Outcome>,
    /// By group: the first that did not leave, and what those behind it are told.
    closed: HashMap<usize, (usize, Outcome)>,
}

impl<'a> Hand<'a> {
    pub(super) fn new(batch: &'a [Outbound], queue: &Queue) -> Self {
        let mut told = vec![None; batch.len()];
        let mut formed: Vec<Option<Outgoing>> = Vec::with_capacity(batch.len());
        for (one, told) in batch.iter().zip(&mut told) {
            let outgoing = form(one, queue.is_fifo());
            formed.push(outgoing.map_err(|why| *told = Some(why)).ok());
        }
        let mut numbers = HashMap::new();
        let mut number = |one: &Option<Outgoing>| {
            let group = one.as_ref()?.group.clone()?;
            let next = numbers.len();
            Some(*numbers.entry(group).or_insert(next))
        };
        let groups = match queue.is_fifo() {
            true => formed.iter().map(&mut number).collect(),
            false => vec![None; batch.len()],
        };
        let state = State {
            told,
            stop: None,
            closed: HashMap::new(),
        };
        Self {
            batch,
            formed,
            groups,
            state: Mutex::new(state),
        }
    }

    /// Splits the batch into parts that may go at the same time, each in order: as many as there
    /// are requests, or on a FIFO queue at most `abreast`, with each group in one of them.
    pub(super) fn strands(&self, abreast: usize) -> Vec<Vec<usize>> {
        let can_go = |place: &usize| self.formed[*place].is_some();
        let places: Vec<usize> = (0..self.batch.len()).filter(can_go).collect();
        let grouped = self.groups.iter().any(Option::is_some);
        if !grouped {
            let sizes: Vec<usize> = places.iter().map(|place| self.bytes(*place)).collect();
            let packs = pack(&sizes).into_iter();
            return packs.map(|range| places[range].to_vec()).collect();
        }
        let mut strands: Vec<Vec<usize>> = vec![Vec::new(); abreast.max(1)];
        let mut of_group: HashMap<usize, usize> = HashMap::new();
        let mut sizes: HashMap<usize, usize> = HashMap::new();
        for group in self.groups.iter().flatten() {
            *sizes.entry(*group).or_default() += 1;
        }
        let mut loads = vec![0_usize; strands.len()];
        for place in places {
            let Some(group) = self.groups[place] else {
                continue;
            };
            let strand = *of_group.entry(group).or_insert_with(|| {
                let lightest = (0..loads.len()).min_by_key(|strand| loads[*strand]);
                let lightest = lightest.unwrap_or(0);
                loads[lightest] += sizes.get(&group).copied().unwrap_or(0);
                lightest
            });
            strands[strand].push(place);
        }
        strands.retain(|strand| !strand.is_empty());
        strands
    }

    /// Takes those out of `run` that have an outcome, or must not leave any more in this call.
    pub(super) fn withhold(&self, run: &mut Vec<usize>) {
        let mut state = self.state();
        let State { told, stop, closed } = &mut *state;
        run.retain(|place| {
            if told[*place].is_some() {
                return false;
            }
            let group = self.groups[*place];
            let closed = group.and_then(|group| closed.get(&group));
            let closed = closed.filter(|(first, _)| first < place);
            let behind = closed.map(|(_, outcome)| outcome);
            told[*place] = stop.as_ref().or(behind).cloned();
            told[*place].is_none()
        });
    }

    /// Cuts `run` after what one request takes; the rest.
    pub(super) fn split(&self, run: &mut Vec<usize>) -> Vec<usize> {
        let sizes: Vec<usize> = run.iter().map(|place| self.bytes(*place)).collect();
        let first = pack(&sizes).into_iter().next();
        run.split_off(first.map_or(0, |range| range.end))
    }

    pub(super) fn messages(&self, run: &[usize]) -> Vec<Outgoing> {
        let formed = run.iter().filter_map(|place| self.formed[*place].clone());
        formed.collect()
    }

    /// These may not leave any more, nor what stands behind them in their groups: it would come
    /// before them.
    pub(super) fn too_late(&self, late: &[usize]) {
        let mut state = self.state();
        for place in late {
            self.tell(&mut state, *place, Outcome::TooLate);
        }
    }

    /// Notes what came of a request.
    pub(super) fn read(&self, run: &[usize], mut answers: Vec<Answer<String>>) -> Step {
        if answers.len() != run.len() {
            let why = "the queue gave no outcome for each message";
            let fault = crate::aws::queues::Fault::new(FaultKind::Unknown, why);
            answers = vec![Err(fault); run.len()];
        }
        let all = |kind| {
            let is = |answer: &Answer<String>| matches!(answer, Err(fault) if fault.kind == kind);
            answers.iter().all(is)
        };
        if all(FaultKind::Rejected) && run.len() > 1 {
            return Step::Halve;
        }
        let whole = all(FaultKind::Unavailable);
        let mut state = self.state();
        for (place, answer) in run.iter().zip(answers) {
            self.tell(&mut state, *place, outcome(answer, whole));
        }
        Step::Done
    }

    /// One outcome each.
    pub(super) fn outcomes(self) -> Vec<Outcome> {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let not_tried = || Outcome::Retry {
            after: None,
            whole_lane: false,
            why: "not tried".to_owned(),
        };
        let told = state.told.into_iter();
        told.map(|one| one.unwrap_or_else(not_tried)).collect()
    }

    fn tell(&self, state: &mut State, place: usize, outcome: Outcome) {
        if let Outcome::Retry {
            whole_lane: true, ..
        } = &outcome
        {
            state.stop.get_or_insert_with(|| outcome.clone());
        }
        if let Some(group) = self.groups[place]
            && let Some(behind) = behind(&outcome)
        {
            state.closed.entry(group).or_insert((place, behind));
        }
        state.told[place] = Some(outcome);
    }

    fn bytes(&self, place: usize) -> usize {
        self.formed[place].as_ref().map_or(0, Outgoing::bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What those behind a message in its group are told: nothing if it is out of their way.
fn behind(outcome: &Outcome) -> Option<Outcome> {
    match outcome {
        Outcome::Delivered { .. } | Outcome::Rejected { .. } => None,
        Outcome::TooLate => Some(Outcome::TooLate),
        // Not counted as a try of theirs: they would all be buried with the one before them.
        Outcome::Retry { .. } | Outcome::Unknown { .. } => Some(Outcome::Retry {
            after: None,
            whole_lane: true,
            why: "one before it in its group did not leave".to_owned(),
        }),
    }
}

/// A message as SQS takes it, or that it never will.
fn form(outbound: &Outbound, fifo: bool) -> Result<Outgoing, Outcome> {
    let message = outbound.message();
    let rejected = |fault: nightgate_core::FieldFault| Outcome::Rejected {
        why: fault.to_string(),
    };
    let mut outgoing = travel::leave(message).map_err(rejected)?;
    travel::mark(&mut outgoing, &message.id, outbound.permit().not_after());
    outgoing.deduplication = None;
    if fifo {
        let group = outgoing.group.take();
        let group = group.or_else(|| message.campaign.as_deref().map(str::to_owned));
        outgoing.group = Some(match group {
            Some(group) => name(&group),
            None => hash(RECIPIENT_CONTEXT, message.recipient.expose()),
        });
        outgoing.deduplication = Some(name(message.id.as_str()));
    }
    Ok(outgoing)
}

/// The text itself if SQS takes it as a group or deduplication id, else its hash.
fn name(text: &str) -> String {
    let legal = (1..=NAME_MAX).contains(&text.len());
    match legal && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => text.to_owned(),
        false => hash(NAME_CONTEXT, text),
    }
}

fn hash(context: &str, text: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(text.as_bytes());
    hasher.finalize().to_hex().to_string()
}

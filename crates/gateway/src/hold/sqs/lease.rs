//! `lease`: the ready queue is asked first, then the wait queues that may hold something due.
//!
//! Short polls take what they find, several at once. One may answer nothing although messages
//! remain, so a queue counts as empty only when a long poll found nothing, and that is asked only
//! when there is nothing to lend.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{join_all, join3};
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};

use super::body::Letter;
use super::lane::{Early, LaneQueues, Place, READY};
use super::lapse::{Reading, lapsed, reading};
use super::loans::Loan;
use super::marks::Index;
use super::send::Entries;
use super::worth::after;
use super::{SqsHold, failed, unsupported};
use crate::aws::queues::{
    ATTRIBUTES_MAX, Answer, Ask, Attribute, BATCH_MAX, BYTES_MAX, Fault, HIDE_MAX, Incoming,
    Outgoing, RETENTION_MAX,
};
use crate::error::Result;
use crate::hold::{HoldStore, LeaseAsk, Leased, Pick};

/// A long poll asks every server and waits for so long.
const LONG: Duration = Duration::from_secs(1);
/// Rounds of receives in one lease that find nothing due. A wait queue of mixed dues is gone
/// through in several leases.
const UNDUE_ROUNDS: usize = 16;
/// Undue messages hidden in one queue beyond which no more are gone through: SQS allows 120,000 in
/// flight, and loans need theirs.
const HIDDEN_MAX: u64 = 60_000;
/// The attribute of a message that does not read, in the buried queue.
const WHY: &str = "nightgate-why";
/// Share of the retention beyond which a message is told to be old, in percent.
const AGED_PERCENT: u64 = 80;

/// One lease under way.
struct Job<'a> {
    ask: &'a LeaseAsk<'a>,
    lane: &'a LaneQueues,
    index: Option<Arc<Index>>,
    until: Timestamp,
    hide: Duration,
    lent: Vec<Leased>,
    fault: Option<Fault>,
}

impl Job<'_> {
    fn left(&self) -> usize {
        self.ask.max.saturating_sub(self.lent.len())
    }
}

/// What a round of receives brought.
#[derive(Default)]
struct Round {
    received: usize,
    lent: usize,
}

/// What is to be done with messages that are not lent.
#[derive(Default)]
struct Aside {
    hide: Vec<(String, Duration)>,
    /// Taken back: deleted.
    recalled: Vec<String>,
    poison: Vec<Poison>,
}

/// A message that does not read.
struct Poison {
    handle: String,
    message: Outgoing,
}

impl SqsHold {
    pub(super) async fn lend(&self, ask: &LeaseAsk<'_>) -> Result<Vec<Leased>> {
        if ask.pick != Pick::Any {
            return Err(unsupported(self.name(), "pick one campaign"));
        }
        let lane = self.lane(ask.lane)?;
        if ask.max == 0 {
            return Ok(Vec::new());
        }
        self.purge(ask.now);
        let (until, hide) = loan_time(ask);
        let mut job = Job {
            ask,
            lane,
            index: self.index(ask.now).await?,
            until,
            hide,
            lent: Vec::new(),
            fault: None,
        };
        self.lend_early(&mut job);
        let asks =
            |place: &usize| *place == READY || lane.places[*place].state().worth.asks(ask.now);
        let places: Vec<usize> = (0..lane.places.len()).filter(asks).collect();
        let mut open = Vec::new();
        for place in places {
            if job.left() > 0 && self.drain(&mut job, place).await {
                open.push(place);
            }
        }
        if job.lent.is_empty() && job.fault.is_none() {
            self.wait(&mut job, open).await;
        }
        match job.fault {
            Some(fault) if job.lent.is_empty() => {
                let op = format!("receive messages of the lane `{}`", ask.lane);
                Err(failed(op, fault))
            }
            _ => Ok(job.lent),
        }
    }

    /// Lends what was received a moment too early, and is due now.
    fn lend_early(&self, job: &mut Job<'_>) {
        let mut early = job.lane.early();
        let now = job.ask.now;
        early.retain(|one| one.until > now);
        while job.left() > 0 {
            let Some(at) = early.iter().position(|one| one.letter.held.due <= now) else {
                break;
            };
            let one = early.swap_remove(at);
            let loan = Loan {
                lane: job.lane.lane.clone(),
                place: one.place,
                handle: one.handle,
                until: one.until,
                letter: one.letter,
            };
            let leased = self.leased(loan);
            job.lent.push(leased);
        }
    }

    /// Takes what short polls find. Says whether a long poll is worth it.
    async fn drain(&self, job: &mut Job<'_>, at: usize) -> bool {
        let place = &job.lane.places[at];
        let mut undue = 0;
        while job.left() > 0 {
            let round = self.round(job, at, Duration::ZERO).await;
            if round.received == 0 {
                return job.fault.is_none();
            }
            if round.lent > 0 {
                undue = 0;
                continue;
            }
            undue += 1;
            let enough = match at {
                READY => undue == UNDUE_ROUNDS,
                _ => is_enough(place, undue, job.ask.now),
            };
            if enough {
                return false;
            }
        }
        false
    }

    /// Long polls on several queues at once, where nothing was found to lend.
    async fn wait(&self, job: &mut Job<'_>, places: Vec<usize>) {
        let polls = places.iter().map(|at| {
            let queue = &job.lane.places[*at].queue;
            let ask = Ask {
                max: job.left().min(BATCH_MAX),
                hide: job.hide,
                wait: LONG,
            };
            async move { self.queues.receive(queue, &ask).await }
        });
        let polled = join_all(polls.collect::<Vec<_>>()).await;
        for (at, received) in places.into_iter().zip(polled) {
            let received = match received {
                Ok(received) => received,
                Err(fault) => {
                    job.fault = Some(fault);
                    continue;
                }
            };
            let nothing = received.is_empty();
            let round = self.sort(job, at, received).await;
            if round.lent == 0 {
                rest(&job.lane.places[at], job.ask.now, nothing);
            }
        }
    }

    /// Several receives at once, and what comes of them. One alone where the last brought nothing,
    /// and no more once one brings nothing: each costs a request.
    async fn round(&self, job: &mut Job<'_>, at: usize, wait: Duration) -> Round {
        let queue = &job.lane.places[at].queue;
        let polls = match job.lane.places[at].state().gives {
            true => job.left().div_ceil(BATCH_MAX),
            false => 1,
        };
        let dry = &AtomicBool::new(false);
        let share = |poll: usize| (job.left() - poll * BATCH_MAX).min(BATCH_MAX);
        let polls = (0..polls).map(|poll| {
            let ask = Ask {
                max: share(poll),
                hide: job.hide,
                wait,
            };
            async move {
                if dry.load(Ordering::Relaxed) {
                    return Ok(Vec::new());
                }
                let polled = self.queues.receive(queue, &ask).await;
                if polled.as_ref().map_or(true, Vec::is_empty) {
                    dry.store(true, Ordering::Relaxed);
                }
                polled
            }
        });
        let mut received = Vec::new();
        let polls = polls.collect::<Vec<_>>();
        let mut polls = stream::iter(polls).buffer_unordered(self.pollers);
        while let Some(polled) = polls.next().await {
            match polled {
                Ok(messages) => received.extend(messages),
                Err(fault) => job.fault = Some(fault),
            }
        }
        job.lane.places[at].state().gives = !received.is_empty();
        self.sort(job, at, received).await
    }

    /// Lends what is due of what was received, and does what is to be done with the rest.
    async fn sort(&self, job: &mut Job<'_>, at: usize, received: Vec<Incoming>) -> Round {
        let place = &job.lane.places[at];
        let mut round = Round {
            received: received.len(),
            lent: 0,
        };
        let mut aside = Aside::default();
        for message in received {
            self.notice_age(place, &message, job.ask.now);
            if let Some(leased) = self.judge(job, at, message, &mut aside) {
                job.lent.push(leased);
                round.lent += 1;
            }
        }
        if round.lent > 0 {
            let mut state = place.state();
            state.worth.found();
            state.fresh = state.fresh.saturating_sub(round.lent as u64);
        }
        self.put_aside(job.lane, place, aside).await;
        round
    }

    fn judge(
        &self,
        job: &Job<'_>,
        at: usize,
        message: Incoming,
        aside: &mut Aside,
    ) -> Option<Leased> {
        let (first, receives) = (message.first_received_at, message.receives);
        let mut letter = match Letter::read(&message.body) {
            Ok(letter) => letter,
            Err(why) => {
                aside.poison.push(Poison::of(message, why));
                return None;
            }
        };
        if job
            .index
            .as_ref()
            .is_some_and(|index| index.bites(&letter.held))
        {
            aside.recalled.push(message.handle);
            return None;
        }
        let (due, now) = (letter.held.due, job.ask.now);
        let mut state = job.lane.places[at].state();
        match reading(due, first, receives, now) {
            Reading::Hide(seconds) => {
                state.hide(after(now, SignedDuration::from_secs(seconds.into())));
                let hide = Duration::from_secs(seconds.into());
                aside.hide.push((message.handle, hide));
                return None;
            }
            Reading::Keep => {
                state.worth.note(due);
                job.lane.early().push(Early {
                    place: at,
                    handle: message.handle,
                    until: job.until,
                    letter,
                });
                return None;
            }
            Reading::Lend => drop(state),
        }
        letter.lapsed |= lapsed(due, first, receives);
        Some(self.leased(Loan {
            lane: job.lane.lane.clone(),
            place: at,
            handle: message.handle,
            until: job.until,
            letter,
        }))
    }

    fn leased(&self, loan: Loan) -> Leased {
        let letter = &loan.letter;
        let (held, until) = (letter.held.clone(), loan.until);
        let (attempts, lapsed) = (letter.attempts, letter.lapsed);
        Leased {
            token: self.loans().lend(loan),
            held,
            until,
            attempts,
            lapsed,
        }
    }

    async fn put_aside(&self, lane: &LaneQueues, place: &Place, aside: Aside) {
        let queue = &place.queue;
        let recalled = aside.recalled.len();
        let (hidden, deleted, ()) = join3(
            self.all(queue, Entries::Hide(aside.hide)),
            self.all(queue, Entries::Delete(aside.recalled)),
            self.bury_poison(lane, place, aside.poison),
        )
        .await;
        if recalled > 0 {
            tracing::info!(lane = %lane.lane, recalled, "deleted messages that were recalled");
        }
        for fault in hidden.into_iter().chain(deleted).filter_map(Answer::err) {
            // They come again by themselves: the undue one as lapsed, the recalled one as recalled.
            tracing::warn!(lane = %lane.lane, %fault, "failed to put a message aside in SQS");
        }
    }

    /// Moves messages that do not read to the buried queue, byte for byte.
    async fn bury_poison(&self, lane: &LaneQueues, place: &Place, poison: Vec<Poison>) {
        let (handles, messages): (Vec<_>, Vec<_>) = poison
            .into_iter()
            .map(|one| (one.handle, one.message))
            .unzip();
        let sent = self.all(&lane.buried, Entries::Send(messages)).await;
        let mut gone = Vec::new();
        for (handle, answer) in handles.into_iter().zip(sent) {
            match answer {
                Ok(()) => gone.push(handle),
                Err(fault) => {
                    tracing::warn!(lane = %lane.lane, %fault, "failed to bury a message in SQS");
                }
            }
        }
        if !gone.is_empty() {
            lane.buried_changed();
            self.poison.fetch_add(gone.len() as u64, Ordering::Relaxed);
            tracing::error!(
                lane = %lane.lane,
                messages = gone.len(),
                "moved messages that do not read to the buried queue; somebody else sends to {}",
                place.queue
            );
        }
        self.all(&place.queue, Entries::Delete(gone)).await;
    }

    /// Counts a message that its queue will soon drop.
    fn notice_age(&self, place: &Place, message: &Incoming, now: Timestamp) {
        let retention = place.state().look.as_ref().map(|(_, look)| look.retention);
        let retention = retention.unwrap_or(RETENTION_MAX);
        let old = retention.as_secs() * AGED_PERCENT / 100;
        let age = now.duration_since(message.sent_at).as_secs();
        if u64::try_from(age).is_ok_and(|age| age >= old) {
            self.aged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Poison {
    fn of(message: Incoming, why: &str) -> Self {
        let mut attributes = message.attributes;
        attributes.retain(|attribute| attribute.name != WHY);
        if attributes.len() < ATTRIBUTES_MAX {
            attributes.push(Attribute::text(WHY, why));
        }
        let mut outgoing = Outgoing {
            body: message.body,
            attributes,
            trace: message.trace,
            ..Outgoing::default()
        };
        if outgoing.bytes() > BYTES_MAX {
            outgoing
                .attributes
                .retain(|attribute| attribute.name != WHY);
        }
        Self {
            handle: message.handle,
            message: outgoing,
        }
    }
}

/// Until when a loan runs, and for how long SQS hides it: whole seconds, rounded up.
fn loan_time(ask: &LeaseAsk<'_>) -> (Timestamp, Duration) {
    let most = SignedDuration::try_from(HIDE_MAX).unwrap_or(SignedDuration::MAX);
    let ttl = ask.ttl.clamp(SignedDuration::ZERO, most);
    let seconds = ttl.as_secs() + i64::from(ttl.subsec_nanos() > 0);
    let hide = Duration::from_secs(u64::try_from(seconds.max(1)).unwrap_or(1));
    (after(ask.now, ttl), hide)
}

/// Whether a queue was gone through far enough after so many rounds without anything due. One whose
/// messages open together is left alone at once, unless some of them are due just now.
fn is_enough(place: &Place, undue: usize, now: Timestamp) -> bool {
    let mut state = place.state();
    let crowded = state.in_flight(now) >= HIDDEN_MAX;
    let rounds = match place.opening.is_some() && !state.worth.flows() {
        true => 1,
        false => UNDUE_ROUNDS,
    };
    drop(state);
    if crowded || (place.opening.is_some() && undue >= rounds) {
        rest(place, now, false);
        return true;
    }
    undue >= rounds
}

/// Nothing (`nothing`), or nothing due, was found there.
fn rest(place: &Place, now: Timestamp, nothing: bool) {
    let mut state = place.state();
    if nothing {
        state.fresh = 0;
        state.worth.empty(now);
    } else {
        state.worth.undue(now);
    }
    drop(state);
    place.note_opening(now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::queues::{Look, Queue};
    use crate::config::Opening;

    const EVERY: SignedDuration = SignedDuration::from_secs(60);

    fn place(opening: Option<&str>, in_flight: u64) -> Place {
        let opening = opening.map(|text| Opening::parse(text).unwrap());
        let place = Place::new(Queue::new("q"), opening, EVERY);
        let look = Look {
            in_flight,
            ..Look::default()
        };
        place.state().look = Some((Duration::ZERO, look));
        place
    }

    #[test]
    fn a_mixed_queue_is_gone_through_until_too_much_of_it_is_hidden() {
        let now = Timestamp::UNIX_EPOCH;
        let free = place(None, HIDDEN_MAX - 1);
        assert!(!is_enough(&free, UNDUE_ROUNDS - 1, now));
        assert!(is_enough(&free, UNDUE_ROUNDS, now));
        assert!(free.state().worth.asks(now), "the next lease goes on");
        let full = place(None, HIDDEN_MAX);
        assert!(is_enough(&full, 1, now));
        assert_eq!(full.state().worth.next(), after(now, EVERY));
        // What this process hid counts at once, though SQS's counts are late.
        let own = place(None, 0);
        for _ in 0..HIDDEN_MAX {
            own.state().hide(after(now, EVERY));
        }
        assert!(is_enough(&own, 1, now));
        assert!(!is_enough(&own, 1, after(now, EVERY * 2)), "they are due");
    }

    #[test]
    fn an_opening_queue_is_left_alone_at_once_unless_some_of_it_was_due() {
        let now = Timestamp::UNIX_EPOCH;
        let closed = place(Some("08:00[Asia/Seoul]"), 0);
        assert!(is_enough(&closed, 1, now));
        assert!(!closed.state().worth.asks(now));
        let open = place(Some("08:00[Asia/Seoul]"), 0);
        open.state().worth.found();
        assert!(!is_enough(&open, UNDUE_ROUNDS - 1, now));
        assert!(is_enough(&open, UNDUE_ROUNDS, now));
        assert!(!open.state().worth.asks(now));
    }
}

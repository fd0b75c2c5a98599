//! What must be true of a hold whatever happens, told from what it acknowledged.
//!
//! A call that failed may or may not have happened: then every message it touched has two fates
//! from which the hold chooses once, when it is asked after the crash.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nightgate::hold::{
    Found, Held, HoldStore, Lane, Leased, Put, Recalled, Scope, Settle, Settled, State, Token,
    Verdict,
};
use nightgate_core::{Class, MessageId};

use crate::world::{ALL, HORIZON, TTL, recount};

/// Where a message is, as far as was acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum At {
    /// Never stored, or forgotten.
    Absent,
    Held,
    /// `None`: lent by a call that was never answered.
    Loan {
        token: Option<Token>,
        until: Timestamp,
        wanted: bool,
    },
    Buried,
    /// Not before the instant. `swept`: it may have been forgotten.
    Ended {
        state: State,
        since: Timestamp,
        swept: bool,
    },
}

/// One message, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) held: Held,
    pub(crate) at: At,
    pub(crate) attempts: u32,
    pub(crate) lapsed: bool,
    /// What it was before, for failures.
    past: Vec<(Timestamp, At)>,
}

/// Everything that was acknowledged, by lane and id.
pub(crate) struct Oracle {
    /// The fates of a message: one, or two after a call that failed.
    messages: BTreeMap<String, Vec<Known>>,
    /// The instants of stops in force, by lane; two fates after a call that failed.
    stops: BTreeMap<String, Vec<Option<Timestamp>>>,
    /// Recalls that were never answered: they are asked again, as people do.
    unanswered: Vec<Scope>,
    /// How often each id was delivered.
    pub(crate) delivered: BTreeMap<String, u32>,
    pub(crate) calls: u32,
}

impl Known {
    fn new(held: Held) -> Self {
        let (at, attempts, lapsed, past) = (At::Held, 0, false, Vec::new());
        Self {
            held,
            at,
            attempts,
            lapsed,
            past,
        }
    }

    /// Loans that are over at `now` have come back.
    fn settled_at(mut self, now: Timestamp) -> Self {
        if let At::Loan { until, wanted, .. } = self.at
            && until <= now
        {
            self.lapsed = true;
            self.past.push((now, self.at.clone()));
            self.at = match wanted {
                true => ended(State::Recalled, until),
                false => At::Held,
            };
        }
        self
    }

    /// Whether the hold's answer can be this, once loans that are over have come back.
    fn fits(&self, found: Option<&Found>) -> bool {
        let Some(found) = found else {
            return matches!(self.at, At::Absent | At::Ended { swept: true, .. });
        };
        let whole = || {
            let (one, two) = (&found.held, &self.held);
            found.attempts == self.attempts
                && one.due == two.due
                && one.message == two.message
                && one.lane == two.lane
                && one.class == two.class
                && one.key == two.key
        };
        match self.at {
            At::Absent => false,
            At::Held => found.state == State::Held && whole(),
            At::Loan { .. } => found.state == State::Leased && whole(),
            At::Buried => found.state == State::Buried && whole(),
            At::Ended { state, .. } => found.state == state,
        }
    }
}

fn ended(state: State, since: Timestamp) -> At {
    At::Ended {
        state,
        since,
        swept: false,
    }
}

fn end_state(end: nightgate::hold::End) -> State {
    use nightgate::hold::End;
    match end {
        End::Delivered => State::Delivered,
        End::Refused => State::Refused,
        End::Expired => State::Expired,
        End::Rejected => State::Rejected,
    }
}

/// The verdict as it alters a message that is on loan.
fn judge(known: &mut Known, verdict: &Verdict, now: Timestamp) {
    let At::Loan { wanted, .. } = known.at else {
        panic!("only loans are settled: {known:?}");
    };
    known.past.push((now, known.at.clone()));
    match verdict {
        Verdict::Done(end) => known.at = ended(end_state(*end), now),
        Verdict::Defer { .. } | Verdict::Bury { .. } if wanted => {
            known.at = ended(State::Recalled, now);
        }
        Verdict::Defer { due, attempted } => {
            known.at = At::Held;
            known.held.due = *due;
            known.attempts += u32::from(*attempted);
        }
        Verdict::Bury { .. } => known.at = At::Buried,
    }
}

/// Takes a message back if it is within `scope`; where it was then.
fn take(known: &mut Known, scope: &Scope, now: Timestamp) -> Option<At> {
    let back = known.clone().settled_at(now);
    if !is_meant(scope, &back) {
        return None;
    }
    let was = back.at.clone();
    let at = match was {
        At::Held | At::Buried => ended(State::Recalled, now),
        At::Loan {
            wanted: false,
            token,
            until,
        } => At::Loan {
            token,
            until,
            wanted: true,
        },
        _ => return None,
    };
    *known = Known { at, ..back };
    Some(was)
}

fn is_meant(scope: &Scope, known: &Known) -> bool {
    match scope {
        Scope::Id(id) => known.held.message.id == *id,
        Scope::Campaign(name) => known.held.message.campaign.as_ref() == Some(name),
        Scope::Recipient(key) => known.held.key == *key,
        Scope::Lane(lane) => known.held.lane == *lane,
    }
}

impl Oracle {
    pub(crate) fn new() -> Self {
        Self {
            messages: BTreeMap::new(),
            stops: BTreeMap::new(),
            unanswered: Vec::new(),
            delivered: BTreeMap::new(),
            calls: 0,
        }
    }

    /// The one fate of every message.
    fn each(&mut self) -> impl Iterator<Item = &mut Known> {
        self.messages.values_mut().map(|fates| {
            assert_eq!(fates.len(), 1, "asked before it was settled: {fates:?}");
            &mut fates[0]
        })
    }

    fn get(&mut self, id: &MessageId) -> Option<&mut Known> {
        let fates = self.messages.get_mut(id.as_str())?;
        assert_eq!(fates.len(), 1, "asked before it was settled: {fates:?}");
        fates.first_mut()
    }

    fn lapse(&mut self, lane: &Lane, now: Timestamp) {
        for known in self.each().filter(|known| known.held.lane == *lane) {
            *known = known.clone().settled_at(now);
        }
    }

    /// Adds a fate to every message that `change` alters: it may have happened or not.
    fn doubt(&mut self, mut change: impl FnMut(&mut Known) -> bool) {
        for fates in self.messages.values_mut() {
            let mut other = fates[0].clone();
            if change(&mut other) {
                fates.push(other);
            }
        }
    }

    pub(crate) fn put(&mut self, messages: &[Held], answers: Option<&[Put]>, now: Timestamp) {
        self.calls += 1;
        let mut seen = BTreeMap::new();
        for (at, held) in messages.iter().enumerate() {
            let id = held.message.id.as_str().to_owned();
            let twice = seen.insert(id.clone(), ()).is_some();
            let known = self.messages.get(&id).map(|fates| fates[0].clone());
            let was = known.map(|known| known.settled_at(now).at);
            let free = match was.unwrap_or(At::Absent) {
                At::Absent => Some(true),
                At::Ended { since, .. } if now.duration_since(since) > HORIZON => None,
                _ => Some(false),
            };
            let new = Known::new(held.clone());
            match answers.map(|answers| answers[at]) {
                Some(_) if twice => assert_eq!(answers.unwrap()[at], Put::Duplicate),
                Some(Put::New) => {
                    let known = self.messages.get(&id);
                    assert_ne!(free, Some(false), "{id} was let in twice: {known:?}");
                    self.messages.insert(id, vec![new]);
                }
                Some(Put::Duplicate) => assert_ne!(free, Some(true), "{id} was never put"),
                Some(Put::Full) => panic!("there is room"),
                None if twice || free == Some(false) => {}
                None => {
                    let absent = Known {
                        at: At::Absent,
                        ..new.clone()
                    };
                    self.messages
                        .entry(id)
                        .or_insert_with(|| vec![absent])
                        .push(new);
                }
            }
        }
    }

    pub(crate) fn lease(
        &mut self,
        lane: &Lane,
        max: usize,
        leased: Option<&[Leased]>,
        now: Timestamp,
    ) {
        self.calls += 1;
        let until = now + TTL;
        let Some(leased) = leased else {
            return self.doubt(|known| {
                let back = known.clone().settled_at(now);
                let lent = back.held.lane == *lane && back.at == At::Held && back.held.due <= now;
                if lent {
                    *known = back;
                    known.at = At::Loan {
                        token: None,
                        until,
                        wanted: false,
                    };
                }
                lent
            });
        };
        self.lapse(lane, now);
        let could = |known: &&mut Known| {
            known.held.lane == *lane && known.at == At::Held && known.held.due <= now
        };
        let due = self.each().filter(could).count();
        assert_eq!(leased.len(), due.min(max), "lent from {lane}");
        let rank = |loan: &Leased| (loan.held.message.priority.get(), loan.held.due);
        assert!(leased.is_sorted_by_key(rank), "lent out of order");
        for loan in leased {
            let id = &loan.held.message.id;
            let known = self.get(id).unwrap_or_else(|| panic!("{id} was never put"));
            assert_eq!(known.at, At::Held, "{id} was lent from elsewhere");
            assert!(known.held.due <= now, "{id} was not due");
            assert_eq!(loan.held, known.held, "{id} is not what was put");
            let expected = (known.attempts, known.lapsed, until);
            assert_eq!((loan.attempts, loan.lapsed, loan.until), expected, "{id}");
            known.past.push((now, known.at.clone()));
            known.at = At::Loan {
                token: Some(loan.token),
                until,
                wanted: false,
            };
        }
    }

    /// The messages behind tokens that hold at `now`.
    fn on_loan(&mut self, token: Token, now: Timestamp) -> Option<&mut Known> {
        self.each().find(|known| match known.at {
            At::Loan {
                token: Some(own),
                until,
                ..
            } => own == token && now < until,
            _ => false,
        })
    }

    pub(crate) fn settle(
        &mut self,
        settlements: &[Settle],
        answers: Option<&[Settled]>,
        now: Timestamp,
    ) {
        self.calls += 1;
        let Some(answers) = answers else {
            let verdict = |known: &Known| match known.at {
                At::Loan {
                    token: Some(own),
                    until,
                    ..
                } if now < until => {
                    let mut all = settlements.iter();
                    all.find(|one| one.token == own)
                        .map(|one| one.verdict.clone())
                }
                _ => None,
            };
            return self.doubt(|known| {
                let verdict = verdict(known);
                verdict
                    .iter()
                    .for_each(|verdict| judge(known, verdict, now));
                verdict.is_some()
            });
        };
        for (Settle { token, verdict }, answer) in settlements.iter().zip(answers) {
            let Some(known) = self.on_loan(*token, now) else {
                assert_eq!(*answer, Settled::Lapsed, "{token:?}");
                continue;
            };
            assert_eq!(*answer, Settled::Yes, "{known:?}");
            judge(known, verdict, now);
            let id = known.held.message.id.as_str().to_owned();
            if *verdict == Verdict::Done(nightgate::hold::End::Delivered) {
                *self.delivered.entry(id).or_default() += 1;
            }
        }
    }

    pub(crate) fn recall(&mut self, scope: &Scope, answer: Option<Recalled>, now: Timestamp) {
        self.calls += 1;
        let Some(answer) = answer else {
            self.unanswered.push(scope.clone());
            return self.doubt(|known| take(known, scope, now).is_some());
        };
        let mut expected = Recalled::default();
        for known in self.each() {
            match take(known, scope, now) {
                Some(At::Loan { .. }) => expected.in_flight += 1,
                Some(_) => expected.recalled += 1,
                None => {}
            }
        }
        assert_eq!(answer, expected, "{scope:?}");
    }

    pub(crate) fn kick(&mut self, scope: &Scope, answer: Option<u64>, now: Timestamp) {
        self.calls += 1;
        let bring = |known: &mut Known| {
            let meant = is_meant(scope, known) && known.at == At::Buried;
            if meant {
                (known.at, known.attempts, known.lapsed) = (At::Held, 0, false);
                known.held.due = now;
            }
            meant
        };
        let Some(answer) = answer else {
            return self.doubt(bring);
        };
        let mut kicked = Vec::new();
        for known in self.each() {
            if bring(known) {
                kicked.push(known.held.message.id.clone());
            }
        }
        assert_eq!(answer, kicked.len() as u64, "{scope:?}: {kicked:?}");
    }

    pub(crate) fn redate(
        &mut self,
        lane: &Lane,
        class: &Class,
        answer: Option<u64>,
        now: Timestamp,
        to: Timestamp,
    ) {
        self.calls += 1;
        let bring = |known: &mut Known| {
            let there = !matches!(known.at, At::Absent | At::Ended { .. });
            let (held, due) = (&known.held, known.held.due);
            let meant = there && held.lane == *lane && held.class == *class && due <= now;
            if meant {
                known.held.due = to;
            }
            meant
        };
        if answer.is_none() {
            self.doubt(bring);
            return;
        }
        for known in self.each() {
            bring(known);
        }
    }

    pub(crate) fn pause(&mut self, lane: &Lane, paused: bool, done: bool, now: Timestamp) {
        self.calls += 1;
        let fates = self
            .stops
            .entry(lane.to_string())
            .or_insert_with(|| vec![None]);
        let next = paused.then(|| fates[0].unwrap_or(now));
        match done {
            true => *fates = vec![next],
            false => fates.push(next),
        }
    }

    pub(crate) fn sweep(&mut self, now: Timestamp) {
        self.calls += 1;
        for fates in self.messages.values_mut() {
            fates[0] = fates[0].clone().settled_at(now);
            if let At::Ended { since, swept, .. } = &mut fates[0].at {
                *swept |= now.duration_since(*since) > HORIZON;
            }
        }
    }

    /// Asks the hold about everything, and takes its word where there was doubt.
    pub(crate) async fn ask(&mut self, hold: &dyn HoldStore, now: Timestamp) {
        // Any recall takes loans back that are over: what is on loan afterwards is so for good.
        let nobody = Scope::Id(MessageId::new("nobody").unwrap());
        assert_eq!(
            hold.recall(&nobody, now).await.unwrap(),
            Recalled::default()
        );
        let ids: Vec<MessageId> = self
            .messages
            .values()
            .map(|fates| fates[0].held.message.id.clone())
            .collect();
        let found = hold.find(&ids).await.unwrap();
        for ((id, fates), found) in self.messages.iter_mut().zip(&found) {
            let tried = fates.clone();
            fates
                .iter_mut()
                .for_each(|known| *known = known.clone().settled_at(now));
            fates.retain(|known| known.fits(found.as_ref()));
            assert!(
                !fates.is_empty(),
                "{id}: the hold says {found:?} at {now}, not {tried:?}"
            );
            fates.truncate(1);
        }
        let pauses = hold.pauses().await.unwrap();
        for (lane, fates) in &mut self.stops {
            let named = |pause: &&nightgate::hold::Pause| {
                pause
                    .lane
                    .as_ref()
                    .is_some_and(|named| named.as_str() == lane)
            };
            let since = pauses.iter().find(named).map(|pause| pause.since);
            assert!(
                fates.contains(&since),
                "{lane} is stopped since {since:?}, not {fates:?}"
            );
            *fates = vec![since];
        }
        // On loan, whether a message is wanted back does not show: asking again makes sure.
        for scope in std::mem::take(&mut self.unanswered) {
            hold.recall(&scope, now).await.unwrap();
            for known in self.each() {
                take(known, &scope, now);
            }
        }
        self.count(hold).await;
    }

    /// Shelves count what lists show, and lists show every message once.
    async fn count(&self, hold: &dyn HoldStore) {
        recount(hold).await;
        let mut listed = BTreeMap::new();
        for state in [State::Held, State::Leased, State::Buried] {
            for found in hold.list(state, None, ALL).await.unwrap() {
                let id = found.held.message.id.as_str().to_owned();
                let before = listed.insert(id.clone(), state);
                assert_eq!(before, None, "{id} is there twice");
                assert!(self.messages.contains_key(&id), "{id} was never put");
            }
        }
    }

    /// The ids that were put and have not left for good.
    pub(crate) fn open(&self) -> Vec<&str> {
        let all = self.messages.iter();
        all.filter(|(_, fates)| matches!(fates[0].at, At::Held | At::Loan { .. } | At::Buried))
            .map(|(id, _)| id.as_str())
            .collect()
    }

    /// Every message that the hold must know, to be put again.
    pub(crate) fn remembered(&self) -> Vec<Held> {
        let all = self.messages.values().map(|fates| &fates[0]);
        all.filter(|known| !matches!(known.at, At::Absent | At::Ended { swept: true, .. }))
            .map(|known| known.held.clone())
            .collect()
    }

    /// Tokens that were acknowledged for messages of a lane, running or not.
    pub(crate) fn tokens(&self, lane: &Lane) -> Vec<Token> {
        let all = self.messages.values().map(|fates| &fates[0]);
        all.filter(|known| known.held.lane == *lane)
            .filter_map(|known| match known.at {
                At::Loan { token, .. } => token,
                _ => None,
            })
            .collect()
    }
}

//! A life at random: several calls in flight at once, each on a lane of its own.

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use nightgate::error::Error;
use nightgate::hold::{End, Held, HoldStore, Lane, Scope, Settle, Verdict};
use nightgate_core::{Class, Priority, Purpose, RecipientKey};

use crate::oracle::Oracle;
use crate::support::{lend, noise, told};
use crate::world::{HORIZON, at, held, id};

const LANES: [&str; 3] = ["sms", "push", "mail"];
/// Ids a lane uses over and over.
const IDS: u32 = 60;

/// One call on one lane.
#[derive(Clone, Debug)]
enum Call {
    Put(Vec<Held>),
    Lease(usize),
    Settle(Vec<Settle>),
    Recall(Scope),
    Kick(Scope),
    Redate(Class, Timestamp),
    Pause(bool),
    Sweep,
}

/// The dice and the clock of a life.
pub(crate) struct Script {
    dice: fastrand::Rng,
    pub(crate) now: Timestamp,
}

impl Script {
    pub(crate) fn new(seed: u64) -> Self {
        let dice = fastrand::Rng::with_seed(seed);
        Self { dice, now: at(0) }
    }

    /// Some calls at once. The error of one that failed.
    pub(crate) async fn step(
        &mut self,
        hold: &dyn HoldStore,
        oracle: &mut Oracle,
    ) -> Result<(), Error> {
        self.now += SignedDuration::from_secs(self.dice.i64(0..240));
        if self.dice.u8(..40) == 0 {
            self.now += HORIZON + HORIZON;
        }
        // A sweep sees every lane, so it goes alone.
        if self.dice.u8(..8) == 0 {
            return call(hold, &Lane::new("sms"), Call::Sweep, self.now, oracle).await;
        }
        let mut lanes = LANES.map(Lane::new);
        self.dice.shuffle(&mut lanes);
        let busy = &lanes[..self.dice.usize(1..=LANES.len())];
        let calls: Vec<Call> = busy.iter().map(|lane| self.call(lane, oracle)).collect();
        if told("NIGHTGATE_SHELF_SYNC").is_some() {
            println!("{}: {busy:?} {calls:#?}", self.now);
        }
        let answers = busy
            .iter()
            .zip(&calls)
            .map(|(lane, call)| ask(hold, lane, call, self.now));
        let mut answers: Vec<_> = busy
            .iter()
            .zip(&calls)
            .zip(join_all(answers).await)
            .collect();
        // First what is certain: the rest is doubted, and answered by the hold after the crash.
        answers.sort_by_key(|(_, answer)| answer.is_err());
        let mut failed = Ok(());
        for ((lane, call), answer) in answers {
            failed = failed.and(note(oracle, lane, call, answer, self.now));
        }
        failed
    }

    fn call(&mut self, lane: &Lane, oracle: &Oracle) -> Call {
        match self.dice.u8(..20) {
            0..8 => {
                let count = self.dice.usize(1..12);
                Call::Put((0..count).map(|_| self.message(lane)).collect())
            }
            8..12 => Call::Lease(self.dice.usize(1..20)),
            12..16 => {
                let mut tokens = oracle.tokens(lane);
                self.dice.shuffle(&mut tokens);
                tokens.truncate(self.dice.usize(..16));
                let verdicts = tokens.into_iter().map(|token| {
                    let verdict = self.verdict();
                    Settle { token, verdict }
                });
                Call::Settle(verdicts.collect())
            }
            16 => Call::Recall(self.scope(lane)),
            17 => Call::Kick(self.scope(lane)),
            18 => Call::Redate(self.class(), self.soon()),
            _ => Call::Pause(self.dice.bool()),
        }
    }

    fn message(&mut self, lane: &Lane) -> Held {
        let (due, class) = (self.soon(), self.class());
        let dice = &mut self.dice;
        let mut held = held(&format!("{lane}-{}", dice.u32(..IDS)));
        held.lane = lane.clone();
        held.class = class;
        held.due = due;
        held.key = RecipientKey::from_stored(&format!("{lane}-{}", dice.u8(..3)));
        held.accepted_at = self.now;
        let campaigns = [None, Some(format!("{lane}-x")), Some(format!("{lane}-y"))];
        held.message.campaign = campaigns[dice.usize(..3)].as_deref().map(Into::into);
        held.message.priority = Priority::new(dice.u8(..3)).unwrap();
        held.message.purpose = Purpose::ALL[dice.usize(..2)];
        held.message
            .attributes
            .insert("roll".to_owned(), dice.u32(..).to_string());
        let len = [20, 300, 2_000][dice.usize(..3)];
        held.message.body = noise(dice, len).into();
        held
    }

    /// One of few instants about now, so that shelves fill.
    fn soon(&mut self) -> Timestamp {
        let minutes = self.now.duration_since(at(0)).as_mins() / 15 * 15;
        at(minutes + 15 * self.dice.i64(-1..3))
    }

    fn class(&mut self) -> Class {
        Class::from_name(["k1", "k2"][self.dice.usize(..2)])
    }

    fn verdict(&mut self) -> Verdict {
        let ends = [End::Refused, End::Expired, End::Rejected];
        match self.dice.u8(..8) {
            0 | 1 => Verdict::Defer {
                due: self.soon(),
                attempted: self.dice.bool(),
            },
            2 => Verdict::Bury {
                why: format!("roll {}", self.dice.u8(..)),
            },
            3 => Verdict::Done(ends[self.dice.usize(..3)]),
            _ => Verdict::Done(End::Delivered),
        }
    }

    fn scope(&mut self, lane: &Lane) -> Scope {
        let dice = &mut self.dice;
        match dice.u8(..10) {
            0..4 => Scope::Id(id(&format!("{lane}-{}", dice.u32(..IDS)))),
            4..7 => Scope::Campaign(format!("{lane}-{}", ["x", "y"][dice.usize(..2)]).into()),
            7..9 => Scope::Recipient(RecipientKey::from_stored(&format!("{lane}-1"))),
            _ => Scope::Lane(lane.clone()),
        }
    }

    /// Lends and delivers everything, until nothing is left.
    pub(crate) async fn drain(&mut self, hold: &dyn HoldStore, oracle: &mut Oracle) {
        self.now += HORIZON;
        for lane in LANES.map(Lane::new) {
            let scope = Scope::Lane(lane.clone());
            call(hold, &lane, Call::Kick(scope), self.now, oracle)
                .await
                .unwrap();
            loop {
                call(hold, &lane, Call::Lease(50), self.now, oracle)
                    .await
                    .unwrap();
                let tokens = oracle.tokens(&lane);
                if tokens.is_empty() {
                    break;
                }
                let verdict = Verdict::Done(End::Delivered);
                let settle = |token| Settle {
                    token,
                    verdict: verdict.clone(),
                };
                let settle = Call::Settle(tokens.into_iter().map(settle).collect());
                call(hold, &lane, settle, self.now, oracle).await.unwrap();
            }
        }
    }
}

/// What a call answered: numbers and lists as the trait gives them.
enum Answer {
    Put(Vec<nightgate::hold::Put>),
    Lease(Vec<nightgate::hold::Leased>),
    Settle(Vec<nightgate::hold::Settled>),
    Recall(nightgate::hold::Recalled),
    Count(u64),
    Nothing,
}

async fn call(
    hold: &dyn HoldStore,
    lane: &Lane,
    call: Call,
    now: Timestamp,
    oracle: &mut Oracle,
) -> Result<(), Error> {
    let answer = ask(hold, lane, &call, now).await;
    note(oracle, lane, &call, answer, now)
}

async fn ask(
    hold: &dyn HoldStore,
    lane: &Lane,
    call: &Call,
    now: Timestamp,
) -> Result<Answer, Error> {
    Ok(match call {
        Call::Put(messages) => Answer::Put(hold.put(messages.clone(), now).await?),
        Call::Lease(max) => Answer::Lease(lend(hold, lane, now, *max).await?),
        Call::Settle(settlements) => Answer::Settle(hold.settle(settlements.clone(), now).await?),
        Call::Recall(scope) => Answer::Recall(hold.recall(scope, now).await?),
        Call::Kick(scope) => Answer::Count(hold.kick(scope, now).await?),
        Call::Redate(class, to) => Answer::Count(hold.redate(lane, class, now, *to).await?),
        Call::Pause(paused) => {
            hold.pause(Some(lane), *paused, now).await?;
            Answer::Nothing
        }
        Call::Sweep => Answer::Count(hold.sweep(now).await?),
    })
}

fn note(
    oracle: &mut Oracle,
    lane: &Lane,
    call: &Call,
    answer: Result<Answer, Error>,
    now: Timestamp,
) -> Result<(), Error> {
    let (answer, failed) = match answer {
        Ok(answer) => (Some(answer), Ok(())),
        Err(error) => (None, Err(error)),
    };
    match (call, answer) {
        (Call::Put(messages), Some(Answer::Put(answers))) => {
            oracle.put(messages, Some(&answers), now);
        }
        (Call::Put(messages), _) => oracle.put(messages, None, now),
        (Call::Lease(max), Some(Answer::Lease(leased))) => {
            oracle.lease(lane, *max, Some(&leased), now);
        }
        (Call::Lease(max), _) => oracle.lease(lane, *max, None, now),
        (Call::Settle(settlements), Some(Answer::Settle(answers))) => {
            oracle.settle(settlements, Some(&answers), now);
        }
        (Call::Settle(settlements), _) => oracle.settle(settlements, None, now),
        (Call::Recall(scope), Some(Answer::Recall(recalled))) => {
            oracle.recall(scope, Some(recalled), now);
        }
        (Call::Recall(scope), _) => oracle.recall(scope, None, now),
        (Call::Kick(scope), Some(Answer::Count(kicked))) => oracle.kick(scope, Some(kicked), now),
        (Call::Kick(scope), _) => oracle.kick(scope, None, now),
        (Call::Redate(class, to), Some(Answer::Count(moved))) => {
            oracle.redate(lane, class, Some(moved), now, *to);
        }
        (Call::Redate(class, to), _) => oracle.redate(lane, class, None, now, *to),
        (Call::Pause(paused), answer) => oracle.pause(lane, *paused, answer.is_some(), now),
        (Call::Sweep, _) => oracle.sweep(now),
    }
    failed
}

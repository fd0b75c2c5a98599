//! One random life, led on two holds at once.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use nightgate::hold::{
    End, Held, HoldStore, Lane, LeaseAsk, Leased, Pick, Scope, Settle, State, Token, Verdict,
};
use nightgate_core::{Class, MessageId, Priority, Purpose, RecipientKey};

use crate::world::*;

const IDS: u32 = 70;
const STATES: [State; 8] = [
    State::Held,
    State::Leased,
    State::Buried,
    State::Recalled,
    State::Delivered,
    State::Refused,
    State::Expired,
    State::Rejected,
];

/// Two holds that must answer alike.
pub(crate) struct Twins {
    pub(crate) plain: Arc<dyn HoldStore>,
    pub(crate) other: Arc<dyn HoldStore>,
    dice: fastrand::Rng,
    now: Timestamp,
    /// Loans made so far, also those that are over: (plain's token, the other's).
    loans: Vec<(Token, Token)>,
}

impl Twins {
    pub(crate) fn new(
        plain: Arc<dyn HoldStore>,
        other: Arc<dyn HoldStore>,
        seed: u64,
        now: Timestamp,
    ) -> Self {
        let (dice, loans) = (fastrand::Rng::with_seed(seed), Vec::new());
        Self {
            plain,
            other,
            dice,
            now,
            loans,
        }
    }

    /// One call on both.
    pub(crate) async fn step(&mut self) {
        self.now += SignedDuration::from_secs(self.dice.i64(0..240));
        match self.dice.u8(..20) {
            0..6 => self.put().await,
            6..11 => self.lease().await,
            11..16 => self.settle().await,
            16 => self.recall().await,
            17 => self.kick().await,
            18 => self.redate().await,
            _ => self.upkeep().await,
        }
    }

    async fn put(&mut self) {
        let count = self.dice.usize(..12);
        let messages: Vec<Held> = (0..count).map(|_| self.message()).collect();
        let expected = self.plain.put(messages.clone(), self.now).await.unwrap();
        assert_eq!(self.other.put(messages, self.now).await.unwrap(), expected);
    }

    fn message(&mut self) -> Held {
        let dice = &mut self.dice;
        let mut held = held(&format!("m{}", dice.u32(..IDS)));
        held.lane = Lane::new(["sms", "push"][dice.usize(..2)]);
        held.class = Class::from_name(["k1", "k2"][dice.usize(..2)]);
        held.key = RecipientKey::from_stored(["p", "q", "r"][dice.usize(..3)]);
        held.message.campaign = [None, Some("x"), Some("y")][dice.usize(..3)].map(Into::into);
        held.message.priority = Priority::new(dice.u8(..3)).unwrap();
        held.message.purpose = Purpose::ALL[dice.usize(..2)];
        held.message
            .attributes
            .insert("roll".to_owned(), dice.u32(..).to_string());
        held.due = self.soon();
        held.accepted_at = self.now;
        held
    }

    /// One of few instants about now, so that shelves fill.
    fn soon(&mut self) -> Timestamp {
        let minutes = self.now.duration_since(at(0)).as_mins() / 15 * 15;
        at(minutes + 15 * self.dice.i64(-1..3))
    }

    async fn lease(&mut self) {
        let lane = Lane::new(["sms", "push"][self.dice.usize(..2)]);
        let purpose = Purpose::ALL[self.dice.usize(..2)];
        let campaign = [None, Some("x")][self.dice.usize(..2)];
        let pick = match self.dice.bool() {
            true => Pick::Any,
            false => Pick::Campaign(purpose, campaign),
        };
        let (now, max) = (self.now, self.dice.usize(..15));
        let ask = LeaseAsk {
            lane: &lane,
            pick,
            now,
            max,
            ttl: TTL,
        };
        let expected = self.plain.lease(&ask).await.unwrap();
        let leased = self.other.lease(&ask).await.unwrap();
        self.loans.extend(
            expected
                .iter()
                .zip(&leased)
                .map(|(one, two)| (one.token, two.token)),
        );
        // Tokens are each backend's own business.
        let token = Token { seq: 0, lease: 0 };
        let bare = |loans: Vec<Leased>| -> Vec<Leased> {
            loans
                .into_iter()
                .map(|loan| Leased { token, ..loan })
                .collect()
        };
        assert_eq!(bare(leased), bare(expected), "{ask:?}");
    }

    async fn settle(&mut self) {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        for _ in 0..self.dice.usize(..10) {
            if self.loans.is_empty() {
                break;
            }
            // Mostly recent loans, and now and then one that is long over.
            let back = self.dice.usize(..12).min(self.loans.len() - 1);
            let index = match self.dice.u8(..8) {
                0 => self.dice.usize(..self.loans.len()),
                _ => self.loans.len() - 1 - back,
            };
            let (plain, other) = self.loans[index];
            let verdict = self.verdict();
            one.push(Settle {
                token: plain,
                verdict: verdict.clone(),
            });
            two.push(Settle {
                token: other,
                verdict,
            });
        }
        let expected = self.plain.settle(one, self.now).await.unwrap();
        assert_eq!(self.other.settle(two, self.now).await.unwrap(), expected);
    }

    fn verdict(&mut self) -> Verdict {
        let ends = [End::Delivered, End::Refused, End::Expired, End::Rejected];
        match self.dice.u8(..6) {
            0 | 1 => Verdict::Defer {
                due: self.soon(),
                attempted: self.dice.bool(),
            },
            2 => Verdict::Bury {
                why: format!("roll {}", self.dice.u8(..)),
            },
            _ => Verdict::Done(ends[self.dice.usize(..4)]),
        }
    }

    fn scope(&mut self) -> Scope {
        match self.dice.u8(..10) {
            0..4 => Scope::Id(id(&format!("m{}", self.dice.u32(..IDS)))),
            4..7 => Scope::Campaign(["x", "y"][self.dice.usize(..2)].into()),
            7..9 => Scope::Recipient(RecipientKey::from_stored(["p", "q"][self.dice.usize(..2)])),
            _ => Scope::Lane(Lane::new("push")),
        }
    }

    async fn recall(&mut self) {
        let scope = self.scope();
        let expected = self.plain.recall(&scope, self.now).await.unwrap();
        assert_eq!(
            self.other.recall(&scope, self.now).await.unwrap(),
            expected,
            "{scope:?}"
        );
    }

    async fn kick(&mut self) {
        let scope = self.scope();
        let expected = self.plain.kick(&scope, self.now).await.unwrap();
        assert_eq!(
            self.other.kick(&scope, self.now).await.unwrap(),
            expected,
            "{scope:?}"
        );
    }

    async fn redate(&mut self) {
        let (lane, class) = (lane(), Class::from_name("k1"));
        let (now, to) = (self.now, self.soon());
        let expected = self.plain.redate(&lane, &class, now, to).await.unwrap();
        assert_eq!(
            self.other.redate(&lane, &class, now, to).await.unwrap(),
            expected
        );
    }

    async fn upkeep(&mut self) {
        let expected = self.plain.sweep(self.now).await.unwrap();
        assert_eq!(self.other.sweep(self.now).await.unwrap(), expected);
        let lane = [None, Some(lane())][self.dice.usize(..2)].clone();
        let paused = self.dice.bool();
        self.plain
            .pause(lane.as_ref(), paused, self.now)
            .await
            .unwrap();
        self.other
            .pause(lane.as_ref(), paused, self.now)
            .await
            .unwrap();
    }

    /// What both say now; `deep` asks about every message too.
    pub(crate) async fn compare(&mut self, deep: bool) {
        let (plain, other, now) = (&*self.plain, &*self.other, self.now);
        let expected = plain.shelves(None, None).await.unwrap();
        assert_eq!(other.shelves(None, None).await.unwrap(), expected);
        let (lane, by) = (lane(), Some(now));
        let expected = plain.shelves(Some(&lane), by).await.unwrap();
        assert_eq!(other.shelves(Some(&lane), by).await.unwrap(), expected);
        let expected = plain.next_due(&lane, now).await.unwrap();
        assert_eq!(other.next_due(&lane, now).await.unwrap(), expected);
        if !deep {
            return;
        }
        recount(other).await;
        let ids: Vec<MessageId> = (0..IDS).map(|number| id(&format!("m{number}"))).collect();
        let can = other.capability();
        let shown = |state| can.ended || is_live(state);
        let expected = plain.find(&ids).await.unwrap().into_iter();
        let expected = expected.map(|found| found.filter(|found| shown(found.state)));
        assert_eq!(
            other.find(&ids).await.unwrap(),
            expected.collect::<Vec<_>>()
        );
        for state in STATES {
            let mut expected = plain.list(state, Some(&lane), 9).await.unwrap();
            expected.retain(|_| shown(state));
            assert_eq!(other.list(state, Some(&lane), 9).await.unwrap(), expected);
        }
        assert_eq!(other.pauses().await.unwrap(), plain.pauses().await.unwrap());
    }
}

//! What is going to happen in a night, drawn from its seed: messages, consents, and what people do.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use nightgate::consent::{Act, ConsentEvent};
use nightgate::hold::{Lane, Scope as Reach};
use nightgate_core::{
    Basis, Channel, Message, MessageId, Priority, Purpose, Recipient, RecipientKey, Scope,
};

use crate::history::Who;
use crate::knobs::{Knobs, LANES, RELEASERS, Weather};

/// Midnight in Seoul at the start of 22 November 2026.
const FIRST_MIDNIGHT: &str = "2026-11-21T15:00:00Z";
/// People in the script.
const PEOPLE: usize = 10;
/// Hour (from midnight of the first day, in Seoul) at which the night begins.
pub(crate) const OPENS: i64 = 17;
/// Hour at which all faults end.
pub(crate) const CALM: i64 = 34;
/// Hour at which everything must have come to its end: before Kakao closes.
pub(crate) const ENDS: i64 = 44;

/// Recipients in canonical form, by number.
pub(crate) struct Keys(BTreeMap<RecipientKey, usize>);

impl Keys {
    /// Phone, address and token of each of the people.
    fn new() -> Self {
        let keys = (0..PEOPLE * 3).map(|key| (RecipientKey::from_stored(&canonical(key)), key));
        Self(keys.collect())
    }

    pub(crate) fn number(&self, key: &RecipientKey) -> usize {
        self.0[key]
    }
}

/// Person `key / 3`: phone, e-mail address, push token.
fn canonical(key: usize) -> String {
    match key % 3 {
        0 => format!("+8210123400{:02}", key / 3),
        1 => format!("person{}@example.com", key / 3),
        _ => format!("token-{}", key / 3),
    }
}

/// A change of consent.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) key: usize,
    pub(crate) scope: Scope,
    /// `None`: a withdrawal.
    pub(crate) grant: Option<Basis>,
    /// When it happened.
    pub(crate) at: Timestamp,
    /// When the grant runs out unconfirmed or its exception ends, by the script's own reckoning.
    pub(crate) lapses: Option<Timestamp>,
}

impl Change {
    pub(crate) fn event(&self) -> ConsentEvent {
        ConsentEvent {
            key: RecipientKey::from_stored(&canonical(self.key)),
            scope: self.scope,
            act: self.grant.map_or(Act::Withdraw, Act::Grant),
            at: self.at,
            source: "script".to_owned(),
        }
    }
}

/// Something that is done to the gateway.
#[derive(Clone, Debug)]
pub(crate) enum Do {
    Offer(Vec<usize>),
    Change(Change),
    Recall(Reach),
    Kick(Lane),
    Pause(Option<usize>, bool),
    /// Somebody sets the clock wrong by so much.
    Step(SignedDuration),
    Correct,
    Crash(Who),
    Sweep,
    Calm,
}

/// A message and what the oracle knows of it.
pub(crate) struct Line {
    pub(crate) message: Message,
    pub(crate) key: usize,
}

pub(crate) struct Script {
    pub(crate) knobs: Knobs,
    pub(crate) keys: Arc<Keys>,
    pub(crate) lines: Vec<Line>,
    /// Consents that stood before the night began.
    pub(crate) before: Vec<Change>,
    pub(crate) todo: Vec<(Timestamp, Do)>,
    pub(crate) midnight: Timestamp,
    rng: fastrand::Rng,
}

impl Script {
    pub(crate) fn of(knobs: &Knobs) -> Self {
        let first: Timestamp = FIRST_MIDNIGHT.parse().unwrap();
        let mut script = Self {
            knobs: knobs.clone(),
            keys: Arc::new(Keys::new()),
            lines: Vec::new(),
            before: Vec::new(),
            todo: Vec::new(),
            midnight: first + SignedDuration::from_hours(24 * knobs.day),
            rng: fastrand::Rng::with_seed(knobs.seed.wrapping_mul(3)),
        };
        script.draw_consents();
        script.draw_messages();
        script.draw_people();
        script.draw_trouble();
        script.todo.push((script.hour(CALM), Do::Calm));
        script.todo.sort_by_key(|(at, _)| *at);
        script
    }

    pub(crate) fn hour(&self, hour: i64) -> Timestamp {
        self.midnight + SignedDuration::from_hours(hour)
    }

    /// Some moment of the night, often close to one that matters.
    fn moment(&mut self) -> Timestamp {
        let rng = &mut self.rng;
        if rng.bool() {
            return self.midnight + SignedDuration::from_secs(rng.i64(OPENS * 3600..CALM * 3600));
        }
        let minutes = [
            20 * 60 + 50,
            21 * 60,
            21 * 60,
            24 * 60,
            26 * 60,
            32 * 60,
            32 * 60,
        ];
        let close = if rng.bool() { 40_000 } else { 400_000 };
        let close = SignedDuration::from_millis(rng.i64(-close..close));
        let minute = minutes[rng.usize(0..minutes.len())];
        self.midnight + SignedDuration::from_mins(minute) + close
    }

    fn draw_consents(&mut self) {
        let two_years = SignedDuration::from_hours(24 * 730);
        for key in 0..PEOPLE * 3 {
            let ago = SignedDuration::from_secs(self.rng.i64(3600..300 * 86_400));
            let at = self.hour(OPENS) - ago;
            let (grant, at, lapses) = match self.rng.u32(0..20) {
                0..2 => continue,
                // Given two years ago, later in the day: runs out at the second midnight.
                2..4 => {
                    let at = self.hour(24) - two_years + SignedDuration::from_hours(9);
                    (Some(Basis::Explicit), at, Some(self.hour(24)))
                }
                4..6 => {
                    let ends = self.moment();
                    (Some(Basis::TransactionException { ends }), at, Some(ends))
                }
                6 => (None, at, None),
                _ => (Some(Basis::Explicit), at, None),
            };
            self.before.push(Change {
                key,
                scope: Scope::General,
                grant,
                at,
                lapses,
            });
            if self.rng.u32(0..10) < 4 {
                let explicit = grant.map(|_| Basis::Explicit);
                let (at, lapses) = match grant {
                    Some(Basis::TransactionException { .. }) => (at, None),
                    _ => (at, lapses),
                };
                self.before.push(Change {
                    key,
                    scope: Scope::Night,
                    grant: explicit,
                    at,
                    lapses,
                });
            }
        }
        for _ in 0..self.rng.usize(0..25) {
            let key = self.rng.usize(0..PEOPLE * 3);
            let scope = if self.rng.bool() {
                Scope::General
            } else {
                Scope::Night
            };
            let grant = (self.rng.u32(0..5) < 2).then_some(Basis::Explicit);
            let at = self.moment();
            let change = Change {
                key,
                scope,
                grant,
                at,
                lapses: None,
            };
            self.todo.push((at, Do::Change(change)));
        }
    }

    fn draw_messages(&mut self) {
        while self.lines.len() < self.knobs.messages {
            let at = self.moment();
            let many = match self.rng.u32(0..4) {
                0 => 1,
                1 => self.rng.usize(10..30),
                _ => self.rng.usize(2..10),
            };
            let campaign = (self.rng.u32(0..4) > 0).then(|| format!("c{}", self.rng.u32(0..4)));
            let first = self.lines.len();
            for _ in 0..many {
                let line = self.draw_message(at, campaign.as_deref());
                self.lines.push(line);
            }
            self.todo
                .push((at, Do::Offer((first..first + many).collect())));
            if self.rng.u32(0..4) == 0 {
                // The producer lost the answer, or its job ran twice.
                let again = at + SignedDuration::from_secs(self.rng.i64(0..7200));
                self.todo
                    .push((again, Do::Offer((first..first + many).collect())));
            }
        }
    }

    fn draw_message(&mut self, at: Timestamp, campaign: Option<&str>) -> Line {
        let (latest, midnight) = (self.hour(ENDS - 8), self.midnight);
        let rng = &mut self.rng;
        let channel = match rng.u32(0..3) {
            0 => [Channel::Sms, Channel::Friendtalk][rng.usize(0..2)],
            _ => Channel::ALL[rng.usize(0..Channel::ALL.len())],
        };
        let kind = match channel {
            Channel::Email => 1,
            Channel::Push => 2,
            _ => 0,
        };
        let key = rng.usize(0..PEOPLE) * 3 + kind;
        let written = match canonical(key).strip_prefix("+8210") {
            Some(rest) if rng.bool() => format!("010-{}-{}", &rest[..4], &rest[4..]),
            _ => canonical(key),
        };
        let secs = |rng: &mut fastrand::Rng, most: i64| SignedDuration::from_secs(rng.i64(1..most));
        let send_at = (rng.u32(0..5) == 0).then(|| (at + secs(rng, 12 * 3600)).min(latest));
        let open = midnight + SignedDuration::from_hours(32);
        let expires_at = (rng.u32(0..5) == 0).then(|| {
            let close = open + SignedDuration::from_secs(rng.i64(-60..120));
            let end = if rng.bool() {
                close
            } else {
                at + secs(rng, 14 * 3600)
            };
            end.max(send_at.unwrap_or(at) + SignedDuration::from_secs(30))
        });
        let message = Message {
            id: MessageId::new(&format!("m-{}", self.lines.len())).unwrap(),
            recipient: Recipient::new(&written).unwrap(),
            channel,
            purpose: Purpose::ALL[rng.usize(0..2)],
            campaign: campaign.map(Into::into),
            priority: Priority::new(rng.u8(0..10)).unwrap(),
            jurisdiction: None,
            zone: None,
            send_at,
            expires_at,
            collapse_key: None,
            content_type: "text/plain".into(),
            attributes: BTreeMap::new(),
            body: Bytes::from_static(b"body"),
        };
        Line { message, key }
    }

    /// Recalls, kicks, pauses.
    fn draw_people(&mut self) {
        for _ in 0..self.rng.usize(0..4) {
            let at = self.moment();
            let reach = match self.rng.u32(0..3) {
                0 => Reach::Campaign(format!("c{}", self.rng.u32(0..4)).into()),
                1 => {
                    let line = self.rng.usize(0..self.lines.len());
                    Reach::Id(self.lines[line].message.id.clone())
                }
                _ => {
                    let key = canonical(self.rng.usize(0..PEOPLE * 3));
                    Reach::Recipient(RecipientKey::from_stored(&key))
                }
            };
            self.todo.push((at, Do::Recall(reach)));
        }
        for _ in 0..self.rng.usize(0..3) {
            let lane = Lane::new(LANES[self.rng.usize(0..LANES.len())].0);
            let at = self.moment();
            self.todo.push((at, Do::Kick(lane)));
        }
        if self.knobs.weather == Weather::Calm && !self.knobs.calm_pauses {
            return;
        }
        for _ in 0..self.rng.usize(0..3) {
            let lane = (self.rng.u32(0..3) > 0).then(|| self.rng.usize(0..LANES.len()));
            let at = self.moment();
            let until = at + SignedDuration::from_secs(self.rng.i64(10..4 * 3600));
            self.todo.push((at, Do::Pause(lane, true)));
            self.todo
                .push((until.min(self.hour(CALM)), Do::Pause(lane, false)));
        }
        if let Some(lane) = self.knobs.left_paused {
            let at = self.hour(CALM) + SignedDuration::from_secs(1);
            let early = self.moment();
            self.todo.push((early, Do::Pause(Some(lane), true)));
            self.todo.push((at, Do::Pause(Some(lane), true)));
        }
    }

    /// Crashes and clocks set wrong. A step is put right within the length of the freeze.
    fn draw_trouble(&mut self) {
        for _ in 0..self.rng.usize(0..2) {
            let at = self.moment();
            self.todo.push((at, Do::Sweep));
        }
        if matches!(self.knobs.weather, Weather::Rough | Weather::Wild) {
            for _ in 0..self.rng.usize(0..4) {
                let who = Who::Releaser(self.rng.u8(0..RELEASERS));
                let at = self.moment();
                self.todo.push((at, Do::Crash(who)));
            }
        }
        let mut free = self.hour(OPENS) + SignedDuration::from_mins(10);
        for _ in 0..self.knobs.steps {
            let before = SignedDuration::from_secs(self.rng.i64(0..200));
            let at = (self.moment() - before).max(free);
            let by = SignedDuration::from_secs(self.rng.i64(600..9 * 3600));
            let by = if self.rng.bool() { by } else { -by };
            let lasts = SignedDuration::from_millis(self.rng.i64(100..290_000));
            self.todo.push((at, Do::Step(by)));
            self.todo.push((at + lasts, Do::Correct));
            free = at + SignedDuration::from_mins(20);
            if self.knobs.weather == Weather::Stormy {
                // Something is on its way when it happens.
                let first = self.lines.len();
                let early = at - SignedDuration::from_millis(self.rng.i64(0..30_000));
                for _ in 0..self.rng.usize(3..10) {
                    let line = self.draw_message(early, None);
                    self.lines.push(line);
                }
                self.todo
                    .push((early, Do::Offer((first..self.lines.len()).collect())));
            }
        }
    }
}

//! Asks the rules about a batch: the same question at the gate and again at hand-over.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nightgate_core::{
    Class, Code, Consent, ConsentAnswer, Decision, House, Message, Place, Purpose, RecipientKey,
    Round, Ruleset,
};

use crate::clock::Clock;
use crate::consent::ConsentBook;
use crate::error::Error;

/// Suffix of the class of messages that left the ordinary windows behind by consent. They share no
/// closing with the rest of their class, so they must not be re-dated with it.
const LIFTED: &str = "/lifted";

/// Rules, house and consent book: all that a decision needs beside a message and the time.
pub struct Decider {
    rules: Arc<Ruleset>,
    house: House,
    consent: Arc<dyn ConsentBook>,
}

/// One decided message.
#[derive(Debug)]
pub struct Decided {
    /// The answer.
    pub decision: Decision,
    /// Whose law and which clocks were asked.
    pub place: Place,
    /// The class it shares its windows with.
    pub class: Class,
}

/// A batch of answers, in the order of the messages.
#[derive(Debug)]
pub struct Decisions {
    /// One per message.
    pub all: Vec<Decided>,
    /// Why the consent book could not be asked, if it could not: advertising was held for it.
    pub consent_fault: Option<Error>,
}

/// What the book said of some recipients, in their order.
#[derive(Debug)]
pub(crate) struct Told {
    /// Nothing, if the book could not be asked.
    known: Vec<Consent>,
    /// Why not.
    pub(crate) fault: Option<Error>,
}

/// The answers to one batch, message by message.
pub(crate) struct Answers<'a> {
    round: Round<'a>,
    told: std::vec::IntoIter<Consent>,
    /// Classes, and what they are called where a consent lifted their windows.
    lifted: Vec<(Class, Class)>,
}

/// One instant by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Instant {
    /// What the wall clock showed.
    pub wall: Timestamp,
    /// What the monotonic clock showed.
    pub monotonic: Duration,
}

impl Decider {
    /// A decider over these parts.
    #[must_use]
    pub fn new(rules: Arc<Ruleset>, house: House, consent: Arc<dyn ConsentBook>) -> Self {
        Self {
            rules,
            house,
            consent,
        }
    }

    /// The house defaults.
    #[must_use]
    pub fn house(&self) -> &House {
        &self.house
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> &Ruleset {
        &self.rules
    }

    /// The canonical form of a message's recipient.
    #[must_use]
    pub fn key(&self, message: &Message) -> RecipientKey {
        message.recipient.key(self.house.jurisdiction.as_str())
    }

    /// Decides every message at `now`. Total: a consent book that cannot be asked makes
    /// advertising wait, and is reported beside the answers.
    pub async fn decide(
        &self,
        messages: &[&Message],
        keys: &[&RecipientKey],
        now: Timestamp,
    ) -> Decisions {
        let told = self.ask_about(messages, keys).await;
        self.weigh(messages, told, now)
    }

    /// The same at the instant at which the consent book has answered. To decide at an instant
    /// before that would find a consent that was confirmed meanwhile not given yet, and refuse.
    pub async fn decide_now(
        &self,
        messages: &[&Message],
        keys: &[&RecipientKey],
        clock: &dyn Clock,
    ) -> (Decisions, Instant) {
        let told = self.ask_about(messages, keys).await;
        let at = Instant {
            wall: clock.now(),
            monotonic: clock.monotonic(),
        };
        (self.weigh(messages, told, at.wall), at)
    }

    /// Asks the book about the recipients of advertising, in order.
    async fn ask_about(&self, messages: &[&Message], keys: &[&RecipientKey]) -> Told {
        let asked: Vec<RecipientKey> = messages
            .iter()
            .zip(keys)
            .filter(|(message, _)| message.purpose == Purpose::Advertising)
            .map(|(_, key)| (*key).clone())
            .collect();
        self.ask(&asked).await
    }

    fn weigh(&self, messages: &[&Message], told: Told, now: Timestamp) -> Decisions {
        let (mut answers, consent_fault) = self.answers(told, now);
        let mut all = Vec::with_capacity(messages.len());
        for message in messages {
            let (decision, place, class) = answers.next(message);
            all.push(Decided {
                decision,
                place: place.clone(),
                class,
            });
        }
        Decisions { all, consent_fault }
    }

    /// Decides one message as if the consent book had given `answer`: the dry run.
    #[must_use]
    pub fn decide_one(&self, message: &Message, answer: &ConsentAnswer, now: Timestamp) -> Decided {
        let mut round = Round::new(&self.rules, &self.house, now);
        let ruled = round.decide(message, answer);
        let class = match is_lifted(&ruled.decision) {
            true => lifted(ruled.class),
            false => ruled.class.clone(),
        };
        Decided {
            decision: ruled.decision,
            place: ruled.place.clone(),
            class,
        }
    }

    /// What the book says of `keys`: the recipients of advertising. No rule asks for consent to
    /// information, so about the rest it is not asked.
    pub(crate) async fn ask(&self, keys: &[RecipientKey]) -> Told {
        if keys.is_empty() {
            return Told {
                known: Vec::new(),
                fault: None,
            };
        }
        let (known, fault) = match self.consent.look_up(keys).await {
            Ok(known) if known.len() == keys.len() => (known, None),
            Ok(_) => {
                let kind = crate::error::Kind::Corrupt;
                let fault = Error::new(kind, "consent", "match answers to recipients");
                (Vec::new(), Some(fault))
            }
            Err(fault) => (Vec::new(), Some(fault)),
        };
        Told { known, fault }
    }

    /// The answers to a batch of which the book told so much, and why it told nothing, if so.
    pub(crate) fn answers(&self, told: Told, now: Timestamp) -> (Answers<'_>, Option<Error>) {
        let answers = Answers {
            round: Round::new(&self.rules, &self.house, now),
            told: told.known.into_iter(),
            lifted: Vec::new(),
        };
        (answers, told.fault)
    }
}

impl Answers<'_> {
    /// The answer to the next message, with whose law and which clocks were asked, and its class.
    /// To be asked in the order of the batch.
    pub(crate) fn next(&mut self, message: &Message) -> (Decision, &Place, Class) {
        let answer = match message.purpose {
            Purpose::Advertising => self.told.next().map(ConsentAnswer::Known),
            Purpose::Informational => Some(ConsentAnswer::Known(Consent::default())),
        };
        let answer = answer.unwrap_or(ConsentAnswer::Unknown);
        let ruled = self.round.decide(message, &answer);
        if !is_lifted(&ruled.decision) {
            return (ruled.decision, ruled.place, ruled.class.clone());
        }
        let known = self.lifted.iter().find(|(class, _)| class == ruled.class);
        let class = match known {
            Some((_, lifted)) => lifted.clone(),
            None => {
                let lifted = lifted(ruled.class);
                self.lifted.push((ruled.class.clone(), lifted.clone()));
                lifted
            }
        };
        (ruled.decision, ruled.place, class)
    }
}

fn is_lifted(decision: &Decision) -> bool {
    matches!(decision, Decision::Send(permit) if permit.reason().code == Code::LiftedByConsent)
}

fn lifted(class: &Class) -> Class {
    Class::from_name(&format!("{}{LIFTED}", class.as_str()))
}

/// A decision as the metrics name it: the answer and what decided.
#[must_use]
pub fn names(decision: &Decision) -> (&'static str, &'static str) {
    match decision {
        Decision::Send(permit) => ("send", permit.reason().code.as_str()),
        Decision::Hold { reason, .. } => ("hold", reason.code.as_str()),
        Decision::Refuse { reason } => ("refuse", reason.code.as_str()),
    }
}

/// Whether a whole class may be re-dated when one of its messages meets closed windows.
#[must_use]
pub fn moves_as_one(class: &Class) -> bool {
    !class.as_str().ends_with(LIFTED)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use jiff::{SignedDuration, tz::TimeZone};
    use nightgate_core::ruleset::PackSource;
    use nightgate_core::{Basis, Grant, Jurisdiction, Scope};

    use super::*;
    use crate::clock::ManualClock;
    use crate::consent::ConsentEvent;
    use crate::error::Result;

    /// A book in which a consent is confirmed while it is being asked.
    struct BusyBook(Arc<ManualClock>);

    #[async_trait]
    impl ConsentBook for BusyBook {
        async fn look_up(&self, _: &[RecipientKey]) -> Result<Vec<Consent>> {
            self.0.advance(Duration::from_secs(2));
            let (at, basis) = (self.0.now(), Basis::Explicit);
            let mut consent = Consent::default();
            for at in [at - SignedDuration::from_hours(24), at] {
                consent.grant(Scope::General, Grant { at, basis });
            }
            Ok(vec![consent])
        }

        async fn record(&self, _: Vec<ConsentEvent>) -> Result<u64> {
            Ok(0)
        }

        async fn history(&self, _: &RecipientKey) -> Result<Vec<ConsentEvent>> {
            Ok(Vec::new())
        }

        async fn count(&self) -> Result<u64> {
            Ok(1)
        }
    }

    /// Found by the simulator: it was refused for good, as if consent had never been given.
    #[tokio::test]
    async fn a_consent_confirmed_while_the_book_is_asked_still_stands() {
        let clock = Arc::new(ManualClock::new("2026-11-22T03:00:00Z".parse().unwrap()));
        let text = include_str!("../../../rules/kr.toml").to_owned();
        let name = "kr.toml".to_owned();
        let rules = Ruleset::load(&[PackSource { name, text }]).unwrap();
        let jurisdiction = Jurisdiction::new("KR").unwrap();
        let zone = TimeZone::get("Asia/Seoul").unwrap();
        let house = House { jurisdiction, zone };
        let book = Arc::new(BusyBook(Arc::clone(&clock)));
        let decider = Decider::new(Arc::new(rules), house, book);
        let message: Message = serde_json::from_value(serde_json::json!({
            "id": "m-1", "recipient": "010-1234-5678", "channel": "sms", "purpose": "advertising",
            "priority": 5, "content_type": "text/plain", "attributes": {}, "body": [],
        }))
        .unwrap();
        let key = decider.key(&message);
        let (decided, at) = decider.decide_now(&[&message], &[&key], &*clock).await;
        assert!(matches!(decided.all[0].decision, Decision::Send(_)));
        assert_eq!(at.wall, clock.now());
    }
}

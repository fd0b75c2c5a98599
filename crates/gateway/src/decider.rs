//! Asks the rules about a batch: the same question at the gate and again at hand-over.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nightgate_core::{
    Class, Code, Consent, ConsentAnswer, Decision, Facts, House, Message, Place, Purpose,
    RecipientKey, Ruleset, decide, locate,
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

/// What the book said of the recipients of advertising, and why it said nothing, if so.
type Asked = (Vec<ConsentAnswer>, Option<Error>);

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
        let asked = self.ask(messages, keys).await;
        self.weigh(messages, asked, now)
    }

    /// The same at the instant at which the consent book has answered. To decide at an instant
    /// before that would find a consent that was confirmed meanwhile not given yet, and refuse.
    pub async fn decide_now(
        &self,
        messages: &[&Message],
        keys: &[&RecipientKey],
        clock: &dyn Clock,
    ) -> (Decisions, Instant) {
        let asked = self.ask(messages, keys).await;
        let at = Instant {
            wall: clock.now(),
            monotonic: clock.monotonic(),
        };
        (self.weigh(messages, asked, at.wall), at)
    }

    /// Asks the book about the recipients of advertising, in order.
    async fn ask(&self, messages: &[&Message], keys: &[&RecipientKey]) -> Asked {
        let asked: Vec<RecipientKey> = messages
            .iter()
            .zip(keys)
            .filter(|(message, _)| message.purpose == Purpose::Advertising)
            .map(|(_, key)| (*key).clone())
            .collect();
        self.look_up(&asked).await
    }

    fn weigh(
        &self,
        messages: &[&Message],
        (answers, consent_fault): Asked,
        now: Timestamp,
    ) -> Decisions {
        let mut answers = answers.into_iter();
        let all = messages
            .iter()
            .map(|message| {
                let answer = match message.purpose {
                    Purpose::Advertising => answers.next().unwrap_or(ConsentAnswer::Unknown),
                    // No rule asks for consent to information, so the book is not asked either.
                    Purpose::Informational => ConsentAnswer::Known(Consent::default()),
                };
                self.decide_one(message, &answer, now)
            })
            .collect();
        Decisions { all, consent_fault }
    }

    /// Decides one message as if the consent book had given `answer`: the dry run.
    #[must_use]
    pub fn decide_one(&self, message: &Message, answer: &ConsentAnswer, now: Timestamp) -> Decided {
        let place = locate(message, &self.house);
        let facts = Facts {
            consent: answer,
            place: &place,
        };
        let decision = decide(&self.rules, message, &facts, now);
        let mut class = self.rules.class(message, &place);
        if let Decision::Send(permit) = &decision
            && permit.reason().code == Code::LiftedByConsent
        {
            class = Class::from_name(&format!("{}{LIFTED}", class.as_str()));
        }
        Decided {
            decision,
            place,
            class,
        }
    }

    async fn look_up(&self, keys: &[RecipientKey]) -> Asked {
        if keys.is_empty() {
            return (Vec::new(), None);
        }
        match self.consent.look_up(keys).await {
            Ok(known) if known.len() == keys.len() => {
                (known.into_iter().map(ConsentAnswer::Known).collect(), None)
            }
            Ok(_) => {
                let kind = crate::error::Kind::Corrupt;
                let fault = Error::new(kind, "consent", "match answers to recipients");
                (vec![ConsentAnswer::Unknown; keys.len()], Some(fault))
            }
            Err(fault) => (vec![ConsentAnswer::Unknown; keys.len()], Some(fault)),
        }
    }
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

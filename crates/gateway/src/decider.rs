//! Asks the rules about a batch: the same question at the gate and again at hand-over.

use std::sync::Arc;

use jiff::Timestamp;
use nightgate_core::{
    Class, Code, Consent, ConsentAnswer, Decision, Facts, House, Message, Place, Purpose,
    RecipientKey, Ruleset, decide, locate,
};

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
        let asked: Vec<RecipientKey> = messages
            .iter()
            .zip(keys)
            .filter(|(message, _)| message.purpose == Purpose::Advertising)
            .map(|(_, key)| (*key).clone())
            .collect();
        let (answers, consent_fault) = self.look_up(&asked).await;
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
        if matches!(&decision, Decision::Send(permit) if permit.reason().code == Code::LiftedByConsent)
        {
            class = Class::from_name(&format!("{}{LIFTED}", class.as_str()));
        }
        Decided {
            decision,
            place,
            class,
        }
    }

    async fn look_up(&self, keys: &[RecipientKey]) -> (Vec<ConsentAnswer>, Option<Error>) {
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

/// Whether a whole class may be re-dated when one of its messages meets closed windows.
#[must_use]
pub fn moves_as_one(class: &Class) -> bool {
    !class.as_str().ends_with(LIFTED)
}

//! The messages and the people of the demo, made from the samples in `samples/`.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use nightgate_core::{Basis, Message, MessageId, Purpose, Recipient, RecipientKey, Scope};

use crate::cli::Failure;
use crate::consent::{Act, ConsentEvent};
use crate::ingest::wire;

const SAMPLES: &str = include_str!("../../../../../samples/notifications.ndjson");

/// How many messages arrive in each of the two rushes.
const RUSHES: [(&str, usize); 2] = [
    ("2026-11-23T20:50:00+09:00", 2400),
    ("2026-11-24T07:50:00+09:00", 1200),
];
/// How long a rush lasts.
const RUSH: SignedDuration = SignedDuration::from_mins(20);
/// When everybody agreed to what they agreed to.
const CONSENTED: &str = "2026-03-02T10:00:00+09:00";
/// Who withdraws: one person in so many.
const WITHDRAWS: usize = 40;

/// A message and when it arrives.
pub(super) struct Arrival {
    pub(super) at: Timestamp,
    pub(super) message: Message,
}

/// Everybody and everything that comes.
pub(super) struct Crowd {
    pub(super) arrivals: Vec<Arrival>,
    pub(super) consents: Vec<ConsentEvent>,
    pub(super) withdrawing: Vec<RecipientKey>,
    /// Those who agreed to advertising at night.
    pub(super) night: BTreeSet<String>,
}

impl Crowd {
    /// The same crowd every time.
    pub(super) fn gather() -> Result<Self, Failure> {
        let samples: Vec<Message> = SAMPLES
            .lines()
            .map(|line| {
                wire::read(line.as_bytes()).map_err(|faulty| {
                    Failure::failed(format!("a sample has faults: {:?}", faulty.faults))
                })
            })
            .collect::<Result<_, _>>()?;
        let mut crowd = Self {
            arrivals: Vec::new(),
            consents: Vec::new(),
            withdrawing: Vec::new(),
            night: BTreeSet::new(),
        };
        let mut number = 0;
        for (start, many) in RUSHES {
            let start = instant(start)?;
            for place in 0..many {
                number += 1;
                let offset =
                    RUSH * i32::try_from(place).unwrap_or(0) / i32::try_from(many).unwrap_or(1);
                let at = start.saturating_add(offset).unwrap_or(start);
                let sample = &samples[number % samples.len()];
                crowd.come(sample, number, at)?;
            }
        }
        Ok(crowd)
    }

    fn come(&mut self, sample: &Message, number: usize, at: Timestamp) -> Result<(), Failure> {
        let mut message = sample.clone();
        let own = |text: String| Failure::failed(format!("the demo made a bad message: {text}"));
        message.id = MessageId::new(&format!("{}-{number}", sample.id)).map_err(own)?;
        let person = if message.recipient.expose().contains('@') {
            format!("reader{number}@mail.example")
        } else {
            format!("+82100{number:07}")
        };
        message.recipient = Recipient::new(&person).map_err(own)?;
        if message.purpose == Purpose::Advertising {
            self.agree(&message, &person, number)?;
            // A few campaigns are booked for the evening after; they are still held at the end.
            if number.is_multiple_of(97) {
                message.send_at = Some(instant("2026-11-24T18:00:00+09:00")?);
            // Coupons that end at midnight are worthless at 08:00.
            } else if number.is_multiple_of(53) {
                message.expires_at =
                    Some(instant("2026-11-24T00:00:00+09:00")?).filter(|expires| *expires > at);
            }
        }
        self.arrivals.push(Arrival { at, message });
        Ok(())
    }

    /// Nine in ten agreed to advertising, one in five to advertising at night too.
    fn agree(&mut self, message: &Message, person: &str, number: usize) -> Result<(), Failure> {
        if number.is_multiple_of(10) {
            return Ok(());
        }
        let key = message.recipient.key("KR");
        let at = instant(CONSENTED)?;
        let (act, source) = (Act::Grant(Basis::Explicit), "demo".to_owned());
        let scope = Scope::General;
        let general = ConsentEvent {
            key,
            scope,
            act,
            at,
            source,
        };
        if number.is_multiple_of(WITHDRAWS + 1) {
            self.withdrawing.push(general.key.clone());
        } else if number % 5 == 1 {
            self.night.insert(person.to_owned());
            self.consents.push(ConsentEvent {
                scope: Scope::Night,
                ..general.clone()
            });
        }
        self.consents.push(general);
        Ok(())
    }
}

/// An instant written in this file.
pub(super) fn instant(text: &str) -> Result<Timestamp, Failure> {
    text.parse()
        .map_err(|error| Failure::failed(format!("the demo's clock: {error}")))
}

//! Many messages decided at one instant. What is alike is looked up and weighed once.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use super::weigh::{self, Answer, PERMIT_MAX_LIFE, Verdict, later};
use super::{Decision, of_verdict};
use crate::consent::{Basis, ConsentAnswer, ConsentSnapshot, Standing};
use crate::message::{Channel, Class, Message, Purpose};
use crate::ruleset::{Brief, Ruleset};
use crate::zone::{House, Place, home_clock, locate};

/// Most groups kept at once; a batch to more places than that starts afresh.
const GROUPS_MAX: usize = 64;
/// Most verdicts kept for one group: the standings that occur, times the instants producers set.
const VERDICTS_MAX: usize = 16;

/// Decisions of one ruleset at one instant, each the same as [`decide`](super::decide) gives.
pub struct Round<'a> {
    rules: &'a Ruleset,
    house: &'a House,
    now: Timestamp,
    /// This and the texts of the groups are copies, one for the round: what becomes of one batch is
    /// counted on whatever core handles it, apart from that of the next.
    version: Arc<str>,
    groups: Vec<Group>,
    /// The group of the last message; the next is often of the same.
    last: usize,
}

/// What messages of one purpose and channel to one place share.
struct Group {
    /// The row of the place among the countries with one clock, if it is found there.
    clock: Option<u8>,
    purpose: Purpose,
    channel: Channel,
    place: Place,
    zone: Arc<str>,
    class: Class,
    brief: Arc<Brief>,
    known: Vec<(Asked, Verdict)>,
    next: usize,
}

/// All that a verdict depends on beside its group and the instant.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Asked {
    send_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    general: Stand,
    night: Stand,
}

/// A standing as far as it matters: nothing that a verdict tells depends on instants further away
/// than a permit lives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    Explicit,
    Transaction,
    None,
    Withdrawn,
    Lapsed,
    Unknown,
}

/// One decided message.
#[derive(Debug)]
pub struct Ruled<'a> {
    /// The answer.
    pub decision: Decision,
    /// Whose law and which clocks were asked.
    pub place: &'a Place,
    /// The class it shares its windows with.
    pub class: &'a Class,
}

impl<'a> Round<'a> {
    /// A round at `now`.
    #[must_use]
    pub fn new(rules: &'a Ruleset, house: &'a House, now: Timestamp) -> Self {
        Self {
            rules,
            house,
            now,
            version: Arc::from(&**rules.version()),
            groups: Vec::new(),
            last: 0,
        }
    }

    /// May `message` leave at the instant of this round, if the consent book answers `consent`?
    ///
    /// ```
    /// use jiff::{Timestamp, tz::TimeZone};
    /// use nightgate_core::{ConsentAnswer, Decision, House, Jurisdiction, Message, Round, Ruleset};
    ///
    /// let rules = Ruleset::load(&[]).expect("no pack has no faults");
    /// let (jurisdiction, zone) = (Jurisdiction::new("KR")?, TimeZone::get("Asia/Seoul")?);
    /// let house = House { jurisdiction, zone };
    /// let mut round = Round::new(&rules, &house, Timestamp::UNIX_EPOCH);
    /// let message: Message = serde_json::from_value(serde_json::json!({
    ///     "id": "m-1", "recipient": "010-1234-5678", "channel": "sms", "purpose": "informational",
    ///     "priority": 5, "content_type": "text/plain", "attributes": {}, "body": [],
    /// }))?;
    /// let ruled = round.decide(&message, &ConsentAnswer::Unknown);
    /// assert!(matches!(ruled.decision, Decision::Send(_)));
    /// assert_eq!(ruled.class.as_str(), "informational/sms/KR/Asia/Seoul");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn decide(&mut self, message: &Message, consent: &ConsentAnswer) -> Ruled<'_> {
        let (version, now) = (Arc::clone(&self.version), self.now);
        let group = self.group(message);
        let consent = consent.snapshot(now, &group.brief.validity);
        let verdict = group.verdict(message, consent, now);
        let zone = (group.place.zones.source, Arc::clone(&group.zone));
        Ruled {
            decision: of_verdict(verdict, version, zone, message, consent),
            place: &group.place,
            class: &group.class,
        }
    }

    fn group(&mut self, message: &Message) -> &mut Group {
        let told = message.zone.is_some() || message.jurisdiction.is_some();
        let clock = match told {
            true => None,
            false => home_clock(message.recipient.expose(), self.house.jurisdiction),
        };
        let (purpose, channel) = (message.purpose, message.channel);
        let alike = |group: &Group| group.purpose == purpose && group.channel == channel;
        let found = if clock.is_some() {
            self.find(|group| group.clock == clock && alike(group))
        } else {
            let place = locate(message, self.house);
            match self.find(|group| alike(group) && is_same(&group.place, &place)) {
                Some(found) => Some(found),
                None => return self.add(message, place, clock),
            }
        };
        match found {
            Some(at) => {
                self.last = at;
                &mut self.groups[at]
            }
            None => {
                let place = locate(message, self.house);
                self.add(message, place, clock)
            }
        }
    }

    fn find(&self, is_it: impl Fn(&Group) -> bool) -> Option<usize> {
        if self.groups.get(self.last).is_some_and(&is_it) {
            return Some(self.last);
        }
        self.groups.iter().position(is_it)
    }

    fn add(&mut self, message: &Message, place: Place, clock: Option<u8>) -> &mut Group {
        if self.groups.len() >= GROUPS_MAX {
            self.groups.clear();
        }
        self.last = self.groups.len();
        let brief = self.rules.brief(message, &place);
        self.groups.push(Group {
            clock,
            purpose: message.purpose,
            channel: message.channel,
            zone: Arc::from(&*place.zones.name),
            class: Class::from_name(brief.class.as_str()),
            brief,
            place,
            known: Vec::new(),
            next: 0,
        });
        &mut self.groups[self.last]
    }
}

impl fmt::Debug for Round<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Round")
            .field("now", &self.now)
            .field("groups", &self.groups.len())
            .finish_non_exhaustive()
    }
}

fn is_same(one: &Place, other: &Place) -> bool {
    let shared = Arc::ptr_eq(&one.zones.name, &other.zones.name)
        && Arc::ptr_eq(&one.zones.all, &other.zones.all);
    one.jurisdiction == other.jurisdiction
        && one.zones.source == other.zones.source
        && (shared || one.zones == other.zones)
}

impl Group {
    fn verdict(&mut self, message: &Message, consent: ConsentSnapshot, now: Timestamp) -> Verdict {
        let lasting = later(now, PERMIT_MAX_LIFE);
        let (Some(general), Some(night)) = (
            stand(consent.general, lasting),
            stand(consent.night, lasting),
        ) else {
            return weigh::weigh(&self.brief, message, consent, now);
        };
        let asked = Asked {
            send_at: message.send_at,
            expires_at: message.expires_at,
            general,
            night,
        };
        if let Some((_, verdict)) = self.known.iter().find(|(known, _)| *known == asked) {
            return verdict.clone();
        }
        let mut verdict = weigh::weigh(&self.brief, message, consent, now);
        verdict.rule = verdict.rule.as_deref().map(Arc::from);
        // How long a hold lasts may depend on when a consent ends that lifts a rule.
        let lifts = |scope| matches!(consent.of(scope), Standing::Valid { .. });
        let lifted = self
            .brief
            .windows
            .iter()
            .any(|window| window.rule.lifted_by.is_some_and(lifts));
        if lifted && !matches!(verdict.answer, Answer::Send { .. }) {
            return verdict;
        }
        if self.known.len() < VERDICTS_MAX {
            self.known.push((asked, verdict.clone()));
        } else {
            self.known[self.next] = (asked, verdict.clone());
            self.next = (self.next + 1) % VERDICTS_MAX;
        }
        verdict
    }
}

/// `None` for a consent that ends within the life of a permit: its end shows.
fn stand(standing: Standing, lasting: Timestamp) -> Option<Stand> {
    Some(match standing {
        Standing::Valid { until, basis, .. } => {
            if until.is_some_and(|until| until < lasting) {
                return None;
            }
            match basis {
                Basis::Explicit => Stand::Explicit,
                Basis::TransactionException { .. } => Stand::Transaction,
            }
        }
        Standing::None => Stand::None,
        Standing::Withdrawn { .. } => Stand::Withdrawn,
        Standing::Lapsed { .. } => Stand::Lapsed,
        Standing::Unknown => Stand::Unknown,
    })
}

//! Judges a night by what truly happened. Shares no code with what it judges: own clock arithmetic,
//! own rules, own book of consents.

mod consent;
mod finale;
mod pace;

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use nightgate::gate::Status;
use nightgate::hold::Settled;
use nightgate::receipt::Event;
use nightgate::release::OnUnknown;
use nightgate_core::{Channel, Message, Purpose, Scope};

use crate::drive::Night;
use crate::history::{Ending, What, Who, excerpt, seoul_second};
use crate::knobs::{Weather, lane_of};
use consent::Book;

/// A promise that was broken.
#[derive(Debug)]
pub(crate) struct Violation {
    /// Number and name of the promise, as in docs/SIMULATOR.md.
    pub(crate) rule: &'static str,
    pub(crate) id: Option<usize>,
    pub(crate) text: String,
}

/// What became of one message.
#[derive(Default)]
struct Track {
    /// First place at which the gate said it is stored, and when.
    acknowledged: Option<(usize, Timestamp)>,
    leased: HashMap<Who, usize>,
    attempted: HashMap<Who, usize>,
    looked_up: HashMap<Who, usize>,
    received: Vec<usize>,
    /// First place at which it was known for good that it was delivered.
    known_delivered: Option<usize>,
    kicks: Vec<usize>,
    recalls: Vec<usize>,
    filed: HashSet<Event>,
    not_filed: HashSet<Event>,
    said: HashSet<&'static str>,
    obeyed: Option<Ending>,
}

struct Court<'a> {
    night: &'a Night,
    book: Book,
    tracks: Vec<Track>,
    found: Vec<Violation>,
    /// Stops in force: lane, or all.
    paused: HashSet<Option<usize>>,
}

/// Every broken promise of a night.
pub(crate) fn judge(night: &Night) -> Vec<Violation> {
    let tracks = night
        .script
        .lines
        .iter()
        .map(|_| Track::default())
        .collect();
    let book = Book::of(&night.history);
    let mut court = Court {
        night,
        book,
        tracks,
        found: Vec::new(),
        paused: HashSet::new(),
    };
    for place in 0..night.history.len() {
        court.hear(place);
    }
    court.promptness();
    let Court {
        tracks, mut found, ..
    } = court;
    pace::check(night, &mut found);
    finale::check(night, &tracks, &mut found);
    found
}

/// What to print about a violation: the seed, the history around it, and how to run it again.
pub(crate) fn report(night: &Night, violation: &Violation) -> String {
    let Violation { rule, id, text } = violation;
    let knobs = &night.script.knobs;
    let seed = knobs.seed;
    let (about, lines) = match id {
        Some(id) => {
            let line = &night.script.lines[*id];
            let message = &line.message;
            let about = format!(
                "{:?}, lane {}, recipient {}, send at {:?}, expires at {:?}",
                message,
                lane_of(message.channel),
                line.key,
                message.send_at,
                message.expires_at
            );
            (about, excerpt(&night.history, *id, line.key))
        }
        None => (String::new(), String::new()),
    };
    format!(
        "seed {seed} breaks promise `{rule}`: {text}\n{about}\n{knobs:?}\n{lines}\
         run it again: NIGHTGATE_SIM_SEED={seed} cargo test --test sim\n"
    )
}

impl Court<'_> {
    fn blame(&mut self, rule: &'static str, id: usize, text: impl Into<String>) {
        self.found.push(Violation {
            rule,
            id: Some(id),
            text: text.into(),
        });
    }

    fn message(&self, id: usize) -> &Message {
        &self.night.script.lines[id].message
    }

    fn hear(&mut self, place: usize) {
        let entry = &self.night.history[place];
        let at = entry.at;
        match &entry.what {
            What::Answered { id, status } => {
                if matches!(status, Status::Accepted | Status::Held | Status::Duplicate) {
                    self.tracks[*id].acknowledged.get_or_insert((place, at));
                }
            }
            What::LookedUp { key, by } => {
                for (id, line) in self.night.script.lines.iter().enumerate() {
                    if line.key == *key {
                        self.tracks[id].looked_up.entry(*by).or_insert(place);
                    }
                }
            }
            What::Leased { id, by, .. } => self.leased(*id, *by, place),
            What::Filed { id, event, by } => {
                let track = &mut self.tracks[*id];
                track.filed.insert(*event);
                if *event == Event::Attempted {
                    track.attempted.insert(*by, place);
                }
                if *event == Event::Delivered {
                    track.known_delivered.get_or_insert(place);
                }
                if *event == Event::Refused {
                    self.refused(*id, at, place);
                }
            }
            What::NotFiled { id, event, .. } => {
                self.tracks[*id].not_filed.insert(*event);
            }
            What::Said { id, outcome, .. } => {
                self.tracks[*id].said.insert(outcome);
            }
            What::Received { id, by, .. } => self.received(*id, *by, at, place),
            What::Settled {
                id,
                ending,
                answer: Settled::Yes,
                ..
            } => {
                let track = &mut self.tracks[*id];
                track.obeyed = Some(*ending);
                if *ending == Ending::Done(nightgate::hold::End::Delivered) {
                    track.known_delivered.get_or_insert(place);
                }
            }
            done => self.people(done, place),
        }
    }

    /// What people did.
    fn people(&mut self, done: &What, place: usize) {
        match done {
            What::Recalled {
                ids,
                in_flight,
                said,
            } => {
                if ids.len() as u64 != *said {
                    let text = format!("recalled {} messages and said {said}", ids.len());
                    self.found.push(Violation {
                        rule: "6 recall",
                        id: None,
                        text,
                    });
                }
                for id in ids.iter().chain(in_flight) {
                    self.tracks[*id].recalls.push(place);
                }
            }
            What::Paused { lane, paused: true } => drop(self.paused.insert(*lane)),
            What::Paused {
                lane,
                paused: false,
            } => drop(self.paused.remove(lane)),
            What::Kicked { ids } => {
                for id in ids {
                    let track = &mut self.tracks[*id];
                    track.kicks.push(place);
                    track.obeyed = None;
                }
            }
            _ => {}
        }
    }

    /// Nothing that was taken back, or has come to its end, is lent again.
    fn leased(&mut self, id: usize, by: Who, place: usize) {
        let track = &mut self.tracks[id];
        track.leased.insert(by, place);
        track.looked_up.remove(&by);
        let lane = lane_of(self.night.script.lines[id].message.channel);
        let stopped = self.paused.contains(&None) || self.paused.contains(&Some(lane));
        let recalled = !track.recalls.is_empty();
        let ended = track.obeyed.filter(|ending| *ending != Ending::Defer);
        // Elsewhere a call may stall between the look at the pauses and the lease.
        if stopped && self.night.script.knobs.weather == Weather::Calm {
            self.blame("8 pause", id, "lent while its lane was paused");
        }
        if recalled {
            self.blame("6 recall", id, "lent after it was recalled");
        }
        if let Some(ending) = ended {
            self.blame("2 one end", id, format!("lent again after {ending:?}"));
        }
    }

    /// The law, the recipient's word, and the message's own times, at true time.
    fn received(&mut self, id: usize, by: Who, at: Timestamp, place: usize) {
        let message = self.message(id);
        if message.expires_at.is_some_and(|end| end <= at) {
            self.blame("6 times", id, "received after its life ended");
        } else if message.send_at.is_some_and(|from| at < from) {
            self.blame("6 times", id, "received before `send_at`");
        }
        self.lawful(id, by, at, place);
        self.proven(id, by, place);
        self.twice(id, by, place);
        self.tracks[id].received.push(place);
    }

    fn lawful(&mut self, id: usize, by: Who, at: Timestamp, place: usize) {
        let (second, key) = (seoul_second(at), self.night.script.lines[id].key);
        let (channel, purpose) = (self.message(id).channel, self.message(id).purpose);
        let kakao = matches!(channel, Channel::Friendtalk | Channel::Brandmessage);
        if kakao && !(28_800..75_000).contains(&second) {
            self.blame(
                "1 quiet hours",
                id,
                "received while Kakao's hours were closed",
            );
        }
        if purpose == Purpose::Informational {
            return;
        }
        // A withdrawal after the book was asked for this very hand-over came too late to count.
        let heard = self.tracks[id].looked_up.get(&by).copied().unwrap_or(place);
        let stood = |scope| self.book.stood(key, scope, at, place, heard);
        let (general, night) = (stood(Scope::General), stood(Scope::Night));
        let quiet = !(28_800..75_600).contains(&second) && channel != Channel::Email;
        if !general {
            self.blame("1 consent", id, "an advertisement received without consent");
        }
        if quiet && !night {
            self.blame(
                "1 quiet hours",
                id,
                "an advertisement received in the night",
            );
        }
    }

    /// An attempt is on file before anything leaves.
    fn proven(&mut self, id: usize, by: Who, place: usize) {
        let track = &self.tracks[id];
        let (leased, attempted) = (track.leased.get(&by), track.attempted.get(&by));
        if leased.is_none() || attempted.is_none_or(|it| Some(it) < leased || *it > place) {
            self.blame("5 receipts", id, "received before its attempt was on file");
        }
    }

    fn twice(&mut self, id: usize, by: Who, place: usize) {
        let (knobs, track) = (&self.night.script.knobs, &self.tracks[id]);
        let Some(last) = track.received.last() else {
            return;
        };
        if track.kicks.iter().any(|kick| kick > last) {
            return;
        }
        let policy = match self.message(id).purpose {
            Purpose::Advertising => knobs.unknown_advertising,
            Purpose::Informational => knobs.unknown_informational,
        };
        let leased = track.leased.get(&by).copied().unwrap_or(place);
        if policy == OnUnknown::Bury {
            self.blame(
                "3 once",
                id,
                "received twice, where unknown outcomes are buried",
            );
        } else if track.known_delivered.is_some_and(|known| known < leased) {
            self.blame(
                "3 once",
                id,
                "lent and received again after it was known delivered",
            );
        }
    }

    /// Nothing is refused for want of a consent that was never in doubt.
    fn refused(&mut self, id: usize, at: Timestamp, place: usize) {
        // The gate also refuses what will have expired by the time it may leave.
        if self.message(id).expires_at.is_some() {
            return;
        }
        let key = self.night.script.lines[id].key;
        let purpose = self.message(id).purpose;
        let sure = self.night.script.knobs.steps == 0 && self.book.never_in_doubt(key, at, place);
        if purpose == Purpose::Informational || sure {
            self.blame("1 consent", id, "refused although nothing stood against it");
        }
    }

    /// On a calm night information leaves at once, whatever the hour.
    fn promptness(&mut self) {
        let knobs = &self.night.script.knobs;
        if knobs.weather != Weather::Calm || knobs.calm_pauses {
            return;
        }
        let slowest = i64::from((knobs.rate / 5).max(1));
        let bound = 30 + i64::try_from(self.tracks.len()).unwrap() / slowest;
        let bound = SignedDuration::from_secs(bound);
        let mut late = Vec::new();
        for (id, track) in self.tracks.iter().enumerate() {
            let message = self.message(id);
            let free = !matches!(message.channel, Channel::Friendtalk | Channel::Brandmessage);
            let Some((_, stored)) = track.acknowledged else {
                continue;
            };
            let ready = message.send_at.map_or(stored, |from| from.max(stored));
            let lives = message.expires_at.is_none_or(|end| end > ready + bound);
            if message.purpose == Purpose::Advertising
                || !(free && lives && track.recalls.is_empty())
            {
                continue;
            }
            let left = track
                .received
                .first()
                .map(|place| self.night.history[*place].at);
            if left.is_none_or(|at| at > ready + bound) {
                late.push((id, format!("information ready at {ready} left at {left:?}")));
            }
        }
        for (id, text) in late {
            self.blame("7 prompt", id, text);
        }
    }
}

//! The queues of one lane: a ready queue, wait queues by opening, and one for what is buried.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, civil};

use super::body::Letter;
use super::worth::{Worth, after};
use crate::aws::queues::{DELAY_MAX, Look, Queue};
use crate::config::Opening;
use crate::hold::Lane;

/// The place of the ready queue among the queues of a lane; wait queues follow.
pub(super) const READY: usize = 0;

/// For so long after an opening what is in flight in its queue is taken to be on loan. What was
/// hidden until then is visible again, and what comes in now waits for another day: few ask for it.
const OPEN_FOR: SignedDuration = SignedDuration::from_hours(12);

/// Whether `due` is exactly the time of `opening` on some day.
pub(super) fn is_at(opening: &Opening, due: Timestamp) -> bool {
    due.to_zoned(opening.zone.clone()).time() == opening.at
}

/// The next instant after `now` at which it is that time; on a day that leaves it out, the instant
/// that stands for it.
pub(super) fn next(opening: &Opening, now: Timestamp) -> Option<Timestamp> {
    let today = now.to_zoned(opening.zone.clone()).date();
    let on = |day: civil::Date| {
        let at = day.to_datetime(opening.at).to_zoned(opening.zone.clone());
        at.ok().map(|at| at.timestamp()).filter(|at| *at > now)
    };
    on(today).or_else(|| on(today.tomorrow().ok()?))
}

/// Whether it was that time within the last `OPEN_FOR`.
fn is_open(opening: &Opening, now: Timestamp) -> bool {
    next(opening, after(now, -OPEN_FOR)).is_some_and(|at| at <= now)
}

/// One queue from which messages are lent.
pub(super) struct Place {
    pub(super) queue: Queue,
    pub(super) opening: Option<Opening>,
    state: Mutex<PlaceState>,
}

/// What this process knows of it.
pub(super) struct PlaceState {
    pub(super) worth: Worth,
    /// The latest counts, and when they were read in monotonic time.
    pub(super) look: Option<(Duration, Look)>,
    /// When it was last seen not to be empty, in monotonic time.
    pub(super) busy_at: Option<Duration>,
    /// Messages sent, due at once, that the counts may not hold yet.
    pub(super) fresh: u64,
    /// The last receives brought something, so several at once are worth it.
    pub(super) gives: bool,
    /// Undue messages that probes of ours hid, by until when.
    hidden: BTreeMap<Timestamp, u64>,
}

impl PlaceState {
    /// Whether there was nothing in it when it was last looked at.
    pub(super) fn is_empty(&self) -> bool {
        let look = self.look.as_ref();
        look.is_some_and(|(_, look)| look.visible + look.delayed + look.in_flight == 0)
    }

    /// An undue message was hidden until then.
    pub(super) fn hide(&mut self, until: Timestamp) {
        self.worth.note(until);
        *self.hidden.entry(until).or_default() += 1;
    }

    /// Undue messages that probes of ours hid and that are hidden still.
    pub(super) fn hidden(&mut self, now: Timestamp) -> u64 {
        self.hidden = self.hidden.split_off(&now);
        self.hidden.values().sum()
    }

    /// Messages in flight, as far as is known.
    pub(super) fn in_flight(&mut self, now: Timestamp) -> u64 {
        let told = self.look.as_ref().map_or(0, |(_, look)| look.in_flight);
        self.hidden(now).max(told)
    }
}

impl Place {
    pub(super) fn new(queue: Queue, opening: Option<Opening>, every: SignedDuration) -> Self {
        let state = PlaceState {
            worth: match opening {
                Some(_) => Worth::patient(every),
                None => Worth::new(every),
            },
            look: None,
            busy_at: None,
            fresh: 0,
            gives: false,
            hidden: BTreeMap::new(),
        };
        Self {
            queue,
            opening,
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, PlaceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is the queue of an opening that was lately: what appears in it is due.
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        let opening = self.opening.as_ref();
        opening.is_some_and(|opening| is_open(opening, now))
    }

    /// Notes the next opening, which other processes fill this queue for.
    pub(super) fn note_opening(&self, now: Timestamp) {
        if let Some(at) = self.opening.as_ref().and_then(|opening| next(opening, now)) {
            self.state().worth.note(at);
        }
    }
}

/// The queues of one lane.
pub(super) struct LaneQueues {
    pub(super) lane: Lane,
    /// The ready queue, the wait queues of the openings, and last the one of all other dues.
    pub(super) places: Vec<Place>,
    pub(super) buried: Queue,
    /// How many are buried, and when they were counted in monotonic time.
    pub(super) buried_count: Mutex<Option<(Duration, u64)>>,
    /// Most bytes of a message that all of them take.
    pub(super) bytes_max: usize,
    /// Messages due in a moment, received already.
    pub(super) early: Mutex<Vec<Early>>,
}

/// A message that was received a moment before its due by our clock.
pub(super) struct Early {
    pub(super) place: usize,
    pub(super) handle: String,
    pub(super) until: Timestamp,
    pub(super) letter: Letter,
}

impl LaneQueues {
    /// Where a message due at `due` goes, and with which delay.
    pub(super) fn place_of(&self, due: Timestamp, now: Timestamp) -> (usize, Duration) {
        let ahead = due.duration_since(now);
        let ahead = Duration::try_from(ahead).unwrap_or(Duration::ZERO);
        let delay = Duration::from_secs(ahead.as_secs() + u64::from(ahead.subsec_nanos() > 0));
        if delay <= DELAY_MAX {
            return (READY, delay);
        }
        let is_at = |place: &Place| place.opening.as_ref().is_some_and(|it| is_at(it, due));
        let opening = self.places.iter().position(is_at);
        (opening.unwrap_or(self.places.len() - 1), Duration::ZERO)
    }

    /// A message that is to be received from `due` on was sent to a place.
    pub(super) fn sent(&self, place: usize, due: Timestamp, delay: Duration, now: Timestamp) {
        let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::ZERO);
        let at = match place {
            READY => after(now, delay),
            _ => due,
        };
        let mut state = self.places[place].state();
        state.fresh += u64::from(at <= now);
        state.worth.note(at);
    }

    pub(super) fn buried_count(&self) -> MutexGuard<'_, Option<(Duration, u64)>> {
        self.buried_count
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// They are counted anew when somebody next asks.
    pub(super) fn buried_changed(&self) {
        *self.buried_count() = None;
    }

    pub(super) fn early(&self) -> MutexGuard<'_, Vec<Early>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use nightgate_core::{
        Channel, Class, Message, MessageId, Priority, Purpose, Recipient, RecipientKey,
    };

    use super::*;
    use crate::hold::Held;

    /// A message due at an instant.
    pub(in crate::hold::sqs) fn held(name: &str, due: &str) -> Held {
        let due = due.parse().unwrap();
        Held {
            key: RecipientKey::from_stored("+821000000001"),
            message: Message {
                id: MessageId::new(name).unwrap(),
                recipient: Recipient::new("010-0000-0001").unwrap(),
                channel: Channel::Lms,
                purpose: Purpose::Advertising,
                campaign: Some("night".into()),
                priority: Priority::default(),
                jurisdiction: None,
                zone: None,
                send_at: None,
                expires_at: None,
                collapse_key: None,
                content_type: "text/plain".into(),
                attributes: BTreeMap::new(),
                body: "hello".into(),
            },
            lane: Lane::new("sms"),
            class: Class::from_name("advertising/lms/KR/Asia/Seoul"),
            due,
            accepted_at: due,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_opening_is_a_local_time_of_any_day() {
        let eight = Opening::parse("08:00[Asia/Seoul]").unwrap();
        assert!(is_at(&eight, at("2026-11-22T23:00:00Z")));
        assert!(!is_at(&eight, at("2026-11-22T23:00:01Z")));
        let after = |now| next(&eight, at(now)).unwrap().to_string();
        assert_eq!(after("2026-11-22T22:59:59Z"), "2026-11-22T23:00:00Z");
        assert_eq!(after("2026-11-22T23:00:00Z"), "2026-11-23T23:00:00Z");
        let gap = Opening::parse("02:30[America/New_York]").unwrap();
        let half = next(&gap, at("2026-03-08T06:00:00Z")).unwrap();
        assert_eq!(half.to_string(), "2026-03-08T07:30:00Z", "half past three");
        for wrong in ["08:00", "8[Asia/Seoul]", "08:00[Seoul/Asia]", "25:00[UTC]"] {
            let fault = Opening::parse(wrong).unwrap_err();
            assert!(fault.to_string().contains("08:00[Asia/Seoul]"), "{fault}");
        }
    }

    #[test]
    fn an_opening_queue_is_open_for_half_a_day() {
        let place = Opening::parse("08:00[Asia/Seoul]").unwrap();
        let place = Place::new(Queue::new("q"), Some(place), SignedDuration::from_secs(60));
        assert!(!place.is_open(at("2026-11-22T22:59:59Z")));
        assert!(place.is_open(at("2026-11-22T23:00:00Z")));
        assert!(place.is_open(at("2026-11-23T10:59:59Z")));
        assert!(!place.is_open(at("2026-11-23T11:00:00Z")));
    }

    #[test]
    fn a_due_within_fifteen_minutes_is_ready_with_a_delay_and_others_wait_by_opening() {
        let place = |name: &str, opening: Option<&str>| {
            let opening = opening.map(|text| Opening::parse(text).unwrap());
            Place::new(Queue::new(name), opening, SignedDuration::from_secs(60))
        };
        let lane = LaneQueues {
            lane: Lane::new("sms"),
            places: vec![
                place("ready", None),
                place("wait-1", Some("08:00[Asia/Seoul]")),
                place("wait", None),
            ],
            buried: Queue::new("buried"),
            buried_count: Mutex::default(),
            bytes_max: 1,
            early: Mutex::default(),
        };
        let now = at("2026-11-22T22:30:00Z");
        let cases = [
            ("2026-11-22T22:00:00Z", 0, 0),
            ("2026-11-22T22:30:00Z", 0, 0),
            ("2026-11-22T22:30:00.001Z", 0, 1),
            ("2026-11-22T22:45:00Z", 0, 900),
            ("2026-11-22T22:45:00.001Z", 2, 0),
            ("2026-11-22T23:00:00Z", 1, 0),
            ("2026-11-25T23:00:00Z", 1, 0),
            ("2026-11-22T23:00:01Z", 2, 0),
        ];
        for (due, place, delay) in cases {
            let right = (place, Duration::from_secs(delay));
            assert_eq!(lane.place_of(at(due), now), right, "{due}");
        }
    }
}

//! One simulated queue.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Noise, SimMessage, SimOptions, check, rejected};
use crate::aws::queues::{Answer, Ask, Fault, FaultKind, HIDE_MAX, Incoming, Look, Outgoing};

/// For so long a FIFO queue knows a deduplication id.
const DEDUPLICATION: Duration = Duration::from_secs(300);

/// Messages that leave for a dead-letter queue, with its name.
pub(super) type Moved = Vec<(String, Row)>;

/// One queue.
#[derive(Default)]
pub(super) struct SimQueue {
    pub(super) options: SimOptions,
    pub(super) tags: BTreeMap<String, String>,
    /// By arrival.
    rows: BTreeMap<u64, Row>,
    /// When each can be received, so that a receive need not read those that cannot.
    places: BTreeSet<(Timestamp, u64)>,
    /// Messages came from another queue, and kept the instants at which they were sent.
    mixed: bool,
    known: HashMap<String, (Timestamp, String)>,
    told: Option<(Timestamp, [u64; 3])>,
}

/// One message.
#[derive(Clone)]
pub(super) struct Row {
    id: String,
    sent: Outgoing,
    sent_at: Timestamp,
    visible_at: Timestamp,
    received_at: Timestamp,
    first_received_at: Option<Timestamp>,
    receives: u32,
}

impl Row {
    fn is_in_flight(&self, now: Timestamp) -> bool {
        self.receives > 0 && self.visible_at > now
    }
}

impl SimQueue {
    pub(super) fn send(
        &mut self,
        message: Outgoing,
        number: u64,
        now: Timestamp,
    ) -> Answer<String> {
        check::message(&message, &self.options)?;
        let id = format!("{number:08x}-0000-4000-8000-000000000000");
        if self.options.fifo {
            let distinct = message
                .deduplication
                .clone()
                .unwrap_or_else(|| blake3::hash(message.body.as_bytes()).to_string());
            self.known.retain(|_, (until, _)| *until > now);
            if let Some((_, id)) = self.known.get(&distinct) {
                return Ok(id.clone());
            }
            let until = later(now, DEDUPLICATION);
            self.known.insert(distinct, (until, id.clone()));
        }
        let row = Row {
            id: id.clone(),
            visible_at: later(now, message.delay),
            sent: message,
            sent_at: whole_millis(now),
            received_at: now,
            first_received_at: None,
            receives: 0,
        };
        self.take_in(row, number);
        Ok(id)
    }

    /// Takes in a message from a queue whose dead-letter queue this is.
    pub(super) fn take_over(&mut self, row: Row, number: u64) {
        self.mixed = true;
        self.take_in(row, number);
    }

    fn take_in(&mut self, row: Row, number: u64) {
        self.places.insert((row.visible_at, number));
        self.rows.insert(number, row);
    }

    fn show(&mut self, number: u64, visible_at: Timestamp) {
        if let Some(row) = self.rows.get_mut(&number) {
            self.places.remove(&(row.visible_at, number));
            row.visible_at = visible_at;
            self.places.insert((visible_at, number));
        }
    }

    fn take_out(&mut self, number: u64) -> Option<Row> {
        let row = self.rows.remove(&number)?;
        self.places.remove(&(row.visible_at, number));
        Some(row)
    }

    /// Lets go of what was kept long enough.
    fn expire(&mut self, now: Timestamp) {
        let retention = self.options.retention;
        let old = |row: &Row| later(row.sent_at, retention) <= now;
        // Arrivals are in the order of time, unless some came from another queue.
        let mut old_ones = Vec::new();
        for (number, row) in &self.rows {
            match old(row) {
                true => old_ones.push(*number),
                false if self.mixed => {}
                false => break,
            }
        }
        for number in old_ones {
            self.take_out(number);
        }
    }

    pub(super) fn receive(
        &mut self,
        ask: &Ask,
        now: Timestamp,
        noise: &Noise,
        dice: &mut fastrand::Rng,
        moved: &mut Moved,
    ) -> Answer<Vec<Incoming>> {
        self.expire(now);
        let in_flight = self.counts(now)[1];
        let room = self.options.in_flight_max.saturating_sub(in_flight);
        if room == 0 {
            // Documented: a long poll and a FIFO queue answer nothing instead.
            let told = ask.wait.is_zero() && !self.options.fifo;
            let fault = Fault::new(FaultKind::Throttled, "OverLimit: too many in flight");
            return if told { Err(fault) } else { Ok(Vec::new()) };
        }
        let max = ask.max.min(usize::try_from(room).unwrap_or(usize::MAX));
        let mut received = Vec::new();
        for number in self.candidates(now, noise, dice) {
            if received.len() == max {
                break;
            }
            let unseen = ask.wait.is_zero() && dice.u8(..100) < noise.unseen_percent;
            if unseen || self.bury(number, moved) {
                continue;
            }
            let twice = dice.u8(..100) < noise.twice_percent;
            let until = if twice { now } else { later(now, ask.hide) };
            received.extend(self.lend(number, now, until));
        }
        Ok(received)
    }

    /// What can be received, in the order in which it is.
    fn candidates(&self, now: Timestamp, noise: &Noise, dice: &mut fastrand::Rng) -> Vec<u64> {
        let visible = self.places.range(..=(now, u64::MAX));
        let mut numbers: Vec<u64> = visible.map(|(_, number)| *number).collect();
        if self.options.fifo {
            let group = |row: &Row| row.sent.group.clone();
            let rows = self.rows.values();
            let blocked: BTreeSet<Option<String>> = rows
                .filter(|row| row.is_in_flight(now))
                .map(group)
                .collect();
            numbers.sort_unstable();
            numbers.retain(|number| !blocked.contains(&group(&self.rows[number])));
        } else if noise.shuffled {
            dice.shuffle(&mut numbers);
        }
        numbers
    }

    /// Moves a message that was received too often to the dead-letter queue.
    fn bury(&mut self, number: u64, moved: &mut Moved) -> bool {
        let Some((max, name)) = self.options.dead_letter.clone() else {
            return false;
        };
        if self.rows[&number].receives < max {
            return false;
        }
        moved.extend(self.take_out(number).map(|row| (name, row)));
        true
    }

    fn lend(&mut self, number: u64, now: Timestamp, until: Timestamp) -> Option<Incoming> {
        self.show(number, until);
        let row = self.rows.get_mut(&number)?;
        row.receives += 1;
        row.received_at = now;
        let first_received_at = *row.first_received_at.get_or_insert(whole_millis(now));
        Some(Incoming {
            id: row.id.clone(),
            handle: format!("{number}/{}", row.receives),
            body: row.sent.body.clone(),
            attributes: row.sent.attributes.clone(),
            group: row.sent.group.clone(),
            deduplication: row.sent.deduplication.clone(),
            trace: row.sent.trace.clone(),
            sent_at: row.sent_at,
            first_received_at,
            receives: row.receives,
        })
    }

    /// `forgotten`: answered well, and not done.
    pub(super) fn delete(&mut self, handle: &str, now: Timestamp, forgotten: bool) -> Answer<()> {
        self.expire(now);
        let (number, receive) = parts(handle)?;
        let Some(row) = self.rows.get(&number) else {
            return Ok(());
        };
        let current = row.receives == receive;
        if self.options.fifo && !(current && row.is_in_flight(now)) {
            let why = "InvalidParameterValue: the receipt handle has expired";
            return Err(rejected(why));
        }
        // Documented for standard queues: by an old handle the message may stay.
        if current && !forgotten {
            self.take_out(number);
        }
        Ok(())
    }

    pub(super) fn hide(&mut self, handle: &str, by: Duration, now: Timestamp) -> Answer<()> {
        self.expire(now);
        check::whole("VisibilityTimeout", by, HIDE_MAX)?;
        let (number, receive) = parts(handle)?;
        let row = self.rows.get(&number);
        let row = row.filter(|row| row.receives == receive && row.is_in_flight(now));
        let Some(row) = row else {
            return Err(rejected("MessageNotInflight"));
        };
        let until = later(now, by);
        if until > later(row.received_at, HIDE_MAX) {
            let why = "InvalidParameterValue: hidden for more than 43200 seconds in all";
            return Err(rejected(why));
        }
        self.show(number, until);
        Ok(())
    }

    pub(super) fn look(&mut self, now: Timestamp, lag: Duration) -> Look {
        self.expire(now);
        let fresh = self.told.filter(|(at, _)| now < later(*at, lag));
        let (at, counts) = fresh.unwrap_or_else(|| (now, self.counts(now)));
        self.told = Some((at, counts));
        let [visible, in_flight, delayed] = counts;
        Look {
            visible,
            in_flight,
            delayed,
            retention: self.options.retention,
            hide: self.options.hide,
            receives_max: self.options.dead_letter.as_ref().map(|(max, _)| *max),
            bytes_max: self.options.bytes_max,
        }
    }

    fn counts(&self, now: Timestamp) -> [u64; 3] {
        let hidden = self.places.range((now, u64::MAX)..);
        let (mut in_flight, mut delayed) = (0, 0);
        for (_, number) in hidden {
            match self.rows[number].receives {
                0 => delayed += 1,
                _ => in_flight += 1,
            }
        }
        [
            self.rows.len() as u64 - in_flight - delayed,
            in_flight,
            delayed,
        ]
    }

    pub(super) fn messages(&mut self, now: Timestamp) -> Vec<SimMessage> {
        self.expire(now);
        let message = |row: &Row| SimMessage {
            id: row.id.clone(),
            sent: row.sent.clone(),
            sent_at: row.sent_at,
            visible_at: row.visible_at,
            receives: row.receives,
        };
        self.rows.values().map(message).collect()
    }
}

/// The message behind a handle, and which receive of it made the handle.
fn parts(handle: &str) -> Answer<(u64, u32)> {
    let parts = handle.split_once('/');
    let parts =
        parts.and_then(|(number, receive)| Some((number.parse().ok()?, receive.parse().ok()?)));
    parts.ok_or_else(|| rejected("ReceiptHandleIsInvalid"))
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// SQS tells instants in milliseconds.
fn whole_millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

//! What is in a lane's bucket, and what taking from it and giving back make of it. Instants are
//! milliseconds of the server's clock, parts of messages are millionths, so that all of it is whole
//! numbers and nothing is rounded up.

#[cfg(test)]
mod tests;

use std::time::Duration;

use ::mongodb::bson::{Document, doc};

use super::super::slices::{Bucket, RESTED};
use super::GOOD_MIN;
use crate::error::Result;
use crate::mongodb::Read;
use crate::release::limiter::SLOW_START_STEPS;

/// Millionths of a message.
const WHOLE: i64 = 1_000_000;
/// Messages a second are so many millionths in a millisecond.
const A_MILLI: i64 = WHOLE / 1_000;
/// A clock that was set back by less catches up by itself: until then the bucket fills with
/// nothing.
const SET_BACK: Duration = Duration::from_secs(1);

/// A bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// What is in it, in millionths.
    pub(super) level: i64,
    /// Until when it was filled.
    pub(super) at: i64,
    /// What it was filled with since: of two steps of a climb, the lower counts.
    pub(super) rate: i64,
    /// When the climb of a slow start began; 0: there is none.
    pub(super) started: i64,
    /// What somebody gave back.
    pub(super) back: i64,
    /// When that ends.
    pub(super) ends: i64,
}

/// What was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) messages: usize,
    /// From the instant at which the server was asked for its time.
    pub(super) good: Duration,
    /// How long to wait for more; zero when all was given.
    pub(super) wait: Duration,
}

impl State {
    /// Nobody has taken anything yet: last filled so long ago that it is full.
    pub(super) fn full() -> Self {
        Self {
            level: 0,
            at: 0,
            rate: i64::from(u32::MAX),
            started: 0,
            back: 0,
            ends: 0,
        }
    }

    pub(super) fn document(&self) -> Document {
        let Self {
            level,
            at,
            rate,
            started,
            back,
            ends,
        } = *self;
        doc! { "level": level, "at": at, "rate": rate, "started": started, "back": back,
        "ends": ends }
    }

    pub(super) fn read(document: &Document, part: &'static str) -> Result<Self> {
        let read = Read { part, document };
        Ok(Self {
            level: read.int("level")?,
            at: read.int("at")?,
            rate: read.int("rate")?,
            started: read.int("started")?,
            back: read.int("back")?,
            ends: read.int("ends")?,
        })
    }

    /// The same by a clock that shows `now`, read within `took` of the document. Whoever wrote the
    /// document had read the clock before, so it cannot show more than that behind, unless it was
    /// set back.
    pub(super) fn at(mut self, now: i64, took: Duration) -> Self {
        let behind = took.saturating_add(SET_BACK);
        if self.at > now.saturating_add_unsigned(millis(behind)) {
            self.at = now;
            self.started = self.started.min(now);
            self.back = 0;
        }
        self
    }

    /// Fills the bucket, starts or goes on with a slow start, and gives up to `want` messages:
    /// first what others gave back, then from the bucket.
    pub(super) fn take(&mut self, bucket: &Bucket, want: usize, slowly: bool, now: i64) -> Given {
        self.fill(bucket, slowly, now);
        let want = i64::try_from(want).unwrap_or(i64::MAX);
        let (mut given, mut good) = (0, millionths(bucket.burst) / per_milli(bucket.rate));
        let left = self.ends.saturating_sub(now);
        if self.back > 0 && left > whole_millis(GOOD_MIN) / 2 && left <= good {
            given = want.min(self.back);
            self.back -= given;
            good = left;
        }
        let more = (want - given).min(self.level / WHOLE);
        if more > 0 {
            good = good.min((millionths(bucket.burst) - self.level) / per_milli(bucket.rate));
            given += more;
            self.level -= more * WHOLE;
        }
        Given {
            messages: usize::try_from(given).unwrap_or_default(),
            good: Duration::from_millis(u64::try_from(good).unwrap_or_default()),
            wait: self.wait(bucket, want - given),
        }
    }

    fn fill(&mut self, bucket: &Bucket, slowly: bool, now: i64) {
        let slow = whole_millis(bucket.slow_start);
        let passed = now.saturating_sub(self.at).max(0);
        if slowly && slow > 0 && passed > whole_millis(RESTED) {
            self.started = now;
            self.level = 0;
            self.back = 0;
        } else {
            let filled = self.rate.min(self.rate_at(bucket, now));
            let filled = passed.saturating_mul(filled).saturating_mul(A_MILLI);
            self.level = self.level.saturating_add(filled);
        }
        self.level = self.level.min(millionths(bucket.cap));
        self.at = self.at.max(now);
        self.rate = self.rate_at(bucket, now);
        if self.rate == whole(bucket.rate) {
            self.started = 0;
        }
    }

    /// The rate at `now`: of the step of the climb that it has come to.
    fn rate_at(&self, bucket: &Bucket, now: i64) -> i64 {
        let (full, slow) = (whole(bucket.rate), whole_millis(bucket.slow_start));
        if self.started == 0 || slow == 0 {
            return full;
        }
        let passed = now.saturating_sub(self.started).max(0);
        let steps = i64::from(SLOW_START_STEPS);
        let step = passed.saturating_mul(steps) / slow;
        if step >= steps {
            return full;
        }
        #[expect(clippy::cast_precision_loss, reason = "below ten")]
        let share = step as f64 / f64::from(SLOW_START_STEPS);
        let share = bucket.slow_start_from + (1.0 - bucket.slow_start_from) * share;
        whole(bucket.rate * share.clamp(0.0, 1.0)).max(1)
    }

    /// How long until it is worth asking for `missing` more.
    fn wait(&self, bucket: &Bucket, missing: i64) -> Duration {
        if missing == 0 {
            return Duration::ZERO;
        }
        let slice = i64::try_from(bucket.slice).unwrap_or(i64::MAX);
        let enough = missing.min(slice).saturating_mul(WHOLE);
        let enough = enough.min(millionths(bucket.cap / 2.0)).max(WHOLE);
        let rate = self.rate.saturating_mul(A_MILLI).max(1);
        let wait = (enough - self.level).max(0).unsigned_abs();
        Duration::from_millis(wait.div_ceil(rate.unsigned_abs()).max(1))
    }

    /// Keeps leave for so many messages that ends then, for others to take; says whether it is
    /// worth it. Two such are one that ends with the first of them.
    pub(super) fn give_back(&mut self, messages: usize, ends: i64, now: i64) -> bool {
        if ends <= now {
            return false;
        }
        let messages = i64::try_from(messages).unwrap_or_default();
        (self.back, self.ends) = match self.back > 0 && self.ends > now {
            true => (self.back.saturating_add(messages), self.ends.min(ends)),
            false => (messages, ends),
        };
        true
    }
}

/// A time in milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn whole_millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "some times a u32, which is what it is cut from"
)]
fn whole(messages: f64) -> i64 {
    messages as i64
}

fn millionths(messages: f64) -> i64 {
    whole(messages * 1_000_000.0)
}

/// What a rate makes in a millisecond, in millionths.
fn per_milli(rate: f64) -> i64 {
    (whole(rate) * A_MILLI).max(1)
}

//! One lane's pace, kept together by all gateways that share a Redis.
//!
//! A bucket for each lane: one key, filled and emptied by one script, by the server's clock. A
//! gateway takes a slice of some tens of milliseconds' worth, keeps what a tick did not use for the
//! next, and gives back what is left when it rests. A slice ends: the sink's last act before the
//! first byte is to look whether the message may still leave, so what a gateway took and then slept
//! over is lost and not sent on top of what others took since.
//!
//! # Why the receiver never gets more than rate x t + burst
//! Number the messages for which leave is given, and let R(t) be how many the rate allows up to t.
//! The bucket holds `level` of at most `cap`, so the numbers of a slice of n lie between
//! R + burst - level + 1 and R + burst: nothing leaves more than `burst` ahead. A slice is good for
//! (burst - level) / rate from the moment it is given: nothing leaves later than its number's time.
//! So whatever leaves between x and y has one of the R(y) - R(x) + burst numbers between R(x) + 1
//! and R(y) + burst, however long anybody slept in between. What is given back is given on with the
//! end it had.
//!
//! A slice must be good for [`GOOD_MIN`] at least, or nobody could use it. Therefore the bucket
//! holds half of the burst, and a burst of less than a fifth of a second's worth counts as that.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use ::redis::from_redis_value;
use async_trait::async_trait;

use super::{Allowance, Budget, Leave, Own};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::redis::{Call, Fault, Redis, Script};
use crate::release::limiter::{Pace, SLOW_START_STEPS};

const PART: &str = "release";

/// A slice is good for so long at least: leasing, deciding and filing attempts happen in it.
pub const GOOD_MIN: Duration = Duration::from_millis(100);
/// What is taken at once, in time at full rate: one round trip for so much.
const SLICE: Duration = Duration::from_millis(200);
/// A lane that no gateway asked leave for so long had a rest, and starts slowly.
const RESTED: Duration = Duration::from_secs(2);
/// A lane that nobody uses is forgotten after so long; by then its bucket has long been full.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// A bucket is small and has been there for long: where memory is full the lanes must go on, or
/// nothing would ever make room.
const GOES_ON: &str = "#!lua flags=allow-oom\n";
/// `now` by the server's clock, in microseconds.
const SERVER_TIME: &str = "local t = redis.call('TIME') local now = t[1] * 1000000 + t[2]\n";

/// Fills the bucket, starts or goes on with a slow start, and gives up to `want` messages: first
/// what others gave back, then from the bucket. Answers how many, for how many microseconds and
/// until when the leave is good, and in how many microseconds it is worth asking again. `rate` is
/// what the bucket was filled with since `at`: of two steps of a climb, the lower.
const TAKE: &str = "
local want, full, burst, cap = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), \
tonumber(ARGV[4])
local slow, from, steps, begins = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
local slice, rested, brief = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local was = redis.call('HMGET', KEYS[1], 'level', 'at', 'rate', 'started', 'back', 'ends')
local level, at = tonumber(was[1] or cap), tonumber(was[2] or now)
local started, back, ends = tonumber(was[4] or 0), tonumber(was[5] or 0), tonumber(was[6] or 0)
if begins == '1' and slow > 0 and (not was[2] or now - at > rested) then
  started, level, back, at = now, 0, 0, now
end
local rate = full
if slow <= 0 then started = 0 end
if started > 0 then
  if started > now then started = now end
  local step = math.floor((now - started) / slow * steps)
  if step >= steps then
    started = 0
  else
    rate = math.max(1, math.floor(full * (from + (1 - from) * step / steps)))
  end
end
local filled = math.min(rate, tonumber(was[3] or rate))
level = math.min(cap, level + math.max(0, now - at) * filled / 1000000)
local given, good = 0, burst / full * 1000000
if back > 0 and ends - now > brief and ends - now <= good then
  given = math.min(want, back)
  back, good = back - given, ends - now
end
local more = math.min(want - given, math.floor(level))
if more > 0 then
  good = math.min(good, (burst - level) / full * 1000000)
  given, level = given + more, level - more
end
local wait = 0
if given < want then
  local enough = math.max(1, math.min(want - given, slice, cap / 2))
  wait = math.max(1, math.ceil((enough - level) / rate * 1000000))
end
local function text(number) return string.format('%.0f', number) end
redis.call('HSET', KEYS[1], 'level', string.format('%.6f', level), 'at', text(now), 'rate', rate, \
'started', text(started), 'back', back, 'ends', text(ends))
redis.call('PEXPIRE', KEYS[1], ARGV[12])
return {given, math.floor(good), math.floor(now + good), wait}
";

/// Gives back leave for so many messages that ends then, for others to take. Two such are one that
/// ends with the first of them.
const GIVE_BACK: &str = "
local was = redis.call('HMGET', KEYS[1], 'at', 'back', 'ends')
local back, ends = tonumber(was[2] or 0), tonumber(was[3] or 0)
local messages, good = tonumber(ARGV[1]), tonumber(ARGV[2])
if not was[1] or good <= now then return 0 end
if back > 0 and ends > now then
  messages, good = messages + back, math.min(good, ends)
end
redis.call('HSET', KEYS[1], 'back', messages, 'ends', string.format('%.0f', good))
return 1
";

/// The shared budget.
#[derive(Clone)]
pub struct RedisBudget {
    redis: Redis,
    scripts: Arc<Scripts>,
}

struct Scripts {
    take: Script,
    give_back: Script,
    /// Tests tell the time; otherwise the server does.
    told: Option<Arc<dyn Clock>>,
}

impl RedisBudget {
    /// Leave for every lane from `redis`. All gateways on it must have the same pace for a lane.
    #[must_use]
    pub fn new(redis: Redis) -> Self {
        Self::timed(redis, SERVER_TIME, None)
    }

    /// The same by a time that `clock` tells.
    #[cfg(test)]
    pub(in crate::release) fn told(redis: Redis, clock: Arc<dyn Clock>) -> Self {
        const TOLD: &str = "local now = tonumber(ARGV[#ARGV])\n";
        Self::timed(redis, TOLD, Some(clock))
    }

    fn timed(redis: Redis, time: &str, told: Option<Arc<dyn Clock>>) -> Self {
        let scripts = Scripts {
            take: Script::new(&format!("{GOES_ON}{time}{TAKE}")),
            give_back: Script::new(&format!("{GOES_ON}{time}{GIVE_BACK}")),
            told,
        };
        Self {
            redis,
            scripts: Arc::new(scripts),
        }
    }
}

impl Budget for RedisBudget {
    fn allowance(&self, lane: &Lane, pace: Pace, clock: &Arc<dyn Clock>) -> Box<dyn Allowance> {
        let Some(bucket) = Bucket::of(pace) else {
            return Own.allowance(lane, pace, clock);
        };
        Box::new(Shared {
            // Every lane has a slot of its own; what stands before the lane's name is in no tag.
            key: format!("{}:pace:{{{lane}}}", self.redis.prefix()),
            budget: self.clone(),
            pace,
            bucket,
            clock: Arc::clone(clock),
            carried: Carried::default(),
            again: None,
            slowly: false,
        })
    }
}

/// Measures of one lane's bucket, in messages.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    rate: f64,
    burst: f64,
    cap: f64,
    slice: usize,
}

impl Bucket {
    /// `None` for a lane without a rate.
    fn of(pace: Pace) -> Option<Self> {
        let rate = f64::from(pace.rate?.get());
        let good = rate * GOOD_MIN.as_secs_f64();
        let burst = f64::from(pace.burst.get()).max(2.0 * good).max(1.0 + good);
        let cap = (burst / 2.0).max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a fifth of u32"
        )]
        let slice = (rate * SLICE.as_secs_f64()) as usize;
        Some(Self {
            rate,
            burst,
            cap,
            slice: slice.max(1),
        })
    }
}

/// Leave in hand.
#[derive(Clone, Copy, Debug, Default)]
struct Carried {
    messages: usize,
    /// By the own monotonic clock.
    until: Duration,
    /// By the server's, in microseconds.
    ends: u64,
}

impl Carried {
    fn join(&mut self, other: Self) {
        if other.messages == 0 {
            return;
        }
        if self.messages == 0 {
            *self = other;
            return;
        }
        self.messages += other.messages;
        self.until = self.until.min(other.until);
        self.ends = self.ends.min(other.ends);
    }
}

/// One lane's way to the shared bucket.
struct Shared {
    key: String,
    budget: RedisBudget,
    pace: Pace,
    bucket: Bucket,
    clock: Arc<dyn Clock>,
    carried: Carried,
    again: Option<Duration>,
    slowly: bool,
}

impl Shared {
    fn told(&self, call: Call) -> Call {
        match &self.budget.scripts.told {
            Some(clock) => call.arg(micros(clock.monotonic()) + 1),
            None => call,
        }
    }

    /// Asks for `want`; says how much was given and how long to wait for more. `monotonic` is from
    /// before it was asked: whatever the way took is lost, and never added.
    async fn ask(&self, want: usize, monotonic: Duration) -> Result<(Carried, Duration)> {
        let (pace, bucket) = (&self.pace, &self.bucket);
        let call = self.budget.scripts.take.call(&self.key);
        let call = call.arg(want).arg(bucket.rate).arg(bucket.burst);
        let call = call.arg(bucket.cap).arg(micros(pace.slow_start));
        let call = call.arg(pace.slow_start_from).arg(SLOW_START_STEPS);
        let call = call.arg(u8::from(self.slowly)).arg(bucket.slice);
        let call = call.arg(micros(RESTED)).arg(micros(GOOD_MIN) / 2);
        let call = self.told(call.arg(FORGOTTEN.as_millis() as u64));
        let answer = self.budget.redis.call(&call).await.map_err(unasked)?;
        let (messages, good, ends, wait): (usize, u64, u64, u64) =
            from_redis_value(answer).map_err(|_| unasked(Fault::answer("leave")))?;
        let until = monotonic.saturating_add(Duration::from_micros(good));
        let given = Carried {
            messages,
            until,
            ends,
        };
        Ok((given, Duration::from_micros(wait)))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn unasked(fault: Fault) -> Error {
    fault.error(PART, "take leave of the shared rate")
}

#[async_trait]
impl Allowance for Shared {
    fn is_brief(&self) -> bool {
        true
    }

    fn start_slowly(&mut self, _: Duration) {
        self.slowly = !self.pace.slow_start.is_zero();
    }

    async fn take(&mut self, wanted: usize, backlog: usize, monotonic: Duration) -> Result<Leave> {
        if self.carried.until <= monotonic {
            self.carried = Carried::default();
        }
        let waits = self.again.filter(|again| *again > monotonic);
        if self.carried.messages < wanted && waits.is_none() {
            let slice = backlog.min(self.bucket.slice).max(wanted);
            let want = slice.saturating_sub(self.carried.messages);
            let (given, wait) = self.ask(want, monotonic).await?;
            self.slowly = false;
            self.carried.join(given);
            self.again = (!wait.is_zero()).then(|| self.clock.monotonic() + wait);
        }
        let messages = self.carried.messages.min(wanted);
        self.carried.messages -= messages;
        Ok(Leave {
            messages,
            until: Some(self.carried.until),
            again: self.again.filter(|_| messages < wanted),
        })
    }

    fn unused(&mut self, messages: usize) {
        // Its end is that of what is carried: both were taken together.
        self.carried.messages += messages;
    }

    async fn rest(&mut self, monotonic: Duration) {
        let carried = std::mem::take(&mut self.carried);
        self.again = None;
        if carried.messages == 0 || carried.until <= monotonic {
            return;
        }
        let call = self.budget.scripts.give_back.call(&self.key);
        let call = self.told(call.arg(carried.messages).arg(carried.ends));
        if let Err(fault) = self.budget.redis.call(&call).await {
            let fault = unasked(fault);
            tracing::debug!(%fault, "leave that was not used ends by itself");
        }
    }
}

//! One lane's pace, kept together by all gateways that share a Redis.
//!
//! A bucket for each lane: one key, filled and emptied by one script, by the server's clock. How it
//! is taken from, and why the receiver never gets more than rate x t + burst, stands in
//! `slices.rs`.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use ::redis::from_redis_value;
use async_trait::async_trait;

use super::slices::{Ask, Bucket, RESTED, Shared, Slice, Way};
use super::{Allowance, Budget, Own};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::redis::{Call, Fault, Redis, Script};
use crate::release::limiter::{Pace, SLOW_START_STEPS};

const PART: &str = "release";

/// A slice is good for so long at least: leasing, deciding and filing attempts happen in it.
pub const GOOD_MIN: Duration = Duration::from_millis(100);
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
        let Some(bucket) = Bucket::of(pace, GOOD_MIN) else {
            return Own.allowance(lane, pace, clock);
        };
        let key = Key {
            // Every lane has a slot of its own; what stands before the lane's name is in no tag.
            name: format!("{}:pace:{{{lane}}}", self.redis.prefix()),
            budget: self.clone(),
            bucket,
        };
        Box::new(Shared::new(key, bucket, clock))
    }
}

/// The key of one lane's bucket.
struct Key {
    name: String,
    budget: RedisBudget,
    bucket: Bucket,
}

impl Key {
    fn told(&self, call: Call) -> Call {
        match &self.budget.scripts.told {
            Some(clock) => call.arg(micros(clock.monotonic()) + 1),
            None => call,
        }
    }
}

#[async_trait]
impl Way for Key {
    async fn ask(&self, ask: Ask) -> Result<(Slice, Duration)> {
        let bucket = &self.bucket;
        let call = self.budget.scripts.take.call(&self.name);
        let call = call.arg(ask.want).arg(bucket.rate).arg(bucket.burst);
        let call = call.arg(bucket.cap).arg(micros(bucket.slow_start));
        let call = call.arg(bucket.slow_start_from).arg(SLOW_START_STEPS);
        let call = call.arg(u8::from(ask.slowly)).arg(bucket.slice);
        let call = call.arg(micros(RESTED)).arg(micros(GOOD_MIN) / 2);
        let call = self.told(call.arg(FORGOTTEN.as_millis() as u64));
        let answer = self.budget.redis.call(&call).await.map_err(unasked)?;
        let (messages, good, ends, wait): (usize, u64, u64, u64) =
            from_redis_value(answer).map_err(|_| unasked(Fault::answer("leave")))?;
        let until = ask.monotonic.saturating_add(Duration::from_micros(good));
        let given = Slice {
            messages,
            until,
            ends,
        };
        Ok((given, Duration::from_micros(wait)))
    }

    async fn give_back(&self, slice: Slice) -> Result<()> {
        let call = self.budget.scripts.give_back.call(&self.name);
        let call = self.told(call.arg(slice.messages).arg(slice.ends));
        self.budget.redis.call(&call).await.map_err(unasked)?;
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn unasked(fault: Fault) -> Error {
    fault.error(PART, "take leave of the shared rate")
}

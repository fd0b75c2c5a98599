//! Consents in Redis or Valkey: for gateways without a disk, and for several that share one book.
//!
//! Recipients are spread over [`PARTITIONS`] hashes by a checksum, so that the masters of a cluster
//! share them; a recipient is one field. Its value is its history as it was recorded, in few bytes
//! an event; what it means is folded where it is read, so nothing but
//! [`ConsentEvent::fold_into`] says what a history means. One script records events: it leaves out
//! what is there already, so the same event from many at once is recorded once, in any order.
//!
//! Nothing is remembered here: a withdrawal bites from the next look-up after it was recorded.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ::redis::{Value, from_redis_value};
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use nightgate_core::{Consent, RecipientKey};

use super::{Act, ConsentBook, ConsentEvent};
use crate::error::Result;
use crate::redis::{Call, Fault, Redis, Script};

const PART: &str = "consent";
/// Hashes that recipients are spread over. Stored: another number would not find them. A thousand
/// million recipients make hashes of four million.
pub const PARTITIONS: u32 = 256;
/// Most events of one script: it keeps the server from everything else for so long.
const EVENTS_MAX: usize = 512;
/// Most recipients asked for in one command.
const KEYS_MAX: usize = 1_024;
/// Requests under way at once in a cluster, for each call.
const REQUESTS_MAX: usize = 32;

/// For each recipient, the event's identity and its entry: adds the entry unless the history has
/// one of that identity. Answers how many were added. An entry is the length of the identity, the
/// identity, the length of the source in two bytes, the source.
const RECORD: &str = "
local new = 0
for i = 1, #ARGV, 3 do
  local known, identity = redis.call('HGET', KEYS[1], ARGV[i]) or '', ARGV[i + 1]
  local at, seen = 1, false
  while at <= #known and not seen do
    local long = string.byte(known, at)
    seen = string.sub(known, at + 1, at + long) == identity
    at = at + 1 + long
    at = at + 2 + string.byte(known, at) * 256 + string.byte(known, at + 1)
  end
  if not seen then
    redis.call('HSET', KEYS[1], ARGV[i], known .. ARGV[i + 2])
    new = new + 1
  end
end
return new
";

/// Where memory is full, whoever withdraws is heard all the same: a few bytes of what is left.
const GOES_ON: &str = "#!lua flags=allow-oom\n";

/// The book.
pub struct RedisBook {
    redis: Redis,
    record: Script,
    withdraw: Script,
}

impl RedisBook {
    /// The book in `redis`, under its prefix.
    #[must_use]
    pub fn new(redis: Redis) -> Self {
        let record = Script::new(RECORD);
        let withdraw = Script::new(&format!("{GOES_ON}{RECORD}"));
        Self {
            redis,
            record,
            withdraw,
        }
    }

    /// The key of a partition. Its hash tag spreads the partitions over a cluster.
    fn key(&self, partition: u32) -> String {
        format!("{{{}:c{partition}}}:consents", self.redis.prefix())
    }

    /// Answers of calls, in order: in one go where one server has all keys, else each for itself.
    /// `write`: when as many replicas have it as are asked for.
    async fn ask(&self, calls: Vec<Call>, write: bool, op: &str) -> Result<Vec<Value>> {
        let failed = |fault: Fault| fault.error(PART, op);
        let one = |calls: Vec<Call>| async move {
            let answers = match write {
                true => self.redis.written(&calls).await,
                false => self.redis.pipeline(&calls).await,
            };
            let answers = answers.map_err(failed)?.into_iter();
            answers
                .collect::<std::result::Result<Vec<_>, _>>()
                .map_err(failed)
        };
        if !self.redis.clustered() {
            return one(calls).await;
        }
        let mut asked = Vec::with_capacity(calls.len());
        for call in calls {
            asked.push(one(vec![call]));
        }
        let answers: Vec<Vec<Value>> = stream::iter(asked)
            .buffered(REQUESTS_MAX)
            .try_collect()
            .await?;
        Ok(answers.concat())
    }
}

/// Which hash a recipient stands in.
fn partition(key: &RecipientKey) -> u32 {
    crc32c::crc32c(key.expose().as_bytes()) % PARTITIONS
}

fn read<T: ::redis::FromRedisValue>(value: Value, op: &str) -> Result<T> {
    from_redis_value(value).map_err(|_| Fault::answer("of another type").error(PART, op))
}

#[async_trait]
impl ConsentBook for RedisBook {
    async fn look_up(&self, keys: &[RecipientKey]) -> Result<Vec<Consent>> {
        const OP: &str = "ask for consents";
        let mut parts: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (place, key) in keys.iter().enumerate() {
            parts.entry(partition(key)).or_default().push(place);
        }
        let (mut calls, mut asked) = (Vec::new(), Vec::new());
        for (partition, places) in &parts {
            for places in places.chunks(KEYS_MAX) {
                let key = self.key(*partition);
                let ask = |call: Call, place: &usize| call.arg(keys[*place].expose());
                calls.push(places.iter().fold(Call::on("HMGET", &key), ask));
                asked.push(places);
            }
        }
        let answers = self.ask(calls, false, OP).await?;
        let mut consents = vec![Consent::default(); keys.len()];
        for (places, answer) in asked.into_iter().zip(answers) {
            let histories: Vec<Option<Vec<u8>>> = read(answer, OP)?;
            if histories.len() != places.len() {
                return Err(Fault::answer("too few consents").error(PART, OP));
            }
            for (place, history) in places.iter().zip(histories) {
                let history = history.unwrap_or_default();
                for event in entry::events(&keys[*place], &history) {
                    event?.fold_into(&mut consents[*place]);
                }
            }
        }
        Ok(consents)
    }

    async fn record(&self, events: Vec<ConsentEvent>) -> Result<u64> {
        const OP: &str = "record consents";
        let mut parts: BTreeMap<u32, Vec<ConsentEvent>> = BTreeMap::new();
        for event in events {
            let part = parts.entry(partition(&event.key)).or_default();
            part.push(event);
        }
        let mut calls = Vec::new();
        for (partition, events) in parts {
            for events in events.chunks(EVENTS_MAX) {
                let only_withdrawn = events.iter().all(|event| event.act == Act::Withdraw);
                let script = match only_withdrawn {
                    true => &self.withdraw,
                    false => &self.record,
                };
                let mut call = script.call(&self.key(partition));
                for event in events {
                    let identity = entry::identity(event);
                    let entry = entry::entry(&identity, &event.source)?;
                    call = call.arg(event.key.expose()).arg(identity).arg(entry);
                }
                calls.push(call);
            }
        }
        let mut new = 0;
        for answer in self.ask(calls, true, OP).await? {
            new += read::<u64>(answer, OP)?;
        }
        Ok(new)
    }

    async fn history(&self, key: &RecipientKey) -> Result<Vec<ConsentEvent>> {
        const OP: &str = "read a history";
        let call = Call::on("HGET", &self.key(partition(key))).arg(key.expose());
        let answer = self.redis.call(&call).await;
        let answer = answer.map_err(|fault| fault.error(PART, OP))?;
        let history: Vec<u8> = read::<Option<Vec<u8>>>(answer, OP)?.unwrap_or_default();
        let events = entry::events(key, &history);
        let mut events: Vec<ConsentEvent> = events.collect::<Result<_>>()?;
        events.sort_by_key(ConsentEvent::order);
        Ok(events)
    }

    async fn count(&self) -> Result<u64> {
        const OP: &str = "count recipients";
        let calls = (0..PARTITIONS).map(|partition| Call::on("HLEN", &self.key(partition)));
        let mut count = 0;
        for answer in self.ask(calls.collect(), false, OP).await? {
            count += read::<u64>(answer, OP)?;
        }
        Ok(count)
    }
}

//! The stores of a night: in memory, on disk, in Redis, in MongoDB. Whatever it is, nobody has used
//! it before.

use std::path::Path;
use std::sync::Arc;

use nightgate::consent::memory::MemoryBook;
use nightgate::consent::sqlite::SqliteBook;
use nightgate::hold::HORIZON_DEFAULT;
use nightgate::hold::memory::MemoryHold;
use nightgate::hold::shelf::{Options, ShelfHold};
use nightgate::receipt::memory::MemoryLog;
use nightgate::receipt::sqlite::SqliteLog;

use crate::build::Stores;
use crate::forgetful::Forgetful;
use crate::world::at_once;

pub(crate) fn in_memory() -> Stores {
    Stores {
        hold: Arc::new(MemoryHold::new(HORIZON_DEFAULT)),
        book: Arc::new(MemoryBook::default()),
        log: Arc::new(MemoryLog::default()),
    }
}

/// The same with a hold that tells nothing of what ended.
pub(crate) fn in_memory_forgetful() -> Stores {
    Stores {
        hold: Arc::new(Forgetful(MemoryHold::new(HORIZON_DEFAULT))),
        ..in_memory()
    }
}

/// The shelf store and the two books, in `dir`. Needs a runtime: they use its threads.
pub(crate) fn on_disk(dir: &Path) -> Stores {
    let hold = at_once(ShelfHold::open(&dir.join("hold"), Options::default())).unwrap();
    Stores {
        hold: Arc::new(hold),
        book: Arc::new(SqliteBook::open(&dir.join("consent.db")).unwrap()),
        log: Arc::new(SqliteLog::open(&dir.join("receipts.db")).unwrap()),
    }
}

#[cfg(feature = "redis")]
pub(crate) mod redis {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use nightgate::consent::redis::RedisBook;
    use nightgate::hold::redis::{Options, RedisHold};
    use nightgate::receipt::redis::RedisLog;
    use nightgate::redis::{Redis, RedisOptions};
    use nightgate::secret::Secret;

    use super::*;
    use crate::redis_server::Server;

    /// Ids of one chapter of what a process knows: so few that nights begin several.
    const CHAPTER_IDS: usize = 20;
    /// No night tests time-outs: its faults are made up in front of the store.
    const TIMEOUT: Duration = Duration::from_secs(60);

    /// All three on the test's server. Needs a runtime.
    pub(crate) fn stores(partitions: u32) -> Stores {
        static SERVER: OnceLock<Server> = OnceLock::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = SERVER.get_or_init(|| Server::start(&[]));
        let mut reached = RedisOptions::single(Secret::new(server.url()));
        reached.prefix = format!("night{}", NEXT.fetch_add(1, Ordering::Relaxed));
        reached.timeout = TIMEOUT;
        let redis = at_once(Redis::open(&reached)).unwrap();
        let options = Options {
            partitions: Some(partitions),
            chapter_ids: Some(CHAPTER_IDS),
            ..Options::default()
        };
        Stores {
            hold: Arc::new(at_once(RedisHold::open(redis.clone(), options)).unwrap()),
            book: Arc::new(RedisBook::new(redis.clone())),
            log: Arc::new(at_once(RedisLog::open(redis, None)).unwrap()),
        }
    }
}

#[cfg(feature = "mongodb")]
pub(crate) mod mongodb {
    use nightgate::clock::SystemClock;
    use nightgate::consent::mongodb::MongoBook;
    use nightgate::hold::mongodb::{MongoHold, MongoHoldOptions};
    use nightgate::mongodb::{Mongo, MongoOptions};
    use nightgate::receipt::mongodb::MongoLog;
    use nightgate::secret::Secret;

    use super::*;
    use crate::mongodb_server::{Server, TIMEOUT, database, url};

    /// All three in a database of their own. Needs a runtime.
    pub(crate) fn stores() -> Stores {
        let options = MongoOptions {
            database: database(),
            timeout: TIMEOUT,
            ..MongoOptions::new(Secret::new(url(Server::Usual)))
        };
        let mongo = at_once(Mongo::open(&options)).unwrap();
        let clock = Arc::new(SystemClock::default());
        let hold = MongoHold::open(mongo.clone(), MongoHoldOptions::default(), clock);
        Stores {
            hold: Arc::new(at_once(hold).unwrap()),
            book: Arc::new(at_once(MongoBook::open(mongo.clone())).unwrap()),
            log: Arc::new(at_once(MongoLog::open(mongo)).unwrap()),
        }
    }
}

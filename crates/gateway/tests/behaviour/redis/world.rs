//! Holds on Redis for the common tests: one server for a test process, a prefix for each hold.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use nightgate::hold::HoldStore;
use nightgate::hold::redis::{Options, RedisHold};
use nightgate::redis::{Redis, RedisOptions};
use nightgate::secret::Secret;

use super::server::{Kind, Server};
use crate::world::HORIZON;

/// Ids in one table of a process: so few that tests have several.
const CHAPTER_IDS: usize = 100;

static REDIS: OnceLock<Server> = OnceLock::new();
static VALKEY: OnceLock<Server> = OnceLock::new();

/// A hold of the common server of this kind for this folder. Another process that is given the
/// folder finds the server's address in it.
pub(crate) async fn shared(kind: Kind, dir: &Path, partitions: u32) -> Arc<dyn HoldStore> {
    std::fs::create_dir_all(dir).unwrap();
    let told = dir.join("redis.url");
    let server = match kind {
        Kind::Valkey => &VALKEY,
        _ => &REDIS,
    };
    let url = std::fs::read_to_string(&told).unwrap_or_else(|_| {
        let url = server
            .get_or_init(|| Server::of(kind, &["--appendfsync", "always"]))
            .url();
        std::fs::write(&told, &url).unwrap();
        url
    });
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    let mut options = RedisOptions::single(Secret::new(url));
    options.prefix = format!("t{:x}", hasher.finish());
    Arc::new(open(&options, partitions).await)
}

/// Two such holds over one.
pub(crate) async fn both(dir: &Path) -> [Arc<dyn HoldStore>; 2] {
    [
        shared(Kind::Redis, dir, 1).await,
        shared(Kind::Redis, dir, 1).await,
    ]
}

/// A hold with the horizon of these tests.
pub(crate) async fn open(options: &RedisOptions, partitions: u32) -> RedisHold {
    let redis = Redis::open(options).await.unwrap();
    let options = Options {
        partitions: Some(partitions),
        horizon: HORIZON,
        chapter_ids: Some(CHAPTER_IDS),
        ..Options::default()
    };
    RedisHold::open(redis, options).await.unwrap()
}

/// The options to reach a server of one's own.
pub(crate) fn options(server: &Server) -> RedisOptions {
    RedisOptions::single(Secret::new(server.url()))
}

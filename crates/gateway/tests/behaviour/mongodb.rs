//! What only the hold in MongoDB has, and the servers that it is tested on.

mod server;

use std::path::Path;
use std::sync::Arc;

use nightgate::clock::SystemClock;
use nightgate::hold::HoldStore;
use nightgate::hold::mongodb::{MongoHold, MongoHoldOptions};
use nightgate::mongodb::{Mongo, MongoOptions};
use nightgate::secret::Secret;

pub(crate) use self::server::Server;
use crate::world::*;

/// The hold in the database that `dir` stands for. Which one that is stands in a file there, so
/// that another process finds it.
pub(crate) async fn hold(kind: Server, dir: &Path) -> Arc<dyn HoldStore> {
    let note = dir.join("mongodb");
    if !note.exists() {
        std::fs::create_dir_all(dir).unwrap();
        let text = format!("{}\n{}", server::url(kind), server::database());
        std::fs::write(&note, text).unwrap();
    }
    let text = std::fs::read_to_string(&note).unwrap();
    let (url, database) = text.split_once('\n').unwrap();
    Arc::new(open(url, database).await)
}

async fn connect(url: &str, database: &str) -> Mongo {
    let options = MongoOptions {
        database: database.to_owned(),
        timeout: server::TIMEOUT,
        ..MongoOptions::new(Secret::new(url))
    };
    Mongo::open(&options).await.unwrap()
}

async fn open(url: &str, database: &str) -> MongoHold {
    let mongo = connect(url, database).await;
    let options = MongoHoldOptions { horizon: HORIZON };
    let clock = Arc::new(SystemClock::default());
    MongoHold::open(mongo, options, clock).await.unwrap()
}

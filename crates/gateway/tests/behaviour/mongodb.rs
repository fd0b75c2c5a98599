//! What only the hold in MongoDB has, and the servers that it is tested on.

mod faults;
mod own;
mod server;

use std::path::Path;
use std::sync::Arc;

use nightgate::clock::SystemClock;
use nightgate::error::Result;
use nightgate::hold::HoldStore;
use nightgate::hold::mongodb::{MongoHold, MongoHoldOptions};
use nightgate::mongodb::{Mongo, MongoOptions};
use nightgate::secret::Secret;

pub(crate) use self::server::Server;
use crate::world::*;

/// A database on a server.
#[derive(Clone)]
struct Place {
    kind: Server,
    url: String,
    database: String,
}

impl Place {
    /// One that nobody uses yet.
    fn new(kind: Server) -> Self {
        Self {
            kind,
            url: server::url(kind).to_owned(),
            database: server::database(),
        }
    }

    fn options(&self) -> MongoOptions {
        MongoOptions {
            database: self.database.clone(),
            timeout: server::TIMEOUT,
            // SecantusDB answers queries by partial indexes that do not fit them.
            partial_indexes: self.kind != Server::Secantus,
            ..MongoOptions::new(Secret::new(&*self.url))
        }
    }

    async fn hold(&self) -> MongoHold {
        self.try_hold().await.unwrap()
    }

    async fn try_hold(&self) -> Result<MongoHold> {
        let mongo = Mongo::open(&self.options()).await?;
        let options = MongoHoldOptions { horizon: HORIZON };
        MongoHold::open(mongo, options, Arc::new(SystemClock::default())).await
    }

    /// The database as somebody else's program sees it.
    async fn raw(&self) -> ::mongodb::Database {
        let client = ::mongodb::Client::with_uri_str(&self.url).await;
        client.unwrap().database(&self.database)
    }
}

/// The hold in the database that `dir` stands for. Which one that is stands in a file there, so
/// that another process finds it.
pub(crate) async fn hold(kind: Server, dir: &Path) -> Arc<dyn HoldStore> {
    let note = dir.join("mongodb");
    if !note.exists() {
        std::fs::create_dir_all(dir).unwrap();
        let Place { url, database, .. } = Place::new(kind);
        std::fs::write(&note, format!("{url}\n{database}")).unwrap();
    }
    let text = std::fs::read_to_string(&note).unwrap();
    let (url, database) = text.split_once('\n').unwrap();
    let (url, database) = (url.to_owned(), database.to_owned());
    Arc::new(
        Place {
            kind,
            url,
            database,
        }
        .hold()
        .await,
    )
}

//! What every part that uses MongoDB has in common: the connection, a time-out on every call, and
//! what its faults say to people.
//!
//! Every write is acknowledged by a majority that has it in its journal. No transactions, no
//! updates by pipeline, no change streams: a single server without a replica set has none of them.

mod fault;
mod read;
#[cfg(test)]
#[path = "../tests/behaviour/mongodb/server.rs"]
pub(crate) mod server;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::time::Duration;

use ::mongodb::bson::{Bson, Document, doc};
use ::mongodb::error::{Error as Fault, ErrorKind};
use ::mongodb::options::{
    Acknowledgment, ClientOptions, CollectionOptions, IndexOptions, ReadConcern, ReturnDocument,
    WriteConcern,
};
use ::mongodb::{Client, Collection, Database, IndexModel};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use tokio::time::timeout;

use self::fault::{DUPLICATE, Why};
pub(crate) use self::read::{Read, int, text};
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// How long one call may take, unless configured.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The database, unless configured.
pub const DATABASE_DEFAULT: &str = "nightgate";
/// Where each part notes the version of what it keeps.
const FORMATS: &str = "formats";
/// Most statements of one `update` command; the server takes 100,000, and 48 MB.
const UPDATES_MAX: usize = 1_000;
/// What this program is called in the server's log and statistics.
const APP_NAME: &str = "nightgate";

/// Where the server is.
#[derive(Clone, Debug)]
pub struct MongoOptions {
    /// `mongodb://…` or `mongodb+srv://…`, with user and password where needed.
    pub url: Secret,
    /// The database in which everything is kept.
    pub database: String,
    /// How long one call may take.
    pub timeout: Duration,
    /// Whether indexes are partial, as they should be. Off for servers that speak as MongoDB does
    /// and answer queries by partial indexes that do not fit them.
    pub partial_indexes: bool,
}

impl MongoOptions {
    /// The server at `url`, else as it is when nothing is configured.
    #[must_use]
    pub fn new(url: Secret) -> Self {
        Self {
            url,
            database: DATABASE_DEFAULT.to_owned(),
            timeout: TIMEOUT_DEFAULT,
            partial_indexes: true,
        }
    }
}

/// A connection to one database. Cheap to clone; it reconnects by itself.
#[derive(Clone)]
pub struct Mongo {
    database: Database,
    timeout: Duration,
    partial: bool,
}

impl fmt::Debug for Mongo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mongo").finish_non_exhaustive()
    }
}

/// Whose call it is, and what it wants: for its error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op<'a> {
    pub(crate) part: &'static str,
    pub(crate) what: &'a str,
}

impl Mongo {
    /// Connects, and makes sure that the server keeps what it is given.
    ///
    /// # Errors
    /// `Invalid` when the address does not read, the user may not in, the server is a secondary or
    /// keeps its data in memory alone; `Unavailable` when no server answers in time.
    pub async fn open(options: &MongoOptions) -> Result<Self> {
        let op = Op {
            part: "mongodb",
            what: "connect",
        };
        let parsed = ClientOptions::parse(options.url.expose()).into_future();
        let mut own = timed(options.timeout, op, parsed).await?;
        own.app_name.get_or_insert_with(|| APP_NAME.to_owned());
        own.connect_timeout = Some(options.timeout);
        own.server_selection_timeout = Some(options.timeout);
        let majority = WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .w_timeout(options.timeout)
            .journal(true)
            .build();
        own.write_concern = Some(majority);
        own.read_concern = None;
        let client =
            Client::with_options(own.clone()).map_err(|fault| Why::of(&fault).error(op))?;
        let admin = client.database("admin");
        let hello = admin.run_command(doc! { "hello": 1 }).into_future();
        let hello = timed(options.timeout, op, hello).await?;
        refuse_secondary(&hello)?;
        if let Ok(status) = timed(options.timeout, op, async {
            admin.run_command(doc! { "serverStatus": 1 }).await
        })
        .await
        {
            refuse_memory(&status)?;
        }
        // A server of its own has no majority to ask; every other must not show what it may lose.
        let member = hello.contains_key("setName") || text(&hello, "msg") == Some("isdbgrid");
        own.read_concern = member.then(ReadConcern::majority);
        let client = Client::with_options(own).map_err(|fault| Why::of(&fault).error(op))?;
        Ok(Self {
            database: client.database(&options.database),
            timeout: options.timeout,
            partial: options.partial_indexes,
        })
    }

    /// The wall clock of the server that takes writes, cut to the millisecond.
    ///
    /// # Errors
    /// `Unavailable` when it does not answer in time, or without its time.
    pub async fn time(&self) -> Result<Timestamp> {
        let op = Op {
            part: "mongodb",
            what: "ask for the time",
        };
        let hello = async { self.database.run_command(doc! { "hello": 1 }).await };
        let hello = self.call(op, hello).await?;
        let time = hello.get_datetime("localTime").ok();
        let time = time.and_then(|time| Timestamp::from_millisecond(time.timestamp_millis()).ok());
        time.ok_or_else(|| Error::new(Kind::Unavailable, op.part, op.what).with("no `localTime`"))
    }

    /// A collection of the database.
    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    /// The same, read or written otherwise.
    pub(crate) fn collection_with(
        &self,
        name: &str,
        options: CollectionOptions,
    ) -> Collection<Document> {
        self.database.collection_with_options(name, options)
    }

    /// Runs one request within the time-out.
    pub(crate) async fn call<T>(
        &self,
        op: Op<'_>,
        request: impl Future<Output = ::mongodb::error::Result<T>>,
    ) -> Result<T> {
        timed(self.timeout, op, request).await
    }

    /// Notes that `part` keeps things in the form `version`.
    ///
    /// # Errors
    /// `Invalid` when they are kept in a newer one.
    pub(crate) async fn claim_format(&self, part: &'static str, version: i64) -> Result<()> {
        let op = Op {
            part,
            what: "read which version keeps it",
        };
        let formats = self.collection(FORMATS);
        let this = doc! { "_id": part };
        let note = doc! { "version": version };
        self.note(op, &formats, this.clone(), note).await?;
        let read = async { formats.find_one(this).await };
        let known = self.call(op, read).await?;
        let known = known.and_then(|known| int(&known, "version"));
        match known {
            Some(known) if known <= version => Ok(()),
            Some(known) => {
                let op = format!(
                    "open what MongoDB keeps: version {known} of it was written by a newer \
                     program, and this one knows up to {version}; run the newer program"
                );
                Err(Error::new(Kind::Invalid, part, op))
            }
            None => Err(Error::new(Kind::Corrupt, part, op.what)),
        }
    }

    /// Makes the document of this key, unless there is one, which is left as it is.
    pub(crate) async fn note(
        &self,
        op: Op<'_>,
        of: &Collection<Document>,
        key: Document,
        fields: Document,
    ) -> Result<()> {
        let note = doc! { "$setOnInsert": fields };
        let note = async {
            match of.update_one(key, note).upsert(true).await {
                Ok(_) => Ok(()),
                // Of two who make it at once one is told that it is taken, which is as good.
                Err(fault) if Why::of(&fault).code == Some(DUPLICATE) => Ok(()),
                Err(fault) => Err(fault),
            }
        };
        self.call(op, note).await
    }

    /// Makes what `indexes` describe, where it is not there yet.
    pub(crate) async fn index(&self, op: Op<'_>, of: &str, indexes: &[Index]) -> Result<()> {
        let collection = self.collection(of);
        for index in indexes {
            let options = IndexOptions::builder()
                .unique(index.unique.then_some(true))
                .partial_filter_expression(index.only.clone().filter(|_| self.partial))
                .expire_after(index.expires.then_some(Duration::ZERO))
                .build();
            let model = IndexModel::builder().keys(index.keys.clone());
            let model = model.options(options).build();
            let made = async { collection.create_index(model).await };
            self.call(op, made).await?;
        }
        Ok(())
    }

    /// Adds `by` to a counter that is there; says its new value.
    pub(crate) async fn count_up(&self, op: Op<'_>, of: &str, name: &str, by: i64) -> Result<i64> {
        let counters = self.collection(of);
        let up = async {
            let up = doc! { "$inc": { "value": by } };
            let up = counters.find_one_and_update(doc! { "_id": name }, up);
            up.return_document(ReturnDocument::After).await
        };
        let counter = self.call(op, up).await?;
        let value = counter.and_then(|counter| int(&counter, "value"));
        // To begin anew would give numbers twice.
        value.ok_or_else(|| {
            let why = format!("MongoDB: the counter `{name}` in `{of}` is gone; restore a backup");
            Error::new(Kind::Corrupt, op.part, op.what).with(why)
        })
    }

    /// Inserts documents in any order; says the places of those whose key was there already.
    pub(crate) async fn insert_new(
        &self,
        op: Op<'_>,
        into: &Collection<Document>,
        documents: &[Document],
    ) -> Result<Vec<usize>> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let insert = async {
            match into.insert_many(documents).ordered(false).await {
                Ok(_) => Ok(Vec::new()),
                Err(fault) => taken(&fault).ok_or(fault),
            }
        };
        self.call(op, insert).await
    }

    /// Runs statements of the `update` command in their order; says how many documents matched.
    pub(crate) async fn update_each(
        &self,
        op: Op<'_>,
        of: &str,
        statements: Vec<Document>,
    ) -> Result<u64> {
        let mut matched = 0;
        for part in statements.chunks(UPDATES_MAX) {
            let command = doc! {
                "update": of,
                "updates": part,
                "ordered": true,
                "writeConcern": {
                    "w": "majority",
                    "j": true,
                    "wtimeout": i64::try_from(self.timeout.as_millis()).unwrap_or(i64::MAX),
                },
            };
            let run = async { self.database.run_command(command).await };
            let answer = self.call(op, run).await?;
            if let Some(why) = Why::of_answer(&answer) {
                return Err(why.error(op));
            }
            matched += int(&answer, "n").unwrap_or_default().unsigned_abs();
        }
        Ok(matched)
    }

    /// All that a query finds.
    pub(crate) async fn find(
        &self,
        op: Op<'_>,
        of: &Collection<Document>,
        ask: Ask,
    ) -> Result<Vec<Document>> {
        let find = async {
            let mut find = of.find(ask.filter).sort(ask.sort);
            if let Some(max) = ask.max {
                find = find.limit(i64::try_from(max).unwrap_or(i64::MAX));
            }
            if let Some(only) = ask.only {
                find = find.projection(only);
            }
            find.await?.try_collect().await
        };
        self.call(op, find).await
    }

    /// All that a pipeline gives.
    pub(crate) async fn aggregate(
        &self,
        op: Op<'_>,
        of: &str,
        pipeline: Vec<Document>,
    ) -> Result<Vec<Document>> {
        let collection = self.collection(of);
        let run = async { collection.aggregate(pipeline).await?.try_collect().await };
        self.call(op, run).await
    }

    /// Names of collections that begin with `prefix`.
    pub(crate) async fn names(&self, op: Op<'_>, prefix: &str) -> Result<Vec<String>> {
        let names = async { self.database.list_collection_names().await };
        let mut names = self.call(op, names).await?;
        names.retain(|name| name.starts_with(prefix));
        Ok(names)
    }
}

/// A query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) filter: Document,
    pub(crate) sort: Document,
    pub(crate) max: Option<usize>,
    /// The fields wanted; `None`: all.
    pub(crate) only: Option<Document>,
}

impl Ask {
    /// Everything of `filter`.
    pub(crate) fn of(filter: Document) -> Self {
        Self {
            filter,
            ..Self::default()
        }
    }
}

/// An index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub(crate) keys: Document,
    pub(crate) unique: bool,
    /// Documents that are in it; `None`: all.
    pub(crate) only: Option<Document>,
    /// Whether the server deletes documents once the instant in the field has come.
    pub(crate) expires: bool,
}

/// The places of documents whose keys were taken, if that is all that went wrong.
fn taken(fault: &Fault) -> Option<Vec<usize>> {
    let ErrorKind::InsertMany(fault) = &*fault.kind else {
        return None;
    };
    let errors = fault.write_errors.as_ref()?;
    let only = errors.iter().all(|error| error.code == DUPLICATE);
    (only && fault.write_concern_error.is_none())
        .then(|| errors.iter().map(|error| error.index).collect())
}

async fn timed<T>(
    limit: Duration,
    op: Op<'_>,
    request: impl Future<Output = ::mongodb::error::Result<T>>,
) -> Result<T> {
    // Requests are large state machines; most are waited for deep inside others.
    match timeout(limit, Box::pin(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(fault)) => Err(Why::of(&fault).error(op)),
        Err(_) => Err(Why::late(limit).error(op)),
    }
}

fn refuse_secondary(hello: &Document) -> Result<()> {
    let primary = ["isWritablePrimary", "ismaster"]
        .iter()
        .find_map(|key| hello.get_bool(key).ok());
    if primary == Some(false) && hello.get("setName").is_some() {
        let op = "connect: this server is not the primary of its replica set; give the set's name \
                  and members in the address, without directConnection";
        return Err(Error::new(Kind::Invalid, "mongodb", op));
    }
    Ok(())
}

fn refuse_memory(status: &Document) -> Result<()> {
    let engine = status.get("storageEngine").and_then(Bson::as_document);
    if engine.and_then(|engine| engine.get_bool("persistent").ok()) == Some(false) {
        let op = "connect: this server keeps its data in memory and loses it when it stops; use \
                  the storage engine `wiredTiger`";
        return Err(Error::new(Kind::Invalid, "mongodb", op));
    }
    Ok(())
}

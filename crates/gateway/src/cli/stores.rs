//! Opens what a command needs of the stores, also while a gateway runs: SQLite lets both in, and
//! the owner of a shelf store serves the commands beside it.

use std::path::PathBuf;
use std::sync::Arc;

use super::Failure;
use super::beyond::Beyond;
use crate::clock::{Clock, SystemClock};
use crate::config::{ClaimStore, Config, ConsentStore, HoldKind, ReceiptStore};
use crate::consent::ConsentBook;
use crate::consent::http::{HttpBook, HttpOptions};
use crate::consent::memory::MemoryBook;
use crate::consent::sqlite::SqliteBook;
use crate::hold::open::OpenOptions;
use crate::hold::{self, HoldStore};
use crate::receipt::ReceiptLog;
use crate::receipt::lines::LinesLog;
use crate::receipt::memory::MemoryLog;
use crate::receipt::sqlite::SqliteLog;
use crate::release::attempts::Attempts;
use crate::release::attempts::receipts::ReceiptAttempts;

/// The file of consents.
const CONSENT: &str = "consent.db";
/// The file of receipts.
const RECEIPTS: &str = "receipts.db";

/// The parts that keep something.
pub(crate) struct Stores {
    /// Where messages are held.
    pub(crate) hold: Arc<dyn HoldStore>,
    /// Where consents live.
    pub(crate) consent: Arc<dyn ConsentBook>,
    /// Where receipts are filed.
    pub(crate) receipts: Arc<dyn ReceiptLog>,
    /// Where it is known what may have gone.
    pub(crate) attempts: Arc<dyn Attempts>,
}

impl Stores {
    /// Opens what `config` names.
    ///
    /// # Errors
    /// When a store cannot be opened; the text says which and why.
    pub(crate) async fn open(
        config: &Config,
        clock: &Arc<dyn Clock>,
        beyond: &Beyond,
    ) -> Result<Self, Failure> {
        let receipts = receipts(config, clock, beyond).await?;
        Ok(Self {
            hold: hold(config, clock, beyond).await?,
            consent: consent(config, clock, beyond).await?,
            attempts: attempts(config, clock, beyond, &receipts).await?,
            receipts,
        })
    }
}

async fn hold(
    config: &Config,
    clock: &Arc<dyn Clock>,
    beyond: &Beyond,
) -> Result<Arc<dyn HoldStore>, Failure> {
    match config.hold.store {
        HoldKind::Redis => return beyond.redis.hold(config).await,
        HoldKind::MongoDb => return beyond.mongodb.hold(config, clock).await,
        HoldKind::Sqs => return beyond.aws.hold(config, clock).await,
        HoldKind::Shelf | HoldKind::Sqlite | HoldKind::Memory => {}
    }
    let options = OpenOptions {
        dir: config.data.dir.clone(),
        horizon: config.hold.keep_ids,
        max_bytes: config.hold.max_bytes,
        shelf_max: config.hold.shelf_max,
        keep_free: config.hold.keep_free,
    };
    let store = config.hold.store.as_str();
    Ok(hold::open::open(store, &options, clock.now()).await?)
}

async fn consent(
    config: &Config,
    clock: &Arc<dyn Clock>,
    beyond: &Beyond,
) -> Result<Arc<dyn ConsentBook>, Failure> {
    Ok(match (config.consent.store, &config.consent.http) {
        (ConsentStore::Redis, _) => beyond.redis.consent().await?,
        (ConsentStore::MongoDb, _) => beyond.mongodb.consent().await?,
        (ConsentStore::DynamoDb, _) => beyond.aws.consent(config, clock).await?,
        (ConsentStore::Http, Some(http)) => {
            let options = HttpOptions {
                url: http.url.clone(),
                token: http.token.clone(),
                timeout: http.timeout,
                cache_for: http.cache_for,
                batch_max: http.batch_max,
            };
            Arc::new(HttpBook::new(options, Arc::clone(clock))?)
        }
        _ if config.hold.store == HoldKind::Memory => Arc::new(MemoryBook::default()),
        _ => Arc::new(SqliteBook::open(&config.data.dir.join(CONSENT))?),
    })
}

async fn receipts(
    config: &Config,
    clock: &Arc<dyn Clock>,
    beyond: &Beyond,
) -> Result<Arc<dyn ReceiptLog>, Failure> {
    Ok(match &config.receipts.store {
        ReceiptStore::Redis => beyond.redis.receipts().await?,
        ReceiptStore::MongoDb => beyond.mongodb.receipts().await?,
        ReceiptStore::Lines => Arc::new(LinesLog::new(std::io::stdout())),
        ReceiptStore::Sqs(queue) => beyond.aws.receipts(queue, clock).await?,
        ReceiptStore::Embedded if config.hold.store == HoldKind::Memory => {
            Arc::new(MemoryLog::default())
        }
        ReceiptStore::Embedded => Arc::new(SqliteLog::open(&config.data.dir.join(RECEIPTS))?),
    })
}

async fn attempts(
    config: &Config,
    clock: &Arc<dyn Clock>,
    beyond: &Beyond,
    receipts: &Arc<dyn ReceiptLog>,
) -> Result<Arc<dyn Attempts>, Failure> {
    let claimed =
        config.hold.store == HoldKind::Sqs && config.hold.sqs.attempts == ClaimStore::DynamoDb;
    Ok(match claimed {
        true => beyond.aws.attempts(config, clock).await?,
        false => Arc::new(ReceiptAttempts::new(Arc::clone(receipts))),
    })
}

/// Every store, which must be there already: a command that looks makes no empty data directory.
pub(crate) async fn all(config: &Config) -> Result<Stores, Failure> {
    hold_is_there(config)?;
    Stores::open(config, &clock(), &Beyond::new(config)).await
}

/// The hold in the store `kind`, whichever is configured. `old`: it must be there already.
pub(crate) async fn hold_in(
    config: &Config,
    kind: HoldKind,
    old: bool,
) -> Result<Arc<dyn HoldStore>, Failure> {
    let mut config = config.clone();
    config.hold.store = kind;
    if old {
        hold_is_there(&config)?;
    }
    hold(&config, &clock(), &Beyond::new(&config)).await
}

fn hold_is_there(config: &Config) -> Result<(), Failure> {
    match config.hold.store {
        HoldKind::Shelf => there(config.data.dir.join(hold::open::SHELF_DIR)),
        HoldKind::Sqlite => there(config.data.dir.join(hold::sqlite::FILE)),
        HoldKind::Redis | HoldKind::MongoDb | HoldKind::Sqs => Ok(()),
        HoldKind::Memory => Err(gone("hold.store")),
    }
}

/// The receipts, which must be there already.
pub(crate) async fn filed(config: &Config) -> Result<Arc<dyn ReceiptLog>, Failure> {
    if config.receipts.store == ReceiptStore::Embedded {
        if config.hold.store == HoldKind::Memory {
            return Err(gone("hold.store"));
        }
        there(config.data.dir.join(RECEIPTS))?;
    }
    receipts(config, &clock(), &Beyond::new(config)).await
}

/// The consent book, made if it is missing: an import may come before the first message.
pub(crate) async fn book(config: &Config) -> Result<Arc<dyn ConsentBook>, Failure> {
    if is_in_memory(config) {
        return Err(gone("hold.store"));
    }
    consent(config, &clock(), &Beyond::new(config)).await
}

/// The consent book, if there is one.
pub(crate) async fn book_if_there(
    config: &Config,
) -> Result<Option<Arc<dyn ConsentBook>>, Failure> {
    let embedded = config.consent.store == ConsentStore::Embedded;
    if is_in_memory(config) || embedded && !config.data.dir.join(CONSENT).exists() {
        return Ok(None);
    }
    book(config).await.map(Some)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::default())
}

fn is_in_memory(config: &Config) -> bool {
    config.consent.store == ConsentStore::Embedded && config.hold.store == HoldKind::Memory
}

fn gone(key: &str) -> Failure {
    Failure::usage(format!(
        "`{key}` is \"memory\": nothing outlives a process, so there is nothing to open; ask the \
         running gateway over HTTP, or set it to \"{}\"",
        HoldKind::DEFAULT.as_str()
    ))
}

fn there(path: PathBuf) -> Result<(), Failure> {
    if path.exists() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "there is no {}: no gateway has run on this data directory; name another with \
         --set data.dir=DIR, or start one with `nightgate serve`",
        path.display()
    )))
}

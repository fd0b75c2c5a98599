//! Opens what a command needs of the data directory, also while a gateway runs: SQLite lets both
//! in, and the owner of a shelf store serves the commands beside it.

use std::sync::Arc;

use super::Failure;
use super::road::Stores;
use crate::clock::Clock;
use crate::config::{Config, HoldKind};
use crate::consent::ConsentBook;
use crate::consent::sqlite::SqliteBook;
use crate::hold;
use crate::receipt::ReceiptLog;
use crate::receipt::sqlite::SqliteLog;

/// The file of consents, as [`Stores::open`] names it.
const CONSENT: &str = "consent.db";
/// The file of receipts, likewise.
const RECEIPTS: &str = "receipts.db";

/// Every store, which must be there already: a command that looks makes no empty data directory.
pub(super) async fn all(config: &Config, clock: &dyn Clock) -> Result<Stores, Failure> {
    let kept = match config.hold.store {
        HoldKind::Shelf => hold::open::SHELF_DIR,
        HoldKind::Sqlite | HoldKind::Memory => hold::sqlite::FILE,
    };
    there(config, kept)?;
    Stores::open(config, clock).await
}

/// The receipts, which must be there already.
pub(super) fn receipts(config: &Config) -> Result<Arc<dyn ReceiptLog>, Failure> {
    there(config, RECEIPTS)?;
    Ok(Arc::new(SqliteLog::open(&config.data.dir.join(RECEIPTS))?))
}

/// The consent book, made if it is missing: an import may come before the first message.
pub(super) fn consent(config: &Config) -> Result<Arc<dyn ConsentBook>, Failure> {
    durable(config)?;
    Ok(Arc::new(SqliteBook::open(&config.data.dir.join(CONSENT))?))
}

/// The consent book, if there is one.
pub(super) fn consent_if_there(config: &Config) -> Result<Option<Arc<dyn ConsentBook>>, Failure> {
    if config.hold.store == HoldKind::Memory || !config.data.dir.join(CONSENT).exists() {
        return Ok(None);
    }
    consent(config).map(Some)
}

fn durable(config: &Config) -> Result<(), Failure> {
    match config.hold.store {
        HoldKind::Shelf | HoldKind::Sqlite => Ok(()),
        HoldKind::Memory => Err(Failure::usage(format!(
            "`hold.store` is \"memory\": nothing outlives a process, so there is nothing to open; \
             ask the running gateway over HTTP, or set it to \"{}\"",
            HoldKind::DEFAULT.as_str()
        ))),
    }
}

fn there(config: &Config, file: &str) -> Result<(), Failure> {
    durable(config)?;
    let path = config.data.dir.join(file);
    if path.exists() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "there is no {}: no gateway has run on this data directory; name another with \
         --set data.dir=DIR, or start one with `nightgate serve`",
        path.display()
    )))
}

//! The hold by its configured name: the only place that knows the backends.

use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::HoldStore;
use super::memory::MemoryHold;
use super::sqlite::{Options, SqliteHold};
use crate::error::{Error, Kind, Result};

/// The names that [`open`] knows.
pub const STORES: &[&str] = &["sqlite", "memory"];

/// Opens the hold called `store` in `dir`, remembering ended ids for `horizon`, and forgets those
/// that outlived it while nobody was running.
///
/// # Errors
/// `Invalid` for a name not in [`STORES`]; else what the backend says.
pub async fn open(
    store: &str,
    dir: &Path,
    horizon: SignedDuration,
    now: Timestamp,
) -> Result<Arc<dyn HoldStore>> {
    let hold: Arc<dyn HoldStore> = match store {
        "sqlite" => Arc::new(
            SqliteHold::open(
                dir,
                Options {
                    horizon,
                    ..Options::default()
                },
            )
            .await?,
        ),
        "memory" => Arc::new(MemoryHold::new(horizon)),
        _ => {
            let op = format!(
                "open the hold `{store}`; choose one of {}",
                STORES.join(", ")
            );
            return Err(Error::new(Kind::Invalid, "hold", op));
        }
    };
    hold.sweep(now).await?;
    Ok(hold)
}

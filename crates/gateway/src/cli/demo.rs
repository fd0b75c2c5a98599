//! `nightgate demo`: one night in under a minute. The clock is simulated; gate, store, releaser,
//! webhook and receipts are the real ones.

mod crowd;
mod night;
mod provider;
mod story;

use std::path::PathBuf;

use clap::Args;

use super::{Common, Done, EXIT_FAILED, EXIT_OK, Failure};
use crate::config::{Config, Sources};
use night::Night;
use story::Story;

/// One night in under a minute, on a simulated clock but the real road.
#[derive(Debug, Args)]
#[command(after_help = "\
A few thousand Korean commerce notifications arrive around 21:00 and around 08:00. Watch which
leave, which are held and why; a recall, withdrawals at 02:00, a provider that fails, a crash in the
middle of a hand-over; and a table that adds up. Nothing leaves this machine.

  nightgate demo                        tell the night in Korean
  nightgate demo --language en          tell it in English
  nightgate demo --keep ./one-night     keep the stores, and look into them afterwards:
  nightgate hold ls --set data.dir=./one-night")]
pub struct Demo {
    /// Keep the stores in this directory, which must be empty [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

impl Demo {
    pub(super) async fn run(self, common: &Common) -> Done {
        let scratch = tempfile::tempdir()?;
        let dir = self
            .keep
            .clone()
            .unwrap_or_else(|| scratch.path().to_owned());
        if dir.exists() && std::fs::read_dir(&dir)?.next().is_some() {
            let text = format!("{} is not empty; name a new directory", dir.display());
            return Err(Failure::usage(text));
        }
        let provider = provider::Provider::start().await?;
        let config = config(&dir, provider.address())?;
        let story = Story::new(common.language(), common.json);
        let adds_up = Night::begin(config, provider, story).await?.live().await?;
        Ok(if adds_up { EXIT_OK } else { EXIT_FAILED })
    }
}

/// The demo's own settings: the defaults, one webhook lane, and a pace that one can watch.
fn config(dir: &std::path::Path, provider: std::net::SocketAddr) -> Result<Config, Failure> {
    let flags = [
        format!("data.dir={}", dir.display()),
        "lane.main.sink=webhook".to_owned(),
        format!("lane.main.webhook.url=http://{provider}/messages"),
        "lane.main.webhook.secret=whsec_bmlnaHRnYXRlLWRlbW8tc2lnbmluZy1rZXk=".to_owned(),
        "lane.main.rate=30".to_owned(),
        "lane.main.burst=30".to_owned(),
        "lane.main.slow_start=20s".to_owned(),
    ];
    let sources = Sources {
        flags: flags.into(),
        ..Sources::default()
    };
    let loaded = Config::load(&sources).map_err(|faults| Failure::failed(faults.to_string()))?;
    Ok(loaded.config)
}

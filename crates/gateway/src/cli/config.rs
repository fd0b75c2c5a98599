//! `nightgate config`: every key with its default, and the values in effect.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Common, Done, EXIT_OK, Failure, out, shown};
use crate::config::{DEFAULT_TOML, Setting};

/// Print every key with its default and comment, or the values in effect.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate config > nightgate.toml            start from the defaults
  nightgate config show                        what is in effect, and where it comes from
  nightgate config show --json | jq .          the same for scripts
Later layers win: defaults < nightgate.toml < NIGHTGATE_SECTION__KEY < --set SECTION.KEY=VALUE")]
pub struct ConfigCommand {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The values in effect and where each comes from; secrets are hidden
    Show,
}

/// One key in JSON.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    key: &'a str,
    /// In TOML; `<hidden>` for a secret that is set.
    value: &'a str,
    origin: String,
}

impl<'a> From<&'a Setting> for Line<'a> {
    fn from(setting: &'a Setting) -> Self {
        let Setting { key, value, origin } = setting;
        Self {
            key,
            value,
            origin: origin.to_string(),
        }
    }
}

impl ConfigCommand {
    pub(super) fn run(&self, common: &Common) -> Done {
        match self.what {
            None => defaults(common)?,
            Some(What::Show) => {
                let settings = common.load()?.settings;
                let lines: Vec<_> = settings.iter().map(Line::from).collect();
                if common.json {
                    out::say_json(&lines)?;
                } else {
                    say_settings(&lines)?;
                }
            }
        }
        Ok(EXIT_OK)
    }
}

fn defaults(common: &Common) -> Result<(), Failure> {
    if !common.json {
        return out::say(DEFAULT_TOML.trim_end());
    }
    let table: toml::Table = DEFAULT_TOML
        .parse()
        .map_err(|error| Failure::failed(format!("failed to read the default file: {error}")))?;
    out::say_json(&table)
}

/// Every key as a table.
pub(super) fn say_settings(lines: &[Line<'_>]) -> Result<(), Failure> {
    let mut table = shown::table(&["KEY", "VALUE", "FROM"]);
    for line in lines {
        table.add_row([line.key, line.value, &line.origin]);
    }
    shown::say_table(&table)
}

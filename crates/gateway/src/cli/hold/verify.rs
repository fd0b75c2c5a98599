//! `nightgate hold verify`.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use nightgate_core::Language;
use serde_json::json;

use super::words;
use crate::cli::{Common, Done, EXIT_FAILED, EXIT_OK, Failure, out, shown, stores};
use crate::config::{Config, HoldKind};
use crate::hold::HoldStore;
use crate::hold::care::{Finding, Report};
use crate::hold::open::{SHELF_DIR, SOCKET};
use crate::hold::remote::RemoteHold;
use crate::hold::shelf::verify_folder;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate hold verify                     the hold of data.dir
  nightgate hold verify /backup/monday      a backup
  nightgate hold verify --json | jq .findings
Reads every file of the hold from end to end and changes nothing. Beside a running gateway the
gateway reads them itself, and pauses its upkeep meanwhile; else no gateway can start until the
check is over. Exit code 1: something is wrong; each line says what to do about it.")]
pub(super) struct Verify {
    /// Folder of a hold or of a backup [default: the hold of data.dir]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Verify {
    pub(super) async fn run(self, common: &Common) -> Done {
        let config = common.load()?.config;
        let report = match (&self.dir, config.hold.store) {
            (Some(dir), _) => check(dir).await?,
            (None, HoldKind::Shelf) => check(&there(&config)?).await?,
            (None, _) => stores::all(&config).await?.hold.verify().await?,
        };
        say(&report, common.json, common.language_of(&config))?;
        Ok(if report.is_sound() {
            EXIT_OK
        } else {
            EXIT_FAILED
        })
    }
}

fn there(config: &Config) -> Result<PathBuf, Failure> {
    let folder = config.data.dir.join(SHELF_DIR);
    match folder.is_dir() {
        true => Ok(folder),
        false => Err(Failure::failed(format!(
            "there is no {}: no gateway has run on this data directory; name another with \
             --set data.dir=DIR, or the folder itself",
            folder.display()
        ))),
    }
}

/// Checks a folder, or asks the process that owns it.
pub(super) async fn check(folder: &Path) -> Result<Report, Failure> {
    let inner = folder.join(SHELF_DIR);
    // A data directory will do as well.
    let folder = if inner.is_dir() {
        inner
    } else {
        folder.to_owned()
    };
    let bar = shown::bar(Some(0), "{bar:40} {bytes}/{total_bytes}, {eta} left")?;
    let looked = {
        let (bar, folder) = (bar.clone(), folder.clone());
        tokio::task::spawn_blocking(move || {
            verify_folder(&folder, &mut |done, total| {
                seen(&bar, done, total);
            })
        })
    };
    let looked = looked
        .await
        .map_err(|error| Failure::failed(format!("failed to check the hold: {error}")))?;
    bar.finish_and_clear();
    match looked? {
        Some(report) => Ok(report),
        None => {
            let owner = RemoteHold::connect(&folder.join(SOCKET)).await?;
            Ok(owner.verify().await?)
        }
    }
}

fn seen(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}

/// Says what was found.
pub(super) fn say(report: &Report, json: bool, language: Language) -> Result<(), Failure> {
    if json {
        let mut all = serde_json::to_value(report).unwrap_or_default();
        all["sound"] = json!(report.is_sound());
        return out::say_json(&all);
    }
    for finding in &report.findings {
        out::say(&line(finding, language))?;
    }
    let counts = [
        shown::counted(report.files, "file"),
        format!("{} bytes", shown::grouped(report.bytes)),
        shown::counted(report.frames, "frame"),
        shown::counted(report.blocks, "block"),
    ];
    out::say(&format!("read {}", counts.join(", ")))?;
    out::say(&format!(
        "{} held, {} leased, {} buried, {} put aside as damaged before",
        shown::grouped(report.held),
        shown::grouped(report.leased),
        shown::grouped(report.buried),
        shown::grouped(report.aside)
    ))?;
    out::say(&words::verdict(report, language))
}

/// `log-00000003, bytes 4096-8192: ... (12 messages)`
fn line(finding: &Finding, language: Language) -> String {
    let mut text = finding.file.clone();
    if let Some((from, to)) = finding.bytes {
        text += &format!(", bytes {from}-{to}");
    }
    text += &format!(": {}", words::sentence(finding.ill, language));
    if finding.messages > 0 {
        text += &format!(" ({})", shown::messages(finding.messages));
    }
    if let Some(detail) = &finding.detail {
        text += &format!(" [{detail}]");
    }
    text
}

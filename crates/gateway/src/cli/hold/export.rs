//! `nightgate hold export`: everything held, whole, in JSON.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use tempfile::NamedTempFile;

use crate::cli::stores::Stores;
use crate::cli::{Common, Done, EXIT_OK, EXIT_PARTIAL, Failure, out, shown};
use crate::config::Config;
use crate::hold::care::Lost;
use crate::hold::{Found, State};
use crate::ingest::wire;

/// Bytes of messages asked for at once.
const PAGE_BYTES: usize = 1024 * 1024;
/// Ids named of one block that cannot be read.
const IDS_SHOWN: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate hold export --out held.ndjson
  nightgate hold export --messages --out again.ndjson && nightgate send again.ndjson
  nightgate hold export | jq -r 'select(.state == \"buried\") | .why' | sort | uniq -c
One message a line, an object of state, lane, due, accepted_at, class, attempts, lapsed, why and
message, where `message` is what its producer sent. With --messages a line is that alone, as
`nightgate send` and
POST /v1/messages/bulk read it; buried messages are left out unless --buried is given.
Recipients and bodies stand in it in clear: the file is made with mode 0600 and never replaces
another. Works beside a running gateway; a message that moves meanwhile may come twice, none is left
out. Exit code 3: some messages could not be read; standard error names them.")]
pub(super) struct Export {
    /// Write to this new file [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Messages alone, to send them again
    #[arg(long)]
    messages: bool,
    /// With --messages: those that were buried too
    #[arg(long, requires = "messages")]
    buried: bool,
    /// Show recipients and bodies on a terminal
    #[arg(long)]
    reveal: bool,
}

/// One message, whole.
#[derive(Serialize)]
struct Line<'a> {
    state: State,
    lane: &'a str,
    /// RFC 3339, on the clock of the house.
    due: String,
    accepted_at: String,
    class: &'a str,
    attempts: u32,
    /// Lent before, and nobody said what came of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lapsed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    message: Box<RawValue>,
}

#[derive(Default, Serialize)]
struct Totals {
    exported: u64,
    held: u64,
    leased: u64,
    buried: u64,
    /// Left out, since they are buried.
    left_out: u64,
    unreadable: u64,
}

/// Where lines go.
enum Sink {
    Out,
    File(BufWriter<NamedTempFile>),
}

impl Sink {
    fn line(&mut self, line: &str) -> Result<(), Failure> {
        match self {
            Self::Out => out::say(line),
            Self::File(file) => Ok(writeln!(file, "{line}")?),
        }
    }
}

impl Export {
    pub(super) async fn run(self, common: &Common, config: &Config, opened: &Stores) -> Done {
        let mut sink = self.sink()?;
        let mut totals = Totals::default();
        let shelves = opened.hold.shelves(None, None).await?;
        let counted = shelves
            .iter()
            .map(|shelf| shelf.held + shelf.leased + shelf.buried);
        let template = "{bar:40} {pos}/{len} messages, {per_sec}, {eta} left";
        let bar = shown::bar(Some(counted.sum()), template)?;
        let mut from = Some(0);
        while let Some(at) = from {
            let page = opened.hold.export(at, PAGE_BYTES).await?;
            for found in &page.found {
                totals.count(found);
                match self.written(config, found)? {
                    Some(line) => sink.line(&line)?,
                    None => totals.left_out += 1,
                }
            }
            bar.inc(page.found.len() as u64);
            for lost in &page.lost {
                totals.unreadable += lost.messages;
                bar.suspend(|| complain(lost));
            }
            from = page.next;
        }
        bar.finish_and_clear();
        if let (Sink::File(file), Some(path)) = (sink, &self.out) {
            keep(file, path)?;
        }
        totals.exported = totals.held + totals.leased + totals.buried - totals.left_out;
        summary(&totals, common.json);
        Ok(if totals.unreadable > 0 {
            EXIT_PARTIAL
        } else {
            EXIT_OK
        })
    }

    fn sink(&self) -> Result<Sink, Failure> {
        let Some(path) = &self.out else {
            if io::stdout().is_terminal() && !self.reveal {
                return Err(Failure::usage(
                    "an export shows recipients and bodies: write it to a file with --out FILE, \
                     or add --reveal to see it here",
                ));
            }
            return Ok(Sink::Out);
        };
        if path.symlink_metadata().is_ok() {
            return Err(Failure::usage(format!(
                "{} is there already: name a new file",
                path.display()
            )));
        }
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        // Files of this kind are for their owner alone from the first byte on.
        Ok(Sink::File(BufWriter::new(NamedTempFile::new_in(folder)?)))
    }

    fn written(&self, config: &Config, found: &Found) -> Result<Option<String>, Failure> {
        let failed = |error| Failure::failed(format!("failed to write JSON: {error}"));
        let held = &found.held;
        let message = wire::to_wire(&held.message).map_err(failed)?;
        if self.messages {
            let wanted = found.state != State::Buried || self.buried;
            return Ok(wanted.then_some(message));
        }
        let zone = &config.house.zone;
        let line = Line {
            state: found.state,
            lane: held.lane.as_str(),
            due: shown::rfc3339(held.due, zone),
            accepted_at: shown::rfc3339(held.accepted_at, zone),
            class: held.class.as_str(),
            attempts: found.attempts,
            lapsed: found.lapsed,
            why: found.why.as_deref(),
            message: RawValue::from_string(message).map_err(failed)?,
        };
        serde_json::to_string(&line).map_err(failed).map(Some)
    }
}

impl Totals {
    fn count(&mut self, found: &Found) {
        match found.state {
            State::Leased => self.leased += 1,
            State::Buried => self.buried += 1,
            _ => self.held += 1,
        }
    }
}

/// Puts the file in its place, all of it on disk.
fn keep(file: BufWriter<NamedTempFile>, path: &Path) -> Result<(), Failure> {
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)
        .map_err(|error| Failure::failed(format!("failed to write {}: {error}", path.display())))?;
    Ok(())
}

fn complain(lost: &Lost) {
    let count = shown::messages(lost.messages);
    let mut text = format!("{}, byte {}: {count} cannot be read", lost.file, lost.at);
    if !lost.ids.is_empty() {
        let shown: Vec<&str> = lost
            .ids
            .iter()
            .take(IDS_SHOWN)
            .map(String::as_str)
            .collect();
        let more = lost.ids.len() - shown.len();
        text += &format!(": {}", shown.join(", "));
        if more > 0 {
            text += &format!(" and {more} more");
        }
    }
    out::complain(&text);
}

/// On standard error: standard output may be the export itself.
fn summary(totals: &Totals, json: bool) {
    if json {
        if let Ok(text) = serde_json::to_string(totals) {
            out::complain(&text);
        }
        return;
    }
    out::complain(&format!(
        "exported {}: {} held, {} leased, {} buried; {} buried left out, {} cannot be read",
        shown::messages(totals.exported),
        shown::grouped(totals.held),
        shown::grouped(totals.leased),
        shown::grouped(totals.buried),
        shown::grouped(totals.left_out),
        shown::grouped(totals.unreadable)
    ));
}

//! `nightgate consent`: consents in bulk and one at a time, with the history that proves them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use nightgate_core::{
    Basis, Consent, ConsentAnswer, ConsentSnapshot, Decision, Jurisdiction, Recipient,
    RecipientKey, Scope,
};
use serde::Serialize;

use super::explain::standing;
use super::{Common, Done, EXIT_OK, EXIT_PARTIAL, Failure, out, road, shown, stores};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::consent::import::{self, Format, Summary};
use crate::consent::memory::MemoryBook;
use crate::consent::{Act, ConsentBook, ConsentEvent};
use crate::decider::Decider;
use crate::ingest::wire;
use crate::receipt::export::ConsentLine;

/// What events of this command say about where they came from.
const FROM: &str = "cli";

/// Import, show and record consents.
#[derive(Debug, Args)]
pub struct ConsentCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Read consents from a file; a bad line costs only itself
    Import(Import),
    /// How a recipient's consents stand now, and everything that led there
    Show(Show),
    /// Record that a recipient agreed, or confirmed an agreement
    Grant(GrantCommand),
    /// Record that a recipient took an agreement back; general takes night with it
    Withdraw(Withdraw),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate consent import users.csv
  nightgate consent import - --format ndjson < consents.ndjson
  nightgate consent import users.csv --json | jq .faults
Fields: recipient, scope (general, night), at; act (grant, withdraw), basis (explicit,
transaction_exception), ends, source. Running it again is harmless. Exit code 3: some lines were
not taken.")]
struct Import {
    /// The file; `-` reads standard input
    file: PathBuf,
    /// How it is written [default: by its ending]
    #[arg(long)]
    format: Option<FileFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FileFormat {
    Ndjson,
    Csv,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate consent show 010-1234-5678
  nightgate consent show +821012345678 --json")]
struct Show {
    /// Phone number, e-mail address, push token or user id
    recipient: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate consent grant 010-1234-5678 --scope general
  nightgate consent grant 010-1234-5678 --scope night --at 2026-11-20T10:00:00+09:00
  nightgate consent grant 010-1234-5678 --scope general --basis transaction-exception \\
      --ends 2027-05-20T00:00:00+09:00")]
struct GrantCommand {
    /// Phone number, e-mail address, push token or user id
    recipient: String,
    /// Which agreement: general or night
    #[arg(long)]
    scope: Scope,
    /// When it happened [default: now]
    #[arg(long, value_name = "INSTANT", value_parser = shown::read_instant)]
    at: Option<Timestamp>,
    /// On what ground
    #[arg(long, default_value = "explicit")]
    basis: Ground,
    /// When a transaction exception ends: six months after the transaction
    #[arg(long, value_name = "INSTANT", value_parser = shown::read_instant)]
    ends: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ground {
    Explicit,
    #[value(alias = "transaction_exception")]
    TransactionException,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate consent withdraw 010-1234-5678 --scope general
  nightgate consent withdraw 010-1234-5678 --scope night --at 2026-11-22T02:00:00+09:00")]
struct Withdraw {
    /// Phone number, e-mail address, push token or user id
    recipient: String,
    /// Which agreement: general or night
    #[arg(long)]
    scope: Scope,
    /// When it happened [default: now]
    #[arg(long, value_name = "INSTANT", value_parser = shown::read_instant)]
    at: Option<Timestamp>,
}

impl ConsentCommand {
    pub(super) async fn run(self, common: &Common) -> Done {
        let config = common.load()?.config;
        let now = SystemClock::default().now();
        match self.what {
            What::Import(import) => return import.run(common, &config).await,
            What::Show(show) => show.run(common, &config, now).await?,
            What::Grant(grant) => {
                let (at, basis) = (grant.at.unwrap_or(now), grant.basis()?);
                let key = key(&grant.recipient, &config)?;
                record(common, &config, key, grant.scope, Act::Grant(basis), at).await?;
            }
            What::Withdraw(withdraw) => {
                let at = withdraw.at.unwrap_or(now);
                let key = key(&withdraw.recipient, &config)?;
                record(common, &config, key, withdraw.scope, Act::Withdraw, at).await?;
            }
        }
        Ok(EXIT_OK)
    }
}

fn key(recipient: &str, config: &Config) -> Result<RecipientKey, Failure> {
    let recipient = Recipient::new(recipient)
        .map_err(|rule| Failure::usage(format!("the recipient {rule}")))?;
    Ok(recipient.key(config.house.jurisdiction.as_str()))
}

impl Import {
    async fn run(self, common: &Common, config: &Config) -> Done {
        let format = self.format()?;
        let path = self.file.display();
        let stdin = self.file.as_os_str() == "-";
        let source = format!("import {}", if stdin { "stdin" } else { name(&self.file) });
        let cannot = |error| Failure::failed(format!("{path} cannot be read: {error}"));
        let (reader, bytes): (Box<dyn std::io::Read + Send>, _) = if stdin {
            (Box::new(std::io::stdin()), None)
        } else {
            let file = File::open(&self.file).map_err(cannot)?;
            let bytes = file.metadata().map_err(cannot)?.len();
            (Box::new(file), Some(bytes))
        };
        let bar = shown::bar(bytes, "{bar:40} {bytes}/{total_bytes}, {eta} left, {msg}")?;
        let reader = bar.wrap_read(reader);
        let home = config.house.jurisdiction;
        let rows = import::rows(reader, format, home.as_str(), &source);
        let book = stores::book(config).await?;
        let shown = bar.clone();
        let progress = move |summary: &Summary| {
            shown.set_message(format!("{} faulty", summary.faulty));
        };
        let summary = import::import(&*book, rows, progress).await;
        bar.finish_and_clear();
        let summary = summary?;
        report(common, &summary)?;
        Ok(if summary.faulty > 0 {
            EXIT_PARTIAL
        } else {
            EXIT_OK
        })
    }

    fn format(&self) -> Result<Format, Failure> {
        let ending = self.file.extension().and_then(|ending| ending.to_str());
        match (self.format, ending.map(str::to_ascii_lowercase).as_deref()) {
            (Some(FileFormat::Csv), _) | (None, Some("csv")) => Ok(Format::Csv),
            (Some(FileFormat::Ndjson), _) | (None, Some("ndjson" | "jsonl")) => Ok(Format::Ndjson),
            _ => Err(Failure::usage(
                "say how the file is written: --format ndjson or csv",
            )),
        }
    }
}

/// The file's own name: what stands in receipts must not tell whose home directory it was in.
fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("file")
}

fn report(common: &Common, summary: &Summary) -> Result<(), Failure> {
    if common.json {
        return out::say_json(summary);
    }
    let [lines, new, known, faulty] =
        [summary.lines, summary.new, summary.known, summary.faulty].map(shown::grouped);
    out::say(&format!(
        "{lines} lines: {new} new, {known} known already, {faulty} faulty"
    ))?;
    for fault in &summary.faults {
        out::complain(&fault.to_string());
    }
    let more = summary.faulty.saturating_sub(summary.faults.len() as u64);
    if more > 0 {
        out::complain(&format!("and {more} more faulty lines"));
    }
    Ok(())
}

impl GrantCommand {
    fn basis(&self) -> Result<Basis, Failure> {
        match (self.basis, self.ends) {
            (Ground::Explicit, None) => Ok(Basis::Explicit),
            (Ground::Explicit, Some(_)) => Err(Failure::usage(
                "--ends belongs to --basis transaction-exception only",
            )),
            (Ground::TransactionException, _) if self.scope == Scope::Night => {
                let rule = "night consent must be explicit (Network Act Art. 50(3))";
                Err(Failure::usage(rule))
            }
            (Ground::TransactionException, None) => {
                Err(Failure::usage("--basis transaction-exception needs --ends"))
            }
            (Ground::TransactionException, Some(ends)) => Ok(Basis::TransactionException { ends }),
        }
    }
}

async fn record(
    common: &Common,
    config: &Config,
    key: RecipientKey,
    scope: Scope,
    act: Act,
    at: Timestamp,
) -> Result<(), Failure> {
    if let Act::Grant(Basis::TransactionException { ends }) = act
        && ends <= at
    {
        return Err(Failure::usage("--ends must be later than --at"));
    }
    let shown_key = key.to_string();
    let event = ConsentEvent {
        key,
        scope,
        act,
        at,
        source: FROM.to_owned(),
    };
    let new = stores::book(config).await?.record(vec![event]).await?;
    if common.json {
        return out::say_json(&serde_json::json!({ "recorded": new }));
    }
    let did = match act {
        Act::Grant(_) => "granted",
        Act::Withdraw => "withdrawn",
    };
    let when = shown::instant(at, &config.house.zone);
    let known = if new == 0 { " (known already)" } else { "" };
    out::say(&format!(
        "{shown_key}: {scope} consent {did} at {when}{known}"
    ))
}

/// One event of a history in JSON.
#[derive(Serialize)]
struct EventLine {
    at: String,
    scope: Scope,
    #[serde(flatten)]
    act: Act,
    source: String,
}

impl Show {
    async fn run(self, common: &Common, config: &Config, now: Timestamp) -> Result<(), Failure> {
        let key = key(&self.recipient, config)?;
        let zone = &config.house.zone;
        let (consent, history) = match stores::book_if_there(config).await? {
            Some(book) => (look_up(&*book, &key).await?, book.history(&key).await?),
            None => Default::default(),
        };
        let (snapshot, law) = snapshot(config, &self.recipient, consent, now)?;
        if common.json {
            let line = |event: &ConsentEvent| EventLine {
                at: shown::rfc3339(event.at, zone),
                scope: event.scope,
                act: event.act,
                source: event.source.clone(),
            };
            let history: Vec<_> = history.iter().map(line).collect();
            let consent = ConsentLine::from(snapshot);
            let recipient = key.to_string();
            return out::say_json(&serde_json::json!({
                "recipient": recipient, "consent": consent, "history": history,
            }));
        }
        out::say(&format!("{key} under the law of {law}"))?;
        for scope in [Scope::General, Scope::Night] {
            let standing = standing(snapshot.of(scope), zone);
            out::say(&format!("  {:<9}{standing}", scope.as_str()))?;
        }
        out::say("")?;
        if history.is_empty() {
            return out::say("the consent book never heard of this recipient");
        }
        let mut table = shown::table(&["TIME", "SCOPE", "ACT", "BASIS", "ENDS", "SOURCE"]);
        for event in &history {
            let (act, basis, ends) = match event.act {
                Act::Grant(Basis::Explicit) => ("grant", "explicit", None),
                Act::Grant(Basis::TransactionException { ends }) => {
                    ("grant", "transaction exception", Some(ends))
                }
                Act::Withdraw => ("withdraw", "-", None),
            };
            let at = shown::instant(event.at, zone);
            let ends = shown::instant_or(ends, zone);
            table.add_row([&at, event.scope.as_str(), act, basis, &ends, &event.source]);
        }
        shown::say_table(&table)
    }
}

async fn look_up(book: &dyn ConsentBook, key: &RecipientKey) -> Result<Consent, Failure> {
    let known = book.look_up(std::slice::from_ref(key)).await?;
    Ok(known.into_iter().next().unwrap_or_default())
}

/// How both consents stand for a decision at `at`, under the law of the recipient's country.
fn snapshot(
    config: &Config,
    recipient: &str,
    consent: Consent,
    at: Timestamp,
) -> Result<(ConsentSnapshot, Jurisdiction), Failure> {
    let envelope = serde_json::json!({
        "id": "consent", "recipient": recipient, "channel": "sms", "purpose": "advertising",
    });
    let message = wire::read_envelope(envelope.to_string().as_bytes())
        .map_err(|_| Failure::usage("the recipient cannot stand in a message"))?;
    let rules = Arc::new(road::rules(config)?);
    let decider = Decider::new(rules, config.house.clone(), Arc::new(MemoryBook::default()));
    let decided = decider.decide_one(&message, &ConsentAnswer::Known(consent), at);
    let consent = match decided.decision {
        Decision::Send(permit) => permit.reason().consent,
        Decision::Hold { reason, .. } | Decision::Refuse { reason } => reason.consent,
    };
    Ok((consent, decided.place.jurisdiction))
}

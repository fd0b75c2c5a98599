//! `nightgate receipts`: the record of every decision and every outcome.

use std::io;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nightgate_core::{MessageId, Recipient};

use super::{Common, Done, EXIT_OK, Failure, out, shown, stores};
use crate::config::Config;
use crate::receipt::export::{self, PAGE_DEFAULT};
use crate::receipt::{Filed, PAGE_MAX, ReceiptAsk};

/// Receipts shown as a table unless more are asked for.
const SHOWN_DEFAULT: usize = 100;

/// Read receipts: the record of every decision and every outcome.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate receipts --message order-20261122-0001
  nightgate receipts --recipient 010-1234-5678 --from 2026-11-01T00:00:00+09:00
  nightgate receipts --campaign autumn-sale --json > proof.ndjson      all of them, in UTC
  nightgate receipts --json --from 2026-11-22T21:00:00+09:00 --to 2026-11-23T08:00:00+09:00

Oldest first. Times in the table are on the clock of the house. Recipients are masked without
--reveal.")]
pub struct Receipts {
    /// Of this message
    #[arg(long, value_name = "ID")]
    message: Option<String>,
    /// Of this recipient
    #[arg(long)]
    recipient: Option<String>,
    /// Of this campaign
    #[arg(long)]
    campaign: Option<String>,
    /// At or after this instant
    #[arg(long, value_name = "INSTANT", value_parser = shown::read_instant)]
    from: Option<Timestamp>,
    /// Before this instant
    #[arg(long, value_name = "INSTANT", value_parser = shown::read_instant)]
    to: Option<Timestamp>,
    /// Filed after this place, to go on where an earlier answer ended
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// Most receipts [default: 100 in a table, all in JSON]
    #[arg(long, value_name = "N")]
    max: Option<usize>,
    /// Show recipients in clear
    #[arg(long)]
    reveal: bool,
}

impl Receipts {
    pub(super) async fn run(self, common: &Common) -> Done {
        let config = common.load()?.config;
        let mut ask = self.ask(&config)?;
        let log = stores::filed(&config).await?;
        if common.json {
            ask.max = self.max.unwrap_or(0);
            match export::export(log, ask, self.reveal, PAGE_DEFAULT, &mut io::stdout()).await {
                Err(error) if piped_away(&error) => {}
                exported => _ = exported?,
            }
            return Ok(EXIT_OK);
        }
        let max = self.max.unwrap_or(SHOWN_DEFAULT).min(PAGE_MAX - 1);
        ask.max = max + 1;
        let mut filed = log.query(&ask).await?;
        let more = filed.len() > max;
        filed.truncate(max);
        say(&filed, &config.house.zone, self.reveal)?;
        if let (true, Some(last)) = (more, filed.last()) {
            out::say(&format!("there are more: add --after {}", last.seq))?;
        }
        Ok(EXIT_OK)
    }

    fn ask(&self, config: &Config) -> Result<ReceiptAsk, Failure> {
        let wrong = |what: &str, rule: String| Failure::usage(format!("the {what} {rule}"));
        let message = self.message.as_deref().map(MessageId::new).transpose();
        let recipient = self.recipient.as_deref().map(Recipient::new).transpose();
        let recipient = recipient.map_err(|rule| wrong("recipient", rule))?;
        let home = config.house.jurisdiction;
        Ok(ReceiptAsk {
            message: message.map_err(|rule| wrong("message", rule))?,
            recipient: recipient.map(|recipient| recipient.key(home.as_str())),
            campaign: self.campaign.as_deref().map(Into::into),
            from: self.from,
            to: self.to,
            after: self.after,
            max: 0,
        })
    }
}

/// Whether the reader of standard output went away (`| head`).
fn piped_away(error: &crate::error::Error) -> bool {
    let source = error
        .source
        .as_ref()
        .and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::BrokenPipe)
}

/// Shows receipts as a table.
pub(super) fn say(filed: &[Filed], zone: &TimeZone, reveal: bool) -> Result<(), Failure> {
    if filed.is_empty() {
        return out::say("no receipts");
    }
    let mut table = shown::table(&[
        "TIME",
        "EVENT",
        "MESSAGE",
        "RECIPIENT",
        "RULE",
        "UNTIL",
        "ATTEMPT",
        "COUNT",
        "DETAIL",
    ]);
    for Filed { receipt, .. } in filed {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let subject = &receipt.subject;
        let recipient = subject.recipient.as_ref();
        let recipient = recipient.map(|key| {
            if reveal {
                key.expose().to_owned()
            } else {
                key.to_string()
            }
        });
        let reason = receipt.reason.as_ref();
        let rule = reason.and_then(|reason| reason.rule.as_deref().map(str::to_owned));
        let about = subject.message.as_ref().map(ToString::to_string);
        let about = about.or_else(|| subject.campaign.as_deref().map(|name| format!("({name})")));
        let code = reason.and_then(|reason| serde_json::to_value(reason.code).ok());
        let code = code.and_then(|code| code.as_str().map(str::to_owned));
        table.add_row([
            shown::instant(receipt.at, zone),
            receipt.event.to_string(),
            or_dash(about),
            or_dash(recipient),
            or_dash(rule),
            shown::instant_or(receipt.until, zone),
            receipt.attempt.to_string(),
            shown::grouped(receipt.count),
            or_dash(receipt.detail.clone().or(code)),
        ]);
    }
    shown::say_table(&table)
}

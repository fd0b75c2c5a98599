//! `nightgate hold`: what is held and why; recall and kick; check, export, backup, restore. All but
//! a restore work beside a running gateway.

mod act;
mod backup;
mod export;
mod moving;
mod verify;
mod words;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use nightgate_core::MessageId;
use serde::Serialize;

use self::act::{Kick, Recall};
use self::backup::{Backup, Restore};
use self::export::Export;
use self::moving::Move;
use self::verify::Verify;
use super::stores::Stores;
use super::{Common, Done, EXIT_OK, Failure, out, receipts, shown, stores};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::hold::{Found, Lane, Shelf, State};
use crate::receipt::export::ReceiptLine;
use crate::receipt::{Filed, ReceiptAsk};

/// See what is held and why; take it back, bring it back, check it, keep a copy of it.
#[derive(Debug, Args)]
pub struct Hold {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Shelves: what is due at one opening on one lane, of one campaign
    Ls(Ls),
    /// One message: where it is, and its receipts
    Show(Show),
    /// Take back what has not left yet; it cannot be undone
    Recall(Recall),
    /// Bring buried messages back, due now
    Kick(Kick),
    /// Read every file of the hold from end to end, and say what is wrong
    Verify(Verify),
    /// Write every held message, whole, as JSON
    Export(Export),
    /// Copy the hold into a new folder, while a gateway uses it
    Backup(Backup),
    /// Move everything held to another store
    Move(Move),
    /// Bring a backup back, and keep what has left since from leaving again
    Restore(Restore),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate hold ls
  nightgate hold ls --lane kakao --max 20
  nightgate hold ls --buried                what a person must look at, and why
  nightgate hold ls --json | jq .totals")]
struct Ls {
    /// Of this lane only
    #[arg(long)]
    lane: Option<String>,
    /// Only what is buried, message by message
    #[arg(long)]
    buried: bool,
    /// Most lines shown; the totals count all
    #[arg(long, value_name = "N", default_value_t = 50)]
    max: usize,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate hold show order-20261122-0001
  nightgate hold show order-20261122-0001 --language en --json")]
struct Show {
    /// The message's id
    id: String,
    /// Show the recipient in clear
    #[arg(long)]
    reveal: bool,
}

impl Hold {
    pub(super) async fn run(self, common: &Common) -> Done {
        // These must not open what they look at.
        match self.what {
            What::Verify(verify) => return verify.run(common).await,
            What::Restore(restore) => return restore.run(common).await,
            What::Move(moving) => return moving.run(common).await,
            _ => {}
        }
        let config = common.load()?.config;
        let clock = SystemClock::default();
        let now = clock.now();
        let opened = stores::all(&config).await?;
        match self.what {
            What::Export(export) => return export.run(common, &config, &opened).await,
            What::Backup(backup) => return backup.run(common, &config, &opened, now).await,
            What::Verify(_) | What::Restore(_) | What::Move(_) => {}
            What::Ls(ls) => ls.run(common, &config, &opened).await?,
            What::Show(show) => show.run(common, &config, &opened).await?,
            What::Recall(recall) => recall.run(common, &config, &opened, clock.now()).await?,
            What::Kick(kick) => kick.run(common, &config, &opened, clock.now()).await?,
        }
        Ok(EXIT_OK)
    }
}

/// One shelf in JSON.
#[derive(Serialize)]
struct ShelfLine<'a> {
    lane: &'a str,
    /// On the clock of the house.
    due: String,
    campaign: Option<&'a str>,
    purpose: &'a str,
    priority: u8,
    class: &'a str,
    held: u64,
    leased: u64,
    buried: u64,
}

/// One message in JSON.
#[derive(Serialize)]
struct FoundLine {
    id: String,
    state: State,
    lane: String,
    campaign: Option<String>,
    purpose: String,
    channel: String,
    priority: u8,
    /// Masked unless revealed.
    recipient: String,
    due: String,
    accepted_at: String,
    attempts: u32,
    /// Lent before, and nobody said what came of it: its receipts are read before it goes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lapsed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Default, Serialize)]
struct Totals {
    shelves: u64,
    held: u64,
    leased: u64,
    buried: u64,
}

fn found_line(found: &Found, at: impl Fn(Timestamp) -> String, reveal: bool) -> FoundLine {
    let Found {
        held,
        state,
        attempts,
        lapsed,
        why,
    } = found;
    let message = &held.message;
    let recipient = if reveal {
        held.key.expose().to_owned()
    } else {
        held.key.to_string()
    };
    FoundLine {
        id: message.id.to_string(),
        state: *state,
        lane: held.lane.to_string(),
        campaign: message.campaign.as_deref().map(str::to_owned),
        purpose: message.purpose.to_string(),
        channel: message.channel.to_string(),
        priority: message.priority.get(),
        recipient,
        due: at(held.due),
        accepted_at: at(held.accepted_at),
        attempts: *attempts,
        lapsed: *lapsed,
        why: why.clone(),
    }
}

impl Ls {
    async fn run(self, common: &Common, config: &Config, opened: &Stores) -> Result<(), Failure> {
        let (zone, write) = (&config.house.zone, shown::written(common));
        let at = |at| write(at, zone);
        let lane = self.lane.as_deref().map(Lane::new);
        let mut shelves = opened.hold.shelves(lane.as_ref(), None).await?;
        if self.buried {
            shelves.retain(|shelf| shelf.buried > 0);
        }
        let mut totals = Totals::default();
        for shelf in &shelves {
            totals.shelves += 1;
            totals.held += shelf.held;
            totals.leased += shelf.leased;
            totals.buried += shelf.buried;
        }
        let buried = if self.buried {
            opened
                .hold
                .list(State::Buried, lane.as_ref(), self.max)
                .await?
        } else {
            Vec::new()
        };
        let buried: Vec<_> = buried
            .iter()
            .map(|found| found_line(found, at, false))
            .collect();
        let lines = shelves
            .iter()
            .take(self.max)
            .map(|shelf| shelf_line(shelf, at));
        let lines: Vec<_> = lines.collect();
        if common.json {
            let mut all = serde_json::json!({ "shelves": lines, "totals": totals });
            if self.buried {
                all["buried"] = serde_json::json!(buried);
            }
            return out::say_json(&all);
        }
        if self.buried {
            say_buried(&buried)?
        } else {
            say_shelves(&lines)?
        }
        say_totals(&totals, lines.len())
    }
}

fn shelf_line(shelf: &Shelf, at: impl Fn(Timestamp) -> String) -> ShelfLine<'_> {
    ShelfLine {
        lane: shelf.lane.as_str(),
        due: at(shelf.due),
        campaign: shelf.campaign.as_deref(),
        purpose: shelf.purpose.as_str(),
        priority: shelf.priority,
        class: shelf.class.as_str(),
        held: shelf.held,
        leased: shelf.leased,
        buried: shelf.buried,
    }
}

fn say_shelves(lines: &[ShelfLine<'_>]) -> Result<(), Failure> {
    if lines.is_empty() {
        return Ok(());
    }
    let header = [
        "LANE", "OPENS", "CAMPAIGN", "PURPOSE", "PRIORITY", "HELD", "LEASED", "BURIED",
    ];
    let mut table = shown::table(&header);
    for line in lines {
        table.add_row([
            line.lane,
            &line.due,
            line.campaign.unwrap_or("-"),
            line.purpose,
            &line.priority.to_string(),
            &shown::grouped(line.held),
            &shown::grouped(line.leased),
            &shown::grouped(line.buried),
        ]);
    }
    shown::say_table(&table)
}

fn say_buried(lines: &[FoundLine]) -> Result<(), Failure> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut table = shown::table(&["ID", "LANE", "CAMPAIGN", "PURPOSE", "ATTEMPTS", "WHY"]);
    for line in lines {
        let campaign = line.campaign.as_deref().unwrap_or("-");
        let attempts = line.attempts.to_string();
        let why = line.why.as_deref().unwrap_or("-");
        table.add_row([
            &line.id,
            &line.lane,
            campaign,
            &line.purpose,
            &attempts,
            why,
        ]);
    }
    shown::say_table(&table)
}

fn say_totals(totals: &Totals, shown: usize) -> Result<(), Failure> {
    let Totals {
        shelves,
        held,
        leased,
        buried,
    } = totals;
    if held + leased + buried == 0 {
        return out::say("nothing is held");
    }
    let [held, leased, buried] = [held, leased, buried].map(|count| shown::grouped(*count));
    let more = shelves.saturating_sub(shown as u64);
    let more = match more {
        0 => String::new(),
        more => format!("; {more} more shelves: see --max"),
    };
    out::say(&format!(
        "{held} held, {leased} leased, {buried} buried on {shelves} shelves{more}"
    ))
}

impl Show {
    async fn run(self, common: &Common, config: &Config, opened: &Stores) -> Result<(), Failure> {
        let (zone, write) = (&config.house.zone, shown::written(common));
        let id = message_id(&self.id)?;
        let found = opened
            .hold
            .find(std::slice::from_ref(&id))
            .await?
            .pop()
            .flatten();
        let ask = ReceiptAsk {
            message: Some(id),
            ..ReceiptAsk::default()
        };
        let filed = opened.receipts.query(&ask).await?;
        if found.is_none() && filed.is_empty() && !opened.hold.capability().find {
            let name = opened.hold.name();
            return Err(Failure::failed(format!(
                "the hold on {name} cannot be asked for one message, and no receipt names it"
            )));
        }
        if found.is_none() && filed.is_empty() {
            return Err(Failure::failed(format!(
                "no message is known by the id {}",
                self.id
            )));
        }
        let line = found.map(|found| found_line(&found, |at| write(at, zone), self.reveal));
        if common.json {
            let lines = filed
                .into_iter()
                .map(|filed| ReceiptLine::new(filed, self.reveal));
            let lines: Vec<_> = lines.collect();
            return out::say_json(&serde_json::json!({ "message": line, "receipts": lines }));
        }
        match line {
            Some(line) => say_found(&line)?,
            None => out::say(
                "not in the hold: refused at the gate, or ended longer ago than \
                 `hold.keep_ids`; its receipts:",
            )?,
        }
        out::say("")?;
        let last = filed.iter().rev();
        let sentence = |filed: &Filed| shown::sentence(&filed.receipt, common.language_of(config));
        let sentence = last.clone().find_map(sentence);
        receipts::say(&filed, zone, self.reveal)?;
        sentence.map_or(Ok(()), |sentence| out::say(&format!("\n{sentence}")))
    }
}

fn say_found(line: &FoundLine) -> Result<(), Failure> {
    let state = serde_json::to_value(line.state).ok();
    let state = state
        .as_ref()
        .and_then(|state| state.as_str())
        .unwrap_or("-");
    let priority = line.priority.to_string();
    let attempts = line.attempts.to_string();
    let fields = [
        ("id", line.id.as_str()),
        ("state", state),
        ("why", line.why.as_deref().unwrap_or("")),
        ("due", &line.due),
        ("accepted", &line.accepted_at),
        ("lane", &line.lane),
        ("campaign", line.campaign.as_deref().unwrap_or("")),
        ("purpose", &line.purpose),
        ("channel", &line.channel),
        ("priority", &priority),
        ("recipient", &line.recipient),
        ("attempts", &attempts),
    ];
    let there = fields.iter().filter(|(_, value)| !value.is_empty());
    there
        .into_iter()
        .try_for_each(|(name, value)| out::say(&format!("{name:<10}{value}")))
}

fn message_id(text: &str) -> Result<MessageId, Failure> {
    MessageId::new(text).map_err(|rule| Failure::usage(format!("the id {text:?} {rule}")))
}

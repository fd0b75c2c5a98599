//! `nightgate hold backup` and `nightgate hold restore`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::MessageId;
use serde_json::json;

use super::{verify, words};
use crate::cli::stores::Stores;
use crate::cli::{Common, Done, EXIT_FAILED, EXIT_OK, Failure, out, shown};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, HoldKind};
use crate::hold::care::Report;
use crate::hold::shelf::{BackupNote, Options, Restoring};
use crate::hold::{End, Scope};
use crate::receipt::sqlite::SqliteLog;
use crate::receipt::{Event, Receipt, ReceiptAsk, ReceiptLog};

/// The file of receipts, as `Stores::open` names it.
const RECEIPTS: &str = "receipts.db";
/// How far before the backup ends are looked for: an outcome is on file before the hold knows it.
const ENDS_MARGIN: SignedDuration = SignedDuration::from_hours(1);
/// The same for recalls, which may have been under way when the backup was begun. Not more: what
/// was taken in behind a recall was not meant by it.
const RECALLS_MARGIN: SignedDuration = SignedDuration::from_secs(5);
/// Receipts read at once.
const PAGE: usize = 5_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate hold backup --to /backup/hold-monday
  nightgate hold restore --from /backup/hold-monday
Works beside a running gateway: everything it answered before is in the backup. The folder is there
whole or not at all, with mode 0700; it holds recipients in clear. Back up receipts.db too: without
it a restore cannot tell what has left since.")]
pub(super) struct Backup {
    /// A new folder, on a disk of this machine
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

impl Backup {
    pub(super) async fn run(
        self,
        common: &Common,
        config: &Config,
        opened: &Stores,
        now: Timestamp,
    ) -> Done {
        // A gateway does the work, and has another working directory.
        let to = std::path::absolute(self.to)?;
        let copied = opened.hold.backup(&to, now).await?;
        let report = match config.hold.store {
            HoldKind::Shelf => verify::check(&to).await?,
            _ => Report::default(),
        };
        if common.json {
            let (sound, path) = (report.is_sound(), to.display().to_string());
            out::say_json(&json!({
                "to": path, "taken_at": now, "files": copied.files, "bytes": copied.bytes,
                "unread": copied.unread, "sound": sound, "faults": report.faults,
            }))?;
        } else {
            let (files, bytes) = (copied.files, shown::grouped(copied.bytes));
            let files = shown::counted(files, "file");
            out::say(&format!("{}: {files}, {bytes} bytes written", to.display()))?;
            if !report.is_sound() {
                verify::say(&report, false, common.language_of(config))?;
            }
        }
        if copied.unread > 0 {
            let bytes = shown::grouped(copied.unread);
            out::complain(&format!("{bytes} bytes of the hold could not be read"));
        }
        Ok(match report.is_sound() && copied.unread == 0 {
            true => EXIT_OK,
            false => EXIT_FAILED,
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate hold restore --from /backup/hold-monday
  nightgate hold restore --from /backup/hold-monday --replace
  nightgate hold restore --from /backup/hold-monday --put-aside    receipts.db is lost or old too
Stop the gateway first. What has left since the backup must not leave again: receipts.db tells.
Messages with an outcome since then end, recalls since then are done again, and the receipts of
every other message are asked once more before it goes. Without current receipts nobody can know:
--put-aside buries all that is held, for a person to look at and kick.")]
pub(super) struct Restore {
    /// Folder that `nightgate hold backup` made
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Move the hold that is there aside, to shelf-before-...
    #[arg(long)]
    replace: bool,
    /// Bury everything held: receipts are lost, or as old as the backup
    #[arg(long)]
    put_aside: bool,
    /// Restore a backup with faults all the same
    #[arg(long)]
    damaged: bool,
    /// When it was taken, if the folder does not say so (RFC 3339)
    #[arg(long, value_name = "INSTANT", value_parser = shown::read_instant)]
    taken_at: Option<Timestamp>,
}

/// What a restore did.
#[derive(Debug, Default, serde::Serialize)]
struct Told {
    ended: u64,
    recalled: u64,
    buried: u64,
    held: u64,
    receipts_since: u64,
    last_receipt: Option<Timestamp>,
}

/// What receipts tell of the time since the backup.
#[derive(Default)]
struct Since {
    ends: Vec<(MessageId, End)>,
    recalls: Vec<Scope>,
}

impl Restore {
    pub(super) async fn run(self, common: &Common) -> Done {
        let config = common.load()?.config;
        if config.hold.store != HoldKind::Shelf {
            return Err(Failure::usage(
                "only the store `shelf` is restored so; see OPERATIONS.md, Backup and restore",
            ));
        }
        let now = SystemClock::default().now();
        let from = std::path::absolute(&self.from)?;
        let taken_at = self.taken_at(&from)?;
        let receipts = self.receipts(&config)?;
        let report = verify::check(&from).await?;
        if !report.is_sound() && !self.damaged {
            verify::say(&report, common.json, common.language_of(&config))?;
            out::complain(
                "the backup is damaged: restore another, or add --damaged to take what can be read",
            );
            return Ok(EXIT_FAILED);
        }
        let options = Options {
            horizon: config.hold.keep_ids,
            ..Options::default()
        };
        let restoring = Restoring::begin(&from, &config.data.dir, options, self.replace).await?;
        let mut told = Told::default();
        if let Some(receipts) = receipts {
            catch_up(&restoring, &*receipts, taken_at, now, &mut told).await?;
        }
        if self.put_aside {
            let why = format!("restored from a backup of {taken_at}: it may have left since");
            told.buried = restoring.bury_all(&why, now).await?;
        } else {
            told.held = restoring.doubt(now).await?;
        }
        let aside = restoring.finish(now).await?;
        say(&told, aside.as_deref(), common.json)?;
        if told.receipts_since == 0 && !self.put_aside {
            out::complain(words::NO_RECEIPTS_SINCE);
        }
        Ok(EXIT_OK)
    }

    fn taken_at(&self, from: &Path) -> Result<Timestamp, Failure> {
        let note = BackupNote::of(from)?.map(|note| note.taken_at);
        self.taken_at.or(note).ok_or_else(|| {
            Failure::usage(format!(
                "{} does not say when it was taken: give an instant before the copy was begun \
                 with --taken-at",
                from.display()
            ))
        })
    }

    fn receipts(&self, config: &Config) -> Result<Option<Arc<dyn ReceiptLog>>, Failure> {
        let path = config.data.dir.join(RECEIPTS);
        if path.exists() {
            return Ok(Some(Arc::new(SqliteLog::open(&path)?)));
        }
        if self.put_aside {
            return Ok(None);
        }
        Err(Failure::failed(format!(
            "there is no {}, so nobody knows what has left since the backup: bring it back, or add \
             --put-aside to bury everything until a person has looked",
            path.display()
        )))
    }
}

/// Tells the restored hold what became of its messages since.
async fn catch_up(
    restoring: &Restoring,
    receipts: &dyn ReceiptLog,
    taken_at: Timestamp,
    now: Timestamp,
    told: &mut Told,
) -> Result<(), Failure> {
    let back = |margin| taken_at.checked_sub(margin).unwrap_or(Timestamp::MIN);
    let (ends_from, recalls_from) = (back(ENDS_MARGIN), back(RECALLS_MARGIN));
    let mut ask = ReceiptAsk {
        from: Some(ends_from),
        max: PAGE,
        ..ReceiptAsk::default()
    };
    loop {
        let page = receipts.query(&ask).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        ask.after = Some(last.seq);
        let mut since = Since::default();
        for filed in &page {
            let receipt = &filed.receipt;
            told.receipts_since += u64::from(receipt.at >= taken_at);
            told.last_receipt = told.last_receipt.max(Some(receipt.at));
            since.take(receipt, receipt.at >= recalls_from);
        }
        told.ended += restoring.end_known(since.ends, now).await?;
        for scope in since.recalls {
            let recalled = restoring.hold().recall(&scope, now).await?;
            told.recalled += recalled.recalled + recalled.in_flight;
        }
    }
}

impl Since {
    fn take(&mut self, receipt: &Receipt, recalls_count: bool) {
        let subject = &receipt.subject;
        // What was refused at the gate was never held; another message may have its id.
        let was_held = receipt.attempt > 0;
        let end = match receipt.event {
            Event::Delivered => End::Delivered,
            Event::Rejected => End::Rejected,
            Event::Refused if was_held => End::Refused,
            Event::Expired if was_held => End::Expired,
            Event::Recalled if recalls_count => {
                self.recalls.extend(scope_of(receipt));
                return;
            }
            _ => return,
        };
        self.ends
            .extend(subject.message.clone().map(|id| (id, end)));
    }
}

/// What a recall was of: the narrowest thing its receipt names.
fn scope_of(receipt: &Receipt) -> Option<Scope> {
    let subject = receipt.subject.clone();
    let id = subject.message.map(Scope::Id);
    let campaign = subject.campaign.map(Scope::Campaign);
    let recipient = subject.recipient.map(Scope::Recipient);
    let lane = subject.lane.map(Scope::Lane);
    id.or(campaign).or(recipient).or(lane)
}

fn say(told: &Told, aside: Option<&Path>, json: bool) -> Result<(), Failure> {
    let aside = aside.map(|path| path.display().to_string());
    if json {
        let mut all = serde_json::to_value(told).unwrap_or_default();
        all["moved_aside"] = json!(aside);
        return out::say_json(&all);
    }
    out::say(&format!(
        "restored: {} held, {} buried now; {} had ended since, {} recalled again",
        shown::grouped(told.held),
        shown::grouped(told.buried),
        shown::grouped(told.ended),
        shown::grouped(told.recalled)
    ))?;
    if let Some(last) = told.last_receipt {
        out::say(&format!(
            "receipts are known up to {last}; what was handed over later would go again"
        ))?;
    }
    match aside {
        Some(path) => out::say(&format!("the hold that was here is {path} now")),
        None => Ok(()),
    }
}

//! `nightgate hold recall` and `nightgate hold kick`.

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;
use jiff::Timestamp;
use nightgate_core::Recipient;

use super::message_id;
use crate::cli::stores::Stores;
use crate::cli::{Common, Failure, out, shown};
use crate::config::Config;
use crate::hold::{Lane, Recalled, Scope};
use crate::recall::Recaller;

/// What receipts of this command say about where they came from.
const FROM: &str = "cli";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate hold recall --campaign autumn-sale
  nightgate hold recall --id m-1 --id m-2 --yes
  nightgate hold recall --recipient 010-1234-5678 --yes --json")]
pub(super) struct Recall {
    #[command(flatten)]
    whom: Whom,
    /// Do not ask; needed where nobody can answer
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// A message by its id; may be given many times
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// A whole campaign
    #[arg(long)]
    campaign: Option<String>,
    /// Everything for one recipient
    #[arg(long)]
    recipient: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate hold kick --id m-1
  nightgate hold kick --lane sms            after the provider is well again")]
pub(super) struct Kick {
    #[command(flatten)]
    what: KickScope,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct KickScope {
    /// A message by its id; may be given many times
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// A whole campaign
    #[arg(long)]
    campaign: Option<String>,
    /// Everything for one recipient
    #[arg(long)]
    recipient: Option<String>,
    /// Everything on one lane
    #[arg(long)]
    lane: Option<String>,
}

/// A scope and its words for people.
struct Aim {
    scope: Scope,
    words: String,
}

fn aims(
    config: &Config,
    ids: &[String],
    campaign: Option<&str>,
    recipient: Option<&str>,
    lane: Option<&str>,
) -> Result<Vec<Aim>, Failure> {
    let mut aims = Vec::new();
    let mut aim = |scope, words| aims.push(Aim { scope, words });
    for text in ids {
        aim(Scope::Id(message_id(text)?), format!("message {text}"));
    }
    if let Some(text) = campaign {
        aim(Scope::Campaign(text.into()), format!("campaign {text}"));
    }
    if let Some(text) = recipient {
        let recipient =
            Recipient::new(text).map_err(|rule| Failure::usage(format!("the recipient {rule}")))?;
        let key = recipient.key(config.house.jurisdiction.as_str());
        let words = format!("recipient {key}");
        aim(Scope::Recipient(key), words);
    }
    if let Some(text) = lane {
        aim(Scope::Lane(Lane::new(text)), format!("lane {text}"));
    }
    Ok(aims)
}

fn recaller(opened: &Stores) -> Recaller<'_> {
    Recaller {
        hold: &*opened.hold,
        receipts: &*opened.receipts,
        from: Some(FROM),
    }
}

impl Recall {
    pub(super) async fn run(
        self,
        common: &Common,
        config: &Config,
        opened: &Stores,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Whom {
            id,
            campaign,
            recipient,
        } = &self.whom;
        let aims = aims(config, id, campaign.as_deref(), recipient.as_deref(), None)?;
        if !self.yes {
            let words: Vec<_> = aims.iter().map(|aim| aim.words.as_str()).collect();
            confirm(&words.join(", "))?;
        }
        let (mut total, mut noted) = (Recalled::default(), false);
        for aim in aims {
            let acted = recaller(opened).take_back(&aim.scope, now).await?;
            total.recalled += acted.count;
            total.in_flight += acted.in_flight;
            noted |= acted.noted;
        }
        if common.json {
            let Recalled {
                recalled,
                in_flight,
            } = total;
            return out::say_json(&serde_json::json!({
                "recalled": recalled, "in_flight": in_flight, "noted": noted,
            }));
        }
        if noted {
            return out::say(
                "noted: this hold cannot count, and takes messages back as it meets them",
            );
        }
        out::say(&format!("recalled {}", shown::messages(total.recalled)))?;
        match total.in_flight {
            0 => Ok(()),
            count => out::say(&format!(
                "{} in flight: recalled if they come back, gone if they were handed over",
                shown::messages(count)
            )),
        }
    }
}

/// Asks a person, if there is one.
fn confirm(what: &str) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() || !out::watched() {
        return Err(Failure::usage(
            "a recall cannot be undone, and nobody is here to ask: add --yes",
        ));
    }
    let mut stderr = std::io::stderr().lock();
    write!(
        stderr,
        "Take back everything that has not left of {what}? [y/N] "
    )?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was recalled")),
    }
}

impl Kick {
    pub(super) async fn run(
        self,
        common: &Common,
        config: &Config,
        opened: &Stores,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let KickScope {
            id,
            campaign,
            recipient,
            lane,
        } = &self.what;
        let (campaign, recipient) = (campaign.as_deref(), recipient.as_deref());
        let mut kicked = 0;
        for aim in aims(config, id, campaign, recipient, lane.as_deref())? {
            kicked += recaller(opened).bring_back(&aim.scope, now).await?.count;
        }
        if common.json {
            return out::say_json(&serde_json::json!({ "kicked": kicked }));
        }
        out::say(&format!("kicked {}, due now", shown::messages(kicked)))
    }
}

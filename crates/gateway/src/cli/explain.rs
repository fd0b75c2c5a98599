//! `nightgate explain`: a dry run without a server. Nothing is stored and nothing is sent.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nightgate_core::ruleset::{Applicable, RuleView};
use nightgate_core::{
    Answer, Basis, Consent, ConsentAnswer, Decision, Fact, FieldFault, Grant, Language, Message,
    Purpose, Reason, Scope, Standing, explain,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Common, Done, EXIT_OK, Failure, out, road, shown, stores};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::consent::memory::MemoryBook;
use crate::decider::{Decided, Decider};
use crate::ingest::wire;

/// Largest message read, in bytes: the largest body in base64 and its envelope.
const MESSAGE_MAX_BYTES: u64 = 1024 * 1024;

/// Ask what would become of a message now, or at any other time; nothing is stored.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate explain --recipient 010-1234-5678 --channel sms --purpose advertising
  nightgate explain --recipient +33612345678 --channel push --purpose informational \\
      --at 2026-11-22T23:30:00+09:00
  nightgate explain --recipient 010-1234-5678 --channel friendtalk --purpose advertising \\
      --general granted --night granted --at 2026-11-22T21:30:00+09:00
  nightgate explain message.json --json
  head -1 messages.ndjson | nightgate explain -

Consent is looked up in the consent book of `data.dir`, if there is one; --general and --night
stand in for it. The exit code is 0 whatever the answer is.")]
pub struct Explain {
    /// One message in JSON, as it is posted; `-` reads standard input
    #[arg(value_name = "FILE", conflicts_with_all = ["recipient", "channel", "purpose", "zone",
        "jurisdiction", "send_at", "expires_at"])]
    file: Option<PathBuf>,
    /// Phone number, e-mail address, push token or user id
    #[arg(long, required_unless_present = "file")]
    recipient: Option<String>,
    /// sms, lms, mms, rcs, alimtalk, friendtalk, brandmessage, push, email, voice or fax
    #[arg(long, required_unless_present = "file")]
    channel: Option<String>,
    /// advertising or informational
    #[arg(long, required_unless_present = "file")]
    purpose: Option<String>,
    /// The recipient's IANA zone, if it is known
    #[arg(long)]
    zone: Option<String>,
    /// The country whose law applies, if it is known: KR
    #[arg(long)]
    jurisdiction: Option<String>,
    /// Not before this instant
    #[arg(long, value_name = "INSTANT")]
    send_at: Option<String>,
    /// Worthless from this instant on
    #[arg(long, value_name = "INSTANT")]
    expires_at: Option<String>,
    /// Decide at this instant instead of now: 2026-11-22T21:00:00+09:00
    #[arg(long, value_name = "INSTANT", value_parser = shown::read_instant)]
    at: Option<Timestamp>,
    /// As if general consent stood so
    #[arg(long, value_name = "STANDING")]
    general: Option<Stand>,
    /// As if night consent stood so
    #[arg(long, value_name = "STANDING")]
    night: Option<Stand>,
}

/// How a consent is taken to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stand {
    /// Never given
    None,
    /// Given at the instant of the decision
    Granted,
    /// Given once, and taken back
    Withdrawn,
}

impl Stand {
    fn fact(self, at: Timestamp) -> Option<Fact> {
        let basis = Basis::Explicit;
        match self {
            Self::None => None,
            Self::Granted => Some(Fact {
                granted: Some(Grant { at, basis }),
                withdrawn_at: None,
            }),
            Self::Withdrawn => Some(Fact {
                granted: None,
                withdrawn_at: Some(at),
            }),
        }
    }
}

/// What is known about a decision. In JSON its fields are never renamed.
#[derive(Serialize)]
struct Explained<'a> {
    /// `send`, `hold` or `refuse`.
    decision: &'static str,
    /// When it was asked, on the recipient's clock.
    at: String,
    /// Hold: when it is asked again, on the recipient's clock.
    until: Option<String>,
    /// Send: the first instant at which it may no longer leave.
    not_after: Option<String>,
    /// Masked.
    recipient: String,
    lane: Option<&'a str>,
    jurisdiction: String,
    reason: &'a Reason,
    consent_from: &'static str,
    citation: Option<&'a str>,
    explanation: Explanation,
    /// Every rule that speaks about the message.
    rules: Vec<Applicable<'a>>,
    #[serde(skip)]
    clock: TimeZone,
}

#[derive(Serialize)]
struct Explanation {
    #[serde(skip_serializing_if = "Option::is_none")]
    ko: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    en: Option<String>,
}

impl Explain {
    pub(super) async fn run(self, common: &Common) -> Done {
        let config = common.load()?.config;
        let message = self.message()?;
        let lane = config
            .lane_of(message.purpose, message.channel)
            .map(str::to_owned);
        check(&message, lane.as_deref())?;
        let now = self.at.unwrap_or_else(|| SystemClock::default().now());
        let rules = Arc::new(road::rules(&config)?);
        let book = Arc::new(MemoryBook::default());
        let decider = Decider::new(rules, config.house.clone(), book);
        let (consent, from) = self.consent(&config, &decider, &message, now).await?;
        let decided = decider.decide_one(&message, &ConsentAnswer::Known(consent), now);
        let reason = match &decided.decision {
            Decision::Send(permit) => permit.reason(),
            Decision::Hold { reason, .. } | Decision::Refuse { reason } => reason,
        };
        let mut explained = explained(&decider, &message, &decided, reason, now, common.tongue());
        explained.lane = lane.as_deref();
        explained.consent_from = from;
        if common.json {
            out::say_json(&explained)?;
        } else {
            say(&explained)?;
        }
        Ok(EXIT_OK)
    }

    fn message(&self) -> Result<Message, Failure> {
        let json = match &self.file {
            Some(path) => read(path)?,
            None => self.envelope(),
        };
        wire::read_envelope(&json).map_err(|faulty| faults(&faulty.faults))
    }

    /// The flags as a message is written in JSON, so that they are read by the same rules.
    fn envelope(&self) -> Vec<u8> {
        let fields = [
            ("recipient", &self.recipient),
            ("channel", &self.channel),
            ("purpose", &self.purpose),
            ("zone", &self.zone),
            ("jurisdiction", &self.jurisdiction),
            ("send_at", &self.send_at),
            ("expires_at", &self.expires_at),
        ];
        let mut object = Map::new();
        object.insert("id".to_owned(), Value::from("explain"));
        for (name, value) in fields {
            if let Some(value) = value {
                object.insert(name.to_owned(), Value::from(value.as_str()));
            }
        }
        Value::Object(object).to_string().into_bytes()
    }

    /// The recipient's consents, and where they are from.
    async fn consent(
        &self,
        config: &Config,
        decider: &Decider,
        message: &Message,
        at: Timestamp,
    ) -> Result<(Consent, &'static str), Failure> {
        if message.purpose == Purpose::Informational {
            return Ok((
                Consent::default(),
                "not asked: no rule asks it for information",
            ));
        }
        let mut consent = Consent::default();
        let flagged = [self.general, self.night].iter().flatten().count();
        let mut from = "the flags";
        if flagged < 2 {
            let book = stores::book_if_there(config).await?;
            from = match (&book, flagged) {
                (Some(_), 0) => "the consent book",
                (Some(_), _) => "the flags, and the consent book for the other",
                (None, 0) => "nowhere: there is no consent book in `data.dir`",
                (None, _) => "the flags; for the other there is no consent book",
            };
            if let Some(book) = book {
                let known = book.look_up(&[decider.key(message)]).await?;
                consent = known.into_iter().next().unwrap_or_default();
            }
        }
        if let Some(stand) = self.general {
            consent.general = stand.fact(at);
        }
        if let Some(stand) = self.night {
            consent.night = stand.fact(at);
        }
        Ok((consent, from))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut json = Vec::new();
    let taken = if path.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .take(MESSAGE_MAX_BYTES + 1)
            .read_to_end(&mut json)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(MESSAGE_MAX_BYTES + 1).read_to_end(&mut json))
    };
    let shown = path.display();
    taken.map_err(|error| Failure::failed(format!("{shown} cannot be read: {error}")))?;
    if json.len() as u64 > MESSAGE_MAX_BYTES {
        return Err(Failure::usage(format!(
            "{shown} must be at most {MESSAGE_MAX_BYTES} bytes"
        )));
    }
    Ok(json)
}

/// What the gate would turn the message down for.
fn check(message: &Message, lane: Option<&str>) -> Result<(), Failure> {
    let mut found = message.faults();
    if lane.is_none() {
        let rule = format!(
            "{} has no lane for {} messages",
            message.channel, message.purpose
        );
        found.push(FieldFault::new("channel", rule));
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(faults(&found))
    }
}

fn faults(faults: &[FieldFault]) -> Failure {
    let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
    Failure::usage(format!("the message is invalid:\n{}", lines.join("\n")))
}

fn explained<'a>(
    decider: &'a Decider,
    message: &Message,
    decided: &'a Decided,
    reason: &'a Reason,
    at: Timestamp,
    only: Option<Language>,
) -> Explained<'a> {
    let clock = decided
        .place
        .zones
        .all
        .first()
        .unwrap_or(&decider.house().zone)
        .clone();
    let here = |at| shown::rfc3339(at, &clock);
    let answer = Answer::from(&decided.decision);
    let (decision, until, not_after) = match answer {
        Answer::Send { not_after } => ("send", None, Some(here(not_after))),
        Answer::Hold { until } => ("hold", Some(here(until)), None),
        Answer::Refuse => ("refuse", None, None),
    };
    let sentence = |language| {
        let wanted = only.is_none_or(|only| only == language);
        wanted.then(|| explain(answer, reason, language))
    };
    let named = |rule: &RuleView<'_>| reason.rule.as_deref() == Some(rule.id);
    Explained {
        decision,
        at: here(at),
        until,
        not_after,
        recipient: decider.key(message).to_string(),
        lane: None,
        jurisdiction: decided.place.jurisdiction.to_string(),
        reason,
        consent_from: "",
        citation: decider
            .rules()
            .rules()
            .find(named)
            .map(|rule| rule.citation),
        explanation: Explanation {
            ko: sentence(Language::Korean),
            en: sentence(Language::English),
        },
        rules: decider.rules().applicable(message, &decided.place, at),
        clock,
    }
}

fn say(explained: &Explained<'_>) -> Result<(), Failure> {
    let reason = explained.reason;
    let clock = &explained.clock;
    let when = match (&explained.until, &explained.not_after) {
        (Some(until), _) => format!(" until {until}"),
        (_, Some(not_after)) => format!(", but not after {not_after}"),
        _ => String::new(),
    };
    out::say(&format!("{}{when}", explained.decision.to_uppercase()))?;
    for sentence in [&explained.explanation.ko, &explained.explanation.en]
        .into_iter()
        .flatten()
    {
        out::say(&format!("  {sentence}"))?;
    }
    out::say("")?;
    let line = |name: &str, text: &str| out::say(&format!("{name:<10}{text}"));
    line("asked at", &explained.at)?;
    line("recipient", &explained.recipient)?;
    line("law of", &explained.jurisdiction)?;
    line("zone", &reason.zone)?;
    line("lane", explained.lane.unwrap_or("-"))?;
    line("rule", reason.rule.as_deref().unwrap_or("-"))?;
    if let Some(citation) = explained.citation {
        line("stands on", citation)?;
    }
    if let Some(opens) = reason.opens {
        line("opens", &shown::instant(opens, clock))?;
    }
    if let Some(closes) = reason.closes {
        line("closes", &shown::instant(closes, clock))?;
    }
    for scope in [Scope::General, Scope::Night] {
        let standing = reason.consent.of(scope);
        line(
            "consent",
            &format!("{scope} {}", self::standing(standing, clock)),
        )?;
    }
    line("", &format!("from {}", explained.consent_from))?;
    let mut table = shown::table(&["RULE", "HOURS", "CLOCK", "NOW", "UNTIL"]);
    for Applicable { rule, zone, window } in &explained.rules {
        let (state, until) = match window {
            Some(window) if window.open => ("open", shown::instant_or(window.until, clock)),
            Some(window) => ("quiet", shown::instant_or(window.until, clock)),
            None => ("-", "-".to_owned()),
        };
        let asks = rule.needs.map(|scope| format!("needs {scope} consent"));
        let hours = rule.hours.clone().or(asks).unwrap_or_default();
        table.add_row([rule.id, &hours, zone, state, &until]);
    }
    out::say("")?;
    shown::say_table(&table)
}

/// How a consent stands, in words.
pub(super) fn standing(standing: Standing, clock: &TimeZone) -> String {
    let at = |at| shown::instant(at, clock);
    match standing {
        Standing::None => "never given".to_owned(),
        Standing::Unknown => "unknown".to_owned(),
        Standing::Withdrawn { at: then } => format!("withdrawn at {}", at(then)),
        Standing::Lapsed { at: then } => format!("lapsed at {}", at(then)),
        Standing::Valid {
            since,
            until,
            basis,
        } => {
            let basis = match basis {
                Basis::Explicit => "",
                Basis::TransactionException { .. } => ", by a transaction",
            };
            let until = until.map_or_else(String::new, |until| format!(", until {}", at(until)));
            format!("valid since {}{until}{basis}", at(since))
        }
    }
}

//! `nightgate rules`: check packs before they are put to use, and show what is in force.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nightgate_core::ruleset::{PackSource, RuleView};
use nightgate_core::{Channel, Jurisdiction, Ruleset};
use serde::Serialize;

use super::{Common, Done, EXIT_OK, EXIT_USAGE, Failure, out, road, shown};

/// What every list of rules ends in.
const NO_ADVICE: &str = "This is how Nightgate reads these texts; it is not legal advice.";

/// Check rule packs and show the rules in force.
#[derive(Debug, Args)]
pub struct Rules {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Tell every fault of rule packs, with file and line
    Check(Check),
    /// The rules in force: hours, clock, what lifts them, and the text they stand on
    Show(Show),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate rules check                     the packs that are configured
  nightgate rules check house.toml fr.toml  these files together, without the configured ones
Exit code 2: there are faults.")]
struct Check {
    /// Pack files [default: what `rules.builtin` and `rules.packs` name]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate rules show
  nightgate rules show --jurisdiction KR --json")]
struct Show {
    /// Only rules of this country, and those that hold everywhere
    #[arg(long, value_name = "COUNTRY")]
    jurisdiction: Option<String>,
}

impl Rules {
    pub(super) fn run(self, common: &Common) -> Done {
        match self.what {
            What::Check(check) => check.run(common),
            What::Show(show) => show.run(common),
        }
    }
}

#[derive(Serialize)]
struct FaultLine {
    file: String,
    line: usize,
    message: String,
}

impl Check {
    fn run(self, common: &Common) -> Done {
        let sources = if self.files.is_empty() {
            road::packs(&common.load()?.config)?
        } else {
            self.files
                .iter()
                .map(road::pack)
                .collect::<Result<Vec<PackSource>, _>>()?
        };
        let rules = match Ruleset::load(&sources) {
            Ok(rules) => rules,
            Err(faults) if common.json => {
                let line = |fault: nightgate_core::PackFault| FaultLine {
                    file: fault.file,
                    line: fault.line,
                    message: fault.message,
                };
                let faults: Vec<_> = faults.into_iter().map(line).collect();
                out::say_json(&serde_json::json!({ "ok": false, "faults": faults }))?;
                return Ok(EXIT_USAGE);
            }
            Err(faults) => return Err(road::pack_faults(&faults)),
        };
        let (packs, count) = (rules.packs().count(), rules.rules().count());
        let version = rules.version();
        if common.json {
            out::say_json(&serde_json::json!({
                "ok": true, "packs": packs, "rules": count, "version": version, "faults": [],
            }))?;
        } else {
            let packs = shown::counted(packs as u64, "pack");
            let count = shown::counted(count as u64, "rule");
            out::say(&format!("no faults: {packs}, {count}, version {version}"))?;
        }
        Ok(EXIT_OK)
    }
}

impl Show {
    fn run(self, common: &Common) -> Done {
        let rules = road::rules(&common.load()?.config)?;
        let only = self
            .jurisdiction
            .as_deref()
            .map(Jurisdiction::new)
            .transpose();
        let only = only.map_err(|rule| Failure::usage(format!("the jurisdiction {rule}")))?;
        let wanted =
            |whose: Option<Jurisdiction>| only.is_none() || whose.is_none() || whose == only;
        let packs: Vec<_> = rules
            .packs()
            .filter(|pack| wanted(pack.jurisdiction))
            .collect();
        let shown: Vec<_> = rules
            .rules()
            .filter(|rule| wanted(rule.jurisdiction))
            .collect();
        if common.json {
            let version = rules.version();
            out::say_json(&serde_json::json!({
                "version": version, "packs": packs, "rules": shown, "note": NO_ADVICE,
            }))?;
            return Ok(EXIT_OK);
        }
        for pack in &packs {
            out::say(&format!("{}: {}", pack.id, pack.title))?;
            if let Some(years) = pack.consent_validity_years {
                out::say(&format!(
                    "  a consent stands for {years} years unless confirmed"
                ))?;
            }
            for rule in shown.iter().filter(|rule| rule.pack == pack.id) {
                say(rule)?;
            }
            out::say("")?;
        }
        if let Some(country) = only.filter(|country| !rules.covers(*country)) {
            out::say(&format!(
                "no pack for {country} is loaded: advertising there is held"
            ))?;
        }
        out::say(&format!("ruleset version {}\n{NO_ADVICE}", rules.version()))?;
        Ok(EXIT_OK)
    }
}

fn say(rule: &RuleView<'_>) -> Result<(), Failure> {
    out::say(&format!("\n  {}", rule.id))?;
    let line = |name: &str, text: &str| out::say(&format!("    {name:<12}{text}"));
    let purposes: Vec<_> = rule
        .purposes
        .iter()
        .map(|purpose| purpose.as_str())
        .collect();
    line(
        "speaks of",
        &format!("{} by {}", purposes.join(", "), channels(rule.channels)),
    )?;
    if let Some(hours) = &rule.hours {
        line(
            "open",
            &format!("{hours} on the clock of {}", clock(rule.clock)),
        )?;
    }
    if let Some(scope) = rule.needs {
        line("needs", &format!("{scope} consent"))?;
    }
    if let Some(scope) = rule.lifted_by {
        line("lifted by", &format!("{scope} consent"))?;
    }
    line("otherwise", &rule.outside.to_string())?;
    if rule.guard_s > 0 {
        line("guard", &format!("{} s before closing", rule.guard_s))?;
    }
    if let Some(from) = rule.effective_from {
        line("from", &from.to_string())?;
    }
    if let Some(to) = rule.effective_to {
        line("to", &to.to_string())?;
    }
    line("stands on", rule.citation.trim())?;
    line("known from", &rule.confidence.to_string())
}

fn clock(name: &str) -> &str {
    if name == "recipient" {
        "the recipient"
    } else {
        name
    }
}

fn channels(channels: &[Channel]) -> String {
    let list = |channels: Vec<&str>| channels.join(", ");
    let all = Channel::ALL;
    let missing: Vec<_> = all
        .iter()
        .filter(|one| !channels.contains(one))
        .map(|one| one.as_str())
        .collect();
    match missing.len() {
        0 => "any channel".to_owned(),
        few if few < all.len() / 2 => format!("any channel but {}", list(missing)),
        _ => list(channels.iter().map(|one| one.as_str()).collect()),
    }
}

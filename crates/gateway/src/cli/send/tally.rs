//! What became of the lines that were sent.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::{Failure, out, shown};

/// Faults shown at the end; all are counted.
const FAULTS_SHOWN: usize = 10;
/// Openings shown at the end.
const OPENINGS_SHOWN: usize = 5;
/// Openings told apart; held messages share few.
const OPENINGS_MAX: usize = 1_000;

/// Lines by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    /// Stored, and may leave now.
    pub(super) accepted: u64,
    /// Stored, and held.
    pub(super) held: u64,
    /// Our rules say never.
    pub(super) refused: u64,
    /// Known already.
    pub(super) duplicate: u64,
    /// A field breaks a rule.
    pub(super) invalid: u64,
    /// Never answered, or not stored: to be sent again.
    pub(super) failed: u64,
}

impl Tally {
    /// The count of a final answer; `None` for one that is none, such as `failed`.
    fn of(&mut self, status: &str) -> Option<&mut u64> {
        Some(match status {
            "accepted" => &mut self.accepted,
            "held" => &mut self.held,
            "refused" => &mut self.refused,
            "duplicate" => &mut self.duplicate,
            "invalid" => &mut self.invalid,
            _ => return None,
        })
    }

    /// Lines that were turned down.
    pub(super) fn turned_down(&self) -> u64 {
        self.refused + self.invalid
    }

    /// Lines with an answer.
    pub(super) fn answered(&self) -> u64 {
        self.accepted + self.held + self.refused + self.duplicate + self.invalid
    }
}

/// The tally, and what to show of single lines.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) tally: Tally,
    faults: Vec<String>,
    /// Held messages by opening and zone.
    openings: BTreeMap<(Timestamp, String), u64>,
}

impl Report {
    pub(super) fn new(tally: Tally) -> Self {
        Self {
            tally,
            ..Self::default()
        }
    }

    /// Takes one answer in; says whether it is final.
    pub(super) fn take(&mut self, answer: &Value) -> bool {
        let text = |field: &str| answer[field].as_str();
        let status = text("status").unwrap_or_default();
        let Some(count) = self.tally.of(status) else {
            return false;
        };
        *count += 1;
        if status == "held"
            && let Some(due) = text("due").and_then(|due| due.parse().ok())
        {
            let opening = (due, text("zone").unwrap_or_default().to_owned());
            if self.openings.len() < OPENINGS_MAX || self.openings.contains_key(&opening) {
                *self.openings.entry(opening).or_default() += 1;
            }
        }
        if matches!(status, "refused" | "invalid") && self.faults.len() < FAULTS_SHOWN {
            self.faults.push(fault(answer));
        }
        true
    }

    /// The summary for people.
    pub(super) fn say(&self) -> Result<(), Failure> {
        let Tally {
            accepted,
            held,
            refused,
            duplicate,
            invalid,
            failed,
        } = self.tally;
        let counts = [
            (accepted, "accepted"),
            (held, "held"),
            (refused, "refused"),
            (duplicate, "duplicate"),
            (invalid, "invalid"),
            (failed, "failed"),
        ];
        let counts = counts.map(|(count, name)| format!("{} {name}", shown::grouped(count)));
        out::say(&counts.join(" · "))?;
        for ((due, zone), count) in self.openings.iter().take(OPENINGS_SHOWN) {
            let first = zone.split('+').next().unwrap_or_default();
            let clock = TimeZone::get(first).unwrap_or(TimeZone::UTC);
            let (due, count) = (shown::instant(*due, &clock), shown::messages(*count));
            out::say(&format!("  held until {due} ({zone}): {count}"))?;
        }
        let more = self.openings.len().saturating_sub(OPENINGS_SHOWN);
        if more > 0 {
            out::say(&format!(
                "  and {more} later openings: see `nightgate hold ls`"
            ))?;
        }
        for fault in &self.faults {
            out::complain(fault);
        }
        let more = self
            .tally
            .turned_down()
            .saturating_sub(self.faults.len() as u64);
        if more > 0 {
            out::complain(&format!(
                "and {} more lines; --json tells all",
                shown::grouped(more)
            ));
        }
        Ok(())
    }
}

/// One line that was turned down, in words.
fn fault(answer: &Value) -> String {
    let line = answer["line"].as_u64().unwrap_or_default();
    let id = answer["id"]
        .as_str()
        .map_or_else(String::new, |id| format!(" ({id})"));
    let why = match answer["faults"]
        .as_array()
        .filter(|faults| !faults.is_empty())
    {
        Some(faults) => {
            let text = |fault: &Value, field: &str| fault[field].as_str().unwrap_or("?").to_owned();
            let fault = |fault| format!("`{}` {}", text(fault, "field"), text(fault, "rule"));
            faults.iter().map(fault).collect::<Vec<_>>().join("; ")
        }
        None => {
            let code = answer["reason"].as_str().unwrap_or("?");
            let rule = answer["rule"].as_str();
            rule.map_or_else(
                || format!("refused: {code}"),
                |rule| format!("refused: {code} by rule {rule}"),
            )
        }
    };
    format!("line {line}{id}: {why}")
}

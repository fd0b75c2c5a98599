//! How the commands show things to people: instants with their offset, tables, sentences.

use comfy_table::{Cell, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nightgate_core::{Answer, Language, explain};

use super::{Common, Failure, out};
use crate::config::Config;
use crate::ingest::wire;
use crate::receipt::{Event, Receipt};

/// Columns of a table that is not shown on a terminal.
const WIDTH_UNWATCHED: u16 = 200;

impl Common {
    /// The language that was asked for, or else that of the house.
    pub(super) fn language_of(&self, config: &Config) -> Language {
        self.tongue().unwrap_or(config.alerts.language)
    }
}

/// `2026-11-23 08:00:00 +09:00`
pub(super) fn instant(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone())
        .strftime("%Y-%m-%d %H:%M:%S %:z")
        .to_string()
}

/// `2026-11-23T08:00:00+09:00`: RFC 3339, for JSON.
pub(super) fn rfc3339(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone())
        .strftime("%Y-%m-%dT%H:%M:%S%.f%:z")
        .to_string()
}

/// How an instant is written.
pub(super) type Write = fn(Timestamp, &TimeZone) -> String;

/// How instants are written for whoever reads the answer.
pub(super) fn written(common: &Common) -> Write {
    if common.json { rfc3339 } else { instant }
}

/// The same as [`instant`], or `-`.
pub(super) fn instant_or(at: Option<Timestamp>, zone: &TimeZone) -> String {
    at.map_or_else(|| "-".to_owned(), |at| instant(at, zone))
}

/// Reads an instant from the command line.
pub(super) fn read_instant(text: &str) -> Result<Timestamp, String> {
    wire::instant(text).ok_or_else(|| wire::INSTANT_RULE.to_owned())
}

/// `12 messages`, `1 message`.
pub(super) fn messages(count: u64) -> String {
    counted(count, "message")
}

/// `1,200 lanes`, `1 lane`: of `what`, whose plural ends in s.
pub(super) fn counted(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {what}{s}", grouped(count))
}

/// `1,234,567`
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A table without lines, as wide as the terminal at most. Wide letters count for two.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if !table.is_tty() {
        table.set_width(WIDTH_UNWATCHED);
    }
    table.set_header(header.iter().map(Cell::new));
    table
}

/// Writes a table without the blanks behind its lines.
pub(super) fn say_table(table: &Table) -> Result<(), Failure> {
    table.lines().try_for_each(|line| out::say(line.trim_end()))
}

/// A sentence about the decision that a receipt records; none about an outcome.
pub(super) fn sentence(receipt: &Receipt, language: Language) -> Option<String> {
    let reason = receipt.reason.as_ref()?;
    let answer = match receipt.event {
        Event::Held => Answer::Hold {
            until: receipt.until?,
        },
        Event::Refused | Event::Expired => Answer::Refuse,
        Event::Accepted | Event::Attempted => Answer::Send {
            not_after: receipt.until.or(reason.closes)?,
        },
        _ => return None,
    };
    Some(explain(answer, reason, language))
}

/// A bar on standard error, if a person watches it.
pub(super) fn bar(total: Option<u64>, template: &str) -> Result<ProgressBar, Failure> {
    if !out::watched() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template(template)
        .map_err(|error| Failure::failed(format!("failed to draw a progress bar: {error}")))?;
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    Ok(bar.with_style(style))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_thousands() {
        let shown: Vec<_> = [0, 999, 1000, 1_234_567].into_iter().map(grouped).collect();
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            (messages(1).as_str(), messages(2).as_str()),
            ("1 message", "2 messages")
        );
    }

    #[test]
    fn wide_letters_keep_the_columns_straight() {
        let mut table = table(&["NAME", "COUNT"]);
        table.add_row(["가을맞이", "1"]).add_row(["autumn", "22"]);
        let lines: Vec<_> = table.lines().collect();
        // Four Korean letters take eight columns: the same as `autumn` and two blanks.
        assert!(lines[1].contains("가을맞이  1"), "{lines:?}");
        assert!(lines[2].contains("autumn    22"), "{lines:?}");
    }
}

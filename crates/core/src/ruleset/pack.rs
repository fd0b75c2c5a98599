//! One TOML pack: read, checked against every rule for packs, compiled.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use jiff::SignedDuration;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use toml::de::{DeTable, DeValue};

use super::fields::{Faults, Fields, Value, list, text_item};
use super::rule::{Clock, Confidence, Demand, Outside, Rule};
use super::{PackFault, PackSource};
use crate::consent::{Scope, Validity};
use crate::hours::{Interval, OpenHours};
use crate::message::{Channel, Purpose};
use crate::zone::Jurisdiction;

/// Most rules in one pack. The busiest country known has under thirty; thousands are a mistake.
const RULES_MAX: usize = 1000;
/// Longest guard. A margin of a day would close every window.
const GUARD_MAX: SignedDuration = SignedDuration::from_hours(12);
/// Longest validity of a consent, in years: past it, leave the key out.
const VALIDITY_MAX_YEARS: i64 = 100;

/// A compiled pack.
#[derive(Clone, Debug)]
pub(crate) struct Pack {
    pub(crate) id: Arc<str>,
    pub(crate) title: String,
    /// `None`: holds everywhere, and is law nowhere.
    pub(crate) jurisdiction: Option<Jurisdiction>,
    pub(crate) validity: Option<Validity>,
    pub(crate) rules: Vec<Arc<Rule>>,
    /// Lines of the ids, for the fault of an id that two packs use.
    pub(super) lines: Vec<(Arc<str>, usize)>,
    pub(super) line: usize,
}

type Calendars = BTreeMap<String, Vec<Date>>;

/// What the rules of one pack share.
struct Shared {
    pack: Arc<str>,
    jurisdiction: Option<Jurisdiction>,
    clock: Option<Clock>,
    calendars: Calendars,
}

/// Reads and compiles one pack; what could be read, and every fault.
pub(super) fn read(source: &PackSource) -> (Pack, Vec<PackFault>) {
    let mut faults = Faults::new(&source.name, &source.text);
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        faults.at(
            &span,
            format!("is not TOML: {}", error.message().trim_end()),
        );
    }
    let whole = Fields::new(document.get_ref(), 0..0, "the pack");
    let pack = compile(whole, &mut faults);
    (pack, faults.found)
}

fn compile<'a>(mut top: Fields<'a>, faults: &mut Faults<'_>) -> Pack {
    top.require("pack", faults);
    let head = top
        .get("pack")
        .and_then(|value| Fields::of(value, "[pack]", faults));
    let line = head.as_ref().map_or(0..0, |head| head.span.clone());
    let (mut shared, title) = head.map_or_else(no_head, |head| read_head(head, faults));
    if let Some(value) = top.get("holidays") {
        shared.calendars = read_calendars(value, faults);
    }
    let consent = top
        .get("consent")
        .and_then(|value| Fields::of(value, "[consent]", faults));
    let validity = consent.and_then(|consent| read_validity(consent, &shared, faults));
    let mut rules = Vec::new();
    let mut lines = Vec::new();
    if let Some(value) = top.get("rule") {
        read_rules(value, &shared, faults, &mut rules, &mut lines);
    }
    top.finish(faults);
    let line = faults.line(&line);
    let Shared {
        pack: id,
        jurisdiction,
        ..
    } = shared;
    Pack {
        id,
        title,
        jurisdiction,
        validity,
        rules,
        lines,
        line,
    }
}

fn no_head() -> (Shared, String) {
    let shared = Shared {
        pack: "".into(),
        jurisdiction: None,
        clock: None,
        calendars: Calendars::new(),
    };
    (shared, String::new())
}

fn read_head(mut head: Fields<'_>, faults: &mut Faults<'_>) -> (Shared, String) {
    let (mut shared, _) = no_head();
    if let Some((id, _)) = head.required("id", faults) {
        shared.pack = id.into();
    }
    let title = head
        .required("title", faults)
        .map_or("", |(title, _)| title)
        .to_owned();
    if let Some((text, span)) = head.required("jurisdiction", faults)
        && text != "*"
    {
        match Jurisdiction::new(text) {
            Ok(jurisdiction) => shared.jurisdiction = Some(jurisdiction),
            Err(why) => {
                faults.at(
                    &span,
                    format!("{} {why}, or \"*\"", head.name("jurisdiction")),
                );
            }
        }
    }
    shared.clock = read_clock(&mut head, faults);
    head.finish(faults);
    (shared, title)
}

fn read_clock(fields: &mut Fields<'_>, faults: &mut Faults<'_>) -> Option<Clock> {
    let (text, span) = fields.text("clock", faults)?;
    if text == "recipient" {
        return Some(Clock::Recipient);
    }
    let zone = TimeZone::get(text).ok().filter(|zone| !zone.is_unknown());
    if zone.is_none() {
        let name = fields.name("clock");
        faults.at(
            &span,
            format!("{name} must be \"recipient\" or an IANA zone, is `{text}`"),
        );
    }
    zone.map(Clock::Zone)
}

fn read_calendars(value: Value<'_>, faults: &mut Faults<'_>) -> Calendars {
    let Some(table) = Fields::of(value, "[holidays]", faults) else {
        return Calendars::new();
    };
    let read = |(name, value): (&str, _)| {
        let owner = format!("`{name}` of [holidays]");
        (name.to_owned(), list(value, &owner, faults, date))
    };
    table.entries().map(read).collect()
}

fn date(value: &DeValue<'_>) -> Result<Date, String> {
    let text = match value {
        DeValue::Datetime(at) => at.to_string(),
        DeValue::String(text) => text.to_string(),
        other => {
            return Err(format!(
                "must be a date such as 2026-12-25, is {}",
                other.type_str()
            ));
        }
    };
    text.parse()
        .map_err(|_| format!("must be a date such as 2026-12-25, is `{text}`"))
}

fn read_validity(
    mut fields: Fields<'_>,
    shared: &Shared,
    faults: &mut Faults<'_>,
) -> Option<Validity> {
    fields.require("validity_years", faults);
    let value = fields.get("validity_years");
    let span = fields.span.clone();
    fields.finish(faults);
    let value = value?;
    let years = match value.get_ref() {
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    };
    let Some(years) = years.filter(|years| (1..=VALIDITY_MAX_YEARS).contains(years)) else {
        let rule = format!("must be a whole number from 1 to {VALIDITY_MAX_YEARS}");
        faults.at(
            &value.span(),
            format!("`validity_years` of [consent] {rule}"),
        );
        return None;
    };
    let Some(Clock::Zone(zone)) = &shared.clock else {
        let message = "[consent] counts calendar days and needs a `clock` in [pack]: an IANA zone";
        faults.at(&span, message);
        return None;
    };
    Some(Validity {
        years: i16::try_from(years).ok()?,
        zone: zone.clone(),
    })
}

fn read_rules<'a>(
    value: Value<'a>,
    shared: &Shared,
    faults: &mut Faults<'_>,
    rules: &mut Vec<Arc<Rule>>,
    lines: &mut Vec<(Arc<str>, usize)>,
) {
    let Some(array) = value.get_ref().as_array() else {
        faults.at(&value.span(), "rules are written as [[rule]] tables");
        return;
    };
    if array.len() > RULES_MAX {
        let count = array.len();
        faults.at(
            &value.span(),
            format!("a pack may hold {RULES_MAX} rules, has {count}"),
        );
    }
    for value in array.iter().take(RULES_MAX) {
        let Some(mut fields) = Fields::of(value, "a rule", faults) else {
            continue;
        };
        if let Some((id, span)) = fields.required("id", faults) {
            fields.owner = format!("rule `{id}`");
            lines.push((id.into(), faults.line(&span)));
        }
        if let Some(rule) = read_rule(fields, shared, faults) {
            rules.push(Arc::new(rule));
        }
    }
}

fn read_rule(mut fields: Fields<'_>, shared: &Shared, faults: &mut Faults<'_>) -> Option<Rule> {
    let before = faults.found.len();
    let id = fields
        .get("id")
        .and_then(|value| value.get_ref().as_str())
        .unwrap_or("")
        .into();
    fields.require("purpose", faults);
    let purposes = fields.list("purpose", faults, text_item::<Purpose>);
    let channels = read_channels(&mut fields, faults);
    let clock = read_clock(&mut fields, faults).or_else(|| shared.clock.clone());
    let demand = read_demand(&mut fields, shared, faults);
    let lifted_by = fields.parsed::<Scope>("lifted_by", faults);
    fields.require("outside", faults);
    let outside = fields.parsed::<Outside>("outside", faults);
    let effective_from = read_day(&mut fields, "effective_from", faults);
    let effective_to = read_day(&mut fields, "effective_to", faults);
    let citation = fields
        .required("citation", faults)
        .map_or("", |(text, _)| text)
        .to_owned();
    fields.require("confidence", faults);
    let confidence = fields.parsed::<Confidence>("confidence", faults);
    let span = fields.span.clone();
    let owner = fields.owner.clone();
    fields.finish(faults);

    if let (Some(from), Some(to)) = (effective_from, effective_to)
        && to < from
    {
        faults.at(&span, format!("{owner} ends before it becomes effective"));
    }
    if clock.is_none() && faults.found.len() == before {
        faults.at(
            &span,
            format!("{owner} lacks `clock`, and [pack] gives none"),
        );
    }
    if matches!(demand, Some(Demand::Consent(_))) {
        if outside == Some(Outside::Hold) {
            let message = "a missing consent is not waited for: `outside` must be \"refuse\"";
            faults.at(&span, format!("{owner} has `needs`; {message}"));
        }
        if lifted_by.is_some() {
            faults.at(
                &span,
                format!("{owner} has `needs`, which no consent lifts"),
            );
        }
    }
    if faults.found.len() > before {
        return None;
    }
    Some(Rule {
        id,
        pack: Arc::clone(&shared.pack),
        jurisdiction: shared.jurisdiction,
        purposes: purposes?,
        channels: channels?,
        clock: clock?,
        demand: demand?,
        lifted_by,
        outside: outside?,
        effective_from,
        effective_to,
        citation,
        confidence: confidence?,
    })
}

fn read_day(fields: &mut Fields<'_>, key: &'static str, faults: &mut Faults<'_>) -> Option<Date> {
    let value = fields.get(key)?;
    let day = date(value.get_ref());
    day.map_err(|why| faults.at(&value.span(), format!("{} {why}", fields.name(key))))
        .ok()
}

fn read_channels(fields: &mut Fields<'_>, faults: &mut Faults<'_>) -> Option<Vec<Channel>> {
    let some = fields.list("channels", faults, text_item::<Channel>);
    let except = fields.list("except_channels", faults, text_item::<Channel>);
    let owner = fields.owner.clone();
    match (some, except) {
        (Some(some), None) => Some(some),
        (None, Some(except)) => {
            let all = Channel::ALL.iter().copied();
            Some(all.filter(|channel| !except.contains(channel)).collect())
        }
        (Some(_), Some(_)) => {
            let message = "has both `channels` and `except_channels`: name one";
            faults.at(&fields.span, format!("{owner} {message}"));
            None
        }
        (None, None) => {
            faults.at(
                &fields.span,
                format!("{owner} lacks `channels` or `except_channels`"),
            );
            None
        }
    }
}

fn read_demand(
    fields: &mut Fields<'_>,
    shared: &Shared,
    faults: &mut Faults<'_>,
) -> Option<Demand> {
    let open = fields.get("open");
    let needs = fields.get("needs").is_some();
    let guard = read_guard(fields, faults);
    let owner = fields.owner.clone();
    let holidays = fields.text("holidays", faults);
    match (open, needs) {
        (Some(open), false) => {
            let table = Fields::of(open, &format!("`open` of {owner}"), faults)?;
            let hours = Box::new(read_hours(table, holidays, shared, faults)?);
            Some(Demand::Hours {
                hours,
                guard: guard.unwrap_or(SignedDuration::ZERO),
            })
        }
        (None, true) => {
            if guard.is_some() || holidays.is_some() {
                let message = "has `needs`; `guard` and `holidays` belong to `open`";
                faults.at(&fields.span, format!("{owner} {message}"));
            }
            fields.parsed::<Scope>("needs", faults).map(Demand::Consent)
        }
        (Some(_), true) => {
            faults.at(
                &fields.span,
                format!("{owner} has both `open` and `needs`: name one"),
            );
            None
        }
        (None, false) => {
            faults.at(&fields.span, format!("{owner} lacks `open` or `needs`"));
            None
        }
    }
}

fn read_guard(fields: &mut Fields<'_>, faults: &mut Faults<'_>) -> Option<SignedDuration> {
    let (text, span) = fields.text("guard", faults)?;
    let read = text.parse::<SignedDuration>().ok();
    let guard = read.filter(|guard| (SignedDuration::ZERO..=GUARD_MAX).contains(guard));
    if guard.is_none() {
        let rule = "must be a duration such as \"30s\", at most 12 hours";
        faults.at(
            &span,
            format!("{} {rule}, is `{text}`", fields.name("guard")),
        );
    }
    guard
}

/// Keys of `open`, widest first, with the days (Monday is 0) each sets; a narrower key replaces
/// what a wider one said.
const DAY_KEYS: [(&str, Range<usize>); 10] = [
    ("every_day", 0..7),
    ("weekdays", 0..5),
    ("weekend", 5..7),
    ("mon", 0..1),
    ("tue", 1..2),
    ("wed", 2..3),
    ("thu", 3..4),
    ("fri", 4..5),
    ("sat", 5..6),
    ("sun", 6..7),
];

fn read_hours(
    mut table: Fields<'_>,
    holidays: Option<(&str, Range<usize>)>,
    shared: &Shared,
    faults: &mut Faults<'_>,
) -> Option<OpenHours> {
    let mut hours = OpenHours::never();
    let mut days_named = false;
    for (key, days) in DAY_KEYS {
        let Some(intervals) = table.list(key, faults, text_item::<Interval>) else {
            continue;
        };
        days_named = true;
        for day in days {
            hours.set(day, intervals.clone());
        }
    }
    if !days_named {
        let message = "names no day; `every_day = []` is how to say never";
        faults.at(&table.span, format!("{} {message}", table.owner));
    }
    let holiday = table.list("holiday", faults, text_item::<Interval>);
    match (holiday, holidays) {
        (Some(intervals), Some((name, span))) => match shared.calendars.get(name) {
            Some(dates) => hours = hours.on_holidays(&intervals, dates),
            None => faults.at(&span, format!("[holidays] has no list `{name}`")),
        },
        (Some(intervals), None) => {
            // A single calendar needs no name; several do.
            let mut lists = shared.calendars.values();
            match (lists.next(), lists.next()) {
                (Some(dates), None) => hours = hours.on_holidays(&intervals, dates),
                _ => faults.at(
                    &table.span,
                    format!(
                        "{} has `holiday`; name its list with `holidays`",
                        table.owner
                    ),
                ),
            }
        }
        (None, Some((_, span))) => {
            faults.at(
                &span,
                format!("{} lacks `holiday`, which `holidays` needs", table.owner),
            );
        }
        (None, None) => {}
    }
    table.finish(faults);
    Some(hours)
}

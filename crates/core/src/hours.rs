//! Open hours: on each weekday any number of local intervals, read on the clock of one zone.
//!
//! An interval is half open (`08:00-21:00` holds 08:00:00 and not 21:00:00), belongs to the day on
//! which it starts, and may run past midnight (`22:00-02:00`). `24:00` may stand as an end; all day
//! is `00:00-24:00`. Intervals that touch or overlap, also from one day into the next, count as
//! one: `24:00` followed by `00:00` is no closing.
//!
//! # Clock changes
//!
//! The strictest reading wins, so that no reading of the local clock can call a send too early or
//! too late:
//!
//! | local time | as an opening | as a closing |
//! |---|---|---|
//! | ordinary | that instant | that instant |
//! | skipped (gap) | the instant the gap ends | the instant the gap begins |
//! | shown twice (fold) | the later of the two | the earlier of the two |
//!
//! An interval that these rules leave without any instant does not open on that day.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// How far ahead the next opening or closing is looked for, in days. A year with every holiday in
/// it fits; hours that do not change for longer than that count as hours that never change.
pub const HORIZON_DAYS: i64 = 400;

/// Days before today that are read. An interval starts at most one day before the instant it
/// covers, and a zone can skip one day (Apia, 30 December 2011).
const LOOK_BACK_DAYS: i64 = 2;
/// Minutes of one local day as it is written, whatever the clock does in it.
const DAY: i64 = 24 * 60;

/// One local interval, half open, to the minute.
///
/// ```
/// use nightgate_core::hours::Interval;
///
/// let day: Interval = "08:00-21:00".parse()?;
/// assert_eq!(day.to_string(), "08:00-21:00");
/// assert!("21:00-21:00".parse::<Interval>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interval {
    /// Minutes after the midnight with which its day starts, below 24 h.
    start: i64,
    /// Minutes after the same midnight; above 24 h when it runs past the next one.
    end: i64,
}

impl Interval {
    /// The whole day, `00:00-24:00`.
    pub const ALL_DAY: Self = Self { start: 0, end: DAY };
}

impl FromStr for Interval {
    type Err = String;

    /// Reads `HH:MM-HH:MM`; an end that is not after its start lies on the next day.
    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || format!("`{text}` must be an interval such as \"08:00-21:00\"");
        let (start, end) = text.split_once('-').ok_or_else(shape)?;
        let start = minutes(start)
            .filter(|&start| start < DAY)
            .ok_or_else(shape)?;
        let end = minutes(end).ok_or_else(shape)?;
        if start == end {
            return Err(format!(
                "`{text}` is empty: all day is written \"00:00-24:00\""
            ));
        }
        Ok(Self {
            start,
            end: if end < start { end + DAY } else { end },
        })
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.end > DAY {
            self.end - DAY
        } else {
            self.end
        };
        let (start_h, start_m) = (self.start / 60, self.start % 60);
        write!(
            f,
            "{start_h:02}:{start_m:02}-{:02}:{:02}",
            end / 60,
            end % 60
        )
    }
}

/// Minutes after midnight of `HH:MM`, 00:00 to 24:00.
fn minutes(text: &str) -> Option<i64> {
    let &[h1, h2, b':', m1, m2] = text.as_bytes() else {
        return None;
    };
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    let hour = digit(h1)? * 10 + digit(h2)?;
    let minute = digit(m1)? * 10 + digit(m2)?;
    let total = hour * 60 + minute;
    (minute < 60 && total <= DAY).then_some(total)
}

/// Open hours of a week, with holidays whose intervals stand in place of their weekday's.
///
/// A holiday replaces what *starts* on it. What started on the day before and runs past midnight
/// still ends when it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenHours {
    /// Monday first, each day sorted by start.
    week: [Vec<Interval>; 7],
    holiday: Vec<Interval>,
    /// Sorted.
    holidays: Vec<Date>,
}

/// What a set of open hours says around one instant: the same for every instant in
/// `[from, until)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Whether a message may leave.
    pub open: bool,
    /// Since when at least. It can have begun earlier.
    pub from: Timestamp,
    /// The instant of the next closing (open) or opening (closed); `None` when there is none within
    /// [`HORIZON_DAYS`].
    pub until: Option<Timestamp>,
}

/// A window and how far it may be trusted when it has no end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) window: Window,
    /// The first instant that was not looked at.
    pub(crate) checked: Timestamp,
}

impl OpenHours {
    /// Hours that never open.
    #[must_use]
    pub fn never() -> Self {
        Self::default()
    }

    /// Hours that never close.
    #[must_use]
    pub fn always() -> Self {
        Self::every_day(&[Interval::ALL_DAY])
    }

    /// The same intervals on every day of the week.
    #[must_use]
    pub fn every_day(intervals: &[Interval]) -> Self {
        let mut hours = Self::default();
        for day in 0..7 {
            hours.set(day, intervals.to_vec());
        }
        hours
    }

    /// These hours with other intervals on one weekday.
    #[must_use]
    pub fn on(mut self, weekday: Weekday, intervals: &[Interval]) -> Self {
        let index = usize::try_from(weekday.to_monday_zero_offset()).unwrap_or_default();
        self.set(index, intervals.to_vec());
        self
    }

    /// These hours with other intervals on each of `dates`; no intervals means closed all day.
    #[must_use]
    pub fn on_holidays(mut self, intervals: &[Interval], dates: &[Date]) -> Self {
        self.holiday = sorted(intervals.to_vec());
        self.holidays = dates.to_vec();
        self.holidays.sort_unstable();
        self.holidays.dedup();
        self
    }

    /// Sets the day `index` days after Monday.
    pub(crate) fn set(&mut self, index: usize, intervals: Vec<Interval>) {
        if let Some(day) = self.week.get_mut(index) {
            *day = sorted(intervals);
        }
    }

    /// What starts on `date`.
    fn starting(&self, date: Date) -> &[Interval] {
        if self.holidays.binary_search(&date).is_ok() {
            return &self.holiday;
        }
        let index = usize::try_from(date.weekday().to_monday_zero_offset()).unwrap_or_default();
        self.week.get(index).map_or(&[], Vec::as_slice)
    }

    /// The window around `at` on the clock of `zone`.
    ///
    /// ```
    /// use jiff::{Timestamp, tz::TimeZone};
    /// use nightgate_core::hours::OpenHours;
    ///
    /// let hours = OpenHours::every_day(&["08:00-21:00".parse()?]);
    /// let at: Timestamp = "2026-11-22T23:00:00+09:00".parse()?;
    /// let window = hours.window(&TimeZone::get("Asia/Seoul")?, at);
    /// assert!(!window.open);
    /// assert_eq!(window.until, Some("2026-11-23T08:00:00+09:00".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn window(&self, zone: &TimeZone, at: Timestamp) -> Window {
        self.look(zone, at).window
    }

    /// [`OpenHours::window`] with the bound of what was read.
    pub(crate) fn look(&self, zone: &TimeZone, at: Timestamp) -> Look {
        let today = zone.to_datetime(at).date();
        let base = today.saturating_sub(Span::new().days(LOOK_BACK_DAYS));
        let mut sweep = Sweep {
            zone,
            base,
            at,
            closed_since: Timestamp::MIN,
            run: None,
        };
        sweep.closed_since = sweep.opening((LOOK_BACK_DAYS - 1) * DAY).min(at);
        let mut days = LOOK_BACK_DAYS + HORIZON_DAYS;
        let mut pending: Option<Interval> = None;
        for day in 0..days {
            let Ok(date) = base.checked_add(Span::new().days(day)) else {
                days = day;
                break;
            };
            for interval in self.starting(date) {
                let next = Interval {
                    start: interval.start + day * DAY,
                    end: interval.end + day * DAY,
                };
                match &mut pending {
                    Some(now) if next.start <= now.end => now.end = now.end.max(next.end),
                    _ => {
                        if let Some(window) = pending.replace(next).and_then(|run| sweep.take(run))
                        {
                            return Look {
                                window,
                                checked: window.until.unwrap_or(at),
                            };
                        }
                    }
                }
            }
        }
        sweep.finish(pending, days * DAY)
    }
}

/// Reads runs of civil time in order and stops at the first that tells how `at` stands.
struct Sweep<'a> {
    zone: &'a TimeZone,
    /// The civil day that counts as day 0.
    base: Date,
    at: Timestamp,
    /// No earlier than the first instant that no unread day can reach.
    closed_since: Timestamp,
    /// The run of instants read last; the next may continue it where a gap swallowed the pause.
    run: Option<(Timestamp, Timestamp)>,
}

impl Sweep<'_> {
    fn civil(&self, minutes: i64) -> Option<DateTime> {
        let date = self
            .base
            .checked_add(Span::new().days(minutes.div_euclid(DAY)))
            .ok()?;
        let minute = minutes.rem_euclid(DAY);
        let (hour, minute) = (
            i8::try_from(minute / 60).ok()?,
            i8::try_from(minute % 60).ok()?,
        );
        Some(date.at(hour, minute, 0, 0))
    }

    fn opening(&self, minutes: i64) -> Timestamp {
        let civil = self.civil(minutes);
        civil
            .and_then(|at| opening(self.zone, at))
            .unwrap_or_else(|| off_calendar(civil))
    }

    fn closing(&self, minutes: i64) -> Timestamp {
        let civil = self.civil(minutes);
        civil
            .and_then(|at| closing(self.zone, at))
            .unwrap_or_else(|| off_calendar(civil))
    }

    /// Takes the next run of civil time; an answer when the runs so far decide.
    fn take(&mut self, run: Interval) -> Option<Window> {
        let (from, until) = (self.opening(run.start), self.closing(run.end));
        if from >= until {
            return None;
        }
        if let Some((_, end)) = &mut self.run
            && from <= *end
        {
            *end = until.max(*end);
            return None;
        }
        let answer = self.judge();
        self.run = Some((from, until));
        answer
    }

    /// What the last whole run says about `at`.
    fn judge(&mut self) -> Option<Window> {
        let (from, until) = self.run?;
        // What runs to the end of the calendar is open there too.
        if until <= self.at && until < Timestamp::MAX {
            // Before that bound, a run that began on an unread day could still be open.
            self.closed_since = until.max(self.closed_since);
            return None;
        }
        let (open, from, until) = if from <= self.at {
            (true, from, until)
        } else {
            (false, self.closed_since, from)
        };
        Some(Window {
            open,
            from,
            until: Some(until),
        })
    }

    /// The answer when the days are read up and nothing decided: `pending` is the last civil run.
    fn finish(mut self, pending: Option<Interval>, end: i64) -> Look {
        let checked = self.opening(end);
        let endless = pending.is_some_and(|run| run.end >= end);
        let window = pending
            .and_then(|run| self.take(run))
            .or_else(|| self.judge());
        let window = match window {
            Some(window) if window.open && endless && self.is_last(window) => Window {
                until: None,
                ..window
            },
            Some(window) => window,
            None => Window {
                open: false,
                from: self.closed_since,
                until: None,
            },
        };
        Look {
            window,
            checked: window.until.unwrap_or(checked.max(self.at)),
        }
    }

    /// Whether `window` is the run read last.
    fn is_last(&self, window: Window) -> bool {
        self.run.is_some_and(|(from, _)| from == window.from)
    }
}

fn sorted(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_unstable();
    intervals
}

/// The end of the calendar that lies next to a local time without an instant.
fn off_calendar(civil: Option<DateTime>) -> Timestamp {
    match civil {
        Some(civil) if civil.year() < 0 => Timestamp::MIN,
        _ => Timestamp::MAX,
    }
}

/// The instant at which something opens that opens at `civil` in `zone`; `None` past the calendar.
pub(crate) fn opening(zone: &TimeZone, civil: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok(),
        AmbiguousOffset::Gap { before, after } => {
            gap_instant(zone, civil, after).or_else(|| before.to_timestamp(civil).ok())
        }
        AmbiguousOffset::Fold { after, .. } => after.to_timestamp(civil).ok(),
    }
}

/// The instant at which something closes that closes at `civil` in `zone`; `None` past the
/// calendar.
pub(crate) fn closing(zone: &TimeZone, civil: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok(),
        AmbiguousOffset::Gap { after, .. } => {
            gap_instant(zone, civil, after).or_else(|| after.to_timestamp(civil).ok())
        }
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).ok(),
    }
}

/// The one instant in which the gap around `civil` lies: its end and its beginning are the same.
fn gap_instant(zone: &TimeZone, civil: DateTime, after: jiff::tz::Offset) -> Option<Timestamp> {
    // Read with the offset after the gap, a skipped local time names an instant before it. Zone
    // data also holds transitions that change no offset, hence the search, and its bound.
    let before = after.to_timestamp(civil).ok()?;
    let mut transitions = zone.following(before).take(4);
    transitions
        .find(|transition| transition.offset() == after)
        .map(|found| found.timestamp())
}

impl fmt::Display for OpenHours {
    /// `mon-fri 08:00-21:00; sat 09:00-12:00, 14:00-17:00; sun closed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let mut first = 0;
        while let Some(day) = self.week.get(first) {
            let same = self.week[first..]
                .iter()
                .take_while(|other| *other == day)
                .count();
            let last = first + same - 1;
            if first > 0 {
                f.write_str("; ")?;
            }
            match (first, last) {
                (0, 6) => f.write_str("every day")?,
                _ if first == last => f.write_str(NAMES[first])?,
                _ => write!(f, "{}-{}", NAMES[first], NAMES[last])?,
            }
            write_day(f, day)?;
            first = last + 1;
        }
        if self.holidays.is_empty() {
            return Ok(());
        }
        f.write_str("; holidays")?;
        write_day(f, &self.holiday)
    }
}

fn write_day(f: &mut fmt::Formatter<'_>, day: &[Interval]) -> fmt::Result {
    if day.is_empty() {
        return f.write_str(" closed");
    }
    for (index, interval) in day.iter().enumerate() {
        write!(f, "{} {interval}", if index == 0 { "" } else { "," })?;
    }
    Ok(())
}

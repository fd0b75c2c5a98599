//! Open hours against the local clock, minute by minute.

use jiff::civil::{Date, DateTime, Weekday, date};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp, ToSpan};
use nightgate_core::hours::{HORIZON_DAYS, Interval, OpenHours};
use proptest::prelude::*;

use crate::support::at;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn every_day(intervals: &[&str]) -> OpenHours {
    let intervals: Vec<Interval> = intervals.iter().map(|text| text.parse().unwrap()).collect();
    OpenHours::every_day(&intervals)
}

/// The next `count` changes from `start` on, as local times with offset.
fn changes(hours: &OpenHours, zone: &TimeZone, start: &str, count: usize) -> Vec<String> {
    let mut now = at(start);
    let mut found = Vec::new();
    for _ in 0..count {
        let window = hours.window(zone, now);
        let Some(until) = window.until else { break };
        let local = until.to_zoned(zone.clone()).strftime("%d %H:%M%:z");
        found.push(format!(
            "{} {local}",
            if window.open { "closes" } else { "opens" }
        ));
        now = until;
    }
    found
}

#[test]
fn an_interval_is_written_to_the_minute_and_is_never_empty() {
    for good in [
        "08:00-21:00",
        "00:00-24:00",
        "22:00-02:00",
        "23:59-24:00",
        "22:00-00:00",
    ] {
        assert_eq!(
            good.parse::<Interval>().unwrap().to_string(),
            good.replace("-00:00", "-24:00")
        );
    }
    for bad in [
        "",
        "8:00-21:00",
        "08:00",
        "08:00-08:00",
        "24:00-08:00",
        "08:60-09:00",
        "08:00-24:01",
    ] {
        assert!(bad.parse::<Interval>().is_err(), "{bad}");
    }
    assert!(
        "08:00-08:00"
            .parse::<Interval>()
            .unwrap_err()
            .contains("00:00-24:00")
    );
}

#[test]
fn the_first_instant_is_in_and_the_last_is_out() {
    let (hours, seoul) = (every_day(&["08:00-21:00"]), zone("Asia/Seoul"));
    let open = |time: &str| {
        hours
            .window(&seoul, at(&format!("2026-11-22T{time}+09:00")))
            .open
    };
    assert!(open("08:00:00") && open("20:59:59.999999999"));
    assert!(!open("21:00:00") && !open("07:59:59.999999999"));
}

#[test]
fn midnight_is_no_closing_when_the_next_day_starts_with_it() {
    let hours = every_day(&["00:00-02:00", "22:00-24:00"]);
    let found = changes(&hours, &zone("Asia/Seoul"), "2026-11-22T12:00:00+09:00", 3);
    assert_eq!(
        found,
        [
            "opens 22 22:00+09:00",
            "closes 23 02:00+09:00",
            "opens 23 22:00+09:00"
        ]
    );
    let same = every_day(&["22:00-02:00"]);
    assert_eq!(
        changes(&same, &zone("Asia/Seoul"), "2026-11-22T12:00:00+09:00", 3),
        found
    );
}

#[test]
fn hours_past_midnight_belong_to_the_day_on_which_they_start() {
    let hours = OpenHours::never().on(Weekday::Saturday, &["22:00-02:00".parse().unwrap()]);
    let found = changes(&hours, &zone("Asia/Seoul"), "2026-11-20T12:00:00+09:00", 3);
    assert_eq!(
        found,
        [
            "opens 21 22:00+09:00",
            "closes 22 02:00+09:00",
            "opens 28 22:00+09:00"
        ]
    );
}

#[test]
fn a_holiday_stands_in_place_of_its_weekday() {
    let noon: Interval = "12:00-13:00".parse().unwrap();
    let hours = every_day(&["08:00-21:00"]).on_holidays(&[noon], &[date(2026, 11, 23)]);
    let found = changes(&hours, &zone("Asia/Seoul"), "2026-11-22T22:00:00+09:00", 3);
    assert_eq!(
        found,
        [
            "opens 23 12:00+09:00",
            "closes 23 13:00+09:00",
            "opens 24 08:00+09:00"
        ]
    );
}

#[test]
fn hours_that_never_change_have_no_end() {
    let (seoul, now) = (zone("Asia/Seoul"), at("2026-11-22T12:00:00+09:00"));
    let window = OpenHours::always().window(&seoul, now);
    assert!(window.open && window.until.is_none());
    let window = OpenHours::never().window(&seoul, now);
    assert!(!window.open && window.until.is_none());
    let horizon = Span::new().days(HORIZON_DAYS + 2);
    let beyond = now
        .to_zoned(seoul.clone())
        .date()
        .checked_add(horizon)
        .unwrap();
    let holiday = OpenHours::always().on_holidays(&[], &[beyond]);
    assert!(
        holiday.window(&seoul, now).until.is_none(),
        "past the horizon nothing is looked for"
    );
    let soon = OpenHours::always().on_holidays(&[], &[date(2027, 1, 1)]);
    let window = soon.window(&seoul, now);
    assert_eq!(window.until, Some(at("2027-01-01T00:00:00+09:00")));
}

#[test]
fn an_opening_in_a_gap_is_the_end_of_the_gap_and_a_closing_its_beginning() {
    let new_york = zone("America/New_York");
    let opens = changes(
        &every_day(&["02:30-05:00"]),
        &new_york,
        "2026-03-08T00:00:00-05:00",
        1,
    );
    assert_eq!(opens, ["opens 08 03:00-04:00"]);
    let closes = changes(
        &every_day(&["00:30-02:30"]),
        &new_york,
        "2026-03-08T01:00:00-05:00",
        1,
    );
    assert_eq!(
        closes,
        ["closes 08 03:00-04:00"],
        "the same instant as 02:00-05:00"
    );
    let inside = changes(
        &every_day(&["02:10-02:50"]),
        &new_york,
        "2026-03-08T00:00:00-05:00",
        1,
    );
    assert_eq!(
        inside,
        ["opens 09 02:10-04:00"],
        "nothing is left of that day's interval"
    );
    let across = every_day(&["00:00-02:15", "02:45-05:00"]);
    let found = changes(&across, &new_york, "2026-03-08T01:00:00-05:00", 1);
    assert_eq!(
        found,
        ["closes 08 05:00-04:00"],
        "the pause between them was skipped"
    );
}

#[test]
fn an_ambiguous_opening_is_the_later_and_an_ambiguous_closing_the_earlier() {
    let new_york = zone("America/New_York");
    let opens = changes(
        &every_day(&["01:30-05:00"]),
        &new_york,
        "2026-11-01T00:00:00-04:00",
        1,
    );
    assert_eq!(opens, ["opens 01 01:30-05:00"]);
    let closes = changes(
        &every_day(&["00:00-01:30"]),
        &new_york,
        "2026-11-01T00:10:00-04:00",
        1,
    );
    assert_eq!(closes, ["closes 01 01:30-04:00"]);
    let inside = changes(
        &every_day(&["01:10-01:50"]),
        &new_york,
        "2026-11-01T00:00:00-04:00",
        1,
    );
    assert_eq!(inside, ["opens 02 01:10-05:00"]);
}

#[test]
fn a_day_that_a_zone_skipped_has_no_hours() {
    let apia = zone("Pacific/Apia");
    let found = changes(
        &every_day(&["08:00-21:00"]),
        &apia,
        "2011-12-29T22:00:00-10:00",
        2,
    );
    assert_eq!(found, ["opens 31 08:00+14:00", "closes 31 21:00+14:00"]);
    let night = changes(
        &every_day(&["22:00-02:00"]),
        &apia,
        "2011-12-29T12:00:00-10:00",
        2,
    );
    assert_eq!(night, ["opens 29 22:00-10:00", "closes 31 02:00+14:00"]);
}

#[test]
fn the_ends_of_the_calendar_are_no_panic() {
    let hours = every_day(&["08:00-21:00", "22:00-02:00"]);
    for name in ["Asia/Seoul", "Pacific/Apia", "America/New_York", "UTC"] {
        for now in [Timestamp::MIN, Timestamp::MAX] {
            let window = hours.window(&zone(name), now);
            assert!(window.from <= now);
            assert!(OpenHours::always().window(&zone(name), now).open);
            assert!(!OpenHours::never().window(&zone(name), now).open);
        }
    }
}

/// The rules of the module restated for one instant: is the local time covered, and, when the clock
/// shows it twice, is this the showing that counts?
struct Oracle<'a> {
    week: &'a [Vec<Interval>; 7],
    holiday: &'a [Interval],
    dates: &'a [Date],
    zone: &'a TimeZone,
}

impl Oracle<'_> {
    fn day(&self, date: Date) -> &[Interval] {
        if self.dates.contains(&date) {
            return self.holiday;
        }
        &self.week[usize::try_from(date.weekday().to_monday_zero_offset()).unwrap()]
    }

    fn covered(&self, local: DateTime) -> bool {
        let minute = i64::from(local.hour()) * 60 + i64::from(local.minute());
        let within = |interval: &Interval, minute: i64| {
            let (start, end) = bounds(*interval);
            (start..end).contains(&minute)
        };
        let yesterday = local.date().yesterday().unwrap();
        self.day(local.date())
            .iter()
            .any(|interval| within(interval, minute))
            || self
                .day(yesterday)
                .iter()
                .any(|interval| within(interval, minute + 24 * 60))
    }

    fn fold(&self, local: DateTime) -> Option<AmbiguousOffset> {
        let offset = self.zone.to_ambiguous_timestamp(local).offset();
        matches!(offset, AmbiguousOffset::Fold { .. }).then_some(offset)
    }

    fn open(&self, now: Timestamp) -> bool {
        let local = self.zone.to_datetime(now);
        if !self.covered(local) {
            return false;
        }
        let Some(AmbiguousOffset::Fold { before, .. }) = self.fold(local) else {
            return true;
        };
        let first = self.zone.to_offset(now) == before;
        let step = if first { (-1).minute() } else { 1.minute() };
        let mut minute = local;
        while self.fold(minute).is_some() {
            minute = minute.checked_add(step).unwrap();
            // The minute before the fold must be covered too, or the opening lies in the fold; the
            // minute after it need not be.
            if !self.covered(minute) && (first || self.fold(minute).is_some()) {
                return false;
            }
        }
        true
    }
}

fn bounds(interval: Interval) -> (i64, i64) {
    let text = interval.to_string();
    let minutes =
        |text: &str| text[..2].parse::<i64>().unwrap() * 60 + text[3..].parse::<i64>().unwrap();
    let (start, end) = (minutes(&text[..5]), minutes(&text[6..]));
    (start, if end < start { end + 24 * 60 } else { end })
}

/// Zones with an instant near which their clocks jump.
const JUMPS: &[(&str, &str)] = &[
    ("Asia/Seoul", "2026-11-22T00:00:00Z"),
    ("Asia/Seoul", "1988-05-07T17:00:00Z"),
    ("Asia/Seoul", "1988-10-08T17:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("America/New_York", "2041-03-10T07:00:00Z"),
    ("Europe/Paris", "2026-03-29T01:00:00Z"),
    ("Europe/Paris", "2026-10-25T01:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Africa/Casablanca", "2026-02-15T02:00:00Z"),
    ("Africa/Casablanca", "2026-03-22T02:00:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("America/St_Johns", "2006-04-02T03:31:00Z"),
    ("America/St_Johns", "2006-10-29T02:31:00Z"),
    ("America/St_Johns", "2026-11-01T04:30:00Z"),
    ("America/Havana", "2026-11-01T05:00:00Z"),
    ("Antarctica/Troll", "2026-10-25T01:00:00Z"),
    ("Kwajalein", "1993-08-21T12:00:00Z"),
];

fn interval() -> impl Strategy<Value = Interval> {
    // Small hours, where clocks jump, at quarter hours and odd minutes; and anywhere.
    let minute = prop_oneof![0_u16..=16, 0_u16..=96].prop_map(|quarter| quarter * 15);
    (minute.clone(), minute, 0_u16..3).prop_filter_map("an interval", |(start, end, odd)| {
        let start = (start + odd).min(24 * 60 - 1);
        let text = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        format!("{}-{}", text(start), text(end)).parse().ok()
    })
}

fn week() -> impl Strategy<Value = [Vec<Interval>; 7]> {
    let day = || proptest::collection::vec(interval(), 0..4);
    prop_oneof![
        [day(), day(), day(), day(), day(), day(), day()],
        day().prop_map(|day| std::array::from_fn(|_| day.clone())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn windows_agree_with_a_clock_that_is_read_every_minute(
        week in week(),
        holiday in proptest::collection::vec(interval(), 0..3),
        with_holiday in any::<bool>(),
        jump in proptest::sample::select(JUMPS),
        samples in proptest::collection::vec(0_i64..3 * 24 * 60, 24),
    ) {
        const MINUTES: i64 = 4 * 24 * 60;
        let zone = zone(jump.0);
        let start = at(jump.1) - (36 * 60).minutes();
        let dates: Vec<Date> =
            with_holiday.then(|| zone.to_datetime(at(jump.1)).date()).into_iter().collect();
        let weekdays = Weekday::Monday.cycle_forward().take(7);
        let mut hours = weekdays.zip(&week).fold(OpenHours::never(), |hours, (day, intervals)| {
            hours.on(day, intervals)
        });
        hours = hours.on_holidays(&holiday, &dates);
        let oracle = Oracle { week: &week, holiday: &holiday, dates: &dates, zone: &zone };
        let minute = |index: i64| start + index.minutes();
        let open: Vec<bool> = (0..MINUTES).map(|index| oracle.open(minute(index))).collect();
        for sample in samples {
            let window = hours.window(&zone, minute(sample));
            let index = usize::try_from(sample).unwrap();
            prop_assert_eq!(window.open, open[index], "{} at {}", hours, minute(sample));
            prop_assert!(window.from <= minute(sample));
            let changed = open[index..].iter().position(|&other| other != window.open);
            let seen = changed.map(|offset| minute(sample + i64::try_from(offset).unwrap()));
            let end = minute(MINUTES);
            prop_assert_eq!(window.until.filter(|&until| until < end), seen, "{}", hours);
            for (&open, offset) in open.iter().zip(0..) {
                let valid = window.from <= minute(offset) && minute(offset) <= minute(sample);
                prop_assert!(!valid || open == window.open, "{} from {}", hours, window.from);
            }
        }
    }
}

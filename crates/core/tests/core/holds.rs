//! Holds, refusals and permits under rules of several kinds together.

use jiff::Timestamp;
use nightgate_core::decision::PERMIT_MAX_LIFE;
use nightgate_core::{Channel, Code, ConsentAnswer, Message, Purpose};

use crate::support::{
    BOTH, GENERAL, HEAD, KR, advertising, ask, at, consent, kst, load, load_with, message, to,
};

/// A rule for everything, with `more` lines of its own.
fn rule(id: &str, more: &str) -> String {
    format!(
        "[[rule]]\nid = '{id}'\npurpose = ['advertising', 'informational']\nexcept_channels = []\n\
         citation = 'test'\nconfidence = 'house'\n{more}\n"
    )
}

fn notice() -> Message {
    message(Channel::Sms, Purpose::Informational)
}

#[test]
fn a_send_at_ahead_holds_until_it_or_until_the_windows_are_open_after_it() {
    let rules = load(&[KR]);
    let ahead = Message {
        send_at: Some(kst("18:00:00")),
        ..advertising()
    };
    let answer = ask(&rules, &ahead, &consent(GENERAL), kst("12:00:00"));
    assert_eq!(answer.brief(), (Some(kst("18:00:00")), Code::SendAt, None));
    assert!(ask(&rules, &ahead, &consent(GENERAL), kst("18:00:00")).is_send());
    let night = Message {
        send_at: Some(kst("22:00:00")),
        ..advertising()
    };
    let answer = ask(&rules, &night, &consent(GENERAL), kst("12:00:00"));
    let morning = Some(at("2026-11-23T08:00:00+09:00"));
    assert_eq!(
        answer.brief(),
        (morning, Code::QuietHours, Some("kr.night"))
    );
    let guard = Message {
        send_at: Some(kst("20:59:40")),
        ..advertising()
    };
    let answer = ask(&rules, &guard, &consent(GENERAL), kst("12:00:00"));
    assert_eq!(answer.brief(), (morning, Code::Guard, Some("kr.night")));
    let answer = ask(&rules, &night, &consent(BOTH), kst("12:00:00"));
    assert_eq!(answer.brief(), (Some(kst("22:00:00")), Code::SendAt, None));
}

#[test]
fn a_hold_ends_when_all_windows_are_open_together() {
    let rules = load_with(
        &(rule(
            "a",
            "outside = 'hold'\nopen.every_day = ['09:00-12:00', '18:00-22:00']",
        ) + &rule("b", "outside = 'hold'\nopen.every_day = ['12:00-18:30']")),
    );
    let answer = ask(&rules, &advertising(), &consent(GENERAL), kst("10:00:00"));
    assert_eq!(
        answer.brief(),
        (Some(kst("18:00:00")), Code::QuietHours, Some("a"))
    );
    let answer = ask(&rules, &advertising(), &consent(GENERAL), kst("18:10:00"));
    assert_eq!(answer.brief(), (Some(kst("18:30:00")), Code::Open, None));
}

#[test]
fn windows_that_are_never_open_together_forbid() {
    let rules = load_with(
        &(rule("a", "outside = 'hold'\nopen.every_day = ['09:00-12:00']")
            + &rule("b", "outside = 'hold'\nopen.every_day = ['12:00-18:00']")),
    );
    let answer = ask(&rules, &notice(), &consent(&[]), kst("10:00:00"));
    assert_eq!(answer.brief().1, Code::Forbidden);
    let never = load_with(&rule("never", "outside = 'hold'\nopen.every_day = []"));
    let answer = ask(&never, &notice(), &consent(&[]), kst("10:00:00"));
    assert_eq!(answer.brief(), (None, Code::Forbidden, Some("never")));
    let guard = load_with(&rule(
        "narrow",
        "outside = 'hold'\nguard = '1h'\nopen.mon = ['09:00-10:00']",
    ));
    let answer = ask(&guard, &notice(), &consent(&[]), kst("10:00:00"));
    assert_eq!(
        answer.brief(),
        (None, Code::Forbidden, Some("narrow")),
        "the guard leaves nothing"
    );
}

#[test]
fn a_rule_that_refuses_outside_outweighs_every_hold() {
    let rules = load_with(&rule(
        "strict",
        "outside = 'refuse'\nopen.every_day = ['10:00-20:00']",
    ));
    let answer = ask(
        &rules,
        &advertising(),
        &ConsentAnswer::Unknown,
        kst("21:30:00"),
    );
    assert_eq!(answer.brief(), (None, Code::Forbidden, Some("strict")));
    assert_eq!(answer.reason().opens, Some(at("2026-11-23T10:00:00+09:00")));
    let answer = ask(&rules, &advertising(), &consent(GENERAL), kst("12:00:00"));
    assert_eq!(answer.brief(), (Some(kst("20:00:00")), Code::Open, None));
}

#[test]
fn a_rule_is_open_until_the_day_from_which_it_holds() {
    let rules = load_with(&rule(
        "later",
        "outside = 'hold'\nopen.every_day = ['10:00-20:00']\neffective_from = 2026-11-23\n\
         guard = '30s'",
    ));
    let midnight = at("2026-11-23T00:00:00+09:00");
    let answer = ask(&rules, &notice(), &consent(&[]), kst("21:30:00"));
    assert_eq!(answer.brief(), (Some(kst("23:59:30")), Code::Open, None));
    assert_eq!(answer.reason().closes, Some(midnight));
    let answer = ask(&rules, &notice(), &consent(&[]), midnight);
    let opening = Some(at("2026-11-23T10:00:00+09:00"));
    assert_eq!(answer.brief(), (opening, Code::QuietHours, Some("later")));
}

#[test]
fn a_rule_no_longer_holds_after_its_last_day() {
    let rules = load_with(&rule(
        "past",
        "outside = 'hold'\nopen.every_day = ['10:00-20:00']\neffective_to = 2026-11-22",
    ));
    let midnight = at("2026-11-23T00:00:00+09:00");
    let answer = ask(&rules, &notice(), &consent(&[]), kst("21:30:00"));
    assert_eq!(
        answer.brief(),
        (Some(midnight), Code::QuietHours, Some("past"))
    );
    assert!(ask(&rules, &notice(), &consent(&[]), midnight).is_send());
    let answer = ask(&rules, &notice(), &consent(&[]), kst("19:00:00"));
    assert_eq!(answer.brief(), (Some(kst("20:00:00")), Code::Open, None));
}

#[test]
fn a_needed_consent_counts_from_the_day_its_rule_holds() {
    let rules = load_with(&rule(
        "ask",
        "outside = 'refuse'\nneeds = 'general'\neffective_from = 2026-11-23",
    ));
    let midnight = at("2026-11-23T00:00:00+09:00");
    let answer = ask(&rules, &notice(), &consent(&[]), kst("21:30:00"));
    assert_eq!(answer.brief(), (Some(midnight), Code::Open, None));
    let answer = ask(&rules, &notice(), &consent(&[]), midnight);
    assert_eq!(answer.brief(), (None, Code::NoConsent, Some("ask")));
    let answer = ask(&rules, &notice(), &consent(GENERAL), kst("21:30:00"));
    assert_eq!(answer.brief().0, Some(kst("21:30:00") + PERMIT_MAX_LIFE));
}

#[test]
fn a_guard_is_kept_before_no_closing_that_is_none() {
    let rules = load_with(&rule(
        "weekend",
        "outside = 'hold'\nguard = '10m'\nopen.sun = ['08:00-24:00']\nopen.mon = ['00:00-02:00']",
    ));
    let answer = ask(&rules, &notice(), &consent(&[]), kst("23:59:00"));
    let end = at("2026-11-23T01:50:00+09:00");
    assert_eq!(answer.brief(), (Some(end), Code::Open, None));
    let answer = ask(&rules, &notice(), &consent(&[]), end);
    assert_eq!(answer.brief().1, Code::Guard);
}

#[test]
fn a_number_in_several_zones_is_open_only_when_all_of_them_are() {
    let quiet = "outside = 'hold'\nclock = 'recipient'\nopen.every_day = ['08:00-21:00']";
    let rules = load_with(&rule("quiet", quiet));
    let notice = |number: &str| Message {
        purpose: Purpose::Informational,
        ..to(number)
    };
    for number in ["+61412345678", "+79161234567", "+19075551234"] {
        let message = notice(number);
        let place = crate::support::place(&message);
        assert!(place.zones.all.len() > 1, "{number}: {}", place.zones.name);
        let mut now = kst("00:00:00");
        for _ in 0..48 {
            let all_open = place
                .zones
                .all
                .iter()
                .all(|zone| (8..21).contains(&now.to_zoned(zone.clone()).hour()));
            let answer = ask(&rules, &message, &consent(&[]), now);
            let code = if all_open {
                Code::Open
            } else {
                answer.brief().1
            };
            assert_eq!(answer.is_send(), all_open, "{number} at {now}");
            assert!(matches!(
                code,
                Code::Open | Code::QuietHours | Code::Forbidden
            ));
            now += jiff::SignedDuration::from_mins(30);
        }
    }
    let alaska = ask(
        &rules,
        &notice("+19075551234"),
        &consent(&[]),
        at("2026-11-22T17:30:00Z"),
    );
    let (until, ..) = alaska.brief();
    assert_eq!(
        until,
        Some(at("2026-11-22T18:00:00Z")),
        "08:00 in Adak, 09:00 in Anchorage"
    );
}

#[test]
fn an_unknown_zone_falls_back_to_the_number() {
    let rules = load(&[KR]);
    let lost = Message {
        zone: Some("Mars/Olympus".into()),
        ..advertising()
    };
    let answer = ask(&rules, &lost, &consent(GENERAL), kst("23:00:00"));
    assert_eq!(&*answer.reason().zone, "Asia/Seoul");
}

#[test]
fn advertising_on_alimtalk_can_be_forbidden_by_the_house() {
    let rules = load(&[
        KR,
        &format!(
            "{HEAD}[[rule]]\nid = 'h'\npurpose = ['advertising']\nchannels = ['alimtalk']\n\
             open.every_day = []\noutside = 'refuse'\ncitation = 'x'\nconfidence = 'vendor'"
        ),
    ]);
    let told = message(Channel::Alimtalk, Purpose::Advertising);
    let answer = ask(&rules, &told, &consent(BOTH), kst("12:00:00"));
    assert_eq!(answer.brief(), (None, Code::Forbidden, Some("h")));
    let told = message(Channel::Alimtalk, Purpose::Informational);
    assert!(ask(&rules, &told, &consent(BOTH), kst("23:00:00")).is_send());
}

#[test]
fn the_ends_of_time_are_no_panic() {
    let rules = load_with(&rule(
        "q",
        "outside = 'hold'\nguard = '1m'\nopen.mon = ['09:00-12:00']",
    ));
    for now in [Timestamp::MIN, Timestamp::MAX] {
        for told in [advertising(), notice(), to("+79161234567")] {
            for known in [ConsentAnswer::Unknown, consent(BOTH), consent(&[])] {
                let _ = ask(&rules, &told, &known, now);
                let edges = (Some(Timestamp::MAX), Some(Timestamp::MIN));
                let odd = Message {
                    send_at: edges.0,
                    expires_at: edges.1,
                    ..told.clone()
                };
                let _ = ask(&rules, &odd, &known, now);
                let late = Message {
                    send_at: edges.0,
                    ..told.clone()
                };
                let _ = ask(&rules, &late, &known, now);
            }
        }
    }
}

//! The Korean pack, edge by edge.

use jiff::SignedDuration;
use nightgate_core::decision::{CONSENT_RECHECK, PERMIT_MAX_LIFE, RULES_RECHECK};
use nightgate_core::{
    Basis, Channel, Code, Consent, ConsentAnswer, Grant, Jurisdiction, Message, Purpose, Scope,
};

use crate::support::{
    BOTH, GENERAL, KR, advertising, ask, at, consent, explicit, kst, load, message, to,
};

const MORNING: &str = "2026-11-23T08:00:00+09:00";

#[test]
fn advertising_leaves_by_day_until_the_guard_before_nine() {
    let (rules, consent) = (load(&[KR]), consent(GENERAL));
    let end = Some(kst("20:59:30"));
    for time in ["08:00:00", "12:00:00", "20:59:29", "20:59:29.999999999"] {
        let answer = ask(&rules, &advertising(), &consent, kst(time));
        assert_eq!(answer.brief(), (end, Code::Open, None), "{time}");
        assert_eq!(answer.reason().closes, Some(kst("21:00:00")));
    }
}

#[test]
fn advertising_is_held_from_the_guard_to_eight_in_the_morning() {
    let (rules, consent) = (load(&[KR]), consent(GENERAL));
    for (time, code) in [
        ("20:59:30", Code::Guard),
        ("20:59:59.999", Code::Guard),
        ("21:00:00", Code::QuietHours),
        ("23:59:59", Code::QuietHours),
    ] {
        let answer = ask(&rules, &advertising(), &consent, kst(time));
        assert_eq!(
            answer.brief(),
            (Some(at(MORNING)), code, Some("kr.night")),
            "{time}"
        );
        assert_eq!(answer.reason().opens, Some(at(MORNING)));
    }
    let answer = ask(&rules, &advertising(), &consent, kst("07:59:59.999"));
    assert_eq!(
        answer.brief(),
        (Some(kst("08:00:00")), Code::QuietHours, Some("kr.night"))
    );
}

#[test]
fn night_consent_lifts_the_night() {
    let (rules, consent) = (load(&[KR]), consent(BOTH));
    for time in [
        "20:59:30",
        "20:59:59.999",
        "21:00:00",
        "02:00:00",
        "07:59:59.999",
    ] {
        let answer = ask(&rules, &advertising(), &consent, kst(time));
        let end = Some(kst(time) + PERMIT_MAX_LIFE);
        assert_eq!(
            answer.brief(),
            (end, Code::LiftedByConsent, Some("kr.night")),
            "{time}"
        );
    }
    for time in ["20:59:29", "08:00:00"] {
        let answer = ask(&rules, &advertising(), &consent, kst(time));
        assert_eq!(answer.brief().1, Code::Open, "nothing is lifted at {time}");
    }
}

#[test]
fn a_permit_at_night_ends_with_the_night_consent() {
    let rules = load(&[KR]);
    let mut known = Consent::default();
    known.grant(Scope::General, explicit(at("2026-11-01T12:00:00+09:00")));
    known.grant(Scope::Night, explicit(at("2024-11-23T12:00:00+09:00")));
    let answer = ask(
        &rules,
        &advertising(),
        &ConsentAnswer::Known(known),
        kst("23:30:00"),
    );
    let midnight = at("2026-11-23T00:00:00+09:00");
    assert_eq!(
        answer.brief(),
        (Some(midnight), Code::LiftedByConsent, Some("kr.night"))
    );
    let answer = ask(
        &rules,
        &advertising(),
        &ConsentAnswer::Known(known),
        midnight,
    );
    assert_eq!(
        answer.brief(),
        (Some(at(MORNING)), Code::QuietHours, Some("kr.night"))
    );
}

#[test]
fn a_permit_by_day_ends_with_the_general_consent() {
    let rules = load(&[KR]);
    let ends = kst("15:00:00");
    let basis = Basis::TransactionException { ends };
    let mut known = Consent::default();
    known.grant(
        Scope::General,
        Grant {
            at: at("2026-11-01T12:00:00+09:00"),
            basis,
        },
    );
    let known = ConsentAnswer::Known(known);
    let answer = ask(&rules, &advertising(), &known, kst("14:00:00"));
    assert_eq!(answer.brief(), (Some(ends), Code::Open, None));
    let answer = ask(&rules, &advertising(), &known, ends);
    assert_eq!(
        answer.brief(),
        (None, Code::ConsentLapsed, Some("kr.consent"))
    );
}

#[test]
fn night_consent_without_general_consent_lifts_nothing() {
    let answer = ask(
        &load(&[KR]),
        &advertising(),
        &consent(&[Scope::Night]),
        kst("23:00:00"),
    );
    assert_eq!(answer.brief(), (None, Code::NoConsent, Some("kr.consent")));
}

#[test]
fn e_mail_leaves_at_night_and_still_needs_consent() {
    let (rules, mail) = (load(&[KR]), message(Channel::Email, Purpose::Advertising));
    assert!(ask(&rules, &mail, &consent(GENERAL), kst("23:00:00")).is_send());
    let answer = ask(&rules, &mail, &consent(&[]), kst("23:00:00"));
    assert_eq!(answer.brief(), (None, Code::NoConsent, Some("kr.consent")));
}

#[test]
fn information_leaves_at_any_time_whatever_the_book_says() {
    let rules = load(&[KR]);
    for &channel in Channel::ALL {
        let told = message(channel, Purpose::Informational);
        let answer = ask(&rules, &told, &ConsentAnswer::Unknown, kst("23:00:00"));
        let kakao = matches!(channel, Channel::Friendtalk | Channel::Brandmessage);
        assert_eq!(answer.is_send(), !kakao, "{channel}");
    }
}

#[test]
fn kakao_closes_at_ten_to_nine_and_no_consent_opens_it() {
    let rules = load(&[KR]);
    for (channel, rule) in [
        (Channel::Friendtalk, "kr.kakao.friendtalk"),
        (Channel::Brandmessage, "kr.kakao.brandmessage"),
    ] {
        for purpose in [Purpose::Advertising, Purpose::Informational] {
            let told = message(channel, purpose);
            let answer = ask(&rules, &told, &consent(BOTH), kst("20:49:29"));
            assert_eq!(answer.brief(), (Some(kst("20:49:30")), Code::Open, None));
            for (time, code) in [
                ("20:49:30", Code::Guard),
                ("20:50:00", Code::QuietHours),
                ("20:59:45", Code::QuietHours),
                ("22:00:00", Code::QuietHours),
            ] {
                let answer = ask(&rules, &told, &consent(BOTH), kst(time));
                assert_eq!(
                    answer.brief(),
                    (Some(at(MORNING)), code, Some(rule)),
                    "{time}"
                );
            }
        }
    }
}

#[test]
fn quiet_hours_tell_more_than_the_guard_of_another_rule() {
    let told = message(Channel::Friendtalk, Purpose::Advertising);
    let answer = ask(&load(&[KR]), &told, &consent(GENERAL), kst("20:59:45"));
    let rule = Some("kr.kakao.friendtalk");
    assert_eq!(answer.brief(), (Some(at(MORNING)), Code::QuietHours, rule));
}

#[test]
fn withdrawn_and_lapsed_consents_refuse() {
    let rules = load(&[KR]);
    let mut known = Consent::default();
    known.grant(Scope::General, explicit(at("2024-11-22T12:00:00+09:00")));
    let lapsed = ask(
        &rules,
        &advertising(),
        &ConsentAnswer::Known(known),
        kst("12:00:00"),
    );
    assert_eq!(
        lapsed.brief(),
        (None, Code::ConsentLapsed, Some("kr.consent"))
    );
    known.withdraw(Scope::General, kst("02:00:00"));
    let withdrawn = ask(
        &rules,
        &advertising(),
        &ConsentAnswer::Known(known),
        kst("08:00:00"),
    );
    assert_eq!(
        withdrawn.brief(),
        (None, Code::Withdrawn, Some("kr.consent"))
    );
}

#[test]
fn the_validity_of_consents_can_be_switched() {
    let mut known = Consent::default();
    known.grant(Scope::General, explicit(at("2024-11-22T12:00:00+09:00")));
    let known = ConsentAnswer::Known(known);
    let kr = load(&[KR]);
    let version = kr.version().clone();
    let off = kr.with_consent_validity(None);
    assert!(ask(&off, &advertising(), &known, kst("12:00:00")).is_send());
    assert_ne!(off.version(), &version, "a receipt must tell the two apart");
    let three = load(&[KR]).with_consent_validity(Some(3));
    assert!(ask(&three, &advertising(), &known, kst("12:00:00")).is_send());
    let one = load(&[KR]).with_consent_validity(Some(1));
    assert!(
        !ask(
            &one,
            &advertising(),
            &consent(GENERAL),
            at("2027-11-01T00:00:00+09:00")
        )
        .is_send()
    );
}

#[test]
fn a_silent_consent_book_holds_for_a_minute_or_until_the_windows_open() {
    let rules = load(&[KR]);
    let now = kst("12:00:00");
    let answer = ask(&rules, &advertising(), &ConsentAnswer::Unknown, now);
    let until = Some(now + CONSENT_RECHECK);
    assert_eq!(
        answer.brief(),
        (until, Code::ConsentUnknown, Some("kr.consent"))
    );
    for time in ["20:58:45", "20:59:00", "23:00:00"] {
        let answer = ask(&rules, &advertising(), &ConsentAnswer::Unknown, kst(time));
        assert_eq!(answer.brief().0, Some(at(MORNING)), "{time}");
        assert_eq!(answer.brief().2, Some("kr.night"), "{time}");
    }
}

#[test]
fn advertising_to_a_country_without_rules_is_held_and_information_is_not() {
    let (rules, now) = (load(&[KR]), kst("12:00:00"));
    let abroad = to("+819012345678");
    let answer = ask(&rules, &abroad, &consent(GENERAL), now);
    assert_eq!(
        answer.brief(),
        (Some(now + RULES_RECHECK), Code::NoRules, None)
    );
    let told = Message {
        purpose: Purpose::Informational,
        ..abroad
    };
    assert!(ask(&rules, &told, &consent(GENERAL), now).is_send());
    let house_only = load(&[crate::support::HOUSE]);
    let answer = ask(&house_only, &advertising(), &consent(GENERAL), now);
    assert_eq!(
        answer.brief().1,
        Code::NoRules,
        "a house pack is law nowhere"
    );
    let named = Message {
        jurisdiction: Jurisdiction::new("JP").ok(),
        ..advertising()
    };
    assert_eq!(
        ask(&rules, &named, &consent(GENERAL), now).brief().1,
        Code::NoRules
    );
}

#[test]
fn an_expired_message_is_refused_first_of_all() {
    let rules = load(&[KR]);
    let expired = Message {
        expires_at: Some(kst("12:00:00")),
        ..advertising()
    };
    let answer = ask(&rules, &expired, &ConsentAnswer::Unknown, kst("12:00:00"));
    assert_eq!(answer.brief(), (None, Code::Expired, None));
    let before = kst("12:00:00") - SignedDuration::from_secs(1);
    let answer = ask(&rules, &expired, &consent(GENERAL), before);
    assert_eq!(answer.brief(), (Some(kst("12:00:00")), Code::Open, None));
}

#[test]
fn a_message_that_expires_before_its_opening_is_refused_now() {
    let rules = load(&[KR]);
    let expires_at = Some(at(MORNING));
    let short = Message {
        expires_at,
        ..advertising()
    };
    let answer = ask(&rules, &short, &consent(GENERAL), kst("23:00:00"));
    assert_eq!(answer.brief(), (None, Code::Expired, Some("kr.night")));
    assert_eq!(answer.reason().opens, expires_at);
    let longer = Message {
        expires_at: expires_at.map(|at| at + SignedDuration::from_nanos(1)),
        ..advertising()
    };
    let answer = ask(&rules, &longer, &consent(GENERAL), kst("23:00:00"));
    assert_eq!(
        answer.brief(),
        (expires_at, Code::QuietHours, Some("kr.night"))
    );
}

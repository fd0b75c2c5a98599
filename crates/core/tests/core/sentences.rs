//! Sentences about decisions, in both languages.

use nightgate_core::consent::{ConsentSnapshot, Standing};
use nightgate_core::{Answer, Code, Language, Reason, ZoneSource, explain};

use crate::support::{GENERAL, KR, advertising, ask, at, consent, kst, load};

const CODES: [Code; 12] = [
    Code::Open,
    Code::LiftedByConsent,
    Code::QuietHours,
    Code::Guard,
    Code::SendAt,
    Code::Expired,
    Code::NoConsent,
    Code::Withdrawn,
    Code::ConsentLapsed,
    Code::ConsentUnknown,
    Code::NoRules,
    Code::Forbidden,
];

fn reason(code: Code) -> Reason {
    let general = match code {
        Code::Withdrawn => Standing::Withdrawn {
            at: kst("02:00:00"),
        },
        Code::ConsentLapsed => Standing::Lapsed {
            at: kst("02:00:00"),
        },
        _ => Standing::None,
    };
    Reason {
        code,
        rule: Some("kr.night".into()),
        ruleset: "0123456789abcdef".into(),
        zone: "Asia/Seoul".into(),
        zone_source: ZoneSource::Number,
        opens: None,
        closes: None,
        consent: ConsentSnapshot {
            general,
            night: Standing::None,
        },
    }
}

#[test]
fn every_answer_and_code_has_a_sentence_in_both_languages() {
    let instant = at("2026-11-22T23:00:00Z");
    let answers = [
        Answer::Send { not_after: instant },
        Answer::Hold { until: instant },
        Answer::Refuse,
    ];
    let mut seen = std::collections::BTreeSet::new();
    for answer in answers {
        for code in CODES {
            for opens in [None, Some(instant)] {
                let reason = Reason {
                    opens,
                    ..reason(code)
                };
                let english = explain(answer, &reason, Language::English);
                let korean = explain(answer, &reason, Language::Korean);
                assert!(english.is_ascii() && english.ends_with(").") && korean.ends_with(")."));
                assert!(korean.contains("니다("), "the formal polite form: {korean}");
                for text in [&english, &korean] {
                    assert!(
                        text.contains("kr.night") && text.contains("Asia/Seoul"),
                        "{text}"
                    );
                    assert!(
                        !text.contains(['{', '}', '_']) || text.contains("send_at"),
                        "{text}"
                    );
                    assert!(!text.contains("  "), "{text}");
                }
                if answer != Answer::Refuse {
                    assert!(english.contains("2026-11-23 08:00:00 +09:00"), "{english}");
                    assert!(
                        korean.contains("2026년 11월 23일 08:00:00(UTC+09:00)"),
                        "{korean}"
                    );
                }
                if matches!(code, Code::Withdrawn | Code::ConsentLapsed) {
                    assert!(english.contains("2026-11-22 02:00:00 +09:00"), "{english}");
                    assert!(korean.contains("2026년 11월 22일 02:00:00"), "{korean}");
                }
                if opens.is_none() {
                    assert!(
                        seen.insert(english) && seen.insert(korean),
                        "{code:?} is told apart"
                    );
                }
            }
        }
    }
}

#[test]
fn a_hold_at_night_reads_well() {
    let answer = ask(
        &load(&[KR]),
        &advertising(),
        &consent(GENERAL),
        kst("23:00:00"),
    );
    let hold = Answer::Hold {
        until: answer.brief().0.unwrap(),
    };
    assert_eq!(
        explain(hold, answer.reason(), Language::English),
        "Held until 2026-11-23 08:00:00 +09:00 because quiet hours are in force \
         (rule kr.night; zone Asia/Seoul, from the recipient's number)."
    );
    assert_eq!(
        explain(hold, answer.reason(), Language::Korean),
        "발송 제한 시간에 해당하므로 2026년 11월 23일 08:00:00(UTC+09:00)까지 발송을 보류합니다\
         (규칙 kr.night, 수신자 번호로 확인한 시간대 Asia/Seoul)."
    );
}

#[test]
fn each_source_of_the_zone_is_named() {
    for language in [Language::English, Language::Korean] {
        let sources = [ZoneSource::Message, ZoneSource::Number, ZoneSource::House];
        let texts: std::collections::BTreeSet<String> = sources
            .map(|zone_source| {
                let reason = Reason {
                    zone_source,
                    rule: None,
                    ..reason(Code::Open)
                };
                explain(Answer::Refuse, &reason, language)
            })
            .into();
        assert_eq!(texts.len(), 3);
    }
}

#[test]
fn times_of_several_zones_are_those_of_the_first() {
    let instant = at("2026-11-22T17:00:00Z");
    for (zone, offset, several) in [
        ("America/Adak+America/Anchorage", "07:00:00 -10:00", true),
        ("Etc/GMT+9", "08:00:00 -09:00", false),
        ("Etc/GMT+9+Asia/Seoul", "08:00:00 -09:00", true),
        ("nowhere", "17:00:00 +00:00", false),
        ("", "17:00:00 +00:00", false),
    ] {
        let reason = Reason {
            zone: zone.into(),
            ..reason(Code::QuietHours)
        };
        let text = explain(Answer::Hold { until: instant }, &reason, Language::English);
        assert!(text.contains(offset), "{text}");
        assert_eq!(text.contains("times in the first"), several, "{text}");
    }
}

#[test]
fn a_reason_survives_a_line_of_json() {
    for code in CODES {
        let line = serde_json::to_string(&reason(code)).unwrap();
        assert_eq!(serde_json::from_str::<Reason>(&line).unwrap(), reason(code));
    }
}

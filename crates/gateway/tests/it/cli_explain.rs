//! `nightgate explain` on the built binary.

use crate::cli_home::Home;

const ADVERTISING: [&str; 9] = [
    "explain",
    "--recipient",
    "010-1234-5678",
    "--channel",
    "sms",
    "--purpose",
    "advertising",
    "--general",
    "granted",
];

#[test]
fn advertising_is_explained_at_the_edges_of_the_night() {
    let home = Home::new();
    let at = |instant: &str| {
        let args = [&ADVERTISING[..], &["--json", "--at", instant]].concat();
        let ran = home.run(&args);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.json()
    };
    let before = at("2026-11-22T20:59:29+09:00");
    assert_eq!(before["decision"], "send");
    assert_eq!(before["not_after"], "2026-11-22T20:59:30+09:00");
    for (instant, code) in [
        ("2026-11-22T20:59:30+09:00", "guard"),
        ("2026-11-22T21:00:00+09:00", "quiet_hours"),
        ("2026-11-23T07:59:59+09:00", "quiet_hours"),
    ] {
        let held = at(instant);
        assert_eq!(held["decision"], "hold", "{instant}");
        assert_eq!(held["until"], "2026-11-23T08:00:00+09:00", "{instant}");
        assert_eq!(held["reason"]["code"], code, "{instant}");
        assert_eq!(held["reason"]["rule"], "kr.night", "{instant}");
    }
    assert_eq!(at("2026-11-23T08:00:00+09:00")["decision"], "send");
}

#[test]
fn people_read_both_languages_the_rule_and_its_citation_but_no_number() {
    let home = Home::new();
    let late = ["--at", "2026-11-22T23:00:00+09:00"];
    let both = home.run(&[&ADVERTISING[..], &late].concat());
    for part in [
        "HOLD until 2026-11-23T08:00:00+09:00",
        "보류합니다",
        "Held until 2026-11-23 08:00:00 +09:00",
        "kr.night",
        "Network Act",
        "+82********78",
    ] {
        assert!(both.out.contains(part), "{part} in {}", both.out);
    }
    assert!(!both.out.contains("1234"), "{}", both.out);
    let english = home.run(&[&ADVERTISING[..], &late, &["--language", "en"]].concat());
    assert!(!english.out.contains("보류"), "{}", english.out);
}

#[test]
fn the_flags_stand_in_for_the_consent_book_and_the_book_is_asked_without_them() {
    let home = Home::new();
    let at = ["--json", "--at", "2026-11-22T23:00:00+09:00"];
    let night = home.run(&[&ADVERTISING[..], &at, &["--night", "granted"]].concat());
    assert_eq!(night.json()["reason"]["code"], "lifted_by_consent");
    let asked = || home.run(&[&ADVERTISING[..7], &at].concat()).json()["reason"]["code"].clone();
    assert_eq!(asked(), "no_consent");
    assert!(
        !home.path("nightgate-data").exists(),
        "a dry run makes nothing"
    );
    for scope in ["general", "night"] {
        let at = "2026-11-20T09:00:00+09:00";
        let grant = [
            "consent",
            "grant",
            "+821012345678",
            "--scope",
            scope,
            "--at",
            at,
        ];
        assert_eq!(home.run(&grant).code, 0);
    }
    assert_eq!(asked(), "lifted_by_consent");
}

#[test]
fn a_message_is_read_from_a_file_or_standard_input_and_all_its_faults_are_told() {
    let home = Home::new();
    let message = r#"{"id":"m","recipient":"010-1234-5678","channel":"sms",
        "purpose":"informational","body":"hello"}"#;
    let file = home.write("message.json", message);
    assert_eq!(
        home.run(&["explain", file, "--json"]).json()["decision"],
        "send"
    );
    let piped = home.pipe(message, &["explain", "-", "--json"]);
    assert_eq!(piped.json()["decision"], "send");
    let wrong = r#"{"id":"m","recipient":"010-1234-5678","channel":"pigeon","purpose":"x"}"#;
    let ran = home.pipe(wrong, &["explain", "-"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("`channel`") && ran.err.contains("`purpose`"),
        "{}",
        ran.err
    );
    assert!(!ran.err.contains("1234"), "{}", ran.err);
}

//! Packs: what is read, and every fault of what cannot be.

use nightgate_core::{Jurisdiction, PackSource, Ruleset};

use crate::support::{HEAD, HOUSE, KR, advertising, kst, load, place, source};

/// A pack with ten faults, each on a line that says which.
const TEN_FAULTS: &str = "\
[pack]
id = 'bad'
titel = 'Unknown key, and no title'
jurisdiction = 'Korea'
clock = 'Asia/Seoul'

[holidays]
company = [2026-12-25, 'Christmas']

[[rule]]
id = 'one'
purpose = ['promo']
channels = 'sms'
open.every_day = ['08:00-08:00']
outside = 'wait'
guard = 'half a minute'
citation = 'x'
confidence = 'law'

[[rule]]
id = 'one'
purpose = ['advertising']
channels = ['sms']
clock = 'Mars/Olympus'
open.every_day = ['08:00-21:00']
outside = 'hold'
citation = 'x'
confidence = 'law'
";

fn faults(packs: &[PackSource]) -> Vec<String> {
    let faults = Ruleset::load(packs).err().unwrap_or_default();
    faults.iter().map(ToString::to_string).collect()
}

/// Faults of one rule in a pack that is otherwise sound; the rule starts on line 6.
fn rule_faults(rule: &str) -> Vec<String> {
    faults(&[source("test.toml", &format!("{HEAD}[[rule]]\n{rule}"))])
}

const SOUND: &str = "id = 'r'\npurpose = ['advertising']\nchannels = ['sms']\noutside = 'hold'\n\
                     citation = 'x'\nconfidence = 'law'\n";

#[test]
fn every_fault_of_a_pack_is_told_at_once_with_its_line() {
    let found = faults(&[source("bad.toml", TEN_FAULTS)]);
    let expected = [
        "bad.toml:1: [pack] lacks `title`",
        "bad.toml:3: [pack] knows no key `titel`, only id, title, jurisdiction, clock",
        "bad.toml:4: `jurisdiction` of [pack] must be an ISO 3166-1 country code such as KR, or \
         \"*\"",
        "bad.toml:8: `company` of [holidays] must be a date such as 2026-12-25, is `Christmas`",
        "bad.toml:12: `purpose` of rule `one` must be one of informational, advertising",
        "bad.toml:13: `channels` of rule `one` must be a list, is string",
        "bad.toml:14: `every_day` of `open` of rule `one` `08:00-08:00` is empty: all day is \
         written \"00:00-24:00\"",
        "bad.toml:15: `outside` of rule `one` must be one of hold, refuse",
        "bad.toml:16: `guard` of rule `one` must be a duration such as \"30s\", at most 12 hours, \
         is `half a minute`",
        "bad.toml:21: rule `one` is already defined in bad.toml, line 11",
        "bad.toml:24: `clock` of rule `one` must be \"recipient\" or an IANA zone, is \
         `Mars/Olympus`",
    ];
    assert_eq!(found, expected);
}

#[test]
fn faults_of_all_packs_are_told_in_the_order_of_the_packs() {
    let found = faults(&[
        source("b.toml", "pack = 1"),
        source("a.toml", ""),
        source("kr", KR),
    ]);
    assert_eq!(
        found,
        [
            "b.toml:1: [pack] must be a table, is integer",
            "a.toml:1: the pack lacks \
         `pack`"
        ]
    );
}

#[test]
fn text_that_is_no_toml_is_a_fault_with_its_line() {
    let text = format!("{HEAD}\n[[rule]\n");
    let found = faults(&[source("a.toml", &text)]);
    assert!(found[0].starts_with("a.toml:7: is not TOML: "), "{found:?}");
}

#[test]
fn a_rule_must_say_whom_it_concerns_and_what_it_asks() {
    let bare = rule_faults("");
    for lacking in [
        "id",
        "purpose",
        "channels` or `except_channels",
        "open` or `needs",
        "outside",
        "citation",
        "confidence",
    ] {
        let text = format!("lacks `{lacking}`");
        assert!(
            bare.iter().any(|fault| fault.contains(&text)),
            "{text} in {bare:#?}"
        );
    }
    assert_eq!(
        rule_faults(&format!("{SOUND}open.mon = ['08:00-21:00']")),
        [""; 0]
    );
}

#[test]
fn contradictions_in_a_rule_are_faults() {
    for (more, says) in [
        (
            "open.mon = []\nneeds = 'general'",
            "both `open` and `needs`",
        ),
        (
            "open.mon = []\nexcept_channels = []",
            "both `channels` and `except_channels`",
        ),
        ("needs = 'general'", "`outside` must be \"refuse\""),
        ("needs = 'general'\nguard = '1s'", "belong to `open`"),
        ("needs = 'general'\nlifted_by = 'night'", "no consent lifts"),
        ("needs = 'sometimes'", "must be one of general, night"),
        ("open = {}", "names no day"),
        ("open = 'always'", "must be a table, is string"),
        ("open.moon = []", "knows no key `moon`"),
        ("open.mon = [8]", "must hold text, holds integer"),
        ("open.mon = []\nopen.holiday = []", "name its list"),
        (
            "open.mon = []\nopen.holiday = []\nholidays = 'x'",
            "has no list `x`",
        ),
        ("open.mon = []\nholidays = 'x'", "lacks `holiday`"),
        ("open.mon = []\nguard = '13h'", "at most 12 hours"),
        ("open.mon = []\nguard = '-1s'", "at most 12 hours"),
        ("open.mon = []\nguard = 30", "must be text, is integer"),
        ("open.mon = []\neffective_from = 'soon'", "must be a date"),
        (
            "open.mon = []\neffective_from = 2026-12-01\neffective_to = 2026-11-30",
            "ends before it becomes effective",
        ),
    ] {
        let found = rule_faults(&format!("{SOUND}{more}"));
        assert!(
            found.iter().any(|fault| fault.contains(says)),
            "{more}: {found:#?}"
        );
        assert!(
            found.iter().all(|fault| fault.starts_with("test.toml:")),
            "{found:#?}"
        );
    }
}

#[test]
fn a_pack_without_a_clock_needs_one_in_its_rules_and_for_its_consents() {
    let head = "[pack]\nid = 'p'\ntitle = 'P'\njurisdiction = 'KR'\n";
    let text = format!("{head}[consent]\nvalidity_years = 2\n[[rule]]\n{SOUND}open.mon = []");
    let found = faults(&[source("p.toml", &text)]);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("p.toml:5: [consent] counts calendar days"));
    assert!(found[1].contains("p.toml:7: rule `r` lacks `clock`"));
    for years in ["0", "101", "2.5", "'two'"] {
        let text = format!("{HEAD}[consent]\nvalidity_years = {years}\n");
        let found = faults(&[source("p.toml", &text)]);
        assert!(
            found[0].contains("p.toml:7: `validity_years`"),
            "{found:#?}"
        );
    }
}

#[test]
fn one_id_in_two_packs_is_a_fault_of_the_second() {
    let found = faults(&[source("one.toml", KR), source("two.toml", KR)]);
    let two = |fault: &String| fault.starts_with("two.toml:") && fault.contains("in one.toml");
    assert_eq!(found.len(), 5, "the pack and its four rules");
    assert!(found.iter().all(two), "{found:#?}");
}

#[test]
fn the_version_tells_contents_and_not_their_order() {
    let (one, other) = (load(&[KR, HOUSE]), load(&[HOUSE, KR]));
    assert_eq!(one.version(), other.version());
    assert_eq!(one.version().len(), 16);
    assert_ne!(one.version(), load(&[KR]).version());
    assert_ne!(load(&[KR]).version(), load(&[&format!("{KR}\n")]).version());
}

#[test]
fn the_shipped_packs_are_sound_and_every_rule_is_cited() {
    let rules = load(&[KR, HOUSE]);
    let ids: Vec<_> = rules.rules().map(|rule| rule.id).collect();
    let expected = [
        "kr.consent",
        "kr.kakao.brandmessage",
        "kr.kakao.friendtalk",
        "kr.night",
    ];
    assert_eq!(ids, expected);
    for rule in rules.rules() {
        assert!(rule.citation.len() > 40, "{}", rule.id);
        assert_eq!(rule.pack, "kr");
        assert_eq!(rule.clock, "Asia/Seoul");
    }
    let night = rules.rules().find(|rule| rule.id == "kr.night").unwrap();
    assert_eq!(night.hours.as_deref(), Some("every day 08:00-21:00"));
    assert_eq!((night.guard_s, night.channels.len()), (30, 10));
    assert!(rules.covers(Jurisdiction::new("KR").unwrap()));
    let packs: Vec<_> = rules.packs().map(|pack| (pack.id, pack.rules)).collect();
    assert_eq!(packs, [("house", 0), ("kr", 4)]);
}

#[test]
fn the_examples_of_the_house_pack_are_sound_when_uncommented() {
    let mut text = String::new();
    for line in HOUSE.lines() {
        let code = line.strip_prefix("# ").filter(|rest| {
            let key = rest.split(['=', ' ']).next().unwrap_or_default();
            rest.starts_with('[') || rest.contains(" = ") && !key.is_empty()
        });
        text.push_str(code.unwrap_or(line));
        text.push('\n');
    }
    let text = text.replace(
        "clock = \"recipient\"         #",
        "clock = \"Asia/Seoul\" #",
    );
    let rules = load(&[&text]);
    let ids: Vec<_> = rules.rules().map(|rule| rule.id).collect();
    assert_eq!(
        ids,
        [
            "house.consent",
            "house.no-advertising-on-alimtalk",
            "house.quiet"
        ]
    );
    let quiet = rules.rules().find(|rule| rule.id == "house.quiet").unwrap();
    let hours = "mon-fri 09:00-12:00, 13:00-20:00; sat 10:00-17:00; sun closed; holidays closed";
    assert_eq!(quiet.hours.as_deref(), Some(hours));
}

#[test]
fn the_rules_that_concern_a_message_can_be_asked_for() {
    let rules = load(&[KR]);
    let message = advertising();
    let found = rules.applicable(&message, &place(&message), kst("23:00:00"));
    let ids: Vec<_> = found
        .iter()
        .map(|rule| (rule.rule.id, rule.zone.as_str()))
        .collect();
    assert_eq!(
        ids,
        [("kr.consent", "Asia/Seoul"), ("kr.night", "Asia/Seoul")]
    );
    let window = found[1].window.unwrap();
    assert!(!window.open && window.from == kst("21:00:00"));
    assert!(
        serde_json::to_string(&found)
            .unwrap()
            .contains("\"confidence\":\"law\"")
    );
}

//! Whose law and which clocks, and the key under which a recipient is known.

use std::sync::Arc;

use jiff::tz::{TimeZone, offset};
use nightgate_core::{
    Channel, House, Jurisdiction, Message, Purpose, Recipient, Ruleset, ZoneSource, locate,
};
use proptest::prelude::*;

use crate::support::{KR, advertising, house, load, message, place, to};

fn told(message: &Message) -> (String, String, ZoneSource) {
    let place = place(message);
    let zones = place.zones;
    let names: Vec<_> = zones.all.iter().filter_map(TimeZone::iana_name).collect();
    assert_eq!(names.join("+"), &*zones.name, "the name is the zones");
    (
        place.jurisdiction.to_string(),
        zones.name.to_string(),
        zones.source,
    )
}

fn expect(message: &Message, law: &str, zone: &str, source: ZoneSource) {
    assert_eq!(told(message), (law.to_owned(), zone.to_owned(), source));
}

#[test]
fn a_message_that_names_its_place_is_believed() {
    let named = Message {
        zone: Some("America/New_York".into()),
        jurisdiction: Jurisdiction::new("US").ok(),
        ..advertising()
    };
    expect(&named, "US", "America/New_York", ZoneSource::Message);
    let zone_only = Message {
        jurisdiction: None,
        ..named
    };
    expect(&zone_only, "KR", "America/New_York", ZoneSource::Message);
}

#[test]
fn a_number_tells_country_and_clocks() {
    expect(&to("010-1234-5678"), "KR", "Asia/Seoul", ZoneSource::Number);
    expect(&to("02-2133-2114"), "KR", "Asia/Seoul", ZoneSource::Number);
    expect(&to("+821012345678"), "KR", "Asia/Seoul", ZoneSource::Number);
    expect(
        &to("+33612345678"),
        "FR",
        "Europe/Paris",
        ZoneSource::Number,
    );
    expect(
        &to("+1 212-736-5000"),
        "US",
        "America/New_York",
        ZoneSource::Number,
    );
    expect(
        &to("+61 2 9123 4567"),
        "AU",
        "Australia/Sydney",
        ZoneSource::Number,
    );
    expect(
        &to("+1 416-736-5000"),
        "CA",
        "America/Toronto",
        ZoneSource::Number,
    );
    let (law, zones, source) = told(&to("+1 907 555 1234"));
    assert_eq!((law.as_str(), source), ("US", ZoneSource::Number));
    assert!(
        zones.contains("America/Adak") && zones.contains("America/Anchorage"),
        "{zones}"
    );
    for (number, law) in [("+61412345678", "AU"), ("+79161234567", "RU")] {
        let (found, zones, source) = told(&to(number));
        assert_eq!((found.as_str(), source), (law, ZoneSource::Number));
        assert!(zones.contains('+'), "{number}: {zones}");
    }
}

#[test]
fn a_number_that_no_plan_holds_valid_still_has_its_countrys_clocks() {
    expect(&to("+82 1 555"), "KR", "Asia/Seoul", ZoneSource::Number);
    let (law, zones, source) = told(&to("+1 000 000 0000"));
    assert_eq!((law.as_str(), source), ("US", ZoneSource::Number));
    assert!(
        zones.split('+').count() > 4,
        "all of North America: {zones}"
    );
}

#[test]
fn whoever_has_no_number_is_at_home() {
    for recipient in [
        "a@example.com",
        "device-token-1234",
        "12345",
        "+",
        "+999",
        "---",
    ] {
        expect(&to(recipient), "KR", "Asia/Seoul", ZoneSource::House);
    }
}

#[test]
fn a_zone_that_nobody_knows_is_no_zone() {
    for zone in [
        "Mars/Olympus",
        "",
        "Etc/Unknown",
        "../../etc/passwd",
        "아시아/서울",
        "\0",
    ] {
        let lost = Message {
            zone: Some(zone.into()),
            ..to("+33612345678")
        };
        expect(&lost, "FR", "Europe/Paris", ZoneSource::Number);
    }
}

#[test]
fn any_spelling_of_a_zone_gives_its_one_name() {
    let shouted = Message {
        zone: Some("ASIA/SEOUL".into()),
        ..advertising()
    };
    expect(&shouted, "KR", "Asia/Seoul", ZoneSource::Message);
}

#[test]
fn zone_data_is_shared_between_messages() {
    let (one, other) = (place(&to("+61412345678")), place(&to("+61412345679")));
    assert!(Arc::ptr_eq(&one.zones.all, &other.zones.all));
    let (one, other) = (place(&to("a@example.com")), place(&to("b@example.com")));
    assert!(Arc::ptr_eq(&one.zones.all, &other.zones.all));
}

#[test]
fn a_house_clock_without_a_name_is_called_by_its_offset() {
    let zone = TimeZone::fixed(offset(9));
    let house = House {
        jurisdiction: Jurisdiction::new("KR").unwrap(),
        zone,
    };
    let place = locate(&to("a@example.com"), &house);
    assert_eq!(&*place.zones.name, "UTC+09");
    assert_eq!(place.zones.all.len(), 1);
}

#[test]
fn a_class_names_purpose_channel_law_and_clocks() {
    let rules = load(&[KR]);
    let class = |message: &Message| rules.class(message, &place(message)).as_str().to_owned();
    assert_eq!(class(&advertising()), "advertising/sms/KR/Asia/Seoul");
    let mail = Message {
        recipient: Recipient::new("a@example.com").unwrap(),
        ..message(Channel::Email, Purpose::Informational)
    };
    assert_eq!(class(&mail), "informational/email/KR/Asia/Seoul");
    let alaska = class(&to("+19075551234"));
    assert_eq!(alaska, "advertising/sms/US/America/Adak+America/Anchorage");
}

#[test]
fn two_places_of_one_name_and_different_clocks_do_not_share_an_answer() {
    let rules: Ruleset = load(&[KR]);
    let message = Message {
        channel: Channel::Sms,
        ..advertising()
    };
    let mut other = place(&message);
    other.zones.all = [TimeZone::UTC].into();
    let zones = |place: &nightgate_core::Place| {
        let found = rules.applicable(&message, place, jiff::Timestamp::UNIX_EPOCH);
        found.into_iter().map(|rule| rule.zone).collect::<Vec<_>>()
    };
    let _ = (
        rules.class(&message, &place(&message)),
        rules.class(&message, &other),
    );
    assert_eq!(
        zones(&place(&message)),
        zones(&other),
        "the law's clock is its own"
    );
}

/// What [`Recipient::key`] promises, by the numbering plans alone.
fn key_by_the_plans(text: &str, home: &str) -> String {
    let number = if text.starts_with('+') {
        namba::parse(text).ok()
    } else {
        namba::parse_in(namba::Region::new(home).unwrap(), text).ok()
    };
    let valid = number.filter(|number| number.assess().is_valid());
    valid.map_or(text.to_owned(), |number| {
        number.format(namba::Format::E164).to_string()
    })
}

fn number_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "\\+8210[0-9]{7,9}",
        4 => "010[0-9]{7,9}",
        4 => "010-[0-9]{3,4}-[0-9]{4}",
        2 => "\\+8210[- ]?[0-9]{4}[- ][0-9]{4}",
        1 => "0[0-9]{1,2}-?[0-9]{6,8}",
        1 => "\\+82[0-9]{6,12}",
        1 => "\\+[1-9][0-9]{6,13}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_quick_key_is_the_key_of_the_plans(text in number_text()) {
        for home in ["KR", "US"] {
            let key = Recipient::new(&text).unwrap().key(home);
            prop_assert_eq!(key.expose(), &key_by_the_plans(&text, home));
        }
    }

    #[test]
    fn the_quick_place_is_the_place_of_the_plans(
        code in "82|81|86|91|33|65|66|84|63|886|852|971|49|90",
        rest in "[1-9][0-9]{6,9}",
    ) {
        // A hyphen sends the same number down the long road.
        let quick = place(&to(&format!("+{code}{rest}")));
        let long = place(&to(&format!("+{code}-{rest}")));
        prop_assert_eq!(quick, long);
    }

    #[test]
    fn no_recipient_is_a_panic(text in "[+0-9() .-]{1,20}|\\PC{1,40}") {
        if let Ok(recipient) = Recipient::new(&text) {
            let _ = recipient.key("KR");
            let _ = locate(&Message { recipient, ..advertising() }, &house());
        }
    }
}

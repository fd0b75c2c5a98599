//! What holds for every decision, whatever the rules, the message and the time.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::consent::{Basis, Consent, ConsentAnswer, Grant, Scope, Standing};
use nightgate_core::{Channel, Code, Message, Purpose, Recipient, Ruleset};
use proptest::prelude::*;

use crate::support::{Answer, KR, advertising, ask, at, load, message, place, source};

/// One rule of a random pack, as TOML.
fn rule() -> impl Strategy<Value = String> {
    let interval = (0_u16..24, 1_u16..24, 0_u16..4).prop_map(|(start, length, quarter)| {
        format!(
            "'{start:02}:{:02}-{:02}:00'",
            quarter * 15,
            (start + length) % 24
        )
    });
    let interval = interval.prop_filter("not empty", |text| text[1..6] != text[7..12]);
    let day = || proptest::collection::vec(interval.clone(), 0..3).prop_map(|day| day.join(", "));
    let lines = (
        proptest::sample::select(&["'advertising'", "'advertising', 'informational'"][..]),
        proptest::sample::select(&["recipient", "Asia/Seoul", "America/New_York"][..]),
        (day(), day()),
        proptest::sample::select(&["", "lifted_by = 'night'\n", "lifted_by = 'general'\n"][..]),
        proptest::sample::select(&["hold", "hold", "hold", "refuse"][..]),
        0_u16..40,
        proptest::sample::select(
            &[
                "",
                "",
                "effective_from = 2026-11-03\n",
                "effective_to = 2026-11-02\n",
            ][..],
        ),
    );
    lines.prop_map(
        |(purpose, clock, (day, monday), lifted, outside, guard, term)| {
            format!(
                "purpose = [{purpose}]\nexcept_channels = ['email']\nclock = '{clock}'\n\
             open.every_day = [{day}]\nopen.mon = [{monday}]\n{lifted}outside = '{outside}'\n\
             guard = '{guard}m'\n{term}citation = 'x'\nconfidence = 'house'\n"
            )
        },
    )
}

pub(crate) fn packs() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(proptest::collection::vec(rule(), 1..3), 1..3).prop_map(|packs| {
        let head =
            |index: usize| format!("[pack]\nid = 'p{index}'\ntitle = 'P'\njurisdiction = '*'\n");
        let body = |pack: usize, rules: Vec<String>| {
            let named = rules
                .iter()
                .enumerate()
                .map(|(index, rule)| format!("[[rule]]\nid = 'r{pack}{index}'\n{rule}"));
            head(pack) + &named.collect::<String>()
        };
        packs
            .into_iter()
            .enumerate()
            .map(|(pack, rules)| body(pack, rules))
            .collect()
    })
}

/// The same packs in another order, and the rules in each the other way round.
fn turned(packs: &[String]) -> Vec<String> {
    let turn = |pack: &String| {
        let mut parts = pack.split("[[rule]]\n");
        let head = parts.next().unwrap_or_default().to_owned();
        let mut rules: Vec<_> = parts.collect();
        rules.reverse();
        head + &rules
            .iter()
            .map(|rule| format!("[[rule]]\n{rule}"))
            .collect::<String>()
    };
    packs.iter().rev().map(turn).collect()
}

pub(crate) fn rules(packs: &[String]) -> Ruleset {
    let texts: Vec<&str> = [KR]
        .into_iter()
        .chain(packs.iter().map(String::as_str))
        .collect();
    load(&texts)
}

/// Any instant of the first week of November 2026, with its edges: clocks change in New York.
pub(crate) fn instant() -> impl Strategy<Value = Timestamp> {
    let start = at("2026-10-31T15:00:00Z");
    let quarter = SignedDuration::from_mins(15);
    let edge = (0_i32..7 * 96).prop_map(move |index| start + quarter * index);
    let off = (0_i64..=1_000_000_000).prop_map(SignedDuration::from_nanos);
    let any = (edge.clone(), off).prop_map(|(edge, off)| edge - off);
    prop_oneof![
        edge,
        any,
        proptest::sample::select(&[Timestamp::MIN, Timestamp::MAX][..])
    ]
}

pub(crate) fn a_message() -> impl Strategy<Value = Message> {
    let number = proptest::sample::select(
        &[
            "010-1234-5678",
            "+19075551234",
            "+12127365000",
            "+61412345678",
            "a@example.com",
        ][..],
    );
    let channel =
        proptest::sample::select(&[Channel::Sms, Channel::Friendtalk, Channel::Email][..]);
    let purpose = proptest::sample::select(Purpose::ALL);
    let law = proptest::bool::weighted(0.7);
    let times = (
        proptest::option::weighted(0.2, instant()),
        proptest::option::weighted(0.2, instant()),
    );
    (number, channel, purpose, law, times).prop_map(|(number, channel, purpose, korean, times)| {
        Message {
            recipient: Recipient::new(number).unwrap(),
            jurisdiction: korean.then(|| nightgate_core::Jurisdiction::new("KR").unwrap()),
            send_at: times.0,
            expires_at: times.1,
            ..message(channel, purpose)
        }
    })
}

pub(crate) fn answer_of_the_book() -> impl Strategy<Value = ConsentAnswer> {
    let grant = || {
        (instant(), proptest::option::weighted(0.2, instant())).prop_map(|(at, ends)| {
            let basis = ends.map_or(Basis::Explicit, |ends| Basis::TransactionException { ends });
            Grant { at, basis }
        })
    };
    let old = Just(Grant {
        at: at("2024-11-03T03:00:00Z"),
        basis: Basis::Explicit,
    });
    let good = Just(Grant {
        at: at("2026-01-01T00:00:00Z"),
        basis: Basis::Explicit,
    });
    let scope = || proptest::option::weighted(0.9, prop_oneof![grant(), old, good]);
    let known = (scope(), scope(), proptest::option::weighted(0.1, instant()));
    let known = known.prop_map(|(general, night, withdrawn)| {
        let mut consent = Consent::default();
        general
            .into_iter()
            .for_each(|grant| consent.grant(Scope::General, grant));
        night
            .into_iter()
            .for_each(|grant| consent.grant(Scope::Night, grant));
        withdrawn
            .into_iter()
            .for_each(|at| consent.withdraw(Scope::Night, at));
        ConsentAnswer::Known(consent)
    });
    prop_oneof![1 => Just(ConsentAnswer::Unknown), 5 => known]
}

/// Every rule that no consent lifts at `now` is open then, read rule by rule and clock by clock.
fn all_open(rules: &Ruleset, message: &Message, answer: &Answer, now: Timestamp) -> bool {
    let place = place(message);
    rules
        .applicable(message, &place, now)
        .iter()
        .all(|applicable| {
            let lifted = applicable.rule.lifted_by.is_some_and(|scope| {
                let standing = answer.reason().consent.of(scope);
                let stands = |until: Option<Timestamp>| until.is_none_or(|until| now < until);
                match standing {
                    Standing::Valid { until, basis, .. } => {
                        basis == Basis::Explicit && stands(until)
                    }
                    _ => false,
                }
            });
            lifted || applicable.window.is_none_or(|window| window.open)
        })
}

fn turned_sources(packs: &[String]) -> Ruleset {
    let mut sources: Vec<_> = turned(packs)
        .iter()
        .map(|text| source("turned.toml", text))
        .collect();
    sources.push(source("kr.toml", KR));
    Ruleset::load(&sources).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_order_of_rules_and_packs_means_nothing(
        packs in packs(), message in a_message(), book in answer_of_the_book(), now in instant(),
    ) {
        let one = ask(&rules(&packs), &message, &book, now);
        let other = ask(&turned_sources(&packs), &message, &book, now);
        // The texts differ, and with them the version that a reason bears.
        prop_assert_eq!(one.brief(), other.brief());
        prop_assert_eq!(one.reason().opens, other.reason().opens);
        prop_assert_eq!(one.reason().closes, other.reason().closes);
    }

    #[test]
    fn a_ruleset_that_was_asked_before_answers_like_a_fresh_one(
        packs in packs(),
        asked in proptest::collection::vec((a_message(), answer_of_the_book(), instant()), 1..12),
    ) {
        let warm = rules(&packs);
        for (message, book, now) in &asked {
            let _ = ask(&warm, message, book, *now);
        }
        for (message, book, now) in &asked {
            let fresh = ask(&rules(&packs), message, book, *now);
            prop_assert_eq!(ask(&warm, message, book, *now), fresh);
        }
    }

    #[test]
    fn a_permit_holds_only_while_every_window_is_open(
        packs in packs(), message in a_message(), book in answer_of_the_book(), now in instant(),
        samples in proptest::collection::vec(0.0..1.0_f64, 8),
    ) {
        let rules = rules(&packs);
        let answer = ask(&rules, &message, &book, now);
        let Answer::Send(end, _) = &answer else { return Ok(()) };
        prop_assert!(now < *end || now == Timestamp::MAX);
        let life = end.duration_since(now).as_secs_f64();
        let last = end.checked_sub(SignedDuration::from_nanos(1)).unwrap().max(now);
        let inside = samples.iter().map(|part| {
            now.checked_add(SignedDuration::from_secs_f64(life * part)).unwrap().min(last)
        });
        for instant in inside.chain([now, last]) {
            prop_assert!(all_open(&rules, &message, &answer, instant), "at {}", instant);
            prop_assert!(message.expires_at.is_none_or(|end| instant < end));
            prop_assert!(message.send_at.is_none_or(|start| start <= instant));
        }
    }

    #[test]
    fn a_hold_is_as_long_as_it_must_be_and_no_longer(
        packs in packs(), message in a_message(), book in answer_of_the_book(), now in instant(),
        samples in proptest::collection::vec(0.0..1.0_f64, 8),
    ) {
        let rules = rules(&packs);
        let Answer::Hold(until, _) = ask(&rules, &message, &book, now) else { return Ok(()) };
        prop_assert!(message.expires_at.is_none_or(|end| until < end));
        let again = ask(&rules, &message, &book, until);
        prop_assert!(all_open(&rules, &message, &again, until), "{:?}", again);
        // What is asked again of a silent book, or of rules that are not there, moves on by itself
        // and can come to lie in quiet hours; nothing else can.
        let law = rules.covers(place(&message).jurisdiction);
        let windows = matches!(again.brief().1, Code::QuietHours | Code::Guard);
        prop_assert!(!windows || book == ConsentAnswer::Unknown || !law, "{:?}", again);
        // And before it nothing may leave, unless the answer of the book changes: no real book
        // knows a grant of the future, which would lift a rule from its instant on.
        if let ConsentAnswer::Known(consent) = &book {
            let grants = [consent.general, consent.night].map(|fact| fact.and_then(|f| f.granted));
            prop_assume!(grants.iter().flatten().all(|grant| grant.at <= now));
        }
        let length = until.duration_since(now).as_secs_f64();
        for part in samples {
            let instant = now.checked_add(SignedDuration::from_secs_f64(length * part)).unwrap();
            let early = ask(&rules, &message, &book, instant.max(now));
            prop_assert!(instant >= until || !early.is_send(), "{:?} at {}", early, instant);
        }
    }
}

#[test]
fn a_zone_is_never_read_from_the_wrong_message() {
    let rules = load(&[KR]);
    let zones = ["Asia/Seoul", "America/New_York", "Europe/Paris"];
    for zone in zones.iter().cycle().take(9) {
        let message = Message {
            zone: Some((*zone).into()),
            ..advertising()
        };
        let place = place(&message);
        assert_eq!(place.zones.all.first(), TimeZone::get(zone).ok().as_ref());
        assert!(rules.class(&message, &place).as_str().ends_with(zone));
    }
}

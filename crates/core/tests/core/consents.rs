//! Consent: what stands, since when, until when.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::consent::{Basis, Consent, ConsentAnswer, Fact, Grant, Scope, Standing};
use nightgate_core::consent::{ConsentSnapshot, Validity};
use proptest::prelude::*;

use crate::support::{at, explicit};

fn two_years() -> Vec<Validity> {
    vec![Validity {
        years: 2,
        zone: TimeZone::get("Asia/Seoul").unwrap(),
    }]
}

fn exception(at: Timestamp, ends: Timestamp) -> Grant {
    Grant {
        at,
        basis: Basis::TransactionException { ends },
    }
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

#[test]
fn who_was_never_asked_has_no_consent() {
    let now = at("2026-11-22T12:00:00Z");
    assert_eq!(
        Consent::default().standing(Scope::General, now, &[]),
        Standing::None
    );
    assert_eq!(
        Consent::default().standing(Scope::Night, now, &[]),
        Standing::None
    );
}

#[test]
fn a_withdrawal_at_the_instant_of_a_grant_wins() {
    let now = at("2026-11-22T12:00:00Z");
    let mut consent = Consent::default();
    consent.grant(Scope::General, explicit(now));
    consent.withdraw(Scope::General, now);
    assert_eq!(
        consent.standing(Scope::General, now, &[]),
        Standing::Withdrawn { at: now }
    );
}

#[test]
fn a_grant_after_a_withdrawal_revives() {
    let now = at("2026-11-22T12:00:00Z");
    let mut consent = Consent::default();
    consent.withdraw(Scope::General, now);
    consent.grant(Scope::General, explicit(now + DAY));
    let standing = consent.standing(Scope::General, now + DAY, &[]);
    assert!(matches!(standing, Standing::Valid { until: None, .. }));
    let before = consent.standing(Scope::General, now, &[]);
    assert_eq!(
        before,
        Standing::Withdrawn { at: now },
        "a grant counts from its instant on"
    );
}

#[test]
fn a_general_withdrawal_withdraws_night_consent_and_a_general_grant_does_not_revive_it() {
    let now = at("2026-11-22T12:00:00Z");
    let mut consent = Consent::default();
    consent.grant(Scope::General, explicit(now));
    consent.grant(Scope::Night, explicit(now));
    consent.withdraw(Scope::General, now + DAY);
    consent.grant(Scope::General, explicit(now + DAY * 2));
    let later = now + DAY * 3;
    assert!(matches!(
        consent.standing(Scope::General, later, &[]),
        Standing::Valid { .. }
    ));
    let night = consent.standing(Scope::Night, later, &[]);
    assert_eq!(night, Standing::Withdrawn { at: now + DAY });
}

#[test]
fn a_night_withdrawal_leaves_general_consent_alone() {
    let now = at("2026-11-22T12:00:00Z");
    let mut consent = Consent::default();
    consent.grant(Scope::General, explicit(now));
    consent.grant(Scope::Night, explicit(now));
    consent.withdraw(Scope::Night, now + DAY);
    let later = now + DAY * 2;
    assert!(matches!(
        consent.standing(Scope::General, later, &[]),
        Standing::Valid { .. }
    ));
    assert!(matches!(
        consent.standing(Scope::Night, later, &[]),
        Standing::Withdrawn { .. }
    ));
}

#[test]
fn consent_runs_out_at_the_start_of_the_same_day_two_calendar_years_later() {
    let granted = at("2024-11-22T23:30:00+09:00");
    let mut consent = Consent::default();
    consent.grant(Scope::General, explicit(granted));
    let end = at("2026-11-22T00:00:00+09:00");
    let last = end - SignedDuration::from_nanos(1);
    let validity = two_years();
    let Standing::Valid { until, since, .. } = consent.standing(Scope::General, last, &validity)
    else {
        panic!("it stands until its last instant");
    };
    assert_eq!((until, since), (Some(end), granted));
    let after = consent.standing(Scope::General, end, &validity);
    assert_eq!(after, Standing::Lapsed { at: end });
    let switched_off = consent.standing(Scope::General, end, &[]);
    assert!(matches!(switched_off, Standing::Valid { until: None, .. }));
}

#[test]
fn a_consent_of_a_leap_day_runs_out_on_the_28th() {
    let end = two_years()[0].end(at("2024-02-29T12:00:00+09:00"));
    assert_eq!(end, at("2026-02-28T00:00:00+09:00"));
}

#[test]
fn a_transaction_exception_ends_at_its_instant_and_needs_no_confirmation() {
    let now = at("2026-11-22T12:00:00Z");
    let mut consent = Consent::default();
    consent.grant(Scope::General, exception(now, now + DAY));
    let standing = consent.standing(Scope::General, now, &two_years());
    assert!(matches!(standing, Standing::Valid { until: Some(end), .. } if end == now + DAY));
    let standing = consent.standing(Scope::General, now + DAY, &two_years());
    assert_eq!(standing, Standing::Lapsed { at: now + DAY });
}

#[test]
fn a_transaction_exception_is_never_night_consent() {
    let now = at("2026-11-22T12:00:00Z");
    let mut consent = Consent::default();
    consent.grant(Scope::Night, explicit(now));
    consent.grant(Scope::Night, exception(now + DAY, now + DAY * 100));
    assert!(matches!(
        consent.standing(Scope::Night, now + DAY * 2, &[]),
        Standing::Valid { .. }
    ));
    let granted = Some(exception(now, now + DAY * 100));
    let stored = Consent {
        general: None,
        night: Some(Fact {
            granted,
            withdrawn_at: None,
        }),
    };
    assert_eq!(
        stored.standing(Scope::Night, now + DAY, &[]),
        Standing::None
    );
}

#[test]
fn the_ends_of_time_are_no_panic() {
    for now in [Timestamp::MIN, Timestamp::MAX] {
        let mut consent = Consent::default();
        consent.grant(Scope::General, explicit(now));
        for asked in [Timestamp::MIN, Timestamp::MAX] {
            let _ = consent.standing(Scope::General, asked, &two_years());
        }
        let years = Validity {
            years: i16::MAX,
            ..two_years()[0].clone()
        };
        assert_eq!(years.end(now), Timestamp::MAX);
    }
}

#[test]
fn facts_survive_a_line_of_json() {
    let now = at("2026-11-22T12:00:00Z");
    let mut consent = Consent::default();
    consent.grant(Scope::General, exception(now, now + DAY));
    consent.grant(Scope::Night, explicit(now));
    consent.withdraw(Scope::Night, now);
    for answer in [ConsentAnswer::Known(consent), ConsentAnswer::Unknown] {
        let line = serde_json::to_string(&answer).unwrap();
        assert_eq!(
            serde_json::from_str::<ConsentAnswer>(&line).unwrap(),
            answer
        );
        let snapshot = answer.snapshot(now, &two_years());
        let line = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(
            serde_json::from_str::<ConsentSnapshot>(&line).unwrap(),
            snapshot
        );
    }
}

#[derive(Clone, Debug)]
enum Event {
    Grant(Scope, Grant),
    Withdraw(Scope, Timestamp),
}

fn event() -> impl Strategy<Value = Event> {
    let scope = proptest::sample::select(Scope::ALL);
    let instant = (0_i64..6).prop_map(|second| Timestamp::from_second(second).unwrap());
    let basis = prop_oneof![
        Just(Basis::Explicit),
        instant
            .clone()
            .prop_map(|ends| Basis::TransactionException { ends }),
    ];
    prop_oneof![
        (scope.clone(), instant.clone(), basis)
            .prop_map(|(scope, at, basis)| Event::Grant(scope, Grant { at, basis })),
        (scope, instant).prop_map(|(scope, at)| Event::Withdraw(scope, at)),
    ]
}

fn told(events: &[Event]) -> Consent {
    let mut consent = Consent::default();
    for event in events {
        match event {
            Event::Grant(scope, grant) => consent.grant(*scope, *grant),
            Event::Withdraw(scope, at) => consent.withdraw(*scope, *at),
        }
    }
    consent
}

proptest! {
    #[test]
    fn the_order_in_which_facts_arrive_means_nothing(
        (events, shuffled) in proptest::collection::vec(event(), 0..8)
            .prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle())),
    ) {
        prop_assert_eq!(told(&events), told(&shuffled));
    }

    #[test]
    fn no_scope_stands_at_or_after_its_last_withdrawal_without_a_later_grant(
        events in proptest::collection::vec(event(), 0..8),
    ) {
        let consent = told(&events);
        let end = Timestamp::from_second(10).unwrap();
        for &scope in Scope::ALL {
            let withdrawn = events.iter().filter_map(|event| match event {
                Event::Withdraw(of, at) if *of == scope || *of == Scope::General => Some(*at),
                _ => None,
            }).max();
            let granted = events.iter().filter_map(|event| match event {
                Event::Grant(of, grant) if *of == scope => Some(grant.at),
                _ => None,
            }).max();
            let standing = consent.standing(scope, end, &[]);
            if withdrawn.is_some() && withdrawn >= granted {
                prop_assert_eq!(Some(standing), withdrawn.map(|at| Standing::Withdrawn { at }));
            }
        }
    }
}

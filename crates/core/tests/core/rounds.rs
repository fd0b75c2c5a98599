//! Deciding many messages at once changes no answer.

use jiff::{SignedDuration, Timestamp};
use nightgate_core::{
    Channel, Consent, ConsentAnswer, Decision, Message, MessageId, Purpose, Round, Ruled, Scope,
};
use proptest::prelude::*;

use crate::properties::{a_message, answer_of_the_book, instant, packs, rules};
use crate::support::{
    Answer, GENERAL, KR, ask, consent, explicit, house, kst, load, message, place,
};

fn answer(ruled: Ruled<'_>, id: &MessageId) -> Answer {
    match ruled.decision {
        Decision::Send(permit) => {
            assert_eq!(permit.message(), id);
            Answer::Send(permit.not_after(), permit.into_reason())
        }
        Decision::Hold { until, reason } => Answer::Hold(until, reason),
        Decision::Refuse { reason } => Answer::Refuse(reason),
    }
}

/// Consents that run out near the instants of these tests.
fn nearly_two_years_old() -> impl Strategy<Value = ConsentAnswer> {
    let hours = proptest::option::of(0..300_i64);
    (instant(), hours.clone(), hours).prop_map(|(at, general, night)| {
        let mut known = Consent::default();
        for (scope, hours) in [(Scope::General, general), (Scope::Night, night)] {
            let age = hours.map(|hours| SignedDuration::from_hours(24 * 730 + hours - 150));
            if let Some(at) = age.and_then(|age| at.checked_sub(age).ok()) {
                known.grant(scope, explicit(at));
            }
        }
        ConsentAnswer::Known(known)
    })
}

fn asked() -> impl Strategy<Value = Vec<(Message, ConsentAnswer)>> {
    let zone = proptest::sample::select(&[None, Some("Asia/Tokyo"), Some("America/Adak")][..]);
    let message =
        (a_message(), proptest::option::weighted(0.2, zone)).prop_map(|(message, zone)| {
            let zone = zone.flatten().map(Into::into);
            Message { zone, ..message }
        });
    let book = prop_oneof![answer_of_the_book(), nearly_two_years_old()];
    proptest::collection::vec((message, book), 1..40)
}

proptest! {
    #[test]
    fn a_round_answers_as_if_each_message_were_asked_alone(
        packs in packs(), asked in asked(), now in instant(),
    ) {
        let rules = rules(&packs);
        let house = house();
        let mut round = Round::new(&rules, &house, now);
        // Twice: what was worked out for one message may be used for another.
        for (message, consent) in asked.iter().chain(&asked) {
            let ruled = round.decide(message, consent);
            let place = place(message);
            prop_assert_eq!(ruled.class, &rules.class(message, &place));
            prop_assert_eq!(ruled.place, &place);
            let alone = ask(&rules, message, consent, now);
            prop_assert_eq!(answer(ruled, &message.id), alone);
        }
    }
}

#[test]
fn more_places_and_instants_than_are_kept_are_answered_right_too() {
    let rules = load(&[KR]);
    let house = house();
    let now = kst("23:00:00");
    let mut round = Round::new(&rules, &house, now);
    let general = consent(GENERAL);
    for step in 0..500_i64 {
        let channels = Channel::ALL;
        let index = usize::try_from(step).unwrap_or_default();
        let zones = [
            "Asia/Seoul",
            "Asia/Tokyo",
            "Europe/Paris",
            "UTC",
            "America/Adak",
        ];
        let send_at: Timestamp = now + SignedDuration::from_mins(step % 40 * 30);
        let message = Message {
            zone: Some(zones[index % zones.len()].into()),
            send_at: (step % 3 > 0).then_some(send_at),
            ..message(channels[index % channels.len()], Purpose::ALL[index % 2])
        };
        let ruled = round.decide(&message, &general);
        let alone = ask(&rules, &message, &general, now);
        assert_eq!(answer(ruled, &message.id), alone);
    }
}

//! `put`.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use nightgate::hold::{End, Put, Scope, State, Verdict};
use nightgate_core::message::BODY_MAX_BYTES;
use nightgate_core::{Jurisdiction, Priority, Purpose, Recipient, RecipientKey};

use crate::backends::{always, on_each};
use crate::world::*;

/// A message with something in every field.
fn full() -> nightgate::hold::Held {
    with("full", |held| {
        let message = &mut held.message;
        message.recipient = Recipient::new("세종 <sejong@example.com>").unwrap();
        held.key = RecipientKey::from_stored("sejong@example.com");
        message.purpose = Purpose::Informational;
        message.campaign = Some("겨울 '26; --".into());
        message.priority = Priority::new(9).unwrap();
        message.jurisdiction = Some(Jurisdiction::new("KR").unwrap());
        message.zone = Some("Asia/Seoul".into());
        message.send_at = Some(at(1));
        message.expires_at = Some(Timestamp::MAX);
        message.collapse_key = Some("order-1".into());
        message.content_type = "application/octet-stream".into();
        message
            .attributes
            .insert("template".to_owned(), "a \"b\" \u{1F600}".to_owned());
        message.attributes.insert("empty".to_owned(), String::new());
        message.body = (0..=255).collect::<Vec<u8>>().into();
        held.class = class("informational/email/KR/Asia/Seoul+Asia/Pyongyang");
        held.accepted_at = at(-3);
    })
}

#[tokio::test]
async fn a_message_reads_back_byte_for_byte() {
    on_each(always, async |bench| {
        let large = with("large", |held| {
            held.message.body = vec![0xFF; BODY_MAX_BYTES].into();
            held.message.send_at = Some(Timestamp::MIN);
        });
        let empty = with("empty", |held| held.message.body = Bytes::new());
        let plain = with("plain", |held| {
            held.key = RecipientKey::from_stored(held.message.recipient.expose());
        });
        for held in [full(), large, empty, plain] {
            put(&*bench.hold, vec![held.clone()]).await;
            if bench.hold.capability().find {
                let found = find(&*bench.hold, held.message.id.as_str()).await.unwrap();
                assert_eq!(found.state, State::Held);
                assert_eq!((found.attempts, &found.why), (0, &None));
                assert!(found.held == held, "{found:?}");
            }
            let loan = lease_one(&*bench.hold, at(1)).await;
            assert!(loan.held == held, "{loan:?}");
            assert_eq!(
                (loan.until, loan.attempts, loan.lapsed),
                (at(1) + TTL, 0, false)
            );
            settle(&*bench.hold, loan.token, done(), at(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_id_that_is_held_lent_or_buried_is_a_duplicate_and_nothing_changes() {
    on_each(
        |can| can.dedupe,
        async |bench| {
            let hold = &*bench.hold;
            let other = || {
                with("a", |held| {
                    held.due = at(99);
                    held.message.body = Bytes::from_static(b"other");
                    held.message.priority = Priority::new(0).unwrap();
                })
            };
            put(hold, vec![held("a")]).await;
            for step in [State::Held, State::Leased, State::Buried] {
                let before = find(hold, "a").await.unwrap();
                assert_eq!(before.state, step);
                assert_eq!(
                    hold.put(vec![other()], at(0)).await.unwrap(),
                    [Put::Duplicate]
                );
                assert!(find(hold, "a").await.unwrap() == before);
                recount(hold).await;
                match step {
                    State::Held => drop(lease_one(hold, at(0)).await),
                    State::Leased => {
                        let loan = lease_one(hold, at(11)).await;
                        settle(hold, loan.token, bury(), at(11)).await;
                    }
                    _ => {}
                }
            }
        },
    )
    .await;
}

#[tokio::test]
async fn an_id_twice_in_one_call_is_new_then_a_duplicate() {
    on_each(
        |can| can.dedupe,
        async |bench| {
            let hold = &*bench.hold;
            let twice = vec![held("a"), held("b"), due("a", at(5)), held("a")];
            let answers = hold.put(twice, at(0)).await.unwrap();
            assert_eq!(
                answers,
                [Put::New, Put::New, Put::Duplicate, Put::Duplicate]
            );
            assert_eq!(totals(hold).await, (2, 0, 0));
            assert_eq!(
                find(hold, "a").await.unwrap().held.due,
                at(0),
                "the first one stands"
            );
            recount(hold).await;
        },
    )
    .await;
}

#[tokio::test]
async fn an_id_that_ended_is_known_for_the_horizon_and_new_after_it() {
    on_each(
        |can| can.dedupe,
        async |bench| {
            let hold = &*bench.hold;
            for (number, swept) in [false, true].into_iter().enumerate() {
                let start = at(number as i64 * 1_000);
                let ends = [End::Delivered, End::Refused, End::Expired, End::Rejected];
                let names = ["d", "f", "x", "j"];
                put(hold, names.iter().map(|name| due(name, start)).collect()).await;
                for (loan, end) in lease(hold, start, ALL).await.iter().zip(ends) {
                    settle(hold, loan.token, Verdict::Done(end), start).await;
                }
                put(hold, vec![held("r")]).await;
                hold.recall(&Scope::Id(id("r")), start).await.unwrap();

                let again = || {
                    ["d", "f", "x", "j", "r"]
                        .map(|name| due(name, start))
                        .to_vec()
                };
                if swept {
                    assert_eq!(hold.sweep(start + HORIZON).await.unwrap(), 0);
                }
                let answers = hold.put(again(), start + HORIZON).await.unwrap();
                assert_eq!(
                    answers,
                    [Put::Duplicate; 5],
                    "the last instant of the horizon"
                );
                if swept {
                    assert_eq!(hold.sweep(start + HORIZON + MOMENT).await.unwrap(), 5);
                    assert_eq!(hold.sweep(start + HORIZON + MOMENT).await.unwrap(), 0);
                    assert_eq!(state(hold, "d").await, None);
                }
                let answers = hold.put(again(), start + HORIZON + MOMENT).await.unwrap();
                assert_eq!(answers, [Put::New; 5], "the horizon has passed");
                recount(hold).await;

                let loans = lease(hold, start + HORIZON + MOMENT, ALL).await;
                assert_eq!(loans.len(), 5);
                assert!(loans.iter().all(|loan| !loan.held.message.body.is_empty()));
                for loan in loans {
                    settle(hold, loan.token, done(), start).await;
                }
                hold.sweep(start + HORIZON * 2).await.unwrap();
            }
        },
    )
    .await;
}

#[tokio::test]
async fn nothing_put_is_nothing_answered() {
    on_each(always, async |bench| {
        assert_eq!(bench.hold.put(Vec::new(), at(0)).await.unwrap(), []);
        assert_eq!(bench.hold.settle(Vec::new(), at(0)).await.unwrap(), []);
        assert_eq!(bench.hold.find(&[]).await.unwrap(), []);
        assert_eq!(lease(&*bench.hold, at(0), 10).await, []);
    })
    .await;
}

#[tokio::test]
async fn calls_that_arrive_together_each_get_their_own_answers() {
    on_each(
        |can| can.dedupe,
        async |bench| {
            let calls = (0..100).map(|number| {
                let hold = Arc::clone(&bench.hold);
                let own = held(&format!("own-{number}"));
                let shared = held(&format!("shared-{}", number / 2));
                tokio::spawn(async move { hold.put(vec![own, shared], at(0)).await.unwrap() })
            });
            let mut new_shared = 0;
            for call in calls.collect::<Vec<_>>() {
                let answers = call.await.unwrap();
                assert_eq!((answers.len(), answers[0]), (2, Put::New));
                new_shared += usize::from(answers[1] == Put::New);
            }
            assert_eq!(
                new_shared, 50,
                "each shared id is new to one of its two callers"
            );
            assert_eq!(totals(&*bench.hold).await, (150, 0, 0));
        },
    )
    .await;
}

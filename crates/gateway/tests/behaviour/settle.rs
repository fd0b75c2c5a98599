//! `settle`.

use nightgate::hold::{End, Settle, Settled, State, Token, Verdict};
use nightgate_core::{Jurisdiction, Recipient};

use crate::backends::{always, on_each};
use crate::world::*;

#[tokio::test]
async fn a_lapsed_token_cannot_settle() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        put(hold, vec![held("a")]).await;
        let loan = lease_one(hold, at(0)).await;
        for verdict in [done(), defer(at(50)), bury()] {
            let answer = settle(hold, loan.token, verdict, loan.until).await;
            assert_eq!(
                answer,
                Settled::Lapsed,
                "nobody has it, but it is not obeyed either"
            );
        }
        assert_eq!(state(hold, "a").await, Some(State::Leased));
        let again = lease_one(hold, loan.until).await;
        assert_eq!(
            (again.attempts, again.held.due),
            (0, at(0)),
            "nothing was changed"
        );
    })
    .await;
}

#[tokio::test]
async fn a_token_cannot_settle_a_later_lease_of_its_message() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        put(hold, vec![held("a")]).await;
        let first = lease_one(hold, at(0)).await;
        let second = lease_one(hold, at(10)).await;
        for verdict in [done(), defer(at(50)), bury()] {
            assert_eq!(
                settle(hold, first.token, verdict, at(11)).await,
                Settled::Lapsed
            );
        }
        assert_eq!(
            settle(hold, second.token, done(), at(11)).await,
            Settled::Yes
        );
        assert_eq!(state(hold, "a").await, Some(State::Delivered));
    })
    .await;
}

#[tokio::test]
async fn a_token_that_was_settled_or_never_made_changes_nothing() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        put(hold, vec![held("a"), held("b")]).await;
        let loans = lease(hold, at(0), ALL).await;
        let (a, b) = (loans[0].token, loans[1].token);
        let never = [
            Token { seq: 0, lease: 1 },
            Token {
                seq: u64::MAX,
                lease: 1,
            },
            Token {
                lease: a.lease + 1,
                ..a
            },
            Token { lease: 0, ..a },
            Token {
                lease: u64::MAX,
                ..a
            },
        ];
        for token in never {
            assert_eq!(
                settle(hold, token, done(), at(1)).await,
                Settled::Lapsed,
                "{token:?}"
            );
        }
        let settlements = vec![
            Settle {
                token: a,
                verdict: defer(at(5)),
            },
            Settle {
                token: a,
                verdict: done(),
            },
            Settle {
                token: never[1],
                verdict: done(),
            },
            Settle {
                token: b,
                verdict: done(),
            },
            Settle {
                token: b,
                verdict: bury(),
            },
        ];
        let answers = hold.settle(settlements, at(1)).await.unwrap();
        use Settled::{Lapsed, Yes};
        assert_eq!(
            answers,
            [Yes, Lapsed, Lapsed, Yes, Lapsed],
            "one answer each, in order"
        );
        assert_eq!(state(hold, "a").await, Some(State::Held));
        assert_eq!(state(hold, "b").await, Some(State::Delivered));
        recount(hold).await;
    })
    .await;
}

#[tokio::test]
async fn done_keeps_the_id_and_drops_body_and_attributes() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        let ends = [
            (End::Delivered, State::Delivered),
            (End::Refused, State::Refused),
            (End::Expired, State::Expired),
            (End::Rejected, State::Rejected),
        ];
        for (end, expected) in ends {
            let name = format!("m-{end:?}");
            let message = with(&name, |held| {
                held.message
                    .attributes
                    .insert("template".to_owned(), "N-17".to_owned());
                held.message.campaign = Some("night".into());
                held.message.recipient = Recipient::new("+821000000002").unwrap();
                held.message.jurisdiction = Some(Jurisdiction::new("KR").unwrap());
                held.due = at(-5);
            });
            put(hold, vec![message.clone()]).await;
            let loan = lease_one(hold, at(0)).await;
            assert_eq!(
                settle(hold, loan.token, Verdict::Done(end), at(1)).await,
                Settled::Yes
            );
            let found = find(hold, &name).await.unwrap();
            let mut left = message;
            left.message.body = bytes::Bytes::new();
            left.message.attributes.clear();
            assert_eq!(found.state, expected);
            assert!(found.held == left, "{found:?}");
            assert_eq!(totals(hold).await, (0, 0, 0));
        }
    })
    .await;
}

#[tokio::test]
async fn defer_holds_until_the_new_due_and_counts_only_attempts() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        put(hold, vec![held("a")]).await;
        let mut expected = 0;
        for (number, attempted) in [true, false, true].into_iter().enumerate() {
            let now = at(number as i64 * 20);
            let loan = lease_one(hold, now).await;
            assert_eq!((loan.attempts, loan.lapsed), (expected, false));
            let due = now + TTL + TTL;
            settle(hold, loan.token, Verdict::Defer { due, attempted }, now).await;
            expected += u32::from(attempted);
            let found = find(hold, "a").await.unwrap();
            assert_eq!((found.state, found.attempts), (State::Held, expected));
            assert_eq!(found.held.due, due);
            assert!(found.held.message.body.len() > 1, "the body stays");
            assert_eq!(lease(hold, due - MOMENT, ALL).await, []);
            recount(hold).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_buried_message_is_not_lent_again_and_says_why() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        put(hold, vec![held("a")]).await;
        let loan = lease_one(hold, at(0)).await;
        assert_eq!(settle(hold, loan.token, bury(), at(1)).await, Settled::Yes);
        assert_eq!(lease(hold, at(60 * 24 * 30), ALL).await, []);
        let found = find(hold, "a").await.unwrap();
        assert_eq!(found.state, State::Buried);
        assert_eq!(found.why.as_deref(), Some("unknown outcome"));
        assert!(found.held == held("a"), "nothing of it is lost");
        assert_eq!(totals(hold).await, (0, 0, 1));
        recount(hold).await;
    })
    .await;
}

//! `settle`.

use nightgate::hold::{End, Found, HoldStore, Scope, Settle, Settled, State, Token, Verdict};
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
        assert_state(hold, "a", State::Leased).await;
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
        assert_state(hold, "a", State::Delivered).await;
        assert_eq!(lease(hold, at(200), ALL).await, []);
    })
    .await;
}

#[tokio::test]
async fn a_token_that_was_settled_or_never_made_changes_nothing() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        put(hold, vec![held("a"), held("b")]).await;
        let loans = lease(hold, at(0), ALL).await;
        let token = |name| {
            let loan = loans.iter().find(|loan| loan.held.message.id == id(name));
            loan.unwrap().token
        };
        let (a, b) = (token("a"), token("b"));
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
        assert_state(hold, "a", State::Held).await;
        assert_state(hold, "b", State::Delivered).await;
        recount(hold).await;
        assert_eq!(names(&lease(hold, at(5), ALL).await), ["a"]);
    })
    .await;
}

#[tokio::test]
async fn done_keeps_the_id_and_drops_body_and_attributes() {
    on_each(
        |can| can.ended,
        async |bench| {
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
        },
    )
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
            if hold.capability().find {
                let found = find(hold, "a").await.unwrap();
                assert_eq!((found.state, found.attempts), (State::Held, expected));
                assert_eq!(found.held.due, due);
                assert!(found.held.message.body.len() > 1, "the body stays");
            }
            assert_eq!(lease(hold, due - late(hold), ALL).await, []);
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
        assert_eq!(lease(hold, at(60 * 24), ALL).await, []);
        let mut found = hold.list(State::Buried, None, ALL).await.unwrap();
        assert_eq!(found.len(), 1);
        let mut found = found.remove(0);
        assert_eq!(found.state, State::Buried);
        assert_eq!(found.why.as_deref(), Some("unknown outcome"));
        found.held.message.body = held("a").message.body;
        assert!(found.held == held("a"), "{found:?}");
        assert_totals(hold, (0, 0, 1)).await;
        hold.kick(&Scope::Id(id("a")), at(60 * 24)).await.unwrap();
        let again = lease_one(hold, at(60 * 24)).await;
        assert!(again.held.message == held("a").message, "nothing is lost");
        recount(hold).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_put_back_or_aside_arrives_anew_behind_those_already_there() {
    on_each(
        |can| can.order,
        async |bench| {
            let hold = &*bench.hold;
            let all = ["a", "b", "c", "d", "e", "f"];
            put(hold, all.map(held).to_vec()).await;
            let loans = lease(hold, at(0), 4).await;
            assert_eq!(names(&loans), ["a", "b", "c", "d"]);
            // In the order of the settlements, and with the due they had.
            for (loan, verdict) in [
                (3, bury()),
                (2, defer(at(0))),
                (0, bury()),
                (1, defer(at(0))),
            ] {
                let answer = settle(hold, loans[loan].token, verdict, at(1)).await;
                assert_eq!(answer, Settled::Yes);
            }
            put(hold, vec![held("g")]).await;
            assert_eq!(listed(hold, State::Held).await, ["e", "f", "c", "b", "g"]);
            assert_eq!(listed(hold, State::Buried).await, ["d", "a"]);
            assert_eq!(hold.kick(&Scope::Lane(lane()), at(0)).await.unwrap(), 2);
            let order = ["e", "f", "c", "b", "g", "d", "a"];
            assert_eq!(listed(hold, State::Held).await, order);
            assert_eq!(names(&lease(hold, at(1), ALL).await), order);
            recount(hold).await;
        },
    )
    .await;
}

#[tokio::test]
async fn what_returns_recalled_arrives_anew_too() {
    on_each(
        |can| can.order && can.recall && can.ended,
        async |bench| {
            let hold = &*bench.hold;
            put(hold, ["a", "b", "c", "d"].map(held).to_vec()).await;
            let loans = lease(hold, at(0), 3).await;
            hold.recall(&Scope::Lane(lane()), at(1)).await.unwrap();
            let verdicts = [bury(), defer(at(0)), done()];
            for (loan, verdict) in loans.iter().zip(verdicts) {
                settle(hold, loan.token, verdict, at(1)).await;
            }
            assert_eq!(listed(hold, State::Recalled).await, ["d", "a", "b"]);
        },
    )
    .await;
}

#[tokio::test]
async fn a_loan_that_lapsed_and_a_shelf_that_was_redated_keep_their_arrivals() {
    on_each(
        |can| can.order && can.redate,
        async |bench| {
            let hold = &*bench.hold;
            put(hold, vec![held("a"), held("b")]).await;
            assert_eq!(lease(hold, at(0), 1).await.len(), 1);
            put(hold, vec![due("c", at(30))]).await;
            let kind = held("a").class;
            assert_eq!(names(&lease(hold, at(10), ALL).await), ["a", "b"]);
            let moved = hold.redate(&lane(), &kind, at(20), at(30)).await.unwrap();
            assert_eq!(moved, 0, "loans move along, uncounted");
            assert_eq!(names(&lease(hold, at(30), ALL).await), ["a", "b", "c"]);
        },
    )
    .await;
}

/// The names of the messages in a state, by arrival.
async fn listed(hold: &dyn HoldStore, state: State) -> Vec<String> {
    let found = hold.list(state, None, ALL).await.unwrap();
    let name = |found: &Found| found.held.message.id.to_string();
    found.iter().map(name).collect()
}

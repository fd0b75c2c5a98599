//! `recall` and `kick`.

use std::sync::Arc;

use nightgate::hold::{HoldStore, Lane, Put, Recalled, Scope, Settled, State};
use nightgate_core::RecipientKey;

use crate::backends::{always, on_each};
use crate::world::*;

fn campaign(name: &str) -> Scope {
    Scope::Campaign(Arc::from(name))
}

async fn recall(hold: &dyn HoldStore, scope: &Scope, minutes: i64) -> (u64, u64) {
    let Recalled {
        recalled,
        in_flight,
    } = hold.recall(scope, at(minutes)).await.unwrap();
    recount(hold).await;
    (recalled, in_flight)
}

/// Of campaign "x" one lent (a), one buried (b), one done (c), two held (d, e); f is of "y".
async fn mixed(hold: &dyn HoldStore) -> nightgate::hold::Leased {
    let x = |name| of_campaign(name, "x");
    put(hold, vec![x("a"), x("b"), x("c")]).await;
    let loans = lease(hold, at(0), 3).await;
    settle(hold, token_of(&loans, "b"), bury(), at(0)).await;
    settle(hold, token_of(&loans, "c"), done(), at(0)).await;
    // e shares lane and recipient only.
    put(hold, vec![x("d"), due("e", at(0)), of_campaign("f", "y")]).await;
    loans
        .into_iter()
        .find(|loan| loan.held.message.id.as_str() == "a")
        .unwrap()
}

#[tokio::test]
async fn a_campaign_is_recalled_with_exact_counts_and_only_once() {
    on_each(
        |can| can.recall && can.exact_depth,
        async |bench| {
            let hold = &*bench.hold;
            mixed(hold).await;
            assert_eq!(
                recall(hold, &campaign("x"), 1).await,
                (2, 1),
                "b and d; a is on loan"
            );
            assert_eq!(
                recall(hold, &campaign("x"), 1).await,
                (0, 0),
                "a second time nothing"
            );
            assert_eq!(recall(hold, &campaign("nobody's"), 1).await, (0, 0));
            for (name, expected) in [
                ("a", State::Leased),
                ("b", State::Recalled),
                ("c", State::Delivered),
                ("d", State::Recalled),
                ("e", State::Held),
                ("f", State::Held),
            ] {
                assert_state(hold, name, expected).await;
            }
            if let Some(found) = find(hold, "d").await {
                assert!(found.held.message.body.is_empty(), "its road has ended");
            }
        },
    )
    .await;
}

#[tokio::test]
async fn one_id_is_recalled_in_whatever_state_it_is() {
    on_each(
        |can| can.recall && can.exact_depth,
        async |bench| {
            let hold = &*bench.hold;
            mixed(hold).await;
            let each = [
                ("a", (0, 1)),
                ("b", (1, 0)),
                ("c", (0, 0)),
                ("d", (1, 0)),
                ("?", (0, 0)),
            ];
            for (name, expected) in each {
                assert_eq!(
                    recall(hold, &Scope::Id(id(name)), 1).await,
                    expected,
                    "{name}"
                );
                assert_eq!(
                    recall(hold, &Scope::Id(id(name)), 1).await,
                    (0, 0),
                    "{name} again"
                );
            }
            assert_eq!(totals(hold).await, (2, 1, 0));
        },
    )
    .await;
}

#[tokio::test]
async fn a_recipient_and_a_lane_are_recalled() {
    on_each(
        |can| can.recall && can.exact_depth,
        async |bench| {
            let hold = &*bench.hold;
            let other = RecipientKey::from_stored("+821000000009");
            let theirs = with("theirs", |held| held.key = other.clone());
            let elsewhere = with("elsewhere", |held| held.lane = Lane::new("push"));
            put(hold, vec![held("a"), theirs, elsewhere, held("b")]).await;
            assert_eq!(recall(hold, &Scope::Recipient(other), 1).await, (1, 0));
            assert_state(hold, "theirs", State::Recalled).await;
            assert_eq!(recall(hold, &Scope::Lane(lane()), 1).await, (2, 0));
            assert_state(hold, "elsewhere", State::Held).await;
            let rest = RecipientKey::from_stored("+821000000001");
            assert_eq!(recall(hold, &Scope::Recipient(rest), 1).await, (1, 0));
        },
    )
    .await;
}

#[tokio::test]
async fn messages_put_after_a_recall_are_not_touched() {
    on_each(
        |can| can.recall && can.exact_depth,
        async |bench| {
            let hold = &*bench.hold;
            put(hold, vec![of_campaign("a", "x")]).await;
            assert_eq!(recall(hold, &campaign("x"), 1).await, (1, 0));
            put(hold, vec![of_campaign("b", "x")]).await;
            assert_eq!(names(&lease(hold, at(1), ALL).await), ["b"]);
            assert_eq!(
                hold.put(vec![held("a")], at(1)).await.unwrap(),
                [Put::Duplicate]
            );
        },
    )
    .await;
}

#[tokio::test]
async fn a_message_recalled_on_loan_is_recalled_when_it_returns_and_done_when_it_left() {
    on_each(
        |can| can.recall && can.exact_depth,
        async |bench| {
            let hold = &*bench.hold;
            for (name, verdict, expected) in [
                ("deferred", Some(defer(at(5))), State::Recalled),
                ("buried", Some(bury()), State::Recalled),
                ("left", Some(done()), State::Delivered),
                ("lapsed", None, State::Recalled),
            ] {
                put(hold, vec![of_campaign(name, "x")]).await;
                let loan = lease_one(hold, at(0)).await;
                assert_eq!(recall(hold, &campaign("x"), 1).await, (0, 1), "{name}");
                if let Some(verdict) = verdict {
                    assert_eq!(settle(hold, loan.token, verdict, at(2)).await, Settled::Yes);
                }
                assert_eq!(
                    lease(hold, at(60), ALL).await,
                    [],
                    "{name} is not lent again"
                );
                assert_state(hold, name, expected).await;
                if let Some(found) = find(hold, name).await {
                    assert!(found.held.message.body.is_empty(), "{name}");
                }
                assert_eq!(totals(hold).await, (0, 0, 0));
            }
        },
    )
    .await;
}

#[tokio::test]
async fn a_loan_already_over_is_recalled_like_what_is_held() {
    on_each(
        |can| can.recall && can.exact_depth,
        async |bench| {
            let hold = &*bench.hold;
            put(hold, vec![of_campaign("a", "x")]).await;
            lease_one(hold, at(0)).await;
            assert_eq!(recall(hold, &campaign("x"), 10).await, (1, 0));
            assert_state(hold, "a", State::Recalled).await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_kicked_message_is_due_now_with_a_clean_count() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        put(hold, vec![held("a"), held("b")]).await;
        lease(hold, at(0), ALL).await; // lapses
        for loan in lease(hold, at(10), ALL).await {
            settle(hold, loan.token, defer(at(11)), at(10)).await;
        }
        for loan in lease(hold, at(11), ALL).await {
            assert_eq!((loan.attempts, loan.lapsed), (1, true));
            settle(hold, loan.token, bury(), at(11)).await;
        }
        assert_eq!(hold.kick(&Scope::Id(id("a")), at(60)).await.unwrap(), 1);
        recount(hold).await;
        assert_eq!(
            hold.kick(&Scope::Id(id("a")), at(60)).await.unwrap(),
            0,
            "it is not buried"
        );
        assert_eq!(
            lease(hold, at(60) - MOMENT, ALL).await,
            [],
            "due now, not before"
        );
        let loan = lease_one(hold, at(60)).await;
        assert_eq!(
            (loan.attempts, loan.lapsed, loan.held.due),
            (0, false, at(60))
        );
        if hold.capability().find {
            let found = find(hold, "a").await.unwrap();
            assert_eq!((found.attempts, found.why), (0, None));
        }
        assert_state(hold, "b", State::Buried).await;
    })
    .await;
}

#[tokio::test]
async fn kick_brings_back_a_campaign_a_recipient_or_a_lane() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        let theirs = RecipientKey::from_stored("+821000000009");
        put(
            hold,
            vec![
                of_campaign("x1", "x"),
                of_campaign("x2", "x"),
                with("theirs", |held| held.key = theirs.clone()),
                held("other"),
            ],
        )
        .await;
        for loan in lease(hold, at(0), ALL).await {
            settle(hold, loan.token, bury(), at(0)).await;
        }
        for (scope, expected) in [
            (campaign("x"), 2),
            (Scope::Recipient(theirs), 1),
            (Scope::Lane(lane()), 1),
        ] {
            assert_eq!(
                hold.kick(&scope, at(1)).await.unwrap(),
                expected,
                "{scope:?}"
            );
            recount(hold).await;
        }
        assert_totals(hold, (4, 0, 0)).await;
        assert_eq!(lease(hold, at(1), ALL).await.len(), 4);
    })
    .await;
}

//! `lease` and `next_due`.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;
use nightgate::hold::{Lane, LeaseAsk, Pick, Scope, Settled, State, Verdict};
use nightgate_core::{Priority, Purpose};

use crate::backends::{always, on_each};
use crate::world::*;

#[tokio::test]
async fn order_is_priority_then_due_then_arrival() {
    on_each(
        |can| can.order,
        async |bench| {
            let hold = &*bench.hold;
            let one = |name: &str, priority: u8, minutes: i64, kind: &str| {
                with(name, |held| {
                    held.message.priority = Priority::new(priority).unwrap();
                    held.due = at(minutes);
                    held.class = class(kind);
                })
            };
            put(
                hold,
                vec![
                    one("e", 9, 0, "x"),
                    one("c", 5, 1, "x"),
                    one("d", 5, 2, "x"),
                ],
            )
            .await;
            put(
                hold,
                vec![
                    one("b3", 5, 0, "y"),
                    one("b4", 5, 0, "x"),
                    one("b5", 5, 0, "z"),
                ],
            )
            .await;
            put(hold, vec![one("a", 0, 3, "x"), one("b6", 5, 0, "y")]).await;
            let order = ["a", "b3", "b4", "b5", "b6", "c", "d", "e"];
            assert_eq!(names(&lease(hold, at(3), ALL).await), order);
            // The same order, when it is taken in small pieces.
            let mut pieces = Vec::new();
            while pieces.len() < order.len() {
                let piece = lease(hold, at(20), 3).await;
                pieces.extend(names(&piece).iter().map(|&name| name.to_owned()));
            }
            assert_eq!(pieces, order);
        },
    )
    .await;
}

#[tokio::test]
async fn many_shelves_of_one_due_are_lent_by_arrival() {
    on_each(
        |can| can.order,
        async |bench| {
            let hold = &*bench.hold;
            let mut dice = fastrand::Rng::with_seed(7);
            let name = |number: usize| format!("m{number:04}");
            // Long runs of one campaign: one shelf is asked for more while others wait.
            let mut campaign = 0;
            let messages = (0..600).map(|number| {
                if dice.u8(..10) == 0 {
                    campaign = dice.usize(..12);
                }
                of_campaign(&name(number), &format!("c{campaign}"))
            });
            put(hold, messages.collect()).await;
            let mut lent = Vec::new();
            for max in [1, 0, 170, 29, 400] {
                let loans = lease(hold, at(0), max).await;
                assert!(loans.len() <= max);
                lent.extend(names(&loans).iter().map(|&name| name.to_owned()));
            }
            assert_eq!(lent, (0..600).map(name).collect::<Vec<_>>());
            recount(hold).await;
        },
    )
    .await;
}

#[tokio::test]
async fn nothing_due_later_lent_buried_recalled_or_done_is_lent() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        let elsewhere = with("elsewhere", |held| held.lane = Lane::new("push"));
        put(
            hold,
            vec![due("later", at(0) + MOMENT), held("loan"), elsewhere],
        )
        .await;
        assert_eq!(names(&lease(hold, at(0) - MOMENT, ALL).await), [""; 0]);
        assert_eq!(names(&lease(hold, at(0), ALL).await), ["loan"]);
        put(hold, vec![held("buried"), held("done")]).await;
        let loans = lease(hold, at(0), 2).await;
        settle(hold, loans[0].token, bury(), at(0)).await;
        settle(hold, loans[1].token, done(), at(0)).await;
        put(hold, vec![held("recalled")]).await;
        if hold.capability().recall {
            hold.recall(&Scope::Id(id("recalled")), at(0))
                .await
                .unwrap();
        } else {
            lease(hold, at(0), 1).await;
        }
        assert_eq!(lease(hold, at(0), ALL).await, []);
        let then = lease(hold, at(0) + late(hold), ALL).await;
        assert_eq!(names(&then), ["later"]);
    })
    .await;
}

#[tokio::test]
async fn a_message_put_late_is_lent_first_if_it_was_due_first() {
    on_each(
        |can| can.order,
        async |bench| {
            let hold = &*bench.hold;
            put(
                hold,
                (0..50)
                    .map(|number| due(&format!("n{number}"), at(5)))
                    .collect(),
            )
            .await;
            assert_eq!(lease(hold, at(5), 20).await.len(), 20);
            put(hold, vec![due("late", at(-60)), due("same", at(5))]).await;
            let first = with("first", |held| {
                held.message.priority = Priority::new(0).unwrap();
                held.due = at(4);
            });
            put(hold, vec![first]).await;
            let loans = lease(hold, at(5), ALL).await;
            let names = names(&loans);
            assert_eq!(names.len(), 33);
            assert_eq!((names[0], names[1], names[32]), ("first", "late", "same"));
        },
    )
    .await;
}

#[tokio::test]
async fn a_message_deferred_to_an_instant_already_passed_is_still_lent() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        put(
            hold,
            (0..50)
                .map(|number| due(&format!("n{number}"), at(5)))
                .collect(),
        )
        .await;
        let loans = lease(hold, at(5), 20).await;
        let back = [7, 8].map(|place| names(&loans)[place].to_owned());
        settle(hold, loans[7].token, defer(at(-30)), at(6)).await;
        settle(hold, loans[8].token, defer(at(5)), at(6)).await;
        let again = lease(hold, at(6), ALL).await;
        let names = names(&again);
        assert_eq!(names.len(), 32);
        assert!(back.iter().all(|name| names.contains(&name.as_str())));
        if hold.capability().order {
            assert_eq!(
                (names[0], names[1], names[31]),
                ("n7", "n20", "n8"),
                "n7 was due first; n8 arrived anew, behind n49"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_loan_lapses_at_its_until_and_the_message_is_lent_again() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        put(hold, vec![held("a")]).await;
        let first = lease_one(hold, at(0)).await;
        assert_eq!((first.until, first.lapsed), (at(0) + TTL, false));
        assert_eq!(lease(hold, first.until - MOMENT, ALL).await, []);
        let second = lease_one(hold, first.until).await;
        assert!(second.lapsed, "somebody may have handed it over");
        assert_ne!(second.token, first.token);
        settle(hold, second.token, defer(at(12)), at(11)).await;
        let third = lease_one(hold, at(12)).await;
        assert!(
            third.lapsed,
            "deferring does not undo what an earlier releaser may have done"
        );
        assert_eq!(third.attempts, 1, "lapsing counts no attempt");
        recount(hold).await;
    })
    .await;
}

#[tokio::test]
async fn a_campaign_can_be_picked() {
    on_each(
        |can| can.pick,
        async |bench| {
            let hold = &*bench.hold;
            let kind = |name: &str, purpose: Purpose, campaign: Option<&str>| {
                with(name, |held| {
                    held.message.purpose = purpose;
                    held.message.campaign = campaign.map(Arc::from);
                })
            };
            use Purpose::{Advertising, Informational};
            put(
                hold,
                vec![
                    kind("ad-x", Advertising, Some("x")),
                    kind("info-x", Informational, Some("x")),
                    kind("ad-none", Advertising, None),
                    kind("ad-y", Advertising, Some("y")),
                    kind("ad-x2", Advertising, Some("x")),
                    kind("info-none", Informational, None),
                ],
            )
            .await;
            let picks = [
                (
                    Pick::Campaign(Advertising, Some("x")),
                    vec!["ad-x", "ad-x2"],
                ),
                (Pick::Campaign(Informational, Some("x")), vec!["info-x"]),
                (Pick::Campaign(Advertising, None), vec!["ad-none"]),
                (Pick::Campaign(Informational, Some("z")), vec![]),
                (Pick::Any, vec!["ad-y", "info-none"]),
            ];
            for (which, expected) in picks {
                let loans = pick(hold, which, at(0), ALL).await;
                let mut names = names(&loans);
                if !hold.capability().order {
                    names.sort_unstable();
                }
                assert_eq!(names, expected, "{which:?}");
            }
        },
    )
    .await;
}

#[tokio::test]
async fn two_who_lease_at_once_never_get_the_same_message() {
    on_each(always, async |bench| {
        let messages = (0..400).map(|number| held(&format!("m{number}")));
        put(&*bench.hold, messages.collect()).await;
        let releasers = (0..4).map(|_| {
            let hold = Arc::clone(&bench.hold);
            tokio::spawn(async move {
                let mut got = Vec::new();
                loop {
                    let loans = lease(&*hold, at(0), 7).await;
                    if loans.is_empty() {
                        return got;
                    }
                    for loan in loans {
                        let answer = settle(&*hold, loan.token, done(), at(0)).await;
                        assert_eq!(answer, Settled::Yes);
                        got.push(loan.held.message.id);
                    }
                }
            })
        });
        let mut all = Vec::new();
        for releaser in releasers.collect::<Vec<_>>() {
            all.extend(releaser.await.unwrap());
        }
        assert_eq!(all.len(), 400);
        assert_eq!(
            all.iter().collect::<BTreeSet<_>>().len(),
            400,
            "each exactly once"
        );
    })
    .await;
}

#[tokio::test]
async fn whatever_happens_between_everything_put_is_lent_until_it_is_done() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        for seed in 0..6 {
            let mut dice = fastrand::Rng::with_seed(seed);
            let (mut put_names, mut done_names) = (BTreeSet::new(), BTreeSet::new());
            let mut now = at(0);
            for step in 0..60 {
                now += SignedDuration::from_secs(dice.i64(0..200));
                let fresh: Vec<_> = (0..dice.usize(..6))
                    .map(|number| format!("s{seed}-{step}-{number}"))
                    .map(|name| due(&name, now + SignedDuration::from_secs(dice.i64(-600..600))))
                    .collect();
                put_names.extend(fresh.iter().map(|held| held.message.id.to_string()));
                put(hold, fresh).await;
                for loan in lease(hold, now, dice.usize(..8)).await {
                    let name = loan.held.message.id.to_string();
                    assert!(
                        !done_names.contains(&name),
                        "{name} was done and is lent again"
                    );
                    let verdict = match dice.u8(..4) {
                        0 => defer(now + SignedDuration::from_secs(dice.i64(-300..300))),
                        1 => continue, // its releaser died
                        _ => done(),
                    };
                    let is_done = matches!(verdict, Verdict::Done(_));
                    assert_eq!(settle(hold, loan.token, verdict, now).await, Settled::Yes);
                    if is_done {
                        done_names.insert(name);
                    }
                }
            }
            now += SignedDuration::from_hours(2);
            for loan in lease(hold, now, ALL).await {
                assert_eq!(settle(hold, loan.token, done(), now).await, Settled::Yes);
                assert!(done_names.insert(loan.held.message.id.to_string()));
            }
            assert_eq!(done_names, put_names);
            assert_totals(hold, (0, 0, 0)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn next_due_is_the_earliest_due_or_lapse_of_the_lane_and_never_past() {
    on_each(
        |can| can.exact_depth,
        async |bench| {
            let hold = &*bench.hold;
            let next = async |now| hold.next_due(&lane(), now).await.unwrap();
            assert_eq!(next(at(0)).await, None);
            put(hold, vec![due("b", at(30)), due("a", at(7))]).await;
            put(
                hold,
                vec![with("other", |held| held.lane = Lane::new("push"))],
            )
            .await;
            let urgent = with("urgent", |held| {
                held.message.priority = Priority::new(0).unwrap();
                held.due = at(40);
            });
            put(hold, vec![urgent]).await;
            assert_eq!(next(at(0)).await, Some(at(7)));
            assert_eq!(next(at(9)).await, Some(at(9)), "due already means now");
            let loan = lease_one(hold, at(7)).await;
            assert_eq!(next(at(8)).await, Some(at(17)), "the lapse of the loan");
            settle(hold, loan.token, bury(), at(8)).await;
            assert_eq!(next(at(8)).await, Some(at(30)));
        },
    )
    .await;
}

#[tokio::test]
async fn a_loan_that_never_ends_in_time_is_a_loan_like_any_other() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        put(hold, vec![held("a")]).await;
        let (lane, ttl) = (lane(), SignedDuration::MAX);
        let ask = LeaseAsk {
            lane: &lane,
            pick: Pick::Any,
            now: at(0),
            max: 1,
            ttl,
        };
        let loan = hold.lease(&ask).await.unwrap().remove(0);
        assert!(loan.until > at(60 * 11), "as long as the backend can");
        assert_state(hold, "a", State::Leased).await;
        assert_eq!(settle(hold, loan.token, done(), at(1)).await, Settled::Yes);
    })
    .await;
}

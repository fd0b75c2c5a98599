//! `shelves` and `redate`.

use nightgate::hold::{Lane, Shelf};
use nightgate_core::{Priority, Purpose};

use crate::backends::on_each;
use crate::world::*;

const CLASS: &str = "advertising/lms/KR/Asia/Seoul";

#[tokio::test]
async fn shelves_are_shown_by_lane_priority_and_due_and_counted_exactly() {
    on_each(
        |can| can.exact_depth,
        async |bench| {
            let hold = &*bench.hold;
            let on = |name: &str, lane: &str, priority: u8, minutes: i64| {
                with(name, |held| {
                    held.lane = Lane::new(lane);
                    held.message.priority = Priority::new(priority).unwrap();
                    held.due = at(minutes);
                })
            };
            put(
                hold,
                vec![
                    on("a", "sms", 5, 9),
                    on("b", "sms", 5, 3),
                    on("c", "sms", 5, 3),
                    on("d", "push", 9, 3),
                    on("e", "sms", 0, 9),
                ],
            )
            .await;
            let loan = lease(hold, at(3), 1).await.remove(0);
            let shape = |shelves: Vec<Shelf>| -> Vec<(String, u8, bool, [u64; 3])> {
                let line = |shelf: Shelf| {
                    let counts = [shelf.held, shelf.leased, shelf.buried];
                    (
                        shelf.lane.to_string(),
                        shelf.priority,
                        shelf.due == at(3),
                        counts,
                    )
                };
                shelves.into_iter().map(line).collect()
            };
            let (push, sms) = ("push".to_owned(), "sms".to_owned());
            let all = [
                (push.clone(), 9, true, [1, 0, 0]),
                (sms.clone(), 0, false, [1, 0, 0]),
                (sms.clone(), 5, true, [1, 1, 0]),
                (sms.clone(), 5, false, [1, 0, 0]),
            ];
            assert_eq!(shape(hold.shelves(None, None).await.unwrap()), all);
            let only = hold.shelves(Some(&lane()), None).await.unwrap();
            assert_eq!(shape(only), all[1..]);
            let due = hold.shelves(None, Some(at(3))).await.unwrap();
            assert_eq!(shape(due), [all[0].clone(), all[2].clone()]);
            let both = hold
                .shelves(Some(&lane()), Some(at(3) - MOMENT))
                .await
                .unwrap();
            assert_eq!(shape(both), []);

            settle(hold, loan.token, bury(), at(4)).await;
            let after = hold.shelves(Some(&lane()), Some(at(3))).await.unwrap();
            assert_eq!(shape(after), [(sms, 5, true, [1, 0, 1])]);
        },
    )
    .await;
}

#[tokio::test]
async fn what_differs_in_purpose_class_or_campaign_stands_on_another_shelf() {
    on_each(
        |can| can.exact_depth,
        async |bench| {
            let hold = &*bench.hold;
            put(
                hold,
                vec![
                    held("a"),
                    with("b", |held| held.message.purpose = Purpose::Informational),
                    with("c", |held| held.class = class("other")),
                    of_campaign("d", "x"),
                    of_campaign("e", ""),
                    held("f"),
                ],
            )
            .await;
            let shelves = hold.shelves(None, None).await.unwrap();
            let mut counts: Vec<u64> = shelves.iter().map(|shelf| shelf.held).collect();
            counts.sort_unstable();
            assert_eq!(counts, [1, 1, 1, 1, 2]);
            recount(hold).await;
        },
    )
    .await;
}

#[tokio::test]
async fn redate_moves_what_is_due_of_one_lane_and_class() {
    on_each(
        |can| can.redate,
        async |bench| {
            let hold = &*bench.hold;
            put(
                hold,
                vec![
                    due("a", at(1)),
                    due("b", at(2)),
                    due("later", at(2) + MOMENT),
                    with("kind", |held| held.class = class("other")),
                    with("elsewhere", |held| held.lane = Lane::new("push")),
                    due("there", at(90)),
                ],
            )
            .await;
            let moved = hold
                .redate(&lane(), &class(CLASS), at(2), at(90))
                .await
                .unwrap();
            assert_eq!(moved, 2, "a and b");
            recount(hold).await;
            assert_eq!(names(&lease(hold, at(2), ALL).await), ["kind"]);
            assert_eq!(names(&lease(hold, at(3), ALL).await), ["later"]);
            assert_eq!(find(hold, "a").await.unwrap().held.due, at(90));
            let shelf = hold
                .shelves(Some(&lane()), None)
                .await
                .unwrap()
                .pop()
                .unwrap();
            assert_eq!(
                (shelf.due, shelf.held),
                (at(90), 3),
                "like shelves are shown as one"
            );
            let moved = hold
                .redate(&lane(), &class(CLASS), at(2), at(90))
                .await
                .unwrap();
            assert_eq!(moved, 0, "nothing is due any more");
            let loans = lease(hold, at(90), ALL).await;
            let mut names = names(&loans);
            if !hold.capability().order {
                names.sort_unstable();
            }
            // The two before them have lapsed meanwhile.
            let expected = ["kind", "later", "a", "b", "there"];
            let sorted = ["a", "b", "kind", "later", "there"];
            let expected = if hold.capability().order {
                expected
            } else {
                sorted
            };
            assert_eq!(names, expected, "by arrival, over both shelves");
        },
    )
    .await;
}

#[tokio::test]
async fn loans_and_what_is_buried_move_with_their_shelf_uncounted() {
    on_each(
        |can| can.redate,
        async |bench| {
            let hold = &*bench.hold;
            put(hold, vec![held("loan"), held("buried"), held("done")]).await;
            let loans = lease(hold, at(0), 3).await;
            settle(hold, token_of(&loans, "buried"), bury(), at(0)).await;
            settle(hold, token_of(&loans, "done"), done(), at(0)).await;
            put(hold, vec![held("held")]).await;
            assert_eq!(
                hold.redate(&lane(), &class(CLASS), at(0), at(50))
                    .await
                    .unwrap(),
                1
            );
            recount(hold).await;
            for (name, expected) in [("loan", 50), ("buried", 50), ("held", 50), ("done", 0)] {
                if name == "done" && !hold.capability().ended {
                    continue;
                }
                let due = find(hold, name).await.unwrap().held.due;
                assert_eq!(due, at(expected), "{name}");
            }
            assert_eq!(
                lease(hold, at(20), ALL).await,
                [],
                "the lapsed loan waits with the others"
            );
            let loans = lease(hold, at(50), ALL).await;
            let mut names = names(&loans);
            if !hold.capability().order {
                names.sort_by_key(|name| *name == "held");
            }
            assert_eq!(names, ["loan", "held"]);
        },
    )
    .await;
}

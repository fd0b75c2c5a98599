//! `hold::moving`: from every backend that can be read through into a plain one.

use std::collections::BTreeMap;

use nightgate::error::Result;
use nightgate::hold::moving::{Moved, stop, walk};
use nightgate::hold::shelf::{Options, ShelfHold};
use nightgate::hold::{Capability, Held, HoldStore, Lane, Pause, Recalled, Scope, State};
use nightgate_core::MessageId;

use crate::backends::{Bench, memory, on_each};
use crate::world::*;

/// What moving needs of the old hold, beside reading it through.
fn movable(can: &Capability) -> bool {
    can.find && can.recall && can.exact_depth
}

/// Runs `test` from every backend that can be read through into memory.
async fn from_each(test: impl AsyncFn(&mut Bench, &dyn HoldStore)) {
    let ran = std::cell::Cell::new(0);
    on_each(movable, async |bench| {
        if bench.hold.export(0, 1).await.is_err() {
            return;
        }
        ran.set(ran.get() + 1);
        test(bench, &*memory()).await;
    })
    .await;
    assert!(ran.get() >= 2, "shelf and sqlite at least");
}

/// For messages whose loans lapsed.
async fn nobody_can_tell(ids: Vec<MessageId>) -> Result<Vec<bool>> {
    Ok(vec![false; ids.len()])
}

async fn all_of(hold: &dyn HoldStore) -> BTreeMap<String, Held> {
    let loans = lease(hold, at(10_000), ALL).await;
    let named = |held: Held| (held.message.id.to_string(), held);
    loans.into_iter().map(|loan| named(loan.held)).collect()
}

fn three() -> Vec<Held> {
    let bytes = |held: &mut Held| held.message.body = vec![0, 159, 146, 150].into();
    vec![
        due("a", at(0)),
        with("b", bytes),
        with("c", |held| {
            held.due = at(500);
            held.message.campaign = Some("autumn".into());
        }),
    ]
}

#[tokio::test]
async fn all_that_is_held_moves_byte_for_byte_and_nothing_stays() {
    from_each(async |bench, to| {
        let from = &*bench.hold;
        put(from, three()).await;
        let mut seen = 0;
        let moved = walk(from, to, at(1), nobody_can_tell, |count| seen += count)
            .await
            .unwrap();
        let expected = Moved {
            moved: 3,
            ..Moved::default()
        };
        assert_eq!((moved, seen), (expected, 3));
        assert_eq!(totals(from).await, (0, 0, 0));
        assert!(lease(from, at(10_000), ALL).await.is_empty());
        let expected = three().into_iter();
        let expected = expected.map(|held| (held.message.id.to_string(), held));
        assert_eq!(all_of(to).await, expected.collect());
    })
    .await;
}

#[tokio::test]
async fn killed_between_copying_and_taking_back_it_goes_on_without_loss_or_double() {
    from_each(async |bench, to| {
        let from = &*bench.hold;
        put(from, three()).await;
        put(to, three().into_iter().take(2).collect()).await;
        let moved = walk(from, to, at(1), nobody_can_tell, |_| ())
            .await
            .unwrap();
        assert_eq!((moved.moved, moved.known), (3, 2));
        assert_eq!(totals(from).await, (0, 0, 0));
        assert_eq!(all_of(to).await.len(), 3);
        let again = walk(from, to, at(2), nobody_can_tell, |_| ())
            .await
            .unwrap();
        assert_eq!(again, Moved::default(), "nothing is left to move");
    })
    .await;
}

#[tokio::test]
async fn what_was_moved_can_move_back() {
    from_each(async |bench, to| {
        let from = &*bench.hold;
        put(from, three()).await;
        walk(from, to, at(1), nobody_can_tell, |_| ())
            .await
            .unwrap();
        put(from, three()).await;
        assert_eq!(totals(from).await, (3, 0, 0));
    })
    .await;
}

#[tokio::test]
async fn what_ended_in_the_new_hold_stays_in_the_old_one() {
    from_each(async |bench, to| {
        let from = &*bench.hold;
        put(from, three()).await;
        put(to, vec![held("a")]).await;
        let loan = lease_one(to, at(0)).await;
        settle(to, loan.token, done(), at(0)).await;
        let moved = walk(from, to, at(1), nobody_can_tell, |_| ())
            .await
            .unwrap();
        assert_eq!((moved.moved, moved.ended, moved.left()), (2, 1, 1));
        assert_eq!(totals(from).await, (1, 0, 0));
    })
    .await;
}

#[tokio::test]
async fn what_is_on_loan_or_buried_stays_and_is_counted() {
    from_each(async |bench, to| {
        let from = &*bench.hold;
        put(
            from,
            vec![held("buried"), held("lent"), due("held", at(90))],
        )
        .await;
        let loans = lease(from, at(0), ALL).await;
        let buried = loans
            .iter()
            .find(|loan| loan.held.message.id == id("buried"));
        settle(from, buried.unwrap().token, bury(), at(0)).await;
        let moved = walk(from, to, at(1), nobody_can_tell, |_| ())
            .await
            .unwrap();
        let expected = Moved {
            moved: 1,
            on_loan: 1,
            buried: 1,
            ..Moved::default()
        };
        assert_eq!(moved, expected);
        assert_eq!(moved.left(), 2);
        assert_eq!(totals(from).await, (0, 1, 1));
        assert_state(from, "lent", State::Leased).await;
        assert_eq!(state(to, "held").await, Some(State::Held));
    })
    .await;
}

#[tokio::test]
async fn what_lapsed_moves_where_it_is_certain_that_it_was_not_handed_over_and_stays_otherwise() {
    from_each(async |bench, to| {
        let from = &*bench.hold;
        put(from, vec![held("gone"), held("kept"), due("new", at(90))]).await;
        let loans = lease(from, at(0), ALL).await;
        assert_eq!(loans.len(), 2);
        // A lease takes back what lapsed; both are put back then, as rules do in the evening.
        let later = at(0) + TTL + MOMENT;
        for loan in lease(from, later, ALL).await {
            assert!(loan.lapsed);
            settle(from, loan.token, defer(at(80)), later).await;
        }
        let found = from.find(&[id("gone"), id("new")]).await.unwrap();
        let lapsed: Vec<bool> = found.into_iter().map(|one| one.unwrap().lapsed).collect();
        assert_eq!(lapsed, [true, false]);
        let kept =
            async |ids: Vec<MessageId>| Ok(ids.iter().map(|one| *one == id("kept")).collect());
        let moved = walk(from, to, at(30), kept, |_| ()).await.unwrap();
        assert_eq!((moved.moved, moved.lapsed, moved.left()), (2, 1, 1));
        assert_eq!(state(from, "gone").await, Some(State::Held));
        assert_eq!(state(to, "gone").await, None);
        assert_eq!(state(to, "kept").await, Some(State::Held));
    })
    .await;
}

#[tokio::test]
async fn what_the_new_hold_has_no_room_for_stays_in_the_old_one() {
    from_each(async |bench, _| {
        let from = &*bench.hold;
        put(from, three()).await;
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            horizon: HORIZON,
            shelf_max: Some(1),
            ..Options::default()
        };
        let to = ShelfHold::open(dir.path(), options).await.unwrap();
        let moved = walk(from, &to, at(1), nobody_can_tell, |_| ())
            .await
            .unwrap();
        assert_eq!((moved.moved, moved.full, moved.left()), (2, 1, 1));
        assert_eq!(totals(from).await.0 + totals(&to).await.0, 3);
    })
    .await;
}

#[tokio::test]
async fn stops_are_carried_over_before_everything_is_stopped() {
    from_each(async |bench, to| {
        let from = &*bench.hold;
        let push = Lane::new("push");
        from.pause(Some(&push), true, at(0)).await.unwrap();
        let carried = stop(from, to, at(1)).await.unwrap();
        assert_eq!(carried.len(), 1);
        let lanes = |pauses: Vec<Pause>| pauses.into_iter().map(|pause| pause.lane);
        let there: Vec<_> = lanes(to.pauses().await.unwrap()).collect();
        assert_eq!(there, [Some(push.clone())]);
        let here: Vec<_> = lanes(from.pauses().await.unwrap()).collect();
        assert_eq!(here, [None, Some(push)]);
    })
    .await;
}

#[tokio::test]
async fn a_message_that_was_moved_cannot_be_taken_back_from_the_old_hold_again() {
    from_each(async |bench, to| {
        let from = &*bench.hold;
        put(from, vec![held("one")]).await;
        walk(from, to, at(1), nobody_can_tell, |_| ())
            .await
            .unwrap();
        let none = Recalled::default();
        assert_eq!(
            from.recall(&Scope::Id(id("one")), at(2)).await.unwrap(),
            none
        );
        let taken = to.recall(&Scope::Id(id("one")), at(2)).await.unwrap();
        assert_eq!(taken.recalled, 1);
    })
    .await;
}

//! `find` and `list`.

use bytes::Bytes;
use nightgate::hold::{Lane, State};

use crate::backends::on_each;
use crate::world::*;

#[tokio::test]
async fn find_answers_each_id_in_order_and_none_where_nothing_is_known() {
    on_each(
        |can| can.find,
        async |bench| {
            let hold = &*bench.hold;
            put(hold, vec![held("a"), held("b")]).await;
            let asked = ["b", "?", "a", "b"].map(id);
            let found = hold.find(&asked).await.unwrap();
            let ids = found
                .iter()
                .map(|found| found.as_ref().map(|it| it.held.message.id.as_str()));
            assert_eq!(
                ids.collect::<Vec<_>>(),
                [Some("b"), None, Some("a"), Some("b")]
            );
        },
    )
    .await;
}

#[tokio::test]
async fn list_shows_one_state_oldest_first_without_bodies() {
    on_each(
        |can| can.find,
        async |bench| {
            let hold = &*bench.hold;
            let attributed = with("c", |held| {
                held.message
                    .attributes
                    .insert("template".to_owned(), "N-17".to_owned());
            });
            let elsewhere = with("d", |held| held.lane = Lane::new("push"));
            put(
                hold,
                vec![
                    due("a", at(9)),
                    due("b", at(3)),
                    attributed.clone(),
                    elsewhere,
                ],
            )
            .await;
            let list = async |state, lane: Option<&Lane>, max| {
                let found = hold.list(state, lane, max).await.unwrap();
                assert!(
                    found
                        .iter()
                        .all(|it| it.state == state && it.held.message.body.is_empty())
                );
                let ids = found.iter().map(|it| it.held.message.id.to_string());
                let mut ids = ids.collect::<Vec<_>>();
                // Without an order over all, each part of the hold has its own.
                if !hold.capability().order && max == ALL {
                    ids.sort_unstable();
                }
                ids
            };
            assert_eq!(list(State::Held, None, ALL).await, ["a", "b", "c", "d"]);
            let two = list(State::Held, None, 2).await;
            assert!(
                two == ["a", "b"] || !hold.capability().order && two.len() == 2,
                "{two:?}"
            );
            assert_eq!(
                list(State::Held, Some(&Lane::new("push")), ALL).await,
                ["d"]
            );
            assert_eq!(list(State::Buried, None, ALL).await, [""; 0]);
            let mut bodiless = attributed;
            bodiless.message.body = Bytes::new();
            let found = hold.list(State::Held, None, ALL).await.unwrap();
            assert!(found.iter().any(|found| found.held == bodiless));

            let loan = lease_one(hold, at(0)).await;
            assert_eq!(list(State::Leased, None, ALL).await, ["c"]);
            settle(hold, loan.token, bury(), at(0)).await;
            assert_eq!(list(State::Buried, Some(&lane()), ALL).await, ["c"]);
            let loan = lease_one(hold, at(3)).await;
            settle(hold, loan.token, done(), at(3)).await;
            let ended: &[&str] = if hold.capability().ended { &["b"] } else { &[] };
            assert_eq!(list(State::Delivered, None, ALL).await, ended);
            assert_eq!(
                list(State::Delivered, Some(&Lane::new("push")), ALL).await,
                [""; 0]
            );
        },
    )
    .await;
}

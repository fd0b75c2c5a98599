//! `pause` and `pauses`.

use nightgate::hold::{Lane, Pause};

use crate::backends::{always, on_each};
use crate::world::*;

#[tokio::test]
async fn a_stop_stands_until_it_is_lifted_and_keeps_its_first_instant() {
    on_each(always, async |bench| {
        let hold = &*bench.hold;
        let push = Lane::new("push");
        assert_eq!(hold.pauses().await.unwrap(), []);
        hold.pause(Some(&push), true, at(1)).await.unwrap();
        hold.pause(None, true, at(2)).await.unwrap();
        hold.pause(None, true, at(3)).await.unwrap();
        hold.pause(Some(&lane()), false, at(3)).await.unwrap();
        let global = Pause {
            lane: None,
            since: at(2),
        };
        let one = Pause {
            lane: Some(push.clone()),
            since: at(1),
        };
        assert_eq!(hold.pauses().await.unwrap(), [global, one.clone()]);
        hold.pause(None, false, at(4)).await.unwrap();
        assert_eq!(
            hold.pauses().await.unwrap(),
            [one],
            "lifting one leaves the other"
        );
        hold.pause(Some(&push), false, at(4)).await.unwrap();
        assert_eq!(hold.pauses().await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn a_stop_outlives_a_restart() {
    on_each(
        |can| can.durable,
        async |bench| {
            bench.hold.pause(None, true, at(1)).await.unwrap();
            bench.hold.pause(Some(&lane()), true, at(2)).await.unwrap();
            let before = bench.hold.pauses().await.unwrap();
            bench.reopen().await;
            assert_eq!(before.len(), 2);
            assert_eq!(bench.hold.pauses().await.unwrap(), before);
        },
    )
    .await;
}

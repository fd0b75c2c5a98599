//! The order of each group, on a FIFO queue.

use super::*;
use crate::aws::travel::SIDE;

/// Bodies of one group in the order they were sent.
fn of_group(desk: &Desk, group: &str) -> Vec<String> {
    let sent = desk.sent().into_iter();
    let of_group = sent.filter(|one| one.group.as_deref() == Some(group));
    of_group.map(|one| one.body).collect()
}

/// `each` messages of groups a, b and c in turn: bodies `a0`, `b0`, `c0`, `a1`, ...
fn three_groups(each: usize) -> Vec<Outbound> {
    let bodies: Vec<(String, &str)> = (0..each)
        .flat_map(|n| ["a", "b", "c"].map(|group| (format!("{group}{n}"), group)))
        .collect();
    let messages: Vec<_> = bodies
        .iter()
        .map(|(body, group)| (&**body, Some(*group)))
        .collect();
    batch(&messages)
}

#[tokio::test]
async fn each_group_leaves_in_order_one_request_at_a_time_and_groups_beside_each_other() {
    let desk = Arc::new(Desk::new(|_| None));
    let outcomes = sink(&desk, FIFO, 2).deliver(three_groups(20)).await;
    assert_eq!(words(&outcomes), ["delivered"; 60]);
    for group in ["a", "b", "c"] {
        let right: Vec<String> = (0..20).map(|n| format!("{group}{n}")).collect();
        assert_eq!(of_group(&desk, group), right);
    }
    assert_eq!(desk.most_under_way.load(Ordering::SeqCst), 2);
    assert_eq!(desk.requests.lock().unwrap().len(), 6, "requests are full");
}

#[tokio::test]
async fn behind_one_that_did_not_leave_its_group_waits_and_the_others_go_on() {
    for (kind, word) in [(K::Unavailable, "retry"), (K::Unknown, "unknown")] {
        let desk = Arc::new(Desk::new(move |one| (one.body == "a12").then_some(kind)));
        let outcomes = sink(&desk, FIFO, 3).deliver(three_groups(30)).await;
        let words = words(&outcomes);
        for n in 0..30 {
            let right = match n {
                12 => word,
                20.. => "retry lane",
                _ => "delivered",
            };
            assert_eq!(words[n * 3], right, "a{n}");
            assert_eq!(
                words[n * 3 + 1..n * 3 + 3],
                ["delivered"; 2],
                "b{n} and c{n}"
            );
        }
        assert_eq!(of_group(&desk, "a").len(), 20);
    }
}

#[tokio::test]
async fn one_that_never_will_leave_is_out_of_the_way_of_its_group() {
    let desk = Arc::new(Desk::new(|one| (one.body == "a12").then_some(K::Rejected)));
    let outcomes = sink(&desk, FIFO, 3).deliver(three_groups(30)).await;
    let mut right = ["delivered"; 90];
    right[36] = "rejected";
    assert_eq!(words(&outcomes), right);
}

#[tokio::test]
async fn behind_one_that_is_too_late_nothing_of_its_group_leaves() {
    let clock = clock();
    let mut messages = three_groups(4);
    let mut late = messages[3].message().clone();
    late.body = "late".into();
    let soon = at(NOW) + jiff::SignedDuration::from_secs(1);
    messages[3] = testing::decided(late, at(NOW), soon);
    clock.advance(std::time::Duration::from_secs(2));
    let desk = Arc::new(Desk::new(|_| None));
    let outcomes = sink_at(&desk, FIFO, 1, clock).deliver(messages).await;
    let mut right = ["delivered"; 12];
    right[3] = "too_late";
    right[6] = "too_late";
    right[9] = "too_late";
    assert_eq!(words(&outcomes), right);
    assert_eq!(of_group(&desk, "a"), ["a0"]);
}

#[tokio::test]
async fn the_group_is_the_producers_else_the_campaign_else_the_recipient_hashed() {
    let mut own = testing::message("m-own", b"own");
    let side = r#"{"group":"theirs","deduplication":"theirs too","trace":"Root=1"}"#;
    own.attributes = BTreeMap::from([(SIDE.to_owned(), side.to_owned())]);
    let mut korean = testing::message("m-korean", b"korean");
    korean.campaign = Some("가을 세일".into());
    let mut alone = testing::message("m-alone", b"alone");
    alone.campaign = None;
    let named = testing::message("m-named", b"named");
    let batch = [own, korean, alone, named];
    let batch = batch.map(|one| testing::decided(one, at(NOW), at(LATER)));
    let desk = Arc::new(Desk::new(|_| None));
    let _ = sink(&desk, FIFO, 1).deliver(batch.into()).await;
    let sent = desk.sent();
    let group = |n: usize| sent[n].group.clone().unwrap();
    assert_eq!((&*group(0), &*group(3)), ("theirs", "autumn"));
    assert_eq!(sent[0].trace.as_deref(), Some("Root=1"));
    for hashed in [group(1), group(2)] {
        assert_eq!(hashed.len(), 64);
        assert!(
            hashed.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{hashed}"
        );
    }
    assert_ne!(group(1), group(2));
    let once: Vec<_> = sent
        .iter()
        .map(|one| one.deduplication.clone().unwrap())
        .collect();
    assert_eq!(once, ["m-own", "m-korean", "m-alone", "m-named"]);
}

#[tokio::test]
async fn a_message_that_goes_again_has_the_same_deduplication_id() {
    let desk = Arc::new(Desk::new(|_| Some(K::Unavailable)));
    for _ in 0..2 {
        let _ = sink(&desk, FIFO, 1).deliver(numbered(1)).await;
    }
    let sent = desk.sent();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].deduplication, sent[1].deduplication);
}

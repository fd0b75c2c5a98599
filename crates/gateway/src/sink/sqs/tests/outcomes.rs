//! What each answer becomes, on a standard queue.

use super::*;
use crate::aws::queues::Attribute;

#[tokio::test]
async fn a_batch_goes_in_full_requests_and_each_message_has_its_id_in_order() {
    let desk = Arc::new(Desk::new(|_| None));
    let outcomes = sink(&desk, URL, 4).deliver(numbered(25)).await;
    let reference = |n: usize| Outcome::Delivered {
        reference: Some(format!("sqs-{n}")),
    };
    assert_eq!(outcomes, (0..25).map(reference).collect::<Vec<_>>());
    let mut sizes: Vec<usize> = desk.bodies().iter().map(Vec::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [5, 10, 10]);
    assert!(sink(&desk, URL, 4).deliver(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn requests_go_at_the_same_time_and_no_more_than_may() {
    let desk = Arc::new(Desk::new(|_| None));
    let _ = sink(&desk, URL, 3).deliver(numbered(200)).await;
    assert_eq!(desk.requests.lock().unwrap().len(), 20);
    assert_eq!(desk.most_under_way.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn large_messages_share_no_request_that_would_be_too_large() {
    let desk = Arc::new(Desk::new(|_| None));
    let large = "밤".repeat(BYTES_MAX / 3 / 2);
    let messages = vec![(&*large, None); 4];
    let outcomes = sink(&desk, URL, 2).deliver(batch(&messages)).await;
    assert_eq!(words(&outcomes), ["delivered"; 4]);
    assert_eq!(desk.requests.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn one_bad_message_costs_only_itself() {
    let bad = |kind| move |one: &Outgoing| (one.body == "3").then_some(kind);
    let rows = [
        (K::Rejected, "rejected"),
        (K::Unavailable, "retry"),
        (K::Unknown, "unknown"),
    ];
    for (kind, word) in rows {
        let desk = Arc::new(Desk::new(bad(kind)));
        let outcomes = sink(&desk, URL, 4).deliver(numbered(25)).await;
        let mut right = ["delivered"; 25];
        right[3] = word;
        assert_eq!(words(&outcomes), right, "{kind:?}");
    }
}

#[tokio::test]
async fn a_request_turned_down_as_a_whole_is_sent_again_in_halves() {
    let mut desk = Desk::new(|one| ["3", "17"].contains(&&*one.body).then_some(K::Rejected));
    desk.all_or_none = true;
    let desk = Arc::new(desk);
    let outcomes = sink(&desk, URL, 4).deliver(numbered(20)).await;
    let mut right = ["delivered"; 20];
    right[3] = "rejected";
    right[17] = "rejected";
    assert_eq!(words(&outcomes), right);
}

#[tokio::test]
async fn when_all_would_fare_the_same_the_whole_lane_waits_and_no_more_is_sent() {
    for kind in [K::Throttled, K::Denied, K::Unavailable] {
        let desk = Arc::new(Desk::new(move |_| Some(kind)));
        let outcomes = sink(&desk, URL, 2).deliver(numbered(100)).await;
        assert_eq!(words(&outcomes), ["retry lane"; 100], "{kind:?}");
        let requests = desk.requests.lock().unwrap().len();
        assert!(requests <= 2, "{kind:?}: {requests} requests");
    }
}

#[tokio::test]
async fn a_throttled_entry_stops_the_lane_and_keeps_what_was_taken() {
    let desk = Arc::new(Desk::new(|one| (one.body == "3").then_some(K::Throttled)));
    let outcomes = sink(&desk, URL, 1).deliver(numbered(20)).await;
    let mut right = ["delivered"; 20];
    right[3] = "retry lane";
    right[10..].fill("retry lane");
    assert_eq!(words(&outcomes), right);
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_request_is_not_made_again() {
    let desk = Arc::new(Desk::new(|_| Some(K::Unknown)));
    let outcomes = sink(&desk, URL, 2).deliver(numbered(10)).await;
    assert_eq!(words(&outcomes), ["unknown"; 10]);
    assert_eq!(desk.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_permit_is_asked_before_each_request() {
    let (clock, mut desk) = (clock(), Desk::new(|_| None));
    // Each request takes twenty minutes, one at a time: after three the hour is over.
    desk.takes = Some((Arc::clone(&clock), std::time::Duration::from_secs(20 * 60)));
    let desk = Arc::new(desk);
    let outcomes = sink_at(&desk, URL, 1, clock).deliver(numbered(50)).await;
    let mut right = ["delivered"; 50];
    right[30..].fill("too_late");
    assert_eq!(words(&outcomes), right);
    assert_eq!(desk.sent().len(), 30);
}

#[tokio::test]
async fn those_too_late_stay_and_the_others_of_their_request_leave() {
    let clock = clock();
    let mut messages = numbered(5);
    let soon = at(NOW) + jiff::SignedDuration::from_secs(1);
    messages[2] = testing::decided(testing::message("late", b"late"), at(NOW), soon);
    clock.advance(std::time::Duration::from_secs(2));
    let desk = Arc::new(Desk::new(|_| None));
    let outcomes = sink_at(&desk, URL, 4, clock).deliver(messages).await;
    let mut right = ["delivered"; 5];
    right[2] = "too_late";
    assert_eq!(words(&outcomes), right);
    assert_eq!(desk.bodies(), [["0", "1", "3", "4"]]);
}

#[tokio::test]
async fn what_sqs_never_takes_is_rejected_by_the_name_of_its_field_and_not_sent() {
    let mut message = testing::message("m", "안녕".as_bytes());
    message.attributes = (0..11).map(|n| (format!("a{n}"), "1".to_owned())).collect();
    let batch = vec![testing::decided(message, at(NOW), at(LATER))];
    let desk = Arc::new(Desk::new(|_| None));
    let outcomes = sink(&desk, URL, 4).deliver(batch).await;
    let why = "`attributes` must be at most 10 for SQS, are 11".to_owned();
    assert_eq!(outcomes, [Outcome::Rejected { why }]);
    assert!(desk.sent().is_empty());
}

#[tokio::test]
async fn a_message_leaves_with_its_attributes_its_id_and_the_end_of_its_permit() {
    let desk = Arc::new(Desk::new(|_| None));
    let batch = batch(&[("안녕하세요", None)]);
    let end = batch[0].permit().not_after().to_string();
    let _ = sink(&desk, URL, 4).deliver(batch).await;
    let sent = desk.sent().remove(0);
    assert_eq!(sent.body, "안녕하세요");
    let right = [
        Attribute::text("template", "T-7"),
        Attribute::text("nightgate-not-after", end),
        Attribute::text("nightgate-id", "m-0"),
    ];
    assert!(sent.attributes == right);
    assert_eq!((sent.group, sent.deduplication), (None, None));
}

#[test]
fn limits_out_of_range_are_refused_with_what_to_set() {
    let rows = [
        (0, 1, "batch_max"),
        (5_001, 1, "batch_max"),
        (1, 0, "requests"),
        (1, 257, "requests"),
    ];
    for (batch_max, requests, key) in rows {
        let options = SqsSinkOptions {
            queue: Queue::new(URL),
            batch_max,
            requests,
        };
        let desk: Arc<dyn Queues> = Arc::new(Desk::new(|_| None));
        let error = SqsSink::new(desk, options, clock()).unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
    }
}

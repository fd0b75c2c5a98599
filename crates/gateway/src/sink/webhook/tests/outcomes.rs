//! What an answer means.

use std::time::Duration;

use jiff::SignedDuration;

use super::*;
use crate::sink::testing::RECIPIENT;

fn json(body: &Value) -> Script {
    let headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
    (200, headers, serde_json::to_vec(body).unwrap())
}

fn raw_json(body: &str) -> Script {
    (
        200,
        vec![("content-type", "application/json".to_owned())],
        body.into(),
    )
}

async fn after(script: Script, count: usize) -> Vec<Outcome> {
    let (_, url) = Receiver::serve(vec![script]).await;
    let outcomes = sink(&url).deliver(batch(count)).await;
    assert_clean(&outcomes);
    outcomes
}

#[tokio::test]
async fn every_status_means_what_the_table_says_for_one_message() {
    let table: [(&[u16], &str); 6] = [
        (&[200, 201, 202, 204, 299], "delivered"),
        (
            &[
                301, 302, 303, 307, 308, 304, 401, 402, 403, 407, 404, 405, 410, 421, 501, 505,
            ],
            "retry lane",
        ),
        (&[429, 503], "retry lane"),
        (&[408, 409, 425], "retry"),
        (&[400, 406, 411, 413, 415, 422, 431, 451], "rejected"),
        (&[500, 502, 504, 507, 520, 599], "unknown"),
    ];
    for (statuses, wanted) in table {
        for status in statuses {
            let location = vec![("location", "http://127.0.0.1:1/elsewhere".to_owned())];
            let outcomes = after((*status, location, b"010-1234-5678".to_vec()), 1).await;
            assert_eq!(words(&outcomes), [wanted], "HTTP {status}");
            let why = format!("{:?}", outcomes[0]);
            assert!(
                wanted == "delivered" || why.contains(&status.to_string()),
                "{why}"
            );
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, there) = Receiver::serve(Vec::new()).await;
    let (receiver, url) = Receiver::serve(vec![(307, vec![("location", there)], Vec::new())]).await;
    let outcomes = sink(&url).deliver(batch(1)).await;
    assert_eq!(words(&outcomes), ["retry lane"]);
    assert_eq!(
        (receiver.requests().len(), elsewhere.requests().len()),
        (1, 0)
    );
}

#[tokio::test]
async fn retry_after_is_obeyed_in_both_forms_and_capped() {
    let forms = [
        (Some("120"), Some(SignedDuration::from_secs(120))),
        (Some("0"), Some(SignedDuration::ZERO)),
        // The sink's clock shows 14:30:00 in Greenwich.
        (
            Some("Sun, 22 Nov 2026 14:35:00 GMT"),
            Some(SignedDuration::from_mins(5)),
        ),
        (
            Some("Sun, 22 Nov 2026 14:00:00 GMT"),
            Some(SignedDuration::ZERO),
        ),
        (Some("86400"), Some(SignedDuration::from_hours(1))),
        (
            Some("99999999999999999999999"),
            Some(SignedDuration::from_hours(1)),
        ),
        (
            Some("Tue, 24 Nov 2026 14:00:00 GMT"),
            Some(SignedDuration::from_hours(1)),
        ),
        (Some("soon"), None),
        (Some(""), None),
        (None, None),
    ];
    for status in [429, 503, 401, 408] {
        for (text, wanted) in &forms {
            let headers = text
                .map(|text| ("retry-after", text.to_owned()))
                .into_iter()
                .collect();
            let outcomes = after((status, headers, Vec::new()), 1).await;
            let Outcome::Retry { after, .. } = &outcomes[0] else {
                panic!("{outcomes:?}")
            };
            assert_eq!(after, wanted, "{text:?}");
        }
    }
}

#[tokio::test]
async fn one_bad_message_costs_only_itself() {
    let refuse = || (422, Vec::new(), Vec::new());
    let fine = || (204, Vec::new(), Vec::new());
    // 0 1 2 3 | 0 1 | 2 3 | 2 | 3: message 2 is the bad one.
    let script = vec![refuse(), fine(), refuse(), refuse(), fine()];
    let (receiver, url) = Receiver::serve(script).await;
    let outcomes = sink(&url).deliver(batch(4)).await;
    assert_eq!(
        words(&outcomes),
        ["delivered", "delivered", "rejected", "delivered"]
    );
    let sizes: Vec<_> = receiver.ids().iter().map(Vec::len).collect();
    assert_eq!(sizes, [4, 2, 2, 1, 1]);
    assert_eq!(receiver.ids()[3], ["m-2"]);
}

#[tokio::test]
async fn when_the_whole_lane_must_wait_the_rest_of_the_batch_is_not_tried() {
    let (receiver, url) = Receiver::serve(vec![(503, Vec::new(), Vec::new())]).await;
    let options = WebhookOptions {
        batch_max: 2,
        ..options(&url)
    };
    let outcomes = WebhookSink::new(&options, clock())
        .unwrap()
        .deliver(batch(5))
        .await;
    assert_eq!(words(&outcomes), vec!["retry lane"; 5]);
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn outcomes_in_the_answer_hold_for_their_messages() {
    let answer = serde_json::json!({"outcomes": [
        {"id": "m-4", "outcome": "unknown", "why": "carrier_silent"},
        {"id": "m-0", "outcome": "delivered", "reference": "P-20261122-01"},
        {"id": "m-1", "outcome": "retry", "retry_after_seconds": 90, "why": "E.3008"},
        {"id": "m-2", "outcome": "rejected", "why": "invalid_number"},
        {"id": "m-3", "outcome": "postponed"},
        {"id": "m-6", "outcome": "delivered"},
        {"id": "m-6", "outcome": "rejected"},
        {"id": "m-7", "outcome": "delivered"},
        {"id": "m-7", "outcome": "delivered"},
        {"id": "somebody-else", "outcome": "delivered"},
    ]});
    let outcomes = after(json(&answer), 8).await;
    let reference = Some("P-20261122-01".to_owned());
    assert_eq!(outcomes[0], Outcome::Delivered { reference });
    let why = "the receiver said retry: E.3008".to_owned();
    let wait = Some(SignedDuration::from_secs(90));
    assert_eq!(
        outcomes[1],
        Outcome::Retry {
            after: wait,
            whole_lane: false,
            why
        }
    );
    let why = "the receiver said rejected: invalid_number".to_owned();
    assert_eq!(outcomes[2], Outcome::Rejected { why });
    let rest = ["unknown", "unknown", "unknown", "unknown", "delivered"];
    assert_eq!(
        words(&outcomes[3..]),
        rest,
        "unknown word, said so, left out, contradiction, twice"
    );
    assert!(format!("{:?}", outcomes[5]).contains("leaves this message out"));
    assert!(format!("{:?}", outcomes[6]).contains("contradicts itself"));
}

#[tokio::test]
async fn what_the_receiver_says_is_kept_only_if_it_is_a_plain_code() {
    let answer = serde_json::json!({"outcomes": [
        {"id": "m-0", "outcome": "rejected", "why": format!("no such number {RECIPIENT}")},
        {"id": "m-1", "outcome": "rejected", "why": "01012345678"},
        {"id": "m-2", "outcome": "retry", "why": "안녕하세요", "retry_after_seconds": -5},
        {"id": "m-3", "outcome": "retry", "why": "x".repeat(65), "retry_after_seconds": 1e300},
        {"id": "m-4", "outcome": "delivered", "reference": "ana@example.com"},
        {"id": "m-5", "outcome": "delivered", "reference": "r".repeat(129)},
    ]});
    let outcomes = after(json(&answer), 6).await;
    let text = format!("{outcomes:?}");
    assert_eq!(
        text.matches("is no plain code and is not kept").count(),
        4,
        "{text}"
    );
    let after = |n: usize| match &outcomes[n] {
        Outcome::Retry { after, .. } => *after,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (after(2), after(3)),
        (
            Some(SignedDuration::ZERO),
            Some(SignedDuration::from_hours(1))
        )
    );
    assert_eq!(outcomes[4..], [delivered(), delivered()]);
}

#[tokio::test]
async fn any_other_2xx_is_delivered_and_an_unreadable_claim_is_unknown() {
    let text = vec![("content-type", "text/html".to_owned())];
    let problem = vec![("content-type", "application/vnd.hook+json".to_owned())];
    let table = [
        ((200, Vec::new(), Vec::new()), "delivered"),
        ((200, text, b"<p>{\"outcomes\":".to_vec()), "delivered"),
        (raw_json(""), "delivered"),
        (raw_json(" \n"), "delivered"),
        (raw_json("{\"ok\":true}"), "delivered"),
        (raw_json("{\"outcomes\":null}"), "delivered"),
        (raw_json("[1]"), "delivered"),
        (raw_json("\"ok\""), "delivered"),
        (raw_json("{\"outcomes\":[]}"), "unknown"),
        (raw_json("{\"outcomes\":[{\"id\":\"m-0\"}]}"), "unknown"),
        (raw_json("{\"outcomes\":\"all\"}"), "unknown"),
        (raw_json("{\"outcomes\":[{\"id\":\"m-0\",\"outc"), "unknown"),
        (raw_json("ok"), "unknown"),
        ((200, problem, b"{".to_vec()), "unknown"),
    ];
    for (script, wanted) in table {
        let shown = String::from_utf8_lossy(&script.2).into_owned();
        assert_eq!(words(&after(script, 2).await), [wanted, wanted], "{shown}");
    }
}

#[tokio::test]
async fn an_answer_over_the_limit_is_not_read_to_its_end() {
    let huge = |byte: u8| vec![byte; answer::ANSWER_MAX_BYTES + 1];
    let kind = |text: &str| vec![("content-type", text.to_owned())];
    let outcomes = after((200, kind("application/json"), huge(b' ')), 1).await;
    assert_eq!(words(&outcomes), ["unknown"]);
    assert!(format!("{outcomes:?}").contains("longer than 1 MiB"));
    assert_eq!(
        words(&after((200, kind("text/plain"), huge(b'x')), 1).await),
        ["delivered"]
    );
    assert_eq!(
        words(&after((400, kind("application/json"), huge(b' ')), 1).await),
        ["rejected"]
    );
}

#[tokio::test]
async fn a_message_whose_permit_or_loan_ended_never_reaches_the_server() {
    let (receiver, url) = Receiver::serve(Vec::new()).await;
    let clock = clock();
    let sink = WebhookSink::new(&options(&url), Arc::<ManualClock>::clone(&clock)).unwrap();
    let soon = at("2026-11-22T23:40:00+09:00");
    let mut mixed = crate::sink::testing::batch("soon", 2, at(NOW), soon);
    mixed.insert(1, batch(1).remove(0));
    clock.advance(Duration::from_secs(600));
    let outcomes = sink.deliver(mixed).await;
    assert_eq!(words(&outcomes), ["toolate", "delivered", "toolate"]);
    assert_eq!(receiver.ids(), [["m-0"]]);
    clock.advance(Duration::from_secs(3600));
    assert_eq!(words(&sink.deliver(batch(2)).await), ["toolate", "toolate"]);
    assert_eq!(receiver.requests().len(), 1);
}

/// Shows 23:30 until it has been read `reads` times, then 23:50: time that passes in connecting.
struct Slipping {
    reads: std::sync::atomic::AtomicI32,
}

#[async_trait]
impl Clock for Slipping {
    fn now(&self) -> Timestamp {
        let left = self.reads.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
        at(if left > 0 {
            NOW
        } else {
            "2026-11-22T23:50:00+09:00"
        })
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep_until(&self, _: Timestamp) {}
}

#[tokio::test]
async fn a_permit_that_ends_while_connecting_keeps_its_message_and_lets_the_others_go() {
    let (receiver, url) = Receiver::serve(Vec::new()).await;
    // Read once before the request is formed, and next when the connection asks for the body.
    let clock = Arc::new(Slipping { reads: 1.into() });
    let sink = WebhookSink::new(&options(&url), clock).unwrap();
    let soon = at("2026-11-22T23:40:00+09:00");
    let mut mixed = crate::sink::testing::batch("soon", 1, at(NOW), soon);
    mixed.extend(batch(2));
    let outcomes = sink.deliver(mixed).await;
    assert_eq!(words(&outcomes), ["toolate", "delivered", "delivered"]);
    assert_eq!(receiver.ids(), [["m-0", "m-1"]]);
}

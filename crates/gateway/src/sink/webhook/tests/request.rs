//! What the receiver gets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::sink::testing::{RECIPIENT, decided, message};

#[tokio::test]
async fn a_batch_is_one_request_whose_messages_are_byte_for_byte() {
    let korean = "(광고) \"반값\"\n무료수신거부\u{0000}080".as_bytes();
    let binary = [0xff, 0x00, 0xfe, b'\n'];
    let (receiver, url) = Receiver::serve(Vec::new()).await;
    let both = [("m-1", korean), ("m-2", &binary[..])];
    let both = both.map(|(id, body)| decided(message(id, body), at(NOW), at(LATER)));
    let ends = both.each_ref().map(|one| one.permit().not_after());
    let outcomes = sink(&url).deliver(both.into()).await;
    assert_eq!(outcomes, [delivered(), delivered()]);

    let (headers, _) = &receiver.requests()[0];
    assert_eq!(headers["content-type"], "application/json");
    assert!(
        headers["user-agent"]
            .to_str()
            .unwrap()
            .starts_with("nightgate/")
    );
    assert!(
        headers.get("transfer-encoding").is_none(),
        "the length is told"
    );
    assert!(headers.get("idempotency-key").is_none(), "there are two");
    let messages = &receiver.messages()[0];
    assert_eq!(messages.len(), 2);
    let one = &messages[0];
    assert_eq!(one["id"], "m-1");
    assert_eq!(one["idempotency_key"], "m-1");
    assert_eq!(one["recipient"], RECIPIENT);
    assert_eq!(one["channel"], "sms");
    assert_eq!(one["purpose"], "informational");
    assert_eq!(one["campaign"], "autumn");
    assert_eq!(one["attempt"], 1);
    assert_eq!(one["not_after"], ends[0].to_string());
    assert_eq!(one["content_type"], "text/plain; charset=utf-8");
    assert_eq!(one["attributes"]["template"], "T-7");
    assert_eq!(one["body"].as_str().unwrap().as_bytes(), korean);
    let encoded = messages[1]["body_base64"].as_str().unwrap();
    assert_eq!(STANDARD.decode(encoded).unwrap(), binary);
    assert_eq!(messages[1].get("body"), None);
}

#[tokio::test]
async fn the_signature_verifies_and_breaks_with_the_body() {
    let (receiver, url) = Receiver::serve(Vec::new()).await;
    // The verifier reads the machine's clock, so the sink must too.
    let clock = Arc::new(SystemClock::default());
    let (now, until) = (
        clock.now(),
        clock.now() + jiff::SignedDuration::from_hours(1),
    );
    let sink = WebhookSink::new(&options(&url), clock).unwrap();
    sink.deliver(vec![decided(message("m-1", "안녕".as_bytes()), now, until)])
        .await;
    let (headers, body) = receiver.requests().remove(0);
    let verifier = Webhook::new(SECRET).unwrap();
    verifier.verify(&body, &headers).unwrap();
    let mut other = body.to_vec();
    other[20] ^= 1;
    assert!(verifier.verify(&other, &headers).is_err());
}

#[tokio::test]
async fn without_a_secret_the_request_is_unsigned() {
    let (receiver, url) = Receiver::serve(Vec::new()).await;
    let options = WebhookOptions {
        secret: None,
        ..options(&url)
    };
    WebhookSink::new(&options, clock())
        .unwrap()
        .deliver(batch(1))
        .await;
    let (headers, _) = &receiver.requests()[0];
    assert!(headers.contains_key("webhook-id"));
    assert!(!headers.contains_key("webhook-signature"));
}

#[tokio::test]
async fn webhook_id_is_the_same_whenever_the_same_messages_go_again() {
    let (receiver, url) = Receiver::serve(Vec::new()).await;
    let sink = sink(&url);
    sink.deliver(batch(2)).await;
    let again = |one: Outbound| {
        let message = one.message().clone();
        // A later attempt, with a fresh permit.
        let permitted = decided(message.clone(), at("2026-11-22T23:40:00+09:00"), at(LATER));
        assert_eq!(permitted.message(), &message);
        permitted
    };
    sink.deliver(batch(2).into_iter().map(again).collect())
        .await;
    sink.deliver(batch(3)).await;
    let ids: Vec<_> = receiver
        .requests()
        .iter()
        .map(|(headers, _)| headers["webhook-id"].clone())
        .collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert_ne!(
        webhook_id(["ab", "c"].into_iter()),
        webhook_id(["a", "bc"].into_iter())
    );
}

#[tokio::test]
async fn the_earliest_permit_in_the_request_is_its_time_to_live() {
    let (receiver, url) = Receiver::serve(Vec::new()).await;
    let mut both = batch(1);
    both.extend(crate::sink::testing::batch(
        "soon",
        1,
        at(NOW),
        at("2026-11-22T23:35:00+09:00"),
    ));
    let end = both
        .iter()
        .map(|one| one.permit().not_after())
        .min()
        .unwrap();
    sink(&url).deliver(both).await;
    let (headers, _) = &receiver.requests()[0];
    assert_eq!(headers["nightgate-not-after"], end.to_string());
    let ttl: i64 = headers["ttl"].to_str().unwrap().parse().unwrap();
    assert_eq!(ttl, end.duration_since(at(NOW)).as_secs());
    assert!((1..=300).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_request_of_one_message_has_its_idempotency_key() {
    let (receiver, url) = Receiver::serve(Vec::new()).await;
    sink(&url).deliver(batch(1)).await;
    assert_eq!(receiver.requests()[0].0["idempotency-key"], "m-0");
}

#[tokio::test]
async fn more_than_batch_max_goes_in_several_requests() {
    let (receiver, url) = Receiver::serve(Vec::new()).await;
    let options = WebhookOptions {
        batch_max: 2,
        ..options(&url)
    };
    let sink = WebhookSink::new(&options, clock()).unwrap();
    assert_eq!(sink.batch_max(), 2);
    let outcomes = sink.deliver(batch(5)).await;
    assert_eq!(outcomes, vec![delivered(); 5]);
    assert_eq!(
        receiver.ids(),
        [vec!["m-0", "m-1"], vec!["m-2", "m-3"], vec!["m-4"]]
    );
}

#[tokio::test]
async fn configured_headers_and_the_urls_password_are_sent_and_never_printed() {
    let (receiver, url) = Receiver::serve(Vec::new()).await;
    let url = url.replace("http://", "http://ana:swordfish@") + "?token=swordfish";
    let mut options = options(&url);
    options
        .headers
        .insert("X-Api-Key".to_owned(), Secret::new("swordfish-2"));
    let sink = WebhookSink::new(&options, clock()).unwrap();
    let printed = format!("{options:?} {sink:?} {}", sink.address());
    assert!(!printed.contains("swordfish"), "{printed}");
    sink.deliver(batch(1)).await;
    let (headers, _) = &receiver.requests()[0];
    assert_eq!(headers["x-api-key"], "swordfish-2");
    let basic = format!("Basic {}", STANDARD.encode("ana:swordfish"));
    assert_eq!(headers["authorization"], basic.as_str());
}

#[tokio::test]
async fn options_that_cannot_work_are_refused_with_what_to_set() {
    let good = options("https://example.com/hook");
    let with = |change: fn(&mut WebhookOptions)| {
        let mut options = good.clone();
        change(&mut options);
        let fault = WebhookSink::new(&options, clock()).unwrap_err();
        assert_eq!(fault.kind, Kind::Invalid);
        format!("{fault} {fault:?}")
    };
    let faults = [
        (
            "allow_plain_http",
            with(|o| o.url = Secret::new("http://example.com/swordfish?swordfish")),
        ),
        ("https://", with(|o| o.url = Secret::new("swordfish"))),
        ("batch_max", with(|o| o.batch_max = 0)),
        ("batch_max", with(|o| o.batch_max = BATCH_MAX_LIMIT + 1)),
        ("timeout", with(|o| o.timeout = Duration::ZERO)),
        (
            "timeout",
            with(|o| o.timeout = TIMEOUT_LIMIT + Duration::from_secs(1)),
        ),
        ("connect_timeout", with(|o| o.connect_timeout = o.timeout)),
        (
            "openssl rand",
            with(|o| o.secret = Some(Secret::new("swordfish!"))),
        ),
        (
            "openssl rand",
            with(|o| o.secret = Some(Secret::new("whsec_c3dvcmRmaXNo"))),
        ),
        (
            "Webhook-Id",
            with(|o| drop(o.headers.insert("Webhook-Id".into(), Secret::new("x")))),
        ),
        (
            "TTL",
            with(|o| drop(o.headers.insert("TTL".into(), Secret::new("1")))),
        ),
        (
            "X-Key",
            with(|o| drop(o.headers.insert("X-Key".into(), Secret::new("swordfish\n")))),
        ),
    ];
    for (wanted, text) in faults {
        assert!(text.contains(wanted), "{wanted}: {text}");
        assert!(
            !text.contains("?swordfish") && !text.contains("swordfish!"),
            "{text}"
        );
        assert!(
            !text.contains("c3dvcmRmaXNo") && !text.contains("swordfish\\n"),
            "{text}"
        );
    }
    assert!(WebhookSink::new(&good, clock()).is_ok());
}

//! Messages, one and several; explain; recalls.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::world::{MORNING, RECIPIENT, message, world};

#[tokio::test]
async fn a_message_is_accepted_held_or_refused_and_told_so() {
    let world = world();
    let got = world
        .post("/v1/messages", &message("i-1", "informational"))
        .await;
    let answer = got.json();
    assert_eq!((got.status, &answer["status"]), (200, &json!("accepted")));
    assert_eq!(answer["due"], "2026-11-22T23:00:00+09:00");
    assert_eq!(got.headers["x-content-type-options"], "nosniff");
    assert_eq!(got.headers["cache-control"], "no-store");

    let answer = world
        .post("/v1/messages", &message("a-1", "advertising"))
        .await
        .json();
    assert_eq!(answer["status"], "refused");
    assert_eq!(answer["reason"], "no_consent");
    assert!(answer.get("due").is_none());

    world.consent_by_day(RECIPIENT).await;
    let got = world
        .post("/v1/messages", &message("a-2", "advertising"))
        .await;
    let answer = got.json();
    assert_eq!(answer["status"], "held");
    assert_eq!(answer["due"], MORNING);
    assert_eq!(answer["zone"], "Asia/Seoul");
    assert_eq!(answer["reason"], "quiet_hours");
    assert!(answer["rule"].as_str().unwrap().starts_with("kr."));
    let english = answer["explanation"]["en"].as_str().unwrap();
    assert!(
        english.starts_with("Held until 2026-11-23 08:00:00 +09:00"),
        "{english}"
    );
    assert!(
        answer["explanation"]["ko"]
            .as_str()
            .unwrap()
            .contains("보류")
    );
    assert!(!got.text.contains("5678"), "no recipient is told back");

    let answer = world
        .post("/v1/messages", &message("a-2", "advertising"))
        .await
        .json();
    assert_eq!(answer["status"], "duplicate");
    assert_eq!(answer["due"], MORNING);
}

#[tokio::test]
async fn a_wrong_message_is_told_all_its_faults_at_once() {
    let world = world();
    let mut wrong = message("m 1", "gift");
    wrong["priority"] = json!(12);
    let got = world.post("/v1/messages", &wrong).await;
    assert_eq!(got.problem(), "422 invalid");
    let faults = got.json()["faults"].clone();
    let fields: Vec<&str> = faults
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["id", "purpose", "priority"]);
    // A rule that the gate itself knows: no lane carries faxes here.
    let mut fax = message("m-1", "informational");
    fax["channel"] = json!("fax");
    let got = world.post("/v1/messages", &fax).await;
    assert_eq!(got.problem(), "422 invalid");
    assert_eq!(got.json()["faults"][0]["field"], "channel");
}

#[tokio::test]
async fn of_an_array_a_wrong_element_costs_only_itself() {
    let world = world();
    let batch = json!([
        message("m-1", "informational"), 7, message("m-2", "advertising"),
        {"id": "m-3"}, message("m-1", "informational"),
    ]);
    let got = world.post("/v1/messages", &batch).await;
    assert_eq!(got.status, 200);
    let answers = got.json();
    let told: Vec<_> = answers
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| &answer["status"])
        .collect();
    assert_eq!(
        told,
        ["accepted", "invalid", "refused", "invalid", "duplicate"]
    );
    for (index, answer) in answers.as_array().unwrap().iter().enumerate() {
        assert_eq!(answer["index"], index);
    }
    assert_eq!(answers[3]["id"], "m-3");
    assert_eq!(answers[3]["faults"].as_array().unwrap().len(), 4);
    assert_eq!(
        world.post("/v1/messages", &json!([])).await.json(),
        json!([])
    );
    let many: Vec<Value> = (0..21)
        .map(|n| message(&format!("n-{n}"), "informational"))
        .collect();
    assert_eq!(
        world.post("/v1/messages", &json!(many)).await.problem(),
        "422 invalid"
    );
}

#[tokio::test]
async fn a_store_that_fails_promises_nothing() {
    let world = world();
    world.hold.fails.store(true, Ordering::Relaxed);
    for body in [
        message("m-1", "informational"),
        json!([message("m-1", "informational")]),
    ] {
        let got = world.post("/v1/messages", &body).await;
        assert_eq!(got.problem(), "503 unavailable");
        assert_eq!(got.headers["retry-after"], "5");
    }
    assert_eq!(world.get("/readyz").await.problem(), "503 unavailable");
    assert_eq!(world.get("/healthz").await.status, 200);
    world.hold.fails.store(false, Ordering::Relaxed);
    let answer = world
        .post("/v1/messages", &message("m-1", "informational"))
        .await
        .json();
    assert_eq!(answer["status"], "accepted");
}

#[tokio::test]
async fn a_message_can_be_looked_up_held_refused_and_delivered() {
    let world = world();
    world
        .post("/v1/messages", &message("r-1", "advertising"))
        .await;
    let view = world.get("/v1/messages/r-1").await.json();
    assert_eq!(view["state"], "refused");
    assert_eq!(view["receipts"][0]["event"], "refused");

    world.consent_by_day(RECIPIENT).await;
    world
        .post("/v1/messages", &message("h-1", "advertising"))
        .await;
    let got = world.get("/v1/messages/h-1").await;
    let view = got.json();
    assert_eq!(
        (&view["state"], &view["due"]),
        (&json!("held"), &json!(MORNING))
    );
    assert_eq!(
        (&view["lane"], &view["campaign"]),
        (&json!("main"), &json!("autumn"))
    );
    assert_eq!(view["receipts"][0]["event"], "held");
    assert!(
        !got.text.contains("12345678"),
        "the recipient is masked: {got:?}"
    );

    world
        .clock
        .advance_to("2026-11-23T08:00:00+09:00".parse().unwrap());
    let tick = world.post_nothing("/v1/release").await.json();
    assert_eq!(tick["delivered"], 1);
    let view = world.get("/v1/messages/h-1").await.json();
    assert_eq!(view["state"], "delivered");
    let events: Vec<_> = view["receipts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["event"].clone())
        .collect();
    assert_eq!(events, ["held", "attempted", "delivered"]);

    assert_eq!(
        world.get("/v1/messages/none").await.problem(),
        "404 no-message"
    );
    assert_eq!(
        world.get("/v1/messages/%00%20").await.problem(),
        "404 no-message"
    );
    assert_eq!(
        world.get("/v1/messages/%ff").await.problem(),
        "400 bad-path"
    );
}

#[tokio::test]
async fn explain_says_what_would_happen_and_stores_nothing() {
    let world = world();
    let envelope = json!({"id": "m-1", "recipient": RECIPIENT, "channel": "sms",
        "purpose": "advertising"});
    let granted = json!({"granted": {"at": "2026-11-01T12:00:00+09:00", "basis": "explicit"}});
    let ask = json!({"message": envelope, "at": "2026-11-22T23:00:00+09:00",
        "consent": {"general": granted}});
    let answer = world.post("/v1/explain", &ask).await.json();
    assert_eq!(answer["decision"], "hold");
    assert_eq!(answer["until"], MORNING);
    assert_eq!(answer["reason"], "quiet_hours");
    assert!(answer["citation"].as_str().unwrap().contains("50"));
    assert_eq!(answer["zone_source"], "number");
    assert_eq!(answer["consent"]["general"]["standing"], "valid");
    assert!(!answer["applicable"].as_array().unwrap().is_empty());
    assert!(answer["explanation"]["en"].is_string() && answer["explanation"]["ko"].is_string());

    let ask = json!({"message": envelope, "at": "2026-11-23T09:00:00+09:00", "language": "ko",
        "consent": {"general": granted, "night": granted}});
    let answer = world.post("/v1/explain", &ask).await.json();
    assert_eq!(answer["decision"], "send");
    assert!(answer["not_after"].as_str().unwrap() > "2026-11-23T09:00:00+09:00");
    assert!(answer["explanation"].get("en").is_none());

    // Without a consent to suppose, the book is asked; without a time, it is now.
    let answer = world
        .post("/v1/explain", &json!({"message": envelope}))
        .await
        .json();
    assert_eq!(
        (&answer["decision"], &answer["reason"]),
        (&json!("refuse"), &json!("no_consent"))
    );
    assert_eq!(answer["at"], "2026-11-22T23:00:00+09:00");
    assert_eq!(
        world.get("/v1/messages/m-1").await.problem(),
        "404 no-message"
    );
}

#[tokio::test]
async fn explain_tells_a_misspelt_question_from_a_consent_never_given() {
    let world = world();
    let envelope = message("m-1", "advertising");
    for wrong in [
        json!({}),
        json!({"message": 7}),
        json!({"message": envelope, "at": "tomorrow"}),
        json!({"message": envelope, "at": 5}),
        json!({"message": envelope, "consent": {"nigth": null}}),
        json!({"message": envelope, "consent": {"general": {"given": true}}}),
        json!({"message": envelope, "consent": {"general": {"granted": {"at": "x"}}}}),
        json!({"message": envelope, "consent": []}),
        json!({"message": envelope, "language": "fr"}),
        json!({"message": envelope, "extra": 1}),
        json!({"message": {"id": "m-1", "zone": "Moon/Base"}}),
        json!([]),
    ] {
        let got = world.post("/v1/explain", &wrong).await;
        assert_eq!(got.problem(), "422 invalid", "{wrong}");
    }
    let got = world
        .post("/v1/explain", &json!({"message": {"id": "m-1"}}))
        .await;
    let fields = got.json()["faults"].to_string();
    assert!(fields.contains("message.recipient") && fields.contains("message.purpose"));
}

#[tokio::test]
async fn a_recall_takes_back_what_is_held_and_files_a_receipt() {
    let world = world();
    world.consent_by_day(RECIPIENT).await;
    let batch: Vec<Value> = (0..4)
        .map(|n| message(&format!("m-{n}"), "advertising"))
        .collect();
    world.post("/v1/messages", &json!(batch)).await;
    let recalled = world.post("/v1/recalls", &json!({"id": "m-0"})).await;
    assert_eq!(
        recalled.json(),
        json!({"recalled": 1, "in_flight": 0, "noted": false})
    );
    let recalled = world
        .post("/v1/recalls", &json!({"ids": ["m-0", "m-1", "x"]}))
        .await;
    assert_eq!(recalled.json()["recalled"], 1);
    let recalled = world
        .post("/v1/recalls", &json!({"campaign": "autumn"}))
        .await;
    assert_eq!(recalled.json()["recalled"], 2);
    let recalled = world
        .post("/v1/recalls", &json!({"recipient": "+821012345678"}))
        .await;
    assert_eq!(recalled.json()["recalled"], 0);
    assert_eq!(
        world.get("/v1/messages/m-1").await.json()["state"],
        "recalled"
    );

    let receipts = world.get("/v1/receipts?after=4").await.lines();
    let told: Vec<_> = receipts
        .iter()
        .map(|one| {
            (
                one["event"].as_str().unwrap(),
                one["count"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(told, [("recalled", 1), ("recalled", 1), ("recalled", 2)]);
    assert_eq!(receipts[0]["message"], "m-0");
    assert_eq!(receipts[2]["campaign"], "autumn");

    for wrong in [
        json!({}),
        json!({"id": "a", "campaign": "b"}),
        json!({"id": ""}),
        json!({"ids": ["a b"]}),
        json!({"ids": vec!["a"; 21]}),
        json!({"recipient": " "}),
        json!({"lane": "main"}),
        json!({"id": null}),
    ] {
        let got = world.post("/v1/recalls", &wrong).await;
        assert_eq!(got.problem(), "422 invalid", "{wrong}");
    }
}

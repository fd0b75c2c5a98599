//! Consents and receipts.

use axum::body::Body;
use serde_json::{Value, json};

use super::world::{RECIPIENT, limits, message, request, tokens, world, world_with};

#[tokio::test]
async fn a_consent_is_recorded_once_and_looked_up_under_any_form_of_the_number() {
    let world = world();
    let grant = json!({"recipient": RECIPIENT, "scope": "general",
        "at": "2026-11-01T12:00:00+09:00", "source": "form 7"});
    let answer = world.post("/v1/consents", &grant).await.json();
    assert_eq!(
        answer,
        json!({"new": 1, "known": 0, "faulty": 0, "faults": []})
    );
    assert_eq!(world.post("/v1/consents", &grant).await.json()["known"], 1);
    let got = world.get("/v1/consents/+821012345678").await;
    let view = got.json();
    assert_eq!(view["standing"]["general"]["standing"], "valid");
    assert_eq!(view["standing"]["general"]["until"], "2028-10-31T15:00:00Z");
    assert_eq!(view["standing"]["night"]["standing"], "none");
    assert_eq!(view["history"][0]["at"], "2026-11-01T12:00:00+09:00");
    assert_eq!(view["history"][0]["source"], "form 7");
    assert!(!got.text.contains("12345678"));
    // A withdrawal without a time is now.
    let withdrawal = json!({"recipient": RECIPIENT, "scope": "general", "act": "withdraw"});
    assert_eq!(
        world.post("/v1/consents", &withdrawal).await.json()["new"],
        1
    );
    let view = world.get("/v1/consents/010-1234-5678").await.json();
    assert_eq!(view["standing"]["general"]["standing"], "withdrawn");
    assert_eq!(view["history"][1]["at"], "2026-11-22T23:00:00+09:00");
    assert_eq!(view["history"][1]["source"], "http");
    let stranger = world.get("/v1/consents/user%40example.com").await.json();
    assert_eq!(stranger["history"], json!([]));
    assert_eq!(world.get("/v1/consents/%20").await.problem(), "422 invalid");
}

#[tokio::test]
async fn consents_come_as_array_or_stream_and_a_wrong_one_costs_only_itself() {
    let world = world();
    let one = |n: u32| json!({"recipient": format!("u-{n}"), "scope": "general"});
    let got = world
        .post("/v1/consents", &json!([one(1), 5, {"scope": "x"}, one(2)]))
        .await;
    let answer = got.json();
    assert_eq!((&answer["new"], &answer["faulty"]), (&json!(2), &json!(2)));
    assert_eq!(
        (&answer["faults"][0]["line"], &answer["faults"][1]["line"]),
        (&json!(2), &json!(3))
    );
    let got = world
        .post("/v1/consents", &json!({"scope": "general"}))
        .await;
    assert_eq!(got.problem(), "422 invalid");
    assert_eq!(got.json()["faults"][0]["field"], "recipient");
    let mut stream: String = (0..2_500).map(|n| format!("{}\n", one(n))).collect();
    stream += "\n\n{\"recipient\":\n";
    stream += &format!("{{\"recipient\":\"{}\"}}\n", "x".repeat(9_000));
    let got = world
        .post_as("/v1/consents", "application/x-ndjson", stream)
        .await;
    let answer = got.json();
    // u-1 and u-2 are known, at the same instant.
    assert_eq!(
        (&answer["new"], &answer["known"]),
        (&json!(2_498), &json!(2))
    );
    assert_eq!(answer["faulty"], 2);
    let mut lines: Vec<_> = answer["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| fault["line"].as_u64().unwrap())
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, [2_503, 2_504]);
    let many: Vec<Value> = (0..21).map(one).collect();
    assert_eq!(
        world.post("/v1/consents", &json!(many)).await.problem(),
        "422 invalid"
    );
    let got = world.post_as("/v1/consents", "text/csv", "recipient").await;
    assert_eq!(got.problem(), "415 wrong-type");
}

#[tokio::test]
async fn receipts_stream_by_filter_and_page() {
    let world = world();
    let mut other = message("m-2", "informational");
    other["campaign"] = json!("winter");
    other["recipient"] = json!("010-8765-4321");
    world
        .post(
            "/v1/messages",
            &json!([message("m-1", "informational"), other]),
        )
        .await;
    world.post_nothing("/v1/release").await;
    let count = async |query: &str| {
        world
            .get(&format!("/v1/receipts?{query}"))
            .await
            .lines()
            .len()
    };
    assert_eq!(count("").await, 6);
    assert_eq!(count("message=m-1").await, 3);
    assert_eq!(count("recipient=%2B821087654321").await, 3);
    assert_eq!(count("campaign=winter&max=2").await, 2);
    assert_eq!(count("after=4").await, 2);
    assert_eq!(count("after=9223372036854775807").await, 0);
    assert_eq!(count("from=2026-11-22T23:00:01%2B09:00").await, 0);
    assert_eq!(
        count("to=2026-11-22T23:00:01%2B09:00&from=0001-01-01T00:00:00Z").await,
        6
    );
    let got = world.get("/v1/receipts").await;
    assert_eq!(got.headers["content-type"], "application/x-ndjson");
    assert!(!got.text.contains("12345678"));
    let got = world.get("/v1/receipts?reveal=true").await;
    assert!(got.text.contains("+821012345678"));
    for wrong in [
        "max=0",
        "after=-1",
        "after=9223372036854775808",
        "from=yesterday",
        "reveal=maybe",
        "message=%00",
        "message=a&message=b",
        "from=9999-12-31T23:59:59Z",
        "recipient=",
        "to=-009999-01-01T00:00:00Z",
        "colour=red",
    ] {
        let got = world.get(&format!("/v1/receipts?{wrong}")).await;
        assert_eq!(got.problem(), "400 bad-query", "{wrong}");
    }
}

#[tokio::test]
async fn only_operators_see_recipients_in_clear() {
    let world = world_with(tokens(), limits());
    for (token, status) in [("r-token", 403), ("o-token", 200)] {
        let request = request("GET", "/v1/receipts?reveal=true")
            .header("authorization", format!("Bearer {token}"));
        let got = world.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(got.status, status, "{token}");
    }
}

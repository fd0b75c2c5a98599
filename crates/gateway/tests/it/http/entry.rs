//! What holds for every route: problems, tokens, figures, and that nothing breaks.

use axum::body::Body;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::world::{World, is_ok, limits, message, request, tokens, world, world_with};

#[tokio::test]
async fn whatever_goes_wrong_is_a_problem() {
    let world = world();
    let json = "application/json";
    assert_eq!(world.get("/nothing").await.problem(), "404 no-route");
    let got = world.get("/v1/recalls").await;
    assert_eq!(got.problem(), "405 wrong-method");
    assert_eq!(got.headers["allow"], "POST");
    for path in [
        "/v1/messages",
        "/v1/explain",
        "/v1/recalls",
        "/v1/hold/kick",
        "/v1/consents",
    ] {
        let got = world.post_as(path, json, "{").await;
        assert_eq!(got.problem(), "400 bad-json", "{path}");
        let got = world.post_as(path, json, vec![0xff, 0xfe]).await;
        assert_eq!(got.problem(), "400 bad-json", "{path}");
        let got = world.post_as(path, json, "7").await;
        assert_eq!(got.problem(), "422 invalid", "{path}");
        let got = world.post_as(path, json, "[".repeat(20_000)).await;
        assert!(matches!(got.status, 400 | 422), "{path}: {got:?}");
        got.problem();
        let deep = "[".repeat(20_000) + &"]".repeat(20_000);
        let got = world.post_as(path, json, deep).await;
        assert!(got.status < 500, "{path}: {got:?}");
        let got = world.post_as(path, "text/plain", "{}").await;
        assert_eq!(got.problem(), "415 wrong-type", "{path}");
        let got = world
            .post_as(path, "application/json; charset=utf-16", "{}")
            .await;
        assert_eq!(got.problem(), "415 wrong-type", "{path}");
        let got = world.post_as(path, json, "x".repeat(70_000)).await;
        assert_eq!(got.problem(), "413 too-large", "{path}");
        let cut = [Ok("{"), Err(std::io::Error::other("cut"))];
        let body = Body::from_stream(futures_util::stream::iter(cut));
        assert_eq!(
            world.post_as(path, json, body).await.problem(),
            "400 cut-off",
            "{path}"
        );
    }
    let squeezed = request("POST", "/v1/messages")
        .header("content-type", json)
        .header("content-encoding", "gzip");
    let got = world.send(squeezed.body(Body::from("{}")).unwrap()).await;
    assert_eq!(got.problem(), "415 wrong-type");
    let told = request("POST", "/v1/messages").header("content-length", "70000");
    assert_eq!(
        world
            .send(told.body(Body::from("{}")).unwrap())
            .await
            .problem(),
        "413 too-large"
    );
    let long = format!("/v1/hold?lane={}", "x".repeat(9_000));
    assert_eq!(world.get(&long).await.problem(), "414 long-uri");
    let large = request("GET", "/healthz").header("x", "x".repeat(5_000));
    assert_eq!(
        world
            .send(large.body(Body::empty()).unwrap())
            .await
            .problem(),
        "431 large-head"
    );
}

#[tokio::test]
async fn each_route_asks_for_its_token() {
    let world = world_with(tokens(), limits());
    let ask = async |method: &str, path: &str, token: Option<&str>| {
        let mut request = request(method, path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        world.send(request.body(Body::empty()).unwrap()).await
    };
    for (method, path, may) in [
        ("POST", "/v1/messages", "po"),
        ("POST", "/v1/messages/bulk", "po"),
        ("POST", "/v1/recalls", "po"),
        ("GET", "/v1/messages/x", "por"),
        ("POST", "/v1/explain", "por"),
        ("GET", "/v1/hold", "or"),
        ("GET", "/v1/hold/buried", "or"),
        ("GET", "/v1/lanes", "or"),
        ("GET", "/v1/consents/x", "or"),
        ("GET", "/v1/receipts", "or"),
        ("HEAD", "/v1/receipts", "or"),
        ("GET", "/metrics", "or"),
        ("POST", "/v1/hold/kick", "o"),
        ("POST", "/v1/lanes/main/pause", "o"),
        ("POST", "/v1/lanes/main/resume", "o"),
        ("POST", "/v1/clock/confirm", "o"),
        ("POST", "/v1/release", "o"),
        ("POST", "/v1/consents", "o"),
    ] {
        for role in ["p", "o", "r"] {
            let got = ask(method, path, Some(&format!("{role}-token"))).await;
            assert_eq!(
                got.status != 403,
                may.contains(role),
                "{method} {path} {role}"
            );
            assert_ne!(got.status, 401, "{method} {path} {role}");
        }
        let got = ask(method, path, Some("x-token")).await;
        assert_eq!(got.status, 401, "{method} {path}");
        assert!(
            got.headers["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Bearer")
        );
        assert_eq!(ask(method, path, None).await.status, 401, "{method} {path}");
    }
    assert_eq!(ask("GET", "/v1/hold", None).await.problem(), "401 no-token");
    assert_eq!(
        ask("GET", "/v1/hold", Some("x")).await.problem(),
        "401 wrong-token"
    );
    assert_eq!(
        ask("GET", "/v1/hold", Some("p-token")).await.problem(),
        "403 not-allowed"
    );
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        assert!(is_ok(ask("GET", path, None).await.status), "{path}");
    }
}

#[tokio::test]
async fn without_tokens_strangers_pages_are_kept_out() {
    let world = world();
    let ask = async |host: &str, origin: Option<&str>| {
        let mut request = axum::http::Request::post("/v1/lanes/all/pause").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        world.send(request.body(Body::empty()).unwrap()).await
    };
    assert_eq!(ask("evil.example", None).await.problem(), "403 wrong-host");
    assert_eq!(
        ask("localhost", Some("https://evil.example"))
            .await
            .problem(),
        "403 wrong-host"
    );
    assert_eq!(
        ask("localhost", Some("null")).await.problem(),
        "403 wrong-host"
    );
    assert_eq!(
        ask("localhost:8787", Some("http://localhost:8787"))
            .await
            .status,
        200
    );
    assert_eq!(ask("[::1]:8787", None).await.status, 200);
}

#[tokio::test]
async fn requests_are_counted_by_route_and_never_by_path() {
    let world = world();
    world.get("/v1/messages/secret-1").await;
    world.get("/v1/messages/secret-2").await;
    world.get("/nowhere/secret-3").await;
    let got = world.get("/metrics").await;
    let counted = r#"http_requests_total{route="/v1/messages/{id}",status="404"} 2"#;
    assert!(got.text.contains(counted), "{}", got.text);
    assert!(
        got.text.contains(r#"{route="none",status="404"} 1"#),
        "{}",
        got.text
    );
    assert!(!got.text.contains("secret"));
    assert!(got.text.ends_with("# EOF\n"));
}

const PATHS: [&str; 12] = [
    "/v1/messages",
    "/v1/messages/bulk",
    "/v1/messages/",
    "/v1/explain",
    "/v1/recalls",
    "/v1/hold",
    "/v1/hold/buried",
    "/v1/hold/kick",
    "/v1/lanes/",
    "/v1/consents",
    "/v1/consents/",
    "/v1/receipts",
];

/// Something like a right request, with something odd in it.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let odd = select(vec![
        json!("9999-12-31T23:59:59Z"),
        json!("-009999-01-01T00:00:00Z"),
        json!(-1),
        json!(1e308),
        json!(18_446_744_073_709_551_615_u64),
        json!(null),
        json!({}),
        json!([[]]),
        json!("\u{0}"),
        json!("0001-01-01T00:00:00Z"),
        json!("9999-12-30T22:00:00Z"),
        json!("+82"),
        json!(""),
        json!("KR"),
        json!("Etc/GMT+9"),
        json!(true),
    ]);
    let field = select(vec![
        "id",
        "recipient",
        "channel",
        "purpose",
        "campaign",
        "priority",
        "jurisdiction",
        "zone",
        "send_at",
        "expires_at",
        "body",
        "body_base64",
        "attributes",
        "message",
        "at",
        "consent",
        "language",
        "ids",
        "lane",
        "scope",
        "act",
        "basis",
        "ends",
        "source",
    ]);
    let right = message("m-1", "advertising");
    let shaped = proptest::collection::vec((field, odd), 0..4).prop_map(move |changes| {
        let mut body = right.clone();
        for (field, odd) in changes {
            body[field] = odd;
        }
        let message = body.clone();
        body["message"]
            .as_object()
            .is_none()
            .then(|| body["message"] = message);
        body.to_string().into_bytes()
    });
    prop_oneof![3 => shaped, 1 => proptest::collection::vec(any::<u8>(), 0..80)]
}

fn tails() -> impl Strategy<Value = String> {
    let hex = proptest::collection::vec(any::<u8>(), 0..12).prop_map(|bytes| {
        bytes
            .iter()
            .map(|byte| format!("%{byte:02x}"))
            .collect::<String>()
    });
    let query = select(vec![
        "?max=18446744073709551615",
        "?after=9223372036854775807&max=1",
        "?from=NaN",
        "?lane=%00",
        "?to=9999-12-30T22:00:00Z",
        "?from=0001-01-01T00:00:00%2B23:59",
        "?recipient=%2b82%00",
        "?reveal",
        "?=",
        "?&&",
        "?answers=none",
        "/pause",
        "/resume",
        "",
    ]);
    (hex, query).prop_map(|(hex, query)| format!("{hex}{query}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn nothing_that_a_client_sends_breaks_the_gateway(
        requests in proptest::collection::vec((select(&PATHS), tails(), any::<bool>(), bodies()), 4)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = world();
            for (path, tail, get, body) in requests {
                send_odd(&world, path, &tail, get, body).await;
            }
        });
    }
}

async fn send_odd(world: &World, path: &str, tail: &str, get: bool, body: Vec<u8>) {
    let uri = if path.ends_with('/') || tail.starts_with('?') {
        format!("{path}{tail}")
    } else {
        path.to_owned()
    };
    let media = if path.ends_with("bulk") {
        "application/x-ndjson"
    } else {
        "application/json"
    };
    let method = if get { "GET" } else { "POST" };
    let request = request(method, &uri).header("content-type", media);
    let Ok(request) = request.body(Body::from(body.clone())) else {
        return;
    };
    let got = world.send(request).await;
    let body = String::from_utf8_lossy(&body);
    assert!(got.status < 500, "{method} {uri} {body}: {got:?}");
    if !is_ok(got.status) {
        got.problem();
    }
}

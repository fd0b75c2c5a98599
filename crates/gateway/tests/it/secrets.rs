//! What must never be seen, looked for wherever the binary writes; and who may ask what.

use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::receiver::{Manner, Receiver};
use crate::gateway::{Gateway, Home, eventually};

const PRODUCER: &str = "producer-0d9f3b1c";
const OPERATOR: &str = "operator-77ab21e0";
const READER: &str = "reader-5c0e8842";
const SIGNING: &str = "whsec_bm90LWEtcmVhbC1zZWNyZXQtYnV0LWxvbmctZW5vdWdo";
const SLACK: &str = "https://hooks.slack.example.invalid/services/T0SECRET/B0SECRET/slackslack";
const HEADER: &str = "Bearer provider-9931";
const PHONE: &str = "+821055501234";
const BODY: &str = "a body that only its reader may see";

/// Pieces of the above that give them away even when they are cut or reformatted.
const TELLTALES: [&str; 8] = [
    "0d9f3b1c",
    "77ab21e0",
    "5c0e8842",
    "bm90LWEt",
    "T0SECRET",
    "slackslack",
    "provider-9931",
    "not-a-real-secret",
];
/// The same for personal data, with the number as it may be written.
const PERSONAL: [&str; 4] = ["55501234", "5550-1234", "5550 1234", "only its reader"];

fn config(receiver: &Receiver) -> String {
    let webhook = format!(
        "secret = \"{SIGNING}\"\nheaders = {{ Authorization = \"{HEADER}\" }}\n\
         timeout = \"2s\"\nconnect_timeout = \"1s\"\nbatch_max = 2"
    );
    let lane = receiver.lane(&webhook, "backoff_min = \"100ms\"\nattempts_max = 3");
    format!(
        "{lane}[http]\nproducer_token = \"{PRODUCER}\"\noperator_token = \"{OPERATOR}\"\n\
         reader_token = \"{READER}\"\n[alerts]\nslack_url = \"{SLACK}\"\nfailing_after = 1\n\
         [log]\nlevel = \"trace\"\n"
    )
}

#[track_caller]
fn assert_clean(place: &str, text: &str, telltales: &[&str]) {
    for telltale in telltales {
        assert!(
            !text.contains(telltale),
            "{telltale} stands in {place}: {text}"
        );
    }
}

async fn asked(gateway: &Gateway, token: Option<&str>, method: &str, path: &str) -> (u16, String) {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}{path}", gateway.address);
    let mut request = client.request(method.clone(), url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if method == "POST" {
        request = request.header("content-type", "application/json").body("{");
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn message(id: &str) -> Value {
    json!({"id": id, "recipient": PHONE, "channel": "sms", "purpose": "informational",
        "body": BODY})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_failures_in_it_shows_no_secret_and_no_person() {
    let receiver = Receiver::start(Manner {
        refuse_every: 2,
        ..Manner::default()
    })
    .await;
    let mut home = Home::new(&config(&receiver));
    home.token = Some(OPERATOR);
    let gateway = home.serve().await;
    let mut answers = String::new();
    let mut wrong = message("wrong");
    wrong["channel"] = json!(BODY);
    for body in [
        Value::from(
            (0..20)
                .map(|n| message(&format!("m-{n}")))
                .collect::<Vec<_>>(),
        ),
        wrong,
        json!({"id": PHONE}),
        json!(BODY),
    ] {
        answers += &gateway.post("/v1/messages", &body).await.text;
    }
    answers += &gateway
        .post("/v1/explain", &json!({"message": message("m")}))
        .await
        .text;
    let broken = format!("{{\"id\": \"x\", \"recipient\": \"{PHONE}\", \"body\": \"{BODY}\"\n");
    answers += &gateway.stream("/v1/messages/bulk", broken).await.text;
    // One by one, with nothing else under way: some rounds fail altogether, and the alarm tells.
    let empty = |hold: &Value| hold["total"]["held"] == 0 && hold["total"]["leased"] == 0;
    gateway.until("/v1/hold", empty).await;
    for n in 0..4 {
        let tried = receiver.count();
        let alone = message(&format!("alone-{n}"));
        answers += &gateway.post("/v1/messages", &alone).await.text;
        eventually("it is tried", || (receiver.count() > tried).then_some(())).await;
    }
    eventually("some arrive and some fail", || {
        (receiver.count() >= 6 && home.log().contains("lane")).then_some(())
    })
    .await;
    for path in [
        "/v1/messages/m-0",
        "/v1/hold",
        "/v1/hold/buried",
        "/v1/lanes",
        "/metrics",
        "/openapi.json",
        "/v1/receipts",
        &format!("/v1/consents/{}", PHONE.replace('+', "%2B")),
    ] {
        answers += &gateway.get(path).await.text;
    }
    for token in [None, Some("wrong"), Some(PRODUCER), Some(READER)] {
        answers += &asked(&gateway, token, "POST", "/v1/hold/kick").await.1;
    }
    assert!(!answers.contains("\"status\":500"), "{answers}");
    assert_clean("an answer", &answers, &TELLTALES);
    assert_clean("an answer", &answers, &PERSONAL);
    gateway.stop().await;
    let log = home.log();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "the log is at its fullest: {log}"
    );
    assert_clean("the log", &log, &TELLTALES);
    assert_clean("the log", &log, &PERSONAL);
    let sent = receiver.arrivals();
    assert!(!sent.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_shows_a_secret() {
    let receiver = Receiver::start(Manner::default()).await;
    let home = Home::new(&config(&receiver));
    let look = |args: &[&str]| {
        let run = home.run(args);
        let text = [run.stdout, run.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_clean(&format!("{args:?}"), &text, &TELLTALES);
        (run.status.code(), text)
    };
    for args in [&["config", "show"][..], &["config", "show", "--json"]] {
        let (code, text) = look(args);
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.contains("operator_token"),
            "it tells that there is one: {text}"
        );
    }
    for args in [&["doctor"][..], &["doctor", "--json"], &["drain"]] {
        let (code, text) = look(args);
        assert_ne!(
            code,
            Some(2),
            "it is a command, and the configuration is good: {text}"
        );
    }
    // Of a configuration that is wrong, the fault is told and the value is not.
    for set in [
        "lane.main.webhook.secret=whsec_bm90LWEt",
        "lane.main.webhook.url=http://user:0d9f3b1c@T0SECRET/",
        "alerts.slack_url=ftp://T0SECRET.slackslack",
    ] {
        let (code, text) = look(&["drain", "--set", set]);
        assert_eq!(code, Some(2), "{set}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_token_opens_what_its_role_needs_and_no_more() {
    let receiver = Receiver::start(Manner::default()).await;
    let mut home = Home::new(&config(&receiver));
    home.token = Some(OPERATOR);
    let gateway = home.serve().await;
    let table = [
        ("GET", "/healthz", "-pro"),
        ("GET", "/readyz", "-pro"),
        ("GET", "/openapi.json", "-pro"),
        ("POST", "/v1/messages", "po"),
        ("POST", "/v1/messages/bulk", "po"),
        ("POST", "/v1/recalls", "po"),
        ("POST", "/v1/explain", "pro"),
        ("GET", "/v1/messages/m-1", "pro"),
        ("GET", "/v1/hold", "ro"),
        ("GET", "/v1/hold/buried", "ro"),
        ("GET", "/v1/lanes", "ro"),
        ("GET", "/v1/receipts", "ro"),
        ("GET", "/v1/consents/a", "ro"),
        ("GET", "/metrics", "ro"),
        ("POST", "/v1/consents", "o"),
        ("POST", "/v1/hold/kick", "o"),
        ("POST", "/v1/lanes/main/pause", "o"),
        ("POST", "/v1/lanes/main/resume", "o"),
        ("POST", "/v1/clock/confirm", "o"),
        ("POST", "/v1/release", "o"),
        ("GET", "/v1/receipts?reveal=true", "o"),
    ];
    for (method, path, may) in table {
        for (role, token) in [('p', PRODUCER), ('r', READER), ('o', OPERATOR)] {
            let (status, text) = asked(&gateway, Some(token), method, path).await;
            let shut = status == 401 || status == 403;
            assert_eq!(
                shut,
                !may.contains(role),
                "{method} {path} {role}: {status} {text}"
            );
        }
        for token in [None, Some("nobody")] {
            let (status, text) = asked(&gateway, token, method, path).await;
            let open = status != 401;
            assert_eq!(
                open,
                may.contains('-'),
                "{method} {path} without: {status} {text}"
            );
        }
    }
}

#[test]
fn beyond_loopback_nothing_is_served_without_a_token() {
    let home = Home::new("");
    let run = home.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(run.status.code(), Some(2));
    let told = String::from_utf8(run.stderr).unwrap();
    assert!(told.contains("token"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_other_addresses_are_served() {
    let home = Home::new(&format!("[http]\noperator_token = \"{OPERATOR}\"\n"));
    let mut child = home
        .command(&["serve", "--listen", "0.0.0.0:0"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    crate::gateway::clock::pause(Duration::from_millis(500)).await;
    let ended = child.try_wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ended.is_none(), "it ended with {ended:?}");
}

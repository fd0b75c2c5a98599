use std::collections::VecDeque;
use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::post;
use jiff::Timestamp;

use super::*;
use crate::alert::desk::{Alerts, DeskOptions};
use crate::alert::text;
use crate::clock::ManualClock;

/// The secret half of the address.
const PATH: &str = "/services/T0/B0/swordfish";

/// A status and a `Retry-After`.
type Script = (u16, Option<&'static str>);

#[derive(Clone, Default)]
struct Slack {
    answers: Arc<Mutex<VecDeque<Script>>>,
    got: Arc<Mutex<Vec<Value>>>,
}

async fn take(
    State(slack): State<Slack>,
    axum::Json(body): axum::Json<Value>,
) -> impl IntoResponse {
    slack.got.lock().unwrap().push(body);
    let (code, after) = slack
        .answers
        .lock()
        .unwrap()
        .pop_front()
        .unwrap_or((200, None));
    let mut answer = StatusCode::from_u16(code).unwrap().into_response();
    if let Some(text) = after {
        answer
            .headers_mut()
            .insert(RETRY_AFTER, text.parse().unwrap());
    }
    answer
}

async fn serve(answers: &[Script]) -> (Slack, Secret) {
    let slack = Slack {
        answers: Arc::new(Mutex::new(answers.iter().copied().collect())),
        ..Slack::default()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{PATH}", listener.local_addr().unwrap());
    let router = Router::new()
        .route(PATH, post(take))
        .with_state(slack.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (slack, Secret::new(url))
}

fn at() -> Timestamp {
    "2026-11-22T23:00:00Z".parse().unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(at()))
}

fn port(url: Secret, clock: Arc<ManualClock>) -> SlackPort {
    SlackPort::new(&SlackOptions::new(url, Language::Korean), clock).unwrap()
}

#[tokio::test]
async fn an_alarm_arrives_as_one_block_kit_message_with_the_configured_language_first() {
    let alert = text::buried("ads", 12, at());
    for (language, first, second) in [
        (Language::Korean, &alert.korean, &alert.english),
        (Language::English, &alert.english, &alert.korean),
    ] {
        let (slack, url) = serve(&[]).await;
        let port = SlackPort::new(&SlackOptions::new(url, language), clock()).unwrap();
        port.deliver(&alert).await.unwrap();
        let got = slack.got.lock().unwrap().clone();
        assert_eq!(got.len(), 1);
        let blocks = &got[0]["blocks"];
        assert_eq!(blocks[0]["type"], "header");
        assert_eq!(blocks[0]["text"]["type"], "plain_text");
        assert!(
            blocks[0]["text"]["text"]
                .as_str()
                .unwrap()
                .ends_with("· ads")
        );
        assert_eq!(blocks[1]["text"]["text"], first.as_str());
        assert_eq!(blocks[2]["text"]["text"], second.as_str());
        assert_eq!(blocks[3]["fields"][0]["text"], "*messages*\n12");
        let context = blocks[4]["elements"][0]["text"].as_str().unwrap();
        assert!(
            context.contains(&format!("<!date^{}^", at().as_second())),
            "{context}"
        );
        assert!(context.contains("|2026-11-22T23:00:00Z>"), "{context}");
        assert!(
            got[0]["text"].as_str().unwrap().contains(first.as_str()),
            "the fallback"
        );
    }
}

#[test]
fn an_alarm_without_figures_has_no_empty_fields_block() {
    let message = message(&text::store_poisoned("hold", at()), Language::Korean);
    assert_eq!(message["blocks"].as_array().unwrap().len(), 4);
}

#[test]
fn text_is_escaped_after_slacks_rule() {
    let message = message(&text::buried("<!channel> & co", 1, at()), Language::English);
    let title = message["blocks"][0]["text"]["text"].as_str().unwrap();
    assert!(title.ends_with("&lt;!channel&gt; &amp; co"), "{title}");
    let sections = message["blocks"].to_string();
    assert!(!sections.contains("<!channel"), "{sections}");
}

#[test]
fn block_kit_limits_hold_and_no_character_or_entity_is_cut() {
    let units = |text: &str| text.encode_utf16().count();
    assert_eq!(escaped("가나다", 3), "가나다");
    assert_eq!(escaped("가나다라", 3), "가나…");
    assert_eq!(escaped("a&b", 7), "a&amp;b");
    assert_eq!(escaped("a&bc", 7), "a&amp;…");
    assert_eq!(escaped("a&b", 6), "a…");
    assert_eq!(escaped("🌙🌙", 3), "🌙…");
    assert_eq!(escaped("🌙🌙", 4), "🌙🌙");

    let mut alert = text::buried(&"🌙".repeat(500), 1, at());
    alert.korean = "<".repeat(9000);
    alert.figures = (0..30)
        .map(|n| (format!("f{n}"), "&".repeat(5000)))
        .collect();
    let message = message(&alert, Language::Korean);
    let blocks = &message["blocks"];
    assert!(units(blocks[0]["text"]["text"].as_str().unwrap()) <= 150);
    assert!(units(blocks[1]["text"]["text"].as_str().unwrap()) <= 3000);
    let fields = blocks[3]["fields"].as_array().unwrap();
    assert_eq!(fields.len(), 10);
    for field in fields {
        let text = field["text"].as_str().unwrap();
        assert!(units(text) <= 2000 && text.ends_with("&amp;…"), "{text}");
    }
    assert!(units(message["text"].as_str().unwrap()) <= 3000);
}

#[tokio::test]
async fn a_429_is_obeyed_once_for_as_long_as_it_asks() {
    let (slack, url) = serve(&[(429, Some("30"))]).await;
    let clock = clock();
    let port = port(url, Arc::clone(&clock));
    let task = tokio::spawn(async move { port.deliver(&text::buried("ads", 1, at())).await });
    while slack.got.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    // Advancing in steps: whatever the order of the two tasks, 29 s alone never wake it.
    clock.advance(Duration::from_secs(29));
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        slack.got.lock().unwrap().len(),
        1,
        "not before it was asked to"
    );
    while !task.is_finished() {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    task.await.unwrap().unwrap();
    assert_eq!(slack.got.lock().unwrap().len(), 2);
}

#[test]
fn retry_after_is_capped_and_never_missing() {
    let headers = |text: &'static str| HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
    assert_eq!(retry_after(&headers("30")), Duration::from_secs(30));
    assert_eq!(retry_after(&headers("86400")), RETRY_AFTER_MAX);
    assert_eq!(retry_after(&headers("soon")), Duration::from_secs(1));
    assert_eq!(retry_after(&HeaderMap::new()), Duration::from_secs(1));
}

#[tokio::test]
async fn what_slack_answers_becomes_an_error_that_says_what_to_do() {
    for (code, kind) in [
        (500, Kind::Unavailable),
        (403, Kind::Invalid),
        (302, Kind::Invalid),
    ] {
        let (_, url) = serve(&[(code, None)]).await;
        let fault = port(url, clock())
            .deliver(&text::buried("ads", 1, at()))
            .await
            .unwrap_err();
        assert_eq!(fault.kind, kind, "{code}");
        assert!(
            fault.to_string().contains(&format!("HTTP {code}")),
            "{fault}"
        );
    }
}

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_address_never_shows_in_debug_log_or_error() {
    let page = Page::default();
    let writer = page.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = Secret::new(format!("http://{}{PATH}", listener.local_addr().unwrap()));
    drop(listener);
    let (_, refused) = serve(&[(404, None), (404, None), (404, None), (404, None)]).await;

    let mut seen = String::new();
    for url in [gone, refused] {
        let options = SlackOptions::new(url, Language::Korean);
        seen.push_str(&format!("{options:?}"));
        let port = Arc::new(SlackPort::new(&options, clock()).unwrap());
        let fault = port
            .deliver(&text::buried("ads", 1, at()))
            .await
            .unwrap_err();
        let source = std::error::Error::source(&fault).map(ToString::to_string);
        seen.push_str(&format!("{port:?} {fault} {fault:?} {source:?}"));
        let quick = DeskOptions {
            backoff: Duration::ZERO,
            ..DeskOptions::default()
        };
        let desk = Alerts::new(vec![port], clock(), quick);
        desk.raise(text::buried("ads", 1, at()));
        assert!(desk.flush(Duration::from_secs(20)).await);
        seen.push_str(&format!("{desk:?}"));
    }
    for bad in [
        "swordfish",
        "http://10.0.0.1/swordfish",
        "ftp://x/swordfish",
    ] {
        let fault = SlackPort::new(
            &SlackOptions::new(Secret::new(bad), Language::Korean),
            clock(),
        )
        .unwrap_err();
        seen.push_str(&format!("{fault} {fault:?}"));
    }
    drop(guard);
    let logged = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
    assert!(
        logged.contains("alarm not taken"),
        "the failures were logged: {logged}"
    );
    assert!(!logged.contains("swordfish"), "{logged}");
    assert!(!seen.contains("swordfish"), "{seen}");
}

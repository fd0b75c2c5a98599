//! The book against a service that answers as told.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use jiff::Timestamp;
use nightgate_core::{Scope, Standing};
use serde_json::Value;
use tokio::net::TcpListener;

use super::*;
use crate::clock::ManualClock;

/// What a service makes of the recipients that it was asked about.
type Answer = fn(&[String]) -> Response;

/// What the service was asked, and what it answers.
struct Service {
    asked: Mutex<Vec<(Option<String>, Vec<String>)>>,
    answer: Mutex<Answer>,
    questions: AtomicUsize,
}

async fn answer(
    State(service): State<Arc<Service>>,
    head: HeaderMap,
    Json(ask): Json<Value>,
) -> Response {
    service.questions.fetch_add(1, Ordering::Relaxed);
    let recipients: Vec<String> = serde_json::from_value(ask["recipients"].clone()).unwrap();
    let token = head
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned());
    service
        .asked
        .lock()
        .unwrap()
        .push((token, recipients.clone()));
    let answer = *service.answer.lock().unwrap();
    answer(&recipients)
}

fn agreed(recipients: &[String]) -> Response {
    let yes = json!({ "granted_at": "2026-01-01T00:00:00Z" });
    let one = |who: &String| json!({ "recipient": who, "general": yes.clone() });
    Json(json!({ "consents": recipients.iter().rev().map(one).collect::<Vec<_>>() }))
        .into_response()
}

async fn world(cache_for: Duration) -> (Arc<Service>, HttpBook, Arc<ManualClock>) {
    let service = Arc::new(Service {
        asked: Mutex::default(),
        answer: Mutex::new(agreed),
        questions: AtomicUsize::new(0),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/ask", listener.local_addr().unwrap());
    let router = Router::new().route("/ask", routing::post(answer));
    let router = router.with_state(Arc::clone(&service));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let clock = Arc::new(ManualClock::new(now()));
    let options = HttpOptions {
        url: url.parse().unwrap(),
        token: Some(Secret::new("hush")),
        timeout: Duration::from_secs(2),
        cache_for,
        batch_max: 3,
    };
    let book = HttpBook::new(options, Arc::clone(&clock) as _).unwrap();
    (service, book, clock)
}

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn keys(names: &[&str]) -> Vec<RecipientKey> {
    names
        .iter()
        .map(|name| RecipientKey::from_stored(name))
        .collect()
}

#[tokio::test]
async fn a_look_up_is_a_few_questions_with_the_token_and_each_recipient_once() {
    let (service, book, _) = world(Duration::ZERO).await;
    let all = keys(&["a", "b", "a", "c", "d", "e"]);
    let told = book.look_up(&all).await.unwrap();
    assert_eq!(told.len(), all.len());
    let valid = |consent: &Consent| {
        matches!(
            consent.standing(Scope::General, now(), &[]),
            Standing::Valid { .. }
        )
    };
    assert!(told.iter().all(valid));
    let mut asked = service.asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked.len(), 2, "five recipients, three a question");
    assert!(
        asked
            .iter()
            .all(|(token, _)| token.as_deref() == Some("Bearer hush"))
    );
    let mut who: Vec<String> = asked.into_iter().flat_map(|(_, who)| who).collect();
    who.sort();
    assert_eq!(who, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn an_answer_is_believed_for_a_while_and_then_asked_for_again() {
    let (service, book, clock) = world(Duration::from_secs(10)).await;
    let all = keys(&["a", "b"]);
    book.look_up(&all).await.unwrap();
    *service.answer.lock().unwrap() = |who| {
        let one = |who| {
            json!({ "recipient": who, "general": {
                "granted_at": "2026-01-01T00:00:00Z", "withdrawn_at": "2026-11-22T11:59:00Z" } })
        };
        Json(json!({ "consents": who.iter().map(one).collect::<Vec<_>>() })).into_response()
    };
    clock.advance(Duration::from_secs(9));
    book.look_up(&all).await.unwrap();
    assert_eq!(service.questions.load(Ordering::Relaxed), 1);
    clock.advance(Duration::from_secs(1));
    let told = book.look_up(&all).await.unwrap();
    assert_eq!(service.questions.load(Ordering::Relaxed), 2);
    let standing = told[0].standing(Scope::General, now(), &[]);
    assert!(
        matches!(standing, Standing::Withdrawn { .. }),
        "{standing:?}"
    );
}

#[tokio::test]
async fn a_service_that_fails_or_leaves_somebody_out_has_told_nothing() {
    let (service, book, _) = world(Duration::from_secs(60)).await;
    let bad: [(Answer, &str); 6] = [
        (|_| StatusCode::SERVICE_UNAVAILABLE.into_response(), "503"),
        (|_| "no JSON +821012345678".into_response(), "docs/API.md"),
        (|who| agreed(&who[1..]), "every recipient"),
        (|who| agreed(&[who, who].concat()), "twice"),
        (
            |who| {
                let consents = who.iter().map(|who| {
                    json!({ "recipient": who, "night": { "revoked": "2026-01-01T00:00:00Z" } })
                });
                Json(json!({ "consents": consents.collect::<Vec<_>>() })).into_response()
            },
            "docs/API.md",
        ),
        (
            |who| {
                let night = json!({ "granted_at": "2026-01-01T00:00:00Z",
                    "ends": "2026-07-01T00:00:00Z" });
                let one = |who| json!({ "recipient": who, "night": night.clone() });
                Json(json!({ "consents": who.iter().map(one).collect::<Vec<_>>() })).into_response()
            },
            "Art. 50(3)",
        ),
    ];
    for (answer, says) in bad {
        *service.answer.lock().unwrap() = answer;
        let fault = book
            .look_up(&keys(&["+821012345678", "b"]))
            .await
            .unwrap_err();
        let text = fault.to_string();
        assert!(text.contains(says), "{text} should say {says}");
        assert!(!text.contains("1234"), "{text} shows a recipient");
    }
    *service.answer.lock().unwrap() = agreed;
    assert!(
        book.look_up(&keys(&["+821012345678", "b"])).await.is_ok(),
        "nothing bad was kept"
    );
}

#[tokio::test]
async fn a_service_that_is_away_is_unavailable_and_its_address_stays_out_of_the_text() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let options = HttpOptions {
        url: format!("http://127.0.0.1:{port}/ask?key=hush")
            .parse()
            .unwrap(),
        token: None,
        timeout: Duration::from_secs(2),
        cache_for: Duration::ZERO,
        batch_max: 1000,
    };
    let book = HttpBook::new(options, Arc::new(ManualClock::new(now()))).unwrap();
    let fault = book.look_up(&keys(&["a"])).await.unwrap_err();
    assert_eq!(fault.kind, Kind::Unavailable);
    assert!(!fault.to_string().contains("hush"), "{fault}");
    for fault in [
        book.record(Vec::new()).await.unwrap_err(),
        book.history(&keys(&["a"])[0]).await.unwrap_err(),
        book.count().await.unwrap_err(),
    ] {
        assert_eq!(fault.kind, Kind::Unsupported);
        assert!(fault.to_string().contains("consent.http.url"), "{fault}");
    }
}

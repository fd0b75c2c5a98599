//! Every row of the outcome table, against real sockets on loopback.

mod faults;
mod outcomes;
mod request;

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;
use standardwebhooks::Webhook;

use super::*;
use crate::clock::{ManualClock, SystemClock};

pub(super) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDaGVsbG8=";
const NOW: &str = "2026-11-22T23:30:00+09:00";
const LATER: &str = "2026-11-23T00:30:00+09:00";

/// What a receiver answers: status, headers, body.
type Script = (u16, Vec<(&'static str, String)>, Vec<u8>);

#[derive(Clone, Default)]
struct Receiver {
    answers: Arc<Mutex<VecDeque<Script>>>,
    got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Receiver {
    /// A receiver on loopback that gives `answers` in turn, then 204; and its address.
    async fn serve(answers: Vec<Script>) -> (Self, String) {
        let receiver = Self {
            answers: Arc::new(Mutex::new(answers.into())),
            ..Self::default()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (receiver, url)
    }

    fn requests(&self) -> Vec<(HeaderMap, Bytes)> {
        self.got.lock().unwrap().clone()
    }

    /// The messages of every request.
    fn messages(&self) -> Vec<Vec<Value>> {
        let read = |(_, body): &(HeaderMap, Bytes)| {
            let body: Value = serde_json::from_slice(body).unwrap();
            body["messages"].as_array().unwrap().clone()
        };
        self.requests().iter().map(read).collect()
    }

    fn ids(&self) -> Vec<Vec<String>> {
        let id = |message: &Value| message["id"].as_str().unwrap().to_owned();
        let ids = |one: &Vec<Value>| one.iter().map(id).collect();
        self.messages().iter().map(ids).collect()
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    receiver.got.lock().unwrap().push((headers, body));
    let script = receiver.answers.lock().unwrap().pop_front();
    let (status, headers, body) = script.unwrap_or((204, Vec::new(), Vec::new()));
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(name, value);
    }
    answer.body(Body::from(body)).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(at(NOW)))
}

fn options(url: &str) -> WebhookOptions {
    WebhookOptions::new(Secret::new(url), Some(Secret::new(SECRET)))
}

fn sink(url: &str) -> WebhookSink {
    WebhookSink::new(&options(url), clock()).unwrap()
}

/// `count` messages with an hour to go.
fn batch(count: usize) -> Vec<Outbound> {
    crate::sink::testing::batch("m", count, at(NOW), at(LATER))
}

fn delivered() -> Outcome {
    Outcome::Delivered { reference: None }
}

/// One word an outcome, for tables.
fn word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Retry {
            whole_lane: true, ..
        } => "retry lane".to_owned(),
        other => format!("{other:?}")
            .to_lowercase()
            .split([' ', '{'])
            .next()
            .unwrap()
            .to_owned(),
    }
}

fn words(outcomes: &[Outcome]) -> Vec<String> {
    outcomes.iter().map(word).collect()
}

/// Nothing personal may get from an answer or a request into an outcome.
fn assert_clean(outcomes: &[Outcome]) {
    let text = format!("{outcomes:?}");
    for personal in [
        crate::sink::testing::RECIPIENT,
        "01012345678",
        "안녕",
        "swordfish",
    ] {
        assert!(!text.contains(personal), "{text}");
    }
}

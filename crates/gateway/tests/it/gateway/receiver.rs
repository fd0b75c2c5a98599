//! The receiving end: a webhook on loopback that counts what arrives, by its own clock.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use jiff::Timestamp;
use serde_json::Value;

use super::clock;

/// One message that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) id: String,
    /// When it had arrived whole, by the machine's clock.
    pub(crate) at: Timestamp,
    pub(crate) not_after: Timestamp,
}

/// How the receiving end behaves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// Counts and answers after so long.
    pub(crate) slow: Duration,
    /// Answers 503 to every so manieth request, and takes nothing from it; 0 for never.
    pub(crate) refuse_every: u64,
}

#[derive(Default)]
struct Book {
    arrivals: Vec<Arrival>,
    requests: u64,
}

/// A webhook in this process.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    book: Arc<Mutex<Book>>,
}

impl Receiver {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let book = Arc::<Mutex<Book>>::default();
        let state = (Arc::clone(&book), manner);
        let app = Router::new().route("/in", post(take)).with_state(state);
        // Only our own bodies come here.
        let app = app.layer(axum::extract::DefaultBodyLimit::disable());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, book }
    }

    /// The lines of a lane `main` that posts here; further keys of the lane may follow.
    pub(crate) fn lane(&self, webhook: &str, lane: &str) -> String {
        let address = self.address;
        format!(
            "[lane.main.webhook]\nurl = \"http://{address}/in\"\n{webhook}\n\
             [lane.main]\nsink = \"webhook\"\n{lane}\n"
        )
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.book.lock().unwrap().arrivals.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.book.lock().unwrap().arrivals.len()
    }

    /// How often each message arrived.
    pub(crate) fn times(&self) -> HashMap<String, usize> {
        let mut times = HashMap::new();
        for arrival in self.arrivals() {
            *times.entry(arrival.id).or_default() += 1;
        }
        times
    }
}

async fn take(State((book, manner)): State<(Arc<Mutex<Book>>, Manner)>, body: Bytes) -> StatusCode {
    let at = clock::now();
    let body: Value = serde_json::from_slice(&body).unwrap();
    {
        let mut book = book.lock().unwrap();
        book.requests += 1;
        if manner.refuse_every > 0 && book.requests % manner.refuse_every == 0 {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let text = |message: &Value, name: &str| message[name].as_str().unwrap().to_owned();
        let messages = body["messages"].as_array().unwrap();
        book.arrivals.extend(messages.iter().map(|message| Arrival {
            id: text(message, "id"),
            at,
            not_after: text(message, "not_after").parse().unwrap(),
        }));
    }
    clock::pause(manner.slow).await;
    StatusCode::NO_CONTENT
}

//! The other side of the demo's webhook: a provider that takes messages, fails for a while, and
//! once takes a batch without ever answering.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::Notify;

use crate::cli::Failure;

/// How the provider behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// It takes everything.
    Well,
    /// It answers 503.
    Ill,
    /// It takes a batch of advertising and never answers.
    Silent,
}

/// A provider on a loopback port.
#[derive(Clone)]
pub(super) struct Provider(Arc<Desk>);

struct Desk {
    address: SocketAddr,
    mood: Mutex<Mood>,
    received: Mutex<BTreeMap<String, Received>>,
    silent: Notify,
}

/// What the provider knows of one message.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    pub(super) times: usize,
    pub(super) recipient: String,
    pub(super) channel: String,
    pub(super) advertising: bool,
    /// Taken since the last look.
    pub(super) fresh: bool,
}

#[derive(Deserialize)]
struct Batch {
    messages: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
    recipient: String,
    channel: String,
    purpose: String,
}

impl Provider {
    /// Listens on a free loopback port until the process ends.
    pub(super) async fn start() -> Result<Self, Failure> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let desk = Desk {
            address: listener.local_addr()?,
            mood: Mutex::new(Mood::Well),
            received: Mutex::default(),
            silent: Notify::new(),
        };
        let provider = Self(Arc::new(desk));
        let router = Router::new()
            .route("/messages", post(take))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(provider)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }

    pub(super) fn feel(&self, mood: Mood) {
        *self.0.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// Returns when a batch was taken without an answer.
    pub(super) async fn fell_silent(&self) {
        self.0.silent.notified().await;
    }

    /// What was taken since the last look.
    pub(super) fn fresh(&self) -> Vec<(String, Received)> {
        let mut received = self
            .0
            .received
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut fresh = Vec::new();
        for (id, item) in received.iter_mut().filter(|(_, item)| item.fresh) {
            item.fresh = false;
            fresh.push((id.clone(), item.clone()));
        }
        fresh
    }

    /// Everything that was ever taken, by message id.
    pub(super) fn received(&self) -> BTreeMap<String, Received> {
        self.0
            .received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn take(&self, batch: Batch) {
        let mut received = self
            .0
            .received
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for item in batch.messages {
            let entry = received.entry(item.id).or_default();
            entry.times += 1;
            entry.recipient = item.recipient;
            entry.channel = item.channel;
            entry.advertising = item.purpose == "advertising";
            entry.fresh = true;
        }
    }
}

async fn take(State(provider): State<Provider>, Json(batch): Json<Batch>) -> Response {
    let mood = *provider
        .0
        .mood
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let advertising = batch
        .messages
        .iter()
        .any(|item| item.purpose == "advertising");
    match mood {
        // Of the silent kind there is one, and it is a batch of advertising: the harder case.
        Mood::Silent if advertising => {
            provider.take(batch);
            provider.0.silent.notify_one();
            std::future::pending().await
        }
        Mood::Well | Mood::Silent => {
            provider.take(batch);
            StatusCode::NO_CONTENT.into_response()
        }
        Mood::Ill => (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::RETRY_AFTER, "15")],
        )
            .into_response(),
    }
}

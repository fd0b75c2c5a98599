//! Consents asked of the company's own service: nothing is copied here, so nothing can be stale but
//! by the few seconds for which an answer is believed.
//!
//! One question is a `POST` with `{"recipients": ["+821012345678", …]}`; the answer is
//! `{"consents": [{"recipient": "+821012345678", "general": {…}, "night": {…}}, …]}`, in any order.
//! A scope has `granted_at`, `withdrawn_at`, and `ends` where the ground is a transaction and not a
//! yes (Network Act Art. 50(1) no. 1); what is left out never happened. A recipient who is not in
//! the answer is not known to have refused nor agreed, so the whole question counts as unanswered:
//! advertising waits.

mod answer;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use lru::LruCache;
use nightgate_core::{Consent, RecipientKey};
use reqwest::{Client, StatusCode, Url};
use serde_json::json;

use super::{ConsentBook, ConsentEvent};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// Answers believed at once: some 20 MB.
const CACHED_MAX: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// Questions under way at once, for each look-up.
const ASKING_MAX: usize = 4;
/// Largest answer for each recipient asked about, in bytes: a recipient and six instants.
const ANSWER_BYTES_EACH: usize = 1024;

/// How the service is asked. `Debug` shows no token.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Where questions are posted.
    pub url: Url,
    /// Sent as a bearer token.
    pub token: Option<Secret>,
    /// Longest time for one answer.
    pub timeout: Duration,
    /// How long an answer is believed; zero: not at all.
    pub cache_for: Duration,
    /// Most recipients in one question.
    pub batch_max: usize,
}

/// The service, as a consent book that can be read.
pub struct HttpBook {
    client: Client,
    options: HttpOptions,
    clock: Arc<dyn Clock>,
    /// What was answered, and when by the monotonic clock.
    cached: Mutex<LruCache<RecipientKey, (Consent, Duration)>>,
}

impl HttpBook {
    /// Builds the client. Nothing is connected yet.
    ///
    /// # Errors
    /// `Invalid` when the client cannot be built.
    pub fn new(options: HttpOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let client = Client::builder()
            .user_agent(concat!("nightgate/", env!("CARGO_PKG_VERSION")))
            // A redirect would carry recipients and token to somebody else.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .timeout(options.timeout)
            .build()
            .map_err(|fault| {
                let op = "build the client of the consent service";
                Error::new(Kind::Invalid, "consent", op).with(fault.without_url())
            })?;
        Ok(Self {
            client,
            options,
            clock,
            cached: Mutex::new(LruCache::new(CACHED_MAX)),
        })
    }

    /// What of `keys` is believed still, by place.
    fn recall(&self, keys: &[RecipientKey]) -> Vec<Option<Consent>> {
        let now = self.clock.monotonic();
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = |key| {
            let (consent, at) = cached.get(key)?;
            (now.saturating_sub(*at) < self.options.cache_for).then_some(*consent)
        };
        keys.iter().map(&mut known).collect()
    }

    /// Notes answers to a question that was asked at `asked`: a withdrawal while it was under way
    /// must not be believed away for longer than from then on.
    fn note(&self, told: &[(RecipientKey, Consent)], asked: Duration) {
        if self.options.cache_for.is_zero() {
            return;
        }
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, consent) in told {
            cached.put(key.clone(), (*consent, asked));
        }
    }

    /// One question.
    async fn ask(&self, keys: &[&RecipientKey]) -> Result<Vec<(RecipientKey, Consent)>> {
        let asked = self.clock.monotonic();
        let recipients: Vec<&str> = keys.iter().map(|key| key.expose()).collect();
        let mut request = self.client.post(self.options.url.clone());
        if let Some(token) = &self.options.token {
            request = request.bearer_auth(token.expose());
        }
        let failed = |fault: reqwest::Error| {
            let op = "ask the consent service";
            Error::new(Kind::Unavailable, "consent", op).with(fault.without_url())
        };
        let request = request.json(&json!({ "recipients": recipients }));
        let mut answer = request.send().await.map_err(failed)?;
        if answer.status() != StatusCode::OK {
            let op = format!("ask the consent service: it answered {}", answer.status());
            return Err(Error::new(Kind::Unavailable, "consent", op));
        }
        let most = keys.len().saturating_mul(ANSWER_BYTES_EACH).max(64 * 1024);
        let mut text = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(failed)? {
            if text.len() + part.len() > most {
                let op = format!("read the consent service's answer: more than {most} bytes");
                return Err(Error::new(Kind::Corrupt, "consent", op));
            }
            text.extend_from_slice(&part);
        }
        let told = answer::read(&text, keys).map_err(|rule| {
            let op = format!("read the consent service's answer: {rule}");
            Error::new(Kind::Corrupt, "consent", op)
        })?;
        self.note(&told, asked);
        Ok(told)
    }

    fn unsupported<T>(&self, what: &str) -> Result<T> {
        let op = format!("{what}: consents live in the service at `consent.http.url`; do it there");
        Err(Error::new(Kind::Unsupported, "consent", op))
    }
}

#[async_trait]
impl ConsentBook for HttpBook {
    async fn look_up(&self, keys: &[RecipientKey]) -> Result<Vec<Consent>> {
        let mut known = self.recall(keys);
        let mut seen = HashSet::new();
        let unknown: Vec<&RecipientKey> = keys
            .iter()
            .zip(&known)
            .filter(|(key, known)| known.is_none() && seen.insert(*key))
            .map(|(key, _)| key)
            .collect();
        let mut questions = Vec::new();
        for keys in unknown.chunks(self.options.batch_max.max(1)) {
            questions.push(self.ask(keys).boxed());
        }
        let told = stream::iter(questions).buffered(ASKING_MAX);
        let told: Vec<_> = told.try_collect().await?;
        let told: std::collections::HashMap<_, _> = told.into_iter().flatten().collect();
        for (key, known) in keys.iter().zip(&mut known) {
            *known = known.or_else(|| told.get(key).copied());
        }
        let all: Option<Vec<Consent>> = known.into_iter().collect();
        all.ok_or_else(|| Error::new(Kind::Corrupt, "consent", "match answers to recipients"))
    }

    async fn record(&self, _: Vec<ConsentEvent>) -> Result<u64> {
        self.unsupported("record a consent")
    }

    async fn history(&self, _: &RecipientKey) -> Result<Vec<ConsentEvent>> {
        self.unsupported("tell a recipient's history")
    }

    async fn count(&self) -> Result<u64> {
        self.unsupported("count recipients")
    }
}

//! A sink that posts batches of JSON to a URL, signed after the Standard Webhooks specification
//! (<https://www.standardwebhooks.com>).

mod address;
mod answer;
mod look;
mod sign;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

pub use self::address::Address;
use self::answer::Meaning;
use self::look::{LastLook, Passage, Witness};
use self::sign::Signer;
use crate::clock::Clock;
use crate::config::WebhookConfig;
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;
use crate::sink::wire::Wire;
use crate::sink::{Outbound, Outcome, Sink};

/// Most messages in one request, unless configured. The releaser also bounds the bytes.
pub const BATCH_MAX_DEFAULT: usize = 1_000;
/// Most messages in one request that can be configured.
pub const BATCH_MAX_LIMIT: usize = WebhookConfig::BATCH_MAX_LIMIT;
/// Time for one request and its answer, unless configured.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
/// Longest time for one request that can be configured: a loan must outlast it.
pub const TIMEOUT_LIMIT: Duration = WebhookConfig::TIMEOUT_LIMIT;
/// Time to find the host, connect and agree on TLS, unless configured.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Idle connections are closed after this, before common servers close them (Node.js and uvicorn
/// do after 5 s): a request sent into a connection that is just closing ends as `Unknown`.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// Buffers kept for the next requests, and the largest of them: those of usual batches abreast.
const BUFFERS_KEPT: usize = 8;
const BUFFER_KEPT_BYTES: usize = 4 * 1024 * 1024;

/// How a webhook is reached. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// Where to post. Hidden, because addresses carry passwords and tokens.
    pub url: Secret,
    /// Signing key: `whsec_` and the base64 of at least 24 random bytes. `None`: unsigned, for a
    /// receiver that knows this gateway by other means.
    pub secret: Option<Secret>,
    /// Most messages in one request, 1 to [`BATCH_MAX_LIMIT`].
    pub batch_max: usize,
    /// For one request and its answer, at most [`TIMEOUT_LIMIT`].
    pub timeout: Duration,
    /// For finding the host, connecting and TLS; shorter than `timeout`.
    pub connect_timeout: Duration,
    /// Sent with every request.
    pub headers: BTreeMap<String, Secret>,
    /// Lets plain http leave this machine.
    pub allow_plain_http: bool,
}

impl WebhookOptions {
    /// Posts to `url`, signed with `secret` if there is one, with the defaults above.
    #[must_use]
    pub fn new(url: Secret, secret: Option<Secret>) -> Self {
        Self {
            url,
            secret,
            batch_max: BATCH_MAX_DEFAULT,
            timeout: TIMEOUT_DEFAULT,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            headers: BTreeMap::new(),
            allow_plain_http: false,
        }
    }
}

/// Posts `{"messages":[..]}` and reads one outcome a message from the answer.
///
/// A message has `id`, `idempotency_key` (the id again), `recipient`, `channel`, `purpose`,
/// `campaign`?, `attempt`, `not_after`, `content_type`, `attributes`, and `body` (text) or
/// `body_base64`. Headers: `webhook-id` (the same whenever the same messages go again),
/// `webhook-timestamp`, `webhook-signature`; `Nightgate-Not-After` (RFC 3339) and `TTL` (seconds,
/// RFC 8030), both by the earliest permit in the request; `Idempotency-Key` when the request holds
/// one message. The answer may say `{"outcomes":[{"id", "outcome":
/// "delivered|retry|rejected|unknown", "reference"?, "retry_after_seconds"?, "why"?}]}`; `why` is
/// kept if it is a plain code without a number that could be somebody's.
///
/// | what happened | outcome | because |
/// |---|---|---|
/// | permit or loan ended before the body left | `TooLate` | judged behind connecting and TLS |
/// | no such name, refused, TLS failed, connect time-out | `Retry`, whole lane | nothing left |
/// | cut or timed out after the body left | `Unknown` | nobody can tell |
/// | 2xx with `outcomes` | as they say | left out, said twice, unknown word: `Unknown` |
/// | 2xx, claims JSON, but cut, over 1 MiB or unreadable | `Unknown` | it may have held outcomes |
/// | any other 2xx | `Delivered` | the status is the answer |
/// | 3xx | `Retry`, whole lane | not followed: another host would get personal data |
/// | 401 402 403 407 | `Retry`, whole lane | wrong credentials must not lose messages |
/// | 404 405 410 421 501 505 | `Retry`, whole lane | a wrong address must not lose messages |
/// | 408 425 | `Retry` | these say that nothing was done |
/// | 409 | `Retry` | the same key is being worked on; the receiver keeps keys, so again is safe |
/// | 429 503 | `Retry`, whole lane | overloaded; `Retry-After` obeyed up to 1 h |
/// | other 4xx to one message | `Rejected` | it is turned down for what is in it |
/// | other 4xx to several | handed over again in halves | one bad message costs only itself |
/// | 500 502 504, any other status | `Unknown` | the handler may have run, wholly or in part |
///
/// A receiver that took nothing says so with 503, or with `retry` in `outcomes`. One that drops a
/// second message of the same `idempotency_key` lets its lane retry what is `Unknown`. Proxies of
/// the environment (`HTTPS_PROXY`) are used but for this machine. HTTP/1.1, connections reused.
pub struct WebhookSink {
    client: reqwest::Client,
    address: Address,
    signer: Option<Signer>,
    batch_max: usize,
    clock: Arc<dyn Clock>,
    /// Bodies of requests that were answered: room for the next.
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl WebhookSink {
    /// Checks `options` and builds the client. Nothing is connected yet.
    ///
    /// # Errors
    /// `Invalid`, with what to set instead; no secret is in the text.
    pub fn new(options: &WebhookOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let address = Address::parse(&options.url, options.allow_plain_http)?;
        if !(1..=BATCH_MAX_LIMIT).contains(&options.batch_max) {
            return Err(invalid(format!(
                "use `batch_max`: set it to 1 to {BATCH_MAX_LIMIT}"
            )));
        }
        if options.timeout.is_zero() || options.timeout > TIMEOUT_LIMIT {
            let limit = TIMEOUT_LIMIT.as_secs();
            return Err(invalid(format!(
                "use `timeout`: set it to more than 0 and at most {limit} s"
            )));
        }
        if options.connect_timeout.is_zero() || options.connect_timeout >= options.timeout {
            let what = "use `connect_timeout`: set it to more than 0 and less than `timeout`";
            return Err(invalid(what.to_owned()));
        }
        let mut client = reqwest::Client::builder()
            .user_agent(concat!("nightgate/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers_of(&options.headers)?)
            .redirect(reqwest::redirect::Policy::none())
            // The releaser alone decides what is tried again, with a fresh permit.
            .retry(reqwest::retry::never())
            .referer(false)
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE_MAX)
            .connect_timeout(options.connect_timeout)
            .timeout(options.timeout);
        if address.is_loopback() {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|fault| {
            invalid("build the webhook's client".to_owned()).with(fault.without_url())
        })?;
        let signer = options.secret.as_ref().map(signer).transpose()?;
        Ok(Self {
            client,
            address,
            signer,
            batch_max: options.batch_max,
            clock,
            buffers: Mutex::default(),
        })
    }

    /// Where it posts to, printable.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Hands over the messages at `places` of `batch`, which may all leave at `now`.
    async fn hand_over(
        &self,
        batch: &Arc<Vec<Outbound>>,
        places: &Arc<[usize]>,
        now: Timestamp,
    ) -> std::result::Result<Meaning, Vec<usize>> {
        let bytes = Bytes::from(self.body(batch, places));
        let headers = match self.headers(batch, places, &bytes, now) {
            Ok(headers) => headers,
            Err(what) => {
                let why = format!("the request could not be formed: {what}");
                return Ok(Meaning::Rejected(why));
            }
        };
        let witness = Witness::default();
        let body = LastLook {
            bytes: bytes.clone(),
            batch: Arc::clone(batch),
            places: Arc::clone(places),
            clock: Arc::clone(&self.clock),
            witness: witness.clone(),
        };
        let request = self.client.post(self.address.url()).headers(headers);
        let answer = request.body(reqwest::Body::wrap(body)).send().await;
        self.keep(bytes);
        match answer {
            Ok(response) => {
                let ids: Vec<_> = places
                    .iter()
                    .map(|at| batch[*at].message().id.as_str())
                    .collect();
                Ok(answer::read(response, &ids, self.clock.now()).await)
            }
            Err(fault) => match witness.passage() {
                Passage::Shut(late) => Err(late),
                passage => Ok(answer::of_fault(&fault, &passage)),
            },
        }
    }

    /// The body of the request: `{"messages":[{"idempotency_key":"m-1","id":"m-1",..},..]}`.
    fn body(&self, batch: &[Outbound], places: &[usize]) -> Vec<u8> {
        let buffer = || {
            self.buffers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()
        };
        let mut body = buffer().unwrap_or_default();
        body.clear();
        body.reserve(Wire::size_of(places.iter().map(|place| &batch[*place])));
        let mut wire = Wire::default();
        body.extend_from_slice(b"{\"messages\":[");
        for (count, place) in places.iter().enumerate() {
            if count > 0 {
                body.push(b',');
            }
            body.extend_from_slice(b"{\"idempotency_key\":");
            wire.push_id(&batch[*place], &mut body);
            body.push(b',');
            wire.push(&batch[*place], &mut body);
            body.push(b'}');
        }
        body.extend_from_slice(b"]}");
        body
    }

    /// Keeps the room of a body that went out, if nobody holds it any more.
    fn keep(&self, body: Bytes) {
        if let Ok(body) = body.try_into_mut() {
            let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
            if buffers.len() < BUFFERS_KEPT && body.capacity() <= BUFFER_KEPT_BYTES {
                buffers.push(body.into());
            }
        }
    }

    /// The request's own headers, signed if there is a key.
    fn headers(
        &self,
        batch: &[Outbound],
        places: &[usize],
        body: &[u8],
        now: Timestamp,
    ) -> std::result::Result<HeaderMap, String> {
        let messages = || places.iter().map(|place| &batch[*place]);
        let id = webhook_id(messages().map(|one| one.message().id.as_str()));
        let seconds = now.as_second().to_string();
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            let value = HeaderValue::from_str(value).map_err(|fault| format!("{name}: {fault}"))?;
            headers.insert(HeaderName::from_static(name), value);
            Ok::<_, String>(())
        };
        set(sign::ID, &id)?;
        set(sign::TIMESTAMP, &seconds)?;
        if let Some(signer) = &self.signer {
            set(sign::SIGNATURE, &signer.sign(&id, &seconds, body))?;
        }
        if let Some(end) = messages().map(|one| one.permit().not_after()).min() {
            let ttl = end.duration_since(now).as_secs().max(0);
            set("nightgate-not-after", &end.to_string())?;
            set("ttl", &ttl.to_string())?;
        }
        if let [one] = places {
            set("idempotency-key", batch[*one].message().id.as_str())?;
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(headers)
    }
}

#[async_trait]
impl Sink for WebhookSink {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn batch_max(&self) -> usize {
        self.batch_max
    }

    async fn deliver(&self, batch: Vec<Outbound>) -> Vec<Outcome> {
        let batch = Arc::new(batch);
        let mut told = Told(vec![None; batch.len()]);
        let all: Vec<usize> = (0..batch.len()).collect();
        let mut parts: Vec<Vec<usize>> = all.chunks(self.batch_max).rev().map(Vec::from).collect();
        while let Some(mut part) = parts.pop() {
            let now = self.clock.now();
            let late = Outbound::late(&batch, &part, now);
            told.late(&late, &mut part);
            if part.is_empty() {
                continue;
            }
            let part: Arc<[usize]> = part.into();
            match self.hand_over(&batch, &part, now).await {
                Ok(Meaning::Each(each)) => {
                    part.iter()
                        .zip(each)
                        .for_each(|(place, one)| told.0[*place] = Some(one));
                }
                Ok(Meaning::All(one)) => {
                    let stop = matches!(
                        one,
                        Outcome::Retry {
                            whole_lane: true,
                            ..
                        }
                    );
                    let rest = if stop {
                        std::mem::take(&mut parts).concat()
                    } else {
                        Vec::new()
                    };
                    told.all(part.iter().chain(&rest), &one);
                }
                Ok(Meaning::Rejected(_)) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second.to_vec(), first.to_vec()]);
                }
                Ok(Meaning::Rejected(why)) => told.all(part.iter(), &Outcome::Rejected { why }),
                Err(late) => {
                    let mut part = part.to_vec();
                    told.late(&late, &mut part);
                    parts.push(part);
                }
            }
        }
        told.outcomes()
    }
}

/// What is known of each message of a batch.
struct Told(Vec<Option<Outcome>>);

impl Told {
    /// Those at `late` (in the order of `part`) are too late, and leave it.
    fn late(&mut self, late: &[usize], part: &mut Vec<usize>) {
        if late.is_empty() {
            return;
        }
        self.all(late.iter(), &Outcome::TooLate);
        let mut late = late.iter().peekable();
        part.retain(|place| late.next_if_eq(&place).is_none());
    }

    fn all<'a>(&mut self, places: impl Iterator<Item = &'a usize>, one: &Outcome) {
        places.for_each(|place| self.0[*place] = Some(one.clone()));
    }

    fn outcomes(self) -> Vec<Outcome> {
        let not_tried = || Outcome::Retry {
            after: None,
            whole_lane: false,
            why: "not tried".to_owned(),
        };
        let told = self.0.into_iter();
        told.map(|one| one.unwrap_or_else(not_tried)).collect()
    }
}

impl fmt::Debug for WebhookSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSink")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

fn invalid(op: String) -> Error {
    Error::new(Kind::Invalid, "sink", op)
}

/// An id that is the same whenever the same messages go together: attempt and permit are left out.
fn webhook_id<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    let mut hasher = blake3::Hasher::new();
    for id in ids {
        // Ids hold no line ends, so no two lists give the same bytes.
        hasher.update(id.as_bytes()).update(b"\n");
    }
    let hash = hasher.finalize().to_hex();
    format!("msg_{}", &hash[..32])
}

fn signer(secret: &Secret) -> Result<Signer> {
    let rule = WebhookConfig::KEY_RULE;
    let key = WebhookConfig::signing_key(secret);
    key.map(|key| Signer::new(&key))
        .ok_or_else(|| invalid(format!("use the webhook's `secret`: it {rule}")))
}

fn headers_of(configured: &BTreeMap<String, Secret>) -> Result<HeaderMap> {
    let most = WebhookConfig::HEADERS_MAX;
    if configured.len() > most {
        return Err(invalid(format!("use `headers`: set at most {most}")));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in configured {
        if WebhookConfig::is_own_header(name) {
            let what =
                format!("use the header `{name}`: Nightgate sets it, take it out of `headers`");
            return Err(invalid(what));
        }
        let read = || {
            invalid(format!(
                "read the header `{name}`: it holds characters HTTP forbids"
            ))
        };
        let header = HeaderName::try_from(name).map_err(|_| read())?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| read())?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

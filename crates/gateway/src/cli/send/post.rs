//! Posts one chunk to a gateway and reads its answers as they come.

use std::fs;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;

use crate::cli::Failure;
use crate::config::Config;
use crate::secret::Secret;

/// Path of the stream.
const PATH: &str = "v1/messages/bulk";
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence while answers come.
const READ_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest answer line, or body of a problem, in bytes.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;
/// Longest token file, in bytes.
const TOKEN_MAX_BYTES: u64 = 8 * 1024;

/// A gateway to post to.
pub(super) struct Gateway {
    client: Client,
    url: Url,
    /// As it is shown and remembered.
    pub(super) shown: String,
    token: Option<Secret>,
}

/// Why a chunk was not answered whole.
pub(super) enum Trouble {
    /// Nobody answered: the connection was never made.
    Nobody(String),
    /// Worth another try, and when.
    Later(String, Option<Duration>),
    /// It will not get better.
    Never(Failure),
}

impl Gateway {
    pub(super) fn new(base: &str, token: Option<Secret>) -> Result<Self, Failure> {
        let base = base.trim_end_matches('/');
        let wrong = |why: &str| Failure::usage(format!("--url {why}"));
        let url = Url::parse(&format!("{base}/{PATH}"))
            .map_err(|_| wrong("must be an address such as http://127.0.0.1:8787"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("must hold no password: use --token-file"));
        }
        let client = Client::builder()
            .user_agent(concat!("nightgate/", env!("CARGO_PKG_VERSION")))
            // The token and the recipients go to the gateway that was named, and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(|error| Failure::failed(format!("failed to build a client: {error}")))?;
        Ok(Self {
            client,
            url,
            shown: base.to_owned(),
            token,
        })
    }

    /// Posts `body` and hands each answer to `answered`; `Ok` after the summary.
    pub(super) async fn post(
        &self,
        body: Vec<u8>,
        mut answered: impl FnMut(Value),
    ) -> Result<(), Trouble> {
        let mut request = self.client.post(self.url.clone()).body(body);
        request = request.header(CONTENT_TYPE, "application/x-ndjson");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.send().await.map_err(|error| {
            let connect = error.is_connect();
            // Without the address, which is ours to tell.
            let why = reason(&error.without_url());
            if connect {
                Trouble::Nobody(why)
            } else {
                Trouble::Later(why, None)
            }
        })?;
        if response.status() != StatusCode::OK {
            return Err(self.turned_away(response).await);
        }
        read(response, &mut answered).await
    }

    async fn turned_away(&self, mut response: Response) -> Trouble {
        let (status, shown) = (response.status(), &self.shown);
        let after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|after| after.to_str().ok());
        let after = after
            .and_then(|after| after.trim().parse().ok())
            .map(Duration::from_secs);
        let mut body = Vec::new();
        while let Ok(Some(piece)) = response.chunk().await {
            if body.len() + piece.len() > ANSWER_MAX_BYTES {
                break;
            }
            body.extend_from_slice(&piece);
        }
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let told = ["title", "detail"].map(|field| problem[field].as_str());
        let told: Vec<_> = told.into_iter().flatten().collect();
        let told = if told.is_empty() {
            status.to_string()
        } else {
            told.join(": ")
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Trouble::Never(Failure::failed(format!(
                    "the gateway at {shown} does not take this token ({told}): give the \
                     producer's with --token-file, or set NIGHTGATE_HTTP__PRODUCER_TOKEN"
                )))
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                Trouble::Never(Failure::failed(format!(
                    "what answers at {shown} is no gateway ({told}): check --url"
                )))
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Trouble::Later(told, after)
            }
            status if status.is_server_error() => Trouble::Later(told, after),
            _ => Trouble::Never(Failure::failed(format!(
                "the gateway at {shown} says: {told}"
            ))),
        }
    }
}

/// What lies at the bottom of an error of the client: its own text only says where it happened.
fn reason(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

async fn read(mut response: Response, answered: &mut impl FnMut(Value)) -> Result<(), Trouble> {
    let broken = |why: &str| Trouble::Later(format!("the answers broke off ({why})"), None);
    let mut buffer: Vec<u8> = Vec::new();
    let mut whole = false;
    loop {
        let piece = response.chunk().await;
        match piece.map_err(|error| broken(&reason(&error.without_url())))? {
            Some(piece) => buffer.extend_from_slice(&piece),
            None => break,
        }
        let mut begin = 0;
        while let Some(end) = buffer[begin..].iter().position(|byte| *byte == b'\n') {
            let line = &buffer[begin..begin + end];
            let answer: Value = serde_json::from_slice(line).map_err(|_| {
                Trouble::Never(Failure::failed("an answer is no JSON: check --url"))
            })?;
            begin += end + 1;
            match answer.get("summary") {
                Some(summary) => whole = summary["complete"].as_bool().unwrap_or(true),
                None => answered(answer),
            }
        }
        buffer.drain(..begin);
        if buffer.len() > ANSWER_MAX_BYTES {
            return Err(Trouble::Never(Failure::failed(
                "an answer has no end: check --url",
            )));
        }
    }
    if whole {
        Ok(())
    } else {
        Err(broken("no summary came"))
    }
}

/// The token to post with: of the file, or else the producer's of the configuration.
pub(super) fn token(file: Option<&Path>, config: &Config) -> Result<Option<Secret>, Failure> {
    let Some(path) = file else {
        return Ok(config.http.producer_token.clone());
    };
    let shown = path.display();
    let cannot = |error| Failure::usage(format!("--token-file {shown} cannot be read: {error}"));
    if fs::metadata(path).map_err(cannot)?.len() > TOKEN_MAX_BYTES {
        return Err(Failure::usage(format!(
            "--token-file {shown} holds no token: it is too long"
        )));
    }
    let text = fs::read_to_string(path).map_err(cannot)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::usage(format!("--token-file {shown} is empty")));
    }
    Ok(Some(Secret::new(text)))
}

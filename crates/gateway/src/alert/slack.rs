//! Alarms in a Slack channel, through an incoming webhook
//! (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>).
//!
//! The address is the password: whoever has it can post. It never prints, and errors are stripped
//! of it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nightgate_core::Language;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};

use crate::alert::{Alert, AlertKind, AlertPort};
use crate::clock::{Clock, pass};
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// Time for one request and its answer, unless configured.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Longest pause granted to a 429 before the one further attempt. Slack asks for seconds; the
/// desk's time for an attempt is longer than this and two requests.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Longest header block (Block Kit reference, header).
const HEADER_MAX: usize = 150;
/// Longest text of a section, and of a message's fallback here.
const SECTION_MAX: usize = 3000;
/// Most fields in a section.
const FIELDS_MAX: usize = 10;
/// Longest field.
const FIELD_MAX: usize = 2000;

/// How Slack is reached. `Debug` shows no address.
#[derive(Clone, Debug)]
pub struct SlackOptions {
    /// The incoming webhook's address.
    pub url: Secret,
    /// The language that stands first.
    pub language: Language,
    /// For one request and its answer.
    pub timeout: Duration,
}

impl SlackOptions {
    /// Posts to `url`, `language` first, with the defaults above.
    #[must_use]
    pub fn new(url: Secret, language: Language) -> Self {
        Self {
            url,
            language,
            timeout: TIMEOUT_DEFAULT,
        }
    }
}

/// Posts each alarm as one message. A 429 is obeyed: one pause as long as `Retry-After` says, up to
/// [`RETRY_AFTER_MAX`], and one further attempt.
pub struct SlackPort {
    client: reqwest::Client,
    url: Url,
    language: Language,
    clock: Arc<dyn Clock>,
}

impl SlackPort {
    /// Checks the address and builds the client. Nothing is connected yet.
    ///
    /// # Errors
    /// `Invalid`, with what to set instead; the address is not in the text.
    pub fn new(options: &SlackOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let url = Url::parse(options.url.expose())
            .ok()
            .filter(is_private)
            .ok_or_else(|| {
                invalid("use Slack's `url`: set it to the https:// address of an incoming webhook")
            })?;
        if options.timeout.is_zero() {
            return Err(invalid("use Slack's `timeout`: set it to more than 0"));
        }
        let mut client = reqwest::Client::builder()
            .user_agent(concat!("nightgate/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .timeout(options.timeout);
        if is_loopback(&url) {
            client = client.no_proxy();
        }
        let client = client
            .build()
            .map_err(|fault| invalid("build Slack's client").with(fault.without_url()))?;
        Ok(Self {
            client,
            url,
            language: options.language,
            clock,
        })
    }

    async fn post(&self, message: &Value) -> Result<(StatusCode, HeaderMap)> {
        let sent = self
            .client
            .post(self.url.clone())
            .json(message)
            .send()
            .await;
        let answer = sent.map_err(|fault| {
            Error::new(Kind::Unavailable, "alert", "post to Slack").with(fault.without_url())
        })?;
        Ok((answer.status(), answer.headers().clone()))
    }
}

#[async_trait]
impl AlertPort for SlackPort {
    fn name(&self) -> &'static str {
        "slack"
    }

    async fn deliver(&self, alert: &Alert) -> Result<()> {
        let message = message(alert, self.language);
        let (mut status, headers) = self.post(&message).await?;
        if status == StatusCode::TOO_MANY_REQUESTS {
            pass(&*self.clock, retry_after(&headers)).await;
            (status, _) = self.post(&message).await?;
        }
        let code = status.as_u16();
        match code {
            200..=299 => Ok(()),
            408 | 429 | 500..=599 => {
                let op = format!("post to Slack: HTTP {code}");
                Err(Error::new(Kind::Unavailable, "alert", op))
            }
            _ => Err(invalid(&format!(
                "post to Slack: HTTP {code}; make a new incoming webhook, set Slack's `url` to it"
            ))),
        }
    }
}

impl fmt::Debug for SlackPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlackPort")
            .field("language", &self.language)
            .finish_non_exhaustive()
    }
}

fn invalid(op: &str) -> Error {
    Error::new(Kind::Invalid, "alert", op)
}

/// Plain http would show the address to the network, so it may go to this machine alone.
fn is_private(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

fn is_loopback(url: &Url) -> bool {
    let host = url
        .host_str()
        .unwrap_or("")
        .trim_start_matches('[')
        .trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Slack gives `Retry-After` in seconds; a second where it does not.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1)).min(RETRY_AFTER_MAX)
}

/// The alarm as a Block Kit message.
fn message(alert: &Alert, language: Language) -> Value {
    let (first, second) = match language {
        Language::Korean => (&alert.korean, &alert.english),
        Language::English => (&alert.english, &alert.korean),
    };
    let title = format!("{} · {}", title(alert.kind, language), alert.subject);
    let markdown = |text: String| json!({"type": "mrkdwn", "text": text});
    let section = |text| json!({"type": "section", "text": markdown(escaped(text, SECTION_MAX))});
    let header = json!({"type": "plain_text", "text": escaped(&title, HEADER_MAX)});
    let mut blocks = vec![
        json!({"type": "header", "text": header}),
        section(first),
        section(second),
    ];
    let field = |(name, value): &(String, String)| {
        markdown(escaped(&format!("*{name}*\n{value}"), FIELD_MAX))
    };
    let fields: Vec<_> = alert.figures.iter().take(FIELDS_MAX).map(field).collect();
    if !fields.is_empty() {
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    // Slack shows this in the reader's own zone.
    let (seconds, at) = (alert.at.as_second(), alert.at);
    let when = format!("<!date^{seconds}^{{date_short_pretty}} {{time_secs}}|{at}>");
    let context = markdown(format!("nightgate · `{}` · {when}", alert.kind.as_str()));
    blocks.push(json!({"type": "context", "elements": [context]}));
    json!({"text": escaped(&format!("{title}: {first}"), SECTION_MAX), "blocks": blocks})
}

fn title(kind: AlertKind, language: Language) -> &'static str {
    let (korean, english) = match kind {
        AlertKind::NothingMoved => ("발송이 시작되지 않음", "Nothing moved"),
        AlertKind::LaneFailing => ("발송 연속 실패", "Lane failing"),
        AlertKind::Buried => ("격리된 메시지", "Messages buried"),
        AlertKind::WillNotDrain => ("마감 전 발송 불가", "Will not drain"),
        AlertKind::ClockJumped => ("시스템 시각 변경", "Clock jumped"),
        AlertKind::ClockApart => ("시스템 시각 불일치", "Clocks apart"),
        AlertKind::StorePoisoned => ("저장소 쓰기 유실", "Store poisoned"),
        AlertKind::PartUnavailable => ("구성 요소 연결 불가", "Part unavailable"),
        AlertKind::HoldNearlyFull => ("보관 공간 부족", "Hold nearly full"),
        AlertKind::HoldFull => ("보관 공간 없음", "Hold full"),
        AlertKind::HoldDamaged => ("보관 파일 손상", "Hold damaged"),
        AlertKind::SourceFailing => ("수신 큐 장애", "Source queue failing"),
        AlertKind::SourceUnreadable => ("읽을 수 없는 메시지", "Unreadable messages"),
    };
    match language {
        Language::Korean => korean,
        Language::English => english,
    }
}

/// `text` after Slack's rule for `&`, `<` and `>`, cut to `max` with a mark. Slack does not say in
/// which units it counts: UTF-16 units, the larger count, are safe. No entity or character is cut.
fn escaped(text: &str, max: usize) -> String {
    let mut out = String::new();
    let (mut units, mut fits) = (0, 0);
    for letter in text.chars() {
        let start = out.len();
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            other => out.push(other),
        }
        units += out[start..].encode_utf16().count();
        if units > max {
            out.truncate(fits);
            out.push('…');
            return out;
        }
        // As far as this, one more unit still holds the mark.
        if units < max {
            fits = out.len();
        }
    }
    out
}

#[cfg(test)]
mod tests;

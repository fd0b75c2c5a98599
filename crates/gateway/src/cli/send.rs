//! `nightgate send`: posts a file of messages to a running gateway, and goes on where an earlier
//! run stopped.

mod feed;
mod post;
mod state;
mod tally;

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use jiff::SignedDuration;
use serde_json::{Value, json};

use self::feed::{Chunk, Feed};
use self::post::{Gateway, Trouble};
use self::state::State;
use self::tally::Report;
use super::{Common, Done, EXIT_FAILED, EXIT_OK, EXIT_PARTIAL, Failure, out, shown};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;

/// Tries without any line answered before a run gives up.
const TRIES_MAX: u32 = 8;
/// First wait between two tries; it doubles from there.
const WAIT_MIN: SignedDuration = SignedDuration::from_secs(1);
/// Longest wait between two tries, also if the gateway asks for a longer one.
const WAIT_MAX: SignedDuration = SignedDuration::from_secs(30);

/// Post a file of messages to a running gateway, resuming where it stopped.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate send messages.ndjson
  nightgate send messages.ndjson --url https://gate.example.com --token-file producer.token
  produce | nightgate send - --json > answers.ndjson
  nightgate send messages.ndjson --restart

One message a line:
  {\"id\":\"m-1\",\"recipient\":\"010-1234-5678\",\"channel\":\"sms\",\"purpose\":\"advertising\",
   \"campaign\":\"autumn\",\"body\":\"(광고) ...\"}
How far the gateway acknowledged is kept in FILE.nightgate-sent, until all is sent: after an
interruption, the same command goes on there. Lines that are sent twice are duplicates, not
messages: their ids see to that. A token is read from a file, the configuration or
NIGHTGATE_HTTP__PRODUCER_TOKEN, never from the command line.
Exit code 3: all was answered, but some lines were refused or invalid.")]
pub struct Send {
    /// The file, one message in JSON a line; `-` reads standard input
    file: PathBuf,
    /// The gateway's address [default: that of http.listen]
    #[arg(long)]
    url: Option<String>,
    /// File that holds the producer's token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Send from the beginning, whatever was sent before
    #[arg(long)]
    restart: bool,
    /// Keep no FILE.nightgate-sent
    #[arg(long)]
    no_resume: bool,
    /// Lines in one request
    #[arg(long, value_name = "LINES", default_value_t = 5_000,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    chunk: u32,
}

/// The address of the gateway that `config` describes, as it is reached from this machine.
pub(super) fn url_of(config: &Config) -> String {
    let listen = config.http.listen;
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

impl Send {
    pub(super) async fn run(self, common: &Common) -> Done {
        let config = common.load()?.config;
        let token = post::token(self.token_file.as_deref(), &config)?;
        let url = self.url.clone().unwrap_or_else(|| url_of(&config));
        let gateway = Gateway::new(&url, token)?;
        let (reader, bytes) = self.open()?;
        let mut feed = Feed::new(reader);
        let mut report = Report::default();
        if let Some(state) = self.state()? {
            state.resume(&self.file, &gateway.shown, &mut feed)?;
            report = Report::new(state.tally);
            if !common.json {
                out::say(&format!(
                    "going on behind line {}",
                    shown::grouped(feed.line)
                ))?;
            }
        }
        let template = match bytes {
            Some(_) => "{bar:40} {bytes}/{total_bytes}, {eta} left, {msg}",
            None => "{spinner} {bytes}, {msg}",
        };
        let bar = shown::bar(bytes, template)?;
        let json = common.json;
        let run = Run {
            gateway,
            clock: SystemClock::default(),
            bar,
            json,
            report,
        };
        self.pour(run, feed).await
    }

    /// Whether a state is kept at all.
    fn resumes(&self) -> bool {
        !self.no_resume && self.file.as_os_str() != "-"
    }

    fn state(&self) -> Result<Option<State>, Failure> {
        if self.restart || !self.resumes() {
            Ok(None)
        } else {
            State::read(&self.file)
        }
    }

    fn open(&self) -> Result<(Box<dyn Read + std::marker::Send>, Option<u64>), Failure> {
        if self.file.as_os_str() == "-" {
            return Ok((Box::new(std::io::stdin()), None));
        }
        let shown = self.file.display();
        let cannot = |error| Failure::failed(format!("{shown} cannot be read: {error}"));
        let file = File::open(&self.file).map_err(cannot)?;
        let bytes = file.metadata().map_err(cannot)?.len();
        Ok((Box::new(file), Some(bytes)))
    }

    /// Sends chunk by chunk; what was acknowledged is noted after each.
    async fn pour(&self, mut run: Run, mut feed: Feed) -> Done {
        let size = usize::try_from(self.chunk).unwrap_or(1);
        let mut given_up = None;
        loop {
            run.bar.set_position(feed.offset);
            let chunk = feed.chunk(size)?;
            if chunk.is_empty() {
                break;
            }
            if let Err(failure) = run.send(chunk).await {
                given_up = Some(failure);
                break;
            }
            if self.resumes() {
                let state = State {
                    url: run.gateway.shown.clone(),
                    offset: feed.offset,
                    lines: feed.line,
                    hash: feed.hash(),
                    tally: run.report.tally,
                };
                state.write(&self.file)?;
            }
        }
        run.bar.finish_and_clear();
        if let (None, true) = (&given_up, self.resumes()) {
            State::remove(&self.file)?;
        }
        let tally = run.report.tally;
        if run.json {
            out::say_json(&json!({ "summary": tally, "complete": given_up.is_none() }))?;
        } else if given_up.is_none() || tally.answered() > 0 {
            run.report.say()?;
        }
        match given_up {
            Some(failure) => {
                out::complain(&failure.text);
                Ok(EXIT_FAILED)
            }
            None if tally.turned_down() > 0 => Ok(EXIT_PARTIAL),
            None => Ok(EXIT_OK),
        }
    }
}

/// A file under way.
struct Run {
    gateway: Gateway,
    clock: SystemClock,
    bar: ProgressBar,
    json: bool,
    report: Report,
}

impl Run {
    /// Sends a chunk until each of its lines has its answer.
    async fn send(&mut self, chunk: Chunk) -> Result<(), Failure> {
        for line in chunk.too_long {
            let rule = format!("must be at most {} bytes", feed::LINE_MAX_BYTES);
            let fault = json!({ "field": "message", "rule": rule });
            self.take(json!({ "line": line, "status": "invalid", "faults": [fault] }))?;
        }
        let mut pending = chunk.lines;
        let mut tries = 0;
        while !pending.is_empty() {
            let before = pending.len();
            let trouble = self.try_once(&mut pending).await?;
            tries = if pending.len() < before { 1 } else { tries + 1 };
            if pending.is_empty() {
                break;
            }
            let (why, wait) = match trouble {
                Some(Trouble::Never(failure)) => return Err(failure),
                Some(Trouble::Nobody(why)) if self.report.tally.answered() == 0 => {
                    let shown = &self.gateway.shown;
                    return Err(Failure::failed(format!(
                        "no gateway answers at {shown} ({why}): start one with `nightgate serve`"
                    )));
                }
                Some(Trouble::Nobody(why)) => (why, None),
                Some(Trouble::Later(why, wait)) => (why, wait),
                None => ("the gateway could not store them".to_owned(), None),
            };
            if tries >= TRIES_MAX {
                self.report.tally.failed += pending.len() as u64;
                return Err(Failure::failed(format!(
                    "{why}: gave up after {tries} tries with {} of this chunk unanswered; the \
                     same command goes on here",
                    shown::messages(pending.len() as u64)
                )));
            }
            self.bar.set_message(format!("{why}; trying again"));
            let wait = wait.and_then(|wait| SignedDuration::try_from(wait).ok());
            let doubled = WAIT_MIN.saturating_mul(1 << (tries - 1).min(10));
            self.wait(wait.unwrap_or(doubled).min(WAIT_MAX)).await;
        }
        let tally = self.report.tally;
        self.bar
            .set_message(format!("{} lines", shown::grouped(tally.answered())));
        Ok(())
    }

    /// Posts what is pending, and takes out of it what got a final answer.
    async fn try_once(
        &mut self,
        pending: &mut Vec<(u64, Vec<u8>)>,
    ) -> Result<Option<Trouble>, Failure> {
        let mut body = Vec::with_capacity(pending.iter().map(|(_, line)| line.len() + 1).sum());
        for (_, line) in &*pending {
            body.extend_from_slice(line);
            body.push(b'\n');
        }
        let mut answers = Vec::new();
        let posted = self.gateway.post(body, |answer| answers.push(answer)).await;
        let mut done = vec![false; pending.len()];
        for mut answer in answers {
            // The gateway counts the lines of this request.
            let at = answer["line"]
                .as_u64()
                .and_then(|line| usize::try_from(line).ok());
            let Some(at) = at.and_then(|line| line.checked_sub(1)) else {
                continue;
            };
            let (Some((line, _)), Some(done)) = (pending.get(at), done.get_mut(at)) else {
                continue;
            };
            answer["line"] = Value::from(*line);
            *done = self.take(answer)?;
        }
        let mut done = done.into_iter();
        pending.retain(|_| !done.next().unwrap_or(false));
        Ok(posted.err())
    }

    /// Takes one answer in; says whether it is final.
    fn take(&mut self, answer: Value) -> Result<bool, Failure> {
        let last = self.report.take(&answer);
        if self.json && last {
            out::say_json(&answer)?;
        }
        Ok(last)
    }

    async fn wait(&self, span: SignedDuration) {
        let until = self.clock.now().saturating_add(span);
        let until = until.unwrap_or(jiff::Timestamp::MAX);
        while self.clock.now() < until {
            self.clock.sleep_until(until).await;
        }
    }
}

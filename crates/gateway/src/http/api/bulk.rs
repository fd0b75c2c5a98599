//! Messages by the million: NDJSON in, NDJSON out, in constant memory.
//!
//! Three steps run side by side: lines are read and parsed into batches; the gate accepts one batch
//! while the next is parsed; answers go out through a [spool], so that a client which
//! sends everything before it reads anything does not stand still, and costs no memory.
//!
//! [spool]: crate::http::spool

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use nightgate_core::Message;
use serde::Serialize;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::messages::is_problem;
use super::view::{AnswerStatus, MessageAnswer};
use super::{Api, to_the_end};
use crate::http::input::{Asked, NDJSON, media_type, wrong_type};
use crate::http::ndjson::{Lines, Next};
use crate::http::problem::Answer;
use crate::http::spool::{Writer, spool};
use crate::ingest::wire::{self, Faulty};

/// Lines that are worth a transaction of the hold while the gate has nothing else to do.
const BATCH_READY: usize = 1_000;
/// Most lines accepted in one go, gathered while the gate is busy with earlier ones: the larger the
/// transaction, the fewer index pages are written twice.
const BATCH_MAX: usize = 5_000;
/// Most bytes of lines in one batch; one is read, one waits and one is accepted at a time.
const BATCH_MAX_BYTES: usize = 8 * 1024 * 1024;
/// A batch goes to the gate when nothing more has come for so long.
const LULL: Duration = Duration::from_millis(5);
/// How long the head of the answer waits for the first line; see [`Lines::begin`].
const FIRST_LINE: Duration = Duration::from_secs(1);

/// Which answers a client wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum Wanted {
    /// One a line.
    All,
    /// Only of what was refused, invalid or failed.
    Problems,
    /// Only the summary.
    None,
}

fn wanted(text: &str) -> Result<Wanted, String> {
    match text {
        "all" => Ok(Wanted::All),
        "problems" => Ok(Wanted::Problems),
        "none" => Ok(Wanted::None),
        _ => Err("must be all, problems or none".to_owned()),
    }
}

/// The last line of a stream of answers.
#[derive(Default, Serialize, ToSchema)]
pub(in crate::http) struct BulkSummary {
    /// Lines that were not blank.
    lines: u64,
    /// Stored, and may leave now.
    accepted: u64,
    /// Stored, and held.
    held: u64,
    /// The rules say never.
    refused: u64,
    /// Known already.
    duplicate: u64,
    /// Wrong.
    invalid: u64,
    /// To be sent again.
    failed: u64,
    /// Whether the stream was read to its end.
    complete: bool,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    why: Option<&'static str>,
}

#[derive(Serialize)]
struct LastLine<'a> {
    summary: &'a BulkSummary,
}

impl BulkSummary {
    fn count(&mut self, status: AnswerStatus) {
        self.lines += 1;
        *match status {
            AnswerStatus::Accepted => &mut self.accepted,
            AnswerStatus::Held => &mut self.held,
            AnswerStatus::Refused => &mut self.refused,
            AnswerStatus::Duplicate => &mut self.duplicate,
            AnswerStatus::Invalid => &mut self.invalid,
            AnswerStatus::Failed => &mut self.failed,
        } += 1;
    }
}

/// Hands in a stream of messages, one a line
///
/// One answer line per input line, in order, blank lines aside; then one line
/// `{"summary": {...}}`. A line that is wrong costs only itself. If the store fails, the lines of
/// that batch are answered `failed` with `retry`, and the following lines are still tried. A client
/// may send everything before it reads. No summary line means that the answers broke off: send the
/// stream again, ids make that safe.
#[utoipa::path(
    post, path = "/v1/messages/bulk", tag = "messages",
    operation_id = "acceptStream",
    params(("answers" = inline(Option<Wanted>), Query, description = "Which answers to send")),
    request_body(
        content_type = "application/x-ndjson", content = String,
        example = "{\"id\":\"m-1\",\"recipient\":\"010-1234-5678\",\"channel\":\"sms\",\
            \"purpose\":\"informational\",\"body\":\"hello\"}\n",
    ),
    responses((
        status = 200, description = "Answers (schema MessageAnswer), then the summary",
        body = BulkSummary, content_type = "application/x-ndjson",
    )),
)]
pub(super) async fn bulk(State(api): State<Arc<Api>>, request: Request) -> Answer<Response> {
    let mut asked = Asked::read(request.uri(), &["answers"])?;
    let wanted = asked.read_as("answers", wanted).unwrap_or(Wanted::All);
    asked.done()?;
    let media = media_type(request.headers()).unwrap_or_default();
    if !NDJSON.contains(&media.as_str()) {
        return Err(wrong_type(&NDJSON));
    }
    let limits = &api.limits;
    let (line_max, idle) = (limits.bulk_line_max_bytes, limits.bulk_idle_timeout);
    let mut lines = Lines::new(request.into_body(), line_max, idle);
    lines.begin(FIRST_LINE.min(idle)).await;
    let (sender, batches) = mpsc::channel(1);
    let (writer, answers) = spool();
    tokio::spawn(read(lines, sender));
    tokio::spawn(answer(api, batches, wanted, writer));
    let body = Body::from_stream(answers);
    Ok(([(CONTENT_TYPE, NDJSON[0])], body).into_response())
}

/// Lines that go to the gate together.
#[derive(Default)]
struct Batch {
    lines: Vec<(u64, Result<Message, Faulty>)>,
    bytes: usize,
}

enum Step {
    Batch(Batch),
    End,
    Broken(&'static str),
}

async fn read(mut lines: Lines, sender: mpsc::Sender<Step>) {
    let mut batch = Batch::default();
    loop {
        // While the gate is busy with earlier batches there is no hurry to end this one.
        let lull = (!batch.lines.is_empty()).then_some(LULL);
        let mut full = false;
        let last = match lines.next(lull).await {
            Next::Line(number, line) => {
                batch.bytes += line.len();
                batch.lines.push((number, wire::read(&line)));
                let enough = match sender.capacity() {
                    0 => BATCH_MAX,
                    _ => BATCH_READY,
                };
                full = batch.lines.len() >= enough || batch.bytes >= BATCH_MAX_BYTES;
                None
            }
            Next::TooLong(number) => {
                batch
                    .lines
                    .push((number, Err(Faulty::whole("is longer than a line may be"))));
                full = batch.lines.len() >= BATCH_MAX;
                None
            }
            Next::Lull => {
                full = sender.capacity() > 0;
                None
            }
            Next::End => Some(Step::End),
            Next::Broken(why) => Some(Step::Broken(why)),
        };
        let ready = full || (last.is_some() && !batch.lines.is_empty());
        // Nobody takes batches any more: the client has gone.
        if ready
            && sender
                .send(Step::Batch(std::mem::take(&mut batch)))
                .await
                .is_err()
        {
            return;
        }
        if let Some(last) = last {
            let _ = sender.send(last).await;
            return;
        }
    }
}

async fn answer(api: Arc<Api>, mut batches: mpsc::Receiver<Step>, wanted: Wanted, writer: Writer) {
    let mut summary = BulkSummary::default();
    let patience = api.limits.bulk_idle_timeout;
    while let Some(step) = batches.recv().await {
        let last = match step {
            Step::Batch(batch) => {
                let mut text = Vec::with_capacity(batch.lines.len() * 128);
                for answer in accept(&api, batch).await {
                    summary.count(answer.status);
                    let written = match wanted {
                        Wanted::All => true,
                        Wanted::Problems => is_problem(answer.status),
                        Wanted::None => false,
                    };
                    if written {
                        write_line(&mut text, &answer);
                    }
                }
                if let Err(error) = writer.push(text.into(), patience).await {
                    tracing::debug!(%error, "answers to a bulk stream broke off");
                    return;
                }
                continue;
            }
            Step::End => {
                summary.complete = true;
                None
            }
            Step::Broken(why) => Some(why),
        };
        summary.why = last;
        let mut text = Vec::new();
        write_line(&mut text, &LastLine { summary: &summary });
        if writer.push(text.into(), patience).await.is_ok() {
            writer.finish();
        }
        return;
    }
}

fn write_line(text: &mut Vec<u8>, line: &impl Serialize) {
    // Writing these shapes into memory cannot fail.
    let _ = serde_json::to_writer(&mut *text, line);
    text.push(b'\n');
}

/// One answer a line, in order.
async fn accept(api: &Arc<Api>, batch: Batch) -> Vec<MessageAnswer> {
    let mut messages = Vec::with_capacity(batch.lines.len());
    let mut answers = Vec::with_capacity(batch.lines.len());
    for (line, read) in batch.lines {
        let answer = match read {
            Ok(message) => {
                // Right if the gate fails, else replaced by its answer.
                let failed = MessageAnswer::failed(message.id.to_string());
                messages.push(message);
                failed
            }
            Err(faulty) => {
                api.metrics.malformed(1);
                MessageAnswer::faulty(faulty)
            }
        };
        answers.push(MessageAnswer {
            line: Some(line),
            ..answer
        });
    }
    if messages.is_empty() {
        return answers;
    }
    let gate = Arc::clone(&api.gate);
    let accepted = to_the_end(async move { Ok(gate.accept(messages).await?) }).await;
    let Ok(accepted) = accepted else {
        return answers;
    };
    let house = &api.house().zone;
    let mut accepted = accepted.into_iter();
    for answer in &mut answers {
        if answer.status == AnswerStatus::Failed
            && let Some(accepted) = accepted.next()
        {
            *answer = MessageAnswer {
                line: answer.line,
                ..MessageAnswer::of(accepted, house, false)
            };
        }
    }
    answers
}

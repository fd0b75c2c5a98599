//! Messages by the million: NDJSON in, NDJSON out, in constant memory.
//!
//! Four steps run side by side, each on another batch: lines are read and parsed; the gate decides
//! and puts; it files the receipts; answers go out through a [spool], so that a client which sends
//! everything before it reads anything does not stand still, and costs no memory. Batches pass each
//! step in the order of their lines.
//!
//! [spool]: crate::http::spool

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use nightgate_core::Message;
use serde::Serialize;
use tokio::sync::mpsc;
use utoipa::ToSchema;

use super::lines::{Pen, is_problem, write_line};
use super::view::AnswerStatus;
use super::{Api, to_the_end};
use crate::gate::{Accepted, Detail, Entered, Failed};
use crate::http::input::{Asked, NDJSON, media_type, wrong_type};
use crate::http::ndjson::{Lines, More, Taken};
use crate::http::problem::Answer;
use crate::http::spool::{Writer, spool};
use crate::ingest::wire::{Faulty, Reader};

/// Lines that are worth a transaction of the hold while the gate has nothing else to do.
const BATCH_READY: usize = 1_000;
/// Most lines accepted in one go, gathered while the gate is busy with earlier ones: the larger the
/// transaction, the fewer index pages are written twice.
const BATCH_MAX: usize = 5_000;
/// Most bytes of lines in one batch; one is read, one waits and one is put at a time.
const BATCH_MAX_BYTES: usize = 8 * 1024 * 1024;
/// A batch goes to the gate when nothing more has come for so long.
const LULL: Duration = Duration::from_millis(5);
/// Most bytes of answers that are handed to the client's connection at once.
const PIECE_BYTES: usize = 128 * 1024;
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
    let (entered, entering) = mpsc::channel(1);
    tokio::spawn(read(lines, sender));
    tokio::spawn(put(Arc::clone(&api), batches, entered));
    tokio::spawn(answer(api, entering, wanted, writer));
    let body = Body::from_stream(answers);
    Ok(([(CONTENT_TYPE, NDJSON[0])], body).into_response())
}

/// Lines that go to the gate together.
#[derive(Default)]
struct Batch {
    /// The number of each line.
    numbers: Vec<u64>,
    /// Of the lines that can be read.
    messages: Vec<Message>,
    /// What is wrong with the others, by their place among the lines.
    faulty: Vec<(usize, Faulty)>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, taken: Taken<'_>, reader: &mut Reader) {
        let (number, read) = match taken {
            Taken::TooLong(number) => {
                let rule = "is longer than a line may be";
                (number, Err(Faulty::whole(rule)))
            }
            Taken::Line {
                number,
                text,
                buffer,
            } => {
                self.bytes += text.len();
                (number, reader.read(text, buffer))
            }
        };
        match read {
            Ok(message) => self.messages.push(message),
            Err(faulty) => self.faulty.push((self.numbers.len(), faulty)),
        }
        self.numbers.push(number);
    }

    fn is_full(&self, sender: &mpsc::Sender<Step>) -> bool {
        let enough = match sender.capacity() {
            0 => BATCH_MAX,
            _ => BATCH_READY,
        };
        self.numbers.len() >= enough || self.bytes >= BATCH_MAX_BYTES
    }

    /// Sends what was gathered and begins anew; whether anybody still takes it.
    async fn send(&mut self, reader: &mut Reader, sender: &mpsc::Sender<Step>) -> bool {
        reader.next_batch();
        // The next will hardly be smaller.
        let next = Self {
            numbers: Vec::with_capacity(self.numbers.len()),
            messages: Vec::with_capacity(self.messages.len()),
            ..Self::default()
        };
        let full = std::mem::replace(self, next);
        sender.send(Step::Batch(full)).await.is_ok()
    }
}

enum Step {
    Batch(Batch),
    End,
    Broken(&'static str),
}

async fn read(mut lines: Lines, sender: mpsc::Sender<Step>) {
    let (mut reader, mut batch) = (Reader::default(), Batch::default());
    let last = loop {
        while let Some(taken) = lines.take() {
            batch.add(taken, &mut reader);
            // Nobody takes batches any more: the client has gone.
            if batch.is_full(&sender) && !batch.send(&mut reader, &sender).await {
                return;
            }
        }
        let lull = (!batch.numbers.is_empty()).then_some(LULL);
        match lines.more(lull).await {
            More::Piece => {}
            // While the gate is busy with earlier batches there is no hurry to end this one.
            More::Lull if sender.capacity() == 0 => {}
            More::Lull => {
                if !batch.send(&mut reader, &sender).await {
                    return;
                }
            }
            More::End => break Step::End,
            More::Broken(why) => break Step::Broken(why),
        }
    };
    if batch.numbers.is_empty() || batch.send(&mut reader, &sender).await {
        let _ = sender.send(last).await;
    }
}

/// A batch behind the first half of the gate.
enum Put {
    /// Its lines, and what was put of them; nothing if the gate broke.
    Batch(Batch, Option<Box<Entered>>),
    End,
    Broken(&'static str),
}

async fn put(api: Arc<Api>, mut batches: mpsc::Receiver<Step>, sender: mpsc::Sender<Put>) {
    while let Some(step) = batches.recv().await {
        let put = match step {
            Step::Batch(mut batch) => {
                if !batch.faulty.is_empty() {
                    api.metrics.malformed(batch.faulty.len() as u64);
                }
                let (gate, messages) = (Arc::clone(&api.gate), std::mem::take(&mut batch.messages));
                let put = async move { Ok(gate.put(messages, Detail::Rulings).await) };
                Put::Batch(batch, to_the_end(put).await.ok().map(Box::new))
            }
            Step::End => Put::End,
            Step::Broken(why) => Put::Broken(why),
        };
        // As in `rest`.
        if let Err(mpsc::error::SendError(Put::Batch(_, Some(entered)))) = sender.send(put).await {
            let _ = file(&api, *entered).await;
            return;
        }
    }
}

/// The second half of the gate; nothing if it broke.
async fn file(api: &Arc<Api>, entered: Entered) -> Option<Result<Vec<Accepted>, Failed>> {
    let gate = Arc::clone(&api.gate);
    to_the_end(async move { Ok(gate.file(entered).await) })
        .await
        .ok()
}

async fn answer(api: Arc<Api>, mut batches: mpsc::Receiver<Put>, wanted: Wanted, writer: Writer) {
    let mut summary = BulkSummary::default();
    let patience = api.limits.bulk_idle_timeout;
    while let Some(step) = batches.recv().await {
        let last = match step {
            Put::Batch(batch, entered) => {
                let filed = match entered {
                    Some(entered) => file(&api, *entered).await,
                    None => None,
                };
                let text = tell(&api, batch, filed, wanted, &mut summary);
                if let Err(error) = push(&writer, text, patience).await {
                    tracing::debug!(%error, "answers to a bulk stream broke off");
                    return rest(&api, batches).await;
                }
                continue;
            }
            Put::End => {
                summary.complete = true;
                None
            }
            Put::Broken(why) => Some(why),
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

/// Nobody reads answers any more: what was put is still to get its receipts.
async fn rest(api: &Arc<Api>, mut batches: mpsc::Receiver<Put>) {
    batches.close();
    while let Some(put) = batches.recv().await {
        if let Put::Batch(_, Some(entered)) = put {
            let _ = file(api, *entered).await;
        }
    }
}

/// In pieces of which the spool keeps several in memory.
async fn push(writer: &Writer, text: Vec<u8>, patience: Duration) -> std::io::Result<()> {
    let mut text = Bytes::from(text);
    while !text.is_empty() {
        let piece = text.split_to(text.len().min(PIECE_BYTES));
        writer.push(piece, patience).await?;
    }
    Ok(())
}

/// One answer a line, in order, as far as they are wanted.
fn tell(
    api: &Api,
    batch: Batch,
    filed: Option<Result<Vec<Accepted>, Failed>>,
    wanted: Wanted,
    summary: &mut BulkSummary,
) -> Vec<u8> {
    let lines = if wanted == Wanted::All {
        batch.numbers.len()
    } else {
        0
    };
    let mut pen = Pen::new(&api.house().zone, lines);
    let is_stored = matches!(filed, Some(Ok(_)));
    let answers = match filed {
        Some(Ok(answers)) => answers,
        Some(Err(failed)) => failed.answers,
        None => Vec::new(),
    };
    let mut answers = answers.into_iter();
    let mut faulty = batch.faulty.into_iter().peekable();
    for (place, line) in batch.numbers.into_iter().enumerate() {
        let faulty = faulty.next_if(|(faulty, _)| *faulty == place);
        let answer = if faulty.is_none() {
            answers.next()
        } else {
            None
        };
        let status = match &answer {
            _ if faulty.is_some() => AnswerStatus::Invalid,
            Some(answer) if is_stored => answer.status.into(),
            _ => AnswerStatus::Failed,
        };
        summary.count(status);
        let written = match wanted {
            Wanted::All => true,
            Wanted::Problems => is_problem(status),
            Wanted::None => false,
        };
        match (faulty, answer) {
            _ if !written => {}
            (Some((_, faulty)), _) => pen.faulty(line, faulty),
            (None, Some(answer)) if is_stored => pen.accepted(line, answer),
            (None, answer) => pen.failed(line, answer.as_ref().map(|it| it.id.as_str())),
        }
    }
    pen.done()
}

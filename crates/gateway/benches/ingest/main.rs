//! What one message costs between the socket and the stores, step by step.
//!
//! `cargo bench -p nightgate --bench ingest -- [LINES]`. The stores are stand-ins that keep
//! nothing, so that only the road itself is seen.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod world;

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use http_body_util::BodyExt;
use nightgate::clock::{Clock, SystemClock};
use nightgate::gate::Detail;
use nightgate::http::api::lines::Pen;
use nightgate::http::ndjson::{Lines, More, Taken};
use nightgate::ingest::wire::Reader;
use nightgate_core::{Message, RecipientKey};
use tower::ServiceExt;

use world::World;

type Outcome<T> = Result<T, Box<dyn Error>>;

const LINES_DEFAULT: usize = 500_000;
/// Lines in one call of the gate.
const BATCH: usize = 5_000;
/// Recipients the consent book knows.
const RECIPIENTS: usize = 1_000_000;
/// A piece of a body as hyper gives it.
const PIECE_BYTES: usize = 64 * 1024;
const TEXT: &str = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ";

/// Times steps and prints them.
struct Watch {
    clock: SystemClock,
    lines: usize,
}

impl Watch {
    /// By the processor's time: others may be at work on this machine.
    fn step<T>(&self, name: &str, work: impl FnOnce() -> T) -> Outcome<T> {
        let start = cpu()?;
        let made = work();
        self.tell(name, cpu()?.saturating_sub(start));
        Ok(made)
    }

    fn tell(&self, name: &str, took: Duration) {
        let each = took.as_secs_f64() * 1e9 / self.lines as f64;
        println!("{name:<52} {each:>8.0} ns a message");
    }
}

/// Processor time of this process so far: all threads, user and system.
fn cpu() -> Outcome<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let spent = stat.split_whitespace().next().unwrap_or("0");
        nanos += spent.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// The notice that the peers' benches send, in our form: some 300 bytes.
fn line(number: usize) -> String {
    let from = number * 7 % TEXT.len();
    let text: String = TEXT.chars().cycle().skip(from).take(190).collect();
    format!(
        "{{\"id\":\"m-{number:09}\",\"recipient\":\"+8210{:08}\",\"channel\":\"sms\",\
         \"purpose\":\"advertising\",\"campaign\":\"cmp-{:04}\",\"body\":\"{text}\"}}\n",
        world::subscriber(number, RECIPIENTS),
        number % 50
    )
}

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let lines = args
        .next()
        .map_or(Ok(LINES_DEFAULT), |text| text.parse::<usize>())?;
    let only = args.next();
    let wanted = |step: &str| only.as_deref().is_none_or(|only| only == step);
    let body: String = (0..lines).map(line).collect();
    let body = Bytes::from(body);
    let clock = SystemClock::default();
    let watch = Watch { clock, lines };
    println!("{lines} lines of {} bytes", body.len() / lines);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let world = World::new(RECIPIENTS);
    if wanted("steps") {
        let pieces = pieces(&body);
        let split = || assert_eq!(runtime.block_on(split(pieces)), lines);
        watch.step("split into lines", split)?;
        let messages = read(&watch, &body)?;
        decided(&watch, &world, &runtime, messages)?;
    }
    for answers in ["all", "problems"] {
        if wanted(answers) {
            road(&watch, &world, &runtime, &body, answers)?;
        }
    }
    Ok(())
}

/// The body in pieces, each in memory of its own.
fn pieces(body: &Bytes) -> Body {
    let pieces: Vec<_> = (0..body.len())
        .step_by(PIECE_BYTES)
        .map(|at| &body[at..(at + PIECE_BYTES).min(body.len())])
        .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
        .collect();
    Body::from_stream(futures_util::stream::iter(pieces))
}

/// Splits the body into lines.
async fn split(pieces: Body) -> usize {
    let idle = Duration::from_secs(1);
    let mut lines = Lines::new(pieces, PIECE_BYTES, idle);
    let mut count = 0;
    loop {
        while let Some(taken) = lines.take() {
            count += usize::from(matches!(black_box(taken), Taken::Line { .. }));
        }
        if lines.more(None).await != More::Piece {
            return count;
        }
    }
}

fn read(watch: &Watch, body: &Bytes) -> Outcome<Vec<Message>> {
    let lines: Vec<Bytes> = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| body.slice_ref(line))
        .collect();
    watch.step("read, and dropped at once", || {
        let mut reader = Reader::default();
        for line in &lines {
            drop(black_box(reader.read(line, body)));
        }
    })?;
    watch.step("read, and kept", || {
        let mut reader = Reader::default();
        let mut all = Vec::with_capacity(lines.len());
        for batch in lines.chunks(BATCH) {
            reader.next_batch();
            all.extend(batch.iter().filter_map(|line| reader.read(line, body).ok()));
        }
        all
    })
}

fn decided(
    watch: &Watch,
    world: &World,
    runtime: &tokio::runtime::Runtime,
    messages: Vec<Message>,
) -> Outcome<()> {
    watch.step("faults", || {
        for message in &messages {
            drop(black_box(message.faults()));
        }
    })?;
    let decider = world.gate.decider();
    let keys: Vec<RecipientKey> = watch.step("key, kept", || {
        messages
            .iter()
            .map(|message| decider.key(message))
            .collect()
    })?;
    watch.step("route", || {
        for message in &messages {
            drop(black_box(world.routes.lane(message).cloned()));
        }
    })?;
    let asked: Vec<_> = keys.chunks(BATCH).collect();
    watch.step("of the next: the book", || {
        for keys in &asked {
            drop(black_box(runtime.block_on(world.consent.look_up(keys))));
        }
    })?;
    watch.step("decide_now, consent book and all", || {
        for (messages, keys) in messages.chunks(BATCH).zip(keys.chunks(BATCH)) {
            let messages: Vec<&Message> = messages.iter().collect();
            let keys: Vec<&RecipientKey> = keys.iter().collect();
            let decided = decider.decide_now(&messages, &keys, &*world.clock);
            drop(black_box(runtime.block_on(decided)));
        }
    })?;
    let mut batches = Vec::new();
    let mut messages = messages.into_iter();
    loop {
        let batch: Vec<Message> = messages.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        batches.push(batch);
    }
    let answers = watch.step("the gate, all of the above after reading", || {
        let mut answers = Vec::new();
        for batch in batches {
            let both = async {
                let entered = world.gate.put(batch, Detail::Rulings).await;
                world.gate.file(entered).await
            };
            answers.extend(runtime.block_on(both).ok());
        }
        answers
    })?;
    watch.step("answers, written", || {
        for answers in answers {
            let mut pen = Pen::new(&decider.house().zone, answers.len());
            for (line, answer) in (1..).zip(answers) {
                pen.accepted(line, answer);
            }
            drop(black_box(pen.done()));
        }
    })
}

/// From the pieces of a body to those of an answer, without a socket.
fn road(
    watch: &Watch,
    world: &World,
    runtime: &tokio::runtime::Runtime,
    body: &Bytes,
    answers: &str,
) -> Outcome<()> {
    let pieces = pieces(body);
    let request = Request::builder()
        .method("POST")
        .uri(format!("/v1/messages/bulk?answers={answers}"))
        .header("host", "localhost")
        .header("content-type", "application/x-ndjson")
        .body(pieces)?;
    let (start, spent) = (watch.clock.monotonic(), cpu()?);
    let bytes = runtime.block_on(async {
        let response = world.app.clone().oneshot(request).await?;
        let mut body = response.into_body();
        let (mut bytes, mut last) = (0, Bytes::new());
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                bytes += data.len();
                last = data;
            }
        }
        println!(
            "{}",
            String::from_utf8_lossy(&last[last.len().saturating_sub(150)..]).trim()
        );
        Ok::<_, Box<dyn Error>>(bytes)
    })?;
    let took = watch.clock.monotonic().saturating_sub(start);
    watch.tell(&format!("road, answers={answers}: on the clock"), took);
    watch.tell(
        &format!(
            "road, answers={answers}: processor ({} MB out)",
            bytes / 1_000_000
        ),
        cpu()?.saturating_sub(spent),
    );
    Ok(())
}

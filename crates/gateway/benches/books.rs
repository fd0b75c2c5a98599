//! How fast the consent book and the receipt log on SQLite answer, beside the disk of the same run.
//!
//! `cargo bench --bench books -- [RECIPIENTS] [MESSAGES]`: recipients and ids in no order, as
//! producers send them. Each message gets three receipts. CPU is that of all threads, less what
//! making the receipts costs; bytes written are those the process handed to the file system.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::error::Error;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nightgate::clock::{Clock, SystemClock};
use nightgate::consent::ConsentBook;
use nightgate::consent::import::{Format, import, rows};
use nightgate::consent::sqlite::SqliteBook;
use nightgate::lane::Lane;
use nightgate::receipt::sqlite::SqliteLog;
use nightgate::receipt::{Event, Receipt, ReceiptAsk, ReceiptLog, Subject, export};
use nightgate_core::{
    Basis, Channel, Code, ConsentSnapshot, MessageId, Purpose, Reason, RecipientKey, Standing,
    ZoneSource,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

const RECIPIENTS_DEFAULT: u64 = 1_000_000;
const MESSAGES_DEFAULT: u64 = 400_000;
/// Recipients in one call.
const GROUP: u64 = 1_000;
/// Receipts in one call, as the gate and the releaser make them.
const APPEND: u64 = 5_000;
/// Callers that append at the same time.
const CALLERS: u64 = 3;
/// Look-ups of consents in calls of a group.
const LOOK_UPS: u64 = 1_000_000;
/// Look-ups of receipts one by one.
const QUERIES: u64 = 200;
/// Calls that ask whether messages are known.
const KNOWNS: u32 = 10;
/// Bytes of a receipt in the probe of the disk: what one takes in the file.
const RECEIPT_BYTES: u64 = 30;

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome<()> {
    let mut numbers = std::env::args().filter_map(|arg| arg.parse().ok());
    let recipients = numbers.next().unwrap_or(RECIPIENTS_DEFAULT);
    let messages = numbers.next().unwrap_or(MESSAGES_DEFAULT);
    let dir = tempfile::tempdir_in(std::env::var("BENCH_DIR").unwrap_or("/tmp".to_owned()))?;
    let clock = SystemClock::default();
    probe(&clock, dir.path(), messages)?;
    if recipients > 0 {
        consents(&clock, dir.path(), recipients).await?;
    }
    receipts(clock, dir.path(), messages / APPEND * APPEND).await
}

/// The same bytes, written and synced a group at a time.
fn probe(clock: &SystemClock, dir: &Path, many: u64) -> Outcome<()> {
    let mut file = File::create(dir.join("probe"))?;
    let group = vec![7; usize::try_from(APPEND * RECEIPT_BYTES)?];
    let start = clock.monotonic();
    for _ in 0..many / APPEND {
        file.write_all(&group)?;
        file.sync_data()?;
    }
    say(
        "disk: write and sync that many receipts' bytes",
        many,
        clock.monotonic() - start,
    );
    Ok(())
}

async fn consents(clock: &SystemClock, dir: &Path, recipients: u64) -> Outcome<()> {
    let path = dir.join("consent.db");
    let book = SqliteBook::open(&path)?;
    let mut csv = String::from("recipient,scope,at,act\n");
    for number in 0..recipients {
        let month = number % 9 + 1;
        writeln!(
            csv,
            "{},general,2026-0{month}-02T10:00:00+09:00,",
            person(number)
        )?;
    }
    let (start, cpu) = (clock.monotonic(), spent()?);
    let rows = rows(std::io::Cursor::new(csv), Format::Csv, "KR", "bench");
    let summary = import(&book, rows, |_| {}).await?;
    let took = clock.monotonic() - start;
    say("consent: import from CSV", summary.lines, took);
    say_cpu("  CPU", summary.lines, cpu.till(&spent()?));
    drop(book);
    let book = SqliteBook::open(&path)?;
    let mut random = fastrand::Rng::with_seed(8);
    for what in [
        "consent: look up, cold",
        "consent: look up, then",
        "consent: look up, warm",
    ] {
        let (mut took, mut cpu) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..LOOK_UPS / GROUP {
            let keys: Vec<_> = (0..GROUP)
                .map(|_| RecipientKey::from_stored(&person(random.u64(0..recipients))))
                .collect();
            let (start, begun) = (clock.monotonic(), spent()?);
            book.look_up(&keys).await?;
            took += clock.monotonic() - start;
            cpu += begun.till(&spent()?);
        }
        say(what, LOOK_UPS, took);
        say_cpu("  CPU", LOOK_UPS, cpu);
    }
    Ok(())
}

async fn receipts(clock: SystemClock, dir: &Path, messages: u64) -> Outcome<()> {
    let path = dir.join("receipts.db");
    let log = Arc::new(SqliteLog::open(&path)?);
    let before = spent()?;
    for (attempt, event) in [Event::Held, Event::Attempted, Event::Delivered]
        .into_iter()
        .enumerate()
    {
        let (made, start) = (making(messages, event, attempt)?, clock.monotonic());
        let begun = spent()?;
        let mut callers = Vec::new();
        for caller in 0..CALLERS {
            let log = Arc::clone(&log);
            callers.push(tokio::spawn(async move {
                for first in (caller * APPEND..messages).step_by((CALLERS * APPEND) as usize) {
                    let batch = batch(first, event, attempt).map_err(|error| error.to_string())?;
                    let filed = log.append(batch).await;
                    filed.map_err(|error| error.to_string())?;
                }
                Ok::<_, String>(())
            }));
        }
        for caller in callers {
            caller.await??;
        }
        let took = clock.monotonic() - start;
        say(&format!("receipts: file `{event}`"), messages, took);
        let cpu = begun.till(&spent()?).saturating_sub(made);
        say_cpu("  CPU", messages, cpu);
    }
    let lines = 3 * messages;
    let written = spent()?.written - before.written;
    drop(log);
    let bytes = std::fs::metadata(&path)?.len();
    println!(
        "  file: {} bytes a receipt, {} written",
        bytes / lines,
        written / lines
    );
    let log = Arc::new(SqliteLog::open(&path)?);
    queries(&clock, &log, messages).await?;
    let log: Arc<dyn ReceiptLog> = log;
    let start = clock.monotonic();
    let all = ReceiptAsk::default();
    let lines = export::export(log, all, false, 1_000, &mut std::io::sink()).await?;
    say("receipts: export", lines, clock.monotonic() - start);
    Ok(())
}

/// The CPU that making the receipts takes by itself.
fn making(messages: u64, event: Event, attempt: usize) -> Outcome<Duration> {
    let start = spent()?;
    for first in (0..messages).step_by(APPEND as usize) {
        std::hint::black_box(batch(first, event, attempt)?);
    }
    Ok(start.till(&spent()?))
}

async fn queries(clock: &SystemClock, log: &SqliteLog, messages: u64) -> Outcome<()> {
    let mut random = fastrand::Rng::with_seed(9);
    for what in ["message", "recipient"] {
        let mut found = 0;
        let (start, cpu) = (clock.monotonic(), spent()?);
        for _ in 0..QUERIES {
            let subject = receipt(random.u64(0..messages), Event::Held, 0, &shared())?.subject;
            let mut ask = ReceiptAsk::default();
            match what {
                "message" => ask.message = subject.message,
                _ => ask.recipient = subject.recipient,
            }
            found += log.query(&ask).await?.len();
        }
        let took = (clock.monotonic() - start) / u32::try_from(QUERIES)?;
        let cpu = cpu.till(&spent()?) / u32::try_from(QUERIES)?;
        let each = found as u64 / QUERIES;
        println!("receipts: the {each} of one {what} {took:>20.2?}, CPU {cpu:.2?}");
    }
    for (what, from) in [("new", messages), ("known", 0)] {
        let id = |number| MessageId::new(&id_of(number));
        let ids: Vec<_> = (from..from + APPEND).map(id).collect::<Result<_, _>>()?;
        let mut known = Vec::new();
        let (start, cpu) = (clock.monotonic(), spent()?);
        for _ in 0..KNOWNS {
            known = log.known(&ids).await?;
        }
        let took = (clock.monotonic() - start) / KNOWNS;
        let cpu = cpu.till(&spent()?) / KNOWNS;
        let many = known.iter().filter(|known| **known).count();
        println!("receipts: {many} known of {APPEND} {what} messages {took:>12.2?}, CPU {cpu:.2?}");
    }
    Ok(())
}

/// What the receipts of one campaign share, as the gate hands it on.
struct Shared {
    campaign: Arc<str>,
    lane: Lane,
    rule: Arc<str>,
    ruleset: Arc<str>,
    zone: Arc<str>,
}

fn shared() -> Shared {
    Shared {
        campaign: "weekend".into(),
        lane: Lane::new("main"),
        rule: "kr.night".into(),
        ruleset: "0123456789abcdef".into(),
        zone: "Asia/Seoul".into(),
    }
}

fn batch(first: u64, event: Event, attempt: usize) -> Outcome<Vec<Receipt>> {
    let shared = shared();
    let numbers = first..first + APPEND;
    numbers
        .map(|number| receipt(number, event, attempt, &shared))
        .collect()
}

fn id_of(number: u64) -> String {
    format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn receipt(number: u64, event: Event, attempt: usize, shared: &Shared) -> Outcome<Receipt> {
    let at = Timestamp::from_second(1_795_348_800)?;
    // Given some time in the last two years, and good until that day comes round.
    let ago = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 63_000_000;
    let since = at - SignedDuration::from_secs(i64::try_from(ago)?);
    let day = since.as_second().div_euclid(86_400) + 730;
    let subject = Subject {
        message: Some(MessageId::new(&id_of(number))?),
        recipient: Some(RecipientKey::from_stored(&person(number))),
        campaign: Some(Arc::clone(&shared.campaign)),
        lane: Some(shared.lane.clone()),
        purpose: Some(Purpose::Advertising),
        channel: Some(Channel::Sms),
    };
    let general = Standing::Valid {
        since,
        until: Some(Timestamp::from_second(day * 86_400)?),
        basis: Basis::Explicit,
    };
    let reason = Reason {
        code: Code::QuietHours,
        rule: Some(Arc::clone(&shared.rule)),
        ruleset: Arc::clone(&shared.ruleset),
        zone: Arc::clone(&shared.zone),
        zone_source: ZoneSource::Number,
        opens: Some(at),
        closes: None,
        consent: ConsentSnapshot {
            general,
            night: Standing::None,
        },
    };
    Ok(Receipt {
        attempt: u32::try_from(attempt)?,
        until: Some(at),
        reason: (event != Event::Delivered).then_some(reason),
        ..Receipt::of(event, subject, at)
    })
}

/// A Korean mobile number; neighbours are far apart.
fn person(number: u64) -> String {
    let scattered = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    format!("+8210{:08}", (scattered ^ number) % 100_000_000)
}

/// What the process has used so far.
struct Spent {
    cpu: Duration,
    written: u64,
}

impl Spent {
    fn till(&self, later: &Self) -> Duration {
        later.cpu.saturating_sub(self.cpu)
    }
}

fn spent() -> Outcome<Spent> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    let io = std::fs::read_to_string("/proc/self/io")?;
    let written = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    Ok(Spent {
        cpu: Duration::from_millis(ticks * 10),
        written: written.and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
    })
}

fn say(what: &str, many: u64, took: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "a figure for a person")]
    let rate = many as f64 / took.as_secs_f64();
    println!("{what:<46} {:>8.2} s {rate:>10.0} /s", took.as_secs_f64());
}

fn say_cpu(what: &str, many: u64, cpu: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "a figure for a person")]
    let each = cpu.as_secs_f64() * 1e6 / many as f64;
    println!(
        "{what:<46} {:>8.2} s {each:>10.3} us each",
        cpu.as_secs_f64()
    );
}

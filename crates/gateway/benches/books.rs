//! How fast the consent book and the receipt log on SQLite answer, beside the disk of the same run.
//!
//! `cargo bench --bench books -- [RECIPIENTS] [MESSAGES]`: recipients and ids in no order, as
//! producers send them.
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
const MESSAGES_DEFAULT: u64 = 200_000;
/// Recipients or receipts in one call.
const GROUP: u64 = 1_000;
/// Look-ups in calls of a group.
const LOOK_UPS: u64 = 300_000;
/// Bytes of a receipt in the probe of the disk: what one takes in the file.
const RECEIPT_BYTES: u64 = 140;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut numbers = std::env::args().filter_map(|arg| arg.parse().ok());
    let recipients = numbers.next().unwrap_or(RECIPIENTS_DEFAULT);
    let messages = numbers.next().unwrap_or(MESSAGES_DEFAULT);
    let dir = tempfile::tempdir_in(std::env::var("BENCH_DIR").unwrap_or("/tmp".to_owned()))?;
    let clock = SystemClock::default();
    probe(&clock, dir.path(), messages)?;
    consents(&clock, dir.path(), recipients).await?;
    receipts(&clock, dir.path(), messages).await
}

/// The same bytes, written and synced a group at a time.
fn probe(clock: &SystemClock, dir: &Path, many: u64) -> Outcome<()> {
    let mut file = File::create(dir.join("probe"))?;
    let group = vec![7; usize::try_from(GROUP * RECEIPT_BYTES)?];
    let start = clock.monotonic();
    for _ in 0..many / GROUP {
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
    let book = SqliteBook::open(&dir.join("consent.db"))?;
    let mut csv = String::from("recipient,scope,at,act\n");
    for number in 0..recipients {
        let month = number % 9 + 1;
        writeln!(
            csv,
            "{},general,2026-0{month}-02T10:00:00+09:00,",
            person(number)
        )?;
    }
    let start = clock.monotonic();
    let rows = rows(std::io::Cursor::new(csv), Format::Csv, "KR", "bench");
    let summary = import(&book, rows, |_| {}).await?;
    say(
        "consent: import from CSV",
        summary.lines,
        clock.monotonic() - start,
    );
    let mut random = fastrand::Rng::with_seed(8);
    let start = clock.monotonic();
    for _ in 0..LOOK_UPS / GROUP {
        let keys: Vec<_> = (0..GROUP)
            .map(|_| RecipientKey::from_stored(&person(random.u64(0..recipients))))
            .collect();
        book.look_up(&keys).await?;
    }
    say("consent: look up", LOOK_UPS, clock.monotonic() - start);
    Ok(())
}

async fn receipts(clock: &SystemClock, dir: &Path, messages: u64) -> Outcome<()> {
    let log = SqliteLog::open(&dir.join("receipts.db"))?;
    for (attempt, event) in [Event::Held, Event::Attempted, Event::Delivered]
        .into_iter()
        .enumerate()
    {
        let mut spent = Duration::ZERO;
        for group in 0..messages / GROUP {
            let numbers = group * GROUP..(group + 1) * GROUP;
            let batch = numbers
                .map(|number| receipt(number, event, attempt))
                .collect::<Outcome<_>>()?;
            let start = clock.monotonic();
            log.append(batch).await?;
            spent += clock.monotonic() - start;
        }
        say(&format!("receipts: file `{event}`"), messages, spent);
    }
    let ask = ReceiptAsk {
        message: receipt(messages / 2, Event::Held, 0)?.subject.message,
        ..ReceiptAsk::default()
    };
    let start = clock.monotonic();
    let found = log.query(&ask).await?.len();
    println!(
        "receipts: the {found} of one message {:>20.2?}",
        clock.monotonic() - start
    );
    let log: Arc<dyn ReceiptLog> = Arc::new(log);
    let start = clock.monotonic();
    let all = ReceiptAsk::default();
    let lines = export::export(log, all, false, 1_000, &mut std::io::sink()).await?;
    say("receipts: export", lines, clock.monotonic() - start);
    let bytes = std::fs::metadata(dir.join("receipts.db"))?.len();
    println!("  file: {} bytes a receipt", bytes / lines);
    Ok(())
}

fn receipt(number: u64, event: Event, attempt: usize) -> Outcome<Receipt> {
    let at: Timestamp = "2026-11-22T12:00:00Z".parse()?;
    let since = at - SignedDuration::from_secs(i64::try_from(number)?);
    let id = format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let subject = Subject {
        message: Some(MessageId::new(&id)?),
        recipient: Some(RecipientKey::from_stored(&person(number))),
        campaign: Some("weekend".into()),
        lane: Some(Lane::new("main")),
        purpose: Some(Purpose::Advertising),
        channel: Some(Channel::Sms),
    };
    let basis = Basis::Explicit;
    let general = Standing::Valid {
        since,
        until: Some(at),
        basis,
    };
    let reason = Reason {
        code: Code::QuietHours,
        rule: Some("kr.night".into()),
        ruleset: "0123456789abcdef".into(),
        zone: "Asia/Seoul".into(),
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

fn say(what: &str, many: u64, took: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "a figure for a person")]
    let rate = many as f64 / took.as_secs_f64();
    println!("{what:<46} {:>8.2} s {rate:>10.0} /s", took.as_secs_f64());
}

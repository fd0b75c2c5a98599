//! How fast the SQLite hold keeps, lends and takes back, beside what the disk does in the same run.
//!
//! `cargo bench --bench hold -- [MESSAGES] [random|ordered]`: random ids are what producers send;
//! ordered ones show what their scatter costs.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nightgate::clock::{Clock, SystemClock};
use nightgate::hold::sqlite::{FILE, Options, SqliteHold};
use nightgate::hold::{End, Held, HoldStore, Lane, LeaseAsk, Pick, Scope, Settle, State, Verdict};
use nightgate_core::{
    Channel, Class, Message, MessageId, Priority, Purpose, Recipient, RecipientKey,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

const MESSAGES_DEFAULT: usize = 200_000;
/// Messages in one call.
const GROUP: usize = 1_000;
const BODY_BYTES: usize = 300;

#[tokio::main]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let messages = args
        .first()
        .map_or(Ok(MESSAGES_DEFAULT), |text| text.parse())?;
    let random = args.get(1).is_none_or(|order| order == "random");
    let dir = tempfile::tempdir_in(std::env::var("BENCH_DIR").unwrap_or("/tmp".to_owned()))?;
    let clock = SystemClock::default();
    println!("{messages} messages of {BODY_BYTES} bytes by {GROUP}, random ids: {random}");

    let disk = probe(&clock, dir.path(), messages)?;
    rate("disk: write and fsync the bodies", messages, disk, disk);

    let hold = SqliteHold::open(dir.path(), Options::default()).await?;
    let now: Timestamp = "2026-11-22T12:00:00Z".parse()?;
    let due: Timestamp = "2026-11-22T23:00:00Z".parse()?;
    let holding = put(&hold, &clock, "night", messages, random, (now, due)).await?;
    rate("hold", messages, holding, disk);
    let bytes = std::fs::metadata(dir.path().join(FILE))?.len();
    println!("  file: {} bytes a message", bytes / messages as u64);

    let (leased, settled) = release(&hold, &clock, due).await?;
    rate(
        "release: lease and settle done",
        messages,
        leased + settled,
        disk,
    );
    rate("  of that, lease", messages, leased, disk);
    rate("  of that, settle", messages, settled, disk);

    put(&hold, &clock, "wrong", messages, random, (now, due)).await?;
    let start = clock.monotonic();
    let recalled = hold
        .recall(&Scope::Campaign("wrong".into()), now)
        .await?
        .recalled;
    assert_eq!(recalled, messages as u64, "a recall counts exactly");
    rate(
        "recall one campaign",
        messages,
        clock.monotonic().saturating_sub(start),
        disk,
    );

    let start = clock.monotonic();
    let swept = hold.sweep(due + SignedDuration::from_hours(100)).await?;
    assert_eq!(swept, 2 * messages as u64, "everything ended long ago");
    rate(
        "sweep",
        2 * messages,
        clock.monotonic().saturating_sub(start),
        disk,
    );
    assert!(
        hold.list(State::Held, None, 1).await?.is_empty(),
        "nothing is left"
    );
    Ok(())
}

/// Writes the same bytes in the same groups to a plain file, with one fsync a group.
fn probe(clock: &SystemClock, dir: &Path, messages: usize) -> Outcome<Duration> {
    let mut file = File::create(dir.join("probe"))?;
    let group = vec![7_u8; GROUP * BODY_BYTES];
    let start = clock.monotonic();
    for _ in 0..messages.div_ceil(GROUP) {
        file.write_all(&group)?;
        file.sync_data()?;
    }
    let took = clock.monotonic().saturating_sub(start);
    std::fs::remove_file(dir.join("probe"))?;
    Ok(took)
}

/// Puts messages of one campaign; how long the hold took, without making them.
async fn put(
    hold: &SqliteHold,
    clock: &SystemClock,
    campaign: &str,
    messages: usize,
    random: bool,
    (now, due): (Timestamp, Timestamp),
) -> Outcome<Duration> {
    let mut took = Duration::ZERO;
    let mut dice = fastrand::Rng::with_seed(campaign.len() as u64 + u64::from(campaign < "o"));
    for first in (0..messages).step_by(GROUP) {
        let mut group = Vec::with_capacity(GROUP);
        for number in first..messages.min(first + GROUP) {
            let id = if random {
                format!("{:032x}", dice.u128(..))
            } else {
                format!("{campaign}-{number:027}")
            };
            group.push(held(&id, number, campaign, (now, due))?);
        }
        let start = clock.monotonic();
        hold.put(group, now).await?;
        took += clock.monotonic().saturating_sub(start);
    }
    Ok(took)
}

fn held(
    id: &str,
    number: usize,
    campaign: &str,
    (now, due): (Timestamp, Timestamp),
) -> Outcome<Held> {
    // Scattered like real numbers; 010-0000-0000 on is not assigned to anyone.
    let recipient = Recipient::new(&format!("+82100{:07}", number * 7_919 % 10_000_000))?;
    Ok(Held {
        key: RecipientKey::from_stored(recipient.expose()),
        message: Message {
            id: MessageId::new(id)?,
            recipient,
            channel: Channel::Lms,
            purpose: Purpose::Advertising,
            campaign: Some(campaign.into()),
            priority: Priority::default(),
            jurisdiction: None,
            zone: None,
            send_at: None,
            expires_at: None,
            collapse_key: None,
            content_type: "text/plain; charset=utf-8".into(),
            attributes: [("template".to_owned(), "N-17".to_owned())].into(),
            body: vec![b'x'; BODY_BYTES].into(),
        },
        lane: Lane::new("sms"),
        class: Class::from_name("advertising/lms/KR/Asia/Seoul"),
        due,
        accepted_at: now,
    })
}

/// Releases everything; how long leasing and settling took.
async fn release(
    hold: &SqliteHold,
    clock: &SystemClock,
    due: Timestamp,
) -> Outcome<(Duration, Duration)> {
    let lane = Lane::new("sms");
    let ttl = SignedDuration::from_mins(1);
    let ask = LeaseAsk {
        lane: &lane,
        pick: Pick::Any,
        now: due,
        max: GROUP,
        ttl,
    };
    let (mut leasing, mut settling) = (Duration::ZERO, Duration::ZERO);
    loop {
        let start = clock.monotonic();
        let leased = hold.lease(&ask).await?;
        let between = clock.monotonic();
        if leased.is_empty() {
            return Ok((leasing, settling));
        }
        let done = |token| Settle {
            token,
            verdict: Verdict::Done(End::Delivered),
        };
        hold.settle(leased.iter().map(|loan| done(loan.token)).collect(), due)
            .await?;
        leasing += between.saturating_sub(start);
        settling += clock.monotonic().saturating_sub(between);
    }
}

fn rate(what: &str, messages: usize, took: Duration, disk: Duration) {
    let seconds = took.as_secs_f64().max(f64::EPSILON);
    let each = messages as f64 / seconds;
    let ratio = seconds / disk.as_secs_f64().max(f64::EPSILON);
    println!("{what:34} {seconds:8.2} s {each:10.0} /s {ratio:6.1} x the disk");
}

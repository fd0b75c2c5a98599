//! A night on the shelf store: hold, die, open, release, each message ticked off. The same work as
//! `shared/peers` gives its servers: 300-byte notices, groups of 1,000, all due at one instant.
//!
//! `cargo bench --bench night -- all 1000000` runs both steps, each in a process of its own, the
//! first killed with SIGKILL. One JSON line a step. `-- paced 1000000 500000` puts at that rate and
//! tells how long a put takes then.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use nightgate::clock::{Clock, SystemClock};
use nightgate::hold::shelf::{Options, ShelfHold};
use nightgate::hold::{End, Held, HoldStore, Lane, LeaseAsk, Pick, Put, Settle, Verdict};
use nightgate_core::{
    Channel, Class, Message, MessageId, Priority, Purpose, Recipient, RecipientKey,
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const GROUP: usize = 1_000;
const BODY_BYTES: usize = 300;
/// Messages made at once, with the clock stopped: few enough to be in the caches when they are put,
/// as messages are that were just parsed.
const PORTION: usize = 8_000;
/// Groups made ahead of their turn when they come at a steady rate.
const MADE_AHEAD: usize = 16;
/// Groups on their way at once.
const IN_FLIGHT: usize = 4;
const DUE: &str = "2026-11-22T23:00:00Z";
const NOW: &str = "2026-11-22T12:00:00Z";

/// What the text of a body looks like.
#[derive(Clone, Copy, PartialEq)]
enum Text {
    /// As the peers': windows of one random text, which no two messages of a block share.
    Peers,
    /// Random bytes.
    Random,
    /// An order notice in Korean.
    Notice,
}

struct Maker {
    text: Vec<u8>,
    kind: Text,
    campaigns: Vec<Arc<str>>,
    lane: Lane,
    class: Class,
    content_type: Arc<str>,
    due: Timestamp,
    now: Timestamp,
}

impl Maker {
    fn new(kind: Text) -> Outcome<Self> {
        let letters = b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        let mut dice = fastrand::Rng::with_seed(7);
        let text = (0..65_536).map(|_| letters[dice.usize(..letters.len())]);
        Ok(Self {
            text: text.collect(),
            kind,
            campaigns: (0..50).map(|n| format!("cmp-{n:04}").into()).collect(),
            lane: Lane::new("sms"),
            class: Class::from_name("advertising/sms/KR/Asia/Seoul"),
            content_type: "application/json".into(),
            due: DUE.parse()?,
            now: NOW.parse()?,
        })
    }

    fn body(&self, number: u64) -> Vec<u8> {
        let to = number * 7_919 % 100_000_000;
        let campaign = number / GROUP as u64 % 50;
        match self.kind {
            Text::Random => {
                let mut body = vec![0; BODY_BYTES];
                fastrand::Rng::with_seed(number).fill(&mut body);
                body
            }
            Text::Peers => {
                let mut body = format!(
                    "{{\"id\":\"msg-{number:09}\",\"to\":\"+8210{to:08}\",\"campaign\":\
                     \"cmp-{campaign:04}\",\"channel\":\"sms\",\"kind\":\"ad\",\
                     \"title\":\"Autumn sale\",\"text\":\""
                )
                .into_bytes();
                let at = (number * 7_919 % 65_000) as usize;
                let length = BODY_BYTES - body.len() - 2;
                body.extend(&self.text[at..at + length]);
                body.extend(b"\"}");
                body
            }
            Text::Notice => format!(
                "{{\"template\":\"N-17\",\"to\":\"+8210{to:08}\",\"text\":\"(광고) 가을 세일 안내: \
                 {to}번 고객님, 주문번호 {number:09} 상품이 최대 {}% 할인됩니다. 무료수신거부 \
                 080-000-0000\",\"link\":\"https://shop.example/c/{campaign:04}/{number}\",\
                 \"button\":\"지금 보기\"}}",
                number % 50 + 10
            )
            .into_bytes(),
        }
    }

    fn held(&self, number: u64) -> Outcome<Held> {
        let to = number * 7_919 % 100_000_000;
        let recipient = Recipient::new(&format!("+8210{to:08}"))?;
        Ok(Held {
            key: RecipientKey::from_stored(recipient.expose()),
            message: Message {
                id: MessageId::new(&format!("msg-{number:09}"))?,
                recipient,
                channel: Channel::Sms,
                purpose: Purpose::Advertising,
                campaign: Some(Arc::clone(&self.campaigns[number as usize / GROUP % 50])),
                priority: Priority::default(),
                jurisdiction: None,
                zone: None,
                send_at: None,
                expires_at: None,
                collapse_key: None,
                content_type: Arc::clone(&self.content_type),
                attributes: Default::default(),
                body: Bytes::from(self.body(number)),
            },
            lane: self.lane.clone(),
            class: self.class.clone(),
            due: self.due,
            accepted_at: self.now,
        })
    }

    fn group(&self, first: u64, messages: u64) -> Outcome<Vec<Held>> {
        let last = messages.min(first + GROUP as u64);
        (first..last).map(|number| self.held(number)).collect()
    }
}

/// CPU seconds of this process, peak anonymous memory in MB, bytes it wrote.
fn usage() -> Outcome<(f64, f64, u64)> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = |name: &str| -> f64 {
        let found = status.lines().find(|line| line.starts_with(name));
        let number = found.and_then(|line| line.split_whitespace().nth(1));
        number
            .and_then(|number| number.parse().ok())
            .unwrap_or_default()
    };
    let io = std::fs::read_to_string("/proc/self/io")?;
    let wrote = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    Ok((
        ticks / 100.0,
        line("RssAnon:") / 1024.0,
        wrote.unwrap_or("0").parse()?,
    ))
}

fn disk_bytes(dir: &Path) -> Outcome<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut total = 0;
    for entry in std::fs::read_dir(dir.join("shelf"))? {
        total += entry?.metadata()?.blocks() * 512;
    }
    Ok(total)
}

/// Puts groups until none is left; how long each put took.
async fn put_all(
    store: Arc<ShelfHold>,
    groups: Arc<Mutex<Vec<Vec<Held>>>>,
    now: Timestamp,
) -> Outcome<Vec<Duration>> {
    let clock = SystemClock::default();
    let mut waits = Vec::new();
    loop {
        let next = groups.lock().map_err(|_| "a put panicked")?.pop();
        let Some(group) = next else {
            return Ok(waits);
        };
        let count = group.len();
        let asked = clock.monotonic();
        let answers = store.put(group, now).await?;
        waits.push(clock.monotonic().saturating_sub(asked));
        assert_eq!(answers, vec![Put::New; count]);
    }
}

/// Made in portions, and put with the clock running: what making costs is left out.
async fn hold(dir: &Path, messages: u64, kind: Text) -> Outcome<()> {
    let clock = SystemClock::default();
    let maker = Maker::new(kind)?;
    let store = Arc::new(ShelfHold::open(dir, Options::default()).await?);
    let (mut took, mut cpu, mut payload) = (Duration::ZERO, 0.0, 0);
    let (mut waits, mut peak) = (Vec::new(), 0.0_f64);
    let wrote_before = usage()?.2;
    for from in (0..messages).step_by(PORTION) {
        let last = messages.min(from + PORTION as u64);
        let firsts: Vec<u64> = (from..last).step_by(GROUP).collect();
        let made = firsts
            .into_iter()
            .rev()
            .map(|first| maker.group(first, last));
        let groups = made.collect::<Outcome<Vec<_>>>()?;
        let bodies = groups
            .iter()
            .flatten()
            .map(|held| held.message.body.len() as u64);
        payload += bodies.sum::<u64>();
        let groups = Arc::new(Mutex::new(groups));
        let (before, began) = (usage()?.0, clock.monotonic());
        let putting = |_| tokio::spawn(put_all(Arc::clone(&store), Arc::clone(&groups), maker.now));
        let tasks: Vec<_> = (0..IN_FLIGHT).map(putting).collect();
        for task in tasks {
            waits.extend(task.await??);
        }
        took += clock.monotonic().saturating_sub(began);
        let (now, anon, _) = usage()?;
        (cpu, peak) = (cpu + now - before, peak.max(anon));
    }
    let wrote = usage()?.2 - wrote_before;
    waits.sort_unstable();
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "{{\"step\":\"hold\",\"n\":{messages},\"rate\":{:.0},\"cpu_per_million\":{:.2},\
         \"write_amplification\":{:.2},\"anon_mb\":{:.0},\"disk_bytes_each\":{:.1},\
         \"payload_each\":{:.0},\"p50_ms\":{:.1},\"p99_ms\":{:.1},\"max_ms\":{:.1}}}",
        messages as f64 / took.as_secs_f64(),
        cpu / (messages as f64 / 1e6),
        wrote as f64 / payload as f64,
        peak,
        disk_bytes(dir)? as f64 / messages as f64,
        payload as f64 / messages as f64,
        at(0.5),
        at(0.99),
        at(1.0),
    );
    // The parent kills this process now, in the middle of whatever upkeep is under way.
    println!("held");
    std::future::pending::<()>().await;
    Ok(())
}

/// Groups at a steady rate, made a few ahead by a thread of their own. A put's wait counts from the
/// moment at which it should have begun, so that a stall is felt by all who come during it.
async fn paced(dir: &Path, messages: u64, rate: f64) -> Outcome<()> {
    let clock = Arc::new(SystemClock::default());
    let maker = Arc::new(Maker::new(Text::Peers)?);
    let (made, mut groups) = tokio::sync::mpsc::channel(MADE_AHEAD);
    let making = Arc::clone(&maker);
    let making = tokio::task::spawn_blocking(move || {
        for first in (0..messages).step_by(GROUP) {
            made.blocking_send(making.group(first, messages)?)?;
        }
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    });
    let store = Arc::new(ShelfHold::open(dir, Options::default()).await?);
    let every = Duration::from_secs_f64(GROUP as f64 / rate);
    let (from, began) = (clock.now(), clock.monotonic());
    let (mut tasks, mut number) = (Vec::new(), 0);
    while let Some(group) = groups.recv().await {
        let due = every * number;
        number += 1;
        clock
            .sleep_until(from + SignedDuration::try_from(due)?)
            .await;
        let (store, clock, now) = (Arc::clone(&store), Arc::clone(&clock), maker.now);
        tasks.push(tokio::spawn(async move {
            store.put(group, now).await?;
            let waited = clock.monotonic().saturating_sub(began + due);
            Ok::<_, nightgate::error::Error>(waited)
        }));
    }
    making.await??;
    let mut waits = Vec::with_capacity(tasks.len());
    for task in tasks {
        waits.push(task.await??);
    }
    let took = clock.monotonic().saturating_sub(began).as_secs_f64();
    waits.sort_unstable();
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "{{\"step\":\"paced\",\"n\":{messages},\"asked_rate\":{rate:.0},\"rate\":{:.0},\
         \"p50_ms\":{:.1},\"p99_ms\":{:.1},\"max_ms\":{:.1}}}",
        messages as f64 / took,
        at(0.5),
        at(0.99),
        at(1.0),
    );
    Ok(())
}

/// Leases and settles until nothing is left; how many came twice.
async fn tick_off(
    store: Arc<ShelfHold>,
    lane: Lane,
    due: Timestamp,
    seen: Arc<Vec<AtomicU64>>,
    first: Arc<AtomicU64>,
    micros: impl Fn() -> u64,
) -> Outcome<u64> {
    let mut twice = 0;
    loop {
        let ttl = SignedDuration::from_mins(10);
        let (lane, pick, max, now) = (&lane, Pick::Any, GROUP, due);
        let ask = LeaseAsk {
            lane,
            pick,
            now,
            max,
            ttl,
        };
        let leased = store.lease(&ask).await?;
        first.fetch_min(micros(), Ordering::Relaxed);
        if leased.is_empty() {
            return Ok(twice);
        }
        let mut done = Vec::with_capacity(leased.len());
        for loan in &leased {
            let id = loan.held.message.id.as_str();
            let number: u64 = id["msg-".len()..].parse()?;
            let bit = 1 << (number % 64);
            let was = seen[number as usize / 64].fetch_or(bit, Ordering::Relaxed);
            twice += u64::from(was & bit != 0);
            let (token, verdict) = (loan.token, Verdict::Done(End::Delivered));
            done.push(Settle { token, verdict });
        }
        store.settle(done, due).await?;
    }
}

async fn release(dir: &Path, messages: u64) -> Outcome<()> {
    let clock = Arc::new(SystemClock::default());
    let began = clock.monotonic();
    let store = Arc::new(ShelfHold::open(dir, Options::default()).await?);
    let opened = clock.monotonic().saturating_sub(began).as_secs_f64();
    let opened_anon = usage()?.1;
    let (lane, due) = (Lane::new("sms"), DUE.parse::<Timestamp>()?);
    let seen: Arc<Vec<AtomicU64>> = Arc::new(
        (0..messages.div_ceil(64))
            .map(|_| AtomicU64::new(0))
            .collect(),
    );
    let before = usage()?;
    let began = clock.monotonic();
    let first = Arc::new(AtomicU64::new(u64::MAX));
    let mut tasks = Vec::new();
    for _ in 0..IN_FLIGHT {
        let (store, lane, seen) = (Arc::clone(&store), lane.clone(), Arc::clone(&seen));
        let first = Arc::clone(&first);
        let clock = Arc::clone(&clock);
        let first_at = move || clock.monotonic().saturating_sub(began).as_micros() as u64;
        tasks.push(tokio::spawn(tick_off(
            store, lane, due, seen, first, first_at,
        )));
    }
    let mut twice = 0;
    for task in tasks {
        twice += task.await??;
    }
    let took = clock.monotonic().saturating_sub(began).as_secs_f64();
    let after = usage()?;
    let ticked: u64 = seen
        .iter()
        .map(|word| u64::from(word.load(Ordering::Relaxed).count_ones()))
        .sum();
    assert!(
        store.shelves(None, None).await?.is_empty(),
        "nothing is left on any shelf"
    );
    println!(
        "{{\"step\":\"release\",\"n\":{messages},\"open_s\":{opened:.3},\"open_anon_mb\":{:.0},\
         \"first_ms\":{:.2},\"rate\":{:.0},\"cpu_per_million\":{:.2},\"anon_mb\":{:.0},\
         \"lost\":{},\"twice\":{twice},\"disk_bytes_each\":{:.1}}}",
        opened_anon,
        first.load(Ordering::Relaxed) as f64 / 1e3,
        messages as f64 / took,
        (after.0 - before.0) / (messages as f64 / 1e6),
        after.1,
        messages - ticked,
        disk_bytes(dir)? as f64 / messages as f64,
    );
    Ok(())
}

/// Both steps, each in a process of its own; the first is killed.
fn all(messages: u64, text: &str) -> Outcome<()> {
    use std::io::{BufRead as _, BufReader};
    let root = std::env::var("BENCH_DIR").unwrap_or("/tmp".to_owned());
    let dir = tempfile::tempdir_in(root)?;
    let (me, n) = (std::env::current_exe()?, messages.to_string());
    let start = |step: &str| {
        let mut command = Command::new(&me);
        command.arg(step).arg(&n).arg(text).arg(dir.path());
        // As `nightgate serve` begins itself.
        command.env("MALLOC_ARENA_MAX", "2");
        command.stdout(Stdio::piped()).spawn()
    };
    let mut holding = start("hold")?;
    let said = holding.stdout.take().ok_or("no output")?;
    for line in BufReader::new(said).lines() {
        match line? {
            line if line == "held" => break,
            line => println!("{line}"),
        }
    }
    holding.kill()?;
    holding.wait()?;
    let releasing = start("release")?.wait_with_output()?;
    print!("{}", String::from_utf8(releasing.stdout)?);
    Ok(())
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let step = args.first().map_or("all", String::as_str);
    let messages = args.get(1).map_or(Ok(100_000), |text| text.parse())?;
    let text = args.get(2).map_or("peers", String::as_str);
    let kind = match text {
        "random" => Text::Random,
        "notice" => Text::Notice,
        _ => Text::Peers,
    };
    let dir = args.get(3).map(PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match (step, dir) {
        ("hold", Some(dir)) => runtime.block_on(hold(&dir, messages, kind)),
        ("release", Some(dir)) => runtime.block_on(release(&dir, messages)),
        ("paced", _) => {
            let root = std::env::var("BENCH_DIR").unwrap_or("/tmp".to_owned());
            let dir = tempfile::tempdir_in(root)?;
            runtime.block_on(paced(dir.path(), messages, text.parse()?))
        }
        _ => all(messages, text),
    }
}

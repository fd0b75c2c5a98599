//! The whole road out: lease, second asking, receipts before and after, hand-over, settlement.
//!
//! `cargo bench --bench release -- [MESSAGES] [cold] [SINK]...`: drains as many due messages of
//! 300 bytes in 50 campaigns, to a million recipients with consent, through the real releaser; to a
//! sink that
//! only counts (`null`), to a file (`log`), and to a webhook on loopback in this process whose
//! receiver parses and counts (`webhook`, `signed`). `steps` takes the road apart: the CPU of each
//! step by itself. CPU is that of all threads of the process. `BENCH_DIR` says which disk.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(
    clippy::expect_used,
    reason = "a bench without its world has nothing to measure"
)]

mod receiver;
mod steps;
mod watch;
mod world;

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use jiff::SignedDuration;
use nightgate::alert::desk::Alerts;
use nightgate::backoff::Backoff;
use nightgate::clock::Clock;
use nightgate::release::freeze::Freeze;
use nightgate::release::limiter::Pace;
use nightgate::release::{LaneOptions, OnUnknown, Releaser, ReleaserParts};
use nightgate::secret::Secret;
use nightgate::sink::Sink;
use nightgate::sink::log::LogSink;
use nightgate::sink::webhook::{WebhookOptions, WebhookSink};

use receiver::Receiver;
use watch::{NullSink, Spent, Watches, spent};
use world::{LANE, World};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const MESSAGES_DEFAULT: u64 = 400_000;
const SINKS: [&str; 4] = ["null", "log", "webhook", "signed"];
/// Asks for a consent book that nobody has asked since the process began.
const COLD: &str = "cold";
const KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDaGVsbG8=";

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let messages = args.iter().find_map(|arg| arg.parse().ok());
    let messages = messages.unwrap_or(MESSAGES_DEFAULT);
    let asked: Vec<&str> = args
        .iter()
        .map(String::as_str)
        .filter(|arg| arg.parse::<u64>().is_err() && *arg != COLD)
        .collect();
    let asked = if asked.is_empty() {
        [&SINKS[..], &["steps"]].concat()
    } else {
        asked
    };
    let cold = args.iter().any(|arg| arg == COLD);
    let mut world = World::open(cold).await?;
    for what in asked {
        world.fill(messages).await?;
        if what == "steps" {
            steps::run(&world, messages).await?;
        } else {
            drain(&world, what, messages).await?;
        }
    }
    Ok(())
}

fn lane(batch_max: usize) -> LaneOptions {
    let number = |name: &str, usual: usize| {
        let told = std::env::var(name).ok().and_then(|text| text.parse().ok());
        told.unwrap_or(usual)
    };
    LaneOptions {
        lane: nightgate::lane::Lane::new(LANE),
        pace: Pace {
            rate: None,
            burst: std::num::NonZeroU32::MIN,
            slow_start: Duration::ZERO,
            slow_start_from: 1.0,
        },
        in_flight: number("IN_FLIGHT", 4),
        batch_max: number("BATCH", batch_max),
        tick_max: number("TICK", 50_000),
        lease_ttl: SignedDuration::from_secs(60),
        attempts_max: 12,
        backoff: Backoff {
            min: Duration::from_secs(2),
            max: Duration::from_secs(600),
        },
        unknown_advertising: OnUnknown::Bury,
        unknown_informational: OnUnknown::Retry,
        nothing_moved_after: Duration::from_secs(600),
        failing_after: 5,
    }
}

async fn drain(world: &World, what: &str, messages: u64) -> Outcome<()> {
    let clock: Arc<dyn Clock> = world.clock.clone();
    let receiver = Receiver::serve().await?;
    let sink: Arc<dyn Sink> = match what {
        "null" => Arc::new(NullSink(Arc::clone(&clock))),
        "log" => {
            let path = world.dir().join("out.ndjson");
            Arc::new(LogSink::file(&path, Arc::clone(&clock))?)
        }
        "webhook" | "signed" => {
            let secret = (what == "signed").then(|| Secret::new(KEY));
            let mut options = WebhookOptions::new(Secret::new(&receiver.url), secret);
            options.batch_max = 1_000;
            Arc::new(WebhookSink::new(&options, Arc::clone(&clock))?)
        }
        other => return Err(format!("no sink is called {other}").into()),
    };
    let watches = Arc::new(Watches::default());
    let releaser = Releaser::new(
        vec![(lane(1_000), watches.sink(&clock, sink))],
        ReleaserParts {
            decider: world.decider(Some(&watches)),
            clock: Arc::clone(&clock),
            hold: watches.hold(&clock, world.hold()),
            receipts: watches.log(&clock, world.receipts()?),
            alerts: Alerts::silent(),
            metrics: Arc::default(),
            freeze: Freeze::new(SignedDuration::from_secs(60), Duration::from_secs(300)),
            random: Mutex::new(fastrand::Rng::with_seed(1)),
        },
    );
    let (began, before) = (clock.monotonic(), spent()?);
    let (mut delivered, mut ticks) = (0, 0);
    loop {
        let tick = releaser.tick().await?;
        delivered += tick.delivered;
        ticks += 1;
        if tick.remaining == 0 && delivered >= messages {
            break;
        }
        if tick.wake.is_none() {
            return Err(format!("{delivered} delivered, and nothing is left: {tick:?}").into());
        }
    }
    let took = clock.monotonic().saturating_sub(began);
    let cpu = before.till(&spent()?);
    if what == "webhook" || what == "signed" {
        assert_eq!(receiver.count(), messages, "the receiver counted them all");
    }
    say(what, messages, ticks, took, &cpu);
    watches.say(messages);
    Ok(())
}

fn say(what: &str, messages: u64, ticks: u64, took: Duration, cpu: &Spent) {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let many = messages as f64;
    println!(
        "{what:8} {messages} messages in {ticks} ticks: {:>9.0} a second, CPU {:.2} s a million \
         ({:.2} user, {:.2} system): {:>7.0} a second if 2 cores were ours",
        many / took.as_secs_f64(),
        cpu.total() / many * 1e6,
        cpu.user / many * 1e6,
        cpu.system / many * 1e6,
        2.0 * many / cpu.total(),
    );
}

//! `nightgate lanes`: the lanes, and the stops that people set.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::{Common, Done, EXIT_OK, Failure, out, shown, stores};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, LaneConfig, SinkConfig};
use crate::hold::{HoldStore, Lane, Pause};

/// Stands for every lane at once: the global stop.
const ALL: &str = "all";

/// See the lanes; pause and resume them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate lanes
  nightgate lanes pause kakao               nothing more leaves by it; messages are still taken in
  nightgate lanes pause all                 the global stop
  nightgate lanes resume all
A stop is kept with the messages: it outlives a restart, and a running gateway obeys it on its next
step. `all` and the stop of one lane are separate: lifting one leaves the other.")]
pub struct Lanes {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Let nothing more leave by a lane
    Pause {
        /// The lane's name, or `all`
        lane: String,
    },
    /// Lift a stop
    Resume {
        /// The lane's name, or `all`
        lane: String,
    },
}

/// One lane in JSON.
#[derive(Serialize)]
struct Line<'a> {
    lane: &'a str,
    sink: &'static str,
    /// Messages per second; 0 = unlimited.
    rate: u32,
    /// Since when, on the clock of the house.
    paused_since: Option<String>,
    /// Whether it is the global stop that holds it.
    paused_by_all: bool,
    due_now: u64,
    held: u64,
    leased: u64,
    buried: u64,
    /// Whether the configuration still has it; if not, nothing leaves by it.
    configured: bool,
}

impl Lanes {
    pub(super) async fn run(self, common: &Common) -> Done {
        let config = common.load()?.config;
        let clock = SystemClock::default();
        let opened = stores::all(&config).await?;
        let hold = &*opened.hold;
        match self.what {
            None => list(common, &config, hold, &clock).await?,
            Some(What::Pause { lane }) => pause(common, &config, hold, &lane, true, &clock).await?,
            Some(What::Resume { lane }) => {
                pause(common, &config, hold, &lane, false, &clock).await?;
            }
        }
        Ok(EXIT_OK)
    }
}

async fn pause(
    common: &Common,
    config: &Config,
    hold: &dyn HoldStore,
    name: &str,
    paused: bool,
    clock: &dyn Clock,
) -> Result<(), Failure> {
    let lane = (name != ALL).then(|| Lane::new(name));
    if lane.is_some() && !config.lanes.iter().any(|lane| lane.name == name) {
        let known: Vec<_> = config.lanes.iter().map(|lane| lane.name.as_str()).collect();
        let known = known.join(", ");
        return Err(Failure::usage(format!(
            "there is no lane {name}: choose {known} or {ALL}"
        )));
    }
    hold.pause(lane.as_ref(), paused, clock.now()).await?;
    if common.json {
        return out::say_json(&serde_json::json!({ "lane": name, "paused": paused }));
    }
    let done = if paused { "paused" } else { "resumed" };
    out::say(&format!("{name} {done}"))?;
    let other = hold.pauses().await?;
    let global = other.iter().any(|pause| pause.lane.is_none());
    match (paused, &lane) {
        (false, Some(_)) if global => out::say("the global stop still holds: resume all"),
        (false, None) if !other.is_empty() => {
            let names = other.iter().filter_map(|pause| pause.lane.as_ref());
            let names: Vec<_> = names.map(Lane::as_str).collect();
            out::say(&format!("still paused on their own: {}", names.join(", ")))
        }
        _ => Ok(()),
    }
}

async fn list(
    common: &Common,
    config: &Config,
    hold: &dyn HoldStore,
    clock: &dyn Clock,
) -> Result<(), Failure> {
    let pauses = hold.pauses().await?;
    let (now, zone, write) = (clock.now(), &config.house.zone, shown::written(common));
    let at = |at| write(at, zone);
    let mut lines: Vec<_> = config
        .lanes
        .iter()
        .map(|lane| line(lane, &pauses, at))
        .collect();
    let shelves = hold.shelves(None, None).await?;
    for shelf in &shelves {
        let name = shelf.lane.as_str();
        let at = lines.iter().position(|line| line.lane == name);
        let at = at.unwrap_or_else(|| {
            lines.push(unconfigured(name));
            lines.len() - 1
        });
        let line = &mut lines[at];
        line.held += shelf.held;
        line.leased += shelf.leased;
        line.buried += shelf.buried;
        if shelf.due <= now {
            line.due_now += shelf.held;
        }
    }
    if common.json {
        out::say_json(&lines)
    } else {
        say(&lines)
    }
}

fn line<'a>(lane: &'a LaneConfig, pauses: &[Pause], at: impl Fn(Timestamp) -> String) -> Line<'a> {
    let own = pauses.iter().find(|pause| {
        pause
            .lane
            .as_ref()
            .is_some_and(|paused| paused.as_str() == lane.name)
    });
    let global = pauses.iter().find(|pause| pause.lane.is_none());
    let sink = match &lane.sink {
        SinkConfig::Log(_) => "log",
        SinkConfig::Webhook(_) => "webhook",
        SinkConfig::Sqs(_) => "sqs",
    };
    Line {
        lane: &lane.name,
        sink,
        rate: lane.rate,
        paused_since: own.or(global).map(|pause| at(pause.since)),
        paused_by_all: own.is_none() && global.is_some(),
        configured: true,
        ..unconfigured(&lane.name)
    }
}

fn unconfigured(name: &str) -> Line<'_> {
    Line {
        lane: name,
        sink: "-",
        rate: 0,
        paused_since: None,
        paused_by_all: false,
        due_now: 0,
        held: 0,
        leased: 0,
        buried: 0,
        configured: false,
    }
}

fn say(lines: &[Line<'_>]) -> Result<(), Failure> {
    let header = [
        "LANE",
        "SINK",
        "PER SECOND",
        "DUE NOW",
        "HELD",
        "LEASED",
        "BURIED",
        "PAUSED",
    ];
    let mut table = shown::table(&header);
    for line in lines {
        let rate = match line.rate {
            0 => "unlimited".to_owned(),
            rate => shown::grouped(rate.into()),
        };
        let by = if line.paused_by_all { " (all)" } else { "" };
        let paused = match &line.paused_since {
            Some(since) => format!("since {since}{by}"),
            None if !line.configured => "not configured: nothing leaves".to_owned(),
            None => "-".to_owned(),
        };
        let counts = [line.due_now, line.held, line.leased, line.buried].map(shown::grouped);
        let [due, held, leased, buried] = &counts;
        table.add_row([
            line.lane, line.sink, &rate, due, held, leased, buried, &paused,
        ]);
    }
    shown::say_table(&table)
}

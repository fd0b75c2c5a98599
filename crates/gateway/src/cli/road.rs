//! Builds the whole road from a configuration: the one place that names concrete backends.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use nightgate_core::ruleset::PackSource;
use nightgate_core::{Channel, PackFault, Purpose, Ruleset};

use super::Failure;
use super::beyond::Beyond;
use super::stores::Stores;
use super::together::{Together, Watching};
use crate::alert::AlertPort;
use crate::alert::count::CountPort;
use crate::alert::desk::{Alerts, DeskOptions};
use crate::alert::log::LogPort;
use crate::alert::once::OncePort;
use crate::alert::slack::{SlackOptions, SlackPort};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::config::{
    AlarmsShared, Config, ConsentValidity, LaneConfig, OnUnknown as ConfiguredOnUnknown,
    SinkConfig, WebhookConfig,
};
use crate::consent::ConsentBook;
use crate::decider::Decider;
use crate::gate::{Gate, GateParts, Routes};
use crate::hold::{HoldStore, Lane};
use crate::metrics::Metrics;
use crate::receipt::ReceiptLog;
use crate::release::freeze::Freeze;
use crate::release::limiter::Pace;
use crate::release::{LaneOptions, OnUnknown, Releaser, ReleaserParts, Shared};
use crate::secret::Secret;
use crate::sink::Sink;
use crate::sink::log::LogSink;
use crate::sink::webhook::{WebhookOptions, WebhookSink};

/// The Korean rules, compiled in.
pub const KR_PACK: &str = include_str!("../../../../rules/kr.toml");

/// Where messages and alarms go, and what is shared with other gateways.
struct Ways {
    beyond: Beyond,
    together: Together,
    sinks: Vec<Arc<dyn Sink>>,
    ports: Vec<Arc<dyn AlertPort>>,
}

/// Every part of the road, ready to use.
pub struct Road {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Rules, house and consent.
    pub decider: Arc<Decider>,
    /// Where messages are held.
    pub hold: Arc<dyn HoldStore>,
    /// Where consents live.
    pub consent: Arc<dyn ConsentBook>,
    /// Where receipts are filed.
    pub receipts: Arc<dyn ReceiptLog>,
    /// Where alarms are raised.
    pub alerts: Alerts,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The only way in.
    pub gate: Arc<Gate>,
    /// The only way out.
    pub releaser: Arc<Releaser>,
    /// What lies beyond this machine.
    pub(crate) beyond: Beyond,
    /// Compares the clocks of gateways on one hold, for as long as it lives.
    #[cfg_attr(
        not(feature = "lambda"),
        expect(dead_code, reason = "it works by being there")
    )]
    pub(crate) watching: Watching,
}

impl Road {
    /// Opens the stores of `config` and joins all parts. `random` jitters waits; a seeded one makes
    /// a night that can be told again.
    ///
    /// # Errors
    /// A rule pack with faults, a store that cannot be opened, a sink that is set up wrong.
    pub async fn open(
        config: &Config,
        clock: Arc<dyn Clock>,
        random: fastrand::Rng,
    ) -> Result<Self, Failure> {
        let beyond = Beyond::new(config);
        let stores = Stores::open(config, &clock, &beyond).await?;
        let sinks = sinks(config, &clock, &beyond).await?;
        let ports = ports(config, &clock, &beyond).await?;
        let together = Together::new(config, &beyond, &clock).await?;
        let ways = Ways {
            beyond,
            together,
            sinks,
            ports,
        };
        Self::join(config, clock, random, stores, ways)
    }

    fn join(
        config: &Config,
        clock: Arc<dyn Clock>,
        random: fastrand::Rng,
        stores: Stores,
        ways: Ways,
    ) -> Result<Self, Failure> {
        let Ways {
            beyond,
            together,
            sinks,
            mut ports,
        } = ways;
        let Stores {
            hold,
            consent,
            receipts,
            attempts,
        } = stores;
        let rules = Arc::new(rules(config)?);
        let decider = Arc::new(Decider::new(
            rules,
            config.house.clone(),
            Arc::clone(&consent),
        ));
        let options = DeskOptions {
            window: config.alerts.repeat_after,
            ..DeskOptions::default()
        };
        let metrics = Arc::new(Metrics::default());
        ports.push(Arc::new(CountPort(Arc::clone(&metrics))));
        let alerts = Alerts::new(ports, Arc::clone(&clock), options);
        let gate = Gate::new(GateParts {
            keep_ids: config.hold.keep_ids,
            decider: Arc::clone(&decider),
            routes: routes(config),
            clock: Arc::clone(&clock),
            hold: Arc::clone(&hold),
            receipts: Arc::clone(&receipts),
            alerts: alerts.clone(),
            metrics: Arc::clone(&metrics),
        });
        let lanes = config.lanes.iter().map(|lane| lane_options(config, lane));
        let parts = ReleaserParts {
            decider: Arc::clone(&decider),
            clock: Arc::clone(&clock),
            hold: Arc::clone(&hold),
            receipts: Arc::clone(&receipts),
            alerts: alerts.clone(),
            metrics: Arc::clone(&metrics),
            freeze: freeze(config, &together),
            random: Mutex::new(random),
        };
        let lanes = lanes.zip(sinks).collect();
        let shared = Shared {
            budget: Arc::clone(&together.budget),
            attempts,
        };
        let releaser = Releaser::sharing(lanes, parts, &shared);
        let watching = together.watch(&clock, &alerts);
        let (gate, releaser) = (Arc::new(gate), Arc::new(releaser));
        Ok(Self {
            clock,
            decider,
            hold,
            consent,
            receipts,
            alerts,
            metrics,
            gate,
            releaser,
            beyond,
            watching,
        })
    }
}

/// Reads the rule packs that `config` names.
///
/// # Errors
/// A name that is not built in, a file that cannot be read.
pub(super) fn packs(config: &Config) -> Result<Vec<PackSource>, Failure> {
    let mut packs = Vec::new();
    for name in &config.rules.builtin {
        let text = match name.as_str() {
            "kr" => KR_PACK,
            other => {
                let text = format!("no built-in rule pack named {other}");
                return Err(Failure::usage(text));
            }
        };
        let name = format!("rules/{name}.toml");
        let text = text.to_owned();
        packs.push(PackSource { name, text });
    }
    for path in &config.rules.packs {
        packs.push(pack(path)?);
    }
    Ok(packs)
}

/// Reads one rule pack.
pub(super) fn pack(path: impl AsRef<Path>) -> Result<PackSource, Failure> {
    let name = path.as_ref().display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("rule pack {name} cannot be read: {error}")))?;
    Ok(PackSource { name, text })
}

/// Every fault of rule packs, one a line.
pub(super) fn pack_faults(faults: &[PackFault]) -> Failure {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Failure::usage(format!("rule packs have faults:\n{}", lines.join("\n")))
}

/// Loads the rule packs that `config` names.
///
/// # Errors
/// Every fault of every pack, with file and line.
pub fn rules(config: &Config) -> Result<Ruleset, Failure> {
    let rules = Ruleset::load(&packs(config)?).map_err(|faults| pack_faults(&faults))?;
    Ok(match config.consent.validity {
        ConsentValidity::Pack => rules,
        ConsentValidity::Off => rules.with_consent_validity(None),
        ConsentValidity::Years(years) => rules.with_consent_validity(Some(years.into())),
    })
}

fn routes(config: &Config) -> Routes {
    let all = Purpose::ALL
        .iter()
        .flat_map(|purpose| Channel::ALL.iter().map(move |channel| (*purpose, *channel)));
    Routes::new(all.filter_map(|(purpose, channel)| {
        let lane = config.lane_of(purpose, channel)?;
        Some(((purpose, channel), Lane::new(lane)))
    }))
}

fn lane_options(config: &Config, lane: &LaneConfig) -> LaneOptions {
    let on_unknown = |choice| match choice {
        ConfiguredOnUnknown::Bury => OnUnknown::Bury,
        ConfiguredOnUnknown::Retry => OnUnknown::Retry,
    };
    LaneOptions {
        lane: Lane::new(&lane.name),
        pace: Pace {
            rate: NonZeroU32::new(lane.rate),
            burst: NonZeroU32::new(lane.burst).unwrap_or(NonZeroU32::MIN),
            slow_start: short(lane.slow_start),
            slow_start_from: lane.slow_start_from,
        },
        in_flight: lane.in_flight,
        batch_max: lane.batch_max,
        tick_max: config.release.tick_max,
        lease_ttl: config.release.lease_ttl,
        attempts_max: lane.attempts_max,
        backoff: Backoff {
            min: short(lane.backoff_min),
            max: short(lane.backoff_max),
        },
        unknown_advertising: on_unknown(lane.unknown_advertising),
        unknown_informational: on_unknown(lane.unknown_informational),
        nothing_moved_after: short(config.alerts.nothing_moved_after),
        failing_after: config.alerts.failing_after,
    }
}

/// The sink of each lane, in order.
pub(super) async fn sinks(
    config: &Config,
    clock: &Arc<dyn Clock>,
    beyond: &Beyond,
) -> Result<Vec<Arc<dyn Sink>>, Failure> {
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::with_capacity(config.lanes.len());
    for lane in &config.lanes {
        let clock = Arc::clone(clock);
        sinks.push(match &lane.sink {
            SinkConfig::Log(log) => match &log.path {
                Some(path) => Arc::new(LogSink::file(path, clock)?),
                None => Arc::new(LogSink::stdout(clock)),
            },
            SinkConfig::Webhook(webhook) => {
                Arc::new(WebhookSink::new(&webhook_options(webhook), clock)?)
            }
            SinkConfig::Sqs(sqs) => beyond.aws.sink(sqs, clock).await?,
        });
    }
    Ok(sinks)
}

fn webhook_options(webhook: &WebhookConfig) -> WebhookOptions {
    let secret = webhook.secret.clone();
    WebhookOptions {
        batch_max: webhook.batch_max,
        timeout: webhook.timeout,
        connect_timeout: webhook.connect_timeout,
        headers: webhook.headers.clone(),
        allow_plain_http: webhook.allow_plain_http,
        ..WebhookOptions::new(Secret::new(webhook.url.as_str()), secret)
    }
}

pub(super) async fn ports(
    config: &Config,
    clock: &Arc<dyn Clock>,
    beyond: &Beyond,
) -> Result<Vec<Arc<dyn AlertPort>>, Failure> {
    let mut ports: Vec<Arc<dyn AlertPort>> = vec![Arc::new(LogPort)];
    if let Some(url) = &config.alerts.slack_url {
        let options = SlackOptions::new(url.clone(), config.alerts.language);
        let slack: Arc<dyn AlertPort> = Arc::new(SlackPort::new(&options, Arc::clone(clock))?);
        let claims = match config.alerts.shared {
            AlarmsShared::None => None,
            AlarmsShared::Redis => Some(beyond.redis.claims().await?),
            AlarmsShared::MongoDb => Some(beyond.mongodb.claims().await?),
            AlarmsShared::DynamoDb => Some(beyond.aws.claims(config, clock).await?),
        };
        ports.push(match claims {
            Some(claims) => Arc::new(OncePort::new(slack, claims, config.alerts.repeat_after)),
            None => slack,
        });
    }
    Ok(ports)
}

/// What stops the release where a clock cannot be trusted.
fn freeze(config: &Config, together: &Together) -> Freeze {
    let freeze = Freeze::new(config.clock.jump_tolerance, short(config.clock.freeze));
    match together.skew() {
        Some(skew) => freeze.beside(skew),
        None => freeze,
    }
}

fn short(duration: SignedDuration) -> Duration {
    Duration::try_from(duration).unwrap_or(Duration::ZERO)
}

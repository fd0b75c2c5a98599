//! Builds the gate and the releasers of a night, with the real rules, over faulty ports.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use nightgate::alert::desk::Alerts;
use nightgate::backoff::Backoff;
use nightgate::consent::ConsentBook;
use nightgate::decider::Decider;
use nightgate::gate::{Gate, GateParts, Routes};
use nightgate::hold::{HoldStore, Lane};
use nightgate::metrics::Metrics;
use nightgate::receipt::ReceiptLog;
use nightgate::release::freeze::Freeze;
use nightgate::release::limiter::Pace;
use nightgate::release::{LaneOptions, OnUnknown, Releaser, ReleaserParts};
use nightgate::sink::Sink;
use nightgate_core::ruleset::PackSource;
use nightgate_core::{House, Jurisdiction, Purpose, Ruleset};

use crate::faults::{Faults, FaultyBook, FaultyLog};
use crate::history::Who;
use crate::knobs::{Knobs, LANES, Mutant};
use crate::script::Script;
use crate::sink::FakeSink;
use crate::store::FaultyHold;
use crate::world::{SimClock, World};

/// As in config/default.toml.
const JUMP_TOLERANCE: SignedDuration = SignedDuration::from_secs(60);
const FREEZE: Duration = Duration::from_secs(300);
/// The stores of one night. They outlive every crash.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) hold: Arc<dyn HoldStore>,
    pub(crate) book: Arc<dyn ConsentBook>,
    pub(crate) log: Arc<dyn ReceiptLog>,
}

/// Metrics are counted for all nights together: nothing here reads them.
fn metrics() -> Arc<Metrics> {
    static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();
    Arc::clone(METRICS.get_or_init(|| Arc::new(Metrics::default())))
}

fn rules(mutant: Option<Mutant>) -> Arc<Ruleset> {
    static RULES: OnceLock<Arc<Ruleset>> = OnceLock::new();
    let source = |name: &str, text: String| PackSource {
        name: name.to_owned(),
        text,
    };
    let law = include_str!("../../../../rules/kr.toml").to_owned();
    let load = |sources: &[PackSource]| Arc::new(Ruleset::load(sources).expect("packs load"));
    match mutant {
        Some(Mutant::RulesOnTheWrongClock) => load(&[source(
            "kr.toml",
            law.replace("Asia/Seoul", "Asia/Calcutta"),
        )]),
        Some(Mutant::InformationMustWait) => {
            let house = r#"
                [pack]
                id = "house"
                title = "Nobody is woken"
                jurisdiction = "*"
                clock = "recipient"
                [[rule]]
                id = "house.quiet"
                purpose = ["informational"]
                except_channels = []
                open.every_day = ["08:00-21:00"]
                outside = "hold"
                citation = "a mutant"
                confidence = "house"
            "#;
            load(&[
                source("kr.toml", law),
                source("house.toml", house.to_owned()),
            ])
        }
        _ => Arc::clone(RULES.get_or_init(|| load(&[source("kr.toml", law)]))),
    }
}

fn decider(script: &Script, world: &Arc<World>, stores: &Stores, who: Who) -> Arc<Decider> {
    let book = FaultyBook {
        faults: Faults::new(world, who, "consent"),
        inner: Arc::clone(&stores.book),
        keys: Arc::clone(&script.keys),
        stale: Mutex::default(),
    };
    let jurisdiction = Jurisdiction::new("KR").unwrap();
    let zone = TimeZone::get("Asia/Seoul").unwrap();
    let house = House { jurisdiction, zone };
    Arc::new(Decider::new(
        rules(world.knobs.mutant),
        house,
        Arc::new(book),
    ))
}

fn hold(world: &Arc<World>, stores: &Stores, who: Who) -> Arc<FaultyHold> {
    let faults = Faults::new(world, who, "hold");
    Arc::new(FaultyHold {
        faults,
        inner: Arc::clone(&stores.hold),
    })
}

fn log(world: &Arc<World>, stores: &Stores, who: Who) -> Arc<FaultyLog> {
    let faults = Faults::new(world, who, "receipt");
    Arc::new(FaultyLog {
        faults,
        inner: Arc::clone(&stores.log),
    })
}

pub(crate) fn gate(script: &Script, world: &Arc<World>, stores: &Stores) -> Gate {
    let pairs = LANES.iter().flat_map(|(lane, channels)| {
        let lane = Lane::new(lane);
        channels.iter().flat_map(move |channel| {
            let lane = lane.clone();
            Purpose::ALL
                .iter()
                .map(move |purpose| ((*purpose, *channel), lane.clone()))
        })
    });
    Gate::new(GateParts {
        keep_ids: nightgate::hold::HORIZON_DEFAULT,
        decider: decider(script, world, stores, Who::Gate),
        routes: Routes::new(pairs),
        clock: Arc::new(SimClock(Arc::clone(world))),
        hold: hold(world, stores, Who::Gate),
        receipts: log(world, stores, Who::Gate),
        alerts: Alerts::silent(),
        metrics: metrics(),
    })
}

pub(crate) fn releaser(
    script: &Script,
    world: &Arc<World>,
    stores: &Stores,
    number: u8,
) -> Releaser {
    let who = Who::Releaser(number);
    let lanes = (0..LANES.len())
        .map(|lane| {
            let sink = FakeSink {
                world: Arc::clone(world),
                who,
                lane,
            };
            (
                lane_options(&world.knobs, lane),
                Arc::new(sink) as Arc<dyn Sink>,
            )
        })
        .collect();
    let parts = ReleaserParts {
        decider: decider(script, world, stores, who),
        clock: Arc::new(SimClock(Arc::clone(world))),
        hold: hold(world, stores, who),
        receipts: log(world, stores, who),
        alerts: Alerts::silent(),
        metrics: metrics(),
        freeze: Freeze::new(JUMP_TOLERANCE, FREEZE),
        random: Mutex::new(fastrand::Rng::with_seed(world.chance(|rng| rng.u64(..)))),
    };
    Releaser::new(lanes, parts)
}

fn lane_options(knobs: &Knobs, lane: usize) -> LaneOptions {
    let factor = if knobs.mutant == Some(Mutant::PaceDoubled) {
        2
    } else {
        1
    };
    let claimed = knobs.mutant == Some(Mutant::RetryClaimedBury);
    let advertising = if claimed {
        OnUnknown::Retry
    } else {
        knobs.unknown_advertising
    };
    LaneOptions {
        lane: Lane::new(LANES[lane].0),
        pace: Pace {
            rate: NonZeroU32::new(knobs.rate * factor).filter(|_| !knobs.unpaced),
            burst: NonZeroU32::new(knobs.burst).unwrap(),
            slow_start: Duration::from_secs(knobs.seed % 3 * 10),
            slow_start_from: 0.2,
        },
        in_flight: knobs.in_flight,
        batch_max: 0,
        tick_max: knobs.tick_max,
        lease_ttl: SignedDuration::from_secs(knobs.lease_secs),
        attempts_max: 5,
        backoff: Backoff {
            min: Duration::from_secs(1),
            max: Duration::from_secs(300),
        },
        unknown_advertising: advertising,
        unknown_informational: knobs.unknown_informational,
        nothing_moved_after: Duration::from_secs(600),
        failing_after: 5,
    }
}

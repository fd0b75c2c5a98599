//! What kind of night a seed makes.

use nightgate::release::OnUnknown;
use nightgate_core::Channel;

/// Lanes and the channels they carry.
pub(crate) const LANES: [(&str, &[Channel]); 3] = [
    (
        "sms",
        &[
            Channel::Sms,
            Channel::Lms,
            Channel::Mms,
            Channel::Rcs,
            Channel::Push,
            Channel::Voice,
            Channel::Fax,
        ],
    ),
    (
        "kakao",
        &[
            Channel::Alimtalk,
            Channel::Friendtalk,
            Channel::Brandmessage,
        ],
    ),
    ("mail", &[Channel::Email]),
];

/// Number of releasers over one hold.
pub(crate) const RELEASERS: u8 = 2;

/// The lane that carries `channel`.
pub(crate) fn lane_of(channel: Channel) -> usize {
    LANES
        .iter()
        .position(|(_, channels)| channels.contains(&channel))
        .expect("all are carried")
}

/// A part that is wrong on purpose, to see that the oracle notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    SinkIgnoresPermit,
    HoldForgetsLapses,
    HoldObeysNobodyAndSaysYes,
    HoldLosesDeferred,
    HoldLosesPuts,
    HoldDedupesNothing,
    HoldRecallsNothing,
    HoldKeepsBuriedMoving,
    HoldRedatesToNever,
    HoldForgetsPauses,
    BookIsStale,
    LogDropsAttempted,
    LogForgets,
    ClockHidesSteps,
    PaceDoubled,
    RetryClaimedBury,
    RulesOnTheWrongClock,
    InformationMustWait,
}

/// How wild a night is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// No faults, no pauses, no steps: what must be prompt is held to it.
    Calm,
    /// Now and then something fails.
    Rough,
    /// Nothing can be relied on.
    Wild,
    /// Clocks are set wrong and calls stall, most of all around closing time.
    Stormy,
}

/// All that is drawn once a night.
#[derive(Clone, Debug)]
pub(crate) struct Knobs {
    pub(crate) seed: u64,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) weather: Weather,
    /// Faulty port calls in a thousand.
    pub(crate) port_faults: u32,
    /// Faulty sink calls in a thousand.
    pub(crate) sink_faults: u32,
    /// Times the wall clock is set wrong.
    pub(crate) steps: usize,
    pub(crate) messages: usize,
    pub(crate) rate: u32,
    pub(crate) burst: u32,
    /// Lanes have no rate: a tick has many rounds under way.
    pub(crate) unpaced: bool,
    pub(crate) in_flight: usize,
    pub(crate) sink_batch: usize,
    pub(crate) tick_max: usize,
    pub(crate) lease_secs: i64,
    /// What the oracle is told about unknown outcomes of advertising.
    pub(crate) unknown_advertising: OnUnknown,
    pub(crate) unknown_informational: OnUnknown,
    /// A calm night on which people stop lanes all the same.
    pub(crate) calm_pauses: bool,
    /// A lane stays paused to the end.
    pub(crate) left_paused: Option<usize>,
    /// Days after 22 November 2026.
    pub(crate) day: i64,
}

impl Knobs {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let weather = match rng.u32(0..10) {
            0..2 => Weather::Calm,
            2..5 => Weather::Rough,
            5..8 => Weather::Wild,
            _ => Weather::Stormy,
        };
        let (port_faults, sink_faults) = match weather {
            Weather::Calm => (0, 0),
            Weather::Rough => (rng.u32(2..10), rng.u32(20..100)),
            Weather::Wild => (rng.u32(10..60), rng.u32(100..500)),
            Weather::Stormy => (rng.u32(10..60), rng.u32(200..1000)),
        };
        let calm = weather == Weather::Calm;
        let steps = match weather {
            Weather::Calm => 0,
            Weather::Stormy => rng.usize(1..5),
            _ if rng.u32(0..3) > 0 => 0,
            _ => rng.usize(1..3),
        };
        let policy = |retry: bool| {
            if retry {
                OnUnknown::Retry
            } else {
                OnUnknown::Bury
            }
        };
        Self {
            seed,
            mutant: None,
            weather,
            port_faults,
            sink_faults,
            steps,
            messages: rng.usize(20..90),
            rate: rng.u32(2..12),
            burst: rng.u32(1..12),
            unpaced: seed % 4 == 3,
            in_flight: rng.usize(1..4),
            sink_batch: rng.usize(1..6),
            tick_max: rng.usize(5..60),
            lease_secs: rng.i64(20..150),
            unknown_advertising: policy(rng.u32(0..4) == 0),
            unknown_informational: policy(rng.u32(0..4) > 0),
            calm_pauses: calm && seed % 2 == 1,
            left_paused: (!calm && rng.u32(0..10) == 0).then(|| rng.usize(0..LANES.len())),
            day: rng.i64(0..90),
        }
    }

    pub(crate) fn with(mut self, mutant: Mutant) -> Self {
        self.mutant = Some(mutant);
        self
    }
}

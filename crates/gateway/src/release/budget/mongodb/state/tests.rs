//! Takers that read clock and bucket, sleep, and write if nobody was quicker, in any order.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::release::budget::mongodb::CUT;
use crate::release::budget::slices::world::is_within;
use crate::release::limiter::Pace;

/// The server's clock at the start, in milliseconds.
const START: i64 = 1_800_000_000_000;

fn bucket(rate: u32, burst: u32, slow_secs: u64) -> Bucket {
    let pace = Pace {
        rate: NonZeroU32::new(rate),
        burst: NonZeroU32::new(burst).unwrap(),
        slow_start: Duration::from_secs(slow_secs),
        slow_start_from: 0.1,
    };
    Bucket::of(pace, GOOD_MIN).unwrap()
}

/// What one of the takers does, so long after what happened before: eighths of the time in which
/// the rate makes a burst, and microseconds.
#[derive(Clone, Debug)]
struct Step {
    taker: usize,
    eighths: u32,
    micros: u64,
    act: Act,
}

#[derive(Clone, Debug)]
enum Act {
    /// Goes on: reads the server's clock, then the bucket, then reckons and writes, unless somebody
    /// was quicker.
    Go { want: usize, slowly: bool },
    /// Hands over what it has leave for.
    Send,
    /// The same at the very last microsecond of its leave.
    SendLast,
    /// Gives it back.
    GiveBack,
    /// Somebody sets the server's clock back by so many milliseconds.
    SetBack(u32),
}

fn any_steps(last: impl Strategy<Value = Act> + 'static) -> impl Strategy<Value = Vec<Step>> {
    let want = prop_oneof![3 => Just(1 << 32), 1 => 1..400_usize];
    let slowly = prop_oneof![30 => Just(false), 1 => Just(true)];
    let act = prop_oneof![
        12 => (want, slowly).prop_map(|(want, slowly)| Act::Go { want, slowly }),
        2 => Just(Act::Send),
        3 => Just(Act::SendLast),
        1 => last,
    ];
    let eighths = prop_oneof![6 => Just(0), 1 => 1..5_u32];
    let micros = prop_oneof![3 => Just(0), 1 => 0..3_000_u64];
    let step = (0..4_usize, eighths, micros, act);
    let step = step.prop_map(|(taker, eighths, micros, act)| Step {
        taker,
        eighths,
        micros,
        act,
    });
    prop::collection::vec(step, 1..200)
}

/// How far a taker is on its way to leave.
#[derive(Clone, Copy, Default)]
enum Way {
    #[default]
    Idle,
    /// The server's clock, and when it was read.
    Clock(i64, Duration),
    /// Both, the bucket and its version, and how long that took.
    Bucket(i64, Duration, State, u64, Duration),
}

#[derive(Clone, Copy, Default)]
struct Taker {
    way: Way,
    messages: usize,
    until: Duration,
    ends: i64,
}

/// The bucket, and the server's clock.
struct Server {
    state: State,
    version: u64,
    back: Duration,
}

impl Server {
    fn shows(&self, now: Duration) -> i64 {
        START + whole_millis(now) - whole_millis(self.back)
    }

    fn go(&mut self, taker: &mut Taker, bucket: &Bucket, now: Duration, want: usize, slowly: bool) {
        taker.way = match taker.way {
            Way::Idle => Way::Clock(self.shows(now), now),
            Way::Clock(time, began) => {
                Way::Bucket(time, began, self.state, self.version, now - began)
            }
            Way::Bucket(time, began, state, version, took) => {
                let mut next = state.at(time, took);
                let given = next.take(bucket, want, slowly, time);
                if version == self.version {
                    (self.version, self.state) = (version + 1, next);
                    taker.messages = given.messages;
                    taker.until = (began + given.good).saturating_sub(CUT);
                    taker.ends = time + whole_millis(given.good);
                }
                Way::Idle
            }
        };
    }
}

/// What the receiver gets of takers who share one bucket.
fn play(bucket: &Bucket, steps: &[Step]) -> Vec<(Duration, usize)> {
    let eighth = Duration::from_secs_f64(bucket.burst / bucket.rate / 8.0);
    let mut server = Server {
        state: State::full(),
        version: 0,
        back: Duration::ZERO,
    };
    // So far from the beginning that no leave ends before it.
    let mut now = Duration::from_secs(10);
    let (mut takers, mut received) = ([Taker::default(); 4], Vec::new());
    for step in steps {
        now += eighth * step.eighths + Duration::from_micros(step.micros);
        let taker = &mut takers[step.taker];
        match step.act {
            Act::Go { want, slowly } => server.go(taker, bucket, now, want, slowly),
            Act::Send | Act::SendLast => {
                let last = taker.until.saturating_sub(Duration::from_micros(1));
                if matches!(step.act, Act::SendLast) && taker.messages > 0 {
                    now = now.max(last);
                }
                let messages = std::mem::take(&mut taker.messages);
                if now < taker.until {
                    received.push((now, messages));
                }
            }
            Act::GiveBack => {
                let messages = std::mem::take(&mut taker.messages);
                let time = server.shows(now);
                if server.state.give_back(messages, taker.ends, time) {
                    server.version += 1;
                }
            }
            Act::SetBack(by) => server.back += Duration::from_millis(by.into()),
        }
    }
    received
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn who_sleeps_between_reading_and_writing_gets_no_more_than_rate_and_burst(
        steps in any_steps(Just(Act::GiveBack)),
        rate in prop_oneof![1..20_u32, 20..5_000_u32],
        burst in prop_oneof![1..10_u32, 10..2_000_u32],
        slow_start in 0..3_u64,
    ) {
        let bucket = bucket(rate, burst, slow_start);
        is_within(&play(&bucket, &steps), rate, bucket.burst);
    }

    #[test]
    fn a_clock_that_is_set_back_gives_no_time_twice(
        steps in any_steps((0..9_000_u32).prop_map(Act::SetBack)),
        rate in prop_oneof![1..20_u32, 20..5_000_u32],
        burst in prop_oneof![1..10_u32, 10..2_000_u32],
        slow_start in 0..3_u64,
    ) {
        let bucket = bucket(rate, burst, slow_start);
        is_within(&play(&bucket, &steps), rate, bucket.burst);
    }
}

#[test]
fn an_older_time_gives_less_and_turns_nothing_back() {
    let bucket = bucket(100, 100, 0);
    let mut state = State::full();
    assert_eq!(state.take(&bucket, 50, false, START).messages, 50);
    let mut late = state;
    assert_eq!(late.take(&bucket, 50, false, START + 300).messages, 30);
    let at = late.at;
    let old = late.take(&bucket, 50, false, START + 200);
    assert_eq!((old.messages, late.at), (0, at));
    assert_eq!(late.take(&bucket, 50, false, START + 400).messages, 10);
}

#[test]
fn a_lane_goes_on_when_the_servers_clock_was_set_back_by_an_hour() {
    let bucket = bucket(100, 100, 0);
    let mut state = State::full();
    state.take(&bucket, 50, false, START);
    let hour_ago = START - 3_600_000;
    let mut state = state.at(hour_ago, Duration::ZERO);
    assert_eq!(state.take(&bucket, 50, false, hour_ago).messages, 0);
    assert_eq!(state.take(&bucket, 50, false, hour_ago + 200).messages, 20);
}

#[test]
fn a_bucket_reads_back_as_it_was_written() {
    let mut state = State::full();
    state.take(&bucket(7, 3, 1), 2, true, START);
    state.give_back(1, START + 9, START);
    assert_eq!(State::read(&state.document(), "test").unwrap(), state);
}

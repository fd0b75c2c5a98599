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

/// What one of the takers does, so long after what happened before.
#[derive(Clone, Debug)]
struct Step {
    taker: usize,
    after: Duration,
    act: Act,
}

#[derive(Clone, Debug)]
enum Act {
    /// Reads the server's clock, and so much later the bucket.
    Read(Duration),
    /// Reckons with what it read, and writes unless somebody was quicker.
    Write { want: usize, slowly: bool },
    /// Hands over what it has leave for.
    Send,
    /// Gives it back.
    GiveBack,
    /// Somebody sets the server's clock back.
    SetBack(Duration),
}

fn any_steps(sets_back: bool) -> impl Strategy<Value = Vec<Step>> {
    let millis = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    let micros = |range: std::ops::Range<u64>| range.prop_map(Duration::from_micros);
    let time =
        move || prop_oneof![6 => micros(0..5_000), 2 => millis(0..200), 1 => millis(0..3_000)];
    let write = (1..400_usize, any::<bool>());
    let write = write.prop_map(|(want, slowly)| Act::Write { want, slowly });
    let last = match sets_back {
        true => millis(0..9_000).prop_map(Act::SetBack).boxed(),
        false => Just(Act::GiveBack).boxed(),
    };
    let act = prop_oneof![
        6 => time().prop_map(Act::Read),
        6 => write,
        5 => Just(Act::Send),
        1 => last,
    ];
    let step = (0..4_usize, time(), act);
    let step = step.prop_map(|(taker, after, act)| Step { taker, after, act });
    prop::collection::vec(step, 1..250)
}

#[derive(Clone, Copy, Default)]
struct Taker {
    read: Option<(i64, State, i64, Duration)>,
    /// From before it was read.
    began: Duration,
    messages: usize,
    until: Duration,
    ends: i64,
}

/// What the receiver gets of takers who share one bucket.
fn play(bucket: &Bucket, steps: &[Step]) -> Vec<(Duration, usize)> {
    let (mut now, mut back) = (Duration::ZERO, Duration::ZERO);
    let (mut version, mut state) = (0, State::full());
    let (mut takers, mut received) = ([Taker::default(); 4], Vec::new());
    let shows = |now: Duration, back| START + whole_millis(now) - whole_millis(back);
    for step in steps {
        now += step.after;
        let taker = &mut takers[step.taker];
        match step.act {
            Act::Read(took) => {
                let time = shows(now, back);
                taker.began = now;
                now += took;
                taker.read = Some((version, state, time, took));
            }
            Act::Write { want, slowly } => {
                let Some((seen, was, time, took)) = taker.read.take() else {
                    continue;
                };
                let mut next = was.at(time, took);
                let given = next.take(bucket, want, slowly, time);
                if seen == version {
                    (version, state) = (version + 1, next);
                    taker.messages = given.messages;
                    taker.until = (taker.began + given.good).saturating_sub(CUT);
                    taker.ends = time + whole_millis(given.good);
                }
            }
            Act::Send => {
                let messages = std::mem::take(&mut taker.messages);
                if now < taker.until {
                    received.push((now, messages));
                }
            }
            Act::GiveBack => {
                let messages = std::mem::take(&mut taker.messages);
                let (ends, time) = (taker.ends, shows(now, back));
                if state.give_back(messages, ends, time) {
                    version += 1;
                }
            }
            Act::SetBack(by) => back += by,
        }
    }
    received
}

proptest! {
    #[test]
    fn who_sleeps_between_reading_and_writing_gets_no_more_than_rate_and_burst(
        steps in any_steps(false),
        rate in prop_oneof![1..20_u32, 20..5_000_u32],
        burst in prop_oneof![1..10_u32, 10..2_000_u32],
        slow_start in 0..3_u64,
    ) {
        let bucket = bucket(rate, burst, slow_start);
        is_within(&play(&bucket, &steps), rate, bucket.burst);
    }

    #[test]
    fn a_clock_that_is_set_back_gives_no_time_twice(
        steps in any_steps(true),
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

//! When the night is over: every message at one end of the road, every end with its receipt, and
//! the hold's own counts.

use std::collections::HashSet;

use nightgate::hold::{End, State};
use nightgate::receipt::Event;
use nightgate_core::Purpose;

use super::{Track, Violation};
use crate::drive::Night;
use crate::history::Ending;
use crate::knobs::{Weather, lane_of};

pub(super) fn check(night: &Night, tracks: &[Track], found: &mut Vec<Violation>) {
    let mut counted = [0_u64; 3];
    for (id, track) in tracks.iter().enumerate() {
        let found_as = night.found[id].as_ref().map(|found| found.state);
        let state = found_as.or_else(|| ended(track).filter(|_| night.known[id]));
        match state {
            Some(State::Held) => counted[0] += 1,
            Some(State::Leased) => counted[1] += 1,
            Some(State::Buried) => counted[2] += 1,
            _ => {}
        }
        let mut say = |rule, text: String| {
            found.push(Violation {
                rule,
                id: Some(id),
                text,
            })
        };
        match state {
            None if night.known[id] => {
                say("2 one end", "gone, and nothing ended it".to_owned());
            }
            None if track.acknowledged.is_some() => {
                say(
                    "2 one end",
                    "acknowledged, and the hold does not know it".to_owned(),
                );
            }
            None => continue,
            Some(state) => {
                if let Some(text) = wrong_end(night, id, track, state) {
                    say("2 one end", text);
                }
                if let Some(text) = no_receipt(track, state) {
                    say("5 receipts", text);
                }
            }
        }
        let decided = [
            Event::Accepted,
            Event::Held,
            Event::Refused,
            Event::Attempted,
        ];
        let expired = track.filed.contains(&Event::Expired);
        let decided = decided.iter().any(|event| track.filed.contains(event)) || expired;
        if track.acknowledged.is_some() && !decided {
            say(
                "5 receipts",
                "acknowledged without a decision on file".to_owned(),
            );
        }
    }
    if counted != night.counts {
        let text = format!(
            "[held, leased, buried] {:?} by shelf, {counted:?} by id",
            night.counts
        );
        found.push(Violation {
            rule: "2 counts",
            id: None,
            text,
        });
    }
}

/// How a message ended whose end the hold does not tell: by what it obeyed.
fn ended(track: &Track) -> Option<State> {
    match track.obeyed {
        Some(Ending::Done(end)) => Some(as_state(end)),
        _ => (!track.recalls.is_empty()).then_some(State::Recalled),
    }
}

fn wrong_end(night: &Night, id: usize, track: &Track, state: State) -> Option<String> {
    let message = &night.script.lines[id].message;
    let calm = night.script.knobs.weather == Weather::Calm;
    let paused = night.script.knobs.left_paused == Some(lane_of(message.channel));
    if let Some(Ending::Done(end)) = track.obeyed
        && state != as_state(end)
    {
        return Some(format!("settled as {end:?} and obeyed, but is {state:?}"));
    }
    let wrong = match state {
        State::Held => !paused,
        State::Leased => !paused,
        State::Buried => calm,
        State::Recalled => track.recalls.is_empty(),
        State::Delivered => track.received.is_empty(),
        State::Refused => message.purpose == Purpose::Informational && message.expires_at.is_none(),
        State::Expired => message.expires_at.is_none(),
        State::Rejected => !track.said.contains("rejected"),
    };
    wrong.then(|| format!("ends as {state:?}, which nothing explains"))
}

fn as_state(end: End) -> State {
    match end {
        End::Delivered => State::Delivered,
        End::Refused => State::Refused,
        End::Expired => State::Expired,
        End::Rejected => State::Rejected,
    }
}

/// The receipt that `state` calls for, unless it is on file or the log refused to take it.
fn no_receipt(track: &Track, state: State) -> Option<String> {
    let event = match state {
        State::Held | State::Leased | State::Recalled => return None,
        State::Delivered => Event::Delivered,
        State::Refused => Event::Refused,
        State::Expired => Event::Expired,
        State::Rejected => Event::Rejected,
        State::Buried => Event::Buried,
    };
    let lost: &HashSet<Event> = &track.not_filed;
    let there = track.filed.contains(&event) || lost.contains(&event);
    (!there).then(|| format!("ends as {state:?} without that receipt"))
}

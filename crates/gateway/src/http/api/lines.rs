//! Answers in a stream, one a line: what serde writes of a `MessageAnswer`, byte for byte, but
//! what many of them share is written once.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::view::{AnswerStatus, MessageAnswer};
use crate::gate::{Accepted, Ruling, Status};
use crate::ingest::wire::Faulty;

/// Endings kept at once: the rulings of one batch, by due.
const ENDINGS_MAX: usize = 16;
/// Digits of the largest line number.
const DIGITS_MAX: usize = 20;

/// Writes answers.
pub struct Pen<'a> {
    house: &'a TimeZone,
    text: Vec<u8>,
    endings: Vec<Ending>,
    next: usize,
}

/// A line from its status on. Messages that were told the same share it.
struct Ending {
    status: Status,
    due: Option<Timestamp>,
    ruling: Option<Arc<Ruling>>,
    text: Vec<u8>,
}

impl Ending {
    fn is_of(&self, accepted: &Accepted) -> bool {
        let shared = match (&self.ruling, &accepted.ruling) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        shared && self.status == accepted.status && self.due == accepted.due
    }
}

impl<'a> Pen<'a> {
    /// A pen for about `lines` answers. `house`: the clock on which a due is shown when the gate
    /// knows no other.
    #[must_use]
    pub fn new(house: &'a TimeZone, lines: usize) -> Self {
        Self {
            house,
            text: Vec::with_capacity(lines * 160),
            endings: Vec::new(),
            next: 0,
        }
    }

    /// All that was written.
    #[must_use]
    pub fn done(self) -> Vec<u8> {
        self.text
    }

    /// The gate's answer to a line.
    pub fn accepted(&mut self, line: u64, accepted: Accepted) {
        if !accepted.faults.is_empty() || accepted.why.is_some() {
            let answer = MessageAnswer::of(accepted, self.house);
            return self.whole(line, answer);
        }
        let known = self.endings.iter().position(|it| it.is_of(&accepted));
        let known = known.unwrap_or_else(|| self.ending(&accepted));
        let id = Some(accepted.id.as_str());
        begin(&mut self.text, line, id);
        self.text.extend_from_slice(&self.endings[known].text);
    }

    /// The answer to a line that is no message.
    pub fn faulty(&mut self, line: u64, faulty: Faulty) {
        self.whole(line, MessageAnswer::faulty(faulty));
    }

    /// The answer to a line that could not be stored.
    pub fn failed(&mut self, line: u64, id: Option<&str>) {
        begin(&mut self.text, line, id);
        end(&mut self.text, &MessageAnswer::failed());
    }

    fn whole(&mut self, line: u64, answer: MessageAnswer) {
        let line = Some(line);
        write_line(&mut self.text, &MessageAnswer { line, ..answer });
    }

    /// Keeps the ending of an answer; says where.
    fn ending(&mut self, accepted: &Accepted) -> usize {
        let mut text = Vec::new();
        end(&mut text, &MessageAnswer::ruled(accepted, self.house));
        let ending = Ending {
            status: accepted.status,
            due: accepted.due,
            ruling: accepted.ruling.clone(),
            text,
        };
        if self.endings.len() < ENDINGS_MAX {
            self.endings.push(ending);
            return self.endings.len() - 1;
        }
        let place = self.next;
        self.next = (place + 1) % ENDINGS_MAX;
        self.endings[place] = ending;
        place
    }
}

/// Whether an answer tells of something to look into.
pub(super) fn is_problem(status: AnswerStatus) -> bool {
    use AnswerStatus::{Failed, Invalid, Refused};
    matches!(status, Refused | Invalid | Failed)
}

pub(super) fn write_line(text: &mut Vec<u8>, line: &impl Serialize) {
    // Writing these shapes into memory cannot fail.
    let _ = serde_json::to_writer(&mut *text, line);
    text.push(b'\n');
}

/// A line up to its id.
fn begin(text: &mut Vec<u8>, line: u64, id: Option<&str>) {
    text.extend_from_slice(b"{\"line\":");
    number(text, line);
    if let Some(id) = id {
        text.extend_from_slice(b",\"id\":");
        // Ids are visible ASCII: only these two are written otherwise in JSON.
        if id.bytes().any(|byte| matches!(byte, b'"' | b'\\')) {
            let _ = serde_json::to_writer(&mut *text, id);
        } else {
            text.push(b'"');
            text.extend_from_slice(id.as_bytes());
            text.push(b'"');
        }
    }
    text.push(b',');
}

/// The rest of a line, its end included; `answer` bears neither line nor id.
fn end(text: &mut Vec<u8>, answer: &MessageAnswer) {
    let start = text.len();
    write_line(text, answer);
    text.remove(start);
}

fn number(text: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use nightgate_core::{Code, FieldFault, MessageId};

    use super::*;

    fn ruling(code: Code, rule: Option<&str>, zone: &str) -> Arc<Ruling> {
        Arc::new(Ruling {
            code,
            rule: rule.map(Into::into),
            zone: zone.into(),
            clock: TimeZone::get(zone.split('+').next().unwrap()).ok(),
        })
    }

    /// Every status, with and without each part that its answer may have.
    fn answers() -> Vec<Accepted> {
        let rulings = [
            None,
            Some(ruling(Code::QuietHours, Some("kr.night"), "Asia/Seoul")),
            Some(ruling(Code::Open, None, "America/Adak+America/Nome")),
            Some(ruling(Code::Withdrawn, Some("house.\"odd\""), "Asia/Seoul")),
        ];
        let dues: [Option<Timestamp>; 3] = [
            None,
            "2026-11-22T23:00:00Z".parse().ok(),
            "2026-11-22T23:00:00.000000001Z".parse().ok(),
        ];
        let mut all = Vec::new();
        for (at, id) in ["m-1", "with\"quote", "back\\slash", &"long".repeat(32)]
            .into_iter()
            .enumerate()
        {
            for (status, ruling, due) in Status::ALL.iter().flat_map(|status| {
                let dues = move |ruling| dues.map(|due| (*status, ruling, due));
                rulings.iter().flat_map(dues)
            }) {
                let fault = FieldFault::new("zone", "must be an IANA time zone");
                all.push(Accepted {
                    id: MessageId::new(id).unwrap(),
                    status,
                    due,
                    ruling: ruling.clone(),
                    why: None,
                    faults: vec![fault; at % 2 * usize::from(status == Status::Invalid)],
                    limit: None,
                });
            }
        }
        all
    }

    #[test]
    fn a_line_is_what_serde_writes_byte_for_byte_whatever_it_tells() {
        let house = TimeZone::get("Asia/Seoul").unwrap();
        let (mut pen, mut by_serde) = (Pen::new(&house, 0), Vec::new());
        let numbers = [0, 1, 9, 10, 99, 100, 1_000_000, u64::MAX];
        for (accepted, line) in answers().into_iter().zip(numbers.into_iter().cycle()) {
            let whole = MessageAnswer {
                line: Some(line),
                ..MessageAnswer::of(accepted.clone(), &house)
            };
            write_line(&mut by_serde, &whole);
            pen.accepted(line, accepted);
        }
        for id in [None, Some("m-1"), Some("\"")] {
            let whole = MessageAnswer {
                line: Some(7),
                id: id.map(str::to_owned),
                ..MessageAnswer::failed()
            };
            write_line(&mut by_serde, &whole);
            pen.failed(7, id);
        }
        let whole = MessageAnswer {
            line: Some(8),
            ..MessageAnswer::faulty(Faulty::whole("must be UTF-8"))
        };
        write_line(&mut by_serde, &whole);
        pen.faulty(8, Faulty::whole("must be UTF-8"));
        let (written, by_serde) = (pen.done(), by_serde);
        assert_eq!(
            String::from_utf8(written).unwrap(),
            String::from_utf8(by_serde).unwrap()
        );
    }
}

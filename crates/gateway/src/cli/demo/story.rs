//! Tells the night to a person: a line for each thing that happens, and a table that adds up.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nightgate_core::Language;
use serde::Serialize;

use crate::cli::{Failure, out};

/// The storyteller.
pub(super) struct Story {
    language: Language,
    json: bool,
}

/// The night in numbers.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Sums {
    pub(super) posted: u64,
    pub(super) refused_at_gate: u64,
    pub(super) accepted: u64,
    pub(super) delivered: u64,
    pub(super) refused: u64,
    pub(super) expired: u64,
    pub(super) recalled: u64,
    pub(super) held: u64,
    pub(super) buried: u64,
    pub(super) receipts: u64,
    pub(super) taken_by_provider: u64,
    pub(super) taken_twice: u64,
    pub(super) night_offences: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    said: &'a str,
}

impl Sums {
    /// accepted = delivered + refused + expired + recalled + held (those buried among them), and the
    /// provider's own books agree.
    pub(super) fn add_up(&self) -> bool {
        let ended = self.delivered + self.refused + self.expired + self.recalled;
        let provider = self.delivered..=self.delivered + self.buried;
        self.accepted == ended + self.held
            && provider.contains(&self.taken_by_provider)
            && self.taken_twice + self.night_offences == 0
    }
}

impl Story {
    pub(super) fn new(language: Language, json: bool) -> Self {
        Self { language, json }
    }

    /// One thing that happened.
    pub(super) fn tell(&self, at: Timestamp, korean: &str, english: &str) -> Result<(), Failure> {
        let clock = at.to_zoned(TimeZone::fixed(jiff::tz::offset(9)));
        let said = self.choose(korean, english);
        if self.json {
            return out::say_json(&Line {
                at: at.display_with_offset(jiff::tz::offset(9)).to_string(),
                said,
            });
        }
        out::say(&format!("{}  {said}", clock.strftime("%H:%M:%S")))
    }

    /// The table at the end.
    pub(super) fn table(&self, sums: &Sums) -> Result<(), Failure> {
        if self.json {
            return out::say_json(sums);
        }
        let rows = [
            ("들어온 알림", "posted", sums.posted),
            (
                "  문에서 거절 (수신 동의 없음)",
                "  refused at the gate (no consent)",
                sums.refused_at_gate,
            ),
            ("  접수", "  accepted", sums.accepted),
            ("    전달", "    delivered", sums.delivered),
            (
                "    내보내기 직전 거절 (동의 철회)",
                "    refused at hand-over (withdrawn)",
                sums.refused,
            ),
            ("    보관 중 만료", "    expired while held", sums.expired),
            ("    회수", "    recalled", sums.recalled),
            ("    아직 보관 중", "    still held", sums.held),
            (
                "      그중 확인이 필요한 것 (결과 불명)",
                "      of these buried: outcome unknown",
                sums.buried,
            ),
            (
                "발송사가 받은 알림",
                "taken by the provider",
                sums.taken_by_provider,
            ),
            ("  두 번 받은 것", "  taken twice", sums.taken_twice),
            (
                "  야간에 나간 미동의 광고",
                "  advertising at night without consent",
                sums.night_offences,
            ),
            ("남긴 영수증", "receipts filed", sums.receipts),
        ];
        out::say("")?;
        for (korean, english, number) in rows {
            out::say(&format!("{number:>8}  {}", self.choose(korean, english)))?;
        }
        out::say("")?;
        let ended = sums.delivered + sums.refused + sums.expired + sums.recalled;
        let sum = format!(
            "{} = {} + {} + {} + {} + {}",
            sums.accepted, sums.delivered, sums.refused, sums.expired, sums.recalled, sums.held
        );
        debug_assert!(ended <= sums.accepted);
        let korean = format!("접수 = 전달 + 거절 + 만료 + 회수 + 보관: {sum}");
        let english = format!("accepted = delivered + refused + expired + recalled + held: {sum}");
        out::say(self.choose(&korean, &english))
    }

    fn choose<'a>(&self, korean: &'a str, english: &'a str) -> &'a str {
        match self.language {
            Language::Korean => korean,
            Language::English => english,
        }
    }
}

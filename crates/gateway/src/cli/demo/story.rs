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
    pub(super) no_consent: u64,
    pub(super) expires_too_soon: u64,
    pub(super) accepted: u64,
    pub(super) delivered: u64,
    pub(super) refused: u64,
    pub(super) expired: u64,
    pub(super) recalled: u64,
    pub(super) held: u64,
    pub(super) buried: u64,
    pub(super) receipts: u64,
    pub(super) taken_by_provider: u64,
    pub(super) advertising_twice: u64,
    pub(super) information_twice: u64,
    pub(super) night_offences: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    said: &'a str,
}

impl Sums {
    /// accepted = delivered + refused + expired + recalled + held (those buried among them), and
    /// the provider's own books agree. Information may be taken twice where an outcome was unknown:
    /// that is the lane's declared choice. Advertising may not.
    pub(super) fn add_up(&self) -> bool {
        let ended = self.delivered + self.refused + self.expired + self.recalled;
        let provider = self.delivered..=self.delivered + self.buried;
        self.posted == self.no_consent + self.expires_too_soon + self.accepted
            && self.accepted == ended + self.held
            && provider.contains(&self.taken_by_provider)
            && self.advertising_twice + self.night_offences == 0
    }
}

impl Story {
    pub(super) fn new(language: Language, json: bool) -> Self {
        Self { language, json }
    }

    /// One thing that happened.
    pub(super) fn tell(&self, at: Timestamp, korean: &str, english: &str) -> Result<(), Failure> {
        let said = self.choose(korean, english);
        if self.json {
            let at = at.display_with_offset(jiff::tz::offset(9)).to_string();
            return out::say_json(&Line { at, said });
        }
        let clock = at.to_zoned(TimeZone::fixed(jiff::tz::offset(9)));
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
                "  문에서 거절: 수신 동의 없음",
                "  refused at the gate: no consent",
                sums.no_consent,
            ),
            (
                "  문에서 거절: 나갈 수 있기 전에 만료",
                "  refused at the gate: expires before it may leave",
                sums.expires_too_soon,
            ),
            ("  접수", "  accepted", sums.accepted),
            ("    전달", "    delivered", sums.delivered),
            (
                "    내보내기 직전 거절: 동의 철회",
                "    refused at hand-over: consent withdrawn",
                sums.refused,
            ),
            ("    회수", "    recalled", sums.recalled),
            ("    아직 보관 중", "    still held", sums.held),
            (
                "      그중 결과를 몰라 사람의 확인을 기다리는 것",
                "      of these buried: outcome unknown, a person must look",
                sums.buried,
            ),
            (
                "발송사가 받은 알림",
                "taken by the provider",
                sums.taken_by_provider,
            ),
            (
                "  두 번 받은 광고",
                "  advertising taken twice",
                sums.advertising_twice,
            ),
            (
                "  두 번 받은 주문·배송 알림 (결과를 몰라 다시 보냄)",
                "  information taken twice (sent again, its outcome was unknown)",
                sums.information_twice,
            ),
            (
                "  야간에 나간 미동의 광고",
                "  advertising at night without night consent",
                sums.night_offences,
            ),
            ("남긴 영수증", "receipts filed", sums.receipts),
        ];
        out::say("")?;
        for (korean, english, number) in rows {
            out::say(&format!("{number:>8}  {}", self.choose(korean, english)))?;
        }
        out::say("")?;
        let refused = sums.refused + sums.expired;
        let sum = format!(
            "{} = {} + {refused} + {} + {}",
            sums.accepted, sums.delivered, sums.recalled, sums.held
        );
        let korean = format!("접수 = 전달 + 거절 + 회수 + 보관: {sum}");
        let english = format!("accepted = delivered + refused + recalled + held: {sum}");
        out::say(self.choose(&korean, &english))
    }

    fn choose<'a>(&self, korean: &'a str, english: &'a str) -> &'a str {
        match self.language {
            Language::Korean => korean,
            Language::English => english,
        }
    }
}

//! What the Korean rules say about an instant, worked out apart from the code that is tested.

use jiff::Timestamp;
use jiff::civil::{Time, time};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{DAY, MAIL, NIGHT};

const OPENS: Time = time(8, 0, 0, 0);
/// Art. 50(3): advertising closes at 21:00; the guard is half a minute.
const LAW: (Time, Time) = (time(20, 59, 30, 0), time(21, 0, 0, 0));
/// Kakao closes everything at 20:50.
const KAKAO: (Time, Time) = (time(20, 49, 30, 0), time(20, 50, 0, 0));

/// One sort of message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    recipient: &'static str,
    channel: &'static str,
    purpose: &'static str,
}

pub(super) const KINDS: [Kind; 7] = [
    kind("plain", DAY, "sms", "advertising"),
    kind("night", NIGHT, "sms", "advertising"),
    kind("mail", MAIL, "email", "advertising"),
    kind("info", DAY, "sms", "informational"),
    kind("talk", DAY, "friendtalk", "advertising"),
    kind("talk_night", NIGHT, "friendtalk", "advertising"),
    kind("talk_info", DAY, "friendtalk", "informational"),
];

const fn kind(
    name: &'static str,
    recipient: &'static str,
    channel: &'static str,
    purpose: &'static str,
) -> Kind {
    Kind {
        name,
        recipient,
        channel,
        purpose,
    }
}

/// What must be answered.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    /// The rules of which one is named; none for no rule.
    pub(super) rules: Vec<&'static str>,
    /// When it opens, if it is held.
    pub(super) until: Option<Timestamp>,
}

impl Kind {
    pub(super) fn message(self, id: &str) -> Value {
        json!({"id": id, "recipient": self.recipient, "channel": self.channel,
            "purpose": self.purpose, "campaign": self.name, "body": "hello"})
    }

    fn is_talk(self) -> bool {
        self.channel == "friendtalk"
    }

    /// Whether the law's night concerns it: advertising, but for e-mail.
    fn has_night(self) -> bool {
        self.purpose == "advertising" && self.channel != "email"
    }

    /// Whether it may arrive at `at`.
    pub(super) fn may_arrive(self, at: Timestamp) -> bool {
        self.due(at).until.is_none()
    }

    /// The answer at `at`.
    pub(super) fn due(self, at: Timestamp) -> Due {
        let seoul = at.to_zoned(TimeZone::get("Asia/Seoul").unwrap());
        let now = seoul.time();
        let shut = |(guard, _): (Time, Time)| now < OPENS || guard <= now;
        let by_kakao = self.is_talk() && shut(KAKAO);
        let by_law = self.has_night() && shut(LAW);
        let lifted = by_law && self.recipient == NIGHT;
        let mut rules = Vec::new();
        if by_law {
            rules.push("kr.night");
        }
        if !by_kakao && (!by_law || lifted) {
            return Due {
                status: "accepted",
                reason: if lifted { "lifted_by_consent" } else { "open" },
                rules,
                until: None,
            };
        }
        if lifted {
            rules.clear();
        }
        if by_kakao {
            rules.push("kr.kakao.friendtalk");
        }
        // Where one rule's guard meets another's quiet hours, the quiet hours tell more.
        let quiet = |of: bool, (_, close): (Time, Time)| of && (now < OPENS || close <= now);
        let guard = !quiet(by_law && !lifted, LAW) && !quiet(by_kakao, KAKAO);
        let day = if now < OPENS {
            seoul.date()
        } else {
            seoul.date().tomorrow().unwrap()
        };
        let opening = day.to_datetime(OPENS);
        let opening = opening.to_zoned(seoul.time_zone().clone()).unwrap();
        Due {
            status: "held",
            reason: if guard { "guard" } else { "quiet_hours" },
            rules,
            until: Some(opening.timestamp()),
        }
    }
}

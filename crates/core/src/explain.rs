//! One sentence about a decision, for people: what becomes of the message, when, and why.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::consent::Standing;
use crate::decision::{Code, Decision, Reason};
use crate::zone::ZoneSource;

/// In which language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Korean, in the formal polite form.
    Korean,
    /// English.
    English,
}

/// One of the three answers, with what a sentence about it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// May leave.
    Send {
        /// The first instant at which it may no longer.
        not_after: Timestamp,
    },
    /// Held.
    Hold {
        /// When it is asked again.
        until: Timestamp,
    },
    /// Refused.
    Refuse,
}

impl From<&Decision> for Answer {
    fn from(decision: &Decision) -> Self {
        match decision {
            Decision::Send(permit) => Self::Send {
                not_after: permit.not_after(),
            },
            Decision::Hold { until, .. } => Self::Hold { until: *until },
            Decision::Refuse { .. } => Self::Refuse,
        }
    }
}

/// Turns a decision into a sentence, with times on the recipient's clock, the rule, and how the
/// clock is known. Total: combinations that [`decide`](crate::decide) never makes have one too.
///
/// ```
/// use nightgate_core::explain::Answer;
/// use nightgate_core::{Language, Reason, explain};
///
/// let reason: Reason = serde_json::from_value(serde_json::json!({
///     "code": "quiet_hours", "rule": "kr.night", "ruleset": "0123456789abcdef",
///     "zone": "Asia/Seoul", "zone_source": "number", "opens": null, "closes": null,
///     "consent": { "general": { "standing": "none" }, "night": { "standing": "none" } },
/// }))?;
/// let answer = Answer::Hold { until: "2026-11-22T23:00:00Z".parse()? };
/// assert_eq!(
///     explain(answer, &reason, Language::English),
///     "Held until 2026-11-23 08:00:00 +09:00 because quiet hours are in force \
///      (rule kr.night; zone Asia/Seoul, from the recipient's number).",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn explain(answer: Answer, reason: &Reason, language: Language) -> String {
    let zones = zones(&reason.zone);
    let zone = zones.first().cloned().unwrap_or(TimeZone::UTC);
    let at = |instant: Timestamp| local(instant, &zone, language);
    let ground = ground(reason, zones.len(), language);
    match language {
        Language::English => {
            let cause = english(reason, &at);
            let becomes = match answer {
                Answer::Send { not_after } => format!("May leave until {}", at(not_after)),
                Answer::Hold { until } => format!("Held until {}", at(until)),
                Answer::Refuse => "Refused".to_owned(),
            };
            format!("{becomes} because {cause} ({ground}).")
        }
        Language::Korean => {
            let cause = korean(reason, &at);
            let becomes = match answer {
                Answer::Send { not_after } => {
                    format!("{} 전까지 발송할 수 있습니다", at(not_after))
                }
                Answer::Hold { until } => format!("{}까지 발송을 보류합니다", at(until)),
                Answer::Refuse => "발송할 수 없습니다".to_owned(),
            };
            format!("{cause} {becomes}({ground}).")
        }
    }
}

fn english(reason: &Reason, at: &impl Fn(Timestamp) -> String) -> String {
    let text = match reason.code {
        Code::Open => "every window is open and every needed consent stands",
        Code::LiftedByConsent => "the recipient's consent lifts the quiet hours",
        Code::QuietHours => "quiet hours are in force",
        Code::Guard => "the open hours are about to end",
        Code::SendAt => "its send_at is still ahead",
        Code::Expired => match reason.opens {
            Some(opens) => return format!("it expires before the next opening at {}", at(opens)),
            None => "it has expired, or would before it may leave",
        },
        Code::NoConsent => "the recipient never gave the consent that it needs",
        Code::Withdrawn => match ended(reason) {
            Some(ended) => return format!("the recipient withdrew consent at {}", at(ended)),
            None => "the recipient withdrew consent",
        },
        Code::ConsentLapsed => match ended(reason) {
            Some(ended) => return format!("the recipient's consent ran out at {}", at(ended)),
            None => "the recipient's consent ran out",
        },
        Code::ConsentUnknown => "the consent book could not be asked",
        Code::NoRules => "no rules are loaded for the recipient's country",
        Code::Forbidden => match reason.opens {
            Some(opens) => {
                let opens = at(opens);
                return format!("the rule refuses what comes before its opening at {opens}");
            }
            None => "the rules leave no time at which it may leave",
        },
    };
    text.to_owned()
}

fn korean(reason: &Reason, at: &impl Fn(Timestamp) -> String) -> String {
    let text = match reason.code {
        Code::Open => "발송 가능한 시간이고 필요한 수신 동의가 모두 유효하므로",
        Code::LiftedByConsent => "수신자의 동의에 따라 발송 제한 시간이 적용되지 않으므로",
        Code::QuietHours => "발송 제한 시간에 해당하므로",
        Code::Guard => "발송 가능 시간이 곧 끝나므로",
        Code::SendAt => "예약한 발송 시각이 아직 되지 않았으므로",
        Code::Expired => match reason.opens {
            Some(opens) => {
                let opens = at(opens);
                return format!("다음 발송 가능 시각인 {opens} 전에 유효 기간이 끝나므로");
            }
            None => "메시지의 유효 기간이 지났거나 발송 전에 끝나므로",
        },
        Code::NoConsent => "발송에 필요한 수신 동의를 받은 적이 없으므로",
        Code::Withdrawn => match ended(reason) {
            Some(ended) => return format!("수신자가 {}에 수신 동의를 철회했으므로", at(ended)),
            None => "수신자가 수신 동의를 철회했으므로",
        },
        Code::ConsentLapsed => match ended(reason) {
            Some(ended) => return format!("수신 동의의 효력이 {}에 끝났으므로", at(ended)),
            None => "수신 동의의 효력이 끝났으므로",
        },
        Code::ConsentUnknown => "수신 동의 여부를 지금 확인할 수 없으므로",
        Code::NoRules => "수신자의 국가에 적용할 규칙이 등록되어 있지 않으므로",
        Code::Forbidden => match reason.opens {
            Some(opens) => {
                let opens = at(opens);
                return format!("발송 가능 시간이 {opens}에 시작되며 그 전에는 금지되므로");
            }
            None => "규칙상 발송할 수 있는 시간이 없으므로",
        },
    };
    text.to_owned()
}

/// When the consent that decided ended: general consent first, since night consent falls with it.
fn ended(reason: &Reason) -> Option<Timestamp> {
    let of = |standing: Standing| match (standing, reason.code) {
        (Standing::Withdrawn { at }, Code::Withdrawn) => Some(at),
        (Standing::Lapsed { at }, Code::ConsentLapsed) => Some(at),
        _ => None,
    };
    of(reason.consent.general).or_else(|| of(reason.consent.night))
}

/// The rule and the clock, in brackets behind the sentence.
fn ground(reason: &Reason, zones: usize, language: Language) -> String {
    let zone = &reason.zone;
    let rule = reason.rule.as_deref();
    match language {
        Language::English => {
            let rule = rule.map_or_else(String::new, |rule| format!("rule {rule}; "));
            let source = match reason.zone_source {
                ZoneSource::Message => "as the message says",
                ZoneSource::Number => "from the recipient's number",
                ZoneSource::House => "the house default",
            };
            match zones {
                0 | 1 => format!("{rule}zone {zone}, {source}"),
                _ => format!("{rule}zones {zone}, {source}, times in the first"),
            }
        }
        Language::Korean => {
            let rule = rule.map_or_else(String::new, |rule| format!("규칙 {rule}, "));
            let source = match reason.zone_source {
                ZoneSource::Message => "메시지에 지정된 시간대",
                ZoneSource::Number => "수신자 번호로 확인한 시간대",
                ZoneSource::House => "기본 설정 시간대",
            };
            match zones {
                0 | 1 => format!("{rule}{source} {zone}"),
                _ => format!("{rule}{source} {zone}, 시각은 첫 번째 시간대 기준"),
            }
        }
    }
}

/// The zones whose names a reason joins with `+`; a name can hold a `+` itself (`Etc/GMT+9`).
fn zones(joined: &str) -> Vec<TimeZone> {
    let known = |name: &str| TimeZone::get(name).ok();
    if let Some(zone) = known(joined) {
        return vec![zone];
    }
    let mut names: Vec<String> = Vec::new();
    for part in joined.split('+') {
        match names.last_mut() {
            Some(last) if part.bytes().all(|byte| byte.is_ascii_digit()) => {
                *last = format!("{last}+{part}");
            }
            _ => names.push(part.to_owned()),
        }
    }
    names.iter().filter_map(|name| known(name)).collect()
}

fn local(instant: Timestamp, zone: &TimeZone, language: Language) -> String {
    let there = instant.to_zoned(zone.clone());
    let format = match language {
        Language::English => "%Y-%m-%d %H:%M:%S %:z",
        Language::Korean => "%Y년 %-m월 %-d일 %H:%M:%S(UTC%:z)",
    };
    there.strftime(format).to_string()
}

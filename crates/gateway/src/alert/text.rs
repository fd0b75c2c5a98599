//! Ready-made alarms: what is wrong and what a person can do, in English and in Korean.

use jiff::{SignedDuration, Timestamp};

use crate::alert::{Alert, AlertKind};
use crate::error::{Error, Kind};

fn alert(
    kind: AlertKind,
    subject: &str,
    at: Timestamp,
    texts: (String, String),
    figures: &[(&str, String)],
) -> Alert {
    let (english, korean) = texts;
    let figures = figures
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    Alert {
        kind,
        subject: subject.to_owned(),
        at,
        english,
        korean,
        figures,
    }
}

/// A window opened at `since`, `due_count` messages are due on `lane`, and none has left.
#[must_use]
pub fn nothing_moved(lane: &str, due_count: u64, since: Timestamp, at: Timestamp) -> Alert {
    let english = format!(
        "Lane {lane}: {due_count} messages have been due since {since} and none has left. See \
         whether it is paused with `nightgate lanes`, then what is missing with `nightgate doctor`."
    );
    let korean = format!(
        "{lane} 레인: {since}부터 발송할 메시지 {due_count}건이 있으나 한 건도 나가지 않았습니다. \
         `nightgate lanes`로 일시 정지 여부를, `nightgate doctor`로 원인을 확인하세요."
    );
    let figures = [("due", due_count.to_string()), ("since", since.to_string())];
    alert(
        AlertKind::NothingMoved,
        lane,
        at,
        (english, korean),
        &figures,
    )
}

/// Hand-overs on `lane` failed `failures` times in a row; `why` is the last reason and holds no
/// personal data.
#[must_use]
pub fn lane_failing(lane: &str, failures: u64, why: &str, at: Timestamp) -> Alert {
    let english = format!(
        "Lane {lane} has failed {failures} times in a row: {why}. Messages stay held. See it with \
         `nightgate lanes`, test the sink with `nightgate doctor`."
    );
    let korean = format!(
        "{lane} 레인의 발송이 연속 {failures}회 실패했습니다: {why}. 메시지는 그대로 보관됩니다. \
         `nightgate lanes`로 상태를, `nightgate doctor`로 발송처를 확인하세요."
    );
    let figures = [("failures", failures.to_string()), ("why", why.to_owned())];
    alert(
        AlertKind::LaneFailing,
        lane,
        at,
        (english, korean),
        &figures,
    )
}

/// `count` messages of `lane` were buried.
#[must_use]
pub fn buried(lane: &str, count: u64, at: Timestamp) -> Alert {
    let english = format!(
        "Lane {lane}: {count} messages were buried and wait for a person. Read why with `nightgate \
         hold ls`, look at what became of one with `nightgate receipts`, bring them back with \
         `nightgate hold kick`."
    );
    let korean = format!(
        "{lane} 레인: 메시지 {count}건이 격리되어 사람의 확인을 기다립니다. 사유는 `nightgate hold \
         ls`, 개별 이력은 `nightgate receipts`로 확인하고, 다시 보내려면 `nightgate hold kick`을 \
         실행하세요."
    );
    alert(
        AlertKind::Buried,
        lane,
        at,
        (english, korean),
        &[("messages", count.to_string())],
    )
}

/// At `rate` messages a second, `remaining` messages of `lane` will not have left when the window
/// `closes`.
#[must_use]
pub fn will_not_drain(
    lane: &str,
    remaining: u64,
    rate: f64,
    closes: Timestamp,
    at: Timestamp,
) -> Alert {
    let english = format!(
        "Lane {lane}: {remaining} messages remain, and at {rate:.1} a second they will not all \
         leave before the window closes at {closes}; the rest waits for the next opening. See the \
         rate with `nightgate lanes`, what is left with `nightgate hold ls`."
    );
    let korean = format!(
        "{lane} 레인: 남은 메시지가 {remaining}건이며, 초당 {rate:.1}건의 속도로는 {closes} 마감 \
         전에 모두 나갈 수 없습니다. 나머지는 다음 발송 시간까지 보관됩니다. `nightgate lanes`로 \
         속도를, `nightgate hold ls`로 남은 메시지를 확인하세요."
    );
    let figures = [
        ("remaining", remaining.to_string()),
        ("rate_per_second", format!("{rate:.1}")),
        ("closes", closes.to_string()),
    ];
    alert(
        AlertKind::WillNotDrain,
        lane,
        at,
        (english, korean),
        &figures,
    )
}

/// A part of the road failed: it lost a write, or it cannot be reached.
#[must_use]
pub fn of_fault(fault: &Error, at: Timestamp) -> Alert {
    match fault.kind {
        Kind::Poisoned => store_poisoned(fault.part, at),
        _ => part_unavailable(fault.part, &fault.to_string(), at),
    }
}

/// The wall clock was set by `step` (negative: back); release is frozen until `frozen_until`.
#[must_use]
pub fn clock_jumped(step: SignedDuration, frozen_until: Timestamp, at: Timestamp) -> Alert {
    let seconds = step.as_secs();
    let english = format!(
        "The wall clock was set by {seconds} seconds. Nothing leaves until {frozen_until}. Check \
         the machine's time service, then `nightgate doctor`. If the clock is right, an operator \
         lets release go on at once with `POST /v1/clock/confirm`."
    );
    let korean = format!(
        "시스템 시각이 {seconds}초만큼 변경되었습니다. {frozen_until}까지 아무것도 발송하지 \
         않습니다. 서버의 시간 동기화를 점검한 뒤 `nightgate doctor`를 실행하세요. 시각이 맞으면 \
         운영자가 `POST /v1/clock/confirm`으로 바로 재개할 수 있습니다."
    );
    let figures = [
        ("step_seconds", seconds.to_string()),
        ("frozen_until", frozen_until.to_string()),
    ];
    alert(
        AlertKind::ClockJumped,
        "clock",
        at,
        (english, korean),
        &figures,
    )
}

/// The wall clock is `ahead` (negative: behind) of the one that the gateways share, and may differ
/// by `bound`: this gateway lets nothing leave.
#[must_use]
pub fn clock_apart(ahead: SignedDuration, bound: SignedDuration, at: Timestamp) -> Alert {
    let (seconds, bound) = (decimal(ahead), decimal(bound));
    let english = format!(
        "The wall clock of this gateway is {seconds} seconds ahead of the server that the gateways \
         share; {bound} are allowed. Nothing leaves from here until they agree. Check the time \
         service of both machines, then `nightgate doctor`."
    );
    let korean = format!(
        "이 게이트웨이의 시각이 공유 서버보다 {seconds}초 빠릅니다(허용 {bound}초). 시각이 맞을 \
         때까지 이 게이트웨이에서는 아무것도 발송하지 않습니다. 두 서버의 시간 동기화를 점검한 뒤 \
         `nightgate doctor`를 실행하세요."
    );
    let figures = [("ahead_seconds", seconds), ("bound_seconds", bound)];
    alert(
        AlertKind::ClockApart,
        "clock",
        at,
        (english, korean),
        &figures,
    )
}

/// Seconds with a tenth, where there is one.
fn decimal(time: SignedDuration) -> String {
    let tenths = time.as_millis() / 100;
    let (whole, tenth) = (tenths / 10, (tenths % 10).abs());
    let sign = if tenths < 0 && whole == 0 { "-" } else { "" };
    match tenth {
        0 => format!("{sign}{whole}"),
        tenth => format!("{sign}{whole}.{tenth}"),
    }
}

/// The store of `part` lost a write: nothing is accepted until a restart.
#[must_use]
pub fn store_poisoned(part: &str, at: Timestamp) -> Alert {
    let english = format!(
        "The store of `{part}` lost a write; nothing is accepted or sent until a restart. Check \
         the disk (space, errors), restart, then run `nightgate doctor` and compare `nightgate \
         receipts`."
    );
    let korean = format!(
        "`{part}` 저장소의 쓰기가 유실되어 재시작 전까지 접수와 발송을 멈춥니다. 디스크 용량과 \
         오류를 점검하고 재시작한 뒤 `nightgate doctor`와 `nightgate receipts`로 확인하세요."
    );
    alert(AlertKind::StorePoisoned, part, at, (english, korean), &[])
}

/// The part named `part` (`consent`, `receipt`, `hold`) cannot be reached; `why` holds no personal
/// data.
#[must_use]
pub fn part_unavailable(part: &str, why: &str, at: Timestamp) -> Alert {
    let english = format!(
        "The part `{part}` cannot be reached: {why}. Messages that need it are held, not lost. \
         Find out more with `nightgate doctor`."
    );
    let korean = format!(
        "`{part}`에 연결할 수 없습니다: {why}. 이 구성 요소가 필요한 메시지는 유실되지 않고 \
         보관됩니다. `nightgate doctor`로 원인을 확인하세요."
    );
    alert(
        AlertKind::PartUnavailable,
        part,
        at,
        (english, korean),
        &[("why", why.to_owned())],
    )
}

/// The hold comes near the `limit` of this name (`hold.max_bytes`): advertising is turned away.
#[must_use]
pub fn hold_nearly_full(limit: &str, at: Timestamp) -> Alert {
    let english = format!(
        "The hold is nearly full (`{limit}`): advertising is turned away, its producers get 503 \
         and send again; information is still taken in. See what is held with `nightgate hold ls`, \
         take back what nobody needs with `nightgate hold recall`, or give the hold more room."
    );
    let korean = format!(
        "보관 공간이 거의 찼습니다(`{limit}`). 광고는 접수하지 않으며 발신 시스템은 503을 받고 다시 \
         보내야 합니다. 정보성 메시지는 계속 접수합니다. `nightgate hold ls`로 보관 내역을 확인하고, \
         필요 없는 것은 `nightgate hold recall`로 회수하거나 공간을 늘리세요."
    );
    alert(AlertKind::HoldNearlyFull, limit, at, (english, korean), &[])
}

/// The `limit` of this name is reached, for the whole hold or (`hold.shelf_max`) for a shelf.
#[must_use]
pub fn hold_full(limit: &str, at: Timestamp) -> Alert {
    let english = format!(
        "The hold has no room (`{limit}` is reached): messages are turned away, their producers \
         get 503 and send again; what is held leaves as always. See what is held with `nightgate \
         hold ls`, take back what nobody needs with `nightgate hold recall`, or give the hold more \
         room."
    );
    let korean = format!(
        "보관 공간이 없습니다(`{limit}` 한도 도달). 새 메시지를 접수하지 않으며 발신 시스템은 503을 \
         받고 다시 보내야 합니다. 이미 보관된 메시지는 예정대로 나갑니다. `nightgate hold ls`로 보관 \
         내역을 확인하고, 필요 없는 것은 `nightgate hold recall`로 회수하거나 공간을 늘리세요."
    );
    alert(AlertKind::HoldFull, limit, at, (english, korean), &[])
}

/// `messages` of the hold cannot be read, and `files` hold what was damaged.
#[must_use]
pub fn hold_damaged(messages: u64, files: &[String], at: Timestamp) -> Alert {
    let copies = files.join(", ");
    let (copied, copied_korean) = match files.is_empty() {
        true => (String::new(), String::new()),
        false => (
            format!(" Damaged bytes were copied to {copies}."),
            format!(" 손상된 부분은 {copies}에 복사해 두었습니다."),
        ),
    };
    let english = format!(
        "Files of the hold are damaged: {messages} messages cannot be read and are put aside; \
         everything else leaves as always.{copied} Find out which with `nightgate hold verify`, \
         and read OPERATIONS.md, Damage, before you restore a backup."
    );
    let korean = format!(
        "보관 파일이 손상되었습니다. 메시지 {messages}건을 읽을 수 없어 따로 두었고 나머지는 예정대로 \
         나갑니다.{copied_korean} `nightgate hold verify`로 손상된 파일을 확인하고, 백업을 복원하기 \
         전에 OPERATIONS.md의 Damage 항목을 읽으세요."
    );
    let mut figures = vec![("messages", messages.to_string())];
    figures.extend((!files.is_empty()).then_some(("copied_aside", copies)));
    alert(
        AlertKind::HoldDamaged,
        "hold",
        at,
        (english, korean),
        &figures,
    )
}

/// Requests to `queue` failed `failures` times in a row; `why` is what AWS said last and holds no
/// personal data.
#[must_use]
pub fn source_failing(queue: &str, failures: u64, why: &str, at: Timestamp) -> Alert {
    let english = format!(
        "Queue {queue}: requests have failed {failures} times in a row: {why}. Its messages stay \
         there until they are taken in or its retention ends. Check its address and permissions \
         with `nightgate doctor`."
    );
    let korean = format!(
        "{queue} 큐에 대한 요청이 연속 {failures}회 실패했습니다: {why}. 메시지는 접수되거나 큐의 보존 \
         기간이 끝날 때까지 큐에 남아 있습니다. `nightgate doctor`로 주소와 권한을 확인하세요."
    );
    let figures = [("failures", failures.to_string()), ("why", why.to_owned())];
    let texts = (english, korean);
    alert(AlertKind::SourceFailing, queue, at, texts, &figures)
}

/// A message of `queue` breaks a rule and will again: it went to the queue `moved_to`, or stays.
/// `reason` names fields and rules and holds no personal data.
#[must_use]
pub fn source_unreadable(
    queue: &str,
    reason: &str,
    moved_to: Option<&str>,
    at: Timestamp,
) -> Alert {
    let (went, went_korean) = match moved_to {
        Some(dead) => (
            format!("It was moved to the queue {dead}; send it again from there once it is right."),
            format!("해당 메시지는 {dead} 큐로 옮겼으니 수정한 뒤 다시 보내세요."),
        ),
        None => (
            "It stays in its queue and comes again until the queue's redrive policy moves it; name \
             a dead-letter queue in the source's configuration."
                .to_owned(),
            "해당 메시지는 큐에 남아 재처리 정책이 옮길 때까지 반복해서 수신됩니다. 설정에 데드레터 큐를 \
             지정하세요."
                .to_owned(),
        ),
    };
    let english = format!(
        "Queue {queue}: a message cannot be read: {reason}. {went} Compare the source's mapping \
         with what the producer sends: `nightgate config`."
    );
    let korean = format!(
        "{queue} 큐의 메시지를 읽을 수 없습니다: {reason}. {went_korean} `nightgate config`로 필드 매핑 \
         설정을 확인해 발신 시스템이 보내는 내용과 비교하세요."
    );
    let mut figures = vec![("reason", reason.to_owned())];
    figures.extend(moved_to.map(|dead| ("moved_to", dead.to_owned())));
    let texts = (english, korean);
    alert(AlertKind::SourceUnreadable, queue, at, texts, &figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_alarm() -> Vec<Alert> {
        let at: Timestamp = "2026-11-22T23:10:00Z".parse().unwrap();
        let closes: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        vec![
            nothing_moved("ads", 120, at, at),
            lane_failing("ads", 7, "HTTP 401", at),
            buried("ads", 3, at),
            will_not_drain("ads", 90_000, 1.25, closes, at),
            clock_jumped(SignedDuration::from_hours(-3), closes, at),
            clock_apart(
                SignedDuration::from_millis(-900),
                SignedDuration::from_millis(500),
                at,
            ),
            store_poisoned("hold", at),
            part_unavailable("consent", "connection refused", at),
            hold_nearly_full("hold.max_bytes", at),
            hold_full("hold.keep_free", at),
            hold_damaged(3, &["quarantine-log-00000002-64".to_owned()], at),
            source_failing("orders", 5, "AccessDenied: no", at),
            source_unreadable("orders", "`channel` is missing", Some("orders-dead"), at),
        ]
    }

    #[test]
    fn every_alarm_says_in_both_languages_which_command_helps() {
        let mut kinds = Vec::new();
        for alert in every_alarm() {
            for text in [&alert.english, &alert.korean] {
                assert!(text.contains("`nightgate "), "{text}");
                assert!(!text.contains("  "), "a line break left spaces: {text}");
                let clock = [AlertKind::ClockJumped, AlertKind::ClockApart];
                assert!(clock.contains(&alert.kind) || text.contains(&alert.subject));
            }
            assert!(alert.korean.contains("니다"), "{}", alert.korean);
            assert!(alert.english.is_ascii(), "{}", alert.english);
            assert!(!kinds.contains(&alert.kind));
            kinds.push(alert.kind);
        }
    }

    #[test]
    fn a_jumped_clock_says_in_both_languages_how_to_go_on_at_once() {
        let at: Timestamp = "2026-11-22T23:10:00Z".parse().unwrap();
        let alert = clock_jumped(SignedDuration::from_secs(90), at, at);
        for text in [&alert.english, &alert.korean] {
            assert!(text.contains("`POST /v1/clock/confirm`"), "{text}");
        }
    }

    #[test]
    fn an_unreadable_message_that_stays_says_what_to_configure() {
        let at = Timestamp::UNIX_EPOCH;
        let alert = source_unreadable("orders", "`channel` is missing", None, at);
        assert!(alert.english.contains("name a dead-letter queue"));
        assert!(
            alert.korean.contains("데드레터 큐를 지정하세요"),
            "{}",
            alert.korean
        );
        assert!(!alert.english.contains("  ") && !alert.korean.contains("  "));
        assert_eq!(alert.figures.len(), 1);
    }

    #[test]
    fn every_figure_stands_in_both_sentences() {
        for alert in every_alarm() {
            for (name, value) in &alert.figures {
                assert!(alert.english.contains(value), "{name} of {:?}", alert.kind);
                assert!(alert.korean.contains(value), "{name} of {:?}", alert.kind);
            }
        }
    }
}

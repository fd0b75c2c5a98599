//! What a check of a hold's files found, in words for people, and what to do about it.

use nightgate_core::Language;

use crate::cli::shown;
use crate::hold::care::{Ill, Report};

/// Said after a restore that found no receipt of the time since.
pub(super) const NO_RECEIPTS_SINCE: &str = "\
no receipt is younger than the backup: if receipts.db was restored as well, what has left since \
would go again; then restore once more with --replace --put-aside";

/// What is wrong, then what to do.
pub(super) const fn sentence(ill: Ill, language: Language) -> &'static str {
    match language {
        Language::Korean => korean(ill),
        Language::English => english(ill),
    }
}

const fn english(ill: Ill) -> &'static str {
    match ill {
        Ill::CopyDamaged => {
            "one of two copies cannot be read; the other is whole: the next start mends it"
        }
        Ill::BothDamaged => "neither copy can be read; restore a backup",
        Ill::NewerVersion => "a newer program wrote it; use that one",
        Ill::LogMissing => {
            "a log is missing, and all messages in it; bring the file back, or restore a backup"
        }
        Ill::LogHead => "the head of a log cannot be read; restore a backup",
        Ill::Frames => {
            "changes in the middle of a log are damaged; what can be read goes on, look at the \
             messages that are put aside, or restore a backup"
        }
        Ill::SealedFrames => {
            "a part of a log that its index tells as well is damaged; nothing is lost while the \
             index is whole, take a backup now"
        }
        Ill::ChangesLost => {
            "changes are missing: what ended in them may be held again; compare with the receipts"
        }
        Ill::Index => "an index cannot be read; it is made anew from its log",
        Ill::IndexDiffers => {
            "an index does not tell what its log tells; move the index away and start: it is made \
             anew"
        }
        Ill::Run => "a run of ids cannot be read; it is made anew from the logs",
        Ill::BlockHead => {
            "messages cannot be read, not even their ids; they are put aside when their turn \
             comes: restore a backup, or have producers send them again"
        }
        Ill::BlockBody => {
            "bodies cannot be read; these messages are put aside when their turn comes: restore a \
             backup, or have producers send them again under new ids"
        }
        Ill::Unknown => "messages of which nothing is known; the next start buries them",
        Ill::Counts => "counts do not fit what is there; please report it with this output",
        Ill::Database => "the database is not sound; restore a backup",
        Ill::TornEnd => "its end was never answered (no fault); the next start cuts it off",
        Ill::CopiesDiffer => "a crash came between two copies (no fault); the next start mends it",
        Ill::Stray => "left by a crash (no fault); the next start removes it",
        Ill::Quarantine => "a copy of damaged bytes (no fault); remove it once nobody needs it",
        Ill::Foreign => "not a file of the hold (no fault); move it away",
        Ill::Aside => {
            "put aside as damaged before (no new fault); see `nightgate hold ls --buried`"
        }
    }
}

const fn korean(ill: Ill) -> &'static str {
    match ill {
        Ill::CopyDamaged => {
            "두 사본 중 하나를 읽을 수 없습니다. 다른 하나는 온전하므로 다음에 시작할 때 고쳐집니다"
        }
        Ill::BothDamaged => "두 사본 모두 읽을 수 없습니다. 백업을 복원하세요",
        Ill::NewerVersion => "더 새로운 프로그램이 쓴 파일입니다. 그 프로그램을 쓰세요",
        Ill::LogMissing => {
            "로그 파일이 없고 그 안의 메시지도 없습니다. 파일을 되찾거나 백업을 복원하세요"
        }
        Ill::LogHead => "로그의 머리를 읽을 수 없습니다. 백업을 복원하세요",
        Ill::Frames => {
            "로그 중간의 변경이 손상되었습니다. 읽을 수 있는 것은 계속 나갑니다. 따로 둔 메시지를 \
             살펴보거나 백업을 복원하세요"
        }
        Ill::SealedFrames => {
            "색인에도 있는 로그의 일부가 손상되었습니다. 색인이 온전하면 잃은 것은 없습니다. 지금 \
             백업하세요"
        }
        Ill::ChangesLost => {
            "변경이 사라졌습니다. 그 안에서 끝난 메시지가 다시 보관되어 있을 수 있습니다. 영수증과 \
             비교하세요"
        }
        Ill::Index => "색인을 읽을 수 없습니다. 로그에서 다시 만들어집니다",
        Ill::IndexDiffers => {
            "색인이 로그와 다릅니다. 색인 파일을 치우고 시작하면 다시 만들어집니다"
        }
        Ill::Run => "id 목록을 읽을 수 없습니다. 로그에서 다시 만들어집니다",
        Ill::BlockHead => {
            "메시지를 id조차 읽을 수 없습니다. 차례가 오면 따로 둡니다. 백업을 복원하거나 다시 \
             보내 달라고 하세요"
        }
        Ill::BlockBody => {
            "본문을 읽을 수 없습니다. 차례가 오면 따로 둡니다. 백업을 복원하거나 새 id로 다시 보내 \
             달라고 하세요"
        }
        Ill::Unknown => "아무것도 알 수 없는 메시지입니다. 다음에 시작할 때 따로 둡니다",
        Ill::Counts => "개수가 실제와 다릅니다. 이 출력과 함께 알려 주세요",
        Ill::Database => "데이터베이스가 온전하지 않습니다. 백업을 복원하세요",
        Ill::TornEnd => "끝부분은 응답한 적이 없습니다(결함 아님). 다음에 시작할 때 잘라 냅니다",
        Ill::CopiesDiffer => "두 사본이 다릅니다(결함 아님). 다음에 시작할 때 고쳐집니다",
        Ill::Stray => "비정상 종료가 남긴 파일입니다(결함 아님). 다음에 시작할 때 지워집니다",
        Ill::Quarantine => "손상된 바이트의 사본입니다(결함 아님). 필요 없으면 지우세요",
        Ill::Foreign => "보관함의 파일이 아닙니다(결함 아님). 다른 곳으로 옮기세요",
        Ill::Aside => {
            "전에 손상으로 따로 둔 메시지입니다(새 결함 아님). `nightgate hold ls --buried`를 \
             보세요"
        }
    }
}

/// The last line.
pub(super) fn verdict(report: &Report, language: Language) -> String {
    let (faults, damaged) = (
        shown::grouped(report.faults),
        shown::grouped(report.damaged),
    );
    match (language, report.is_sound()) {
        (Language::Korean, true) => "온전합니다".to_owned(),
        (Language::English, true) => "sound".to_owned(),
        (Language::Korean, false) => format!("결함 {faults}건, 메시지 {damaged}건"),
        (Language::English, false) => format!("{faults} faults, touching {damaged} messages"),
    }
}

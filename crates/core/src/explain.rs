//! Sentences.
use crate::decision::Reason;
use jiff::Timestamp;

/// In which language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Korean.
    Korean,
    /// English.
    English,
}

/// One of the three answers, with what a sentence about it needs.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// May leave until then.
    Send { not_after: Timestamp },
    /// Held until then.
    Hold { until: Timestamp },
    /// Refused.
    Refuse,
}

/// Turns a decision into a sentence.
#[must_use]
pub fn explain(answer: Answer, reason: &Reason, language: Language) -> String {
    let _ = (answer, reason, language);
    unimplemented!()
}

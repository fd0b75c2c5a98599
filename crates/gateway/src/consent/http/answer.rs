//! Reads the service's answer. No fault shows a recipient.

use std::collections::HashMap;

use jiff::Timestamp;
use nightgate_core::consent::Grant;
use nightgate_core::{Basis, Consent, RecipientKey, Scope};
use serde::Deserialize;

#[derive(Deserialize)]
struct Answer {
    consents: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    recipient: String,
    #[serde(default)]
    general: Option<Agreement>,
    #[serde(default)]
    night: Option<Agreement>,
}

/// One scope. An unknown field is a fault: it could be a withdrawal by another name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Agreement {
    #[serde(default)]
    granted_at: Option<Timestamp>,
    #[serde(default)]
    withdrawn_at: Option<Timestamp>,
    #[serde(default)]
    ends: Option<Timestamp>,
}

/// The consents of `keys`, each of which must be told.
///
/// # Errors
/// The rule that the answer breaks.
pub(super) fn read(
    text: &[u8],
    keys: &[&RecipientKey],
) -> Result<Vec<(RecipientKey, Consent)>, String> {
    // The texts of serde_json quote what they found, which may be a recipient: only the place.
    let answer: Answer = serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("is not of the shape in docs/API.md (line {line}, column {column})")
    })?;
    let mut told = HashMap::with_capacity(answer.consents.len());
    for one in answer.consents {
        let mut consent = Consent::default();
        if let Some(general) = &one.general {
            note(Scope::General, general, &mut consent)?;
        }
        if let Some(night) = &one.night {
            note(Scope::Night, night, &mut consent)?;
        }
        if told.insert(one.recipient, consent).is_some() {
            return Err("tells of one recipient twice".to_owned());
        }
    }
    let one = |key: &&RecipientKey| {
        let consent = told.get(key.expose()).copied();
        let consent = consent.ok_or("does not tell of every recipient that was asked about")?;
        Ok(((*key).clone(), consent))
    };
    keys.iter().map(one).collect()
}

fn note(scope: Scope, told: &Agreement, consent: &mut Consent) -> Result<(), String> {
    match (told.granted_at, told.ends) {
        (Some(at), None) => {
            let basis = Basis::Explicit;
            consent.grant(scope, Grant { at, basis });
        }
        (Some(at), Some(ends)) if scope == Scope::General => {
            let basis = Basis::TransactionException { ends };
            consent.grant(scope, Grant { at, basis });
        }
        (Some(_), Some(_)) => {
            let rule = "has `ends` on a night consent, which must be explicit (Art. 50(3))";
            return Err(rule.to_owned());
        }
        (None, Some(_)) => return Err("has `ends` without `granted_at`".to_owned()),
        (None, None) => {}
    }
    if let Some(at) = told.withdrawn_at {
        consent.withdraw(scope, at);
    }
    Ok(())
}

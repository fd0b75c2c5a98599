//! What stands in an item.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use nightgate_core::consent::Grant;
use nightgate_core::{Basis, Consent, RecipientKey, Scope};

use crate::aws::tables::{Item, key, text, text_of};
use crate::consent::{Act, ConsentEvent};
use crate::error::{Error, Kind, Result};

/// The sort key of a recipient's deciding item.
pub(super) const STATE: &str = "state";
/// What the sort key of an event begins with.
pub(super) const EVENT: &str = "event#";
/// What the partition key of a recipient begins with.
const PARTITION: &str = "consent#";
/// Before this year texts of instants do not sort as instants do; nobody consented then.
const EARLIEST: Timestamp = Timestamp::constant(-2_208_988_800, 0); // 1900
/// From which the end of a transaction exception is counted back, so that of two grants at one
/// instant the one that ends earlier has the greater text.
const LATEST: Timestamp = Timestamp::constant(253_370_764_800, 0); // 9999

/// The partition key of a recipient.
pub(super) fn partition(key: &RecipientKey) -> String {
    format!("{PARTITION}{}", key.expose())
}

/// An instant as a text that sorts as instants do.
fn instant(at: Timestamp) -> Result<String> {
    if at < EARLIEST || at >= LATEST {
        let op = format!("record a consent of {at}: it must be between 1900 and 9998");
        return Err(Error::new(Kind::Invalid, "consent", op));
    }
    Ok(format!("{at:.9}"))
}

fn granted(scope: Scope) -> &'static str {
    match scope {
        Scope::General => "general_granted",
        Scope::Night => "night_granted",
    }
}

fn withdrawn(scope: Scope) -> &'static str {
    match scope {
        Scope::General => "general_withdrawn",
        Scope::Night => "night_withdrawn",
    }
}

/// What an event raises in the deciding item: attributes and the values that they have at least.
/// Greater texts are those that count: see [`Consent::grant`] and [`Consent::withdraw`].
pub(super) fn raises(event: &ConsentEvent) -> Result<Vec<(&'static str, String)>> {
    let at = instant(event.at)?;
    Ok(match event.act {
        Act::Grant(Basis::Explicit) => vec![(granted(event.scope), format!("{at} explicit"))],
        Act::Grant(Basis::TransactionException { .. }) if event.scope == Scope::Night => Vec::new(),
        Act::Grant(Basis::TransactionException { ends }) => {
            instant(ends)?;
            let left = LATEST.duration_since(ends);
            let (seconds, nanos) = (left.as_secs(), left.subsec_nanos());
            let value = format!("{at} transaction {seconds:012}.{nanos:09}");
            vec![(granted(event.scope), value)]
        }
        Act::Withdraw if event.scope == Scope::General => {
            let both = [Scope::General, Scope::Night];
            both.map(|scope| (withdrawn(scope), at.clone())).into()
        }
        Act::Withdraw => vec![(withdrawn(event.scope), at)],
    })
}

/// The recipient's partition key and consent, from the deciding item.
pub(super) fn consent(item: &Item) -> Result<(String, Consent)> {
    let mut consent = Consent::default();
    for scope in [Scope::General, Scope::Night] {
        if let Some(text) = text_of(item, granted(scope)) {
            consent.grant(scope, grant(text)?);
        }
        // A general withdrawal was noted for the night as well, so each scope tells its own.
        if let Some(text) = text_of(item, withdrawn(scope)) {
            consent.withdraw(scope, parse(text)?);
        }
    }
    let pk = text_of(item, "pk").ok_or_else(|| corrupt("has no key"))?;
    Ok((pk.to_owned(), consent))
}

fn grant(text: &str) -> Result<Grant> {
    let (at, ground) = text
        .split_once(' ')
        .ok_or_else(|| corrupt("has no ground"))?;
    let at = parse(at)?;
    let basis = match ground.split_once(' ') {
        None if ground == "explicit" => Basis::Explicit,
        Some(("transaction", left)) => {
            let ends = LATEST.checked_sub(left_of(left)?);
            let ends = ends.map_err(|_| corrupt("ends before time began"))?;
            Basis::TransactionException { ends }
        }
        _ => return Err(corrupt("has an unknown ground")),
    };
    Ok(Grant { at, basis })
}

/// `000123456789.000000001` as a time.
fn left_of(text: &str) -> Result<SignedDuration> {
    let (seconds, nanos) = text.split_once('.').ok_or_else(|| corrupt("has no end"))?;
    let seconds = seconds.parse().map_err(|_| corrupt("has no end"))?;
    let nanos = nanos.parse().map_err(|_| corrupt("has no end"))?;
    Ok(SignedDuration::new(seconds, nanos))
}

/// The item of an event. Its key says all that makes it this event, so that it is there once.
pub(super) fn of_event(pk: &str, event: &ConsentEvent) -> Result<Item> {
    let (act, ends): (_, Cow<'_, str>) = match event.act {
        Act::Grant(Basis::Explicit) => ("grant", "".into()),
        Act::Grant(Basis::TransactionException { ends }) => ("grant", instant(ends)?.into()),
        Act::Withdraw => ("withdraw", "".into()),
    };
    let at = instant(event.at)?;
    let mut item = key(pk, &format!("{EVENT}{at}#{}#{act}#{ends}", event.scope));
    item.insert("source".to_owned(), text(&event.source));
    Ok(item)
}

/// An event, from its item.
pub(super) fn event(key: &RecipientKey, item: &Item) -> Result<ConsentEvent> {
    let sk = text_of(item, "sk").and_then(|sk| sk.strip_prefix(EVENT));
    let parts: Vec<&str> = sk.unwrap_or_default().split('#').collect();
    let [at, scope, act, ends] = parts[..] else {
        return Err(corrupt("has a key of another shape"));
    };
    let act = match (act, ends) {
        ("withdraw", "") => Act::Withdraw,
        ("grant", "") => Act::Grant(Basis::Explicit),
        ("grant", ends) => Act::Grant(Basis::TransactionException { ends: parse(ends)? }),
        _ => return Err(corrupt("has an unknown act")),
    };
    Ok(ConsentEvent {
        key: key.clone(),
        scope: scope.parse().map_err(|_| corrupt("has an unknown scope"))?,
        act,
        at: parse(at)?,
        source: text_of(item, "source").unwrap_or_default().to_owned(),
    })
}

fn parse(text: &str) -> Result<Timestamp> {
    text.parse()
        .map_err(|_| corrupt("has no instant where one should be"))
}

fn corrupt(what: &str) -> Error {
    let op = format!("read a consent: its item {what}");
    Error::new(Kind::Corrupt, "consent", op)
}

//! Where the recipient is: whose law and which clocks. A number may map to a *set* of zones.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use jiff::tz::TimeZone;
use namba::NumberKind;
use serde::{Deserialize, Serialize};

use crate::message::Message;
use crate::ranges::{self, Range};
use crate::recipient;

/// ISO 3166-1 alpha-2 code of the country whose law applies, upper case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Jurisdiction([u8; 2]);

impl Jurisdiction {
    /// Checks that `text` is two upper-case letters.
    ///
    /// # Errors
    /// A sentence fragment that names the rule.
    pub fn new(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            &[a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([a, b])),
            _ => Err("must be an ISO 3166-1 country code such as KR".to_owned()),
        }
    }

    /// The two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("??")
    }
}

impl TryFrom<String> for Jurisdiction {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<Jurisdiction> for String {
    fn from(jurisdiction: Jurisdiction) -> Self {
        jurisdiction.as_str().to_owned()
    }
}

impl fmt::Display for Jurisdiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Jurisdiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the zones of a recipient came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZoneSource {
    /// The message names its zone.
    Message,
    /// From the recipient's phone number.
    Number,
    /// The house default.
    House,
}

/// The candidate zones of one recipient, never empty. Open means open in *every* one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zones {
    /// How they came to be known.
    pub source: ZoneSource,
    /// IANA names joined by `+`, as receipts show them.
    pub name: Arc<str>,
    /// The zones, at least one.
    pub all: Arc<[TimeZone]>,
}

/// The sender's own country and clock: the defaults for recipients that tell neither.
#[derive(Clone, Debug)]
pub struct House {
    /// Default law, and the region by which national phone numbers are read.
    pub jurisdiction: Jurisdiction,
    /// Default clock.
    pub zone: TimeZone,
}

/// Whose law and which clocks hold for one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose law.
    pub jurisdiction: Jurisdiction,
    /// Which clocks.
    pub zones: Zones,
}

/// Most zone sets kept for reuse. Valid IANA names and the sets of numbering plans stay far below.
const ZONE_SETS_MAX: usize = 4096;

/// Most number ranges whose place is kept: all that the tables tell apart (below 59 000).
const RANGES_MAX: usize = 65_536;

/// Home of numbers that bear their calling code: of no use to them.
const NOWHERE: Jurisdiction = Jurisdiction(*b"ZZ");

/// Calling codes of one country with one clock, so that neither the digits behind the code nor
/// whether they are in use can change the place. A test holds them against the numbering plans.
const ONE_CLOCK: [(&str, &str, &str); 14] = [
    ("82", "KR", "Asia/Seoul"),
    ("81", "JP", "Asia/Tokyo"),
    ("86", "CN", "Asia/Shanghai"),
    ("91", "IN", "Asia/Calcutta"),
    ("33", "FR", "Europe/Paris"),
    ("65", "SG", "Asia/Singapore"),
    ("66", "TH", "Asia/Bangkok"),
    ("84", "VN", "Asia/Ho_Chi_Minh"),
    ("49", "DE", "Europe/Berlin"),
    ("90", "TR", "Europe/Istanbul"),
    ("63", "PH", "Asia/Manila"),
    ("886", "TW", "Asia/Taipei"),
    ("852", "HK", "Asia/Hong_Kong"),
    ("971", "AE", "Asia/Dubai"),
];

impl Zones {
    /// One zone by its IANA name; `None` for a name that the time zone database does not know.
    #[must_use]
    pub fn named(name: &str, source: ZoneSource) -> Option<Self> {
        shared(name, source, || {
            let zone = TimeZone::get(name).ok().filter(|zone| !zone.is_unknown())?;
            Some(vec![zone])
        })
    }

    /// The zone of the house. A clock without an IANA name is named by its offset.
    #[must_use]
    pub fn of_house(zone: &TimeZone) -> Self {
        let source = ZoneSource::House;
        if let Some(found) = zone.iana_name().and_then(|name| Self::named(name, source))
            && found.all.first() == Some(zone)
        {
            return found;
        }
        let name = zone.iana_name().map_or_else(
            || {
                zone.to_fixed_offset()
                    .map_or_else(|_| "house".into(), |at| format!("UTC{at}"))
            },
            str::to_owned,
        );
        Self {
            source,
            name: name.into(),
            all: [zone.clone()].into(),
        }
    }

    /// The set that a numbering plan gives for the number's own range.
    fn of_range(number: &namba::PhoneNumber) -> Option<Self> {
        let zones = namba::TimeZones::for_number(number)?;
        let names: Vec<&str> = zones.iter().collect();
        shared(&names.join("+"), ZoneSource::Number, || {
            let known = names.iter().filter_map(|name| TimeZone::get(name).ok());
            Some(known.filter(|zone| !zone.is_unknown()).collect())
        })
    }

    /// Every zone of the countries behind a calling code.
    fn of_country(number: &namba::PhoneNumber) -> Option<Self> {
        static COUNTRIES: LazyLock<RwLock<HashMap<u16, Option<Zones>>>> =
            LazyLock::new(RwLock::default);
        let code = number.calling_code().value();
        let known = COUNTRIES
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&code)
            .cloned();
        known.unwrap_or_else(|| {
            // No range starts with zeros, so the plan answers for the calling code alone.
            let probe = namba::parse(&format!("+{code}00000000")).ok();
            let zones = probe.as_ref().and_then(Self::of_range);
            let mut countries = COUNTRIES.write().unwrap_or_else(PoisonError::into_inner);
            countries.insert(code, zones.clone());
            zones
        })
    }

    /// Where the holder of a number may be. A fixed line is where its range is; a mobile, a
    /// personal or a toll-free number can be anywhere in its country, whatever range it is of.
    /// North America tells the two apart nowhere: there the area code is what can be had.
    fn of_number(number: &namba::PhoneNumber, kind: NumberKind) -> Option<Self> {
        if matches!(kind, NumberKind::FixedLine | NumberKind::FixedLineOrMobile) {
            return Self::of_range(number);
        }
        Self::of_country(number).or_else(|| Self::of_range(number))
    }
}

type Sets = HashMap<Arc<str>, (Arc<str>, Arc<[TimeZone]>)>;

/// Zone data by name, read once: a look-up in the database costs more than a whole decision.
fn shared(
    name: &str,
    source: ZoneSource,
    read: impl FnOnce() -> Option<Vec<TimeZone>>,
) -> Option<Zones> {
    static SETS: LazyLock<RwLock<Sets>> = LazyLock::new(RwLock::default);
    let known = SETS
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(name)
        .cloned();
    if let Some((name, all)) = known {
        return Some(Zones { source, name, all });
    }
    let zones = read().filter(|zones| !zones.is_empty())?;
    let names: Vec<&str> = zones.iter().filter_map(TimeZone::iana_name).collect();
    let canonical: Arc<str> = names.join("+").into();
    let all: Arc<[TimeZone]> = zones.into();
    let mut sets = SETS.write().unwrap_or_else(PoisonError::into_inner);
    // Database names ignore case: kept under any spelling, they would grow without end.
    if let Some((name, all)) = sets.get(&canonical) {
        return Some(Zones {
            source,
            name: Arc::clone(name),
            all: Arc::clone(all),
        });
    }
    if sets.len() < ZONE_SETS_MAX {
        sets.insert(
            Arc::clone(&canonical),
            (Arc::clone(&canonical), Arc::clone(&all)),
        );
    }
    Some(Zones {
        source,
        name: canonical,
        all,
    })
}

/// What the recipient's number tells.
#[derive(Clone, Debug, Default, PartialEq)]
struct Dialled {
    jurisdiction: Option<Jurisdiction>,
    zones: Option<Zones>,
    /// Told of American numbers only: elsewhere a range holds valid and invalid ones.
    valid: bool,
}

/// Finds whose law and which clocks hold for `message`.
///
/// Zone: the message's own if it is a known IANA name, else those in which the holder of the
/// recipient's number may be (all of the country's for a mobile), else the house's. Law: the
/// message's own, else that of the number's region, else the house's. A number that is valid in no
/// plan still has its country's clocks; a recipient that is no number (e-mail address, push token)
/// takes the house's.
///
/// ```
/// use jiff::tz::TimeZone;
/// use nightgate_core::{House, Jurisdiction, Message, ZoneSource, locate};
///
/// let message: Message = serde_json::from_value(serde_json::json!({
///     "id": "m-1", "recipient": "+61412345678", "channel": "sms", "purpose": "advertising",
///     "priority": 5, "content_type": "text/plain", "attributes": {}, "body": [],
/// }))?;
/// let (jurisdiction, zone) = (Jurisdiction::new("KR")?, TimeZone::get("Asia/Seoul")?);
/// let house = House { jurisdiction, zone };
/// let place = locate(&message, &house);
/// assert_eq!(place.jurisdiction.as_str(), "AU");
/// assert_eq!(place.zones.source, ZoneSource::Number);
/// assert!(place.zones.all.len() > 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn locate(message: &Message, house: &House) -> Place {
    let named = message
        .zone
        .as_deref()
        .and_then(|zone| Zones::named(zone, ZoneSource::Message));
    let (jurisdiction, zones) = match (message.jurisdiction, named) {
        (Some(jurisdiction), Some(zones)) => {
            return Place {
                jurisdiction,
                zones,
            };
        }
        told => told,
    };
    let number = dialled(message.recipient.expose(), house.jurisdiction);
    Place {
        jurisdiction: jurisdiction
            .or(number.jurisdiction)
            .unwrap_or(house.jurisdiction),
        zones: zones
            .or(number.zones)
            .unwrap_or_else(|| Zones::of_house(&house.zone)),
    }
}

fn dialled(text: &str, home: Jurisdiction) -> Dialled {
    if let Some(quick) = one_clock(text, home) {
        return quick;
    }
    if let Some(quick) = ranged(text) {
        return quick;
    }
    let american = ranges::american(text, home.as_str());
    if let Some(american) = american.as_ref().and_then(|text| str::from_utf8(text).ok())
        && let Some(quick) = ranged(american)
    {
        // Digits alone that are no valid number can be anything.
        return match quick.valid || text.starts_with('+') {
            true => quick,
            false => Dialled::default(),
        };
    }
    by_plans(text, home)
}

/// What the numbering plans tell of `text`, at their pace.
fn by_plans(text: &str, home: Jurisdiction) -> Dialled {
    let Some(number) = recipient::dialled(text, home.as_str()) else {
        return Dialled::default();
    };
    let assessment = number.assess();
    let region = match assessment.regions() {
        // The plans are slow: a code of one country needs no second look.
        &[only] => Some(only),
        several => Some(&number)
            .filter(|_| assessment.is_valid())
            .and_then(namba::PhoneNumber::region)
            .or_else(|| several.first().copied()),
    };
    Dialled {
        jurisdiction: region.and_then(|region| Jurisdiction::new(region.as_str()).ok()),
        zones: Zones::of_number(&number, assessment.kind()),
        valid: assessment.is_valid(),
    }
}

/// Whether an American number as E.164 is valid; `None` where no range tells.
pub(crate) fn is_valid(american: &str) -> Option<bool> {
    ranged(american).map(|number| number.valid)
}

/// What the plans tell of `text`, a number as E.164, asked once for its whole range.
fn ranged(text: &str) -> Option<Dialled> {
    static KNOWN: LazyLock<RwLock<HashMap<Range, Dialled>>> = LazyLock::new(RwLock::default);
    let range = ranges::of(text)?;
    let known = KNOWN
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&range)
        .cloned();
    if known.is_some() {
        return known;
    }
    // Written in full, a number reads the same in every home.
    let told = by_plans(text, NOWHERE);
    let mut ranges = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    if ranges.len() < RANGES_MAX {
        ranges.insert(range, told.clone());
    }
    Some(told)
}

/// The common case without the numbering plans: a number of a country with one clock.
fn one_clock(text: &str, home: Jurisdiction) -> Option<Dialled> {
    let (_, region, zone) = ONE_CLOCK.get(usize::from(home_clock(text, home)?))?;
    Some(Dialled {
        jurisdiction: Jurisdiction::new(region).ok(),
        zones: Zones::named(zone, ZoneSource::Number),
        valid: false,
    })
}

/// The row of [`ONE_CLOCK`] that a number is of. Two numbers of one row are at one place.
pub(crate) fn home_clock(text: &str, home: Jurisdiction) -> Option<u8> {
    let Some(digits) = text.strip_prefix('+') else {
        recipient::korean_mobile(text, home.as_str())?;
        return Some(0);
    };
    // Shorter or longer ones are for the plans to judge, as is anything with separators.
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || !(9..=14).contains(&digits.len()) {
        return None;
    }
    let row = ONE_CLOCK
        .iter()
        .position(|(code, ..)| digits.starts_with(code))?;
    u8::try_from(row).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Example numbers of every region and kind, as E.164.
    fn examples() -> Vec<String> {
        let kinds = [
            NumberKind::FixedLine,
            NumberKind::Mobile,
            NumberKind::TollFree,
            NumberKind::PremiumRate,
            NumberKind::Personal,
            NumberKind::Voip,
        ];
        let probes = (1..1000).filter_map(|code| namba::parse(&format!("+{code}00000000")).ok());
        let regions: Vec<namba::Region> = probes
            .flat_map(|probe| probe.assess().regions().to_vec())
            .collect();
        let all = regions
            .iter()
            .flat_map(|region| kinds.map(|kind| namba::example_number_for_kind(*region, kind)));
        all.flatten()
            .map(|number| number.format(namba::Format::E164).to_string())
            .collect()
    }

    /// A number near an example: its last digits others, sometimes one digit more or less.
    fn near_an_example() -> impl Strategy<Value = String> {
        let tail = (0_usize..8, "[0-9]{12}", 0_usize..12);
        (prop::sample::select(examples()), tail).prop_map(|(example, (cut, digits, odd))| {
            let kept = example.len().saturating_sub(cut).max(2);
            let wanted = match odd {
                0 => example.len() - 1,
                1 => example.len() + 1,
                _ => example.len(),
            };
            let tail = digits.chars().take(wanted - kept.min(wanted));
            example.chars().take(kept).chain(tail).collect()
        })
    }

    fn written() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => near_an_example(),
            4 => "\\+1[2-9][0-9]{9}",
            1 => "\\+(7|39|44|52|55|61|62|262|358)[0-9]{6,11}",
            1 => "\\+[1-9][0-9]{0,15}",
            1 => "\\+(1|44|61|82|7|39)[- ]?\\(?[0-9]{1,3}\\)?[- .]?[0-9]{3}[- .]?[0-9]{3,5}",
            1 => "\\(?[1-9][0-9]{2}\\)?[- .]?[0-9]{3}[- .]?[0-9]{4}",
            1 => "0[0-9]{1,2}-?[0-9]{6,8}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn the_quick_place_of_any_number_is_that_of_the_plans(text in written()) {
            for home in ["KR", "US"] {
                let home = Jurisdiction::new(home).unwrap();
                let (quick, long) = (dialled(&text, home), by_plans(&text, home));
                prop_assert_eq!(quick.jurisdiction, long.jurisdiction, "{}", &text);
                prop_assert_eq!(quick.zones, long.zones, "{}", &text);
                let key = crate::Recipient::new(&text).unwrap().key(home.as_str());
                let long = recipient::long_key(&text, home.as_str());
                prop_assert_eq!(key.expose(), &long.unwrap_or(text.clone()));
            }
        }
    }
}

//! Decisions a second on one core.
//!
//! `cargo bench -p nightgate-core --bench decide`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that fails may panic"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a bench measures the machine, not the house"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use nightgate_core::consent::{Basis, Grant};
use nightgate_core::ruleset::PackSource;
use nightgate_core::{
    Channel, Consent, ConsentAnswer, Facts, House, Jurisdiction, Message, MessageId, Priority,
    Purpose, Recipient, Round, Ruleset, Scope, decide, locate,
};

const KR: &str = include_str!("../../../rules/kr.toml");
const HOUSE: &str = include_str!("../../../rules/house.toml");
/// Distinct recipients in one round, so that no run asks about one message only.
const MESSAGES: usize = 10_000;
const ROUNDS: usize = 100;

fn messages(purpose: Purpose, number: impl Fn(usize) -> String) -> Vec<Message> {
    let message = |index: usize| Message {
        id: MessageId::new(&format!("m-{index}")).unwrap(),
        recipient: Recipient::new(&number(index)).unwrap(),
        channel: Channel::Sms,
        purpose,
        campaign: Some("spring".into()),
        priority: Priority::default(),
        jurisdiction: None,
        zone: None,
        send_at: None,
        expires_at: None,
        collapse_key: None,
        content_type: "text/plain".into(),
        attributes: BTreeMap::new(),
        body: b"body".as_slice().into(),
    };
    (0..MESSAGES).map(message).collect()
}

fn e164(index: usize) -> String {
    format!("+82102{index:07}")
}

/// Runs `work` over every message, [`ROUNDS`] times, and prints how many a second.
fn time(name: &str, messages: &[Message], mut work: impl FnMut(&Message)) {
    messages.iter().for_each(&mut work);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        messages.iter().for_each(&mut work);
    }
    let seconds = start.elapsed().as_secs_f64();
    let count = (messages.len() * ROUNDS) as f64;
    println!(
        "{name:<44} {:>12.0} /s {:>8.0} ns",
        count / seconds,
        seconds / count * 1e9
    );
}

/// The shipped packs.
fn shipped() -> Ruleset {
    let source = |name: &str, text: &str| PackSource {
        name: name.into(),
        text: text.into(),
    };
    let sources = [source("kr.toml", KR), source("house.toml", HOUSE)];
    Ruleset::load(&sources).unwrap()
}

fn main() {
    let rules = shipped();
    let house = House {
        jurisdiction: Jurisdiction::new("KR").unwrap(),
        zone: TimeZone::get("Asia/Seoul").unwrap(),
    };
    let day: Timestamp = "2026-11-22T14:00:00+09:00".parse().unwrap();
    let night: Timestamp = "2026-11-22T23:00:00+09:00".parse().unwrap();
    let grant = Grant {
        at: day - SignedDuration::from_hours(24),
        basis: Basis::Explicit,
    };
    let mut consent = Consent::default();
    consent.grant(Scope::General, grant);
    let general = ConsentAnswer::Known(consent);
    consent.grant(Scope::Night, grant);
    let both = ConsentAnswer::Known(consent);

    let ads = messages(Purpose::Advertising, e164);
    let notices = messages(Purpose::Informational, e164);
    let place = locate(&ads[0], &house);
    let run = |name: &str, messages: &[Message], consent: &ConsentAnswer, now| {
        time(name, messages, |message| {
            let facts = Facts {
                consent,
                place: &place,
            };
            black_box(decide(&rules, black_box(message), &facts, now));
        });
    };
    run("decide: advertising, open", &ads, &general, day);
    run("decide: advertising, held at night", &ads, &general, night);
    run("decide: advertising, night consent", &ads, &both, night);
    run(
        "decide: informational",
        &notices,
        &ConsentAnswer::Unknown,
        night,
    );

    let whole = |message: &Message| {
        let place = locate(message, &house);
        black_box(rules.class(message, &place));
        let facts = Facts {
            consent: &general,
            place: &place,
        };
        black_box(decide(&rules, message, &facts, day));
    };
    time("locate + class + decide: +8210…", &ads, whole);
    let mut round = Round::new(&rules, &house, day);
    time("the same in a round: +8210…", &ads, |message| {
        black_box(round.decide(message, &general).decision);
    });
    let national = messages(Purpose::Advertising, |index| {
        format!("010-{:04}-{index:04}", 2000)
    });
    time("locate + class + decide: 010-…", &national, whole);
    time("recipient key: +8210…", &ads, |message| {
        black_box(message.recipient.key("KR"));
    });
    time("recipient key: 010-…", &national, |message| {
        black_box(message.recipient.key("KR"));
    });
    abroad(&house);
}

/// Numbers that differ from each other: `lead` and `digits` digits that look drawn at random.
fn drawn(lead: &str, digits: u32, index: usize) -> String {
    let mixed = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let rest = (mixed ^ (mixed >> 29)) % 10_u64.pow(digits);
    format!("{lead}{rest:0width$}", width = digits as usize)
}

/// Numbers of other countries, each seen once: what a campaign pays, ranges learned on the way.
fn abroad(house: &House) {
    let american = |index: usize| {
        let number = drawn("+1", 10, index);
        // Area codes and exchanges begin with 2 to 9.
        let lift = |at: usize| (number.as_bytes()[at] - b'0') % 8 + 2;
        let (area, exchange) = (lift(2), lift(5));
        format!("+1{area}{}{exchange}{}", &number[3..5], &number[6..])
    };
    once("+1 anywhere", house, 300_000, american);
    once("+1 anywhere, again", house, 300_000, american);
    once(
        "202-555-0100 at home in the US",
        &at_home(),
        100_000,
        |index| {
            let number = american(index);
            format!("{}-{}-{}", &number[2..5], &number[5..8], &number[8..])
        },
    );
    for (lead, digits) in [
        ("+447", 9),
        ("+44", 10),
        ("+614", 8),
        ("+61", 9),
        ("+79", 9),
        ("+5511", 9),
        ("+5255", 8),
        ("+39", 10),
        ("+62", 9),
        ("+48", 9),
        ("+549", 10),
        ("+2547", 8),
        ("+351", 9),
        ("+976", 8),
        ("+4401", 9),
    ] {
        let count = if lead == "+4401" { 500 } else { 30_000 };
        once(lead, house, count, |index| drawn(lead, digits, index));
    }
}

fn at_home() -> House {
    House {
        jurisdiction: Jurisdiction::new("US").unwrap(),
        zone: TimeZone::get("America/New_York").unwrap(),
    }
}

/// Locates `count` numbers and takes their keys, once each.
fn once(name: &str, house: &House, count: usize, number: impl Fn(usize) -> String) {
    let mut message = messages(Purpose::Advertising, e164).swap_remove(0);
    let recipients = (0..count).map(|index| Recipient::new(&number(index)).unwrap());
    let recipients: Vec<_> = recipients.collect();
    let pace = |what: &str, seconds: f64| {
        println!(
            "{:<44} {:>12.0} /s",
            format!("{what}: {name}"),
            count as f64 / seconds
        );
    };
    let start = Instant::now();
    for recipient in &recipients {
        message.recipient = recipient.clone();
        black_box(locate(&message, house));
    }
    pace("locate once", start.elapsed().as_secs_f64());
    let start = Instant::now();
    for recipient in &recipients {
        black_box(recipient.key(house.jurisdiction.as_str()));
    }
    pace("key once", start.elapsed().as_secs_f64());
}

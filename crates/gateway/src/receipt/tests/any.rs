//! Any receipt there can be: every event, code, standing and instant.

use super::*;

fn instant() -> impl Strategy<Value = Timestamp> {
    let (min, max) = (
        Timestamp::MIN.as_nanosecond(),
        Timestamp::MAX.as_nanosecond(),
    );
    let any = (min..=max).prop_map(|nanos| Timestamp::from_nanosecond(nanos).unwrap());
    prop_oneof![
        any,
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
        Just(at(0)),
        Just(at(1_800_000_000))
    ]
}

fn standing() -> impl Strategy<Value = Standing> {
    let basis = prop_oneof![
        Just(Basis::Explicit),
        instant().prop_map(|ends| Basis::TransactionException { ends })
    ];
    let valid = (instant(), prop::option::of(instant()), basis);
    prop_oneof![
        valid.prop_map(|(since, until, basis)| Standing::Valid {
            since,
            until,
            basis
        }),
        Just(Standing::None),
        Just(Standing::Unknown),
        instant().prop_map(|at| Standing::Withdrawn { at }),
        instant().prop_map(|at| Standing::Lapsed { at }),
    ]
}

fn any_reason() -> impl Strategy<Value = Reason> {
    let code = prop::sample::select(vec![
        Code::Open,
        Code::LiftedByConsent,
        Code::QuietHours,
        Code::Guard,
        Code::SendAt,
        Code::Expired,
        Code::NoConsent,
        Code::Withdrawn,
        Code::ConsentLapsed,
        Code::ConsentUnknown,
        Code::NoRules,
        Code::Forbidden,
    ]);
    let source = prop::sample::select(vec![
        ZoneSource::Message,
        ZoneSource::Number,
        ZoneSource::House,
    ]);
    let texts = (
        prop::option::of(any::<String>()),
        any::<String>(),
        "[A-Z][a-z]{2}(/[a-z]+)?",
    );
    let times = (prop::option::of(instant()), prop::option::of(instant()));
    (code, texts, source, times, standing(), standing()).prop_map(
        |(code, (rule, ruleset, zone), zone_source, (opens, closes), general, night)| Reason {
            code,
            rule: rule.map(Into::into),
            ruleset: ruleset.into(),
            zone: zone.into(),
            zone_source,
            opens,
            closes,
            consent: ConsentSnapshot { general, night },
        },
    )
}

fn subject() -> impl Strategy<Value = Subject> {
    (
        prop::option::of("[!-~]{1,128}"),
        prop::option::of(any::<String>()),
        prop::option::of(any::<String>()),
        prop::option::of(any::<String>()),
        prop::option::of(prop::sample::select(Purpose::ALL)),
        prop::option::of(prop::sample::select(Channel::ALL)),
    )
        .prop_map(
            |(message, recipient, campaign, lane, purpose, channel)| Subject {
                message: message.map(|message| id(&message)),
                recipient: recipient.map(|key| RecipientKey::from_stored(&key)),
                campaign: campaign.map(Into::into),
                lane: lane.map(|lane| Lane::new(&lane)),
                purpose,
                channel,
            },
        )
}

pub(in crate::receipt) fn any_receipt() -> impl Strategy<Value = Receipt> {
    let count = prop_oneof![Just(1), 0..=i64::MAX.unsigned_abs()];
    (
        (
            any::<i64>(),
            prop::sample::select(Event::ALL.to_vec()),
            subject(),
        ),
        (any::<u32>(), count, prop::option::of(instant())),
        (
            prop::option::of(any_reason()),
            prop::option::of(any::<String>()),
        ),
    )
        .prop_map(
            |((nanos, event, subject), (attempt, count, until), (reason, detail))| Receipt {
                at: Timestamp::from_nanosecond(nanos.into()).unwrap(),
                event,
                subject,
                attempt,
                count,
                until,
                reason,
                detail,
            },
        )
}

//! Messages, instants and short ways to ask a hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use nightgate::hold::{
    End, Found, Held, HoldStore, Lane, LeaseAsk, Leased, Pick, Put, Settle, Settled, Shelf, State,
    Token, Verdict,
};
use nightgate_core::{
    Channel, Class, Message, MessageId, Priority, Purpose, Recipient, RecipientKey,
};

/// How long ended ids are remembered in these tests.
pub(crate) const HORIZON: SignedDuration = SignedDuration::from_hours(1);
/// How long loans run.
pub(crate) const TTL: SignedDuration = SignedDuration::from_mins(10);
/// A little later.
pub(crate) const MOMENT: SignedDuration = SignedDuration::from_nanos(1);
/// More than any test stores.
pub(crate) const ALL: usize = 100_000;

/// So many minutes after the evening on which these tests begin, to an odd nanosecond.
pub(crate) fn at(minutes: i64) -> Timestamp {
    let evening: Timestamp = "2026-11-22T12:00:00.123456789Z".parse().unwrap();
    evening + SignedDuration::from_mins(minutes)
}

pub(crate) fn id(text: &str) -> MessageId {
    MessageId::new(text).unwrap()
}

pub(crate) fn lane() -> Lane {
    Lane::new("sms")
}

pub(crate) fn class(name: &str) -> Class {
    Class::from_name(name)
}

/// A message due at once on the usual lane.
pub(crate) fn held(name: &str) -> Held {
    let recipient = Recipient::new("010-0000-0001").unwrap();
    Held {
        key: RecipientKey::from_stored("+821000000001"),
        message: Message {
            id: id(name),
            recipient,
            channel: Channel::Lms,
            purpose: Purpose::Advertising,
            campaign: None,
            priority: Priority::default(),
            jurisdiction: None,
            zone: None,
            send_at: None,
            expires_at: None,
            collapse_key: None,
            content_type: "text/plain".into(),
            attributes: BTreeMap::new(),
            body: format!("body of {name}").into(),
        },
        lane: lane(),
        class: class("advertising/lms/KR/Asia/Seoul"),
        due: at(0),
        accepted_at: at(0),
    }
}

/// The same, changed.
pub(crate) fn with(name: &str, change: impl FnOnce(&mut Held)) -> Held {
    let mut held = held(name);
    change(&mut held);
    held
}

/// A message due at an instant.
pub(crate) fn due(name: &str, due: Timestamp) -> Held {
    with(name, |held| held.due = due)
}

/// A message of a campaign.
pub(crate) fn of_campaign(name: &str, campaign: &str) -> Held {
    with(name, |held| held.message.campaign = Some(campaign.into()))
}

/// Stores messages that must all be new.
pub(crate) async fn put(hold: &dyn HoldStore, messages: Vec<Held>) {
    let count = messages.len();
    let answers = hold.put(messages, at(0)).await.unwrap();
    assert_eq!(answers, vec![Put::New; count]);
}

/// Leases from the usual lane.
pub(crate) async fn lease(hold: &dyn HoldStore, now: Timestamp, max: usize) -> Vec<Leased> {
    pick(hold, Pick::Any, now, max).await
}

/// Leases some from the usual lane.
pub(crate) async fn pick(
    hold: &dyn HoldStore,
    pick: Pick<'_>,
    now: Timestamp,
    max: usize,
) -> Vec<Leased> {
    let lane = lane();
    hold.lease(&LeaseAsk {
        lane: &lane,
        pick,
        now,
        max,
        ttl: TTL,
    })
    .await
    .unwrap()
}

/// Leases exactly one message.
pub(crate) async fn lease_one(hold: &dyn HoldStore, now: Timestamp) -> Leased {
    let mut leased = lease(hold, now, ALL).await;
    assert_eq!(leased.len(), 1, "{leased:?}");
    leased.remove(0)
}

/// The ids of what was lent.
pub(crate) fn names(leased: &[Leased]) -> Vec<&str> {
    leased
        .iter()
        .map(|loan| loan.held.message.id.as_str())
        .collect()
}

/// The token of one message among those lent.
pub(crate) fn token_of(leased: &[Leased], name: &str) -> Token {
    let mut wanted = leased
        .iter()
        .filter(|loan| loan.held.message.id.as_str() == name);
    wanted.next().unwrap().token
}

/// Ends one loan.
pub(crate) async fn settle(
    hold: &dyn HoldStore,
    token: Token,
    verdict: Verdict,
    now: Timestamp,
) -> Settled {
    let answers = hold
        .settle(vec![Settle { token, verdict }], now)
        .await
        .unwrap();
    assert_eq!(answers.len(), 1);
    answers[0]
}

pub(crate) fn done() -> Verdict {
    Verdict::Done(End::Delivered)
}

pub(crate) fn defer(due: Timestamp) -> Verdict {
    Verdict::Defer {
        due,
        attempted: true,
    }
}

pub(crate) fn bury() -> Verdict {
    Verdict::Bury {
        why: "unknown outcome".to_owned(),
    }
}

/// What is known of one id.
pub(crate) async fn find(hold: &dyn HoldStore, name: &str) -> Option<Found> {
    let mut found = hold.find(&[id(name)]).await.unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0)
}

/// Where one message is.
pub(crate) async fn state(hold: &dyn HoldStore, name: &str) -> Option<State> {
    find(hold, name).await.map(|found| found.state)
}

/// Fails unless one message is in this state, where the backend can tell.
pub(crate) async fn assert_state(hold: &dyn HoldStore, name: &str, expected: State) {
    if hold.capability().find {
        let expected = Some(expected).filter(|state| hold.capability().ended || is_live(*state));
        assert_eq!(state(hold, name).await, expected, "{name}");
    }
}

/// Whether a message in this state has its road before it.
pub(crate) fn is_live(state: State) -> bool {
    matches!(state, State::Held | State::Leased | State::Buried)
}

/// Fails unless the shelves count so, where the backend counts exactly.
pub(crate) async fn assert_totals(hold: &dyn HoldStore, expected: (u64, u64, u64)) {
    if hold.capability().exact_depth {
        assert_eq!(totals(hold).await, expected);
    }
}

/// How late a message may be lent, and how early it is told to be undue.
pub(crate) fn late(hold: &dyn HoldStore) -> SignedDuration {
    match hold.capability().prompt {
        true => MOMENT,
        false => SignedDuration::from_secs(1),
    }
}

/// Held, leased and buried over all shelves.
pub(crate) async fn totals(hold: &dyn HoldStore) -> (u64, u64, u64) {
    let shelves = hold.shelves(None, None).await.unwrap();
    shelves
        .iter()
        .fold((0, 0, 0), |(held, leased, buried), shelf| {
            (
                held + shelf.held,
                leased + shelf.leased,
                buried + shelf.buried,
            )
        })
}

/// Fails unless the shelves count what a listing of the messages counts, where the backend promises
/// both.
pub(crate) async fn recount(hold: &dyn HoldStore) {
    if !(hold.capability().find && hold.capability().exact_depth) {
        return;
    }
    type Key = (
        String,
        u8,
        Timestamp,
        &'static str,
        String,
        Option<Arc<str>>,
    );
    let key = |shelf: &Shelf| -> Key {
        let (lane, class) = (shelf.lane.to_string(), shelf.class.as_str().to_owned());
        let purpose = shelf.purpose.as_str();
        (
            lane,
            shelf.priority,
            shelf.due,
            purpose,
            class,
            shelf.campaign.clone(),
        )
    };
    let mut counted: BTreeMap<Key, [u64; 3]> = BTreeMap::new();
    for (column, state) in [State::Held, State::Leased, State::Buried]
        .into_iter()
        .enumerate()
    {
        for found in hold.list(state, None, ALL).await.unwrap() {
            let Held {
                message,
                lane,
                class,
                due,
                ..
            } = found.held;
            let (lane, class) = (lane.to_string(), class.as_str().to_owned());
            let (purpose, priority) = (message.purpose.as_str(), message.priority.get());
            let key = (lane, priority, due, purpose, class, message.campaign);
            counted.entry(key).or_default()[column] += 1;
        }
    }
    let shelves = hold.shelves(None, None).await.unwrap();
    let count = |shelf: &Shelf| (key(shelf), [shelf.held, shelf.leased, shelf.buried]);
    let shown: Vec<_> = shelves.iter().map(count).collect();
    assert_eq!(shown, Vec::from_iter(counted), "the shelves miscount");
}

//! The hold on SQS as an emulator keeps it, in real time.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use nightgate::clock::{Clock, SystemClock};
use nightgate::config::Opening;
use nightgate::hold::sqs::{SqsHold, SqsHoldOptions};
use nightgate::hold::{
    End, Held, HoldStore, Lane, LeaseAsk, Leased, Pick, Put, Scope, Settle, Settled, State, Verdict,
};
use nightgate_core::{Class, Message};
use serde_json::json;

use crate::emulators::{Emulator, Kind};
use crate::world::{make, queues};

/// Loans in these tests lapse after so long.
const TTL: SignedDuration = SignedDuration::from_secs(8);

fn now() -> Timestamp {
    SystemClock::default().now()
}

fn lane() -> Lane {
    Lane::new("sms")
}

fn held(id: &str, due: Timestamp) -> Held {
    let message: Message = serde_json::from_value(json!({
        "id": id, "recipient": "010-1234-5678", "channel": "sms", "purpose": "advertising",
        "campaign": "autumn", "priority": 5, "content_type": "text/plain; charset=utf-8",
        "attributes": {"template": "N-17"}, "body": [],
    }))
    .unwrap();
    Held {
        key: message.recipient.key("KR"),
        message: Message {
            // No astral characters: fauxqs turns them down, which SQS does not.
            body: format!("{id}: 한글\r\n\t").into(),
            ..message
        },
        lane: lane(),
        class: Class::from_name("advertising/sms/KR/Asia/Seoul"),
        due,
        accepted_at: due,
    }
}

async fn make_queues(url: &str) {
    let retention = [("MessageRetentionPeriod", "1209600")];
    for kind in ["ready", "wait", "wait-1", "buried"] {
        make(url, &format!("night-sms-{kind}"), &retention).await;
    }
}

async fn open(url: &str) -> SqsHold {
    let options = SqsHoldOptions {
        openings: vec![Opening::parse("08:00[Asia/Seoul]").unwrap()],
        ..SqsHoldOptions::new("night", vec![lane()])
    };
    let clock = Arc::new(SystemClock::default());
    SqsHold::open(queues(url), options, clock).await.unwrap()
}

/// Leases until `count` have come or patience ends.
async fn lease(hold: &SqsHold, count: usize) -> Vec<Leased> {
    let (lane, mut loans) = (lane(), Vec::new());
    for _ in 0..60 {
        let ask = LeaseAsk {
            lane: &lane,
            pick: Pick::Any,
            now: now(),
            max: count - loans.len(),
            ttl: TTL,
        };
        loans.extend(hold.lease(&ask).await.unwrap());
        if loans.len() == count {
            break;
        }
    }
    loans
}

async fn settle(hold: &SqsHold, loan: &Leased, verdict: Verdict) {
    let token = loan.token;
    let answer = hold.settle(vec![Settle { token, verdict }], now()).await;
    assert_eq!(answer.unwrap(), [Settled::Yes]);
}

fn done() -> Verdict {
    Verdict::Done(End::Delivered)
}

async fn a_night(kind: Kind) {
    let emulator = Emulator::start(kind).await;
    let url = &emulator.url;
    make_queues(url).await;
    let (hold, start) = (open(url).await, now());
    let soon = start + SignedDuration::from_secs(3);
    let mut all: Vec<Held> = (0..25).map(|n| held(&format!("now-{n}"), start)).collect();
    all.push(held("soon", soon));
    all.push(held("later", start + SignedDuration::from_mins(20)));
    let answers = hold.put(all.clone(), start).await.unwrap();
    assert_eq!(answers, vec![Put::New; 27]);

    let loans = lease(&hold, 25).await;
    let lent: BTreeSet<&str> = loans.iter().map(|it| it.held.message.id.as_str()).collect();
    assert_eq!(lent.len(), 25, "{kind:?}");
    assert!(
        loans
            .iter()
            .all(|loan| !loan.lapsed && all.contains(&loan.held))
    );
    let deferred = Verdict::Defer {
        due: now(),
        attempted: true,
    };
    settle(&hold, &loans[0], deferred).await;
    let why = "no answer".to_owned();
    settle(&hold, &loans[1], Verdict::Bury { why }).await;
    for loan in &loans[3..] {
        settle(&hold, loan, done()).await;
    }
    // Another process gets what was put back, what comes due, and then what lapses.
    let other = open(url).await;
    let rest = lease(&other, 2).await;
    let of = |id: &str| {
        rest.iter()
            .find(|it| it.held.message.id.as_str() == id)
            .unwrap()
    };
    let back = of(loans[0].held.message.id.as_str());
    assert_eq!((back.attempts, back.lapsed), (1, false));
    assert!(!of("soon").lapsed && now() >= soon);
    for loan in &rest {
        settle(&other, loan, done()).await;
    }
    let lapsed = lease(&other, 1).await;
    assert_eq!(lapsed[0].held.message.id, loans[2].held.message.id);
    assert!(lapsed[0].lapsed && now() >= loans[2].until, "{kind:?}");
    settle(&other, &lapsed[0], done()).await;

    let buried = other.list(State::Buried, None, 10).await.unwrap();
    assert_eq!(buried.len(), 1, "{kind:?}");
    assert_eq!(buried[0].why.as_deref(), Some("no answer"));
    assert_eq!(other.kick(&Scope::Lane(lane()), now()).await.unwrap(), 1);
    let kicked = lease(&hold, 1).await;
    assert_eq!((kicked[0].attempts, kicked[0].lapsed), (0, false));
    settle(&hold, &kicked[0], done()).await;
    hold.pause(Some(&lane()), true, start).await.unwrap();
    assert_eq!(other.pauses().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_night_on_ministack() {
    a_night(Kind::Ministack).await;
}

#[tokio::test]
async fn a_night_on_fauxqs() {
    a_night(Kind::Fauxqs).await;
}

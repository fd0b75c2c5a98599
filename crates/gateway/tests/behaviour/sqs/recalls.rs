//! Taking back by marks kept elsewhere.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use nightgate::error::{Error, Kind, Result};
use nightgate::hold::sqs::SqsHoldOptions;
use nightgate::hold::sqs::marks::{Mark, Marks};
use nightgate::hold::{HoldStore, Recalled, Scope};
use nightgate_core::RecipientKey;

use super::world::*;
use crate::world::*;

#[tokio::test]
async fn what_is_recalled_is_never_lent_and_deleted_when_it_comes() {
    let world = World::new();
    let hold = &*world.hold().await;
    let other = &*world.hold().await;
    let theirs = RecipientKey::from_stored("+821000000009");
    put(
        hold,
        vec![
            held("id"),
            of_campaign("campaign", "x"),
            with("recipient", |held| held.key = theirs.clone()),
            of_campaign("stays", "y"),
            with("later", |held| {
                held.message.campaign = Some("x".into());
                held.accepted_at = at(2);
            }),
            with("waits", |held| {
                held.message.campaign = Some("x".into());
                held.due = at(100);
            }),
        ],
    )
    .await;
    for scope in [
        Scope::Id(id("id")),
        Scope::Campaign("x".into()),
        Scope::Recipient(theirs),
    ] {
        let answer = hold.recall(&scope, at(1)).await.unwrap();
        assert_eq!(answer, Recalled::default(), "SQS cannot count them");
    }
    let loans = lease(other, at(2), ALL).await;
    assert_eq!(
        names(&loans),
        ["stays", "later"],
        "another process sees the marks"
    );
    for loan in loans {
        settle(other, loan.token, done(), at(2)).await;
    }
    assert_eq!(lease(hold, at(100), ALL).await, []);
    assert_eq!(world.counts(), [0; 4]);
}

#[tokio::test]
async fn what_is_recalled_on_loan_is_not_lent_again_when_it_lapses_or_returns_or_is_kicked() {
    let world = World::new();
    let hold = &*world.hold().await;
    put(hold, ["lapses", "deferred", "buried"].map(held).to_vec()).await;
    let loans = lease(hold, at(0), ALL).await;
    hold.recall(&Scope::Lane(lane()), at(1)).await.unwrap();
    for loan in &loans {
        match loan.held.message.id.as_str() {
            "deferred" => drop(settle(hold, loan.token, defer(at(3)), at(2)).await),
            "buried" => drop(settle(hold, loan.token, bury(), at(2)).await),
            _ => {}
        }
    }
    hold.kick(&Scope::Lane(lane()), at(3)).await.unwrap();
    assert_eq!(lease(hold, at(20), ALL).await, []);
    assert_eq!(world.counts(), [0; 4]);
}

/// Marks that cannot be read.
struct Broken;

#[async_trait]
impl Marks for Broken {
    async fn add(&self, _: Mark) -> Result<()> {
        Err(Error::new(Kind::Unavailable, "hold", "add a mark"))
    }

    async fn since(&self, _: Timestamp) -> Result<Vec<Mark>> {
        Err(Error::new(Kind::Unavailable, "hold", "read marks"))
    }
}

#[tokio::test]
async fn nothing_is_lent_while_the_marks_cannot_be_read() {
    let world = World::new();
    let options = SqsHoldOptions {
        marks: Some(Arc::new(Broken)),
        ..world.options()
    };
    let hold = world.open(options).await.unwrap();
    put(&hold, vec![held("a")]).await;
    let lane = lane();
    let ask = nightgate::hold::LeaseAsk {
        lane: &lane,
        pick: nightgate::hold::Pick::Any,
        now: at(0),
        max: 5,
        ttl: TTL,
    };
    assert_eq!(hold.lease(&ask).await.unwrap_err().kind, Kind::Unavailable);
    let scope = Scope::Lane(lane.clone());
    assert!(hold.recall(&scope, at(1)).await.is_err());
    assert_eq!(world.messages(READY)[0].receives, 0);
}

#[tokio::test]
async fn without_marks_nothing_can_be_recalled_and_it_says_so() {
    let world = World::new();
    let options = SqsHoldOptions {
        marks: None,
        ..world.options()
    };
    let hold = world.open(options).await.unwrap();
    assert!(!hold.capability().recall);
    let error = hold.recall(&Scope::Lane(lane()), at(1)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unsupported);
}

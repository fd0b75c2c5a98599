//! Several handles on one database, bodies and their collections, formats.

use std::sync::Arc;

use ::mongodb::bson::doc;
use jiff::SignedDuration;
use nightgate::error::Kind;
use nightgate::hold::mongodb::VERSION;
use nightgate::hold::{HoldStore, Put, Scope, Settled, State};

use super::{Place, Server};
use crate::backends::memory;
use crate::twins::Twins;
use crate::world::*;

/// How long a collection of bodies stays at least, once its hour is over.
const GRACE: SignedDuration = SignedDuration::from_hours(2);

/// Collections of bodies.
async fn bodies(place: &Place) -> Vec<String> {
    let mut names = place.raw().await.list_collection_names().await.unwrap();
    names.retain(|name| name.starts_with("hold_bodies_"));
    names.sort();
    names
}

/// SecantusDB is slow, so it gets one short life and not the whole suite.
#[tokio::test]
async fn a_second_server_answers_random_calls_as_the_plain_one_does() {
    let other = Arc::new(Place::new(Server::Secantus).hold().await);
    let mut twins = Twins::new(memory(), other, 1, at(0));
    for step in 0..80 {
        twins.step().await;
        twins.compare(step % 20 == 0).await;
    }
}

#[tokio::test]
async fn handles_that_lease_at_once_share_no_message_and_leave_none() {
    let place = Place::new(Server::Usual);
    let first = place.hold().await;
    let many = |from: u32| (from..from + 60).map(|n| held(&format!("m{n}"))).collect();
    put(&first, many(0)).await;
    put(&first, many(60)).await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let hold = Arc::new(place.hold().await);
        tasks.push(tokio::spawn(async move {
            let mut names = Vec::new();
            loop {
                let loans = lease(&*hold, at(0), 9).await;
                if loans.is_empty() {
                    return names;
                }
                names.extend(loans.iter().map(|loan| loan.held.message.id.to_string()));
            }
        }));
    }
    let mut names = Vec::new();
    for task in tasks {
        names.extend(task.await.unwrap());
    }
    // Who lost a race to all others may leave early, and nobody may be left who looks again.
    names.extend(
        lease(&first, at(0), ALL)
            .await
            .iter()
            .map(|loan| loan.held.message.id.to_string()),
    );
    assert_eq!(names.len(), 120);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 120, "a message was lent twice");
}

#[tokio::test]
async fn what_another_handle_owns_now_is_not_settled_by_an_old_token_even_with_an_old_time() {
    let place = Place::new(Server::Secantus);
    let (stopped, other) = (place.hold().await, place.hold().await);
    put(&stopped, vec![held("a")]).await;
    let old = lease_one(&stopped, at(0)).await;
    let new = lease_one(&other, at(0) + TTL).await;
    assert!(new.lapsed && new.token != old.token);
    for (verdict, now) in [
        (done(), at(0)),
        (defer(at(9)), at(1)),
        (bury(), at(0) + TTL),
    ] {
        let answer = settle(&stopped, old.token, verdict, now).await;
        assert_eq!(answer, Settled::Lapsed);
    }
    let answer = settle(&other, new.token, done(), at(0) + TTL).await;
    assert_eq!(answer, Settled::Yes);
}

#[tokio::test]
async fn bodies_of_an_opening_are_one_collection_dropped_once_nothing_in_it_is_held() {
    let place = Place::new(Server::Usual);
    let hold = place.hold().await;
    // at(0) is twelve o'clock; the opening is eleven hours later.
    let opening = at(11 * 60);
    put(
        &hold,
        vec![due("a", opening), due("b", opening), due("now", at(0))],
    )
    .await;
    let right = ["hold_bodies_sms_2026112212", "hold_bodies_sms_2026112223"];
    assert_eq!(bodies(&place).await, right);
    let loans = lease(&hold, opening, ALL).await;
    assert_eq!(names(&loans), ["now", "a", "b"]);
    for loan in &loans {
        let verdict = match loan.held.message.id.as_str() {
            "b" => bury(),
            _ => done(),
        };
        settle(&hold, loan.token, verdict, opening).await;
    }
    // What is forgotten and what is dropped are two things: forget nothing here.
    let second = SignedDuration::from_secs(1);
    let (early, late) = (at(60) + GRACE - second, at(12 * 60) + GRACE);
    hold.sweep(early).await.unwrap();
    assert_eq!(
        bodies(&place).await,
        right,
        "a put of that hour may still be under way"
    );
    hold.sweep(late).await.unwrap();
    assert_eq!(bodies(&place).await, right[1..], "one in it is buried");
    assert_eq!(hold.kick(&Scope::Id(id("b")), late).await.unwrap(), 1);
    let loan = lease_one(&hold, late).await;
    assert_eq!(*loan.held.message.body, *b"body of b");
    settle(&hold, loan.token, done(), late).await;
    hold.sweep(late).await.unwrap();
    assert_eq!(bodies(&place).await, [""; 0]);
}

#[tokio::test]
async fn a_message_whose_body_is_gone_is_put_aside_and_the_rest_is_lent() {
    let place = Place::new(Server::Usual);
    let hold = place.hold().await;
    put(&hold, vec![held("a"), held("b"), held("c")]).await;
    let raw = place.raw().await;
    let name = bodies(&place).await.remove(0);
    let all = raw.collection::<::mongodb::bson::Document>(&name);
    let gone = doc! { "body": ::mongodb::bson::Binary {
        subtype: ::mongodb::bson::spec::BinarySubtype::Generic,
        bytes: b"body of b".to_vec(),
    } };
    let second = all
        .find_one(doc! {})
        .sort(doc! { "_id": 1 })
        .skip(1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(second.get("body"), gone.get("body"));
    let this = doc! { "_id": second.get("_id").unwrap().clone() };
    assert_eq!(all.delete_one(this).await.unwrap().deleted_count, 1);
    assert_eq!(names(&lease(&hold, at(0), ALL).await), ["a", "c"]);
    let found = find(&hold, "b").await.unwrap();
    assert_eq!(found.state, State::Buried);
    assert!(found.why.unwrap().contains("does not read"));
    assert_eq!(hold.damage().await.unwrap().messages, 1);
    recount(&hold).await;
}

#[tokio::test]
async fn what_a_newer_program_wrote_is_refused_and_left_alone() {
    let place = Place::new(Server::Usual);
    put(&place.hold().await, vec![held("a")]).await;
    let formats = place
        .raw()
        .await
        .collection::<::mongodb::bson::Document>("formats");
    let newer = doc! { "$set": { "version": VERSION + 1 } };
    formats
        .update_one(doc! { "_id": "hold" }, newer)
        .await
        .unwrap();
    let error = place.try_hold().await.unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    assert!(
        error.to_string().contains("run the newer program"),
        "{error}"
    );
    let same = doc! { "$set": { "version": VERSION } };
    formats
        .update_one(doc! { "_id": "hold" }, same)
        .await
        .unwrap();
    assert!(find(&place.hold().await, "a").await.is_some());
}

#[tokio::test]
async fn many_can_open_a_new_database_at_once() {
    let place = Place::new(Server::Usual);
    let opening = (0..6).map(|_| {
        let place = place.clone();
        tokio::spawn(async move { place.try_hold().await })
    });
    for (number, opened) in opening.collect::<Vec<_>>().into_iter().enumerate() {
        let hold = opened.await.unwrap().unwrap();
        put(&hold, vec![held(&format!("m{number}"))]).await;
    }
}

#[tokio::test]
async fn numbers_go_on_where_they_were_and_none_is_given_twice() {
    let place = Place::new(Server::Usual);
    let hold = place.hold().await;
    put(&hold, vec![held("a"), held("b")]).await;
    let counters = place
        .raw()
        .await
        .collection::<::mongodb::bson::Document>("hold_counters");
    counters
        .delete_one(doc! { "_id": "arrivals" })
        .await
        .unwrap();
    let error = hold.put(vec![held("c")], at(0)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Corrupt, "{error}");
    let hold = place.hold().await;
    let again = hold.put(vec![held("c"), held("a")], at(0)).await.unwrap();
    assert_eq!(again, [Put::New, Put::Duplicate]);
    assert_eq!(lease(&hold, at(0), ALL).await.len(), 3);
}
